use http::header::{AUTHORIZATION, COOKIE, FORWARDED, HOST, HeaderMap, REFERER};
use proptest::prelude::*;

use super::*;
use crate::bridge::app_session::Edit;
use crate::bridge::mount::Mount;
use crate::bridge::rules::{CookieMode, Engine};
use crate::bridge::testing::{
    BRIDGE, app, app_sees, app_with, at, client, cookie_of, empty, learn, to_app, to_app_with, with,
};
use crate::wire::pattern::Glob;

fn servlet() -> AppRules {
    app(Engine::Servlet, "appA", "/AppA/")
}

fn signed_in(rules: &AppRules) -> AppSession {
    with(rules, &["JSESSIONID=abc; Path=/AppA; HttpOnly"])
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let fields = fields.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    let mut headers = HeaderMap::new();
    fields.for_each(|(name, value)| {
        headers.append(name, value);
    });
    headers
}

#[test]
fn the_vault_comes_first_and_the_browsers_own_cookies_follow_in_order() {
    let rules = servlet();
    let session = with(&rules, &["JSESSIONID=abc; Path=/AppA", "cart=7; HttpOnly"]);
    assert_eq!(app_sees(&rules, Some(&session), "b=2; a=1; b=3"), "JSESSIONID=abc; cart=7; b=2; a=1; b=3");
}

#[test]
fn a_managed_name_of_the_browser_never_reaches_the_app_in_any_spelling() {
    let rules = servlet();
    for cookies in [
        "JSESSIONID=evil",
        "jsessionid=evil",
        "\"JSESSIONID\"=evil",
        "JSESSIONID =evil",
        "\u{2003}JSESSIONID=evil",
        "JSESSIONID\u{a0}=evil",
        "JSESS%49ONID=evil",
        "appA.JSESSIONID=evil",
        "$Version=1; JSESSIONID=evil; $Path=/AppA",
        "=JSESSIONID=evil",
        "= JSESSIONID=evil",
        "a,JSESSIONID=evil",
        "x=1,JSESSIONID=evil",
        "x=\"1,jsessionid=evil",
        "JSESSIONID",
    ] {
        for (session, expected) in [(None, ""), (Some(signed_in(&rules)), "JSESSIONID=abc; ")] {
            let seen = app_sees(&rules, session.as_ref(), &format!("{cookies}; theme=dark"));
            assert_eq!(seen, format!("{expected}theme=dark"), "{cookies}");
        }
    }
}

#[test]
fn strays_are_told_once_each() {
    let rules = servlet();
    let (_, seen) =
        to_app(&rules, None, "/AppA/x", "JSESSIONID=1; jsessionid=2; JSESSIONID=3; appA.JSESSIONID=4; a=5");
    assert_eq!(
        seen.stray.to_vec(),
        [b"JSESSIONID"[..].into(), b"jsessionid"[..].into(), b"appA.JSESSIONID"[..].into()]
    );
    assert!(seen.shown.is_empty());
    assert_eq!(seen.passed, b"a=5");
}

#[test]
fn the_bridge_cookie_is_never_forwarded_in_any_spelling() {
    for session in [true, false] {
        let mut rules = servlet();
        rules.session = rules.session.filter(|_| session);
        for name in [
            BRIDGE,
            "__host-BRIDGE",
            "\"__Host-bridge\"",
            "\u{2000}__Host-bridge",
            "bridge",
            "BRIDGE",
            "=__Host-bridge",
            "a=1,bridge",
        ] {
            assert_eq!(
                app_sees(&rules, None, &format!("{name}=AAAAAAAAAAAAAAAAAAAAAA; a=1")),
                "a=1",
                "{name} {session}"
            );
        }
    }
}

#[test]
fn an_app_without_a_session_here_gets_all_that_is_not_ours() {
    let mut rules = servlet();
    rules.session = None;
    assert_eq!(app_sees(&rules, None, "JSESSIONID=1; __Host-bridge=x; b=\"2 3\""), "JSESSIONID=1; b=\"2 3\"");
}

