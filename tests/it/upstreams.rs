//! Servers that come and go, as people, heartbeats and operators meet them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use serde_json::Value;

use super::admin::operator;
use super::support::reloading::Reloading;
use super::support::scripted::{Asked, Say, Script};
use super::support::{Act, Browser, Heard, Stage, World, pair_apps, pass, run};

const TWO: &str = "[apps.a]\nupstreams = [\"http://a\", \"http://b\"]\n";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.org\r\n\r\n")
}

fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn named(heard: &Heard) -> Act {
    Act::ok(&heard.app)
}

/// Answers where `well`, and never does else.
fn hangs_unless(well: &Rc<Cell<bool>>) -> impl Fn(&Heard) -> Act + 'static {
    let well = Rc::clone(well);
    move |heard| if well.get() { named(heard) } else { Act::Hang }
}

#[test]
fn r8_an_app_that_refuses_is_502_at_once_and_then_left_alone_and_others_are_none_the_worse() {
    run(async {
        let toml = "[apps.gone]\npath = \"/gone/\"\nupstreams = [\"http://gone\"]\n\
                    [apps.a]\nupstreams = [\"http://a\"]\n";
        let stage = Stage::new(toml, vec![("a", named)]);
        let began = tokio::time::Instant::now();
        for _ in 0..5 {
            let mut wire = stage.connect();
            wire.say(get("/gone/")).await;
            wire.answers().await[0].is_own(502, "connect_refused");
        }
        // What a test waits for silence is the time that has passed.
        assert_eq!(began.elapsed().as_millis(), 5 * 200);
        let reply = stage.one(get("/gone/")).await;
        reply.is_own(503, "circuit_open");
        assert_eq!(reply.one("retry-after"), Some("1"));
        assert_eq!(stage.one(get("/")).await.status, 200);
        pass(1.0).await;
        stage.one(get("/gone/")).await.is_own(502, "connect_refused");
        let reply = stage.one(get("/gone/")).await;
        reply.is_own(503, "circuit_open");
        assert_eq!(reply.one("retry-after"), Some("2"), "twice as long");
        let metrics = stage.core.metrics().encode();
        for line in [
            "sessionbridge_upstream_up{app=\"gone\",upstream=\"http://gone:80\"} 0",
            "sessionbridge_upstream_circuit_open{app=\"gone\",upstream=\"http://gone:80\"} 1",
            "sessionbridge_upstream_up{app=\"a\",upstream=\"http://a:80\"} 1",
            "sessionbridge_upstream_circuit_open{app=\"a\",upstream=\"http://a:80\"} 0",
            "sessionbridge_request_ends_total{app=\"gone\",reason=\"circuit_open\"} 2",
        ] {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }
    });
}

#[test]
fn r8_where_one_server_refuses_the_next_is_asked_and_each_request_arrives_once() {
    run(async {
        let stage = Stage::new(TWO, vec![("b", named)]);
        for n in 0..20 {
            assert_eq!(stage.one(get(&format!("/{n}"))).await.status, 200);
            let reply = stage.one(post(&format!("{n}"))).await;
            assert_eq!((reply.status, reply.text()), (200, "b".to_owned()));
        }
        let heard = stage.heard();
        let posts: Vec<_> = heard.iter().filter(|own| own.line.starts_with("POST")).collect();
        assert_eq!((heard.len(), posts.len()), (40, 20));
        for (n, own) in posts.iter().enumerate() {
            assert_eq!((&*own.body, &own.unclean[..]), (n.to_string().as_bytes(), &[][..]));
        }
        let refuses = Stage::new(TWO, Vec::<(&str, fn(&Heard) -> Act)>::new());
        refuses.one(get("/")).await.is_own(502, "connect_refused");
    });
}

