//! The live sessions: the only place where a bridge session is found, made, renamed and ended.
//!
//! Invariants: a session is found only under an id that is good at that moment; an ended one is never found again; pending
//! sessions fill a fifth of the table at the most, oldest first out; no guard of the table leaves this module.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bridge::adoption::Orphan;
use crate::bridge::app_session::AppSession;
use crate::bridge::id::{BridgeId, Handle, Key};
use crate::bridge::rules::{AppIx, Clocks};
use crate::bridge::session::{End, Farewell, Phase, Session};
use crate::bridge::timeline::Event;
use crate::secret::Keyed;
use crate::store::Store;
use crate::time::Timestamp;

pub mod agenda;
mod copied;
pub mod copies;
mod dials;
mod ended;
mod front;
mod index;
mod labels;
pub mod options;
mod packed;
mod record;
mod refresh;
pub mod restoring;
mod slot;
mod table;
#[cfg(test)]
mod tests;
mod tombs;

pub use ended::Ended;
pub use slot::{FLIGHT, Flight, GRACE, Slot, Visitor};
pub use table::{Ticket, Walk};

use agenda::{Entry, Waiting};
use copied::Tally;
use copies::Sharing;
use dials::Dials;
use ended::Graveyard;
use options::Options;
use record::Outbox;
use slot::Held;
use table::{By, Seen, Table};

/// How long another proxy's session is remembered that nobody uses here.
const COPIES: Duration = Duration::from_secs(600);
/// Ids of one session, those that have been replaced included; the oldest makes room.
const MOST_IDS: usize = 8;
/// Tokens by which one session is found, beyond those that its apps have: the oldest makes room, so that tokens that change with
/// use do not pile up.
const MOST_TOKENS: usize = 8;

