//! One server of one app: whether requests may go to it, and how many are there.
//!
//! Invariant: where nothing is wrong, a request reads one word that nobody writes to, and counts itself where no other
//! thread does.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checks::{Checks, Votes};
use super::circuit::{Circuit, Stand};
use super::fault::Fault;
use crate::clock::Clock;
use crate::net::upstream::Upstream;
use crate::telemetry::labels::Reason;
use crate::time::Timestamp;

/// One server of one app, for as long as it is in the config.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub upstream: Upstream,
    /// The app's name, for the log.
    app: Arc<str>,
    clock: Clock,
    /// False where nothing has gone wrong of late.
    doubted: AtomicBool,
    state: Mutex<State>,
    in_flight: Lanes,
    /// When it is to be checked next, in microseconds; 0: that is not known.
    check_at: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    circuit: Circuit,
    checks: Checks,
    since: Timestamp,
    last_fault: Option<(Timestamp, Fault)>,
}

/// Why no request goes to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Its health checks fail.
    Down,
    /// It has failed too often of late; one request may try it then.
    Circuit(Timestamp),
}

/// How a server stands, for those who look on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// True where requests go to it.
    pub up: bool,
    /// False where its health checks fail.
    pub healthy: bool,
    /// Its circuit breaker.
    pub circuit: Stand,
    /// Since when.
    pub since: Timestamp,
    /// What went wrong last, and when.
    pub last_fault: Option<(Timestamp, Fault)>,
    /// Requests of people, and of the proxy's own, that have no whole answer yet.
    pub in_flight: u64,
}

impl Server {
    /// One of the app called `app`, of which nothing is known yet.
    #[must_use]
    pub fn new(upstream: Upstream, app: Arc<str>, clock: Clock) -> Self {
        let state = State { since: clock.now(), ..State::default() };
        Self {
            upstream,
            app,
            clock,
            doubted: AtomicBool::new(false),
            state: Mutex::new(state),
            in_flight: Lanes::default(),
            check_at: AtomicU64::new(0),
        }
    }

    /// Asks whether a request may go to it. Whoever may, and finds the circuit half open, is the one that tries.
    ///
    /// # Errors
    /// Why none may.
    pub fn admit(&self) -> Result<(), Shut> {
        if !self.doubted.load(Relaxed) {
            return Ok(());
        }
        let mut state = self.state();
        if state.checks.is_down() {
            return Err(Shut::Down);
        }
        state.circuit.admit(self.clock.now()).map_err(Shut::Circuit)
    }

    /// It has answered a request, with whatever status.
    pub fn answered(&self) {
        if self.doubted.load(Relaxed) {
            self.change(|state, _| state.circuit.answered());
        }
    }

    /// It has not.
    pub fn failed(&self, fault: Fault) {
        self.change(|state, now| {
            state.last_fault = Some((now, fault));
            if fault.opens() {
                state.circuit.failed(now);
            }
        });
    }

    /// It was checked; `Err`: it is not well.
    pub fn checked(&self, outcome: Result<(), Fault>, votes: Votes) {
        self.change(|state, now| {
            if let Err(fault) = outcome {
                state.last_fault = Some((now, fault));
            }
            let turned = state.checks.heard(outcome.is_ok(), votes);
            // A page that is served says that the server is there; of one that hangs it says nothing until it has fallen, too.
            if outcome.is_ok() && (turned || !state.hangs()) {
                state.circuit.answered();
            }
        });
    }

    /// Health checks are no longer asked for: what they said counts for nothing.
    pub fn unchecked(&self) {
        if self.doubted.load(Relaxed) {
            self.change(|state, _| state.checks = Checks::default());
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let state = self.state();
        Standing {
            up: state.is_up(),
            healthy: !state.checks.is_down(),
            circuit: state.circuit.stand(),
            since: state.since,
            last_fault: state.last_fault,
            in_flight: self.in_flight.count(),
        }
    }

    /// When it is to be checked next, as far as that was settled.
    #[must_use]
    pub fn check_at(&self) -> Option<Timestamp> {
        Some(self.check_at.load(Relaxed)).filter(|at| *at > 0).map(Timestamp::from_micros)
    }

    /// Settles when it is to be checked next.
    pub fn check_then(&self, at: Timestamp) {
        self.check_at.store(at.micros(), Relaxed);
    }

    /// Requests that have no whole answer yet.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.count()
    }

    pub(super) fn begins(&self) {
        self.in_flight.add(1);
    }

    pub(super) fn ends(&self) {
        self.in_flight.add(u64::MAX);
    }

    fn change(&self, change: impl FnOnce(&mut State, Timestamp)) {
        let now = self.clock.now();
        let mut state = self.state();
        let was_up = state.is_up();
        change(&mut state, now);
        let is_up = state.is_up();
        self.doubted.store(!is_up || !state.circuit.is_spotless(), Relaxed);
        if was_up == is_up {
            return;
        }
        state.since = now;
        let (app, upstream) = (&*self.app, &self.upstream.origin);
        let why = state.last_fault.map(|(_, fault)| fault.to_string()).unwrap_or_default();
        drop(state);
        if is_up {
            tracing::info!(app, %upstream, "the server is up again");
        } else {
            tracing::warn!(app, %upstream, why, "the server is down: no requests go to it until it answers");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_up(&self) -> bool {
        !self.checks.is_down() && self.circuit.stand() == Stand::Closed
    }

    /// True where the last that went wrong was a request without an answer.
    fn hangs(&self) -> bool {
        self.last_fault.is_some_and(|(_, fault)| fault == Fault::Silent(Reason::FirstByteTimeout))
    }
}

/// Threads that count apart; more share.
const LANES: usize = 8;

/// A number that several threads count: each in a lane of its own, as wide as what a processor fetches at once.
#[derive(Debug, Default)]
struct Lanes([Lane; LANES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane(AtomicU64);

thread_local! {
    static LANE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % LANES
    };
}

impl Lanes {
    fn add(&self, amount: u64) {
        if let Some(Lane(count)) = LANE.with(|lane| self.0.get(*lane)) {
            count.fetch_add(amount, Relaxed);
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, Lane(count)| sum.wrapping_add(count.load(Relaxed)))
    }
}
