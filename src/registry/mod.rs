//! The live sessions: the only place where a bridge session is found, made, renamed and ended.
//!
//! Invariants: a session is found only under an id that is good at that moment; an ended one is never found again; pending
//! sessions fill a fifth of the table at the most, oldest first out; no guard of the table leaves this module.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dashmap::DashMap;

use crate::bridge::adoption::Orphan;
use crate::bridge::app_session::AppSession;
use crate::bridge::id::{BridgeId, Handle, Key};
use crate::bridge::rules::{AppIx, Clocks};
use crate::bridge::session::{End, Farewell, Phase, Session};
use crate::bridge::timeline::Event;
use crate::secret::Keyed;
use crate::time::Timestamp;

pub mod agenda;
mod ended;
mod labels;
pub mod options;
mod slot;
#[cfg(test)]
mod tests;

pub use ended::Ended;
pub use slot::{FLIGHT, Flight, GRACE, Slot, Visitor};

use ended::Graveyard;
use options::Options;
use slot::Held;

/// Ids of one session, those that have been replaced included; the oldest makes room.
const MOST_IDS: usize = 8;

type Hasher = foldhash::fast::RandomState;

/// All live bridge sessions.
#[derive(Debug)]
pub struct Registry {
    table: DashMap<Key, Arc<Slot>, Hasher>,
    /// Whose a token is, by its keyed hash. Only for apps whose tokens may be taken over.
    owners: DashMap<u64, Weak<Slot>, Hasher>,
    pending: Mutex<VecDeque<Weak<Slot>>>,
    graveyard: Mutex<Graveyard>,
    keyed: Keyed,
    clocks: Clocks,
    options: Options,
    bound: AtomicUsize,
    waiting: AtomicUsize,
}

/// What an id opened.
#[derive(Debug)]
pub enum Opened {
    /// Nothing: unknown, or no longer good.
    Nothing,
    /// Nothing any more: another id took its place a moment ago, and this very browser has shown that one already. Its
    /// answer must leave the cookie alone, which it would overwrite.
    Overtaken,
    /// A session. `bound`: its cookie has just come back for the first time.
    Session {
        /// It.
        slot: Arc<Slot>,
        /// True the first time.
        bound: bool,
        /// True where the id is one that has been replaced, within its grace.
        replaced: bool,
        /// Which host's id it is, for [`Registry::renew`].
        line: u8,
    },
    /// One whose time has come: it has ended now, and its apps want to be signed out.
    Over(Arc<Slot>, Box<Farewell>),
}

/// Why a token was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody was given it through this proxy.
    Unknown,
    /// It belongs to another bridge session.
    Bound,
    /// It was issued too long ago, or to another place.
    Stale,
}

/// How many sessions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Whose cookie has come back.
    pub bound: usize,
    /// Whose cookie has not come back yet.
    pub pending: usize,
}

