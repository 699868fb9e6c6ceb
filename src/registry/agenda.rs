//! What the registry's users tell the scheduler: which sessions are to be watched, and for what.
//!
//! The registry does not know who listens; each worker thread has an agenda of its own, so that telling costs no lock.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::slot::Slot;
use super::table::Ticket;
use crate::bridge::rules::AppIx;

/// What a session is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Heartbeats to this app.
    Beat(AppIx),
    /// Its end by the clocks.
    End,
}

/// A session to be watched.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which.
    pub slot: Arc<Slot>,
    /// What for.
    pub watch: Watch,
}

/// An [`Entry`] that waits for its time: eight bytes, and no session is kept for it.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    place: u32,
    generation: u16,
    /// The app's number; [`END`]: no app's.
    watch: u16,
}

/// No app has this number.
const END: u16 = u16::MAX;

impl Entry {
    /// It, while it waits. [`super::Registry::entry`] finds it again.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        Waiting::of(self.slot.ticket, self.watch)
    }
}

impl Waiting {
    /// The session of `ticket`, to be watched for `watch`.
    #[must_use]
    pub const fn of(ticket: Ticket, watch: Watch) -> Self {
        let Ticket { place, generation } = ticket;
        let watch = match watch {
            Watch::Beat(app) => app.0,
            Watch::End => END,
        };
        Self { place, generation, watch }
    }

    /// What its session is watched for.
    #[must_use]
    pub const fn watch(self) -> Watch {
        if self.watch == END { Watch::End } else { Watch::Beat(AppIx(self.watch)) }
    }

    pub(super) const fn ticket(self) -> Ticket {
        Ticket { place: self.place, generation: self.generation }
    }
}

/// The end of an agenda at which entries are put.
#[derive(Clone, Debug)]
pub struct Agenda(mpsc::UnboundedSender<Entry>);

impl Agenda {
    /// An agenda and the end from which it is read.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Entry>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Puts an entry. Where nobody reads any more (the proxy is stopping), nobody needs it.
    pub fn put(&self, slot: &Arc<Slot>, watch: Watch) {
        let _ = self.0.send(Entry { slot: Arc::clone(slot), watch });
    }
}
