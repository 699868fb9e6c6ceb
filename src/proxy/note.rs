//! What is noted of a request while it is served, for the access log and the metrics.
//!
//! Invariant: paths and queries get in here only once they are clean of tokens.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::stream::InFlight;
use crate::balance::Chosen;
use crate::bridge::id::Handle;
use crate::registry::Slot;
use crate::telemetry::RequestId;
use crate::telemetry::labels::Reason;

/// How the app's token came to the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TokenCame {
    /// The app got none.
    #[default]
    None,
    /// From the vault.
    Vault,
    /// The browser holds it.
    Browser,
    /// A URL brought it, and it was adopted.
    Url,
}

impl TokenCame {
    /// The word for it.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Vault => "vault",
            Self::Browser => "browser",
            Self::Url => "url",
        }
    }
}

/// What is noted of one request.
#[derive(Debug)]
pub(super) struct Note {
    /// Its id, visible ASCII.
    pub id: HeaderValue,
    /// Path and query without tokens; empty until they are known to be clean.
    pub path: String,
    /// The public host.
    pub host: String,
    /// The app's index and name.
    pub app: Option<(usize, Arc<str>)>,
    /// Which of the app's servers.
    pub upstream: Option<usize>,
    /// How long the app took to the head of its answer.
    pub upstream_took: Option<Duration>,
    /// The bridge session.
    pub bridge: Option<Handle>,
    /// It, and whether it was made for this request, until what the answer acknowledges of it is kept.
    pub session: Option<(Arc<Slot>, bool)>,
    /// It moved the idle clock.
    pub activity: bool,
    /// How the token came.
    pub token: TokenCame,
    /// How it ended here.
    pub reason: Option<Reason>,
    /// Words of what happened to the session.
    pub events: Vec<&'static str>,
    /// Fields that the answer carries even where the request failed here.
    pub fields: Option<Box<HeaderMap>>,
    /// The client's address.
    pub client: Option<std::net::IpAddr>,
    /// What counts as in flight until the answer has ended: at the app's server, in the session.
    pub held: Option<(Chosen, Option<InFlight>)>,
}

impl Note {
    /// Of a request that begins.
    pub(super) fn new(id: RequestId) -> Self {
        Self {
            // Hex digits are a value.
            id: HeaderValue::from_str(id.as_str()).unwrap_or(HeaderValue::from_static("-")),
            path: String::new(),
            host: String::new(),
            app: None,
            upstream: None,
            upstream_took: None,
            bridge: None,
            session: None,
            activity: false,
            token: TokenCame::None,
            reason: None,
            events: Vec::new(),
            fields: None,
            client: None,
            held: None,
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        self.id.to_str().unwrap_or("-")
    }
}
