//! The process: bind, run, drain.
//!
//! [`App::bind`] takes the ports, so that addresses are known and nothing is half started when one is taken; [`App::run`]
//! serves until it is told to stop. The caller owns the signal.

use std::io;
use std::time::Duration;

use tokio::runtime;
use tokio::task::LocalSet;

use crate::clock::Clock;
use crate::config::Config;
use crate::net::drain::{Drain, Drainer};
use crate::net::listener::{Bound, ListenAddr, ListenAddrError, Listener};
use crate::net::resolve::Resolver;
use crate::net::upstream::Dialer;
use crate::store::StoreError;
use crate::telemetry::access::{AccessLog, Writing};
use crate::telemetry::health::Readiness;
use crate::telemetry::log::LogError;

pub mod ask;
mod convert;
pub mod core;
pub mod keeping;
pub mod live;
pub mod probing;
pub mod reload;
pub mod signals;
mod watch;
pub mod worker;
mod workers;

use core::Core;
use keeping::Keeping;
use reload::{Fixed, Origin, Reloader};

/// What keeps a proxy from starting.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A port that is taken, or may not be had.
    #[error("cannot listen at {at}")]
    Listen {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No address to listen at.
    #[error("cannot listen at {at}")]
    Address {
        /// What the config says.
        at: String,
        /// Why.
        #[source]
        source: ListenAddrError,
    },
    /// The access log.
    #[error("cannot open the access log")]
    Log(#[from] LogError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A proxy whose ports are taken.
#[derive(Debug)]
pub struct App {
    core: Core,
    bound: Vec<Bound>,
    admin: Option<Bound>,
    threads: usize,
    access: AccessLog,
    writing: Writing,
    probes: bool,
    fixed: Fixed,
    origin: Option<Origin>,
}

impl App {
    /// Takes the ports that `config` names.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(config: Config) -> Result<Self, BindError> {
        Self::bind_keeping(config, Keeping::Memory)
    }

    /// The same, with the sessions that `keeping` has, and will have.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind_keeping(config: Config, keeping: Keeping) -> Result<Self, BindError> {
        let threads = threads(&config);
        let bound = config.listen.iter().map(|own| {
            let bound = bind(own.as_str(), threads)?;
            Ok(match config.tls.as_ref().filter(|_| own.speaks_tls()) {
                Some(tls) => bound.under(tls),
                None => bound,
            })
        });
        let bound = bound.collect::<Result<Vec<_>, BindError>>()?;
        let admin = config.admin.listen.as_ref().map(|at| bind(at.as_str(), 1)).transpose()?;
        let (access, writing) = AccessLog::open(&convert::log(&config.log))?;
        let fixed = Fixed::of(&config);
        let core = Core::keeping(config, keeping, Clock::system(), access.clone())?;
        Ok(Self { core, bound, admin, threads, access, writing, probes: false, fixed, origin: None })
    }

    /// The same, and while it runs it finds out about its apps with sessions of its own.
    #[must_use]
    pub fn with_probes(self) -> Self {
        Self { probes: true, ..self }
    }

    /// The same, and while it runs it reads its config, which came from `origin`, anew when that changes or somebody asks.
    #[must_use]
    pub fn with_reloads(self, origin: Origin) -> Self {
        Self { origin: Some(origin), ..self }
    }

    /// Where browsers are served, with the ports that were taken.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddr> {
        self.bound.iter().map(Bound::local_addr)
    }

    /// Where operators are served.
    #[must_use]
    pub fn admin_address(&self) -> Option<&ListenAddr> {
        self.admin.as_ref().map(Bound::local_addr)
    }

    /// What the threads share.
    #[must_use]
    pub const fn core(&self) -> &Core {
        &self.core
    }

    /// The access log, to open it again.
    #[must_use]
    pub const fn access(&self) -> &AccessLog {
        &self.access
    }

    /// Serves until `drain` says stop, and returns when the last request is done or the drain's time is over.
    ///
    /// # Errors
    /// Where a thread or a runtime cannot be started.
    pub fn run(self, drain: &Drain) -> io::Result<()> {
        let mut lanes: Vec<Vec<Listener>> = (0..self.threads).map(|_| Vec::new()).collect();
        for bound in self.bound {
            for (lane, listener) in lanes.iter_mut().zip(bound.into_listeners()) {
                lane.push(listener);
            }
        }
        let (mut threads, resolver) = (Vec::new(), Resolver::system());
        for (number, listeners) in lanes.into_iter().enumerate() {
            let (core, drain, resolver) = (self.core.clone(), drain.clone(), resolver.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            let probes = self.probes && number == 0;
            threads.push(thread.spawn(move || -> io::Result<()> {
                on_this_thread(async move {
                    let dialer = Dialer::sockets(resolver);
                    if probes {
                        // It ends with the thread's tasks, when the worker has.
                        tokio::task::spawn_local(probing::run(core.clone(), dialer.clone()));
                    }
                    worker::run(core, number, listeners, dialer, drain).await;
                })
            })?);
        }
        let (stop_admin, admin_drain) = Drainer::new();
        let admin = self.admin.and_then(|bound| bound.into_listeners().into_iter().next()).map(|listener| {
            let core = self.core.clone();
            std::thread::Builder::new()
                .name("admin".to_owned())
                .spawn(move || on_this_thread(core.admin().serve(listener, admin_drain)))
        });
        let admin = admin.transpose()?;
        if let Some(origin) = self.origin {
            let reloader = Reloader::new(self.core.clone(), origin, self.fixed);
            let asks = self.core.loads().open();
            // It ends with the process, or when nobody can ask any more.
            std::thread::Builder::new()
                .name("config".to_owned())
                .spawn(move || on_this_thread(reloader.run(asks)))?;
        }
        self.core.health().advance(Readiness::Ready);
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a worker thread panicked"))??;
        }
        // The operators' view outlives the workers, so that the drain can be watched.
        stop_admin.abort();
        if let Some(admin) = admin {
            let _ = admin.join();
        }
        self.core.registry().store().close();
        self.access.close(&self.writing, Duration::from_secs(2));
        Ok(())
    }
}

/// `[log]` of a config, for the set-up of the log.
#[must_use]
pub fn log_options(config: &Config) -> crate::telemetry::log::LogOptions {
    convert::log(&config.log)
}

/// Threads that serve.
fn threads(config: &Config) -> usize {
    match config.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        many => many,
    }
}

fn bind(at: &str, threads: usize) -> Result<Bound, BindError> {
    let addr: ListenAddr = at.parse().map_err(|source| BindError::Address { at: at.to_owned(), source })?;
    Bound::bind(&addr, threads).map_err(|source| BindError::Listen { at: at.to_owned(), source })
}

/// Runs `work` on a runtime of this thread's own.
fn on_this_thread(work: impl Future<Output = ()>) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work);
    Ok(())
}
