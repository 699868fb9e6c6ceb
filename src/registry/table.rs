//! Where sessions are kept: awake as a [`Slot`] while somebody has to do with them, asleep as bytes when nobody has. Those of an
//! earlier process are sealed until somebody asks for them, or it is their turn.
//!
//! Most sessions are used for moments that lie minutes apart. A walk through the table, a piece at a time, puts to sleep
//! what was not used since it last came by; whoever finds a session that sleeps wakes it.
//!
//! Invariants: a session has one place from its beginning to its end, and there is never more than one [`Slot`] of it; only
//! a slot that nobody else holds is put to sleep. No lock of a session is asked for while a part's is held.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::copied::Tally;
use super::index::Index;
use super::packed::Packed;
use super::slot::Slot;
use crate::bridge::id::Handle;
use crate::bridge::packing::Common;
use crate::bridge::session::Phase;
use crate::time::Timestamp;

use sealed::Sealed;

/// Parts of the table, each with a lock of its own.
const PARTS: usize = 1 << BITS;
const BITS: u32 = 6;
/// Sessions that are looked at under one lock.
const PIECE: usize = 16;

mod laying;
mod opening;
mod sealed;
mod walk;

pub(super) use laying::Leads;
pub(super) use opening::Turn;
pub(super) use sealed::recovered;
pub(super) use walk::Seen;
pub use walk::Walk;

/// Which session: where it is kept, and which of those that were kept there. Eight bytes that keep nothing alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// Its part in the lowest bits, above them its cell.
    pub(super) place: u32,
    pub(super) generation: u16,
}

impl Ticket {
    /// A number by which sessions may be shared out.
    #[must_use]
    pub const fn number(self) -> usize {
        self.place as usize
    }

    const fn cell(self) -> usize {
        (self.place >> BITS) as usize
    }
}

/// Which of a table's indices is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Ids that open sessions.
    Id,
    /// Tokens that sessions were given.
    Token,
    /// Names of sessions, where several proxies share them.
    Handle,
}

/// All live sessions.
pub(super) struct Table {
    parts: Box<[Mutex<Part>]>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Part {
    ids: Index,
    tokens: Index,
    handles: Index,
    cells: Vec<Cell>,
    /// Of each cell, how many sessions it has had.
    generations: Vec<u16>,
    /// Cells that are free. The one that has been for longest is taken first, so that a ticket of its last session is
    /// long forgotten by the time when the generations begin anew.
    free: VecDeque<u32>,
    common: Common,
    /// Cells whose session sleeps and was changed by another proxy meanwhile, and when that was heard.
    doubted: HashMap<u32, Timestamp, foldhash::fast::RandomState>,
    /// Where sessions are packed before it is known how long they are; empty in between.
    bench: Vec<u8>,
    /// Those that nobody has opened yet.
    sealed: Option<Box<Sealed>>,
}

enum Cell {
    Asleep(Packed),
    /// `None`: free, or sealed.
    Awake(Option<Arc<Slot>>),
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Table(..)")
    }
}

impl Table {
    pub(super) fn new(tally: Arc<Tally>) -> Self {
        Self { parts: (0..PARTS).map(|_| Mutex::default()).collect(), tally }
    }

    /// Finds a place for a session that the id with this hash opens.
    pub(super) fn insert(&self, hash: u64, make: impl FnOnce(Ticket) -> Slot) -> Arc<Slot> {
        let at = part_of(hash);
        let mut part = self.part(at);
        let cell = part.vacancy();
        let generation = part.generations.get(cell as usize).copied().unwrap_or_default();
        let ticket = Ticket { place: cell << BITS | at as u32, generation };
        let slot = Arc::new(make(ticket));
        if let Some(cell) = part.cells.get_mut(cell as usize) {
            *cell = Cell::Awake(Some(Arc::clone(&slot)));
        }
        part.ids.insert(hash, ticket.place);
        slot
    }

