//! Serving clients: accept, shake hands, find out which HTTP it is, hand it to hyper, and park it in between.
//!
//! Invariant: no connection is without a deadline (see `phase`, `park` and `guard`) or outside the cap; after a drain, and
//! during a hold, no new request begins on an idle connection, and none that began is cut before the drain time is over.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::body::Body;
use super::drain::{Counted, Drain};
use super::gather::{Gathering, Shelf, gather};
use super::guard::Guarded;
use super::listener::Listener;
use super::park::Lot;
use super::phase::{Phase, PhaseLimits};
use super::protocol;
use super::refuse::Refusals;
use super::seat::{self, Seat, Stage};
use super::served::{InFlight, Served, Streams};
use super::stream::{Peer, Rewind, Stream};
use super::terms::Terms;
use super::tls::{self, Greeted, Tls};
use super::watch::{Lamp, Watched, watch};

/// What the kernel's accept queue can hold at a drain.
const LAST_ACCEPTS: usize = 4096;

/// Serves what `listener` accepts until `drain`, and returns when the last connection is gone or was cut. During a hold
/// nothing is accepted, and connections end with the answer that they wait for. Connections that were upgraded
/// are not waited for: they belong to whoever upgraded them.
///
/// `service` answers one request; it must not fail and is dropped when the client goes away. Must run in a `LocalSet`.
pub async fn serve<S, F>(mut listener: Listener, service: S, terms: &Terms, mut drain: Drain)
where
    S: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let (service, mut tasks) = (Rc::new(service), JoinSet::new());
    loop {
        let round = (drain.accepting(), drain.working());
        let shop = Rc::new(Shop::new(Rc::clone(&service), terms, listener.tls().cloned()));
        shop.open(&mut listener, &mut tasks, &mut drain).await;
        shop.lamp.light();
        shop.lot.shut();
        if drain.is_requested() || !hold(round, &mut tasks, &mut drain).await {
            if !drain.is_passed_on() {
                shop.last_accepts(&mut listener, &mut tasks);
            }
            break;
        }
    }
    drop(listener);
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => {}
        () = drain.aborted() => {}
        () = sleep(terms.now().options.drain_timeout) => {}
    }
    tasks.shutdown().await;
}

/// Waits until serving goes on (true) or ends, and tells when nothing is accepted and when nothing is in flight any more.
async fn hold((accepting, working): (Counted, Counted), tasks: &mut JoinSet<()>, drain: &mut Drain) -> bool {
    let mut resumed = drain.clone();
    let at_rest = async {
        drop(accepting);
        while tasks.join_next().await.is_some() {}
        drop(working);
        std::future::pending().await
    };
    tokio::select! {
        biased;
        () = drain.requested() => false,
        () = resumed.resumed() => true,
        never = at_rest => never,
    }
}

/// What the connections of one thread share.
struct Shop<S> {
    service: Rc<S>,
    terms: Terms,
    tls: Option<Tls>,
    lot: Lot,
    lamp: Lamp,
    refusals: Refusals,
    shelf: Shelf,
}

