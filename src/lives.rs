//! What heartbeats tell about the apps themselves, for all threads: restarts, and timeouts that are shorter than the
//! config's.
//!
//! Invariant: an `alive` that is nothing new takes no lock and writes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::balance::Balancer;
use crate::bridge::beat::Pace;
use crate::bridge::lifespan::{Gate, Heard, Lifespan, Notice, Outcome, Restart, Stage, Terms, says};
use crate::bridge::rules::AppIx;
use crate::findings::{Findings, Found, Kind, Level};
use crate::route::{Balance, Route, RouteMap};
use crate::time::Timestamp;

/// What is known of the lives of all apps' sessions.
#[derive(Debug)]
pub struct Lives {
    /// Those that are kept alive.
    apps: BTreeMap<AppIx, Arc<Life>>,
    findings: Findings,
}

#[derive(Debug)]
struct Life {
    app: AppIx,
    name: Arc<str>,
    /// Its servers by number, where it has several that sessions stick to.
    servers: BTreeMap<u16, String>,
    terms: Terms,
    /// The [`Gate`] as of late: microseconds, and servers.
    longest: AtomicU64,
    watched: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lifespan: Lifespan,
    /// When somebody is going to look again.
    wakes: Option<Timestamp>,
}

/// What followed from a verdict, or from time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The session whose heartbeat this was has ended in a restart of the app.
    pub restarted: bool,
    /// Restarts that were noticed.
    pub restarts: u64,
    /// Sessions that they cost, as far as they were not told before.
    pub lost: u64,
    /// When the caller must look again; `None`: somebody does.
    pub wake: Option<Timestamp>,
}

impl Lives {
    /// Of the apps of `routes`; what is found goes into `findings`.
    #[must_use]
    pub fn new(routes: &RouteMap, balancer: &Balancer, findings: Findings) -> Self {
        Self { apps: BTreeMap::new(), findings }.with(routes, balancer)
    }

    /// Of the apps of `routes`, with what this one knows of those of which nothing has changed that matters here.
    #[must_use]
    pub fn with(&self, routes: &RouteMap, balancer: &Balancer) -> Self {
        let life = |route| {
            let new = Life::new(route, balancer)?;
            let known = self.life(new.app).filter(|old| old.is_like(&new));
            Some((new.app, known.map_or_else(|| Arc::new(new), Arc::clone)))
        };
        Self { apps: routes.routes().iter().filter_map(life).collect(), findings: self.findings.clone() }
    }

    /// A heartbeat to `app` was judged.
    pub fn heard(&self, app: AppIx, heard: &Heard, now: Timestamp) -> Told {
        let Some(life) = self.life(app).filter(|life| !life.gate().is_nothing_new(heard)) else {
            return Told::default();
        };
        life.with(now, |state| {
            let notices = state.lifespan.heard(heard);
            let belongs = |notice: &Notice| match notice {
                Notice::Restart(restart) => restart.server == heard.server && restart.stage != Stage::Over,
                _ => false,
            };
            let restarted = heard.outcome == Outcome::Dead && notices.iter().any(belongs);
            Told { restarted, ..self.tell(life, now, &notices) }
        })
    }

    /// It is time to look at `app` again.
    pub fn look(&self, app: AppIx, now: Timestamp) -> Told {
        let Some(life) = self.life(app) else { return Told::default() };
        life.with(now, |state| {
            state.wakes = state.wakes.filter(|wakes| *wakes > now);
            let notices = state.lifespan.look(now);
            self.tell(life, now, &notices)
        })
    }

    fn life(&self, app: AppIx) -> Option<&Arc<Life>> {
        self.apps.get(&app)
    }

    /// Says it. Runs under the app's lock, so that of two numbers the later one stands.
    fn tell(&self, life: &Life, now: Timestamp, notices: &[Notice]) -> Told {
        let mut told = Told::default();
        for notice in notices {
            match notice {
                Notice::Restart(restart) => self.restart(life, now, restart, &mut told),
                Notice::NoRestart { mistaken } => {
                    self.findings.take_back(life.app, Kind::Restart);
                    if *mistaken {
                        tracing::info!(app = %life.name, "it was not restarted: older sessions live on");
                    }
                }
                Notice::Early { dead, alive, new } => {
                    let says = says::early(&life.name, *dead, *alive, life.terms.timeout);
                    if *new {
                        tracing::warn!(app = %life.name, "{says}");
                    }
                    self.put(life, now, Kind::EarlyDeath, says);
                }
                Notice::NotEarly => {
                    self.findings.take_back(life.app, Kind::EarlyDeath);
                    tracing::info!(app = %life.name, "sessions live longer than it seemed");
                }
            }
        }
        told
    }

    fn restart(&self, life: &Life, now: Timestamp, restart: &Restart, told: &mut Told) {
        let server = life.servers.get(&restart.server).map(String::as_str);
        let says = says::restart(&life.name, server, restart);
        match restart.stage {
            Stage::Began => {
                tracing::warn!(app = %life.name, "{says} so far");
                told.restarts += 1;
            }
            Stage::Grew => {}
            Stage::Over => tracing::warn!(app = %life.name, "{says} in all"),
        }
        told.lost += u64::from(restart.new);
        self.put(life, now, Kind::Restart, says);
    }

