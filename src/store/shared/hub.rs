//! The connection that all of a proxy's tasks share, and the breaker before it.
//!
//! Invariants: one failure that may be the server's opens the breaker, so that nobody else waits for it; while it is open
//! everybody is told at once; only a new connection that has been looked at (`pulse.rs`) closes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use redis::ConnectionInfo;
use tokio::sync::Notify;

use super::link::Link;

/// A connection, or none.
#[derive(Default)]
pub(super) struct Hub {
    linked: Mutex<Option<Linked>>,
    up: AtomicBool,
    number: AtomicU64,
    /// Rung when there is another connection, or none any more: for the writer.
    pub(super) writer: Notify,
    /// The same for the news.
    pub(super) news: Notify,
    /// Rung when there is none any more: for the pulse.
    pub(super) lost: Notify,
}

/// A connection and where it leads.
#[derive(Clone)]
pub(super) struct Linked {
    /// The how manieth it is.
    pub(super) number: u64,
    pub(super) link: Link,
    /// The one server, where it is one.
    pub(super) at: Option<ConnectionInfo>,
}

impl Hub {
    /// The connection, if there is one.
    pub(super) fn linked(&self) -> Option<Linked> {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The how manieth connection there is, or was last.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// There is one again.
    pub(super) fn put(&self, link: Link, at: Option<ConnectionInfo>) {
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        *self.linked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Linked { number, link, at });
        self.up.store(true, Ordering::Release);
        self.writer.notify_one();
        self.news.notify_one();
    }

    /// The connection `number` is broken. True where it was the one in use.
    pub(super) fn lose(&self, number: u64) -> bool {
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        if linked.as_ref().is_none_or(|linked| linked.number != number) {
            return false;
        }
        *linked = None;
        drop(linked);
        self.up.store(false, Ordering::Release);
        self.writer.notify_one();
        self.news.notify_one();
        self.lost.notify_one();
        true
    }
}
