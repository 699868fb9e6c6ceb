//! Noticing that a body does not move.
//!
//! Invariant: only time in which a reader waits counts, and each frame starts it anew.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The wait of one reader.
pub(super) struct Stall {
    after: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(super) fn new(after: Duration) -> Self {
        Self { after, waiting_since: None, timer: None }
    }

    /// Something came.
    pub(super) fn moved(&mut self) {
        self.waiting_since = None;
    }

    /// Asked while nothing comes: ready, with the stall time, when that has lasted too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let due = *self.waiting_since.get_or_insert_with(Instant::now) + self.after;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        loop {
            ready!(timer.as_mut().poll(cx));
            // The timer may be an older, earlier one: moving it only when it fires keeps it out of the common case.
            if timer.deadline() >= due {
                return Poll::Ready(self.after);
            }
            timer.as_mut().reset(due);
        }
    }
}
