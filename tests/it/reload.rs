//! The config read anew while browsers are served.

use std::sync::Arc;

use sessionbridge::demo::sim::SimOptions;
use sessionbridge::loads::{By, Load, Outcome};

use super::admin::operator;
use super::support::reloading::Reloading;
use super::support::{Browser, pair_apps, pair_config, pass, run};

/// The config of appA alone.
fn alone(profile: &str) -> String {
    pair_config(profile, "").split("[apps.appB]").next().unwrap().to_owned()
}

fn pair() -> Reloading {
    Reloading::new(&pair_config("servlet", ""), pair_apps("servlet"))
}

/// A person with a session in each of the apps of [`pair`], known to the bridge.
async fn person(reloading: &Reloading) -> (Browser, u64, u64) {
    let mut browser = reloading.world.browser();
    browser.get("/AppA/index.jsp").await;
    let b = browser.get("/AppB/index.jsp").await.started();
    let a = browser.get("/AppA/index.jsp").await.started();
    (browser, a, b)
}

#[test]
fn an_app_that_is_added_is_served_and_kept_alive() {
    run(async {
        let mut reloading = Reloading::new(&alone("servlet"), pair_apps("servlet"));
        let mut browser = reloading.world.browser();
        let first = browser.get("/AppA/index.jsp").await.started();
        assert_eq!(browser.get("/AppB/index.jsp").await.status, 404);
        let (changes, restart) = reloading.change(&pair_config("servlet", "")).await;
        assert_eq!((changes, restart), (vec!["+ apps.appB".to_owned()], Vec::new()));
        let second = browser.get("/AppB/index.jsp").await.started();
        pass(900.0).await;
        assert!(reloading.world.beats("AppB").len() >= 8, "of 5 min each");
        assert_eq!(browser.get("/AppB/index.jsp").await.started(), second);
        assert_eq!(browser.get("/AppA/index.jsp").await.started(), first, "90 times its timeout");
        assert!(reloading.world.metrics().contains("requests_total{app=\"appB\""));
    });
}

#[test]
fn an_app_that_is_removed_is_left_alone_and_its_sessions_are_there_when_it_is_back() {
    run(async {
        let mut reloading = pair();
        let (mut browser, a, b) = person(&reloading).await;
        let (changes, _) = reloading.change(&alone("servlet")).await;
        assert_eq!(changes, ["- apps.appB"]);
        assert_eq!(browser.get("/AppB/index.jsp").await.status, 404);
        assert!(!reloading.world.metrics().contains("appB"), "{}", reloading.world.metrics());
        pass(200.0).await;
        assert!(reloading.world.beats("AppB").is_empty());
        assert_eq!(browser.get("/AppA/index.jsp").await.started(), a);
        reloading.change(&pair_config("servlet", "")).await;
        assert_eq!(browser.get("/AppB/index.jsp").await.started(), b, "nothing was lost");
        pass(900.0).await;
        assert!(reloading.world.beats("AppB").len() >= 8, "and it is kept alive again");
        assert_eq!(browser.get("/AppB/index.jsp").await.started(), b);
    });
}

#[test]
fn an_app_that_is_renamed_keeps_its_sessions() {
    run(async {
        let mut reloading = pair();
        let (mut browser, a, b) = person(&reloading).await;
        let new = pair_config("servlet", "").replace("[apps.appA]", "[apps.shop]");
        let (changes, _) = reloading.change(&new).await;
        let told = "apps.appA is apps.shop now: its sessions stay";
        assert_eq!(changes, ["- apps.appA", "+ apps.shop", told]);
        assert_eq!(browser.get("/AppA/index.jsp").await.started(), a);
        pass(100.0).await;
        assert_eq!(browser.get("/AppA/index.jsp").await.started(), a, "ten times its timeout");
        assert_eq!(browser.get("/AppB/index.jsp").await.started(), b);
        assert!(reloading.world.verdicts("shop", "alive") > 5.0);
    });
}

#[test]
fn requests_go_where_the_config_says_now() {
    run(async {
        let [a, b] = pair_apps("servlet");
        let moved = SimOptions { name: "Moved".to_owned(), ..a.clone() };
        let mut reloading = Reloading::new(&pair_config("servlet", ""), [a, b, moved]);
        let (mut browser, a, b) = person(&reloading).await;
        let both =
            pair_config("servlet", "").replace("[\"http://appa\"]", "[\"http://moved\", \"http://appa\"]");
        let (changes, _) = reloading.change(&both).await;
        assert_eq!(changes, ["~ apps.appA.upstreams"]);
        for _ in 0..4 {
            assert_eq!(
                browser.get("/AppA/index.jsp").await.started(),
                a,
                "it sticks, wherever it stands in the list"
            );
        }
        let moved = pair_config("servlet", "").replace("http://appa", "http://moved");
        reloading.change(&moved).await;
        let before = reloading.world.starts("AppA");
        let answer = browser.get("/AppA/index.jsp").await;
        assert_eq!((answer.status.as_u16(), answer.json()["app"].as_str()), (200, Some("Moved")));
        assert_eq!(reloading.world.starts("AppA"), before);
        assert_eq!(browser.get("/AppB/index.jsp").await.started(), b);
    });
}

