//! One probe session: an app session outside of the table, and its requests, by the same translations as everybody's.
//!
//! Invariant: what is kept of an answer is what it did and how it looked, never a value of it, but for the hash-like
//! comparison of the canary inside this folder.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, LOCATION};
use http::{HeaderMap, HeaderValue, Method};

use super::Prober;
use crate::bridge::app_session::{AppSession, Learned, Public};
use crate::bridge::to_client::{self, SetCookies, ToClient};
use crate::bridge::traits::ClientTraits;
use crate::bridge::vault::Role;
use crate::net::client::Answer;
use crate::own::{self, Ask, Person, Prepared};
use crate::ping::reading;
use crate::route::Route;
use crate::sign_out::Outcome;
use crate::time::Timestamp;
use crate::wire::page::Page;
use crate::wire::set_cookie::{Lifetime, SetCookie};
use crate::wire::target::split_authority;

/// How a probe introduces itself.
const AGENT: &str = concat!("sessionbridge-probe/", env!("CARGO_PKG_VERSION"));
/// How long an app may take over its first page: engines compile it then.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// Redirects that are followed when a session is opened.
const REDIRECTS: usize = 3;

/// Characters of a cookie's name that are told.
const LONGEST_NAME: usize = 64;

/// There was no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silent;

/// A visitor with a session of its own.
pub(super) struct Visitor<'a> {
    prober: &'a Prober,
    route: &'a Route,
    session: AppSession,
    /// Cookies that a browser would keep, by name.
    passed: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The page that gave it its session, behind what redirects there were.
    pub(super) at: String,
    /// The status of that page, as the session's owner gets it.
    pub(super) opened: u16,
    /// Every cookie that it was given.
    pub(super) cookies: Vec<Given>,
    /// The canary that it saw last.
    pub(super) canary: Option<Vec<u8>>,
    /// When the app was last asked with this session: after the first point and before the second.
    pub(super) used: (Timestamp, Timestamp),
}

/// A cookie that an app set, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Its name, as far as it is text.
    pub(super) name: String,
    /// As long as the browser is open.
    pub(super) for_session: bool,
    /// No script may read it.
    pub(super) http_only: bool,
    /// Bytes of its value.
    pub(super) length: usize,
    /// The engines (by their places in the list of presets) one of whose tokens it could be.
    pub(super) fits: Vec<(usize, Role)>,
}

/// Parts of tokens and their values.
type Tokens = Vec<(Role, Vec<u8>)>;

/// What is known of an answer.
pub(super) struct Heard {
    pub(super) status: u16,
    /// What its cookies did to the session.
    pub(super) learned: Learned,
    /// The values of token parts that it set.
    pub(super) tokens: Tokens,
    /// It has the text that `alive.contains` asks for; `None`: there is no body to look at.
    pub(super) contains: Option<bool>,
    pub(super) canary: Option<Vec<u8>>,
    /// It asks for a password.
    pub(super) password: bool,
    /// It redirects.
    pub(super) redirect: Option<Redirect>,
}

/// Where an answer leads.
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    /// The public path and query; `None`: out of the app.
    pub(super) to: Option<String>,
    /// One of `sign_out.login`, or a path that says so.
    pub(super) sign_in: bool,
}

impl Heard {
    /// As the answer to a HEAD.
    pub(super) fn without_body(self) -> Self {
        Self { contains: None, ..self }
    }

    /// True where the app, or what stands before it, cannot answer now: that says nothing about any session.
    pub(super) const fn is_down(&self) -> bool {
        is_down(self.status)
    }

    /// True where the deciding token has another value now, or is gone.
    pub(super) const fn replaced(&self) -> bool {
        self.learned.changed || self.learned.gone
    }
}

impl<'a> Visitor<'a> {
    pub(super) fn new(prober: &'a Prober, route: &'a Route) -> Self {
        let now = prober.clock.now();
        let mut session = AppSession::new(route.rules.app, now);
        let upstream =
            || prober.setting.balancer.stay(route, None).map(|chosen| chosen.upstream.authority.to_string());
        let host = route.hosts.first().map(ToString::to_string);
        if let Some(authority) = host.or_else(upstream).filter(|_| prober.https || !route.hosts.is_empty()) {
            session.public = Some(Arc::new(Public { authority: authority.into(), https: prober.https }));
        }
        let (passed, cookies) = (BTreeMap::new(), Vec::new());
        let (at, opened, canary, used) = (String::new(), 0, None, (now, now));
        Self { prober, route, session, passed, at, opened, cookies, canary, used }
    }

    pub(super) fn has_token(&self) -> bool {
        self.session.has_token()
    }

    pub(super) const fn session(&self) -> &AppSession {
        &self.session
    }

