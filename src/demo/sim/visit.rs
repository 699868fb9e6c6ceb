//! One request on its way through an application: what engines and pages share.
//!
//! Invariant: an engine decides ids and cookies, a page decides the content; neither does the other's part.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::{
    SimOptions,
    ask::Ask,
    ids::Ids,
    sessions::{End, Session, Sessions},
};

/// What goes on after the head of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Live {
    /// The body is whole.
    #[default]
    None,
    /// One event a second, until the client goes.
    EventStream,
    /// The connection is a WebSocket that echoes.
    WebSocket,
}

/// What a page answers, before the engine's cookies.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    pub(super) delay: Duration,
    pub(super) live: Live,
}

impl Reply {
    pub(super) fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { status, headers, body: body.into(), delay: Duration::ZERO, live: Live::None }
    }

    pub(super) fn html(status: StatusCode, body: String) -> Self {
        Self::new(status, "text/html; charset=utf-8", body)
    }

    pub(super) fn redirect(location: String) -> Self {
        let mut reply = Self::html(StatusCode::FOUND, String::new());
        reply.headers.push(("location", location));
        reply
    }
}

/// One request in hand.
pub(super) struct Visit<'a> {
    pub(super) now: u64,
    pub(super) ask: &'a Ask,
    pub(super) options: &'a SimOptions,
    pub(super) sessions: &'a mut Sessions,
    pub(super) ids: &'a mut Ids,
    pub(super) set_cookies: Vec<String>,
    pub(super) headers: Vec<(&'static str, String)>,
    /// The session in hand, by the engine's key.
    pub(super) key: Option<String>,
    /// Its label, which stays here when the session ends.
    pub(super) label: Option<String>,
    /// Whether this request began it.
    pub(super) fresh: bool,
    /// Whether a page changed its content.
    pub(super) changed: bool,
    /// Who is signed in.
    pub(super) user: Option<String>,
    /// The token as links may carry it: name and value of each part.
    pub(super) token: Vec<(&'static str, String)>,
    /// Whether the session in hand was found by a cookie.
    pub(super) by_cookie: bool,
    /// What forms must carry (django).
    pub(super) csrf: Option<String>,
}

impl<'a> Visit<'a> {
    pub(super) fn new(
        now: u64,
        ask: &'a Ask,
        options: &'a SimOptions,
        sessions: &'a mut Sessions,
        ids: &'a mut Ids,
    ) -> Self {
        Self {
            now,
            ask,
            options,
            sessions,
            ids,
            set_cookies: Vec::new(),
            headers: Vec::new(),
            key: None,
            label: None,
            fresh: false,
            changed: false,
            user: None,
            token: Vec::new(),
            by_cookie: false,
            csrf: None,
        }
    }

    pub(super) fn set_cookie(&mut self, line: String) {
        self.set_cookies.push(line);
    }

    /// Begins an empty session under `key`.
    pub(super) fn start(&mut self, key: &str) {
        self.sessions.start(key, self.now, self.options.timeout_ms);
        self.fresh = true;
        self.take(key);
    }

    /// Takes a session that lives, and moves its idle clock.
    pub(super) fn resume(&mut self, key: &str) {
        self.expire_in(key, self.options.timeout_ms);
        self.take(key);
    }

    /// Takes a session that lives, as it is.
    pub(super) fn take(&mut self, key: &str) {
        self.key = Some(key.to_owned());
        if let Some(session) = self.sessions.get_mut(key) {
            session.hits += 1;
            self.label = Some(session.label.clone());
            self.user = session.user.clone();
        }
    }

    /// Sets the idle clock of a session.
    pub(super) fn expire_in(&mut self, key: &str, ms: u64) {
        let now = self.now;
        if let Some(session) = self.sessions.get_mut(key) {
            session.renewed = now;
            session.expires = now + ms;
        }
    }

    /// The same session under another key.
    pub(super) fn rename(&mut self, new: &str) {
        if let Some(old) = self.key.replace(new.to_owned()) {
            self.sessions.rename(&old, new);
        }
    }

    /// Ends the session in hand.
    pub(super) fn end(&mut self, why: End) -> Option<String> {
        self.user = None;
        let key = self.key.take()?;
        self.sessions.end(&key, why);
        Some(key)
    }

    /// `structClear(session)`: the session stays, its content goes.
    pub(super) fn clear(&mut self) {
        self.user = None;
        if let Some(session) = self.session_mut() {
            session.user = None;
            session.data.clear();
        }
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.sessions.get(self.key.as_deref()?)
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        self.sessions.get_mut(self.key.as_deref()?)
    }

    /// Whether a file is asked for, which most servers find before any code of the application runs.
    pub(super) fn is_file(&self) -> bool {
        self.ask.page.as_deref() == Some("static.css")
    }

    /// The plain URL of a page of this application.
    pub(super) fn page_url(&self, page: &str) -> String {
        format!("{}{page}{}", self.options.mount, self.options.profile.extension())
    }
}

/// What one engine does with ids. The defaults are those of an engine that keeps them in cookies alone.
pub(super) trait Engine: Send {
    /// An answer that comes before any page, for instance to a form without its CSRF token.
    fn admit(&mut self, _visit: &mut Visit<'_>) -> Option<Reply> {
        None
    }

    /// The session for a page that wants one: found, adopted or begun. `Err` is an answer in the page's
    /// place.
    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>>;

    /// A page that does not want the session, or a file: what the engine does all the same with an id that came.
    fn pass_by(&mut self, _visit: &mut Visit<'_>) {}

    /// A new id for the same content; false where the engine has no such thing.
    fn rotate(&mut self, visit: &mut Visit<'_>) -> bool;

    /// What `invalidate` does on this engine, and `logout` with it.
    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End);

    /// A sign-in that succeeded.
    fn sign_in(&mut self, visit: &mut Visit<'_>, user: &str) {
        visit.user = Some(user.to_owned());
        if let Some(session) = visit.session_mut() {
            session.user = Some(user.to_owned());
        }
        if visit.options.rotate_on_login {
            self.rotate(visit);
        }
    }

    fn sign_out(&mut self, visit: &mut Visit<'_>) {
        self.invalidate(visit, End::Logout);
    }

    /// Whether who asks for `private` without being signed in gets the login page in its place (form login),
    /// and what the engine does then; otherwise it is a redirect to the login page.
    fn challenge(&mut self, _visit: &mut Visit<'_>) -> bool {
        false
    }

    /// A link to a page of this application as the engine prints it.
    fn link(&self, visit: &Visit<'_>, page: &str) -> String {
        visit.page_url(page)
    }

    /// The target of a redirect that the engine adds ids to.
    fn relocation(&self, visit: &Visit<'_>, page: &str) -> String {
        self.link(visit, page)
    }

    /// The last word on cookies, when the page is done.
    fn finish(&mut self, _visit: &mut Visit<'_>) {}

    /// The process was restarted; the session table is emptied by the caller.
    fn restart(&mut self) {}

    /// The key in the session table that a token stands for, given as a cookie or a link carries it.
    fn key_of(&self, token: &str) -> Option<String> {
        Some(token.to_owned())
    }

    /// Requests of one session that must wait for each other share this.
    fn lock(&self, _ask: &Ask) -> Option<String> {
        None
    }
}

/// `page?a=1` and `b=2` is `page?a=1&b=2`.
pub(super) fn with_query(url: &str, query: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{query}")
}