#[test]
fn a_cookie_of_the_browser_does_not_shadow_one_in_the_vault() {
    let rules = servlet();
    let session = with(&rules, &["JSESSIONID=abc", "role=admin; HttpOnly"]);
    assert_eq!(
        app_sees(&rules, Some(&session), "Role=evil; role=evil; \"role\"=evil; a=1"),
        "role=admin; JSESSIONID=abc; a=1"
    );
    assert_eq!(
        app_sees(&rules, None, "role=mine"),
        "role=mine",
        "where there is none in the vault it is the browser's"
    );
}

#[test]
fn prefix_mode_gives_the_app_its_own_name_back_and_takes_only_whole_single_tokens() {
    let rules = app_with(Engine::OpenBd, "/AppA/", |session| session.cookies = CookieMode::Prefix);
    let session = with(&rules, &["CFID=1", "CFTOKEN=2"]);
    let sees = |cookies| app_sees(&rules, Some(&session), cookies);
    assert_eq!(sees("appA.CFID=1; a=b; appA.CFTOKEN=2"), "a=b; CFID=1; CFTOKEN=2");
    assert_eq!(sees("appA.CFID=1; a=b"), "a=b", "half a pair");
    assert_eq!(sees("appA.CFID=1; appA.CFID=9; appA.CFTOKEN=2; a=b"), "a=b", "a double was planted");
    assert_eq!(sees("CFID=1; CFTOKEN=2; a=b"), "a=b", "not the name that we gave it");
    assert_eq!(sees("appB.CFID=1; appC.x=2"), "appC.x=2", "another app's");
    let (_, seen) = to_app(&rules, None, "/AppA/x", "appA.CFID=1; appA.CFID=9; appA.CFTOKEN=2");
    assert_eq!(seen.stray.to_vec(), [b"appA.CFID"[..].into()]);
}

#[test]
fn pass_mode_leaves_the_browser_in_charge() {
    let rules = app_with(Engine::Servlet, "/AppA/", |session| session.cookies = CookieMode::Pass);
    let session = signed_in(&rules);
    let (head, seen) = to_app(&rules, Some(&session), "/AppA/x", "JSESSIONID=abc; a=1");
    assert_eq!(cookie_of(&head), "a=1; JSESSIONID=abc");
    assert_eq!((&*seen.shown[0].value, seen.shown.len()), (&b"abc"[..], 1));
    assert_eq!(app_sees(&rules, Some(&session), "a=1"), "a=1", "the browser has lost it");
    assert_eq!(
        app_sees(&rules, Some(&session), "jsessionid=1; JSESSIONID=2"),
        "",
        "two of a managed name: none"
    );
    // A request of the proxy's own has no browser to ask.
    let (head, _) =
        to_app_with(&rules, Some(&session), "/AppA/x", headers(&[("cookie", "a=1")]), |context| ToApp {
            own: true,
            ..context
        });
    assert_eq!(cookie_of(&head), "JSESSIONID=abc; a=1");
}

#[test]
fn case_insensitive_mounts_take_renamed_cookies_and_every_spelling_of_the_path() {
    let mut rules = app_with(Engine::Servlet, "/AppA/", |session| {
        session.exceptions = vec![(Glob::new("JSESSIONID"), Disposition::Pass)];
    });
    rules.mount = Mount::new("/AppA/", false, true);
    assert_eq!(app_sees(&rules, None, "appA.JSESSIONID=1; appA.a=2; b=3"), "a=2; b=3; JSESSIONID=1");
    let mut rules = servlet();
    rules.mount = Mount::new("/AppA/", false, true);
    let session = with(&rules, &["JSESSIONID=abc; Path=/appa", "x=1; HttpOnly; Path=/AppA/Sub"]);
    assert_eq!(cookie_of(&to_app(&rules, Some(&session), "/APPA/sub/y", "").0), "x=1; JSESSIONID=abc");
}

