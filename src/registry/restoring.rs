//! Sessions that an earlier process kept are taken in.
//!
//! Invariant: each is found as soon as the [`Restoring`] that has taken it in is dropped.

use std::sync::atomic::Ordering;

use super::slot::Kept;
use super::table::{Leads, Ticket};
use super::{Registry, Timestamp};
use crate::bridge::packing::alone::{Reader, Unknown};
use crate::bridge::session::{Phase, Session};

/// Takes in sessions, on one thread of several.
#[derive(Debug)]
pub struct Restoring<'a> {
    registry: &'a Registry,
    now: Timestamp,
    reader: Reader,
    leads: Leads,
}

impl Registry {
    /// Makes room for as many sessions as an earlier process kept.
    pub fn expect(&self, many: usize) {
        self.table.expect(many);
    }

    /// For one of those who take in what an earlier process kept. When all have: [`Registry::restored`].
    #[must_use]
    pub fn restoring(&self, now: Timestamp) -> Restoring<'_> {
        Restoring { registry: self, now, reader: Reader::default(), leads: Leads::default() }
    }

    /// All sessions of an earlier process have been taken in: the pending ones get their order, oldest first.
    pub fn restored(&self) {
        let mut pending = self.pending();
        let created = |ticket: &Ticket| self.table.created(*ticket).unwrap_or(Timestamp::FAR);
        pending.make_contiguous().sort_by_cached_key(created);
    }
}

impl Restoring<'_> {
    /// Takes in a session as an earlier process kept it, asleep, with the clocks that were kept apart. `prepare` is shown it
    /// before, with the place where it will be found: to watch over it.
    ///
    /// # Errors
    /// Where another version wrote it.
    pub fn restore(
        &mut self,
        (record, clocks): (&[u8], Option<&[u8]>),
        prepare: impl FnOnce(&mut Session, Ticket),
    ) -> Result<(), Unknown> {
        let mut kept = self.reader.read(record, Kept::unpack)?;
        if let Some(clocks) = clocks {
            kept.session.take_clocks(clocks);
        }
        kept.session.recovered(self.now);
        let phase = kept.session.phase();
        let (registry, prepare) = (self.registry, |kept: &mut Kept, at| prepare(&mut kept.session, at));
        let ticket = registry.table.lay(&mut kept, &mut self.leads, prepare).ok_or(Unknown)?;
        let count = match phase {
            Phase::Pending => {
                registry.pending().push_back(ticket);
                &registry.tally.waiting
            }
            Phase::Bound => &registry.tally.bound,
            Phase::Ended(_) => return Err(Unknown),
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Restoring<'_> {
    fn drop(&mut self) {
        self.registry.table.enter_all(&mut self.leads);
    }
}
