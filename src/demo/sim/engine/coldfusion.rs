//! Adobe ColdFusion's own sessions, before and after APSB11-04, and OpenBD's: CFID and CFTOKEN.
//!
//! Invariant: CFID and CFTOKEN are one token; half of it is none.

use super::super::{
    Profile, SimOptions,
    ask::Ask,
    ids::date,
    sessions::End,
    visit::{Engine, Reply, Visit, with_query},
};

/// 30 years of 365 days, what Adobe gives its cookies.
const ADOBE_AGE_MS: u64 = 30 * 365 * 86_400_000;
/// 9 years of 365 days in seconds, what OpenBD gives its cookies.
const OPENBD_AGE_S: u64 = 9 * 365 * 86_400;
/// The idiom against bots: a session of two seconds for a client without a CFID cookie.
pub(super) const BOT_TIMEOUT_MS: u64 = 2000;

/// One of the three engines that take the pair from URL, form and cookie.
pub(super) struct ColdFusion {
    profile: Profile,
}

impl ColdFusion {
    pub(super) fn new(options: &SimOptions) -> Self {
        Self { profile: options.profile }
    }

    /// URL, then form, then cookie. OpenBD cuts a list at its first comma.
    fn offered(&self, ask: &Ask) -> Option<(String, String)> {
        let url = pair(ask.query_any_case("CFID"), ask.query_any_case("CFTOKEN"));
        let form = || pair(ask.form_any_case("CFID"), ask.form_any_case("CFTOKEN"));
        let cookie = || {
            builder_pair(ask).or_else(|| pair(ask.cookie_any_case("CFID"), ask.cookie_any_case("CFTOKEN")))
        };
        let (id, token) = url.or_else(form).or_else(cookie)?;
        if self.profile == Profile::OpenBd {
            let cut = |value: &str| value.split(',').next().unwrap_or_default().to_owned();
            return Some((cut(&id), cut(&token)));
        }
        Some((id, token))
    }

    fn issue(&self, visit: &mut Visit<'_>) -> (String, String) {
        let id = visit.ids.cfid();
        let strict = self.profile == Profile::AcfStrict;
        let token = if strict { visit.ids.uuid_token() } else { visit.ids.eight_digits() };
        for (name, value) in [("CFID", &id), ("CFTOKEN", &token)] {
            let expires = date(visit.now + ADOBE_AGE_MS, '-');
            visit.set_cookie(match self.profile {
                Profile::AcfStrict => format!("{name}={value}; Expires={expires}; Path=/; HttpOnly"),
                Profile::OpenBd => format!("{name}={value}; Max-Age={OPENBD_AGE_S}; Path=/"),
                _ => format!("{name}={value};expires={expires};path=/"),
            });
        }
        (id, token)
    }
}

impl Engine for ColdFusion {
    fn open(&mut self, visit: &mut Visit<'_>) -> Result<(), Box<Reply>> {
        visit.sessions.expire(visit.now);
        let offered = self.offered(visit.ask);
        let good = offered.filter(|p| visit.sessions.has(&key(p)) || self.profile != Profile::AcfStrict);
        let pair = good.unwrap_or_else(|| self.issue(visit));
        let key = key(&pair);
        if visit.sessions.has(&key) {
            visit.resume(&key);
        } else {
            visit.start(&key);
        }
        bot_idiom(visit);
        visit.token = vec![("CFID", pair.0), ("CFTOKEN", pair.1)];
        Ok(())
    }

    /// `sessionRotate` came with ColdFusion 10.
    fn rotate(&mut self, visit: &mut Visit<'_>) -> bool {
        if self.profile != Profile::AcfStrict {
            return false;
        }
        let pair = self.issue(visit);
        visit.rename(&key(&pair));
        visit.token = vec![("CFID", pair.0), ("CFTOKEN", pair.1)];
        true
    }

    /// `sessionInvalidate` (ColdFusion 10): the new ids come with the next request. Before it applications
    /// cleared the session scope.
    fn invalidate(&mut self, visit: &mut Visit<'_>, why: End) {
        if self.profile == Profile::AcfStrict {
            visit.end(why);
        } else {
            visit.clear();
        }
    }

    /// `URLSessionFormat`: ids only for a client that sent no cookies.
    fn link(&self, visit: &Visit<'_>, page: &str) -> String {
        if visit.ask.cookies.is_empty() { self.relocation(visit, page) } else { visit.page_url(page) }
    }

    /// `cflocation` with `addtoken`.
    fn relocation(&self, visit: &Visit<'_>, page: &str) -> String {
        with_url_token(visit, &visit.page_url(page))
    }

    fn key_of(&self, token: &str) -> Option<String> {
        Some(url_token_key(token))
    }
}

/// `CFID=1&CFTOKEN=2` and `1_2` are both the key `1_2`.
fn url_token_key(token: &str) -> String {
    let parts = token.split('&').map(|part| part.split_once('=').map_or(part, |(_, value)| value));
    parts.collect::<Vec<_>>().join("_")
}

fn key((id, token): &(String, String)) -> String {
    format!("{id}_{token}")
}

pub(super) fn pair(id: Option<&str>, token: Option<&str>) -> Option<(String, String)> {
    let full = |part: &&str| !part.is_empty();
    Some((id.filter(full)?.to_owned(), token.filter(full)?.to_owned()))
}

/// A ColdFusion Builder extension puts the pair from its URL in the place of the cookies before the engine
/// looks.
pub(super) fn builder_pair(ask: &Ask) -> Option<(String, String)> {
    pair(ask.query_any_case("builderCFID"), ask.query_any_case("builderCFTOKEN"))
}

/// `this.sessionTimeout` computed per request: two seconds for who shows no CFID cookie.
pub(super) fn bot_idiom(visit: &mut Visit<'_>) {
    let Some(key) = visit.key.clone() else { return };
    if visit.options.bot_idiom && visit.ask.cookie_any_case("CFID").is_none() {
        visit.expire_in(&key, BOT_TIMEOUT_MS.min(visit.options.timeout_ms));
    }
}

/// The URL with `session.URLToken` in its query.
pub(super) fn with_url_token(visit: &Visit<'_>, url: &str) -> String {
    let parts: Vec<String> = visit.token.iter().map(|(name, value)| format!("{name}={value}")).collect();
    with_query(url, &parts.join("&"))
}
