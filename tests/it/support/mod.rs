//! The world of a test: simulated apps, the proxy before them, browsers that ask.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sessionbridge::app::{core::Core, worker};
use sessionbridge::clock::Clock;
use sessionbridge::config;
use sessionbridge::demo::sim::server::{self, SimHandle};
use sessionbridge::demo::sim::{Profile, Seen, SimOptions};
use sessionbridge::names::Names;
use sessionbridge::net::{Dialer, Drainer, MemoryDialer, memory};
use sessionbridge::telemetry::access::AccessLog;
use sessionbridge::time::Timestamp;

mod browser;
pub(crate) mod live;
pub(crate) mod plain;
mod raw;
pub(crate) mod reloading;
pub(crate) mod said;
pub(crate) mod scripted;
pub(crate) mod stage;

pub(crate) use browser::{Answer, Browser};
pub(crate) use raw::{Act, Heard, Stage, replies};

/// When every world begins: 2026-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_767_225_600);

/// Runs a test on paused time.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// The number that appA has in all worlds.
pub(crate) const APP_A: u16 = 302;

/// Numbers as after years of changes: those of the apps and servers of a test begin somewhere, and have no order.
pub(crate) fn names() -> Names {
    let gone = |n: usize| format!("gone-{n}").into();
    let apps = (0..300).map(gone).chain(["appB".into(), gone(300), "appA".into()]);
    let origins = (0..40).map(gone).chain(["http://appb".into(), gone(40), "http://appa".into()]);
    Names::of(apps, origins)
}

/// Lets time pass.
pub(crate) async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Apps by name, and the proxy before them.
pub(crate) struct World {
    pub(crate) core: Core,
    apps: HashMap<String, SimHandle>,
    front: MemoryDialer,
    dialer: Dialer,
    /// Dropping it stops the proxy.
    _drainer: Drainer,
}

impl World {
    /// `toml` is the config but for `listen`; each app is reached at `http://NAME` (lower case) as an upstream.
    pub(crate) fn new(toml: &str, apps: impl IntoIterator<Item = SimOptions>) -> Self {
        let clock = Clock::at(START);
        let millis: server::Clock = Arc::new(move || clock.now().millis());
        let apps: HashMap<String, SimHandle> = apps
            .into_iter()
            .map(|options| (options.name.to_lowercase(), SimHandle::new(options, Arc::clone(&millis))))
            .collect();
        let (config, _) =
            config::load_str("test.toml", &format!("listen = \"127.0.0.1:0\"\n{toml}"), &mut names())
                .unwrap_or_else(|report| panic!("{report}"));
        let core = Core::new(config, clock, AccessLog::off());
        let (listener, front) = memory();
        let (drainer, drain) = Drainer::new();
        let dialer = dialer(&apps);
        tokio::task::spawn_local(worker::run(core.clone(), 0, vec![listener], dialer.clone(), drain));
        Self { core, apps, front, dialer, _drainer: drainer }
    }

    /// Two apps, AppA (its sessions die after 10 s) and AppB (5 min), of one profile on one host; the config of the
    /// README but for the engine. `more` is put at the end.
    pub(crate) fn pair(profile: &str, more: &str) -> Self {
        Self::new(&pair_config(profile, more), pair_apps(profile))
    }

    /// The app `name`.
    pub(crate) fn app(&self, name: &str) -> &SimHandle {
        self.apps.get(&name.to_lowercase()).unwrap_or_else(|| panic!("no app {name}"))
    }

    /// What the app `name` has been asked, heartbeats included.
    pub(crate) fn seen(&self, name: &str) -> Vec<Seen> {
        self.app(name).with(|sim| sim.log().iter().cloned().collect())
    }

    /// The heartbeats that the app `name` got.
    pub(crate) fn beats(&self, name: &str) -> Vec<Seen> {
        self.seen(name).into_iter().filter(|seen| seen.heartbeat).collect()
    }

    /// How many sessions the app `name` has begun.
    pub(crate) fn starts(&self, name: &str) -> u64 {
        self.app(name).with(|sim| sim.counts().starts)
    }

    /// A new browser.
    pub(crate) fn browser(&self) -> Browser {
        Browser::new(self.front.clone(), "apps.example.org")
    }

    /// Connections to the apps, as the proxy makes them.
    pub(crate) fn dialer(&self) -> Dialer {
        self.dialer.clone()
    }

    /// The metrics as they are scraped.
    pub(crate) fn metrics(&self) -> String {
        self.core.metrics().encode()
    }
}

/// The config of two apps of `profile` at `/AppA/` and `/AppB/`.
pub(crate) fn pair_config(profile: &str, more: &str) -> String {
    let (engine, extra) = engine(profile);
    let page = extension(profile);
    format!(
        r#"
[apps.appA]
path = "/AppA/"
upstreams = ["http://appa"]
session.engine = "{engine}"
session.timeout = "10s"
heartbeat.path = "/AppA/ping{page}"
heartbeat.canary = {{ header = "X-Session-Started" }}
sign_out.request = "GET /AppA/logout{page}"
{extra}

[apps.appB]
path = "/AppB/"
upstreams = ["http://appb"]
session.engine = "{engine}"
session.timeout = "5m"
heartbeat.path = "/AppB/ping{page}"
heartbeat.canary = {{ header = "X-Session-Started" }}
sign_out.request = "GET /AppB/logout{page}"
{extra}

{more}
"#
    )
}

/// AppA (10 s) and AppB (5 min) of `profile`.
pub(crate) fn pair_apps(profile: &str) -> [SimOptions; 2] {
    let profile: Profile = profile.parse().unwrap();
    [
        SimOptions::new(profile, "AppA").timeout_ms(10_000),
        SimOptions::new(profile, "AppB").timeout_ms(300_000),
    ]
}

/// The file extension of a profile's pages.
pub(crate) fn extension(profile: &str) -> String {
    let profile: Profile = profile.parse().unwrap();
    profile.extension().to_string()
}

/// The engine that a profile stands for, and what of the config it needs besides.
fn engine(profile: &str) -> (&'static str, &'static str) {
    match profile {
        "acf-legacy" | "acf-strict" => ("coldfusion", ""),
        "acf-j2ee" => ("coldfusion", "session.type = \"j2ee\""),
        "lucee" => ("lucee", ""),
        "lucee-j2ee" => ("lucee", "session.type = \"j2ee\""),
        "openbd" => ("openbd", ""),
        "servlet" | "invalid-session" => ("servlet", ""),
        "php-lock" => ("php", ""),
        "aspnet" | "aspnet-cookieless" | "aspnet-mono" => ("aspnet", ""),
        "express" => ("express", ""),
        "rails" => ("rails", ""),
        "django" => ("django", ""),
        other => panic!("no engine for {other}"),
    }
}

/// Connections to the apps by the host of their upstream.
fn dialer(apps: &HashMap<String, SimHandle>) -> Dialer {
    let apps = apps.clone();
    Dialer::Memory(Rc::new(move |origin: &str| {
        let name = origin.strip_prefix("http://").unwrap_or(origin).trim_end_matches(":80");
        let handle = apps.get(name).cloned().ok_or(std::io::ErrorKind::ConnectionRefused)?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::task::spawn_local(server::serve_stream(handle, far, IpAddr::V4(Ipv4Addr::LOCALHOST)));
        Ok(near)
    }))
}
