use serde_json::Value;
use sessionbridge::demo::sim::Fault;
use sessionbridge::findings::{Found, Kind, Level};

use super::admin::operator;
use super::support::{APP_A, Browser, World, extension, pair_apps, pair_config, pass, run};

/// Nobody is held up for coming with many.
const CROWD: &str =
    "[server.limits]\nnew_sessions = { rate = \"1000/s\", burst = 5000, per = \"client-ip\" }";

/// People with a session in both apps, who come one after the other and then do nothing.
async fn people(world: &World, profile: &str, many: usize) -> Vec<Browser> {
    let page = extension(profile);
    let mut all = Vec::new();
    for _ in 0..many {
        let mut browser = world.browser();
        for target in ["/AppA/index", "/AppB/index", "/AppA/index"] {
            assert_eq!(browser.get(&format!("{target}{page}")).await.status, 200);
        }
        all.push(browser);
        pass(0.37).await;
    }
    all
}

fn found(world: &World, kind: Kind) -> Option<Found> {
    world.core.findings().all().into_iter().find(|found| found.kind == kind)
}

fn series(world: &World, series: &str) -> Option<f64> {
    let metrics = world.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn json(operator: &mut Browser, target: &str) -> Value {
    operator.get(target).await.json()
}

/// Seconds after midnight of the time of day that `says` names behind "at about".
fn about(says: &str) -> f64 {
    let time = says.split("at about ").nth(1).unwrap().split(' ').next().unwrap();
    time.split(':').fold(0.0, |seconds, part| seconds * 60.0 + part.parse::<f64>().unwrap())
}

#[test]
fn f12_a_restart_is_one_notice_and_not_a_mystery_for_each() {
    for profile in ["servlet", "lucee", "acf-strict", "php-lock"] {
        run(async {
            let world = World::new(&pair_config(profile, CROWD), pair_apps(profile));
            let mut all = people(&world, profile, 9).await;
            pass(20.0).await;
            assert_eq!(world.core.findings().all(), [], "{profile}");
            world.app("AppA").with(|sim| sim.restart());
            let restarted = (world.app("AppA").now() / 1000 % 86_400) as f64;
            pass(5.0).await;
            let finding = found(&world, Kind::Restart).unwrap();
            assert!(finding.says.ends_with("9 sessions ended"), "{profile}: {}", finding.says);
            assert!((about(&finding.says) - restarted).abs() <= 4.0, "{profile}: {}", finding.says);
            assert_eq!((finding.level, finding.app.0), (Level::Warning, APP_A));
            assert_eq!(
                world.core.findings().all().len(),
                1,
                "{profile}: AppB lives on, and nothing else is wrong"
            );
            assert_eq!(series(&world, "sessionbridge_app_restarts_total{app=\"appA\"}"), Some(1.0));
            assert_eq!(series(&world, "sessionbridge_app_sessions_lost_total{app=\"appA\"}"), Some(9.0));
            assert_eq!(series(&world, "sessionbridge_app_restarts_total{app=\"appB\"}"), Some(0.0));
            // The people come back, and what begins now is another life.
            let page = extension(profile);
            for browser in &mut all {
                browser.get(&format!("/AppA/index{page}")).await;
            }
            pass(60.0).await;
            assert!(found(&world, Kind::Restart).unwrap().says.ends_with("9 sessions ended"), "{profile}");
            assert_eq!(found(&world, Kind::EarlyDeath), None, "{profile}");
        });
    }
}

#[test]
fn f12_operators_see_it_where_they_look() {
    run(async {
        let world = World::new(&pair_config("servlet", CROWD), pair_apps("servlet"));
        let (mut operator, _drainer) = operator(&world);
        let _all = people(&world, "servlet", 12).await;
        pass(20.0).await;
        let none = json(&mut operator, "/api/v1/findings").await;
        assert_eq!(none["findings"], Value::Array(Vec::new()));
        assert!(!operator.get("/").await.text().contains("Findings"));
        world.app("AppA").with(|sim| sim.restart());
        pass(5.0).await;
        let said = json(&mut operator, "/api/v1/findings").await["findings"][0].clone();
        let says = said["says"].as_str().unwrap().to_owned();
        assert!(says.starts_with("appA was restarted at about 00:00:"), "{says}");
        let words = ["app", "kind", "level", "key"].map(|key| said[key].as_str().unwrap().to_owned());
        assert_eq!(words, ["appA", "restart", "warning", "session.timeout"]);
        let apps = json(&mut operator, "/api/v1/apps").await;
        assert_eq!(apps["apps"][0]["findings"][0]["says"], says.as_str());
        assert_eq!(apps["apps"][1]["findings"], Value::Array(Vec::new()));
        assert!(operator.get("/").await.text().contains(&says));
        let gauge = "sessionbridge_findings{app=\"appA\",kind=\"restart\",level=\"warning\"}";
        assert_eq!(series(&world, gauge), Some(1.0));
        // In the stories of the people: what the heartbeat found, and why. Those who were found first could not be told.
        let sessions = json(&mut operator, "/api/v1/sessions").await;
        let mut told = 0;
        for session in sessions["sessions"].as_array().unwrap() {
            let id = session["id"].as_str().unwrap();
            let story = json(&mut operator, &format!("/api/v1/sessions/{id}")).await["timeline"].clone();
            let of_app = story.as_array().unwrap().iter().filter(|event| event["app"] == "appA");
            let words: Vec<_> = of_app.map(|event| event["event"].as_str().unwrap().to_owned()).collect();
            assert!(words.contains(&"heartbeat".to_owned()), "{words:?}");
            told += usize::from(words.last().is_some_and(|word| word == "app_restarted"));
        }
        assert!((1..=10).contains(&told), "{told}");
    });
}

#[test]
fn f12_a_server_that_is_down_for_a_moment_was_restarted_then() {
    run(async {
        let world = World::new(&pair_config("servlet", CROWD), pair_apps("servlet"));
        let _all = people(&world, "servlet", 12).await;
        pass(20.0).await;
        let down = (world.app("AppA").now() / 1000 % 86_400) as f64;
        world
            .app("AppA")
            .with(|sim| sim.set_fault("*", Fault::Status(http::StatusCode::SERVICE_UNAVAILABLE)));
        pass(2.0).await;
        world.app("AppA").with(|sim| {
            sim.restart();
            sim.clear_faults();
        });
        pass(9.0).await;
        let says = found(&world, Kind::Restart).unwrap().says;
        assert!(says.ends_with("12 sessions ended"), "{says}");
        assert!((about(&says) - down).abs() <= 2.0, "{says}");
        assert_eq!(found(&world, Kind::EarlyDeath), None);
    });
}

#[test]
fn f12_two_people_are_enough_where_there_are_two() {
    run(async {
        let world = World::new(&pair_config("servlet", CROWD), pair_apps("servlet"));
        let _all = people(&world, "servlet", 2).await;
        // Long enough that the longest gap of all heartbeats is behind them.
        pass(1_500.0).await;
        world.app("AppA").with(|sim| sim.restart());
        pass(15.0).await;
        let says = found(&world, Kind::Restart).unwrap().says;
        assert!(says.ends_with("2 sessions ended"), "{says}");
    });
}

#[test]
fn f12_what_happens_to_one_at_a_time_is_no_restart() {
    run(async {
        let world = World::new(&pair_config("servlet", CROWD), pair_apps("servlet"));
        let mut all = people(&world, "servlet", 8).await;
        pass(20.0).await;
        for turn in 0..4 {
            // An operator of the app ends somebody's session; two people do what moves tokens by itself.
            assert!(world.app("AppA").with(|sim| sim.kill_session(&format!("s{}", 5 + turn))));
            all[0].get("/AppA/rotate.jsp").await;
            all[1].post("/AppA/login.jsp", "user=anna&password=x").await;
            all[2].get("/AppA/logout.jsp").await;
            pass(6.0).await;
            all[2].get("/AppA/index.jsp").await;
            pass(6.0).await;
            assert_eq!(world.core.findings().all(), [], "{turn}");
        }
        assert_eq!(series(&world, "sessionbridge_app_restarts_total{app=\"appA\"}"), Some(0.0));
        assert!(world.verdicts("appA", "replaced") >= 4.0);
    });
}

#[test]
fn s4_6_a_timeout_that_is_shorter_than_the_configs_is_told_with_its_figure() {
    for profile in ["servlet", "lucee", "acf-strict", "openbd"] {
        run(async {
            let [app_a, app_b] = pair_apps(profile);
            let world = World::new(&pair_config(profile, CROWD), [app_a.timeout_ms(2_500), app_b]);
            let mut all = people(&world, profile, 5).await;
            pass(8.0).await;
            if matches!(profile, "lucee" | "openbd") {
                // The first heartbeat found an empty session already, and learned how that one looks.
                pass(4.0).await;
            }
            let says = found(&world, Kind::EarlyDeath).unwrap_or_else(|| panic!("{profile}")).says;
            assert!(says.starts_with("sessions of appA die after "), "{says}");
            assert!(says.contains("the config says 10s"), "{says}");
            assert_eq!(found(&world, Kind::Restart), None, "{profile}");
            // Somebody asks for more time sooner than a heartbeat would: some live for so long.
            let page = extension(profile);
            for _ in 0..3 {
                all[0].get(&format!("/AppA/index{page}")).await;
                pass(2.0).await;
                all[0].own_post("/.bridge/extend").await;
                pass(0.1).await;
            }
            let says = found(&world, Kind::EarlyDeath).unwrap().says;
            assert!(says.contains("(some lived for 2s"), "{profile}: {says}");
            let most = says.split("after ").nth(1).unwrap().split(' ').next().unwrap();
            let most = humantime::parse_duration(most).unwrap().as_millis();
            assert!((2_500..=4_000).contains(&most), "{profile}: {says}");
            assert!(says.ends_with("set `session.timeout = \"2s\"`"), "{profile}: {says}");
            let gauge = "sessionbridge_findings{app=\"appA\",kind=\"early_death\",level=\"warning\"}";
            assert_eq!(series(&world, gauge), Some(1.0));
        });
    }
}
