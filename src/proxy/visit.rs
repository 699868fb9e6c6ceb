//! The bridge session of a request: found by its cookie, made when an app first gives a token, renewed at a sign-in.
//!
//! Invariant: nothing is made for a request that may have a cookie which `SameSite` kept away, nor before an app has given
//! something to remember.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use super::Proxy;
use super::error::Error;
use super::inbound::Inbound;
use super::note::Note;
use crate::bridge::app_session::Public;
use crate::bridge::bridge_cookie;
use crate::bridge::id::BridgeId;
use crate::bridge::rules::Mode;
use crate::bridge::session::{End, Farewell, Phase, mix};
use crate::bridge::traits::ClientTraits;
use crate::random;
use crate::registry::agenda::Watch;
use crate::registry::{Opened, Slot, Visitor};
use crate::route::RouteMap;
use crate::setting::Setting;
use crate::telemetry::labels::EndReason;
use crate::wire::fields::Fields;

/// The bridge session that a request belongs to.
#[derive(Debug)]
pub(super) struct Visit {
    /// It, if there is one.
    pub slot: Option<Arc<Slot>>,
    /// Who shows its cookie.
    pub visitor: Visitor,
    /// True where `SameSite` may have kept the cookie away, or where it was sent before a newer one came: none is set in
    /// answer to this.
    pub kept_away: bool,
    /// True where the id that was shown has been replaced: its answer may be the one that the browser keeps.
    pub replaced: bool,
    /// Which of the session's hosts this is, as the registry counts them.
    pub line: u8,
    /// True where the browser's cookie opens nothing any more: it is deleted unless another takes its place.
    pub stale: bool,
    /// An id that the browser is to be given with the answer.
    pub gives: Option<BridgeId>,
    /// True where the session was made for this request.
    pub is_new: bool,
}

/// Things that many sessions have in common, kept once a thread.
#[derive(Debug, Default)]
pub(super) struct Interned {
    publics: HashMap<(Box<str>, bool), Arc<Public>, foldhash::fast::RandomState>,
    traits: HashMap<u64, Arc<ClientTraits>, foldhash::fast::RandomState>,
}

/// As many are kept before the list is begun anew: a bound on what clients can make us remember.
const INTERNED: usize = 4096;

impl Interned {
    /// The public origin of `inbound`.
    pub(super) fn public(&mut self, inbound: &Inbound<'_>) -> Arc<Public> {
        if self.publics.len() > INTERNED {
            self.publics.clear();
        }
        let key = (Box::from(&*inbound.authority), inbound.client.https);
        let make =
            || Arc::new(Public { authority: (*inbound.authority).into(), https: inbound.client.https });
        Arc::clone(self.publics.entry(key).or_insert_with(make))
    }

    /// How the browser of a request with `fields` introduces itself.
    pub(super) fn traits(&mut self, fields: &Fields<'_>) -> Arc<ClientTraits> {
        if self.traits.len() > INTERNED {
            self.traits.clear();
        }
        let traits = ClientTraits::of(fields);
        let hash = self.traits.hasher().hash_one(&traits);
        let known = self.traits.entry(hash).or_insert_with(|| Arc::new(traits.clone()));
        if **known == traits { Arc::clone(known) } else { Arc::new(traits) }
    }
}

impl Visit {
    /// Tells the log, and whoever keeps what an answer acknowledges, which session the request belongs to by now.
    pub(super) fn tell(&self, note: &mut Note) {
        let Some(slot) = &self.slot else { return };
        note.bridge = Some(slot.handle);
        note.session = Some((Arc::clone(slot), self.is_new));
    }
}

