//! Tests of serving: in memory under paused time where time matters, over a real socket once.

use std::cell::RefCell;
use std::future::pending;

use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::{JoinHandle, spawn_local};

use std::time::Duration;

use super::*;
use crate::net::connections::Connections;
use crate::net::drain::Drainer;
use crate::net::listener::{Bound, ListenAddr, MemoryDialer, memory};
use crate::net::protocol::LocalExec;
use crate::net::refuse::LastWord;
use crate::net::terms::ServeOptions;
use crate::net::testing::{
    Ends, certificate, connector, data, greet, local, read_head, read_rest, read_until, script, secs,
};

fn options() -> ServeOptions {
    ServeOptions {
        connections: Connections::new(100),
        max_header_bytes: 32 * 1024,
        header: secs(10),
        idle: secs(75),
        body_stall: secs(30),
        drain_timeout: secs(30),
        last_word: LastWord::new(|status| {
            format!(
                "HTTP/1.1 {} Why\r\nX-Said: by us\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
                status.as_u16()
            )
            .into()
        }),
    }
}

struct Running {
    dialer: MemoryDialer,
    drainer: Drainer,
    connections: Connections,
    task: JoinHandle<()>,
}

fn start<S, F>(options: ServeOptions, service: S) -> Running
where
    S: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let (listener, dialer) = memory();
    start_at((listener, dialer), options, service)
}

fn start_at<S, F>((listener, dialer): (Listener, MemoryDialer), options: ServeOptions, service: S) -> Running
where
    S: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let (drainer, drain) = Drainer::new();
    let connections = options.connections.clone();
    let task = spawn_local(async move { serve(listener, service, &Terms::new(options), drain).await });
    Running { dialer, drainer, connections, task }
}

/// Answers with the path.
async fn path(request: Request<Incoming>, _: Peer) -> Response<Body> {
    Response::new(Body::full(request.uri().path().to_owned()))
}

async fn echo(request: Request<Incoming>, _: Peer) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    if let Some(trailer) = request.headers().get("trailer") {
        answer.headers_mut().insert("trailer", trailer.clone());
    }
    *answer.body_mut() = Body::incoming(request.into_body()).stalling_after(secs(30));
    answer
}

async fn say(io: &mut (impl AsyncWrite + Unpin), text: &str) {
    io.write_all(text.as_bytes()).await.unwrap();
}

