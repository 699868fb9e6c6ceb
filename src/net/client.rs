//! Requests to apps over pooled connections.
//!
//! Invariant: a request goes out once. It is sent anew, on a fresh connection, only if not one byte of it was written;
//! and a connection is used again only after a request and an answer that both ended in full and left no doubt about
//! their framing.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::StatusCode;
use http::header::UPGRADE;
use http::response::Parts;
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::body::{Body, BodyError};
use super::guard::Guarded;
use super::h1::{AnswerHead, Conn, Framing, HeadError, NoHead, Outgoing, Reply, Sending, UploadError};
use super::pool::Pool;
use super::stream::Rewind;
use super::upload::Upload;
use super::upstream::{ConnectError, Dialer, Upstream, UpstreamIx};
use crate::wire::request::Head;

/// How connections to apps are kept.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// How long a connection may lie idle: less than the app server allows, so that we close first.
    pub idle_timeout: Duration,
    /// Idle connections kept per upstream and thread. There are never more than were in use at once within the idle time, so
    /// this bounds a burst; a bound below what is in use has every request beyond it dial anew.
    pub max_idle: usize,
    /// Without a byte taken by the app while a request waits.
    pub body_stall: Duration,
}

/// The client of one thread; clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    dialer: Dialer,
    body_stall: Rc<Cell<Duration>>,
    pool: Rc<Pool>,
}

/// How long to wait for an app.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a connection, name resolution included.
    pub connect: Duration,
    /// For the head of the answer, from the moment at which the app has all that the client has sent.
    pub first_byte: Duration,
}

/// The answer of an app.
#[derive(Debug)]
pub struct Answer {
    /// Status, version and fields as they came, but for those that concern the connection only.
    pub parts: Parts,
    /// Its body. Reading it to the end gives the connection back.
    pub body: Body,
    /// On 101: the connection.
    pub upgraded: Option<Box<AppStream>>,
}

/// An app's side of a connection that speaks another protocol now.
#[derive(Debug)]
pub struct AppStream(Guarded);

impl AsyncRead for AppStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for AppStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The app's name does not resolve.
    #[error("the app's name does not resolve")]
    Dns(#[source] io::Error),
    /// No connection.
    #[error("the app refused the connection")]
    Connect(#[source] io::Error),
    /// No connection in time.
    #[error("connecting to the app took too long")]
    ConnectTimeout,
    /// No head in time, or the app stopped taking the request.
    #[error("the app did not answer in time")]
    FirstByteTimeout,
    /// The answer is no HTTP/1, or too large a head.
    #[error("the app's answer is malformed")]
    BadResponse(#[source] HeadError),
    /// The answer can be read in two ways: several lengths, or a length and an encoding.
    #[error("the length of the app's answer is ambiguous")]
    AmbiguousLength,
    /// It changes to another protocol, which nobody asked for.
    #[error("the app changed the protocol unasked")]
    Unasked,
    /// The connection ended before a head came.
    #[error("the app closed the connection before it answered")]
    Reset {
        /// It had served before: most likely the app closed it as idle at the same moment. All idle connections to
        /// the app have been dropped, so that a caller who knows the request to be idempotent gets a fresh one.
        reused: bool,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The client's own body failed.
    #[error("the request's body failed")]
    RequestBody(#[source] BodyError),
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            // Tomcat closes after 20 s by default (connectionTimeout, which keepAliveTimeout follows).
            idle_timeout: Duration::from_secs(18),
            max_idle: 1024,
            body_stall: Duration::from_secs(30),
        }
    }
}

impl From<ConnectError> for SendError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Dns(error) => Self::Dns(error),
            ConnectError::Refused(error) => Self::Connect(error),
            ConnectError::Timeout => Self::ConnectTimeout,
        }
    }
}

/// Why a try failed.
enum Lost {
    /// Nothing was written; here is the body.
    Unsent(Body, io::Error),
    Sent(SendError),
}

/// One request, whatever connection it goes out on.
struct Asked<'a> {
    head: &'a Head,
    upload: Option<Rc<Upload>>,
    first_byte: Duration,
}

