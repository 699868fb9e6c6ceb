//! Sessions that an earlier process kept are taken in: each gets its place while it is sealed in the store, and they are opened
//! one after the other while people are served already. Whoever is asked for before goes first.
//!
//! Invariants: each is found as soon as the [`Restoring`] that has taken it in is dropped; it is opened once.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::front::Front;
use super::table::{Leads, Ticket, Turn, recovered};
use super::{Registry, Timestamp};
use crate::bridge::id::Handle;
use crate::bridge::packing::alone::{Reader, Unknown};
use crate::bridge::session::{Phase, Session};
use crate::store::{Opener, StoreError};

/// Where the sessions of an earlier process lie: lists of them by their names, so that they can be opened in turn.
#[derive(Debug, Default)]
pub struct Laid(Mutex<Vec<Lot>>);

/// Some of them, in the order of their names.
type Lot = Vec<(Handle, Ticket)>;

/// Takes in sessions, on one thread of several.
#[derive(Debug)]
pub struct Restoring<'a> {
    registry: &'a Registry,
    now: Timestamp,
    reader: Reader,
    leads: Leads,
    lot: Lot,
    laid: &'a Laid,
}

impl Laid {
    /// A list that nobody has yet.
    fn take(&self) -> Option<Lot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Registry {
    /// Makes room for as many sessions as an earlier process kept, which are taken in at `now`; `opener` opens them.
    pub fn expect(&self, many: usize, opener: &Opener, now: Timestamp) {
        self.table.expect(many, opener, now);
    }

    /// For one of those who take in what an earlier process kept; where each lies is told to `laid`. When all have:
    /// [`Registry::restored`].
    #[must_use]
    pub fn restoring<'a>(&'a self, laid: &'a Laid, now: Timestamp) -> Restoring<'a> {
        let (reader, leads, lot) = (Reader::default(), Leads::default(), Lot::new());
        Restoring { registry: self, now, reader, leads, lot, laid }
    }

    /// All sessions of an earlier process have been taken in: the pending ones get their order, oldest first.
    pub fn restored(&self) {
        let mut pending = self.pending();
        let created = |ticket: &Ticket| self.table.created(*ticket).unwrap_or(Timestamp::FAR);
        pending.make_contiguous().sort_by_cached_key(created);
    }

    /// Opens the sessions of `laid` that nobody has opened until now, and shows each of them all to `look`, with the place where
    /// it is found: to watch over it. Those whom nobody uses sleep then. Many may do so at once. True where it was the last
    /// list, which others may still be busy with.
    ///
    /// # Errors
    /// Where one does not open; those behind it are still sealed.
    pub fn open_next(
        &self,
        laid: &Laid,
        opener: &Opener,
        mut look: impl FnMut(&mut Session, Ticket),
    ) -> Result<bool, StoreError> {
        let Some(lot) = laid.take() else { return Ok(true) };
        let Some((first, _)) = lot.first() else { return Ok(false) };
        let mut records = opener.in_turn(first.0.to_be_bytes());
        for (_, ticket) in lot {
            match self.table.open(ticket, &mut records, |kept| look(&mut kept.session, ticket))? {
                Turn::Sleeps { old: false } | Turn::Over => {}
                Turn::Sleeps { old: true } => self.slot(ticket).iter().for_each(|slot| self.put(slot)),
                Turn::IsAwake(slot) => slot.with(|session| {
                    if !session.has_ended() {
                        look(session, ticket);
                    }
                }),
            }
        }
        Ok(false)
    }

    /// All of them have been opened.
    pub fn all_open(&self) {
        self.table.all_open();
    }
}

impl Restoring<'_> {
    /// Takes in a session that is kept under `name`, with the front of its record. Names only rise.
    ///
    /// # Errors
    /// Where another version wrote it.
    pub fn lay(&mut self, name: [u8; 8], front: &[u8]) -> Result<(), Unknown> {
        let (handle, front) = (Handle(u64::from_be_bytes(name)), Front::read(front)?);
        let ticket = self.registry.table.lay_sealed(handle, &front, &mut self.leads).ok_or(Unknown)?;
        self.lot.push((handle, ticket));
        self.count(ticket, front.pending.is_some());
        Ok(())
    }

    /// Takes in a session whose record has been opened. It sleeps.
    ///
    /// # Errors
    /// Where another version wrote it.
    pub fn restore(&mut self, record: &[u8]) -> Result<(), Unknown> {
        let kept = recovered(&mut self.reader, record, None, self.now).ok_or(Unknown)?;
        let pending = kept.session.phase() == Phase::Pending;
        let ticket = self.registry.table.lay(&kept, &mut self.leads).ok_or(Unknown)?;
        self.count(ticket, pending);
        Ok(())
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
        self.laid.0.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.lot));
    }
}
