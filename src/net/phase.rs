//! What a client's connection is doing, and until when it may.
//!
//! Invariant: a connection without a request in flight always has a deadline: a started head ends within the header
//! time of its first byte, a silent connection within the idle time of its last answer (the header time before the
//! first request). hyper's own head timer cannot tell the two apart, so it stays off.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The phase of one connection. Atomics because hyper asks a stream to be `Send`; one thread touches them.
#[derive(Debug)]
pub(super) struct Phase {
    accepted: Instant,
    /// Requests whose answer has not ended.
    in_flight: AtomicUsize,
    /// When the connection fell silent, in ms after `accepted`.
    silent_since: AtomicU64,
    /// When the first byte of the head that is being read came, in ms after `accepted`; `NONE` without one.
    head_since: AtomicU64,
}

/// How long each phase may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct PhaseLimits {
    /// From the first byte of a head to its end.
    pub(super) header: Duration,
    /// Without a byte and without a request.
    pub(super) idle: Duration,
}

const NONE: u64 = u64::MAX;

impl Phase {
    /// A connection on which the first head is awaited: accepting counts as its first byte.
    pub(super) fn awaiting_head(accepted: Instant) -> Self {
        Self {
            accepted,
            in_flight: AtomicUsize::new(0),
            silent_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
        }
    }

    /// A connection that is silent from `accepted` on.
    pub(super) fn idle(accepted: Instant) -> Self {
        let phase = Self::awaiting_head(accepted);
        phase.head_since.store(NONE, Ordering::Relaxed);
        phase
    }

    /// Bytes came; between requests they begin a head.
    pub(super) fn bytes_came(&self) {
        if self.in_flight.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == NONE {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// True where no answer is under way.
    pub(super) fn is_silent(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// A whole head came.
    pub(super) fn request_began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(NONE, Ordering::Relaxed);
    }

    /// Its answer ended, one way or another.
    pub(super) fn request_ended(&self) {
        if self.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.silent_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// When the connection is to be closed if nothing changes; `None` while a request is in flight.
    pub(super) fn deadline(&self, limits: PhaseLimits) -> Option<Instant> {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let (since, limit) = match self.head_since.load(Ordering::Relaxed) {
            NONE => (self.silent_since.load(Ordering::Relaxed), limits.idle),
            head => (head, limits.header),
        };
        Some(self.accepted + Duration::from_millis(since) + limit)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(NONE - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const LIMITS: PhaseLimits =
        PhaseLimits { header: Duration::from_secs(10), idle: Duration::from_secs(75) };

    #[tokio::test(start_paused = true)]
    async fn heads_and_silence_have_their_own_deadlines() {
        let start = Instant::now();
        let at = |s| Some(start + Duration::from_secs(s));
        let phase = Phase::awaiting_head(start);
        assert_eq!(phase.deadline(LIMITS), at(10));
        advance(Duration::from_secs(3)).await;
        phase.bytes_came();
        assert_eq!(phase.deadline(LIMITS), at(10), "the first head counts from the accept");
        phase.request_began();
        phase.bytes_came();
        assert_eq!(phase.deadline(LIMITS), None);
        phase.request_ended();
        assert_eq!(phase.deadline(LIMITS), at(78));
        advance(Duration::from_secs(7)).await;
        phase.bytes_came();
        advance(Duration::from_secs(2)).await;
        phase.bytes_came();
        assert_eq!(phase.deadline(LIMITS), at(20), "dripping bytes do not move it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_several_requests_is_silent_after_the_last() {
        let start = Instant::now();
        let phase = Phase::idle(start);
        phase.request_began();
        phase.request_began();
        phase.request_ended();
        assert_eq!(phase.deadline(LIMITS), None);
        advance(Duration::from_secs(5)).await;
        phase.request_ended();
        assert_eq!(phase.deadline(LIMITS), Some(start + Duration::from_secs(80)));
    }
}