#[test]
fn r9_an_app_that_hangs_is_504_then_left_alone_and_one_request_tries_whether_it_is_back() {
    run(async {
        let well = Rc::new(Cell::new(false));
        let stage = Stage::plain("server.timeouts.first_byte = \"10s\"", hangs_unless(&well));
        let mut wires: Vec<_> = (0..5).map(|_| stage.connect()).collect();
        for wire in &mut wires {
            wire.say(get("/")).await;
        }
        pass(10.5).await;
        for wire in &mut wires {
            wire.answers().await[0].is_own(504, "first_byte_timeout");
        }
        // Reading them took another second: the first pause is over, and the next request is the one that tries.
        let mut tries = stage.connect();
        tries.say(get("/try")).await;
        for _ in 0..3 {
            stage.one(get("/")).await.is_own(503, "circuit_open");
        }
        assert_eq!(stage.heard().len(), 6, "nobody else was let through");
        pass(11.0).await;
        tries.answers().await[0].is_own(504, "first_byte_timeout");
        well.set(true);
        pass(10.0).await;
        for _ in 0..5 {
            assert_eq!(stage.one(get("/")).await.status, 200);
        }
    });
}

#[test]
fn r9_what_an_app_says_of_itself_keeps_no_request_from_it() {
    run(async {
        let stage = Stage::plain("", |_| Act::say("HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno"));
        for _ in 0..30 {
            let reply = stage.one(get("/")).await;
            assert_eq!(
                (reply.status, reply.text(), reply.one("x-bridge-error")),
                (500, "no".to_owned(), None)
            );
        }
    });
}

#[test]
fn r10_a_connection_that_broke_off_carries_nothing_more() {
    run(async {
        for broken in [
            "HTTP/1.1 200 OK\r\nConte",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        ] {
            let breaks = Cell::new(true);
            let stage = Stage::plain("", move |heard| {
                if breaks.replace(false) { Act::last(broken) } else { Act::ok(heard.target()) }
            });
            let (replies, _) = stage.ask(get("/first")).await;
            assert!(
                replies.iter().all(|reply| reply.status == 502 || !reply.whole),
                "{broken:?}: {replies:?}"
            );
            let reply = stage.one(get("/second")).await;
            assert_eq!((reply.status, reply.text()), (200, "/second".to_owned()), "{broken:?}");
        }
    });
}

#[test]
fn r11_an_answer_before_its_request_is_nobodys() {
    run(async {
        let canary = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
        let stage = Stage::plain("", move |heard| {
            Act::say(format!("HTTP/1.1 204 No Content\r\nX-Path: {}\r\n\r\n{canary}", heard.target()))
        });
        for n in 0..10 {
            let target = format!("/{n}");
            let reply = stage.one(get(&target)).await;
            assert_eq!((reply.status, reply.one("x-path")), (204, Some(&*target)));
            assert!(!reply.text().contains("stolen"));
        }
    });
}

/// On every other request the app closes the connection without a word, as it does with one that it thought idle.
fn every_other(heard: &Heard, count: &Cell<u32>) -> Act {
    count.set(count.get() + 1);
    if count.get().is_multiple_of(2) { Act::last("") } else { named(heard) }
}

#[test]
fn r12_a_get_that_meets_a_closing_connection_is_asked_again_and_a_post_never_is() {
    run(async {
        let count = Cell::new(0);
        let stage = Stage::plain("", move |heard| every_other(heard, &count));
        for _ in 0..10 {
            assert_eq!(stage.one(get("/")).await.status, 200);
        }
        assert_eq!(stage.heard().len(), 19, "nine of them twice: {:?}", stage.heard());
        let mut statuses = Vec::new();
        for n in 0..10 {
            let reply = stage.one(post(&n.to_string())).await;
            if reply.status == 502 {
                reply.is_own(502, "upstream_reset");
            }
            statuses.push(reply.status);
        }
        let heard: Vec<String> =
            stage.heard().iter().map(|own| String::from_utf8_lossy(&own.body).into_owned()).collect();
        assert_eq!(heard, (0..10).map(|n| n.to_string()).collect::<Vec<_>>(), "each once, in order");
        assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 5, "{statuses:?}");
    });
}

#[test]
fn r12_a_post_that_was_written_goes_to_no_other_server() {
    run(async {
        let breaks = |_: &Heard| Act::last("");
        let stage = Stage::new(TWO, vec![("a", breaks), ("b", breaks)]);
        for n in 0..4 {
            stage.one(post(&n.to_string())).await.is_own(502, "upstream_reset");
        }
        let heard: Vec<_> = stage.heard().iter().map(|own| own.body.clone()).collect();
        assert_eq!(heard, [b"0", b"1", b"2", b"3"]);
    });
}

