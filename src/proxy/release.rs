//! The mode `release` in a request's story: what the browser shows is let go, what it lacks is handed back, and whoever has no
//! session here is passed through.
//!
//! Invariant: no session is begun for what a cookie can carry; an answer whose app session has gone to the browser is passed
//! on as the app said it.

use std::rc::Rc;

use http::HeaderValue;

use super::Proxy;
use super::back::{Heard, Returned};
use super::exchange::{Departed, Exchange};
use super::visit::Visit;
use crate::bridge::answer::Effect;
use crate::bridge::app_session::Learned;
use crate::bridge::release::{self, Asks, HandedBack};
use crate::bridge::rules::{AppIx, AppRules};
use crate::bridge::session::{End, Session};
use crate::bridge::to_client::SetCookies;
use crate::bridge::vault::Vault;
use crate::wire::set_cookie::SetCookie;

/// What a request brings about besides its own answer.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// The vault that the browser has shown to have itself.
    vault: Option<Vault>,
    /// What heartbeats have left for the browser.
    waiting: Vec<HeaderValue>,
}

impl Exchange<'_> {
    /// True where sessions are handed back.
    pub(super) fn releases(&self) -> bool {
        self.route.rules.releases
    }

    fn asks(&self) -> Asks<'_> {
        let cookies = self.inbound.cookies.as_ref().map_or(&b""[..], |line| line.as_bytes());
        Asks {
            host: &self.inbound.host,
            path: self.inbound.path(),
            https: self.inbound.client.https,
            cookies,
            now: self.inbound.now,
        }
    }

    fn rules_of<'s>(&'s self) -> impl Fn(AppIx) -> Option<&'s AppRules> {
        |app| self.map.route(app).map(|route| &route.rules)
    }

    /// What the browser shows to hold itself goes out of its bridge session; the last of it ends that.
    pub(super) fn let_go(&self, proxy: &Proxy, visit: &mut Visit) -> Released {
        let Some(slot) = visit.slot.clone().filter(|_| self.releases() && !self.standing.skip_session) else {
            return Released::default();
        };
        let (released, left) = slot.with(|session| {
            let vault = release::let_go(session, &self.route.rules, self.rules_of(), &self.asks());
            let waiting = vault.as_ref().map_or_else(Vec::new, |_| session.passed.take_waiting(self.app()));
            if vault.is_some() {
                // The last of her visits that is counted here.
                session.touch(self.app(), self.standing.activity, self.inbound.now);
            }
            (Released { vault, waiting }, session.apps().next().is_some())
        });
        if !left && proxy.shared.registry.end(&slot, End::Released, self.inbound.now).is_some() {
            proxy.count_end(End::Released);
            visit.slot = None;
            visit.stale = true;
        }
        released
    }

    /// The cookies that the browser showed under names of the proxy's making get their own names back.
    pub(super) fn rename(&self, departed: &mut Departed, released: &Released) {
        let shown = &departed.seen.renamed;
        if !shown.is_empty() {
            let vault = released.vault.as_ref();
            departed.renamed = release::renamed(&self.route.rules, vault, shown, &self.asks());
        }
    }

    /// An answer of which only the browser is to know: as the app said it. It may be a sign-out all the same.
    pub(super) fn pass_on(&self, departed: &Departed, heard: &Heard<'_>, bridged: bool) -> Returned {
        let mut said = SetCookies::new();
        for field in heard.taken {
            if self.route.rules.session.is_some() {
                release::as_said(heard.context, field, &mut said);
            } else {
                said.push(field.clone());
            }
        }
        let mut returned = Returned { fields: said.into_iter().collect(), ..Returned::default() };
        self.put_renamed(departed, heard, &mut returned);
        if bridged {
            // What is left of the session, on other hosts, is to end with it.
            let rules = &self.route.rules;
            let changed = heard.taken.iter().filter_map(|field| SetCookie::parse(field.as_bytes()));
            let changed = changed.filter(|set| {
                rules.session.as_ref().is_some_and(|session| session.cookie(set.name()).is_some())
            });
            let learned = Learned { changed: changed.count() > 0, ..Learned::default() };
            let out = self.asked().signed_out(&rules.sign_out, heard.status, learned);
            returned.effect = Effect { signed_out: out.then_some(rules.sign_out.scope), ..Effect::default() };
        }
        returned
    }

    /// Adds the renamed cookies under their own names, but for those that the answer itself sets.
    pub(super) fn put_renamed(&self, departed: &Departed, heard: &Heard<'_>, returned: &mut Returned) {
        for HandedBack { name, sets, deletes } in &departed.renamed {
            let said = |field: &HeaderValue| {
                SetCookie::parse(field.as_bytes()).is_some_and(|set| *set.name() == **name)
            };
            returned.ours = true;
            returned.fields.extend(deletes.iter().cloned());
            if !heard.taken.iter().any(said) {
                returned.fields.extend(sets.iter().cloned());
            }
        }
        if !departed.released.waiting.is_empty() {
            returned.ours = true;
            returned.fields.extend(departed.released.waiting.iter().cloned());
        }
    }

    /// Hands back what the vaults hold for this host. What the janitor has to do comes before, and only here: later its
    /// deletions would meet what was handed back.
    pub(super) fn hand_back(
        &self,
        proxy: &Rc<Proxy>,
        visit: &Visit,
        departed: &Departed,
        returned: &mut Returned,
    ) {
        let Some(slot) = visit.slot.as_ref().filter(|_| !self.standing.skip_session) else { return };
        if returned.effect.signed_out.is_some() {
            return;
        }
        let asks = Asks { now: proxy.now(), ..self.asks() };
        let (held, fields) = slot.with(|session| {
            let held = session.app(self.app()).is_some();
            (held, release::hand_back(session, self.app(), self.rules_of(), &asks))
        });
        if held {
            returned.fields.extend(self.janitor(proxy, departed, false));
        }
        returned.ours |= !fields.is_empty();
        returned.fields.extend(fields);
    }

    /// True where the answer is none of the bridge's business: its app session has gone to the browser, or never was here.
    pub(super) fn is_out(&self, session: &Session, departed: &Departed, heard: &Heard<'_>) -> bool {
        self.releases() && heard.riding.is_none() && release::is_out(session, self.app(), departed.begun)
    }
}
