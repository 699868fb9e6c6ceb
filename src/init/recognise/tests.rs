use super::super::facts::testing::{hop, visit};
use super::super::facts::{Seen, Visit};
use super::*;

const GUID: &str = "5278bea6-1030-c351-3e33-390f2ead02b9";

fn place() -> Place {
    Place::parse("http://127.0.0.1:8501/AppA/").unwrap()
}

/// An app whose page `target` sets these cookies.
fn app(target: &str, cookies: &[String]) -> Seen {
    let head: Vec<(&'static str, &str)> = cookies.iter().map(|line| ("set-cookie", line.as_str())).collect();
    Seen { pages: vec![visit(target, &head, "")], ..Seen::default() }
}

fn engine(target: &str, cookies: &[&str]) -> Option<(Engine, Option<&'static str>)> {
    let cookies: Vec<String> = cookies.iter().map(|line| (*line).to_owned()).collect();
    recognise(&place(), &app(target, &cookies)).map(|found| (found.engine, found.kind))
}

#[test]
fn engines_are_told_by_their_cookies() {
    let lucee = [&format!("cfid={GUID};Path=/;HttpOnly")[..], "cftoken=0;Path=/;HttpOnly"];
    let id = "JSESSIONID=0123456789ABCDEF0123456789ABCDEF; Path=/; HttpOnly";
    let uuid = "CFTOKEN=3ee6c307a7278c7b-5278BEA6-1030-C351-3E33390F2EAD02B9; Path=/; HttpOnly";
    let cases: [(&str, &[&str], Engine, Option<&str>); 14] = [
        ("/AppA/index.cfm", &lucee, Engine::Lucee, None),
        ("/AppA/index.cfm", &[lucee[0], lucee[1], id], Engine::Lucee, Some("j2ee")),
        ("/AppA/index.cfm", &["CFID=17; Path=/", uuid], Engine::ColdFusion, None),
        (
            "/AppA/index.cfm",
            &["CFID=17; Path=/", "CFTOKEN=81726354; Path=/", id],
            Engine::ColdFusion,
            Some("j2ee"),
        ),
        (
            "/AppA/index.cfm",
            &["CFID=17; Max-Age=283824000; Path=/", "CFTOKEN=81726354; Max-Age=283824000; Path=/"],
            Engine::OpenBd,
            None,
        ),
        ("/AppA/index.cfm", &[id], Engine::ColdFusion, Some("j2ee")),
        ("/AppA/index.jsp", &[id], Engine::Servlet, None),
        ("/AppA/", &["jsessionID=0123456789ABCDEF0123456789ABCDEF"], Engine::BoxLang, None),
        ("/AppA/", &["PHPSESSID=0123456789abcdefghijklmnop; path=/"], Engine::Php, None),
        ("/AppA/", &["ASP.NET_SessionId=abcdefghijklmnopqrst0123; path=/"], Engine::AspNet, None),
        ("/AppA/", &[".AspNetCore.Session=CfDJ8abc; path=/"], Engine::AspNetCore, None),
        ("/AppA/", &["sessionid=abcdefghijklmnopqrstuvwxyz012345; Path=/"], Engine::Django, None),
        ("/AppA/", &["connect.sid=s%3Aabc.abcdefghijklmnopqrstuvwxyz0; Path=/"], Engine::Express, None),
        (
            "/AppA/",
            &["_app_session=0123456789012345678901234567890--0123456789abcdef; path=/; HttpOnly"],
            Engine::Rails,
            None,
        ),
    ];
    for (target, cookies, expected, kind) in cases {
        assert_eq!(engine(target, cookies), Some((expected, kind)), "{cookies:?}");
    }
}

#[test]
fn a_servlet_without_cookies_and_a_cookieless_aspnet_are_told_by_their_links() {
    let printed = visit("/AppA/index.jsp", &[], "<a href='x.jsp;jsessionid=0123'>x</a>");
    let seen = Seen { pages: vec![printed], ..Seen::default() };
    assert_eq!(recognise(&place(), &seen).unwrap().engine, Engine::Servlet);
    let to = ("location", "/AppA/(S(abcdefghijklmnopqrst0123))/index.aspx");
    let page = Visit { hops: vec![hop("/AppA/index.aspx", 302, &[to], "")], ..Visit::default() };
    let found = recognise(&place(), &Seen { pages: vec![page], ..Seen::default() }).unwrap();
    assert_eq!(found.engine, Engine::AspNet);
    assert!(found.reasons[0].contains("cookieless"));
}

#[test]
fn an_unknown_session_cookie_is_custom_only_if_it_differs_between_visitors() {
    let cookie = |value: &str| format!("SHOP={value}; HttpOnly");
    let mut seen = app("/AppA/", &[cookie("0123456789abcdef01234567"), "theme=dark".to_owned()]);
    assert_eq!(recognise(&place(), &seen), None, "nobody else has come");
    seen.others = app("/AppA/", &[cookie("0123456789abcdef01234567")]).pages;
    assert_eq!(recognise(&place(), &seen), None, "the same for everybody");
    seen.others = app("/AppA/", &[cookie("fedcba9876543210fedcba98")]).pages;
    let found = recognise(&place(), &seen).unwrap();
    assert_eq!((found.engine, found.tokens), (Engine::Custom, vec!["SHOP".to_owned()]));
    for unlike in [
        "SHOP=0123456789abcdef01234567",
        "SHOP=short; HttpOnly",
        "SHOP=0123456789abcdef01234567; HttpOnly; Max-Age=99999999",
    ] {
        seen.pages = app("/AppA/", &[unlike.to_owned()]).pages;
        assert_eq!(recognise(&place(), &seen), None, "{unlike}");
    }
}

#[test]
fn without_a_session_the_names_of_pages_and_headers_are_hearsay() {
    for (target, head, expected) in [
        ("/AppA/index.cfm", &[][..], Some(Engine::ColdFusion)),
        ("/AppA/list.do", &[], Some(Engine::Servlet)),
        ("/AppA/x", &[("x-powered-by", "PHP/8.2")], Some(Engine::Php)),
        ("/AppA/x", &[("x-aspnet-version", "4.0.30319"), ("x-powered-by", "ASP.NET")], Some(Engine::AspNet)),
        ("/AppA/x", &[("x-powered-by", "Express")], Some(Engine::Express)),
        ("/AppA/x", &[("server", "nginx")], None),
    ] {
        let seen = Seen { pages: vec![visit(target, head, "")], ..Seen::default() };
        let found = recognise(&place(), &seen);
        assert_eq!(found.as_ref().map(|found| found.engine), expected, "{target} {head:?}");
        assert!(found.is_none_or(|found| found.reasons[0].contains("no page began a session")));
    }
}

#[test]
fn a_short_life_of_the_cookie_is_the_timeout() {
    let of = |line: &str| recognise(&place(), &app("/AppA/", &[line.to_owned()])).unwrap().timeout;
    let id = "sessionid=abcdefghijklmnopqrstuvwxyz012345; Path=/";
    assert_eq!(of(&format!("{id}; Max-Age=600")), Some(Duration::from_secs(600)));
    assert_eq!(of(&format!("{id}; Max-Age=1209600")), None, "two weeks are Django's usual");
    assert_eq!(of(id), None);
}

#[test]
fn no_reason_shows_a_value() {
    let found =
        recognise(&place(), &app("/AppA/", &["PHPSESSID=0123456789abcdefghijklmnop".to_owned()])).unwrap();
    assert!(!format!("{found:?}").contains("0123456789"));
}
