//! The proxy is put before apps whose people are signed in, and taken away again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use sessionbridge::app::{core::Core, worker};
use sessionbridge::clock::Clock;
use sessionbridge::config;
use sessionbridge::demo::sim::server::{self, SimHandle};
use sessionbridge::demo::sim::{Profile, SimOptions};
use sessionbridge::names::Names;
use sessionbridge::net::{Dialer, Drainer, MemoryDialer, memory};
use sessionbridge::registry::restoring::Laid;
use sessionbridge::store::Record as _;
use sessionbridge::telemetry::access::AccessLog;
use sessionbridge::time::Timestamp;

use super::support::reloading::Reloading;
use super::support::{Browser, START, engine, extension, pair_apps, pair_config, pass, run};

const TIMEOUT: u64 = 600_000;

/// Apps that live on, whatever stands before them; each on the host that is its name's.
struct Town {
    clock: Clock,
    apps: Vec<(&'static str, SimHandle)>,
}

/// A proxy before them.
struct Gate {
    core: Core,
    front: MemoryDialer,
    _drainer: Drainer,
}

impl Town {
    /// `apps` are hosts and how each app there was set up.
    fn new(apps: impl IntoIterator<Item = (&'static str, SimOptions)>) -> Self {
        let clock = Clock::at(START);
        let millis: server::Clock = Arc::new(move || clock.now().millis());
        let apps =
            apps.into_iter().map(|(host, options)| (host, SimHandle::new(options, Arc::clone(&millis))));
        Self { clock, apps: apps.collect() }
    }

    /// The apps by host and path, and nothing before them.
    fn alone(&self) -> MemoryDialer {
        let (mut listener, front) = memory();
        let apps = Rc::new(self.apps.clone());
        let answer = move |request: Request<Incoming>| {
            let apps = Rc::clone(&apps);
            async move {
                let (parts, body) = request.into_parts();
                let request = Request::from_parts(parts, body.collect().await.unwrap().to_bytes());
                let host = request.headers()["host"].to_str().unwrap();
                let app = apps.iter().find(|(at, app)| {
                    *at == host
                        && request.uri().path().starts_with(&app.with(|sim| sim.options().mount.clone()))
                });
                let (_, app) = app.unwrap_or_else(|| panic!("nobody is at {host}{}", request.uri()));
                let now = app.now();
                let answer = app.with(|sim| sim.handle(now, &request, IpAddr::V4(Ipv4Addr::LOCALHOST)));
                Ok::<Response<Full<Bytes>>, Infallible>(answer.response.map(Full::new))
            }
        };
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await;
                let service = hyper::service::service_fn(answer.clone());
                let server = hyper::server::conn::http1::Builder::new();
                tokio::task::spawn_local(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        front
    }

    fn config(&self, mode: &str, cookies: &str) -> String {
        let mut toml = format!("listen = \"127.0.0.1:0\"\n[bridge]\n{mode}\nidle_timeout = \"8h\"\n");
        for (host, app) in &self.apps {
            let (name, profile) =
                app.with(|sim| (sim.options().name.clone(), sim.options().profile.to_string()));
            let (engine, extra) = engine(&profile);
            let page = extension(&profile);
            toml += &format!(
                "[apps.{name}]\nhosts = [\"{host}\"]\npath = \"/{name}/\"\nupstreams = [\"http://{}\"]\n\
                 session.engine = \"{engine}\"\nsession.timeout = \"10m\"\nsession.cookies = \"{cookies}\"\n{extra}\n\
                 heartbeat.path = \"/{name}/ping{page}\"\n",
                name.to_lowercase()
            );
        }
        toml
    }

    /// The proxy before them. With `before`, it is started anew and has the sessions of that one.
    fn gate(&self, toml: &str, before: Option<Gate>) -> Gate {
        let (config, _) = config::load_str("test.toml", toml, &mut Names::default())
            .unwrap_or_else(|report| panic!("{report}"));
        let core = Core::new(config, self.clock, AccessLog::off());
        if let Some(before) = before {
            let mut handles = Vec::new();
            before.core.registry().each(|session, _| {
                handles.push(session.handle);
                true
            });
            for handle in handles {
                let mut record = Vec::new();
                assert!(before.core.registry().find(handle).unwrap().write(&mut record).is_some());
                core.registry().restoring(&Laid::default(), Timestamp::ZERO).restore(&record).unwrap();
            }
        }
        let (listener, front) = memory();
        let (drainer, drain) = Drainer::new();
        tokio::task::spawn_local(worker::run(core.clone(), 0, vec![listener], self.dialer(), drain));
        Gate { core, front, _drainer: drainer }
    }

    fn dialer(&self) -> Dialer {
        let apps: HashMap<String, SimHandle> = self
            .apps
            .iter()
            .map(|(_, app)| (app.with(|sim| sim.options().name.to_lowercase()), app.clone()))
            .collect();
        Dialer::Memory(Rc::new(move |origin: &str| {
            let name = origin.strip_prefix("http://").unwrap_or(origin).trim_end_matches(":80");
            let handle = apps.get(name).cloned().ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::task::spawn_local(server::serve_stream(handle, far, IpAddr::V4(Ipv4Addr::LOCALHOST)));
            Ok(near)
        }))
    }

    /// Signs a person in everywhere.
    async fn signs_in(&self, front: &MemoryDialer) -> Browser {
        let mut browser = Browser::new(front.clone(), "");
        for (host, app) in &self.apps {
            let (name, page) =
                app.with(|sim| (sim.options().name.clone(), extension(&sim.options().profile.to_string())));
            browser.at(host).get(&format!("/{name}/login{page}")).await;
            let token = browser.jar.iter().find(|kept| kept.name == "csrftoken" && kept.host == *host);
            let token = token.map(|kept| format!("&csrfmiddlewaretoken={}", kept.value)).unwrap_or_default();
            browser.post(&format!("/{name}/login{page}"), &format!("user=anna&password=x{token}")).await;
            browser.get(&format!("/{name}/set{page}?k={name}")).await;
        }
        browser
    }

    /// What each app shows her: who she is there, and what she left.
    async fn looks(&self, browser: &mut Browser) -> Vec<String> {
        let mut seen = Vec::new();
        for at in 0..self.apps.len() {
            seen.push(self.look(browser, at).await);
        }
        seen
    }

    async fn look(&self, browser: &mut Browser, at: usize) -> String {
        let (host, app) = &self.apps[at];
        let (name, page) =
            app.with(|sim| (sim.options().name.clone(), extension(&sim.options().profile.to_string())));
        let said = browser.at(host).get(&format!("/{name}/index{page}")).await.json();
        format!("{name}: {} {} {}", said["session"], said["user"], said["data"]["k"])
    }

    /// Where people are signed in as `signs_in` left them.
    fn all(&self) -> Vec<String> {
        let name = |app: &SimHandle| app.with(|sim| sim.options().name.clone());
        self.apps.iter().map(|(_, app)| format!("\"anna\" \"{}\"", name(app))).collect()
    }
}

fn are_in(seen: &[String], town: &Town, when: &str) {
    for (seen, all) in seen.iter().zip(town.all()) {
        assert!(seen.ends_with(&all), "{when}: {seen}");
    }
}

/// The same jar before another front.
fn before(front: &MemoryDialer, jar: Browser) -> Browser {
    let mut browser = Browser::new(front.clone(), "");
    browser.jar = jar.jar;
    browser
}

fn jar(browser: &Browser) -> Vec<String> {
    let mut all: Vec<_> = browser
        .jar
        .iter()
        .map(|kept| format!("{} {} {}={}", kept.host, kept.path, kept.name, kept.value))
        .collect();
    all.sort();
    all
}

fn app(profile: &str, name: &str) -> SimOptions {
    SimOptions::new(profile.parse::<Profile>().unwrap(), name).timeout_ms(TIMEOUT)
}

/// Two apps on one host whose cookies do not meet, and one elsewhere.
fn town(first: &str, second: &str) -> Town {
    Town::new([
        ("apps.example.org", app(first, "AppA")),
        ("apps.example.org", app(second, "AppC")),
        ("other.example.org", app(first, "AppB")),
    ])
}

const ADOPTS: &str = "adopt_cookies = \"12h\"";
const RELEASES: &str = "mode = \"release\"";

#[test]
fn nobody_is_signed_out_by_putting_the_proxy_in_or_taking_it_out() {
    for cookies in ["vault", "prefix", "pass"] {
        for (first, second) in [
            ("acf-strict", "servlet"),
            ("acf-legacy", "php-lock"),
            ("acf-j2ee", "php-lock"),
            ("lucee", "aspnet"),
            ("openbd", "express"),
            ("servlet", "django"),
            ("php-lock", "rails"),
            ("aspnet", "lucee-j2ee"),
        ] {
            run(async move {
                let what = format!("{cookies}, {first} and {second}");
                let town = town(first, second);
                let alone = town.alone();
                let mut anna = town.signs_in(&alone).await;
                let first_seen = town.looks(&mut anna).await;
                are_in(&first_seen, &town, &what);

                let gate = town.gate(&town.config(ADOPTS, cookies), None);
                let mut anna = before(&gate.front, anna);
                for _ in 0..3 {
                    assert_eq!(town.looks(&mut anna).await, first_seen, "{what}: with the proxy");
                }
                // Where a browser holds a ticket itself, no heartbeat can renew it there.
                pass(if cookies == "vault" { 3000.0 } else { 400.0 }).await;
                assert_eq!(town.looks(&mut anna).await, first_seen, "{what}: kept alive");

                let gate = town.gate(&town.config(RELEASES, cookies), Some(gate));
                let mut anna = before(&gate.front, anna);
                assert_eq!(town.look(&mut anna, 0).await, first_seen[0], "{what}: released");
                assert_eq!(
                    town.look(&mut anna, 2).await,
                    first_seen[2],
                    "{what}: released on the other host"
                );
                drop(gate);

                let mut anna = before(&alone, anna);
                assert_eq!(town.looks(&mut anna).await, first_seen, "{what}: without the proxy");
            });
        }
    }
}

#[test]
fn a_browser_that_was_handed_its_cookies_back_needs_the_proxy_no_more() {
    for cookies in ["vault", "prefix", "pass"] {
        run(async move {
            let town = town("acf-strict", "php-lock");
            let alone = town.alone();
            let mut anna = town.signs_in(&alone).await;
            let first_seen = town.looks(&mut anna).await;
            let own = jar(&anna);
            let gate = town.gate(&town.config(ADOPTS, cookies), None);
            let mut anna = before(&gate.front, anna);
            town.looks(&mut anna).await;
            town.looks(&mut anna).await;
            let gate = town.gate(&town.config(RELEASES, cookies), Some(gate));
            let mut anna = before(&gate.front, anna);
            for _ in 0..2 {
                assert_eq!(town.looks(&mut anna).await, first_seen);
            }
            assert_eq!(gate.core.registry().counts().bound, 0, "{cookies}: nothing is left to release");
            let ends = gate.core.metrics().encode();
            let ends: Vec<&str> = ends.lines().filter(|line| line.contains("reason=\"released\"")).collect();
            assert!(ends.iter().any(|line| line.ends_with(" 2")), "one a host: {ends:?}");
            for _ in 0..2 {
                assert_eq!(town.looks(&mut anna).await, first_seen, "{cookies}: passed through");
            }
            assert_eq!(jar(&anna), own, "{cookies}: as if the proxy had never been there");
            // Whoever comes now is none of the bridge's business, and signs in and out as without it.
            let mut bert = town.signs_in(&gate.front).await;
            are_in(&town.looks(&mut bert).await, &town, cookies);
            assert_eq!(gate.core.registry().counts().bound + gate.core.registry().counts().pending, 0);
            let mut bert = before(&alone, bert);
            are_in(&town.looks(&mut bert).await, &town, cookies);
            let mut bert = before(&gate.front, bert);
            bert.at("other.example.org").get("/AppB/logout.cfm").await;
            let seen = town.looks(&mut bert).await;
            assert!(!seen[2].contains("anna") && seen[0].contains("anna"), "{seen:?}");
        });
    }
}

#[test]
fn a_reload_is_enough() {
    run(async {
        let page = "/AppA/index.jsp";
        let mut reloading = Reloading::new(&pair_config("servlet", ""), pair_apps("servlet"));
        let mut browser = reloading.world.browser();
        let started = browser.get(page).await.started();
        browser.get("/AppB/index.jsp").await;
        browser.get(page).await;
        reloading.change(&pair_config("servlet", "[bridge]\nmode = \"release\"")).await;
        assert_eq!(browser.get(page).await.started(), started);
        assert_eq!(jar(&browser).len(), 3, "both apps' and the bridge's: {:?}", jar(&browser));
        assert_eq!(browser.get(page).await.started(), started);
        assert_eq!(reloading.world.bridges().0, 0, "what came in one answer has arrived together");
        assert!(browser.cookie("bridge").is_none());
        // Heartbeats have stopped: from here on the app counts alone.
        let beats = reloading.world.beats("AppA").len();
        pass(60.0).await;
        assert_eq!(reloading.world.beats("AppA").len(), beats);
    });
}

#[test]
fn an_answer_that_is_lost_hands_nothing_over() {
    run(async {
        let town = town("acf-strict", "php-lock");
        let mut anna = town.signs_in(&town.alone()).await;
        let first_seen = town.looks(&mut anna).await;
        let gate = town.gate(&town.config(ADOPTS, "vault"), None);
        let mut anna = before(&gate.front, anna);
        town.looks(&mut anna).await;
        town.looks(&mut anna).await;
        let gate = town.gate(&town.config(RELEASES, "vault"), Some(gate));
        let mut anna = before(&gate.front, anna);
        anna.keeps_cookies = false;
        for _ in 0..4 {
            assert_eq!(town.looks(&mut anna).await, first_seen, "what it does not have, the vault has");
            assert!(gate.core.registry().counts().bound > 0);
            pass(500.0).await;
        }
        anna.keeps_cookies = true;
        town.looks(&mut anna).await;
        let mut anna = before(&town.alone(), anna);
        assert_eq!(town.looks(&mut anna).await, first_seen);
    });
}

#[test]
fn a_sign_out_while_sessions_are_handed_back_ends_what_is_still_here() {
    run(async {
        let town = town("acf-strict", "php-lock");
        let mut anna = town.signs_in(&town.alone()).await;
        let gate = town.gate(&town.config(ADOPTS, "vault"), None);
        let mut bert = before(&gate.front, anna.clone());
        town.looks(&mut bert).await;
        town.looks(&mut bert).await;
        let gate = town.gate(&town.config(RELEASES, "vault"), Some(gate));
        // The other host's session is one of its own: nothing of it ends with this one.
        let mut bert = before(&gate.front, bert);
        bert.at("apps.example.org").get("/AppA/logout.cfm").await;
        let seen = town.looks(&mut bert).await;
        assert!(!seen[0].contains("anna"), "{seen:?}");
        anna = before(&town.alone(), bert);
        let seen = town.looks(&mut anna).await;
        assert!(!seen[0].contains("anna"), "dead at the app: {seen:?}");
    });
}