/// The mistake that a config with a slip in it is refused for.
fn refused(load: Load) -> String {
    match load.outcome {
        Outcome::Refused(report) => report,
        Outcome::Used { .. } => panic!("it is in use"),
    }
}

#[test]
fn r6_fifty_bad_configs_change_nothing_and_say_where() {
    run(async {
        let mut reloading = pair();
        let (mut browser, a, _) = person(&reloading).await;
        let example = include_str!("../../config.toml.example");
        let is_key = |line: &str| {
            let key = line.split('=').next().unwrap_or_default().trim();
            line.contains(" = ")
                && !key.is_empty()
                && key.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_')
        };
        let lines: Vec<&str> = example.lines().collect();
        let keys = lines.iter().enumerate().filter(|(_, line)| is_key(line)).map(|(at, _)| at);
        let slips: [fn(&str) -> String; 3] = [
            |line| line.replacen(" = ", "q = ", 1),
            |line| line.replacen(" = ", " = = ", 1),
            |line| line.replacen(" = ", " = 1979-05-27 # ", 1),
        ];
        let (before, mut tried) = (reloading.world.core.setting(), 0);
        for (turn, at) in keys.enumerate() {
            let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            changed[at] = slips[turn % 3](lines[at]);
            std::fs::write(reloading.file(), changed.join("\n")).unwrap();
            let report = refused(reloading.again().await);
            let place = format!("config.toml:{}:", at + 1);
            assert!(report.contains(&place), "{}: {place} is not in\n{report}", changed[at]);
            assert!(Arc::ptr_eq(&before, &reloading.world.core.setting()));
            tried += 1;
        }
        assert!(tried >= 50, "{tried}");
        assert_eq!(browser.get("/AppA/index.jsp").await.started(), a);
        assert_eq!(reloading.world.metric("sessionbridge_config_last_reload_success"), 0.0);
        let failed = reloading.world.metric("sessionbridge_config_reloads_total{result=\"failed\"}");
        assert!((failed - f64::from(tried)).abs() < 0.5);
        std::fs::remove_file(reloading.file()).unwrap();
        assert!(refused(reloading.again().await).contains("there is no such file"));
        reloading.change(&pair_config("servlet", "")).await;
        assert_eq!(reloading.world.metric("sessionbridge_config_last_reload_success"), 1.0);
        assert_eq!(browser.get("/AppA/index.jsp").await.started(), a);
    });
}

#[test]
fn what_is_open_stays_open_whatever_the_config_says_now() {
    run(async {
        let mut reloading = pair();
        let (browser, ..) = person(&reloading).await;
        let mut socket = browser.web_socket("/AppB/ws.jsp").await;
        let mut events = browser.event_stream("/AppB/sse.jsp").await;
        assert_eq!((socket.status(), events.status()), ("101", "200"));
        reloading.change(&pair_config("servlet", "[server.timeouts]\nidle = \"9s\"")).await;
        reloading.change(&alone("servlet")).await;
        socket.say("still here").await;
        assert_eq!(socket.frame().await, (1, b"still here".to_vec()));
        let heard = String::from_utf8(events.listen(30.0).await).unwrap();
        assert!(heard.matches("data:").count() >= 29, "{heard}");
        socket.say("and here").await;
        assert_eq!(socket.frame().await, (1, b"and here".to_vec()));
    });
}

#[test]
fn a_request_in_flight_ends_as_it_began() {
    run(async {
        let mut reloading = pair();
        let (mut browser, ..) = person(&reloading).await;
        let asked = tokio::task::spawn_local(async move { browser.get("/AppB/slow.jsp?ms=5000").await });
        pass(1.0).await;
        reloading.change(&alone("servlet")).await;
        let answer = asked.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told =
            reloading.world.metric("sessionbridge_requests_total{app=\"-\",code=\"2xx\",method=\"GET\"}");
        assert!(told.abs() < 0.5, "it is counted where it went");
    });
}

