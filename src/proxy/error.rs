//! Every way in which a request fails at the proxy itself: its status, its reason word, what is said of it.
//!
//! Invariant: the mapping is total; no text of an error holds anything that a client or an app sent.

use http::StatusCode;

use crate::balance::NoServer;
use crate::net::body::BodyError;
use crate::net::client::SendError;
use crate::telemetry::labels::Reason;
use crate::wire::path::Ambiguous;
use crate::wire::target::Fault;

/// Why a request is not answered by an app.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No app for host and path.
    #[error("no app is configured for this address")]
    NoRoute,
    /// The head breaks a framing rule.
    #[error("the request is malformed: {0}")]
    Framing(#[from] Fault),
    /// The head is no HTTP.
    #[error("the request's head cannot be read")]
    Unreadable,
    /// The head is longer, or has more fields, than is served.
    #[error("the request's head is too large")]
    HeaderTooLarge,
    /// More connections than are served.
    #[error("there are too many connections")]
    Overloaded,
    /// The connection was made for another host.
    #[error("this connection was made for another host")]
    Misdirected,
    /// The path could be read in two ways.
    #[error("the path is ambiguous")]
    Path(#[from] Ambiguous),
    /// More parameters than anyone reads.
    #[error("the query has too many parameters")]
    TooManyParams,
    /// A longer URL than is served.
    #[error("the URL is too long")]
    UriTooLong,
    /// The body is larger than is served.
    #[error("the request's body is too large")]
    BodyTooLarge,
    /// This address has made too many sessions.
    #[error("too many new sessions from this address")]
    RateLimited,
    /// No room for another session.
    #[error("no room for another session")]
    TableFull,
    /// What the answer would acknowledge cannot be kept.
    #[error("sessions cannot be kept at the moment")]
    StoreOutage,
    /// A page of another site asked for something that only its own pages may ask for.
    #[error("only a page of this site may ask for that")]
    CrossSite,
    /// There is no such page of the proxy's own.
    #[error("the bridge has no such page")]
    NoPage,
    /// That page does not take this method.
    #[error("that page does not take this method")]
    Method,
    /// None of the app's servers is up.
    #[error("none of the app's servers is up")]
    NoUpstream,
    /// The app's servers did not answer too often of late.
    #[error("the app does not answer at the moment")]
    CircuitOpen {
        /// Seconds until one request tries whether one is back.
        retry_after: u32,
    },
    /// The app's error page broke off while it was looked at.
    #[error("the app broke its answer off")]
    BrokenAnswer,
    /// The app did not answer.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl Error {
    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute | Self::NoPage => StatusCode::NOT_FOUND,
            Self::Framing(Fault::Method) | Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Framing(_) | Self::Unreadable | Self::Path(_) | Self::TooManyParams => {
                StatusCode::BAD_REQUEST
            }
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::TableFull
            | Self::StoreOutage
            | Self::Overloaded
            | Self::NoUpstream
            | Self::CircuitOpen { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::BrokenAnswer => StatusCode::BAD_GATEWAY,
            Self::Send(error) => send_status(error),
        }
    }

    /// The word for it, everywhere.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NoRoute | Self::NoPage => Reason::NoRoute,
            Self::Framing(_)
            | Self::Unreadable
            | Self::Path(_)
            | Self::TooManyParams
            | Self::Method
            | Self::CrossSite => Reason::BadRequest,
            Self::HeaderTooLarge => Reason::HeaderTooLarge,
            Self::UriTooLong => Reason::UriTooLong,
            Self::Misdirected => Reason::Misdirected,
            Self::BodyTooLarge => Reason::BodyTooLarge,
            Self::RateLimited | Self::TableFull | Self::Overloaded => Reason::RateLimited,
            Self::StoreOutage => Reason::StoreOutage,
            Self::NoUpstream => Reason::NoUpstream,
            Self::CircuitOpen { .. } => Reason::CircuitOpen,
            Self::BrokenAnswer => Reason::UpstreamReset,
            Self::Send(error) => send_reason(error),
        }
    }

    /// True where nothing more may be read from the connection.
    #[must_use]
    pub const fn closes(&self) -> bool {
        matches!(
            self,
            Self::Framing(_)
                | Self::Unreadable
                | Self::HeaderTooLarge
                | Self::UriTooLong
                | Self::Overloaded
                | Self::Path(_)
                | Self::TooManyParams
                | Self::BodyTooLarge
                | Self::Send(SendError::RequestBody(_))
        )
    }

    /// Seconds after which another try makes sense.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Overloaded => Some(1),
            Self::RateLimited | Self::StoreOutage | Self::NoUpstream => Some(5),
            Self::TableFull => Some(30),
            Self::CircuitOpen { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

impl From<NoServer> for Error {
    fn from(why: NoServer) -> Self {
        match why {
            NoServer::Down => Self::NoUpstream,
            NoServer::Circuit(retry_after) => Self::CircuitOpen { retry_after },
        }
    }
}

const fn send_status(error: &SendError) -> StatusCode {
    match error {
        SendError::ConnectTimeout | SendError::FirstByteTimeout => StatusCode::GATEWAY_TIMEOUT,
        SendError::RequestBody(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
        SendError::RequestBody(BodyError::Stalled { .. }) => StatusCode::REQUEST_TIMEOUT,
        SendError::RequestBody(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::BAD_GATEWAY,
    }
}

const fn send_reason(error: &SendError) -> Reason {
    match error {
        SendError::Dns(_) => Reason::DnsFailed,
        SendError::Connect(_) => Reason::ConnectRefused,
        SendError::ConnectTimeout => Reason::ConnectTimeout,
        SendError::FirstByteTimeout => Reason::FirstByteTimeout,
        SendError::BadResponse(_) | SendError::AmbiguousLength | SendError::Unasked => Reason::BadResponse,
        SendError::Reset { .. } => Reason::UpstreamReset,
        SendError::RequestBody(BodyError::TooLarge { .. }) => Reason::BodyTooLarge,
        SendError::RequestBody(_) => Reason::ClientGone,
    }
}
