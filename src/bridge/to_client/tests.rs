use http::HeaderName;
use http::header::{LINK, LOCATION};
use proptest::prelude::*;

use super::*;
use crate::bridge::app_session::AppSession;
use crate::bridge::mount::Mount;
use crate::bridge::rules::{CookieMode, Engine, SameSite, SetCookiePolicy};
use crate::bridge::testing::{answer, app, app_with, at, empty, held, learn, with};
use crate::wire::pattern::Glob;

fn servlet() -> AppRules {
    app(Engine::Servlet, "appA", "/AppA/")
}

/// What the browser gets of `field` from an app at `/AppA/`.
fn relayed(rules: &AppRules, field: &str) -> Vec<String> {
    learn(rules, &mut empty(rules), &[field]).0
}

fn mapped(rules: &AppRules, name: &'static str, value: &str) -> String {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    let _ = map_urls(&answer(rules, None, "/AppA/x"), &mut headers);
    String::from_utf8_lossy(headers[name].as_bytes()).into_owned()
}

fn location(rules: &AppRules, value: &str) -> String {
    mapped(rules, "location", value)
}

fn stripping(engine: Engine) -> AppRules {
    let mut rules = app(engine, "appA", "/AppA/");
    rules.mount = Mount::new("/AppA/", true, false);
    rules
}

#[test]
fn tokens_and_http_only_session_cookies_stay_and_all_others_pass() {
    let (rules, mut session) = (servlet(), empty(&servlet()));
    let (relayed, learned) = learn(
        &rules,
        &mut session,
        &[
            "JSESSIONID=j; Path=/AppA",
            "auth=1; HttpOnly",
            "theme=dark",
            "remember=1; HttpOnly; Max-Age=999",
            "jsessionid=k",
        ],
    );
    assert!(learned.first);
    assert_eq!(relayed, ["theme=dark", "remember=1; HttpOnly; Max-Age=999"]);
    assert_eq!(
        held(&session),
        ["auth=1", "jsessionid=k"],
        "the last of a token's part wins, whatever its spelling"
    );
}

#[test]
fn the_last_of_a_name_wins_as_lucee_writes_it() {
    let rules = app(Engine::Lucee, "appA", "/AppA/");
    let mut session = with(&rules, &["CFID=12;Path=/", "CFTOKEN=34;Path=/"]);
    let (relayed, learned) = learn(
        &rules,
        &mut session,
        &[
            "cfid=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:10 GMT; Path=/",
            "cftoken=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:10 GMT; Path=/",
            "cfid=3ee6c307-5278-1030-C351-3E33390F2EAD;Path=/;Expires=Tue, 01-Jan-2050 00:00:00 GMT;HttpOnly;SameSite=Lax",
            "cftoken=0;Path=/;Expires=Tue, 01-Jan-2050 00:00:00 GMT;HttpOnly;SameSite=Lax",
        ],
    );
    assert!(learned.changed && !learned.gone && relayed.is_empty());
    assert_eq!(held(&session), ["cfid=3ee6c307-5278-1030-C351-3E33390F2EAD", "cftoken=0"]);
}

