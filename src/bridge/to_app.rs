//! From the browser to the app: the one translation of a request's head. Heartbeats and sign-out requests take it too.
//!
//! Invariants: what the browser must not decide (managed cookies and URL tokens, forged forwarding fields) never reaches
//! an app; an app sees each of its own cookies once, in its own spelling, and no other app's.

use http::{HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use super::app_session::AppSession;
use super::rules::{AppRules, Disposition, SessionRules};
use super::vault::{Carrier, Role};
use super::{to_client, url};
use crate::time::Timestamp;
use crate::wire::fields::{Field, Fields};
use crate::wire::request::Head;
use crate::wire::{cookie, forwarded, hop, jar, path, target};

/// What the translation is told besides the request.
#[derive(Clone, Copy, Debug)]
pub struct ToApp<'a> {
    /// The app's rules.
    pub rules: &'a AppRules,
    /// Its part of the bridge session, if there is one.
    pub session: Option<&'a AppSession>,
    /// The client and how it reached the proxy.
    pub client: &'a forwarded::Client,
    /// Host and port that the client asked for.
    pub authority: &'a str,
    /// The `Host` that the app sees.
    pub host: &'a str,
    /// True for a request of the proxy's own: there is no browser to show the cookies that it holds.
    pub own: bool,
    /// The proxy's cookies, which no app may see. One that ends with a dot (`appB.`) stands for all cookies renamed for that
    /// app, and does not concern the app itself: one list serves all.
    pub own_cookies: &'a [Box<str>],
    /// True where cookies that the browser shows for the app go to it, to be adopted if it takes them.
    pub adopting: bool,
    /// Names with `_` that may go to the app all the same.
    pub allow_names: &'a [HeaderName],
    /// Now.
    pub now: Timestamp,
}

/// What was seen on the way.
#[derive(Debug, Default)]
pub struct Seen {
    /// Cookies that passed, as a Cookie field's value: what the browser last sent this app.
    pub passed: Vec<u8>,
    /// Managed names that the browser should not have: the janitor's work.
    pub stray: SmallVec<[Box<[u8]>; 2]>,
    /// Token parts that the browser itself holds and that went to the app.
    pub shown: Vec<Shown>,
    /// In the mode `release`: cookies that the browser knows under a name of the proxy's making.
    pub renamed: Vec<Renamed>,
}

/// A cookie that the browser showed as `appA.NAME`.
#[derive(Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The app's own name for it.
    pub name: Box<[u8]>,
    /// Its value.
    pub value: Box<[u8]>,
}

impl std::fmt::Debug for Renamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Renamed({})", String::from_utf8_lossy(&self.name))
    }
}

/// A token part that came from the browser's own cookie.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which part.
    pub role: Role,
    /// How many parts the token has.
    pub parts: u8,
    /// In the browser's spelling.
    pub name: Box<[u8]>,
    /// Its value.
    pub value: Box<[u8]>,
}

impl Shown {
    /// True where it is a cookie of the time before the proxy: its place is the vault, or another name.
    #[must_use]
    pub fn is_to_move(&self, rules: &AppRules) -> bool {
        let renamed = rules.unprefixed(&self.name);
        rules.session.as_ref().is_some_and(|session| {
            match session.token_disposition(renamed.unwrap_or(&self.name)) {
                Disposition::Vault => true,
                disposition => renamed.is_none() && rules.renames(disposition),
            }
        })
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shown({:?})", self.role)
    }
}

/// Translates a request with `fields` for the public, already cleaned `clean` URL. What frames a body is left to the sender.
#[must_use]
pub fn translate(
    context: &ToApp<'_>,
    method: Method,
    clean: &url::Clean<'_>,
    fields: &Fields<'_>,
) -> (Head, Seen) {
    let mut head = Head::new(method, &target(context, clean), ROOM);
    if context.host.is_empty() {
        // HTTP/1.0 need not say a host; an app that is asked in HTTP/1.1 is told that there is none (RFC 9112, 3.2).
        head.put("host", &HeaderValue::from_static(""));
    } else {
        head.put_with("host", |out| out.extend_from_slice(context.host.as_bytes()));
    }
    let seen = cookies(context, fields, &mut head);
    let named = hop::Named::by_request(fields);
    for (name, value) in fields.all {
        let name = name.as_str();
        if named.has(name) {
            continue;
        }
        match Field::of(name) {
            Field::Referer => clean_referer(context.rules, fields, value, &mut head),
            Field::ForwardedToo if !context.client.trusted => {}
            Field::Plain | Field::ForwardedToo if target::is_odd_name(name) && !is_allowed(context, name) => {
            }
            field if goes_on(field) => head.put(name, value),
            _ => {}
        }
    }
    forwarded::write(&mut head, context.client, context.authority);
    (head, seen)
}

