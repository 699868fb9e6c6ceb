//! How a body fails.
//!
//! Invariant: an error names no byte of the body.

use std::sync::Arc;
use std::time::Duration;

/// Why a body did not end well. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BodyError {
    /// It grew over its limit.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Nothing came for the stall time.
    #[error("no bytes of the body came for {} s", after.as_secs())]
    Stalled {
        /// The stall time.
        after: Duration,
    },
    /// The peer broke it off, or its framing is wrong.
    #[error("the body broke off")]
    Broken(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// A filter gave back more or fewer bytes than it took.
    #[error("a filter changed the length of the body")]
    Filter,
}
