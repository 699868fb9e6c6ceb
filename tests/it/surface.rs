use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{Act, Heard, Stage, World, pass, run};

fn get(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.org\r\n{more}\r\n")
}

fn named(heard: &Heard) -> Act {
    Act::ok(&heard.app)
}

const AT_A: &str = "[apps.a]\npath = \"/a/\"\nupstreams = [\"http://a\"]\n";

#[test]
fn an_error_is_a_page_for_who_names_html_and_json_for_others() {
    run(async {
        let stage = Stage::new(
            &format!("{AT_A}[apps.gone]\npath = \"/gone/\"\nupstreams = [\"http://gone\"]\n"),
            vec![("a", named)],
        );
        for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n", "Accept: image/avif,*/*\r\n"] {
            let reply = stage.one(get("/gone/x", accept)).await;
            reply.is_own(502, "connect_refused");
            assert_eq!(reply.one("content-type"), Some("application/json"));
            let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(
                (said["error"].as_str(), said["app"].as_str()),
                (Some("connect_refused"), Some("gone"))
            );
            assert_eq!(said["request_id"].as_str(), reply.one("x-request-id"));
        }
        for accept in ["text/html", "application/xhtml+xml,Text/HTML;q=0.9"] {
            let reply =
                stage.one(get("/b?%3Cscript>".trim_end_matches('>'), &format!("Accept: {accept}\r\n"))).await;
            reply.is_own(404, "no_route");
            assert_eq!(reply.one("content-type"), Some("text/html; charset=utf-8"));
            let (page, id) = (reply.text(), reply.one("x-request-id").unwrap());
            assert!(page.contains("no_route") && page.contains(id) && !page.contains("<script>"), "{page}");
            assert!(reply.one("content-security-policy").unwrap().starts_with("default-src 'none'"));
        }
    });
}

#[test]
fn what_is_never_read_is_refused_in_the_same_words() {
    run(async {
        let stage = Stage::plain("", named);
        for (request, status, reason) in [
            ("nonsense\r\n\r\n".to_owned(), 400, "bad_request"),
            ("\x16\x03\x01\x02\0\x01\0".to_owned() + "\r\n\r\n", 400, "bad_request"),
            (get("/", &format!("X: {}\r\n", "y".repeat(40_000))), 431, "header_too_large"),
        ] {
            let (replies, closed) = stage.ask(request).await;
            replies[0].is_own(status, reason);
            assert!(closed);
            let said: serde_json::Value = serde_json::from_slice(&replies[0].body).unwrap();
            assert_eq!(
                (said["error"].as_str(), said["request_id"].as_str()),
                (Some(reason), replies[0].one("x-request-id"))
            );
        }
        // Behind an answer that is on its way already, pipelined.
        let (replies, closed) = stage.ask(format!("{}nonsense\r\n\r\n", get("/", ""))).await;
        assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [200, 400]);
        assert!(closed);
        // An app that says the very bytes which the proxy's HTTP library would say is not rewritten.
        let said = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sun, 22 Nov 2026 18:20:43 GMT\r\n\r\n";
        let stage = Stage::plain("", move |_| Act::say(said));
        let reply = stage.one(get("/", "")).await;
        assert_eq!((reply.status, reply.one("x-bridge-error"), reply.body.len()), (400, None, 0));
    });
}

#[test]
fn over_the_cap_a_connection_is_told_so() {
    run(async {
        let stage = Stage::plain("server.max_connections = 1", named);
        let mut first = stage.connect();
        first.say(get("/", "")).await;
        assert_eq!(first.answers().await[0].status, 200);
        let (replies, closed) = stage.ask(get("/", "")).await;
        replies[0].is_own(503, "rate_limited");
        assert!(closed && replies[0].one("retry-after").is_some());
        drop(first);
        pass(1.0).await;
        assert_eq!(stage.one(get("/", "")).await.status, 200);
    });
}

#[test]
fn answers_of_apps_pass_as_they_are_errors_included() {
    run(async {
        for (status, body) in [
            ("200 OK", "\0\u{ff}<b>"),
            ("404 Nope", "no such page"),
            ("500 Oh", "half a"),
            ("503 Busy", ""),
            ("418 I'm a teapot", "x"),
            ("299 Odd", "y"),
            ("599 Odd", "z"),
        ] {
            let said = format!(
                "HTTP/1.1 {status}\r\nServer: old/1\r\nX-A: 1\r\nX-A: 2\r\nX-Powered-By: CF\r\nETag: \"x\"\r\nVary: a\r\nVary: b\r\n\
                 Cache-Control: public, max-age=5\r\nWarning: 110 - \"r\u{e9}ponse\"\r\nContent-Type: text/x\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let stage = Stage::plain("", move |_| Act::say(&said));
            let reply = stage.one(get("/", "")).await;
            assert_eq!(reply.status.to_string(), status.split(' ').next().unwrap());
            assert_eq!((reply.body.as_slice(), reply.one("x-bridge-error")), (body.as_bytes(), None));
            assert_eq!((reply.all("x-a"), reply.all("vary")), (vec!["1", "2"], vec!["a", "b"]));
            assert_eq!(reply.one("warning"), Some("110 - \"r\u{e9}ponse\""), "bytes beyond ASCII pass");
            for (name, value) in [
                ("server", "old/1"),
                ("etag", "\"x\""),
                ("cache-control", "public, max-age=5"),
                ("x-powered-by", "CF"),
            ] {
                assert_eq!(reply.one(name), Some(value), "{status}");
            }
        }
    });
}

#[test]
fn hop_by_hop_fields_of_an_answer_stay_here() {
    run(async {
        let said = "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n\
                    Trailer: X-T\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n";
        let stage = Stage::plain("", move |_| Act::say(said));
        let reply = stage.one(get("/", "")).await;
        assert_eq!((reply.status, &*reply.body), (200, &b"hi"[..]));
        for gone in ["x-hop", "keep-alive", "proxy-authenticate", "trailer", "upgrade"] {
            assert_eq!(reply.one(gone), None, "{gone}");
        }
    });
}

#[test]
fn answers_without_a_body_are_told_from_those_with_one() {
    run(async {
        let stage = Stage::plain("", |heard| match heard.target() {
            "/204" => Act::say("HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
            "/304" => Act::say("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n"),
            "/205" => Act::say("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
            "/103" => Act::say(
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            ),
            "/close" => Act::last("HTTP/1.1 200 OK\r\n\r\nuntil the end"),
            _ => Act::ok("x"),
        });
        let paths = ["/204", "/304", "/205", "/103", "/close", "/x"];
        let many: String = paths.iter().map(|path| get(path, "")).collect();
        let (replies, closed) = stage.ask(many).await;
        let told: Vec<_> = replies.iter().map(|reply| (reply.status, reply.text(), reply.whole)).collect();
        let expected = [(204, ""), (304, ""), (205, ""), (200, "hi"), (200, "until the end"), (200, "x")];
        assert_eq!(told, expected.map(|(status, body)| (status, body.to_owned(), true)));
        assert!(!closed);
        assert_eq!(replies[1].one("content-length"), Some("77"), "a 304 may say what a 200 would have");
        assert!(replies[0].one("content-length").is_none() && replies[0].one("transfer-encoding").is_none());
    });
}

#[test]
fn an_app_that_speaks_nonsense_is_502() {
    run(async {
        for said in [
            "nonsense\r\n\r\n",
            "HTTP/1.1 abc OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "SSH-2.0-OpenSSH_9\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA\0b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded: x\r\nContent-Length: 0\r\n\r\n",
        ] {
            let stage = Stage::plain("", move |_| Act::say(said));
            stage.one(get("/", "")).await.is_own(502, "bad_response");
        }
        let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(200_000));
        let stage = Stage::plain("", move |_| Act::say(&huge));
        stage.one(get("/", "")).await.is_own(502, "bad_response");
        for nothing in [Act::last as fn(&'static str) -> Act] {
            let stage = Stage::plain("", move |_| nothing(""));
            stage.one(get("/", "")).await.is_own(502, "upstream_reset");
            let stage = Stage::plain("", move |_| nothing("HTTP/1.1 200 O"));
            let reply = stage.one(get("/", "")).await;
            assert!(reply.status == 502 && reply.one("x-bridge-error").is_some(), "{reply:?}");
        }
    });
}

#[test]
fn an_app_that_never_answers_is_504() {
    run(async {
        let stage = Stage::plain("server.timeouts.first_byte = \"10s\"", |_| Act::Hang);
        let mut wire = stage.connect();
        wire.say(get("/", "")).await;
        pass(9.5).await;
        assert!(wire.answers().await.is_empty());
        pass(1.0).await;
        wire.answers().await[0].is_own(504, "first_byte_timeout");
        assert!(!wire.closed, "the client's connection is none the worse");
    });
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    run(async {
        for said in [
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nhalf",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        ] {
            let stage = Stage::plain("", move |_| Act::last(said));
            let (replies, closed) = stage.ask(get("/", "")).await;
            assert!(closed && replies.iter().all(|reply| !reply.whole), "{said:?}: {replies:?}");
        }
        // One that stalls is cut, too.
        let stage = Stage::plain("server.timeouts.body_stall = \"5s\"", |_| {
            Act::say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        });
        let mut wire = stage.connect();
        wire.say(get("/", "")).await;
        let early = wire.answers().await;
        assert!(!wire.closed && !early[0].whole && early[0].body == b"half");
        pass(6.0).await;
        assert!(wire.hear().await.is_empty() && wire.closed);
    });
}

#[test]
fn what_an_app_says_too_much_reaches_nobody() {
    run(async {
        let stage = Stage::plain("", |_| {
            Act::say(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
            )
        });
        for _ in 0..5 {
            let (replies, _) = stage.ask(get("/", "")).await;
            assert_eq!(replies.iter().map(|reply| reply.text()).collect::<Vec<_>>(), ["hi"]);
        }
    });
}

#[test]
fn a_connection_that_the_app_closed_costs_a_get_nothing_and_repeats_no_post() {
    run(async {
        // Each connection serves one request and is closed without a word on the next.
        let stage = Stage::plain("", |_| Act::last("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
        for _ in 0..20 {
            assert_eq!(stage.one(get("/", "")).await.status, 200);
            let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy";
            assert_eq!(stage.one(post).await.status, 200);
        }
        let heard = stage.heard();
        assert_eq!(heard.iter().filter(|heard| heard.line.starts_with("POST")).count(), 20);
    });
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on_only_where_the_body_is_wanted() {
    run(async {
        let stage = Stage::plain("server.max_body = \"1KiB\"", named);
        let head = |length: u32| {
            format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
        };
        let mut wire = stage.connect();
        wire.say(head(5)).await;
        assert_eq!(wire.answers().await[0].status, 100);
        wire.say("hello").await;
        assert_eq!(wire.answers().await[0].status, 200);
        assert_eq!(stage.heard()[0].body, b"hello");
        let (replies, closed) = stage.ask(head(5000)).await;
        replies[0].is_own(413, "body_too_large");
        assert!(closed && replies.len() == 1, "no 100 before a refusal");
        let (replies, _) = stage
            .ask(format!(
                "{}Expect: 100-continue\r\n\r\n",
                "POST /../x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
            ))
            .await;
        replies[0].is_own(400, "bad_request");
    });
}

#[test]
fn http2_by_prior_knowledge_and_its_cookie_crumbs() {
    run(async {
        let stage = Stage::plain("", named);
        let stream = TokioIo::new(stage.front().connect().unwrap());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::post("http://a.org/x?y=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("cookie", "a=3")
            .header("te", "trailers")
            .header("x-keep", "1")
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().contains_key("x-request-id"));
        let heard = stage.heard().remove(0);
        assert_eq!(heard.line, "POST /x?y=1 HTTP/1.1");
        assert_eq!((heard.one("cookie"), heard.one("host")), (Some("a=1; b=2; a=3"), Some("a.org")));
        assert_eq!((heard.one("te"), heard.one("x-keep"), &*heard.body), (None, Some("1"), &b"hello"[..]));
        assert!(heard.unclean.is_empty(), "{:?}", heard.unclean);
        let refused = [
            Request::get("http://a.org/").header("host", "b.org"),
            Request::get("http://a.org/%2e%2e/x"),
            Request::get("http://a.org/").header("content-length", "5"),
        ];
        for request in refused {
            let answer = sender.send_request(request.body(Full::default()).unwrap()).await;
            match answer {
                Ok(answer) => {
                    assert_eq!(answer.status(), 400);
                    assert_eq!(answer.headers()["x-bridge-error"], "bad_request");
                }
                // The library of the protocol has found it out by itself.
                Err(error) => assert!(!error.is_closed(), "{error}"),
            }
        }
        // Several streams at once, interleaved.
        let many = (0..50).map(|at| {
            let request = Request::get(format!("http://a.org/{at}")).body(Full::<Bytes>::default()).unwrap();
            sender.send_request(request)
        });
        let many = futures_util::future::join_all(many.collect::<Vec<_>>()).await;
        assert!(many.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200)));
    });
}

const CF: &str = "[apps.a]\nupstreams = [\"http://a\"]\nsession.engine = \"coldfusion\"\n";

fn form(body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn raw_token_names_are_cut_from_short_forms_and_masked_in_long_ones() {
    run(async {
        let stage = Stage::new(CF, vec![("a", named)]);
        for (sent, left) in [
            ("a=1&CFID=2&CFTOKEN=3&b=4", "a=1&b=4"),
            ("CFID=1", ""),
            ("cf%49d=1&b=2", "b=2"),
            ("x=CFID%3D1&CFIDX=2", "x=CFID%3D1&CFIDX=2"),
            ("a=%zz&&b", "a=%zz&&b"),
        ] {
            assert_eq!(stage.one(form(sent)).await.status, 200);
            let heard = stage.heard().remove(0);
            assert_eq!(String::from_utf8_lossy(&heard.body), left);
            assert_eq!(heard.one("content-length"), Some(&*left.len().to_string()));
        }
        let filler = "x".repeat(300_000);
        let long = format!("a={filler}&CFID=2&cftoken=3&b=4");
        assert_eq!(stage.one(form(&long)).await.status, 200);
        let heard = stage.heard().remove(0);
        assert_eq!(heard.body.len(), long.len());
        assert!(heard.body.ends_with(b"&____=2&_______=3&b=4"), "{:?}", heard.body.last_chunk::<40>());
        // Chunked: no length is known, so that it streams.
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n\
                       5\r\na=1&C\r\n8\r\nFID=2&b=\r\n1\r\n3\r\n0\r\n\r\n";
        stage.one(chunked).await;
        assert_eq!(stage.heard()[0].body, b"a=1&____=2&b=3");
        // Other bodies are nobody's business.
        let multipart = form("CFID=1")
            .replace("application/x-www-form-urlencoded; charset=utf-8", "multipart/form-data; boundary=x");
        stage.one(multipart).await;
        assert_eq!(stage.heard()[0].body, b"CFID=1");
        let pass = Stage::new(&format!("{CF}session.form_tokens = \"pass\"\n"), vec![("a", named)]);
        pass.one(form("a=1&CFID=2")).await;
        assert_eq!(pass.heard()[0].body, b"a=1&CFID=2");
    });
}

#[test]
fn s0_2_a_mebibyte_of_amf_arrives_as_it_was_sent_in_the_same_session() {
    run(async {
        let world = World::pair("acf-strict", "");
        let mut browser = world.browser();
        let first = browser.get("/AppA/index.cfm").await;
        let body: Vec<u8> = (0..1_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let headers = [("content-type", "application/x-amf")];
        let answer = browser.send(Method::POST, "/AppA/echo.cfm", &headers, Bytes::from(body.clone())).await;
        assert_eq!(answer.body, body);
        let seen = world.seen("AppA");
        let (before, amf) = (&seen[seen.len() - 2], &seen[seen.len() - 1]);
        assert_eq!(amf.body_len, 1 << 20);
        assert!(amf.session.is_some() && amf.session == before.session && !amf.fresh);
        assert_eq!(browser.get("/AppA/index.cfm").await.started(), first.started());
    });
}

#[test]
fn a_web_socket_is_carried_and_dies_with_the_session() {
    run(async {
        let world = World::pair("acf-strict", "");
        let mut browser = world.browser();
        browser.get("/AppB/index.cfm").await;
        let cookies = browser.cookies("/AppB/").unwrap();
        let mut io = browser.connect();
        let ask = format!(
            "GET /AppB/ws.cfm HTTP/1.1\r\nHost: apps.example.org\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {cookies}\r\n\r\n"
        );
        // A client may speak before the handshake is over.
        let frame = [0x82, 0x85, 1, 2, 3, 4, b'h' ^ 1, b'e' ^ 2, b'l' ^ 3, b'l' ^ 4, b'o' ^ 1];
        io.write_all(&[ask.as_bytes(), &frame].concat()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket"), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        let mut echo = [0; 7];
        io.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"\x82\x05hello");
        browser.own_post("/.bridge/logout").await;
        let mut rest = Vec::new();
        tokio::time::timeout(std::time::Duration::from_secs(2), io.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(rest.first(), Some(&0x88), "a close frame");
    });
}

#[test]
fn an_app_that_refuses_an_upgrade_is_heard_and_the_connection_goes_on() {
    run(async {
        let stage = Stage::plain("", named);
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
        let (replies, closed) = stage.ask(format!("{}{}", get("/ws", upgrade), get("/next", ""))).await;
        assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [200, 200], "{replies:?}");
        assert!(!closed);
        let heard = stage.heard();
        assert_eq!((heard[0].one("upgrade"), heard[1].one("upgrade")), (Some("websocket"), None));
        assert_eq!(heard[0].one("connection"), Some("upgrade"));
        // A 101 that nobody asked for is nonsense.
        let stage = Stage::plain("", |_| {
            Act::say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        });
        stage.one(get("/", "")).await.is_own(502, "bad_response");
    });
}

#[test]
fn events_come_as_they_happen() {
    run(async {
        let world = World::pair("acf-strict", "");
        let browser = world.browser();
        let mut io = browser.connect();
        io.write_all(
            b"GET /AppA/sse.cfm HTTP/1.1\r\nHost: apps.example.org\r\nAccept: text/event-stream\r\n\r\n",
        )
        .await
        .unwrap();
        let begun = tokio::time::Instant::now();
        let (mut seen, mut buffer) = (String::new(), [0; 4096]);
        for count in 1..=10 {
            while seen.matches("data: ").count() < count {
                let read = io.read(&mut buffer).await.unwrap();
                assert_ne!(read, 0, "{seen}");
                seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            let after = begun.elapsed().as_millis();
            assert!(after <= u128::try_from(count - 1).unwrap() * 1000 + 5, "event {count} after {after} ms");
        }
    });
}

#[test]
fn slow_clients_are_cut_in_time_and_cost_others_nothing() {
    run(async {
        let stage = Stage::plain("server.timeouts.body_stall = \"5s\"", named);
        let mut slow = Vec::new();
        for at in 0..200 {
            let mut wire = stage.connect();
            let start = ["GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx", "", "P"];
            wire.say(start[at % 4]).await;
            slow.push(wire);
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(stage.one(get("/", "")).await.status, 200);
        assert!(begun.elapsed().as_millis() <= 200, "a good client is answered at once");
        // A byte now and then does not help a head.
        for _ in 0..5 {
            pass(2.0).await;
            for wire in slow.iter_mut().step_by(4) {
                wire.say("T").await;
            }
        }
        pass(1.0).await;
        for (at, wire) in slow.iter_mut().enumerate() {
            let said = wire.answers().await;
            assert!(wire.closed, "{at} is still there");
            if at % 4 == 1 {
                assert_eq!(
                    (said[0].status, said[0].one("x-bridge-error")),
                    (408, Some("client_gone")),
                    "{said:?}"
                );
            }
        }
        assert!(stage.heard().iter().filter(|heard| heard.unclean.is_empty()).count() == 1);
    });
}

#[test]
fn a_body_is_collected_from_a_real_http_client_too() {
    run(async {
        let world = World::pair("servlet", "");
        let request = Request::get("/AppA/big.jsp?size=3000000").header("host", "apps.example.org");
        let stream = TokioIo::new(world.browser().connect());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::task::spawn_local(connection);
        let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 3_000_000);
    });
}
