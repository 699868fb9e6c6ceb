//! How many connections there are, over all threads, and the cap on them.
//!
//! Invariant: the count is the number of [`Permit`]s alive; a permit lives as long as its socket, upgraded or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The connection cap, shared by all threads that serve.
#[derive(Clone, Debug)]
pub struct Connections {
    open: Arc<AtomicUsize>,
    max: Arc<AtomicUsize>,
}

impl Connections {
    /// Allows `max` connections at a time.
    pub fn new(max: usize) -> Self {
        Self { open: Arc::new(AtomicUsize::new(0)), max: Arc::new(AtomicUsize::new(max)) }
    }

    /// Allows `max` from now on. Those beyond it stay.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A place for one more, or `None` at the cap.
    pub(super) fn acquire(&self) -> Option<Permit> {
        if self.open.fetch_add(1, Ordering::Relaxed) < self.max.load(Ordering::Relaxed) {
            return Some(Permit(Arc::clone(&self.open)));
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

/// One place under the cap, given back on drop.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
