//! The command line: arguments, then the library; exit codes and nothing else.
//!
//! 0 done, 1 failed while running, 2 wrong command line, 78 the config is wrong.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sessionbridge::app::handover::{Handover, Hooks, Program};
use sessionbridge::app::keeping::Keeping;
use sessionbridge::app::live::{self, Depth};
use sessionbridge::app::reload::Origin;
use sessionbridge::app::signals::{self, Signals};
use sessionbridge::app::{App, Ports, ask, healthcheck};
use sessionbridge::config::{self, Config, ListenText};
use sessionbridge::demo;
use sessionbridge::findings::Level;
use sessionbridge::init;
use sessionbridge::names::Names;
use sessionbridge::net::inherit::Inherited;
use sessionbridge::net::{Drain, Drainer};
use sessionbridge::store;

/// A request makes some thirty small allocations; measured, they cost a third of what they cost with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for a config that cannot be used (EX_CONFIG of sysexits.h).
const EX_CONFIG: u8 = 78;
/// How long another process may take to let go of the store.
const STORE_PATIENCE: Duration = Duration::from_secs(60);
/// Where the config is looked for.
const DEFAULTS: [&str; 2] = ["config.toml", "/etc/sessionbridge/config.toml"];

/// A reverse proxy that makes a person's sessions in several old web applications live and end as one.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    arg_required_else_help = true,
    after_help = "The config is ./config.toml, else /etc/sessionbridge/config.toml; config.toml.example explains every key.\n\
                  Exit codes: 0 done, 1 failed while running, 2 wrong command line, 78 the config is wrong.\n\
                  Try it in a minute: sessionbridge demo"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, in the foreground, until SIGTERM or Ctrl-C
    Run(RunArgs),
    /// Have a running proxy read its config anew, wait until it is in use, and say what has changed
    Reload(ReloadArgs),
    /// Find every mistake in a config at once; exit code 78 where there is one
    Check(CheckArgs),
    /// Say what would be done with a request: which app, which rules, which tokens
    Explain {
        /// A URL as a browser would ask for it; a method may stand before it: "POST http://host/path"
        url: String,
        /// The config [default: ./config.toml, then /etc/sessionbridge/config.toml]
        #[arg(long, short)]
        config: Option<PathBuf>,
    },
    /// Ask the running proxy's operators' view whether it is ready; exit code 1 where it is not
    Healthcheck(RunArgs),
    /// Look at running apps and draft a config for them
    Init(init::InitArgs),
    /// Start two small apps with a bridge before them on this machine, ready for a browser
    Demo(demo::DemoArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The config [default: ./config.toml, then /etc/sessionbridge/config.toml]
    #[arg(long, short)]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ReloadArgs {
    /// The config that it runs with [default: ./config.toml, then /etc/sessionbridge/config.toml]
    #[arg(long, short)]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The config [default: ./config.toml, then /etc/sessionbridge/config.toml]
    file: Option<PathBuf>,
    /// Ask the running apps, too, with sessions of its own: is the token the engine's, does the heartbeat page extend a
    /// session, does the sign-out end one?
    #[arg(long)]
    live: bool,
    /// Leave out what waits for sessions to die
    #[arg(long, requires = "live")]
    quick: bool,
    /// Measure the apps' own session timeouts
    #[arg(long, requires = "live", conflicts_with = "quick")]
    measure_timeout: bool,
}