#[test]
fn nothing_of_a_vaulted_name_reaches_the_browser_deletions_included() {
    let rules = servlet();
    let mut session = with(&rules, &["JSESSIONID=j", "auth=1; HttpOnly"]);
    assert!(learn(&rules, &mut session, &["auth=2"]).0.is_empty(), "what is vaulted stays vaulted");
    assert_eq!(held(&session), ["auth=2", "JSESSIONID=j"]);
    let (relayed, learned) = learn(
        &rules,
        &mut session,
        &["auth=; Max-Age=0", "JSESSIONID=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
    );
    assert!(learned.gone && relayed.is_empty() && session.vault().is_empty());
    // Deleted and set in one answer, before the vault ever held it.
    let (relayed, _) = learn(&rules, &mut session, &["new=; Max-Age=0", "new=1; HttpOnly"]);
    assert!(relayed.is_empty() && held(&session) == ["new=1"]);
}

#[test]
fn an_empty_token_is_a_deletion() {
    let rules = servlet();
    let mut session = with(&rules, &["JSESSIONID=j"]);
    assert!(learn(&rules, &mut session, &["JSESSIONID=; Path=/"]).1.gone);
}

#[test]
fn a_token_may_be_quoted_and_an_odd_one_is_dropped() {
    let rules = servlet();
    assert_eq!(held(&with(&rules, &["JSESSIONID=\"abc\""])), ["JSESSIONID=\"abc\""]);
    for odd in ["a b", "a,b", "a\\b", "a\"b", "\u{e9}"] {
        let mut session = empty(&rules);
        let (relayed, _) = learn(&rules, &mut session, &[&format!("JSESSIONID={odd}")]);
        assert!(relayed.is_empty() && session.vault().is_empty(), "{odd}");
    }
}

#[test]
fn a_servlet_id_that_differs_behind_its_dot_alone_is_a_renewal() {
    let rules = servlet();
    let mut session = with(&rules, &["JSESSIONID=node0abc; Path=/"]);
    let (_, learned) = learn(&rules, &mut session, &["JSESSIONID=node0abc.node0; Path=/"]);
    assert!(learned.renewed && !learned.changed);
    assert_eq!(held(&session), ["JSESSIONID=node0abc.node0"]);
    assert!(learn(&rules, &mut session, &["JSESSIONID=node0xyz.node0; Path=/"]).1.changed);
}

#[test]
fn a_token_belongs_to_the_whole_app_and_no_path_leads_it_astray() {
    let rules = servlet();
    let path = |field: &str| {
        let session = with(&rules, &[field]);
        session.vault().iter().next().map(|cookie| String::from_utf8_lossy(cookie.path).into_owned())
    };
    for (field, expected) in [
        ("JSESSIONID=1", "/"),
        ("JSESSIONID=1; Path=/", "/"),
        ("JSESSIONID=1; Path=/AppA", "/AppA"),
        ("JSESSIONID=1; Path=/AppA/", "/AppA/"),
        ("JSESSIONID=1; Path=/AppA/sub", "/AppA/sub"),
        ("JSESSIONID=1; Path=/AppB", "/"),
        ("JSESSIONID=1; Path=/AppAB", "/"),
        ("x=1; HttpOnly", "/AppA"),
        ("x=1; HttpOnly; Path=/AppB", "/"),
    ] {
        assert_eq!(path(field).as_deref(), Some(expected), "{field}");
    }
}

#[test]
fn a_vaulted_cookie_obeys_domain_and_prefix_rules() {
    let rules = servlet();
    for (field, kept) in [
        ("x=1; HttpOnly; Domain=example.org", true),
        ("x=1; HttpOnly; Domain=.apps.example.org", true),
        ("x=1; HttpOnly; Domain=evil.example", false),
        ("x=1; HttpOnly; Domain=org", false),
        ("__Secure-x=1; HttpOnly", false),
        ("__Secure-x=1; HttpOnly; Secure", true),
        ("__Host-x=1; HttpOnly; Secure; Path=/AppA", false),
        ("__host-x=1; HttpOnly; Secure; Path=/", true),
        ("=1; HttpOnly", false),
    ] {
        assert_eq!(!with(&rules, &[field]).vault().is_empty(), kept, "{field}");
    }
}

#[test]
fn the_path_of_a_passing_cookie_is_clamped_to_the_mount() {
    for (field, expected) in [
        ("a=b; Path=/", "a=b; Path=/AppA"),
        ("a=b; path = / ; X", "a=b; path = /AppA ; X"),
        ("a=b; Path=/AppA/sub", "a=b; Path=/AppA/sub"),
        ("a=b; Path=/AppA", "a=b; Path=/AppA"),
        ("a=b; Path=/AppB", "a=b; Path=/AppA"),
        ("a=b; Path=/AppAB", "a=b; Path=/AppA"),
        ("a=b", "a=b"),
        ("a=b; Path=sub", "a=b; Path=sub"),
        ("a=b; Domain=example.org; Path=/", "a=b; Path=/AppA"),
    ] {
        assert_eq!(relayed(&servlet(), field), [expected], "{field}");
        let root = app(Engine::Servlet, "appA", "/");
        if !field.contains("Domain") {
            assert_eq!(relayed(&root, field), [field], "at / nothing is to be mapped");
        }
    }
}

#[test]
fn under_strip_path_a_cookies_path_gets_the_mount_before_it() {
    for (field, expected) in
        [("a=b; Path=/", "a=b; Path=/AppA"), ("a=b; Path=/sub", "a=b; Path=/AppA/sub"), ("a=b", "a=b")]
    {
        assert_eq!(relayed(&stripping(Engine::Servlet), field), [expected], "{field}");
    }
}

#[test]
fn a_page_above_the_mount_gives_its_cookies_the_mounts_path() {
    let rules = servlet();
    let field = [HeaderValue::from_static("a=b; HttpOnly; Max-Age=9")];
    let context = answer(&rules, None, "/AppA");
    let from_app = read(&context, &field, &[]);
    assert_eq!(from_app.relayed[0], "a=b; HttpOnly; Max-Age=9; Path=/AppA");
    assert_eq!(&*from_app.http_only[0].0.path, b"/AppA");
}

#[test]
fn a_deletion_goes_out_for_both_paths() {
    let rules = servlet();
    assert_eq!(
        relayed(&rules, "a=; Max-Age=0; Path=/"),
        ["a=; Max-Age=0; Path=/", "a=; Max-Age=0; Path=/AppA"]
    );
    assert_eq!(relayed(&rules, "a=; Max-Age=0; Path=/AppA"), ["a=; Max-Age=0; Path=/AppA"]);
}

#[test]
fn http_only_cookies_that_pass_are_remembered_as_the_browser_knows_them() {
    let of = |rules: &AppRules, field: &'static str, path: &str| {
        let fields = [HeaderValue::from_static(field)];
        let context = answer(rules, None, path);
        let from_app = read(&context, &fields, &[]);
        from_app
            .http_only
            .iter()
            .map(|(cookie, deleted)| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(&cookie.name), text(&cookie.path), *deleted)
            })
            .collect::<Vec<_>>()
    };
    let remember = "r=1; HttpOnly; Max-Age=9";
    assert_eq!(of(&servlet(), remember, "/AppA/sub/x"), [("r".into(), "/AppA/sub".into(), false)]);
    assert_eq!(
        of(&stripping(Engine::Servlet), remember, "/sub/x"),
        [("r".into(), "/AppA/sub".into(), false)]
    );
    assert_eq!(of(&stripping(Engine::Servlet), remember, "/x"), [("r".into(), "/AppA".into(), false)]);
    assert_eq!(of(&servlet(), "r=; Max-Age=0; Path=/", "/AppA/x"), [("r".into(), "/AppA".into(), true)]);
    assert!(of(&servlet(), "t=1", "/AppA/x").is_empty());
}

