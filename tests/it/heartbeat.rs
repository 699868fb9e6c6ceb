use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Method;
use http::request::Parts;
use sessionbridge::demo::sim::Fault;

use super::support::scripted::{Say, Script, script_config, servlet_cookie, simple};
use super::support::{Browser, World, pair_apps, pair_config, pass, run};

/// One scripted app that answers by `answers`, and a browser that has a session there and has come back with its cookie.
async fn scripted(heartbeat: &str, answers: impl FnMut(&Parts) -> Say + 'static) -> (World, Script, Browser) {
    let script = Script::new(answers);
    let world = World::scripted(&script_config(heartbeat, ""), [("app", script.clone())], []);
    let mut browser = world.browser();
    browser.get("/app/").await;
    browser.get("/app/").await;
    (world, script, browser)
}

fn is_ping(parts: &Parts) -> bool {
    parts.uri.path() == "/app/ping"
}

async fn state(browser: &mut Browser, app: &str) -> String {
    browser.get("/.bridge/status").await.json()["apps"][app]["state"].as_str().unwrap().to_owned()
}

#[test]
fn h7_a_heartbeat_looks_like_the_person_and_says_that_it_is_none() {
    run(async {
        let script = Script::new(simple);
        let config = script_config("", "[server]\ntrusted_proxies = [\"127.0.0.0/8\", \"::1\"]");
        let world = World::scripted(&config, [("app", script.clone())], []);
        let mut browser = world.browser();
        let person = [
            ("user-agent", "Mozilla/4.0 (compatible; MSIE 6.0)"),
            ("accept", "text/html,*/*"),
            ("accept-language", "de-CH,de;q=0.7"),
            ("accept-encoding", "gzip, deflate"),
            ("x-forwarded-for", "203.0.113.9"),
            ("cookie", "theme=dark; lang=de"),
            ("x-session-heartbeat", "1"),
        ];
        browser.send(Method::GET, "/app/", &person, Bytes::new()).await;
        let id = format!("bridge={}; theme=dark; lang=de", browser.cookie("bridge").unwrap());
        let mut person = person;
        person[5].1 = &id;
        browser.send(Method::GET, "/app/other", &person, Bytes::new()).await;
        pass(11.0).await;
        let asked = script.asked();
        assert!(!asked[0].heartbeat() && !asked[1].heartbeat(), "no browser can say that it is a heartbeat");
        let (own, beat) = (&asked[1], script.beats().pop().unwrap());
        for name in ["user-agent", "accept", "accept-language", "accept-encoding", "host", "cookie"] {
            assert_eq!(beat.header(name), own.header(name), "{name}");
            assert!(!beat.header(name).is_empty(), "{name}");
        }
        assert_eq!(own.header("cookie"), format!("JSESSIONID={}; theme=dark; lang=de", "A".repeat(32)));
        for name in ["x-forwarded-proto", "x-forwarded-host"] {
            assert_eq!(beat.header(name), own.header(name), "{name}");
        }
        assert!(own.header("x-forwarded-for").starts_with("203.0.113.9"));
        assert_eq!(beat.header("x-forwarded-for"), "203.0.113.9");
        assert_eq!(beat.header("x-session-heartbeat"), "1");
        assert_eq!(beat.path, "/app/ping");
    });
}

#[test]
fn during_a_hold_no_heartbeat_goes_out_and_no_session_is_ended_and_then_they_go_on() {
    run(async {
        let script = Script::new(|parts: &Parts| {
            let says = simple(parts);
            if is_ping(parts) { says.after(0.5) } else { says }
        });
        let config = script_config("", "[bridge]\nidle_timeout = \"60s\"");
        let world = World::scripted(&config, [("app", script.clone())], []);
        let mut browser = world.browser();
        browser.get("/app/").await;
        browser.get("/app/").await;
        while script.beats().is_empty() {
            pass(0.1).await;
        }
        // One is on its way: a hold waits for its answer.
        world.drainer.hold();
        world.drainer.closed().await;
        assert!(world.drainer.quiet().now_or_never().is_none());
        world.drainer.quiet().await;
        pass(100.0).await;
        assert_eq!((script.beats().len(), world.bridges()), (1, (1, 0)), "nothing is sent, nothing is ended");
        world.drainer.resume();
        pass(1.0).await;
        assert_eq!((script.beats().len(), world.bridges()), (1, (0, 0)), "its time was over long ago");
        let mut browser = world.browser();
        browser.get("/app/").await;
        browser.get("/app/").await;
        pass(20.0).await;
        assert!(script.beats().len() > 1, "they go on");
    });
}