async fn get(io: &mut (impl AsyncRead + AsyncWrite + Unpin), target: &str) -> String {
    say(io, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let head = read_head(io).await;
    read_until(io, target).await;
    head
}

#[tokio::test(start_paused = true)]
async fn a_connection_serves_many_requests_also_pipelined() {
    local(async {
        let running = start(options(), path);
        let mut io = running.dialer.connect().unwrap();
        assert!(get(&mut io, "/a").await.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"));
        get(&mut io, "/b").await;
        say(&mut io, "GET /c HTTP/1.1\r\nHost: x\r\n\r\nGET /d HTTP/1.1\r\nHost: x\r\n\r\n").await;
        read_until(&mut io, "\r\n\r\n/c").await;
        read_until(&mut io, "\r\n\r\n/d").await;
        say(&mut io, "GET /e HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(read_rest(&mut io).await.ends_with("\r\n\r\n/e"));
        assert_eq!(running.connections.open(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_keep_the_length_they_name() {
    local(async {
        let running = start(options(), |request, _| async move {
            let request: Request<Incoming> = request;
            let status = if request.uri().path() == "/" { 200 } else { 304 };
            let answer = Response::builder().status(status).header("content-length", "42");
            answer.body(Body::empty()).unwrap()
        });
        let mut io = running.dialer.connect().unwrap();
        for request in ["HEAD /", "GET /304", "HEAD /304", "GET /304"] {
            say(&mut io, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            let head = read_head(&mut io).await;
            assert!(head.contains("content-length: 42\r\n"), "{head}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_expects_100_gets_it_when_the_body_is_wanted() {
    local(async {
        let running = start(options(), |request, _| async {
            let request: Request<Incoming> = request;
            let body = request.into_body().collect().await.unwrap();
            Response::new(Body::full(body.to_bytes()))
        });
        let mut io = running.dialer.connect().unwrap();
        say(&mut io, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").await;
        assert_eq!(read_head(&mut io).await, "HTTP/1.1 100 Continue\r\n\r\n");
        say(&mut io, "hi").await;
        assert!(read_until(&mut io, "\r\n\r\nhi").await.starts_with("HTTP/1.1 200 OK\r\n"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_both_ways() {
    local(async {
        let running = start(options(), echo);
        let mut io = running.dialer.connect().unwrap();
        say(&mut io, "POST / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTrailer: x-sum\r\n").await;
        say(&mut io, "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n").await;
        assert!(read_head(&mut io).await.contains("transfer-encoding: chunked\r\n"));
        assert_eq!(read_until(&mut io, "\r\n\r\n").await, "2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_head_is_cut_at_the_header_time() {
    local(async {
        let running = start(options(), path);
        for first in ["", "P", "GET / HT"] {
            let begun = Instant::now();
            let mut io = running.dialer.connect().unwrap();
            say(&mut io, first).await;
            let drip = async {
                loop {
                    sleep(secs(4)).await;
                    if !first.is_empty() && io.write_all(b"X").await.is_err() {
                        break;
                    }
                    if first.is_empty() {
                        assert_eq!(read_rest(&mut io).await, "");
                        break;
                    }
                }
            };
            drip.await;
            let took = begun.elapsed();
            assert!(took >= secs(10) && took <= secs(12), "{first:?}: {took:?}");
            assert_eq!(running.connections.open(), 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn between_requests_silence_and_a_started_head_have_their_own_times() {
    local(async {
        let running = start(options(), path);
        let mut io = running.dialer.connect().unwrap();
        get(&mut io, "/a").await;
        sleep(secs(74)).await;
        get(&mut io, "/b").await;
        let begun = Instant::now();
        assert_eq!(read_rest(&mut io).await, "");
        assert_eq!(begun.elapsed(), secs(75), "idle");

        let mut io = running.dialer.connect().unwrap();
        get(&mut io, "/a").await;
        sleep(secs(40)).await;
        say(&mut io, "GET / HTTP/1.1\r\n").await;
        let begun = Instant::now();
        assert_eq!(read_rest(&mut io).await, "");
        assert_eq!(begun.elapsed(), secs(10), "a head was begun");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_not_idleness() {
    local(async {
        let running = start(options(), |_, _| async {
            sleep(secs(290)).await;
            Response::new(Body::full("/late"))
        });
        let mut io = running.dialer.connect().unwrap();
        get(&mut io, "/late").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_upload_fails_and_its_answer_is_broken_off() {
    local(async {
        let running = start(options(), echo);
        let mut io = running.dialer.connect().unwrap();
        say(&mut io, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").await;
        let begun = Instant::now();
        let seen = read_rest(&mut io).await;
        assert_eq!(begun.elapsed(), secs(30));
        assert!(seen.ends_with("2\r\nhi\r\n"), "no end of a body that has not ended: {seen}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_after_the_stall_time() {
    local(async {
        let ends = Ends::default();
        let told = ends.clone();
        let running = start(options(), move |_, _| {
            let (say, body) = script();
            for _ in 0..64 {
                say.send(Ok(http_body::Frame::data(Bytes::from(vec![0; 16 * 1024])))).unwrap();
            }
            std::mem::forget(say);
            let body = body.on_end(told.hook());
            async { Response::new(body) }
        });
        let mut io = running.dialer.connect().unwrap();
        say(&mut io, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        sleep(secs(29)).await;
        assert_eq!(running.connections.open(), 1);
        sleep(secs(2)).await;
        assert_eq!(running.connections.open(), 0);
        assert!(ends.seen()[0].starts_with("Aborted"), "{:?}", ends.seen());
    })
    .await;
}

/// Never answers; what becomes of each request whose body it has read is told to `ends`.
fn silent(
    ends: &Ends,
) -> impl Fn(Request<Incoming>, Peer) -> Pin<Box<dyn Future<Output = Response<Body>>>> + use<> {
    let told = ends.clone();
    move |request, _| {
        let held = Body::scripted(script_rx()).on_end(told.hook());
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            let _held = held;
            pending().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_drops_the_request() {
    for asks in
        ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"]
    {
        local(async {
            let ends = Ends::default();
            let running = start(options(), silent(&ends));
            let mut io = running.dialer.connect().unwrap();
            say(&mut io, asks).await;
            sleep(secs(1)).await;
            assert!(ends.seen().is_empty());
            drop(io);
            sleep(secs(1)).await;
            assert_eq!(ends.seen(), ["Aborted 0"]);
            assert_eq!(running.connections.open(), 0);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_under_tls_drops_the_request() {
    local(async {
        let (ends, (at, roots)) = (Ends::default(), secure());
        let running = start_at(at, options(), silent(&ends));
        let mut io = greet(&connector(&roots, &[]), "a.example", running.dialer.connect().unwrap()).await;
        say(&mut io, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        sleep(secs(1)).await;
        assert!(ends.seen().is_empty());
        // Its word of farewell, and nothing more: the connection below stays open.
        io.shutdown().await.unwrap();
        sleep(secs(1)).await;
        assert_eq!(ends.seen(), ["Aborted 0"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_while_it_is_answered_is_heard_in_full() {
    local(async {
        let running = start(options(), |request: Request<Incoming>, _| async move {
            let target = request.uri().path().to_owned();
            sleep(secs(5)).await;
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Body::full(format!("{target} {}", String::from_utf8_lossy(&body))))
        });
        let mut io = running.dialer.connect().unwrap();
        // The body of the first comes in pieces, and the second one behind it, all before the first answer.
        let pieces = [
            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\na",
            "bc",
            "def",
            "G",
            "ET /b HTTP/1.1\r\nHo",
            "st: x\r\n\r\n",
        ];
        for piece in pieces {
            say(&mut io, piece).await;
            sleep(Duration::from_millis(100)).await;
        }
        read_until(&mut io, "\r\n\r\n/a abcdef").await;
        read_until(&mut io, "\r\n\r\n/b ").await;
        get(&mut io, "/c").await;
    })
    .await;
}

fn script_rx() -> crate::net::testing::Script {
    tokio::sync::mpsc::unbounded_channel().1
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_never_looks_whole() {
    local(async {
        let running = start(options(), |request, _| async move {
            let request: Request<Incoming> = request;
            let (say, body) = script();
            say.send(data("abc")).unwrap();
            spawn_local(async move {
                sleep(secs(1)).await;
                say.send(Err(crate::net::BodyError::Filter)).unwrap();
            });
            let mut answer = Response::new(body);
            if request.uri().path() == "/sized" {
                answer.headers_mut().insert("content-length", "9".parse().unwrap());
            }
            answer
        });
        for target in ["/chunked", "/sized"] {
            let mut io = running.dialer.connect().unwrap();
            say(&mut io, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            let seen = read_rest(&mut io).await;
            let expected = if target == "/sized" { "content-length: 9\r\n" } else { ": chunked\r\n" };
            assert!(seen.contains(expected) && seen.contains("abc"), "{seen}");
            assert!(!seen.ends_with("0\r\n\r\n"), "{seen}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn bad_heads_get_the_status_that_fits() {
    local(async {
        let running = start(options(), path);
        let long = "x".repeat(33 * 1024);
        let many = "A: b\r\n".repeat(101);
        for (request, status) in [
            ("GET  / HTTP/1.1\r\n\r\n".to_owned(), "400"),
            ("\0\0\0\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nA b: c\r\n\r\n".to_owned(), "400"),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), "400"),
            (format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n"), "431"),
            (format!("GET / HTTP/1.1\r\n{many}\r\n"), "431"),
            (format!("GET /{long} HTTP/1.1\r\n\r\n"), "431"),
        ] {
            let mut io = running.dialer.connect().unwrap();
            // hyper stops reading at its limit, so the rest may find nobody.
            let _ = io.write_all(request.as_bytes()).await;
            let seen = read_rest(&mut io).await;
            let ours = format!("HTTP/1.1 {status} Why\r\nX-Said: by us\r\n");
            assert!(seen.starts_with(&ours) && seen.ends_with("\r\n\r\nno"), "{seen}");
        }
        let large = start(ServeOptions { max_header_bytes: 100_000, ..options() }, path);
        let mut io = large.dialer.connect().unwrap();
        let target = "x".repeat(66_000);
        let both = async {
            let (mut read, mut write) = tokio::io::split(&mut io);
            let request = format!("GET /{target} HTTP/1.1\r\n\r\n");
            let (_, seen) = tokio::join!(write.write_all(request.as_bytes()), read_rest(&mut read));
            seen
        };
        assert!(both.await.starts_with("HTTP/1.1 414 "));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn over_the_cap_the_answer_is_503_at_once() {
    local(async {
        let running = start(ServeOptions { connections: Connections::new(1), ..options() }, path);
        let mut first = running.dialer.connect().unwrap();
        get(&mut first, "/a").await;
        let mut second = running.dialer.connect().unwrap();
        say(&mut second, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let begun = Instant::now();
        let seen = read_rest(&mut second).await;
        assert_eq!(begun.elapsed(), secs(0));
        assert!(seen.starts_with("HTTP/1.1 503 Why\r\nX-Said: by us\r\n"), "{seen}");
        drop(first);
        sleep(secs(1)).await;
        let mut third = running.dialer.connect().unwrap();
        get(&mut third, "/b").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_in_flight_and_begins_nothing() {
    local(async {
        let running = start(options(), |_, _| async {
            sleep(secs(20)).await;
            Response::new(Body::full("done"))
        });
        let mut busy = running.dialer.connect().unwrap();
        let mut silent = running.dialer.connect().unwrap();
        say(&mut busy, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        sleep(secs(1)).await;
        let mut queued = running.dialer.connect().unwrap();
        say(&mut queued, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        running.drainer.drain();
        let begun = Instant::now();
        assert_eq!(read_rest(&mut silent).await, "");
        assert_eq!(begun.elapsed(), secs(0));
        let seen = read_rest(&mut busy).await;
        assert!(seen.ends_with("\r\n\r\ndone") && seen.contains("connection: close"), "{seen}");
        assert!(read_rest(&mut queued).await.ends_with("\r\n\r\ndone"));
        running.task.await.unwrap();
        assert_eq!(begun.elapsed(), secs(20));
        assert!(running.dialer.connect().is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_by_a_drain() {
    local(async {
        let running = start(options(), path);
        let mut io = running.dialer.connect().unwrap();
        get(&mut io, "/a").await;
        let begun = Instant::now();
        drop(running.drainer);
        assert_eq!(read_rest(&mut io).await, "");
        running.task.await.unwrap();
        assert_eq!(begun.elapsed(), secs(0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_has_just_come_is_heard_for_a_moment_also_in_a_drain() {
    local(async {
        let running = start(options(), path);
        let mut asks = running.dialer.connect().unwrap();
        let mut silent = running.dialer.connect().unwrap();
        tokio::task::yield_now().await;
        running.drainer.drain();
        let begun = Instant::now();
        sleep(Duration::from_millis(400)).await;
        say(&mut asks, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(read_rest(&mut asks).await.ends_with("\r\n\r\n/a"));
        assert_eq!(read_rest(&mut silent).await, "");
        running.task.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_millis(500));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_what_is_in_flight_accepts_nothing_and_can_be_taken_back() {
    local(async {
        let running = start(options(), |request, peer| async move {
            if request.uri().path() == "/slow" {
                sleep(secs(20)).await;
            }
            path(request, peer).await
        });
        let (mut idle, mut busy) = (running.dialer.connect().unwrap(), running.dialer.connect().unwrap());
        get(&mut idle, "/a").await;
        say(&mut busy, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        sleep(secs(1)).await;
        let begun = Instant::now();
        running.drainer.hold();
        running.drainer.closed().await;
        assert_eq!(begun.elapsed(), secs(0));
        assert_eq!(read_rest(&mut idle).await, "");
        let mut queued = running.dialer.connect().unwrap();
        say(&mut queued, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(timeout(secs(5), queued.read_u8()).await.is_err(), "nobody answers now");
        let seen = read_rest(&mut busy).await;
        assert!(seen.ends_with("\r\n\r\n/slow") && seen.contains("connection: close"), "{seen}");
        running.drainer.quiet().await;
        assert_eq!(begun.elapsed(), secs(19));
        running.drainer.resume();
        assert!(read_head(&mut queued).await.starts_with("HTTP/1.1 200 "));
        get(&mut running.dialer.connect().unwrap(), "/c").await;
        running.drainer.drain();
        running.task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_waits_at_a_socket_that_was_passed_on_is_left_to_its_next_owner() {
    local(async {
        let mut bound = Bound::bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let at = bound.local_addr().clone();
        let ListenAddr::Tcp(addr) = at else { panic!("tcp") };
        let sockets = bound.take_sockets().into_iter().map(Into::into).collect();
        let serve_on = |bound: Bound, drain| async {
            serve(bound.into_listeners().remove(0), path, &Terms::new(options()), drain).await;
        };
        let (drainer, drain) = Drainer::new();
        let first = spawn_local(serve_on(bound, drain));
        let mut io = tokio::net::TcpStream::connect(addr).await.unwrap();
        get(&mut io, "/a").await;
        drainer.hold();
        drainer.quiet().await;
        let mut queued = tokio::net::TcpStream::connect(addr).await.unwrap();
        say(&mut queued, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n").await;
        drainer.pass_on();
        first.await.unwrap();
        let bound = Bound::inherit(at, sockets, 1).unwrap();
        let (drainer, drain) = Drainer::new();
        let second = spawn_local(serve_on(bound, drain));
        assert!(read_head(&mut queued).await.starts_with("HTTP/1.1 200 "));
        drop((drainer, queued));
        second.await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_by_its_time_or_by_a_second_signal() {
    local(async {
        for (abort, took) in [(false, secs(30)), (true, secs(5))] {
            let running = start(options(), |_, _| pending());
            let mut io = running.dialer.connect().unwrap();
            say(&mut io, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            sleep(secs(1)).await;
            running.drainer.drain();
            let begun = Instant::now();
            if abort {
                sleep(secs(5)).await;
                running.drainer.abort();
            }
            running.task.await.unwrap();
            assert_eq!(begun.elapsed(), took);
            assert_eq!(read_rest(&mut io).await, "");
            assert_eq!(running.connections.open(), 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_hands_the_connection_over_and_keeps_its_place_under_the_cap() {
    local(async {
        let running = start(options(), |mut request, _| async move {
            let upgrade = hyper::upgrade::on(&mut request);
            spawn_local(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut two = [0; 2];
                io.read_exact(&mut two).await.unwrap();
                io.write_all(&two).await.unwrap();
                pending::<()>().await;
            });
            sleep(secs(1)).await;
            let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            answer.header("connection", "upgrade").header("upgrade", "x").body(Body::empty()).unwrap()
        });
        // Nothing is lost of what comes before the answer, with the head or behind it.
        let mut all = Vec::new();
        for ahead in [&["hi"][..], &["", "h", "i"]] {
            let mut io = running.dialer.connect().unwrap();
            say(&mut io, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
            for piece in ahead {
                say(&mut io, piece).await;
                sleep(Duration::from_millis(100)).await;
            }
            assert!(read_head(&mut io).await.starts_with("HTTP/1.1 101 "));
            assert_eq!(read_until(&mut io, "hi").await, "hi");
            all.push(io);
        }
        sleep(secs(200)).await;
        assert_eq!(running.connections.open(), all.len());
    })
    .await;
}

type Http2Sender = hyper::client::conn::http2::SendRequest<Body>;

async fn http2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Http2Sender {
    let (sender, conn) = hyper::client::conn::http2::handshake(LocalExec, TokioIo::new(io)).await.unwrap();
    spawn_local(conn);
    sender
}

fn http2_request(target: &str, body: Body) -> Request<Body> {
    Request::builder().method("POST").uri(format!("http://x{target}")).body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn http2_by_prior_knowledge_carries_bodies_and_trailers() {
    local(async {
        let running = start(options(), echo);
        let mut sender = http2(running.dialer.connect().unwrap()).await;
        let (say, body) = script();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        say.send(data("hi")).unwrap();
        say.send(Ok(http_body::Frame::trailers(trailers.clone()))).unwrap();
        let answer = sender.send_request(http2_request("/", body)).await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        let all = answer.into_body().collect().await.unwrap();
        assert_eq!(all.trailers(), Some(&trailers));
        assert_eq!(all.to_bytes(), "hi");
        let answer = sender.send_request(http2_request("/", Body::full("more"))).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "more");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_is_drained_and_idles_out() {
    local(async {
        let running = start(options(), |_, _| async {
            sleep(secs(100)).await;
            Response::new(Body::full("late"))
        });
        let mut sender = http2(running.dialer.connect().unwrap()).await;
        let begun = Instant::now();
        let answer = sender.send_request(http2_request("/", Body::empty())).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "late");
        assert_eq!(running.connections.open(), 1, "a request in flight is no idleness");
        while running.connections.open() > 0 {
            sleep(secs(1)).await;
        }
        assert!(begun.elapsed() >= secs(175) && begun.elapsed() <= secs(178), "{:?}", begun.elapsed());

        let running = start(options(), |_, _| async {
            sleep(secs(20)).await;
            Response::new(Body::full("done"))
        });
        let mut sender = http2(running.dialer.connect().unwrap()).await;
        let answer = spawn_local(sender.send_request(http2_request("/", Body::empty())));
        sleep(secs(1)).await;
        running.drainer.drain();
        let body = answer.await.unwrap().unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "done");
        running.task.await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_leaves_a_stream_unread_is_cut() {
    local(async {
        let ends = Ends::default();
        let told = ends.clone();
        let running = start(options(), move |_, _| {
            let body = Body::prefixed((0..64).map(|_| Bytes::from(vec![0; 16 * 1024])), Body::empty());
            let body = body.on_end(told.hook());
            async { Response::new(body) }
        });
        let io = running.dialer.connect().unwrap();
        let (mut sender, conn) = hyper::client::conn::http2::Builder::new(LocalExec)
            .initial_stream_window_size(1024)
            .handshake(TokioIo::new(io))
            .await
            .unwrap();
        spawn_local(conn);
        let unread = sender.send_request(http2_request("/", Body::empty())).await.unwrap();
        sleep(secs(29)).await;
        assert_eq!(running.connections.open(), 1);
        sleep(secs(35)).await;
        assert_eq!(running.connections.open(), 0);
        sleep(secs(1)).await;
        assert!(ends.seen()[0].starts_with("Aborted"), "{:?}", ends.seen());
        drop(unread);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_head_that_is_too_large_gets_431() {
    local(async {
        let running = start(options(), path);
        let mut sender = http2(running.dialer.connect().unwrap()).await;
        let mut request = http2_request("/", Body::empty());
        for i in 0..40 {
            let name = http::HeaderName::from_bytes(format!("x-{i}").as_bytes()).unwrap();
            request.headers_mut().insert(name, "y".repeat(1000).parse().unwrap());
        }
        let status = sender.send_request(request).await.map(|answer| answer.status());
        assert_eq!(status.unwrap(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    })
    .await;
}

#[tokio::test]
async fn real_sockets_carry_a_request_through_server_and_client() {
    use crate::net::client::{Client, ClientOptions, Deadlines};
    use crate::net::upstream::{Dialer, Upstream, UpstreamIx};
    local(async {
        let peers = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&peers);
        let bound = Bound::bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let ListenAddr::Tcp(addr) = *bound.local_addr() else { panic!("tcp") };
        let listener = bound.into_listeners().remove(0);
        let (drainer, drain) = Drainer::new();
        let server = spawn_local(async move {
            let service = move |request, peer| {
                seen.borrow_mut().push(Peer::clone(&peer));
                echo(request, peer)
            };
            serve(listener, service, &Terms::new(options()), drain).await;
        });
        let client = Client::new(Dialer::Sockets, ClientOptions::default());
        let origin = format!("http://{addr}").parse().unwrap();
        let upstream = Upstream::new(UpstreamIx(0), origin);
        let deadlines = Deadlines { connect: secs(10), first_byte: secs(10) };
        let head = crate::wire::request::Head::new(Method::POST, "/", 0);
        for size in [1, 3_000_000] {
            let body = Body::full(vec![7; size]);
            let answer = client.send(&upstream, &head, body, &deadlines).await.unwrap();
            assert_eq!(answer.body.collect().await.unwrap().to_bytes().len(), size);
        }
        assert_eq!(client.idle(UpstreamIx(0)), 1);
        let peers = peers.borrow().clone();
        assert!(peers[0] == peers[1] && peers[0].ip() == Some(addr.ip()), "one connection: {peers:?}");
        drainer.drain();
        server.await.unwrap();
    })
    .await;
}

fn secure() -> ((Listener, MemoryDialer), Vec<rustls::pki_types::CertificateDer<'static>>) {
    let ((first, one), (second, two)) =
        (certificate(&["a.example"]), certificate(&["b.example", "*.c.example"]));
    let tls = Tls::new(vec![first, second], tls::LeastVersion::Tls12).unwrap();
    let (listener, dialer) = memory();
    ((listener.under(tls), dialer), vec![one, two])
}

/// Answers with what the handshake told.
async fn told(request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let host = request.uri().host().or_else(|| request.headers()["host"].to_str().ok()).unwrap();
    let fits = if peer.is_tls() && peer.may_ask_for(host) { "yes" } else { "no" };
    Response::new(Body::full(format!("{:?} {fits}", request.version())))
}

#[tokio::test(start_paused = true)]
async fn tls_carries_both_kinds_of_http_as_the_client_chooses() {
    local(async {
        let (at, roots) = secure();
        let running = start_at(at, options(), told);
        for alpn in [&["http/1.1"][..], &[]] {
            let mut io =
                greet(&connector(&roots, alpn), "a.example", running.dialer.connect().unwrap()).await;
            for (host, said) in [("a.example", "HTTP/1.1 yes"), ("b.example", "HTTP/1.1 no")] {
                say(&mut io, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
                read_until(&mut io, &format!("\r\n\r\n{said}")).await;
            }
        }
        let both = connector(&roots, &["h2", "http/1.1"]);
        let io = greet(&both, "x.c.example", running.dialer.connect().unwrap()).await;
        assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut sender = http2(io).await;
        for (host, said) in
            [("x.c.example", "HTTP/2.0 yes"), ("b.example", "HTTP/2.0 yes"), ("a.example", "HTTP/2.0 no")]
        {
            let request = Request::builder().uri(format!("https://{host}/")).body(Body::empty()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), said);
        }
        assert!(running.connections.open() > 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_resumes_its_session() {
    local(async {
        let (at, roots) = secure();
        let running = start_at(at, options(), path);
        let connector = connector(&roots, &["http/1.1"]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut io = greet(&connector, "a.example", running.dialer.connect().unwrap()).await;
            get(&mut io, "/a").await;
            kinds.push(io.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tls_connection_is_parked_served_again_and_closed_with_a_word() {
    local(async {
        let (at, roots) = secure();
        let running = start_at(at, options(), path);
        let connector = connector(&roots, &["http/1.1"]);
        let mut io = greet(&connector, "a.example", running.dialer.connect().unwrap()).await;
        sleep(secs(5)).await;
        for _ in 0..3 {
            get(&mut io, "/a").await;
            sleep(secs(5)).await;
        }
        let begun = Instant::now();
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.expect("closed with a close_notify");
        assert_eq!((rest.len(), begun.elapsed()), (0, secs(70)));
        let mut io = greet(&connector, "a.example", running.dialer.connect().unwrap()).await;
        get(&mut io, "/a").await;
        sleep(secs(5)).await;
        running.drainer.drain();
        io.read_to_end(&mut rest).await.expect("closed with a close_notify");
        running.task.await.unwrap();
        assert_eq!(running.connections.open(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_handshake_is_cut_and_holds_nobody_up() {
    local(async {
        let (at, roots) = secure();
        let running = start_at(at, options(), path);
        let begun = Instant::now();
        let mut silent = running.dialer.connect().unwrap();
        let mut slow = running.dialer.connect().unwrap();
        // A record's head, and nothing of its 64 bytes.
        slow.write_all(&[22, 3, 1, 0, 64]).await.unwrap();
        let mut io = greet(&connector(&roots, &[]), "a.example", running.dialer.connect().unwrap()).await;
        get(&mut io, "/a").await;
        assert_eq!((begun.elapsed(), running.connections.open()), (secs(0), 3));
        assert_eq!(read_rest(&mut slow).await, "");
        assert_eq!(read_rest(&mut silent).await, "");
        assert_eq!(begun.elapsed(), secs(10));
        let idle = greet(&connector(&roots, &[]), "a.example", running.dialer.connect().unwrap()).await;
        let begun = Instant::now();
        while running.connections.open() > 1 {
            sleep(secs(1)).await;
        }
        assert!(begun.elapsed() >= secs(10) && begun.elapsed() <= secs(11), "no head after a handshake");
        drop(idle);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_tls_is_told_so_or_closed() {
    local(async {
        let ((listener, dialer), _) = secure();
        let running = start_at((listener, dialer), options(), path);
        let mut io = running.dialer.connect().unwrap();
        say(&mut io, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        let seen = read_rest(&mut io).await;
        assert!(seen.starts_with("HTTP/1.1 400 Why\r\nX-Said: by us\r\n"), "{seen}");
        for junk in [&[22, 3, 1, 255, 255, 0, 0][..], &[22; 64], &[22, 3, 1, 0, 2, 1, 0]] {
            let mut io = running.dialer.connect().unwrap();
            io.write_all(junk).await.unwrap();
            io.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let _ = io.read_to_end(&mut rest).await;
            assert!(rest.is_empty() || rest[0] == 21, "an alert at most: {rest:?}");
        }
        sleep(secs(11)).await;
        assert_eq!(running.connections.open(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tls_client_that_does_not_read_is_cut_after_the_stall_time() {
    local(async {
        let (at, roots) = secure();
        let running = start_at(at, options(), |_, _| async { Response::new(Body::full(vec![0; 1 << 20])) });
        let mut io = greet(&connector(&roots, &[]), "a.example", running.dialer.connect().unwrap()).await;
        say(&mut io, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        sleep(secs(29)).await;
        assert_eq!(running.connections.open(), 1);
        let mut some = [0; 20_000];
        io.read_exact(&mut some).await.unwrap();
        sleep(secs(29)).await;
        assert_eq!(running.connections.open(), 1, "it takes its time, and some bytes");
        sleep(secs(3)).await;
        assert_eq!(running.connections.open(), 0);
    })
    .await;
}

/// A shop and one seat in it, to be attended to by hand.
fn seated<S, F>(service: S) -> (Rc<Shop<S>>, Seat, tokio::io::DuplexStream)
where
    S: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let shop = Rc::new(Shop::new(Rc::new(service), &Terms::new(options()), None));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let permit = shop.terms.now().options.connections.acquire().unwrap();
    let (stream, since) = (Stream::from(near), Instant::now());
    (shop, Seat { stream, peer: Peer::LOCAL, permit, since, stage: Stage::New }, far)
}

#[tokio::test(start_paused = true)]
async fn a_connection_at_rest_is_parked_and_comes_back_when_asked() {
    local(async {
        let (shop, mut seat, mut io) = seated(path);
        for target in ["/a", "/b", "/c"] {
            let begun = Instant::now();
            say(&mut io, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            seat = shop.attend_to(seat).await.expect("parked, not closed");
            read_until(&mut io, target).await;
            assert_eq!(begun.elapsed(), Duration::from_millis(50), "soon after one request");
            sleep(secs(5)).await;
            assert!(
                seat.deadline(&shop.terms.now().options) < Instant::now() + secs(75),
                "silence counts from its begin"
            );
        }
        say(&mut io, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let busy = async {
            for _ in 0..100 {
                get(&mut io, "/a").await;
                sleep(Duration::from_millis(40)).await;
            }
            Instant::now()
        };
        let (parked, ended) = tokio::join!(shop.attend_to(seat), busy);
        let waited = Instant::now() - ended + Duration::from_millis(40);
        assert!(parked.is_some() && waited == secs(1), "busy for long, later: {waited:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_stays_of_a_parked_connection_is_small() {
    let (shop, seat, _io) = seated(path);
    let size = size_of_val(&shop.host(seat));
    // With the 104 bytes that the runtime adds, the task takes three of its blocks of 128.
    assert!(size <= 280, "{size}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_at_rest_is_not_parked() {
    local(async {
        let held = Rc::new(RefCell::new(Vec::new()));
        let asked = Rc::clone(&held);
        // Answers without reading, and without letting the body go.
        let (shop, seat, mut io) = seated(move |request, _| {
            let request: Request<Incoming> = request;
            asked.borrow_mut().push(request);
            async { Response::new(Body::full("ok")) }
        });
        let attended = spawn_local(async move { shop.attend_to(seat).await.is_some() });
        say(&mut io, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\nhalf").await;
        read_until(&mut io, "\r\n\r\nok").await;
        sleep(secs(20)).await;
        assert!(!attended.is_finished(), "the rest of a body is no request");
        say(&mut io, "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").await;
        sleep(secs(20)).await;
        assert_eq!(held.borrow().len(), 1);
        assert!(!attended.await.unwrap(), "closed at its idle time");

        let (shop, seat, mut io) = seated(path);
        let attended = spawn_local(async move { shop.attend_to(seat).await.is_some() });
        say(&mut io, "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HT").await;
        read_until(&mut io, "\r\n\r\n/a").await;
        sleep(secs(2)).await;
        say(&mut io, "TP/1.1\r\nHost: x\r\n\r\n").await;
        read_until(&mut io, "\r\n\r\n/b").await;
        assert!(attended.await.unwrap());
    })
    .await;
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Requests in pieces, at any moment around parking, are all answered, once and in order.
    #[test]
    fn nothing_is_lost_at_the_moment_of_parking(
        pieces in proptest::collection::vec((0_u64..120, 1_usize..40), 1..40),
        pipelined in 1_usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(local(async {
            let running = start(options(), path);
            let (mut read, mut write) = tokio::io::split(running.dialer.connect().unwrap());
            let request = |number: usize| format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n");
            let mut text = String::new();
            let mut asked = 0;
            for (pause, length) in &pieces {
                if text.is_empty() {
                    text = (asked..asked + pipelined).map(request).collect();
                    asked += pipelined;
                }
                let rest = text.split_off((*length).min(text.len()));
                say(&mut write, &text).await;
                text = rest;
                sleep(Duration::from_millis(*pause)).await;
            }
            say(&mut write, &text).await;
            for number in 0..asked {
                read_until(&mut read, &format!("\r\n\r\n/{number}")).await;
            }
            running.drainer.drain();
            assert_eq!(read_rest(&mut read).await, "");
        }));
    }
}
