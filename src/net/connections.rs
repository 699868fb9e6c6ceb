//! How many connections there are, over all threads, and the cap on them.
//!
//! Invariant: the count is the number of [`Permit`]s alive; a permit lives as long as its socket, upgraded or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The connection cap, shared by all threads that serve.
#[derive(Clone, Debug)]
pub struct Connections {
    open: Arc<Open>,
    max: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Open {
    count: AtomicUsize,
    none: Notify,
}

impl Connections {
    /// Allows `max` connections at a time.
    pub fn new(max: usize) -> Self {
        Self { open: Arc::default(), max: Arc::new(AtomicUsize::new(max)) }
    }

    /// Allows `max` from now on. Those beyond it stay.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.open.count.load(Ordering::Relaxed)
    }

    /// Resolves when none is open, upgraded ones included.
    pub async fn gone(&self) {
        loop {
            let mut none = std::pin::pin!(self.open.none.notified());
            // From here on the last one's end is heard.
            none.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            none.await;
        }
    }

    /// A place for one more, or `None` at the cap.
    pub(super) fn acquire(&self) -> Option<Permit> {
        if self.open.count.fetch_add(1, Ordering::Relaxed) < self.max.load(Ordering::Relaxed) {
            return Some(Permit(Arc::clone(&self.open)));
        }
        self.open.count.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

/// One place under the cap, given back on drop.
#[derive(Debug)]
pub(super) struct Permit(Arc<Open>);

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn the_last_one_to_go_is_told() {
        let connections = Connections::new(2);
        assert!(connections.gone().now_or_never().is_some());
        let (one, two) = (connections.acquire().unwrap(), connections.acquire().unwrap());
        assert!(connections.acquire().is_none());
        let mut gone = Box::pin(connections.gone());
        assert!((&mut gone).now_or_never().is_none());
        drop(one);
        assert!((&mut gone).now_or_never().is_none());
        drop(two);
        assert!((&mut gone).now_or_never().is_some());
    }
}