#[test]
fn s3_15_no_cache_answers_a_heartbeat_or_keeps_the_pixel() {
    run(async {
        let (_world, script, mut browser) = scripted("", simple).await;
        pass(11.0).await;
        let beat = script.beats().pop().unwrap();
        assert_eq!((beat.header("cache-control"), beat.header("pragma")), ("no-cache", "no-cache"));
        let pixel = browser.get("/.bridge/beat.gif").await;
        assert_eq!(pixel.header("cache-control"), Some("no-store"));
        assert_eq!(pixel.header("content-type"), Some("image/gif"));
    });
}

#[test]
fn s3_17_the_body_of_a_heartbeat_is_left_where_it_is() {
    run(async {
        for config in
            ["", "heartbeat.alive = { contains = \"x\" }", "heartbeat.canary = { regex = \"never\" }"]
        {
            let (world, script, _browser) = scripted(config, |parts| {
                let big = Say::body(vec![b'x'; 16 * 1024]).times(3200);
                if is_ping(parts) { big } else { simple(parts) }
            })
            .await;
            pass(11.0).await;
            assert_eq!(world.verdicts("app", "alive"), 1.0, "{config}");
            let before = script.chunks_taken();
            assert!(before < 64, "{before} chunks of 3200 taken: {config}");
            pass(100.0).await;
            assert!(script.beats().len() >= 10 && script.chunks_taken() < 64 * 12, "{config}");
        }
    });
}

/// An empty session under the old id: only the canary shows it.
#[test]
fn f3_reborn_on_engines_that_adopt_any_id() {
    for profile in ["lucee", "acf-legacy", "openbd", "lucee-j2ee", "php-lock"] {
        run(async {
            let world = World::pair(profile, "");
            let page = super::support::extension(profile);
            let mut browser = world.browser();
            browser.get(&format!("/AppA/index{page}")).await;
            browser.get(&format!("/AppB/index{page}")).await;
            pass(8.0).await;
            assert_eq!(state(&mut browser, "appA").await, "live", "{profile}");
            let lost = world.app("AppA").with(|sim| {
                let label = sim.sessions()[0].label.clone();
                sim.kill_session(&label)
            });
            assert!(lost, "{profile}");
            pass(8.0).await;
            assert_eq!(state(&mut browser, "appA").await, "reborn", "{profile}");
            let after = world.beats("AppA").len();
            pass(60.0).await;
            assert_eq!(world.beats("AppA").len(), after, "{profile}: no more until the person is back");
            browser.get(&format!("/AppA/index{page}")).await;
            pass(30.0).await;
            assert_eq!(state(&mut browser, "appA").await, "live", "{profile}");
            assert!(world.beats("AppA").len() > after + 3, "{profile}");
        });
    }
}

/// A new id.
#[test]
fn f3_replaced_on_engines_that_give_another_id() {
    for profile in ["acf-strict", "acf-j2ee", "servlet", "express", "aspnet-mono"] {
        run(async {
            let world = World::pair(profile, "");
            let page = super::support::extension(profile);
            let mut browser = world.browser();
            browser.get(&format!("/AppA/index{page}")).await;
            browser.get(&format!("/AppB/index{page}")).await;
            pass(8.0).await;
            world.app("AppA").with(|sim| sim.restart());
            pass(8.0).await;
            assert_eq!(state(&mut browser, "appA").await, "replaced", "{profile}");
            let after = world.beats("AppA").len();
            pass(60.0).await;
            assert_eq!(world.beats("AppA").len(), after, "{profile}");
            assert_eq!(state(&mut browser, "appB").await, "live", "{profile}: nobody else is touched");
        });
    }
}

