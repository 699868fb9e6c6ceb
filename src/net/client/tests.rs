//! Tests of the client against apps that behave in every way apps do.

use std::cell::Cell;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderMap, Method};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use super::*;
use crate::net::testing::{backend, data, local, read_head, read_rest, read_until, script, secs};
use crate::net::upstream::Origin;

const DEADLINES: Deadlines = Deadlines { connect: secs(3), first_byte: secs(300) };
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn upstream(name: &str) -> Upstream {
    Upstream::new(UpstreamIx(1), Origin::Memory(name.into()))
}

fn client() -> (Client, UnboundedReceiver<DuplexStream>) {
    let (dialer, app) = backend();
    (Client::new(dialer, ClientOptions::default()), app)
}

/// Sends in the background, so that the test can play the app.
fn send(client: &Client, method: Method, body: Body) -> JoinHandle<Result<Answer, SendError>> {
    send_with(client, method, body, HeaderMap::new())
}

fn send_with(
    client: &Client,
    method: Method,
    body: Body,
    mut headers: HeaderMap,
) -> JoinHandle<Result<Answer, SendError>> {
    let client = client.clone();
    spawn_local(async move {
        headers.insert("host", "app.example".parse().unwrap());
        let head = Head::with(method, "/a?b=c", &headers);
        client.send(&upstream("app"), &head, body, &DEADLINES).await
    })
}

