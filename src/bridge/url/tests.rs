use proptest::prelude::*;

use super::*;
use crate::bridge::rules::Engine;
use crate::bridge::testing::{app, app_with, cleaned, url_token};

/// ColdFusion at `/AppA/` with the Builder's mapped names.
fn builder() -> AppRules {
    app_with(Engine::ColdFusion, "/AppA/", |session| {
        session.url_tokens = vec![url_token("builderCFID", 0, 1, 0), url_token("builderCFTOKEN", 0, 1, 1)];
    })
}

fn left(rules: &AppRules, url: &str) -> String {
    cleaned(rules, url).unwrap().0
}

fn found(rules: &AppRules, url: &str) -> Vec<Vec<Vec<u8>>> {
    let tokens = cleaned(rules, url).unwrap().1.tokens;
    tokens.into_iter().map(|token| token.parts.into_iter().map(<[u8]>::into_vec).collect()).collect()
}

#[test]
fn u6_raw_names_are_cut_in_every_spelling() {
    let rules = builder();
    for (url, expected) in [
        ("/AppA/x?CFID=1&CFTOKEN=2", "/AppA/x"),
        ("/AppA/x?a=1&cfid=1&b=%20&CfToken=2&c", "/AppA/x?a=1&b=%20&c"),
        ("/AppA/x?%43FID=1;CFTOKEN=2", "/AppA/x"),
        ("/AppA/x?a=1;CFID=2;b=3", "/AppA/x?a=1;b=3"),
        ("/AppA/x?+CFID=1&CFID%00=2&JSESSIONID=3&jsessionid=4", "/AppA/x"),
        ("/AppA/x?", "/AppA/x?"),
        ("/AppA/x?myCFID=1", "/AppA/x?myCFID=1"),
    ] {
        assert_eq!(left(&rules, url), expected, "{url}");
        let (_, found) = cleaned(&rules, url).unwrap();
        assert_eq!((found.raw, found.mapped), (url != expected, false));
        assert!(found.tokens.is_empty(), "a raw name is no claim");
    }
}

#[test]
fn u7_path_parameters_and_segments_are_cut() {
    let servlet = app(Engine::Servlet, "appA", "/AppA/");
    for (url, expected) in [
        ("/AppA/x;jsessionid=ABC?y=1", "/AppA/x?y=1"),
        ("/AppA/x;JSESSIONID=ABC;v=2/z", "/AppA/x;v=2/z"),
        ("/AppA/x;js%65ssionid=A", "/AppA/x"),
        ("/AppA;jsessionid=A", "/AppA"),
        ("/AppA/x;y=1", "/AppA/x;y=1"),
    ] {
        assert_eq!(left(&servlet, url), expected, "{url}");
    }
    let aspnet = app(Engine::AspNet, "appA", "/AppA/");
    for (url, expected) in [
        ("/AppA/(S(abcdefghijklmnopqrstuvw1))/x.aspx", "/AppA/x.aspx"),
        ("/AppA/%28S(abcdefghijklmnopqrstuvw1))/x.aspx", "/AppA/x.aspx"),
        ("/AppA/(A(1)S(2)F(3))/x", "/AppA/x"),
        ("/AppA/(0123456789ABCDEF01234567)/x", "/AppA/x"),
        ("/AppA/(S(1))/(S(2))/(S(3))/x", "/AppA/x"),
        ("/AppA/y/(S(1))/x", "/AppA/y/x"),
        ("/AppA/(x)/y", "/AppA/(x)/y"),
    ] {
        assert_eq!(left(&aspnet, url), expected, "{url}");
    }
    assert_eq!(
        left(&app(Engine::Php, "appA", "/AppA/"), "/AppA/(S(1))/x;jsessionid=2"),
        "/AppA/(S(1))/x;jsessionid=2"
    );
}

#[test]
fn u8_disguised_and_doubled_names_bypass_nothing() {
    let rules = builder();
    for url in [
        "/AppA/x?builder%43FID=1&builderCFTOKEN=2",
        "/AppA/x?BUILDERCFID=1&BUILDERCFTOKEN=2",
        "/AppA/x?builderCFID=1;builderCFTOKEN=2",
    ] {
        assert_eq!(left(&rules, url), "/AppA/x", "{url}");
        assert_eq!(found(&rules, url), [[b"1".to_vec(), b"2".to_vec()]], "{url}");
    }
    for url in [
        "/AppA/x?builderCFID=1&builderCFID=2&builderCFTOKEN=3",
        "/AppA/x?builderCFID=1&builderCFID=1&builderCFTOKEN=3",
        "/AppA/x?builderCFID=1&builder%43fid=1;builderCFTOKEN=3",
    ] {
        assert_eq!(left(&rules, url), "/AppA/x");
        let (_, found) = cleaned(&rules, url).unwrap();
        assert!(found.tokens.is_empty() && found.malformed && found.mapped, "{url}");
    }
}