#[test]
fn r15_an_upload_whose_client_goes_away_is_broken_off_and_sent_to_nobody_else() {
    run(async {
        let stage = Stage::new(TWO, vec![("a", named), ("b", named)]);
        for _ in 0..4 {
            let mut wire = stage.connect();
            wire.say("POST / HTTP/1.1\r\nHost: a.org\r\nContent-Length: 100\r\n\r\nslowly").await;
            assert!(wire.hear().await.is_empty());
            drop(wire);
            pass(1.0).await;
            let heard = stage.heard();
            assert_eq!(heard.len(), 1, "{heard:?}");
            assert_eq!(heard[0].unclean, ["broken off"], "it never looks whole");
        }
        assert_eq!(stage.one(get("/")).await.status, 200, "and nobody takes that for the servers' fault");
        assert!(!stage.core.metrics().encode().contains("_up{app=\"a\",upstream=\"http://a:80\"} 0"));
    });
}

/// Two nodes at `/app/` that keep their sessions in `shared`, or each in its own memory.
struct Cluster {
    world: World,
    nodes: [Script; 2],
}

type Shared = Rc<RefCell<BTreeMap<String, String>>>;

/// A servlet node that keeps what `?set=` says, and tells it.
fn node(name: &'static str, store: &Shared) -> Script {
    let (store, next) = (Rc::clone(store), Cell::new(0));
    Script::new(move |parts: &Parts| {
        let cookie = parts.headers.get("cookie").and_then(|line| line.to_str().ok()).unwrap_or_default();
        let id = cookie.split("; ").find_map(|pair| pair.strip_prefix("JSESSIONID=")).unwrap_or_default();
        let mut store = store.borrow_mut();
        if let Some(data) = store.get_mut(id) {
            if let Some(set) = parts.uri.query().and_then(|query| query.strip_prefix("set=")) {
                set.clone_into(data);
            }
            return Say::body(format!("{name} {data}"));
        }
        next.set(next.get() + 1);
        let id = format!("{name}{:0>27}", next.get());
        store.insert(id.clone(), "new".to_owned());
        Say::body(format!("{name} new")).with("set-cookie", format!("JSESSIONID={id}; Path=/app; HttpOnly"))
    })
}

impl Cluster {
    fn new(stores: [&Shared; 2], more: &str) -> Self {
        let toml = format!(
            "[apps.app]\npath = \"/app/\"\nupstreams = [\"http://node1\", \"http://node2\"]\n\
             session.engine = \"servlet\"\nsession.timeout = \"30s\"\nheartbeat.path = \"/app/ping\"\n\
             heartbeat.jitter = \"0%\"\n{more}"
        );
        let nodes = [node("node1", stores[0]), node("node2", stores[1])];
        let scripts = [("node1", nodes[0].clone()), ("node2", nodes[1].clone())];
        Self { world: World::scripted(&toml, scripts, []), nodes }
    }

    fn shared(more: &str) -> Self {
        let store = Shared::default();
        Self::new([&store, &store], more)
    }

    /// The first server of a new browser, and the browser.
    async fn person(&self) -> (usize, Browser) {
        let mut browser = self.world.browser();
        let at = at(&browser.get("/app/").await.text());
        browser.get("/app/?set=kept").await;
        (at, browser)
    }

    /// One that is at the node `at`. Whoever comes to the other one on the way there leaves again.
    async fn person_at(&self, at: usize) -> Browser {
        loop {
            let (found, mut browser) = self.person().await;
            if found == at {
                return browser;
            }
            browser.own_post("/.bridge/logout").await;
        }
    }

    async fn kill(&self, at: usize) {
        self.nodes[at].down(true);
        pass(2.0).await;
    }

    /// What the node `at` was asked since so many requests, heartbeats apart.
    fn asked(&self, at: usize, since: usize) -> Vec<Asked> {
        self.nodes[at].asked().split_off(since).into_iter().filter(|own| !own.heartbeat()).collect()
    }
}

/// Nobody is held up for coming with many.
const CROWD: &str =
    "[server.limits]\nnew_sessions = { rate = \"1000/s\", burst = 5000, per = \"client-ip\" }";

