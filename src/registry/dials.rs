//! The three clocks' settings, which a reload may change while every request reads them.
//!
//! Invariant: reading takes no lock. Who reads during a change may see one setting of before beside one of after it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::bridge::rules::Clocks;

/// [`Clocks`] in microseconds.
#[derive(Debug)]
pub(super) struct Dials {
    idle_timeout: AtomicU64,
    /// [`NEVER`] for `None`.
    presence_limit: AtomicU64,
    presence_ttl: AtomicU64,
    max_lifetime: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Dials {
    pub(super) const fn new() -> Self {
        Self {
            idle_timeout: AtomicU64::new(0),
            presence_limit: AtomicU64::new(NEVER),
            presence_ttl: AtomicU64::new(0),
            max_lifetime: AtomicU64::new(0),
        }
    }

    pub(super) fn set(&self, clocks: &Clocks) {
        self.idle_timeout.store(micros(clocks.idle_timeout), Relaxed);
        self.presence_limit.store(clocks.presence_limit.map_or(NEVER, micros), Relaxed);
        self.presence_ttl.store(micros(clocks.presence_ttl), Relaxed);
        self.max_lifetime.store(micros(clocks.max_lifetime), Relaxed);
    }

    pub(super) fn read(&self) -> Clocks {
        let of = |dial: &AtomicU64| Duration::from_micros(dial.load(Relaxed));
        Clocks {
            idle_timeout: of(&self.idle_timeout),
            presence_limit: Some(of(&self.presence_limit))
                .filter(|limit| *limit < Duration::from_micros(NEVER)),
            presence_ttl: of(&self.presence_ttl),
            max_lifetime: of(&self.max_lifetime),
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(NEVER - 1).min(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read() {
        let dials = Dials::new();
        let second = Duration::from_secs(1);
        for presence_limit in [None, Some(3 * second)] {
            let set = Clocks {
                idle_timeout: second,
                presence_limit,
                presence_ttl: 2 * second,
                max_lifetime: 4 * second,
            };
            dials.set(&set);
            assert_eq!(dials.read(), set);
        }
    }
}
