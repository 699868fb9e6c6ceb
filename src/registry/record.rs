//! Sessions and the store: what is put into it, and what an earlier process left there.
//!
//! Invariant: what is put in is a session as it is when the store's writer comes to it; of one that has ended by then
//! nothing is kept, or where several proxies share it, only that it has ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::slot::{Kept, Slot};
use super::table::Ticket;
use super::{Registry, Timestamp};
use crate::bridge::packing::alone::{self, Reader, Unknown};
use crate::bridge::session::{Phase, Session};
use crate::store::{Head, Mark, Outage, Record, Store};

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
    /// As [`Store::put`].
    pub(super) fn put(&self, was: Mark, record: impl FnOnce() -> Arc<dyn Record>) -> Mark {
        match &self.other {
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
    fn keeps(&self) -> bool {
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

    /// Has the store write a session anew, whatever has changed of it; one that has ended it forgets.
    pub fn put(&self, slot: &Arc<Slot>) {
        slot.put(&self.outbox, &self.dials);
    }

    /// Makes room for as many sessions as an earlier process kept.
    pub fn expect(&self, many: usize) {
        self.table.expect(many);
    }

    /// Takes in a session as an earlier process kept it, asleep. `prepare` is shown it before, with the place where it will
    /// be found: to watch over it. Pending ones want [`Registry::restored`] at the end.
    ///
    /// # Errors
    /// Where another version wrote it.
    pub fn restore(
        &self,
        reader: &mut Reader,
        record: &[u8],
        now: Timestamp,
        prepare: impl FnOnce(&mut Session, Ticket),
    ) -> Result<(), Unknown> {
        let mut kept = reader.read(record, Kept::unpack)?;
        kept.session.recovered(now);
        let phase = kept.session.phase();
        let ticket =
            self.table.lay(&mut kept, |kept, ticket| prepare(&mut kept.session, ticket)).ok_or(Unknown)?;
        let count = match phase {
            Phase::Pending => {
                self.pending().push_back(ticket);
                &self.tally.waiting
            }
            Phase::Bound => &self.tally.bound,
            Phase::Ended(_) => return Err(Unknown),
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// All sessions of an earlier process have been taken in: the pending ones get their order, oldest first.
    pub fn restored(&self) {
        let mut pending = self.pending();
        let created = |ticket: &Ticket| self.table.created(*ticket).unwrap_or(Timestamp::FAR);
        pending.make_contiguous().sort_by_cached_key(created);
    }
}
