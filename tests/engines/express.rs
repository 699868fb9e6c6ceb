//! Express 5 with express-session: a signed id in `connect.sid`, sessions in memory, `rolling` on and off.

use std::sync::LazyLock;
use std::time::Duration;

use crate::init;
use crate::support::{Bridge, Engine, pause};
use crate::walks::{self, App, Person, Site, Way, straight};

const DEFAULTS: Site =
    Site { name: "Express", folder: "express", engine: "express", tokens: &["connect.sid"], ..Site::DEFAULT };
pub(crate) static SITE: Site = DEFAULTS;
/// Without `rolling`, as express-session is by default.
pub(crate) static FIXED_SITE: Site = Site { name: "Express without rolling", variant: "fixed", ..DEFAULTS };

pub(crate) static EXPRESS: LazyLock<Engine> = LazyLock::new(|| Engine::start(&SITE));
pub(crate) static FIXED: LazyLock<Engine> = LazyLock::new(|| Engine::start(&FIXED_SITE));

#[test]
#[ignore = "needs Express: tests/run"]
fn s3_1() {
    walks::s3_1(&SITE, &EXPRESS);
}

#[test]
#[ignore = "needs Express: tests/run"]
fn f15_init_drafts_a_config_that_runs_s3_1() {
    init::drafts_a_config_that_runs_s3_1(&SITE, &EXPRESS);
}

#[test]
#[ignore = "needs Express: tests/run"]
fn s3_1_without_rolling() {
    walks::s3_1(&FIXED_SITE, &FIXED);
}

#[test]
#[ignore = "needs Express: tests/run"]
fn colliding_names() {
    walks::collide(&SITE, &EXPRESS);
    // Each app refuses the other's signature and overwrites the cookie.
    assert_eq!(walks::collide_plain(&SITE, &EXPRESS), (false, false));
}

#[test]
#[ignore = "needs Express: tests/run"]
fn rotation() {
    walks::rotation(&SITE, &EXPRESS);
}

#[test]
#[ignore = "needs Express: tests/run"]
fn sign_out() {
    walks::sign_out(&SITE, &EXPRESS);
}

#[test]
#[ignore = "needs Express: tests/run"]
fn verdicts() {
    walks::verdicts(&SITE, &mut Engine::start(&SITE));
}

#[test]
#[ignore = "needs Express: tests/run"]
fn when_the_cookie_is_set() {
    for (engine, site, expected) in [(&*EXPRESS, &SITE, [1, 1, 1]), (&*FIXED, &FIXED_SITE, [1, 0, 0])] {
        let person = Person::new(site, Way::Plain(engine));
        // With `rolling`, by every answer: also by pages that never look at the session.
        let set = ["index", "index", "quiet"]
            .map(|page| person.browser.get(&person.url(App::A, page)).set_cookies());
        assert_eq!(set.each_ref().map(Vec::len), expected, "{}: {set:?}", site.name);
        assert!(set[0][0].starts_with("connect.sid=s%3A"), "{set:?}");
        assert!(set[0][0].contains("; Path=/; Expires=") && set[0][0].ends_with(" GMT; HttpOnly"), "{set:?}");
    }
}

#[test]
#[ignore = "needs Express: tests/run"]
fn what_a_dead_id_is_answered_with() {
    let person = Person::new(&SITE, Way::Plain(&EXPRESS));
    person.sign_in(App::A, "ann");
    let token = person.token(App::A);
    let out = person.browser.get(&person.url(App::A, "logout"));
    assert!(
        out.set_cookies().is_empty(),
        "the cookie of a destroyed session is not deleted: {:?}",
        out.headers
    );
    // Well signed, and unknown: nothing shows it where the session is not used, else another id does.
    assert!(straight(&EXPRESS, App::A, "quiet", &token).set_cookies().is_empty());
    let answer = straight(&EXPRESS, App::A, "id", &token);
    assert_eq!(answer.set_cookies().len(), 1);
    assert!(!token.contains(answer.json()["id"].as_str().unwrap()));
}

#[test]
#[ignore = "needs Express: tests/run"]
fn without_rolling_the_browser_loses_its_cookie_in_the_midst_of_work() {
    let bridge = Bridge::start(&FIXED_SITE, &FIXED, "");
    let people = [Way::Plain(&FIXED), Way::Bridge(&bridge)].map(|way| Person::new(&FIXED_SITE, way));
    let before = people.each_ref().map(|person| person.started(App::A));
    // Real time: 12 s at work in an app whose cookie lives for 10 s. The session in the store is renewed by each request.
    for _ in 0..12 {
        pause(Duration::from_secs(1));
        people.iter().for_each(|person| drop(person.state(App::A)));
    }
    let after = people.each_ref().map(|person| person.started(App::A));
    assert_ne!(before[0], after[0], "a browser forgets the cookie 10 s after it was set");
    assert_eq!(before[1], after[1], "the vault keeps it as long as the session lives");
}