impl CheckArgs {
    fn depth(&self) -> Depth {
        match (self.quick, self.measure_timeout) {
            (true, _) => Depth::Quick,
            (_, true) => Depth::Measure,
            _ => Depth::Full,
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(args.config),
        Command::Healthcheck(args) => health(args.config),
        Command::Reload(args) => reload(args.config),
        Command::Check(args) if args.live => check_live(&args),
        Command::Check(args) => check(args.file),
        Command::Explain { url, config } => explain(&url, config),
        Command::Init(args) => report(init::run(&args)),
        Command::Demo(args) => report(demo::run(&args)),
    }
}

fn run(given: Option<PathBuf>) -> ExitCode {
    let outside = (Inherited::from_env(), Program::of_this_process());
    let (config, origin) = match read(given) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let log = sessionbridge::app::log_options(&config);
    if let Err(error) = sessionbridge::telemetry::log::init(&log) {
        say(&format!("error: {error}\n"));
        return ExitCode::from(EX_CONFIG);
    }
    report(serve(config, origin, outside))
}

/// Opens the store that `config` names; the config is read once more with the numbers that it has for apps. True where
/// nothing was kept there before.
fn keep(config: Config, origin: &mut Origin) -> Result<(Config, Keeping, bool), Box<dyn std::error::Error>> {
    let env = |name: &str| std::env::var(name).ok();
    let keeping = if let Some((options, keys)) = config.store.shared(env) {
        let opened =
            store::shared::open_in_time(options, &keys, sessionbridge::random::bytes(), STORE_PATIENCE)?;
        tracing::info!(keys = %keys.display(), "sessions are kept in a store that other proxies may share");
        Keeping::Shared(Box::new(opened))
    } else if let Some(place) = config.store.place(env) {
        let opened = store::open_in_turn(&place, sessionbridge::random::bytes(), STORE_PATIENCE)?;
        tracing::info!(folder = %place.folder.display(), keys = %place.keys.display(), "sessions are kept here");
        Keeping::Store(Box::new(opened))
    } else {
        tracing::warn!("sessions are kept in memory: a restart ends them all");
        return Ok((config, Keeping::Memory, true));
    };
    origin.names = keeping.names()?;
    let first = origin.names.apps().is_empty();
    let (config, _) = config::load(&origin.path, &mut origin.names).map_err(|report| report.render(false))?;
    keeping.keep_names(&origin.names)?;
    Ok((config, keeping, first))
}

/// Serves until a signal stops it, or another process takes over.
fn serve(
    config: Config,
    mut origin: Origin,
    (inherited, program): (Inherited, Program),
) -> Result<(), Box<dyn std::error::Error>> {
    let path = origin.path.clone();
    let mut ports = Ports::take(&config, inherited)?;
    ports.take_over()?;
    let (config, keeping, first) = keep(config, &mut origin)?;
    let newcomers = config::newcomers(&config).filter(|_| first);
    let (drainer, drain) = Drainer::new();
    let mut app = App::at(ports, config, keeping)?.with_probes().with_reloads(origin).with_stop(&drainer);
    let handover = Handover::new(program, app.take_sockets(), drainer.clone(), hooks(&app));
    spawn_signals(&app, (drainer, drain.clone()), handover)?;
    for address in app.addresses() {
        tracing::info!(%address, config = %path.display(), version = env!("CARGO_PKG_VERSION"), "listening");
    }
    if let Some(address) = app.admin_address() {
        tracing::info!(%address, "operators' view");
    }
    if let Some(newcomers) = newcomers {
        tracing::info!("{newcomers}");
    }
    app.run(&drain)?;
    tracing::info!("stopped");
    Ok(())
}

/// How a successor gets the store.
fn hooks(app: &App) -> Hooks {
    let (registry, opened) = (Arc::clone(app.core().registry()), Arc::clone(app.opened()));
    let (store, again) = (registry.store().clone(), registry.store().clone());
    Hooks {
        release: Box::new(move || {
            if store.fails() {
                // What could not be written is in this process alone.
                return Err(std::io::Error::other("the store cannot be written at the moment"));
            }
            opened.wait();
            registry.keep_all();
            store.close().map_err(std::io::Error::other)
        }),
        retake: Box::new(move || again.retake().map_err(std::io::Error::other)),
    }
}

/// Listens to signals from now on, on a thread of their own, which ends with the process.
fn spawn_signals(
    app: &App,
    (drainer, mut drain): (Drainer, Drain),
    handover: Handover,
) -> std::io::Result<()> {
    let (access, health, loads) =
        (app.access().clone(), app.core().health().clone(), app.core().loads().clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listening = {
        let _in_it = runtime.enter();
        Signals::listen()?
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let draining = async {
                drain.requested().await;
                health.advance(sessionbridge::telemetry::health::Readiness::Draining);
            };
            tokio::join!(signals::obey(listening, drainer, (access, loads), Some(handover)), draining)
        });
    })?;
    Ok(())
}

/// The config, without a word of what is worth a thought.
fn known(given: Option<PathBuf>) -> Result<Config, ExitCode> {
    config::load(&find(given)?, &mut Names::default()).map(|(config, _)| config).map_err(|report| {
        say(&report.render(std::io::stderr().is_terminal()));
        ExitCode::from(EX_CONFIG)
    })
}

