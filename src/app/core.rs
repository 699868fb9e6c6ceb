//! What all threads share, made from the config once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::keeping::{self, Keeping, Watches};
use crate::admin::Admin;
use crate::balance::Balancer;
use crate::balance::circuit::Stand;
use crate::clock::Clock;
use crate::config::{Config, ListenText};
use crate::findings::Findings;
use crate::heartbeat::pressure::Pressure;
use crate::net::serve::ServeOptions;
use crate::net::{Connections, LastWord};
use crate::ping::lives::Lives;
use crate::proxy;
use crate::proxy::options::PublicScheme;
use crate::random;
use crate::registry::Registry;
use crate::route::RouteMap;
use crate::store::StoreError;
use crate::telemetry::RequestIds;
use crate::telemetry::access::AccessLog;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{AppNames, Build, Metrics};

/// What all threads share.
#[derive(Clone, Debug)]
pub struct Core {
    pub(super) routes: Arc<RouteMap>,
    pub(super) registry: Arc<Registry>,
    pub(super) balancer: Arc<Balancer>,
    pub(super) shared: Arc<proxy::Shared>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) lives: Arc<Lives>,
    pub(super) armed: Arc<AtomicUsize>,
    pub(super) metrics: Metrics,
    pub(super) access: AccessLog,
    pub(super) serve: ServeOptions,
    pub(super) clock: Clock,
    pub(super) request_prefix: u64,
    pub(super) findings: Findings,
    /// True where browsers surely come by `https`.
    pub(super) https: bool,
    /// What sessions of an earlier process are watched for.
    pub(super) watches: Arc<Watches>,
    health: Health,
    admin: Admin,
}

impl Core {
    /// Of `config`; time is `clock`'s, and lines of the access log go to `access`.
    #[must_use]
    pub fn new(config: Config, clock: Clock, access: AccessLog) -> Self {
        let registry = Registry::new(config.registry, config.routes.bridge.clocks, &random::bytes());
        Self::with(config, registry, clock, access)
    }

    /// The same, with the sessions that `keeping` has, and will have.
    ///
    /// # Errors
    /// Where the store cannot be used.
    pub fn keeping(
        config: Config,
        keeping: Keeping,
        clock: Clock,
        access: AccessLog,
    ) -> Result<Self, StoreError> {
        let Keeping::Store(opened) = keeping else { return Ok(Self::new(config, clock, access)) };
        let (options, clocks) = (config.registry, config.routes.bridge.clocks);
        let registry = Registry::kept_in(opened.store(), options, clocks, opened.secret());
        let threads = super::threads(&config);
        let mut core = Self::with(config, registry, clock, access);
        let watches = keeping::take_in(*opened, &core.registry, &core.routes, clock, threads)?;
        core.watches = Arc::new(watches);
        Ok(core)
    }

    fn with(config: Config, registry: Registry, clock: Clock, access: AccessLog) -> Self {
        let https = is_https(&config);
        let routes = Arc::new(config.routes);
        let findings = Findings::new(config.lines.places());
        let registry = Arc::new(registry);
        let balancer = Arc::new(Balancer::new(&routes, &super::convert::upstreams(&config.origins), clock));
        let names = app_names(&routes);
        let listeners = config.listen.iter().map(|listen| listen.as_str().into()).collect();
        let metrics = Metrics::new(build(), names, listeners);
        let armed = Arc::new(AtomicUsize::new(0));
        tell_findings(&metrics, &findings);
        let pressure = Arc::new(Pressure::default());
        observe(&metrics, (&registry, &routes), (&armed, &pressure), &access, clock);
        tell_servers(&metrics, &routes, &balancer);
        let request_prefix = u64::from_le_bytes(random::bytes());
        let serve = ServeOptions {
            connections: Connections::new(config.max_connections),
            max_header_bytes: config.max_header_bytes,
            header: config.server.timeouts.header,
            idle: config.server.timeouts.idle,
            body_stall: config.server.timeouts.body_stall,
            drain_timeout: config.drain_timeout,
            last_word: last_word(request_prefix),
        };
        let health = Health::new();
        let lives = Arc::new(Lives::new(&routes, &balancer, findings.clone()));
        let admin = Admin::new(crate::admin::Parts {
            registry: Arc::clone(&registry),
            routes: Arc::clone(&routes),
            balancer: Arc::clone(&balancer),
            metrics: metrics.clone(),
            health: health.clone(),
            lives: Arc::clone(&lives),
            clock,
            token: config.admin.token,
            findings: findings.clone(),
        });
        Self {
            shared: Arc::new(proxy::Shared::new(
                Arc::clone(&registry),
                Arc::clone(&balancer),
                config.server,
                clock,
            )),
            pressure,
            lives,
            request_prefix,
            routes,
            registry,
            balancer,
            armed,
            metrics,
            access,
            serve,
            clock,
            findings,
            https,
            watches: Arc::default(),
            health,
            admin,
        }
    }

