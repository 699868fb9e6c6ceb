//! The proxy's glue between browsers and apps, as `proxy/exchange.rs`, `proxy/back.rs`, `proxy/arrival.rs` and `ping` have it.

use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method};
use sessionbridge::bridge::answer::{self, Answer, Judged};
use sessionbridge::bridge::app_session::{AppSession, Sent};
use sessionbridge::bridge::beat::{self, CanarySeen, Evidence};
use sessionbridge::bridge::rules::{AppIx, AppRules, Scope};
use sessionbridge::bridge::session::End;
use sessionbridge::bridge::share;
use sessionbridge::bridge::sign_out::Asked;
use sessionbridge::bridge::to_app::{self, Seen, ToApp};
use sessionbridge::bridge::to_client::{self, FromApp, SetCookies, ToClient};
use sessionbridge::bridge::url::Clean;
use sessionbridge::bridge::vault::Vault;
use sessionbridge::registry::{Flight as Turn, Opened, Slot, Visitor};
use sessionbridge::time::Timestamp;
use sessionbridge::wire::fields::Fields;
use sessionbridge::wire::forwarded;

use super::random::pick;
use super::server::{Ask, Said};
use super::world::{Flight, Orphan, Own, Reply, World, address};

const HOST: &str = "apps.example.org";

fn path(rules: &AppRules, ask: Ask) -> String {
    let page = match ask {
        Ask::Logout => "logout",
        Ask::Ping => "ping",
        _ => "index",
    };
    format!("{}{page}", rules.mount.prefix())
}

fn method(ask: Ask) -> Method {
    if ask == Ask::Login { Method::POST } else { Method::GET }
}

/// The head of a request: the Cookie field that the app gets, and what was seen on the way.
fn translate(
    (rules, session): (&AppRules, Option<&AppSession>),
    (ask, cookies): (Ask, &str),
    (own, adopting): (bool, bool),
    now: Timestamp,
) -> (String, Seen) {
    let mut headers = HeaderMap::new();
    if !cookies.is_empty() {
        headers.insert(COOKIE, HeaderValue::from_str(cookies).unwrap());
    }
    let client = forwarded::Client {
        address: [192, 0, 2, 1].into(),
        via: smallvec::SmallVec::new(),
        https: false,
        host: None,
        port: None,
        trusted: false,
    };
    let own_cookies = ["bridge".into()];
    let context = ToApp {
        rules,
        session,
        client: &client,
        authority: HOST,
        host: HOST,
        own,
        own_cookies: &own_cookies,
        adopting,
        allow_names: &[],
        now,
    };
    let clean = Clean { path: path(rules, ask).into(), query: None };
    let (head, seen) = to_app::translate(&context, method(ask), &clean, &Fields::of(&headers));
    let line = head.field(&COOKIE).map(|line| String::from_utf8_lossy(line).into_owned());
    (line.unwrap_or_default(), seen)
}

/// An answer's cookies, read for `vault`.
fn read<'a>(
    rules: &'a AppRules,
    vault: Option<&'a Vault>,
    (path, fields): (&'a str, &'a SetCookies),
    flight: &'a Flight,
    (status, now): (u16, Timestamp),
) -> FromApp<'a> {
    let context = ToClient {
        rules,
        vault,
        app_path: path,
        app_host: HOST,
        app_authority: HOST,
        public_authority: HOST,
        https: false,
        now,
    };
    let shown = if status < 500 && !flight.overtaken { &flight.seen.shown[..] } else { &[] };
    let mut from_app = to_client::read(&context, fields, shown);
    if flight.overtaken {
        from_app.leave_shown(&flight.seen.shown);
    }
    from_app
}