impl Registry {
    /// An empty one. `key` are 32 random bytes: what handles and token hashes are keyed with.
    #[must_use]
    pub fn new(options: Options, clocks: Clocks, key: &[u8; 32]) -> Self {
        Self {
            table: DashMap::with_hasher(Hasher::default()),
            owners: DashMap::with_hasher(Hasher::default()),
            pending: Mutex::default(),
            graveyard: Mutex::default(),
            keyed: Keyed::new(key),
            clocks,
            options,
            bound: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The three clocks.
    #[must_use]
    pub const fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// The keyed hash that stands for secrets: canaries, tokens.
    #[must_use]
    pub const fn keyed(&self) -> &Keyed {
        &self.keyed
    }

    /// Opens the session of `id`, shown by `visitor`.
    #[must_use]
    pub fn open(&self, id: &BridgeId, visitor: Visitor, now: Timestamp) -> Opened {
        let key = id.key();
        let Some(slot) = self.table.get(&key).map(|slot| Arc::clone(&slot)) else { return Opened::Nothing };
        let (found, expired) = slot.with_kept(|kept| {
            let found =
                if kept.session.has_ended() { Found::Bad } else { find(&kept.ids, key, visitor, now) };
            let expired = if found.opens() { kept.session.expired(&self.clocks, now) } else { None };
            if found.opens() && expired.is_none() {
                returned(&mut kept.ids, key);
            }
            (found, expired)
        });
        match (found, expired) {
            (Found::Bad, _) => Opened::Nothing,
            (Found::Overtaken, _) => Opened::Overtaken,
            (Found::Good { .. }, Some(end)) => match self.end(&slot, end, now) {
                Some(farewell) => Opened::Over(slot, Box::new(farewell)),
                None => Opened::Nothing,
            },
            (Found::Good { replaced, line }, None) => {
                let bound = self.bind(&slot, now);
                Opened::Session { slot, bound, replaced, line }
            }
        }
    }

    /// Makes a pending session; `random` are 16 bytes of the system's CSPRNG. The oldest pending one makes room, and its
    /// end is returned with it. `None` where the table is full of live sessions.
    #[must_use]
    pub fn create(&self, random: [u8; 16], now: Timestamp) -> Option<(Arc<Slot>, BridgeId)> {
        if self.bound.load(Ordering::Relaxed) >= self.options.max_sessions {
            return None;
        }
        let id = BridgeId::new(random);
        let key = id.key();
        let handle = Handle(self.keyed.hash(&[b"handle", key.as_bytes()]));
        let slot = Arc::new(Slot::new(Session::new(handle, now), key));
        self.table.insert(key, Arc::clone(&slot));
        let pending = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        let mut queue = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(Arc::downgrade(&slot));
        let evicted = if pending > self.options.max_pending() { oldest(&mut queue) } else { None };
        // Entries of sessions that were bound or ended are dropped as they come to the front.
        while queue.front().is_some_and(|front| !is_pending(front)) {
            queue.pop_front();
        }
        drop(queue);
        if let Some(evicted) = evicted {
            self.end(&evicted, End::Evicted, now);
        }
        Some((slot, id))
    }

    /// A pending session's cookie has come back. True the first time.
    fn bind(&self, slot: &Slot, now: Timestamp) -> bool {
        let first = slot.with(|session| session.bind(now));
        if first {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.bound.fetch_add(1, Ordering::Relaxed);
        }
        first
    }

    /// Gives the session another id on the host of `line`; `random` are 16 bytes of the system's CSPRNG. Those that it had
    /// there stay good for `visitor` until the new one has come back, [`GRACE`] at the most. Its ids on other hosts, where
    /// nothing can be set now, are good for `visitor` only from here on. `None` for a session that has ended.
    #[must_use]
    pub fn renew(
        &self,
        slot: &Arc<Slot>,
        random: [u8; 16],
        (visitor, line): (Visitor, u8),
        now: Timestamp,
    ) -> Option<BridgeId> {
        let id = BridgeId::new(random);
        let (mut dropped, key) = (Vec::new(), id.key());
        let lives = slot.with_kept(|kept| {
            if kept.session.has_ended() {
                return false;
            }
            kept.ids.retain(|held| {
                let keep = held.replaced.is_none_or(|(since, _)| now.since(since) < GRACE);
                if !keep {
                    dropped.push(held.key);
                }
                keep
            });
            make_room(&mut kept.ids, &mut dropped);
            let instead_of = kept.ids.iter().find(|held| held.line == line && held.replaced.is_none());
            let instead_of = instead_of.map(|held| held.key);
            for held in &mut kept.ids {
                if held.line == line {
                    held.replaced.get_or_insert((now, visitor));
                } else {
                    held.only.get_or_insert(visitor);
                }
            }
            kept.ids.push(Held::new(key, line, instead_of));
            kept.session.timeline.note(now, None, crate::bridge::timeline::What::Renewed);
            // Under the lock: a session that ends takes out all the ids that it knows of.
            self.table.insert(key, Arc::clone(slot));
            true
        });
        for key in dropped {
            self.table.remove(&key);
        }
        lives.then_some(id)
    }

    /// Gives the session one more id, for another host of the same browser. `None` for a session that has ended.
    #[must_use]
    pub fn second_id(&self, slot: &Arc<Slot>, random: [u8; 16]) -> Option<BridgeId> {
        let id = BridgeId::new(random);
        let mut dropped = Vec::new();
        let lives = slot.with_kept(|kept| {
            if kept.session.has_ended() {
                return false;
            }
            make_room(&mut kept.ids, &mut dropped);
            let line = kept.ids.iter().map(|held| held.line).max().map_or(0, |last| last.saturating_add(1));
            kept.ids.push(Held::new(id.key(), line, None));
            self.table.insert(id.key(), Arc::clone(slot));
            true
        });
        for key in dropped {
            self.table.remove(&key);
        }
        lives.then_some(id)
    }

    /// Ends a session: nobody finds it again, whoever waits for it is woken, its story is kept. `None` if it had ended.
    pub fn end(&self, slot: &Slot, end: End, now: Timestamp) -> Option<Farewell> {
        let (farewell, keys, was) = slot.with_kept(|kept| {
            let was = kept.session.phase();
            let farewell = kept.session.end(end, now)?;
            let keys: Vec<Key> = kept.ids.drain(..).map(|held| held.key).collect();
            if was == Phase::Bound {
                self.graveyard.lock().unwrap_or_else(PoisonError::into_inner).bury(&kept.session, end, now);
            }
            Some((farewell, keys, was))
        })?;
        for key in keys {
            self.table.remove(&key);
        }
        let count = if was == Phase::Bound { &self.bound } else { &self.waiting };
        count.fetch_sub(1, Ordering::Relaxed);
        slot.wake();
        Some(farewell)
    }

    /// Remembers whose the token of `app` with these parts is.
    pub fn own_token<'a>(&self, app: AppIx, parts: impl Iterator<Item = &'a [u8]>, slot: &Arc<Slot>) {
        if self.owners.len() > self.options.max_sessions.saturating_mul(2) {
            self.owners.retain(|_, owner| owner.strong_count() > 0);
        }
        self.owners.insert(self.token_hash(app, parts), Arc::downgrade(slot));
    }

    /// The live session that was given the token of `app` with these parts.
    #[must_use]
    pub fn owner<'a>(&self, app: AppIx, parts: impl Iterator<Item = &'a [u8]>) -> Option<Arc<Slot>> {
        let hash = self.token_hash(app, parts);
        let slot = self.owners.get(&hash).and_then(|owner| owner.upgrade())?;
        (!slot.with(|session| session.has_ended())).then_some(slot)
    }

