//! The scheduler of heartbeats and of sessions' ends: one wheel a thread, no task a session.
//!
//! An entry lies in the wheel until it comes due, then in the queue of its app until it is its turn (`sending.rs`), and after
//! the verdict in the wheel again.
//!
//! Invariants: an entry that comes due is asked anew whether it is, and once more when it is its turn; a heartbeat never
//! goes out for a session that has ended; what is in flight at an app stays within its bounds; however many come due at
//! once, people's requests pass between them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{spawn_local, yield_now};

use crate::bridge::answer;
use crate::bridge::beat::{Next, Pace};
use crate::bridge::rules::{AppIx, Clocks, Mode};
use crate::bridge::session::{End, Phase, Session};
use crate::clock::Clock;
use crate::ping::Pinger;
use crate::registry::agenda::{Entry, Waiting, Watch};
use crate::registry::{Registry, Slot};
use crate::route::{Route, RouteMap};
use crate::setting::Setting;
use crate::sign_out::SignOut;
use crate::telemetry::labels::EndReason;
use crate::time::Timestamp;

mod pause;
pub mod pressure;
mod queue;
mod sending;
pub mod wheel;

use pause::Pause;
use pressure::Pressure;
use queue::{Queued, patience};
use sending::Queues;
use wheel::{HORIZON, Wheel};

/// Entries that are looked at before other tasks of the thread get their turn.
const CHUNK: usize = 32;
/// When a session's end is looked at again that could not be asked for.
const AGAIN: Duration = Duration::from_secs(5);
/// Sessions whose end is looked for in the store at once.
const ASKING: usize = 64;

/// The heartbeats of one thread.
pub struct Heartbeat {
    setting: Rc<dyn Fn() -> Rc<Setting>>,
    registry: Arc<Registry>,
    pinger: Pinger,
    sign_out: SignOut,
    pressure: Arc<Pressure>,
    clock: Clock,
    armed: Arc<AtomicUsize>,
    wheel: RefCell<Wheel<Waiting>>,
    queues: RefCell<Queues>,
    /// What the loop sleeps for; [`Timestamp::ZERO`] while it is awake.
    sleeps_until: Cell<Timestamp>,
    /// Wakes the loop: an entry may come due before what it sleeps for, or an app has room.
    told: Arc<Notify>,
    /// So many sessions are read anew at once, where several proxies share them.
    asking: Semaphore,
    pause: Pause,
}

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Heartbeat({} armed)", self.wheel.borrow().len())
    }
}

impl Heartbeat {
    /// Those of one thread. `armed` counts those that all threads have entered.
    #[must_use]
    pub fn new(
        setting: Rc<dyn Fn() -> Rc<Setting>>,
        pinger: Pinger,
        sign_out: SignOut,
        pressure: Arc<Pressure>,
        armed: Arc<AtomicUsize>,
    ) -> Self {
        let (registry, clock) = (Arc::clone(&pinger.registry), pinger.clock);
        Self {
            setting,
            registry,
            pinger,
            sign_out,
            pressure,
            clock,
            armed,
            wheel: RefCell::new(Wheel::new(clock.now())),
            queues: RefCell::default(),
            sleeps_until: Cell::new(Timestamp::ZERO),
            told: Arc::default(),
            asking: Semaphore::new(ASKING),
            pause: Pause::default(),
        }
    }

    /// Watches what was watched `before` by an earlier process, as it is heard of.
    pub async fn resume_watch(self: Rc<Self>, mut before: UnboundedReceiver<Vec<(Waiting, Timestamp)>>) {
        while let Some(lot) = before.recv().await {
            for (waiting, due) in lot {
                self.await_due(due, waiting);
            }
            // Whoever is at the door already goes before.
            yield_now().await;
        }
    }

    /// Watches what `entries` brings, until nobody can bring anything any more.
    pub async fn run(self: Rc<Self>, mut entries: UnboundedReceiver<Entry>) {
        let _nothing_waits_after_it = Stops(&self);
        loop {
            self.pause.is_over().await;
            let _turn = self.pause.begin();
            let (due, opens) = (self.wheel.borrow().next_wake(), self.opens());
            let wake = due.unwrap_or(Timestamp::FAR).min(opens.unwrap_or(Timestamp::FAR));
            self.sleeps_until.set(wake);
            if wake <= self.clock.now() {
                yield_now().await;
            }
            tokio::select! {
                entry = entries.recv() => match entry {
                    Some(entry) => self.place(entry, self.clock.now()),
                    None => return,
                },
                () = self.told.notified() => self.queues.borrow_mut().told(),
                () = tokio::time::sleep_until(self.clock.instant(wake)) => {}
            }
            self.sleeps_until.set(Timestamp::ZERO);
            while let Ok(entry) = entries.try_recv() {
                self.place(entry, self.clock.now());
            }
            self.fire().await;
            self.send_what_may().await;
        }
    }