impl World {
    /// A browser asks an app, or a client that keeps no cookies does.
    pub(crate) fn asks(&mut self, browser: usize, what: u64, own: Own) -> Result<(), String> {
        let app = pick(what >> 8, 4);
        // People stay for a while with the app that they are in.
        let (browser, app) =
            self.last.filter(|_| what >> 62 != 0 && own == Own::Person).unwrap_or((browser, app));
        self.last = Some((browser, app));
        let ask = match what % 16 {
            0..6 => Ask::Page,
            6..9 => Ask::Login,
            9..12 => Ask::Rotate,
            12 => Ask::Logout,
            13 => Ask::Lose,
            14 => Ask::Fail,
            _ => Ask::Page,
        };
        let (app, ask) = if own == Own::Client { (0, Ask::Page) } else { (app, ask) };
        let visitor = Visitor { address: address(browser), agent: browser as u64 };
        let mut line = 0;
        let slot = match self.browsers[browser].bridge.clone().filter(|_| own == Own::Person) {
            None => None,
            Some((id, handle)) => match self.registry.open(&id, visitor, self.now) {
                Opened::Session { slot, line: of, .. } => {
                    line = of;
                    self.changed(&slot, false);
                    Some(slot)
                }
                Opened::Over(slot, left) => {
                    self.tell(format!("session {handle:x} has expired"));
                    self.farewell(&slot, *left, true);
                    self.browsers[browser].bridge = None;
                    None
                }
                Opened::Nothing | Opened::Overtaken => {
                    let newest = self.ids.get(&handle) == Some(&id);
                    if newest && self.oracle.lives(handle, &self.registry.clocks(), self.now) {
                        return Err(format!(
                            "browser {browser} shows the id of {handle:x}, which opens nothing"
                        ));
                    }
                    self.browsers[browser].bridge = None;
                    None
                }
            },
        };
        let group = share::group(self.rules(app));
        let ix = self.rules(app).app;
        let mut first = None;
        if let Some(slot) = &slot {
            match slot.depart(ix, group, self.now) {
                Turn::Wait => {
                    self.tell(format!("browser {browser} waits for the first answer"));
                    return Ok(());
                }
                Turn::Go { first: goes_first } => first = goes_first.then_some(group),
            }
        }
        self.departs(slot, (browser, app, ask), (visitor, line, first), (what, own))
    }

    fn departs(
        &mut self,
        slot: Option<Arc<Slot>>,
        (browser, app, ask): (usize, usize, Ask),
        (visitor, line, first): (Visitor, u8, Option<AppIx>),
        (what, own): (u64, Own),
    ) -> Result<(), String> {
        let (now, server) = (self.now, Self::server_of(app));
        let mut cookies = Vec::new();
        if own == Own::Person {
            cookies.extend(
                self.browsers[browser].own.get(&server).map(|token| self.servers[server].shown(*token)),
            );
            if what >> 40 & 7 == 0 && cookies.is_empty() {
                // Somebody has planted what may be another's.
                cookies.push(self.servers[server].shown(self.servers[server].one_of_all(what >> 48)));
            }
        }
        let (cookies, map) = (cookies.join("; "), Arc::clone(&self.map));
        let rules = &map.routes()[app].rules;
        let unsafe_method = ask == Ask::Login;
        let make = |session: Option<&AppSession>, may: bool| {
            let adopting = may && own == Own::Person && !session.is_some_and(AppSession::has_token);
            let (line, seen) = translate((rules, session), (ask, &cookies), (false, adopting), now);
            let nothing = Sent { generation: 0, revision: 0, started: now, unsafe_method };
            let sent = session.map_or(nothing, |session| session.sent(now, unsafe_method));
            (line, seen, sent, session.map(|session| session.created), adopting)
        };
        let mut sending = match &slot {
            None => make(None, true),
            Some(slot) => slot.with(|session| {
                session.touch(rules.app, true, now);
                session.address = Some(visitor.address);
                if let Some(app) = session.app_mut(rules.app)
                    && app.adopted
                    && ask == Ask::Login
                {
                    app.drop_token();
                    share::follow(session, rules, now);
                }
                let made = make(session.app(rules.app), true);
                session.app_mut(rules.app).into_iter().for_each(|app| app.request_began(now));
                made
            }),
        };
        let bound = self.is_taken(app, slot.as_ref(), &sending.1);
        if sending.4 && bound {
            sending = match &slot {
                None => make(None, false),
                Some(slot) => slot.with(|session| make(session.app(rules.app), false)),
            };
        }
        let (line_sent, seen, sent, begun, adopting) = sending;
        let handle = slot.as_ref().map(|slot| slot.handle.0);
        handle.into_iter().for_each(|handle| self.oracle.active(handle, now));
        slot.iter().for_each(|slot| self.changed(slot, false));
        self.tell(format!("browser {browser} asks {} for {ask:?} [{line_sent}]", rules.name));
        let token = self.servers[server].token(&line_sent)?.map(|token| (server, token));
        let shows = adopting && !seen.shown.is_empty();
        if shows && token.is_some_and(|token| self.oracle.owner(token).is_some_and(|owner| owner != browser))
        {
            // A guess that has hit what nobody has here any more: as good as without the proxy, and not asked.
            slot.iter().for_each(|slot| first.into_iter().for_each(|group| slot.land(group)));
            slot.iter().for_each(|slot| {
                slot.with(|session| {
                    session.app_mut(rules.app).into_iter().for_each(|app| app.request_ended(now))
                });
            });
            return Ok(());
        }
        self.oracle.sends((token, shows), (browser, handle), &self.registry.clocks(), now)?;
        self.numbers += 1;
        self.flights.push(Flight {
            number: self.numbers,
            browser,
            app,
            ask: (ask, what >> 20 & 1 == 1),
            cookies: line_sent,
            slot: slot.zip(handle),
            sent,
            begun,
            seen,
            adopting,
            visitor,
            line,
            first,
            own,
            said: None,
            overtaken: false,
            twin: false,
        });
        Ok(())
    }

