//! The `demo` command: two small old applications, a bridge before them, and pages that show what it does.
//!
//! Invariant: a leaf beside `app`. Nothing of the product imports it. One process, real sockets of this machine, nothing
//! written to disk.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use crate::app::core::Core;
use crate::app::{App, BindError, signals};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::loads::Loads;
use crate::net::{Drainer, ListenAddr};
use crate::telemetry::access::AccessLog;
use crate::telemetry::log::{self, LogOptions};

mod fill;
mod front;
mod looks;
pub mod sim;
mod status;
mod view;

use self::front::{Serving, Side};
use self::sim::server::{SimHandle, SimRemote, spawn_thread};
use self::sim::{Look, Profile, SimOptions};

/// Where the demo is served unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// AppA forgets a person after this long, as in the article that the demo follows.
const TIMEOUT_A_MS: u64 = 10_000;
/// AppB after this long.
const TIMEOUT_B_MS: u64 = 300_000;
/// How many requests an application remembers: the panel shows a minute of them.
const LOG_LIMIT: usize = 500;

/// What the demo is told.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Where the demo is served [default: 127.0.0.1:8080, or a free port where that is taken]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Log what the bridge does, requests included
    #[arg(long, short)]
    pub verbose: bool,
}

/// What keeps the demo from starting.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot listen at {at}")]
    Taken {
        at: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no port of this machine can be had")]
    Port(#[source] io::Error),
    #[error("no thread can be had")]
    Thread(#[source] io::Error),
    #[error("the demo's own config is wrong:\n{0}")]
    Config(String),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the bridge listens at no port")]
    NoPort,
}

/// Runs the demo until Ctrl-C.
///
/// # Errors
/// Where it cannot start.
pub fn run(args: &DemoArgs) -> Result<(), Box<dyn std::error::Error>> {
    let level = if args.verbose { "info" } else { "error" };
    log::init(&LogOptions { level: level.to_owned(), ..LogOptions::default() })?;
    let stage = Stage::set(args)?;
    let core = stage.app.core().clone();
    let (drainer, drain) = Drainer::new();
    spawn_signals(drainer, stage.app.access().clone())?;
    say(args, &stage)?;
    let line = (io::stdout().is_terminal() && !args.verbose).then(|| status::spawn(stage.apps(), core));
    let Stage { app, with, without, url: _, notice: _, apps } = stage;
    app.run(&drain)?;
    drop((line, with, without, apps));
    Ok(())
}

/// Everything that the demo consists of, bound and ready.
struct Stage {
    app: App,
    with: Serving,
    without: Serving,
    /// Both pairs of applications: those behind the bridge, then those without.
    apps: [[SimRemote; 2]; 2],
    /// What a person opens.
    url: String,
    /// Said before it, where the port is not the usual one.
    notice: Option<String>,
}

impl Stage {
    fn set(args: &DemoArgs) -> Result<Self, StartError> {
        let (listen, notice) = choose(args.listen)?;
        let clock = Clock::system();
        let (bridged, with_addresses) = pair(clock)?;
        let (bare, without_addresses) = pair(clock)?;
        let guide = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(StartError::Port)?;
        let front = TcpListener::bind((listen.ip(), 0)).map_err(StartError::Port)?;
        let guide_at = guide.local_addr().map_err(StartError::Port)?;
        let front_port = front.local_addr().map_err(StartError::Port)?.port();

        let config = config_of(args.verbose, listen, with_addresses, guide_at)?;
        let app = App::bind(config)?;
        let at = match app.addresses().next() {
            Some(ListenAddr::Tcp(at)) => *at,
            _ => return Err(StartError::NoPort),
        };
        let operators = app.admin_address().map_or_else(String::new, |at| format!("http://{at}/"));
        let run = clock.now().millis();
        let side = |remotes: &[SimRemote; 2], core: Option<Core>, addresses, ports| Side {
            apps: handles(remotes),
            addresses,
            core,
            ports,
            operators: operators.clone(),
            run,
        };
        let with = side(&bridged, Some(app.core().clone()), None, (at.port(), front_port));
        let without = side(&bare, None, Some(without_addresses), (front_port, at.port()));
        Ok(Self {
            app,
            with: front::spawn(guide, with).map_err(StartError::Thread)?,
            without: front::spawn(front, without).map_err(StartError::Thread)?,
            apps: [bridged, bare],
            url: format!("http://{}/", SocketAddr::new(reachable(at.ip()), at.port())),
            notice,
        })
    }

    /// The applications behind the bridge.
    fn apps(&self) -> [SimHandle; 2] {
        let [bridged, _] = &self.apps;
        handles(bridged)
    }
}

fn handles([a, b]: &[SimRemote; 2]) -> [SimHandle; 2] {
    [a.handle.clone(), b.handle.clone()]
}

/// AppA and AppB on ports of their own.
fn pair(clock: Clock) -> Result<([SimRemote; 2], [SocketAddr; 2]), StartError> {
    let start = |name: &str, timeout_ms: u64, skin: fn(&Look<'_>) -> String| {
        let mut options = SimOptions::new(Profile::AcfStrict, name).timeout_ms(timeout_ms);
        options.skin = Some(skin);
        options.log_limit = LOG_LIMIT;
        spawn_thread(options, Arc::new(move || clock.now().millis())).map_err(StartError::Port)
    };
    let (at_a, a) = start("AppA", TIMEOUT_A_MS, looks::time_sheet)?;
    let (at_b, b) = start("AppB", TIMEOUT_B_MS, looks::catalogue)?;
    Ok(([a, b], [at_a, at_b]))
}

/// Where to listen, and what to say where that is not where people expect it.
///
/// The bridge itself shares its port with other processes of the same user (`SO_REUSEPORT`), so that two demos would
/// halve each other's requests: whether the port is free is tried here, without sharing.
fn choose(asked: Option<SocketAddr>) -> Result<(SocketAddr, Option<String>), StartError> {
    let at = asked.unwrap_or(LISTEN);
    match TcpListener::bind(at) {
        Ok(_) => Ok((at, None)),
        Err(_) if asked.is_none() => {
            let free = SocketAddr::new(at.ip(), 0);
            Ok((free, Some(format!("Port {} is taken, so this is another one.", at.port()))))
        }
        Err(source) => Err(StartError::Taken { at, source }),
    }
}

fn config_of(
    verbose: bool,
    listen: SocketAddr,
    [app_a, app_b]: [SocketAddr; 2],
    guide: SocketAddr,
) -> Result<Config, StartError> {
    let access = if verbose { "stdout" } else { "off" };
    let addresses = [listen, app_a, app_b, guide].map(|at| at.to_string());
    let [listen, app_a, app_b, guide] = addresses.each_ref().map(String::as_str);
    let values =
        [("listen", listen), ("app_a", app_a), ("app_b", app_b), ("guide", guide), ("access", access)];
    let text = fill::fill(include_str!("assets/demo.toml"), &values);
    let loaded = config::load_str("demo.toml", &text, &mut crate::names::Names::default());
    loaded.map(|(config, _)| config).map_err(|report| StartError::Config(report.render(false)))
}

/// An address that a browser on this machine can ask, for one that stands for all of them.
const fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

/// Listens to signals on a thread of their own, which ends with the process.
fn spawn_signals(drainer: Drainer, access: AccessLog) -> Result<(), StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let obey = move || {
        // Where signals cannot be listened to, they end the process as they always do.
        let _ = runtime.block_on(signals::obey(drainer, access, Loads::default()));
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(obey).map_err(StartError::Thread)?;
    Ok(())
}

/// What a person reads first.
fn say(args: &DemoArgs, stage: &Stage) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if let Some(notice) = &stage.notice {
        writeln!(out, "{notice}")?;
    }
    writeln!(
        out,
        "\n  {}\n\n  \
         1  Save some hours in the time sheet. It forgets a person after 10 seconds.\n  \
         2  Go to the catalogue and stay there for half a minute.\n  \
         3  Come back: your session is still there. The switch shows the same walk without the bridge.\n\n  \
         Ctrl-C ends it.\n",
        stage.url
    )?;
    if args.verbose
        && let Some(at) = stage.app.admin_address()
    {
        writeln!(out, "  Operators' view: http://{at}/\n")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests;
