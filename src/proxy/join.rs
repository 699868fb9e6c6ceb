//! One browser on two hosts: how the bridge session of one becomes that of the other as well.
//!
//! A token in a link to another host is only a hint. The proxy proves by a round trip that it is the same browser: a nonce
//! cookie here, a redirect to the app's own host, where the browser shows its bridge cookie, and back with a one-time
//! ticket that is good only together with the nonce.
//!
//! Invariants: a ticket sent to somebody else is worth nothing; where the browser goes in the end is what was asked here
//! at the start, never what a URL says; each step is taken once.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::SET_COOKIE;
use http::{HeaderValue, Response};

use super::Proxy;
use super::arrival::Arrived;
use super::error::Error;
use super::inbound::Inbound;
use super::joins::{Back, Join};
use super::reply;
use super::visit::Visit;
use crate::bridge::app_session::AppSession;
use crate::bridge::bridge_cookie;
use crate::bridge::rules::{BridgeRules, SameSite};
use crate::bridge::session::End;
use crate::bridge::share;
use crate::bridge::timeline::What;
use crate::bridge::url;
use crate::net::body::Body;
use crate::random;
use crate::registry::Slot;
use crate::route::{self, Route, RouteMap};
use crate::secret::digest16;
use crate::setting::Setting;
use crate::store::Outage;
use crate::time::Timestamp;
use crate::wire::cookie::pairs;
use crate::wire::query;
use crate::wire::target::split_authority;

/// Bytes of a target that is worth a round trip: they are kept meanwhile.
pub(super) const LONGEST: usize = 2048;

/// The nonce cookie's name.
#[must_use]
pub(super) fn nonce_cookie(bridge: &BridgeRules, https: bool) -> String {
    route::nonce_cookie(bridge.cookie_name(https))
}