impl Client {
    /// A client without connections.
    pub fn new(dialer: Dialer, options: ClientOptions) -> Self {
        let resolver = dialer.resolver().cloned();
        let pool = Rc::new(Pool::new(options.idle_timeout, options.max_idle, resolver));
        Self { dialer, body_stall: Rc::new(Cell::new(options.body_stall)), pool }
    }

    /// What a request on a new connection waits for from now on, for all clones: see [`ClientOptions::body_stall`].
    pub fn set_body_stall(&self, body_stall: Duration) {
        self.body_stall.set(body_stall);
    }

    /// Sends one request, whose `head` is not CONNECT's, and waits for the head of its answer. Interim answers (1xx) other
    /// than 101 are dropped.
    /// Dropping the future ends the request. The first-byte clock stands still while the client owes bytes of `body`,
    /// so that body needs a stall time of its own. Must run in a `LocalSet`.
    ///
    /// # Errors
    /// See [`SendError`]; an error after the head is one of [`Answer::body`].
    pub async fn send(
        &self,
        upstream: &Upstream,
        head: &Head,
        body: Body,
        deadlines: &Deadlines,
    ) -> Result<Answer, SendError> {
        self.send_or_keep(upstream, head, &mut Some(body), deadlines).await
    }

    /// As [`Client::send`]. Where not one byte of the request was written, `body` is there again: it may go to another server.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_or_keep(
        &self,
        upstream: &Upstream,
        head: &Head,
        body: &mut Option<Body>,
        deadlines: &Deadlines,
    ) -> Result<Answer, SendError> {
        let (mut going, upload) = follow(body.take().unwrap_or_default());
        let asked = Asked { head, upload, first_byte: deadlines.first_byte };
        if let Some(conn) = self.pool.take(upstream) {
            match asked.on(conn, going, true).await {
                Ok(answer) => return Ok(answer),
                Err(Lost::Unsent(unsent, _)) => going = unsent,
                Err(Lost::Sent(error)) => {
                    if matches!(error, SendError::Reset { .. }) {
                        self.pool.forget(upstream.ix);
                    }
                    return Err(error);
                }
            }
        }
        // Few requests dial, and what that takes would make each request's story larger: it lies on the heap.
        let conn = match Box::pin(self.dial(upstream, deadlines.connect)).await {
            Ok(conn) => conn,
            Err(error) => {
                *body = Some(going);
                return Err(error);
            }
        };
        asked.on(conn, going, false).await.map_err(|lost| match lost {
            Lost::Unsent(unsent, source) => {
                *body = Some(unsent);
                SendError::Reset { reused: false, source }
            }
            Lost::Sent(error) => error,
        })
    }

    /// How many connections to an upstream lie idle on this thread.
    pub fn idle(&self, ix: UpstreamIx) -> usize {
        self.pool.idle(ix)
    }

    async fn dial(&self, upstream: &Upstream, limit: Duration) -> Result<Rc<RefCell<Conn>>, SendError> {
        let (stream, resolved) = self.dialer.dial_resolved(&upstream.origin, limit).await?;
        let io = Guarded::new(Rewind::new(bytes::Bytes::new(), stream), self.body_stall.get());
        self.pool.ensure_reaper();
        Ok(Rc::new(RefCell::new(Conn::new(io, upstream.clone(), resolved, &self.pool))))
    }
}