    /// A stranger with these `cookies` as its token.
    pub(super) fn with_token<'c>(
        mut self,
        cookies: impl Iterator<Item = crate::bridge::vault::Cookie<'c>>,
        like: &Self,
    ) -> Self {
        self.go_beside(like);
        self.session.adopt(cookies, self.prober.clock.now());
        self
    }

    /// Asks the server from now on that `other` asks: each has the sessions in its own memory.
    pub(super) const fn go_beside(&mut self, other: &Self) {
        self.session.upstream = other.session.upstream;
    }

    /// Asks for `target` without a session and, where that gives one, once more with it, so that it is an ordinary one:
    /// some apps give those who show no cookie two seconds only. Tells what the first answer was.
    pub(super) async fn open(&mut self, target: &str) -> Result<Heard, Silent> {
        let first = self.get(target).await?;
        self.opened = first.status;
        let (mut at, mut next) = (target.to_owned(), first.redirect.clone());
        for _ in 0..REDIRECTS {
            let Some(to) = next.take().and_then(|redirect| redirect.to).filter(|_| !self.has_token()) else {
                break;
            };
            let heard = self.get(&to).await?;
            (self.opened, next, at) = (heard.status, heard.redirect, to);
        }
        if self.has_token() {
            self.opened = self.get(&at).await?.status;
        }
        self.at = at;
        Ok(first)
    }

    /// GETs `target`.
    pub(super) async fn get(&mut self, target: &str) -> Result<Heard, Silent> {
        self.ask(&Ask { method: &Method::GET, target, heartbeat: false }, PATIENCE).await
    }

    /// Sends what a heartbeat would be.
    pub(super) async fn beat(&mut self) -> Result<Heard, Silent> {
        let Some(rules) = &self.route.rules.beat else { return Err(Silent) };
        let ask = Ask { method: &rules.method, target: &rules.path, heartbeat: true };
        self.ask(&ask, rules.timeout.max(PATIENCE)).await
    }

    /// Sends `ask` and learns from the answer.
    pub(super) async fn ask(&mut self, ask: &Ask<'_>, patience: Duration) -> Result<Heard, Silent> {
        let _turn = self.prober.turns.acquire().await.map_err(|_| Silent)?;
        let before = self.prober.clock.now();
        let prepared = self.prepare(ask, before).ok_or(Silent)?;
        let sending = own::send(&self.prober.client, &prepared, patience);
        let Answer { parts, body, .. } = sending.await.map_err(|_| Silent)?;
        let encoding = parts.headers.get(CONTENT_ENCODING);
        let reading = reading::read(body, encoding, reading::LIMIT);
        let text =
            tokio::time::timeout(patience, reading).await.map_or_else(|_| Vec::new(), |read| read.text);
        let after = self.prober.clock.now();
        self.session.upstream = Some(prepared.chosen.number());
        self.used = (before, after);
        Ok(self.learn(ask, &prepared, (parts.status.as_u16(), parts.headers), &text))
    }

    /// Carries out the app's sign-out; `None` where it has none. The session here stays as it is.
    pub(super) async fn sign_out(&self) -> Option<Outcome> {
        let _turn = self.prober.turns.acquire().await.ok()?;
        let (traits, passed) = (traits(), self.passed());
        let person = self.person(&traits, &passed);
        self.prober.sign_out.run(&self.prober.setting, self.route, &person).await.map(|ran| ran.outcome)
    }

    fn prepare(&self, ask: &Ask<'_>, now: Timestamp) -> Option<Prepared> {
        let (traits, passed) = (traits(), self.passed());
        own::prepare(self.route, &self.prober.setting.balancer, &self.person(&traits, &passed), ask, now)
    }

    const fn person<'p>(&'p self, traits: &'p ClientTraits, passed: &'p [u8]) -> Person<'p> {
        let address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Person { traits: Some(traits), address, passed, app: &self.session }
    }

    /// The cookies that it holds as a browser would.
    fn passed(&self) -> Vec<u8> {
        let pairs =
            self.passed.iter().map(|(name, value)| [name.as_slice(), b"=", value.as_slice()].concat());
        pairs.collect::<Vec<_>>().join(&b"; "[..])
    }

    fn learn(
        &mut self,
        ask: &Ask<'_>,
        prepared: &Prepared,
        (status, mut headers): (u16, HeaderMap),
        text: &[u8],
    ) -> Heard {
        let sent = self.session.sent(self.used.0, !ask.method.is_safe());
        let mut fields = to_client::take_set_cookies(&mut headers);
        to_client::drop_own(&self.route.rules, &mut fields, self.prober.setting.own_cookies());
        let upstream = prepared.chosen.upstream.authority.to_string();
        let (public, vault) = (self.session.public.clone(), self.session.vault().clone());
        let authority = public.as_deref().map_or(upstream.as_str(), |public| &public.authority);
        let context = ToClient {
            rules: &self.route.rules,
            vault: Some(&vault),
            app_path: prepared.head.path(),
            app_host: split_authority(authority).map_or(authority, |(host, _)| host),
            app_authority: &upstream,
            public_authority: authority,
            https: self.prober.https,
            now: self.used.1,
        };
        let raw = headers.get(LOCATION).cloned();
        let riding = to_client::map_urls(&context, &mut headers);
        let mut from_app = to_client::read(&context, &fields, &[]);
        if let Some(edit) = riding.as_ref().and_then(|token| to_client::path_edit(&context, token)) {
            from_app.edits.push(edit);
        }
        let learned = self.session.learn(sent, &from_app.edits, self.used.1);
        let tokens = from_app.edits.iter().filter(|edit| matches!(edit.role, Role::Token { .. }));
        let tokens = tokens.filter_map(|edit| edit.value.map(|value| (edit.role, value.to_vec()))).collect();
        let relayed = from_app.relayed;
        self.keep(&fields, &relayed);
        let redirect = (300..400).contains(&status).then_some(raw).flatten().map(|_| {
            let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            redirect(self.route, authority, ask.target, location)
        });
        self.heard((status, &headers), text, (learned, tokens, redirect))
    }

    fn heard(
        &mut self,
        (status, headers): (u16, &HeaderMap),
        text: &[u8],
        (learned, tokens, redirect): (Learned, Tokens, Option<Redirect>),
    ) -> Heard {
        let beat = self.route.rules.beat.as_ref();
        let rule = beat.and_then(|beat| beat.canary.as_ref());
        let canary = rule.and_then(|rule| reading::canary(rule, headers, text));
        Heard {
            status,
            learned,
            tokens,
            contains: beat.map(|beat| reading::contains(&beat.alive.contains, text)),
            canary,
            password: Page::read(text).forms.iter().any(crate::wire::page::Form::asks_for_password),
            redirect,
        }
    }

    /// Keeps what a browser would: notes of all cookies, and those that passed.
    fn keep(&mut self, fields: &SetCookies, relayed: &SetCookies) {
        let now = i64::try_from(self.used.1.secs()).unwrap_or(i64::MAX);
        for set in fields.iter().filter_map(|field| SetCookie::parse(field.as_bytes())) {
            let given = given(&set, now, &self.prober.presets);
            if set.lifetime(now) != Lifetime::Delete && !self.cookies.iter().any(|own| own.name == given.name)
            {
                self.cookies.push(given);
            }
        }
        for set in relayed.iter().filter_map(|field| SetCookie::parse(field.as_bytes())) {
            if set.lifetime(now) == Lifetime::Delete {
                self.passed.remove(set.name());
            } else if self.route.rules.session.as_ref().is_none_or(|own| own.cookie(set.name()).is_none()) {
                self.passed.insert(set.name().to_vec(), set.value().to_vec());
            }
        }
    }
}

