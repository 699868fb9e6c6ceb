//! What every engine must pass, as walks of a person over the two apps of a [`Site`].
//!
//! # The apps
//!
//! Two apps, `/AppA/` and `/AppB/`, on one host, with the cookie names that the engine gives them by itself. Their pages:
//!
//! | page | what |
//! |---|---|
//! | `index` | HTML; begins the session; `<output id="started">` (unix ms, kept in the session), `<output id="user">`, links |
//! | `state` | JSON `{"started", "now", "user", "data": {}}`; touches the session |
//! | `data` | `?key=K&value=V` stores into the session; answers the state |
//! | `ping` | JSON `{"started"}`; touches the session: the heartbeat page |
//! | `guarded` | as `ping` for who is signed in, else a redirect to `login` |
//! | `quiet` | 200, never touches the session |
//! | `id` | JSON `{"cookie", "id"}`: the Cookie header that arrived, the session's id |
//! | `login` | GET: a form with `user`; POST: signs in, rotates the token where the engine does so, redirects to `index` |
//! | `logout` | ends the session the engine's usual way |
//! | `slow` | `?ms=N`: answers the state after so long, the session in use meanwhile |

use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::support::{Answer, Bridge, Browser, Engine, pause};

/// One of the two apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum App {
    A,
    B,
}

/// An engine with its two apps, as the walks see it.
#[derive(Debug)]
pub(crate) struct Site {
    /// For people: `PHP`.
    pub(crate) name: &'static str,
    /// Below `tests/engines`, and below `target/engines`.
    pub(crate) folder: &'static str,
    /// The last argument of `start`.
    pub(crate) variant: &'static str,
    /// The word of `session.engine`.
    pub(crate) engine: &'static str,
    /// What comes after `/AppA` and `/AppB`, for a second pair of apps of one engine.
    pub(crate) suffix: &'static str,
    /// What comes after the name of a page: `.php`.
    pub(crate) extension: &'static str,
    /// True where AppB listens at a port of its own, `PORT_B` in the environment of `start`.
    pub(crate) own_ports: bool,
    /// `session.timeout` of AppA and AppB, seconds.
    pub(crate) timeouts: [u64; 2],
    /// How long the walk S3-1 stays away from AppA, seconds: A's session is dead for certain after it.
    pub(crate) away: u64,
    /// Further lines of the config for each app, keys such as `session.type = "cf"`.
    pub(crate) config: &'static str,
    /// What tells a sign-out: `METHOD` of the page `logout`.
    pub(crate) sign_out: &'static str,
}

impl Site {
    /// For what a site does not say.
    pub(crate) const DEFAULT: Self = Self {
        name: "",
        folder: "",
        variant: "",
        engine: "",
        suffix: "",
        extension: "",
        own_ports: false,
        timeouts: [10, 300],
        away: 24,
        config: "",
        sign_out: "GET",
    };

    /// Path of a page, its query behind it: `/AppA/data.php?key=note`.
    pub(crate) fn page(&self, app: App, page: &str) -> String {
        let (name, query) =
            page.split_once('?').map_or((page, String::new()), |(name, query)| (name, format!("?{query}")));
        format!("{}{name}{}{query}", self.folder_of(app), self.extension)
    }

    /// Where an app lives: `/AppA/`.
    pub(crate) fn folder_of(&self, app: App) -> String {
        format!("/App{app:?}{}/", self.suffix)
    }

    /// The tables of both apps in a config, under these names.
    pub(crate) fn config(&self, engine: &Engine, names: [&str; 2]) -> String {
        self.config_with_heartbeat(engine, names, "ping")
    }

    /// As `config`, with another heartbeat page.
    pub(crate) fn config_with_heartbeat(&self, engine: &Engine, names: [&str; 2], page: &str) -> String {
        let table = |app: App, name: &str, timeout: u64| {
            format!(
                "[apps.{name}]\npath = \"{}\"\nupstreams = [\"{}\"]\nsession.engine = \"{}\"\n\
                 session.timeout = \"{timeout}s\"\nheartbeat.path = \"{}\"\nheartbeat.canary = {{ json = \"started\" }}\n\
                 sign_out.request = \"{method} {logout}\"\nsign_out.detect = [\"{method} {logout}*\"]\n\
                 sign_out.login = [\"{}*\"]\n{}\n",
                self.folder_of(app),
                engine.origin(app),
                self.engine,
                self.page(app, page),
                self.page(app, "login"),
                self.config,
                method = self.sign_out,
                logout = self.page(app, "logout"),
            )
        };
        table(App::A, names[0], self.timeouts[0]) + &table(App::B, names[1], self.timeouts[1])
    }
}

/// A way to the two apps: through a bridge or straight to the engine.
#[derive(Clone, Copy)]
pub(crate) enum Way<'a> {
    Bridge(&'a Bridge),
    Plain(&'a Engine),
}

/// A person at a browser, on one of the two ways.
pub(crate) struct Person<'a> {
    pub(crate) browser: Browser,
    site: &'a Site,
    way: Way<'a>,
}

