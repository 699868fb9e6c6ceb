//! The counters of one thread.
//!
//! Invariant: a [`Cells`] has one writer at a time (its `Shard`); others only read. So adding is a load and a
//! store with no lock prefix, and no request writes to a cache line that another thread writes to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::labels::{
    CLASSES, EndReason, METHODS, Reason, SessionEvent, SignOutProof, SignOutResult, StreamKind,
    UrlTokenResult, Verdict,
};
use crate::numbered::Numbered;

/// Listeners that have a counter of their own.
pub(super) const MAX_LISTENERS: usize = 16;
/// Bounds of a histogram, and one bucket for what is beyond.
const BUCKETS: usize = 13;

/// Upper bounds of durations, in microseconds.
pub(super) const DURATION_BOUNDS: [u64; BUCKETS - 1] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];
/// Upper bounds of lateness, in microseconds: from one slot of the wheel to more than an app's timeout can
/// bear.
pub(super) const LAG_BOUNDS: [u64; BUCKETS - 1] = [
    10_000, 20_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
    30_000_000, 60_000_000,
];

/// One number. Wraps, so that a gauge may go up in one thread and down in another.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One number for each word of a label.
#[derive(Debug)]
pub(super) struct Row<const N: usize>([Cell; N]);

impl<const N: usize> Default for Row<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Cell::default()))
    }
}

impl<const N: usize> Row<N> {
    pub(super) fn add(&self, at: usize, amount: u64) {
        if let Some(cell) = self.0.get(at) {
            cell.add(amount);
        }
    }

    pub(super) const fn cells(&self) -> &[Cell] {
        &self.0
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub(super) struct Timing {
    pub(super) buckets: Row<BUCKETS>,
    pub(super) micros: Cell,
}

impl Timing {
    pub(super) fn observe(&self, bounds: &[u64], duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets.add(bounds.partition_point(|bound| *bound < micros), 1);
        self.micros.add(micros);
    }
}

/// The numbers of one app. Aligned to what a processor fetches at once, so that it ends where another
/// thread's begins.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct AppCells {
    /// By class of code, then method.
    pub(super) requests: Row<{ CLASSES.len() * METHODS.len() }>,
    pub(super) reasons: Row<{ Reason::WORDS.len() }>,
    pub(super) request_time: Timing,
    pub(super) upstream_time: Timing,
    pub(super) beats: Row<{ Verdict::WORDS.len() }>,
    pub(super) beat_time: Timing,
    pub(super) events: Row<{ SessionEvent::WORDS.len() }>,
    pub(super) sign_outs: Row<{ SignOutResult::WORDS.len() }>,
    pub(super) sign_out_proofs: Row<{ SignOutProof::WORDS.len() }>,
    pub(super) url_tokens: Row<{ UrlTokenResult::WORDS.len() }>,
    pub(super) streams: Row<{ StreamKind::WORDS.len() }>,
    pub(super) steady_beats: Row<1>,
    /// Restarts, and the sessions that they cost.
    pub(super) restarts: Row<2>,
}

/// The numbers of one thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Cells {
    apps: Numbered<AppCells>,
    /// What belongs to no app.
    pub(super) nowhere: AppCells,
    pub(super) ends: Row<{ EndReason::WORDS.len() }>,
    pub(super) lag: Timing,
    pub(super) connections: Row<MAX_LISTENERS>,
    pub(super) cookies_janitored: Cell,
    pub(super) framing_refused: Cell,
}

impl Cells {
    /// For writing: made when first needed.
    pub(super) fn app(&self, app: Option<usize>) -> &AppCells {
        app.and_then(|app| self.apps.at(app)).unwrap_or(&self.nowhere)
    }

    /// For reading: `None` where nothing was counted yet.
    pub(super) fn counted(&self, app: usize) -> Option<&AppCells> {
        self.apps.find(app)
    }
}