/// A sign-in page.
#[test]
fn f3_signed_out_where_the_page_leads_to_the_sign_in() {
    run(async {
        let toml = pair_config("php-lock", "").replace("/AppA/ping.php", "/AppA/private.php");
        let world = World::new(&toml, pair_apps("php-lock"));
        let mut browser = world.browser();
        browser.post("/AppA/login.php", "user=anna&password=x").await;
        browser.get("/AppB/index.php").await;
        pass(8.0).await;
        assert_eq!(state(&mut browser, "appA").await, "live");
        world.app("AppA").with(|sim| sim.restart());
        pass(8.0).await;
        assert_eq!(state(&mut browser, "appA").await, "signed_out");
    });
}

/// No answer that says anything, and the session is as it was when the app answers again.
#[test]
fn f3_unreachable_and_alive_again() {
    run(async {
        let world = World::pair("acf-strict", "");
        let mut browser = world.browser();
        let first = browser.get("/AppA/index.cfm").await;
        browser.get("/AppB/index.cfm").await;
        world.app("AppA").with(|sim| sim.set_fault("ping", Fault::Hang));
        pass(9.0).await;
        assert_eq!(state(&mut browser, "appA").await, "unreachable");
        world.app("AppA").with(|sim| sim.clear_faults());
        assert_eq!(browser.get("/AppA/index.cfm").await.started(), first.started());
        pass(9.0).await;
        assert_eq!(state(&mut browser, "appA").await, "live");
    });
}

/// What an answer to a heartbeat is like, how it is given, what it means.
type Row = (&'static str, fn() -> Say, &'static str);

fn rows() -> [Row; 20] {
    [
        ("nothing special", || Say::body("ok"), "alive"),
        ("the same value again", || Say::body("ok").with("set-cookie", servlet_cookie('A')), "alive"),
        ("a new id", || Say::body("ok").with("set-cookie", servlet_cookie('B')), "replaced"),
        (
            "a deletion",
            || Say::body("").with("set-cookie", "JSESSIONID=; Path=/app; Max-Age=0"),
            "signed_out",
        ),
        ("a redirect to the sign-in page", || Say::status(302).with("location", "/app/login"), "signed_out"),
        ("a redirect elsewhere", || Say::status(307).with("location", "/app/x"), "signed_out"),
        ("a redirect to another host", || Say::status(302).with("location", "http://secret/x"), "signed_out"),
        ("401", || Say::status(401), "signed_out"),
        ("403", || Say::status(403), "signed_out"),
        ("500", || Say::status(500), "unreachable"),
        ("503 with a new id", || Say::status(503).with("set-cookie", servlet_cookie('B')), "unreachable"),
        ("404", || Say::status(404), "unreachable"),
        ("405", || Say::status(405), "unreachable"),
        ("408", || Say::status(408), "unreachable"),
        ("410", || Say::status(410), "unreachable"),
        ("425", || Say::status(425), "unreachable"),
        ("429", || Say::status(429), "unreachable"),
        ("no answer", || Say::body("ok").after(3600.0), "unreachable"),
        ("10 MB", || Say::body(vec![b'x'; 1 << 16]).times(160), "alive"),
        (
            "a bomb of cookies",
            || {
                (0..90).fold(Say::body("ok"), |say, n| {
                    say.with("set-cookie", format!("c{n}={}; HttpOnly", "v".repeat(300)))
                })
            },
            "alive",
        ),
    ]
}

