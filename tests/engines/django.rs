//! Django 5.2: two projects with sessions in a database, real sign-in, CSRF tokens, sign-out by POST only.

use std::sync::LazyLock;
use std::time::Duration;

use http::Method;

use crate::init;
use crate::support::{Bridge, Browser, Engine, pause};
use crate::walks::{self, App, Person, Site, Way, straight};

const DEFAULTS: Site = Site {
    name: "Django",
    folder: "django",
    engine: "django",
    own_ports: true,
    sign_out: "POST",
    tokens: &["sessionid"],
    ..Site::DEFAULT
};
pub(crate) static SITE: Site = DEFAULTS;
/// Without SESSION_SAVE_EVERY_REQUEST, as Django is by default.
static FIXED_SITE: Site = Site { name: "Django without SAVE_EVERY_REQUEST", variant: "fixed", ..DEFAULTS };

pub(crate) static DJANGO: LazyLock<Engine> = LazyLock::new(|| Engine::start(&SITE));
static FIXED: LazyLock<Engine> = LazyLock::new(|| Engine::start(&FIXED_SITE));

#[test]
#[ignore = "needs Django: tests/run"]
fn s3_1() {
    walks::s3_1(&SITE, &DJANGO);
}

#[test]
#[ignore = "needs Django: tests/run"]
fn f15_init_drafts_a_config_that_runs_s3_1() {
    init::drafts_a_config_that_runs_s3_1(&SITE, &DJANGO);
}

#[test]
#[ignore = "needs Django: tests/run"]
fn colliding_names() {
    walks::collide(&SITE, &DJANGO);
    // Each project knows only its own ids and overwrites the other's.
    assert_eq!(walks::collide_plain(&SITE, &DJANGO), (false, false));
}

#[test]
#[ignore = "needs Django: tests/run"]
fn rotation() {
    walks::rotation(&SITE, &DJANGO);
}

#[test]
#[ignore = "needs Django: tests/run"]
fn verdicts() {
    walks::verdicts(&SITE, &mut Engine::start(&SITE));
}

#[test]
#[ignore = "needs Django: tests/run"]
fn what_an_unknown_id_is_answered_with() {
    let unknown = "0123456789abcdefghijklmnopqrstuv";
    let answer = straight(&DJANGO, App::A, "id", &format!("sessionid={unknown}"));
    assert_ne!(answer.json()["id"], unknown);
    let cookies = answer.set_cookies().join("\n");
    assert!(cookies.contains("HttpOnly; Max-Age=10; Path=/; SameSite=Lax"), "{cookies}");
    // With SAVE_EVERY_REQUEST also a page that never looks at the session replaces a dead id.
    let set =
        |engine, page| straight(engine, App::A, page, &format!("sessionid={unknown}")).set_cookies().len();
    assert_eq!((set(&DJANGO, "quiet"), set(&FIXED, "quiet"), set(&FIXED, "ping")), (1, 0, 1));
}

#[test]
#[ignore = "needs Django: tests/run"]
fn forms_and_the_csrf_token_of_the_other_project() {
    let bridge = Bridge::start(&SITE, &DJANGO, "");
    // Both projects use `csrftoken` at `/`, and a sign-in changes it: a form of B that is open meanwhile is refused. Through
    // the bridge each app has its own.
    for (way, status) in [(Way::Plain(&DJANGO), 403), (Way::Bridge(&bridge), 200)] {
        let person = Person::new(&SITE, way);
        let page = person.visit(App::B, "login");
        let mut form = walks::hidden_fields(&page.body);
        form.extend([("user".to_owned(), "ann".to_owned()), ("password".to_owned(), "secret".to_owned())]);
        person.sign_in(App::A, "ann");
        assert_eq!(person.browser.submit(&page.url, &walks::borrowed(&form)).status, status);
    }
}

