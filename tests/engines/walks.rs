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
//! | `end` | as `logout` by GET, where `logout` is by POST: an administrator's way, behind the back of the bridge |
//! | `forget` | forgets who is signed in and keeps the session; answers the state |
//! | `slow` | `?ms=N`: answers the state after so long, the session in use meanwhile |

use std::thread;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{Answer, Bridge, Browser, Engine, pause, wait_until};

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
    /// False where dead sessions go when the engine likes: what S3-1 is like without the bridge is said, not asserted.
    pub(crate) punctual: bool,
    /// Further lines of the config for each app, keys such as `session.type = "cf"`.
    pub(crate) config: &'static str,
    /// The method of the page `logout`. With POST, `index` has a form for it, with the hidden fields that it needs.
    pub(crate) sign_out: &'static str,
    /// The cookies that no browser may see through the bridge.
    pub(crate) tokens: &'static [&'static str],
    /// True where a sign-in changes the token.
    pub(crate) rotates: bool,
    /// True where an id that the engine does not know becomes a session under that id; else it gives out another.
    pub(crate) adopts: bool,
    /// True where `logout` leaves the id, with an empty session behind it.
    pub(crate) logout_keeps_id: bool,
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
        punctual: true,
        config: "",
        sign_out: "GET",
        tokens: &[],
        rotates: true,
        adopts: false,
        logout_keeps_id: false,
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
            let (method, logout) = (self.sign_out, self.page(app, "logout"));
            let recipe = if method == "POST" {
                format!("sign_out.page = \"GET {}\"\nsign_out.form = \"{logout}\"", self.page(app, "index"))
            } else {
                format!("sign_out.request = \"{method} {logout}\"")
            };
            format!(
                "[apps.{name}]\npath = \"{}\"\nupstreams = [\"{}\"]\nsession.engine = \"{}\"\n\
                 session.timeout = \"{timeout}s\"\nheartbeat.path = \"{}\"\nheartbeat.canary = {{ json = \"started\" }}\n\
                 {recipe}\nsign_out.detect = [\"{method} {logout}*\"]\n\
                 sign_out.login = [\"{}*\"]\n{}\n",
                self.folder_of(app),
                engine.origin(app),
                self.engine,
                self.page(app, page),
                self.page(app, "login"),
                self.config,
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

    /// Signs in by the form of the page `login`; the answer is the page after it.
    pub(crate) fn sign_in(&self, app: App, user: &str) -> Answer {
        let page = self.visit(app, "login");
        let mut form = hidden_fields(&page.body);
        form.extend([("user".to_owned(), user.to_owned()), ("password".to_owned(), "secret".to_owned())]);
        let answer = self.browser.submit(&page.url, &borrowed(&form));
        assert_eq!(answer.output("user"), user);
        answer
    }

    /// Signs out as the app wants it.
    pub(crate) fn sign_out(&self, app: App) -> Answer {
        let url = self.url(app, "logout");
        if self.site.sign_out == "POST" {
            let form = hidden_fields(&self.visit(app, "index").body);
            self.browser.submit(&url, &borrowed(&form))
        } else {
            self.browser.visit(&url)
        }
    }

    /// The Cookie header with which the engine knows this person's session of `app` now. Asked by a twin of the browser, so
    /// that this one has not seen it.
    pub(crate) fn token(&self, app: App) -> String {
        let answer = self.browser.twin().get(&self.url(app, "id")).json();
        answer["cookie"].as_str().unwrap().to_owned()
    }
}