impl<'a> Person<'a> {
    pub(crate) fn new(site: &'a Site, way: Way<'a>) -> Self {
        Self { browser: Browser::new(), site, way }
    }

    /// Address of a page on this way.
    pub(crate) fn url(&self, app: App, page: &str) -> String {
        match self.way {
            Way::Bridge(bridge) => bridge.url(self.site, app, page),
            // By this site: an engine may serve the apps of several.
            Way::Plain(engine) => engine.origin(app) + &self.site.page(app, page),
        }
    }

    /// Opens a page by hand.
    pub(crate) fn visit(&self, app: App, page: &str) -> Answer {
        let answer = self.browser.visit(&self.url(app, page));
        assert_eq!(answer.status, 200, "{} {}", answer.url, answer.body);
        answer
    }

    /// When the session began, by the index page.
    pub(crate) fn started(&self, app: App) -> u64 {
        self.visit(app, "index").output("started").parse().unwrap()
    }

    /// The page `state`.
    pub(crate) fn state(&self, app: App) -> Value {
        self.visit(app, "state").json()
    }

    /// Stores into the session of `app`.
    pub(crate) fn store(&self, app: App, key: &str, value: &str) {
        let state = self.visit(app, &format!("data?key={key}&value={value}")).json();
        assert_eq!(state["data"][key], value);
    }

    /// True where the session of `app` still knows it.
    pub(crate) fn finds(&self, app: App, key: &str, value: &str) -> bool {
        self.state(app)["data"][key] == value
    }

    /// Signs in; the answer is the page after it.
    pub(crate) fn sign_in(&self, app: App, user: &str) -> Answer {
        let url = self.visit(app, "login").url;
        let answer = self.browser.submit(&url, &[("user", user), ("password", "secret")]);
        assert_eq!(answer.output("user"), user);
        answer
    }

    /// The Cookie header with which the engine knows this person's session of `app` now. Asked by a twin of the browser, so
    /// that this one has not seen it.
    pub(crate) fn token(&self, app: App) -> String {
        let answer = self.browser.twin().get(&self.url(app, "id")).json();
        answer["cookie"].as_str().unwrap().to_owned()
    }
}

/// S3-1: AppA's session lives through a long stay in AppB; without the bridge it does not. Both at once: most of it is waiting.
pub(crate) fn s3_1(site: &Site, engine: &Engine) {
    let bridge = Bridge::start(site, engine, "");
    thread::scope(|scope| {
        scope.spawn(|| {
            let (before, after) = away_in_b(site, Way::Bridge(&bridge));
            assert_eq!(before, after, "through the bridge it is the same session\n{:#?}", bridge.timeline());
        });
        scope.spawn(|| {
            let (before, after) = away_in_b(site, Way::Plain(engine));
            assert_ne!(before, after, "without the bridge it is another one");
        });
    });
}

/// When AppA's session began, asked before and after a stay in AppB.
fn away_in_b(site: &Site, way: Way<'_>) -> (u64, u64) {
    let person = Person::new(site, way);
    let before = person.started(App::A);
    let b = person.started(App::B);
    // The real timeout is the point: real time passes.
    let end = Instant::now() + Duration::from_secs(site.away);
    while Instant::now() < end {
        pause(Duration::from_secs(1));
        assert_eq!(person.state(App::B)["started"], b, "AppB's own session lives");
    }
    // Engines that sweep when somebody comes need somebody: every app has other visitors.
    Person::new(site, way).started(App::A);
    let state = person.state(App::A);
    let (after, now) = (state["started"].as_u64().unwrap(), state["now"].as_u64().unwrap());
    assert!(now - before >= site.away * 1000, "{state}");
    assert_eq!(person.started(App::A), after, "whichever it is, it stays");
    (before, after)
}

/// A to B to A to B with data kept in both, through the bridge.
pub(crate) fn collide(site: &Site, engine: &Engine) {
    let bridge = Bridge::start(site, engine, "");
    let (a_kept, b_kept) = back_and_forth(site, Way::Bridge(&bridge));
    assert!(a_kept && b_kept, "kept in A: {a_kept}, in B: {b_kept}");
}

/// The same straight to the engine with one jar: whether AppA and AppB still know what was stored.
pub(crate) fn collide_plain(site: &Site, engine: &Engine) -> (bool, bool) {
    back_and_forth(site, Way::Plain(engine))
}

fn back_and_forth(site: &Site, way: Way<'_>) -> (bool, bool) {
    let person = Person::new(site, way);
    person.visit(App::A, "index");
    person.store(App::A, "note", "of_a");
    person.visit(App::B, "index");
    person.store(App::B, "note", "of_b");
    let a_kept = person.finds(App::A, "note", "of_a");
    person.visit(App::A, "index");
    let b_kept = person.finds(App::B, "note", "of_b");
    (a_kept, b_kept)
}
