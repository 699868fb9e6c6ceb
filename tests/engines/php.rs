//! PHP's file sessions: php-fpm behind nginx, `use_strict_mode` off (the default) and on.

use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::init;
use crate::support::{Bridge, Engine, pause, wait_until};
use crate::walks::{self, App, Person, Site, Way, straight};

const DEFAULTS: Site = Site {
    name: "PHP",
    folder: "php",
    engine: "php",
    extension: ".php",
    tokens: &["PHPSESSID"],
    adopts: true,
    ..Site::DEFAULT
};
pub(crate) static SITE: Site = DEFAULTS;
pub(crate) static STRICT_SITE: Site =
    Site { name: "PHP in strict mode", variant: "strict", adopts: false, ..DEFAULTS };
static URL_SITE: Site = Site { name: "PHP with ids in URLs", variant: "url", ..DEFAULTS };

pub(crate) static PHP: LazyLock<Engine> = LazyLock::new(|| Engine::start(&SITE));
pub(crate) static STRICT: LazyLock<Engine> = LazyLock::new(|| Engine::start(&STRICT_SITE));
static URL: LazyLock<Engine> = LazyLock::new(|| Engine::start(&URL_SITE));

/// An id that no engine has given out.
const PLANTED: &str = "0123456789abcdef0123456789abcdef";

