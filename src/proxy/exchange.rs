//! A request on its way to an app: translated in the name of the session, sent, sent once more where it must be.
//!
//! Invariant: the person's clocks move here, and nowhere later.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use super::Proxy;
use super::error::Error;
use super::handler::X_REQUEST_ID;
use super::inbound::Inbound;
use super::note::{Note, TokenCame};
use super::release::Released;
use super::stream::InFlight;
use super::visit::Visit;
use crate::balance::Chosen;
use crate::balance::fault::Fault;
use crate::bridge::activity::Standing;
use crate::bridge::app_session::{AppSession, Sent};
use crate::bridge::moved;
use crate::bridge::release::HandedBack;
use crate::bridge::rules::AppIx;
use crate::bridge::session::Session;
use crate::bridge::share;
use crate::bridge::sign_out::Asked;
use crate::bridge::timeline::What;
use crate::bridge::to_app::{self, Seen, ToApp};
use crate::bridge::url::Clean;
use crate::net::body::Body;
use crate::net::client::{Answer, Deadlines, SendError};
use crate::own;
use crate::registry::Slot;
use crate::route::Route;
use crate::setting::Setting;
use crate::telemetry::labels::SessionEvent;
use crate::time::Timestamp;
use crate::wire::request::Head;

/// A request that is to go to an app.
pub(super) struct Exchange<'a> {
    pub(super) map: &'a Rc<Setting>,
    pub(super) route: &'a Route,
    pub(super) inbound: &'a Inbound<'a>,
    pub(super) clean: &'a Clean<'a>,
    pub(super) standing: Standing,
    /// True where a form is posted.
    pub(super) form: bool,
    /// The Upgrade field, where the browser asks for one.
    pub(super) upgrade: Option<HeaderValue>,
}

/// A request on its way.
pub(super) struct Departed {
    pub(super) head: Head,
    pub(super) seen: Seen,
    pub(super) sent: Sent,
    /// When the app session began that it is sent for.
    pub(super) begun: Option<Timestamp>,
    pub(super) chosen: Chosen,
    pub(super) in_flight: Option<InFlight>,
    pub(super) adopting: bool,
    /// In the mode `release`: what was let go with it, and what gets its own name back.
    pub(super) released: Released,
    pub(super) renamed: Vec<HandedBack>,
    /// Where its app session was, if this request took it elsewhere.
    pub(super) left: Option<u16>,
}

