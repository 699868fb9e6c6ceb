//! A pause: while another process may take over, no heartbeat begins and no session is ended by its clocks.
//!
//! Invariant: once [`Heartbeat::hold`] has returned, nothing of this thread's scheduler is under way until it is resumed.

use std::cell::Cell;

use tokio::sync::Notify;

use super::Heartbeat;

/// Whether the scheduler is held, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Pause {
    held: Cell<bool>,
    under_way: Cell<usize>,
    changed: Notify,
}

/// Something that is under way, until dropped.
pub(super) struct UnderWay<'a>(&'a Pause);

impl Pause {
    pub(super) const fn is_held(&self) -> bool {
        self.held.get()
    }

    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.under_way.set(self.under_way.get() + 1);
        UnderWay(self)
    }

    fn set(&self, held: bool) {
        self.held.set(held);
        self.changed.notify_waiters();
    }

    /// Resolves when the pause is over, if there is one.
    pub(super) async fn is_over(&self) {
        self.until(|| !self.held.get()).await;
    }

    async fn until(&self, so: impl Fn() -> bool) {
        while !so() {
            self.changed.notified().await;
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.changed.notify_waiters();
    }
}

impl Heartbeat {
    /// Begins nothing more, and returns when what has begun is over.
    pub async fn hold(&self) {
        self.pause.set(true);
        self.told.notify_one();
        self.pause.until(|| self.pause.under_way.get() == 0).await;
    }

    /// Goes on after [`Heartbeat::hold`].
    pub fn resume(&self) {
        self.pause.set(false);
    }
}