    /// True where a token that is shown belongs to another bridge session, or did until it ended.
    fn is_taken(&self, app: usize, slot: Option<&Arc<Slot>>, seen: &Seen) -> bool {
        let app = self.rules(app).app;
        seen.tokens_shown().iter().any(|parts| {
            let owner = self.registry.owner(app, parts.iter().copied());
            owner.is_some_and(|owner| !slot.is_some_and(|slot| Arc::ptr_eq(slot, &owner)))
                || self.registry.is_entombed(app, parts.iter().copied())
        })
    }

    /// A heartbeat for one of the live sessions.
    pub(crate) fn beats(&mut self, which: u64) -> Result<(), String> {
        let live = self.live();
        let Some(slot) = live.get(pick(which, live.len())).and_then(|handle| self.slot(*handle)) else {
            return Ok(());
        };
        let now = self.now;
        let held = |app: &usize| {
            slot.with(|session| session.app(self.rules(*app).app).is_some_and(AppSession::has_token))
        };
        let held: Vec<usize> = (0..4).filter(held).collect();
        let Some(&app) = held.get(pick(which >> 32, held.len())) else { return Ok(()) };
        let map = Arc::clone(&self.map);
        let rules = &map.routes()[app].rules;
        let clocks = self.registry.clocks();
        let made = slot.with(|session| {
            let bound = session.phase() == sessionbridge::bridge::session::Phase::Bound;
            if !bound || session.has_ended() || session.expired(&clocks, now).is_some() {
                return None;
            }
            let held = session.app(rules.app)?;
            if !held.has_token() || held.lent || held.beat.in_flight || held.beat.stopped {
                return None;
            }
            let (line, seen) = translate((rules, Some(held)), (Ask::Ping, ""), (true, false), now);
            let (sent, begun) = (held.sent(now, false), Some(held.created));
            let held = session.app_mut(rules.app)?;
            (held.beat.in_flight, held.beat.at) = (true, now);
            Some((line, seen, sent, begun))
        });
        let Some((cookies, seen, sent, begun)) = made else { return Ok(()) };
        let (handle, server) = (slot.handle.0, Self::server_of(app));
        let browser = self.oracle.browser(handle);
        self.tell(format!("session {handle:x} beats {} [{cookies}]", rules.name));
        let token = self.servers[server].token(&cookies)?.map(|token| (server, token));
        self.oracle.sends((token, false), (browser, Some(handle)), &clocks, now)?;
        self.numbers += 1;
        let visitor = Visitor { address: address(browser), agent: browser as u64 };
        self.flights.push(Flight {
            number: self.numbers,
            browser,
            app,
            ask: (Ask::Ping, which >> 20 & 1 == 1),
            cookies,
            slot: Some((slot, handle)),
            sent,
            begun,
            seen,
            adopting: false,
            visitor,
            line: 0,
            first: None,
            own: Own::Beat,
            said: None,
            overtaken: false,
            twin: false,
        });
        Ok(())
    }

