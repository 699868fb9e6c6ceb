//! Serving clients: accept, find out which HTTP it is, hand it to hyper, and watch over it until it is gone.
//!
//! Invariant: no connection is without a deadline (see `phase` and `guard`) or outside the cap; after a drain no new
//! request begins on an idle connection, and none that began is cut before the drain time is over.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tracing::debug;

use super::body::Body;
use super::connections::{Connections, Permit};
use super::drain::Drain;
use super::guard::Guarded;
use super::listener::Listener;
use super::phase::{Phase, PhaseLimits};
use super::refuse::{LastWord, Refusals};
use super::served::{InFlight, Served, Streams};
use super::stream::{Peer, Rewind, Stream};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MAX_HEADERS: usize = 100;
/// hyper refuses smaller ones.
const LEAST_BUFFER: usize = 8 * 1024;
const H2_STREAMS: u32 = 100;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const H2_PENDING_RESETS: usize = 20;
const H2_SEND_BUFFER: usize = 64 * 1024;
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What the kernel's accept queue can hold at a drain.
const LAST_ACCEPTS: usize = 4096;

/// How clients are served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The cap, shared by all threads.
    pub connections: Connections,
    /// Bytes of a request line and its headers; over it the answer is 431.
    pub max_header_bytes: usize,
    /// From the first byte of a head to its end.
    pub header: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// Without a byte taken by the client while an answer waits.
    pub body_stall: Duration,
    /// What a drain waits for requests in flight.
    pub drain_timeout: Duration,
    /// Answers where no service is asked: 400, 414, 431 to a head, 503 over the cap.
    pub last_word: LastWord,
}

/// Serves what `listener` accepts until `drain`, and returns when the last connection is gone or was cut. Connections
/// that were upgraded are not waited for: they belong to whoever upgraded them.
///
/// `service` answers one request; it must not fail and is dropped when the client goes away. Must run in a `LocalSet`.
pub async fn serve<S, F>(mut listener: Listener, service: S, options: &ServeOptions, mut drain: Drain)
where
    S: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let shop = Rc::new(Shop::new(service, options));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = drain.requested() => break,
            Some(_) = tasks.join_next() => {}
            (stream, peer) = listener.accept() => shop.welcome(stream, peer, &mut tasks),
        }
    }
    shop.lamp.light();
    // Clients whose connection the kernel has made already would be reset by closing the socket now.
    for _ in 0..LAST_ACCEPTS {
        let Some((stream, peer)) = listener.accept().now_or_never() else { break };
        shop.welcome(stream, peer, &mut tasks);
    }
    drop(listener);
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => {}
        () = drain.aborted() => {}
        () = sleep(options.drain_timeout) => {}
    }
    tasks.shutdown().await;
}

/// What the connections of one thread share.
struct Shop<S> {
    service: S,
    options: ServeOptions,
    http1: http1::Builder,
    http2: http2::Builder<LocalExec>,
    lamp: Lamp,
    refusals: Refusals,
}

/// The thread's own drain signal: a plain flag on the hot path, waiters only once per connection.
#[derive(Default)]
struct Lamp {
    lit: Cell<bool>,
    notify: Notify,
}

/// Runs HTTP/2 streams on this thread.
#[derive(Clone, Copy, Debug)]
struct LocalExec;

/// How a watched connection ended.
enum Watched {
    Closed,
    Expired,
}

impl Lamp {
    fn light(&self) {
        self.lit.set(true);
        self.notify.notify_waiters();
    }

    async fn is_lit(&self) {
        if !self.lit.get() {
            self.notify.notified().await;
        }
    }
}

impl<F: Future<Output: 'static> + 'static> Executor<F> for LocalExec {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

impl<S, F> Shop<S>
where
    S: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    fn new(service: S, options: &ServeOptions) -> Self {
        Self {
            service,
            options: options.clone(),
            http1: http1_builder(options.max_header_bytes),
            http2: http2_builder(options.max_header_bytes),
            lamp: Lamp::default(),
            refusals: Refusals::default(),
        }
    }

    fn welcome(self: &Rc<Self>, stream: Stream, peer: Peer, tasks: &mut JoinSet<()>) {
        match self.options.connections.acquire() {
            Some(permit) => {
                tasks.spawn_local(Rc::clone(self).run(stream, peer, permit));
            }
            None => {
                if let Some(refusal) = self.refusals.begin() {
                    tasks.spawn_local(refusal.say(stream, self.options.last_word.clone()));
                }
            }
        }
    }

    async fn run(self: Rc<Self>, mut stream: Stream, peer: Peer, permit: Permit) {
        let accepted = Instant::now();
        let sniffed = tokio::select! {
            biased;
            sniffed = sniff(&mut stream) => sniffed,
            () = self.lamp.is_lit() => return,
            () = sleep(self.options.header) => return,
        };
        match sniffed {
            Ok(Some((is_http2, sniffed))) => {
                let io = Guarded::new(Rewind::new(sniffed, stream), self.options.body_stall);
                if is_http2 {
                    self.run_http2(io.accepted(permit, None), peer, accepted).await;
                } else {
                    let phase = Arc::new(Phase::awaiting_head(accepted));
                    let io = io.refusing_with(self.options.last_word.clone());
                    self.run_http1(io.accepted(permit, Some(Arc::clone(&phase))), peer, phase).await;
                }
            }
            Ok(None) => {}
            Err(error) => debug!(%peer, %error, "a connection failed before its first request"),
        }
    }

