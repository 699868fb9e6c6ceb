//! Requests to apps over pooled connections.
//!
//! Invariant: a request goes out once. It is sent anew, on a fresh connection, only if not one byte of it was written;
//! and a connection is used again only after a request and an answer that both ended in full and left no doubt about
//! their framing.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::body::{Body, BodyError, Outcome};
use super::guard::Guarded;
use super::pool::Pool;
use super::stream::Rewind;
use super::upload::Upload;
use super::upstream::{ConnectError, Dialer, Upstream, UpstreamIx};

/// Headers of an answer; legacy apps send more than most.
const MAX_HEADERS: usize = 200;
const MAX_HEAD_BYTES: usize = 32 * 1024;
const BUFFER: usize = 64 * 1024;

/// How connections to apps are kept.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// How long a connection may lie idle: less than the app server allows, so that we close first.
    pub idle_timeout: Duration,
    /// Idle connections kept per upstream and thread.
    pub max_idle: usize,
    /// Without a byte taken by the app while a request waits.
    pub body_stall: Duration,
}

/// The client of one thread; clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    dialer: Dialer,
    options: ClientOptions,
    pool: Rc<Pool>,
}

/// The head of a request to an app, as it is to go out. `headers` holds `Host` and no `Expect`; its framing headers are
/// replaced by what the body needs.
#[derive(Clone, Copy, Debug)]
pub struct AppRequest<'a> {
    /// The method; not CONNECT.
    pub method: &'a Method,
    /// The target in origin form.
    pub target: &'a PathAndQuery,
    /// All headers.
    pub headers: &'a HeaderMap,
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
    /// Status, version and headers as they came.
    pub parts: Parts,
    /// Its body. Reading it to the end gives the connection back.
    pub body: Body,
    /// On 101: the connection, once the body is dropped.
    pub upgraded: Option<OnUpgrade>,
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
    BadResponse(#[source] hyper::Error),
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
        /// What hyper saw.
        #[source]
        source: hyper::Error,
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
            max_idle: 64,
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

/// One try on one connection.
struct Exchange<'a> {
    upload: Option<&'a Upload>,
    first_byte: Duration,
    reused: bool,
    /// Whether another protocol was asked for.
    upgrades: bool,
}

/// Why a try failed.
enum Lost {
    /// Nothing was written; here is the request.
    Unsent(Box<Request<Body>>, hyper::Error),
    Sent(SendError),
}

impl Client {
    /// A client without connections.
    pub fn new(dialer: Dialer, options: ClientOptions) -> Self {
        let pool = Rc::new(Pool::new(options.idle_timeout, options.max_idle));
        Self { dialer, options, pool }
    }

    /// Sends one request and waits for the head of its answer. Interim answers (1xx) other than 101 are dropped.
    /// Dropping the future ends the request. The first-byte clock stands still while the client owes bytes of `body`,
    /// so that body needs a stall time of its own. Must run in a `LocalSet`.
    ///
    /// # Errors
    /// See [`SendError`]; an error after the head is one of [`Answer::body`].
    pub async fn send(
        &self,
        upstream: &Upstream,
        head: AppRequest<'_>,
        body: Body,
        deadlines: &Deadlines,
    ) -> Result<Answer, SendError> {
        let (body, upload) = follow(body);
        let mut request = rebuild(head, body);
        let upgrades = head.headers.contains_key(UPGRADE);
        let try_on = |reused| Exchange {
            upload: upload.as_deref(),
            first_byte: deadlines.first_byte,
            reused,
            upgrades,
        };
        if let Some(mut sender) = self.pool.take(upstream).await {
            match try_on(true).run(&mut sender, request).await {
                Ok(answer) => return self.accept(upstream, sender, answer, upload),
                Err(Lost::Unsent(unsent, _)) => request = *unsent,
                Err(Lost::Sent(error)) => {
                    if matches!(error, SendError::Reset { .. }) {
                        self.pool.forget(upstream.ix);
                    }
                    return Err(error);
                }
            }
        }
        let mut sender = self.dial(upstream, deadlines.connect).await?;
        match try_on(false).run(&mut sender, request).await {
            Ok(answer) => self.accept(upstream, sender, answer, upload),
            Err(Lost::Unsent(_, source)) => Err(SendError::Reset { reused: false, source }),
            Err(Lost::Sent(error)) => Err(error),
        }
    }

    /// How many connections to an upstream lie idle on this thread.
    pub fn idle(&self, ix: UpstreamIx) -> usize {
        self.pool.idle(ix)
    }