/// Asks the proxy that runs with the config whether it is ready.
fn health(given: Option<PathBuf>) -> ExitCode {
    match known(given) {
        Ok(config) => {
            let listen = config.admin.listen.as_ref().map(ListenText::as_str);
            report(healthcheck::ask(listen).map_err(Into::into))
        }
        Err(code) => code,
    }
}

/// Asks the proxy that runs with the config to read it anew. Where that cannot be used, it is not asked.
fn reload(given: Option<PathBuf>) -> ExitCode {
    // What is worth a thought, the proxy says itself.
    let config = match known(given) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (status, answer) = match ask::ask(&config.admin, "POST", "/api/v1/reload") {
        Ok(answer) => answer,
        Err(error) => return report(Err(error.into())),
    };
    match ask::reloaded(&answer) {
        Some(told) if told.used => {
            tell(&told.text);
            ExitCode::SUCCESS
        }
        Some(told) => {
            say(&told.text);
            ExitCode::from(EX_CONFIG)
        }
        None => {
            let message = answer.get("message").and_then(|message| message.as_str()).unwrap_or_default();
            report(Err(format!("the proxy answers {status}: {message}").into()))
        }
    }
}

fn check(given: Option<PathBuf>) -> ExitCode {
    let path = match find(given) {
        Ok(path) => path,
        Err(code) => return code,
    };
    let (text, usable) = config::check(&path, std::io::stderr().is_terminal());
    say(&text);
    if usable { ExitCode::SUCCESS } else { ExitCode::from(EX_CONFIG) }
}

/// Checks the config, and the running apps by it. Warnings alone do no harm here either.
fn check_live(args: &CheckArgs) -> ExitCode {
    let colour = std::io::stderr().is_terminal();
    let (config, warnings) =
        match find(args.file.clone()).map(|path| config::load(&path, &mut Names::default())) {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(report)) => {
                say(&report.render(colour));
                return ExitCode::from(EX_CONFIG);
            }
            Err(code) => return code,
        };
    for warning in &warnings {
        say(&format!("{}\n", warning.render(colour)));
    }
    let live = match live::check(&config, args.depth(), |line| say(&format!("{line}\n"))) {
        Ok(live) => live,
        Err(error) => return report(Err(error.into())),
    };
    for found in &live.found {
        say(&format!("{}\n", config.lines.render(found, colour)));
    }
    if live.interrupted {
        say("interrupted: this is what was known by then\n");
    }
    let found = live.found.iter().filter(|found| found.level == Level::Warning).count();
    say(&format!("{}\n", config::summary(0, warnings.len() + found)));
    ExitCode::SUCCESS
}

fn explain(url: &str, given: Option<PathBuf>) -> ExitCode {
    let config = match read(given) {
        Ok((config, _)) => config,
        Err(code) => return code,
    };
    match config::explain(&config, url) {
        Ok(text) => {
            tell(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error}\n"));
            ExitCode::from(2)
        }
    }
}

/// Loads the config; warnings go to standard error, mistakes as well, all at once.
fn read(given: Option<PathBuf>) -> Result<(Config, Origin), ExitCode> {
    let path = find(given)?;
    let (colour, mut names) = (std::io::stderr().is_terminal(), Names::default());
    let (read, sources) = config::read(&path, &mut names);
    match read {
        Ok((config, warnings)) => {
            for warning in warnings {
                say(&format!("{}\n", warning.render(colour)));
            }
            Ok((config, Origin { path, names, sources }))
        }
        Err(report) => {
            say(&report.render(colour));
            Err(ExitCode::from(EX_CONFIG))
        }
    }
}

fn find(given: Option<PathBuf>) -> Result<PathBuf, ExitCode> {
    if let Some(path) = given {
        return Ok(path);
    }
    let found = DEFAULTS.iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| {
        let text = format!(
            "error: no config: neither ./{} nor {} exists\n\
             help: draft one with `sessionbridge init URL...`, copy config.toml.example, or name a file;\n\
             `sessionbridge demo` needs none",
            DEFAULTS[0], DEFAULTS[1]
        );
        say(&text);
        say("\n");
        ExitCode::from(EX_CONFIG)
    })
}

fn report(result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    say(&format!("error: {text}\n"));
    ExitCode::FAILURE
}

/// To standard output. Whoever has closed it does not want to know, and that is no failure of ours.
fn tell(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// To standard error, likewise.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