    /// A server answers one of the requests that have come to it.
    pub(crate) fn answers(&mut self, which: u64) -> Result<(), String> {
        let open: Vec<usize> =
            (0..self.flights.len()).filter(|at| self.flights[*at].said.is_none()).collect();
        let Some(&at) = open.get(pick(which, open.len())) else { return Ok(()) };
        let flight = &mut self.flights[at];
        let (server, browser) = (Self::server_of(flight.app), flight.browser);
        let mut issued = Vec::new();
        let said =
            self.servers[server].answer(&flight.cookies, flight.ask, self.now, |token| issued.push(token))?;
        let what = format!("{} answers {} with {} {:?}", flight.number, browser, said.status, said.sets);
        flight.said = Some(said);
        issued.into_iter().for_each(|token| self.oracle.issued((server, token), browser));
        self.tell(what);
        Ok(())
    }

    /// One of the answers is applied; now and then it comes a second time.
    pub(crate) fn applies(&mut self, which: u64) -> Result<(), String> {
        let open: Vec<usize> =
            (0..self.flights.len()).filter(|at| self.flights[*at].said.is_some()).collect();
        let Some(&at) = open.get(pick(which, open.len())) else { return Ok(()) };
        let mut flight = self.flights.remove(at);
        let slot = flight.slot.as_ref().map(|(slot, _)| slot);
        if flight.adopting && self.is_taken(flight.app, slot, &flight.seen) {
            flight.overtaken = true;
        }
        let said = flight.said.clone().unwrap_or_default();
        let fields: SetCookies =
            said.sets.iter().map(|field| HeaderValue::from_str(field).unwrap()).collect();
        let signed_out = match (flight.own, flight.twin) {
            (_, true) => {
                self.tell(format!("answer {} comes twice", flight.number));
                return self.twice(&flight, &said, &fields);
            }
            (Own::Beat, false) => {
                self.hears(&flight, &said, &fields);
                false
            }
            (Own::Person | Own::Client, false) => self.learns(&flight, &said, &fields),
        };
        if which >> 40 & 3 == 0 && !signed_out && flight.slot.is_some() && flight.own == Own::Person {
            flight.twin = true;
            self.flights.push(flight);
        }
        Ok(())
    }

    fn twice(&mut self, flight: &Flight, said: &Said, fields: &SetCookies) -> Result<(), String> {
        let Some((slot, _)) = &flight.slot else { return Ok(()) };
        let map = Arc::clone(&self.map);
        let rules = &map.routes()[flight.app].rules;
        let (now, path, method) = (self.now, path(rules, flight.ask.0), method(flight.ask.0));
        let learned = slot.with(|session| {
            let begun = session.app(rules.app).map(|app| app.created);
            if flight.begun.is_none() || flight.begun != begun {
                return None;
            }
            let vault = session.app(rules.app).map(|app| app.vault().clone());
            let from_app = read(rules, vault.as_ref(), (&path, fields), flight, (said.status, now));
            let asked = Asked { method: &method, path: &path, query: None };
            let answer = Answer {
                sent: flight.sent,
                status: said.status,
                edits: &from_app.edits,
                asked,
                form: false,
                now,
            };
            Some(answer::apply(session, rules, &answer).learned)
        });
        match learned {
            Some(learned) if learned.changed || learned.first => {
                Err(format!("answer {} has changed the token a second time: {learned:?}", flight.number))
            }
            _ => {
                self.changed(&slot.clone(), false);
                Ok(())
            }
        }
    }

