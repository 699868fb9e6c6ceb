//! One of the proxies dies, stops, hangs, or is cut off from the store.

use std::time::Duration;

use tokio::time::Instant;

use crate::app::{App, Kind};
use crate::stage::{HEALED, NEWS, Person, Setting, Stage};
use crate::{for_all_of, shortened, until, within};

/// How often heartbeats go out where a proxy dies: longer than it takes to notice, as with any app outside of tests.
const EVERY: Duration = Duration::from_secs(8);

/// After `since` no session waits longer than twice the interval for a heartbeat, which is one interval for whoever takes over, and
/// none gets two of them at once.
fn beats_go_on(people: &[Person], stage: &Stage, since: Instant, span: Duration) {
    let gap = |app: &App, session: u64| {
        let mut hits = app.hits(session, Kind::Page);
        hits.extend(app.hits(session, Kind::Beat));
        hits.sort_by_key(|hit| hit.at);
        hits.last().map_or(Duration::MAX, |last| last.at.elapsed())
    };
    for_all_of(span.saturating_sub(since.elapsed()), "every session gets its heartbeats", || {
        people
            .iter()
            .all(|person| gap(&stage.a, person.a) <= 2 * EVERY && gap(&stage.b, person.b) <= 2 * EVERY)
    });
    for person in people {
        for (app, session) in [(&stage.a, person.a), (&stage.b, person.b)] {
            let beats: Vec<Instant> = app.beats(session).into_iter().filter(|at| *at > since).collect();
            assert!(!beats.is_empty(), "nobody has taken over");
            let close = beats.windows(2).find(|pair| pair[1] - pair[0] < EVERY / 2);
            assert!(close.is_none(), "twice within {:?}", close.map(|pair| pair[1] - pair[0]));
        }
    }
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn s4_20_killed_in_mid_session_the_browser_goes_on_in_both_apps_on_the_other_proxy() {
    let mut stage = Stage::of(&Setting { every: "8s", ..Setting::default() });
    let mut people: Vec<Person> = (0..shortened(50, 10)).map(|_| stage.person(0)).collect();
    // Some were on the other one, too; most it has never seen.
    people.iter_mut().take(3).for_each(|person| person.goes_on(stage.at(1)));
    // The last thing that was acknowledged before.
    people.iter_mut().for_each(|person| {
        person.browser.ask(stage.at(0), "POST", "/a/rotate").unwrap();
    });
    stage.proxies[0].kill();
    let killed = Instant::now();
    for person in &mut people {
        person.goes_on(stage.at(1));
        assert_eq!(
            stage.a.hits(person.a, Kind::Page).last().unwrap().stale,
            Duration::ZERO,
            "the token that was given last"
        );
    }
    beats_go_on(&people, &stage, killed, 3 * EVERY);
    // The one that takes its place has everything, too.
    stage.replace(0);
    people.iter_mut().for_each(|person| person.goes_on(stage.at(0)));
    stage.nothing_was_mixed();
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn s1_7_proxies_are_restarted_one_after_the_other_and_nobody_notices() {
    let mut stage = Stage::of(&Setting { every: "8s", ..Setting::default() });
    let mut people: Vec<Person> = (0..10).map(|number| stage.person(number % 2)).collect();
    for _ in 0..shortened(10, 1) {
        for number in 0..2 {
            assert_eq!(stage.proxies[number].stop(), 0);
            people.iter_mut().for_each(|person| person.goes_on(stage.at(1 - number)));
            stage.replace(number);
            people.iter_mut().for_each(|person| person.goes_on(stage.at(number)));
        }
    }
    beats_go_on(&people, &stage, Instant::now(), 2 * EVERY + EVERY / 2);
    // All of them at once is no different: the store has it.
    stage.proxies.iter_mut().for_each(|proxy| assert_eq!(proxy.stop(), 0));
    (0..2).for_each(|number| stage.replace(number));
    people.iter_mut().for_each(|person| person.goes_on(stage.at(0)));
    stage.nothing_was_mixed();
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn a_proxy_that_hung_and_comes_to_itself_undoes_nothing() {
    let stage = Stage::new();
    let mut people: Vec<Person> = (0..6).map(|_| stage.person(0)).collect();
    people.iter_mut().for_each(|person| person.goes_on(stage.at(1)));
    stage.proxies[0].signal("STOP");
    // Longer than its lease.
    let stopped = Instant::now();
    people.iter_mut().take(3).for_each(|person| person.sign_out(stage.at(1)));
    people.iter_mut().skip(3).for_each(|person| {
        person.browser.ask(stage.at(1), "POST", "/a/rotate").unwrap();
    });
    for_all_of(shortened(Duration::from_secs(60), Duration::from_secs(11)), "the other one serves", || {
        people.iter_mut().skip(3).all(|person| person.is_signed_in(stage.at(1)))
    });
    let rotated = Instant::now();
    stage.proxies[0].signal("CONT");
    for person in people.iter_mut().take(3) {
        within(NEWS, "signed out here, too", || person.browser.clone().state(stage.at(0)) == "none");
        assert_eq!(person.browser.clone().state(stage.at(1)), "none");
    }
    for person in people.iter_mut().skip(3) {
        until("goes on here, too", || person.is_signed_in(stage.at(0)));
        assert!(person.is_signed_in(stage.at(1)));
        let fresh = |hit: &crate::app::Hit| hit.at < rotated + NEWS || hit.stale.is_zero();
        assert!(
            stage.a.hits(person.a, Kind::Page).iter().all(fresh),
            "an old token, {:?} later",
            stopped.elapsed()
        );
    }
    stage.nothing_was_mixed();
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r24_one_proxy_is_cut_off_serves_whom_it_knows_and_brings_nobody_back() {
    for held in [false, true] {
        let stage = Stage::new();
        let mut people: Vec<Person> = (0..9).map(|number| stage.person(number % 2)).collect();
        for person in &mut people {
            person.goes_on(stage.at(0));
            person.goes_on(stage.at(1));
        }
        let mut stranger = stage.person(0);
        let (away, one) = (&stage.links[1], &stage.proxies[1]);
        if held {
            away.hold()
        } else {
            away.cut()
        }
        // Three are signed out on the side of the store, three on the other, and three go on.
        people.iter_mut().take(3).for_each(|person| person.sign_out(stage.at(0)));
        people.iter_mut().skip(3).take(3).for_each(|person| person.sign_out(stage.at(1)));
        for person in people.iter_mut().skip(3).take(3) {
            assert_ne!(
                person.browser.clone().state(stage.at(1)),
                "active",
                "where she signed out it holds at once"
            );
        }
        for_all_of(
            shortened(Duration::from_secs(60), Duration::from_secs(4)),
            "known sessions go on",
            || {
                people
                    .iter_mut()
                    .skip(6)
                    .all(|person| person.is_signed_in(stage.at(0)) && person.is_signed_in(stage.at(1)))
            },
        );
        // Whom it does not know it does not turn away for good.
        let answer = stranger.browser.ask(stage.at(1), "GET", "/a/page").unwrap();
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.field("x-bridge-error"), Some("store_outage"), "{answer:?}");
        assert!(answer.field("set-cookie").is_none() && answer.field("retry-after").is_some(), "{answer:?}");
        assert!(one.metric("sessionbridge_store_failing") > 0.0);
        stranger.goes_on(stage.at(0));
        away.open();
        for person in people.iter_mut().take(6) {
            for at in [0, 1] {
                within(HEALED, "signed out on both", || person.browser.clone().state(stage.at(at)) == "none");
            }
        }
        stranger.is_known("it knows the stranger", stage.at(1));
        for_all_of(Duration::from_secs(2), "nobody comes back", || {
            people
                .iter()
                .take(6)
                .all(|person| [0, 1].iter().all(|at| person.browser.clone().state(stage.at(*at)) == "none"))
        });
        people.iter_mut().skip(6).for_each(|person| {
            person.goes_on(stage.at(0));
            person.goes_on(stage.at(1));
        });
        for person in people.iter().take(6) {
            let leaves = stage.a.hits(person.a, Kind::Leave).len();
            assert!(
                leaves <= 2,
                "{leaves} sign-out requests: without the store nobody can say who was first"
            );
        }
        stage.nothing_was_mixed();
    }
}
