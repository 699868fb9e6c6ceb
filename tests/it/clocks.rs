use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::support::scripted::{Script, script_config, simple};
use super::support::{Browser, World, pair_apps, pair_config, pass, run};

/// AppA and AppB of one engine, with these clocks; a browser that has a session in both.
async fn both(clocks: &str) -> (World, Browser) {
    let world = World::pair("acf-strict", &format!("[bridge]\n{clocks}"));
    let mut browser = world.browser();
    browser.get("/AppA/index.cfm").await;
    browser.get("/AppB/index.cfm").await;
    (world, browser)
}

async fn status(browser: &mut Browser) -> Value {
    browser.get("/.bridge/status").await.json()
}

async fn is_active(browser: &mut Browser) -> bool {
    status(browser).await["state"] == "active"
}

/// The bridge sessions that have ended, by reason.
fn ends(world: &World, reason: &str) -> f64 {
    world.metric(&format!("sessionbridge_session_ends_total{{reason=\"{reason}\"}}"))
}

/// Milliseconds since 1970 of an app's sign-out, and how many there were.
fn signed_out(world: &World, app: &str) -> Vec<(u64, String)> {
    let seen = world.seen(app).into_iter().filter(|seen| seen.page.as_deref() == Some("logout"));
    seen.map(|seen| (seen.at, format!("{:?}", seen.headers.get("cookie")))).collect()
}

