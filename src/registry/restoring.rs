//! Sessions that an earlier process kept are taken in: laid down sealed, as the store has them, and opened one after the other
//! while others are served already. Whoever is asked for before goes first.
//!
//! Invariants: each is found as soon as the [`Restoring`] that has taken it in is dropped; it is opened once.

use std::sync::atomic::Ordering;

use super::front::Front;
use super::table::{Leads, PARTS, Ticket, recovered};
use super::{Registry, Timestamp};
use crate::bridge::packing::alone::{Reader, Unknown};
use crate::bridge::session::{Phase, Session};
use crate::store::{Found, Opener, StoreError};

/// Takes in sessions, on one thread of several.
#[derive(Debug)]
pub struct Restoring<'a> {
    registry: &'a Registry,
    now: Timestamp,
    reader: Reader,
    leads: Leads,
}

impl Registry {
    /// Makes room for as many sessions as an earlier process kept, which are taken in at `now`; `opener` opens them.
    pub fn expect(&self, many: usize, opener: &Opener, now: Timestamp) {
        self.table.expect(many, opener, now);
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

    /// Parts of the table, each for [`Registry::open_part`].
    pub const PARTS: usize = PARTS;

    /// Opens all sessions of one part that an earlier process kept, if nobody has until now, and shows each to `look`, with the
    /// place where it is found: to watch over it. Those whom nobody uses sleep then.
    ///
    /// # Errors
    /// Where one does not open; those behind it are still sealed.
    pub fn open_part(
        &self,
        part: usize,
        mut look: impl FnMut(&mut Session, Ticket),
    ) -> Result<(), StoreError> {
        let mut next = Some(0);
        while let Some(from) = next {
            let opened = self.table.open(part, from, |kept, ticket| look(&mut kept.session, ticket))?;
            next = opened.next;
            for slot in opened.awake {
                slot.with(|session| {
                    if !session.has_ended() {
                        look(session, slot.ticket);
                    }
                });
            }
            let old = opened.old.into_iter().filter_map(|ticket| self.slot(ticket));
            old.for_each(|slot| self.put(&slot));
        }
        Ok(())
    }
}

impl Restoring<'_> {
    /// Takes in a session as the store has it, with the front of its record.
    ///
    /// # Errors
    /// Where another version wrote it.
    pub fn lay(&mut self, found: &Found<'_>, front: &[u8]) -> Result<(), Unknown> {
        let front = Front::read(front)?;
        let ticket = self.registry.table.lay_sealed(found, &front, &mut self.leads).ok_or(Unknown)?;
        self.count(ticket, front.pending.is_some());
        Ok(())
    }

    /// Takes in a session whose record has been opened, with the clocks that were kept apart. It sleeps, and will be found there.
    ///
    /// # Errors
    /// Where another version wrote it.
    pub fn restore(&mut self, (record, clocks): (&[u8], Option<&[u8]>)) -> Result<Ticket, Unknown> {
        let kept = recovered(&mut self.reader, record, clocks, self.now).ok_or(Unknown)?;
        let pending = kept.session.phase() == Phase::Pending;
        let ticket = self.registry.table.lay(&kept, &mut self.leads).ok_or(Unknown)?;
        self.count(ticket, pending);
        Ok(ticket)
    }

    fn count(&self, ticket: Ticket, pending: bool) {
        let tally = &self.registry.tally;
        let count = if pending {
            self.registry.pending().push_back(ticket);
            &tally.waiting
        } else {
            &tally.bound
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Restoring<'_> {
    fn drop(&mut self) {
        self.registry.table.enter_all(&mut self.leads);
    }
}
