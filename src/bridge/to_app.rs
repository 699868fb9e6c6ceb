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

mod browser;

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
            browser::as_they_come(context, line.as_bytes(), head, &mut seen);
        }
        return seen;
    }
    let mut out = Vec::with_capacity(128 + line.as_ref().map_or(0, |line| line.len()));
    if let Some(session) = context.session {
        from_vault(context, session, head.path(), &mut out);
    }
    if let Some(line) = &line {
        browser::from_browser(context, line.as_bytes(), &mut out, &mut seen);
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

/// Cookie octets, with or without a pair of quotes around them (RFC 6265 4.1.1).
pub(super) fn is_token_value(value: &[u8]) -> bool {
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    cookie::valid_value(bare.unwrap_or(value))
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