    fn put(&self, life: &Life, at: Timestamp, kind: Kind, says: String) {
        self.findings.put(Found { at, app: life.app, kind, level: Level::Warning, says });
    }
}

impl Life {
    fn new(route: &Route, balancer: &Balancer) -> Option<Self> {
        let (rules, session) = (route.rules.beat.as_ref()?, route.rules.session.as_ref()?);
        let interval = Pace { rules, timeout: session.timeout, seed: 0 }.interval();
        let terms = Terms { timeout: session.timeout, interval, jitter_percent: rules.jitter_percent };
        let several = sticks(route) && route.upstreams.len() > 1;
        let servers = balancer.servers(route).iter().filter(|_| several);
        let servers = servers.map(|own| (own.upstream.ix.0, own.upstream.origin.to_string())).collect();
        Some(Self {
            app: route.rules.app,
            name: Arc::clone(&route.rules.name),
            servers,
            terms,
            longest: AtomicU64::new(0),
            watched: AtomicU64::new(0),
            state: Mutex::new(State { lifespan: Lifespan::new(terms), wakes: None }),
        })
    }

    /// True where what `other` would learn is what this one has learned.
    fn is_like(&self, other: &Self) -> bool {
        (&self.name, &self.servers, &self.terms) == (&other.name, &other.servers, &other.terms)
    }

    fn gate(&self) -> Gate {
        Gate {
            longest: Duration::from_micros(self.longest.load(Ordering::Relaxed)),
            watched: self.watched.load(Ordering::Relaxed),
        }
    }

    /// Changes what is known; then the gate is as it must be, and somebody looks in time.
    fn with(&self, now: Timestamp, change: impl FnOnce(&mut State) -> Told) -> Told {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = change(&mut state);
        let Gate { longest, watched } = state.lifespan.gate(now);
        self.longest.store(u64::try_from(longest.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.watched.store(watched, Ordering::Relaxed);
        told.wake = state.lifespan.wake(now).filter(|wake| state.wakes.is_none_or(|wakes| *wake < wakes));
        state.wakes = told.wake.or(state.wakes);
        told
    }
}

/// True where a session lives on one of the app's servers. Elsewhere they all keep it, and count as one.
pub fn sticks(route: &Route) -> bool {
    route.balance == Balance::Sticky
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::id::Handle;
    use crate::bridge::lifespan::Terms;

    fn lives() -> Lives {
        let seconds = Duration::from_secs;
        let terms = Terms { timeout: seconds(1200), interval: seconds(400), jitter_percent: 20 };
        let life = Life {
            app: AppIx(0),
            name: "appA".into(),
            servers: [(0, "http://one".to_owned()), (1, "http://two".to_owned())].into(),
            terms,
            longest: AtomicU64::new(0),
            watched: AtomicU64::new(0),
            state: Mutex::new(State { lifespan: Lifespan::new(terms), wakes: None }),
        };
        Lives { apps: [(AppIx(0), Arc::new(life))].into(), findings: Findings::default() }
    }

    fn beat(lives: &Lives, session: u64, sent: u64, outcome: Outcome) -> Told {
        let (at, last) = (Timestamp::from_secs(sent), Timestamp::from_secs(sent - 400));
        let session = Handle(session);
        let heard =
            Heard { at, session, server: 1, proven: last, renewed: last, used: last, missed: false, outcome };
        lives.heard(AppIx(0), &heard, at)
    }

    #[test]
    fn an_alive_that_is_nothing_new_takes_no_lock() {
        let lives = lives();
        assert_eq!(beat(&lives, 1, 1_000, Outcome::Alive), Told::default());
        let life = lives.life(AppIx(0)).unwrap();
        let held = life.state.lock().unwrap();
        assert_eq!(beat(&lives, 2, 1_001, Outcome::Alive), Told::default(), "or this would wait for ever");
        drop(held);
    }

    #[test]
    fn a_restart_is_counted_by_whoever_notices_it_and_named_by_its_server() {
        let lives = lives();
        beat(&lives, 1, 1_000, Outcome::Alive);
        let told: Vec<Told> = (1..=14).map(|n| beat(&lives, n, 1_100, Outcome::Dead)).collect();
        assert_eq!(told.iter().filter(|told| told.wake.is_some()).count(), 1, "one looks again: {told:?}");
        assert_eq!(
            told.iter().map(|told| (told.restarts, told.lost)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
            (1, 14)
        );
        assert_eq!(told.iter().filter(|told| told.restarted).count(), 3, "the twelfth and those after it");
        let found = lives.findings.all();
        assert!(found[0].says.starts_with("appA at http://two was restarted at about 00:"), "{found:?}");
        assert!(found[0].says.ends_with("14 sessions ended") && found.len() == 1, "{found:?}");
        assert_eq!(lives.heard(AppIx(1), &heard_by_nobody(), Timestamp::ZERO), Told::default());
    }

    fn heard_by_nobody() -> Heard {
        Heard {
            at: Timestamp::ZERO,
            session: Handle(0),
            server: 0,
            proven: Timestamp::ZERO,
            renewed: Timestamp::ZERO,
            used: Timestamp::ZERO,
            missed: false,
            outcome: Outcome::Dead,
        }
    }
}