    /// A person's answer. True where it was a sign-out.
    fn learns(&mut self, flight: &Flight, said: &Said, fields: &SetCookies) -> bool {
        let map = Arc::clone(&self.map);
        let rules = &map.routes()[flight.app].rules;
        let (now, path, method) = (self.now, path(rules, flight.ask.0), method(flight.ask.0));
        let server = Self::server_of(flight.app);
        let mut reply = Reply {
            browser: flight.browser,
            session: None,
            gives: None,
            deletes: false,
            expires: None,
            kept: false,
        };
        let slot = match &flight.slot {
            Some((slot, _)) => Arc::clone(slot),
            None => {
                let from_app = read(rules, None, (&path, fields), flight, (said.status, now));
                let brings = from_app.edits.iter().any(|edit| edit.value.is_some()) && said.status < 500;
                if !brings {
                    return false;
                }
                self.founds(flight.browser, &mut reply)
            }
        };
        let was_new = flight.slot.is_none();
        let form = flight.ask.0 == Ask::Login;
        let (effect, fresh) = slot.with(|session| {
            let begun = session.app(rules.app).map(|app| app.created);
            if flight.begun.is_some() && flight.begun != begun {
                return (answer::Effect::default(), None);
            }
            let vault = session.app(rules.app).map(|app| app.vault().clone());
            let from_app = read(rules, vault.as_ref(), (&path, fields), flight, (said.status, now));
            let asked = Asked { method: &method, path: &path, query: None };
            let answer =
                Answer { sent: flight.sent, status: said.status, edits: &from_app.edits, asked, form, now };
            let effect = answer::apply(session, rules, &answer);
            session.app_mut(rules.app).into_iter().for_each(|app| app.request_ended(now));
            if session.has_ended() {
                return (effect, None);
            }
            let fresh = effect.signed_out.and_then(|_| {
                let edits: Vec<_> = answer::fresh(&from_app.edits, vault.as_ref()?).collect();
                let mut fresh = AppSession::new(rules.app, now);
                fresh.learn(Sent { generation: 0, ..flight.sent }, &edits, now);
                (!fresh.vault().is_empty()).then_some(fresh)
            });
            (effect, fresh)
        });
        let learned = effect.learned;
        if slot.with(|session| session.has_ended()) && (learned.first || learned.changed || learned.rolled) {
            self.wrong = Some(format!("session {:x} has ended and learns: {learned:?}", slot.handle.0));
        }
        if was_new {
            slot.with(|session| session.touch(rules.app, true, now));
        }
        flight.first.into_iter().for_each(|group| slot.land(group));
        self.tell(format!(
            "answer {} is applied to {:x}{}",
            flight.number,
            slot.handle.0,
            if learned.stale {
                ": stale"
            } else if learned.first {
                ": first"
            } else if learned.changed {
                ": changed"
            } else {
                ""
            }
        ));
        if learned.first || learned.changed || learned.other_changed {
            self.own_tokens(flight.app, &slot);
        }
        if let Some(scope) = effect.signed_out {
            self.signed_out((flight, &slot), scope, fresh, &mut reply);
        } else if !slot.with(|session| session.has_ended()) {
            let tried = flight.adopting && learned.first && !flight.seen.shown.is_empty();
            if tried {
                self.tell(format!("browser {}'s own cookies are adopted", flight.browser));
                reply.expires = Some(server);
                self.claims(flight, &slot);
            }
            if (effect.renew || tried) && reply.gives.is_none() {
                self.renews(&slot, (flight.visitor, flight.line), &mut reply);
            }
            if flight.own == Own::Client && learned.first {
                self.orphaned(flight, &slot);
            }
        }
        self.replies(&slot, reply, flight.own);
        effect.signed_out.is_some()
    }

    /// A guess that the app took is the guesser's, as it would be without the proxy.
    fn claims(&mut self, flight: &Flight, slot: &Slot) {
        let server = Self::server_of(flight.app);
        let rules = &self.map.routes()[flight.app].rules;
        let token = slot.with(|session| super::oracle::generation(session, rules.app));
        if let Some(token) = token.filter(|token| self.oracle.owner((server, *token)).is_none()) {
            self.oracle.issued((server, token), flight.browser);
        }
    }

    fn orphaned(&mut self, flight: &Flight, slot: &Slot) {
        let rules = &self.map.routes()[flight.app].rules;
        if let Some(token) = slot.with(|session| super::oracle::generation(session, rules.app)) {
            self.orphans.push(Orphan { app: flight.app, token, issued: self.now, client: flight.browser });
            self.tell(format!("{token} is an orphan"));
        }
    }

    fn replies(&mut self, slot: &Arc<Slot>, mut reply: Reply, own: Own) {
        self.changed(slot, false);
        let state = self.state(slot);
        reply.session.get_or_insert((slot.handle.0, state));
        if let Some((handle, at)) = &mut reply.session
            && *handle == slot.handle.0
        {
            *at = state;
        }
        let waits = [Some(slot.handle.0), reply.session.map(|(handle, _)| handle)];
        reply.kept = !waits.into_iter().flatten().any(|handle| self.is_dirty(handle));
        if own == Own::Person {
            self.replies.push(reply);
        }
    }