#[test]
#[ignore = "needs Django: tests/run"]
fn a_request_without_the_forms_token_signs_nobody_out() {
    let person = Person::new(&SITE, Way::Plain(&DJANGO));
    person.sign_in(App::B, "ann");
    let token = person.token(App::B);
    let ask = |method| {
        let url = DJANGO.url(App::B, "logout");
        Browser::new().request(method, &url, &[("cookie", &token)], "").unwrap().status
    };
    assert_eq!((ask(Method::GET), ask(Method::POST)), (405, 403));
    assert_eq!(straight(&DJANGO, App::B, "state", &token).json()["user"], "ann");
}

#[test]
#[ignore = "needs Django: tests/run"]
fn sign_out() {
    walks::sign_out(&SITE, &DJANGO);
}

#[test]
#[ignore = "needs Django: tests/run"]
fn a_page_that_only_reads_the_session_does_not_renew_it() {
    let start = |page| {
        let tables = FIXED_SITE.config_with_heartbeat(&FIXED, ["appA", "appB"], page);
        Bridge::run(&format!("heartbeat.every = \"1s\"\n{tables}"))
    };
    let (reads, writes) = (start("ping"), start("touch"));
    let people = [&reads, &writes].map(|bridge| Person::new(&FIXED_SITE, Way::Bridge(bridge)));
    for person in &people {
        person.visit(App::A, "index");
        person.visit(App::A, "index");
    }
    let before = people[1].started(App::A);
    // Real time: the 10 s after which a session dies that nothing is written into.
    pause(Duration::from_secs(13));
    let heartbeats = |bridge: &Bridge| {
        let all = bridge.timeline().into_iter();
        all.filter(|event| event.starts_with("appA heartbeat")).collect::<Vec<_>>()
    };
    assert_eq!(heartbeats(&reads), ["appA heartbeat alive", "appA heartbeat replaced"]);
    assert_eq!(heartbeats(&writes), ["appA heartbeat alive"]);
    assert_eq!(people[1].started(App::A), before);
}

/// Django's own admin signs out by POST with a CSRF token that only its page has: the recipe is that page and its form.
#[test]
#[ignore = "needs Django: tests/run"]
fn f16_the_admin_is_signed_out_of_by_the_form_on_its_page() {
    let app = |name: &str, app: App, recipe: &str| {
        format!(
            "[apps.{name}]\npath = \"{}\"\nupstreams = [\"{}\"]\nsession.engine = \"django\"\nsession.timeout = \"10s\"\n\
             heartbeat = {{ path = \"{}\", every = \"1s\" }}\n{recipe}\n",
            SITE.page(app, ""),
            DJANGO.origin(app),
            SITE.page(app, "ping"),
        )
    };
    let recipe = "sign_out = { page = \"GET /AppA/admin/\", form = \"/AppA/admin/logout/\" }";
    let bridge = Bridge::run(&format!("{}{}", app("appA", App::A, recipe), app("appB", App::B, "")));
    let person = Person::new(&SITE, Way::Bridge(&bridge));
    let page = person.browser.visit(&bridge.at("/AppA/admin/login/?next=/AppA/admin/"));
    let mut form = walks::hidden_fields(&page.body);
    form.extend([("username".to_owned(), "ann".to_owned()), ("password".to_owned(), "secret".to_owned())]);
    person.browser.submit(&bridge.at("/AppA/admin/login/?next=/AppA/admin/"), &walks::borrowed(&form));
    assert!(
        person.browser.visit(&bridge.at("/AppA/admin/")).body.contains("logout-form"),
        "ann is in the admin"
    );
    person.visit(App::B, "index");
    let token = person.token(App::A);
    let signed_in = || straight(&DJANGO, App::A, "state", &token).json()["user"] == "ann";
    assert!(signed_in());
    let answer = person.browser.submit(&bridge.at("/.bridge/logout"), &[]);
    assert!(answer.body.contains("the app has confirmed it, and the old session is gone"), "{}", answer.body);
    assert!(!signed_in(), "the old token is dead at the engine");
    let story = crate::support::events(&bridge.ended_session());
    for event in ["appA sign_out_confirmed", "appA sign_out_proven"] {
        assert!(story.iter().any(|told| told == event), "no {event} in {story:?}");
    }
}