#[test]
fn r28_what_the_answers_of_a_heartbeat_mean() {
    for (name, say, verdict) in rows() {
        run(async {
            let script = Script::new(move |parts| if is_ping(parts) { say() } else { simple(parts) });
            let secret = Script::new(simple);
            let config = script_config("", "");
            let world = World::scripted(&config, [("app", script.clone()), ("secret", secret.clone())], []);
            let mut browser = world.browser();
            browser.get("/app/").await;
            browser.get("/app/").await;
            pass(16.0).await;
            let (told, beats) = (world.verdicts("app", verdict), script.beats().len());
            let more = if verdict == "unreachable" { 2 } else { 1 };
            assert!(told >= 1.0 && (1..=more).contains(&beats), "{name}: {told} of {beats}");
            assert!(secret.asked().is_empty(), "{name}: redirects are not followed");
            let told = state(&mut browser, "app").await;
            assert_eq!(told, if verdict == "alive" { "live" } else { verdict }, "{name}");
            pass(30.0).await;
            let goes_on = matches!(verdict, "alive" | "unreachable");
            assert_eq!(script.beats().len() > 1, goes_on, "{name}");
            browser.get("/app/").await;
            let line = script.asked().last().unwrap().header("cookie").to_owned();
            assert!(line.len() < 33 * 1024, "{name}");
            match name {
                // What the answer set is taken, whatever it proves.
                "a new id" | "503 with a new id" => {
                    assert!(line.starts_with("JSESSIONID=BBBB"), "what it set has taken the old one's place")
                }
                "a deletion" => assert!(!line.contains("JSESSIONID")),
                _ => assert!(line.contains("JSESSIONID=AAAA"), "{name}: {line}"),
            }
        });
    }
}

/// What a 5xx sets must not be lost either: the answer set decides what the app is sent, whatever the verdict.
#[test]
fn cookies_in_a_heartbeats_answer_are_taken_unless_something_has_changed_meanwhile() {
    run(async {
        // Nothing has changed: taken, and a cookie that passes waits for the person's next answer.
        let (_world, script, mut browser) = scripted("", |parts| match parts.uri.path() {
            "/app/ping" => Say::body("ok")
                .with("set-cookie", servlet_cookie('B'))
                .with("set-cookie", "seen=1; Path=/app"),
            _ => simple(parts),
        })
        .await;
        pass(11.0).await;
        assert_eq!(browser.cookie("seen"), None);
        browser.get("/.bridge/status").await;
        let answer = browser.get("/app/").await;
        assert!(
            answer.set_cookies().iter().any(|field| field.starts_with("seen=1")),
            "{:?}",
            answer.set_cookies()
        );
        assert!(script.asked().last().unwrap().header("cookie").contains("BBBB"));
    });
    run(async {
        // While the heartbeat is on its way the person signs in and gets another id: the heartbeat's is dropped.
        let (_world, script, mut browser) = scripted("", |parts| match parts.uri.path() {
            "/app/ping" => Say::body("ok").with("set-cookie", servlet_cookie('B')).after(3.0),
            "/app/login" => Say::body("ok").with("set-cookie", servlet_cookie('C')),
            _ => simple(parts),
        })
        .await;
        pass(11.0).await;
        assert_eq!(script.beats().len(), 1, "on its way");
        browser.post("/app/login", "user=anna").await;
        pass(4.0).await;
        browser.get("/app/").await;
        assert!(script.asked().last().unwrap().header("cookie").contains("CCCC"));
    });
}

/// The same after a sign-out that leaves a fresh session of the same app: the old heartbeat's answer is not the fresh one's.
#[test]
fn h5_a_heartbeats_answer_never_reaches_the_session_that_came_after_its_own() {
    run(async {
        let (_world, script, mut browser) =
            scripted("sign_out.mode = \"alone\"", |parts| match parts.uri.path() {
                "/app/ping" => Say::body("ok").with("set-cookie", servlet_cookie('B')).after(3.0),
                "/app/logout" => {
                    Say::status(302).with("set-cookie", servlet_cookie('C')).with("location", "/app/")
                }
                _ => simple(parts),
            })
            .await;
        pass(11.0).await;
        assert_eq!(script.beats().len(), 1, "on its way");
        browser.get("/app/logout").await;
        pass(4.0).await;
        browser.get("/app/").await;
        let line = script.asked().last().unwrap().header("cookie").to_owned();
        assert!(line.contains("CCCC"), "the fresh session's own id, not {line}");
    });
}

