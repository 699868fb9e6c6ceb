//! The store is slow, away, emptied, full, spoiled, or another that lost the last second: R20 to R23 of the fault list.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::browser::Browser;
use crate::server::Server;
use crate::stage::{HEALED, Person, Setting, Stage};
use crate::{for_all_of, shortened, until, within};

/// How long the store is away.
fn outage() -> Duration {
    shortened(Duration::from_secs(30), Duration::from_secs(4))
}

/// People who go on all the time, each on a proxy that knows her; what went wrong for them.
fn meanwhile(stage: &Stage, people: &mut [Person], story: impl FnOnce()) {
    let (over, wrong, asked) = (AtomicBool::new(false), Mutex::new(Vec::new()), AtomicU64::new(0));
    let slowest = Mutex::new(Duration::ZERO);
    thread::scope(|scope| {
        for (number, person) in people.iter_mut().enumerate() {
            let (over, wrong, asked, slowest, at) = (&over, &wrong, &asked, &slowest, stage.at(number % 2));
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for (page, session) in [("/a/page", person.a), ("/b/page", person.b)] {
                        let began = Instant::now();
                        let answer = person.browser.ask(at, "GET", page);
                        let took = began.elapsed();
                        let mut slowest = slowest.lock().unwrap();
                        *slowest = took.max(*slowest);
                        drop(slowest);
                        asked.fetch_add(1, Ordering::Relaxed);
                        if !answer
                            .as_ref()
                            .is_some_and(|own| own.status == 200 && own.body == session.to_string())
                        {
                            wrong.lock().unwrap().push(format!("{page} {session}: {answer:?}"));
                            return;
                        }
                    }
                    thread::park_timeout(Duration::from_millis(10));
                }
            });
        }
        story();
        over.store(true, Ordering::Relaxed);
    });
    assert!(wrong.lock().unwrap().is_empty(), "{:#?}", wrong.lock().unwrap());
    let (asked, slowest) = (asked.load(Ordering::Relaxed), *slowest.lock().unwrap());
    eprintln!("{asked} requests of known sessions, the slowest took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "a request waited for {slowest:?}");
}

