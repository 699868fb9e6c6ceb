//! Counters and gauges: written by each thread for itself, added up when somebody reads them.
//!
//! Invariant: counting a request takes no lock and writes to no cache line of another thread. A [`Shard`] can
//! neither be cloned nor shared between threads, so its numbers have one writer.

use std::cell::Cell as NotSync;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

use super::cells::{Cells, DURATION_BOUNDS, LAG_BOUNDS};
use super::exposition;
use super::labels::{
    AppState, EndReason, METHODS, Reason, SessionEvent, SignOutProof, SignOutResult, StreamKind,
    UrlTokenResult, Verdict, class_index, method_index,
};
use crate::time::Timestamp;

/// All numbers of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    build: Build,
    listeners: Vec<Arc<str>>,
    apps: Mutex<AppNames>,
    shards: Mutex<Vec<Arc<Cells>>>,
    sources: Mutex<Vec<Source>>,
    reloads: Mutex<Reloads>,
}

/// The names of apps, by their numbers.
pub type AppNames = BTreeMap<usize, Arc<str>>;

type Source = Box<dyn Fn(&mut Gauges) + Send + Sync>;

/// What this binary is: the labels of `build_info`.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The package's version.
    pub version: &'static str,
    /// The commit it was built from, `unknown` outside a checkout.
    pub commit: &'static str,
}

/// How often the config was read anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reloads {
    pub(super) ok: u64,
    pub(super) failed: u64,
    /// How the last one went and when it was; `None`: there was none.
    pub(super) last: Option<(bool, Timestamp)>,
}

impl Metrics {
    /// With the names of apps by number and of listeners by index. At most 16 listeners have numbers of their own.
    #[must_use]
    pub fn new(build: Build, apps: AppNames, listeners: Vec<Arc<str>>) -> Self {
        Self(Arc::new(Inner {
            build,
            listeners,
            apps: Mutex::new(apps),
            shards: Mutex::default(),
            sources: Mutex::default(),
            reloads: Mutex::default(),
        }))
    }

    /// The names after a reload. What was counted for an app that is not among them is not shown, until it is again.
    pub fn set_apps(&self, apps: AppNames) {
        *lock(&self.0.apps) = apps;
    }

    /// Counters for the calling thread to keep. Those of a thread that has ended are handed on with what they
    /// count.
    #[must_use]
    pub fn shard(&self) -> Shard {
        let mut shards = lock(&self.0.shards);
        let idle = shards.iter_mut().position(|cells| Arc::get_mut(cells).is_some());
        let cells = match idle.and_then(|at| shards.get(at)) {
            Some(cells) => Arc::clone(cells),
            None => {
                let cells = Arc::new(Cells::default());
                shards.push(Arc::clone(&cells));
                cells
            }
        };
        Shard { cells, one_thread: PhantomData }
    }

    /// Asks `source` for gauges whenever the numbers are read. What several sources say of one gauge is added
    /// up.
    pub fn observe(&self, source: impl Fn(&mut Gauges) + Send + Sync + 'static) {
        lock(&self.0.sources).push(Box::new(source));
    }

    /// The config was read anew and is in use, or is in no state to be.
    pub fn reloaded(&self, ok: bool, now: Timestamp) {
        let mut reloads = lock(&self.0.reloads);
        *(if ok { &mut reloads.ok } else { &mut reloads.failed }) += 1;
        reloads.last = Some((ok, now));
    }

    /// All numbers as OpenMetrics text, `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    #[must_use]
    pub fn encode(&self) -> String {
        exposition::encode(self)
    }

