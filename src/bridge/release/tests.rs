use super::*;
use crate::bridge::rules::{CookieMode, Engine};
use crate::bridge::testing::{HOST, answer, app, app_sees, app_with, at, learn, with};
use crate::bridge::to_client::SetCookies;

const NONE: [HeaderValue; 0] = [];

fn asks<'a>(path: &'a str, cookies: &'a str) -> Asks<'a> {
    Asks { host: HOST, path, https: true, cookies: cookies.as_bytes(), now: at(9) }
}

fn texts(fields: impl IntoIterator<Item = HeaderValue>) -> Vec<String> {
    fields.into_iter().map(|field| String::from_utf8_lossy(field.as_bytes()).into_owned()).collect()
}

/// A bound session of the apps of `all`, each with what it has set.
fn session(all: &[(&AppRules, &[&str])]) -> Session {
    let mut session = Session::new(crate::bridge::id::Handle(1), at(0));
    session.bind(at(0));
    for (rules, fields) in all {
        assert!(session.give_app(with(rules, fields)));
    }
    session
}

fn finder<'r>(all: &'r [&'r AppRules]) -> impl Fn(AppIx) -> Option<&'r AppRules> + Copy {
    move |app| all.iter().copied().find(|rules| rules.app == app)
}

fn cfml(name: &str) -> AppRules {
    AppRules { releases: true, ..app(Engine::ColdFusion, name, &format!("/{name}/")) }
}

#[test]
fn cookies_come_back_as_the_app_set_them() {
    let rules = cfml("appA");
    let mut session = session(&[(
        &rules,
        &[
            "CFID=1; Path=/; Secure; HttpOnly; SameSite=None",
            "CFTOKEN=2; path=/; domain=.example.org; expires=Tue, 01 Jan 2036 00:00:00 GMT",
            "seen=3; Path=/appA/deep; HttpOnly",
        ],
    )]);
    let all = [&rules];
    let fields = hand_back(&mut session, rules.app, finder(&all), &asks("/appA/x", ""));
    assert_eq!(
        texts(fields),
        [
            "seen=3; Path=/appA/deep; HttpOnly",
            "CFID=1; Path=/; Secure; HttpOnly; SameSite=None",
            "CFTOKEN=2; Path=/; Domain=example.org",
        ]
    );
    let plain = Asks { https: false, ..asks("/appA/x", "") };
    let fields = texts(hand_back(&mut session, rules.app, finder(&all), &plain));
    assert_eq!(fields[1], "CFID=1; Path=/; HttpOnly", "without TLS a browser would refuse it");
}

#[test]
fn the_vault_lets_go_only_of_what_the_browser_shows() {
    let rules = cfml("appA");
    let all = [&rules];
    let mut session = session(&[(&rules, &["CFID=1; Path=/", "CFTOKEN=2; Path=/"])]);
    for shown in ["", "CFID=1", "CFID=1; CFTOKEN=9", "x.CFID=1; CFTOKEN=2"] {
        assert!(let_go(&mut session, &rules, finder(&all), &asks("/appA/x", shown)).is_none(), "{shown}");
        assert!(session.app(rules.app).is_some());
    }
    let elsewhere = Asks { host: "other.example.org", ..asks("/appA/x", "CFID=1; CFTOKEN=2") };
    session.app_mut(rules.app).unwrap().public =
        Some(std::sync::Arc::new(crate::bridge::app_session::Public { authority: HOST.into(), https: true }));
    assert!(let_go(&mut session, &rules, finder(&all), &elsewhere).is_none(), "another host's jar");
    assert!(hand_back(&mut session, rules.app, finder(&all), &elsewhere).is_empty());
    assert!(let_go(&mut session, &rules, finder(&all), &asks("/appA/x", "CFTOKEN=2; CFID=1")).is_some());
    assert!(session.app(rules.app).is_none());
    assert!(is_out(&session, rules.app, Some(at(0))), "a late answer is the browser's");
    session.end(End::AppLogout, at(9));
    assert!(!is_out(&session, rules.app, Some(at(0))), "but not after a sign-out");
}

#[test]
fn what_came_in_the_same_answers_has_arrived_as_well_unless_it_has_changed() {
    let (one, two) = (cfml("appA"), cfml("appB"));
    let all = [&one, &two];
    let new = || {
        session(&[
            (&one, &["CFID=1; Path=/appA", "CFTOKEN=2; Path=/appA"]),
            (&two, &["CFID=3; Path=/appB", "CFTOKEN=4; Path=/appB"]),
        ])
    };
    let shown = asks("/appA/x", "CFID=1; CFTOKEN=2");
    let mut both = new();
    assert_eq!(hand_back(&mut both, one.app, finder(&all), &asks("/appA/x", "")).len(), 4);
    assert!(let_go(&mut both, &one, finder(&all), &shown).is_some());
    assert_eq!(both.apps().count(), 0);
    let mut changed = new();
    hand_back(&mut changed, one.app, finder(&all), &asks("/appA/x", ""));
    learn(&two, changed.app_mut(two.app).unwrap(), &["CFID=5; Path=/appB", "CFTOKEN=6; Path=/appB"]);
    assert!(let_go(&mut changed, &one, finder(&all), &shown).is_some());
    assert!(changed.app(two.app).is_some(), "what it has now has not been handed back");
    let later = Asks { now: at(20), ..asks("/appA/x", "") };
    assert_eq!(hand_back(&mut changed, one.app, finder(&all), &later).len(), 2);
    let mut late = new();
    assert!(let_go(&mut late, &one, finder(&all), &shown).is_some(), "the browser had it all along");
    assert!(late.app(two.app).is_some(), "nothing has been handed back yet");
}

#[test]
fn a_token_in_the_path_stays_bridged() {
    use crate::bridge::app_session::Edit;
    let rules = AppRules { releases: true, ..app(Engine::AspNet, "appA", "/appA/") };
    let mut session = session(&[]);
    let edit = crate::bridge::testing::token(0, 0, 1, Some("id"));
    let edit = Edit { name: b"", carrier: Carrier::Wrapped, ..edit };
    let held = session.app_or_new(rules.app, at(0)).unwrap();
    held.learn(held.sent(at(0), false), &[edit], at(0));
    let all = [&rules];
    assert!(hand_back(&mut session, rules.app, finder(&all), &asks("/appA/x", "")).is_empty());
    assert!(let_go(&mut session, &rules, finder(&all), &asks("/appA/x", "")).is_none());
}

#[test]
fn a_passed_token_is_the_browsers_at_once_and_a_renamed_one_gets_its_name_back() {
    let mut rules = app_with(Engine::Servlet, "/appA/", |session| session.cookies = CookieMode::Pass);
    rules.releases = true;
    let all = [&rules];
    let mut passed = session(&[(&rules, &["JSESSIONID=j; Path=/appA"])]);
    assert!(let_go(&mut passed, &rules, finder(&all), &asks("/appA/x", "")).is_some());

    let mut rules = app_with(Engine::Servlet, "/appA/", |session| session.cookies = CookieMode::Prefix);
    rules.releases = true;
    let all = [&rules];
    let mut prefixed = session(&[(&rules, &["JSESSIONID=j; Path=/appA; HttpOnly"])]);
    let vault = let_go(&mut prefixed, &rules, finder(&all), &asks("/appA/x", "")).unwrap();
    assert_eq!(
        app_sees(&rules, None, "appA.JSESSIONID=k; JSESSIONID=old; a=1; appB.x=2"),
        "JSESSIONID=k; a=1"
    );
    let shown = [super::super::to_app::Renamed { name: b"JSESSIONID"[..].into(), value: b"k"[..].into() }];
    let back = renamed(&rules, Some(&vault), &shown, &asks("/appA/x", "")).remove(0);
    assert_eq!(texts(back.sets), ["JSESSIONID=k; Path=/appA; HttpOnly"]);
    let deletes = texts(back.deletes);
    assert!(
        deletes
            .iter()
            .any(|field| field.starts_with("appA.JSESSIONID=; Max-Age=0") && field.contains("Path=/appA"))
    );
    let back = renamed(&rules, None, &shown, &asks("/appA/x", "")).remove(0);
    assert_eq!(texts(back.sets), ["JSESSIONID=k; Path=/; HttpOnly"], "nothing is known of it");
}

#[test]
fn an_app_sets_its_cookies_itself_and_what_a_bridge_left_goes() {
    let said = |rules: &AppRules, field: &'static str| {
        let mut out = SetCookies::new();
        as_said(&answer(rules, None, "/appA/x"), &HeaderValue::from_static(field), &mut out);
        texts(out)
    };
    let rules = cfml("appA");
    for field in
        ["CFID=1; Path=/; Max-Age=99", "a=1; Path=/appA", "a=1", "a=1; Domain=example.org; Path=/appA/"]
    {
        assert_eq!(said(&rules, field).last().unwrap(), field);
    }
    assert_eq!(said(&rules, "CFID=1; Path=/").len(), 1, "a vaulted one has left nothing");
    let fields = said(&rules, "lang=de; Path=/; Domain=app.internal");
    assert_eq!(fields[1], "lang=de; Path=/", "a domain that the browser would refuse");
    assert!(fields[0].starts_with("lang=; Max-Age=0") && fields[0].contains("Path=/appA"));
    let stripped = AppRules { mount: crate::bridge::mount::Mount::new("/appA/", true, false), ..rules };
    assert_eq!(said(&stripped, "CFID=1; Path=/"), ["CFID=1; Path=/", "CFID=1; Path=/appA"]);
    let context = answer(&stripped, None, "/x");
    assert!(super::super::to_client::read(&context, &NONE, &[]).relayed.is_empty());
}