    /// Puts an entry where it comes due.
    fn place(&self, entry: Entry, now: Timestamp) {
        let due = match entry.watch {
            Watch::End => entry.slot.with(|session| {
                session.watched = self.ends_at(session);
                session.watched
            }),
            Watch::Beat(app) => match self.ask(&entry.slot, app, now) {
                Asked::Now { .. } => now,
                Asked::Later(at) => at,
                Asked::Stop => return,
            },
        };
        self.insert(due, entry);
    }

    fn insert(&self, due: Timestamp, entry: Entry) {
        self.await_due(due, entry.waiting());
    }

    fn await_due(&self, due: Timestamp, waiting: Waiting) {
        self.armed.fetch_add(usize::from(is_beat(waiting.watch())), Ordering::Relaxed);
        self.wheel.borrow_mut().insert(due, waiting);
        if due < self.sleeps_until.get() {
            self.told.notify_one();
        }
    }

    /// Everything that has come due, slot by slot: after a machine was suspended that is very much.
    async fn fire(self: &Rc<Self>) {
        let (mut due, mut looked_at) = (Vec::new(), 0_usize);
        loop {
            let more = self.turn(&mut due);
            for (waiting, at) in due.drain(..) {
                if let Some(entry) = self.registry.entry(waiting) {
                    match entry.watch {
                        Watch::End => self.come_to_end(entry),
                        Watch::Beat(app) => self.come_due(entry, app, at),
                    }
                }
                looked_at += 1;
                if looked_at.is_multiple_of(CHUNK) {
                    yield_now().await;
                }
            }
            if !more {
                return;
            }
        }
    }

    /// Turns the wheel to the next slot that has something, or to the present. False: it has reached the present.
    fn turn(&self, due: &mut Vec<(Waiting, Timestamp)>) -> bool {
        let mut wheel = self.wheel.borrow_mut();
        let now = self.clock.now();
        let next = wheel.next_wake().filter(|next| *next <= now);
        wheel.advance(next.unwrap_or(now), |waiting, at| due.push((waiting, at)));
        let beats = due.iter().filter(|(waiting, _)| is_beat(waiting.watch())).count();
        self.armed.fetch_sub(beats, Ordering::Relaxed);
        next.is_some()
    }

    /// A session's time may have come. Where several proxies share it, the person may be at another one: that is asked first.
    fn come_to_end(self: &Rc<Self>, entry: Entry) {
        let now = self.clock.now();
        if !self.registry.is_shared() || entry.slot.with(|session| session.watched > now) {
            return self.ended(entry, now);
        }
        let this = Rc::clone(self);
        spawn_local(async move {
            let _one_of_few = this.asking.acquire().await;
            let _under_way = this.pause.begin();
            if this.registry.refresh_slot(&entry.slot, this.clock.now()).await.is_err() {
                // Where the store says nothing, she may be at work elsewhere.
                this.insert(this.clock.now().plus(AGAIN), entry);
            } else if this.registry.is_mine(&entry.slot) {
                this.arm(&entry.slot);
                this.ended(entry, this.clock.now());
            } else {
                // Whoever it is watches it; should it become this proxy's, it is watched anew.
                entry.slot.with(|session| session.watched = Timestamp::FAR);
            }
        });
    }

    /// Another proxy may have brought an app into the session.
    fn arm(&self, slot: &Arc<Slot>) {
        let setting = (self.setting)();
        let bound = |session: &mut Session| session.phase() == Phase::Bound;
        let apps = slot.with(|session| if bound(session) { setting.to_beat(session) } else { Vec::new() });
        for app in apps {
            self.place(Entry { slot: Arc::clone(slot), watch: Watch::Beat(app) }, self.clock.now());
        }
    }

    /// A session's time may have come. Of several entries for one session, the one that was placed last goes on.
    fn ended(self: &Rc<Self>, entry: Entry, now: Timestamp) {
        let (over, ends) = entry.slot.with(|session| {
            if session.has_ended() || session.watched > now {
                return (None, None);
            }
            let ends = self.ends_at(session);
            if ends > now {
                session.watched = ends;
                return (None, Some(ends));
            }
            let over = match session.phase() {
                Phase::Pending => End::Evicted,
                _ if now >= session.hard_end(&self.registry.clocks()) => End::MaxLifetime,
                _ => End::Idle,
            };
            (Some(over), None)
        });
        if let Some(ends) = ends {
            self.insert(ends, entry);
        } else if let Some(farewell) = over.and_then(|end| self.registry.end(&entry.slot, end, now)) {
            self.pinger.shard.session_end(EndReason::from(farewell.end));
            let (this, setting) = (Rc::clone(self), (self.setting)());
            // What was handed back may be in use where nobody here sees it.
            if farewell.end.signs_apps_out()
                && !((self.setting)().bridge.mode == Mode::Release && farewell.end.is_by_clock())
            {
                spawn_local(async move {
                    let _under_way = this.pause.begin();
                    this.sign_out.all(&setting, &farewell, None).await;
                });
            }
        }
    }

