//! Ours beside hyper's client, on the same bytes.
//!
//! Where ours takes an answer, hyper takes the same one: status, fields, body, trailers, and whether it is whole. Where ours
//! refuses and hyper does not, the answer is one that ours is strict about by design.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::net::body::Body;
use crate::net::client::{Client, ClientOptions, Deadlines};
use crate::net::testing::{local, secs};
use crate::net::upstream::{Dialer, Origin, Upstream, UpstreamIx};
use crate::wire::hop;
use crate::wire::request::Head;

/// What a client made of an answer: `None` where it refused the head, the body `Err` where it broke off.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    status: StatusCode,
    fields: Vec<(String, Vec<u8>)>,
    body: Result<Vec<u8>, ()>,
}

/// But for those of the connection, which ours takes away.
fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let named = hop::Named::by(headers.get_all("connection").iter().map(|value| value.as_bytes()));
    let go_on =
        headers.iter().filter(|(name, _)| !hop::is_of_answer(name.as_str()) && !named.has(name.as_str()));
    go_on.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// Plays the app: reads the head of the request, writes `answer` in pieces, closes.
async fn play(mut io: DuplexStream, answer: Vec<u8>, step: usize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    for piece in answer.chunks(step) {
        if io.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn by_hyper(method: Method, answer: Vec<u8>, step: usize) -> Option<Made> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::task::spawn_local(play(far, answer, step));
    let (mut sender, conn) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::task::spawn_local(conn);
    let request =
        Request::builder().method(method).uri("/").header("host", "app").body(Empty::<Bytes>::new()).unwrap();
    let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes().to_vec()).map_err(|_| ());
    Some(Made { status: parts.status, fields: listed(&parts.headers), body })
}

/// What ours made, and whether the connection was kept.
async fn by_us(method: Method, answer: Vec<u8>, step: usize) -> (Option<Made>, bool) {
    let dial = move |_: &str| {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::task::spawn_local(play(far, answer.clone(), step));
        Ok(near)
    };
    let client = Client::new(Dialer::Memory(std::rc::Rc::new(dial)), ClientOptions::default());
    let upstream = Upstream::new(UpstreamIx(0), Origin::Memory("app".to_owned()));
    let mut headers = HeaderMap::new();
    headers.insert("host", "app".parse().unwrap());
    let head = Head::with(method, "/", &headers);
    let deadlines = Deadlines { connect: secs(5), first_byte: secs(5) };
    let Ok(answer) = client.send(&upstream, &head, Body::empty(), &deadlines).await else {
        return (None, false);
    };
    let body = answer.body.collect().await.map(|body| body.to_bytes().to_vec()).map_err(|_| ());
    let made = Made { status: answer.parts.status, fields: listed(&answer.parts.headers), body };
    (Some(made), client.idle(UpstreamIx(0)) > 0)
}

/// Parts of answers, good and bad; what is put together from them is now and then an answer.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 500 Oops, all of it\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.2 200 OK\r\n",
        "HTTP/1.1 2OO OK\r\n",
    ]);
    let field = prop::sample::select(vec![
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 5, 5\r\n",
        "content-length:5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Set-Cookie: a=b; Path=/\r\n",
        "Set-Cookie: JSESSIONID=C0FFEE\r\n",
        "X: \x0b\r\n",
        "X : y\r\n",
        "X: y\r\n z\r\n",
        "X-\u{e9}: y\r\n",
        "X: y\n",
    ]);
    let body = prop::sample::select(vec![
        "",
        "hello",
        "hello, longer",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;ext=1\r\nhello\r\n00\r\nX-Sum: 1\r\n\r\n",
        "5\r\nhello\r\n",
        "5\nhello\n0\n\n",
        "0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "ffffffffffffffff\r\nhello",
        "fffffffffffffffff\r\nhello",
    ]);
    (line, prop::collection::vec(field, 0..4), body)
        .prop_map(|(line, fields, body)| [line, &fields.concat(), "\r\n", body].concat().into_bytes())
}

/// What hyper lets pass and ours does not, by design.
fn is_strict_about(answer: &str) -> bool {
    let lower = answer.to_ascii_lowercase();
    let count = |word: &str| lower.matches(word).count();
    count("content-length") > 1
        || lower.contains("content-length: 5, 5")
        || count("transfer-encoding") > 1
        || count("content-length") > 0 && count("transfer-encoding") > 0
        || lower.contains("transfer-encoding: gzip")
        || lower.starts_with("http/1.0") && count("transfer-encoding") > 0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]
    #[test]
    fn what_ours_takes_hyper_takes_alike(answer in answers(), step in 1usize..80, head in any::<bool>()) {
        let method = if head { Method::HEAD } else { Method::GET };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (ours, kept, hypers) = runtime.block_on(local(async {
            let (ours, kept) = by_us(method.clone(), answer.clone(), step).await;
            (ours, kept, by_hyper(method, answer.clone(), step).await)
        }));
        let text = String::from_utf8_lossy(&answer).into_owned();
        match (ours, hypers) {
            (Some(ours), Some(hypers)) => {
                prop_assert_eq!((&ours.status, &ours.fields), (&hypers.status, &hypers.fields), "{:?}", text);
                let whole = ours.body.is_ok();
                prop_assert!(ours.body == hypers.body || ours.body.is_err(), "{:?}: {:?} {:?}", text, ours, hypers);
                prop_assert!(whole || hypers.body.is_err() || text.contains("5\nhello"), "{:?}", text);
                prop_assert!(!kept || whole);
            }
            (Some(ours), None) => prop_assert!(false, "only ours took {:?} as {:?}", text, ours),
            (None, Some(hypers)) => prop_assert!(is_strict_about(&text), "only hyper took {:?} as {:?}", text, hypers),
            (None, None) => {}
        }
    }
}
