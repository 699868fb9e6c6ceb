//! Tomcat: servlet sessions of two web applications (JSP), their JSESSIONID at `/` or at the path of each.

use std::sync::LazyLock;
use std::time::Duration;

use crate::init;
use crate::support::{Answer, Bridge, Browser, Engine, pause, wait_until};
use crate::walks::{self, App, Person, Site, Way};

pub(crate) static SITE: Site = Site {
    name: "Tomcat",
    folder: "tomcat",
    engine: "servlet",
    extension: ".jsp",
    tokens: &["JSESSIONID"],
    ..Site::DEFAULT
};

pub(crate) static TOMCAT: LazyLock<Engine> = LazyLock::new(|| Engine::start(&SITE));
/// Each application sets its cookie at its own path: Tomcat's default.
static PATHS: LazyLock<Engine> = LazyLock::new(|| Engine::start_as(&SITE, "paths"));

/// GET a page with this JSESSIONID (none where it is empty).
fn ask(app: App, page: &str, id: &str) -> Answer {
    let cookies = if id.is_empty() { String::new() } else { format!("JSESSIONID={id}") };
    Browser::bare(&TOMCAT.url(app, page), &cookies, "")
}

/// A session of AppA that knows `note`.
fn begin() -> String {
    let id = ask(App::A, "index", "").value_set("JSESSIONID");
    ask(App::A, "data?key=note&value=kept", &id);
    assert!(knows(&id));
    id
}

