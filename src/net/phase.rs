//! What a client's connection is doing, and until when it may.
//!
//! Invariant: a connection without a request in flight always has a deadline: a started head ends within the header
//! time of its first byte, a silent connection within the idle time of its last answer (the header time before the
//! first request). hyper's own head timer cannot tell the two apart, so it stays off.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The phase of one connection. Atomics because hyper asks a stream to be `Send`; one thread touches them.
#[derive(Debug)]
pub(super) struct Phase {
    accepted: Instant,
    /// When somebody began to look after it, in ms after `accepted`.
    begun: u64,
    /// Requests whose answer has not ended.
    in_flight: AtomicUsize,
    /// When the connection fell silent, in ms after `accepted`.
    silent_since: AtomicU64,
    /// When the first byte of the head that is being read came, in ms after `accepted`; `NONE` without one.
    head_since: AtomicU64,
    /// Something that was to be written is not written yet.
    write_waits: AtomicBool,
    /// The last request came with a body, of which nobody here knows whether it was read to its end.
    had_body: AtomicBool,
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
/// A connection is parked once it has been silent for as long as it was busy, within these bounds. The shorter, the fewer
/// connections hold buffers for nothing; the longer, the seldomer a busy one is looked at. In ms.
const SHORTEST_REST: u64 = 50;
const LONGEST_REST: u64 = 1000;

impl Phase {
    /// A connection on which the first head is awaited: accepting counts as its first byte.
    pub(super) fn awaiting_head(accepted: Instant) -> Self {
        Self {
            accepted,
            begun: 0,
            in_flight: AtomicUsize::new(0),
            silent_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            write_waits: AtomicBool::new(false),
            had_body: AtomicBool::new(false),
        }
    }

    /// A connection that is silent from `accepted` on.
    pub(super) fn idle(accepted: Instant) -> Self {
        let phase = Self::awaiting_head(accepted);
        phase.head_since.store(NONE, Ordering::Relaxed);
        phase
    }

    /// A connection that was silent from `since` until now, when something came.
    pub(super) fn roused(since: Instant) -> Self {
        let mut phase = Self::idle(since);
        phase.begun = phase.now();
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

    /// Whether something that was to be written waits.
    pub(super) fn write_waits(&self, waits: bool) {
        self.write_waits.store(waits, Ordering::Relaxed);
    }

    /// A whole head came, and with it a body or not.
    pub(super) fn request_began(&self, has_body: bool) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.had_body.store(has_body, Ordering::Relaxed);
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

    /// Since when nothing is under way on an HTTP/1 connection and hyper holds nothing of it that would be missed; `None`
    /// where it may. After a body one cannot know: hyper may still wait for its rest, which is no request (a bodyless
    /// request behind it is proof that it ended).
    pub(super) fn at_rest_since(&self) -> Option<Instant> {
        let silent = self.silent_since.load(Ordering::Relaxed);
        self.is_at_rest().then(|| self.accepted + Duration::from_millis(silent))
    }

    /// When to look at it again if nothing changes: at its [deadline](Self::deadline), or before that when it may be parked.
    /// Busy for long, it is looked at once in [`LONGEST_REST`], whatever the number of its requests; silent after one
    /// request, it is parked soon.
    pub(super) fn next_look(&self, limits: PhaseLimits) -> Option<Instant> {
        if !self.is_at_rest() {
            return self.deadline(limits);
        }
        let silent = self.silent_since.load(Ordering::Relaxed);
        let rest = silent.saturating_sub(self.begun).clamp(SHORTEST_REST, LONGEST_REST);
        let idle = u64::try_from(limits.idle.as_millis()).unwrap_or(NONE);
        Some(self.accepted + Duration::from_millis(silent.saturating_add(rest.min(idle))))
    }

    fn is_at_rest(&self) -> bool {
        self.is_silent()
            && self.head_since.load(Ordering::Relaxed) == NONE
            && !self.write_waits.load(Ordering::Relaxed)
            && !self.had_body.load(Ordering::Relaxed)
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
        phase.request_began(false);
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
        phase.request_began(false);
        phase.request_began(false);
        phase.request_ended();
        assert_eq!(phase.deadline(LIMITS), None);
        advance(Duration::from_secs(5)).await;
        phase.request_ended();
        assert_eq!(phase.deadline(LIMITS), Some(start + Duration::from_secs(80)));
    }
}
