//! Many sessions that an earlier process kept are laid down, asleep.
//!
//! What leads to them is entered many at a time: who enters one by one waits for memory with each, and for whoever else lays
//! sessions down.
//!
//! Invariant: nothing leads to a session before it lies in its place.

use super::{BITS, By, Cell, Kept, PARTS, Packed, Table, Ticket, part_of};

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
    /// Lays a session down, asleep, that an earlier process kept. Its ticket; `None`: no id opens it. It is found when
    /// [`Table::enter_all`] was called.
    pub(in crate::registry) fn lay(
        &self,
        kept: &mut Kept,
        leads: &mut Leads,
        prepare: impl FnOnce(&mut Kept, Ticket),
    ) -> Option<Ticket> {
        let at = part_of(kept.ids.first()?.key.hash());
        let ticket = {
            let part = &mut *self.part(at);
            let cell = part.vacancy();
            let generation = part.generations.get(cell as usize).copied().unwrap_or_default();
            let ticket = Ticket { place: cell << BITS | at as u32, generation };
            prepare(kept, ticket);
            let packed = Packed::new(kept, &mut part.bench, &mut part.common);
            if let Some(cell) = part.cells.get_mut(cell as usize) {
                *cell = Cell::Asleep(packed);
            }
            ticket
        };
        let ids = kept.ids.iter().map(|held| (By::Id, held.key.hash()));
        for (by, hash) in ids.chain(kept.owned.iter().map(|hash| (By::Token, *hash))) {
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
