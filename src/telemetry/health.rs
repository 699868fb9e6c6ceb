//! Whether this process is alive and may be sent requests.
//!
//! Invariant: readiness only moves on: starting, ready, draining.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// Not listening yet.
    Starting,
    /// Serving.
    Ready,
    /// Finishing what it has.
    Draining,
}

impl Readiness {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The process's health. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    dead: AtomicBool,
    readiness: AtomicU8,
    held: AtomicUsize,
}

impl Health {
    /// Alive and starting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// False once something has failed that only a restart cures.
    #[must_use]
    pub fn live(&self) -> bool {
        !self.0.dead.load(Ordering::Relaxed)
    }

    /// Something has failed that only a restart cures.
    pub fn fail(&self) {
        self.0.dead.store(true, Ordering::Relaxed);
    }

    /// How far the process is.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match self.0.readiness.load(Ordering::Acquire) {
            0 => Readiness::Starting,
            1 => Readiness::Ready,
            _ => Readiness::Draining,
        }
    }

    /// Moves on to `to`; never back. False where the process was there or further already.
    pub fn advance(&self, to: Readiness) -> bool {
        self.0.readiness.fetch_max(to as u8, Ordering::AcqRel) < to as u8
    }

    /// Counts something that a drain waits for, until the guard is dropped. Writes to memory that all threads
    /// share: for streams and connections, not for each request.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.0.held.fetch_add(1, Ordering::AcqRel);
        Held(Arc::clone(&self.0))
    }

    /// How many things a drain would wait for.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Acquire)
    }
}

/// Something that a drain waits for.
#[derive(Debug)]
pub struct Held(Arc<Inner>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_only_moves_on() {
        let health = Health::new();
        assert_eq!((health.live(), health.readiness()), (true, Readiness::Starting));
        assert!(health.advance(Readiness::Ready) && health.advance(Readiness::Draining));
        assert!(!health.clone().advance(Readiness::Ready));
        assert_eq!(health.readiness(), Readiness::Draining);
        health.fail();
        assert!(!health.live());
    }

    #[test]
    fn a_drain_waits_for_what_is_held() {
        let health = Health::new();
        let one = health.hold();
        let two = health.clone().hold();
        assert_eq!(health.held(), 2);
        drop(one);
        assert_eq!(health.held(), 1);
        drop(two);
        assert_eq!(health.held(), 0);
    }
}