/// Which node wrote this page.
fn at(text: &str) -> usize {
    match text.split(' ').next() {
        Some("node1") => 0,
        Some("node2") => 1,
        _ => panic!("{text}"),
    }
}

#[test]
fn s1_1_when_a_node_dies_the_next_request_is_at_another_one_with_the_shared_data() {
    run(async {
        let cluster = Cluster::shared("");
        let (home, mut browser) = cluster.person().await;
        let (other, since) = (1 - home, cluster.nodes[1 - home].asked().len());
        cluster.kill(home).await;
        let names = ["node1", "node2"];
        for _ in 0..3 {
            let answer = browser.get("/app/").await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, format!("{} kept", names[other])));
            assert_eq!(answer.header("x-bridge-failover"), None, "that is between us and the app");
        }
        let answer = browser.post("/app/?set=more", "a=1").await;
        assert_eq!(answer.text(), format!("{} more", names[other]));
        let asked = cluster.asked(other, since);
        assert_eq!(asked.len(), 4, "each request arrived once");
        // It stays there when the old one is back.
        cluster.nodes[home].down(false);
        pass(60.0).await;
        assert_eq!(browser.get("/app/").await.text(), format!("{} more", names[other]));
    });
}

#[test]
fn s4_19_the_app_is_told_once_that_a_session_goes_on_elsewhere() {
    run(async {
        let cluster = Cluster::shared("");
        let (home, mut browser) = cluster.person().await;
        cluster.kill(home).await;
        let since = cluster.nodes[1 - home].asked().len();
        let forged = [("x-bridge-failover", "1"), ("x_bridge_failover", "1")];
        for _ in 0..4 {
            browser.send(Method::GET, "/app/", &forged, Bytes::new()).await;
        }
        let told = |asked: Vec<Asked>| -> Vec<String> {
            asked.iter().map(|own| own.header("x-bridge-failover").to_owned()).collect()
        };
        assert_eq!(told(cluster.asked(1 - home, since)), ["1", "", "", ""]);
        let label = "sessionbridge_session_events_total{app=\"app\",event=\"moved\"}";
        assert_eq!(cluster.world.metric(label), 1.0);
        // And back again, once, when that one dies, too.
        cluster.nodes[home].down(false);
        cluster.kill(1 - home).await;
        let since = cluster.nodes[home].asked().len();
        // The first request finds out that it is there again.
        for _ in 0..2 {
            assert_eq!(browser.get("/app/").await.status, 200);
        }
        assert_eq!(told(cluster.asked(home, since)), ["1", ""]);
        let (mut operator, _drainer) = operator(&cluster.world);
        let list = operator.get("/api/v1/sessions").await.json();
        let id = list["sessions"][0]["id"].as_str().unwrap().to_owned();
        let story = operator.get(&format!("/api/v1/sessions/{id}")).await.json();
        let moved = |event: &&Value| event["event"] == "moved" && event["app"] == "app";
        assert_eq!(story["timeline"].as_array().unwrap().iter().filter(moved).count(), 2, "{story}");
    });
}

#[test]
fn s4_19_who_has_nothing_to_lose_is_no_failover() {
    run(async {
        let cluster = Cluster::shared("");
        cluster.kill(0).await;
        for _ in 0..4 {
            let mut browser = cluster.world.browser();
            assert_eq!(browser.get("/app/").await.text(), "node2 new");
            assert_eq!(browser.get("/app/").await.text(), "node2 new");
        }
        let asked = cluster.nodes[1].asked();
        assert!(asked.iter().all(|own| own.header("x-bridge-failover").is_empty()), "{asked:?}");
    });
}

