//! What an application was asked, kept for tests.
//!
//! Invariant: headers and bodies are readable by name only; `Debug` shows neither, since both hold tokens.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::{ask::Ask, ids};

/// Bodies up to this many bytes are kept whole.
const KEPT_BODY: usize = 4096;

/// One request as the application saw it.
#[derive(Clone)]
pub struct Seen {
    /// When, in unix milliseconds.
    pub at: u64,
    /// Its method.
    pub method: Method,
    /// The stem of the page, `None` outside the mount.
    pub page: Option<String>,
    /// Path and query as received.
    pub path_and_query: String,
    /// All headers as received.
    pub headers: HeaderMap,
    /// Length of the body in bytes.
    pub body_len: usize,
    /// The body, if it has at most 4096 bytes.
    pub body: Option<Bytes>,
    /// SHA-256 of the body in hex.
    pub body_sha256: String,
    /// The session that was touched, by its label.
    pub session: Option<String>,
    /// Whether the request began that session.
    pub fresh: bool,
    /// Whether it carried `X-Session-Heartbeat`.
    pub heartbeat: bool,
    /// What was answered.
    pub status: StatusCode,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = self.page.as_deref().unwrap_or("-");
        let session = self.session.as_deref().unwrap_or("-");
        let beat = if self.heartbeat { " heartbeat" } else { "" };
        write!(f, "{} {} {page} {session} {}{beat}", self.at, self.method, self.status.as_u16())
    }
}

/// The requests seen, the oldest first.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) seen: VecDeque<Seen>,
    limit: usize,
}

/// What came of a request.
pub(super) struct Outcome {
    pub(super) session: Option<String>,
    pub(super) fresh: bool,
    pub(super) status: StatusCode,
}

impl Log {
    pub(super) fn new(limit: usize) -> Self {
        Self { seen: VecDeque::new(), limit }
    }

    pub(super) fn add(&mut self, at: u64, ask: Ask, outcome: Outcome) {
        self.seen.push_back(Seen {
            at,
            method: ask.method,
            page: ask.page,
            path_and_query: ask.path_and_query,
            heartbeat: ask.headers.contains_key("x-session-heartbeat"),
            headers: ask.headers,
            body_len: ask.body.len(),
            body_sha256: ids::sha256(&ask.body),
            body: (ask.body.len() <= KEPT_BODY).then_some(ask.body),
            session: outcome.session,
            fresh: outcome.fresh,
            status: outcome.status,
        });
        while self.seen.len() > self.limit {
            self.seen.pop_front();
        }
    }
}
