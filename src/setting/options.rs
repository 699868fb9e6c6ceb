//! What of the config steers the proxy itself: `[server]` and its sub-tables.

use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

/// How browsers' requests are served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Peers that may set `Forwarded` and `X-Forwarded-*`.
    pub trusted_proxies: Vec<IpNet>,
    /// Header names with `_` that trusted proxies may send on.
    pub allow_headers: Vec<HeaderName>,
    /// What browsers see this server as.
    pub public_scheme: PublicScheme,
    /// Bytes of a request's body at the most; `None`: any number.
    pub max_body: Option<u64>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How many bridge sessions one client may have made.
    pub new_sessions: Rate,
}

/// What browsers see this server as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicScheme {
    /// TLS here, or `X-Forwarded-Proto` of a trusted proxy.
    Auto,
    /// Always `http`.
    Http,
    /// Always `https`.
    Https,
}

/// `[server.timeouts]`.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a request's head to arrive, from its first byte.
    pub header: Duration,
    /// For a body that makes no progress, either way.
    pub body_stall: Duration,
    /// For a connection between requests.
    pub idle: Duration,
    /// For a connection to an upstream.
    pub connect: Duration,
    /// For the head of an upstream's answer, from the end of the request.
    pub first_byte: Duration,
    /// For a WebSocket or event stream on which nothing moves.
    pub stream_idle: Duration,
}

/// So many per second for each client address, with room for a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Sustained, a second.
    pub per_second: f64,
    /// At once.
    pub burst: u32,
}