#[test]
fn s1_1_heartbeats_never_move_a_session_and_who_stays_away_meanwhile_finds_it_where_it_was() {
    run(async {
        let (one, two) = (Shared::default(), Shared::default());
        let cluster = Cluster::new([&one, &two], CROWD);
        let mut away = cluster.person_at(0).await;
        // As many as it takes for that node to be known to be down.
        for _ in 0..12 {
            cluster.person_at(0).await;
        }
        let mut there = cluster.person_at(1).await;
        pass(15.0).await;
        cluster.kill(0).await;
        let (dead, alive) = (cluster.nodes[0].refused(), cluster.nodes[1].beats().len());
        pass(8.0).await;
        let label = "sessionbridge_upstream_circuit_open{app=\"app\",upstream=\"http://node1:80\"}";
        assert_eq!(cluster.world.metric(label), 1.0);
        cluster.nodes[0].down(false);
        pass(120.0).await;
        assert_eq!(cluster.world.metric(label), 0.0);
        assert!(cluster.nodes[0].refused() > dead, "it was tried");
        let beats = cluster.nodes[1].beats().split_off(alive);
        let own = |store: &Shared, beat: &Asked| {
            store.borrow().keys().any(|id| beat.header("cookie").contains(id.as_str()))
        };
        assert!(beats.len() >= 8 && beats.iter().all(|beat| own(&two, beat)), "{beats:?}");
        assert_eq!(away.get("/app/").await.text(), "node1 kept");
        assert_eq!(there.get("/app/").await.text(), "node2 kept");
        assert!(cluster.world.verdicts("app", "unreachable") >= 1.0);
        assert_eq!(cluster.world.verdicts("app", "replaced"), 0.0);
    });
}

#[test]
fn a_node_that_is_dead_for_good_costs_those_of_the_others_no_heartbeat() {
    run(async {
        let cluster = Cluster::shared(CROWD);
        for _ in 0..30 {
            cluster.person_at(0).await;
        }
        let mut there = cluster.person_at(1).await;
        cluster.kill(0).await;
        let before = cluster.nodes[1].beats().len();
        pass(300.0).await;
        let beats: Vec<Asked> = cluster.nodes[1].beats().split_off(before);
        let id = there.get("/app/").await;
        assert_eq!(id.text(), "node2 kept");
        let widest = beats.windows(2).map(|pair| pair[1].at - pair[0].at).fold(0.0, f64::max);
        assert!(beats.len() >= 29 && widest < 11.0, "one every 10 s, as ever: {} {widest}", beats.len());
        assert!(cluster.nodes[0].refused() < 200, "{}", cluster.nodes[0].refused());
    });
}

/// Answers its health page with `status`, and everything else as `app`.
fn checked(status: &Rc<Cell<u16>>, name: &'static str) -> Script {
    let status = Rc::clone(status);
    Script::new(
        move |parts| {
            if parts.uri.path() == "/app/health" { Say::status(status.get()) } else { Say::body(name) }
        },
    )
}

const CHECKED: &str = "[apps.app]\npath = \"/app/\"\nhosts = [\"apps.example.org\"]\n\
    upstreams = [\"http://node1\", \"http://node2\"]\nbalance = \"round-robin\"\n\
    health = { path = \"/app/health?deep=1\", every = \"10s\", fall = 3, rise = 2 }\n";

async fn pages(browser: &mut Browser, many: usize) -> Vec<String> {
    let mut pages = Vec::new();
    for _ in 0..many {
        pages.push(browser.get("/app/").await.text());
    }
    pages.sort();
    pages.dedup();
    pages
}

