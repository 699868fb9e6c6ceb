//! ASP.NET on Mono (FastCGI behind nginx): sessions in cookies and in the path, forms sign-in.
//!
//! A sign-in is a cookie of its own, a ticket that nobody can take back: the apps' sessions know the name as well.

use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use http::Method;
use regex::Regex;
use serde_json::Value;

use crate::init;
use crate::support::{Answer, Bridge, Browser, Engine, pause, wait_until};
use crate::walks::{self, App, Person, Site, Way, straight};

pub(crate) static SITE: Site = Site {
    name: "ASP.NET on Mono",
    folder: "aspnet",
    engine: "aspnet",
    extension: ".aspx",
    // Whole minutes: it knows no less.
    timeouts: [60, 300],
    away: 150,
    punctual: false,
    // The session's id stays; the ticket is what a sign-in adds.
    tokens: &["ASP.NET_SessionId", ".MONOAUTH"],
    ..Site::DEFAULT
};

pub(crate) static MONO: LazyLock<Engine> = LazyLock::new(|| Engine::start(&SITE));

/// Well-shaped, and nobody's.
const PLANTED: &str = "0123456789ABCDEF01234567";
const ID: &str = "[0-9A-F]{24}";

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn s3_1() {
    walks::s3_1(&SITE, &MONO);
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn f15_init_drafts_a_config_that_runs_s3_1() {
    init::drafts_a_config_that_runs_s3_1(&SITE, &MONO);
}

/// Sessions die late here, tickets by the clock: what a person loses without the bridge is the sign-in.
#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn s3_1_of_a_sign_in() {
    let bridge = Bridge::start(&SITE, &MONO, "");
    let stays = |way| {
        let person = Person::new(&SITE, way);
        person.sign_in(App::A, "ann");
        // Real time: more than the minute of a ticket, which is renewed in its second half only.
        for _ in 0..20 {
            person.visit(App::B, "state");
            pause(Duration::from_secs(5));
        }
        person.state(App::A)["user"].clone()
    };
    thread::scope(|scope| {
        let plain = scope.spawn(|| stays(Way::Plain(&MONO)));
        let bridged = stays(Way::Bridge(&bridge));
        assert_eq!(bridged, "ann", "through the bridge\n{:#?}", bridge.timeline());
        assert_eq!(plain.join().unwrap(), Value::Null, "without it");
    });
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn colliding_names() {
    walks::collide(&SITE, &MONO);
    // One name, but each app's cookie has the app's own path: nothing is lost without the bridge either.
    assert_eq!(walks::collide_plain(&SITE, &MONO), (true, true));
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn rotation() {
    walks::rotation(&SITE, &MONO);
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn sign_out() {
    walks::sign_out(&SITE, &MONO);
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn verdicts() {
    walks::verdicts(&SITE, &mut Engine::start(&SITE));
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn cookies_have_the_path_of_the_app_and_no_flags() {
    let person = Person::new(&SITE, Way::Plain(&MONO));
    let answer = person.visit(App::A, "index");
    let session = Regex::new(&format!("^ASP.NET_SessionId={ID}; path=/AppA$")).unwrap();
    assert!(session.is_match(only(&answer.set_cookies())), "{:?}", answer.headers);
    let id = person.visit(App::A, "id").json()["id"].clone();

    let answer = post(&person.browser, &person.url(App::A, "login"));
    let ticket = Regex::new("^.MONOAUTH=[0-9A-Za-z+/=]+; path=/AppA$").unwrap();
    assert!(ticket.is_match(only(&answer.set_cookies())), "{:?}", answer.headers);
    assert_eq!(person.visit(App::A, "id").json()["id"], id, "a sign-in leaves the id as it is");

    let answer = person.browser.get(&person.url(App::A, "logout"));
    let deleted = ".MONOAUTH=; path=/AppA; expires=Tue, 12 Oct 1999 00:00:00 GMT";
    assert_eq!(answer.set_cookies(), [deleted], "the session's own cookie is not taken back");
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn an_unknown_id_is_replaced() {
    let own = Person::new(&SITE, Way::Plain(&MONO));
    own.visit(App::A, "index");
    let known = own.token(App::A);
    let unknown = format!("ASP.NET_SessionId={PLANTED}");
    // Nobody's, ill-shaped, another app's.
    let cases = [(App::A, &*unknown), (App::A, "ASP.NET_SessionId=abc"), (App::B, &known)];
    for (app, token) in cases {
        let answer = straight(&MONO, app, "id", token);
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert!(!token.contains(&id), "{token}: not adopted");
        assert!(only(&answer.set_cookies()).contains(&id), "{token}: {:?}", answer.headers);
    }
    // Of two cookies of the name it reads the first.
    let first = straight(&MONO, App::A, "id", &format!("{known}; {unknown}"));
    assert!(first.set_cookies().is_empty(), "{:?}", first.headers);
    let second = straight(&MONO, App::A, "id", &format!("{unknown}; {known}"));
    assert!(!known.contains(second.json()["id"].as_str().unwrap()));
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn a_ticket_outlives_the_sign_out() {
    let person = Person::new(&SITE, Way::Plain(&MONO));
    person.sign_in(App::A, "ann");
    let token = person.token(App::A);
    person.sign_out(App::A);
    assert_eq!(straight(&MONO, App::A, "state", &token).json()["user"], Value::Null, "the session is gone");
    assert_eq!(straight(&MONO, App::A, "ticket", &token).json()["ticket"], "ann", "the ticket is good");
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn a_heartbeat_never_delays_a_person_at_the_lock() {
    let bridge = Bridge::start(&SITE, &MONO, "heartbeat.every = \"1s\"");
    let person = Person::new(&SITE, Way::Bridge(&bridge));
    for _ in 0..2 {
        person.visit(App::A, "index");
    }
    let count = || bridge.session()["apps"]["appA"]["heartbeats"]["count"].as_u64().unwrap();
    wait_until("a heartbeat", || count() > 0);
    thread::scope(|scope| {
        let before = count();
        let slow = scope.spawn(|| person.visit(App::A, "slow?ms=4000").json());
        // Real time: longer than the three heartbeats that would have been due.
        pause(Duration::from_millis(3500));
        assert!(count() <= before + 1, "one may have been on its way: {before}, now {}", count());
        assert!(slow.join().unwrap()["started"].is_u64());
    });
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn ids_in_the_path() {
    let (browser, at) = (Browser::new(), |page: &str| MONO.origin(App::A) + "/AppC/" + page);
    let page = browser.visit(&at("index.aspx?x=1"));
    let id = id_in(&page.url);
    assert_eq!(page.url, at(&format!("({id})/index.aspx?x=1")));
    assert!(page.body.contains(&format!("href=\"/AppC/({id})/state.aspx\"")), "{}", page.body);
    assert!(page.set_cookies().is_empty());
    // A page that never touches the session goes without.
    assert_eq!(browser.get(&at("quiet.aspx")).status, 200);
    // The framework's own form means nothing here.
    assert_eq!(browser.get(&at(&format!("(S({id}))/state.aspx"))).status, 404);
    // The sign-in is a cookie even here.
    let answer = post(&browser, &at(&format!("({id})/login.aspx")));
    assert!(only(&answer.set_cookies()).starts_with(".MONOAUTH="));
    // A dead id leads to a path with two ids, and that to nothing: Mono itself cannot leave a session that died.
    let lost = browser.get(&at(&format!("({PLANTED})/state.aspx"))).header("location").unwrap();
    assert!(
        Regex::new(&format!(r"^/AppC/\({PLANTED}\)/\({ID}\)/state.aspx$")).unwrap().is_match(&lost),
        "{lost}"
    );
    assert_eq!(browser.get(&(MONO.origin(App::A) + &lost)).status, 404);
}

/// AppC alone, its ids in the path.
fn bridge_to_c() -> Bridge {
    Bridge::run(&format!(
        "heartbeat.every = \"1s\"\n[apps.appC]\npath = \"/AppC/\"\nupstreams = [\"{}\"]\nsession.engine = \"aspnet\"\n\
         session.timeout = \"60s\"\nheartbeat.path = \"/AppC/ping.aspx\"\nheartbeat.canary = {{ json = \"started\" }}\n",
        MONO.origin(App::A)
    ))
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn ids_in_the_path_through_the_bridge() {
    let bridge = bridge_to_c();
    let (browser, at) = (Browser::new(), |page: &str| bridge.at("/AppC/") + page);
    let page = browser.visit(&at("index.aspx"));
    assert_eq!(page.url, at("index.aspx"), "no id in the address bar");
    let started = page.output("started");
    browser.visit(&at("data.aspx?key=note&value=kept"));
    // The page itself has links with the id: they lead to the same session, by a clean address.
    let id = id_in(&page.body);
    let linked = browser.visit(&at(&format!("({id})/state.aspx")));
    assert_eq!((&*linked.url, &linked.json()["data"]["note"]), (&*at("state.aspx"), &Value::from("kept")));
    let signed_in = browser.submit(&at("login.aspx"), &[("user", "ann")]);
    assert_eq!((signed_in.output("user"), signed_in.output("started")), ("ann".to_owned(), started.clone()));
    heartbeat(&bridge, "alive");
    // Somebody else's browser gets nothing from the id.
    let thief = Browser::new().visit(&at(&format!("({id})/state.aspx")));
    assert_eq!(thief.json()["data"]["note"], Value::Null);
    assert!(!bridge.log().contains(&id), "an id in a log");
}

#[test]
#[ignore = "needs ASP.NET: tests/run"]
fn a_dead_id_in_the_path_is_replaced_without_the_persons_doing() {
    let bridge = bridge_to_c();
    let (browser, at) = (Browser::new(), |page: &str| bridge.at("/AppC/") + page);
    let page = browser.visit(&at("index.aspx"));
    assert_eq!(browser.visit(&at("index.aspx")).output("started"), page.output("started"));
    heartbeat(&bridge, "alive");
    // Behind the back of the bridge.
    Browser::new().get(&format!("{}/AppC/({})/logout.aspx", MONO.origin(App::A), id_in(&page.body)));
    heartbeat(&bridge, "replaced");
    let new = browser.visit(&at("index.aspx"));
    assert_eq!((new.status, &*new.url), (200, &*at("index.aspx")), "{}", new.body);
    assert_ne!(new.output("started"), page.output("started"));
    heartbeat(&bridge, "alive");
    assert_eq!(browser.visit(&at("index.aspx")).output("started"), new.output("started"));
}

fn heartbeat(bridge: &Bridge, verdict: &str) {
    wait_until(&format!("the verdict {verdict}"), || {
        let last = bridge.timeline().into_iter().rfind(|event| event.starts_with("appC heartbeat"));
        last.as_deref() == Some(&format!("appC heartbeat {verdict}"))
    });
}

/// The first id in a path, in an address or on a page.
fn id_in(text: &str) -> String {
    let id = Regex::new(&format!(r"/AppC/\(({ID})\)/")).unwrap();
    id.captures(text).unwrap_or_else(|| panic!("no id: {text}"))[1].to_owned()
}

/// Signs in by the form; the redirect is not followed.
fn post(browser: &Browser, url: &str) -> Answer {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    browser.request(Method::POST, url, &form, "user=ann").unwrap()
}

fn only(lines: &[String]) -> &str {
    let [line] = lines else { panic!("one Set-Cookie, not {lines:?}") };
    line
}
