//! An answer on its way back: its cookies go where they belong, its URLs are mapped, the session learns.
//!
//! Invariant: what an answer acknowledges is in the session before `Proxy::keep` looks whether it is kept.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONNECTION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Proxy;
use super::error::Error;
use super::exchange::{Departed, Exchange};
use super::inbound::Inbound;
use super::visit::Visit;
use crate::bridge::answer::{self, Answer as Said, Effect};
use crate::bridge::app_session::{AppSession, Sent};
use crate::bridge::bridge_cookie;
use crate::bridge::janitor;
use crate::bridge::rules::Disposition;
use crate::bridge::timeline::What;
use crate::bridge::to_app::Shown;
use crate::bridge::to_client::{self, FromApp, PathToken, SetCookies, There, ToClient};
use crate::own;
use crate::registry::Slot;
use crate::registry::agenda::Watch;
use crate::route::RouteMap;

/// An answer that has been read.
#[derive(Default)]
pub(super) struct Returned {
    pub(super) effect: Effect,
    /// Set-Cookie fields for the browser.
    pub(super) fields: Vec<HeaderValue>,
    /// After a sign-out: what its own answer set anew.
    pub(super) fresh: Option<AppSession>,
    /// True where `fields` hold any that are not this answer's own: no shared cache may keep it then.
    pub(super) ours: bool,
}