#[test]
#[ignore = "needs PHP: tests/run"]
fn s3_1() {
    walks::s3_1(&SITE, &PHP);
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn f15_init_drafts_a_config_that_runs_s3_1() {
    init::drafts_a_config_that_runs_s3_1(&SITE, &PHP);
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn s3_1_in_strict_mode() {
    walks::s3_1(&STRICT_SITE, &STRICT);
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn colliding_names() {
    walks::collide(&SITE, &PHP);
    // Each app adopts the other's id, with content of its own: it works, by accident.
    assert_eq!(walks::collide_plain(&SITE, &PHP), (true, true));
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn colliding_names_in_strict_mode() {
    walks::collide(&STRICT_SITE, &STRICT);
    // Each app refuses the other's id and overwrites it: every change of app is a new session.
    assert_eq!(walks::collide_plain(&STRICT_SITE, &STRICT), (false, false));
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn a_sign_in_to_one_app_loses_the_other_without_the_bridge() {
    let person = Person::new(&SITE, Way::Plain(&PHP));
    person.visit(App::A, "index");
    person.store(App::B, "note", "of_b");
    person.sign_in(App::A, "ann");
    assert!(
        !person.finds(App::B, "note", "of_b"),
        "session_regenerate_id overwrote the cookie that both use"
    );
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn rotation() {
    walks::rotation(&SITE, &PHP);
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn sign_out() {
    walks::sign_out(&SITE, &PHP);
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn verdicts() {
    walks::verdicts(&SITE, &mut Engine::start(&SITE));
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn verdicts_in_strict_mode() {
    walks::verdicts(&STRICT_SITE, &mut Engine::start(&STRICT_SITE));
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn what_an_unknown_id_is_answered_with() {
    let token = format!("PHPSESSID={PLANTED}");
    let adopted = straight(&PHP, App::A, "id", &token);
    assert_eq!(adopted.json()["id"], PLANTED);
    assert!(adopted.set_cookies().is_empty(), "nothing shows that the session is new");
    let refused = straight(&STRICT, App::A, "id", &token);
    assert_ne!(refused.json()["id"], PLANTED);
    let [cookie] = &refused.set_cookies()[..] else { panic!("{:?}", refused.headers) };
    assert!(cookie.starts_with("PHPSESSID=") && cookie.ends_with("; path=/"), "{cookie}");
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn how_a_sign_out_deletes_the_cookie() {
    let person = Person::new(&SITE, Way::Plain(&PHP));
    person.sign_in(App::A, "ann");
    let answer = person.browser.get(&person.url(App::A, "logout"));
    let expected = "PHPSESSID=deleted; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; path=/";
    assert_eq!(answer.set_cookies(), [expected]);
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn alone_on_the_server_a_dead_session_answers_once_more() {
    // Of its own: nobody else may come and sweep.
    let engine = Engine::start(&SITE);
    let person = Person::new(&SITE, Way::Plain(&engine));
    let first = person.started(App::A);
    // The real timeout, 10 s, is the point.
    pause(Duration::from_secs(13));
    assert_eq!(person.started(App::A), first, "a read ignores age, and the sweep comes after it");
    // What it wrote went into a file that the sweep had removed.
    assert_ne!(person.started(App::A), first, "then it is gone");
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn where_nobody_sweeps_a_dead_session_revives() {
    let engine = Engine::start_as(&SITE, "lazy");
    let person = Person::new(&SITE, Way::Plain(&engine));
    let first = person.started(App::A);
    // The real timeout, 10 s, is the point.
    pause(Duration::from_secs(13));
    assert_eq!(
        [person.started(App::A), person.started(App::A)],
        [first, first],
        "a timeout measured here misleads"
    );
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn ids_in_urls() {
    let person = Person::new(&URL_SITE, Way::Plain(&URL));
    let first = person.visit(App::A, "index").body;
    let id = person.browser.cookie(&person.url(App::A, "index"), "PHPSESSID").unwrap();
    assert!(first.contains(&format!("state.php?PHPSESSID={id}")), "{first}");
    assert!(first.contains(&format!("/AppB/index.php?PHPSESSID={id}")), "also in links to others: {first}");
    assert!(!person.visit(App::A, "index").body.contains("PHPSESSID"), "the cookie has come back");
    // Whoever follows a link with an id in it is in a session that somebody else has chosen.
    let victim = Person::new(&URL_SITE, Way::Plain(&URL));
    let page = victim.visit(App::A, &format!("index?PHPSESSID={PLANTED}"));
    assert!(page.body.contains(&format!("state.php?PHPSESSID={PLANTED}")), "{}", page.body);
    assert!(page.set_cookies().is_empty(), "it stays in URLs alone: {:?}", page.headers);
    // Who has a cookie keeps it.
    let own = person.visit(App::A, &format!("id?PHPSESSID={PLANTED}")).json();
    assert_eq!(own["id"], *id);
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn ids_in_urls_through_the_bridge() {
    let bridge = Bridge::start(&URL_SITE, &URL, "");
    let person = Person::new(&URL_SITE, Way::Bridge(&bridge));
    let first = person.visit(App::A, "index");
    let link = regex::Regex::new("/AppB/index.php\\?PHPSESSID=[0-9a-f]+").unwrap();
    let link = link.find(&first.body).expect("the first page has the app's ids in its links").as_str();
    let id = link.split_once('=').unwrap().1;
    let there = person.browser.visit(&bridge.at(link));
    assert!(!there.url.contains("PHPSESSID"), "the address bar says {}", there.url);
    assert!(!person.token(App::B).contains(id), "the id of AppA is none of AppB's");
    assert_eq!(id_in(&person.token(App::A)), id);
    assert!(
        !person.visit(App::A, "index").body.contains("PHPSESSID"),
        "the app gets its cookie from the vault"
    );
    let victim = Person::new(&URL_SITE, Way::Bridge(&bridge));
    let page = victim.visit(App::A, &format!("index?PHPSESSID={PLANTED}"));
    assert!(!page.url.contains(PLANTED) && !page.body.contains(PLANTED), "{} {}", page.url, page.body);
    assert!(!victim.token(App::A).contains(PLANTED), "nobody is put into a session of another's choice");
    assert!(!bridge.log().contains(PLANTED) && !bridge.log().contains(id), "ids in a log");
}

fn id_in(cookies: &str) -> &str {
    cookies.strip_prefix("PHPSESSID=").unwrap_or_else(|| panic!("{cookies}"))
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn a_heartbeat_never_delays_a_person_at_the_lock() {
    let bridge = Bridge::start(&SITE, &PHP, "heartbeat.every = \"1s\"");
    let person = Person::new(&SITE, Way::Bridge(&bridge));
    person.visit(App::A, "index");
    let count = || bridge.session()["apps"]["appA"]["heartbeats"]["count"].as_u64().unwrap();
    wait_until("a heartbeat", || {
        person.visit(App::A, "quiet");
        count() > 0
    });
    // A slow page of the person's own holds the lock: no heartbeat queues up behind it.
    thread::scope(|scope| {
        let before = count();
        let slow = scope.spawn(|| timed(|| person.visit(App::A, "slow?ms=4000")));
        // Real time: longer than the three heartbeats that would have been due.
        pause(Duration::from_millis(3500));
        assert!(count() <= before + 1, "one may have been on its way: {before}, now {}", count());
        assert!(slow.join().unwrap() < Duration::from_millis(5000));
    });
    assert!(timed(|| person.visit(App::A, "state")) < Duration::from_secs(1), "nobody else is in the queue");
    // Somebody else's request holds it, so that heartbeats do wait: the person waits for that request and for nothing else.
    let token = person.token(App::A);
    thread::scope(|scope| {
        let before = count();
        scope.spawn(|| straight(&PHP, App::A, "slow?ms=4000", &token));
        wait_until("a heartbeat at the lock", || count() > before);
        assert!(timed(|| person.visit(App::A, "state")) < Duration::from_millis(5000));
    });
}

/// How long it took.
fn timed<T>(what: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    what();
    begin.elapsed()
}