/// One page of a page's own requests, as a script of today's browsers makes them.
async fn fetched(browser: &mut Browser, target: &str) -> u16 {
    let headers =
        [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    browser.send(Method::GET, target, &headers, Bytes::new()).await.status.as_u16()
}

#[test]
fn f2_idle_ends_all_to_the_second_and_signs_the_apps_out() {
    run(async {
        let (world, mut browser) = both("idle_timeout = \"90s\"\nmax_lifetime = \"10m\"").await;
        pass(50.0).await;
        browser.get("/AppB/index.cfm").await;
        let last = world.app("AppB").now();
        let pair = format!("{:?}", world.beats("AppA").last().unwrap().headers.get("cookie"));
        pass(89.0).await;
        assert!(is_active(&mut browser).await, "a second before");
        assert!(signed_out(&world, "AppA").is_empty());
        pass(2.0).await;
        assert_eq!(ends(&world, "idle"), 1.0, "a second after, with nobody asking");
        for app in ["AppA", "AppB"] {
            let out = signed_out(&world, app);
            assert_eq!(out.len(), 1, "{app}");
            assert!((90_000..=91_000).contains(&(out[0].0 - last)), "{app}: {} ms after", out[0].0 - last);
        }
        assert_eq!(signed_out(&world, "AppA")[0].1, pair, "with the vault's cookies");
        assert!(!is_active(&mut browser).await);
        assert_eq!(browser.cookie("bridge"), None, "and the cookie that opens nothing is taken away");
        let beats = world.beats("AppA").len();
        pass(120.0).await;
        assert_eq!(world.beats("AppA").len(), beats);
        let now = world.app("AppA").now();
        assert_eq!(world.app("AppA").with(|sim| sim.live_sessions(now)), 0);
    });
}

#[test]
fn f2_the_hard_end_comes_to_the_second_whatever_anybody_does() {
    run(async {
        let (world, mut browser) = both("idle_timeout = \"60s\"\nmax_lifetime = \"5m\"").await;
        let begun = world.app("AppA").now();
        let mut socket = browser.web_socket("/AppB/ws.cfm").await;
        for _ in 0..59 {
            pass(5.0).await;
            browser.get("/AppB/index.cfm").await;
            browser.get("/.bridge/beat.gif").await;
            browser.own_post("/.bridge/extend").await;
        }
        pass(4.0).await;
        assert!(is_active(&mut browser).await, "at 299 s");
        pass(2.0).await;
        assert_eq!(ends(&world, "max_lifetime"), 1.0);
        assert!(!is_active(&mut browser).await);
        let out = signed_out(&world, "AppA");
        assert!((300_000..=301_000).contains(&(out[0].0 - begun)), "{}", out[0].0 - begun);
        assert!(socket.rest(2.0).await.is_some(), "closed");
    });
}

#[test]
fn f2_presence_carries_on_to_its_limit_and_not_a_second_further() {
    run(async {
        let clocks =
            "idle_timeout = \"30s\"\npresence_ttl = \"10s\"\npresence_limit = \"2m\"\nmax_lifetime = \"1h\"";
        let (world, mut browser) = both(clocks).await;
        let last = world.app("AppB").now();
        for _ in 0..23 {
            pass(5.0).await;
            browser.get("/.bridge/beat.gif").await;
            assert!(is_active(&mut browser).await);
        }
        assert!(!world.beats("AppA").is_empty());
        pass(4.0).await;
        assert!(is_active(&mut browser).await, "at 119 s");
        pass(2.0).await;
        assert_eq!(ends(&world, "idle"), 1.0);
        let out = signed_out(&world, "AppA")[0].0;
        assert!((120_000..=121_000).contains(&(out - last)), "{}", out - last);
    });
}

#[test]
fn f2_presence_that_stops_ends_it_one_presence_ttl_later() {
    run(async {
        let clocks = "idle_timeout = \"30s\"\npresence_ttl = \"10s\"\npresence_limit = \"1h\"";
        let (world, mut browser) = both(clocks).await;
        for _ in 0..12 {
            pass(5.0).await;
            browser.get("/.bridge/beat.gif").await;
        }
        pass(9.0).await;
        assert!(is_active(&mut browser).await);
        pass(2.0).await;
        assert_eq!(ends(&world, "idle"), 1.0);
    });
    run(async {
        let clocks = "idle_timeout = \"30s\"\npresence_ttl = \"10s\"\npresence_limit = \"off\"";
        let (world, mut browser) = both(clocks).await;
        let _socket = browser.web_socket("/AppB/ws.cfm").await;
        for _ in 0..6 {
            pass(5.0).await;
            browser.get("/.bridge/beat.gif").await;
        }
        pass(1.0).await;
        assert_eq!(ends(&world, "idle"), 1.0, "off means that it counts for nothing");
    });
}

#[test]
fn f2_a_page_that_polls_is_no_person() {
    let rule = "[[rules]]\nmatch = \"GET /AppB/index.cfm?poll*\"\nactivity = \"ignore\"\n";
    // What each kind of page asks for every five seconds, and whether that is a person.
    for (target, by_script, person) in [
        ("/AppB/index.cfm?poll=1", false, false),
        ("/AppB/index.cfm?page=1", false, true),
        ("/AppB/index.cfm?page=1", true, true),
        ("/AppA/ping.cfm", true, false),
        ("/AppB/ping.cfm?x=1", true, false),
        ("/.bridge/status", false, false),
        ("/.bridge/beat.gif", true, false),
    ] {
        run(async {
            let more = format!("[bridge]\nidle_timeout = \"60s\"\npresence_limit = \"off\"\n{rule}");
            let world = World::pair("acf-strict", &more);
            let mut browser = world.browser();
            browser.get("/AppA/index.cfm").await;
            browser.get("/AppB/index.cfm").await;
            for _ in 0..13 {
                pass(5.0).await;
                if by_script {
                    fetched(&mut browser, target).await;
                } else {
                    browser.get(target).await;
                }
            }
            assert_eq!(ends(&world, "idle") == 0.0, person, "{target}");
        });
    }
}

#[test]
fn f13_reading_the_clock_a_hundred_times_moves_nothing() {
    run(async {
        let (world, mut browser) = both("idle_timeout = \"5m\"").await;
        pass(20.0).await;
        let first = status(&mut browser).await;
        let asked = (world.seen("AppA").len(), world.seen("AppB").len());
        for _ in 0..100 {
            let again = status(&mut browser).await;
            assert_eq!(
                (&again["expires_at"], &again["hard_end"]),
                (&first["expires_at"], &first["hard_end"])
            );
            assert_eq!(again["apps"]["appB"], first["apps"]["appB"]);
        }
        assert_eq!((world.seen("AppA").len(), world.seen("AppB").len()), asked, "no app hears of it");
        assert_eq!(first["state"], "active");
        assert_eq!(first["apps"]["appA"]["state"], "live");
        let at = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
        assert_eq!(at(&first["expires_at"]) - at(&first["now"]), 280_000);
        assert_eq!(at(&first["hard_end"]) - at(&first["now"]), 12 * 3_600_000 - 20_000);
        assert!(first["now"].as_str().unwrap().ends_with("20.000Z"), "{}", first["now"]);
        pass(281.0).await;
        assert!(!is_active(&mut browser).await, "the reading itself was no activity");
    });
}

#[test]
fn h1_r29_with_the_person_gone_heartbeats_stop_and_the_apps_forget() {
    run(async {
        // Without a sign-out request, so that the app's session dies of its own clock.
        let toml =
            pair_config("acf-strict", "[bridge]\nidle_timeout = \"2m\"").replace("sign_out.request", "# ");
        let world = World::new(&toml, pair_apps("acf-strict"));
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        browser.get("/AppB/index.cfm").await;
        let gone = world.app("AppA").now();
        pass(3600.0).await;
        let last = world.beats("AppA").pop().unwrap().at;
        assert!(last - gone <= 120_000, "the last heartbeat {} ms after", last - gone);
        let now = world.app("AppA").now();
        assert_eq!(world.app("AppA").with(|sim| sim.live_sessions(now)), 0);
        assert_eq!(world.app("AppB").with(|sim| sim.live_sessions(now)), 0);
        assert_eq!(world.core.registry().counts().bound, 0);
    });
}

/// A page that holds AppB open for hours must die all the same, and so must AppA.
#[test]
fn h12_a_page_left_open_dies_with_its_presence_limit() {
    run(async {
        let (world, mut browser) = both("idle_timeout = \"10m\"\npresence_limit = \"1h\"").await;
        let socket = browser.web_socket("/AppB/ws.cfm").await;
        let gone = world.app("AppA").now();
        for _ in 0..240 {
            pass(30.0).await;
            browser.get("/.bridge/beat.gif").await;
        }
        let last = world.beats("AppA").pop().unwrap().at - gone;
        assert!((3_590_000..=3_600_000).contains(&last), "the last heartbeat {last} ms after");
        let now = world.app("AppA").now();
        assert_eq!(world.app("AppA").with(|sim| sim.live_sessions(now)), 0);
        assert_eq!(world.app("AppB").with(|sim| sim.live_sessions(now)), 0);
        drop(socket);
    });
}

#[test]
fn r30_eight_hours_in_one_app_and_the_other_is_there_until_both_end() {
    run(async {
        let toml = pair_config("acf-strict", "[bridge]\nmax_lifetime = \"8h\"").replace("\"10s\"", "\"5m\"");
        let world = World::new(&toml, pair_apps("acf-strict").map(|app| app.timeout_ms(300_000)));
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        browser.get("/AppB/index.cfm").await;
        for _ in 0..(8 * 60 - 1) {
            pass(60.0).await;
            browser.get("/AppB/index.cfm").await;
        }
        assert_eq!((world.starts("AppA"), world.starts("AppB")), (1, 1));
        let now = world.app("AppA").now();
        assert_eq!(world.app("AppA").with(|sim| sim.live_sessions(now)), 1);
        pass(61.0).await;
        assert_eq!(ends(&world, "max_lifetime"), 1.0);
        let now = world.app("AppA").now();
        assert_eq!(world.app("AppA").with(|sim| sim.live_sessions(now)), 0);
        assert_eq!(world.app("AppB").with(|sim| sim.live_sessions(now)), 0);
    });
}

#[test]
fn h2_a_heartbeat_moves_no_clock_of_the_person() {
    run(async {
        let (world, mut browser) = both("idle_timeout = \"3m\"").await;
        let before = status(&mut browser).await["expires_at"].clone();
        pass(100.0).await;
        assert!(world.beats("AppA").len() > 20);
        assert_eq!(status(&mut browser).await["expires_at"], before);
    });
}

/// The process sleeps a minute, an hour: what is late goes out once for each session, and what has ended has ended.
#[test]
fn r32_after_a_leap_of_the_clock_there_is_no_burst_and_no_life_after_the_end() {
    run(async {
        let script = Script::new(simple);
        let config = script_config("", "[bridge]\nidle_timeout = \"30m\"\nmax_lifetime = \"90m\"");
        let world = World::scripted(&config, [("app", script.clone())], []);
        let mut browsers = Vec::new();
        for _ in 0..30 {
            let mut browser = world.browser();
            browser.get("/app/").await;
            browser.get("/app/").await;
            browsers.push(browser);
        }
        let before = script.beats().len();
        tokio::time::advance(Duration::from_secs(60)).await;
        pass(1.0).await;
        assert_eq!(script.beats().len() - before, 30, "each of them once, though five were missed");
        assert_eq!(world.core.registry().counts().bound, 30);
        browsers[0].get("/app/").await;
        let before = script.asked().len();
        tokio::time::advance(Duration::from_secs(3600)).await;
        pass(1.0).await;
        assert_eq!(script.asked().len(), before, "nothing is sent for sessions whose time has passed");
        assert_eq!(ends(&world, "idle"), 30.0);
        assert!(!is_active(&mut browsers[0]).await);
    });
    run(async {
        // The cookie comes before the scheduler has looked.
        let (world, mut browser) = both("idle_timeout = \"30m\"").await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        let back = browser.get("/AppA/index.cfm").await;
        assert!(back.json()["fresh"].as_bool().unwrap());
        assert_eq!(ends(&world, "idle"), 1.0);
    });
}

#[test]
fn a_steady_beat_that_nobody_declared_is_noticed() {
    let of = |world: &World, app: &str| {
        world.metric(&format!("sessionbridge_steady_beats_total{{app=\"{app}\"}}"))
    };
    run(async {
        let (world, mut browser) = both("").await;
        for _ in 0..30 {
            pass(60.0).await;
            browser.get("/AppA/index.cfm?image=1").await;
        }
        assert_eq!((of(&world, "appA"), of(&world, "appB")), (1.0, 0.0), "once");
        assert!(is_active(&mut browser).await, "nothing else follows from it");
        for gap in [60.0, 31.0, 60.0, 2.0, 60.0, 44.0, 60.0, 60.0, 9.0] {
            pass(gap).await;
            browser.get("/AppB/index.cfm").await;
        }
        assert_eq!(of(&world, "appB"), 0.0, "a person is no clock");
    });
    run(async {
        let rule = "[[rules]]\nmatch = \"GET /AppA/index.cfm?image*\"\nactivity = \"ignore\"\n";
        let world = World::pair("acf-strict", rule);
        let mut browser = world.browser();
        browser.get("/AppB/index.cfm").await;
        for _ in 0..10 {
            pass(60.0).await;
            browser.get("/AppA/index.cfm?image=1").await;
        }
        assert_eq!(of(&world, "appA"), 0.0, "declared");
    });
}
