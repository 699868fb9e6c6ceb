//! Lucee's CF sessions, as 6.2 behaves on Tomcat and, with `jetty`, 5.4 on Jetty.
//!
//! Invariant: the session hangs on `cfid` alone, and nothing but a page that wants the session touches it.

use super::{
    super::{
        ids::{date, is_guid},
        sessions::End,
        visit::{Engine, Reply, Visit},
    },
    coldfusion::{bot_idiom, builder_pair, pair, with_url_token},
};

/// What Lucee adds to now for its cookies, in milliseconds: about 30 years.
const AGE_MS: u64 = 946_626_690_000;

/// The engine; all its state is the session table.
pub(super) struct Lucee;

impl Engine for Lucee {
    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>> {
        visit.sessions.expire(visit.now);
        let ask = visit.ask;
        let by_url = pair(ask.query_any_case("cfid"), ask.query_any_case("cftoken"));
        if let Some((id, token)) = by_url.filter(|(id, _)| visit.sessions.has(id)) {
            set_pair(visit, &id, &token);
            visit.resume(&id);
            visit.token = vec![("CFID", id), ("CFTOKEN", token)];
            return Ok(());
        }
        let (id, token) = cookie_pair(visit).unwrap_or_else(|| issue_pair(visit));
        if visit.sessions.has(&id) {
            visit.resume(&id);
        } else {
            visit.start(&id);
        }
        bot_idiom(visit);
        visit.token = vec![("CFID", id), ("CFTOKEN", token)];
        Ok(())
    }

    fn rotate(&mut self, visit: &mut Visit<'_>) -> bool {
        let (id, token) = issue_pair(visit);
        visit.rename(&id);
        visit.token = vec![("CFID", id), ("CFTOKEN", token)];
        true
    }

    /// A new pair, and an empty session under it, in the same answer.
    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End) {
        visit.end(why);
        let (id, token) = issue_pair(visit);
        visit.start(&id);
        visit.token = vec![("CFID", id), ("CFTOKEN", token)];
    }

    fn link(&self, visit: &Visit<'_>, page: &str) -> String {
        if visit.ask.cookies.is_empty() { self.relocation(visit, page) } else { visit.page_url(page) }
    }

    fn relocation(&self, visit: &Visit<'_>, page: &str) -> String {
        with_url_token(visit, &visit.page_url(page))
    }

    fn key_of(&self, token: &str) -> Option<String> {
        let id = token.split('&').next().unwrap_or_default();
        Some(id.split_once('=').map_or(id, |(_, value)| value).to_owned())
    }
}

/// The pair of the cookies; of several with one name, in whatever case, the last counts. If that id is no GUID
/// (Adobe's) all of them are deleted, and the last good one among them, if any, is set anew.
pub(super) fn cookie_pair(visit: &mut Visit<'_>) -> Option<(String, String)> {
    let ask = visit.ask;
    let token = ask.cookies_any_case("cftoken").last().filter(|token| !token.is_empty());
    let cookies = || builder_pair(ask).or_else(|| pair(ask.cookies_any_case("cfid").last(), token));
    let (id, token) = cookies()?;
    if is_guid(&id) {
        return Some((id, token));
    }
    for name in ["cfid", "cftoken"] {
        for (spelt, _) in ask.cookies.iter().filter(|(spelt, _)| spelt.eq_ignore_ascii_case(name)) {
            delete(visit, spelt);
        }
    }
    let good = ask.cookies_any_case("cfid").filter(|id| is_guid(id)).last()?.to_owned();
    set_pair(visit, &good, &token);
    Some((good, token))
}

/// By the container, each in its own way.
fn delete(visit: &mut Visit<'_>, name: &str) {
    visit.set_cookie(if visit.options.jetty {
        format!("{name}=; Path=/; Expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=0")
    } else {
        format!("{name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:10 GMT; Path=/")
    });
}

pub(super) fn issue_pair(visit: &mut Visit<'_>) -> (String, String) {
    let id = visit.ids.guid();
    set_pair(visit, &id, "0");
    (id, "0".to_owned())
}

fn set_pair(visit: &mut Visit<'_>, id: &str, token: &str) {
    let expires = date(visit.now + AGE_MS, '-').replace("GMT", "UTC");
    let same_site = if visit.options.jetty { "" } else { ";SameSite=Lax" };
    for (name, value) in [("cfid", id), ("cftoken", token)] {
        visit.set_cookie(format!("{name}={value};Path=/;Expires={expires};HttpOnly{same_site}"));
    }
}
