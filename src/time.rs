//! Points in time as plain data.
//!
//! Nothing here reads a clock: a [`Timestamp`] is handed in by whoever may read one (`clock.rs`), so that the core is a
//! function of its arguments and tests choose the time.

use std::time::Duration;

/// A point in time: microseconds since the Unix epoch.
///
/// Microseconds, because the order in which requests started decides between rival answers, and milliseconds tie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch; stands for "never" where a time is not known yet.
    pub const ZERO: Self = Self(0);
    /// Later than every other point in time.
    pub const FAR: Self = Self(u64::MAX);

    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// From seconds since the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// True for [`Timestamp::ZERO`].
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// This point plus `span`, [`Timestamp::FAR`] at the most.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// This point minus `span`, [`Timestamp::ZERO`] at the least.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero where it is not later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::FAR.plus(Duration::from_secs(1)), Timestamp::FAR);
        assert_eq!(Timestamp::from_secs(1).minus(Duration::from_secs(2)), Timestamp::ZERO);
        assert_eq!(Timestamp::from_secs(1).since(Timestamp::from_secs(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(1500).since(Timestamp::from_secs(1)), Duration::from_millis(500));
    }
}