#[test]
fn prefix_mode_renames_and_persistent_tokens_end_with_the_browser() {
    let field = "JSESSIONID=j; Path=/; Expires=Tue, 01 Jan 2050 00:00:00 GMT; Max-Age=99; HttpOnly";
    for (mode, persistent, expected) in [
        (CookieMode::Prefix, false, "appA.JSESSIONID=j; Path=/AppA; HttpOnly"),
        (CookieMode::Pass, false, "JSESSIONID=j; Path=/AppA; HttpOnly"),
        (
            CookieMode::Prefix,
            true,
            "appA.JSESSIONID=j; Path=/AppA; Expires=Tue, 01 Jan 2050 00:00:00 GMT; Max-Age=99; HttpOnly",
        ),
    ] {
        let rules = app_with(Engine::Servlet, "/AppA/", |session| {
            (session.cookies, session.persistent) = (mode, persistent);
        });
        let mut session = empty(&rules);
        assert_eq!(learn(&rules, &mut session, &[field]).0, [expected]);
        assert_eq!(held(&session), ["JSESSIONID=j"], "the proxy watches");
    }
    let rules = app_with(Engine::Servlet, "/AppA/", |session| session.cookies = CookieMode::Prefix);
    assert_eq!(
        relayed(&rules, "JSESSIONID=; Max-Age=0; Path=/AppA"),
        ["appA.JSESSIONID=; Max-Age=0; Path=/AppA"]
    );
    assert_eq!(
        relayed(&rules, "auth=1; HttpOnly"),
        ["auth=1; HttpOnly"],
        "no other cookie is vaulted or renamed"
    );
}