#[test]
fn health_checks_take_a_server_out_and_bring_it_back_by_rows() {
    run(async {
        let (one, two) = (Rc::new(Cell::new(200)), Rc::new(Cell::new(302)));
        let nodes = [checked(&one, "node1"), checked(&two, "node2")];
        let scripts = [("node1", nodes[0].clone()), ("node2", nodes[1].clone())];
        let world = World::scripted(CHECKED, scripts, []);
        let mut browser = world.browser();
        pass(60.0).await;
        assert_eq!(pages(&mut browser, 4).await, ["node1", "node2"]);
        let checks = nodes[0].asked();
        let checks: Vec<_> = checks.iter().filter(|own| own.path == "/app/health?deep=1").collect();
        assert!((5..=7).contains(&checks.len()), "{checks:?}");
        for check in &checks {
            assert_eq!((check.header("cookie"), check.header("host")), ("", "apps.example.org"));
            assert!(check.header("user-agent").starts_with("sessionbridge"), "{check:?}");
        }
        one.set(503);
        pass(15.0).await;
        assert_eq!(pages(&mut browser, 4).await, ["node1", "node2"], "not by one or two");
        pass(30.0).await;
        assert_eq!(pages(&mut browser, 4).await, ["node2"]);
        let label = "sessionbridge_upstream_up{app=\"app\",upstream=\"http://node1:80\"}";
        assert_eq!(world.metric(label), 0.0);
        let (mut operator, _drainer) = operator(&world);
        let app = operator.get("/api/v1/apps").await.json()["apps"][0].clone();
        let shown = &app["upstreams"][0];
        assert_eq!((&shown["url"], &shown["state"]), (&"http://node1:80".into(), &"down".into()), "{app}");
        assert_eq!((&shown["healthy"], &shown["circuit"]), (&false.into(), &"closed".into()), "{app}");
        assert_eq!(shown["last_error"]["reason"], "status_503", "{app}");
        assert!(shown["since"].as_str().unwrap().starts_with("2026-01-01T00:01:"), "{app}");
        assert_eq!(app["upstreams"][1]["state"], "up", "{app}");
        let page = operator.get("/").await.text();
        assert!(page.contains("1 of 2 up") && page.contains("status_503"), "{page}");
        two.set(500);
        pass(45.0).await;
        let answer = browser.get("/app/").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bridge-error")), (503, Some("no_upstream")));
        assert!(answer.header("retry-after").is_some());
        one.set(200);
        pass(35.0).await;
        assert_eq!(pages(&mut browser, 4).await, ["node1"]);
        assert_eq!(world.metric(label), 1.0);
    });
}

#[test]
fn health_checks_are_spread_and_a_server_that_hangs_is_down() {
    run(async {
        let well = Rc::new(Cell::new(200));
        let hangs = Script::new(|_| Say::status(200).after(3_600.0));
        let nodes = [checked(&well, "node1"), hangs];
        let scripts = [("node1", nodes[0].clone()), ("node2", nodes[1].clone())];
        let world = World::scripted(CHECKED, scripts, []);
        pass(120.0).await;
        let times = |of: &Script| -> Vec<f64> { of.asked().iter().map(|own| own.at).collect() };
        let (one, two) = (times(&nodes[0]), times(&nodes[1]));
        assert!(one[0] <= 2.0 && (4.0..=7.0).contains(&two[0]), "{one:?} {two:?}");
        for times in [&one, &two] {
            let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.iter().all(|gap| (8.9..=11.2).contains(gap)), "{gaps:?}");
            assert!(gaps.windows(2).any(|pair| (pair[0] - pair[1]).abs() > 0.001), "jittered: {gaps:?}");
        }
        let label = "sessionbridge_upstream_up{app=\"app\",upstream=\"http://node2:80\"}";
        assert_eq!(world.metric(label), 0.0);
        assert_eq!(pages(&mut world.browser(), 4).await, ["node1"]);
    });
}

type Answers = Arc<Mutex<Option<Vec<&'static str>>>>;

/// Looks every name up in `answers`.
fn lookup(answers: &Answers) -> sessionbridge::net::resolve::Lookup {
    let answers = Arc::clone(answers);
    Arc::new(move |_| {
        let found = answers.lock().unwrap().clone();
        let addresses =
            || -> Option<Vec<IpAddr>> { Some(found?.iter().map(|own| own.parse().unwrap()).collect()) };
        let addresses = addresses().ok_or_else(|| std::io::ErrorKind::NotFound.into());
        Box::pin(async move { addresses })
    })
}

const BY_NAME: &str = "[apps.app]\nupstreams = [\"http://app.internal\"]\n";

#[test]
fn r48_a_name_that_leads_elsewhere_needs_no_restart_and_one_that_fails_keeps_its_address() {
    run(async {
        let answers: Answers = Arc::new(Mutex::new(Some(vec!["10.0.0.1"])));
        let (one, two) = (Script::new(|_| Say::body("one")), Script::new(|_| Say::body("two")));
        let scripts = [("10.0.0.1", one.clone()), ("10.0.0.2", two)];
        let world = World::resolving(BY_NAME, lookup(&answers), scripts);
        let mut browser = world.browser();
        assert_eq!(browser.get("/").await.text(), "one");
        *answers.lock().unwrap() = None;
        for _ in 0..10 {
            pass(20.0).await;
            assert_eq!(browser.get("/").await.text(), "one", "the old address stays");
        }
        *answers.lock().unwrap() = Some(vec!["10.0.0.2"]);
        // A connection that is used again and again would lead there for ever.
        let mut last = String::new();
        for _ in 0..40 {
            pass(1.0).await;
            last = browser.get("/").await.text();
        }
        assert_eq!(last, "two");
        one.down(true);
        assert_eq!(browser.get("/").await.text(), "two");
    });
}

