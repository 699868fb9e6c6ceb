//! From the app to the browser: the one translation of an answer's head. A heartbeat's answer is read by it too.
//!
//! Invariants: no Set-Cookie of a vaulted name reaches a browser, deletions included; one app's answer never touches
//! another app's cookies, whatever Path and Domain it names; what is relayed is edited by byte spans and is otherwise as
//! the app said it.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

use super::app_session::Edit;
use super::classify::Managed;
use super::passed::HttpOnlyCookie;
use super::rules::{AppRules, Disposition, SameSite, SessionRules};
use super::to_app::{Shown, inner_mount, is_token_value};
use super::vault::{Carrier, Reach, Role, Vault};
use crate::time::Timestamp;
use crate::wire::jar;
use crate::wire::set_cookie::{self, Lifetime, SetCookie};

mod references;

pub use references::{PathToken, map_urls, path_edit};

/// The Set-Cookie fields of one answer, in order.
pub type SetCookies = SmallVec<[HeaderValue; 4]>;

/// What the translation is told besides the answer.
#[derive(Clone, Copy, Debug)]
pub struct ToClient<'a> {
    /// The app's rules.
    pub rules: &'a AppRules,
    /// What its vault holds.
    pub vault: Option<&'a Vault>,
    /// The path that the app was asked for, in its own URL space, without query.
    pub app_path: &'a str,
    /// The host that the app saw, without port.
    pub app_host: &'a str,
    /// Authorities by which the app knows itself besides the public one: its upstream's own.
    pub app_authority: &'a str,
    /// The public host and port.
    pub public_authority: &'a str,
    /// True where browsers see `https`.
    pub https: bool,
    /// Now.
    pub now: Timestamp,
}

/// What an answer said.
#[derive(Default)]
pub struct FromApp<'a> {
    /// Cookies for the vault: set or deleted.
    pub edits: SmallVec<[Edit<'a>; 4]>,
    /// Set-Cookie fields for the browser, in order.
    pub relayed: SetCookies,
    /// `HttpOnly` cookies among them, and whether each was a deletion.
    pub http_only: Vec<(HttpOnlyCookie, bool)>,
}

impl std::fmt::Debug for FromApp<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FromApp({} edits, {} relayed)", self.edits.len(), self.relayed.len())
    }
}

/// Which fields of an answer the translation has to look at, found in one pass: most answers have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct There {
    /// Set-Cookie.
    pub set_cookies: bool,
    /// Fields that hold URLs.
    pub urls: bool,
}

impl There {
    /// What is there in `headers`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut there = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "set-cookie" => there.set_cookies = true,
                "location" | "content-location" | "refresh" | "link" => there.urls = true,
                _ => {}
            }
        }
        there
    }
}

/// Takes the Set-Cookie fields out of `headers`: what [`read`] relays is all that goes back in.
#[must_use]
pub fn take_set_cookies(headers: &mut HeaderMap) -> SetCookies {
    let fields = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    fields
}

/// Takes Set-Cookie fields out that would set or delete one of the proxy's own cookies (`own` are their names, as in
/// [`super::to_app::ToApp::own_cookies`]): no app may plant an id in a browser. Nameless ones go too: a browser sends
/// `=bridge=x` back as `bridge=x`.
pub fn drop_own(rules: &AppRules, fields: &mut SetCookies, own: &[Box<str>]) {
    fields.retain(|field| {
        let name = field.as_bytes().split(|octet| matches!(octet, b'=' | b';')).next().unwrap_or_default();
        let nameless = name.trim_ascii().is_empty();
        !nameless && !rules.is_reserved(own, name)
    });
}

