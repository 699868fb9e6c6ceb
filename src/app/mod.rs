//! The process: bind, run, drain.
//!
//! [`App::bind`] takes the ports, so that addresses are known and nothing is half started when one is taken; [`App::run`]
//! serves until it is told to stop. The caller owns the signal. Ports may come from outside ([`Ports::take`]), and go to
//! another process ([`handover`]).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime;
use tokio::task::LocalSet;

use crate::clock::Clock;
use crate::config::Config;
use crate::net::drain::{Drain, Drainer};
use crate::net::inherit::Inherited;
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
pub mod handover;
pub mod healthcheck;
pub mod keeping;
pub mod live;
pub mod notify;
mod opening;
pub mod probing;
pub mod reload;
mod sharing;
pub mod signals;
mod watch;
mod watchdog;
pub mod worker;
mod workers;

use core::Core;
use handover::Predecessor;
use keeping::{Keeping, Unopened};
use reload::{Fixed, Origin, Reloader};
use watchdog::Watchdog;

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
    /// The process that this one takes over from.
    #[error("the process that hands over does not let go")]
    Predecessor(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The ports that a config names, taken: of what this process was started with, or bound anew.
#[derive(Debug)]
pub struct Ports {
    browsers: Vec<Bound>,
    admin: Option<Bound>,
    predecessor: Option<Predecessor>,
}

impl Ports {
    /// Those that `config` names, where `inherited` has them the very ones.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn take(config: &Config, mut inherited: Inherited) -> Result<Self, BindError> {
        let mut browsers = ports(config, &mut inherited)?;
        let admin = if config.admin.listen.is_some() { browsers.pop() } else { None };
        let predecessor = inherited.take_channel().map(Predecessor::new);
        for unused in inherited.left() {
            tracing::warn!("a socket that this process was started with is not used: {unused}");
        }
        Ok(Self { browsers, admin, predecessor })
    }

    /// Returns when the process that hands over, where there is one, has let go of what only one can have.
    ///
    /// # Errors
    /// Where it does not.
    pub fn take_over(&mut self) -> Result<(), BindError> {
        self.predecessor.as_mut().map_or(Ok(()), Predecessor::let_go).map_err(BindError::Predecessor)
    }
}

/// A proxy whose ports are taken.
#[derive(Debug)]
pub struct App {
    core: Core,
    /// Sessions of before that are not watched over yet.
    unopened: Option<Unopened>,
    opened: Arc<OnceLock<()>>,
    stop: Option<Drainer>,
    ports: Ports,
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
        let ports = Ports::take(&config, Inherited::default())?;
        Self::at(ports, config, Keeping::Memory)
    }

    /// The same, at `ports`, with the sessions that `keeping` has, and will have.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn at(mut ports: Ports, config: Config, keeping: Keeping) -> Result<Self, BindError> {
        let threads = threads(&config);
        let browsers = ports.browsers.into_iter().zip(&config.listen).map(|(bound, own)| {
            match config.tls.as_ref().filter(|_| own.speaks_tls()) {
                Some(tls) => bound.under(tls),
                None => bound,
            }
        });
        ports.browsers = browsers.collect();
        let (access, writing) = AccessLog::open(&convert::log(&config.log))?;
        let fixed = Fixed::of(&config);
        let (core, unopened) = Core::keeping(config, keeping, Clock::system(), access.clone())?;
        let (probes, origin, stop, opened) = (false, None, None, Arc::default());
        Ok(Self { core, unopened, opened, stop, ports, threads, access, writing, probes, fixed, origin })
    }

    /// The same, and where it finds while it serves that it cannot go on, it stops what `drainer` tells.
    #[must_use]
    pub fn with_stop(self, drainer: &Drainer) -> Self {
        Self { stop: Some(drainer.clone()), ..self }
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
        self.ports.browsers.iter().map(Bound::local_addr)
    }

    /// Where operators are served.
    #[must_use]
    pub fn admin_address(&self) -> Option<&ListenAddr> {
        self.ports.admin.as_ref().map(Bound::local_addr)
    }

    /// Set as soon as the store is read to its end, or was given up: until then it cannot be let go of.
    #[must_use]
    pub const fn opened(&self) -> &Arc<OnceLock<()>> {
        &self.opened
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

    /// The listening sockets, for a process that is to have them after this one; until they are dropped their ports stay
    /// open.
    pub fn take_sockets(&mut self) -> Vec<OwnedFd> {
        self.ports.browsers.iter_mut().chain(&mut self.ports.admin).flat_map(Bound::take_sockets).collect()
    }

    /// Serves until `drain` says stop, and returns when the last request is done or the drain's time is over.
    ///
    /// # Errors
    /// Where a thread or a runtime cannot be started, or a session of before cannot be opened.
    pub fn run(self, drain: &Drain) -> io::Result<()> {
        let watchdog = Watchdog::from_env(self.threads);
        let work = Work {
            core: self.core.clone(),
            drain: drain.clone(),
            watchdog: watchdog.clone(),
            resolver: Resolver::system(),
        };
        let (threads, ups) = work.begin(self.ports.browsers, (self.threads, self.probes))?;
        let (stop_admin, admin) = (Drainer::new(), self.ports.admin);
        let admin = admin.map(|bound| administer(self.core.clone(), bound, (&stop_admin, drain)));
        let admin = admin.transpose()?;
        if ups.iter().take(self.threads).count() < self.threads {
            return Err(io::Error::other("a worker thread cannot start"));
        }
        if let Some(origin) = self.origin {
            let reloader = Reloader::new(self.core.clone(), origin, self.fixed);
            let asks = self.core.loads().open();
            // It ends with the process, or when nobody can ask any more.
            std::thread::Builder::new()
                .name("config".to_owned())
                .spawn(move || on_this_thread(reloader.run(asks)))?;
        }
        let opening = opening::begin(self.unopened, self.opened, self.stop)?;
        self.core.health().advance(Readiness::Ready);
        if let Some(predecessor) = self.ports.predecessor {
            predecessor.retire();
        }
        notify::ready("serving");
        watchdog.map_or(Ok(()), |watchdog| watchdog.spawn(drain.clone()))?;
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a worker thread panicked"))??;
        }
        // The operators' view outlives the workers, so that the drain can be watched.
        stop_admin.0.abort();
        if let Some(admin) = admin {
            let _ = admin.join();
        }
        self.core.registry().keep_all();
        // What could not be written has been told by whoever tried.
        let _ = self.core.registry().store().close();
        self.access.close(&self.writing, Duration::from_secs(2));
        // Whoever is stopped before all are open need not open the rest.
        match opening.is_finished().then(|| opening.join()) {
            Some(Ok(Err(damaged))) => Err(io::Error::other(damaged)),
            _ => Ok(()),
        }
    }
}