#[test]
fn what_cannot_change_is_named_and_left_and_the_rest_is_used() {
    run(async {
        let old = "[admin]\nlisten = \"127.0.0.1:9190\"\ntoken = \"old\"\n";
        let mut reloading = Reloading::new(&pair_config("servlet", old), pair_apps("servlet"));
        let new = "[admin]\nlisten = \"127.0.0.1:9191\"\ntoken = \"new\"\n[server]\nthreads = 3\n\
                   timeouts.stream_idle = \"9s\"\n[store]\nmax_sessions = 7\n[log]\nlevel = \"debug\"\n";
        let (changes, restart) = reloading.change(&pair_config("servlet", new)).await;
        assert_eq!(restart, ["server.threads", "store", "admin", "log"]);
        assert_eq!(changes, ["~ admin.listen", "~ admin.token", "+ log", "+ server", "+ store"]);
        let setting = reloading.world.core.setting();
        assert_eq!(setting.options.timeouts.stream_idle.as_secs(), 9);
        let (mut old_hand, _drainer) = operator(&reloading.world);
        let mut ask = async |token: &str| {
            old_hand.headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
            old_hand.get("/api/v1/config").await
        };
        assert_eq!(ask("new").await.status, 401, "the address that it is for is not listened at");
        let told = ask("old").await.json();
        assert_eq!(told["restart"], serde_json::json!(["server.threads", "store", "admin", "log"]));
        // Where the address stays, the token is another at once.
        reloading.change(&pair_config("servlet", &old.replace("\"old\"", "\"newer\""))).await;
        assert_eq!(ask("old").await.status, 401);
        let told = ask("newer").await.json();
        assert_eq!((&told["restart"], &told["current"]), (&serde_json::json!([]), &serde_json::json!(true)));
        assert!(!told.to_string().contains("newer"), "{told}");
    });
}

#[test]
fn the_clocks_of_those_who_are_here_are_the_new_ones() {
    run(async {
        let idle = |span: &str| pair_config("servlet", &format!("[bridge]\nidle_timeout = \"{span}\""));
        let mut reloading = Reloading::new(&idle("10m"), pair_apps("servlet"));
        let (mut browser, a, _) = person(&reloading).await;
        reloading.change(&idle("1h")).await;
        pass(1800.0).await;
        assert_eq!(browser.get("/AppA/index.jsp").await.started(), a, "longer");
        reloading.change(&idle("1m")).await;
        pass(90.0).await;
        assert_eq!(reloading.world.core.registry().counts().bound, 0, "it has ended, though nobody came");
        assert_ne!(browser.get("/AppA/index.jsp").await.started(), a, "shorter");
    });
}

#[test]
fn an_operator_has_the_config_read_and_is_told_what_came_of_it() {
    run(async {
        let mut reloading = pair();
        reloading.watch();
        // It looks once more as it begins; what comes now is asked for.
        pass(1.0).await;
        let (mut operator, _drainer) = operator(&reloading.world);
        reloading.write(&alone("servlet"));
        let done = operator.own_post("/api/v1/reload").await;
        assert_eq!(done.status, 200, "{}", done.text());
        assert_eq!(done.json()["changes"], serde_json::json!(["- apps.appB"]));
        assert_eq!(done.json()["by"], "operator local");
        reloading.write("[apps.appA\n");
        let refused = operator.own_post("/api/v1/reload").await;
        assert_eq!((refused.status.as_u16(), &refused.json()["ok"]), (422, &serde_json::json!(false)));
        assert!(refused.json()["report"].as_str().unwrap().contains("config.toml:2:"), "{}", refused.text());
        let page = operator.get("/").await.text();
        assert!(
            page.contains("The config cannot be used since") && page.contains("config.toml:2:"),
            "{page}"
        );
        let story = operator.get("/api/v1/config").await.json();
        assert_eq!(
            (&story["current"], story["loads"].as_array().unwrap().len()),
            (&serde_json::json!(false), 3)
        );
        let foreign = [("origin", "http://evil.example")];
        let answer = operator.send(http::Method::POST, "/api/v1/reload", &foreign, bytes::Bytes::new()).await;
        assert_eq!(answer.status, 403);
        assert_eq!(operator.get("/api/v1/reload").await.status, 405);
    });
}

#[test]
fn a_file_that_has_changed_is_read_without_being_asked_for() {
    run(async {
        let mut reloading = pair();
        reloading.watch();
        let loads = reloading.world.core.loads().clone();
        pass(30.0).await;
        assert_eq!(loads.all().len(), 1, "only the start");
        reloading.write(&alone("servlet"));
        pass(30.0).await;
        let last = loads.last().unwrap();
        assert_eq!((last.by.clone(), last.is_used(), loads.all().len()), (By::File, true, 2));
        reloading.write("[apps.appA\n");
        pass(30.0).await;
        assert!(!loads.last().unwrap().is_used());
        let now = reloading.world.browser().get("/AppA/index.jsp").await;
        assert_eq!(now.status, 200);
        reloading.write(&pair_config("servlet", ""));
        pass(30.0).await;
        assert_eq!((loads.last().unwrap().is_used(), loads.all().len()), (true, 4));
    });
}