/// What most heads need.
const ROOM: usize = 960;

/// False for what ends here: framing and other fields of one connection; `Expect`, which the proxy has answered itself;
/// what it writes itself (Host, Cookie, the request's id, forwarding fields); and names that only it may set.
const fn goes_on(field: Field) -> bool {
    !matches!(
        field,
        Field::Host
            | Field::Cookie
            | Field::ContentLength
            | Field::TransferEncoding
            | Field::Connection
            | Field::Upgrade
            | Field::Hop
            | Field::Expect
            | Field::RequestId
            | Field::Forwarded
            | Field::Own
    )
}

fn is_allowed(context: &ToApp<'_>, name: &str) -> bool {
    context.allow_names.iter().any(|allowed| allowed.as_str() == name)
}

/// Path and query in the app's own URL space, with the token that rides in the path.
fn target(context: &ToApp<'_>, clean: &url::Clean<'_>) -> String {
    let mount = &context.rules.mount;
    let inner = mount.to_app(&clean.path);
    let riding = context.session.and_then(|session| {
        session.vault().iter().find(|cookie| cookie.carrier != Carrier::Cookie).and_then(|cookie| {
            let style = if cookie.carrier == Carrier::Wrapped {
                path::SegmentStyle::Wrapped
            } else {
                path::SegmentStyle::Bare
            };
            Some((style, std::str::from_utf8(cookie.value).ok()?))
        })
    });
    let mut target = match riding {
        Some((style, id)) => path::insert_segment(&inner, inner_mount(context.rules), style, id),
        None => inner.into_owned(),
    };
    if let Some(query) = &clean.query {
        target.push('?');
        target.push_str(query);
    }
    target
}

/// The length of the mount (with its slash) in the app's own URL space.
#[must_use]
pub fn inner_mount(rules: &AppRules) -> usize {
    if rules.mount.strips() { 1 } else { rules.mount.prefix().len() }
}

/// Writes the Cookie field: the vault's cookies first, then those of the browser that may pass.
fn cookies(context: &ToApp<'_>, fields: &Fields<'_>, head: &mut Head) -> Seen {
    let mut seen = Seen::default();
    let line = cookie::line(fields);
    if line.is_none() && context.rules.session.is_none() {
        return seen;
    }
    if context.rules.releases && context.session.is_none() && !context.own {
        if let Some(line) = &line {
            as_they_come(context, line.as_bytes(), head, &mut seen);
        }
        return seen;
    }
    let mut out = Vec::with_capacity(128 + line.as_ref().map_or(0, |line| line.len()));
    if let Some(session) = context.session {
        from_vault(context, session, head.path(), &mut out);
    }
    if let Some(line) = &line {
        from_browser(context, line.as_bytes(), &mut out, &mut seen);
    }
    if out.is_empty() && context.rules.session.as_ref().is_some_and(|session| session.engine.wants_a_cookie())
    {
        // Without any cookie these engines print ids into the links of the page.
        out.extend_from_slice(b"cookies=on");
    }
    if !out.is_empty() {
        head.put_with("cookie", |text| text.extend_from_slice(&out));
    }
    seen
}

/// The browser holds its cookies itself: they go as they come, but for the proxy's own; those that it renamed under the
/// names that the app gave them.
fn as_they_come(context: &ToApp<'_>, line: &[u8], head: &mut Head, seen: &mut Seen) {
    let ours = |pair: &cookie::Pair<'_>| is_ours(context, pair.name) || hides(context, None, *pair);
    let pairs = || cookie::pairs(line).filter(|pair| !ours(pair));
    for pair in pairs() {
        if let Some(name) = context.rules.own_name(pair.name) {
            seen.renamed.push(Renamed { name: name.into(), value: pair.value.into() });
        }
    }
    let mut out = Vec::with_capacity(line.len());
    let mut met: SmallVec<[&[u8]; 8]> = SmallVec::new();
    for pair in pairs() {
        let own = context.rules.own_name(pair.name);
        let name = own.unwrap_or(pair.name);
        // Below a mount that the app does not see, the first one of a name is its own.
        let again = context.rules.mount.strips() && met.contains(&name);
        if own.is_none() && seen.renamed.iter().any(|renamed| *renamed.name == *name) || again {
            continue;
        }
        met.push(name);
        push(&mut out, name, pair.value);
    }
    if !out.is_empty() {
        head.put_with("cookie", |text| text.extend_from_slice(&out));
    }
}

