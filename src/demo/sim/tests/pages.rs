//! Pages, the log and the switches, which are the same on every engine.

use super::*;

#[test]
fn the_log_tells_what_was_asked_and_debug_tells_no_token() {
    let (mut app, mut ann) = (sim(Profile::AcfStrict), Browser::new());
    ann.get(&mut app, "index");
    ann.headers.push(("x-session-heartbeat", "1"));
    ann.get(&mut app, "ping.cfm?quiet");
    ann.post(&mut app, "echo", "a=b");
    let seen = app.log();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen.iter().map(|s| s.heartbeat).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(seen[1].path_and_query, "/AppA/ping.cfm?quiet");
    assert_eq!((seen[0].session.as_deref(), seen[0].fresh, seen[1].fresh), (Some("s1"), true, false));
    assert_eq!(seen[2].body.as_deref(), Some(&b"a=b"[..]));
    assert_eq!(seen[2].body_sha256, ids::sha256(b"a=b"));
    let cookie = ann.cookie("CFTOKEN").unwrap();
    assert!(seen[1].headers["cookie"].to_str().unwrap().contains(cookie));
    assert!(!format!("{seen:?}").contains(cookie));
    app.clear_log();
    assert!(app.log().is_empty());
}

#[test]
fn the_log_forgets_the_oldest() {
    let mut app = Sim::new(SimOptions { log_limit: 2, ..SimOptions::new(Profile::Lucee, "AppA") });
    for page in ["a", "b", "c"] {
        Browser::new().get(&mut app, page);
    }
    assert_eq!(app.log().iter().filter_map(|seen| seen.page.as_deref()).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn html_unless_json_is_asked_for() {
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    ann.headers = vec![("accept", "text/html")];
    ann.get(&mut app, "set?note=%3Cb%3E");
    let page = ann.get(&mut app, "index");
    assert!(page.header("content-type").starts_with("text/html") && page.body.contains("&lt;b&gt;"));
    assert!(!page.body.contains("<b>"));
    assert_eq!(ann.get(&mut app, "index?json").json()["data"]["note"], "<b>");
}

#[test]
fn a_quiet_ping_shows_no_canary() {
    let mut app = sim(Profile::Lucee);
    assert_eq!(Browser::new().get(&mut app, "ping?quiet").header("x-session-started"), "");
    let mut app = Sim::new(SimOptions { canary: false, ..SimOptions::new(Profile::Lucee, "AppA") });
    assert_eq!(Browser::new().get(&mut app, "ping").body, "{}");
}

#[test]
fn faults_touch_nothing() {
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    app.set_fault("ping", Fault::Status(StatusCode::BAD_GATEWAY));
    assert_eq!(ann.get(&mut app, "ping").status, 502);
    assert_eq!(app.counts().starts, 0);
    assert_eq!(ann.get(&mut app, "index").status, 200);
    let ask = || Request::builder().uri("/AppA/ping").body(Bytes::new()).unwrap();
    app.set_fault("*", Fault::Slow(Duration::from_secs(3)));
    assert_eq!(app.handle(T0, &ask(), HOME).response.status(), 502);
    app.clear_faults();
    app.set_fault("*", Fault::Slow(Duration::from_secs(3)));
    assert_eq!(app.handle(T0, &ask(), HOME).delay, Duration::from_secs(3));
    app.set_fault("*", Fault::Hang);
    assert!(app.handle(T0, &ask(), HOME).hang);
}

#[test]
fn restarts_and_kills_lose_sessions() {
    let (mut app, mut ann) = (sim(Profile::AcfStrict), Browser::new());
    ann.get(&mut app, "index");
    assert!(!app.kill_session("s2") && app.kill_session("s1"));
    assert_eq!(ann.get(&mut app, "index").json()["session"], "s2");
    app.restart();
    assert_eq!((app.counts().lost, app.live_sessions(T0)), (2, 0));
}

#[test]
fn small_pages() {
    let (mut app, mut ann) = (sim(Profile::Servlet), Browser::new());
    assert_eq!(ann.get(&mut app, "big?size=70000").body.len(), 70_000);
    assert_eq!(ann.get(&mut app, "fail").status, 500);
    assert_eq!(ann.get(&mut app, "nothing").status, 404);
    assert_eq!(ann.get(&mut app, "/AppB/index").status, 404);
    assert!(ann.get(&mut app, "download").header("content-disposition").starts_with("attachment"));
    let echo = ann.post(&mut app, "echo", "x=1");
    assert_eq!(
        (echo.body.as_str(), echo.header("content-type")),
        ("x=1", "application/x-www-form-urlencoded")
    );
    let facts = ann.get(&mut app, "headers?a=1").json();
    assert_eq!(facts["query"], serde_json::json!([["a", "1"]]));
    assert!(
        facts["headers"].as_array().unwrap().iter().any(|line| line[0] == "host" && line[1] == "apps.test")
    );
    let slow = Request::builder().uri("/AppA/slow?ms=250").body(Bytes::new()).unwrap();
    assert_eq!(app.handle(T0, &slow, HOME).delay, Duration::from_millis(250));
    assert_eq!(ann.get(&mut app, "ws").status, 426);
}