#[test]
fn pass_mode_keeps_a_domain_that_the_public_host_matches() {
    let rules = app_with(Engine::Servlet, "/AppA/", |session| session.cookies = CookieMode::Pass);
    assert_eq!(relayed(&rules, "a=b; Domain=.example.org"), ["a=b; Domain=.example.org"]);
    assert_eq!(relayed(&rules, "a=b; Domain=backend.local"), ["a=b"]);
    let rules = app_with(Engine::Servlet, "/AppA/", |session| session.cookies = CookieMode::Prefix);
    assert_eq!(relayed(&rules, "a=b; Domain=.example.org"), ["a=b"]);
}

#[test]
fn where_paths_are_useless_cookies_are_renamed_instead_but_not_in_mode_pass() {
    let mut rules = servlet();
    rules.mount = Mount::new("/AppA/", false, true);
    assert_eq!(relayed(&rules, "a=b; Path=/AppA/x"), ["appA.a=b; Path=/"]);
    assert_eq!(relayed(&rules, "a=b"), ["appA.a=b; Path=/"], "the page's directory would have one spelling");
    rules.session.as_mut().unwrap().cookies = CookieMode::Pass;
    assert_eq!(relayed(&rules, "a=b; Path=/"), ["a=b; Path=/"]);
    assert_eq!(relayed(&rules, "JSESSIONID=b; Path=/"), ["JSESSIONID=b; Path=/"]);
}

#[test]
fn exceptions_and_policy_apply() {
    let rules = app_with(Engine::Servlet, "/AppA/", |session| {
        session.exceptions = vec![
            (Glob::new("raw*"), Disposition::AsIs),
            (Glob::new("no*"), Disposition::Drop),
            (Glob::new("mine*"), Disposition::Prefix),
            (Glob::new("in*"), Disposition::Vault),
            (Glob::new("out*"), Disposition::Pass),
        ];
        session.set_cookie = SetCookiePolicy {
            secure: Some(true),
            http_only: Some(false),
            same_site: Some(SameSite::Lax),
            partitioned: None,
        };
    });
    for (field, expected) in [
        ("raw=1; Path=/; Domain=x.y", &["raw=1; Path=/; Domain=x.y"][..]),
        ("no=1", &[]),
        ("mine=1; SameSite=None", &["appA.mine=1; SameSite=Lax; Secure"]),
        ("in=1; Max-Age=9", &[]),
        ("out=1; HttpOnly", &["out=1; Secure; SameSite=Lax"]),
    ] {
        assert_eq!(relayed(&rules, field), expected, "{field}");
    }
    let raw = app_with(Engine::Servlet, "/AppA/", |session| {
        session.exceptions = vec![(Glob::new("JSESSIONID"), Disposition::AsIs)];
    });
    assert_eq!(relayed(&raw, "JSESSIONID=1; Path=/; Max-Age=9"), ["JSESSIONID=1; Path=/; Max-Age=9"]);
}

#[test]
fn what_the_browser_showed_and_the_app_did_not_replace_is_accepted_but_proves_nothing() {
    let rules = app_with(Engine::OpenBd, "/AppA/", |session| session.cookies = CookieMode::Prefix);
    let shown = |part, name: &str, value: &str| Shown {
        role: Role::Token { token: 0, part },
        parts: 2,
        name: name.as_bytes().into(),
        value: value.as_bytes().into(),
    };
    let pair = [shown(0, "appA.CFID", "1"), shown(1, "appA.CFTOKEN", "2")];
    let mut session = empty(&rules);
    let sent = session.sent(at(1), false);
    session.learn(sent, &read(&answer(&rules, None, "/AppA/x"), &[], &pair).edits, at(2));
    assert_eq!(held(&session), ["CFID=1", "CFTOKEN=2"]);
    let learned = {
        let vault = session.vault().clone();
        let context = ToClient { vault: Some(&vault), ..answer(&rules, None, "/AppA/x") };
        session.learn(session.sent(at(3), false), &read(&context, &[], &pair).edits, at(4))
    };
    assert!(!learned.renewed && session.renewed == at(2), "being shown is no renewal");
    let fields = [HeaderValue::from_static("CFID=5"), HeaderValue::from_static("CFTOKEN=6")];
    let edits = read(&answer(&rules, None, "/AppA/x"), &fields, &pair).edits;
    assert_eq!(edits.iter().map(|edit| edit.value).collect::<Vec<_>>(), [Some(&b"5"[..]), Some(b"6")]);
}

