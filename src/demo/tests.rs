use std::io::Read as _;
use std::net::TcpStream;

use super::*;

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// What is answered to a browser that has no cookies.
fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The names of the cookies that an answer sets.
fn set_cookies(answer: &str) -> Vec<&str> {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let set = lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    set.map(|(_, value)| value.split_once('=').unwrap().0).collect()
}

#[test]
fn both_sides_are_served_and_a_drain_ends_them() {
    let stage = Stage::set(&DemoArgs { listen: Some(any_port()), verbose: false }).unwrap();
    let with: SocketAddr = stage.url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let Stage { app, with: guide, without, apps, .. } = stage;
    let (drainer, drain) = Drainer::new();
    let serving = std::thread::spawn(move || app.run(&drain));

    assert!(get(with, "/").contains("Open the time sheet"));
    let mode = get(with, "/demo/mode.js");
    assert!(mode.contains("mode: \"with\""), "{mode}");
    let (_, bare) = mode.split_once("http://localhost:").unwrap();
    let port = bare.split('"').next().unwrap().parse().unwrap();
    let bare = SocketAddr::new(with.ip(), port);
    assert!(get(bare, "/demo/mode.js").contains("mode: \"without\""));

    let page = get(with, "/AppA/index.cfm");
    assert!(page.contains("<h1>Time sheet</h1>") && set_cookies(&page) == ["bridge"], "{page}");
    let page = get(bare, "/AppA/index.cfm");
    assert!(page.contains("<h1>Time sheet</h1>") && set_cookies(&page) == ["CFID", "CFTOKEN"], "{page}");
    let page = get(bare, "/AppB/index.cfm");
    assert!(page.contains("<h1>Catalogue</h1>") && set_cookies(&page) == ["CFID", "CFTOKEN"], "{page}");

    let state = get(with, "/demo/state.json");
    let (_, state) = state.split_once("\r\n\r\n").unwrap();
    let state: serde_json::Value = serde_json::from_str(state).unwrap();
    assert_eq!(state["apps"][0]["session"]["label"], "s1", "{state}");
    assert_eq!(state["apps"][0]["bridge"]["vault"], serde_json::json!(["CFID", "CFTOKEN"]), "{state}");
    assert!(state["apps"][1]["session"].is_null() && state["bridge"]["label"].is_string(), "{state}");

    drainer.drain();
    serving.join().unwrap().unwrap();
    drop((guide, without, apps));
    assert!(TcpStream::connect(bare).is_err());
}

#[test]
fn the_config_in_the_code_is_good_and_says_what_the_applications_do() {
    let config = config_of(false, any_port(), [any_port(); 2], any_port());
    assert!(config.is_err(), "an application without a port is a mistake");
    let [listen, a, b, guide] = [1, 2, 3, 4].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let config = config_of(false, listen, [a, b], guide).unwrap();
    let timeout = |name: &str| {
        let route = config.routes.named(name).unwrap();
        u64::try_from(route.rules.session.as_ref().unwrap().timeout.as_millis()).unwrap()
    };
    assert_eq!((timeout("appA"), timeout("appB")), (TIMEOUT_A_MS, TIMEOUT_B_MS));
    assert!(config.routes.named("guide").unwrap().rules.session.is_none());
}

#[test]
fn a_port_that_is_taken_is_an_error_for_who_asked_for_it() {
    let taken = TcpListener::bind(any_port()).unwrap();
    let at = taken.local_addr().unwrap();
    assert!(matches!(choose(Some(at)), Err(StartError::Taken { .. })));
}

#[test]
fn all_addresses_are_reached_by_loopback() {
    assert!(reachable("0.0.0.0".parse().unwrap()).is_loopback());
    assert!(reachable("::".parse().unwrap()).is_loopback());
    assert_eq!(reachable("10.0.0.1".parse().unwrap()).to_string(), "10.0.0.1");
}
