//! The one reader of time.
//!
//! The wall clock is read once, when a [`Clock`] is made; from then on it moves with tokio's monotonic clock.
//! So timers and timestamps never disagree, a step of the system's clock ends nobody's session, and in a
//! paused test both stand still.

use std::time::Duration;

use tokio::time::Instant;

use crate::time::Timestamp;

/// How far ahead a timer may be: tokio's own limit is about two years more than anybody waits.
const FARTHEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Tells the time, and when a point in time comes. Two words: copy it to wherever it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Timestamp,
    origin: Instant,
}

impl Clock {
    /// Set by the system's wall clock, once.
    #[must_use]
    pub fn system() -> Self {
        Self::at(wall())
    }

    /// Set to `epoch` now: for tests, and for what must agree with another clock.
    #[must_use]
    pub fn at(epoch: Timestamp) -> Self {
        Self { epoch, origin: Instant::now() }
    }

    /// The time now. Never goes back.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.epoch.plus(self.origin.elapsed())
    }

    /// When `at` comes, for `tokio::time::sleep_until`. A point before this clock was set is that moment; one
    /// more than a year after it is a year after it, so [`Timestamp::FAR`] is a fine way to say "never".
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        self.origin + at.since(self.epoch).min(FARTHEST)
    }
}

#[expect(clippy::disallowed_types, reason = "the one place that asks the system what time it is")]
fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO.plus(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timers_and_timestamps_move_together() {
        let start = Timestamp::from_secs(1_000);
        let clock = Clock::at(start);
        assert_eq!(clock.now(), start);
        tokio::time::sleep_until(clock.instant(Timestamp::from_millis(1_001_500))).await;
        assert_eq!(clock.now(), Timestamp::from_millis(1_001_500));
    }

    #[tokio::test(start_paused = true)]
    async fn points_out_of_reach_are_timers_all_the_same() {
        let clock = Clock::at(Timestamp::from_secs(1_000));
        assert_eq!(clock.instant(Timestamp::ZERO), Instant::now());
        assert_eq!(clock.instant(Timestamp::FAR), Instant::now() + FARTHEST);
    }

    #[test]
    fn the_system_knows_what_year_it_is() {
        assert!(Clock::system().now() > Timestamp::from_secs(1_700_000_000));
    }
}