    /// Enters that a hash leads to the session of `ticket`.
    pub(super) fn enter(&self, by: By, hash: u64, ticket: Ticket) {
        self.part(part_of(hash)).index(by).insert(hash, ticket.place);
    }

    /// The same where it may have been entered before.
    pub(super) fn enter_once(&self, by: By, hash: u64, ticket: Ticket) {
        let mut part = self.part(part_of(hash));
        let index = part.index(by);
        if !index.places(hash).contains(&ticket.place) {
            index.insert(hash, ticket.place);
        }
    }

    /// Takes such an entry out.
    pub(super) fn strike(&self, by: By, hash: u64, ticket: Ticket) {
        self.part(part_of(hash)).index(by).remove(hash, ticket.place);
    }

    /// The sessions to which a hash may lead: nearly always one or none.
    pub(super) fn find(&self, by: By, hash: u64) -> SmallVec<[Arc<Slot>; 2]> {
        let at = part_of(hash);
        let mut part = self.part(at);
        let places = part.index(by).places(hash);
        let here = |place: u32| place as usize % PARTS == at;
        if places.iter().all(|place| here(*place)) {
            return places.into_iter().filter_map(|place| part.slot(place, &self.tally)).collect();
        }
        drop(part);
        places.into_iter().filter_map(|place| self.part_at(place).slot(place, &self.tally)).collect()
    }

    /// The session of `ticket`, if it still lives.
    pub(super) fn slot(&self, ticket: Ticket) -> Option<Arc<Slot>> {
        let mut part = self.part_at(ticket.place);
        if part.holds(ticket) { part.slot(ticket.place, &self.tally) } else { None }
    }

    /// Where the session of `ticket` is in its life, without waking it.
    pub(super) fn phase(&self, ticket: Ticket) -> Option<Phase> {
        let slot = {
            let part = &mut *self.part_at(ticket.place);
            if !part.holds(ticket) {
                return None;
            }
            match part.cells.get(ticket.cell())? {
                Cell::Asleep(packed) => return Some(packed.glance(&mut part.common).0),
                Cell::Awake(None) => return part.sealed.as_ref()?.phase(ticket.cell()),
                Cell::Awake(Some(slot)) => Arc::clone(slot),
            }
        };
        // The part is let go of by now: who has a session's lock may be waiting for it.
        Some(slot.with(|session| session.phase()))
    }

    /// When the session of `ticket` was made, without waking it.
    pub(super) fn created(&self, ticket: Ticket) -> Option<Timestamp> {
        let part = &mut *self.part_at(ticket.place);
        match part
            .cells
            .get(ticket.cell())
            .filter(|_| part.generations.get(ticket.cell()) == Some(&ticket.generation))?
        {
            Cell::Asleep(packed) => Some(packed.look(&mut part.common).created),
            Cell::Awake(None) => part.sealed.as_ref()?.pending(ticket.cell()),
            Cell::Awake(Some(_)) => None,
        }
    }

    /// The session with this handle: all are looked at.
    pub(super) fn with_handle(&self, handle: Handle) -> Option<Arc<Slot>> {
        (0..PARTS).find_map(|at| {
            let part = &mut *self.part(at);
            let is_it = |(number, cell): (usize, &Cell)| match cell {
                Cell::Asleep(packed) => packed.glance(&mut part.common).1 == handle,
                Cell::Awake(Some(slot)) => slot.handle == handle,
                Cell::Awake(None) => part.sealed.as_ref().and_then(|all| all.handle(number)) == Some(handle),
            };
            let cell = part.cells.iter().enumerate().position(is_it)?;
            part.slot((cell << BITS | at) as u32, &self.tally)
        })
    }

    /// The session with this handle, within: where it is awake.
    pub(super) fn awake(&self, handle: Handle) -> Option<Option<Arc<Slot>>> {
        let places = self.part(part_of(handle.0)).handles.places(handle.0);
        places.into_iter().find_map(|place| {
            let part = &mut *self.part_at(place);
            match part.cells.get((place >> BITS) as usize)? {
                Cell::Awake(slot) => slot.clone().filter(|slot| slot.handle == handle).map(Some),
                Cell::Asleep(packed) => (packed.glance(&mut part.common).1 == handle).then_some(None),
            }
        })
    }