#[test]
fn more_than_256_parameters_are_refused() {
    let url = |count: usize| format!("/AppA/x?{}", vec!["a=1"; count].join("&"));
    assert!(cleaned(&builder(), &url(256)).is_ok());
    assert_eq!(cleaned(&builder(), &url(257)).unwrap_err(), TooManyParams);
    assert_eq!(cleaned(&builder(), &url(257).replace('&', ";")).unwrap_err(), TooManyParams);
    assert!(cleaned(&builder(), &format!("/AppA/x?{}", "&".repeat(10_000))).is_err());
}

#[test]
fn u9_and_s3_4_values_of_another_shape_are_no_token_and_are_cut() {
    let rules = builder();
    let long = "9".repeat(5_000);
    for value in [
        "1%0d%0aX: y",
        "1%3b%20CFTOKEN=z",
        "",
        "abc",
        "-1",
        "1,2",
        "1 ",
        "%31%00",
        "1\u{661}",
        "99999999999999999999999",
        &long,
    ] {
        let url = format!("/AppA/x?builderCFID={value}&builderCFTOKEN=2");
        let (left, found) = cleaned(&rules, &url).unwrap();
        assert!(found.tokens.is_empty() && found.malformed, "{value}");
        assert!(!left.contains("CFID") && !left.contains("builder"), "{left}");
    }
    assert_eq!(
        found(
            &rules,
            "/AppA/x?builderCFID=%31&builderCFTOKEN=3ee6c307a7278c7b-5278BEA6-1030-C351-3E33390F2EAD02B9"
        ),
        [[b"1".to_vec(), b"3ee6c307a7278c7b-5278BEA6-1030-C351-3E33390F2EAD02B9".to_vec()]]
    );
}

#[test]
fn half_a_set_is_none_and_is_cut() {
    for url in
        ["/AppA/x?builderCFID=1", "/AppA/x?builderCFTOKEN=2&a=1", "/AppA/x?builderCFID=1&builderCFTOKEN"]
    {
        let (left, found) = cleaned(&builder(), url).unwrap();
        assert!(found.tokens.is_empty() && found.malformed && found.mapped);
        assert!(!left.contains("builder"));
    }
    let (_, found) = cleaned(&builder(), "/AppA/x?a=1").unwrap();
    assert!(!found.any() && !found.malformed);
}

#[test]
fn s2_8_raw_names_that_are_mapped_by_name_convert_and_are_never_kept() {
    let rules = app_with(Engine::ColdFusion, "/AppA/", |session| {
        session.url_tokens = vec![url_token("CFID", 0, 1, 0), url_token("CFTOKEN", 0, 1, 1)];
        session.keep_url_tokens = true;
    });
    let url = "/AppA/x?a=1&CFID=7&b=2&CFTOKEN=8&jsessionid=9";
    assert_eq!(found(&rules, url), [[b"7".to_vec(), b"8".to_vec()]]);
    assert_eq!(left(&rules, url), "/AppA/x?a=1&b=2");
}

#[test]
fn keep_url_tokens_keeps_mapped_names_alone() {
    let mut rules = builder();
    rules.session.as_mut().unwrap().keep_url_tokens = true;
    let url = "/AppA/x?builderCFID=1&CFID=5&builderCFTOKEN=2";
    assert_eq!(left(&rules, url), "/AppA/x?builderCFID=1&builderCFTOKEN=2");
    assert_eq!(found(&rules, url).len(), 1);
}

#[test]
fn two_parameters_for_one_part_are_a_double_and_one_app_has_one_token() {
    let rules = app_with(Engine::ColdFusion, "/AppA/", |session| {
        session.url_tokens = vec![
            url_token("one", 0, 1, 0),
            url_token("two", 0, 1, 0),
            url_token("secret", 0, 1, 1),
            url_token("j", 0, 0, 0),
        ];
    });
    assert!(found(&rules, "/AppA/x?one=1&two=1&secret=2").is_empty());
    assert_eq!(found(&rules, "/AppA/x?two=1&secret=2").len(), 1);
    assert_eq!(found(&rules, "/AppA/x?two=1&secret=2&j=ABC").len(), 1);
}

#[test]
fn an_app_without_a_session_keeps_its_url() {
    let mut rules = app(Engine::ColdFusion, "appA", "/AppA/");
    rules.session = None;
    assert_eq!(left(&rules, "/AppA/x;jsessionid=1?CFID=2"), "/AppA/x;jsessionid=1?CFID=2");
}

#[test]
fn what_a_cut_leaves_names_no_host() {
    let servlet = app(Engine::Servlet, "appA", "/");
    assert_eq!(left(&servlet, "/;jsessionid=1/evil.example/x"), "/evil.example/x");
    assert_eq!(left(&servlet, "/;jsessionid=1/\\evil.example/x"), "/evil.example/x");
    assert_eq!(left(&servlet, "//x;jsessionid=1"), "//x", "it did so before");
    let aspnet = app(Engine::AspNet, "appA", "/");
    assert_eq!(left(&aspnet, "/(S(1))//evil.example/"), "/evil.example/");
    let session = aspnet.session.as_ref().unwrap();
    assert_eq!(clean_location(session, &aspnet, "/(S(1))//evil.example/").unwrap(), "/evil.example/");
}