    /// Takes the app session out of a pending bridge session that was given this token a moment ago at the same place:
    /// once, whoever asks first. What is left of that bridge session ends.
    ///
    /// # Errors
    /// Says why it stays where it is.
    pub fn take_orphan<'a>(
        &self,
        app: AppIx,
        parts: impl Iterator<Item = &'a [u8]>,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<AppSession, Refusal> {
        let slot = self.owner(app, parts).ok_or(Refusal::Unknown)?;
        let taken = slot.with(|session| {
            if session.phase() != Phase::Pending {
                return Err(Refusal::Bound);
            }
            let held = session.app(app).ok_or(Refusal::Unknown)?;
            if held.adopted {
                // Whoever took it over is pending as well until its own cookie comes back; a token is taken once.
                return Err(Refusal::Bound);
            }
            let issued = held.renewed;
            if !(Orphan { issued, address: session.address }).may_go_to(address, now) {
                return Err(Refusal::Stale);
            }
            session.take_app(app).ok_or(Refusal::Unknown)
        })?;
        self.end(&slot, End::Joined, now);
        Ok(taken)
    }

    fn token_hash<'a>(&self, app: AppIx, parts: impl Iterator<Item = &'a [u8]>) -> u64 {
        let app = app.0.to_le_bytes();
        let mut list: smallvec::SmallVec<[&[u8]; 4]> = smallvec::smallvec![&b"token"[..], &app[..]];
        for part in parts {
            list.push(part);
        }
        self.keyed.hash(&list)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { bound: self.bound.load(Ordering::Relaxed), pending: self.waiting.load(Ordering::Relaxed) }
    }

    /// Runs `look` on every live session, in no order; stops when it says false.
    pub fn each(&self, mut look: impl FnMut(&Arc<Slot>) -> bool) {
        for entry in &self.table {
            if !look(entry.value()) {
                return;
            }
        }
    }

    /// The live session with this handle.
    #[must_use]
    pub fn find(&self, handle: Handle) -> Option<Arc<Slot>> {
        self.table.iter().find(|entry| entry.value().handle == handle).map(|entry| Arc::clone(entry.value()))
    }

    /// The story of an ended session.
    #[must_use]
    pub fn ended(&self, handle: Handle) -> Option<Ended> {
        self.graveyard.lock().unwrap_or_else(PoisonError::into_inner).find(handle)
    }

    /// Adds to the story of a session that has ended; nothing where it is not kept.
    pub fn note_ended(&self, handle: Handle, event: Event) {
        self.graveyard.lock().unwrap_or_else(PoisonError::into_inner).note(handle, event);
    }

    /// The stories of the sessions that ended last, latest first.
    #[must_use]
    pub fn latest_ended(&self, most: usize) -> Vec<Ended> {
        self.graveyard.lock().unwrap_or_else(PoisonError::into_inner).latest(most)
    }
}

