//! Sessions that an earlier process kept are opened, a few at a time.
//!
//! Invariant: a part's sealed ones are forgotten only when each of them has been opened.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{BITS, Cell, Packed, Table, Ticket};
use crate::registry::slot::{Kept, Slot};
use crate::store::StoreError;

/// Sessions that are opened under one lock: others want to have it too.
const AT_ONCE: usize = 8;

/// What became of some sessions that an earlier process kept.
#[derive(Default)]
pub(in crate::registry) struct Opened {
    /// Where it goes on; `None`: this part has no more of them.
    pub(in crate::registry) next: Option<usize>,
    /// Somebody has asked for them before, and nobody has looked at them for this.
    pub(in crate::registry) awake: SmallVec<[Arc<Slot>; AT_ONCE]>,
    /// They want to be written anew, since another key seals by now.
    pub(in crate::registry) old: SmallVec<[Ticket; AT_ONCE]>,
}

impl Table {
    /// Opens the next few sessions of a part that an earlier process kept, from the cell `from` on: each is shown to `look`, and
    /// sleeps then.
    pub(in crate::registry) fn open(
        &self,
        part: usize,
        from: usize,
        mut look: impl FnMut(&mut Kept, Ticket),
    ) -> Result<Opened, StoreError> {
        let (at, mut opened) = (part, Opened::default());
        let part = &mut *self.part(at);
        let Some(sealed) = &mut part.sealed else { return Ok(opened) };
        let to = sealed.end().min(from + AT_ONCE);
        for (number, cell) in part.cells.iter_mut().enumerate().take(to).skip(from) {
            let ticket = Ticket { place: (number << BITS | at) as u32, generation: 0 };
            if part.generations.get(number) != Some(&ticket.generation) {
                // What an earlier process kept there is over, and what is there now is watched.
                continue;
            }
            let mut kept = match cell {
                Cell::Awake(Some(slot)) => {
                    opened.awake.push(Arc::clone(slot));
                    continue;
                }
                Cell::Awake(None) => {
                    let Some((kept, old)) = sealed.open(number)? else { continue };
                    opened.old.extend(old.then_some(ticket));
                    kept
                }
                Cell::Asleep(packed) => packed.wake(&mut part.common, &self.tally),
            };
            look(&mut kept, ticket);
            *cell = Cell::Asleep(Packed::new(&kept, &mut part.bench, &mut part.common));
        }
        opened.next = (to < sealed.end()).then_some(to);
        if opened.next.is_none() {
            part.sealed = None;
        }
        Ok(opened)
    }
}
