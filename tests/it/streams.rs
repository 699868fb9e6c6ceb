use super::support::live::Open;
use super::support::{Browser, World, pair_apps, pair_config, pass, run};

const CLOCKS: &str = "[bridge]\nidle_timeout = \"20s\"\npresence_ttl = \"10s\"\npresence_limit = \"10m\"";

async fn both(clocks: &str) -> (World, Browser) {
    let world = World::pair("acf-strict", clocks);
    let mut browser = world.browser();
    browser.get("/AppA/index.cfm").await;
    browser.get("/AppB/index.cfm").await;
    (world, browser)
}

/// The frames that were not yet taken hold the one that ends a tunnel.
async fn closed_with_1008(socket: &mut Open) {
    let (opcode, payload) = socket.frame().await;
    assert_eq!(opcode, 8);
    assert_eq!(payload.get(..2), Some(&1008u16.to_be_bytes()[..]), "policy violation");
    assert_eq!(socket.rest(2.0).await, Some(Vec::new()), "and nothing after it");
}

#[test]
fn f7_an_open_socket_is_presence() {
    run(async {
        let (world, mut browser) = both(CLOCKS).await;
        let first = world.app("AppA").with(|sim| sim.sessions()[0].started);
        let mut socket = browser.web_socket("/AppB/ws.cfm").await;
        assert_eq!(socket.status(), "101");
        pass(300.0).await;
        socket.say("still here").await;
        assert_eq!(socket.frame().await, (1, b"still here".to_vec()));
        pass(200.0).await;
        assert_eq!(browser.get("/AppA/index.cfm").await.started(), first, "50 times AppA's timeout");
        assert_eq!(world.metric("sessionbridge_streams_open{app=\"appB\",kind=\"websocket\"}"), 1.0);
    });
}

#[test]
fn f7_an_event_stream_is_presence() {
    run(async {
        let (world, mut browser) = both(CLOCKS).await;
        let first = world.app("AppA").with(|sim| sim.sessions()[0].started);
        let mut events = browser.event_stream("/AppB/sse.cfm").await;
        assert_eq!(events.status(), "200");
        let heard = String::from_utf8(events.listen(500.0).await).unwrap();
        assert!(heard.matches("data:").count() >= 499, "they come as they are sent");
        assert_eq!(browser.get("/AppA/index.cfm").await.started(), first);
    });
}

#[test]
fn f7_t29_a_sign_out_closes_what_is_open() {
    for way in ["the bridge's own page", "seen in an app", "an operator"] {
        run(async {
            let detect = "[apps.appA]\nsign_out.detect = [\"GET /AppA/logout.cfm*\"]";
            let toml = pair_config("acf-strict", CLOCKS).replacen("[apps.appA]", detect, 1);
            let world = World::new(&toml, pair_apps("acf-strict"));
            let mut browser = world.browser();
            browser.get("/AppA/index.cfm").await;
            browser.get("/AppB/index.cfm").await;
            let mut socket = browser.web_socket("/AppB/ws.cfm").await;
            let mut events = browser.event_stream("/AppA/sse.cfm").await;
            let mut others = world.browser();
            others.get("/AppB/index.cfm").await;
            let mut other = others.web_socket("/AppB/ws.cfm").await;
            socket.say("x").await;
            socket.frame().await;
            let before = world.app("AppA").now();
            match way {
                "seen in an app" => drop(browser.get("/AppA/logout.cfm").await),
                "an operator" => {
                    let registry = world.core.registry();
                    let mut found = None;
                    registry.each(|session, ticket| {
                        found = (session.streams == 2).then_some(ticket).or(found);
                        true
                    });
                    let now = sessionbridge::time::Timestamp::from_millis(before);
                    let found = found.and_then(|ticket| registry.slot(ticket));
                    registry.end(&found.unwrap(), sessionbridge::bridge::session::End::Operator, now);
                }
                _ => drop(browser.own_post("/.bridge/logout").await),
            }
            closed_with_1008(&mut socket).await;
            assert!(world.app("AppA").now() - before <= 2_000, "{way}: within two seconds");
            let heard = events.listen(1.0).await;
            assert!(heard.is_empty() || heard.ends_with(b"0\r\n\r\n"), "{way}: the event stream is over");
            assert!(events.listen(5.0).await.is_empty(), "{way}");
            other.say("mine").await;
            assert_eq!(other.frame().await, (1, b"mine".to_vec()), "{way}: nobody else's");
        });
    }
}

#[test]
fn f7_a_clock_closes_what_is_open() {
    for (clocks, after) in [
        ("idle_timeout = \"20s\"\npresence_limit = \"60s\"\nmax_lifetime = \"1h\"", 60.0),
        ("idle_timeout = \"20s\"\npresence_limit = \"1h\"\nmax_lifetime = \"2m\"", 120.0),
        ("idle_timeout = \"20s\"\npresence_limit = \"off\"", 20.0),
    ] {
        run(async {
            let (world, browser) = both(&format!("[bridge]\n{clocks}")).await;
            let began = world.app("AppA").now();
            let mut socket = browser.web_socket("/AppB/ws.cfm").await;
            closed_with_1008(&mut socket).await;
            let took = (world.app("AppA").now() - began) as f64 / 1000.0;
            assert!((after..after + 2.1).contains(&took), "{took} s: {clocks}");
        });
    }
}

/// What is open is presence as long as it is, and one `presence_ttl` after.
#[test]
fn f7_a_socket_that_closes_ends_the_presence_that_it_was() {
    run(async {
        let (world, browser) = both(CLOCKS).await;
        let socket = browser.web_socket("/AppB/ws.cfm").await;
        pass(100.0).await;
        assert_eq!(world.core.registry().counts().bound, 1);
        drop(socket);
        pass(9.0).await;
        assert_eq!(world.core.registry().counts().bound, 1);
        pass(2.0).await;
        assert_eq!(world.core.registry().counts().bound, 0);
    });
}

/// A socket opened with the cookie of a session that is over runs without one, and is nobody's presence.
#[test]
fn t29_a_socket_of_a_session_that_is_over_opens_nobodys() {
    run(async {
        let (world, mut browser) = both(CLOCKS).await;
        let old = browser.clone();
        browser.own_post("/.bridge/logout").await;
        let _socket = old.web_socket("/AppB/ws.cfm").await;
        let last = world.seen("AppB").pop().unwrap();
        assert!(last.fresh, "not in the session that has ended: {last:?}");
        pass(60.0).await;
        assert_eq!(world.core.registry().counts().bound, 0);
    });
}

/// Pages that open and close streams all day leave nothing behind with the scheduler.
#[test]
fn streams_that_come_and_go_leave_nothing_behind() {
    run(async {
        let (world, mut browser) = both("").await;
        pass(1.0).await;
        let waiting = |world: &World| world.metric("sessionbridge_heartbeats_armed");
        let before = waiting(&world);
        for _ in 0..50 {
            let events = browser.event_stream("/AppB/sse.cfm").await;
            pass(60.0).await;
            drop(events);
            browser.get("/AppB/index.cfm").await;
        }
        pass(60.0).await;
        assert!(waiting(&world) <= before + 3.0, "{} entries, {before} before", waiting(&world));
    });
}
