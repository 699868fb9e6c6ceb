//! Heartbeats of which many come due at once: they wait in order, begin as soon as there is room, and leave room for people.

use std::collections::BTreeMap;

use sessionbridge::app::worker;
use sessionbridge::bridge::session::End;
use sessionbridge::net::{Drainer, memory};

use super::heartbeat::people;
use super::support::scripted::{Say, Script, script_config, simple};
use super::support::{Browser, World, pass, run};

/// Answers heartbeats that much later, and people at once.
fn slow(seconds: f64) -> Script {
    Script::new(move |parts| {
        let say = simple(parts);
        if parts.uri.path().ends_with("/ping") { say.after(seconds) } else { say }
    })
}

fn times(script: &Script) -> Vec<f64> {
    script.beats().iter().map(|beat| beat.at).collect()
}

/// How many heartbeats there were in each hundredth of a second.
fn by_hundredth(script: &Script) -> BTreeMap<u64, u32> {
    let mut tens = BTreeMap::new();
    for time in times(script) {
        *tens.entry((time * 100.0) as u64).or_insert(0) += 1;
    }
    tens
}

#[test]
fn what_waits_for_room_begins_when_there_is_room() {
    run(async {
        let script = slow(0.25);
        let (world, _browsers) = people(20, "heartbeat.max_in_flight = 2", &script).await;
        pass(13.0).await;
        let times = times(&script);
        assert_eq!(times.len(), 20, "all of the first round: {times:?}");
        for (n, pair) in times.chunks(2).enumerate() {
            assert!((pair[1] - pair[0]).abs() < 0.000_1, "two at a time: {pair:?}");
            let after = pair[0] - times[0];
            assert!(
                (after - 0.25 * n as f64).abs() < 0.02,
                "pair {n} after {after} s, without a pause between"
            );
        }
        assert_eq!(world.verdicts("app", "alive"), 20.0);
        assert_eq!(world.metric("sessionbridge_heartbeats_due"), 0.0);
    });
}

#[test]
fn who_waits_for_room_is_counted() {
    run(async {
        let (world, _browsers) = people(20, "heartbeat.max_in_flight = 2", &slow(1.0)).await;
        pass(10.5).await;
        assert_eq!(world.metric("sessionbridge_heartbeats_due"), 18.0);
        assert_eq!(world.metric("sessionbridge_heartbeats_armed"), 0.0);
    });
}

#[test]
fn no_app_keeps_the_heartbeats_of_another_waiting() {
    run(async {
        let (tired, brisk) = (slow(2.0), slow(0.01));
        let app = |name: &str| {
            script_config("heartbeat.max_in_flight = 1", "")
                .replace("[apps.app]", &format!("[apps.{name}]"))
                .replace("/app/", &format!("/{name}/"))
                .replace("http://app", &format!("http://{name}"))
        };
        let config = app("tired")
            + &app("brisk")
            + "[server.limits]\nnew_sessions = { rate = \"10000/s\", burst = 10000, per = \"client-ip\" }";
        let world = World::scripted(&config, [("tired", tired.clone()), ("brisk", brisk.clone())], []);
        for _ in 0..30 {
            let mut browser = world.browser();
            browser.get("/tired/").await;
            browser.get("/tired/").await;
            browser.get("/brisk/").await;
        }
        pass(11.0).await;
        let times = times(&brisk);
        assert_eq!(times.len(), 30);
        assert!(times[29] - times[0] < 0.5, "30 of 10 ms each: {times:?}");
        assert!(tired.beats().len() <= 1);
        pass(4.0).await;
        assert!((2..=3).contains(&tired.beats().len()), "and the other one goes on: {}", tired.beats().len());
    });
}

#[test]
fn threads_that_share_an_app_take_turns_at_it() {
    run(async {
        let script = slow(0.25);
        let (world, _here) = people(10, "heartbeat.max_in_flight = 1", &script).await;
        let (listener, front) = memory();
        let (_drainer, drain) = Drainer::new();
        let other = worker::run(world.core.clone(), 1, vec![listener], world.dialer(), drain);
        tokio::task::spawn_local(other);
        let mut there = Vec::new();
        for _ in 0..10 {
            let mut browser = Browser::new(front.clone(), "apps.example.org");
            browser.get("/app/").await;
            browser.get("/app/").await;
            there.push(browser);
        }
        pass(15.5).await;
        let times = times(&script);
        assert_eq!(times.len(), 20, "nobody is forgotten: {times:?}");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] < 0.27), "and no place stays free: {times:?}");
        assert_eq!((script.most_open(), world.verdicts("app", "alive")), (1, 20.0));
    });
}

