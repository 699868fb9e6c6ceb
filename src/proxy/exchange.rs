//! The way of a request to its app and back: both translations, and what the answer does to the session.
//!
//! Invariant: what an answer acknowledges is in the table before its first byte leaves.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONNECTION, COOKIE, SET_COOKIE, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

use super::Proxy;
use super::error::Error;
use super::inbound::Inbound;
use super::join;
use super::note::{Note, TokenCame};
use super::stream::InFlight;
use super::visit::{Known, Visit};
use crate::balance::Chosen;
use crate::bridge::activity::Standing;
use crate::bridge::answer::{self, Answer as Said, Effect};
use crate::bridge::app_session::{AppSession, Sent};
use crate::bridge::bridge_cookie;
use crate::bridge::janitor;
use crate::bridge::rules::{AppIx, Disposition};
use crate::bridge::session::Session;
use crate::bridge::sign_out::Asked;
use crate::bridge::timeline::What;
use crate::bridge::to_app::{self, AppHead, Seen, ToApp};
use crate::bridge::to_client::{self, FromApp, PathToken, SetCookies, ToClient};
use crate::bridge::url::Clean;
use crate::net::body::Body;
use crate::net::client::{Answer, AppRequest, Deadlines};
use crate::own;
use crate::registry::Slot;
use crate::registry::agenda::Watch;
use crate::route::{Route, RouteMap};
use crate::wire::target::split_authority;

/// A request that is to go to an app.
pub(super) struct Exchange<'a> {
    pub(super) map: &'a Rc<RouteMap>,
    pub(super) route: &'a Route,
    pub(super) inbound: &'a Inbound,
    pub(super) clean: &'a Clean<'a>,
    pub(super) known: Known,
    pub(super) standing: Standing,
    /// True where a form is posted.
    pub(super) form: bool,
    /// The Upgrade field, where the browser asks for one.
    pub(super) upgrade: Option<HeaderValue>,
}

/// A request on its way.
pub(super) struct Departed {
    pub(super) head: AppHead,
    pub(super) seen: Seen,
    pub(super) sent: Sent,
    pub(super) chosen: Chosen,
    pub(super) in_flight: Option<InFlight>,
    adopting: bool,
}

/// An answer that has been read.
pub(super) struct Returned {
    pub(super) effect: Effect,
    /// Set-Cookie fields for the browser.
    pub(super) fields: Vec<HeaderValue>,
    /// After a sign-out: what its own answer set anew.
    pub(super) fresh: Option<AppSession>,
}