fn from_vault(context: &ToApp<'_>, session: &AppSession, path: &str, out: &mut Vec<u8>) {
    let held_by_browser = |name: &[u8]| {
        if context.own {
            return false;
        }
        let rules = context.rules.session.as_ref();
        rules.is_some_and(|rules| rules.token_disposition(name) != Disposition::Vault)
    };
    let fits = |cookie_path: &[u8]| {
        if context.rules.mount.is_case_insensitive() {
            return jar::path_match(&cookie_path.to_ascii_lowercase(), path.to_ascii_lowercase().as_bytes());
        }
        // The app decodes the path before it looks at it; a cookie for `/foo` is meant for `/f%6Fo` as well.
        jar::path_match(cookie_path, path.as_bytes())
            || path.contains('%')
                && jar::path_match(
                    cookie_path,
                    &percent_encoding::percent_decode_str(path).collect::<Vec<u8>>(),
                )
    };
    let host = to_client::host_of(context.authority).as_bytes();
    for cookie in session.vault().iter() {
        let token = matches!(cookie.role, Role::Token { .. });
        let due = cookie.carrier == Carrier::Cookie
            && (cookie.expires == 0 || cookie.expires > context.now.secs())
            && (token || !cookie.secure || context.client.https)
            && fits(cookie.path)
            && cookie.is_for(host)
            && !(token && held_by_browser(cookie.name));
        if due {
            push(out, cookie.name, cookie.value);
        }
    }
}

fn from_browser(context: &ToApp<'_>, line: &[u8], out: &mut Vec<u8>, seen: &mut Seen) {
    let Some(rules) = &context.rules.session else {
        for pair in
            cookie::pairs(line).filter(|pair| !is_ours(context, pair.name) && !hides(context, None, *pair))
        {
            push(out, pair.name, pair.value);
        }
        return;
    };
    seen.passed.reserve(line.len());
    let mut doubled: SmallVec<[Role; 2]> = SmallVec::new();
    for pair in cookie::pairs(line) {
        if is_ours(context, pair.name)
            || cookie::is_legacy_attribute(pair.name)
            || hides(context, Some(rules), pair)
        {
            continue;
        }
        let unprefixed = context.rules.unprefixed(pair.name);
        let name = unprefixed.unwrap_or(pair.name);
        match rules.cookie(name) {
            Some(part) => {
                token_cookie(context, rules, &part, (pair.name, name, pair.value), (seen, &mut doubled))
            }
            None => plain_cookie(context, rules, (pair.name, name, pair.value), out, seen),
        }
    }
    // Two cookies of one managed name: one of them was planted. Neither is believed.
    for shown in seen.shown.iter().filter(|shown| doubled.contains(&shown.role)) {
        stray(&mut seen.stray, &shown.name);
    }
    seen.shown.retain(|shown| !doubled.contains(&shown.role));
    let whole: SmallVec<[Role; 4]> =
        seen.shown.iter().filter(|one| is_whole(&seen.shown, one)).map(|one| one.role).collect();
    seen.shown.retain(|shown| whole.contains(&shown.role));
    for shown in &seen.shown {
        push(out, rules.app_spelling(&shown.name, context.rules), &shown.value);
    }
}

/// A cookie of the browser that has a managed name.
fn token_cookie(
    context: &ToApp<'_>,
    rules: &SessionRules,
    part: &super::classify::Managed<'_>,
    (as_sent, name, value): (&[u8], &[u8], &[u8]),
    (seen, doubled): (&mut Seen, &mut SmallVec<[Role; 2]>),
) {
    let renamed = as_sent.len() != name.len();
    let disposition = rules.token_disposition(name);
    // What the vault holds, the browser cannot replace.
    let may_adopt = || {
        let held = context.session.is_some_and(AppSession::has_token);
        context.adopting && !held && !renamed && part.rule.shape.fits(value)
    };
    let goes = match disposition {
        Disposition::Prefix | Disposition::Pass | Disposition::AsIs => {
            renamed == context.rules.renames(disposition) || may_adopt()
        }
        Disposition::Vault => may_adopt(),
        Disposition::Drop => false,
    };
    // Of one that was there before the proxy and the proxy's own, the latter counts.
    let mut goes = goes && is_token_value(value);
    if goes && context.rules.renames(disposition) {
        let other = seen.shown.iter().position(|shown| shown.role == part.role);
        let to_move = |shown: &Shown| shown.is_to_move(context.rules);
        if let Some(at) = other.filter(|at| renamed && seen.shown.get(*at).is_some_and(to_move)) {
            stray(&mut seen.stray, &seen.shown.remove(at).name);
        }
        goes = renamed || !seen.shown.iter().any(|shown| shown.role == part.role && !to_move(shown));
    }
    if !goes {
        stray(&mut seen.stray, as_sent);
        return;
    }
    if seen.shown.iter().any(|shown| shown.role == part.role) {
        doubled.push(part.role);
    }
    seen.shown.push(Shown { role: part.role, parts: part.parts, name: as_sent.into(), value: value.into() });
}

