use super::support::{Act, Heard, Stage, replies, run};

/// Answers with its own name.
fn named(heard: &Heard) -> Act {
    Act::ok(&heard.app)
}

fn get(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.org\r\n{more}\r\n")
}

/// Every one of these is refused as malformed, the connection is closed, and no app hears of it.
async fn refused(stage: &Stage, requests: &[&str]) {
    for request in requests {
        let (replies, closed) = stage.ask(format!("{request}hello{}", get("/second", ""))).await;
        assert_eq!(replies.len(), 1, "{request:?}: {replies:?}");
        assert_eq!(replies[0].status, 400, "{request:?}: {:?}", stage.heard());
        replies[0].is_own(400, "bad_request");
        assert!(closed, "{request:?} leaves the connection open");
        assert!(stage.heard().is_empty(), "{request:?} reaches the app");
    }
}

#[test]
fn rule_a_one_valid_host_that_the_target_agrees_with() {
    run(async {
        let stage = Stage::plain("", named);
        let hosts = [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        ];
        refused(&stage, &hosts).await;
        let reply = stage.one("GET http://A.org:80/x?y HTTP/1.1\r\nHost: a.ORG\r\n\r\n").await;
        assert_eq!(reply.status, 200);
        let heard = stage.heard();
        assert_eq!((heard[0].target(), heard[0].one("host")), ("/x?y", Some("a.ORG")));
        for host in ["a.org.", "A.ORG:8080", "[::1]:80", "127.0.0.1"] {
            assert_eq!(stage.one(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.status, 200);
        }
    });
}

#[test]
fn rule_a_each_host_has_its_own_apps_whatever_its_spelling() {
    run(async {
        let toml = "[apps.a]\nhosts = [\"a.org\"]\nupstreams = [\"http://a\"]\n\
                    [apps.b]\nhosts = [\"b.org\"]\nupstreams = [\"http://b\"]\n";
        let stage = Stage::new(toml, vec![("a", named), ("b", named)]);
        for (host, app) in [("a.org", "a"), ("A.oRG:8080", "a"), ("b.org.", "b"), ("b.org.:80", "b")] {
            let reply = stage.one(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!((reply.status, reply.text()), (200, app.to_owned()), "{host}");
        }
        stage.one("GET / HTTP/1.1\r\nHost: c.org\r\n\r\n").await.is_own(404, "no_route");
        stage.one("GET / HTTP/1.0\r\n\r\n").await.is_own(404, "no_route");
    });
}

#[test]
fn rule_b_one_length_or_one_chunked() {
    run(async {
        let stage = Stage::plain("", named);
        let mut requests = Vec::new();
        for coding in [
            "chunked, chunked",
            "xchunked",
            "identity",
            "gzip, chunked",
            "chunked, identity",
            "\"chunked\"",
            "chunked;q=1",
            ",chunked",
            "chunked,",
            "\u{b}chunked",
            "",
        ] {
            requests.push(format!("Transfer-Encoding: {coding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        }
        for lengths in ["+5", "-5", "5,5", "5, 5", "5 5", "0x5", "5.", "", "99999999999999999999"] {
            requests.push(format!("Content-Length: {lengths}\r\n\r\nhello"));
        }
        for both in [
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\ntransfer-encoding: identity",
            "Content-Length: 5\r\ncontent-length: 6",
            "Transfer-Encoding : chunked",
            "Content-Length : 5",
            " Content-Length: 5",
            "X: y\r\n Content-Length: 5",
            ": x",
            "Na\0me: x",
            "Name: x\0y",
            "Name: x\ry",
        ] {
            requests.push(format!("{both}\r\n\r\n0\r\n\r\n"));
        }
        let posts: Vec<String> =
            requests.iter().map(|rest| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}")).collect();
        refused(&stage, &posts.iter().map(|post| &**post).collect::<Vec<_>>()).await;
        refused(&stage, &["POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]).await;
    });
}

#[test]
fn rule_b_a_length_beside_chunked_counts_for_nothing_and_ends_the_connection() {
    run(async {
        let stage = Stage::plain("", named);
        let (length, chunked) = ("Content-Length: 6\r\n", "Transfer-Encoding: chunked\r\n");
        for both in [format!("{length}{chunked}"), format!("{chunked}{length}")] {
            let body = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
            let (replies, closed) =
                stage.ask(format!("POST / HTTP/1.1\r\nHost: a\r\n{both}\r\n{body}")).await;
            assert!(closed && replies.len() == 1, "{both:?}: {replies:?}");
            for heard in stage.heard() {
                assert!(heard.target() == "/" && heard.unclean.is_empty(), "{both:?}: {heard:?}");
            }
        }
    });
}

#[test]
fn rule_b_one_length_said_twice_reaches_the_app_once() {
    run(async {
        let stage = Stage::plain("", named);
        let twice = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(stage.one(twice).await.status, 200);
        let heard = stage.heard().remove(0);
        assert_eq!((heard.one("content-length"), &*heard.body), (Some("5"), &b"hello"[..]));
        assert!(heard.unclean.is_empty(), "{:?}", heard.unclean);
    });
}

#[test]
fn rule_c_bodies_are_framed_anew_and_hop_by_hop_fields_stay_here() {
    run(async {
        let stage = Stage::plain("", named);
        let chunked = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\nTrailer: X-T\r\nTE: trailers\r\n\
                       Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nProxy: evil\r\n\
                       HTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: x-drop, keep-alive\r\nX-Drop: 1\r\nX-Keep: 2\r\n\r\n\
                       2;ext=\"a\"\r\nhe\r\n03\r\nllo\r\n0\r\nX-T: smuggled\r\n\r\n";
        assert_eq!(stage.one(chunked).await.status, 200);
        let heard = stage.heard().remove(0);
        assert_eq!(heard.body, b"hello");
        assert!(heard.unclean.is_empty(), "{:?}", heard.unclean);
        assert_eq!(heard.one("x-keep"), Some("2"));
        for gone in [
            "x-drop",
            "te",
            "trailer",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "proxy",
            "upgrade",
            "http2-settings",
            "x-t",
            "connection",
        ] {
            assert_eq!(heard.one(gone), None, "{gone}");
        }
        stage.one("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(stage.heard()[0].one("content-length"), Some("0"), "an empty POST says so");
        stage.one(get("/", "")).await;
        let heard = stage.heard().remove(0);
        assert_eq!((heard.one("content-length"), heard.one("transfer-encoding")), (None, None));
    });
}

#[test]
fn rule_c_a_body_that_turns_out_malformed_is_never_whole_at_the_app() {
    run(async {
        let stage = Stage::plain("", named);
        for body in [
            "zz\r\nhello\r\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "-1\r\n",
            "fffffffffffffffff\r\nx",
            "5\nhello\n0\n\n",
            "0_5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n",
        ] {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let (replies, closed) = stage.ask(format!("{head}{body}{}", get("/second", ""))).await;
            assert!(closed && replies.iter().all(|reply| reply.status >= 400), "{body:?}: {replies:?}");
            for heard in stage.heard() {
                assert_eq!(heard.unclean, ["broken off"], "{body:?}: {heard:?}");
            }
        }
        // The connection to the app was not used again: the next request is its first.
        assert_eq!(stage.one(get("/after", "")).await.status, 200);
        assert_eq!(stage.heard().len(), 1);
    });
}

#[test]
fn rule_d_targets() {
    run(async {
        let stage = Stage::plain("", named);
        for method in ["CONNECT a.org:443", "CONNECT /", "TRACE /", "TRACE http://a.org/"] {
            let (replies, closed) = stage.ask(format!("{method} HTTP/1.1\r\nHost: a.org:443\r\n\r\n")).await;
            let reply = &replies[0];
            assert!(closed, "{method}");
            if reply.status != 400 {
                reply.is_own(405, "bad_request");
                assert!(reply.one("allow").is_some());
            }
        }
        let reply = stage.one("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((reply.status, reply.one("x-bridge-error")), (204, None));
        assert!(reply.one("allow").is_some_and(|methods| methods.contains("POST")));
        assert!(stage.heard().is_empty());
        let targets = [
            "GET * HTTP/1.1",
            "GET ! HTTP/1.1",
            "GET a.org:80 HTTP/1.1",
            "GET ftp://a.org/ HTTP/1.1",
            "GET x HTTP/1.1",
            "GET \\x HTTP/1.1",
            "GET /\u{7f} HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / HTTP/3",
            "GET / http/1.1",
            "G@T / HTTP/1.1",
            "GET /",
            "GET ?x HTTP/1.1",
        ];
        let requests: Vec<String> =
            targets.iter().map(|line| format!("{line}\r\nHost: a.org\r\n\r\n")).collect();
        refused(&stage, &requests.iter().map(|request| &**request).collect::<Vec<_>>()).await;
        assert_eq!(stage.one(get("/?", "")).await.status, 200);
        assert_eq!(
            stage.one("OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n").await.text(),
            "a",
            "an app's own OPTIONS"
        );
        stage.heard();
        stage.one("PROPFIND /x?y=%zz&%00=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(stage.heard()[0].line, "PROPFIND /x?y=%zz&%00=1 HTTP/1.1", "a query's bytes pass");
    });
}

#[test]
fn rule_e_names_with_an_underscore_need_a_trusted_proxy() {
    run(async {
        let odd = "SM_USER: alice\r\nX_Forwarded_For: 1.2.3.4\r\nContent_Length: 9\r\nOTHER_ONE: 1\r\n";
        let stage = Stage::plain("server.allow_headers = [\"SM_USER\"]", named);
        stage.one(get("/", odd)).await;
        let heard = stage.heard().remove(0);
        assert!(heard.fields.iter().all(|(name, _)| !name.contains('_')), "{heard:?}");
        let trusting = "server.allow_headers = [\"SM_USER\"]\nserver.trusted_proxies = [\"127.0.0.0/8\"]";
        let stage = Stage::plain(trusting, named);
        stage.one(get("/", odd)).await;
        let heard = stage.heard().remove(0);
        let kept: Vec<_> = heard.fields.iter().filter(|(name, _)| name.contains('_')).collect();
        assert_eq!(kept, [&("sm_user".to_owned(), "alice".to_owned())]);
    });
}

#[test]
fn http_1_0_is_served_and_closed_unless_it_asks_to_stay() {
    run(async {
        let stage = Stage::plain("", |_| {
            Act::say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        });
        let (replies, closed) = stage.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
        assert_eq!((replies[0].status, &*replies[0].body, closed), (200, &b"hi"[..], true));
        assert_eq!(replies[0].one("transfer-encoding"), None, "1.0 knows no chunks");
        let (replies, closed) = stage.ask("GET / HTTP/1.0\r\n\r\n").await;
        assert_eq!((replies[0].status, closed), (200, true), "{replies:?}");
        let heard = stage.heard();
        assert!(
            heard.iter().all(|heard| heard.line == "GET / HTTP/1.1" && heard.unclean.is_empty()),
            "{heard:?}"
        );
        let stage = Stage::plain("", named);
        let (replies, closed) =
            stage.ask("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!((replies[0].status, closed), (200, false));
    });
}

#[test]
fn t11_connection_names_away_nothing_that_counts() {
    run(async {
        let stage = Stage::plain("", named);
        let more = "Connection: X-Forwarded-For, Cookie, Host, Content-Length, X-Request-Id, Authorization, X-Drop\r\n\
                    Cookie: a=b\r\nAuthorization: Basic eA==\r\nX-Drop: 1\r\n";
        assert_eq!(stage.one(get("/", more)).await.status, 200);
        let heard = stage.heard().remove(0);
        assert_eq!(heard.one("cookie"), Some("a=b"));
        assert_eq!(heard.one("authorization"), Some("Basic eA=="));
        assert_eq!(heard.one("x-drop"), None);
        for there in ["x-forwarded-for", "x-request-id", "host"] {
            assert!(heard.one(there).is_some(), "{there}");
        }
    });
}

const SPOOFED: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX_Forwarded_For: 6.6.6.6\r\n\
    X-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 666\r\nX-Forwarded-Prefix: /evil\r\n\
    X-Forwarded-Uri: /evil\r\nX-Forwarded-Server: evil\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Scheme: https\r\n\
    X-Forwarded: evil\r\nForwarded: for=6.6.6.6;host=evil\r\nX-Real-Ip: 6.6.6.6\r\nX-Client-Ip: 6.6.6.6\r\n\
    True-Client-Ip: 6.6.6.6\r\nX-Cluster-Client-Ip: 6.6.6.6\r\nX-Original-Url: /evil\r\nX-Rewrite-Url: /evil\r\n\
    X-Original-Host: evil\r\nFront-End-Https: on\r\nX-Bridge-Session: evil\r\nX-Session-Heartbeat: 1\r\n\
    X-Request-Id: evil-request\r\n";

#[test]
fn t12_nobody_but_a_trusted_proxy_says_where_a_request_is_from() {
    run(async {
        let stage = Stage::plain("", named);
        let reply = stage.one(get("/", SPOOFED)).await;
        let heard = stage.heard().remove(0);
        for (name, value) in &heard.fields {
            let told = ["6.6.6.6", "7.7.7.7", "evil", "666", "https", "on"];
            assert!(!told.iter().any(|word| value.contains(word)), "{name}: {value}");
        }
        assert_eq!(heard.one("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(heard.one("x-forwarded-proto"), Some("http"));
        assert_eq!(heard.one("x-forwarded-host"), Some("a.org"));
        assert_eq!(heard.one("x-session-heartbeat"), None);
        assert_eq!(heard.one("x-request-id"), reply.one("x-request-id"));
        let stage = Stage::plain("server.trusted_proxies = [\"127.0.0.0/8\"]", named);
        let more =
            "X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Request-Id: theirs-1\r\n";
        let reply = stage.one(get("/", more)).await;
        let heard = stage.heard().remove(0);
        assert_eq!(heard.one("x-forwarded-proto"), Some("https"));
        assert!(heard.one("x-forwarded-for").unwrap().contains("192.0.2.7"), "{heard:?}");
        assert_eq!(
            (heard.one("x-request-id"), reply.one("x-request-id")),
            (Some("theirs-1"), Some("theirs-1"))
        );
    });
}

#[test]
fn t14_no_answer_is_split() {
    run(async {
        for set_cookie in ["CFID=1\rX-Evil: 1", "a=b\0c", "a=b\nX-Evil: 1"] {
            let said = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {set_cookie}\r\nContent-Length: 2\r\n\r\nok");
            let stage = Stage::plain("", move |_| Act::say(&said));
            let reply = stage.one(get("/", "")).await;
            match reply.status {
                502 => reply.is_own(502, "bad_response"),
                // A bare LF ends a line for whoever reads leniently: then it is a field of its own, and framed as such.
                status => assert_eq!((status, set_cookie.contains('\n')), (200, true), "{reply:?}"),
            }
        }
        let toml = "[apps.a]\nupstreams = [\"http://a\"]\nsession.engine = \"coldfusion\"\n\
                    session.url_tokens = { builderCFID = \"CFID\", builderCFTOKEN = \"CFTOKEN\" }\n";
        let stage = Stage::new(toml, vec![("a", named)]);
        for value in ["1%0d%0aX-Evil:%201", "1;%20CFTOKEN=z", "%00", "%0a"] {
            let navigation = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nSec-Fetch-Dest: document\r\n";
            let reply = stage
                .one(get(&format!("/x?a={value}&builderCFID={value}&builderCFTOKEN=2"), navigation))
                .await;
            assert_eq!((reply.status, reply.one("x-evil")), (303, None), "{reply:?}");
            let location = reply.one("location").unwrap();
            assert!(location.starts_with("http://a.org/x?a=") && !location.contains("CFTOKEN"), "{location}");
        }
    });
}

#[test]
fn t6_t18_heads_and_bodies_have_their_bounds() {
    run(async {
        let stage = Stage::plain("server.max_body = \"1KiB\"", named);
        let bomb: String = (0..180).map(|at| format!("c{at}={}; ", "x".repeat(4000))).collect();
        let (replies, closed) = stage.ask(get("/", &format!("Cookie: {bomb}\r\n"))).await;
        assert!(closed);
        replies[0].is_own(431, "header_too_large");
        let fields: String = (0..101).map(|at| format!("X-{at}: y\r\n")).collect();
        let (replies, closed) = stage.ask(get("/", &fields)).await;
        assert!(closed);
        replies[0].is_own(431, "header_too_large");
        for length in [30_000, 66_000, 200_000] {
            let (replies, _) = stage.ask(get(&format!("/{}", "x".repeat(length)), "")).await;
            match length {
                30_000 => assert_eq!(replies[0].status, 200),
                _ => assert!(matches!(replies[0].status, 414 | 431), "{replies:?}"),
            }
        }
        stage.heard();
        let length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n";
        let (replies, closed) = stage.ask(format!("{length}{}", "x".repeat(1025))).await;
        replies[0].is_own(413, "body_too_large");
        assert!(closed && stage.heard().is_empty(), "known before the first byte");
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (replies, closed) = stage.ask(format!("{chunked}401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025))).await;
        replies[0].is_own(413, "body_too_large");
        assert!(closed && stage.heard().iter().all(|heard| heard.unclean == ["broken off"]));
        let (replies, _) = stage.ask(format!("{chunked}400\r\n{}\r\n0\r\n\r\n", "x".repeat(1024))).await;
        assert_eq!((replies[0].status, stage.heard()[0].body.len()), (200, 1024));
    });
}

#[test]
fn a_target_of_64_kib_is_414_where_the_head_may_be_longer() {
    run(async {
        let stage = Stage::plain("server.max_header_bytes = \"256KiB\"", named);
        for length in [65_100, 65_500, 66_000, 100_000] {
            let reply = stage.one(get(&format!("/{}", "x".repeat(length)), "")).await;
            reply.is_own(414, "uri_too_long");
        }
        assert!(stage.heard().is_empty());
    });
}

/// Every way in which a lenient server may read a path: decoded or not, once or twice, parameters gone or not, a backslash
/// as a slash, then dot segments resolved.
fn readings(path: &str) -> Vec<String> {
    let path = path.split('?').next().unwrap();
    let decode = |text: &str| String::from_utf8_lossy(&percent(text.as_bytes())).into_owned();
    let bare = |text: &str| -> String {
        text.split('/').map(|part| part.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/")
    };
    let once = decode(path);
    let mut forms = vec![once.clone(), bare(&once), decode(&bare(path))];
    forms.extend(forms.clone().iter().map(|form| form.replace('\\', "/")));
    forms.iter().map(|form| resolved(form)).collect()
}

fn percent(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    out
}

fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match part {
            "." => {}
            // Above the root is another place altogether.
            ".." if kept.pop().is_none() => kept.push("/.."),
            ".." => {}
            other => kept.push(other),
        }
    }
    format!("/{}/", kept.join("/"))
}

#[test]
fn t28_a_path_reaches_the_app_that_it_is_routed_to() {
    run(async {
        let toml = "[apps.a]\npath = \"/appA/\"\nupstreams = [\"http://a\"]\n\
                    [apps.b]\npath = \"/appB/\"\nupstreams = [\"http://b\"]\n\
                    [apps.s]\npath = \"/strip/\"\nstrip_path = true\nupstreams = [\"http://s\"]\n";
        let stage = Stage::new(toml, vec![("a", named), ("b", named), ("s", named)]);
        let paths = [
            "/appA/x",
            "/appA",
            "/appB/x",
            "//appB/x",
            "/appA//x",
            "/appA/%2e%2e/appB",
            "/appA/%2E%2E/appB/x",
            "/appA/../appB/x",
            "/appA/./x",
            "/appA/..;/appB/x",
            "/appA;x/../appB",
            "/appA;x=y/z",
            "/appA;/x",
            "/appA/;/../appB",
            "/appA/x;a=b/../../appB/",
            "/appA/..%2fappB",
            "/appA/..%2FappB/x",
            "/appA%2f..%2fappB/x",
            "/appA/%2e%2e%2fappB/x",
            "/appA/..%5cappB/x",
            "/appA/..\\appB/x",
            "/appA/%5c../appB",
            "/appA/%2e/x",
            "/appA/%252e%252e/appB",
            "/appA/%252e%252e%252fappB",
            "/appA/%c0%ae%c0%ae/appB",
            "/appA/%c0%2e%c0%2e/appB",
            "/appA/.%2e/appB",
            "/appA/%2e./appB",
            "/appA/%u002e%u002e/appB",
            "/appA/%00/../appB",
            "/appA/%00",
            "/app%41/x",
            "/%61ppA/x",
            "/appA/x/..",
            "/appA/x/../",
            "/appA/...",
            "/appA/..x/y",
            "/appA/x%20y",
            "/appA/%e0%80%ae./appB",
            "/./appA/x",
            "/../appB/x",
            "/appB/..;a=b/appA/x",
            "/appA/%3b/../appB",
            "/appA/..%3bx/appB",
            "/appA/..%09/appB",
            "/appA/..%00/appB",
            "/strip/..%2f..%2fetc",
            "/strip/%2e%2e/appA",
            "/strip//appA/x",
            "/strip/;x/..",
            "/APPA/x",
        ];
        assert!(paths.len() >= 40);
        let mut routed = 0;
        for path in paths {
            let reply = stage.one(get(path, "")).await;
            let heard = stage.heard();
            match heard.first() {
                None => assert!(matches!(reply.status, 400 | 404 | 308), "{path}: {reply:?}"),
                Some(heard) => {
                    routed += 1;
                    // A server that knows no path parameters finds nothing of its own there, and nothing of another.
                    let mounts: &[&str] = match &*heard.app {
                        "s" => &["/"],
                        "a" => &["/appA/", "/appA;"],
                        _ => &["/appB/", "/appB;"],
                    };
                    for reading in readings(heard.target()) {
                        let own = mounts.iter().any(|mount| reading.starts_with(mount));
                        assert!(
                            own && !reading.contains("//.."),
                            "{path} to {}: read as {reading}",
                            heard.app
                        );
                    }
                    if heard.app != "s" {
                        assert_eq!(heard.target(), path, "its bytes are not touched");
                    }
                }
            }
        }
        assert!((12..paths.len() - 20).contains(&routed), "{routed} routed");
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    run(async {
        let stage = Stage::plain("", |heard| Act::ok(heard.target()));
        let many: String = (0..50).map(|at| get(&format!("/{at}"), "")).collect();
        let (replies, closed) = stage.ask(many).await;
        let bodies: Vec<String> = replies.iter().map(|reply| reply.text()).collect();
        assert_eq!(bodies, (0..50).map(|at| format!("/{at}")).collect::<Vec<_>>());
        assert!(!closed);
        let post = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 36\r\n\r\nGET /body HTTP/1.1\r\nHost: a\r\nX: yz\r\n\r\n";
        let (replies, _) = stage.ask(format!("{post}{}", get("/next", ""))).await;
        assert_eq!(replies.iter().map(|reply| reply.text()).collect::<Vec<_>>(), ["/p", "/next"]);
    });
}

#[test]
fn h2c_is_not_offered_to_the_app_and_its_body_is_a_body() {
    run(async {
        let stage = Stage::plain("", named);
        let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n";
        let post = format!(
            "POST /x HTTP/1.1\r\nHost: a\r\n{offer}Content-Length: 5\r\n\r\nhello{}",
            get("/next", offer)
        );
        let (replies, closed) = stage.ask(post).await;
        assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [200, 200]);
        assert!(!closed);
        let heard = stage.heard();
        assert_eq!(heard[0].body, b"hello");
        for gone in ["upgrade", "connection", "http2-settings"] {
            assert!(heard.iter().all(|heard| heard.one(gone).is_none()), "{gone}");
        }
        let web_socket = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        for body in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
            refused(&stage, &[&format!("POST / HTTP/1.1\r\nHost: a\r\n{web_socket}{body}")]).await;
        }
    });
}

#[test]
fn answers_to_head_have_no_body_and_the_next_one_is_read_right() {
    run(async {
        let stage = Stage::plain("", |heard| {
            if heard.line.starts_with("HEAD") {
                Act::say("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
            } else {
                Act::ok("whole")
            }
        });
        let mut wire = stage.connect();
        wire.say("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let bytes = wire.hear().await;
        let head = &replies(&bytes, true)[0];
        assert_eq!((head.status, head.one("content-length"), head.raw.len()), (200, Some("7"), bytes.len()));
        wire.say(get("/y", "")).await;
        assert_eq!(wire.answers().await[0].text(), "whole");
        wire.say("HEAD /.bridge/nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let bytes = wire.hear().await;
        let head = &replies(&bytes, true)[0];
        assert_eq!(
            (head.status, head.raw.len()),
            (404, bytes.len()),
            "an error of our own has no body either"
        );
    });
}