/// All live bridge sessions.
#[derive(Debug)]
pub struct Registry {
    table: Table,
    pending: Mutex<VecDeque<Ticket>>,
    graveyard: Mutex<Graveyard>,
    keyed: Keyed,
    dials: Dials,
    options: Options,
    tally: Arc<Tally>,
    outbox: Outbox,
    sharing: Option<Box<Sharing>>,
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
        Self::kept_in(Store::memory(), options, clocks, key)
    }

    /// The same, of sessions that are kept in `store`.
    #[must_use]
    pub fn kept_in(store: Store, options: Options, clocks: Clocks, key: &[u8; 32]) -> Self {
        let dials = Dials::new();
        dials.set(&clocks);
        let tally = Arc::new(Tally::default());
        Self {
            table: Table::new(Arc::clone(&tally)),
            pending: Mutex::default(),
            graveyard: Mutex::default(),
            keyed: Keyed::new(key),
            dials,
            options,
            tally,
            sharing: store.is_shared().then(|| Box::new(Sharing::new(store.me()))),
            outbox: Outbox { store, other: None },
        }
    }

    /// The three clocks.
    #[must_use]
    pub fn clocks(&self) -> Clocks {
        self.dials.read()
    }

    /// From now on sessions live by `clocks`.
    pub fn set_clocks(&self, clocks: &Clocks) {
        self.dials.set(clocks);
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
        let found = self.table.find(By::Id, key.hash()).into_iter();
        let opened = found.filter_map(|slot| self.open_slot(slot, key, visitor, now)).next();
        opened.unwrap_or(Opened::Nothing)
    }

    /// Opens the session in `slot`; `None` where it has no such id.
    fn open_slot(&self, slot: Arc<Slot>, key: Key, visitor: Visitor, now: Timestamp) -> Option<Opened> {
        let (found, expired) = slot.with_kept(|kept| {
            let found = find(&kept.ids, key, visitor, now)?;
            let found = if kept.session.has_ended() { Found::Bad } else { found };
            let expired = if found.opens() { self.expired(&kept.session, now) } else { None };
            if found.opens() && expired.is_none() {
                returned(&mut kept.ids, key);
            }
            Some((found, expired))
        })?;
        Some(match (found, expired) {
            (Found::Bad, _) => Opened::Nothing,
            (Found::Overtaken, _) => Opened::Overtaken,
            // Whose it is ends it, and has its apps signed out.
            (Found::Good { .. }, Some(_)) if !self.is_mine(&slot) => Opened::Nothing,
            (Found::Good { .. }, Some(end)) => match self.end(&slot, end, now) {
                Some(farewell) => Opened::Over(slot, Box::new(farewell)),
                None => Opened::Nothing,
            },
            (Found::Good { replaced, line }, None) => {
                let bound = self.bind(&slot, now);
                Opened::Session { slot, bound, replaced, line }
            }
        })
    }

    /// Why a session is over by the clocks, if it is. Another proxy may know of an activity that nobody else has heard of yet.
    #[must_use]
    pub fn expired(&self, session: &Session, now: Timestamp) -> Option<End> {
        let end = session.expired(&self.clocks(), now)?;
        if end == End::Idle { session.expired(&self.clocks(), now.minus(self.lag())) } else { Some(end) }
    }

    /// True where a session is over by the clocks, as [`Registry::expired`] says.
    #[must_use]
    pub fn is_over(&self, session: &Session, now: Timestamp) -> bool {
        self.expired(session, now).is_some()
    }

    /// Makes a pending session; `random` are 16 bytes of the system's CSPRNG. The oldest pending one makes room, and its
    /// end is returned with it. `None` where the table is full of live sessions.
    #[must_use]
    pub fn create(&self, random: [u8; 16], now: Timestamp) -> Option<(Arc<Slot>, BridgeId)> {
        if self.tally.bound.load(Ordering::Relaxed) >= self.options.max_sessions {
            return None;
        }
        let id = BridgeId::new(random);
        let key = id.key();
        let handle = Handle(self.keyed.hash(&[b"handle", key.as_bytes()]));
        let copied = self.sharing.as_ref().map(|sharing| sharing.begin(&self.tally));
        let make = |ticket| Slot::new(Session::new(handle, now), key, ticket, copied);
        let slot = self.table.insert(key.hash(), make);
        if self.sharing.is_some() {
            slot.is_known(now);
            self.table.enter(By::Handle, handle.0, slot.ticket);
        }
        let pending = self.tally.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        let mut queue = self.pending();
        queue.push_back(slot.ticket);
        let evicted = if pending > self.options.max_pending() { self.oldest(&mut queue) } else { None };
        // Entries of sessions that were bound or ended are dropped as they come to the front.
        while queue.front().is_some_and(|front| !self.is_pending(*front)) {
            queue.pop_front();
        }
        drop(queue);
        if let Some(evicted) = evicted {
            self.end(&evicted, End::Evicted, now);
        }
        Some((slot, id))
    }

    /// Takes the oldest one that is still pending.
    fn oldest(&self, queue: &mut VecDeque<Ticket>) -> Option<Arc<Slot>> {
        while let Some(front) = queue.pop_front() {
            if self.is_pending(front) {
                return self.table.slot(front);
            }
        }
        None
    }

    fn pending(&self) -> MutexGuard<'_, VecDeque<Ticket>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn graveyard(&self) -> MutexGuard<'_, Graveyard> {
        self.graveyard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_pending(&self, ticket: Ticket) -> bool {
        self.table.phase(ticket) == Some(Phase::Pending)
    }

    /// A pending session's cookie has come back. True the first time.
    fn bind(&self, slot: &Slot, now: Timestamp) -> bool {
        let first = slot.with(|session| session.bind(now));
        if first {
            self.tally.waiting.fetch_sub(1, Ordering::Relaxed);
            self.tally.bound.fetch_add(1, Ordering::Relaxed);
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
            kept.drops(dropped.iter().map(Key::hash));
            kept.session.timeline.note(now, None, crate::bridge::timeline::What::Renewed);
            // Under the lock: a session that ends takes out all the ids that it knows of.
            self.table.enter(By::Id, key.hash(), slot.ticket);
            true
        });
        self.strike(&dropped, slot);
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
            kept.drops(dropped.iter().map(Key::hash));
            self.table.enter(By::Id, id.key().hash(), slot.ticket);
            true
        });
        self.strike(&dropped, slot);
        lives.then_some(id)
    }

    /// Ends a session: nobody finds it again, whoever waits for it is woken, its story is kept. `None` if it had ended.
    ///
    /// The store forgets it with the next commit. Of one that was [`End::Joined`] it does so where [`Registry::put`] is
    /// asked to: what it left to another session must be kept there first.
    pub fn end(&self, slot: &Arc<Slot>, end: End, now: Timestamp) -> Option<Farewell> {
        let (farewell, ids, owned, was) = slot.with_kept(|kept| {
            let was = kept.session.phase();
            let farewell = kept.session.end(end, now)?;
            if was == Phase::Bound {
                self.graveyard().bury(&kept.session, end, now);
            }
            if let Some(sharing) = &self.sharing {
                sharing.ends_here(kept, end, &self.clocks(), now);
            }
            let (ids, owned) = kept.no_longer_leads();
            Some((farewell, ids, owned, was))
        })?;
        if end.signs_apps_out() {
            let mut graveyard = self.graveyard();
            owned.iter().for_each(|hash| graveyard.entomb(*hash, now));
        }
        self.strike_all(slot, &ids, &owned);
        self.table.vacate(slot.ticket);
        self.tally.leaves(was);
        if end != End::Joined {
            self.put(slot);
        }
        slot.wake();
        Some(farewell)
    }

    /// Takes out all that leads to the session in `slot`.
    fn strike_all(&self, slot: &Slot, ids: &[u64], owned: &[u64]) {
        ids.iter().for_each(|hash| self.table.strike(By::Id, *hash, slot.ticket));
        owned.iter().for_each(|hash| self.table.strike(By::Token, *hash, slot.ticket));
        if self.sharing.is_some() {
            self.table.strike(By::Handle, slot.handle.0, slot.ticket);
        }
    }

    /// Takes out ids that open the session in `slot` no more.
    fn strike(&self, keys: &[Key], slot: &Slot) {
        for key in keys {
            self.table.strike(By::Id, key.hash(), slot.ticket);
        }
    }

    /// Remembers whose the token of `app` with these parts is. Of a session that has ended nothing is remembered.
    pub fn own_token<'a>(&self, app: AppIx, parts: impl Iterator<Item = &'a [u8]>, slot: &Arc<Slot>) {
        let hash = self.token_hash(app, parts);
        if slot.with_kept(|kept| kept.owned.contains(&hash)) {
            return;
        }
        for before in self.table.find(By::Token, hash) {
            self.disown(&before, hash);
        }
        slot.with_kept(|kept| {
            if kept.session.has_ended() {
                return;
            }
            if kept.owned.len() >= MOST_TOKENS {
                // Never one that an app still has: another session could take it over.
                let held = self.held_tokens(&kept.session);
                if let Some(dead) = kept.owned.iter().position(|hash| !held.contains(hash)) {
                    self.table.strike(By::Token, kept.owned.remove(dead), slot.ticket);
                }
            }
            kept.owned.push(hash);
            self.graveyard().exhume(hash);
            self.table.enter(By::Token, hash, slot.ticket);
        });
    }

    /// Hashes of the tokens that a session's apps have now.
    fn held_tokens(&self, session: &Session) -> Vec<u64> {
        let of = |app: &AppSession| -> Vec<u64> {
            let hash = |parts: &Vec<Box<[u8]>>| self.token_hash(app.app, parts.iter().map(|part| &**part));
            app.tokens().iter().map(hash).collect()
        };
        session.all_apps().flat_map(of).collect()
    }

    fn disown(&self, slot: &Slot, hash: u64) {
        slot.with_kept(|kept| {
            let before = kept.owned.len();
            kept.owned.retain(|owned| *owned != hash);
            if kept.owned.len() < before {
                self.table.strike(By::Token, hash, slot.ticket);
            }
        });
    }

    /// The session of `app` that the token with these parts pointed to has been signed out of: it is nobody's any more.
    pub fn entomb<'a>(&self, app: AppIx, parts: impl Iterator<Item = &'a [u8]>, slot: &Slot, now: Timestamp) {
        let hash = self.token_hash(app, parts);
        self.graveyard().entomb(hash, now);
        self.disown(slot, hash);
    }

    /// True for a token whose session has ended here, within the last day: whoever still shows it brings nothing back.
    #[must_use]
    pub fn is_entombed<'a>(&self, app: AppIx, parts: impl Iterator<Item = &'a [u8]>) -> bool {
        let hash = self.token_hash(app, parts);
        self.graveyard().is_entombed(hash)
    }

    /// The live session that was given the token of `app` with these parts, the last one if several were.
    #[must_use]
    pub fn owner<'a>(&self, app: AppIx, parts: impl Iterator<Item = &'a [u8]>) -> Option<Arc<Slot>> {
        let hash = self.token_hash(app, parts);
        let owns =
            |slot: &Arc<Slot>| slot.with_kept(|kept| !kept.session.has_ended() && kept.owned.contains(&hash));
        self.table.find(By::Token, hash).into_iter().find(owns)
    }

    /// Takes the app session out of a pending bridge session that was given this token a moment ago at the same place:
    /// once, whoever asks first. What is left of that bridge session ends, and wants [`Registry::put`] once the app session
    /// is in its new place.
    ///
    /// # Errors
    /// Says why it stays where it is.
    pub fn take_orphan<'a>(
        &self,
        app: AppIx,
        parts: impl Iterator<Item = &'a [u8]>,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(AppSession, Arc<Slot>), Refusal> {
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
        Ok((taken, slot))
    }

    /// The keyed hash that stands for a token of `app`.
    #[must_use]
    pub fn token_hash<'a>(&self, app: AppIx, parts: impl Iterator<Item = &'a [u8]>) -> u64 {
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
        Counts {
            bound: self.tally.bound.load(Ordering::Relaxed),
            pending: self.tally.waiting.load(Ordering::Relaxed),
        }
    }

    /// Runs `look` on every live session once, in no order; stops when it says false. A session that sleeps sleeps on. Those of an
    /// earlier process that nobody has opened yet are left out.
    pub fn each(&self, mut look: impl FnMut(&Session, Ticket) -> bool) {
        let mut walk = Walk::default();
        while let Some(seen) = self.table.look(&mut walk) {
            let goes_on = seen.into_iter().all(|seen| match seen {
                Seen::Asleep(ticket, session) => look(&session, ticket),
                Seen::Awake(slot) => slot.with(|session| session.has_ended() || look(session, slot.ticket)),
            });
            if !goes_on {
                return;
            }
        }
    }

    /// The live session of `ticket`.
    #[must_use]
    pub fn slot(&self, ticket: Ticket) -> Option<Arc<Slot>> {
        self.table.slot(ticket)
    }

    /// What has waited, if its session still lives.
    #[must_use]
    pub fn entry(&self, waiting: Waiting) -> Option<Entry> {
        Some(Entry { slot: self.table.slot(waiting.ticket())?, watch: waiting.watch() })
    }

    /// The live session with this handle.
    #[must_use]
    pub fn find(&self, handle: Handle) -> Option<Arc<Slot>> {
        if self.sharing.is_none() {
            return self.table.with_handle(handle);
        }
        self.table.find(By::Handle, handle.0).into_iter().find(|slot| slot.handle == handle)
    }

    /// Goes on with an endless walk by a few sessions: those that were not used since it last came by fall asleep, the
    /// clocks of the others are kept. What is another proxy's stays awake for some minutes, for an outage of the store, and is
    /// no longer kept here then; in an outage it stays.
    pub fn rest(&self, walk: &mut Walk, now: Timestamp) {
        let leave = if self.store().fails() { Timestamp::ZERO } else { now.minus(COPIES) };
        let rested = self.table.rest(walk, self.sharing.as_ref().map(|sharing| (sharing.me, leave)));
        match &self.sharing {
            None => self.keep_clocks(&rested.used),
            Some(_) => rested.used.iter().for_each(|slot| self.goes_on(slot, now)),
        }
        self.keep_clocks(&rested.unsaved);
        rested.left.iter().for_each(|slot| self.leave(slot));
        self.go_on_putting();
    }

    /// By how many calls of [`Registry::rest`] a walk comes round.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.table.pieces()
    }

    /// The story of an ended session.
    #[must_use]
    pub fn ended(&self, handle: Handle) -> Option<Ended> {
        self.graveyard().find(handle)
    }

    /// Adds to the story of a session that has ended; nothing where it is not kept.
    pub fn note_ended(&self, handle: Handle, event: Event) {
        self.graveyard().note(handle, event);
    }

    /// The stories of the sessions that ended last, latest first.
    #[must_use]
    pub fn latest_ended(&self, most: usize) -> Vec<Ended> {
        self.graveyard().latest(most)
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

/// What `key` is; `None`: no id of the session.
fn find(ids: &[Held], key: Key, visitor: Visitor, now: Timestamp) -> Option<Found> {
    let held = ids.iter().find(|held| held.key == key)?;
    Some(if held.opens(visitor, now) {
        Found::Good { replaced: held.replaced.is_some(), line: held.line }
    } else if held.in_grace(visitor, now) {
        Found::Overtaken
    } else {
        Found::Bad
    })
}

/// The browser has shown `key`: the id in whose place it came is over, and those before that.
fn returned(ids: &mut [Held], key: Key) {
    let Some(held) = ids.iter_mut().find(|held| held.key == key && !held.seen) else { return };
    held.seen = true;
    replaces(ids, key);
}

/// What the id `key`, which the browser has shown, came in place of is over.
fn replaces(ids: &mut [Held], key: Key) {
    let mut before = ids.iter_mut().find(|held| held.key == key).and_then(|held| held.instead_of.take());
    while let Some(held) = before.and_then(|key| ids.iter_mut().find(|held| held.key == key)) {
        held.over = true;
        before = held.instead_of.take();
    }
}
