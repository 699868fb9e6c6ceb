//! What all threads share: what lives as long as the process, and the setting that the present config makes.
//!
//! Invariant: a thread that serves is handed each setting in its turn; until it has taken a new one, it goes on with the old.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::keeping::{self, Keeping, Unopened, Watches};
use super::sharing::Newsroom;
use crate::admin::Admin;
use crate::balance::Balancer;
use crate::balance::circuit::Stand;
use crate::clock::Clock;
use crate::config::{Config, ListenText, StoreKind};
use crate::findings::Findings;
use crate::heartbeat::pressure::Pressure;
use crate::lives::Lives;
use crate::loads::Loads;
use crate::net::terms::ServeOptions;
use crate::net::{Connections, LastWord, Tls};
use crate::proxy;
use crate::random;
use crate::registry::Registry;
use crate::route::RouteMap;
use crate::setting::options::PublicScheme;
use crate::setting::{Present, Setting};
use crate::store::shared::SharedFacts;
use crate::store::{Facts, StoreError};
use crate::telemetry::RequestIds;
use crate::telemetry::access::AccessLog;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{AppNames, Build, Metrics, SharedNumbers, StoreNumbers};

use super::workers::{Taken, Turn, Workers};

/// What all threads share.
#[derive(Clone, Debug)]
pub struct Core {
    pub(super) present: Present,
    pub(super) registry: Arc<Registry>,
    pub(super) shared: Arc<proxy::Shared>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) armed: Arc<AtomicUsize>,
    pub(super) metrics: Metrics,
    pub(super) access: AccessLog,
    pub(super) clock: Clock,
    pub(super) request_prefix: u64,
    pub(super) findings: Findings,
    pub(super) loads: Loads,
    /// How TLS is spoken at all listeners that speak it.
    tls: Option<Tls>,
    connections: Connections,
    last_word: LastWord,
    workers: Workers,
    /// What sessions of an earlier process are watched for.
    pub(super) watches: Arc<Watches>,
    /// What a store that several proxies share lets know.
    pub(super) newsroom: Arc<Newsroom>,
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

    /// The same, with the sessions that `keeping` has, and will have, and what is left to be done with those of before.
    ///
    /// # Errors
    /// Where the store cannot be used.
    pub fn keeping(
        config: Config,
        keeping: Keeping,
        clock: Clock,
        access: AccessLog,
    ) -> Result<(Self, Option<Unopened>), StoreError> {
        let (options, clocks, threads) =
            (config.registry, config.routes.bridge.clocks, super::threads(&config));
        let registry = match &keeping {
            Keeping::Memory => return Ok((Self::new(config, clock, access), None)),
            Keeping::Store(opened) => Registry::kept_in(opened.store(), options, clocks, opened.secret()),
            Keeping::Shared(opened) => Registry::kept_in(opened.store(), options, clocks, opened.secret()),
        };
        let (mut core, mut unopened) = (Self::with(config, registry, clock, access), None);
        keeping::served_before(&keeping, core.shared.served())?;
        match keeping {
            Keeping::Memory => {}
            Keeping::Store(opened) => {
                let (left, watches) =
                    keeping::take_in(*opened, &core.registry, (&core.present, clock), threads)?;
                (core.watches, unopened) = (Arc::new(watches), Some(left));
            }
            Keeping::Shared(opened) => {
                core.newsroom = Arc::new(Newsroom::new(threads));
                let (room, registry) = (Arc::clone(&core.newsroom), Arc::downgrade(&core.registry));
                opened.start(move |news| {
                    if let Some(registry) = registry.upgrade() {
                        room.hear(&registry, &news, clock.now());
                    }
                });
            }
        }
        Ok((core, unopened))
    }

    fn with(config: Config, registry: Registry, clock: Clock, access: AccessLog) -> Self {
        let findings = Findings::new(config.lines.places());
        let registry = Arc::new(registry);
        let on_outage = match &config.store.kind {
            StoreKind::Valkey(options) if registry.store().is_shared() => Some(options.on_outage),
            _ => None,
        };
        let shared = proxy::Shared::new(Arc::clone(&registry), &config.server, clock);
        let shared = Arc::new(shared.with_outages(on_outage));
        let listeners = config.listen.iter().map(|listen| listen.as_str().into()).collect();
        let metrics = Metrics::new(build(), app_names(&config.routes), listeners);
        let (connections, tls) = (Connections::new(config.max_connections), config.tls.clone());
        let balancer = Balancer::new(&config.routes, &super::convert::upstreams(&config.origins), clock);
        let lives = Lives::new(&config.routes, &balancer, findings.clone());
        let present = Present::new(setting(config, balancer, lives));
        let (armed, pressure) = (Arc::new(AtomicUsize::new(0)), Arc::new(Pressure::default()));
        tell_findings(&metrics, &findings);
        observe(&metrics, (&registry, &present), (&armed, &pressure), &access, clock);
        tell_servers(&metrics, &present);
        let request_prefix = u64::from_le_bytes(random::bytes());
        let (health, loads) = (Health::new(), Loads::default());
        let admin = Admin::new(crate::admin::Parts {
            registry: Arc::clone(&registry),
            present: present.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            clock,
            findings: findings.clone(),
            loads: loads.clone(),
        });
        Self {
            present,
            registry,
            shared,
            pressure,
            armed,
            metrics,
            access,
            clock,
            request_prefix,
            findings,
            loads,
            tls,
            connections,
            last_word: last_word(request_prefix),
            workers: Workers::default(),
            watches: Arc::default(),
            newsroom: Arc::new(Newsroom::new(1)),
            health,
            admin,
        }
    }

    /// From now on everything that begins is as `config` says, as far as that can change in a running process. What is in flight
    /// ends as it began. Ready when all threads are so far.
    pub async fn follow(&self, config: Config) {
        self.hand_out(config).by_all().await;
    }

    fn hand_out(&self, config: Config) -> Taken {
        let old = self.present.now();
        let balancer = old.balancer.with(&config.routes, &super::convert::upstreams(&config.origins));
        let lives = old.lives.with(&config.routes, &balancer);
        self.connections.set_max(config.max_connections);
        self.registry.set_clocks(&config.routes.bridge.clocks);
        self.shared.follow(&config.server);
        self.findings.set_places(config.lines.places());
        self.metrics.set_apps(app_names(&config.routes));
        if let (Some(running), Some(new)) = (&self.tls, &config.tls) {
            running.follow(new);
        }
        self.workers.hand(&self.present, Arc::new(setting(config, balancer, lives)))
    }

    /// The present setting, and those that follow, for a thread that serves.
    pub(super) fn enlist(&self) -> Turn {
        self.workers.enlist(&self.present)
    }

    /// How clients are served with `setting`.
    pub(super) fn serve_options(&self, setting: &Setting) -> ServeOptions {
        let timeouts = &setting.options.timeouts;
        ServeOptions {
            connections: self.connections.clone(),
            max_header_bytes: setting.max_header_bytes,
            header: timeouts.header,
            idle: timeouts.idle,
            body_stall: timeouts.body_stall,
            drain_timeout: setting.drain_timeout,
            last_word: self.last_word.clone(),
        }
    }

    /// The live sessions.
    #[must_use]
    pub const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// What the present config says.
    #[must_use]
    pub fn setting(&self) -> Arc<Setting> {
        self.present.now()
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

    /// Each time that the config was read, and the way to ask for it.
    #[must_use]
    pub const fn loads(&self) -> &Loads {
        &self.loads
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

fn setting(config: Config, balancer: Balancer, lives: Lives) -> Setting {
    Setting {
        https: is_https(&config),
        routes: config.routes,
        balancer: Arc::new(balancer),
        lives: Arc::new(lives),
        options: config.server,
        max_header_bytes: config.max_header_bytes,
        drain_timeout: config.drain_timeout,
        token: config.admin.token,
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
fn tell_servers(metrics: &Metrics, present: &Present) {
    let present = present.clone();
    metrics.observe(move |gauges| {
        let setting = present.now();
        for route in setting.routes.routes() {
            for server in setting.balancer.servers(route) {
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
    (registry, present): (&Arc<Registry>, &Present),
    (armed, pressure): (&Arc<AtomicUsize>, &Arc<Pressure>),
    access: &AccessLog,
    clock: Clock,
) {
    let (registry, present, armed, pressure, access) =
        (Arc::clone(registry), present.clone(), Arc::clone(armed), Arc::clone(pressure), access.clone());
    metrics.observe(move |gauges| {
        let counts = registry.counts();
        gauges.sessions(counts.bound as u64, counts.pending as u64);
        gauges.heartbeats(armed.load(Ordering::Relaxed) as u64, pressure.waiting() as u64);
        if registry.store().keeps() {
            gauges.store(store_numbers(&registry.store().facts()));
        }
        gauges.log_lines_dropped(access.dropped());
        for (app, state, count) in crate::admin::app_states(&registry, &present.now(), clock.now()) {
            gauges.app_sessions(app, state, count);
        }
    });
}

/// What the store has done, for a scrape.
fn store_numbers(facts: &Facts) -> StoreNumbers {
    StoreNumbers {
        commits: facts.commits,
        took: facts.took,
        records: facts.records,
        clocks: facts.clocks,
        failures: facts.failures,
        waiting: facts.waiting,
        bytes: facts.bytes,
        fails: facts.fails,
        shared: facts.shared.as_ref().map(shared_numbers),
    }
}

fn shared_numbers(facts: &SharedFacts) -> SharedNumbers {
    SharedNumbers {
        trips: facts.trips,
        trips_took: facts.trips_took,
        conflicts: facts.conflicts,
        takeovers: facts.takeovers,
        deaf: facts.deaf,
        fetches: facts.fetches,
        reassertions: facts.reassertions,
        refused: facts.refused,
        members: facts.members,
        hears: facts.hears,
        leased: facts.leased,
        evicts: facts.evicts,
    }
}