impl Exchange<'_> {
    /// Reads the head of an answer: its cookies go where they belong, its URLs are mapped, the session learns.
    pub(super) fn back(
        &self,
        proxy: &Rc<Proxy>,
        visit: &mut Visit,
        departed: &Departed,
        answer: &mut http::response::Parts,
    ) -> Result<Returned, Error> {
        let now = proxy.now();
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            answer.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        let there = There::of(&answer.headers);
        let mut taken = SetCookies::new();
        if there.set_cookies {
            taken = to_client::take_set_cookies(&mut answer.headers);
            to_client::drop_own(&self.route.rules, &mut taken, self.map.own_cookies());
        }
        let host = own::host_header(self.route, &departed.chosen.upstream, &self.inbound.authority);
        let context = ToClient {
            rules: &self.route.rules,
            vault: None,
            app_path: departed.head.path(),
            app_host: to_client::host_of(host),
            app_authority: &departed.chosen.upstream.authority,
            public_authority: &self.inbound.authority,
            https: self.inbound.client.https,
            now,
        };
        let riding = if there.urls { to_client::map_urls(&context, &mut answer.headers) } else { None };
        let status = answer.status.as_u16();
        // Of several requests that showed one token at once, the first that is answered has adopted it.
        let overtaken = self.is_taken(proxy, visit.slot.as_ref(), departed);
        let said = Heard { taken: &taken, riding: riding.as_ref(), context: &context, status, overtaken };
        let slot = visit.slot.clone().filter(|_| !self.standing.skip_session);
        let mut returned = match slot {
            Some(slot) => self.learn(proxy, &slot, departed, &said),
            None => self.learn_first(proxy, visit, departed, &said)?,
        };
        self.follow(proxy, visit, departed, &mut returned)?;
        if self.releases() {
            self.hand_back(proxy, visit, departed, &mut returned);
        }
        Ok(returned)
    }

    /// The answer of a request that has a session.
    fn learn(&self, proxy: &Proxy, slot: &Slot, departed: &Departed, heard: &Heard<'_>) -> Returned {
        let now = heard.context.now;
        slot.with(|session| {
            if self.is_out(session, departed, heard) {
                return self.pass_on(departed, heard, !session.has_ended());
            }
            let begun = session.app(self.app()).map(|app| app.created);
            if departed.begun.is_some() && departed.begun != begun {
                // The app session that it was sent for was signed out meanwhile: nothing brings that back.
                return Returned::default();
            }
            let silent = heard.is_silent() && departed.seen.shown.is_empty();
            let vault = session.app(self.app()).filter(|_| !silent).map(|app| app.vault().clone());
            let from_app = heard.read(vault.as_ref(), departed);
            let brings = from_app.edits.iter().any(|edit| edit.value.is_some());
            let place = |app: &mut AppSession| {
                app.public.get_or_insert_with(|| proxy.interned.borrow_mut().public(self.inbound));
                app.upstream.get_or_insert_with(|| departed.chosen.number());
            };
            // Before the answer is applied: the apps that share the session follow it to its server.
            if brings {
                session.app_or_new(self.app(), now).map(place);
            } else {
                session.app_mut(self.app()).map(place);
            }
            let effect =
                answer::apply(session, &self.route.rules, &self.said(&from_app, departed, heard.status, now));
            if session.has_ended() {
                // A sign-out has overtaken this answer: what it sets is lost, in the browser too.
                return Returned { effect, ..Returned::default() };
            }
            if effect.signed_out.is_some() && self.releases() {
                // Whatever comes after it, the browser holds itself.
                return Returned { effect, ..self.pass_on(departed, heard, false) };
            }
            let fresh = effect.signed_out.and_then(|_| self.fresh(&from_app, vault.as_ref(), departed, now));
            let mut fields = self.older(departed, heard);
            fields.extend(from_app.relayed);
            for (cookie, deleted) in from_app.http_only {
                session.passed.http_only(cookie, deleted);
            }
            let waiting = session.passed.take_waiting(self.app());
            let ours = !waiting.is_empty();
            fields.extend(waiting);
            let mut returned = Returned { effect, fields, fresh, ours };
            self.put_renamed(departed, heard, &mut returned);
            returned
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
        if self.releases() && heard.riding.is_none() {
            return Ok(self.pass_on(departed, heard, false));
        }
        let from_app = heard.read(None, departed);
        let brings = from_app.edits.iter().any(|edit| edit.value.is_some()) && heard.status < 500;
        if !brings || visit.kept_away || self.standing.skip_session || visit.slot.is_some() {
            let fields = from_app.relayed.into_iter().collect();
            return Ok(Returned { fields, ..Returned::default() });
        }
        let slot = proxy.found(self.inbound, visit)?;
        let returned = self.learn(proxy, &slot, departed, heard);
        slot.with(|session| {
            session.passed.browser_sent(self.app(), &departed.seen.passed);
            session.touch(self.app(), self.standing.activity, self.inbound.now);
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
                authority: (*self.inbound.authority).into(),
                https: self.inbound.client.https,
            }));
            fresh.upstream = Some(departed.chosen.number());
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
        Said {
            sent: departed.sent,
            status,
            edits: &from_app.edits,
            asked: self.asked(),
            form: self.form,
            now,
        }
    }

    /// What follows from an answer outside the session itself.
    fn follow(
        &self,
        proxy: &Proxy,
        visit: &mut Visit,
        departed: &Departed,
        returned: &mut Returned,
    ) -> Result<(), Error> {
        let effect = &returned.effect;
        let Some(slot) = visit.slot.clone() else {
            if self.releases() {
                return Ok(());
            }
            let janitor = self.janitor(proxy, departed, false);
            returned.ours |= !janitor.is_empty();
            returned.fields.extend(janitor);
            return Ok(());
        };
        if effect.learned.first || effect.learned.changed || effect.learned.other_changed {
            proxy.own_tokens(self.map, self.app(), &slot);
        }
        if effect.arm {
            proxy.agenda.put(&slot, Watch::Beat(self.app()));
        }
        let tried = departed.adopting && effect.learned.first && !departed.seen.shown.is_empty();
        let adopted = tried && slot.with(|session| holds(session.app(self.app()), &departed.seen.shown));
        if adopted {
            slot.with(|session| {
                session.timeline.note(self.inbound.now, Some(self.app()), What::AdoptedCookie)
            });
            returned.fields.extend(self.rename_adopted(departed));
        } else if tried {
            // The app gave another token for the one that was shown: a guess, for all anybody knows.
            proxy.shared.adoptions.count(self.inbound.address(), self.inbound.now);
        }
        // A button clicked twice: the answer to the first click, with the id that it brought, may never have been read.
        let once_more = visit.replaced && self.form && !slot.with(|session| session.has_ended());
        if (effect.renew || adopted || once_more) && visit.gives.is_none() {
            proxy.renew(&slot, visit, self.inbound);
        }
        if !self.releases() {
            returned.fields.extend(self.janitor(proxy, departed, tried));
        }
        Ok(())
    }

    /// Expires token cookies that the browser should not have, but for those that another app keeps there under that name.
    pub(super) fn janitor(&self, proxy: &Proxy, departed: &Departed, adopted: bool) -> Vec<HeaderValue> {
        let seen = &departed.seen;
        if seen.stray.is_empty() && !adopted {
            return Vec::new();
        }
        let rules = &self.route.rules;
        let shown = seen.shown.iter().filter(|part| adopted && part.is_to_move(rules)).map(|part| &part.name);
        let names =
            seen.stray.iter().chain(shown).map(|name| &**name).filter(|name| !self.held_elsewhere(name));
        let fields =
            janitor::deletions(&self.route.rules, &self.inbound.host, self.inbound.client.https, names);
        proxy.shard.cookies_janitored(u64::from(!fields.is_empty()));
        fields
    }

    pub(super) fn held_elsewhere(&self, name: &[u8]) -> bool {
        let others = self.map.routes().iter().filter(|other| other.rules.app != self.app());
        let mut rules = others.filter_map(|other| other.rules.session.as_ref());
        rules.any(|rules| {
            rules.cookie(name).is_some()
                && matches!(rules.token_disposition(name), Disposition::Pass | Disposition::AsIs)
        })
    }

    /// Puts the Set-Cookie fields into the answer: the app's, the janitor's, the proxy's own.
    pub(super) fn finish(&self, visit: &Visit, headers: &mut HeaderMap, returned: Returned) {
        for field in returned.fields {
            headers.append(SET_COOKIE, field);
        }
        if returned.ours {
            keep_private(headers);
        }
        give(self.map, self.inbound, visit, headers);
    }
}