#[test]
fn an_app_may_use_a_name_that_looks_like_one_of_ours() {
    let rules = servlet();
    let (head, seen) = to_app(&rules, None, "/AppA/x", "appA.cart=1; appA.=2; appC.cart=3");
    assert_eq!(cookie_of(&head), "appA.cart=1; appA.=2; appC.cart=3");
    assert_eq!(seen.passed, b"appA.cart=1; appA.=2; appC.cart=3");
}

#[test]
fn exceptions_decide_over_single_cookies() {
    let rules = app_with(Engine::Servlet, "/AppA/", |session| {
        session.exceptions = vec![
            (Glob::new("XSRF-TOKEN"), Disposition::Pass),
            (Glob::new("raw_*"), Disposition::AsIs),
            (Glob::new("mine_*"), Disposition::Prefix),
            (Glob::new("vault_*"), Disposition::Vault),
            (Glob::new("legacy_*"), Disposition::Drop),
        ];
    });
    let cookies = "XSRF-TOKEN=1; raw_a=2; mine_a=3; appA.mine_a=4; vault_a=5; legacy_a=6; x=7";
    assert_eq!(app_sees(&rules, None, cookies), "XSRF-TOKEN=1; raw_a=2; mine_a=4; x=7");
}

#[test]
fn adopting_shows_the_apps_own_whole_well_shaped_token_where_the_vault_has_none() {
    let rules = app(Engine::OpenBd, "appA", "/AppA/");
    let sees = |session: Option<&AppSession>, cookies: &str| {
        let (head, seen) =
            to_app_with(&rules, session, "/AppA/x", headers(&[("cookie", cookies)]), |context| ToApp {
                adopting: true,
                ..context
            });
        (cookie_of(&head), seen.shown.len())
    };
    assert_eq!(sees(None, "CFID=1; a=b; CFTOKEN=2"), ("a=b; CFID=1; CFTOKEN=2".into(), 2));
    assert_eq!(sees(None, "CFID=1; CFTOKEN=bad!"), ("".into(), 0));
    assert_eq!(sees(None, "CFID=1; CFID=3; CFTOKEN=2"), ("".into(), 0));
    let session = with(&rules, &["CFID=7", "CFTOKEN=8"]);
    assert_eq!(
        sees(Some(&session), "CFID=1; CFTOKEN=2"),
        ("CFID=7; CFTOKEN=8".into(), 0),
        "never over a live one"
    );
}

#[test]
fn cookies_on_is_for_the_coldfusion_family_and_only_instead_of_nothing() {
    for engine in [Engine::ColdFusion, Engine::Lucee, Engine::BoxLang] {
        assert_eq!(app_sees(&app(engine, "appA", "/AppA/"), None, ""), "cookies=on");
        assert_eq!(app_sees(&app(engine, "appA", "/AppA/"), None, "a=1"), "a=1");
    }
    for engine in [Engine::Servlet, Engine::Php, Engine::AspNet, Engine::Rails, Engine::Custom] {
        assert_eq!(app_sees(&app(engine, "appA", "/AppA/"), None, ""), "");
    }
}

