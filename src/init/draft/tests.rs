use proptest::prelude::*;

use super::super::recognise::Recognised;
use super::*;
use crate::config;

fn app(name: &str, url: &str) -> App {
    App {
        name: name.to_owned(),
        place: Place::parse(url).unwrap(),
        engine: Some(engine(Engine::Php)),
        choice: Choice::default(),
        pages: Vec::new(),
        sign_in: Vec::new(),
        sign_out: Vec::new(),
        cookies: Vec::new(),
        extension: ".php".to_owned(),
        is_iis: false,
        notes: Vec::new(),
    }
}

fn engine(engine: Engine) -> Recognised {
    Recognised {
        engine,
        kind: None,
        tokens: Vec::new(),
        reasons: vec!["sets PHPSESSID".to_owned(), "its pages end in .php".to_owned()],
        cookies: vec!["PHPSESSID".to_owned()],
        timeout: None,
    }
}

fn cookie(name: &str, path: Option<&str>) -> CookieFact {
    let (name, path) = (name.to_owned(), path.map(str::to_owned));
    CookieFact { name, value: b"0123456789topsecret".to_vec(), path, http_only: true, seconds: None }
}

const WANTED: Wanted = Wanted {
    listen: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080),
    timeout: None,
};

/// The draft, which must be a config without mistakes.
fn good(apps: &[App], wanted: Wanted) -> String {
    let text = draft(apps, wanted);
    if let Err(report) = config::load_str("draft", &text, &mut crate::names::Names::default()) {
        panic!("{}\n{text}", report.render(false));
    }
    text
}

#[test]
fn a_draft_is_short_and_says_why() {
    let mut a = app("appA", "http://127.0.0.1:8501/AppA/");
    a.choice.chosen = Some(Chosen {
        path: "/AppA/ping.php".into(),
        touch: Touch::Shows,
        canary: Some(Spot::Json("started".into())),
    });
    a.choice.others =
        vec![("/AppA/quiet.php".into(), "it gives a new visitor no session: it does not touch it")];
    a.sign_out = vec![SignOut::Link("/AppA/logout.php".into())];
    a.sign_in = vec!["/AppA/login.php".into()];
    assert_eq!(
        good(&[a], WANTED),
        r##"# Drafted by `sessionbridge init` from what an anonymous visitor sees of these apps. Read it, then:
# `sessionbridge check FILE` and `sessionbridge run --config FILE`. config.toml.example explains every key.
listen = "127.0.0.1:8080"

[apps.appA]
path = "/AppA/"
upstreams = ["http://127.0.0.1:8501"]
session.engine = "php"
# Sets PHPSESSID; its pages end in .php.
session.timeout = "24m"
# The engine's usual; the app may have its own. `sessionbridge check --live --measure-timeout` measures it.
heartbeat.path = "/AppA/ping.php"
# It touches the session: what it shows belongs to one session.
heartbeat.canary = { json = "started" }
# The same in one session, another one in another: so a dead session is told from a living one.
# Not /AppA/quiet.php: it gives a new visitor no session: it does not touch it.
sign_out.request = "GET /AppA/logout.php"
sign_out.detect = ["GET /AppA/logout.php*"]
sign_out.login = ["/AppA/login.php*"]
# Its sign-in: a heartbeat that is sent there was signed out.
"##
    );
}

#[test]
fn colliding_names_are_told_where_they_collide() {
    let pair = |one: Option<&str>, two: Option<&str>, other: &str| {
        let (mut a, mut b) = (app("appA", "http://127.0.0.1:8501/AppA/"), app("appB", other));
        a.cookies = vec![cookie("CFID", one), cookie("only", Some("/"))];
        b.cookies = vec![cookie("cfid", two)];
        let text = good(&[a, b], WANTED);
        assert!(!text.contains("topsecret"));
        text.contains("appA and appB both set CFID on 127.0.0.1")
    };
    assert!(pair(Some("/"), Some("/"), "http://127.0.0.1:8502/AppB/"), "ports do not matter");
    assert!(pair(Some("/"), Some("/AppB"), "http://127.0.0.1:8501/AppB/"));
    assert!(!pair(Some("/AppA"), Some("/AppB"), "http://127.0.0.1:8501/AppB/"), "each has its own path");
    assert!(!pair(None, None, "http://127.0.0.1:8501/AppB/"));
    assert!(!pair(Some("/"), Some("/"), "http://127.0.0.2:8501/AppB/"), "another host");
}

#[test]
fn apps_of_one_path_get_hosts() {
    let text = good(&[app("app", "http://a.example/"), app("app2", "http://b.example/")], WANTED);
    assert!(text.contains("hosts = [\"a.example\"]") && text.contains("hosts = [\"b.example\"]"), "{text}");
    let text = good(&[app("app", "http://127.0.0.1:1/"), app("app2", "http://127.0.0.1:2/")], WANTED);
    assert!(
        text.contains("hosts = [\"app.localhost\"]") && text.contains("hosts = [\"app2.localhost\"]"),
        "{text}"
    );
}

#[test]
fn the_timeout_is_the_known_one_else_the_cookies_else_the_usual_one() {
    let mut one = app("a", "http://a/x/");
    let known = Wanted { timeout: Some(Duration::from_secs(90)), ..WANTED };
    assert!(good(&[one.clone()], known).contains("session.timeout = \"1m30s\""));
    one.engine.as_mut().unwrap().timeout = Some(Duration::from_secs(600));
    assert!(good(&[one.clone()], WANTED).contains("session.timeout = \"10m\"\n# As long as its cookie"));
    one.engine = Some(engine(Engine::Express));
    assert!(good(&[one], WANTED).contains("session.timeout = \"20m\"\n# A guess"));
}