    async fn dial(&self, upstream: &Upstream, limit: Duration) -> Result<SendRequest<Body>, SendError> {
        let stream = self.dialer.dial(&upstream.origin, limit).await?;
        let io = Guarded::new(Rewind::new(bytes::Bytes::new(), stream), self.options.body_stall);
        let (sender, conn) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|source| SendError::Reset { reused: false, source })?;
        spawn_local(async move {
            if let Err(error) = conn.with_upgrades().await {
                debug!(%error, "a connection to an app failed");
            }
        });
        self.pool.ensure_reaper();
        Ok(sender)
    }

    fn accept(
        &self,
        upstream: &Upstream,
        sender: SendRequest<Body>,
        answer: Response<Incoming>,
        upload: Option<Rc<Upload>>,
    ) -> Result<Answer, SendError> {
        let (mut parts, incoming) = answer.into_parts();
        if is_ambiguous(&parts) {
            return Err(SendError::AmbiguousLength);
        }
        let upgraded = parts.extensions.remove::<OnUpgrade>();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Answer { parts, body: Body::empty(), upgraded });
        }
        let body = self.lend(upstream, sender, Body::incoming(incoming), upload);
        Ok(Answer { parts, body, upgraded: None })
    }

    /// Ties the connection to the body of the answer: its clean end gives it back, anything else closes it. So does an
    /// answer that ended before the request did: what the app makes of the rest is unknown.
    fn lend(
        &self,
        upstream: &Upstream,
        sender: SendRequest<Body>,
        body: Body,
        upload: Option<Rc<Upload>>,
    ) -> Body {
        let upload_done = move || upload.is_none_or(|upload| upload.is_complete());
        if body.is_end_stream() {
            if upload_done() {
                self.pool.give(upstream, sender);
            }
            return body;
        }
        let (pool, upstream) = (Rc::downgrade(&self.pool), upstream.clone());
        body.on_end(move |end| {
            if let (Outcome::Complete, true, Some(pool)) = (&end.outcome, upload_done(), pool.upgrade()) {
                pool.give(&upstream, sender);
            }
        })
    }
}

impl Exchange<'_> {
    async fn run(
        self,
        sender: &mut SendRequest<Body>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Lost> {
        let mut answer = pin!(sender.try_send_request(request));
        let mut overdue = pin!(sleep_until(Instant::now() + self.first_byte));
        let result = loop {
            tokio::select! {
                biased;
                result = &mut answer => break result,
                () = &mut overdue => {
                    let now = Instant::now();
                    match self.upload.map(|upload| upload.due(now, self.first_byte)) {
                        Some(due) if due > now => overdue.as_mut().reset(due),
                        _ => return Err(Lost::Sent(SendError::FirstByteTimeout)),
                    }
                }
            }
        };
        if result.as_ref().is_ok_and(|answer| answer.status() == StatusCode::SWITCHING_PROTOCOLS)
            && !self.upgrades
        {
            return Err(Lost::Sent(SendError::Unasked));
        }
        result.map_err(|mut failed| match failed.take_message() {
            Some(request) => Lost::Unsent(Box::new(request), failed.into_error()),
            None => Lost::Sent(self.explain(failed.into_error())),
        })
    }

    fn explain(&self, error: hyper::Error) -> SendError {
        if let Some(error) = self.upload.and_then(Upload::take_error) {
            return SendError::RequestBody(error);
        }
        if error.is_parse() {
            return SendError::BadResponse(error);
        }
        if is_stall(&error) {
            return SendError::FirstByteTimeout;
        }
        SendError::Reset { reused: self.reused, source: error }
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

/// The request as hyper wants it: by value, its framing said by us. Left to itself hyper sends no body with a GET of
/// unknown length, and no length with an empty POST, which some servers refuse (411).
fn rebuild(head: AppRequest<'_>, body: Body) -> Request<Body> {
    let mut headers = head.headers.clone();
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONTENT_LENGTH);
    match body.size_hint().exact() {
        Some(0) if body.is_end_stream() && !announces_body(head.method) => {}
        Some(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from(head.target.clone());
    *request.headers_mut() = headers;
    request
}

/// RFC 9110, 8.6: methods whose meaning includes content send a length even of 0.
fn announces_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// hyper takes the first of equal lengths, and an encoding before a length; an answer that leaves such a choice may be
/// read otherwise by the next reader (RFC 9112, 6.3).
fn is_ambiguous(parts: &Parts) -> bool {
    let mut encodings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    match (encodings.next(), lengths.next()) {
        (Some(_), Some(_)) => true,
        (Some(encoding), None) => {
            encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        (None, Some(length)) => lengths.next().is_some() || !length.as_bytes().iter().all(u8::is_ascii_digit),
        (None, None) => false,
    }
}

fn is_stall(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::TimedOut;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests;
