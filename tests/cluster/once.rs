//! What has to be done once is done once, whichever proxies are asked, and however much at once.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::app::Kind;
use crate::browser::Browser;
use crate::stage::{Setting, Stage};
use crate::{for_all_of, shortened, until};

/// Does `work` on both proxies at the same time; what came of it.
fn on_both<T: Send>(stage: &Stage, work: impl Fn(usize, &str) -> T + Sync) -> Vec<T> {
    at_once(2, |number| work(number, stage.at(number)))
}

fn at_once<T: Send>(many: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let all = Barrier::new(many);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..many)
            .map(|number| {
                let (all, work) = (&all, &work);
                scope.spawn(move || {
                    all.wait();
                    work(number)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn of_sign_outs_on_both_at_once_each_app_hears_once() {
    let stage = Stage::new();
    for number in 0..shortened(100, 10) {
        let mut person = stage.person(number % 2);
        person.goes_on(stage.at(1 - number % 2));
        let tab = person.browser.clone();
        let answers = on_both(&stage, |_, at| tab.clone().ask(at, "POST", "/.bridge/logout").unwrap().status);
        assert_eq!(answers, [303, 303]);
        let leaves = || {
            [(&stage.a, person.a), (&stage.b, person.b)]
                .map(|(app, session)| app.hits(session, Kind::Leave).len())
        };
        until("both apps to hear", || leaves() == [1, 1]);
        for_all_of(Duration::from_millis(300), "once", || leaves() == [1, 1]);
        assert!(!stage.a.lives(person.a) && !stage.b.lives(person.b));
    }
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn a_sign_out_in_one_app_reaches_the_other_once() {
    let stage = Stage::new();
    for number in 0..shortened(50, 5) {
        let mut person = stage.person(number % 2);
        person.goes_on(stage.at(1 - number % 2));
        assert_eq!(person.browser.clone().get(stage.at(1 - number % 2), "/a/logout").as_deref(), Some("out"));
        until("the other app to hear", || stage.b.hits(person.b, Kind::Leave).len() == 1);
        for_all_of(Duration::from_millis(300), "once", || stage.b.hits(person.b, Kind::Leave).len() == 1);
        assert!(stage.a.hits(person.a, Kind::Leave).is_empty(), "it was there that she signed out");
    }
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn of_first_requests_on_both_at_once_one_brings_the_token() {
    let stage = Stage::new();
    for _ in 0..shortened(50, 5) {
        // Signed in to one app, and never seen in the other.
        let mut browser = Browser::default();
        browser.get(stage.at(0), "/a/in").unwrap();
        browser.get(stage.at(1), "/a/page").unwrap();
        let before = stage.b.begun();
        let says = at_once(16, |number| browser.clone().get(stage.at(number % 2), "/b/first").unwrap());
        assert_eq!(stage.b.begun(), before + 1, "{says:?}");
        assert!(says.iter().all(|session| *session == (before + 1).to_string()), "{says:?}");
    }
    stage.nothing_was_mixed();
}

const BUILDER: &str = "session.url_tokens = { builderCFID = \"CFID\", builderCFTOKEN = \"CFTOKEN\" }";

#[test]
#[ignore = "needs redis-server: tests/run"]
fn a_url_token_is_adopted_by_one_browser_on_one_proxy() {
    // An address may try in vain but a few times a minute: each five rounds have proxies of their own.
    for _ in 0..shortened(10, 1) {
        let stage = Stage::of(&Setting { a: BUILDER, ..Setting::default() });
        (0..5).for_each(|number| one_of_two_adopts(&stage, number));
    }
}

fn one_of_two_adopts(stage: &Stage, number: usize) {
    // A client that returns no cookies is given a link for a browser.
    let pair = Browser::default().get(stage.at(number % 2), "/a/link").unwrap();
    let session = stage.a.begun();
    let target = format!("/a/page?{pair}");
    let mut browsers = on_both(stage, |_, at| {
        let mut browser = Browser::default();
        let answer = browser.navigate(at, &target, "none").unwrap();
        assert_eq!(answer.status, 303, "{answer:?}");
        (browser, answer.head)
    });
    let says = browsers
        .iter_mut()
        .enumerate()
        .map(|(number, (browser, _))| browser.get(stage.at(number), "/a/page"));
    let says: Vec<String> = says.map(Option::unwrap).collect();
    let adopted = says.iter().filter(|says| **says == session.to_string()).count();
    assert_eq!(adopted, 1, "{says:?}");
    // Whoever comes later gets nothing, on either.
    let mut late = Browser::default();
    let _ = late.navigate(stage.at(number % 2), &target, "none").unwrap();
    assert_eq!(late.get(stage.at(number % 2), "/a/page").as_deref(), Some("none"));
}

const ON_A: &str = "hosts = [\"a.example\"]";
const ON_B: &str =
    "hosts = [\"b.example\"]\nsession.url_tokens = { AID = \"a.CFID\", ATOKEN = \"a.CFTOKEN\" }";

#[test]
#[ignore = "needs redis-server: tests/run"]
fn a_round_trip_of_two_hosts_goes_over_both_proxies_and_its_ticket_is_good_once() {
    let stage = Stage::of(&Setting { a: ON_A, b: ON_B, ..Setting::default() });
    // One step of it on one proxy, the next on the other.
    let step = |browser: &mut Browser, at: usize, url: &str| {
        let (host, path) = url.split_once("://").unwrap().1.split_once('/').unwrap();
        browser.host = if host == "a.example" { "a.example" } else { "b.example" };
        let answer = browser.navigate(stage.at(at), &format!("/{path}"), "cross-site").unwrap();
        answer.field("location").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    };
    for number in 0..shortened(50, 5) {
        let (here, there) = (number % 2, 1 - number % 2);
        let mut browser = Browser::at("a.example");
        let session = browser.get(stage.at(here), "/a/in").unwrap();
        assert_eq!(browser.get(stage.at(there), "/a/page"), Some(session.clone()));
        let start = "http://b.example/b/page?AID=101&ATOKEN=12345678";
        let id = step(&mut browser, here, start);
        assert!(id.starts_with("http://a.example/.bridge/join?id="), "{id}");
        let back = step(&mut browser, there, &id);
        assert!(back.starts_with("http://b.example/.bridge/join/back?id="), "{back}");
        browser.host = "b.example";
        let target = back.strip_prefix("http://b.example").unwrap();
        let answers = on_both(&stage, |_, at| browser.clone().navigate(at, target, "cross-site").unwrap());
        let good =
            answers.iter().filter(|answer| answer.head.to_ascii_lowercase().contains("set-cookie: bridge="));
        assert_eq!(good.count(), 1, "{answers:?}");
    }
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn r26_a_sign_out_on_one_while_a_heartbeat_of_the_other_is_on_its_way() {
    let stage = Stage::of(&Setting { every: "1s", ..Setting::default() });
    stage.a.takes(Duration::ZERO, Duration::from_millis(700));
    for number in 0..shortened(30, 3) {
        let mut person = stage.person(number % 2);
        person.goes_on(stage.at(1 - number % 2));
        let before = stage.a.beats(person.a).len();
        until("a heartbeat on its way", || stage.a.beats(person.a).len() > before);
        person.sign_out(stage.at(1 - number % 2));
        let acknowledged = tokio::time::Instant::now();
        let limit = acknowledged + Duration::from_secs(2);
        for_all_of(Duration::from_secs(4), "no token is sent any more", || {
            let late = |kind| stage.a.hits(person.a, kind).iter().any(|hit| hit.at > limit);
            !late(Kind::Beat) && !late(Kind::Page)
        });
    }
}