/// Name and value of every hidden field on a page.
pub(crate) fn hidden_fields(page: &str) -> Vec<(String, String)> {
    let field = regex::Regex::new(r#"<input type="hidden" name="([^"]+)" value="([^"]*)"#).unwrap();
    field.captures_iter(page).map(|field| (field[1].to_owned(), field[2].to_owned())).collect()
}

/// As `Browser::submit` takes them.
pub(crate) fn borrowed(form: &[(String, String)]) -> Vec<(&str, &str)> {
    form.iter().map(|(name, value)| (&**name, &**value)).collect()
}

/// A request straight to the engine with this Cookie header: what happens behind the back of the bridge, and what a thief
/// of a token could do.
pub(crate) fn straight(engine: &Engine, app: App, page: &str, token: &str) -> Answer {
    ask_straight(&engine.url(app, page), token)
}

/// The same for an engine that serves the apps of several sites.
pub(crate) fn straight_to(site: &Site, engine: &Engine, app: App, page: &str, token: &str) -> Answer {
    ask_straight(&(engine.origin(app) + &site.page(app, page)), token)
}

fn ask_straight(url: &str, token: &str) -> Answer {
    Browser::new().request(Method::GET, url, &[("cookie", token)], "").unwrap()
}

/// S3-1: AppA's session lives through a long stay in AppB; without the bridge it does not. Both at once: most of it is waiting.
pub(crate) fn s3_1(site: &Site, engine: &Engine) {
    s3_1_with(site, engine, &site.config(engine, ["appA", "appB"]));
}

/// S3-1 with this config.
pub(crate) fn s3_1_with(site: &Site, engine: &Engine, config: &str) {
    let bridge = Bridge::run(config);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (before, after) = away_in_b(site, Way::Bridge(&bridge));
            assert_eq!(before, after, "through the bridge it is the same session\n{:#?}", bridge.timeline());
        });
        scope.spawn(|| {
            let (before, after) = away_in_b(site, Way::Plain(engine));
            if !site.punctual {
                eprintln!("{}: without the bridge the session died: {}", site.name, before != after);
            } else {
                assert_ne!(before, after, "without the bridge it is another one");
            }
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

/// Signing in to AppA: its token changes where the engine changes it, nothing is lost, B does not notice, and the browser
/// has never seen a token.
pub(crate) fn rotation(site: &Site, engine: &Engine) {
    let bridge = Bridge::start(site, engine, "");
    let person = Person::new(site, Way::Bridge(&bridge));
    let tokens = |app| values(site, &person.token(app));
    for (app, value) in [(App::A, "of_a"), (App::B, "of_b")] {
        person.visit(app, "index");
        person.store(app, "note", value);
    }
    let before = [tokens(App::A), tokens(App::B)];
    person.sign_in(App::A, "ann");
    let after = [tokens(App::A), tokens(App::B)];
    assert_eq!(before[0] != after[0], site.rotates, "the token of AppA");
    assert_eq!(before[1], after[1], "the token of AppB");
    assert_eq!(person.state(App::A)["user"], "ann");
    assert!(person.finds(App::A, "note", "of_a") && person.finds(App::B, "note", "of_b"));
    let cookies = person.browser.cookies(&person.url(App::A, "index"));
    for value in before.iter().chain(&after).flatten() {
        assert!(!person.browser.has_seen(value), "a token in a head or a body");
        assert!(!cookies.contains(value), "a token in the jar");
    }
    assert!(
        !bridge.log().contains(&before[0][0]) && !bridge.log().contains(&after[0][0]),
        "a token in a log"
    );
}

/// The values of the token's parts in a Cookie header, those that are secrets.
fn values(site: &Site, cookies: &str) -> Vec<String> {
    let pairs = cookies.split("; ").filter_map(|pair| pair.split_once('='));
    let own = pairs.filter(|(name, _)| site.tokens.iter().any(|token| token.eq_ignore_ascii_case(name)));
    // Lucee's CFTOKEN is `0`.
    let secrets: Vec<_> = own.map(|(_, value)| value.to_owned()).filter(|value| value.len() > 6).collect();
    assert!(!secrets.is_empty(), "no token among {cookies:?}");
    secrets
}

/// Signing out of AppA ends AppB too: its old token is dead at the engine, the bridge has the proof, and the browser's old
/// cookie opens nothing.
pub(crate) fn sign_out(site: &Site, engine: &Engine) {
    let bridge = Bridge::start(site, engine, "heartbeat.every = \"1s\"");
    let person = Person::new(site, Way::Bridge(&bridge));
    let apps = [App::A, App::B];
    for app in apps {
        person.sign_in(app, "ann");
    }
    let tokens = apps.map(|app| person.token(app));
    for (app, token) in apps.iter().zip(&tokens) {
        assert_eq!(
            straight_to(site, engine, *app, "state", token).json()["user"],
            "ann",
            "the token of {app:?} is good"
        );
    }
    // Once an app has shown its canary, any engine's answer is proof.
    for app in ["appA", "appB"] {
        let alive = format!("{app} heartbeat alive");
        wait_until(&alive, || bridge.timeline().contains(&alive));
    }
    let old = person.browser.twin();
    person.sign_out(App::A);
    for (app, token) in apps.iter().zip(&tokens) {
        wait_until(&format!("the old token of {app:?} to be dead"), || {
            straight_to(site, engine, *app, "state", token).json()["user"].is_null()
        });
    }
    assert_eq!(bridge.status(&old)["state"], "none", "the old bridge cookie opens nothing");
    for app in apps {
        assert_eq!(old.visit(&person.url(app, "state")).json()["user"], Value::Null);
    }
    let story = || crate::support::events(&bridge.ended_session());
    wait_until("proof", || story().iter().filter(|event| event.ends_with("sign_out_proven")).count() == 2);
    let story = story();
    let end = story.iter().position(|event| event == "- ended app_logout").unwrap();
    assert_eq!(story[end - 1], "appA sign_out");
    let mut after = story[end + 1..].to_vec();
    after.sort();
    assert_eq!(after, ["appA sign_out_proven", "appB sign_out_confirmed", "appB sign_out_proven"]);
}

/// The five verdicts, each for a reason that is real. `engine` is stopped and started on the way.
pub(crate) fn verdicts(site: &Site, engine: &mut Engine) {
    let every = "heartbeat.every = \"1s\"";
    let bridge = Bridge::start(site, engine, every);
    let person = Person::new(site, Way::Bridge(&bridge));
    let first = begin(&person);
    beat(&bridge, &person, "alive");
    // Behind the back of the bridge, as an administrator would.
    let end = if site.sign_out == "GET" { "logout" } else { "end" };
    straight_to(site, engine, App::A, end, &person.token(App::A));
    let verdict = |reborn| if reborn { "reborn" } else { "replaced" };
    let dead = verdict(site.adopts);
    beat(&bridge, &person, verdict(site.adopts || site.logout_keeps_id));
    let second = person.started(App::A);
    assert_ne!(first, second, "the person is answered by a new session");
    beat(&bridge, &person, "alive");
    engine.stop();
    beat(&bridge, &person, "unreachable");
    engine.restart();
    beat(&bridge, &person, dead);
    assert_ne!(person.started(App::A), second);
    beat(&bridge, &person, "alive");

    let guarded = format!("{every}\n{}", site.config_with_heartbeat(engine, ["appA", "appB"], "guarded"));
    let bridge = Bridge::run(&guarded);
    let person = Person::new(site, Way::Bridge(&bridge));
    person.sign_in(App::A, "ann");
    beat(&bridge, &person, "alive");
    straight_to(site, engine, App::A, "forget", &person.token(App::A));
    beat(&bridge, &person, "signed_out");
}

/// When the session began; heartbeats begin once the browser has come back with the cookie of the bridge.
fn begin(person: &Person<'_>) -> u64 {
    person.visit(App::A, "index");
    person.started(App::A)
}

/// Waits until heartbeats to AppA say so, to operators and to the person.
fn beat(bridge: &Bridge, person: &Person<'_>, verdict: &str) {
    wait_until(&format!("the verdict {verdict}"), || {
        let event = format!("appA heartbeat {verdict}");
        bridge.timeline().iter().rfind(|event| event.starts_with("appA heartbeat")) == Some(&event)
    });
    let state = if verdict == "alive" { "live" } else { verdict };
    assert_eq!(bridge.state(&person.browser, "appA"), state);
    assert_eq!(bridge.session()["apps"]["appA"]["heartbeats"]["verdict"], verdict);
}