fn path(inside: &'static str) -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_~+,@!=-]{1,12}(/[a-z]{1,3}){0,2}(\\.cfm)?".prop_map(move |tail| format!("{inside}{tail}"))
}

fn ways() -> impl Strategy<Value = Vec<SignOut>> {
    let way =
        prop_oneof![
            path("/AppA/").prop_map(SignOut::Link),
            path("/AppA/").prop_map(|path| SignOut::Link(format!("{path}?do=logout"))),
            (path("/AppA/"), path("/AppA/"), any::<bool>())
                .prop_map(|(page, action, is_post)| SignOut::Form { page, action, is_post }),
            (path("/AppA/"), path("/AppA/"))
                .prop_map(|(page, path)| SignOut::Changing { page, pattern: format!("{path}?*do=logout*") }),
            path("/").prop_map(SignOut::Elsewhere),
        ];
    prop::collection::vec(way, 0..4)
}

fn choices() -> impl Strategy<Value = Choice> {
    let spot = prop_oneof![
        "[a-z][a-z0-9-]{0,20}".prop_map(Spot::Header),
        "[a-zA-Z0-9._-]{1,30}".prop_map(Spot::Json),
        any::<String>().prop_map(|text| Spot::Regex(format!("{}([0-9]+)", regex::escape(&text)))),
    ];
    let touch =
        prop_oneof![Just(Touch::Unknown), Just(Touch::Begins), Just(Touch::Renews), Just(Touch::Shows)];
    let chosen = (path("/AppA/"), touch, prop::option::of(spot)).prop_map(|(path, touch, canary)| Chosen {
        path,
        touch,
        canary,
    });
    let others = prop::collection::vec((path("/AppA/"), Just("it redirects")), 0..12);
    (prop::option::of(chosen), others).prop_map(|(chosen, others)| Choice { chosen, others })
}

fn found() -> impl Strategy<Value = Option<Recognised>> {
    let known =
        (0..engines::NAMES.len(), any::<bool>(), prop::option::of(1_u64..90_000), "[A-Za-z._-]{1,20}");
    prop::option::of(known.prop_map(|(at, j2ee, timeout, name)| {
        let of = engines::NAMES[at].1;
        Recognised {
            kind: (j2ee && matches!(of, Engine::ColdFusion | Engine::Lucee)).then_some("j2ee"),
            tokens: if matches!(of, Engine::Custom | Engine::Rails) { vec![name] } else { Vec::new() },
            timeout: timeout.map(Duration::from_secs),
            ..engine(of)
        }
    }))
}

proptest! {
    #[test]
    fn whatever_was_found_the_draft_is_a_config_without_mistakes(
        engine in found(),
        choice in choices(),
        sign_out in ways(),
        sign_in in prop::collection::vec(path("/"), 0..3),
        is_iis: bool,
        note: String,
        at in prop::option::of(1_u64..100_000),
    ) {
        let notes = vec![note];
        let one = App { engine, choice, sign_out, sign_in, is_iis, notes, ..app("appA", "http://127.0.0.1:8501/AppA/") };
        good(&[one, app("appB", "http://127.0.0.1:8501/appa/")], Wanted { timeout: at.map(Duration::from_secs), ..WANTED });
    }

    #[test]
    fn strings_read_back(text: String) {
        let read: toml::Value = format!("x = {}", quoted(&text)).parse::<toml::Table>().unwrap()["x"].clone();
        prop_assert_eq!(read.as_str().unwrap().replace("$${", "${"), text);
    }
}

#[test]
fn no_pattern_matches_an_ordinary_page() {
    let mut one = app("a", "http://127.0.0.1:1/A/");
    one.pages =
        ["/A/", "/A/home.php", "/A/exits.php", "/A/login.php", "/A/loginhelp.php"].map(Into::into).to_vec();
    one.sign_in = vec!["/A/login.php".into(), "/A/home.php".into(), "/A/log".into()];
    let of = |one: &App, way: SignOut| good(&[App { sign_out: vec![way], ..one.clone() }], WANTED);
    let text = of(&one, SignOut::Link("/A/exit".into()));
    assert!(text.contains("sign_out.detect = [\"GET /A/exit\"]"), "not as a prefix\n{text}");
    assert!(text.contains("sign_out.login = [\"/A/login.php*\", \"/A/log\"]"), "{text}");
    let text = of(&one, SignOut::Link("/A/home.php?logout=1".into()));
    assert!(text.contains("sign_out.detect = [\"GET /A/home.php?*logout=1*\"]"), "{text}");
    let action = "/A/home.php".to_owned();
    let text = of(&one, SignOut::Form { page: "/A/".into(), action, is_post: true });
    assert!(!text.contains("sign_out.detect =") && text.contains("No sign_out.detect"), "{text}");
    let text = of(&one, SignOut::Unclear { page: "/A/".into(), why: "so" });
    assert!(!text.lines().any(|line| line.starts_with("sign_out.") && !line.contains("login")), "{text}");
    one.choice.chosen = Some(Chosen { path: "/A/login.php".into(), touch: Touch::Begins, canary: None });
    let text = of(&one, SignOut::Link("/A/out".into()));
    assert!(!text.contains("login.php*"), "{text}");
}