    /// A new bridge session.
    fn founds(&mut self, browser: usize, reply: &mut Reply) -> Arc<Slot> {
        let (slot, id) = self.registry.create(self.random.bytes(), self.now).unwrap();
        slot.with(|session| session.address = Some(address(browser)));
        let handle = slot.handle.0;
        self.oracle.begins(handle, browser, self.now);
        self.ids.insert(handle, id.clone());
        let state = self.state(&slot);
        (reply.gives, reply.session, reply.deletes) = (Some(id), Some((handle, state)), false);
        self.changed(&slot, true);
        slot
    }

    fn renews(&mut self, slot: &Arc<Slot>, visitor: (Visitor, u8), reply: &mut Reply) {
        if let Some(id) = self.registry.renew(slot, self.random.bytes(), visitor, self.now) {
            self.tell(format!("session {:x} is renewed", slot.handle.0));
            self.ids.insert(slot.handle.0, id.clone());
            reply.gives = Some(id);
            self.changed(slot, true);
        }
    }

    fn own_tokens(&mut self, app: usize, slot: &Arc<Slot>) {
        let rules = &self.map.routes()[app].rules;
        let shares = rules.session.iter().flat_map(|rules| &rules.shares).map(|share| share.with);
        for app in std::iter::once(rules.app).chain(shares) {
            let parts: Vec<Vec<u8>> = slot.with(|session| {
                let vault = session.app(app).map(|app| app.vault().clone()).unwrap_or_default();
                (0..u8::MAX)
                    .map_while(|part| vault.part(0, part).map(|cookie| cookie.value.to_vec()))
                    .collect()
            });
            if !parts.is_empty() {
                self.registry.own_token(app, parts.iter().map(|part| &**part), slot);
            }
        }
        self.changed(slot, true);
    }

    fn signed_out(
        &mut self,
        (flight, slot): (&Flight, &Arc<Slot>),
        scope: Scope,
        fresh: Option<AppSession>,
        reply: &mut Reply,
    ) {
        let map = Arc::clone(&self.map);
        let rules = &map.routes()[flight.app].rules;
        self.state(slot);
        if scope == Scope::Alone {
            self.tell(format!("browser {} has signed out of {} alone", flight.browser, rules.name));
            let left = slot.with(|session| {
                let left = session.take_app(rules.app).map(|app| session.farewell_alone(app));
                fresh.map(|fresh| session.give_app(fresh));
                share::follow(session, rules, self.now);
                left
            });
            if let Some(token) = left.as_ref().and_then(|left| super::world::dead(left.apps.first()?)) {
                let parts = self.servers[Self::server_of(flight.app)].parts(token);
                self.registry.entomb(rules.app, parts.iter().map(String::as_bytes), slot, self.now);
            }
            self.own_tokens(flight.app, slot);
            left.into_iter().for_each(|left| self.farewell(slot, left, false));
            return;
        }
        self.tell(format!("browser {} has signed out", flight.browser));
        self.ends(slot, End::AppLogout);
        reply.deletes = true;
        if let Some(fresh) = fresh {
            let slot = self.founds(flight.browser, reply);
            self.takes_in(&slot, flight.app, fresh);
        }
    }

    fn takes_in(&mut self, slot: &Arc<Slot>, app: usize, session: AppSession) -> bool {
        let map = Arc::clone(&self.map);
        let rules = &map.routes()[app].rules;
        let given = slot.with(|own| {
            let given = own.give_app(session);
            if given {
                share::follow(own, rules, self.now);
            }
            given
        });
        self.own_tokens(app, slot);
        given
    }