#[test]
fn no_app_sets_the_proxys_own_cookie() {
    let mut fields: SetCookies = [
        "a=1",
        "__Host-bridge=x; Path=/",
        " bridge =x",
        "=bridge=x",
        "\"bridge\"=x",
        "BRIDGE=; Max-Age=0",
        "bridges=1",
        "appB.CFID=1",
        "appA.x=1",
    ]
    .into_iter()
    .map(HeaderValue::from_static)
    .collect();
    drop_own(&servlet(), &mut fields, &["__Host-bridge", "bridge", "appA.", "appB."].map(Box::from));
    assert_eq!(fields.to_vec(), ["a=1", "bridges=1", "appA.x=1"]);
}

#[test]
fn redirects_are_anchored_at_the_public_origin() {
    let rules = servlet();
    for (url, expected) in [
        ("http://10.0.0.11:8500/AppA/y?a=1#f", "https://apps.example.org/AppA/y?a=1#f"),
        ("http://apps.example.org/AppA/y", "https://apps.example.org/AppA/y"),
        ("https://apps.example.org/AppB/", "https://apps.example.org/AppB/"),
        ("//10.0.0.11:8500/y", "//apps.example.org/y"),
        ("/AppA/y", "/AppA/y"),
        ("y", "y"),
        ("http://other.example/AppA/y", "http://other.example/AppA/y"),
        ("http://10.0.0.11:8500@evil.example/", "http://10.0.0.11:8500@evil.example/"),
        ("mailto:a@b", "mailto:a@b"),
    ] {
        assert_eq!(location(&rules, url), expected, "{url}");
    }
}

#[test]
fn odd_forms_that_browsers_read_otherwise_are_left_alone() {
    let (plain, strip) = (servlet(), stripping(Engine::Servlet));
    for url in [
        "https:evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "///evil.example",
        "http:///evil",
        "http://10.0.0.11:8500\\@evil/",
    ] {
        assert_eq!(location(&plain, url), url);
        assert_eq!(location(&strip, url), url);
    }
}

#[test]
fn under_strip_path_urls_of_the_app_get_the_mount_before_their_path() {
    let rules = stripping(Engine::Servlet);
    for (url, expected) in [
        ("/y?a=1", "/AppA/y?a=1"),
        ("http://10.0.0.11:8500/y", "https://apps.example.org/AppA/y"),
        ("http://other.example/y", "http://other.example/y"),
        ("//other.example/y", "//other.example/y"),
        ("y", "y"),
        ("?a", "?a"),
    ] {
        assert_eq!(location(&rules, url), expected, "{url}");
    }
}

#[test]
fn raw_tokens_are_cut_from_every_url_field_and_mapped_ones_stay() {
    let rules = app_with(Engine::ColdFusion, "/AppA/", |session| {
        session.url_tokens = vec![crate::bridge::testing::url_token("AID", 0, 1, 0)];
    });
    for (name, value, expected) in [
        ("location", "/AppA/y?CFID=1&CFTOKEN=2&jsessionid=3&b=4", "/AppA/y?b=4"),
        ("location", "http://10.0.0.11:8500/AppA/y;jsessionid=1?CFID=1", "https://apps.example.org/AppA/y"),
        ("location", "https://other.example/?CFID=1&AID=2", "https://other.example/?AID=2"),
        ("content-location", "/AppA/y;jsessionid=1", "/AppA/y"),
        ("refresh", "5; URL='/AppA/y?CFID=1'", "5; URL='/AppA/y'"),
        ("refresh", "0,http://10.0.0.11:8500/AppA/y", "0,https://apps.example.org/AppA/y"),
        ("refresh", "5", "5"),
        (
            "link",
            "</AppA/a?CFID=1>; rel=\"next\", <http://x/b>; title=\"<c?CFID=1>\"",
            "</AppA/a>; rel=\"next\", <http://x/b>; title=\"<c?CFID=1>\"",
        ),
    ] {
        assert_eq!(mapped(&rules, name, value), expected, "{name}: {value}");
    }
}

