//! The signal to stop: first politely, then at once.
//!
//! Invariant: the stage only rises. A [`Drainer`] that is dropped counts as a polite stop, so that nothing serves on
//! without anybody who could end it.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Draining,
    Aborting,
}

/// The end that gives the signal; clones give the same one.
#[derive(Clone, Debug)]
pub struct Drainer(watch::Sender<Stage>);

/// The end that is told.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Stage>);

impl Drainer {
    /// A pair that says "serve on".
    pub fn new() -> (Self, Drain) {
        let (tx, rx) = watch::channel(Stage::Serving);
        (Self(tx), Drain(rx))
    }

    /// Asks everybody to finish what is in flight and begin nothing new.
    pub fn drain(&self) {
        self.raise(Stage::Draining);
    }

    /// Asks everybody to stop at once.
    pub fn abort(&self) {
        self.raise(Stage::Aborting);
    }

    fn raise(&self, to: Stage) {
        self.0.send_if_modified(|stage| {
            let rises = *stage < to;
            if rises {
                *stage = to;
            }
            rises
        });
    }
}

impl Drain {
    /// Whether a stop, of either kind, was asked for.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() >= Stage::Draining
    }

    /// Resolves when a stop, of either kind, is asked for.
    pub async fn requested(&mut self) {
        // An error is a dropped drainer, which is a polite stop.
        let _ = self.0.wait_for(|stage| *stage >= Stage::Draining).await;
    }

    /// Resolves when a stop at once is asked for; never, once the drainer is gone.
    pub async fn aborted(&mut self) {
        if self.0.wait_for(|stage| *stage == Stage::Aborting).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn the_stage_only_rises() {
        let (drainer, mut drain) = Drainer::new();
        assert!(!drain.is_requested());
        assert!(drain.requested().now_or_never().is_none());
        drainer.abort();
        drainer.drain();
        assert!(drain.requested().now_or_never().is_some());
        assert!(drain.aborted().now_or_never().is_some());
    }

    #[test]
    fn a_dropped_drainer_is_a_polite_stop() {
        let (drainer, mut drain) = Drainer::new();
        drop(drainer);
        assert!(drain.requested().now_or_never().is_some());
        assert!(drain.aborted().now_or_never().is_none());
    }
}