#[test]
fn references_keep_their_origin_and_fragment() {
    let rules = builder();
    let session = rules.session.as_ref().unwrap();
    let location = |url| clean_location(session, &rules, url);
    for (url, expected) in [
        ("/AppA/x?CFID=1&CFTOKEN=2#top?CFID=3", Some("/AppA/x#top?CFID=3")),
        ("http://h/AppA/x;jsessionid=1?a=2#f", Some("http://h/AppA/x?a=2#f")),
        ("//h/x?CFID=1", Some("//h/x")),
        ("x?CFID=1", Some("x")),
        ("?CFID=1&a", Some("?a")),
        ("http://h?CFID=1", Some("http://h")),
        ("/AppA/x?builderCFID=1", None),
        ("/AppA/x#CFID=1", None),
        ("", None),
    ] {
        assert_eq!(location(url).as_deref(), expected, "{url}");
    }
    let referer = |url| clean_referer(session, &rules, url);
    assert_eq!(referer("http://h/AppA/x?builderCFID=1&a=2&CFID=3").as_deref(), Some("http://h/AppA/x?a=2"));
    assert_eq!(referer("http://h/AppA/x?a=2"), None);
}

#[test]
fn a_segment_token_is_read_in_either_url_space() {
    let aspnet = app(Engine::AspNet, "appA", "/AppA/");
    let session = aspnet.session.as_ref().unwrap();
    let id = |url| segment_token(session, &aspnet, url).map(|segment| segment.id.into_owned());
    assert_eq!(id("/AppA/(S(abc))/x?(S(no))").as_deref(), Some("abc"));
    assert_eq!(id("http://h/AppA/(S(abc))/x").as_deref(), Some("abc"));
    assert_eq!(id("/(S(abc))/x").as_deref(), Some("abc"));
    assert_eq!(id("/AppA/x?y=/(S(abc))/"), None);
    let dead_and_new = "/AppA/(0123456789ABCDEF01234567)/(76543210FEDCBA9876543210)/x";
    assert_eq!(id(dead_and_new).as_deref(), Some("76543210FEDCBA9876543210"));
    assert_eq!(clean_location(session, &aspnet, dead_and_new).as_deref(), Some("/AppA/x"));
    assert_eq!(id("/AppA/(S(abc))/(F(ticket))/x").as_deref(), Some("abc"));
    let php = app(Engine::Php, "appA", "/AppA/");
    assert!(segment_token(php.session.as_ref().unwrap(), &php, "/AppA/(S(abc))/x").is_none());
}

#[test]
fn no_value_is_printed() {
    let (_, found) = cleaned(&builder(), "/AppA/x?builderCFID=4711&builderCFTOKEN=secret").unwrap();
    let printed = format!("{found:?}");
    assert!(!printed.contains("4711") && !printed.contains("secret"), "{printed}");
}

proptest! {
    #[test]
    fn no_managed_name_is_left_and_all_else_stays(
        params in prop::collection::vec((prop::sample::select(vec![
            "CFID", "cftoken", "%43fid", "builderCFID", "BuilderCfToken", "jsessionid", "a", "b%20", "CFIDx", "x"]),
            "[a-z0-9%+]{0,5}"), 0..12),
        semicolon: bool,
    ) {
        let separator = if semicolon { ";" } else { "&" };
        let query = |keep: &dyn Fn(&str) -> bool| params.iter().filter(|(name, _)| keep(name))
            .map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(separator);
        let whole = query(&|_| true);
        prop_assume!(!whole.is_empty());
        let kept = query(&|name| matches!(name, "a" | "b%20" | "CFIDx" | "x"));
        let expected = if kept.is_empty() { "/AppA/x".to_owned() } else { format!("/AppA/x?{kept}") };
        prop_assert_eq!(left(&builder(), &format!("/AppA/x?{whole}")), expected);
    }

    #[test]
    fn a_cut_url_has_nothing_more_to_cut(path in "/(AppA/)?([a-z();=S/.%2]|;jsessionid=|\\(S\\(1\\)\\)){0,12}", query in "[a-zCFID=&;%34]{0,20}") {
        for engine in [Engine::Servlet, Engine::AspNet, Engine::ColdFusion] {
            let rules = app(engine, "appA", "/AppA/");
            let (once, _) = cleaned(&rules, &format!("{path}?{query}")).unwrap();
            let (twice, found) = cleaned(&rules, &once).unwrap();
            prop_assert!(!found.any(), "{}", once);
            prop_assert_eq!(twice, once);
        }
    }
}
