//! Sessions and the store: what is put into it.
//!
//! Invariant: what is put in is a session as it is when the store's writer comes to it; of one that has ended by then
//! nothing is kept, or where several proxies share it, only that it has ended.

use std::sync::Arc;

use smallvec::SmallVec;

use super::slot::{Kept, Slot};
use super::table::Walk;
use super::{Registry, Timestamp};
use crate::bridge::packing::alone;
use crate::store::{Clocks, Head, Mark, Outage, Record, Store};

/// Who is given what is to be written.
pub(super) type Puts = dyn Fn(Arc<dyn Record>) + Send + Sync;

/// Where what is put goes.
pub(super) struct Outbox {
    pub(super) store: Store,
    /// Somebody else than a store of this process.
    pub(super) other: Option<Box<Puts>>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

impl Outbox {
    /// True where clocks may be put apart: whoever else is given records is given whole ones.
    pub(super) const fn takes_clocks(&self) -> bool {
        self.other.is_none() && self.store.keeps()
    }

    /// As [`Store::put`], or [`Store::put_late`].
    pub(super) fn put(&self, was: Mark, late: bool, record: impl FnOnce() -> Arc<dyn Record>) -> Mark {
        match &self.other {
            None if late => self.store.put_late(was, record),
            None => self.store.put(was, record),
            Some(other) => {
                other(record());
                Mark::default()
            }
        }
    }
}

impl Record for Slot {
    fn name(&self) -> [u8; 8] {
        self.handle.0.to_be_bytes()
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<Head> {
        self.with_kept(|kept| {
            let lives = !kept.session.has_ended();
            if lives {
                alone::write(out, |out| kept.pack(out));
            }
            (lives || kept.copied.is_some()).then(|| kept.head())
        })
    }

    fn written(&self, tag: u64, at: Timestamp) {
        if self.with_kept(|kept| kept.written(tag)) {
            self.is_known(at);
        }
    }

    fn lost(&self) {
        self.with_kept(|kept| kept.copied.iter_mut().for_each(|copied| copied.lost()));
    }

    fn merge(&self, theirs: &[u8], head: &Head) -> Result<(), String> {
        let theirs = alone::read(theirs, Kept::unpack).map_err(|error| error.to_string())?;
        if self.with_kept(|kept| kept.merge(theirs, head)).learned {
            self.wake();
        }
        Ok(())
    }
}

impl Registry {
    /// Where its sessions are kept.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.outbox.store
    }

    /// True where anybody beyond this process is to know of its sessions.
    pub(super) fn keeps(&self) -> bool {
        self.sharing.is_some() || self.outbox.store.keeps()
    }

    /// Has the store write what has changed of a session, without waiting for it.
    pub fn save(&self, slot: &Arc<Slot>) {
        if self.keeps() {
            slot.put_if_changed(&self.outbox, &self.dials);
        }
    }

    /// Resolves when everything of a session that an answer may acknowledge is kept.
    ///
    /// # Errors
    /// [`Outage`] where the store cannot be written now.
    pub async fn saved(&self, slot: &Arc<Slot>) -> Result<(), Outage> {
        if !self.keeps() {
            return Ok(());
        }
        let mark = slot.put_if_changed(&self.outbox, &self.dials);
        if self.outbox.store.is_committed(mark) { Ok(()) } else { self.outbox.store.committed(mark).await }
    }

    /// Has the store write the clocks of sessions, and all of those of which more has changed.
    pub(super) fn keep_clocks(&self, slots: &[Arc<Slot>]) {
        let clocks: SmallVec<[Clocks; 16]> =
            slots.iter().filter_map(|slot| slot.used(&self.outbox, &self.dials)).collect();
        if !clocks.is_empty() {
            self.outbox.store.put_clocks(clocks);
        }
    }

    /// Has this process's own store write all that it does not know of sessions yet, their clocks included: before it is let go of.
    pub fn keep_all(&self) {
        if self.sharing.is_some() || !self.keeps() {
            return;
        }
        let mut walk = Walk::default();
        while let Some(awake) = self.table.awake_ones(&mut walk) {
            self.keep_clocks(&awake);
        }
    }

    /// Has the store write a session anew, whatever has changed of it; one that has ended it forgets.
    pub fn put(&self, slot: &Arc<Slot>) {
        slot.put(&self.outbox, &self.dials);
    }
}
