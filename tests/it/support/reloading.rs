//! A world whose config is a file that can be changed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use sessionbridge::app::core::Core;
use sessionbridge::app::reload::{Fixed, Origin, Reloader};
use sessionbridge::app::worker;
use sessionbridge::clock::Clock;
use sessionbridge::config;
use sessionbridge::demo::sim::SimOptions;
use sessionbridge::demo::sim::server::{self, SimHandle};
use sessionbridge::loads::{By, Load, Outcome};
use sessionbridge::net::{Drainer, memory};
use sessionbridge::telemetry::access::AccessLog;

use super::{START, World, dialer, names};

/// Two threads' worth of workers on one thread, so that a reload has more than one to reach.
const WORKERS: usize = 2;

/// A config in a file, and the proxy that runs with it.
pub(crate) struct Reloading {
    pub(crate) world: World,
    pub(crate) directory: tempfile::TempDir,
    reloader: Option<Reloader>,
}

impl Reloading {
    /// As [`World::new`]; `apps` may be more than the config names.
    pub(crate) fn new(toml: &str, apps: impl IntoIterator<Item = SimOptions>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::at(START);
        let millis: server::Clock = Arc::new(move || clock.now().millis());
        let handle =
            |options: SimOptions| (options.name.to_lowercase(), SimHandle::new(options, Arc::clone(&millis)));
        let apps: HashMap<String, SimHandle> = apps.into_iter().map(handle).collect();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, whole(toml)).unwrap();
        let mut names = names();
        let (read, sources) = config::read(&path, &mut names);
        let (config, _) = read.unwrap_or_else(|report| panic!("{report}"));
        let fixed = Fixed::of(&config);
        let core = Core::new(config, clock, AccessLog::off());
        let (drainer, drain) = Drainer::new();
        let dialer = dialer(&apps);
        let (listener, front) = memory();
        let mut listeners = vec![vec![listener]];
        listeners.resize_with(WORKERS, Vec::new);
        for (number, listeners) in listeners.into_iter().enumerate() {
            let worker = worker::run(core.clone(), number, listeners, dialer.clone(), drain.clone());
            tokio::task::spawn_local(worker);
        }
        let reloader = Reloader::new(core.clone(), Origin { path, names, sources }, fixed);
        let world = World { core, apps, front, dialer, _drainer: drainer };
        Self { world, directory, reloader: Some(reloader) }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    /// Puts `toml` into the file.
    pub(crate) fn write(&self, toml: &str) {
        std::fs::write(self.file(), whole(toml)).unwrap();
    }

    /// Puts `toml` into the file, and has that read.
    pub(crate) async fn load(&mut self, toml: &str) -> Load {
        self.write(toml);
        self.again().await
    }

    /// Has the file read as it is.
    pub(crate) async fn again(&mut self) -> Load {
        self.reloader.as_mut().unwrap().reload(By::Signal).await
    }

    /// As [`Reloading::load`], for a config that can be used: what has changed, and what waits for a restart.
    pub(crate) async fn change(&mut self, toml: &str) -> (Vec<String>, Vec<String>) {
        match self.load(toml).await.outcome {
            Outcome::Used { changes, restart, .. } => (changes, restart),
            Outcome::Refused(report) => panic!("{report}"),
        }
    }

    /// From now on the config is read when its file changes, or somebody asks for it.
    pub(crate) fn watch(&mut self) {
        let asks = self.world.core.loads().open();
        tokio::task::spawn_local(self.reloader.take().unwrap().run(asks));
    }
}

fn whole(toml: &str) -> String {
    format!("listen = \"127.0.0.1:0\"\n{toml}")
}