    /// Another proxy has changed the session with this handle, as was heard at `now`. One that sleeps sleeps on.
    pub(super) fn doubt(&self, handle: Handle, now: Timestamp) {
        let places = self.part(part_of(handle.0)).handles.places(handle.0);
        for place in places {
            let part = &mut *self.part_at(place);
            let at = place >> BITS;
            match part.cells.get(at as usize) {
                Some(Cell::Awake(Some(slot))) if slot.handle == handle => slot.is_doubted(now),
                Some(Cell::Asleep(packed)) if packed.glance(&mut part.common).1 == handle => {
                    part.doubted.insert(at, now);
                }
                _ => {}
            }
        }
    }

    /// Gives up the place of a session that has ended, to which no entry leads any more.
    pub(super) fn vacate(&self, ticket: Ticket) {
        let part = &mut *self.part_at(ticket.place);
        if !part.holds(ticket) {
            return;
        }
        let ended = part.cells.get_mut(ticket.cell()).map(|cell| std::mem::replace(cell, Cell::Awake(None)));
        if let Some(generation) = part.generations.get_mut(ticket.cell()) {
            *generation = generation.wrapping_add(1);
        }
        part.free.push_back(ticket.place >> BITS);
        part.doubted.remove(&(ticket.place >> BITS));
        drop(ended);
    }

    fn part_at(&self, place: u32) -> MutexGuard<'_, Part> {
        self.part(place as usize % PARTS)
    }

    #[expect(clippy::indexing_slicing, reason = "taken modulo the number of parts, which is fixed")]
    fn part(&self, at: usize) -> MutexGuard<'_, Part> {
        self.parts[at % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    const fn index(&mut self, by: By) -> &mut Index {
        match by {
            By::Id => &mut self.ids,
            By::Token => &mut self.tokens,
            By::Handle => &mut self.handles,
        }
    }

    fn holds(&self, ticket: Ticket) -> bool {
        self.generations.get(ticket.cell()) == Some(&ticket.generation)
    }

    /// The session that is kept at `place`, awake.
    fn slot(&mut self, place: u32, tally: &Arc<Tally>) -> Option<Arc<Slot>> {
        let at = (place >> BITS) as usize;
        let cell = self.cells.get_mut(at)?;
        let kept = match cell {
            Cell::Awake(Some(slot)) => {
                slot.is_used();
                return Some(Arc::clone(slot));
            }
            Cell::Awake(None) => self.sealed.as_mut()?.wake(at)?,
            Cell::Asleep(packed) => packed.wake(&mut self.common, tally),
        };
        let ticket = Ticket { place, generation: self.generations.get(at).copied().unwrap_or_default() };
        let slot = Arc::new(Slot::awake(kept, ticket));
        if let Some(moment) = self.doubted.remove(&(place >> BITS)) {
            slot.is_doubted(moment);
        }
        *cell = Cell::Awake(Some(Arc::clone(&slot)));
        Some(slot)
    }

    /// A cell that is free. More are set up by an eighth at a time: twice as many would be half empty.
    fn vacancy(&mut self) -> u32 {
        if let Some(cell) = self.free.pop_front() {
            return cell;
        }
        if self.cells.len() == self.cells.capacity() {
            let more = (self.cells.len() / 8).max(8);
            self.cells.reserve_exact(more);
            self.generations.reserve_exact(more);
        }
        self.cells.push(Cell::Awake(None));
        self.generations.push(0);
        (self.cells.len() - 1) as u32
    }
}

const fn part_of(hash: u64) -> usize {
    hash as usize % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_two_words() {
        assert_eq!(size_of::<Cell>(), 16);
    }
}