#[test]
fn a_heartbeat_that_waits_is_asked_anew_when_it_is_its_turn() {
    run(async {
        let script = slow(1.0);
        let (world, mut browsers) = people(4, "heartbeat.max_in_flight = 1", &script).await;
        let mut tickets = Vec::new();
        world.core.registry().each(|_, ticket| {
            tickets.push(ticket);
            true
        });
        let slots: Vec<_> =
            tickets.into_iter().filter_map(|ticket| world.core.registry().slot(ticket)).collect();
        pass(10.5).await;
        assert_eq!(script.beats().len(), 1, "the others wait");
        let beaten = |slot: &sessionbridge::registry::Slot| {
            slot.with(|session| session.apps().any(|app| !app.beat.at.is_zero()))
        };
        // One that waits ends, and everybody else asks for a page: nothing is due any more.
        let gone = slots.iter().find(|slot| !beaten(slot)).unwrap();
        let now = gone.with(|session| session.last_activity);
        assert!(world.core.registry().end(gone, End::Operator, now).is_some());
        for browser in &mut browsers {
            browser.get("/app/page").await;
        }
        pass(8.0).await;
        assert_eq!(script.beats().len(), 1, "no heartbeat that nobody needs");
        assert_eq!(world.metric("sessionbridge_heartbeats_due"), 0.0, "nobody waits");
        pass(8.0).await;
        assert_eq!(script.beats().len(), 4, "three people are left");
        assert!(!beaten(gone));
    });
}

#[test]
fn a_wave_leaves_room_for_people_and_is_over_in_time() {
    run(async {
        let script = slow(0.0);
        let (world, mut browsers) = people(1_000, "", &script).await;
        pass(9.99).await;
        for _ in 0..20 {
            let asked = script.asked().len();
            browsers[0].get("/app/page").await;
            assert!(script.asked().len() - asked <= 1 + 16, "no row of heartbeats before a person's request");
            pass(0.01).await;
        }
        pass(3.0).await;
        let tens = by_hundredth(&script);
        assert!(tens.values().all(|&begun| begun <= 42), "3000 a second at an easy pace: {tens:?}");
        assert_eq!(world.verdicts("app", "alive"), 999.0, "all but one who was there");
    });
}

#[test]
fn a_wave_that_has_little_time_takes_what_it_needs() {
    run(async {
        // 800 at a time in a quarter of 200 ms. A person who was there a moment ago is left alone for a twentieth of the
        // app's timeout.
        let script = slow(0.0);
        let (_world, _browsers) = people(800, "heartbeat.every = \"200ms\"", &script).await;
        pass(1.45).await;
        assert!(script.beats().is_empty());
        pass(0.2).await;
        let tens = by_hundredth(&script);
        assert_eq!(tens.values().sum::<u32>(), 800, "all of the first round: {tens:?}");
        assert!(tens.len() <= 6 && tens.values().all(|&begun| begun <= 240), "evenly: {tens:?}");
        pass(0.8).await;
        assert!(script.beats().len() >= 800 * 4, "{} in a second", script.beats().len());
    });
}

#[test]
fn a_proxy_that_stops_drops_what_waits() {
    run(async {
        let script = slow(1.0);
        let (world, browsers) = people(10, "heartbeat.max_in_flight = 1", &script).await;
        pass(10.5).await;
        drop((world, browsers));
        pass(30.0).await;
        assert!(script.beats().len() <= 2, "{} heartbeats", script.beats().len());
    });
}

#[test]
fn answers_of_all_kinds_make_room() {
    run(async {
        let script = Script::new(|parts| {
            if parts.uri.path().ends_with("/ping") { Say::status(503).after(0.1) } else { simple(parts) }
        });
        let (world, _browsers) = people(6, "heartbeat.max_in_flight = 1", &script).await;
        pass(11.0).await;
        assert_eq!(world.verdicts("app", "unreachable"), 6.0);
    });
}
