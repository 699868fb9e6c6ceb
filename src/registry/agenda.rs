//! What the registry's users tell the scheduler: which sessions are to be watched, and for what.
//!
//! The registry does not know who listens; each worker thread has an agenda of its own, so that telling costs no lock.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::slot::Slot;
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