/// Reads the Set-Cookie `fields` of an answer. `shown` are the token parts that the browser itself sent along: what the
/// answer does not replace, the app has accepted.
#[must_use]
pub fn read<'a>(context: &ToClient<'a>, fields: &'a [HeaderValue], shown: &'a [Shown]) -> FromApp<'a> {
    let mut from_app = FromApp::default();
    let Some(rules) = &context.rules.session else {
        from_app.relayed.extend(fields.iter().cloned());
        return from_app;
    };
    // What no browser would store (controls, no name, too long) is not passed on either.
    let sets = fields.iter().filter_map(|field| Some((field, SetCookie::parse(field.as_bytes())?)));
    let sets: SmallVec<[(&HeaderValue, SetCookie<'a>); 4]> = sets.collect();
    let now = i64::try_from(context.now.secs()).unwrap_or(i64::MAX);
    let goes_to_vault = |set: &SetCookie<'_>| {
        rules.plain_disposition(set.name(), set.http_only(), set.lifetime(now) == Lifetime::Session)
            == Disposition::Vault
    };
    for (field, set) in &sets {
        let held = || {
            context.vault.is_some_and(|vault| {
                vault.iter().any(|held| held.role == Role::Plain && held.name == set.name())
            })
        };
        // What one answer deletes and sets anew is one cookie: both fields go the same way.
        let vaulted =
            held() || sets.iter().any(|(_, other)| other.name() == set.name() && goes_to_vault(other));
        one(context, rules, (field, set), vaulted, &mut from_app);
    }
    fold(&mut from_app.edits);
    let said = from_app.edits.len();
    for part in shown {
        let replaced = from_app.edits.iter().take(said).any(|edit| same_token(edit.role, part.role));
        // What is held already has not been renewed by being shown.
        let held =
            shown.iter().filter(|other| same_token(other.role, part.role)).all(|other| holds(context, other));
        if !replaced && !held {
            from_app.edits.push(accepted(rules, context, part));
        }
    }
    from_app
}

fn holds(context: &ToClient<'_>, shown: &Shown) -> bool {
    let Role::Token { token, part } = shown.role else { return false };
    context.vault.and_then(|vault| vault.part(token, part)).is_some_and(|held| *held.value == *shown.value)
}

/// One Set-Cookie field: to the vault, to the browser, or nowhere.
fn one<'a>(
    context: &ToClient<'a>,
    rules: &SessionRules,
    (field, set): (&HeaderValue, &SetCookie<'a>),
    vaulted: bool,
    from_app: &mut FromApp<'a>,
) {
    let lifetime = set.lifetime(i64::try_from(context.now.secs()).unwrap_or(i64::MAX));
    if let Some(part) = rules.cookie(set.name()) {
        let disposition = rules.token_disposition(set.name());
        // An empty token points to nothing: some apps delete it so.
        let kept = if set.value().is_empty() { Lifetime::Delete } else { lifetime };
        if (is_token_value(set.value()) || kept == Lifetime::Delete) && disposition != Disposition::Drop {
            let rolling = part.rolling || moved_node(context, &part, set.value());
            from_app.edits.push(edit(context, set, kept, (part.role, part.parts, rolling)));
        }
        match disposition {
            Disposition::AsIs => from_app.relayed.push(field.clone()),
            Disposition::Prefix | Disposition::Pass => {
                let keep_expiry = rules.persistent || lifetime == Lifetime::Delete;
                relay(context, rules, (field, set), (disposition, lifetime, keep_expiry), from_app);
            }
            Disposition::Vault | Disposition::Drop => {}
        }
        return;
    }
    match rules.plain_disposition(set.name(), set.http_only(), lifetime == Lifetime::Session) {
        Disposition::Drop => {}
        Disposition::AsIs => from_app.relayed.push(field.clone()),
        _ if vaulted => to_vault(context, set, lifetime, from_app),
        disposition => relay(context, rules, (field, set), (disposition, lifetime, true), from_app),
    }
}

/// True where a servlet id differs from the one held only behind its first `.`: another node has taken the session over,
/// or Jetty has completed its name (seen on 9.4). That is a renewal.
fn moved_node(context: &ToClient<'_>, part: &Managed<'_>, value: &[u8]) -> bool {
    let stem = |value: &[u8]| value.split(|&octet| octet == b'.').next().unwrap_or_default().to_vec();
    let Role::Token { token, part: at } = part.role else { return false };
    let held = context.vault.and_then(|vault| vault.part(token, at));
    part.rule.path_param.is_some()
        && held.is_some_and(|held| held.value != value && stem(held.value) == stem(value))
}