/// Whoever lingers at a sign-in page comes back: an answer of the app re-arms what a heartbeat had found dead.
#[test]
fn a_person_who_lingers_at_the_sign_in_page_comes_back() {
    run(async {
        let signed_in = Rc::new(Cell::new(true));
        let now = Rc::clone(&signed_in);
        let (_world, script, mut browser) =
            scripted("heartbeat.canary = { header = \"X-Who\" }", move |parts| {
                match (parts.uri.path(), now.get()) {
                    ("/app/ping", true) => Say::body("ok").with("x-who", "anna"),
                    ("/app/ping", false) => Say::status(302).with("location", "/app/login"),
                    ("/app/down", _) => Say::status(500),
                    _ => simple(parts),
                }
            })
            .await;
        pass(11.0).await;
        signed_in.set(false);
        pass(25.0).await;
        assert_eq!(state(&mut browser, "app").await, "signed_out");
        let dead = script.beats().len();
        browser.get("/app/down").await;
        pass(60.0).await;
        assert_eq!(script.beats().len(), dead, "an answer of 500 re-arms nothing");
        signed_in.set(true);
        browser.get("/app/login").await;
        pass(60.0).await;
        assert!(script.beats().len() >= dead + 4);
        assert_eq!(state(&mut browser, "app").await, "live");
    });
}

#[test]
fn asking_for_more_time_asks_no_session_that_is_dead() {
    run(async {
        let (_world, script, mut browser) = scripted("", |parts| match parts.uri.path() {
            "/app/ping" => {
                let old = parts.headers["cookie"].to_str().unwrap().contains("AAAA");
                if old { Say::body("").with("set-cookie", servlet_cookie('B')) } else { Say::body("ok") }
            }
            _ => simple(parts),
        })
        .await;
        pass(12.0).await;
        assert_eq!(state(&mut browser, "app").await, "replaced");
        let told = browser.own_post("/.bridge/extend").await.json();
        assert_eq!(
            told["apps"]["app"]["state"], "replaced",
            "her session is gone, whatever lives under the new id"
        );
        assert_eq!(script.beats().len(), 1);
    });
}

#[test]
fn f13_more_time_moves_all_clocks_and_tells_each_apps_result() {
    run(async {
        let world = World::pair("acf-strict", "[bridge]\nidle_timeout = \"60s\"");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        browser.get("/AppB/index.cfm").await;
        pass(40.0).await;
        let before = browser.get("/.bridge/status").await.json();
        let told = browser.own_post("/.bridge/extend").await.json();
        for app in ["appA", "appB"] {
            assert_eq!(
                (&told["apps"][app]["result"], &told["apps"][app]["state"]),
                (&"alive".into(), &"live".into())
            );
            assert!(told["apps"][app]["expires_at"].as_str() >= before["apps"][app]["expires_at"].as_str());
        }
        assert!(told["expires_at"].as_str() > before["expires_at"].as_str());
        let last = world.beats("AppB").pop().unwrap();
        assert_eq!(last.at, world.app("AppB").now(), "the app's own clock as well, at once");
        pass(59.0).await;
        assert_eq!(browser.get("/.bridge/status").await.json()["state"], "active");
        pass(2.0).await;
        assert_eq!(browser.get("/.bridge/status").await.json()["state"], "none");
    });
}

#[test]
fn f19_on_engines_that_lock_a_heartbeat_never_delays_a_person() {
    run(async {
        let world = World::pair("php-lock", "[heartbeat]\njitter = \"0%\"\n");
        let mut browser = world.browser();
        browser.get("/AppA/index.php").await;
        browser.get("/AppB/index.php").await;
        // Pages that follow each other while each takes a while: none waits behind a heartbeat.
        for _ in 0..20 {
            let began = world.app("AppA").now();
            browser.get("/AppA/slow.php?ms=4000").await;
            assert_eq!(world.app("AppA").now() - began, 4000);
        }
        assert!(world.beats("AppA").len() <= 1, "{:?}", world.beats("AppA"));
        // One that takes longer than half the timeout lets a heartbeat through to the line, behind it.
        let before = world.beats("AppA").len();
        browser.get("/AppA/slow.php?ms=4900").await;
        assert_eq!(world.beats("AppA").len(), before);
    });
}

