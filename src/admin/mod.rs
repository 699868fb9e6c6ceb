//! The operators' view: health, metrics, the sessions and their stories, and the end of one.
//!
//! Invariants: nothing that this module returns or logs is enough to impersonate anybody: no token, no cookie value, no
//! bridge id; and no lock is held over a whole scan of the sessions.

use std::sync::Arc;

use crate::clock::Clock;
use crate::findings::Findings;
use crate::loads::Loads;
use crate::net::client::{Client, ClientOptions};
use crate::net::drain::Drain;
use crate::net::listener::Listener;
use crate::net::upstream::Dialer;
use crate::ping::Pinger;
use crate::registry::Registry;
use crate::route::RouteMap;
use crate::setting::Present;
use crate::sign_out::SignOut;
use crate::telemetry::health::Health;
use crate::telemetry::labels::AppState;
use crate::telemetry::metrics::Metrics;
use crate::time::Timestamp;

mod api;
mod client;
mod error;
mod gate;
mod kill;
mod loads;
mod page;
mod scan;
mod server;
mod view;

/// What it shows.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The live sessions.
    pub registry: Arc<Registry>,
    /// The apps and their servers, and what an operator must show.
    pub present: Present,
    /// The counters.
    pub metrics: Metrics,
    /// Whether the proxy is ready.
    pub health: Health,
    /// The time.
    pub clock: Clock,
    /// What was found out about the apps.
    pub findings: Findings,
    /// Each time that the config was read, and the way to ask for it.
    pub loads: Loads,
}

/// The operators' view.
#[derive(Clone, Debug)]
pub struct Admin {
    parts: Parts,
}

impl Admin {
    /// Of these parts.
    #[must_use]
    pub const fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Serves it at `listener` until `drain`: then what was asked is answered, for a moment at the most. Must run in a
    /// `LocalSet`.
    pub async fn serve(&self, listener: Listener, drain: Drain) {
        self.serve_over(Dialer::Sockets, listener, drain).await;
    }

    /// As [`Admin::serve`]; apps are reached by `dialer` when a session is signed out of them.
    pub async fn serve_over(&self, dialer: Dialer, listener: Listener, drain: Drain) {
        let pinger = Pinger {
            client: Client::new(dialer, ClientOptions::default()),
            registry: Arc::clone(&self.parts.registry),
            clock: self.parts.clock,
            shard: std::rc::Rc::new(self.parts.metrics.shard()),
        };
        let sign_out = SignOut { pinger, findings: self.parts.findings.clone() };
        let (desk, kills) = kill::Desk::new();
        let ending = tokio::task::spawn_local(kill::run(kills, self.parts.present.clone(), sign_out));
        server::serve(listener, api::router(self.parts.clone(), desk), drain).await;
        ending.abort();
    }
}

/// How many app sessions of each app are in each state: (app's number, state, count).
#[must_use]
pub fn app_states(registry: &Registry, routes: &RouteMap, now: Timestamp) -> Vec<(usize, AppState, u64)> {
    let counts = scan::census(registry, routes, now);
    let apps = routes.routes().iter().map(|route| route.rules.app.index()).zip(counts);
    apps.flat_map(|(app, states)| states.into_iter().map(move |(state, count)| (app, state, count))).collect()
}
