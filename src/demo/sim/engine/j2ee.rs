//! ColdFusion and Lucee with J2EE sessions: the session hangs on the container's JSESSIONID, a pair travels
//! along.
//!
//! Invariant: each application has an idle clock of its own inside the container's session; when it runs out
//! the id stays and the content is gone.

use super::{
    super::{
        Profile, SimOptions,
        container::{Container, Shown, Spelling},
        ids::date,
        sessions::End,
        visit::{Engine, Reply, Visit},
    },
    coldfusion::{bot_idiom, pair, with_url_token},
    lucee,
};

/// What Lucee adds to the longest application timeout for the container's session.
const LUCEE_MARGIN_MS: u64 = 60_000;

/// One application's view of the container.
pub(super) struct J2ee {
    lucee: bool,
    container: Container,
    spelling: Spelling,
}

impl J2ee {
    pub(super) fn new(options: &SimOptions) -> Self {
        let lucee = options.profile == Profile::LuceeJ2ee;
        let mut options = options.clone();
        if !lucee && options.route.is_none() {
            options.route = Some("cfusion".to_owned());
        }
        let spelling = Spelling::new(&options, "/");
        Self { lucee, container: options.container.unwrap_or_default(), spelling }
    }

    /// The id of a client that lives in the container.
    fn known(&self, visit: &Visit<'_>) -> Option<Shown> {
        self.spelling.shown(visit).into_iter().find(|shown| self.container.has(&shown.id, visit.now))
    }

    const fn margin(&self) -> u64 {
        if self.lucee { LUCEE_MARGIN_MS } else { 0 }
    }

    fn issue_pair(&self, visit: &mut Visit<'_>) -> (String, String) {
        if self.lucee {
            return lucee::issue_pair(visit);
        }
        let pair = (visit.ids.cfid(), visit.ids.uuid_token());
        let expires = date(visit.now + 30 * 365 * 86_400_000, '-');
        for (name, value) in [("CFID", &pair.0), ("CFTOKEN", &pair.1)] {
            visit.set_cookie(format!("{name}={value}; Expires={expires}; Path=/; HttpOnly"));
        }
        pair
    }

    fn cookie_pair(&self, visit: &mut Visit<'_>) -> Option<(String, String)> {
        if self.lucee {
            return lucee::cookie_pair(visit);
        }
        pair(visit.ask.cookie_any_case("CFID"), visit.ask.cookie_any_case("CFTOKEN"))
    }

    fn renew_pair(&self, visit: &mut Visit<'_>) {
        let (id, token) = self.issue_pair(visit);
        visit.token.retain(|(name, _)| *name == "jsessionid");
        visit.token.splice(0..0, [("CFID", id), ("CFTOKEN", token)]);
    }
}

impl Engine for J2ee {
    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>> {
        visit.sessions.expire(visit.now);
        let known = self.known(visit);
        visit.by_cookie = known.as_ref().is_some_and(|shown| shown.by_cookie);
        let spelt = known.as_ref().is_some_and(|shown| shown.exact);
        let id = known.map_or_else(|| self.spelling.issue(visit), |shown| shown.id);
        if !spelt {
            self.spelling.set(visit, &id);
        }
        self.container.touch(&id, visit.now + visit.options.timeout_ms + self.margin());
        if visit.sessions.has(&id) {
            visit.resume(&id);
        } else {
            visit.start(&id);
        }
        bot_idiom(visit);
        let (cfid, cftoken) = self.cookie_pair(visit).unwrap_or_else(|| self.issue_pair(visit));
        visit.token = vec![("CFID", cfid), ("CFTOKEN", cftoken), ("jsessionid", id)];
        Ok(())
    }

    /// Neither engine rotates JSESSIONID: Adobe's documents say so, and Lucee was seen to.
    fn rotate(&mut self, visit: &mut Visit<'_>) -> bool {
        self.renew_pair(visit);
        true
    }

    /// Adobe ends the container's session, and the next request gets another id. Lucee changes `cfid` and
    /// nothing else: who sends the JSESSIONID is still signed in.
    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End) {
        if self.lucee {
            self.renew_pair(visit);
        } else if let Some(id) = visit.end(why) {
            self.container.end(&id);
        }
    }

    /// `URLSessionFormat`: `;jsessionid=` for a client without cookies; Adobe adds its URLToken.
    fn link(&self, visit: &Visit<'_>, page: &str) -> String {
        let Some((_, id)) = visit.token.last().filter(|_| visit.ask.cookies.is_empty()) else {
            return visit.page_url(page);
        };
        let url = format!("{};jsessionid={id}", visit.page_url(page));
        if self.lucee { url } else { with_url_token(visit, &url) }
    }

    /// `cflocation`: all three in the query. Lucee 5.4 on Jetty has the id in the path too for a client without
    /// cookies, 6.2 on Tomcat has not.
    fn relocation(&self, visit: &Visit<'_>, page: &str) -> String {
        let url = visit.page_url(page);
        let bare = self.lucee && visit.options.jetty && visit.ask.cookies.is_empty();
        match visit.token.last().filter(|_| bare) {
            Some((_, id)) => with_url_token(visit, &format!("{url};jsessionid={}", self.spelling.long(id))),
            None => with_url_token(visit, &url),
        }
    }

    /// The container's session lives on, the application's does not notice.
    fn pass_by(&mut self, visit: &mut Visit<'_>) {
        let expires = visit.now + visit.options.timeout_ms + self.margin();
        if let Some(shown) = self.known(visit) {
            self.container.touch(&shown.id, expires);
        }
    }

    fn restart(&mut self) {
        self.container.clear();
    }
}