#[test]
fn heartbeats_wait_while_the_person_is_served_for_half_the_timeout_at_most() {
    for (stays, waits) in [(14.0, true), (29.0, false)] {
        run(async {
            let (_world, script, mut browser) = scripted("", move |parts| match parts.uri.path() {
                "/app/report" => simple(parts).after(stays),
                _ => simple(parts),
            })
            .await;
            let began = script.asked().last().unwrap().at;
            browser.get("/app/report").await;
            let beats = script.beats();
            assert_eq!(beats.is_empty(), waits, "{stays} s");
            if let Some(first) = beats.first() {
                assert!((15.0..17.0).contains(&(first.at - began)), "half of 30 s: {}", first.at - began);
            }
            pass(11.5).await;
            assert!(script.beats().len() > beats.len(), "{stays} s, and then again");
        });
    }
}

#[test]
fn an_event_stream_holds_no_heartbeat_back() {
    run(async {
        let world = World::pair("acf-strict", "");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        browser.get("/AppB/index.cfm").await;
        let mut open = browser.event_stream("/AppA/sse.cfm").await;
        let mut socket = browser.web_socket("/AppA/ws.cfm").await;
        socket.say("hello").await;
        assert_eq!(socket.frame().await, (1, b"hello".to_vec()));
        open.listen(9.0).await;
        assert!(!world.beats("AppA").is_empty(), "{:?}", world.seen("AppA"));
    });
}

/// A page that does not touch the session postpones heartbeats, but not until the session is dead; nor does an engine that
/// renews only in the second half of its sessions' lives.
#[test]
fn traffic_that_renews_nothing_does_not_lull_the_bridge() {
    for profile in ["acf-strict", "lucee", "servlet", "php-lock"] {
        run(async {
            let world = World::pair(profile, "");
            let page = super::support::extension(profile);
            let mut browser = world.browser();
            let first = browser.get(&format!("/AppA/index{page}")).await;
            for _ in 0..60 {
                pass(1.0).await;
                assert_eq!(browser.get("/AppA/static.css").await.status, 200);
            }
            let back = browser.get(&format!("/AppA/index{page}")).await;
            assert_eq!(back.started(), first.started(), "{profile}");
        });
    }
    run(async {
        let mut apps = pair_apps("php-lock");
        apps[0].renew_late = true;
        let world = World::new(&pair_config("php-lock", ""), apps);
        let mut browser = world.browser();
        let first = browser.get("/AppA/index.php").await;
        browser.get("/AppB/index.php").await;
        pass(100.0).await;
        assert_eq!(browser.get("/AppA/index.php").await.started(), first.started());
    });
}

#[test]
fn h9_only_sessions_whose_cookie_came_back_are_kept_alive_and_not_in_step() {
    run(async {
        let script = Script::new(simple);
        let config = script_config("", "").replace("heartbeat.jitter = \"0%\"", "")
            + "[server.limits]\nnew_sessions = { rate = \"10000/s\", burst = 10000, per = \"client-ip\" }";
        let world = World::scripted(&config, [("app", script.clone())], []);
        let mut browser = world.browser();
        browser.get("/app/").await;
        pass(25.0).await;
        assert!(script.beats().is_empty(), "nobody has come back");
        let mut browsers = Vec::new();
        for _ in 0..200 {
            let mut browser = world.browser();
            browser.get("/app/").await;
            browser.get("/app/").await;
            browsers.push(browser);
        }
        let began = script.asked().last().unwrap().at;
        pass(60.0).await;
        let beats: Vec<f64> = script.beats().iter().map(|beat| beat.at - began).collect();
        let first = &beats[..200];
        assert!(first.iter().all(|at| (8.0..12.1).contains(at)), "10 s, 20 % either way: {first:?}");
        let in_second = |second: f64| first.iter().filter(|at| (second..second + 1.0).contains(*at)).count();
        for second in [8.0, 9.0, 10.0, 11.0] {
            assert!((20..=100).contains(&in_second(second)), "{} in second {second}", in_second(second));
        }
        assert_eq!(world.verdicts("app", "alive") as usize, beats.len());
    });
}

/// So many people at one app, all with a session.
pub(crate) async fn people(many: usize, heartbeat: &str, script: &Script) -> (World, Vec<Browser>) {
    let config = script_config(heartbeat, "")
        + "[server.limits]\nnew_sessions = { rate = \"10000/s\", burst = 10000, per = \"client-ip\" }";
    let world = World::scripted(&config, [("app", script.clone())], []);
    let mut browsers = Vec::new();
    for _ in 0..many {
        let mut browser = world.browser();
        browser.get("/app/").await;
        browser.get("/app/").await;
        browsers.push(browser);
    }
    (world, browsers)
}