#[test]
fn r48_all_addresses_of_a_name_are_tried_and_new_ones_where_none_is_left() {
    run(async {
        let answers: Answers = Arc::new(Mutex::new(Some(vec!["10.0.0.1", "10.0.0.2"])));
        let nodes = ["one", "two", "three"].map(|name| Script::new(move |_| Say::body(name)));
        let [one, two, three] = nodes.clone();
        let scripts = [("10.0.0.1", one.clone()), ("10.0.0.2", two.clone()), ("10.0.0.3", three)];
        let world = World::resolving(BY_NAME, lookup(&answers), scripts);
        let mut browser = world.browser();
        one.down(true);
        assert_eq!(browser.get("/").await.text(), "two", "the next address takes it");
        one.down(false);
        pass(60.0).await;
        assert_eq!(browser.get("/").await.text(), "two", "and the one that took it stays the first");
        *answers.lock().unwrap() = Some(vec!["10.0.0.3"]);
        one.down(true);
        two.down(true);
        pass(2.0).await;
        assert_eq!(browser.get("/").await.text(), "three", "at once, not when the old ones are stale");
    });
}

#[test]
fn an_app_whose_name_does_not_resolve_at_the_start_keeps_nobody_from_starting() {
    run(async {
        let answers: Answers = Arc::new(Mutex::new(None));
        let toml = format!("{BY_NAME}[apps.other]\npath = \"/other/\"\nupstreams = [\"http://10.0.0.9\"]\n");
        let scripts = [
            ("10.0.0.1", Script::new(|_| Say::body("one"))),
            ("10.0.0.9", Script::new(|_| Say::body("other"))),
        ];
        let world = World::resolving(&toml, lookup(&answers), scripts);
        let mut browser = world.browser();
        let answer = browser.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bridge-error")), (502, Some("dns_failed")));
        assert_eq!(browser.get("/other/").await.text(), "other");
        *answers.lock().unwrap() = Some(vec!["10.0.0.1"]);
        assert_eq!(browser.get("/").await.text(), "one");
    });
}

#[test]
fn what_is_known_of_a_server_outlives_a_reload_and_no_longer_than_it_is_in_the_config() {
    run(async {
        let toml = |upstream: &str, more: &str| {
            format!("[apps.a]\npath = \"/AppA/\"\nupstreams = [\"http://{upstream}\"]\n{more}")
        };
        let [app, _] = pair_apps("servlet");
        let mut reloading = Reloading::new(&toml("gone", ""), [app]);
        let mut browser = reloading.world.browser();
        let mut ends = Vec::new();
        for _ in 0..6 {
            ends.push(browser.get("/AppA/nothing").await.header("x-bridge-error").unwrap().to_owned());
        }
        assert_eq!(ends[4..], ["connect_refused", "circuit_open"]);
        reloading.change(&toml("gone", "[server.timeouts]\nconnect = \"1s\"\n")).await;
        assert_eq!(browser.get("/AppA/").await.header("x-bridge-error"), Some("circuit_open"));
        reloading.change(&toml("appa", "")).await;
        assert_eq!(browser.get("/AppA/index.jsp").await.status, 200, "another server");
        let health = "health = { path = \"/AppA/fail\", every = \"1s\", fall = 2 }\n";
        reloading.change(&toml("appa", health)).await;
        pass(10.0).await;
        assert_eq!(browser.get("/AppA/index.jsp").await.header("x-bridge-error"), Some("no_upstream"));
        reloading.change(&toml("appa", "")).await;
        pass(2.0).await;
        assert_eq!(browser.get("/AppA/index.jsp").await.status, 200, "nobody checks it any more");
    });
}