impl Exchange<'_> {
    fn app(&self) -> AppIx {
        self.route.rules.app
    }

    fn asked(&self) -> Asked<'_> {
        Asked { method: &self.inbound.method, path: &self.inbound.normal, query: self.inbound.query() }
    }

    /// Translates the head, in the name of the session; the person's clocks move here.
    pub(super) fn depart(&self, proxy: &Proxy, visit: &Visit, headers: HeaderMap, note: &mut Note) -> Result<Departed, Error> {
        let slot = visit.slot.as_ref().filter(|_| !self.standing.skip_session);
        let departed = match slot {
            Some(slot) => slot.with(|session| self.depart_as(proxy, slot, session, headers)),
            None => self.translate(proxy, None, headers, self.may_adopt(proxy, None)),
        }?;
        let departed = self.check_shown(proxy, slot, departed)?;
        note.upstream = Some(usize::from(departed.chosen.place));
        note.activity = self.standing.activity && slot.is_some();
        if note.token == TokenCame::None {
            note.token = match (departed.sent.generation, departed.seen.shown.is_empty()) {
                (_, false) => TokenCame::Browser,
                (0, true) => TokenCame::None,
                _ => TokenCame::Vault,
            };
        }
        Ok(departed)
    }

    /// Under the session's lock: who the person is now, and what she sends.
    fn depart_as(
        &self,
        proxy: &Proxy,
        slot: &Arc<Slot>,
        session: &mut Session,
        headers: HeaderMap,
    ) -> Result<Departed, Error> {
        let now = self.inbound.now;
        session.touch(self.app(), self.standing.activity, now);
        if !session.traits.as_ref().is_some_and(|traits| traits.match_headers(&headers)) {
            session.traits = Some(Arc::clone(&self.known.traits));
        }
        session.address = Some(self.inbound.address());
        if self.standing.activity && session.cadence.observe(path_hash(&self.inbound.normal), now) {
            session.timeline.note(now, Some(self.app()), What::SteadyBeat);
            proxy.shard.steady_beat(self.app().index());
            tracing::info!(app = %self.route.rules.name, "requests at a steady beat look like a clock's; if no person makes \
                them, a [[rules]] entry with activity = \"ignore\" says so");
        }
        let signs_in_adopted = self.inbound.method == Method::POST && self.signs_in();
        if let Some(app) = session.app_mut(self.app()) {
            app.public = Some(proxy.interned.borrow_mut().public(self.inbound));
            if app.adopted && signs_in_adopted {
                // Whoever knew the adopted token would ride along on the sign-in: the app is made to give a fresh one.
                app.drop_token();
                app.adopted = false;
            }
        }
        let adopting = self.may_adopt(proxy, session.app(self.app()));
        let mut departed = self.translate(proxy, session.app(self.app()), headers, adopting)?;
        session.passed.browser_sent(self.app(), &departed.seen.passed);
        if let Some(app) = session.app_mut(self.app()) {
            app.upstream = Some(departed.chosen.place);
            if self.upgrade.is_none() {
                app.request_began(now);
                departed.in_flight = Some(InFlight::new(Arc::clone(slot), self.app(), proxy.shared.clock));
            }
        }
        Ok(departed)
    }

    fn signs_in(&self) -> bool {
        let rules = &self.route.rules.sign_out;
        if rules.login.is_empty() { self.form } else { self.asked().signs_in(rules) }
    }

    fn translate(
        &self,
        proxy: &Proxy,
        session: Option<&AppSession>,
        headers: HeaderMap,
        adopting: bool,
    ) -> Result<Departed, Error> {
        let chosen = proxy.shared.balancer.choose(self.route, session.and_then(|app| app.upstream));
        let chosen = chosen.ok_or(Error::NoUpstream)?;
        let (inbound, now) = (self.inbound, self.inbound.now);
        let host = own::host_header(self.route, &chosen.upstream, &inbound.authority).ok_or(Error::NoUpstream)?;
        let (ours, nonce) = (self.map.bridge.cookie_name(inbound.client.https), join::nonce_cookie(&self.map.bridge, inbound.client.https));
        let context = ToApp {
            rules: &self.route.rules,
            session,
            client: &inbound.client,
            authority: &inbound.authority,
            host: &host,
            own: false,
            own_cookies: &[ours, &self.map.bridge.cookie, &nonce],
            adopting,
            now,
        };
        let (mut head, seen) = to_app::translate(&context, inbound.method.clone(), self.clean, headers);
        if let Some(upgrade) = &self.upgrade {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, upgrade.clone());
        }
        let unsafe_method = !inbound.is_safe();
        let nothing = Sent { generation: 0, revision: 0, started: now, unsafe_method };
        let sent = session.map_or(nothing, |session| session.sent(now, unsafe_method));
        Ok(Departed { head, seen, sent, chosen, in_flight: None, adopting })
    }

    /// True within the window of `adopt_cookies`, for a browser that has no session with the app here.
    fn may_adopt(&self, proxy: &Proxy, session: Option<&AppSession>) -> bool {
        self.map.bridge.adopt_cookies.is_some_and(|window| {
            self.inbound.now.since(proxy.shared.since) < window
                && !session.is_some_and(AppSession::has_token)
                && proxy.shared.adoptions.allows(self.inbound.address(), self.inbound.now)
        })
    }

    /// A token that the browser shows and that is bound to another bridge session goes nowhere.
    fn check_shown(&self, proxy: &Proxy, slot: Option<&Arc<Slot>>, mut departed: Departed) -> Result<Departed, Error> {
        if !departed.adopting || departed.seen.shown.is_empty() {
            return Ok(departed);
        }
        let owner = proxy.shared.registry.owner(self.app(), departed.seen.shown.iter().map(|part| &*part.value));
        if owner.is_some_and(|owner| !slot.is_some_and(|slot| Arc::ptr_eq(slot, &owner))) {
            proxy.shared.adoptions.count(self.inbound.address(), self.inbound.now);
            let shown = std::mem::take(&mut departed.seen.shown);
            departed.seen.stray.extend(shown.into_iter().map(|part| part.name));
            let rest = String::from_utf8_lossy(&departed.seen.passed).into_owned();
            departed.head.headers.remove(COOKIE);
            if let Ok(line) = HeaderValue::from_str(&rest)
                && !rest.is_empty()
            {
                departed.head.headers.insert(COOKIE, line);
            }
        }
        Ok(departed)
    }

    /// The same request once more, with what the session holds now: its first answer was overtaken, or its token was dead.
    pub(super) fn again(&self, proxy: &Proxy, visit: &Visit, departed: Departed) -> Result<Departed, Error> {
        let mut headers = departed.head.headers;
        headers.remove(COOKIE);
        if let Some(line) = &self.inbound.cookies {
            headers.insert(COOKIE, line.clone());
        }
        let mut next = match &visit.slot {
            Some(slot) => slot.with(|session| self.translate(proxy, session.app(self.app()), headers, false)),
            None => self.translate(proxy, None, headers, false),
        }?;
        next.in_flight = departed.in_flight;
        Ok(next)
    }

    /// Sends it and waits for the head of the answer. A GET that met a connection which the app was just closing is sent
    /// once more.
    pub(super) async fn send(&self, proxy: &Proxy, departed: &Departed, body: Body) -> Result<Answer, Error> {
        use crate::net::client::SendError;
        let target = PathAndQuery::try_from(departed.head.target.as_str()).map_err(|_| Error::UriTooLong)?;
        let head = AppRequest { method: &departed.head.method, target: &target, headers: &departed.head.headers };
        let timeouts = &proxy.shared.options.timeouts;
        let deadlines = Deadlines { connect: timeouts.connect, first_byte: timeouts.first_byte };
        let empty = http_body::Body::is_end_stream(&body);
        match proxy.client.send(&departed.chosen.upstream, head, body, &deadlines).await {
            Err(SendError::Reset { reused: true, .. }) if empty && self.inbound.method.is_idempotent() => {
                Ok(proxy.client.send(&departed.chosen.upstream, head, Body::empty(), &deadlines).await?)
            }
            sent => Ok(sent?),
        }
    }

    /// Reads the head of an answer: its cookies go where they belong, its URLs are mapped, the session learns.
    pub(super) fn back(
        &self,
        proxy: &Rc<Proxy>,
        visit: &mut Visit,
        departed: &Departed,
        answer: &mut http::response::Parts,
    ) -> Result<Returned, Error> {
        let now = proxy.now();
        crate::wire::hop::strip_response(&mut answer.headers);
        let taken = to_client::take_set_cookies(&mut answer.headers);
        let authority = own::authority_of(&departed.chosen.upstream);
        let host = departed.head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let context = ToClient {
            rules: &self.route.rules,
            vault: None,
            app_path: departed.head.target.split('?').next().unwrap_or("/"),
            app_host: split_authority(host).map_or(host, |(host, _)| host),
            app_authority: &authority,
            public_authority: &self.inbound.authority,
            https: self.inbound.client.https,
            now,
        };
        let riding = to_client::map_urls(&context, &mut answer.headers);
        let status = answer.status.as_u16();
        let said = Heard { taken: &taken, riding: riding.as_ref(), context: &context, status };
        let slot = visit.slot.clone().filter(|_| !self.standing.skip_session);
        let mut returned = match slot {
            Some(slot) => self.learn(&slot, departed, &said, now),
            None => self.learn_first(proxy, visit, departed, &said)?,
        };
        self.follow(proxy, visit, departed, &mut returned)?;
        Ok(returned)
    }

    /// The answer of a request that has a session.
    fn learn(&self, slot: &Slot, departed: &Departed, heard: &Heard<'_>, now: crate::time::Timestamp) -> Returned {
        slot.with(|session| {
            let vault = session.app(self.app()).map(|app| app.vault().clone());
            let from_app = heard.read(vault.as_ref(), departed);
            let effect = answer::apply(session, &self.route.rules, &self.said(&from_app, departed, heard.status, now));
            if session.has_ended() {
                // A sign-out has overtaken this answer: what it sets is lost, in the browser too.
                return Returned { effect, fields: Vec::new(), fresh: None };
            }
            let fresh = effect.signed_out.and_then(|_| self.fresh(&from_app, vault.as_ref(), departed, now));
            let mut fields: Vec<HeaderValue> = from_app.relayed.into_iter().collect();
            for (cookie, deleted) in from_app.http_only {
                session.passed.http_only(cookie, deleted);
            }
            fields.extend(session.passed.take_waiting(self.app()));
            Returned { effect, fields, fresh }
        })
    }

    /// The answer of a request without one: a bridge session is made where the app gives something to remember.
    fn learn_first(
        &self,
        proxy: &Proxy,
        visit: &mut Visit,
        departed: &Departed,
        heard: &Heard<'_>,
    ) -> Result<Returned, Error> {
        let from_app = heard.read(None, departed);
        let brings = from_app.edits.iter().any(|edit| edit.value.is_some()) && heard.status < 500;
        if !brings || visit.kept_away || self.standing.skip_session || visit.slot.is_some() {
            let fields = from_app.relayed.into_iter().collect();
            return Ok(Returned { effect: Effect::default(), fields, fresh: None });
        }
        let slot = proxy.found(self.inbound, visit, &self.known)?;
        let returned = self.learn(&slot, departed, heard, proxy.now());
        slot.with(|session| {
            session.passed.browser_sent(self.app(), &departed.seen.passed);
            session.touch(self.app(), self.standing.activity, self.inbound.now);
            if let Some(app) = session.app_mut(self.app()) {
                app.public = Some(proxy.interned.borrow_mut().public(self.inbound));
                app.upstream = Some(departed.chosen.place);
            }
        });
        Ok(returned)
    }

    /// The app session that the answer to a sign-out begins, if it sets anything that is not the old one's.
    fn fresh(
        &self,
        from_app: &FromApp<'_>,
        old: Option<&crate::bridge::vault::Vault>,
        departed: &Departed,
        now: crate::time::Timestamp,
    ) -> Option<AppSession> {
        let edits: Vec<_> = answer::fresh(&from_app.edits, old?).collect();
        let mut fresh = AppSession::new(self.app(), now);
        fresh.learn(Sent { generation: 0, ..departed.sent }, &edits, now);
        (!fresh.vault().is_empty()).then(|| {
            fresh.public = Some(Arc::new(crate::bridge::app_session::Public {
                authority: self.inbound.authority.as_str().into(),
                https: self.inbound.client.https,
            }));
            fresh.upstream = Some(departed.chosen.place);
            fresh
        })
    }

    fn said<'e>(
        &'e self,
        from_app: &'e FromApp<'_>,
        departed: &Departed,
        status: u16,
        now: crate::time::Timestamp,
    ) -> Said<'e> {
        Said { sent: departed.sent, status, edits: &from_app.edits, asked: self.asked(), form: self.form, now }
    }

    /// What follows from an answer outside the session itself.
    fn follow(&self, proxy: &Proxy, visit: &mut Visit, departed: &Departed, returned: &mut Returned) -> Result<(), Error> {
        let effect = &returned.effect;
        let Some(slot) = visit.slot.clone() else {
            returned.fields.extend(self.janitor(proxy, departed, false));
            return Ok(());
        };
        if effect.learned.first || effect.learned.changed {
            proxy.own_tokens(self.map, self.app(), &slot);
        }
        if effect.arm {
            proxy.agenda.put(&slot, Watch::Beat(self.app()));
        }
        let adopted = departed.adopting && effect.learned.first && !departed.seen.shown.is_empty();
        if adopted {
            slot.with(|session| session.timeline.note(self.inbound.now, Some(self.app()), What::AdoptedCookie));
        }
        if (effect.renew || adopted) && visit.gives.is_none() {
            proxy.renew(&slot, visit, self.inbound);
        }
        returned.fields.extend(self.janitor(proxy, departed, adopted));
        Ok(())
    }

    /// Expires token cookies that the browser should not have, but for those that another app keeps there under that name.
    fn janitor(&self, proxy: &Proxy, departed: &Departed, adopted: bool) -> Vec<HeaderValue> {
        let seen = &departed.seen;
        if seen.stray.is_empty() && !adopted {
            return Vec::new();
        }
        let shown = seen.shown.iter().filter(|_| adopted).map(|part| &part.name);
        let names = seen.stray.iter().chain(shown).map(|name| &**name).filter(|name| !self.held_elsewhere(name));
        let fields = janitor::deletions(&self.route.rules, &self.inbound.host, self.inbound.client.https, names);
        proxy.shard.cookies_janitored(u64::from(!fields.is_empty()));
        fields
    }

    fn held_elsewhere(&self, name: &[u8]) -> bool {
        let others = self.map.routes().iter().filter(|other| other.rules.app != self.app());
        let mut rules = others.filter_map(|other| other.rules.session.as_ref());
        rules.any(|rules| {
            rules.cookie(name).is_some()
                && matches!(rules.token_disposition(name), Disposition::Pass | Disposition::AsIs)
        })
    }

    /// Puts the Set-Cookie fields into the answer: the app's, the janitor's, the proxy's own.
    pub(super) fn finish(&self, visit: &Visit, headers: &mut HeaderMap, fields: Vec<HeaderValue>) {
        for field in fields {
            headers.append(SET_COOKIE, field);
        }
        give(self.map, self.inbound, visit, headers);
    }
}