/// True for the statuses of who cannot answer now, or will not because it is asked too often.
pub(super) const fn is_down(status: u16) -> bool {
    matches!(status, 429 | 500..)
}

fn traits() -> ClientTraits {
    ClientTraits {
        user_agent: Some(HeaderValue::from_static(AGENT)),
        accept: Some(HeaderValue::from_static("text/html,*/*;q=0.8")),
        ..ClientTraits::default()
    }
}

/// A name that an app chose, for a log and a terminal: none of its characters is a command to either.
fn shown(name: &[u8]) -> String {
    let plain = |char: char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char };
    String::from_utf8_lossy(name).chars().take(LONGEST_NAME).map(plain).collect()
}

fn given(set: &SetCookie<'_>, now: i64, presets: &[super::Preset]) -> Given {
    // `JSESSIONID` is a servlet container's, `jsessionID` BoxLang's: letter case counts where an engine spells it just so.
    let exact = presets.iter().any(|preset| preset.part(set.name()).is_some_and(|own| own.exact));
    let fits = presets.iter().enumerate().filter_map(|(at, preset)| {
        let own = preset.part(set.name())?;
        (own.shape.fits(set.value()) && (own.exact || !exact)).then_some((at, own.role))
    });
    Given {
        name: shown(set.name()),
        for_session: set.lifetime(now) == Lifetime::Session,
        http_only: set.http_only(),
        length: set.value().len(),
        fits: fits.collect(),
    }
}

/// Where `location`, already in the public URL space and without tokens, leads from `target`.
fn redirect(route: &Route, authority: &str, target: &str, location: &str) -> Redirect {
    let to = Page::default().resolve(authority, target, location);
    let (path, query) = to.as_deref().map_or((location, None), |to| {
        to.split_once('?').map_or((to, None), |(path, query)| (path, Some(query)))
    });
    let named = route.rules.sign_out.login.iter().any(|login| login.matches(&Method::GET, path, query));
    let inside = route.rules.mount.contains(path);
    Redirect { sign_in: named || says_sign_in(path), to: to.clone().filter(|_| inside) }
}

/// True where a path has a word in it that sign-in pages have.
fn says_sign_in(path: &str) -> bool {
    const WORDS: [&str; 5] = ["login", "logon", "signin", "sign-in", "sign_in"];
    let path = path.to_ascii_lowercase();
    WORDS.iter().any(|word| path.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookies_name_commands_no_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\x7f\xc2\x9bc"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
        assert_eq!(shown(&[b'x'; 100]).len(), LONGEST_NAME);
    }
}