/// The store goes and comes back by `go` and `come`: R20, R21. `keeps`: it has then what it had.
fn the_store_goes_and_comes_back(
    stage: &mut Stage,
    go: impl FnOnce(&mut Stage),
    come: impl FnOnce(&mut Stage),
) {
    let mut known: Vec<Person> = (0..8).map(|number| stage.person(number % 2)).collect();
    let mut leaving: Vec<Person> = (0..4).map(|number| stage.person(number % 2)).collect();
    for person in known.iter_mut().chain(&mut leaving) {
        person.goes_on(stage.at(0));
        person.goes_on(stage.at(1));
    }
    let mut stranger = stage.person(0);
    go(stage);
    let mut new = Vec::new();
    meanwhile(stage, &mut known, || {
        let began = Instant::now();
        for (number, person) in leaving.iter_mut().enumerate() {
            person.sign_out(stage.at(number % 2));
            // Whoever shows her cookie now is somebody whom only the store could know.
            assert_ne!(person.browser.clone().state(stage.at(number % 2)), "active");
        }
        // A session that nobody could have heard of but the store.
        let answer = stranger.browser.ask(stage.at(1), "GET", "/a/page").unwrap();
        assert_eq!(
            (answer.status, answer.field("x-bridge-error")),
            (503, Some("store_outage")),
            "{answer:?}"
        );
        assert!(answer.field("set-cookie").is_none(), "her cookie stays: {answer:?}");
        // Who comes new is served, and known here.
        new.extend((0..4).map(|number| stage.person(number % 2)));
        // What changes often does not pile up.
        let mut busy = new[0].browser.clone();
        while began.elapsed() < outage() {
            // By GET, so that the cookie stays the one that she has.
            busy.ask(stage.at(0), "GET", "/a/rotate").unwrap();
            let waiting = stage.proxies[0].metric("sessionbridge_store_waiting");
            assert!(waiting <= 100.0, "{waiting} records of some twenty sessions wait");
        }
        assert!(stage.proxies.iter().all(|proxy| proxy.metric("sessionbridge_store_failing") > 0.0));
    });
    come(stage);
    let back = Instant::now();
    for person in &leaving {
        for at in [0, 1] {
            within(HEALED, "a sign-out of meanwhile holds on both", || {
                person.browser.clone().state(stage.at(at)) == "none"
            });
        }
    }
    let all = known
        .iter_mut()
        .map(|own| ("from before", own))
        .chain(new.iter_mut().map(|own| ("from meanwhile", own)));
    for (whence, person) in all.chain([("a stranger", &mut stranger)]) {
        for at in [0, 1] {
            person.is_known(&format!("{whence}, on {at}"), stage.at(at));
        }
    }
    eprintln!("all is as it was acknowledged {:?} after the store was back", back.elapsed());
    until("both say that the store is back", || {
        stage.proxies.iter().all(|proxy| proxy.metric("sessionbridge_store_failing") == 0.0)
    });
    for_all_of(Duration::from_secs(2), "nobody who signed out is back", || {
        leaving
            .iter()
            .all(|person| [0, 1].iter().all(|at| person.browser.clone().state(stage.at(*at)) == "none"))
    });
    // A proxy that begins now learns it from the store.
    stage.proxies[0].kill();
    stage.replace(0);
    for person in known.iter_mut().chain(&mut new).chain([&mut stranger]) {
        person.goes_on(stage.at(0));
    }
    assert!(leaving.iter().all(|person| person.browser.clone().state(stage.at(0)) == "none"));
    stage.nothing_was_mixed();
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r20_the_store_is_killed_and_comes_back_empty() {
    let mut stage = Stage::new();
    the_store_goes_and_comes_back(&mut stage, |stage| stage.server.kill(), |stage| stage.server.restart());
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r20_the_network_to_the_store_is_down() {
    let mut stage = Stage::new();
    the_store_goes_and_comes_back(
        &mut stage,
        |stage| stage.links.iter().for_each(crate::link::Link::cut),
        |stage| stage.links.iter().for_each(crate::link::Link::open),
    );
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r21_the_store_hangs() {
    let mut stage = Stage::new();
    the_store_goes_and_comes_back(&mut stage, |stage| stage.server.stop(), |stage| stage.server.go_on());
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r20_in_strict_mode_who_needs_a_session_is_told_to_come_again() {
    let mut stage = Stage::of(&Setting { on_outage: "strict", ..Setting::default() });
    let mut person = stage.person(0);
    person.goes_on(stage.at(1));
    stage.server.kill();
    for at in [0, 1] {
        let refused = || {
            let answer = person.browser.clone().ask(stage.at(at), "GET", "/a/page").unwrap();
            assert!(answer.field("set-cookie").is_none(), "{answer:?}");
            (
                answer.status,
                answer.field("x-bridge-error").map(str::to_owned),
                answer.field("retry-after").is_some(),
            )
        };
        // A copy may be two seconds old, store or no store.
        within(Duration::from_secs(3), "503", || refused() == (503, Some("store_outage".to_owned()), true));
        let answer = Browser::default().ask(stage.at(at), "GET", "/a/in").unwrap();
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    stage.server.restart();
    for at in [0, 1] {
        person.is_known("as before", stage.at(at));
    }
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn a_slow_store_makes_answers_with_news_slow_and_loses_nothing() {
    let stage = Stage::new();
    let mut people: Vec<Person> = (0..4).map(|number| stage.person(number % 2)).collect();
    stage.links.iter().for_each(|link| link.delay(Duration::from_millis(20)));
    for _ in 0..shortened(100, 10) {
        for (number, person) in people.iter_mut().enumerate() {
            let began = Instant::now();
            person.browser.ask(stage.at(number % 2), "POST", "/a/rotate").unwrap();
            assert!(began.elapsed() >= Duration::from_millis(40), "acknowledged before the store had it");
            person.goes_on(stage.at(1 - number % 2));
        }
    }
    stage.links.iter().for_each(crate::link::Link::open);
    stage.nothing_was_mixed();
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r22_a_lagging_replica_is_promoted_and_the_last_second_is_asserted_again() {
    for _ in 0..shortened(10, 1) {
        let mut stage = Stage::new();
        let (replica, way) = (Server::start(), crate::link::Link::to(stage.server.address));
        let mut before: Vec<Person> = (0..6).map(|number| stage.person(number % 2)).collect();
        before.iter_mut().for_each(|person| person.goes_on(stage.at(0)));
        before.iter_mut().for_each(|person| person.goes_on(stage.at(1)));
        replica.follow(way.address);
        assert_eq!(replica.keys("sb:s:*").len(), stage.server.keys("sb:s:*").len());
        way.hold();
        // For a second everything is acknowledged that the replica will never hear of.
        let mut after: Vec<Person> = Vec::new();
        let lost = Instant::now();
        let mut turn = 0;
        before.iter_mut().take(3).for_each(|person| person.sign_out(stage.at(0)));
        while lost.elapsed() < Duration::from_secs(1) {
            after.push(stage.person(turn % 2));
            let person = &mut before[3 + turn % 3];
            person.browser.ask(stage.at(turn % 2), "POST", "/a/rotate").unwrap();
            turn += 1;
        }
        let kept = replica.keys("sb:s:*").len();
        assert!(kept < stage.server.keys("sb:s:*").len(), "the replica does not lag");
        stage.server.kill();
        replica.promote();
        stage.links.iter().for_each(|link| link.leads_to(replica.address));
        let promoted = Instant::now();
        for person in before.iter_mut().skip(3).chain(&mut after) {
            for at in [0, 1] {
                person.is_known("acknowledged, and there", stage.at(at));
            }
        }
        for person in before.iter().take(3) {
            for at in [0, 1] {
                within(HEALED, "signed out, and it holds", || {
                    person.browser.clone().state(stage.at(at)) == "none"
                });
            }
        }
        eprintln!(
            "{} sessions of the last second are there {:?} after the promotion",
            after.len(),
            promoted.elapsed()
        );
        for_all_of(Duration::from_secs(2), "nobody is back", || {
            before
                .iter()
                .take(3)
                .all(|person| [0, 1].iter().all(|at| person.browser.clone().state(stage.at(*at)) == "none"))
        });
        // Also for a proxy that has nothing but what the replica has now.
        stage.proxies[0].kill();
        stage.replace(0);
        before.iter_mut().skip(3).chain(&mut after).for_each(|person| person.goes_on(stage.at(0)));
        assert!(before.iter().take(3).all(|person| person.browser.clone().state(stage.at(0)) == "none"));
        stage.nothing_was_mixed();
    }
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r23_somebody_empties_the_store() {
    let mut stage = Stage::new();
    let mut people: Vec<Person> = (0..10).map(|number| stage.person(number % 2)).collect();
    let mut left: Vec<Person> = (0..3).map(|number| stage.person(number % 2)).collect();
    for person in people.iter_mut().chain(&mut left) {
        person.goes_on(stage.at(0));
    }
    left.iter_mut().for_each(|person| person.sign_out(stage.at(0)));
    for (number, what) in ["FLUSHALL", "FLUSHDB"].into_iter().enumerate() {
        stage.server.ask(&[what]);
        for person in &mut people {
            // Each on a proxy that knows her: nobody notices.
            let says = person.looks(stage.at(0));
            assert!(person.is_right(&says), "after {what}: {says:?}");
        }
        within(HEALED, "all are in the store again", || {
            stage.server.keys("sb:s:*").len() >= people.len() + left.len()
        });
        stage.proxies[number % 2].kill();
        stage.replace(number % 2);
        people.iter_mut().for_each(|person| person.goes_on(stage.at(number % 2)));
        people.iter_mut().for_each(|person| person.goes_on(stage.at(1 - number % 2)));
        for at in [0, 1] {
            for person in &left {
                assert_ne!(person.browser.clone().state(stage.at(at)), "active", "after {what}");
                within(HEALED, "signed out for good", || {
                    person.browser.clone().state(stage.at(at)) == "none"
                });
            }
        }
    }
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r23_sessions_that_the_store_dropped_go_on_where_they_are_known() {
    let stage = Stage::new();
    let mut people: Vec<Person> = (0..6).map(|number| stage.person(number % 2)).collect();
    people.iter_mut().for_each(|person| person.goes_on(stage.at(0)));
    for key in stage.server.keys("sb:s:*") {
        // As an eviction does.
        stage.server.ask(&["DEL", &key]);
    }
    for_all_of(Duration::from_secs(5), "where they are known nobody notices", || {
        people.iter_mut().all(|person| person.is_signed_in(stage.at(0)))
    });
    people.iter_mut().for_each(|person| {
        person.browser.ask(stage.at(0), "POST", "/a/rotate").unwrap();
        person.browser.ask(stage.at(0), "POST", "/b/rotate").unwrap();
    });
    people.iter_mut().for_each(|person| person.goes_on(stage.at(1)));
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r23_keys_of_another_type_and_rubbish_end_no_process() {
    let stage = Stage::new();
    let mut people: Vec<Person> = (0..6).map(|number| stage.person(number % 2)).collect();
    people.iter_mut().for_each(|person| person.goes_on(stage.at(0)));
    for (number, key) in stage.server.keys("sb:*").into_iter().enumerate() {
        stage.server.ask(&["DEL", &key]);
        match number % 3 {
            0 => stage.server.ask(&["RPUSH", &key, "x"]),
            1 => stage.server.ask(&["SET", &key, "rubbish"]),
            _ => stage.server.ask(&["SADD", &key, "x"]),
        };
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        for person in &mut people {
            let says = person.looks(stage.at(0));
            let at = began.elapsed();
            assert!(person.is_right(&says), "where they are known nobody notices: {says:?} after {at:?}");
        }
    }
    // Whatever the other one says of them, it says it, and still serves who is new.
    for person in &people {
        let answer = person.browser.clone().ask(stage.at(1), "GET", "/a/page").unwrap();
        assert!([200, 503].contains(&answer.status), "{answer:?}");
    }
    stage.server.ask(&["FLUSHALL"]);
    within(HEALED, "they are written anew", || {
        people.iter_mut().all(|person| person.is_signed_in(stage.at(1)))
    });
    Person::arrive(stage.at(1)).goes_on(stage.at(0));
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r23_a_store_that_is_full_is_one_that_is_away() {
    let stage = Stage::new();
    let mut people: Vec<Person> = (0..6).map(|number| stage.person(number % 2)).collect();
    people.iter_mut().for_each(|person| person.goes_on(stage.at(0)));
    people.iter_mut().for_each(|person| person.goes_on(stage.at(1)));
    // It refuses to write: `OOM command not allowed`.
    stage.server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let mut leaving = people.pop().unwrap();
    leaving.sign_out(stage.at(0));
    for person in &mut people {
        // By GET, so that the cookie stays the one that both know.
        person.browser.ask(stage.at(0), "GET", "/a/rotate").unwrap();
        assert!(person.is_signed_in(stage.at(0)) && person.is_signed_in(stage.at(1)));
    }
    until("it is told", || stage.proxies[0].metric("sessionbridge_store_failing") > 0.0);
    stage.server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    within(HEALED, "it is written", || leaving.browser.clone().state(stage.at(1)) == "none");
    people.iter_mut().for_each(|person| person.goes_on(stage.at(1)));
    until("it is told", || stage.proxies[0].metric("sessionbridge_store_failing") == 0.0);
    stage.nothing_was_mixed();
}