    async fn run_http1(self: Rc<Self>, io: Guarded, peer: Peer, phase: Arc<Phase>) {
        let service = self.http_service(peer, Arc::clone(&phase), None);
        let mut conn = pin!(self.http1.serve_connection(TokioIo::new(io), service).with_upgrades());
        let limits = self.phase_limits();
        let due = || phase.deadline(limits);
        if let Watched::Expired =
            watch(conn.as_mut(), peer, |conn| conn.graceful_shutdown(), due, &self.lamp).await
        {
            debug!(%peer, "a silent or slow connection was closed");
        }
    }

    async fn run_http2(self: Rc<Self>, io: Guarded, peer: Peer, accepted: Instant) {
        let phase = Arc::new(Phase::idle(accepted));
        let streams = Rc::new(Streams::default());
        let service = self.http_service(peer, Arc::clone(&phase), Some(Rc::clone(&streams)));
        let mut conn = pin!(self.http2.serve_connection(TokioIo::new(io), service));
        let (limits, stall) = (self.phase_limits(), self.options.body_stall);
        let is_idle = || phase.deadline(limits).is_some_and(|at| at <= Instant::now());
        // A stream task may begin to wait without waking this one, so look again after every stall time.
        let due = || {
            let stalled = streams.longest_wait().unwrap_or_else(Instant::now) + stall;
            Some(phase.deadline(limits).map_or(stalled, |idle| idle.min(stalled)))
        };
        let stop = |conn: Pin<&mut http2::Connection<_, _, _>>| conn.graceful_shutdown();
        if let Watched::Expired = watch(conn.as_mut(), peer, stop, due, &self.lamp).await
            && is_idle()
        {
            conn.as_mut().graceful_shutdown();
            let _ = timeout(self.options.header, conn).await;
        }
    }

    fn http_service(
        self: &Rc<Self>,
        peer: Peer,
        phase: Arc<Phase>,
        streams: Option<Rc<Streams>>,
    ) -> impl HttpService<
        Incoming,
        ResBody = Served,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Served>, Infallible>> + 'static,
    > {
        let shop = Rc::clone(self);
        service_fn(move |request| {
            let in_flight = InFlight::begin(&phase);
            let streams = streams.clone();
            let answer = (shop.service)(request, peer);
            async move {
                let mut answer = answer.await;
                if streams.is_none() && answer.status() == StatusCode::NOT_MODIFIED {
                    keep_length(&mut answer);
                }
                Ok::<_, Infallible>(answer.map(|body| Served::new(body, in_flight, streams.as_deref())))
            }
        })
    }

    fn phase_limits(&self) -> PhaseLimits {
        PhaseLimits { header: self.options.header, idle: self.options.idle }
    }
}

fn http1_builder(max_header_bytes: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_buf_size(max_header_bytes.max(LEAST_BUFFER))
        .max_header_size(max_header_bytes)
        .max_headers(MAX_HEADERS)
        .keep_alive(true)
        .half_close(false);
    builder
}

fn http2_builder(max_header_bytes: usize) -> http2::Builder<LocalExec> {
    let mut builder = http2::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(H2_PENDING_RESETS)
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// hyper drops the `Content-Length` of a bodyless answer, but to HEAD; a 304 may name what a 200 would have (RFC 9110,
/// 8.6), and answers of apps are not ours to change.
fn keep_length(answer: &mut Response<Body>) {
    let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(length) = length
        && answer.body().is_end_stream()
    {
        *answer.body_mut() = Body::declaring(length);
    }
}

/// Whether the client begins with HTTP/2's preface (RFC 9113, 3.4), and all that was read to know. `None`: it said
/// nothing and left.
async fn sniff(stream: &mut Stream) -> io::Result<Option<(bool, Bytes)>> {
    let mut read = BytesMut::with_capacity(4096);
    loop {
        let ended = stream.read_buf(&mut read).await? == 0;
        if read.is_empty() {
            return Ok(None);
        }
        let is_preface = read.iter().zip(PREFACE).all(|(a, b)| a == b);
        if ended || !is_preface || read.len() >= PREFACE.len() {
            return Ok(Some((is_preface && read.len() >= PREFACE.len(), read.freeze())));
        }
    }
}

/// Runs `conn` until it ends or is overdue. When the lamp is lit, `stop` is called once; `conn` is polled before, so
/// that hyper has seen a request that came already.
async fn watch<C, E>(
    mut conn: Pin<&mut C>,
    peer: Peer,
    stop: impl Fn(Pin<&mut C>),
    due: impl Fn() -> Option<Instant>,
    lamp: &Lamp,
) -> Watched
where
    C: Future<Output = Result<(), E>>,
    E: std::error::Error,
{
    let mut lit = pin!(lamp.is_lit());
    let mut registered = false;
    let mut stopped = false;
    let mut timer = pin!(sleep_until(due().unwrap_or_else(Instant::now)));
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = conn.as_mut().poll(cx) {
                if let Err(error) = ended {
                    debug!(%peer, %error, "a connection failed");
                }
                return Poll::Ready(Watched::Closed);
            }
            if !registered {
                registered = true;
                let _ = lit.as_mut().poll(cx);
            }
            if stopped || !lamp.lit.get() {
                break;
            }
            stopped = true;
            stop(conn.as_mut());
        }
        poll_overdue(timer.as_mut(), &due, cx).map(|()| Watched::Expired)
    })
    .await
}

/// Ready when the moment that `due` names has come. The timer is moved only when it must fire earlier or has fired,
/// so that a busy connection does not touch it.
fn poll_overdue(
    mut timer: Pin<&mut Sleep>,
    due: &impl Fn() -> Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let Some(at) = due() else { return Poll::Pending };
        if at < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(at);
        }
        ready!(timer.as_mut().poll(cx));
        if at <= timer.deadline() {
            return Poll::Ready(());
        }
    }
}

#[cfg(test)]
mod tests;
