//! The operators' view.

use std::sync::Arc;

use crate::balance::Balancer;
use crate::clock::Clock;
use crate::net::drain::Drain;
use crate::net::listener::Listener;
use crate::registry::Registry;
use crate::route::RouteMap;
use crate::secret::Secret;
use crate::telemetry::health::Health;
use crate::telemetry::labels::AppState;
use crate::telemetry::metrics::Metrics;

/// What it shows.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The live sessions.
    pub registry: Arc<Registry>,
    /// The apps.
    pub routes: Arc<RouteMap>,
    /// Their servers, for the sign-outs of sessions that an operator ends.
    pub balancer: Arc<Balancer>,
    /// The counters.
    pub metrics: Metrics,
    /// Whether the proxy is ready.
    pub health: Health,
    /// The time.
    pub clock: Clock,
    /// What an operator must show.
    pub token: Option<Secret>,
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

    /// Serves it at `listener` until `drain`.
    pub async fn serve(&self, listener: Listener, mut drain: Drain) {
        let _ = (&self.parts, listener);
        drain.requested().await;
    }
}

/// How many app sessions of each app are in each state: (app's index, state, count).
#[must_use]
pub fn app_states(_registry: &Registry, _routes: &RouteMap) -> Vec<(usize, AppState, u64)> {
    Vec::new()
}