impl Asked<'_> {
    /// Sends it on `conn` and waits for the head of its answer.
    async fn on(&self, conn: Rc<RefCell<Conn>>, body: Body, reused: bool) -> Result<Answer, Lost> {
        let sending = Sending::of(self.head.method(), &body);
        let mut outgoing = Outgoing::new(body, sending.framing);
        {
            let mut conn = conn.borrow_mut();
            conn.begin(self.head, sending);
            conn.set_clock(Instant::now() + self.first_byte);
        }
        let mut refused = None;
        let came = poll_fn(|cx| {
            let conn = &mut *conn.borrow_mut();
            if let Err(error) = write_on(&mut outgoing, conn, &mut refused, cx) {
                return Poll::Ready(Err(Failed::Sent(error)));
            }
            if let Poll::Ready(came) = conn.poll_head(cx, sending.is_head) {
                return Poll::Ready(came.map_err(Failed::NoHead));
            }
            self.poll_clock(conn, cx).map(|()| Err(Failed::Sent(SendError::FirstByteTimeout)))
        })
        .await;
        match came {
            Ok(head) => self.accept(conn, head, outgoing, refused.is_some()).map_err(Lost::Sent),
            Err(Failed::Sent(error)) => Err(Lost::Sent(error)),
            Err(Failed::NoHead(NoHead::Bad(HeadError::Ambiguous))) => {
                Err(Lost::Sent(SendError::AmbiguousLength))
            }
            Err(Failed::NoHead(NoHead::Bad(HeadError::Cut))) => {
                // It has begun to answer: it has had the request.
                Err(Lost::Sent(SendError::Reset {
                    reused: false,
                    source: io::ErrorKind::UnexpectedEof.into(),
                }))
            }
            Err(Failed::NoHead(NoHead::Bad(error))) => Err(Lost::Sent(SendError::BadResponse(error))),
            Err(Failed::NoHead(NoHead::Lost(source))) => {
                let written = conn.borrow().has_written();
                match outgoing.untouched().filter(|_| !written) {
                    Some(body) => Err(Lost::Unsent(body, source)),
                    None => Err(Lost::Sent(SendError::Reset { reused, source: refused.unwrap_or(source) })),
                }
            }
        }
    }

    /// The clock for the head of the answer: it runs only while the app has all that the client has given.
    fn poll_clock(&self, conn: &mut Conn, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(conn.poll_clock(cx));
            let now = Instant::now();
            match self.upload.as_ref().map(|upload| upload.due(now, self.first_byte)) {
                Some(due) if due > now => conn.set_clock(due),
                _ => return Poll::Ready(()),
            }
        }
    }

    fn accept(
        &self,
        conn: Rc<RefCell<Conn>>,
        head: AnswerHead,
        outgoing: Outgoing,
        refused: bool,
    ) -> Result<Answer, SendError> {
        let AnswerHead { parts, framing, keeps } = head;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            if self.head.field(&UPGRADE).is_none() {
                return Err(SendError::Unasked);
            }
            let stream = Rc::into_inner(conn).map(|conn| conn.into_inner().into_stream());
            return Ok(Answer { parts, body: Body::empty(), upgraded: stream.map(AppStream).map(Box::new) });
        }
        // An answer that comes before its request has gone out in full tells nothing of what the app does with the rest.
        conn.borrow_mut().keep(keeps && outgoing.is_done(), framing == Framing::None);
        if outgoing.is_done()
            && let Some(whole) = Conn::whole(&conn, framing)
        {
            Conn::give_back(conn);
            return Ok(Answer { parts, body: Body::full(whole), upgraded: None });
        }
        let unsent = (!outgoing.is_done() && !refused).then_some(outgoing);
        let body = Body::reply(Reply::new(conn, framing, unsent));
        Ok(Answer { parts, body, upgraded: None })
    }
}

/// Why there is no answer on one connection.
enum Failed {
    Sent(SendError),
    NoHead(NoHead),
}

/// Writes on, as far as the app takes it. An app that takes no more may have answered all the same: that is remembered in
/// `refused`, and its answer read.
fn write_on(
    outgoing: &mut Outgoing,
    conn: &mut Conn,
    refused: &mut Option<io::Error>,
    cx: &mut Context<'_>,
) -> Result<(), SendError> {
    if refused.is_some() || outgoing.is_done() {
        return Ok(());
    }
    match outgoing.poll(cx, conn) {
        Poll::Ready(Err(UploadError::Body(error))) => Err(SendError::RequestBody(error)),
        Poll::Ready(Err(UploadError::Io(error))) if error.kind() == io::ErrorKind::TimedOut => {
            Err(SendError::FirstByteTimeout)
        }
        Poll::Ready(Err(UploadError::Io(error))) => {
            *refused = Some(error);
            Ok(())
        }
        Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
    }
}

/// Follows a body that has something to send.
fn follow(body: Body) -> (Body, Option<Rc<Upload>>) {
    if body.is_end_stream() {
        return (body, None);
    }
    let upload = Rc::new(Upload::new());
    (body.followed_by(Rc::clone(&upload)), Some(upload))
}

#[cfg(test)]
mod tests;