#[test]
fn an_app_is_never_pressed_by_more_heartbeats_at_a_time_than_the_config_says() {
    run(async {
        let script =
            Script::new(|parts| if is_ping(parts) { simple(parts).after(0.4) } else { simple(parts) });
        let (world, _browsers) = people(40, "heartbeat.max_in_flight = 3", &script).await;
        pass(60.0).await;
        assert_eq!(script.most_open(), 3);
        assert!(world.verdicts("app", "alive") >= 160.0, "all of them got their turn");
    });
    run(async {
        let script = Script::new(simple);
        let (world, _browsers) = people(40, "heartbeat.max_rate = \"5/s\"", &script).await;
        pass(60.0).await;
        let mut seconds = std::collections::BTreeMap::new();
        for beat in script.beats() {
            *seconds.entry(beat.at as u64).or_insert(0) += 1;
        }
        assert_eq!(seconds.values().max(), Some(&5), "{seconds:?}");
        assert!(world.verdicts("app", "alive") >= 160.0);
    });
}

#[test]
fn an_app_that_is_down_is_asked_ever_less_and_not_stormed_when_it_is_back() {
    run(async {
        let script = Script::new(simple);
        let (world, mut browsers) = people(100, "heartbeat.max_in_flight = 8", &script).await;
        pass(20.0).await;
        script.down(true);
        pass(300.0).await;
        let refused = script.refused();
        assert!(refused < 100, "{refused} tries in 300 s; 100 people every 10 s would be 3000");
        assert!(refused > 10, "it is tried all the same");
        let mut states = Vec::new();
        for browser in &mut browsers {
            states.push(state(browser, "app").await);
        }
        assert!(
            states.iter().all(|state| state != "live") && states.iter().any(|state| state == "unreachable")
        );
        let before = script.beats().len();
        script.down(false);
        script.now(|parts| if is_ping(parts) { simple(parts).after(0.2) } else { simple(parts) });
        pass(60.0).await;
        assert!(script.most_open() <= 8);
        assert!(script.beats().len() - before >= 300, "everybody is kept alive again");
        for browser in &mut browsers {
            assert_eq!(state(browser, "app").await, "live");
        }
        assert_eq!(world.core.registry().counts().bound, 100, "nobody was signed out by it");
    });
}

/// `unreachable` never ends a session: an app that was away for a moment finds its people where they were.
#[test]
fn an_app_that_fails_for_a_moment_loses_nobody() {
    run(async {
        let world = World::pair("acf-strict", "");
        let mut browser = world.browser();
        let first = browser.get("/AppA/index.cfm").await;
        browser.get("/AppB/index.cfm").await;
        for _ in 0..10 {
            world
                .app("AppA")
                .with(|sim| sim.set_fault("*", Fault::Status(http::StatusCode::SERVICE_UNAVAILABLE)));
            pass(4.0).await;
            world.app("AppA").with(|sim| sim.clear_faults());
            pass(8.0).await;
        }
        assert_eq!(browser.get("/AppA/index.cfm").await.started(), first.started());
        assert!(world.verdicts("appA", "unreachable") >= 5.0);
    });
}

/// `heartbeat.limit`: this long after the last activity in the app itself it is left to time out, alone; also where the
/// person asked for one page of it only.
#[test]
fn h4_an_app_may_end_its_own_sessions_sooner() {
    run(async {
        let toml = pair_config("acf-strict", "").replacen(
            "[apps.appA]",
            "[apps.appA]\nheartbeat.limit = \"60s\"",
            1,
        );
        let world = World::new(&toml, pair_apps("acf-strict"));
        let mut browser = world.browser();
        browser.get("/AppB/index.cfm").await;
        browser.get("/AppB/index.cfm").await;
        let first = browser.get("/AppA/index.cfm").await;
        let began = world.app("AppA").now();
        for _ in 0..11 {
            pass(5.0).await;
            browser.get("/AppB/index.cfm").await;
        }
        assert!(!world.beats("AppA").is_empty(), "one page is enough to be kept alive");
        assert_eq!(world.app("AppA").with(|sim| sim.sessions()[0].started), first.started());
        for _ in 0..20 {
            pass(5.0).await;
            browser.get("/AppB/index.cfm").await;
        }
        let last = world.beats("AppA").pop().unwrap().at;
        assert!((55_000..=60_000).contains(&(last - began)), "the last one at {} ms", last - began);
        assert_ne!(browser.get("/AppA/index.cfm").await.started(), first.started());
        assert_eq!(state(&mut browser, "appB").await, "live");
    });
}