/// A plain cookie for the vault, by the rules of a browser.
fn to_vault<'a>(context: &ToClient<'a>, set: &SetCookie<'a>, lifetime: Lifetime, from_app: &mut FromApp<'a>) {
    // Apps know themselves by the name that they see, or by the public one from their own config.
    let foreign = set.domain().is_some_and(|domain| {
        // A name without a dot is a public suffix.
        (!domain.contains(&b'.') && !domain.eq_ignore_ascii_case(public_host(context)))
            || !jar::domain_match(domain, context.app_host.as_bytes())
                && !jar::domain_match(domain, public_host(context))
    });
    if !foreign && set.prefix_ok(context.https) {
        from_app.edits.push(edit(context, set, lifetime, (Role::Plain, 1, true)));
    }
}

fn edit<'a>(
    context: &ToClient<'a>,
    set: &SetCookie<'a>,
    lifetime: Lifetime,
    (role, parts, rolling): (Role, u8, bool),
) -> Edit<'a> {
    let expires = match lifetime {
        Lifetime::Until(at) => u64::try_from(at).unwrap_or(0),
        Lifetime::Session | Lifetime::Delete => 0,
    };
    // A domain of the app's own network is its own host to the public.
    let domain = set.domain().filter(|domain| jar::domain_match(domain, public_host(context)));
    // A path that leads to another app can only be a mistake, or worse.
    let mount = context.rules.mount.prefix().get(..inner_mount(context.rules)).unwrap_or("/").as_bytes();
    let path = set.path().map(|path| if leads_astray(path, mount, context) { b"/" } else { path });
    Edit {
        name: set.name(),
        value: (lifetime != Lifetime::Delete).then(|| set.value()),
        // A token with no path of its own belongs to the whole app: that is what its engine means by it.
        path: path.unwrap_or_else(|| {
            if role == Role::Plain { jar::default_path(context.app_path.as_bytes()) } else { b"/" }
        }),
        host: domain.unwrap_or_else(|| if role == Role::Plain { public_host(context) } else { b"" }),
        subdomains: domain.is_some(),
        expires: if role == Role::Plain { expires } else { 0 },
        role,
        parts,
        rolling,
        carrier: Carrier::Cookie,
        secure: set.secure(),
        reach: Reach { http_only: set.http_only(), same_site: set.same_site().and_then(SameSite::parse) },
    }
}

/// True where `path` neither covers the app (whose mount is `mount`) nor lies within it.
fn leads_astray(path: &[u8], mount: &[u8], context: &ToClient<'_>) -> bool {
    let public = std::str::from_utf8(path).is_ok_and(|path| context.rules.mount.contains(path));
    !public && !jar::path_match(path, mount) && !jar::path_match(mount, path)
}

