//! Sessions that several proxies share: each works on copies, and this is how they are kept true.
//!
//! A copy is fresh for a while after it was read or written, unless there was news of it since; whoever needs one that is not
//! reads it from the store and has it [taken in](Registry::take_in). One proxy owns each session: it watches over its clocks
//! and sends its heartbeats. The copies of the others go when nobody uses them.
//!
//! Invariants: what has ended anywhere is never taken in again; of one session there is one copy here, whoever brings it; what
//! has changed here and is not in the store is put there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::copied::{Copied, Tally};
use super::slot::{Kept, Slot};
use super::table::{By, Seen, Walk};
use super::tombs::{Tomb, Tombs};
use super::{Registry, Timestamp};
use crate::bridge::id::Handle;
use crate::bridge::packing::alone;
use crate::bridge::rules::Clocks;
use crate::bridge::session::End;
use crate::store::{Head, Record};

/// How long others remember that a session has ended by the clocks.
const TOMB: Duration = Duration::from_secs(600);
/// Pieces of the table that are put once more in one go.
const PIECES: usize = 16;
/// Locks under which copies arrive, by their names.
const ARRIVALS: usize = 64;

/// What a proxy knows of the others.
#[derive(Debug)]
pub(super) struct Sharing {
    /// This one.
    pub(super) me: u64,
    /// Since when news are heard, in microseconds; 0: they are not.
    heard: AtomicU64,
    /// How far it has come with putting everything once more.
    again: Mutex<Option<Walk>>,
    tombs: Mutex<Tombs>,
    arrivals: Box<[Mutex<()>]>,
}

/// Why a copy was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// It cannot be read.
    #[error(transparent)]
    Unknown(#[from] alone::Unknown),
}

impl Sharing {
    pub(super) fn new(me: u64) -> Self {
        let arrivals = (0..ARRIVALS).map(|_| Mutex::default()).collect();
        let (heard, again) = (AtomicU64::new(0), Mutex::default());
        Self { me, heard, again, tombs: Mutex::default(), arrivals }
    }

    /// A session begins here.
    pub(super) fn begin(&self, tally: &Arc<Tally>) -> Box<Copied> {
        Box::new(Copied::new(self.me, tally))
    }

    /// A session ends here. Nobody else hears of one that nobody else has heard of.
    pub(super) fn ends_here(&self, kept: &mut Kept, end: End, clocks: &Clocks, now: Timestamp) {
        let session = &kept.session;
        let hard_end = session.hard_end(clocks);
        let expires = if end.is_by_clock() { now } else { hard_end.max(now) }.plus(TOMB);
        let Some(copied) = kept.copied.as_mut().filter(|_| session.is_revised()) else {
            kept.copied = None;
            return;
        };
        copied.expires = expires;
        let tomb = Arc::new(Tomb::new(session.handle, (copied.owner, copied.epoch), expires));
        self.tombs().add(session.handle, Some(tomb), expires, now);
    }