fn knows(id: &str) -> bool {
    ask(App::A, "state", id).json()["data"]["note"] == "kept"
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn s3_1() {
    walks::s3_1(&SITE, &TOMCAT);
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn f15_init_drafts_a_config_that_runs_s3_1() {
    init::drafts_a_config_that_runs_s3_1(&SITE, &TOMCAT);
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn colliding_names() {
    walks::collide(&SITE, &TOMCAT);
    // Each application adopts an id that another one of the host knows, with content of its own.
    assert_eq!(walks::collide_plain(&SITE, &TOMCAT), (true, true));
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn paths_of_their_own() {
    walks::collide(&SITE, &PATHS);
    assert_eq!(walks::collide_plain(&SITE, &PATHS), (true, true), "nothing collides");
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn rotation() {
    walks::rotation(&SITE, &TOMCAT);
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn sign_out() {
    walks::sign_out(&SITE, &TOMCAT);
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn verdicts() {
    walks::verdicts(&SITE, &mut Engine::start(&SITE));
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn seen_an_id_of_another_application_is_adopted_and_no_other() {
    let id = begin();
    let other = ask(App::B, "id", &id);
    assert_eq!(other.json()["id"], id, "Path=/: the id that AppA knows is AppB's too");
    assert_eq!(other.value_set("JSESSIONID"), id, "and is set once more");
    assert!(ask(App::B, "id", &id).names_set().is_empty());
    let stranger = "0123456789ABCDEF0123456789ABCDEF";
    let unknown = ask(App::A, "id", stranger);
    assert_eq!(unknown.names_set(), ["JSESSIONID"]);
    assert_ne!(unknown.json()["id"], stranger);
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn seen_the_first_page_prints_the_id_while_it_sets_the_cookie() {
    let first = ask(App::A, "links", "");
    let id = first.value_set("JSESSIONID");
    assert_eq!(first.set_cookies(), [format!("JSESSIONID={id}; Path=/; HttpOnly")]);
    assert!(first.body.contains(&format!("href=\"state.jsp;jsessionid={id}\"")), "{}", first.body);
    assert!(
        first.body.contains(&format!("data.jsp;jsessionid={id}?key=")),
        "before the query: {}",
        first.body
    );
    assert!(!ask(App::A, "links", &id).body.contains("jsessionid"), "once the cookie is there it does not");
    let url = TOMCAT.url(App::A, "state").replace(".jsp", &format!(".jsp;jsessionid={id}"));
    let by_path = Browser::bare(&url, "", "");
    assert!(by_path.names_set().is_empty(), "the path resumes the session and sets nothing");
    let since = |answer: &Answer| answer.json()["started"].as_u64().unwrap();
    assert_eq!(since(&by_path), since(&ask(App::A, "ping", &id)));
    // A cookie that is known wins over the path.
    let other = begin();
    assert_eq!(Browser::bare(&url, &format!("JSESSIONID={other}"), "").json()["data"]["note"], "kept");
    // So does one that is not.
    let unknown = Browser::bare(&url, "JSESSIONID=0123456789ABCDEF0123456789ABCDEF", "");
    assert_ne!(unknown.value_set("JSESSIONID"), id);
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn seen_signing_in_changes_the_id_and_the_old_one_is_unknown() {
    let old = begin();
    let answer = Browser::bare(&TOMCAT.url(App::A, "login"), &format!("JSESSIONID={old}"), "user=ann");
    let new = answer.value_set("JSESSIONID");
    assert_ne!(new, old);
    assert_eq!(answer.header("location").unwrap(), "index.jsp");
    assert!(knows(&new) && !knows(&old));

    // One jar for both: AppB's session hung on the id that AppA gave up.
    let person = Person::new(&SITE, Way::Plain(&TOMCAT));
    person.store(App::A, "note", "of_a");
    person.store(App::B, "note", "of_b");
    person.sign_in(App::A, "ann");
    assert!(person.finds(App::A, "note", "of_a"));
    assert!(!person.finds(App::B, "note", "of_b"));
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn seen_every_request_keeps_a_session_alive_even_for_a_file() {
    let (quiet, file, nobody) = (begin(), begin(), begin());
    // The real timeout is the point.
    for _ in 0..4 {
        pause(Duration::from_secs(3));
        assert_eq!(ask(App::A, "quiet", &quiet).status, 200);
        let text = TOMCAT.url(App::A, "static").replace(".jsp", ".txt");
        assert_eq!(Browser::bare(&text, &format!("JSESSIONID={file}"), "").status, 200);
    }
    assert!(!knows(&nobody), "12 s of 10 without a request");
    // Tomcat's authenticator looks the session up before the application is asked.
    assert!(knows(&quiet), "a page that never asks for the session");
    assert!(knows(&file), "a static file");
}

/// Links of the first page carry the id; whoever gets one of them gets no session with it, and the person keeps hers.
#[test]
#[ignore = "needs Tomcat: tests/run"]
fn a_printed_id_opens_nothing_to_a_stranger() {
    let bridge = Bridge::start(&SITE, &TOMCAT, "");
    let person = Person::new(&SITE, Way::Bridge(&bridge));
    let first = person.visit(App::A, "links");
    let id = token_of(&person);
    assert!(first.body.contains(&id), "what an app writes into its page is not rewritten");
    person.store(App::A, "note", "kept");
    let link = person.url(App::A, "state").replace(".jsp", &format!(".jsp;jsessionid={id}"));
    let own = person.browser.visit(&link);
    assert_eq!(own.json()["data"]["note"], "kept");
    assert!(!own.url.contains("jsessionid"), "the address bar is clean: {}", own.url);
    let stranger = Browser::new().visit(&link);
    assert!(stranger.json()["data"]["note"].is_null(), "{}", stranger.body);
    assert!(!stranger.url.contains("jsessionid"), "{}", stranger.url);
    assert!(!bridge.log().contains(&id));
}

/// The JSESSIONID with which AppA knows this person.
fn token_of(person: &Person<'_>) -> String {
    let cookies = person.token(App::A);
    let id = cookies.split("; ").find_map(|pair| pair.strip_prefix("JSESSIONID="));
    id.unwrap_or_else(|| panic!("no token: {cookies}")).to_owned()
}

/// Fills in the container's own form.
const FORM: &str = "j_username=ann&j_password=secret";

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn seen_form_login_answers_200_and_changes_the_id_twice() {
    let bare = ask(App::A, "secure/page", "");
    assert_eq!((bare.status, bare.names_set().len()), (200, 1));
    assert!(
        bare.body.contains("j_security_check"),
        "the form in the page's place, no redirect: {}",
        bare.body
    );
    let old = begin();
    let asked = ask(App::A, "secure/page", &old);
    let new = asked.value_set("JSESSIONID");
    assert!(asked.body.contains("j_security_check") && new != old);
    assert!(knows(&new) && !knows(&old), "the question alone renews the id");
    let check = TOMCAT.url(App::A, "secure/j_security_check").replace(".jsp", "");
    let answer = Browser::bare(&check, &format!("JSESSIONID={new}"), FORM);
    assert_eq!((answer.status, answer.header("location").as_deref()), (303, Some("/AppA/secure/page.jsp")));
    let signed_in = answer.value_set("JSESSIONID");
    assert!(signed_in != new && knows(&signed_in) && !knows(&new), "and so does the answer");
    assert_eq!(ask(App::A, "secure/page", &signed_in).json()["user"], "ann");
}

/// A heartbeat page behind the container's form: it lives as long as the sign-in does, and the form is no proof of life.
#[test]
#[ignore = "needs Tomcat: tests/run"]
fn a_heartbeat_behind_form_login() {
    let config = SITE.config_with_heartbeat(&TOMCAT, ["appA", "appB"], "secure/page");
    let bridge = Bridge::run(&format!("heartbeat.every = \"1s\"\n{config}"));
    let person = Person::new(&SITE, Way::Bridge(&bridge));
    assert!(person.visit(App::A, "secure/page").body.contains("j_security_check"));
    let check = person.url(App::A, "secure/j_security_check").replace(".jsp", "");
    let page = person.browser.submit(&check, &[("j_username", "ann"), ("j_password", "secret")]);
    assert_eq!(page.json()["user"], "ann");
    let last = || {
        let story = bridge.timeline();
        story.into_iter().rfind(|event| event.starts_with("appA heartbeat"))
    };
    wait_until("a heartbeat that finds her signed in", || last().as_deref() == Some("appA heartbeat alive"));
    let id = token_of(&person);
    ask(App::A, "logout", &id);
    // The form comes with a new id.
    wait_until("the verdict replaced", || last().as_deref() == Some("appA heartbeat replaced"));
    assert!(person.visit(App::A, "secure/page").body.contains("j_security_check"));
}