#[test]
fn a_vault_cookie_goes_where_its_path_says_and_as_long_as_it_lives() {
    let rules = app_with(Engine::Servlet, "/AppA/", |session| {
        session.exceptions = vec![(Glob::new("v*"), Disposition::Vault)];
    });
    let session = with(
        &rules,
        &[
            "v1=1; Path=/AppA/admin",
            "v2=2; Max-Age=60",
            "v3=3; Secure",
            "JSESSIONID=j; Secure; Max-Age=60",
            "v4=4; Path=/AppA/ad",
        ],
    );
    let sees = |path: &str, now: u64, https: bool| {
        let plain = client(https);
        let context_client: &'static forwarded::Client = Box::leak(Box::new(plain));
        let (head, _) = to_app_with(&rules, Some(&session), path, HeaderMap::new(), |context| ToApp {
            now: at(now),
            client: context_client,
            ..context
        });
        cookie_of(&head)
    };
    assert_eq!(sees("/AppA/x", 0, true), "v2=2; v3=3; JSESSIONID=j");
    assert_eq!(sees("/AppA/admin/x", 0, true), "v1=1; v2=2; v3=3; JSESSIONID=j");
    assert_eq!(sees("/AppA/administrator", 0, true), "v2=2; v3=3; JSESSIONID=j");
    assert_eq!(sees("/AppA/%61dmin/x", 0, true), "v1=1; v2=2; v3=3; JSESSIONID=j");
    assert_eq!(sees("/AppA/x", 59, true), "v2=2; v3=3; JSESSIONID=j");
    assert_eq!(sees("/AppA/x", 60, true), "v3=3; JSESSIONID=j", "a token lives as long as its session");
    assert_eq!(
        sees("/AppA/x", 0, false),
        "v2=2; JSESSIONID=j",
        "behind a TLS proxy that is not declared a token still goes"
    );
}

#[test]
fn a_vault_cookie_goes_to_the_hosts_that_the_app_named() {
    let rules = servlet();
    let session =
        with(&rules, &["JSESSIONID=j", "a=host; HttpOnly", "a=domain; HttpOnly; Domain=example.org"]);
    let sees = |authority: &'static str| {
        let (head, _) = to_app_with(&rules, Some(&session), "/AppA/x", HeaderMap::new(), |context| ToApp {
            authority,
            ..context
        });
        cookie_of(&head)
    };
    assert_eq!(sees("apps.example.org"), "a=host; a=domain; JSESSIONID=j");
    assert_eq!(sees("Apps.Example.org:8443"), "a=host; a=domain; JSESSIONID=j");
    assert_eq!(sees("b.example.org"), "a=domain; JSESSIONID=j");
    assert_eq!(sees("other.example"), "JSESSIONID=j");
}

#[test]
fn strip_path_and_vault_paths_are_in_the_apps_own_space() {
    let mut rules = servlet();
    rules.mount = Mount::new("/AppA/", true, false);
    let session = with(&rules, &["JSESSIONID=1; Path=/", "x=2; Path=/sub; HttpOnly"]);
    let (head, _) = to_app(&rules, Some(&session), "/AppA/sub/y?z=1", "");
    assert_eq!((head.target(), cookie_of(&head).as_str()), ("/sub/y?z=1", "x=2; JSESSIONID=1"));
    assert_eq!(to_app(&rules, None, "/AppA", "").0.target(), "/");
}

#[test]
fn a_token_that_rides_in_the_path_goes_behind_the_mount_and_into_no_cookie() {
    for (carrier, strip, expected) in [
        (Carrier::Wrapped, false, "/AppA/(S(id))/x.aspx?q=1"),
        (Carrier::Bare, false, "/AppA/(id)/x.aspx?q=1"),
        (Carrier::Wrapped, true, "/(S(id))/x.aspx?q=1"),
    ] {
        let mut rules = app(Engine::AspNet, "appA", "/AppA/");
        rules.mount = Mount::new("/AppA/", strip, false);
        let mut session = empty(&rules);
        let edit = Edit { name: b"", carrier, ..crate::bridge::testing::token(0, 0, 1, Some("id")) };
        session.learn(session.sent(at(0), false), &[edit], at(0));
        let (head, _) =
            to_app(&rules, Some(&session), "/AppA/(S(evil))/x.aspx?q=1", "ASP.NET_SessionId=evil; a=1");
        assert_eq!((head.target(), cookie_of(&head).as_str()), (expected, "a=1"));
    }
}

