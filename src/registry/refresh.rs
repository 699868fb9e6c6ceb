//! Copies of sessions that several proxies share: read anew where they may be old.
//!
//! Invariant: where the store is there, nobody is served from a copy that another proxy has changed longer ago than news take.

use std::sync::Arc;
use std::time::Duration;

use super::slot::Slot;
use super::{Registry, Timestamp};
use crate::store::{Fetched, Key, Outage};

/// By so much the clocks of a session that another proxy serves may be behind in the store, and a little more.
const LAG: Duration = Duration::from_secs(6);

impl Registry {
    /// The session that `by` leads to, as it is in the store by now, where several proxies share it. `None`: there is none.
    ///
    /// # Errors
    /// [`Outage`] where the store says nothing; what is known here stays as it is.
    pub async fn refresh(&self, by: Key, now: Timestamp) -> Result<Option<Arc<Slot>>, Outage> {
        if let Some(slot) = self.fresh(by, now) {
            return Ok(Some(slot));
        }
        let asked = now;
        match self.store.fetch(by).await? {
            Fetched::Record { head, record } => Ok(self.take_in(&head, &record, asked)),
            Fetched::Ended => {
                self.end_elsewhere(by, now);
                Ok(None)
            }
            Fetched::Nothing => Ok(self.not_there(by, now)),
        }
    }

    /// The same, of a session that is known here.
    ///
    /// # Errors
    /// As [`Registry::refresh`].
    pub async fn refresh_slot(&self, slot: &Arc<Slot>, now: Timestamp) -> Result<(), Outage> {
        self.refresh(Key::Name(slot.handle.0.to_be_bytes()), now).await.map(|_| ())
    }

    /// True where this proxy sends the heartbeats of a session and ends it by the clocks: it is its own, or, where nobody can be
    /// asked who lives, any that was served here.
    #[must_use]
    pub fn beats_here(&self, slot: &Slot) -> bool {
        !self.store.is_shared() || self.is_mine(slot) || self.store.fails()
    }

    /// How far clocks may be behind that another proxy has moved.
    #[must_use]
    pub const fn lag(&self) -> Duration {
        if self.store.is_shared() { LAG } else { Duration::ZERO }
    }
}

// STUB
impl Registry {
    fn fresh(&self, _by: Key, _now: Timestamp) -> Option<Arc<Slot>> { None }
    fn take_in(&self, _head: &crate::store::Head, _record: &[u8], _now: Timestamp) -> Option<Arc<Slot>> { None }
    fn end_elsewhere(&self, _by: Key, _now: Timestamp) {}
    fn not_there(&self, _by: Key, _now: Timestamp) -> Option<Arc<Slot>> { None }
    fn is_mine(&self, _slot: &Slot) -> bool { true }
    pub fn hear(&self, _news: &crate::store::News) {}
    pub fn is_mine_by_name(&self, _name: [u8; 8]) -> bool { true }
    pub fn knows(&self, _by: Key) -> bool { true }
}