    /// The person signs out at the proxy.
    pub(crate) fn leaves(&mut self, browser: usize) {
        let Some((id, _)) = self.browsers[browser].bridge.clone() else { return };
        let visitor = Visitor { address: address(browser), agent: browser as u64 };
        match self.registry.open(&id, visitor, self.now) {
            Opened::Session { slot, .. } => {
                self.tell(format!("browser {browser} has signed out of {:x} at the proxy", slot.handle.0));
                self.ends(&slot, End::UserLogout);
                let mut reply =
                    Reply { browser, session: None, gives: None, deletes: true, expires: None, kept: false };
                reply.session = Some((slot.handle.0, self.state(&slot)));
                self.replies(&slot, reply, Own::Person);
            }
            Opened::Over(slot, left) => self.farewell(&slot, *left, true),
            Opened::Nothing | Opened::Overtaken => {}
        }
    }

    /// A browser follows a link that carries the token of a client without cookies.
    pub(crate) fn takes(&mut self, browser: usize, which: u64) -> Result<(), String> {
        let Some(orphan) = self.orphans.last().copied() else { return Ok(()) };
        // Mostly somebody who lives in the same house.
        let browser = if which & 3 == 0 { browser } else { orphan.client / 2 * 2 + pick(which >> 8, 2) };
        let (server, ix) = (Self::server_of(orphan.app), self.rules(orphan.app).app);
        let visitor = Visitor { address: address(browser), agent: browser as u64 };
        let opened =
            self.browsers[browser].bridge.clone().map(|(id, _)| self.registry.open(&id, visitor, self.now));
        let (own, line) = match opened {
            Some(Opened::Session { slot, line, .. }) => (Some(slot), line),
            Some(Opened::Over(slot, left)) => {
                self.farewell(&slot, *left, true);
                (None, 0)
            }
            _ => (None, 0),
        };
        if own
            .as_ref()
            .is_some_and(|slot| slot.with(|session| session.app(ix).is_some_and(AppSession::has_token)))
        {
            return Ok(());
        }
        own.iter().for_each(|slot| self.changed(slot, false));
        let parts = self.servers[server].parts(orphan.token);
        let taken =
            self.registry.take_orphan(ix, parts.iter().map(String::as_bytes), visitor.address, self.now);
        let Ok((mut session, from)) = taken else { return Ok(()) };
        let age = self.now.since(orphan.issued).as_secs();
        if age > 60 || address(orphan.client) != address(browser) {
            return Err(format!("browser {browser} took the token of {} after {age} s", orphan.client));
        }
        self.tell(format!("browser {browser} took {} of {:x}", orphan.token, from.handle.0));
        self.oracle.entombs(from.handle.0, std::iter::empty(), true);
        self.changed(&from, true);
        self.oracle.issued((server, orphan.token), browser);
        session.adopted = true;
        let mut reply =
            Reply { browser, session: None, gives: None, deletes: false, expires: None, kept: false };
        let slot = match own {
            Some(slot) => slot,
            None => self.founds(browser, &mut reply),
        };
        self.takes_in(&slot, orphan.app, session);
        if reply.gives.is_none() {
            self.renews(&slot, (visitor, line), &mut reply);
        }
        self.replies(&slot, reply, Own::Person);
        Ok(())
    }

    /// The answer to a heartbeat.
    fn hears(&mut self, flight: &Flight, said: &Said, fields: &SetCookies) {
        let Some((slot, _)) = &flight.slot else { return };
        let map = Arc::clone(&self.map);
        let rules = &map.routes()[flight.app].rules;
        let (now, path) = (self.now, path(rules, Ask::Ping));
        slot.with(|session| {
            let Some(app) = session.app_mut(rules.app).filter(|app| Some(app.created) == flight.begun) else {
                return;
            };
            let vault = app.vault().clone();
            let from_app = read(rules, Some(&vault), (&path, fields), flight, (said.status, now));
            let learned = app.learn_from_beat(flight.sent, &from_app.edits, now);
            share::follow(session, rules, now);
            if learned.stale {
                answer::overtaken(session, rules);
                return;
            }
            let evidence = Evidence {
                status: Some(said.status),
                redirects: said.status == 302,
                contains: true,
                learned,
                canary: CanarySeen::Unknown,
            };
            let Some(beat) = &rules.beat else { return };
            let verdict = beat::judge(beat, &evidence);
            answer::beat(session, rules, &Judged { verdict, canary: None, now });
        });
        self.tell(format!("heartbeat {} is applied to {:x}", flight.number, slot.handle.0));
        self.changed(&slot.clone(), false);
    }
}