#[test]
fn the_referer_is_cleaned_or_goes() {
    let rules = app(Engine::ColdFusion, "appA", "/AppA/");
    let referer = |fields: &[(&'static str, &str)]| {
        let (head, _) = to_app_with(&rules, None, "/AppA/x", headers(fields), |context| context);
        head.map().get(REFERER).map(|value| value.to_str().unwrap().to_owned())
    };
    let name = "referer";
    assert_eq!(referer(&[(name, "http://h/AppA/y?CFID=1&a=2")]).as_deref(), Some("http://h/AppA/y?a=2"));
    assert_eq!(referer(&[(name, "http://h/AppA/y;jsessionid=1")]).as_deref(), Some("http://h/AppA/y"));
    assert_eq!(referer(&[(name, "http://h/AppA/y?a=2")]).as_deref(), Some("http://h/AppA/y?a=2"));
    assert_eq!(referer(&[(name, "http://h/"), (name, "http://h/?CFID=1")]), None, "two say nothing");
    let (head, _) = {
        let mut bad = HeaderMap::new();
        bad.insert(REFERER, HeaderValue::from_bytes(b"http://h/\xff?CFID=1").unwrap());
        to_app_with(&rules, None, "/AppA/x", bad, |context| context)
    };
    assert!(head.map().get(REFERER).is_none(), "what cannot be read cannot be cleaned");
}

#[test]
fn forged_fields_of_ours_are_dropped_and_the_forwarded_family_is_our_own() {
    let fields = headers(&[
        ("x-bridge-user", "evil"),
        ("x_bridge_user", "evil"),
        ("x-bridge_session", "evil"),
        ("x-session-heartbeat", "1"),
        ("x_session_heartbeat", "1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-prefix", "/evil"),
        ("x-real-ip", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("expect", "100-continue"),
        ("connection", "x-drop, authorization"),
        ("x-drop", "1"),
        ("authorization", "Basic x"),
        ("x-bridges", "stay"),
        ("host", "evil"),
    ]);
    let (head, _) = to_app_with(&servlet(), None, "/AppA/x", fields, |context| context);
    let sent = &head.map();
    for name in [
        "x-bridge-user",
        "x_bridge_user",
        "x-bridge_session",
        "x-session-heartbeat",
        "x_session_heartbeat",
        "expect",
        "connection",
        "x-drop",
        "x-forwarded-prefix",
    ] {
        assert!(!sent.contains_key(name), "{name}");
    }
    assert_eq!(
        (&sent["x-forwarded-for"], &sent["x-real-ip"]),
        (&"192.0.2.7".parse().unwrap(), &"192.0.2.7".parse().unwrap())
    );
    assert!(!sent[FORWARDED].to_str().unwrap().contains("1.2.3.4"));
    assert_eq!(
        (&sent["x-bridges"], &sent[HOST]),
        (&"stay".parse().unwrap(), &"apps.example.org".parse().unwrap())
    );
    assert!(sent.contains_key(AUTHORIZATION), "Connection cannot name it away");
}

#[test]
fn cookie_crumbs_are_one_line() {
    let fields = headers(&[("cookie", "a=1"), ("cookie", "JSESSIONID=evil"), ("cookie", "b=2")]);
    let (head, _) = to_app_with(&servlet(), None, "/AppA/x", fields, |context| context);
    assert_eq!(head.map().get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
}

proptest! {
    #[test]
    fn cookies_that_are_not_ours_leave_byte_for_byte_and_in_order(
        cookies in prop::collection::vec(("[a-z_.!#~-]{1,6}", "[!-+.-:<-~\u{e9}]{0,8}"), 1..10),
        at_ in 0usize..10, evil in prop::sample::select(vec!["JSESSIONID=e", "\"jsessionid\"=e", "__Host-bridge=e", "$Path=e", "=JSESSIONID=e"]),
    ) {
        let rules = servlet();
        let ours: Vec<String> = cookies.iter().filter(|(name, _)| !name.starts_with("bridge"))
            .map(|(name, value)| format!("{name}={value}")).collect();
        let mut line = ours.clone();
        line.insert(at_.min(line.len()), evil.to_owned());
        let session = signed_in(&rules);
        let expected: Vec<String> = std::iter::once("JSESSIONID=abc".to_owned()).chain(ours).collect();
        prop_assert_eq!(app_sees(&rules, Some(&session), &line.join("; ")), expected.join("; "));
    }

    /// Three apps set cookies of the same names in any order; whatever one set, no other ever sees.
    #[test]
    fn what_one_app_set_never_reaches_another(
        answers in prop::collection::vec((0usize..3, 0usize..8, 0u32..1000), 1..40),
    ) {
        let names = ["appA", "appB", "appC"];
        let rules: Vec<AppRules> = names.iter().map(|name| app(Engine::ColdFusion, name, &format!("/{name}/"))).collect();
        let mut session = crate::bridge::session::Session::new(crate::bridge::id::Handle(1), at(0));
        for (which, kind, n) in answers {
            let value = format!("{}x{n}", names[which]);
            let foreign = format!("/{}", names[(which + 1) % 3]);
            let fields: Vec<String> = match kind {
                0 => vec![format!("JSESSIONID={value}; Path=/")],
                1 => vec![format!("CFID={value}; Path={foreign}"), format!("CFTOKEN={value}; Path={foreign}")],
                2 => vec![format!("CFID={value}"), format!("CFTOKEN={value}")],
                3 => vec![format!("auth={value}; HttpOnly; Path=/")],
                4 => vec![format!("auth={value}; HttpOnly; Path={foreign}; Domain=example.org")],
                5 => vec!["JSESSIONID=; Max-Age=0".into(), "auth=; Max-Age=0; Path=/".into()],
                6 => vec![format!("CFID={value}")],
                _ => vec![format!("{}.JSESSIONID={value}; Path={foreign}; HttpOnly", names[(which + 1) % 3])],
            };
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let app_session = session.app_or_new(rules[which].app, at(0)).unwrap();
            learn(&rules[which], app_session, &fields);
            for (rules, name) in rules.iter().zip(names) {
                let seen = app_sees(rules, session.app(rules.app), "");
                for other in names.iter().filter(|other| **other != name) {
                    prop_assert!(!seen.contains(&format!("={other}x")), "{} sees {}", name, seen);
                }
            }
        }
    }
}

#[test]
fn a_trusted_proxy_says_more_of_the_client_than_a_stranger() {
    let family = [
        "x-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-original-host",
        "x-original-url",
        "x-rewrite-url",
        "x-url-scheme",
        "x-scheme",
        "front-end-https",
        "x-forwarded-prefix",
        "x-forwarded-uri",
    ];
    let all: Vec<_> = family.iter().map(|name| (*name, "6.6.6.6")).chain([("via", "1.1 me")]).collect();
    for trusted in [false, true] {
        let client: &_ = Box::leak(Box::new(forwarded::Client { trusted, ..client(true) }));
        let (head, _) =
            to_app_with(&servlet(), None, "/AppA/x", headers(&all), |context| ToApp { client, ..context });
        let sent = head.map();
        assert!(family.iter().all(|name| sent.contains_key(*name) == trusted), "{sent:?}");
        assert_eq!(sent["via"], "1.1 me");
    }
}

#[test]
fn a_name_with_an_underscore_goes_only_where_it_is_allowed() {
    let fields = headers(&[
        ("user_name", "evil"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded_for", "6.6.6.6"),
        ("odd_one", "1"),
    ]);
    let allowed: &[_] = Box::leak(Box::new([HeaderName::from_static("odd_one")]));
    let (head, _) =
        to_app_with(&servlet(), None, "/AppA/x", fields, |context| ToApp { allow_names: allowed, ..context });
    let sent = head.map();
    assert!(!sent.contains_key("user_name") && !sent.contains_key("x_forwarded_for"));
    assert_eq!(sent["odd_one"], "1");
}
