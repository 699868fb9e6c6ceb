//! PHP's file sessions: PHPSESSID, `use_strict_mode=0`, a lock on the file for the whole request.
//!
//! Every request sweeps (`gc_probability=1`, `gc_divisor=1`), and only a sweep ends a session. It comes after the request has read
//! its own: a dead session answers once more, with all its content, and what it writes is lost with the file (seen on PHP 8.2).
//!
//! Invariant: no session outlives the request that finds it dead.

use super::super::{
    ask::Ask,
    sessions::End,
    visit::{Engine, Reply, Visit, with_query},
};

const NAME: &str = "PHPSESSID";
const ALPHABET: &str = "0123456789abcdefghijklmnopqrstuv";

/// The engine; all its state is the session table.
pub(super) struct Php;

impl Php {
    fn issue(visit: &mut Visit<'_>) -> String {
        let id = visit.ids.text(26, ALPHABET);
        visit.set_cookie(format!("{NAME}={id}; path=/"));
        id
    }

    /// MediaWiki's way: nothing is renewed before half of the life is over.
    fn too_early(visit: &Visit<'_>, key: &str) -> bool {
        let age = visit.sessions.get(key).map(|session| visit.now.saturating_sub(session.renewed));
        visit.options.renew_late && age.is_some_and(|age| age < visit.options.timeout_ms / 2)
    }
}

impl Engine for Php {
    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>> {
        visit.by_cookie = visit.ask.cookie(NAME).is_some();
        let id = match shown(visit.ask, visit.options.url_ids) {
            Some(id) => id.to_owned(),
            None => Self::issue(visit),
        };
        let dead = visit.sessions.get(&id).map(|session| session.expires <= visit.now);
        if dead.is_none() {
            visit.start(&id);
        } else if dead == Some(true) || Self::too_early(visit, &id) {
            visit.take(&id);
        } else {
            visit.resume(&id);
        }
        let bound_to = visit.session().and_then(|session| session.binding.clone());
        if bound_to.is_some_and(|bound| bound != binding(visit.ask)) {
            visit.user = None;
        }
        visit.headers.push(("expires", "Thu, 19 Nov 1981 08:52:00 GMT".to_owned()));
        visit.headers.push(("cache-control", "no-store, no-cache, must-revalidate".to_owned()));
        visit.headers.push(("pragma", "no-cache".to_owned()));
        visit.token = vec![(NAME, id)];
        Ok(())
    }

    /// `session_regenerate_id(true)`.
    fn rotate(&mut self, visit: &mut Visit<'_>) -> bool {
        let id = Self::issue(visit);
        visit.rename(&id);
        // Another file, written now.
        visit.expire_in(&id, visit.options.timeout_ms);
        visit.token = vec![(NAME, id)];
        true
    }

    /// `session_destroy`: the cookie stays, and the id is adopted when it comes again.
    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End) {
        visit.end(why);
    }

    fn sign_in(&mut self, visit: &mut Visit<'_>, user: &str) {
        let binding = visit.options.bind_client.then(|| binding(visit.ask));
        visit.user = Some(user.to_owned());
        if let Some(session) = visit.session_mut() {
            session.user = Some(user.to_owned());
            session.binding = binding;
        }
        if visit.options.rotate_on_login {
            self.rotate(visit);
        }
    }

    /// As the manual's example of `session_destroy`: the cookie is deleted too.
    fn sign_out(&mut self, visit: &mut Visit<'_>) {
        visit.end(End::Logout);
        visit.set_cookies.clear();
        visit.set_cookie(format!("{NAME}=deleted; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; path=/"));
    }

    fn finish(&mut self, visit: &mut Visit<'_>) {
        visit.sessions.expire(visit.now);
    }

    fn link(&self, visit: &Visit<'_>, page: &str) -> String {
        let url = visit.page_url(page);
        match visit.token.first().filter(|_| visit.options.url_ids && !visit.by_cookie) {
            Some((name, id)) => with_query(&url, &format!("{name}={id}")),
            None => url,
        }
    }

    fn lock(&self, ask: &Ask) -> Option<String> {
        ask.cookie(NAME).map(ToOwned::to_owned)
    }
}

/// The cookie, else the query where the configuration reads it; 22 to 256 of `[a-zA-Z0-9,-]`.
fn shown(ask: &Ask, url_ids: bool) -> Option<&str> {
    let id = ask.cookie(NAME).or_else(|| ask.query(NAME).filter(|_| url_ids))?;
    let shape = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b',' | b'-');
    ((22..=256).contains(&id.len()) && id.bytes().all(shape)).then_some(id)
}

/// What DokuWiki binds a sign-in to.
fn binding(ask: &Ask) -> String {
    let headers = ["user-agent", "accept-language", "accept-encoding"].map(|name| ask.header(name));
    format!("{}|{}", headers.join("|"), ask.address)
}