/// What all workers are given.
#[derive(Clone)]
struct Work {
    core: Core,
    drain: Drain,
    watchdog: Option<Watchdog>,
    /// The names of apps' servers, looked up once for all.
    resolver: Resolver,
}

/// Threads, to be waited for.
type Threads = Vec<JoinHandle<io::Result<()>>>;

impl Work {
    /// Starts so many workers, which share what was bound, and one of which probes where it is asked for. Each tells when it
    /// is up.
    fn begin(
        &self,
        bound: Vec<Bound>,
        (many, probes): (usize, bool),
    ) -> io::Result<(Threads, mpsc::Receiver<()>)> {
        let mut lanes: Vec<Vec<Listener>> = (0..many).map(|_| Vec::new()).collect();
        for bound in bound {
            let mut listeners = bound.into_listeners().into_iter();
            // More sockets than threads: some threads accept from several.
            while listeners.len() > 0 {
                lanes.iter_mut().zip(&mut listeners).for_each(|(lane, listener)| lane.push(listener));
            }
        }
        let (up, ups) = mpsc::channel();
        let workers = lanes.into_iter().enumerate().map(|(number, listeners)| {
            let (work, up, probes) = (self.clone(), up.clone(), probes && number == 0);
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            thread.spawn(move || on_this_thread(work.run(number, listeners, (up, probes))))
        });
        Ok((workers.collect::<io::Result<_>>()?, ups))
    }

    async fn run(self, number: usize, listeners: Vec<Listener>, (up, probes): (mpsc::Sender<()>, bool)) {
        let dialer = Dialer::sockets(self.resolver);
        if probes {
            // It ends with the thread's tasks, when the worker has.
            tokio::task::spawn_local(probing::run(self.core.clone(), dialer.clone()));
        }
        if let Some(watchdog) = self.watchdog {
            tokio::task::spawn_local(watchdog.beat(number));
        }
        // Who does not want to know is gone.
        let _ = up.send(());
        drop(up);
        worker::run(self.core, number, listeners, dialer, self.drain).await;
    }
}

/// Serves operators on a thread of its own until it is stopped; it holds when the others do.
fn administer(
    core: Core,
    bound: Bound,
    ((own, told), drain): (&(Drainer, Drain), &Drain),
) -> io::Result<JoinHandle<io::Result<()>>> {
    let (own, told, drain) = (own.clone(), told.clone(), drain.clone());
    let serve = move || {
        on_this_thread(async move {
            tokio::task::spawn_local(async move { own.hold_with(drain).await });
            let listeners = bound.into_listeners().into_iter();
            join_all(listeners.map(|listener| core.admin().serve(listener, told.clone()))).await;
        })
    };
    std::thread::Builder::new().name("admin".to_owned()).spawn(serve)
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

/// What `listen` names, and then what `admin.listen` does: of what is inherited, the rest bound.
fn ports(config: &Config, inherited: &mut Inherited) -> Result<Vec<Bound>, BindError> {
    let threads = threads(config);
    let named = config.listen.iter().map(|listen| (listen, threads));
    let named: Vec<_> = named.chain(config.admin.listen.iter().map(|listen| (listen, 1))).collect();
    let lines = named.iter().map(|(listen, _)| {
        let parsed = listen.as_str().parse();
        parsed.map_err(|source| BindError::Address { at: listen.as_str().to_owned(), source })
    });
    let lines: Vec<ListenAddr> = lines.collect::<Result<_, _>>()?;
    let is_given = !inherited.is_empty();
    let claimed = inherited.claim(&lines).into_iter().zip(&lines).zip(named);
    let bound = claimed.enumerate().map(|(at, ((given, line), (_, threads)))| {
        // A unit's sockets are seldom the operators' address too.
        if given.is_none() && is_given && at < config.listen.len() {
            tracing::warn!(address = %line, "this process was started with sockets, but with none for this address");
        }
        let bound = match given {
            Some((addr, sockets)) => Bound::inherit(addr, sockets, threads),
            None => Bound::bind_beside(line, &lines, threads),
        };
        bound.map_err(|source| BindError::Listen { at: line.to_string(), source })
    });
    bound.collect()
}

/// Runs `work` on a runtime of this thread's own.
fn on_this_thread(work: impl Future<Output = ()>) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work);
    Ok(())
}