/// Sets, or deletes, the bridge cookie in an answer. Such an answer is nobody else's: no shared cache may keep it.
pub(super) fn give(map: &RouteMap, inbound: &Inbound<'_>, visit: &Visit, headers: &mut HeaderMap) {
    let (https, same_site) = (inbound.client.https, map.bridge.same_site);
    let name = map.bridge.cookie_name(https);
    let field = match &visit.gives {
        Some(id) => bridge_cookie::set(name, &id.encode(), https, same_site),
        None if visit.stale => bridge_cookie::delete(name, https, same_site),
        None => return,
    };
    let Some(field) = field else { return };
    headers.append(SET_COOKIE, field);
    keep_private(headers);
}

/// Such an answer is nobody else's: no shared cache may keep it.
fn keep_private(headers: &mut HeaderMap) {
    let private = headers.get(CACHE_CONTROL).is_some_and(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        [&b"private"[..], b"no-store"]
            .iter()
            .any(|word| value.windows(word.len()).any(|window| window == *word))
    });
    if !private {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
}

/// The head of an answer, as far as the session goes.
pub(super) struct Heard<'a> {
    pub(super) taken: &'a SetCookies,
    pub(super) riding: Option<&'a PathToken>,
    pub(super) context: &'a ToClient<'a>,
    pub(super) status: u16,
    /// What the browser showed has been adopted elsewhere meanwhile.
    pub(super) overtaken: bool,
}

impl<'a> Heard<'a> {
    /// True where it says nothing of any token or cookie.
    fn is_silent(&self) -> bool {
        self.taken.is_empty() && self.riding.is_none()
    }

    fn read<'v>(&self, vault: Option<&'v crate::bridge::vault::Vault>, departed: &'v Departed) -> FromApp<'v>
    where
        'a: 'v,
    {
        let context = ToClient { vault, ..*self.context };
        let shown = if self.status < 500 && !self.overtaken { &departed.seen.shown[..] } else { &[] };
        let mut from_app = to_client::read(&context, self.taken, shown);
        if self.overtaken {
            from_app.leave_shown(&departed.seen.shown);
        }
        if let Some(edit) = self.riding.and_then(|token| to_client::path_edit(&context, token)) {
            from_app.edits.push(edit);
        }
        from_app
    }
}

/// True where the vault has every token part that the browser showed.
fn holds(app: Option<&AppSession>, shown: &[Shown]) -> bool {
    let held = |part: &Shown| {
        app.is_some_and(|app| {
            app.vault().iter().any(|cookie| cookie.role == part.role && *cookie.value == *part.value)
        })
    };
    shown.iter().all(held)
}