/// The end comes while a heartbeat is on its way: its token is not sent again, and what it brings is lost.
#[test]
fn r26_a_sign_out_while_a_heartbeat_is_on_its_way() {
    for delay in [0.1, 1.0, 1.9, 4.0] {
        run(async {
            let (world, script, mut browser) =
                scripted("sign_out.request = \"GET /app/logout\"", move |parts| match parts.uri.path() {
                    "/app/ping" => Say::body("ok").with("set-cookie", servlet_cookie('B')).after(delay),
                    _ => simple(parts),
                })
                .await;
            pass(10.05).await;
            assert_eq!(script.beats().len(), 1, "on its way");
            let answer = browser.own_post("/.bridge/logout").await;
            assert_eq!(answer.status, 303);
            let acknowledged = script.asked().len();
            pass(600.0).await;
            let after: Vec<_> = script.asked().drain(acknowledged..).collect();
            assert!(after.is_empty(), "{after:?}");
            assert_eq!(world.core.registry().counts().bound, 0);
            assert_eq!(browser.get("/.bridge/status").await.json()["state"], "none");
            browser.get("/app/").await;
            let line = script.asked().last().unwrap().header("cookie").to_owned();
            assert!(!line.contains("AAAA") && !line.contains("BBBB"), "{line}");
        });
    }
}

#[test]
fn r27_a_sign_out_while_a_request_is_on_its_way_that_sets_a_cookie() {
    run(async {
        let (world, script, mut browser) = scripted("", |parts| match parts.uri.path() {
            "/app/slow" => Say::body("ok")
                .with("set-cookie", servlet_cookie('D'))
                .with("set-cookie", "late=1")
                .after(2.0),
            _ => simple(parts),
        })
        .await;
        let mut other = browser.clone();
        let late = tokio::task::spawn_local(async move { other.get("/app/slow").await });
        pass(0.5).await;
        browser.own_post("/.bridge/logout").await;
        let late = late.await.unwrap();
        assert_eq!(
            late.set_cookies().iter().filter(|field| !field.starts_with("bridge=;")).count(),
            0,
            "{:?}",
            late.set_cookies()
        );
        let counts = world.core.registry().counts();
        assert_eq!((counts.bound, counts.pending), (0, 0), "nothing is made anew");
        browser.get("/app/").await;
        assert!(!script.asked().last().unwrap().header("cookie").contains("DDDD"));
    });
}

/// Values that an app's heartbeat answer shows may be coded as the person's browser asks for.
#[test]
fn a_canary_is_read_from_headers_json_and_text() {
    let kinds = [
        ("{ header = \"X-Started\" }", "x-started", ""),
        ("{ json = \"user.started\" }", "x-none", "{\"user\":{\"started\":@}}"),
        ("{ regex = \"since (\\\\d+)\" }", "x-none", "<p>since @</p>"),
    ];
    for (config, header, body) in kinds {
        run(async {
            let started = Rc::new(RefCell::new("1001".to_owned()));
            let now = Rc::clone(&started);
            let (_world, _script, mut browser) =
                scripted(&format!("heartbeat.canary = {config}"), move |parts| {
                    let started = now.borrow().clone();
                    let say = Say::body(body.replace('@', &started)).with(header, started);
                    if is_ping(parts) { say } else { simple(parts) }
                })
                .await;
            pass(25.0).await;
            assert_eq!(state(&mut browser, "app").await, "live", "{config}");
            started.replace("1002".to_owned());
            pass(11.0).await;
            assert_eq!(state(&mut browser, "app").await, "reborn", "{config}");
        });
    }
}
