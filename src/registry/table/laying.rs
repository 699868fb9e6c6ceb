//! Many sessions that an earlier process kept get their places, sealed or asleep.
//!
//! What leads to them is entered many at a time: who enters one by one waits for memory with each, and for whoever else lays
//! sessions down.
//!
//! Invariant: nothing leads to a session before it lies in its place.

use super::sealed::Sealed;
use super::{BITS, By, Cell, PARTS, Packed, Part, Table, Ticket, part_of};
use crate::bridge::id::Handle;
use crate::registry::front::Front;
use crate::registry::slot::Kept;
use crate::store::Opener;
use crate::time::Timestamp;

/// Entries of one part that are entered at once.
const AT_ONCE: usize = 64;

/// What leads to sessions that have been laid down and is not entered yet, by part.
#[derive(Debug)]
pub(in crate::registry) struct Leads(Box<[Vec<(By, u64, u32)>]>);

impl Default for Leads {
    fn default() -> Self {
        Self((0..PARTS).map(|_| Vec::with_capacity(AT_ONCE)).collect())
    }
}

impl Table {
    /// Makes room for `many` sessions, each with two tokens, that will be laid down at `now`; `opener` opens those that are sealed.
    pub(in crate::registry) fn expect(&self, many: usize, opener: &Opener, now: Timestamp) {
        // As even as hashes are, with a little to spare.
        let each = many / PARTS + many / PARTS / 32;
        for at in 0..PARTS {
            let part = &mut *self.part(at);
            part.cells.reserve_exact(each);
            part.generations.reserve_exact(each);
            part.ids.expect(each);
            part.tokens.expect(2 * each);
            let mut sealed = Sealed::new(opener.clone(), now);
            sealed.expect(each);
            part.sealed = Some(Box::new(sealed));
        }
    }

    /// Gives a session a place that is sealed in the store. Its ticket; `None`: no id opens it.
    pub(in crate::registry) fn lay_sealed(
        &self,
        handle: Handle,
        front: &Front<'_>,
        leads: &mut Leads,
    ) -> Option<Ticket> {
        let (ids, tokens) = (front.ids(), front.tokens());
        self.lay_in(front.ids().next()?, leads, ids, tokens, |part, cell| {
            part.sealed.as_mut()?.put(cell, handle, front.pending);
            Some(Cell::Awake(None))
        })
    }

    /// Lays a session down asleep. Its ticket; `None`: no id opens it.
    pub(in crate::registry) fn lay(&self, kept: &Kept, leads: &mut Leads) -> Option<Ticket> {
        let (ids, tokens) = (kept.ids.iter().map(|held| held.key.hash()), kept.owned.iter().copied());
        self.lay_in(kept.ids.first()?.key.hash(), leads, ids, tokens, |part, _| {
            Some(Cell::Asleep(Packed::new(kept, &mut part.bench, &mut part.common)))
        })
    }

    fn lay_in(
        &self,
        first: u64,
        leads: &mut Leads,
        ids: impl Iterator<Item = u64>,
        tokens: impl Iterator<Item = u64>,
        make: impl FnOnce(&mut Part, usize) -> Option<Cell>,
    ) -> Option<Ticket> {
        let at = part_of(first);
        let ticket = {
            let part = &mut *self.part(at);
            let cell = part.vacancy();
            let generation = part.generations.get(cell as usize).copied().unwrap_or_default();
            let ticket = Ticket { place: cell << BITS | at as u32, generation };
            let laid = make(part, cell as usize)?;
            *part.cells.get_mut(cell as usize)? = laid;
            ticket
        };
        for (by, hash) in ids.map(|hash| (By::Id, hash)).chain(tokens.map(|hash| (By::Token, hash))) {
            let at = part_of(hash);
            let Some(waiting) = leads.0.get_mut(at) else { continue };
            waiting.push((by, hash, ticket.place));
            if waiting.len() >= AT_ONCE {
                self.enter_in(at, waiting);
            }
        }
        Some(ticket)
    }

    /// Enters what is left.
    pub(in crate::registry) fn enter_all(&self, leads: &mut Leads) {
        leads.0.iter_mut().enumerate().for_each(|(at, waiting)| self.enter_in(at, waiting));
    }

    fn enter_in(&self, at: usize, waiting: &mut Vec<(By, u64, u32)>) {
        let mut part = self.part(at);
        waiting.drain(..).for_each(|(by, hash, place)| part.index(by).insert(hash, place));
    }
}
