//! Servlet sessions on Tomcat or Jetty with form login, and the engine that says "session is invalid" once.
//!
//! Invariant: an id that no application of the container made is never taken.

use std::collections::BTreeSet;

use http::StatusCode;

use super::super::{
    Profile, SimOptions,
    container::{Container, Spelling},
    sessions::End,
    visit::{Engine, Reply, Visit},
};

/// One webapp.
pub(super) struct Servlet {
    container: Container,
    spelling: Spelling,
    complains: bool,
    invalid: BTreeSet<String>,
}

impl Servlet {
    pub(super) fn new(options: &SimOptions) -> Self {
        let complains = options.profile == Profile::InvalidSession;
        Self {
            container: options.container.clone().unwrap_or_default(),
            spelling: Spelling::new(options, if complains { "/" } else { options.context_path() }),
            complains,
            invalid: BTreeSet::new(),
        }
    }
}

impl Engine for Servlet {
    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>> {
        visit.sessions.expire(visit.now);
        let shown = self.spelling.shown(visit);
        if shown.iter().any(|shown| self.invalid.remove(&shown.id)) {
            let body = "<h1>500</h1><p>java.lang.IllegalStateException: session is invalid</p>".to_owned();
            return Err(Box::new(Reply::html(StatusCode::INTERNAL_SERVER_ERROR, body)));
        }
        let at_home = shown.iter().position(|shown| visit.sessions.has(&shown.id));
        // Tomcat takes another webapp's id within one host when cookies have the path `/`.
        let abroad = || {
            let known = |id: &str| self.spelling.host_wide() && self.container.has(id, visit.now);
            shown.iter().position(|shown| shown.by_cookie && known(&shown.id))
        };
        let known = at_home.or_else(abroad).and_then(|at| shown.into_iter().nth(at));
        visit.by_cookie = known.as_ref().is_some_and(|shown| shown.by_cookie);
        let spelt = known.as_ref().is_some_and(|shown| shown.exact);
        let id = known.map_or_else(|| self.spelling.issue(visit), |shown| shown.id);
        if visit.sessions.has(&id) {
            visit.resume(&id);
        } else {
            visit.start(&id);
        }
        if visit.fresh || !spelt {
            self.spelling.set(visit, &id);
        }
        self.container.touch(&id, visit.now + visit.options.timeout_ms);
        visit.token = vec![("JSESSIONID", id)];
        Ok(())
    }

    /// Tomcat's authenticator and Jetty's session handler look the session up before the application is asked.
    fn pass_by(&mut self, visit: &mut Visit<'_>) {
        visit.sessions.expire(visit.now);
        let shown = self.spelling.shown(visit);
        if let Some(shown) = shown.into_iter().find(|shown| visit.sessions.has(&shown.id)) {
            visit.expire_in(&shown.id, visit.options.timeout_ms);
            self.container.touch(&shown.id, visit.now + visit.options.timeout_ms);
        }
    }

    /// `changeSessionId`.
    fn rotate(&mut self, visit: &mut Visit<'_>) -> bool {
        let id = self.spelling.issue(visit);
        self.spelling.set(visit, &id);
        if let Some(old) = visit.key.clone() {
            self.container.end(&old);
        }
        self.container.touch(&id, visit.now + visit.options.timeout_ms);
        visit.rename(&id);
        visit.token = vec![("JSESSIONID", id)];
        true
    }

    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End) {
        let Some(id) = visit.end(why) else { return };
        self.container.end(&id);
        if self.complains {
            self.invalid.insert(id);
        }
    }

    /// Form login keeps the page that was asked for, renews the id of a session that was there, and shows its
    /// form with 200.
    fn challenge(&mut self, visit: &mut Visit<'_>) -> bool {
        if self.complains {
            return false;
        }
        let wanted = visit.page_url(visit.ask.page.as_deref().unwrap_or_default());
        if let Some(session) = visit.session_mut() {
            session.wanted = Some(wanted);
        }
        if !visit.fresh {
            self.rotate(visit);
        }
        true
    }

    /// `encodeURL`: the id is printed unless this very request brought it in a cookie.
    fn link(&self, visit: &Visit<'_>, page: &str) -> String {
        let url = visit.page_url(page);
        match visit.token.first().filter(|_| !visit.by_cookie && visit.key.is_some()) {
            Some((_, id)) => format!("{url};jsessionid={id}"),
            None => url,
        }
    }

    fn restart(&mut self) {
        self.container.clear();
        self.invalid.clear();
    }
}
