//! Session engines as deterministic simulators: one [`Sim`] is one application on one engine.
//!
//! Pages below the mount, by stem (any extension): `index`, `set?k=v`, `get`, `ping` (`?quiet`), `login`
//! (POST `user`, `password`), `logout`, `private`, `links`, `relocate?to=`, `builder.xml`, `rotate`,
//! `invalidate`, `big?size=`, `echo`, `slow?ms=`, `fail`, `download`, `sse`, `ws`; and three that never touch
//! the session: `static.css`, `notouch`, `headers`. JSON for who accepts it or asks with `?json`, HTML for
//! others.
//!
//! Invariant: pure. Time is an argument and ids follow from the seed, so the same requests at the same times
//! get the same answers.

mod ask;
mod container;
mod engine;
mod ids;
mod log;
mod look;
mod pages;
mod profile;
pub mod server;
mod sessions;
#[cfg(test)]
mod tests;
mod visit;
mod ws;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::IpAddr,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};

use self::{
    ask::Ask,
    ids::Ids,
    log::{Log, Outcome},
    sessions::Sessions,
    visit::{Engine, Reply, Visit},
};
pub use self::{
    container::Container,
    log::Seen,
    look::{Look, Skin},
    profile::{Profile, SimOptions, UnknownProfile},
    sessions::{Counts, End},
    visit::Live,
};

/// What a page is made to do instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers this status, touching nothing.
    Status(StatusCode),
    /// Never answers.
    Hang,
    /// Does its work and answers this much later.
    Slow(Duration),
}

/// An answer, and what the server does beside sending it.
pub struct SimAnswer {
    /// Head and body.
    pub response: Response<Bytes>,
    /// How long the server waits before it sends the head.
    pub delay: Duration,
    /// Whether it sends nothing at all.
    pub hang: bool,
    /// What follows the head.
    pub live: Live,
    /// The session that was touched, by its label.
    pub session: Option<String>,
}

/// The status alone: the head holds tokens.
impl fmt::Debug for SimAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.response.status().as_u16(), self.session.as_deref().unwrap_or("-"))
    }
}

/// One live session, for tests and pages: never its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// `s1`, `s2`, ... in the order of their starts.
    pub label: String,
    /// When it began, in unix milliseconds.
    pub started: u64,
    /// When it ends if nothing touches it, in unix milliseconds.
    pub expires: u64,
    /// Requests that touched it.
    pub hits: u64,
    /// Who is signed in (engines that keep that in the session).
    pub user: Option<String>,
    /// What `set` put into it.
    pub data: BTreeMap<String, String>,
}

/// One application on one engine.
pub struct Sim {
    options: SimOptions,
    engine: Box<dyn Engine>,
    sessions: Sessions,
    ids: Ids,
    log: Log,
    faults: BTreeMap<String, Fault>,
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}), {} sessions", self.options.name, self.options.profile, self.sessions.len())
    }
}

impl Sim {
    /// An application that nobody has visited.
    pub fn new(options: SimOptions) -> Self {
        Self {
            engine: engine::engine(&options),
            sessions: Sessions::default(),
            ids: Ids::new(options.seed),
            log: Log::new(options.log_limit),
            faults: BTreeMap::new(),
            options,
        }
    }

    /// How it was set up.
    pub fn options(&self) -> &SimOptions {
        &self.options
    }

    /// Answers one request at `now` (unix milliseconds, never going back) from the client at `address`.
    pub fn handle(&mut self, now: u64, request: &Request<Bytes>, address: IpAddr) -> SimAnswer {
        let ask = Ask::new(request, &self.options.mount, address);
        let fault = self.fault_of(&ask);
        let mut visit = Visit::new(now, &ask, &self.options, &mut self.sessions, &mut self.ids);
        let mut reply = match fault {
            Some(Fault::Status(status)) => Reply::html(status, format!("<h1>{status}</h1>")),
            Some(Fault::Hang) => Reply::html(StatusCode::SERVICE_UNAVAILABLE, String::new()),
            _ => pages::answer(self.engine.as_mut(), &mut visit),
        };
        if let Some(Fault::Slow(delay)) = fault {
            reply.delay += delay;
        }
        let (session, fresh) = (visit.label.take(), visit.fresh);
        let answer = SimAnswer {
            delay: reply.delay,
            hang: fault == Some(Fault::Hang),
            live: reply.live,
            session: session.clone(),
            response: response(reply, visit),
        };
        let status = answer.response.status();
        self.log.add(now, ask, Outcome { session, fresh, status });
        answer
    }

    /// Requests with the same key wait for each other for their whole length (php, aspnet); `None` waits for
    /// nobody.
    pub fn lock_key(&self, request: &Request<Bytes>, address: IpAddr) -> Option<String> {
        let ask = Ask::new(request, &self.options.mount, address);
        ask.page.as_deref().filter(|page| pages::touches(page))?;
        self.engine.lock(&ask)
    }

    /// The requests seen so far, the oldest first.
    pub fn log(&self) -> &VecDeque<Seen> {
        &self.log.seen
    }

    /// Forgets the requests seen so far.
    pub fn clear_log(&mut self) {
        self.log.seen.clear();
    }

    /// What began and ended so far.
    pub fn counts(&self) -> Counts {
        self.sessions.counts
    }

    /// Ends what has timed out at `now`, as the engine's sweep or another visitor of PHP does.
    pub fn sweep(&mut self, now: u64) {
        self.sessions.expire(now);
    }

    /// How many sessions live at `now`; sweeps first.
    pub fn live_sessions(&mut self, now: u64) -> usize {
        self.sweep(now);
        self.sessions.len()
    }

    /// The sessions in the table, unordered by age; [`Self::sweep`] first to be exact.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.sessions.iter().map(|(_, session)| session.view()).collect()
    }

    /// The engine is started anew: every session in its memory is lost.
    pub fn restart(&mut self) {
        self.sessions.clear();
        self.engine.restart();
    }

    /// Ends one session, as an operator or a bug of the application would. False if there is none of that
    /// label, or if the engine keeps it where it cannot be reached (rails).
    pub fn kill_session(&mut self, label: &str) -> bool {
        let key =
            self.sessions.iter().find(|(_, session)| session.label == label).map(|(key, _)| key.clone());
        let reachable = self.options.profile != Profile::Rails;
        key.filter(|_| reachable).is_some_and(|key| self.sessions.end(&key, End::Lost))
    }

    /// Whether `token` stands for a session in the table: a cookie's value, or of a pair `CFID_CFTOKEN` or
    /// `CFID=..&CFTOKEN=..` (lucee: its `cfid` is enough).
    pub fn knows(&self, token: &str) -> bool {
        self.engine.key_of(token).is_some_and(|key| self.sessions.has(&key))
    }

    /// Makes a page (by its stem; `*` is every page) fail until [`Self::clear_faults`].
    pub fn set_fault(&mut self, page: &str, fault: Fault) {
        self.faults.insert(page.to_owned(), fault);
    }

    /// All pages work again.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    fn fault_of(&self, ask: &Ask) -> Option<Fault> {
        let own = ask.page.as_ref().and_then(|page| self.faults.get(page));
        own.or_else(|| self.faults.get("*")).copied()
    }
}

fn response(reply: Reply, visit: Visit<'_>) -> Response<Bytes> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    for (name, value) in visit.headers.into_iter().chain(reply.headers) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    for line in visit.set_cookies {
        if let Ok(value) = HeaderValue::from_str(&line) {
            headers.append(header::SET_COOKIE, value);
        }
    }
    response
}
