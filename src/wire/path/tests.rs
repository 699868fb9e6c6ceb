use proptest::prelude::*;

use super::*;

#[test]
fn normal_forms() {
    for (path, expected) in [
        ("/", "/"),
        ("/AppA/x.cfm", "/AppA/x.cfm"),
        ("/AppA/", "/AppA/"),
        ("/%41ppA/x%2ecfm", "/AppA/x.cfm"),
        ("/appA;x/b", "/appA/b"),
        ("/appA/b;jsessionid=1;x=2", "/appA/b"),
        ("//appB", "/appB"),
        ("/a///b//", "/a/b/"),
        ("/;x/appB", "/appB"),
        ("/;x", "/"),
        ("//", "/"),
        ("/a%2Fb%5cc%25d", "/a%2Fb%5cc%25d"),
        ("/a%252e%252e", "/a%252e%252e"),
        ("/a%zz%4", "/a%zz%4"),
        ("/B%C3%BCro", "/Büro"),
        ("/Büro", "/Büro"),
        ("/B%fcro", "/B%FCro"),
        ("/a.b/...c/.htaccess", "/a.b/...c/.htaccess"),
        ("/a%20b", "/a b"),
        ("/a%3bb", "/a;b"),
        ("/%u4e2d", "/%u4e2d"),
        ("/.../x", "/.../x"),
    ] {
        assert_eq!(normal(path).as_deref(), Ok(expected), "{path}");
    }
    assert!(matches!(normal("/AppA/page.cfm"), Ok(Cow::Borrowed(_))));
}

#[test]
fn ambiguous_paths() {
    for (path, reason) in [
        ("", Ambiguous::Relative),
        ("*", Ambiguous::Relative),
        ("appA", Ambiguous::Relative),
        ("/a/../b", Ambiguous::Dots),
        ("/a/..", Ambiguous::Dots),
        ("/./a", Ambiguous::Dots),
        ("/a/%2e%2E/b", Ambiguous::Dots),
        ("/a/.%2e/b", Ambiguous::Dots),
        ("/a/..;x/b", Ambiguous::Dots),
        ("/a;x/../b", Ambiguous::Dots),
        ("/a/..%3bx/b", Ambiguous::Dots),
        ("/a/%2e%2e;/b", Ambiguous::Dots),
        ("/a%2f..%2fb", Ambiguous::Dots),
        ("/a%2f%2e%2e", Ambiguous::Dots),
        ("/a%5c..%5cb", Ambiguous::Dots),
        ("/a/..%5cb", Ambiguous::Dots),
        ("/a/..%20/b", Ambiguous::Dots),
        ("/a;%2f..%2fb", Ambiguous::Dots),
        ("/a\\b", Ambiguous::Backslash),
        ("/a\\..\\b", Ambiguous::Backslash),
        ("/a%00", Ambiguous::Control),
        ("/a;x=%0d%0a", Ambiguous::Control),
        ("/a\u{7f}", Ambiguous::Control),
        ("/a\tb", Ambiguous::Control),
        ("/a/%c0%ae%c0%ae/b", Ambiguous::Hidden),
        ("/a%c0%afb", Ambiguous::Hidden),
        ("/a%e0%80%afb", Ambiguous::Hidden),
        ("/a/%u002e%u002e/b", Ambiguous::Hidden),
        ("/a%u2f%u002Fb", Ambiguous::Hidden),
    ] {
        assert_eq!(normal(path), Err(reason), "{path}");
    }
}

#[test]
fn path_parameters() {
    let seen: Vec<_> = params("/a;x=1;y/b;jsessionid=A!1")
        .map(|parameter| (parameter.span, parameter.name, parameter.value))
        .collect();
    assert_eq!(seen, [(2..6, "x", Some("1")), (6..8, "y", None), (10..25, "jsessionid", Some("A!1"))]);
    let is_session = |name: &str| super::super::query::key_is(name, "jsessionid");
    assert_eq!(
        cut_params("/a;JSESSIONID=1/b;x=2;jsession%49d=3;y", is_session).as_deref(),
        Some("/a/b;x=2;y")
    );
    assert_eq!(cut_params("/a;x=jsessionid", is_session), None);
    assert_eq!(insert_param("/a/b.jsp", "jsessionid", "X"), "/a/b.jsp;jsessionid=X");
}

