//! The signal to stop: first politely, then at once; and the signal to hold, while another process may take over.
//!
//! Invariant: the stage only rises. A [`Drainer`] that is dropped counts as a polite stop, so that nothing serves on
//! without anybody who could end it. A hold can be taken back until the stage rises.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// The listeners live on in another process.
    PassedOn,
    Draining,
    Aborting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    stage: Stage,
    held: bool,
    /// What came first of the two ways to stop politely: once the listeners are another process's, they stay that.
    passed_on: bool,
}

/// The end that gives the signal; clones give the same one.
#[derive(Clone, Debug)]
pub struct Drainer {
    order: watch::Sender<Order>,
    accepting: Tally,
    working: Tally,
}

/// The end that is told.
#[derive(Clone, Debug)]
pub struct Drain {
    order: watch::Receiver<Order>,
    accepting: Tally,
    working: Tally,
}

/// How many there are of something, over all threads.
#[derive(Clone, Debug)]
struct Tally(watch::Sender<usize>);

/// One of those that are counted, until dropped.
#[derive(Debug)]
pub struct Counted(Tally);

impl Drainer {
    /// A pair that says "serve on".
    pub fn new() -> (Self, Drain) {
        let (order, told) = watch::channel(Order { stage: Stage::Serving, held: false, passed_on: false });
        let (accepting, working) = (Tally::default(), Tally::default());
        let drain = Drain { order: told, accepting: accepting.clone(), working: working.clone() };
        (Self { order, accepting, working }, drain)
    }

    /// Asks everybody to finish what is in flight and begin nothing new.
    pub fn drain(&self) {
        self.raise(Stage::Draining);
    }

    /// As [`Drainer::drain`], and what waits to be accepted is left to the process that has the listeners now.
    pub fn pass_on(&self) {
        self.raise(Stage::PassedOn);
    }

    /// Asks everybody to stop at once.
    pub fn abort(&self) {
        self.raise(Stage::Aborting);
    }

    /// Whether a stop, of any kind, was asked for.
    pub fn is_requested(&self) -> bool {
        self.order.borrow().stage > Stage::Serving
    }

    fn raise(&self, to: Stage) {
        self.order.send_if_modified(|order| {
            let rises = order.stage < to;
            if rises {
                order.passed_on |= to == Stage::PassedOn;
                order.stage = to;
            }
            rises
        });
    }

    /// Asks everybody to accept nothing and to send nothing unasked, and to end what is in flight and no connection keeps
    /// for more. Connections that come meanwhile wait in the kernel.
    pub fn hold(&self) {
        self.set_held(true);
    }

    /// Whether a hold is asked for.
    pub fn is_held(&self) -> bool {
        self.order.borrow().held
    }

    /// Takes a hold back.
    pub fn resume(&self) {
        self.set_held(false);
    }

    fn set_held(&self, held: bool) {
        self.order.send_if_modified(|order| std::mem::replace(&mut order.held, held) != held);
    }

    /// Resolves when nobody accepts any more.
    pub async fn closed(&self) {
        self.accepting.none().await;
    }

    /// Resolves when nobody accepts any more and nothing is in flight.
    pub async fn quiet(&self) {
        self.accepting.none().await;
        self.working.none().await;
    }
}

impl Drain {
    /// Whether a stop, of any kind, was asked for.
    pub fn is_requested(&self) -> bool {
        self.order.borrow().stage > Stage::Serving
    }

    /// Whether the listeners are another process's.
    pub fn is_passed_on(&self) -> bool {
        self.order.borrow().passed_on
    }

    /// Resolves when a stop, of any kind, is asked for.
    pub async fn requested(&mut self) {
        // An error is a dropped drainer, which is a polite stop.
        let _ = self.order.wait_for(|order| order.stage > Stage::Serving).await;
    }

    /// Resolves when a stop, of any kind, or a hold is asked for.
    pub async fn interrupted(&mut self) {
        let _ = self.order.wait_for(|order| order.stage > Stage::Serving || order.held).await;
    }

    /// Resolves when a stop at once is asked for; never, once the drainer is gone.
    pub async fn aborted(&mut self) {
        if self.order.wait_for(|order| order.stage == Stage::Aborting).await.is_err() {
            std::future::pending().await
        }
    }

    /// Resolves when a hold is asked for; never, once the drainer is gone.
    pub async fn held(&mut self) {
        self.until_held_is(true).await;
    }

    /// Resolves when no hold is asked for (any more); never, once the drainer is gone.
    pub async fn resumed(&mut self) {
        self.until_held_is(false).await;
    }

    async fn until_held_is(&mut self, held: bool) {
        if self.order.wait_for(|order| order.held == held).await.is_err() {
            std::future::pending().await
        }
    }

    /// Counts one who accepts connections, which a hold waits for.
    #[must_use]
    pub fn accepting(&self) -> Counted {
        self.accepting.count()
    }

    /// Counts one who may have something in flight, which a hold waits for, for a while.
    #[must_use]
    pub fn working(&self) -> Counted {
        self.working.count()
    }
}

impl Drainer {
    /// Holds as `leader` does, for as long as this is polled, and counts there for those who are told by this one. A stop is
    /// not passed on.
    pub async fn hold_with(&self, mut leader: Drain) {
        loop {
            let (accepting, working) = (leader.accepting(), leader.working());
            leader.held().await;
            self.hold();
            let mut resumed = leader.clone();
            let at_rest = async {
                self.closed().await;
                drop(accepting);
                self.quiet().await;
                drop(working);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = at_rest => {}
                () = resumed.resumed() => {}
            }
            self.resume();
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Tally {
    fn count(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.clone())
    }

    async fn none(&self) {
        // An error is impossible: the sender is here.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
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
        assert!(drain.held().now_or_never().is_none());
    }

    #[test]
    fn a_hold_waits_for_those_who_accept_and_then_for_what_is_in_flight() {
        let (drainer, mut drain) = Drainer::new();
        let (accepting, working) = (drain.accepting(), drain.clone().working());
        assert!(drain.held().now_or_never().is_none());
        drainer.hold();
        assert!(drain.held().now_or_never().is_some() && !drain.is_requested());
        assert!(drainer.closed().now_or_never().is_none());
        drop(accepting);
        assert!(drainer.closed().now_or_never().is_some());
        assert!(drainer.quiet().now_or_never().is_none());
        drop(working);
        assert!(drainer.quiet().now_or_never().is_some());
        drainer.resume();
        assert!(drain.resumed().now_or_never().is_some() && drain.held().now_or_never().is_none());
    }

    #[test]
    fn listeners_that_were_passed_on_stay_so_whatever_follows() {
        let (drainer, mut drain) = Drainer::new();
        drainer.pass_on();
        assert!(drain.is_passed_on() && drain.requested().now_or_never().is_some());
        drainer.abort();
        assert!(drain.is_passed_on() && drain.aborted().now_or_never().is_some());
        let (drainer, drain) = Drainer::new();
        drainer.drain();
        drainer.pass_on();
        assert!(!drain.is_passed_on(), "a drain was asked for before");
    }
}