impl Proxy {
    /// Finds the bridge session of a request.
    pub(super) fn visit(self: &Rc<Self>, map: &Rc<Setting>, inbound: &Inbound<'_>, note: &mut Note) -> Visit {
        let agent = inbound.fields.user_agent.first().map_or(&b""[..], |agent| agent.as_bytes());
        let visitor = Visitor {
            address: inbound.address(),
            // Kept beyond the process: no hash that another version may make otherwise.
            agent: agent.chunks(8).fold(agent.len() as u64, |hash, chunk| mix(hash, word(chunk))),
        };
        let mut visit = Visit {
            slot: None,
            visitor,
            kept_away: false,
            replaced: false,
            line: 0,
            stale: false,
            gives: None,
            is_new: false,
        };
        match shown(map, inbound).map(|id| self.shared.registry.open(&id, visitor, inbound.now)) {
            None => {
                visit.kept_away = bridge_cookie::kept_away(
                    map.bridge.same_site,
                    inbound.method,
                    inbound.fetch,
                    inbound.fields.origin.first(),
                    &inbound.host,
                );
            }
            Some(Opened::Nothing) => visit.stale = true,
            Some(Opened::Overtaken) => visit.kept_away = true,
            Some(Opened::Session { slot, bound, replaced, line }) => {
                (visit.replaced, visit.line) = (replaced, line);
                note.bridge = Some(slot.handle);
                if bound {
                    self.arm(&slot, map);
                }
                visit.slot = Some(slot);
            }
            Some(Opened::Over(slot, farewell)) => {
                note.bridge = Some(slot.handle);
                visit.stale = true;
                self.sign_out_behind(map, farewell);
            }
        }
        visit
    }

    /// Makes a bridge session for the request: pending, until its cookie comes back.
    ///
    /// # Errors
    /// [`Error::TableFull`].
    pub(super) fn found(&self, inbound: &Inbound<'_>, visit: &mut Visit) -> Result<Arc<Slot>, Error> {
        let created = self.shared.registry.create(random::bytes(), inbound.now);
        let (slot, id) = created.ok_or(Error::TableFull)?;
        self.shared.new_sessions.count(inbound.address(), inbound.now);
        slot.with(|session| {
            session.traits = Some(self.interned.borrow_mut().traits(inbound.fields));
            session.address = Some(inbound.address());
        });
        self.watch_end(&slot);
        visit.slot = Some(Arc::clone(&slot));
        visit.gives = Some(id);
        visit.is_new = true;
        visit.stale = false;
        Ok(slot)
    }

    /// Gives the browser another id of its session: after a sign-in, an id that someone else may know is worthless.
    pub(super) fn renew(&self, slot: &Arc<Slot>, visit: &mut Visit, inbound: &Inbound<'_>) {
        visit.gives =
            self.shared.registry.renew(slot, random::bytes(), (visit.visitor, visit.line), inbound.now);
    }

    /// Watches a session for its end.
    pub(super) fn watch_end(&self, slot: &Arc<Slot>) {
        if slot
            .with(|session| session.ends_sooner(&self.shared.registry.clocks(), self.shared.registry.lag()))
        {
            self.agenda.put(slot, Watch::End);
        }
    }

    /// Looks after a session from here on: its end and, where its cookie has come back, its heartbeats.
    pub fn look_after(&self, slot: &Arc<Slot>) {
        self.watch_end(slot);
        if slot.with(|session| session.phase() == Phase::Bound) {
            self.arm(slot, &self.setting());
        }
    }

    /// Arms the heartbeats of all apps that have a token in the session.
    pub(super) fn arm(&self, slot: &Arc<Slot>, map: &RouteMap) {
        let apps: Vec<_> = slot.with(|session| map.to_beat(session));
        for app in apps {
            self.agenda.put(slot, Watch::Beat(app));
        }
    }

    /// Signs out of the apps of a session that has ended, without anybody waiting for it.
    pub(super) fn sign_out_behind(self: &Rc<Self>, map: &Rc<Setting>, farewell: Box<Farewell>) {
        self.count_end(farewell.end);
        if !farewell.end.signs_apps_out() || map.bridge.mode == Mode::Release && farewell.end.is_by_clock() {
            return;
        }
        let (sign_out, map) = (self.sign_out.clone(), Rc::clone(map));
        tokio::task::spawn_local(async move {
            sign_out.all(&map, &farewell, None).await;
        });
    }

    /// Counts the end of a session.
    pub(super) fn count_end(&self, end: End) {
        self.shard.session_end(EndReason::from(end));
    }
}

/// The id that a request shows.
pub(super) fn shown(map: &RouteMap, inbound: &Inbound<'_>) -> Option<BridgeId> {
    let name = map.bridge.cookie_name(inbound.client.https);
    bridge_cookie::read_line(inbound.cookies.as_ref()?.as_bytes(), name)
}

/// Up to eight bytes as a number.
fn word(chunk: &[u8]) -> u64 {
    chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}