#[test]
fn session_segments() {
    for (path, after, span, id, style, cut) in [
        ("/app/(S(abc))/x.aspx", 4, 4..13, "abc", SegmentStyle::Wrapped, "/app/x.aspx"),
        ("/app/(S(abc))/x.aspx", 5, 4..13, "abc", SegmentStyle::Wrapped, "/app/x.aspx"),
        ("/(A(x)S(abc)F(y))/", 0, 0..17, "abc", SegmentStyle::Wrapped, "/"),
        ("/(s(abc))", 1, 0..9, "abc", SegmentStyle::Wrapped, "/"),
        ("/app/(F(tick))", 4, 4..14, "", SegmentStyle::Wrapped, "/app"),
        ("/app/%28S%28a%62c%29%29/", 4, 4..23, "abc", SegmentStyle::Wrapped, "/app/"),
        ("/app/y/(S(abc));p/x", 4, 6..15, "abc", SegmentStyle::Wrapped, "/app/y;p/x"),
        (
            "/app/(0123456789ABCDEF01234567)/x",
            4,
            4..31,
            "0123456789ABCDEF01234567",
            SegmentStyle::Bare,
            "/app/x",
        ),
    ] {
        let segment = session_segment(path, after).unwrap_or_else(|| panic!("{path}"));
        assert_eq!((segment.span.clone(), &*segment.id, segment.style), (span, id, style), "{path}");
        assert_eq!(cut_segment(path, &segment), cut, "{path}");
    }
    for path in [
        "/app/(x)/y",
        "/app/()/y",
        "/app/(S(a)/y",
        "/app/S(a))/",
        "/app/(S(a)b)/",
        "/app/(0123456789abcdef01234567)/",
        "/(S(a))",
        "/app",
        "",
    ] {
        assert!(session_segment(path, 4).is_none(), "{path}");
    }
}

#[test]
fn segments_go_in_behind_the_mount() {
    let wrapped = SegmentStyle::Wrapped;
    assert_eq!(insert_segment("/app/x", 4, wrapped, "id"), "/app/(S(id))/x");
    assert_eq!(insert_segment("/app/x", 5, wrapped, "id"), "/app/(S(id))/x");
    assert_eq!(insert_segment("/app", 4, wrapped, "id"), "/app/(S(id))/");
    assert_eq!(insert_segment("/", 1, SegmentStyle::Bare, "ID"), "/(ID)/");
    assert_eq!(insert_segment("/x", 0, SegmentStyle::Bare, "ID"), "/(ID)/x");
}

proptest! {
    #[test]
    fn normal_never_has_dot_segments(path in "/([a-b./;%\\\\]|%2e|%2F|%5c|%25|%00|%u002e|é){0,12}") {
        if let Ok(normal) = normal(&path) {
            prop_assert!(normal.starts_with('/') && !normal.contains("//") && !normal.contains('\\'));
            prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
        }
    }

    #[test]
    fn plain_paths_are_borrowed(path in "(/[a-z][a-z.]{0,4}){1,5}/?") {
        prop_assert!(matches!(normal(&path), Ok(Cow::Borrowed(same)) if same == path));
    }

    #[test]
    fn cutting_parameters_is_lossless(path in "(/[a-c]{0,2}(;[a-b]{0,2}(=[a-z]{0,2})?){0,3}){1,4}") {
        let left = cut_params(&path, |name| name == "a");
        let expected: String = {
            let mut rest = path.clone();
            for parameter in params(&path).collect::<Vec<_>>().into_iter().rev().filter(|p| p.name == "a") {
                rest.replace_range(parameter.span, "");
            }
            rest
        };
        prop_assert_eq!(left.unwrap_or_else(|| path.clone()), expected);
    }

    #[test]
    fn a_segment_put_in_comes_out_again(rest in "(/[a-z]{1,4}){0,3}/?", id in "[a-z0-5]{24}") {
        let path = format!("/app{rest}");
        let with = insert_segment(&path, 4, SegmentStyle::Wrapped, &id);
        let segment = session_segment(&with, 4).unwrap();
        prop_assert_eq!(&*segment.id, id.as_str());
        let without = cut_segment(&with, &segment);
        prop_assert_eq!(without, if rest.is_empty() { "/app/".to_owned() } else { path });
    }

    #[test]
    fn never_panics(path in "/?\\PC{0,40}", after in 0_usize..50) {
        let _ = (normal(&path), session_segment(&path, after), cut_params(&path, |_| true));
        let _ = insert_segment(&path, after, SegmentStyle::Bare, "x");
    }
}
