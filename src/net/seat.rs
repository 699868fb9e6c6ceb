//! A client's connection between its requests, and how long it may be silent.
//!
//! Invariant: a seat holds the connection's place under the cap.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::connections::Permit;
use super::stream::{Peer, Stream};
use super::terms::ServeOptions;

/// How long after its begin a connection is heard even if nobody is to be served any more: a round trip, and another one
/// for TLS.
pub(super) const FRESH: Duration = Duration::from_millis(500);

/// A client's connection between its requests: all that is kept of it then.
pub(super) struct Seat {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) permit: Permit,
    /// Since when it is silent.
    pub(super) since: Instant,
    pub(super) stage: Stage,
}

/// What is known of a connection.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    /// Nothing.
    New,
    /// It has shaken hands for HTTP/1.1, and asked for nothing yet.
    Greeted,
    /// It speaks HTTP/1, and was answered.
    Answered,
}

impl Seat {
    /// Until when it may be silent.
    pub(super) fn deadline(&self, options: &ServeOptions) -> Instant {
        self.since
            + match self.stage {
                Stage::New | Stage::Greeted => options.header,
                Stage::Answered => options.idle,
            }
    }

    /// Until when it is heard even if nobody is to be served any more; `None` where it was answered: what is asked on such a
    /// connection and not answered, clients ask again on another one.
    pub(super) fn fresh_until(&self) -> Option<Instant> {
        matches!(self.stage, Stage::New | Stage::Greeted).then(|| self.since + FRESH)
    }

    /// Closes it; under TLS that is said (RFC 8446, 6.1), if the client takes it at once.
    pub(super) fn leave(mut self) {
        if self.peer.is_tls() {
            let _ = self.stream.shutdown().now_or_never();
        }
    }
}