    fn again(&self) -> MutexGuard<'_, Option<Walk>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tombs(&self) -> MutexGuard<'_, Tombs> {
        self.tombs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While it is held, nobody else brings or takes the copy of this session.
    #[expect(clippy::indexing_slicing, reason = "taken modulo their number, which is fixed")]
    fn arrives(&self, handle: Handle) -> MutexGuard<'_, ()> {
        self.arrivals[handle.0 as usize % ARRIVALS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> Option<Timestamp> {
        Some(self.heard.load(Ordering::Relaxed)).filter(|heard| *heard > 0).map(Timestamp::from_micros)
    }
}

impl Registry {
    /// Has sessions shared with others by somebody else than a store of this process: by `puts`, which is given what is to be
    /// written, at any time and under locks. `me` is this proxy's number as an owner.
    #[must_use]
    pub fn shared_by(mut self, me: u64, puts: impl Fn(Arc<dyn Record>) + Send + Sync + 'static) -> Self {
        self.sharing = Some(Box::new(Sharing::new(me)));
        self.outbox.other = Some(Box::new(puts));
        self
    }

    /// True where other proxies have the same sessions.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.sharing.is_some()
    }

    /// True where the copy was read or written after `moment`, and there was no news of it since. Always so where nobody else has
    /// the session.
    pub(super) fn is_known_since(&self, slot: &Slot, moment: Timestamp) -> bool {
        self.sharing.is_none() || self.undoubted(slot).is_some_and(|known| known > moment)
    }

    /// True where another proxy may have changed the session since its copy was read or written: the owner reads it again
    /// before it sends a heartbeat or ends it by the clocks.
    #[must_use]
    pub fn is_doubted(&self, slot: &Slot) -> bool {
        self.sharing.is_some() && self.undoubted(slot).is_none()
    }

    fn undoubted(&self, slot: &Slot) -> Option<Timestamp> {
        let heard = self.sharing.as_ref()?.heard()?;
        slot.known().filter(|known| *known > heard)
    }

    /// True where the session with this name is this proxy's own; one that sleeps is not woken.
    #[must_use]
    pub fn is_mine_by_name(&self, name: [u8; 8]) -> bool {
        // What sleeps is this proxy's own.
        let found = self.table.awake(Handle(u64::from_be_bytes(name)));
        found.is_some_and(|slot| slot.is_none_or(|slot| self.is_mine(&slot)))
    }

    /// True where this proxy sends the session's heartbeats and ends it by the clocks.
    #[must_use]
    pub fn is_mine(&self, slot: &Slot) -> bool {
        self.sharing.as_ref().is_none_or(|sharing| self.owner_of(slot) == Some(sharing.me))
    }

    /// The proxy that does so.
    #[must_use]
    pub fn owner_of(&self, slot: &Slot) -> Option<u64> {
        slot.with_kept(|kept| kept.copied.as_ref().map(|copied| copied.owner))
    }

    /// Takes in what the store has of a session, which was asked for at `asked`: as a copy, or into the one that is here. What
    /// has changed here and is not there yet stays, and is put.
    ///
    /// The owner is to watch over it from here on: an app may have a token now that it had not, and an end may be near.
    ///
    /// # Errors
    /// See [`NotTaken`]. Of a session that is known to have ended the store is told so once more.
    pub fn take_in(
        &self,
        head: &Head,
        (record, clocks): (&[u8], Option<&[u8]>),
        asked: Timestamp,
    ) -> Result<Arc<Slot>, NotTaken> {
        let mut theirs = alone::read(record, Kept::unpack)?;
        if let Some(clocks) = clocks {
            theirs.session.take_clocks(clocks);
        }
        let Some(sharing) = &self.sharing else { return Err(NotTaken::Unknown(alone::Unknown)) };
        let handle = theirs.session.handle;
        let _alone = sharing.arrives(handle);
        let tomb = sharing.tombs().find(handle);
        if let Some(own) = tomb {
            // The store has lost that it ended, and maybe with it whoever ended it.
            let heard = || Arc::new(Tomb::new(handle, (head.owner, head.epoch), head.expires));
            self.bury(own.unwrap_or_else(heard));
            return Err(NotTaken::Ended);
        }
        if theirs.session.has_ended() || head.ended {
            return Err(NotTaken::Ended);
        }
        let slot = match self.find(handle) {
            Some(slot) => self.merge_into(slot, theirs, head)?,
            // It may have ended since that was asked: what ends leaves its tomb before it goes.
            None if sharing.tombs().find(handle).is_some() => return Err(NotTaken::Ended),
            None => self.settle(theirs, head)?,
        };
        slot.is_known(asked);
        Ok(slot)
    }

    fn merge_into(&self, slot: Arc<Slot>, theirs: Kept, head: &Head) -> Result<Arc<Slot>, NotTaken> {
        let merged = slot.with_kept(|kept| {
            if kept.session.has_ended() {
                return None;
            }
            let merged = kept.merge(theirs, head);
            self.enter_all(kept, &slot);
            Some(merged)
        });
        let merged = merged.ok_or(NotTaken::Ended)?;
        if merged.ahead {
            self.put(&slot);
        }
        if merged.learned {
            slot.wake();
        }
        Ok(slot)
    }

    /// A copy of a session that is not here yet.
    fn settle(&self, mut kept: Kept, head: &Head) -> Result<Arc<Slot>, NotTaken> {
        let first = kept.ids.first().ok_or(alone::Unknown)?.key.hash();
        kept.session.arrived();
        let mut copied = Copied::new(head.owner, &self.tally);
        (copied.tag, copied.epoch, copied.expires) = (head.tag, head.epoch, head.expires);
        copied.put = kept.clocks();
        kept.copied = Some(Box::new(copied));
        kept.is_in_store();
        if let Some(count) = self.tally.counts(kept.session.phase()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let slot = self.table.insert(first, |ticket| Slot::awake(kept, ticket));
        slot.with_kept(|kept| self.enter_all(kept, &slot));
        Ok(slot)
    }

    /// Whatever leads to a session leads to its copy, under the session's lock.
    fn enter_all(&self, kept: &Kept, slot: &Slot) {
        self.table.enter_once(By::Handle, slot.handle.0, slot.ticket);
        for held in &kept.ids {
            self.table.enter_once(By::Id, held.key.hash(), slot.ticket);
        }
        for hash in &kept.owned {
            self.table.enter_once(By::Token, *hash, slot.ticket);
        }
    }

    /// This proxy owns the session from now on, where its owner is gone and a person has come here with it. True where it has
    /// changed hands: it is to be watched over.
    pub fn take_over(&self, slot: &Arc<Slot>, is_alive: impl Fn(u64) -> bool) -> bool {
        let Some(sharing) = &self.sharing else { return false };
        let taken = slot.with_kept(|kept| {
            let lives = !kept.session.has_ended();
            let orphan = |copied: &&mut Box<Copied>| copied.owner != sharing.me && !is_alive(copied.owner);
            let Some(copied) = kept.copied.as_mut().filter(|_| lives).filter(orphan) else { return false };
            (copied.owner, copied.epoch, copied.unlisted) =
                (sharing.me, copied.epoch.saturating_add(1), true);
            true
        });
        if taken {
            self.save(slot);
        }
        taken
    }

    /// The session with this name has ended on another proxy, as was heard at `now`. Whoever waits for it is woken, its
    /// streams close, and nothing of it is left here; its apps are signed out of elsewhere.
    pub fn end_elsewhere(&self, name: [u8; 8], now: Timestamp) -> Option<Arc<Slot>> {
        let sharing = self.sharing.as_ref()?;
        let handle = Handle(u64::from_be_bytes(name));
        let _alone = sharing.arrives(handle);
        let until = now.plus(self.clocks().max_lifetime);
        sharing.tombs().add(handle, None, until, now);
        let slot = self.find(handle)?;
        let (ids, owned, was) = slot.with_kept(|kept| {
            let was = kept.session.phase();
            drop(kept.session.end(End::AppLogout, now)?);
            kept.copied = None;
            let (ids, owned) = kept.no_longer_leads();
            Some((ids, owned, was))
        })?;
        self.strike_all(&slot, &ids, &owned);
        self.table.vacate(slot.ticket);
        self.tally.leaves(was);
        for hash in owned {
            // What the session left to another one of the same browser lives on there.
            let has = |other: &Arc<Slot>| other.with_kept(|kept| kept.owned.contains(&hash));
            if !self.table.find(By::Token, hash).iter().any(has) {
                self.graveyard().entomb(hash, now);
            }
        }
        slot.wake();
        Some(slot)
    }

    /// Another proxy has changed the session with this name, as was heard at `now`.
    pub fn doubt(&self, name: [u8; 8], now: Timestamp) {
        if self.sharing.is_some() {
            self.table.doubt(Handle(u64::from_be_bytes(name)), now);
        }
    }

    /// Since when news of other proxies are heard; `None`: they are not, and no copy is fresh.
    pub fn hears(&self, since: Option<Timestamp>) {
        if let Some(sharing) = &self.sharing {
            sharing.heard.store(since.map_or(0, Timestamp::micros), Ordering::Relaxed);
        }
    }

    /// The store may have lost the session with this name: what is known of it here is put once more.
    pub fn put_again(&self, name: [u8; 8]) {
        let Some(sharing) = &self.sharing else { return };
        let handle = Handle(u64::from_be_bytes(name));
        let tomb = sharing.tombs().find(handle);
        match tomb {
            Some(tomb) => tomb.into_iter().for_each(|tomb| self.bury(tomb)),
            None => self.find(handle).into_iter().for_each(|slot| self.assert_all(&slot)),
        }
    }

    /// The store has lost everything: it is told at once of what has ended, and of the rest a piece at a time.
    pub fn put_all(&self) {
        let Some(sharing) = &self.sharing else { return };
        let own = sharing.tombs().own();
        own.into_iter().for_each(|tomb| self.bury(tomb));
        *sharing.again() = Some(Walk::default());
    }

    /// Goes on with putting everything once more, where that has been asked for.
    pub(super) fn go_on_putting(&self) {
        let walk = self.sharing.as_ref().and_then(|sharing| sharing.again().take());
        let Some(mut walk) = walk else { return };
        for _ in 0..PIECES {
            let Some(seen) = self.table.look(&mut walk) else { return };
            for seen in seen {
                let slot = match seen {
                    Seen::Awake(slot) => Some(slot),
                    Seen::Asleep(ticket, _) => self.table.slot(ticket),
                };
                slot.into_iter().for_each(|slot| self.assert_all(&slot));
            }
        }
        if let Some(sharing) = &self.sharing {
            // Unless the store has lost everything again meanwhile.
            sharing.again().get_or_insert(walk);
        }
    }

    fn assert_all(&self, slot: &Arc<Slot>) {
        slot.with_kept(|kept| kept.copied.iter_mut().for_each(|copied| copied.unlead()));
        self.put(slot);
    }

    fn bury(&self, tomb: Arc<Tomb>) {
        self.outbox.put(crate::store::Mark::default(), false, || tomb as Arc<dyn Record>);
    }

    /// A page that holds a stream open is there; of clocks that have moved on the others are told.
    pub(super) fn goes_on(&self, slot: &Arc<Slot>, now: Timestamp) {
        slot.with(|session| {
            if session.streams > 0 {
                let clocks = self.clocks();
                session.seen(&clocks, now);
            }
        });
        self.save(slot);
    }

    /// A copy that nobody uses is here no more: it has been taken out of its place, and of nothing else.
    pub(super) fn leave(&self, slot: &Slot) {
        let (ids, owned, was) = slot.with_kept(|kept| {
            let (ids, owned) = kept.no_longer_leads();
            (ids, owned, kept.session.phase())
        });
        self.strike_all(slot, &ids, &owned);
        self.tally.leaves(was);
        self.table.free(slot.ticket);
    }
}

#[cfg(test)]
mod tests;
