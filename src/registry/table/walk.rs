//! Walks through the table, a piece at a time, and what they do on the way.
//!
//! Invariants: only a slot that nobody else holds is put to sleep or taken out; the place of one that was taken out is free only
//! when no entry leads there any more.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{BITS, Cell, PARTS, PIECE, Part, Table, Ticket};
use crate::bridge::session::Session;
use crate::registry::packed::Packed;
use crate::registry::slot::Slot;
use crate::time::Timestamp;

/// How far a walk has come.
#[derive(Debug, Default)]
pub struct Walk {
    part: usize,
    cell: usize,
}

/// What became of some sessions while the walk was there.
#[derive(Default)]
pub(in crate::registry) struct Rested {
    /// Somebody uses them.
    pub(in crate::registry) used: SmallVec<[Arc<Slot>; PIECE]>,
    /// Nobody does, and the store does not know all of them.
    pub(in crate::registry) unsaved: SmallVec<[Arc<Slot>; PIECE]>,
    /// They are here no more.
    pub(in crate::registry) left: SmallVec<[Arc<Slot>; PIECE]>,
}

/// What a walk sees of a session.
pub(in crate::registry) enum Seen {
    Awake(Arc<Slot>),
    Asleep(Ticket, Session),
}

impl Table {
    /// The next few sessions of a walk, but for those that nobody has opened yet; none: it is over.
    pub(in crate::registry) fn look(&self, walk: &mut Walk) -> Option<Vec<Seen>> {
        if walk.part >= PARTS {
            return None;
        }
        let at = walk.part;
        let part = &mut *self.part(at);
        let (from, to) = walk.on(part.cells.len());
        let cells = part.cells.get(from..to).unwrap_or_default().iter().enumerate();
        let seen = cells.filter_map(|(past, cell)| match cell {
            // Or it is sealed: a walk that opened them all would keep whoever wants one of them waiting.
            Cell::Awake(slot) => slot.clone().map(Seen::Awake),
            Cell::Asleep(packed) => {
                let generation = part.generations.get(from + past).copied().unwrap_or_default();
                let ticket = Ticket { place: ((from + past) << BITS | at) as u32, generation };
                Some(Seen::Asleep(ticket, packed.look(&mut part.common)))
            }
        });
        Some(seen.collect())
    }

    /// Those of the next few sessions of a walk that are awake; `None`: it is over.
    pub(in crate::registry) fn awake_ones(&self, walk: &mut Walk) -> Option<SmallVec<[Arc<Slot>; PIECE]>> {
        if walk.part >= PARTS {
            return None;
        }
        let part = &mut *self.part(walk.part);
        let (from, to) = walk.on(part.cells.len());
        let awake = part.cells.get(from..to).unwrap_or_default().iter().filter_map(|cell| match cell {
            Cell::Awake(slot) => slot.clone(),
            Cell::Asleep(_) => None,
        });
        Some(awake.collect())
    }

    /// Puts those to sleep, of the next few of an endless walk, that were not used since it last came by. `shared` is this proxy
    /// where several share the sessions, and a moment: what is another one's, and was not read or written since, is no longer
    /// kept here.
    pub(in crate::registry) fn rest(&self, walk: &mut Walk, shared: Option<(u64, Timestamp)>) -> Rested {
        walk.part %= PARTS;
        let part = &mut *self.part(walk.part);
        let (from, to) = walk.on(part.cells.len());
        let mut rested = Rested::default();
        for at in from..to {
            let Some(Cell::Awake(Some(slot))) = part.cells.get_mut(at) else { continue };
            if slot.was_used() {
                rested.used.push(Arc::clone(slot));
                continue;
            }
            let Some(alone) = Arc::get_mut(slot) else {
                // Whoever holds it may have a stream open.
                rested.used.extend(shared.map(|_| Arc::clone(slot)));
                continue;
            };
            if !alone.is_put() {
                // Whoever changed it went away before it was put into the store.
                rested.unsaved.push(Arc::clone(slot));
            } else if let Some((_, leave)) = shared.filter(|(me, _)| alone.is_a_copy(*me)) {
                if alone.may_rest() && alone.last_known() < leave {
                    rested.left.extend(part.take(at));
                }
            } else if alone.may_rest() {
                alone.keep_known();
                let packed = Packed::new(alone.kept(), &mut part.bench, &mut part.common);
                if let Some(cell) = part.cells.get_mut(at) {
                    *cell = Cell::Asleep(packed);
                }
            }
        }
        rested
    }

    /// Another session may have the place of one that a walk has taken out, to which no entry leads any more.
    pub(in crate::registry) fn free(&self, ticket: Ticket) {
        self.part_at(ticket.place).free.push_back(ticket.place >> BITS);
    }

    /// How many calls of [`Table::rest`] make a whole round, nearly.
    pub(in crate::registry) fn pieces(&self) -> usize {
        (0..PARTS).map(|at| self.part(at).cells.len() / PIECE + 1).sum()
    }
}

impl Part {
    /// Takes a session out that is awake. Its place is free only after [`Table::free`].
    fn take(&mut self, at: usize) -> Option<Arc<Slot>> {
        let cell = self.cells.get_mut(at)?;
        let Cell::Awake(slot) = std::mem::replace(cell, Cell::Awake(None)) else { return None };
        if let Some(generation) = self.generations.get_mut(at) {
            *generation = generation.wrapping_add(1);
        }
        slot
    }
}

impl Walk {
    /// Goes on by a piece in a part of `len` cells: from where and to where.
    fn on(&mut self, len: usize) -> (usize, usize) {
        let (from, to) = (self.cell.min(len), (self.cell + PIECE).min(len));
        if to == len {
            (self.part, self.cell) = (self.part + 1, 0);
        } else {
            self.cell = to;
        }
        (from, to)
    }
}
