//! The config read anew while the process runs: when a file has changed, and when somebody asks for it.
//!
//! Invariants: a config with a mistake changes nothing; what is used of one is used as a whole; one is read after the other.

use std::path::PathBuf;

use tokio::sync::mpsc::UnboundedReceiver;

use super::core::Core;
use super::keeping;
use super::notify;
use super::watch::Watch;
use crate::config::{self, Config, ListenText, LogOptions, Outline, Sources};
use crate::loads::{Ask, By, Load, Outcome};
use crate::names::Names;
use crate::net::Tls;
use crate::registry::options::Options as TableOptions;

/// Where the running config came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its main file.
    pub path: PathBuf,
    /// The numbers of all apps and servers so far.
    pub names: Names,
    /// All that was read.
    pub sources: Sources,
}

/// Reads configs, and has those used that can be.
#[derive(Debug)]
pub struct Reloader {
    core: Core,
    origin: Origin,
    outline: Outline,
    fixed: Fixed,
}

/// What a process keeps as it began.
#[derive(Clone, Debug)]
pub struct Fixed {
    listen: Vec<ListenText>,
    tls: Option<Tls>,
    threads: usize,
    table: TableOptions,
    store: config::StoreOptions,
    admin: config::AdminOptions,
    log: LogOptions,
    outline: Outline,
}

impl Fixed {
    /// Of the config that the process begins with.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            listen: config.listen.clone(),
            tls: config.tls.clone(),
            threads: config.threads,
            table: config.registry,
            store: config.store.clone(),
            admin: config.admin.clone(),
            log: config.log.clone(),
            outline: config.outline.clone(),
        }
    }

    /// Puts what cannot change back into `config`. Says which keys wait for a restart.
    fn hold(&mut self, config: &mut Config) -> Vec<String> {
        let mut waits = Vec::new();
        let mut wait = |key: &str| waits.push(key.to_owned());
        if config.listen != self.listen {
            config.listen.clone_from(&self.listen);
            wait("listen");
        }
        if config.tls.is_some() != self.tls.is_some() {
            config.tls.clone_from(&self.tls);
            wait("tls");
        }
        if config.threads != self.threads {
            wait("server.threads");
        }
        if config.registry != self.table || config.store != self.store {
            wait("store");
        }
        if config.admin.listen != self.admin.listen {
            // The token that is asked for was weighed with the address: a new one may be for another.
            config.admin = self.admin.clone();
            wait("admin");
        } else {
            // The one in use is what a later change of the address must not take back.
            self.admin = config.admin.clone();
        }
        if config.log != self.log {
            wait("log");
        }
        waits
    }
}

impl Reloader {
    /// For `core`, which began with the config at `origin`, of which `fixed` is kept.
    #[must_use]
    pub fn new(core: Core, origin: Origin, fixed: Fixed) -> Self {
        let outcome = Outcome::Used { changes: Vec::new(), restart: Vec::new(), warnings: Vec::new() };
        core.loads.note(Load { at: core.clock.now(), by: By::Start, outcome });
        Self { core, origin, outline: fixed.outline.clone(), fixed }
    }

    /// Reads the config when a file of it has changed, and when somebody asks for it, for ever.
    pub async fn run(mut self, mut asks: UnboundedReceiver<Ask>) {
        let mut watch = Watch::new();
        loop {
            watch.look_at(&self.origin.sources);
            // Of what changed after it was read and before it was looked at nobody tells.
            if let Some(load) = self.follow_files().await {
                notify::status(status(&load));
                continue;
            }
            tokio::select! {
                ask = asks.recv() => {
                    let Some(ask) = ask else { return };
                    notify::reloading();
                    let load = self.reload(ask.by).await;
                    notify::ready(status(&load));
                    // Whoever asked may be gone.
                    let _ = ask.told.send(load);
                }
                () = watch.changed() => {}
            }
        }
    }

    /// Reads the config, and has it used if it can be. Ready when all threads have it.
    pub async fn reload(&mut self, by: By) -> Load {
        let mut names = self.origin.names.clone();
        let (read, sources) = config::read(&self.origin.path, &mut names);
        self.origin.sources = sources;
        self.take(by, read, names).await
    }

    /// As [`Reloader::reload`], where the files are not those that were read last. `None`: they are.
    pub async fn follow_files(&mut self) -> Option<Load> {
        let mut names = self.origin.names.clone();
        let (read, sources) = config::read(&self.origin.path, &mut names);
        if sources == self.origin.sources {
            return None;
        }
        self.origin.sources = sources;
        Some(self.take(By::File, read, names).await)
    }

    async fn take(&mut self, by: By, read: config::Read, names: Names) -> Load {
        let outcome = match read {
            Ok((config, warnings)) => {
                let warnings = warnings.iter().map(|warning| warning.render(false)).collect();
                self.make_use_of(config, warnings, names).await
            }
            Err(report) => Outcome::Refused(report.render(false)),
        };
        let load = Load { at: self.core.clock.now(), by, outcome };
        log(&load, &self.origin);
        self.core.metrics.reloaded(load.is_used(), load.at);
        self.core.loads.note(load.clone());
        load
    }

    async fn make_use_of(&mut self, mut config: Config, warnings: Vec<String>, names: Names) -> Outcome {
        let outline = config.outline.clone();
        let mut changes: Vec<String> =
            self.outline.changes(&outline).iter().map(ToString::to_string).collect();
        changes.extend(renamed(&self.origin.names, &names));
        let restart = self.fixed.hold(&mut config);
        if names != self.origin.names
            && let Err(error) = keeping::note_names(&self.core.registry, &self.origin.names, &names).await
        {
            // Sessions would be kept with numbers that nobody could read after a crash.
            return Outcome::Refused(error.to_string());
        }
        (self.outline, self.origin.names) = (outline, names);
        self.core.follow(config).await;
        Outcome::Used { changes, restart, warnings }
    }
}

/// What `systemctl status` shows from now on.
fn status(load: &Load) -> &'static str {
    if load.is_used() { "serving" } else { "serving; the config cannot be used" }
}

/// Apps that have another name now.
fn renamed(old: &Names, new: &Names) -> Vec<String> {
    let name = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let both = old.apps().iter().zip(new.apps()).map(|(old, new)| (name(old), name(new)));
    let renamed = both.filter(|(old, new)| old != new);
    renamed.map(|(old, new)| format!("apps.{old} is apps.{new} now: its sessions stay")).collect()
}

fn log(load: &Load, origin: &Origin) {
    let (by, config) = (&load.by, origin.path.display());
    match &load.outcome {
        Outcome::Refused(report) => {
            tracing::error!(%by, %config, "the config cannot be used, the one before it stays:\n{report}");
        }
        Outcome::Used { changes, restart, warnings } => {
            for warning in warnings {
                tracing::warn!(%config, "{warning}");
            }
            let changes = if changes.is_empty() { "none".to_owned() } else { changes.join(", ") };
            tracing::info!(%by, %config, changes, "the config was read anew");
            if !restart.is_empty() {
                let keys = restart.join(", ");
                tracing::warn!(%config, keys, "what the config says of these is used after a restart");
            }
        }
    }
}