    /// A copy of what the numbers are read from.
    pub(super) fn reading(&self) -> Reading {
        let mut gauges = Gauges::default();
        lock(&self.0.sources).iter().for_each(|source| source(&mut gauges));
        Reading {
            build: self.0.build,
            listeners: self.0.listeners.clone(),
            apps: lock(&self.0.apps).clone(),
            shards: lock(&self.0.shards).clone(),
            reloads: *lock(&self.0.reloads),
            gauges,
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one scrape is made from.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) build: Build,
    pub(super) listeners: Vec<Arc<str>>,
    pub(super) apps: AppNames,
    pub(super) shards: Vec<Arc<Cells>>,
    pub(super) reloads: Reloads,
    pub(super) gauges: Gauges,
}

/// Numbers that somebody else keeps, asked for when they are read.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub(super) bound: u64,
    pub(super) pending: u64,
    pub(super) armed: u64,
    pub(super) due: u64,
    pub(super) lines_dropped: u64,
    pub(super) app_sessions: BTreeMap<(usize, AppState), u64>,
    pub(super) upstreams: BTreeMap<(usize, String), bool>,
    pub(super) circuits: BTreeMap<(usize, String), bool>,
    pub(super) findings: BTreeSet<(usize, &'static str, &'static str)>,
    pub(super) store: Option<StoreNumbers>,
}

/// What a store has done; only where there is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreNumbers {
    /// Groups that were committed.
    pub commits: u64,
    /// How long that took, all together.
    pub took: Duration,
    /// Records in them.
    pub records: u64,
    /// Sessions whose clocks alone were written.
    pub clocks: u64,
    /// Times that it could not be written.
    pub failures: u64,
    /// Records that wait.
    pub waiting: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// True while it cannot be written.
    pub fails: bool,
    /// Of one that several proxies share.
    pub shared: Option<SharedNumbers>,
}

/// What a store has done that several proxies share, and how this proxy stands to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedNumbers {
    /// Round trips.
    pub trips: u64,
    /// How long they took, all together.
    pub trips_took: Duration,
    /// Writes that met another proxy's.
    pub conflicts: u64,
    /// Sessions that were taken over from proxies that are gone.
    pub takeovers: u64,
    /// Times that news could not be heard any more.
    pub deaf: u64,
    /// Sessions that were looked for.
    pub fetches: u64,
    /// Times that the store had lost something.
    pub reassertions: u64,
    /// Things under the store's keys that are nothing of ours, or cannot be read.
    pub refused: u64,
    /// Proxies whose leases are good.
    pub members: u64,
    /// True while news are heard.
    pub hears: bool,
    /// True while this proxy's lease is good.
    pub leased: bool,
    /// True where the store throws keys away when its memory is short.
    pub evicts: bool,
}

impl Gauges {
    /// Bridge sessions whose cookie has come back, and those whose has not.
    pub fn sessions(&mut self, bound: u64, pending: u64) {
        self.bound += bound;
        self.pending += pending;
    }

    /// App sessions of an app in a state.
    pub fn app_sessions(&mut self, app: usize, state: AppState, count: u64) {
        *self.app_sessions.entry((app, state)).or_default() += count;
    }

    /// Heartbeats that wait for their time, and those whose time has come and that wait for room.
    pub fn heartbeats(&mut self, armed: u64, due: u64) {
        self.armed += armed;
        self.due += due;
    }

    /// Whether an upstream (by its name in the config) is up. Up is what every source says is up.
    pub fn upstream(&mut self, app: usize, upstream: &str, up: bool) {
        *self.upstreams.entry((app, upstream.to_owned())).or_insert(true) &= up;
    }

    /// Whether an upstream's circuit is open, half open included. Open is what any source says is open.
    pub fn upstream_circuit(&mut self, app: usize, upstream: &str, open: bool) {
        *self.circuits.entry((app, upstream.to_owned())).or_default() |= open;
    }

    /// What the store has done.
    pub const fn store(&mut self, store: StoreNumbers) {
        self.store = Some(store);
    }

    /// Something was found out about an app: what kind of thing, and how to take it.
    pub fn finding(&mut self, app: usize, kind: &'static str, level: &'static str) {
        self.findings.insert((app, kind, level));
    }

    /// Lines of the access log that were dropped since the start; see `AccessLog::dropped`.
    pub fn log_lines_dropped(&mut self, count: u64) {
        self.lines_dropped += count;
    }
}