/// The last of a name wins, as in a browser that takes the fields one after the other.
fn fold(edits: &mut SmallVec<[Edit<'_>; 4]>) {
    let mut at = 0;
    while at < edits.len() {
        let overtaken = edits
            .get(at)
            .is_some_and(|edit| edits.iter().skip(at + 1).any(|later| edit.is_about_same(later)));
        if overtaken {
            edits.remove(at);
        } else {
            at += 1;
        }
    }
}

pub(super) fn same_token(one: Role, other: Role) -> bool {
    matches!((one, other), (Role::Token { token: a, .. }, Role::Token { token: b, .. }) if a == b)
}

/// A token part that the browser showed and that the app's answer did not replace.
fn accepted<'a>(rules: &SessionRules, context: &ToClient<'a>, part: &'a Shown) -> Edit<'a> {
    Edit {
        name: context.rules.unprefixed(&part.name).unwrap_or(&part.name),
        value: Some(&part.value),
        path: b"/",
        host: b"",
        subdomains: false,
        expires: 0,
        role: part.role,
        parts: part.parts,
        rolling: rules.parts().any(|own| own.role == part.role && own.rolling),
        carrier: Carrier::Cookie,
        secure: false,
        reach: Reach::default(),
    }
}

/// Sends a cookie on to the browser: path and domain mapped, renamed where the disposition says so.
fn relay(
    context: &ToClient<'_>,
    rules: &SessionRules,
    (field, set): (&HeaderValue, &SetCookie<'_>),
    (disposition, lifetime, keep_expiry): (Disposition, Lifetime, bool),
    from_app: &mut FromApp<'_>,
) {
    if context.rules.releases {
        return super::release::as_said(context, field, &mut from_app.relayed);
    }
    let mount = &context.rules.mount;
    let named = set.path();
    let renamed = context.rules.renames(disposition);
    // Without a path of its own it gets the directory of the page: said aloud where that is outside of the app.
    let by_default =
        mount.to_public(std::str::from_utf8(jar::default_path(context.app_path.as_bytes())).unwrap_or("/"));
    let by_default = if by_default.len() > 1 { by_default.trim_end_matches('/') } else { &by_default };
    let mapped = match named {
        Some(path) => Some(public_path(context, path)),
        None if mount.is_case_insensitive() || !mount.contains(by_default) => {
            Some(public_path(context, by_default.as_bytes()))
        }
        None => None,
    };
    let name = if renamed { context.rules.prefixed(set.name()) } else { set.name().to_vec() };
    let mut edit = set_cookie::Edit::new(set);
    if renamed {
        edit = edit.rename(&name);
    }
    if let Some(path) = mapped.as_deref().filter(|path| Some(*path) != named) {
        edit = edit.path(Some(path));
    }
    let keeps_domain = rules.cookies == super::rules::CookieMode::Pass
        && set.domain().is_some_and(|domain| jar::domain_match(domain, public_host(context)));
    if set.domain().is_some() && !keeps_domain {
        edit = edit.drop_domain();
    }
    if !keep_expiry {
        edit = edit.drop_expiry();
    }
    let policy = rules.set_cookie;
    for (on, flag) in [
        (policy.secure, set_cookie::Edit::secure as fn(_, bool) -> _),
        (policy.http_only, set_cookie::Edit::http_only),
        (policy.partitioned, set_cookie::Edit::partitioned),
    ] {
        if let Some(on) = on {
            edit = flag(edit, on);
        }
    }
    if let Some(same_site) = policy.same_site {
        edit = edit.same_site(Some(same_site.as_str().as_bytes()));
    }
    let deleted = lifetime == Lifetime::Delete;
    let finished = HeaderValue::from_bytes(&edit.finish());
    if let Ok(value) = finished {
        if deleted && named.is_some() && mapped.as_deref() != named {
            // A deletion goes out for the path that the app named as well: the cookie may be older than this proxy.
            from_app.relayed.push(field.clone());
        }
        from_app.relayed.push(value);
    }
    if set.http_only() || deleted {
        let path = mapped.as_deref().unwrap_or(by_default.as_bytes());
        let cookie = HttpOnlyCookie { app: context.rules.app, name: (*name).into(), path: path.into() };
        from_app.http_only.push((cookie, deleted));
    }
}

/// The public path of a cookie for which the app said `path`: inside the app's own mount, whatever it said.
#[must_use]
pub fn public_path(context: &ToClient<'_>, path: &[u8]) -> Vec<u8> {
    let mount = &context.rules.mount;
    if mount.is_case_insensitive() {
        // Browsers compare paths with case: only the root covers every spelling of the mount.
        return b"/".to_vec();
    }
    let inside =
        std::str::from_utf8(path).ok().filter(|path| path.len() > 1).map(|path| mount.to_public(path));
    match inside {
        Some(public) if mount.contains(&public) => public.into_owned().into_bytes(),
        _ => mount.cookie_path().as_bytes().to_vec(),
    }
}

fn public_host<'a>(context: &ToClient<'a>) -> &'a [u8] {
    host_of(context.public_authority).as_bytes()
}

/// The host of an authority, without its port.
#[must_use]
pub fn host_of(authority: &str) -> &str {
    let colon = memchr::memrchr(b':', authority.as_bytes());
    let split = colon.and_then(|at| Some((authority.get(..at)?, authority.get(at + 1..)?)));
    let host = split.filter(|(_, port)| port.bytes().all(|octet| octet.is_ascii_digit()));
    host.map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests;