    /// When a session ends if nothing more happens, or is to be asked again.
    fn ends_at(&self, session: &Session) -> Timestamp {
        let clocks = self.registry.clocks();
        let ends = ends_at(&(self.setting)(), &clocks, session, self.clock.now());
        // Another proxy may know of an activity that it has not put into the store yet.
        ends.plus(self.registry.lag()).min(session.hard_end(&clocks))
    }

    /// A heartbeat may be due.
    fn come_due(&self, entry: Entry, app: AppIx, due: Timestamp) {
        match self.ask(&entry.slot, app, self.clock.now()) {
            Asked::Stop => {}
            Asked::Later(at) => self.insert(at, entry),
            Asked::Now { by } => {
                self.pressure.wait(1);
                self.queues.borrow_mut().of(app).push(Queued { item: entry, due, by });
            }
        }
    }

    /// When the next heartbeat of the session to `app` is due. Where none is, the entry is given up, and said to be.
    fn ask(&self, slot: &Slot, app: AppIx, now: Timestamp) -> Asked {
        let (routes, here) = ((self.setting)(), self.registry.beats_here(slot));
        slot.with(|session| {
            let ended = session.has_ended() || self.registry.is_over(session, now);
            let seed = session.handle.0;
            let Some(app) = session.app_mut(app) else { return Asked::Stop };
            let pace = pace(&routes, app.app, seed).filter(|_| here && !ended);
            let asked = pace.map_or(Asked::Stop, |pace| match pace.next(app, now) {
                Next::Stop => Asked::Stop,
                Next::Later(at) => Asked::Later(at),
                Next::Now => {
                    let left = app.renewed.plus(pace.timeout).since(now);
                    Asked::Now { by: now.plus(patience(pace.interval(), left)) }
                }
            });
            if asked == Asked::Stop {
                app.beat.armed = false;
            }
            asked
        })
    }
}

/// When a session ends if nothing more happens, or is to be asked again. A pending one lives as long as its apps' own
/// timeouts at the most.
fn ends_at(routes: &RouteMap, clocks: &Clocks, session: &Session, now: Timestamp) -> Timestamp {
    let ends = session.ends_at(clocks).min(now.plus(HORIZON / 2));
    if session.phase() != Phase::Pending {
        return ends;
    }
    let rules = session.apps().filter_map(|app| routes.route(app.app)?.rules.session.as_ref());
    let longest = rules.map(|rules| rules.timeout).max();
    longest.map_or(ends, |longest| ends.min(session.created.plus(longest)))
}

/// What a session of an earlier process is to be watched for, and from when on; it knows that it is. Heartbeats that are due
/// already are spread over what is left of the time that they have, or over an interval where nothing is left.
pub fn watches(
    routes: &RouteMap,
    clocks: &Clocks,
    session: &mut Session,
    now: Timestamp,
) -> SmallVec<[(Watch, Timestamp); 4]> {
    session.watched = ends_at(routes, clocks, session, now);
    let mut watches: SmallVec<[_; 4]> = smallvec![(Watch::End, session.watched)];
    if session.phase() == Phase::Pending {
        return watches;
    }
    let seed = session.handle.0;
    for app in session.apps_mut() {
        let Some(pace) = pace(routes, app.app, seed).filter(|_| answer::should_arm(app)) else { continue };
        let due = match pace.next(app, now) {
            Next::Stop => {
                app.beat.armed = false;
                continue;
            }
            Next::Later(at) => at,
            Next::Now => {
                let left = app.renewed.plus(pace.timeout).since(now);
                let span = if left.is_zero() { pace.interval() } else { left.min(pace.interval()) };
                // Any bits of the session's name are as good as random.
                now.plus(span.mul_f64((seed >> 40) as f64 / f64::from(1_u32 << 24)))
            }
        };
        watches.push((Watch::Beat(app.app), due));
    }
    watches
}

/// With the loop, what waits is over: nobody else would begin it, but whoever has an answer would.
struct Stops<'a>(&'a Heartbeat);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.drop_what_waits();
    }
}

/// What is to become of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// A heartbeat is due, and should begin `by` then.
    Now { by: Timestamp },
    /// One is due then.
    Later(Timestamp),
    /// None.
    Stop,
}

/// True for heartbeats, which are what is counted; the others watch for an end.
const fn is_beat(watch: Watch) -> bool {
    matches!(watch, Watch::Beat(_))
}

/// The pace of an app's heartbeats for one session.
fn pace(routes: &RouteMap, app: AppIx, seed: u64) -> Option<Pace<'_>> {
    let route: &Route = routes.route(app)?;
    let (rules, session) = (route.rules.beat.as_ref()?, route.rules.session.as_ref()?);
    Some(Pace { rules, timeout: session.timeout, seed })
}
