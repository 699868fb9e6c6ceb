//! The scheduler of heartbeats and of sessions' ends: one wheel a thread, no task a session.
//!
//! Invariants: an entry that comes due is asked anew whether it is; a heartbeat never goes out for a session that has
//! ended; what is in flight at an app stays within its bounds.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::bridge::beat::{Next, Pace, Verdict};
use crate::bridge::rules::AppIx;
use crate::bridge::session::{End, Phase, Session};
use crate::clock::Clock;
use crate::ping::Pinger;
use crate::registry::agenda::{Entry, Waiting, Watch};
use crate::registry::{Registry, Slot};
use crate::route::{Route, RouteMap};
use crate::sign_out::SignOut;
use crate::telemetry::labels::EndReason;
use crate::time::Timestamp;

pub mod pressure;
pub mod wheel;

use pressure::Pressure;
use wheel::{HORIZON, Wheel};

/// The heartbeats of one thread.
pub struct Heartbeat {
    routes: Rc<dyn Fn() -> Rc<RouteMap>>,
    registry: Arc<Registry>,
    pinger: Pinger,
    sign_out: SignOut,
    pressure: Arc<Pressure>,
    clock: Clock,
    armed: Arc<AtomicUsize>,
    wheel: RefCell<Wheel<Waiting>>,
    /// Told when an entry was put back, which may come due before what the loop sleeps for.
    put_back: Notify,
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
        routes: Rc<dyn Fn() -> Rc<RouteMap>>,
        pinger: Pinger,
        sign_out: SignOut,
        pressure: Arc<Pressure>,
        armed: Arc<AtomicUsize>,
    ) -> Self {
        let (registry, clock) = (Arc::clone(&pinger.registry), pinger.clock);
        let wheel = RefCell::new(Wheel::new(clock.now()));
        Self { routes, registry, pinger, sign_out, pressure, clock, armed, wheel, put_back: Notify::new() }
    }

    /// Watches what `entries` brings, until nobody can bring anything any more.
    pub async fn run(self: Rc<Self>, mut entries: UnboundedReceiver<Entry>) {
        loop {
            let wake = self.wheel.borrow().next_wake();
            let at = self.clock.instant(wake.unwrap_or(Timestamp::FAR));
            tokio::select! {
                entry = entries.recv() => match entry {
                    Some(entry) => self.place(entry),
                    None => return,
                },
                () = self.put_back.notified() => {}
                () = tokio::time::sleep_until(at), if wake.is_some() => {}
            }
            while let Ok(entry) = entries.try_recv() {
                self.place(entry);
            }
            self.fire();
        }
    }

    /// Puts an entry where it comes due.
    fn place(&self, entry: Entry) {
        let now = self.clock.now();
        let due = match entry.watch {
            Watch::End => entry.slot.with(|session| {
                session.watched = self.ends_at(session);
                session.watched
            }),
            Watch::Beat(app) => match self.next(&entry.slot, app, now) {
                Next::Now => now,
                Next::Later(at) => at,
                Next::Stop => return,
            },
        };
        self.insert(due, entry);
    }

    fn insert(&self, due: Timestamp, entry: Entry) {
        self.armed.fetch_add(usize::from(is_beat(entry.watch)), Ordering::Relaxed);
        self.wheel.borrow_mut().insert(due, entry.waiting());
    }

    /// Everything that has come due.
    fn fire(self: &Rc<Self>) {
        let now = self.clock.now();
        let mut due = Vec::new();
        self.wheel.borrow_mut().advance(now, |entry, at| due.push((entry, at)));
        let beats = due.iter().filter(|(waiting, _)| is_beat(waiting.watch())).count();
        self.armed.fetch_sub(beats, Ordering::Relaxed);
        for (waiting, at) in due {
            let Some(entry) = self.registry.entry(waiting) else { continue };
            match entry.watch {
                Watch::End => self.ended(entry, now),
                Watch::Beat(app) => self.beat(entry, app, now, now.since(at)),
            }
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
                Phase::Pending => Some(End::Evicted),
                _ => session.expired(self.registry.clocks(), now),
            };
            (over, None)
        });
        if let Some(ends) = ends {
            self.insert(ends, entry);
        } else if let Some(farewell) = over.and_then(|end| self.registry.end(&entry.slot, end, now)) {
            self.pinger.shard.session_end(EndReason::from(farewell.end));
            let (this, routes) = (Rc::clone(self), (self.routes)());
            if farewell.end.signs_apps_out() {
                tokio::task::spawn_local(async move {
                    this.sign_out.all(&routes, &farewell, None).await;
                });
            }
        }
    }

    /// When a session ends if nothing more happens, or is to be asked again. A pending one lives as long as its apps' own
    /// timeouts at the most.
    fn ends_at(&self, session: &Session) -> Timestamp {
        let ends = session.ends_at(self.registry.clocks()).min(self.clock.now().plus(HORIZON / 2));
        if session.phase() != Phase::Pending {
            return ends;
        }
        let routes = (self.routes)();
        let rules = session.apps().filter_map(|app| routes.route(app.app)?.rules.session.as_ref());
        let longest = rules.map(|rules| rules.timeout).max();
        longest.map_or(ends, |longest| ends.min(session.created.plus(longest)))
    }

    /// A heartbeat may be due.
    fn beat(self: &Rc<Self>, entry: Entry, app: AppIx, now: Timestamp, late: Duration) {
        let routes = (self.routes)();
        let Some(route) = routes.route(app) else { return };
        match self.next(&entry.slot, app, now) {
            Next::Stop => {}
            Next::Later(at) => self.insert(at, entry),
            Next::Now => match route.rules.beat.as_ref().map(|rules| self.pressure.admit(app, rules, now)) {
                None => {}
                Some(Err(later)) => self.insert(now.plus(later), entry),
                Some(Ok(ticket)) => {
                    self.pinger.shard.heartbeat_lag(late);
                    let (this, routes) = (Rc::clone(self), Rc::clone(&routes));
                    tokio::task::spawn_local(async move {
                        let verdict = this.pinger.ping(&routes, app, &entry.slot).await;
                        let answered = verdict.map(|verdict| verdict != Verdict::Unreachable);
                        this.pressure.done(ticket, answered, this.clock.now());
                        this.place(entry);
                        this.put_back.notify_one();
                    });
                }
            },
        }
    }

    /// When the next heartbeat of the session to `app` is due. Where none is, the entry is given up, and said to be.
    fn next(&self, slot: &Slot, app: AppIx, now: Timestamp) -> Next {
        let routes = (self.routes)();
        slot.with(|session| {
            let ended = session.has_ended() || session.expired(self.registry.clocks(), now).is_some();
            let seed = session.handle.0;
            let Some(app) = session.app_mut(app) else { return Next::Stop };
            let next = if ended {
                Next::Stop
            } else {
                pace(&routes, app.app, seed).map_or(Next::Stop, |pace| pace.next(app, now))
            };
            if next == Next::Stop {
                app.beat.armed = false;
            }
            next
        })
    }
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