/// A cookie of the browser that is no token.
fn plain_cookie(
    context: &ToApp<'_>,
    rules: &SessionRules,
    (as_sent, name, value): (&[u8], &[u8], &[u8]),
    out: &mut Vec<u8>,
    seen: &mut Seen,
) {
    let vaulted = || {
        context
            .session
            .is_some_and(|session| session.vault().iter().any(|held| cookie::folds_to(name, held.name)))
    };
    let exception = rules.exception(name);
    let renamed = as_sent.len() != name.len();
    if renamed && !context.rules.renames(exception.unwrap_or(Disposition::Pass)) {
        // The app itself chose a name that looks like one of ours.
        plain_cookie(context, rules, (as_sent, as_sent, value), out, seen);
        return;
    }
    let goes = match exception {
        Some(Disposition::Vault | Disposition::Drop) => false,
        Some(Disposition::Prefix) => renamed,
        Some(Disposition::AsIs | Disposition::Pass) | None => !vaulted(),
    };
    if goes {
        if renamed && context.rules.releases {
            seen.renamed.push(Renamed { name: name.into(), value: value.into() });
        }
        push(out, name, value);
        push(&mut seen.passed, as_sent, value);
    }
}

/// True where a server that splits cookies in other places than the standard does would find a name in `pair` that is not
/// the browser's to set: behind a leading `=`, or behind a comma (Rack before 2, RFC 2109).
fn hides(context: &ToApp<'_>, rules: Option<&SessionRules>, pair: cookie::Pair<'_>) -> bool {
    let managed = |piece: &[u8]| {
        let name = piece.split(|&octet| octet == b'=').next().unwrap_or_default();
        is_ours(context, name) || rules.is_some_and(|rules| rules.cookie(name).is_some())
    };
    if pair.name.is_empty() && (pair.value.contains(&b'=') || managed(pair.value)) {
        return true;
    }
    // `a,CFID=1`, `a=1,CFID=2`.
    let behind_comma = |text: &[u8]| {
        memchr::memchr(b',', text).is_some() && text.split(|&octet| octet == b',').skip(1).any(managed)
    };
    behind_comma(pair.name) || behind_comma(pair.value)
}

fn stray(strays: &mut SmallVec<[Box<[u8]>; 2]>, name: &[u8]) {
    if !strays.iter().any(|stray| **stray == *name) {
        strays.push(name.into());
    }
}

/// Cookie octets, with or without a pair of quotes around them (RFC 6265 4.1.1).
pub(super) fn is_token_value(value: &[u8]) -> bool {
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    cookie::valid_value(bare.unwrap_or(value))
}

/// True where all parts of the token that `one` belongs to were shown.
fn is_whole(shown: &[Shown], one: &Shown) -> bool {
    let of = |role: Role| if let Role::Token { token, .. } = role { Some(token) } else { None };
    shown.iter().filter(|other| of(other.role) == of(one.role)).count() == usize::from(one.parts)
}

fn is_ours(context: &ToApp<'_>, name: &[u8]) -> bool {
    context.rules.is_reserved(context.own_cookies, name)
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !out.is_empty() {
        out.extend_from_slice(b"; ");
    }
    if !name.is_empty() {
        out.extend_from_slice(name);
        out.push(b'=');
    }
    out.extend_from_slice(value);
}

impl SessionRules {
    fn app_spelling<'a>(&self, as_sent: &'a [u8], rules: &AppRules) -> &'a [u8] {
        rules.unprefixed(as_sent).unwrap_or(as_sent)
    }
}

/// A Referer tells an app where a link was: without the tokens that may have been in it. What cannot be read cannot be
/// cleaned, and does not go.
fn clean_referer(rules: &AppRules, fields: &Fields<'_>, value: &HeaderValue, head: &mut Head) {
    let Some(session) = &rules.session else { return head.put("referer", value) };
    let Ok(text) = std::str::from_utf8(value.as_bytes()) else { return };
    if fields.referer.is_repeated() {
        return;
    }
    match url::clean_referer(session, rules, text) {
        Some(cleaned) => head.put_with("referer", |out| out.extend_from_slice(cleaned.as_bytes())),
        None => head.put("referer", value),
    }
}

#[cfg(test)]
mod tests;