/// One thread's counters. Put it in an `Rc` to have it in several places of that thread.
pub struct Shard {
    cells: Arc<Cells>,
    one_thread: PhantomData<NotSync<()>>,
}

impl Shard {
    /// A request was answered: by an app, or by ourselves (`app` is `None` where none was found).
    pub fn request(&self, app: Option<usize>, method: &Method, status: u16, duration: Duration) {
        let cells = self.cells.app(app);
        cells.requests.add(class_index(status) * METHODS.len() + method_index(method), 1);
        cells.request_time.observe(&DURATION_BOUNDS, duration);
    }

    /// How a request ended.
    pub fn request_end(&self, app: Option<usize>, reason: Reason) {
        self.cells.app(app).reasons.add(reason.index(), 1);
    }

    /// An upstream has answered: from the first byte sent to the head of its answer.
    pub fn upstream(&self, app: usize, duration: Duration) {
        self.cells.app(Some(app)).upstream_time.observe(&DURATION_BOUNDS, duration);
    }

    /// A heartbeat has come to a verdict.
    pub fn heartbeat(&self, app: usize, verdict: Verdict, duration: Duration) {
        let cells = self.cells.app(Some(app));
        cells.beats.add(verdict.index(), 1);
        cells.beat_time.observe(&DURATION_BOUNDS, duration);
    }

    /// A heartbeat was sent so much later than it was due.
    pub fn heartbeat_lag(&self, lag: Duration) {
        self.cells.lag.observe(&LAG_BOUNDS, lag);
    }

    /// Something happened to an app session.
    pub fn session_event(&self, app: usize, event: SessionEvent) {
        self.cells.app(Some(app)).events.add(event.index(), 1);
    }

    /// A bridge session has ended.
    pub fn session_end(&self, reason: EndReason) {
        self.cells.ends.add(reason.index(), 1);
    }

    /// An app was asked to sign a session out.
    pub fn sign_out_request(&self, app: usize, result: SignOutResult) {
        self.cells.app(Some(app)).sign_outs.add(result.index(), 1);
    }

    /// After a sign-out, an app was asked whether the old token still opens anything.
    pub fn sign_out_proof(&self, app: usize, proof: SignOutProof) {
        self.cells.app(Some(app)).sign_out_proofs.add(proof.index(), 1);
    }

    /// `count` tokens of an app were found in URLs.
    pub fn url_tokens(&self, app: usize, result: UrlTokenResult, count: u64) {
        self.cells.app(Some(app)).url_tokens.add(result.index(), count);
    }

    /// `count` cookies that no longer mean anything were deleted in a browser.
    pub fn cookies_janitored(&self, count: u64) {
        self.cells.cookies_janitored.add(count);
    }

    /// A path of this app was found to be asked at a steady beat that nobody has declared.
    pub fn steady_beat(&self, app: usize) {
        self.cells.app(Some(app)).steady_beats.add(0, 1);
    }

    /// An app was found restarted so often, and sessions of it were found to have ended by that.
    pub fn app_restarted(&self, app: usize, restarts: u64, lost: u64) {
        let cells = self.cells.app(Some(app));
        cells.restarts.add(0, restarts);
        cells.restarts.add(1, lost);
    }

    /// A connection was accepted by the listener of this index.
    pub fn connection_opened(&self, listener: usize) {
        self.cells.connections.add(listener, 1);
    }

    /// A connection of the listener of this index is gone.
    pub fn connection_closed(&self, listener: usize) {
        self.cells.connections.add(listener, u64::MAX);
    }

    /// A stream to an app began.
    pub fn stream_opened(&self, app: usize, kind: StreamKind) {
        self.cells.app(Some(app)).streams.add(kind.index(), 1);
    }

    /// A stream to an app ended.
    pub fn stream_closed(&self, app: usize, kind: StreamKind) {
        self.cells.app(Some(app)).streams.add(kind.index(), u64::MAX);
    }

    /// A request was refused for its framing: it could be read in two ways.
    pub fn framing_refused(&self) {
        self.cells.framing_refused.add(1);
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shard(..)")
    }
}

#[cfg(test)]
mod tests;
