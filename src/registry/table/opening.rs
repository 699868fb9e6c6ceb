//! Sessions that an earlier process kept are opened, one after the other.
//!
//! Invariant: what is sealed is forgotten only when each session has been opened.

use std::sync::Arc;

use super::{Cell, PARTS, Packed, Table, Ticket};
use crate::registry::slot::{Kept, Slot};
use crate::store::{InTurn, StoreError};

/// What became of a session that an earlier process kept.
pub(in crate::registry) enum Turn {
    /// It sleeps now. `old`: it wants to be written anew, since another key seals by now.
    Sleeps { old: bool },
    /// Somebody has asked for it before, and nobody has looked at it for this.
    IsAwake(Arc<Slot>),
    /// It is no more.
    Over,
}

impl Table {
    /// Opens the session of `ticket`, which an earlier process kept: it is shown to `look`, and sleeps then.
    pub(in crate::registry) fn open(
        &self,
        ticket: Ticket,
        records: &mut InTurn<'_>,
        look: impl FnOnce(&mut Kept),
    ) -> Result<Turn, StoreError> {
        let part = &mut *self.part_at(ticket.place);
        if !part.holds(ticket) {
            return Ok(Turn::Over);
        }
        let Some(cell) = part.cells.get_mut(ticket.cell()) else { return Ok(Turn::Over) };
        let (mut kept, old) = match cell {
            Cell::Awake(Some(slot)) => return Ok(Turn::IsAwake(Arc::clone(slot))),
            Cell::Awake(None) => {
                let Some(sealed) = &mut part.sealed else { return Ok(Turn::Over) };
                let Some(handle) = sealed.handle(ticket.cell()) else { return Ok(Turn::Over) };
                let read = |record: &[u8], clocks: Option<&[u8]>, old| sealed.read(record, clocks, old);
                let opened = records.open(handle.0.to_be_bytes(), read)?;
                sealed.is_open(ticket.cell());
                opened
            }
            Cell::Asleep(packed) => (packed.wake(&mut part.common, &self.tally), false),
        };
        look(&mut kept);
        *cell = Cell::Asleep(Packed::new(&kept, &mut part.bench, &mut part.common));
        Ok(Turn::Sleeps { old })
    }

    /// All sessions that an earlier process kept have been opened.
    pub(in crate::registry) fn all_open(&self) {
        (0..PARTS).for_each(|at| self.part(at).sealed = None);
    }
}