    /// The live sessions.
    #[must_use]
    pub const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The route map.
    #[must_use]
    pub const fn routes(&self) -> &Arc<RouteMap> {
        &self.routes
    }

    /// Whether it is ready.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// What was found out about the apps.
    #[must_use]
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The operators' view.
    #[must_use]
    pub const fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The metrics.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// The names of the apps of `routes`, by number.
fn app_names(routes: &RouteMap) -> AppNames {
    routes.routes().iter().map(|route| (route.rules.app.index(), Arc::clone(&route.rules.name))).collect()
}

fn is_https(config: &Config) -> bool {
    match config.server.public_scheme {
        PublicScheme::Auto => config.tls.is_some() && config.listen.iter().all(ListenText::speaks_tls),
        scheme => scheme == PublicScheme::Https,
    }
}

/// What this binary was made from.
fn build() -> Build {
    Build {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("SESSIONBRIDGE_COMMIT").unwrap_or("unknown"),
    }
}

/// What is said where no request was read, under ids that no thread gives.
fn last_word(request_prefix: u64) -> LastWord {
    let ids = Mutex::new(RequestIds::new(request_prefix, u16::MAX));
    LastWord::new(move |status| {
        let id = ids.lock().unwrap_or_else(PoisonError::into_inner).make();
        proxy::reply::unasked(status, id.as_str())
    })
}

/// What is known about the apps, as it is known at a scrape.
fn tell_findings(metrics: &Metrics, findings: &Findings) {
    let findings = findings.clone();
    metrics.observe(move |gauges| {
        for found in findings.all() {
            gauges.finding(found.app.index(), found.kind.as_str(), found.level.as_str());
        }
    });
}

/// How the apps' servers are at a scrape.
fn tell_servers(metrics: &Metrics, routes: &Arc<RouteMap>, balancer: &Arc<Balancer>) {
    let (routes, balancer) = (Arc::clone(routes), Arc::clone(balancer));
    metrics.observe(move |gauges| {
        for route in routes.routes() {
            for server in balancer.servers(route) {
                let (app, upstream) = (route.rules.app.index(), server.upstream.origin.to_string());
                let standing = server.standing();
                gauges.upstream(app, &upstream, standing.up);
                gauges.upstream_circuit(app, &upstream, standing.circuit != Stand::Closed);
            }
        }
    });
}

/// The gauges that are read at a scrape.
fn observe(
    metrics: &Metrics,
    (registry, routes): (&Arc<Registry>, &Arc<RouteMap>),
    (armed, pressure): (&Arc<AtomicUsize>, &Arc<Pressure>),
    access: &AccessLog,
    clock: Clock,
) {
    let (registry, routes, armed, pressure, access) =
        (Arc::clone(registry), Arc::clone(routes), Arc::clone(armed), Arc::clone(pressure), access.clone());
    metrics.observe(move |gauges| {
        let counts = registry.counts();
        gauges.sessions(counts.bound as u64, counts.pending as u64);
        gauges.heartbeats(armed.load(Ordering::Relaxed) as u64, pressure.waiting() as u64);
        gauges.log_lines_dropped(access.dropped());
        for (app, state, count) in crate::admin::app_states(&registry, &routes, clock.now()) {
            gauges.app_sessions(app, state, count);
        }
    });
}
