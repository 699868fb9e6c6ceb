//! One config, and what is said of URLs under it.

use super::*;
use crate::config::load_str;
use crate::names::Names;

const CONFIG: &str = r#"
listen = "127.0.0.1:8080"

[apps.appA]
path = "/AppA/"
upstreams = ["http://127.0.0.1:8501", "http://127.0.0.1:8511"]
session.engine = "coldfusion"
session.url_tokens = { builderCFID = "CFID", builderCFTOKEN = "CFTOKEN" }
heartbeat = { path = "/AppA/ping.cfm", canary = { header = "X-Session" } }
sign_out.detect = "GET /AppA/logout*"
sign_out.login = "/AppA/login*"

[apps.appB]
path = "/AppA/B/"
strip_path = true
upstreams = "http://127.0.0.1:8502"
session.engine = "servlet"
session.url_tokens = { AID = "appA.CFID", ATOKEN = "appA.CFTOKEN" }
session.keep_url_tokens = true

[apps.far]
hosts = "far.example.org"
path = "/far/"
upstreams = "http://127.0.0.1:8503"
session.engine = "aspnet"
session.adopt = "legacy"
session.url_tokens = { nid = "near.PHPSESSID", mine = "ASP.NET_SessionId" }

[apps.near]
hosts = "near.example.org"
path = "/near/"
upstreams = "http://127.0.0.1:8504"
session.engine = "php"

[apps.plain]
path = "/plain/"
upstreams = "http://127.0.0.1:8505"

[[rules]]
match = "GET /AppA/poll*"
activity = "ignore"

[[rules]]
match = "GET /AppA/p*"
session = "skip"
"#;

fn explained(url: &str) -> String {
    let (config, _) =
        load_str("config.toml", CONFIG, &mut Names::default()).unwrap_or_else(|report| panic!("{report}"));
    explain(&config, url).unwrap()
}

/// The lines that begin with `what`, and those that go on from there.
fn part(text: &str, what: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(what));
    let first = lines.next().unwrap_or_else(|| panic!("no `{what}` in\n{text}"));
    let rest = lines.take_while(|line| line.starts_with(' '));
    [first]
        .into_iter()
        .chain(rest)
        .map(|line| line.get(13..).unwrap_or_default().trim())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_page_is_explained_in_whole() {
    let expected = "\
request      GET apps.example.org/AppA/index.cfm?x=1
app          appA
why          path /AppA/, any host
upstreams    http://127.0.0.1:8501, http://127.0.0.1:8511 (sticky by app session)
Host         as the browser sent it
rules        none matches
activity     yes: it moves the idle clock
session      coldfusion, 20m without a request
tokens       JSESSIONID, or CFID + CFTOKEN
cookies      vault: token cookies stay in the proxy
bridge by    cookie `__Host-bridge` (`bridge` over plain HTTP), not from cross-site posts and frames
URL tokens   none in this URL
app gets     GET /AppA/index.cfm?x=1
heartbeat    GET /AppA/ping.cfm every 6m 40s, 20 percent early or late
             alive: 200-299; canary: header x-session
";
    assert_eq!(explained("http://Apps.Example.org:8080/AppA/index.cfm?x=1#top"), expected);
}

#[test]
fn the_longest_path_wins_and_the_prefix_comes_off() {
    let text = explained("/AppA/B/x");
    assert_eq!(part(&text, "app "), "appB");
    assert!(part(&text, "why").contains("wins over `appA`"));
    assert_eq!(part(&text, "app gets"), "GET /x");
    assert!(part(&text, "heartbeat").contains("not kept alive"));
}

#[test]
fn a_whole_token_of_the_app_itself_and_half_of_one() {
    let text = explained("/AppA/?builderCFID=4711&keep=1&BUILDERcftoken=10000001");
    let tokens = part(&text, "URL tokens");
    assert!(tokens.contains("builderCFID (appA.CFID) = \u{2026} (4 characters)"), "{tokens}");
    assert!(tokens.contains("issued through this proxy"), "{tokens}");
    assert_eq!(part(&text, "app gets"), "GET /AppA/?keep=1");
    assert!(part(&explained("/AppA/?builderCFID=4711"), "URL tokens").contains("half a token is none"));
    assert!(part(&explained("/AppA/?builderCFID=-1&builderCFTOKEN=1"), "URL tokens").contains("not shaped"));
}