impl Proxy {
    /// Begins a round trip to a host of `owner`: the answer to a navigation that carries a token of its app.
    pub(super) async fn join_start(
        &self,
        map: &RouteMap,
        arrived: &Arrived<'_>,
        owner: &Route,
    ) -> Result<Response<Body>, Error> {
        let inbound = arrived.inbound;
        let (id, nonce) = (random::bytes::<16>(), random::bytes::<16>());
        let elsewhere = owner.hosts.first().map_or(String::new(), ToString::to_string);
        let port = split_authority(&inbound.authority).and_then(|(_, port)| port);
        let authority = port.map_or_else(|| elsewhere.clone(), |port| format!("{elsewhere}:{port}"));
        let join = Join {
            id,
            nonce: digest16(&nonce),
            begun: inbound.now.micros(),
            origin: inbound.absolute(""),
            target: without_tokens(arrived),
            elsewhere,
            ticket: None,
        };
        let begun = self.shared.joins.begin(&self.shared.registry, join).await;
        begun.map_err(|Outage| Error::StoreOutage)?;
        let there = format!("{}://{authority}{}/join?id={}", inbound.scheme(), map.bridge.prefix, text(&id));
        let mut response = reply::see_other(&there);
        // Lax always: the way back is a top-level navigation from another host.
        let name = nonce_cookie(&map.bridge, inbound.client.https);
        if let Some(cookie) = bridge_cookie::set(&name, &text(&nonce), inbound.client.https, SameSite::Lax) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// `GET join`: the browser shows its cookie on the app's own host, and is sent back with a ticket.
    pub(super) async fn join_there(
        &self,
        map: &RouteMap,
        inbound: &Inbound<'_>,
        visit: &Visit,
    ) -> Result<Response<Body>, Error> {
        let id = param(inbound, "id").ok_or(Error::NoPage)?;
        let ticket = random::bytes::<16>();
        let slot = visit.slot.as_ref().filter(|_| inbound.navigation);
        let (registry, shown) = (&self.shared.registry, (digest16(&ticket), slot));
        let back = self.shared.joins.show(registry, (id, &inbound.host), shown, inbound.now).await;
        let back = back.map_err(|Outage| Error::StoreOutage)?.ok_or(Error::NoPage)?;
        let (prefix, id, ticket) = (&map.bridge.prefix, text(&id), text(&ticket));
        Ok(reply::see_other(&format!("{back}{prefix}/join/back?id={id}&ticket={ticket}")))
    }

    /// `GET join/back`: with the nonce and the ticket both, the two hosts share one bridge session from here on.
    pub(super) async fn join_back(
        self: &Rc<Self>,
        map: &Rc<Setting>,
        inbound: &Inbound<'_>,
        visit: &mut Visit,
    ) -> Result<Response<Body>, Error> {
        let id = param(inbound, "id").ok_or(Error::NoPage)?;
        let name = nonce_cookie(&map.bridge, inbound.client.https);
        let nonce = nonce_shown(inbound, &name).map(|nonce| digest16(&nonce));
        let ticket = param(inbound, "ticket").map(|ticket| digest16(&ticket));
        let origin = inbound.absolute("");
        let registry = &self.shared.registry;
        let back = self.shared.joins.end(registry, (id, &origin), (nonce, ticket), inbound.now).await;
        let Back { target, slot } = back.map_err(|Outage| Error::StoreOutage)?.ok_or(Error::NoPage)?;
        if let Some(slot) = slot {
            self.become_one(map, &slot, visit, inbound);
        }
        let mut response = reply::see_other(&inbound.absolute(&target));
        if let Some(cookie) = bridge_cookie::delete(&name, inbound.client.https, SameSite::Lax) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// The session of the other host is this browser's here as well; what it had here moves in.
    fn become_one(
        self: &Rc<Self>,
        map: &Rc<Setting>,
        slot: &Arc<Slot>,
        visit: &mut Visit,
        inbound: &Inbound<'_>,
    ) {
        // A session that has ended there meanwhile is no reason to end the one that is here.
        let Some(id) = self.shared.registry.second_id(slot, random::bytes()) else { return };
        if let Some(here) = visit.slot.take().filter(|here| !Arc::ptr_eq(here, slot)) {
            let left = self.shared.registry.end(&here, End::Joined, inbound.now);
            let apps = left.map(|farewell| farewell.apps).unwrap_or_default();
            for app in apps {
                self.take_in(map, slot, app, inbound.now);
            }
            self.shared.registry.put(&here);
        }
        slot.with(|session| session.timeline.note(inbound.now, None, What::Joined));
        visit.gives = Some(id);
        visit.slot = Some(Arc::clone(slot));
        visit.stale = false;
        self.arm(slot, map);
    }

    /// Puts an app session that comes from elsewhere into the session; its group follows it.
    pub(super) fn take_in(&self, map: &RouteMap, slot: &Arc<Slot>, app: AppSession, now: Timestamp) {
        let ix = app.app;
        slot.with(|session| {
            if session.give_app(app)
                && let Some(route) = map.route(ix)
            {
                share::follow(session, &route.rules, now);
            }
        });
        self.own_tokens(map, ix, slot);
        self.shared.registry.save(slot);
    }
}

/// Where the browser goes in the end: without the tokens that sent it round, even where the app would be shown them, or it
/// would be sent round again.
fn without_tokens(arrived: &Arrived<'_>) -> String {
    let target = arrived.clean.to_text();
    let rules = &arrived.route.rules;
    let cut = rules.session.as_ref().and_then(|session| url::clean_referer(session, rules, &target));
    cut.unwrap_or(target)
}

fn text(bytes: &[u8; 16]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn bytes_of(text: &[u8]) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    (text.len() == 22 && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(16)).then_some(bytes)
}

fn param(inbound: &Inbound<'_>, name: &str) -> Option<[u8; 16]> {
    let value = query::params(inbound.query()?).find(|param| param.key == name)?.value?;
    bytes_of(value.as_bytes())
}

fn nonce_shown(inbound: &Inbound<'_>, name: &str) -> Option<[u8; 16]> {
    let line: &HeaderValue = inbound.cookies.as_ref()?;
    let mut shown = pairs(line.as_bytes()).filter(|pair| pair.name == name.as_bytes());
    let (first, another) = (shown.next()?, shown.next());
    if another.is_some() { None } else { bytes_of(first.value) }
}