impl Exchange<'_> {
    pub(super) fn app(&self) -> AppIx {
        self.route.rules.app
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        Asked { method: self.inbound.method, path: &self.inbound.normal, query: self.inbound.query() }
    }

    /// Translates the head, in the name of the session; the person's clocks move here.
    pub(super) fn depart(
        &self,
        proxy: &Proxy,
        visit: &mut Visit,
        note: &mut Note,
    ) -> Result<Box<Departed>, Error> {
        let released = self.let_go(proxy, visit);
        let slot = visit.slot.as_ref().filter(|_| !self.standing.skip_session);
        let departed = match slot {
            Some(slot) => slot.with(|session| self.depart_as(proxy, slot, session)),
            None => self.translate(None, self.may_adopt(proxy, None), &[]),
        }?;
        let mut departed = self.check_shown(proxy, slot, departed)?;
        self.rename(&mut departed, &released);
        departed.released = released;
        departed.head.put(X_REQUEST_ID.as_str(), &note.id);
        self.note_server(proxy, &departed, note);
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
    ) -> Result<Box<Departed>, Error> {
        let now = self.inbound.now;
        session.touch(self.app(), self.standing.activity, now);
        if !session.traits.as_ref().is_some_and(|traits| traits.match_fields(self.inbound.fields)) {
            session.traits = Some(proxy.interned.borrow_mut().traits(self.inbound.fields));
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
            if !app.public.as_ref().is_some_and(|public| self.inbound.is_at(public)) {
                app.public = Some(proxy.interned.borrow_mut().public(self.inbound));
            }
            if app.adopted && signs_in_adopted {
                // Whoever knew the adopted token would ride along on the sign-in: the app is made to give a fresh one.
                app.drop_token();
                share::follow(session, &self.route.rules, now);
            }
        }
        let adopting = self.may_adopt(proxy, session.app(self.app()));
        let mut departed = self.translate(session.app(self.app()), adopting, &[])?;
        session.passed.browser_sent(self.app(), &departed.seen.passed);
        self.settle(session, &mut departed, now);
        if let Some(app) = session.app_mut(self.app()).filter(|_| self.upgrade.is_none()) {
            app.request_began(now);
            departed.in_flight = Some(InFlight::new(Arc::clone(slot), self.app(), proxy.shared.clock));
        }
        Ok(departed)
    }

    fn signs_in(&self) -> bool {
        let rules = &self.route.rules.sign_out;
        if rules.login.is_empty() { self.form } else { self.asked().signs_in(rules) }
    }

    fn translate(
        &self,
        session: Option<&AppSession>,
        adopting: bool,
        not: &[u16],
    ) -> Result<Box<Departed>, Error> {
        let sticky = session.and_then(|app| app.upstream);
        let mut chosen = self.map.balancer.choose(self.route, sticky, not)?;
        // Who has no token yet has nothing to lose.
        chosen.moved &= session.is_some_and(AppSession::has_token);
        let (inbound, now) = (self.inbound, self.inbound.now);
        let context = ToApp {
            rules: &self.route.rules,
            session,
            client: &inbound.client,
            authority: &inbound.authority,
            host: own::host_header(self.route, &chosen.upstream, &inbound.authority),
            own: false,
            own_cookies: self.map.own_cookies(),
            adopting,
            allow_names: if inbound.client.trusted { &self.map.options.allow_headers } else { &[] },
            now,
        };
        let (mut head, seen) =
            to_app::translate(&context, inbound.method.clone(), self.clean, inbound.fields);
        if let Some(upgrade) = &self.upgrade {
            head.put("connection", &HeaderValue::from_static("upgrade"));
            head.put("upgrade", upgrade);
        }
        if chosen.moved {
            head.put(FAILOVER.as_str(), &HeaderValue::from_static("1"));
        }
        let unsafe_method = !inbound.is_safe();
        let nothing = Sent { generation: 0, revision: 0, started: now, unsafe_method };
        let sent = session.map_or(nothing, |session| session.sent(now, unsafe_method));
        let begun = session.map(|session| session.created);
        let (released, renamed) = (Released::default(), Vec::new());
        Ok(Box::new(Departed {
            head,
            seen,
            sent,
            begun,
            chosen,
            in_flight: None,
            adopting,
            released,
            renamed,
            left: None,
        }))
    }

    /// True within the window of `adopt_cookies`, for a browser that has no session with the app here.
    fn may_adopt(&self, proxy: &Proxy, session: Option<&AppSession>) -> bool {
        self.map.bridge.adopt_cookies.filter(|_| !self.releases()).is_some_and(|window| {
            self.inbound.now.since(proxy.shared.served.since(self.app(), self.inbound.now)) < window
                && !session.is_some_and(AppSession::has_token)
                && proxy.shared.adoptions.allows(self.inbound.address(), self.inbound.now)
        })
    }

    /// A token that the browser shows and that is bound to another bridge session, or was to one that has ended, goes nowhere.
    pub(super) fn check_shown(
        &self,
        proxy: &Proxy,
        slot: Option<&Arc<Slot>>,
        departed: Box<Departed>,
    ) -> Result<Box<Departed>, Error> {
        if !self.is_taken(proxy, slot, &departed) {
            return Ok(departed);
        }
        proxy.shared.adoptions.count(self.inbound.address(), self.inbound.now);
        let mut next = match slot {
            Some(slot) => slot.with(|session| self.translate(session.app(self.app()), false, &[])),
            None => self.translate(None, false, &[]),
        }?;
        next.in_flight = departed.in_flight;
        Ok(next)
    }

    /// True where a token that the browser shows, to be adopted, belongs to another bridge session, or did until it ended.
    pub(super) fn is_taken(&self, proxy: &Proxy, slot: Option<&Arc<Slot>>, departed: &Departed) -> bool {
        let registry = &proxy.shared.registry;
        let elsewhere = |parts: &Vec<&[u8]>| {
            let owner = registry.owner(self.app(), parts.iter().copied());
            owner.is_some_and(|owner| !slot.is_some_and(|slot| Arc::ptr_eq(slot, &owner)))
                || registry.is_entombed(self.app(), parts.iter().copied())
        };
        departed.adopting && departed.seen.tokens_shown().iter().any(elsewhere)
    }

    /// The same request once more, with what the session holds now: its first answer was overtaken, or its token was dead.
    pub(super) fn again(
        &self,
        visit: &Visit,
        departed: Box<Departed>,
        note: &Note,
    ) -> Result<Box<Departed>, Error> {
        let mut next = match &visit.slot {
            Some(slot) => slot.with(|session| self.translate(session.app(self.app()), false, &[])),
            None => self.translate(None, false, &[]),
        }?;
        next.head.put(X_REQUEST_ID.as_str(), &note.id);
        (next.in_flight, next.released) = (departed.in_flight, departed.released);
        next.renamed = departed.renamed;
        Ok(next)
    }

    /// The same request for another server than those in `not`: they took no connection, so nothing was written.
    fn elsewhere(&self, visit: &Visit, departed: &mut Departed, not: &[u16]) -> Result<Box<Departed>, Error> {
        let slot = visit.slot.as_ref().filter(|_| !self.standing.skip_session);
        let mut next = match slot {
            Some(slot) => slot.with(|session| {
                let mut next = self.translate(session.app(self.app()), departed.adopting, not)?;
                next.left = departed.left;
                self.settle(session, &mut next, self.inbound.now);
                Ok::<_, Error>(next)
            }),
            None => self.translate(None, departed.adopting, not),
        }?;
        next.in_flight = departed.in_flight.take();
        next.released = std::mem::take(&mut departed.released);
        next.renamed = std::mem::take(&mut departed.renamed);
        Ok(next)
    }

    /// The app session is where its request goes.
    fn settle(&self, session: &mut Session, departed: &mut Departed, now: Timestamp) {
        let server = departed.chosen.number();
        if departed.chosen.moved {
            departed.left = departed.left.or_else(|| session.app(self.app())?.upstream);
            moved::moved(session, &self.route.rules, server, now);
        } else if let Some(app) = session.app_mut(self.app()) {
            app.upstream = Some(server);
        }
    }

    /// No server took the request: the app session is where it was, unless another request took it further.
    fn go_home(&self, visit: &Visit, departed: &Departed) {
        let (Some(home), Some(slot)) = (departed.left, &visit.slot) else { return };
        slot.with(|session| {
            let here = session.app(self.app()).and_then(|app| app.upstream);
            if here == Some(departed.chosen.number()) {
                moved::settle(session, &self.route.rules, home, self.inbound.now);
            }
        });
    }

    /// Notes which of the app's servers is asked, and that it is another one than before.
    fn note_server(&self, proxy: &Proxy, departed: &Departed, note: &mut Note) {
        note.upstream = Some(usize::from(departed.chosen.place));
        if departed.chosen.moved {
            note.events.push("moved");
            proxy.shard.session_event(self.app().index(), SessionEvent::Moved);
        }
    }

    /// Sends it and waits for the head of the answer. Where its server takes no connection, it goes to another one; each is
    /// asked once.
    pub(super) async fn send(
        &self,
        proxy: &Proxy,
        visit: &Visit,
        departed: &mut Box<Departed>,
        body: Body,
        note: &mut Note,
    ) -> Result<Answer, Error> {
        if !departed.head.has_valid_target() {
            return Err(Error::UriTooLong);
        }
        let (mut body, mut not) = (Some(body), SmallVec::<[u16; 4]>::new());
        loop {
            let error = match self.send_there(proxy, departed, &mut body).await {
                Ok(answer) => {
                    departed.chosen.answered();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            departed.chosen.failed(&error);
            not.push(departed.chosen.number());
            // What is this machine's own fault no other server mends.
            let may = body.is_some() && self.route.upstreams.len() > not.len() && Fault::of(&error).is_some();
            let next = if may { self.elsewhere(visit, departed, &not).ok() } else { None };
            let Some(mut next) = next else {
                self.go_home(visit, departed);
                return Err(error.into());
            };
            next.head.put(X_REQUEST_ID.as_str(), &note.id);
            self.note_server(proxy, &next, note);
            *departed = next;
        }
    }

    /// Sends it to the server that was chosen. A GET that met a connection which the app was just closing is sent once more.
    /// Where nothing was written, `body` is there again.
    async fn send_there(
        &self,
        proxy: &Proxy,
        departed: &Departed,
        body: &mut Option<Body>,
    ) -> Result<Answer, SendError> {
        let (upstream, head) = (&departed.chosen.upstream, &departed.head);
        let timeouts = &self.map.options.timeouts;
        let deadlines = Deadlines { connect: timeouts.connect, first_byte: timeouts.first_byte };
        let empty = body.as_ref().is_none_or(http_body::Body::is_end_stream);
        match proxy.client.send_or_keep(upstream, head, body, &deadlines).await {
            Err(SendError::Reset { reused: true, .. }) if empty && self.inbound.method.is_idempotent() => {
                *body = Some(Body::empty());
                proxy.client.send_or_keep(upstream, head, body, &deadlines).await
            }
            sent => sent,
        }
    }
}

/// Tells an app, once, that a session goes on here that was at another of its servers until now.
pub(super) const FAILOVER: HeaderName = HeaderName::from_static("x-bridge-failover");

fn path_hash(path: &str) -> u32 {
    use std::hash::BuildHasher as _;
    let hash = foldhash::fast::FixedState::default().hash_one(path);
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
}