#[test]
fn the_three_cases_are_told_apart() {
    let here = part(&explained("/AppA/B/?AID=4711&ATOKEN=10000001"), "URL tokens");
    assert!(here.contains("knows `appA` already") && here.contains("the app sees it"), "{here}");
    let far = part(&explained("http://far.example.org/far/?nid=abcdefghijklmnopqrstuvwx"), "URL tokens");
    assert!(far.contains("a round trip to near.example.org"), "{far}");
    let own = part(&explained("http://far.example.org/far/?mine=abcdefghijklmnopqrst0123"), "URL tokens");
    assert!(own.contains("no proof of a navigation"), "{own}");
}

#[test]
fn raw_names_are_cut_wherever_they_ride() {
    let text = explained("/AppA/x.cfm;jsessionid=0123456789ABCDEF?CFID=1&%63ftoken=2&y=3&jsessionid=7");
    let tokens = part(&text, "URL tokens");
    assert_eq!(tokens.matches("a raw name").count(), 4, "{tokens}");
    assert_eq!(part(&text, "app gets"), "GET /AppA/x.cfm?y=3");
    let text = explained("http://far.example.org/far/(S(abcdefghijklmnopqrst0123))/page.aspx");
    assert!(part(&text, "URL tokens").contains("path segment = \u{2026} (24 characters)"), "{text}");
    assert_eq!(part(&text, "app gets"), "GET /far/page.aspx");
}

#[test]
fn no_value_of_a_token_is_shown() {
    for url in [
        "/AppA/?CFID=SECRET&builderCFTOKEN=SECRET",
        "/AppA/B/?AID=SECRET&ATOKEN=SECRET",
        "/AppA/B/x;jsessionid=SECRET/y;JSESSIONID=SECRET",
        "http://me:SECRET@far.example.org/far/?mine=SECRET&nid=SECRET",
        "http://far.example.org/far/(S(SECRET))/x",
        "/none/?CFID=SECRET&%63ftoken=SECRET;jsessionid=SECRET",
        "/none/x;jsessionid=SECRET",
        "/.bridge/status?CFID=SECRET",
        "/plain/?PHPSESSID=SECRET",
        "/plain/(S(SECRET))/x",
    ] {
        let text = explained(url);
        assert!(!text.contains("SECRET"), "{url}:\n{text}");
    }
}

#[test]
fn rules_decide_on_activity_and_session() {
    let text = explained("/AppA/poll.cfm");
    assert_eq!(
        part(&text, "rules"),
        "1. GET /AppA/poll*: no activity\n2. GET /AppA/p*: no session (not used: the first match wins)"
    );
    assert_eq!(part(&text, "activity"), "no: a rule calls it background");
    assert!(part(&explained("/AppA/page"), "session").contains("skipped"));
    assert!(part(&explained("POST /AppA/page"), "rules").contains("none"));
    assert!(part(&explained("/AppA/ping.cfm"), "activity").contains("only as a navigation"));
    assert!(part(&explained("/AppA/logout.cfm"), "sign-out").contains("every app"));
    assert!(part(&explained("/AppA/login.cfm"), "sign-in").contains("a form posted here"));
}

#[test]
fn what_no_app_gets_is_said() {
    assert!(part(&explained("/nowhere"), "app ").contains("404 no_route"));
    assert!(part(&explained("/appa/x"), "near").contains("case counts"));
    assert!(part(&explained("/near/x"), "near").contains("near.example.org"));
    assert!(part(&explained("/.bridge/status"), "answered by").contains("the proxy itself"));
    assert!(part(&explained("/plain/x"), "session").contains("proxied plainly"));
}

#[test]
fn what_is_no_url_is_refused() {
    let (config, _) = load_str("config.toml", CONFIG, &mut Names::default()).unwrap();
    for bad in ["", "ftp://x/y", "?x", "http://", "http:///x", "/a b", "http://[::1/x"] {
        assert!(explain(&config, bad).is_err(), "{bad}");
    }
    assert!(matches!(explain(&config, "/a/../b"), Err(ExplainError::Ambiguous(_))));
    assert!(matches!(explain(&config, "G(T /a"), Err(ExplainError::Method)));
    assert!(explain(&config, "apps.example.org").is_ok());
    assert!(explain(&config, "/AppA/?return=http://elsewhere/").is_ok());
}

proptest::proptest! {
    #[test]
    fn no_url_makes_it_panic(
        url in "(http://[a-zA-Z.:\\[\\]@]{0,12})?/?(AppA|far|none)?[/a-zA-Z0-9;=()?&%._-]{0,40}",
    ) {
        let (config, _) = load_str("config.toml", CONFIG, &mut Names::default()).unwrap();
        let _ = explain(&config, &url);
    }
}