async fn text(answer: Answer) -> String {
    String::from_utf8(answer.body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn answered(io: &mut DuplexStream, with: &str) -> String {
    let head = read_head(io).await;
    io.write_all(with.as_bytes()).await.unwrap();
    head
}

/// Has one exchange with a new connection, which is then idle.
async fn warm(client: &Client, app: &mut UnboundedReceiver<DuplexStream>) -> DuplexStream {
    let sent = send(client, Method::GET, Body::empty());
    let mut io = app.recv().await.unwrap();
    answered(&mut io, OK).await;
    assert_eq!(text(sent.await.unwrap().unwrap()).await, "ok");
    assert_eq!(client.idle(UpstreamIx(1)), 1);
    io
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_after_a_whole_answer() {
    local(async {
        let (client, mut app) = client();
        let mut io = warm(&client, &mut app).await;
        let sent = send(&client, Method::GET, Body::empty());
        let head = answered(&mut io, OK).await;
        assert_eq!(head, "GET /a?b=c HTTP/1.1\r\nhost: app.example\r\n\r\n");
        assert_eq!(text(sent.await.unwrap().unwrap()).await, "ok");
        assert!(app.try_recv().is_err(), "no second connection");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_keep_their_headers_and_the_connection() {
    local(async {
        let (client, mut app) = client();
        let mut io = warm(&client, &mut app).await;
        for (method, head) in [
            (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n"),
            (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\n\r\n"),
            (Method::GET, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
        ] {
            let sent = send(&client, method, Body::empty());
            answered(&mut io, head).await;
            let answer = sent.await.unwrap().unwrap();
            let length = answer.parts.headers.get("content-length").map(|v| v.to_str().unwrap().to_owned());
            assert_eq!(length.is_some(), head.contains("42"));
            assert_eq!(text(answer).await, "");
        }
        assert!(app.try_recv().is_err(), "no second connection");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn bodies_are_framed_by_what_is_known_of_them() {
    local(async {
        let (client, mut app) = client();
        let mut io = warm(&client, &mut app).await;
        let sent = send(&client, Method::POST, Body::full("hello"));
        let head = read_head(&mut io).await;
        assert!(head.contains("content-length: 5\r\n"), "{head}");
        assert_eq!(answered_body(&mut io, "hello").await, "hello");
        text(sent.await.unwrap().unwrap()).await;

        let sent = send(&client, Method::POST, Body::empty());
        let head = answered(&mut io, OK).await;
        assert!(head.contains("content-length: 0\r\n"), "{head}");
        text(sent.await.unwrap().unwrap()).await;

        // A GET with a body is rare, but its body must not get lost.
        let (say, body) = script();
        say.send(data("abc")).unwrap();
        drop(say);
        let sent = send(&client, Method::GET, body);
        let head = read_head(&mut io).await;
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        assert_eq!(answered_body(&mut io, "0\r\n\r\n").await, "3\r\nabc\r\n0\r\n\r\n");
        text(sent.await.unwrap().unwrap()).await;
        assert!(app.try_recv().is_err(), "no second connection");
    })
    .await;
}

async fn answered_body(io: &mut DuplexStream, end: &str) -> String {
    let body = read_until(io, end).await;
    io.write_all(OK.as_bytes()).await.unwrap();
    body
}

#[tokio::test(start_paused = true)]
async fn framing_headers_of_the_caller_are_replaced() {
    local(async {
        let (client, mut app) = client();
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "99".parse().unwrap());
        headers.insert("transfer-encoding", "chunked".parse().unwrap());
        let sent = send_with(&client, Method::POST, Body::full("abc"), headers);
        let mut io = app.recv().await.unwrap();
        let head = read_head(&mut io).await;
        assert!(
            head.contains("content-length: 3\r\n") && !head.contains("99") && !head.contains("chunked"),
            "{head}"
        );
        io.write_all(OK.as_bytes()).await.unwrap();
        sent.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trailers_of_an_answer_pass_and_those_of_a_request_do_not() {
    local(async {
        let (client, mut app) = client();
        let (say, body) = script();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-up", "1".parse().unwrap());
        say.send(data("abc")).unwrap();
        say.send(Ok(Frame::trailers(trailers))).unwrap();
        let task = client.clone();
        let sent = spawn_local(async move {
            let mut headers = HeaderMap::new();
            headers.insert("te", "trailers".parse().unwrap());
            headers.insert("trailer", "x-up".parse().unwrap());
            let head = Head::with(Method::POST, "/", &headers);
            task.send(&upstream("app"), &head, body, &DEADLINES).await
        });
        let mut io = app.recv().await.unwrap();
        read_head(&mut io).await;
        assert_eq!(read_until(&mut io, "\r\n\r\n").await, "3\r\nabc\r\n0\r\n\r\n");
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Down: 2\r\n\r\n";
        io.write_all(answer.as_bytes()).await.unwrap();
        let all = sent.await.unwrap().unwrap().body.collect().await.unwrap();
        assert_eq!(all.trailers().unwrap()["x-down"], "2");
        assert_eq!(client.idle(UpstreamIx(1)), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_connection_costs_nobody_a_request() {
    local(async {
        for method in [Method::GET, Method::POST] {
            let (client, mut app) = client();
            drop(warm(&client, &mut app).await);
            let sent = send(&client, method, Body::full("once"));
            let mut io = app.recv().await.unwrap();
            answered(&mut io, OK).await;
            assert_eq!(text(sent.await.unwrap().unwrap()).await, "ok");
            assert!(app.try_recv().is_err());
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_not_written_again() {
    local(async {
        let (client, mut app) = client();
        let mut io = warm(&client, &mut app).await;
        let sent = send(&client, Method::POST, Body::full("once"));
        read_until(&mut io, "once").await;
        drop(io);
        let error = sent.await.unwrap().unwrap_err();
        assert!(matches!(error, SendError::Reset { reused: true, .. }), "{error:?}");
        assert!(app.try_recv().is_err(), "no second connection");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_refuses_or_never_answers_is_told_apart() {
    local(async {
        let (client, app) = client();
        drop(app);
        let error = send(&client, Method::GET, Body::empty()).await.unwrap().unwrap_err();
        assert!(matches!(error, SendError::Connect(_)), "{error:?}");
    })
    .await;
    local(async {
        let (client, mut app) = client();
        let start = Instant::now();
        let sent = send(&client, Method::GET, Body::empty());
        let mut io = app.recv().await.unwrap();
        read_head(&mut io).await;
        let error = sent.await.unwrap().unwrap_err();
        assert!(matches!(error, SendError::FirstByteTimeout), "{error:?}");
        assert_eq!(start.elapsed(), secs(300));
        assert_eq!(read_rest(&mut io).await, "", "the connection is closed");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_long_upload_does_not_run_into_the_first_byte_deadline() {
    local(async {
        let (client, mut app) = client();
        let start = Instant::now();
        let (say, body) = script();
        let sent = send(&client, Method::POST, body);
        let mut io = app.recv().await.unwrap();
        for _ in 0..10 {
            say.send(data("x")).unwrap();
            sleep(secs(100)).await;
        }
        drop(say);
        read_until(&mut io, "0\r\n\r\n").await;
        let error = sent.await.unwrap().unwrap_err();
        assert!(matches!(error, SendError::FirstByteTimeout), "{error:?}");
        assert_eq!(start.elapsed(), secs(1000 + 300), "it counts from the end of the upload");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_its_upload_does_not_make_the_app_late() {
    local(async {
        let (client, mut app) = client();
        let (say, body) = script();
        say.send(data("abc")).unwrap();
        let sent = send(&client, Method::POST, body);
        let mut io = app.recv().await.unwrap();
        sleep(secs(1000)).await;
        drop(say);
        read_until(&mut io, "0\r\n\r\n").await;
        io.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(text(sent.await.unwrap().unwrap()).await, "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_stops_reading_is_given_up_after_the_stall_time() {
    local(async {
        let (client, mut app) = client();
        let start = Instant::now();
        let sent = send(&client, Method::POST, Body::full(vec![0; 1 << 20]));
        let _io = app.recv().await.unwrap();
        let error = sent.await.unwrap().unwrap_err();
        assert!(matches!(error, SendError::FirstByteTimeout), "{error:?}");
        assert_eq!(start.elapsed(), secs(30));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_dies_in_its_head_is_no_answer() {
    local(async {
        for head in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
            let (client, mut app) = client();
            let sent = send(&client, Method::GET, Body::empty());
            let mut io = app.recv().await.unwrap();
            answered(&mut io, head).await;
            drop(io);
            let error = sent.await.unwrap().unwrap_err();
            assert!(matches!(error, SendError::Reset { reused: false, .. }), "{error:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_an_error_and_never_an_end() {
    local(async {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhelXX",
        ] {
            let (client, mut app) = client();
            let sent = send(&client, Method::GET, Body::empty());
            let mut io = app.recv().await.unwrap();
            answered(&mut io, answer).await;
            drop(io);
            let answer = sent.await.unwrap().unwrap();
            let error = answer.body.collect().await.unwrap_err();
            assert!(matches!(error, BodyError::Broken(_)), "{error:?}");
            assert_eq!(client.idle(UpstreamIx(1)), 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn bytes_after_an_answer_never_reach_the_next_request() {
    local(async {
        let (client, mut app) = client();
        let sent = send(&client, Method::GET, Body::empty());
        let mut first = app.recv().await.unwrap();
        answered(&mut first, &format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")).await;
        assert_eq!(text(sent.await.unwrap().unwrap()).await, "ok");
        let sent = send(&client, Method::GET, Body::empty());
        let mut second = app.recv().await.unwrap();
        answered(&mut second, OK).await;
        assert_eq!(text(sent.await.unwrap().unwrap()).await, "ok");
        // The same, come while the connection lies idle.
        second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await.unwrap();
        let sent = send(&client, Method::GET, Body::empty());
        let mut third = app.recv().await.unwrap();
        answered(&mut third, OK).await;
        assert_eq!(text(sent.await.unwrap().unwrap()).await, "ok");
        assert_eq!(read_rest(&mut first).await, "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_the_request_is_relayed_and_ends_the_connection() {
    local(async {
        let (client, mut app) = client();
        let (say, body) = script();
        say.send(data("abc")).unwrap();
        let sent = send(&client, Method::POST, body);
        let mut io = app.recv().await.unwrap();
        answered(&mut io, OK).await;
        assert_eq!(text(sent.await.unwrap().unwrap()).await, "ok");
        assert_eq!(client.idle(UpstreamIx(1)), 0);
        drop(say);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_fails_is_the_clients_fault() {
    local(async {
        let (client, mut app) = client();
        let (say, body) = script();
        say.send(data("abc")).unwrap();
        let sent = send(&client, Method::POST, body.limited(2));
        let mut io = app.recv().await.unwrap();
        let error = sent.await.unwrap().unwrap_err();
        assert!(matches!(error, SendError::RequestBody(BodyError::TooLarge { limit: 2 })), "{error:?}");
        assert!(!read_rest(&mut io).await.ends_with("0\r\n\r\n"), "a broken request must not look whole");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nonsense_and_ambiguity_are_refused() {
    local(async {
        let big = format!("HTTP/1.1 200 OK\r\nX-Big: {}\r\n\r\n", "x".repeat(64 * 1024));
        for answer in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            &big,
        ] {
            let (error, idle) = refused(answer).await;
            assert!(matches!(error, SendError::BadResponse(_)), "{error:?}");
            assert_eq!(idle, 0);
        }
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
        ] {
            let (error, idle) = refused(answer).await;
            assert!(matches!(error, SendError::AmbiguousLength), "{answer}: {error:?}");
            assert_eq!(idle, 0);
        }
    })
    .await;
}

async fn refused(answer: &str) -> (SendError, usize) {
    let (client, mut app) = client();
    let sent = send(&client, Method::GET, Body::empty());
    let mut io = app.recv().await.unwrap();
    let play = async {
        read_head(&mut io).await;
        // A head that is too large is not read to its end.
        let _ = io.write_all(answer.as_bytes()).await;
    };
    let (sent, ()) = tokio::join!(sent, play);
    (sent.unwrap().unwrap_err(), client.idle(UpstreamIx(1)))
}

#[tokio::test(start_paused = true)]
async fn a_101_hands_the_connection_over() {
    local(async {
        let (client, mut app) = client();
        let unasked = send(&client, Method::GET, Body::empty());
        let mut io = app.recv().await.unwrap();
        answered(&mut io, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
            .await;
        assert!(matches!(unasked.await.unwrap(), Err(SendError::Unasked)));
        let asked = HeaderMap::from_iter([(UPGRADE, "x".parse().unwrap())]);
        let sent = send_with(&client, Method::GET, Body::empty(), asked);
        let mut io = app.recv().await.unwrap();
        answered(&mut io, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhi")
            .await;
        let answer = sent.await.unwrap().unwrap();
        drop(answer.body);
        let mut upgraded = answer.upgraded.unwrap();
        upgraded.write_all(b"yo").await.unwrap();
        assert_eq!(read_until(&mut io, "yo").await, "yo");
        let mut hi = [0; 2];
        upgraded.read_exact(&mut hi).await.unwrap();
        assert_eq!(&hi, b"hi");
        assert_eq!(client.idle(UpstreamIx(1)), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_in_time_and_capped_in_number() {
    local(async {
        let (dialer, mut app) = backend();
        let client = Client::new(dialer, ClientOptions { max_idle: 1, ..ClientOptions::default() });
        let one = send(&client, Method::GET, Body::empty());
        let two = send(&client, Method::GET, Body::empty());
        let (mut a, mut b) = (app.recv().await.unwrap(), app.recv().await.unwrap());
        answered(&mut a, OK).await;
        answered(&mut b, OK).await;
        text(one.await.unwrap().unwrap()).await;
        text(two.await.unwrap().unwrap()).await;
        assert_eq!(client.idle(UpstreamIx(1)), 1);
        let start = Instant::now();
        assert_eq!(read_rest(&mut a).await, "");
        assert_eq!(read_rest(&mut b).await, "");
        assert!(start.elapsed() < secs(25), "{:?}", start.elapsed());
        assert_eq!(client.idle(UpstreamIx(1)), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_number_that_means_another_place_does_not_get_the_old_connection() {
    local(async {
        let (client, mut app) = client();
        let _old = warm(&client, &mut app).await;
        let moved = upstream("elsewhere");
        assert!(client.pool.take(&moved).is_none());
        assert_eq!(client.idle(UpstreamIx(1)), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_ends_its_connection() {
    local(async {
        let (client, mut app) = client();
        let dropped = Rc::new(Cell::new(false));
        let (say, body) = script();
        let flag = Rc::clone(&dropped);
        let sent = send(&client, Method::POST, body.on_end(move |_| flag.set(true)));
        let mut io = app.recv().await.unwrap();
        say.send(Ok(Frame::data(Bytes::from_static(b"abc")))).unwrap();
        read_until(&mut io, "abc\r\n").await;
        sent.abort();
        assert_eq!(read_rest(&mut io).await, "");
        assert!(dropped.get());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_has_begun_to_answer_has_had_the_request() {
    local(async {
        for begun in ["HTTP/1.1 20", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
            let (client, mut app) = client();
            let mut io = warm(&client, &mut app).await;
            let sent = send(&client, Method::GET, Body::empty());
            answered(&mut io, begun).await;
            drop(io);
            let error = sent.await.unwrap().unwrap_err();
            assert!(matches!(error, SendError::Reset { reused: false, .. }), "{begun:?}: {error:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn interim_answers_have_an_end_however_they_come() {
    local(async {
        let (client, mut app) = client();
        let sent = send(&client, Method::GET, Body::empty());
        let mut io = app.recv().await.unwrap();
        read_head(&mut io).await;
        for _ in 0..40 {
            // Whoever gives up closes, and the rest cannot be written.
            let _ = io.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await;
            sleep(secs(1)).await;
        }
        let error = sent.await.unwrap().unwrap_err();
        assert!(matches!(error, SendError::BadResponse(HeadError::Interim)), "{error:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_before_its_request_had_gone_out_leaves_no_connection_to_reuse() {
    local(async {
        let (client, mut app) = client();
        let (say, body) = script();
        say.send(data("abc")).unwrap();
        let sent = send(&client, Method::POST, body);
        let mut io = app.recv().await.unwrap();
        read_until(&mut io, "abc\r\n").await;
        io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok").await.unwrap();
        let answer = sent.await.unwrap().unwrap();
        // The rest of the request goes out, then the rest of the answer comes: all is well, and all is doubt.
        say.send(data("GET /x HTTP/1.1\r\nX: ")).unwrap();
        drop(say);
        read_until(&mut io, "0\r\n\r\n").await;
        io.write_all(b"ok").await.unwrap();
        assert_eq!(text(answer).await, "okok");
        assert_eq!(client.idle(UpstreamIx(1)), 0);
    })
    .await;
}