/// Sets, or deletes, the bridge cookie in an answer. Such an answer is nobody else's: no shared cache may keep it.
pub(super) fn give(map: &RouteMap, inbound: &Inbound, visit: &Visit, headers: &mut HeaderMap) {
    let (https, same_site) = (inbound.client.https, map.bridge.same_site);
    let name = map.bridge.cookie_name(https);
    let field = match &visit.gives {
        Some(id) => bridge_cookie::set(name, &id.encode(), https, same_site),
        None if visit.stale => bridge_cookie::delete(name, https, same_site),
        None => return,
    };
    let Some(field) = field else { return };
    headers.append(SET_COOKIE, field);
    let private = headers.get(CACHE_CONTROL).is_some_and(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        [&b"private"[..], b"no-store"].iter().any(|word| value.windows(word.len()).any(|window| window == *word))
    });
    if !private {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
}

/// The head of an answer, as far as the session goes.
struct Heard<'a> {
    taken: &'a SetCookies,
    riding: Option<&'a PathToken>,
    context: &'a ToClient<'a>,
    status: u16,
}

impl<'a> Heard<'a> {
    fn read<'v>(&self, vault: Option<&'v crate::bridge::vault::Vault>, departed: &'v Departed) -> FromApp<'v>
    where
        'a: 'v,
    {
        let context = ToClient { vault, ..*self.context };
        let shown = if self.status < 500 { &departed.seen.shown[..] } else { &[] };
        let mut from_app = to_client::read(&context, self.taken, shown);
        if let Some(edit) = self.riding.and_then(|token| to_client::path_edit(&context, token)) {
            from_app.edits.push(edit);
        }
        from_app
    }
}

impl Proxy {
    /// Remembers whose the tokens of the session are, for the apps whose tokens may be taken over.
    pub(super) fn own_tokens(&self, map: &RouteMap, app: AppIx, slot: &Arc<Slot>) {
        if !map.takes_over(app) {
            return;
        }
        let values: Vec<Box<[u8]>> = slot.with(|session| {
            let Some(app) = session.app(app) else { return Vec::new() };
            let Some(deciding) = app.deciding() else { return Vec::new() };
            let of = |part: u8| app.vault().part(deciding, part).map(|cookie| Box::from(cookie.value));
            (0..u8::MAX).map_while(of).collect()
        });
        if !values.is_empty() {
            self.shared.registry.own_token(app, values.iter().map(|value| &**value), slot);
        }
    }
}

fn path_hash(path: &str) -> u32 {
    use std::hash::BuildHasher as _;
    let hash = foldhash::fast::FixedState::default().hash_one(path);
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
}
