//! systemd's watchdog: a unit with `WatchdogSec=` is told that the process is alive, as long as every worker really runs.
//!
//! Invariant: a word is sent only if each worker has run its own timer since the last one, or has ended as it should.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::notify;
use crate::net::Drain;

const SILENT: u8 = 0;
const BEATS: u8 = 1;
const ENDED: u8 = 2;
const DEAD: u8 = 3;

/// What the workers show, and how often it is looked at.
#[derive(Clone, Debug)]
pub(super) struct Watchdog {
    limit: Duration,
    pulses: Arc<[AtomicU8]>,
}

impl Watchdog {
    /// Over so many workers, where the unit asks for it.
    pub(super) fn from_env(workers: usize) -> Option<Self> {
        Some(Self::new(sd_notify::watchdog_enabled()?, workers))
    }

    fn new(limit: Duration, workers: usize) -> Self {
        Self { limit, pulses: (0..workers).map(|_| AtomicU8::new(SILENT)).collect() }
    }

    /// Shows that worker `number` runs, for as long as this future is polled.
    pub(super) async fn beat(self, number: usize) {
        let Some(pulse) = self.pulses.get(number) else { return };
        let _end = End(pulse);
        loop {
            // One who is dead stays it.
            let _ = pulse.compare_exchange(SILENT, BEATS, Ordering::Relaxed, Ordering::Relaxed);
            tokio::time::sleep(self.limit / 8).await;
        }
    }

    /// Tells systemd at half its limit, from a thread that ends with the process, or when another process is the service.
    pub(super) fn spawn(self, drain: Drain) -> io::Result<()> {
        let watch = move || {
            while !drain.is_passed_on() {
                if self.all_beat() {
                    notify::watchdog();
                }
                std::thread::sleep(self.limit / 2);
            }
        };
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
    }

    fn all_beat(&self) -> bool {
        let beats = |pulse: &AtomicU8| {
            let seen = pulse.compare_exchange(BEATS, SILENT, Ordering::Relaxed, Ordering::Relaxed);
            matches!(seen, Ok(_) | Err(ENDED))
        };
        // Each is looked at, also behind one that is silent.
        self.pulses.iter().filter(|pulse| !beats(pulse)).count() == 0
    }
}

/// The end of a worker: as it should, or by a panic.
struct End<'a>(&'a AtomicU8);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(if std::thread::panicking() { DEAD } else { ENDED }, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test(start_paused = true)]
    async fn one_silent_worker_is_silence() {
        let watchdog = Watchdog::new(Duration::from_secs(8), 2);
        assert!(!watchdog.all_beat(), "nobody has begun");
        let mut first = Box::pin(watchdog.clone().beat(0));
        let mut second = Box::pin(watchdog.clone().beat(1));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert!(watchdog.all_beat());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!((&mut first).now_or_never().is_none());
        assert!(!watchdog.all_beat(), "the second has not run");
        assert!((&mut second).now_or_never().is_none());
        assert!(!watchdog.all_beat(), "the first one's sign was used up");
        drop(second);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!((&mut first).now_or_never().is_none());
        assert!(watchdog.all_beat(), "the second has ended");
    }

    #[test]
    fn a_worker_that_panicked_is_dead_for_ever() {
        let watchdog = Watchdog::new(Duration::from_secs(8), 1);
        let own = watchdog.clone();
        let died = std::thread::spawn(move || {
            let _end = End(&own.pulses[0]);
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(died.join().is_err());
        assert!(!watchdog.all_beat() && !watchdog.all_beat());
    }
}