impl<S, F> Shop<S>
where
    S: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    fn new(service: Rc<S>, terms: &Terms, tls: Option<Tls>) -> Self {
        Self {
            service,
            terms: terms.clone(),
            tls,
            lot: Lot::default(),
            lamp: Lamp::default(),
            refusals: Refusals::default(),
            shelf: Shelf::default(),
        }
    }

    /// Accepts until a drain or a hold.
    async fn open(self: &Rc<Self>, listener: &mut Listener, tasks: &mut JoinSet<()>, drain: &mut Drain) {
        let mut attending = pin!(self.lot.attend());
        loop {
            tokio::select! {
                biased;
                () = drain.interrupted() => return,
                Some(_) = tasks.join_next() => {}
                () = &mut attending => {}
                (stream, peer) = listener.accept() => self.welcome(stream, peer, tasks),
            }
        }
    }

    /// Clients whose connection the kernel has made already would be reset by closing the socket now.
    fn last_accepts(self: &Rc<Self>, listener: &mut Listener, tasks: &mut JoinSet<()>) {
        for _ in 0..LAST_ACCEPTS {
            let Some((stream, peer)) = listener.accept().now_or_never() else { return };
            self.welcome(stream, peer, tasks);
        }
    }

    fn welcome(self: &Rc<Self>, stream: Stream, peer: Peer, tasks: &mut JoinSet<()>) {
        match self.terms.now().options.connections.acquire() {
            Some(permit) => {
                let seat = Seat { stream, peer, permit, since: Instant::now(), stage: Stage::New };
                tasks.spawn_local(Rc::clone(self).host(seat));
            }
            None => {
                if let Some(refusal) = self.refusals.begin() {
                    let word = self.refusal();
                    tasks.spawn_local(refusal.say(stream, word));
                }
            }
        }
    }

    /// What a client over the cap is told; nothing under TLS, which would take a handshake.
    fn refusal(&self) -> Bytes {
        if self.tls.is_some() {
            Bytes::new()
        } else {
            self.terms.now().options.last_word.of(StatusCode::SERVICE_UNAVAILABLE)
        }
    }

    /// One connection from its first byte to its end. What serving it needs is in a box that is gone while it is parked.
    #[expect(
        clippy::manual_async_fn,
        reason = "an argument of an `async fn` has its place twice in the future"
    )]
    fn host(self: Rc<Self>, mut seat: Seat) -> impl Future<Output = ()> + 'static {
        async move {
            while self.lot.wait(seat.deadline(&self.terms.now().options), &mut seat.stream).await
                || (self.lamp.shines() && Box::pin(self.listens_a_while_longer(&mut seat)).await)
            {
                match Box::pin(self.attend_to(seat)).await {
                    Some(parked) => seat = parked,
                    None => return,
                }
            }
            seat.leave();
        }
    }

    /// Whether a client that has just come says something after all. What nobody asked for anything yet, no client asks
    /// for again: it is not closed in the moment between its handshake and its first bytes.
    async fn listens_a_while_longer(&self, seat: &mut Seat) -> bool {
        let left = seat.fresh_until().map(|end| end.saturating_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => timeout(left, seat.stream.spoken()).await.is_ok(),
            None => false,
        }
    }

    /// Resolves when a connection that has not asked for anything yet is to be closed for a drain.
    async fn is_over(&self) {
        self.lamp.is_lit().await;
        sleep(seat::FRESH).await;
    }

    /// Serves a client that has said something; `None` when its connection is over.
    async fn attend_to(self: &Rc<Self>, seat: Seat) -> Option<Seat> {
        match (seat.stage, &self.tls) {
            (Stage::New, Some(tls)) => self.greet(tls, seat).await,
            (Stage::New, None) => self.sniff(seat).await,
            _ => self.serve_http1(seat, Bytes::new()).await,
        }
    }

    async fn greet(self: &Rc<Self>, tls: &Tls, seat: Seat) -> Option<Seat> {
        let Seat { stream, peer, permit, since, .. } = seat;
        if stream.first_byte().await.is_some_and(|first| first != tls::HANDSHAKE) {
            debug!(%peer, "a client does not speak TLS at an address where only TLS is spoken: plain HTTP?");
            self.refusals
                .begin()?
                .say(stream, self.terms.now().options.last_word.of(StatusCode::BAD_REQUEST))
                .await;
            return None;
        }
        let greeted = tokio::select! {
            biased;
            greeted = tls.greet(stream) => greeted,
            () = self.is_over() => return None,
            () = sleep_until(since + self.terms.now().options.header) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        let Greeted { stream, greeting, http2 } =
            greeted.inspect_err(|error| debug!(%peer, %error, "a TLS handshake failed")).ok()?;
        let (peer, since) = (peer.greeted(greeting), Instant::now());
        let seat = Seat { stream, peer, permit, since, stage: Stage::Greeted };
        if http2 {
            self.serve_http2(seat, Bytes::new()).await;
            return None;
        }
        Some(seat)
    }

    async fn sniff(self: &Rc<Self>, mut seat: Seat) -> Option<Seat> {
        let sniffed = tokio::select! {
            biased;
            sniffed = protocol::sniff(&mut seat.stream) => sniffed,
            () = self.is_over() => return None,
            () = sleep_until(seat.since + self.terms.now().options.header) => return None,
        };
        match sniffed {
            Ok(Some((false, sniffed))) => return self.serve_http1(seat, sniffed).await,
            Ok(Some((true, sniffed))) => self.serve_http2(seat, sniffed).await,
            Ok(None) => {}
            Err(error) => debug!(peer = %seat.peer, %error, "a connection failed before its first request"),
        }
        None
    }

    /// Serves HTTP/1 until the connection is at rest or over.
    async fn serve_http1(self: &Rc<Self>, seat: Seat, sniffed: Bytes) -> Option<Seat> {
        let (mut seat, mut unread) = self.converse(seat, sniffed).await?;
        while !unread.is_empty() {
            (seat, unread) = self.converse(seat, unread).await?;
        }
        Some(seat)
    }

    /// One connection of hyper's, from the bytes `unread` on; `None` when it is over, else what of it stays, and bytes
    /// that hyper read and made nothing of.
    async fn converse(self: &Rc<Self>, seat: Seat, unread: Bytes) -> Option<(Seat, Bytes)> {
        let Seat { stream, peer, permit, since, stage } = seat;
        let phase = Arc::new(match stage {
            Stage::Answered => Phase::roused(since),
            Stage::New | Stage::Greeted => Phase::awaiting_head(since),
        });
        let io = Guarded::new(Rewind::new(unread, stream), self.terms.now().options.body_stall)
            .refusing_with(self.terms.now().options.last_word.clone())
            .accepted(permit, Some(Arc::clone(&phase)));
        let service = self.http_service(peer.clone(), Arc::clone(&phase), None);
        let mut conn = self.terms.now().http1.serve_connection(TokioIo::new(io), service).with_upgrades();
        let limits = self.phase_limits();
        let due = || phase.next_look(limits);
        let stop = |conn: Pin<&mut http1::UpgradeableConnection<_, _>>| conn.graceful_shutdown();
        if watch(Pin::new(&mut conn), &peer, stop, due, &self.lamp).await == Watched::Closed {
            return None;
        }
        let Some(since) = phase.at_rest_since().filter(|since| *since + limits.idle > Instant::now()) else {
            debug!(%peer, "a silent or slow connection was closed");
            return None;
        };
        let parts = conn.into_parts()?;
        let (unread, stream, permit) = parts.io.into_inner().into_accepted(parts.read_buf);
        Some((Seat { stream, peer, permit: permit?, since, stage: Stage::Answered }, unread))
    }

    async fn serve_http2(self: &Rc<Self>, seat: Seat, sniffed: Bytes) {
        let Seat { stream, peer, permit, since, .. } = seat;
        let io = Guarded::new(Rewind::new(sniffed, stream), self.terms.now().options.body_stall)
            .accepted(permit, None);
        let phase = Arc::new(Phase::idle(since));
        let streams = Rc::new(Streams::default());
        let service = self.http_service(peer.clone(), Arc::clone(&phase), Some(Rc::clone(&streams)));
        let (io, end) = gather(io, Rc::clone(&self.shelf));
        let mut conn = pin!(self.terms.now().http2.serve_connection(TokioIo::new(io), service));
        let mut conn = Gathering::new(conn.as_mut(), end);
        let (limits, stall) = (self.phase_limits(), self.terms.now().options.body_stall);
        let is_idle = || phase.deadline(limits).is_some_and(|at| at <= Instant::now());
        // A stream task may begin to wait without waking this one, so look again after every stall time.
        let due = || {
            let stalled = streams.longest_wait().unwrap_or_else(Instant::now) + stall;
            Some(phase.deadline(limits).map_or(stalled, |idle| idle.min(stalled)))
        };
        let stop = |mut conn: Pin<&mut Gathering<'_, http2::Connection<_, _, _>, _>>| {
            conn.conn().graceful_shutdown()
        };
        if watch(Pin::new(&mut conn), &peer, stop, due, &self.lamp).await == Watched::Due && is_idle() {
            conn.conn().graceful_shutdown();
            let _ = timeout(self.terms.now().options.header, conn).await;
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
        service_fn(move |request: Request<Incoming>| {
            let in_flight = InFlight::begin(&phase, !request.body().is_end_stream());
            let streams = streams.clone();
            let answer = (shop.service)(request, peer.clone());
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
        let terms = self.terms.now();
        PhaseLimits { header: terms.options.header, idle: terms.options.idle }
    }
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

#[cfg(test)]
mod tests;