/// Takes ids out where there are too many: replaced ones first, then those that never came back, then the oldest.
fn make_room(ids: &mut smallvec::SmallVec<[Held; 1]>, dropped: &mut Vec<Key>) {
    while ids.len() >= MOST_IDS {
        let replaced = ids.iter().position(|held| held.replaced.is_some());
        let goes = replaced.or_else(|| ids.iter().position(|held| !held.seen)).unwrap_or(0);
        dropped.push(ids.remove(goes).key);
    }
}

/// What an id is to its session.
#[derive(Clone, Copy)]
enum Found {
    Bad,
    Overtaken,
    Good { replaced: bool, line: u8 },
}

impl Found {
    const fn opens(self) -> bool {
        matches!(self, Self::Good { .. })
    }
}

fn find(ids: &[Held], key: Key, visitor: Visitor, now: Timestamp) -> Found {
    match ids.iter().find(|held| held.key == key) {
        Some(held) if held.opens(visitor, now) => {
            Found::Good { replaced: held.replaced.is_some(), line: held.line }
        }
        Some(held) if held.in_grace(visitor, now) => Found::Overtaken,
        _ => Found::Bad,
    }
}

/// The browser has shown `key`: the id in whose place it came is over, and those before that.
fn returned(ids: &mut [Held], key: Key) {
    let Some(held) = ids.iter_mut().find(|held| held.key == key && !held.seen) else { return };
    held.seen = true;
    let mut before = held.instead_of.take();
    while let Some(held) = before.and_then(|key| ids.iter_mut().find(|held| held.key == key)) {
        held.over = true;
        before = held.instead_of.take();
    }
}

/// Takes the oldest one that is still pending.
fn oldest(queue: &mut VecDeque<Weak<Slot>>) -> Option<Arc<Slot>> {
    while let Some(front) = queue.pop_front() {
        if let Some(slot) =
            front.upgrade().filter(|slot| slot.with(|session| session.phase() == Phase::Pending))
        {
            return Some(slot);
        }
    }
    None
}

fn is_pending(entry: &Weak<Slot>) -> bool {
    entry.upgrade().is_some_and(|slot| slot.with(|session| session.phase() == Phase::Pending))
}