#[test]
fn fields_that_need_no_mapping_keep_their_bytes_and_their_number() {
    let mut headers = HeaderMap::new();
    for value in ["</a>; rel=x", "</b?CFID=1>", "</c>"] {
        headers.append(LINK, HeaderValue::from_static(value));
    }
    headers.insert(LOCATION, HeaderValue::from_bytes(b"/AppA/\xe9?CFID").unwrap());
    let rules = app(Engine::ColdFusion, "appA", "/AppA/");
    assert!(map_urls(&answer(&rules, None, "/AppA/x"), &mut headers).is_none());
    assert_eq!(headers.get_all(LINK).iter().collect::<Vec<_>>(), ["</a>; rel=x", "</b>", "</c>"]);
    assert_eq!(headers[LOCATION].as_bytes(), b"/AppA/\xe9?CFID");
}

#[test]
fn the_token_of_a_cookieless_redirect_is_learned_and_cut() {
    let rules = app(Engine::AspNet, "appA", "/AppA/");
    for (url, carrier) in [
        ("/AppA/(S(abcdefghijklmnopqrstuvw1))/x.aspx", Carrier::Wrapped),
        ("http://10.0.0.11:8500/AppA/(0123456789ABCDEF01234567)/x.aspx", Carrier::Bare),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static(url));
        let context = answer(&rules, None, "/AppA/x.aspx");
        let token = map_urls(&context, &mut headers).unwrap();
        assert!(headers[LOCATION].to_str().unwrap().ends_with("/AppA/x.aspx"));
        assert_eq!(token.carrier, carrier);
        let edit = path_edit(&context, &token).unwrap();
        let mut session = empty(&rules);
        assert!(session.learn(session.sent(at(1), false), &[edit], at(1)).first);
        assert!(!format!("{token:?}").contains(&*token.id));
    }
    assert!(map_urls(&answer(&servlet(), None, "/AppA/x"), &mut HeaderMap::new()).is_none());
}

#[test]
fn an_app_without_a_session_is_relayed_as_it_is() {
    let mut rules = servlet();
    rules.session = None;
    assert_eq!(relayed(&rules, "JSESSIONID=1; Path=/x; odd==;;"), ["JSESSIONID=1; Path=/x; odd==;;"]);
}

#[test]
fn taking_set_cookies_takes_them_all() {
    let mut headers = HeaderMap::new();
    assert!(take_set_cookies(&mut headers).is_empty());
    headers.append(SET_COOKIE, HeaderValue::from_static("a=1"));
    headers.append(SET_COOKIE, HeaderValue::from_static("b=2"));
    assert_eq!(take_set_cookies(&mut headers).to_vec(), ["a=1", "b=2"]);
    assert!(headers.is_empty());
}

proptest! {
    #[test]
    fn what_passes_within_the_mount_keeps_every_byte(
        name in "[a-z]{1,8}", value in "[ -:<-~\u{e9}]{0,20}",
        attributes in prop::collection::vec(prop::sample::select(vec![
            "; Path=/AppA/x", ";path=/AppA", "; SameSite = lax", ";Secure", "; Max-Age=99", "; Priority=High", ";;", "; Expires=x", "; Partitioned "]), 0..5),
    ) {
        let field = format!("{name}={}{}", value.trim(), attributes.concat());
        prop_assert_eq!(relayed(&servlet(), &field), [field]);
    }

    /// Whatever an app sets, the browser gets no cookie with a managed name, none outside of the mount, and no vaulted one.
    #[test]
    fn no_managed_name_and_no_foreign_path_reach_the_browser(
        fields in prop::collection::vec((prop::sample::select(vec!["JSESSIONID", "jsessionid", "a", "b", "%4ASESSIONID"]),
            prop::sample::select(vec!["1", ""]),
            prop::sample::select(vec!["", "; Path=/", "; Path=/AppB", "; Path=/AppA/x", "; Domain=example.org"]),
            prop::sample::select(vec!["", "; HttpOnly", "; Max-Age=9"])), 0..8),
    ) {
        let rules = servlet();
        let mut session: AppSession = empty(&rules);
        for (name, value, path, rest) in fields {
            let held = session.vault().iter().any(|cookie| cookie.name == name.as_bytes());
            let (relayed, _) = learn(&rules, &mut session, &[&format!("{name}={value}{path}{rest}")]);
            for field in relayed {
                prop_assert!(!held && !field.to_lowercase().contains("sessionid") && !field.contains("Domain"));
                prop_assert!(!field.contains("Path=") || field.contains("Path=/AppA"), "{}", field);
            }
        }
    }
}
