//! The proxy's own requests in a person's name, from preparation to sending: what a heartbeat and a sign-out share.
//!
//! Invariant: host and scheme come from the config and the session, a path from the config or from a page that the app has
//! shown in answer to such a request, never from a client's request at hand.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::uri::{InvalidUri, PathAndQuery};
use http::{HeaderValue, Method};

use crate::balance::{Balancer, Chosen};
use crate::bridge::app_session::AppSession;
use crate::bridge::own;
use crate::bridge::to_app::{self, AppHead, ToApp};
use crate::bridge::traits::ClientTraits;
use crate::bridge::url::Clean;
use crate::net::body::Body;
use crate::net::client::{Answer, AppRequest, Client, Deadlines, SendError};
use crate::net::upstream::{Origin, Upstream};
use crate::route::{HostHeader, Route};
use crate::time::Timestamp;
use crate::wire::forwarded;

/// In whose name a request is made.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// How the browser introduces itself.
    pub traits: Option<&'a ClientTraits>,
    /// Where it last came from.
    pub address: Option<IpAddr>,
    /// The cookies that it last sent to the app.
    pub passed: &'a [u8],
    /// Its session with the app.
    pub app: &'a AppSession,
}

/// A request of the proxy's own, ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// Its head.
    pub head: AppHead,
    /// Where it goes.
    pub chosen: Chosen,
    /// The public host and port in whose name it is sent.
    pub authority: String,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The method.
    pub method: &'a Method,
    /// The public path and query, from the config.
    pub target: &'a str,
    /// True for a heartbeat, which says so.
    pub heartbeat: bool,
}

/// Why a request of the proxy's own has no answer.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// What it asks for cannot stand in a request line. Nothing was sent, and nothing else in its place.
    #[error("this target cannot be asked for")]
    Target(#[source] InvalidUri),
    /// Sent, or tried.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Makes the head of `ask` to the app of `route`, by the same translation that a browser's request takes.
#[must_use]
pub fn prepare(
    route: &Route,
    balancer: &Arc<Balancer>,
    person: &Person<'_>,
    ask: &Ask<'_>,
    now: Timestamp,
) -> Option<Prepared> {
    let chosen = balancer.choose(route, person.app.upstream)?;
    let public = person.app.public.as_deref();
    let authority = match (public, route.hosts.first()) {
        (Some(public), _) => public.authority.to_string(),
        (None, Some(host)) => host.to_string(),
        (None, None) => authority_of(&chosen.upstream),
    };
    let client = forwarded::Client {
        address: person.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        https: public.is_some_and(|public| public.https),
        via: smallvec::SmallVec::new(),
        host: None,
        port: None,
        trusted: false,
    };
    let host = host_header(route, &chosen.upstream, &authority)?;
    let context = ToApp {
        rules: &route.rules,
        session: Some(person.app),
        client: &client,
        authority: &authority,
        host: &host,
        own: true,
        own_cookies: &[],
        adopting: false,
        now,
    };
    let (path, query) =
        ask.target.split_once('?').map_or((ask.target, None), |(path, query)| (path, Some(query)));
    let clean = Clean { path: path.into(), query: query.map(Into::into) };
    let headers = own::headers(person.traits, person.passed);
    let (mut head, _) = to_app::translate(&context, ask.method.clone(), &clean, headers);
    if ask.heartbeat {
        head.headers.insert(own::HEARTBEAT, HeaderValue::from_static("1"));
    }
    Some(Prepared { head, chosen, authority })
}

/// Sends what was prepared; the whole must have an answer's head within `deadline`. Redirects are not followed.
///
/// # Errors
/// [`OwnError::Target`] for what is no path, else as [`Client::send`].
pub async fn send(client: &Client, prepared: &Prepared, deadline: Duration) -> Result<Answer, OwnError> {
    send_with(client, prepared, Body::empty(), deadline).await
}

/// As [`send`], with a body.
///
/// # Errors
/// As [`send`].
pub async fn send_with(
    client: &Client,
    prepared: &Prepared,
    body: Body,
    deadline: Duration,
) -> Result<Answer, OwnError> {
    let sent = hand_over(client, prepared, body, deadline);
    tokio::time::timeout(deadline, sent).await.unwrap_or(Err(SendError::FirstByteTimeout.into()))
}

/// As [`send`], for a caller that waits no longer than `deadline` for the whole answer: one clock is enough.
///
/// # Errors
/// As [`send`].
pub async fn ask(client: &Client, prepared: &Prepared, deadline: Duration) -> Result<Answer, OwnError> {
    hand_over(client, prepared, Body::empty(), deadline).await
}

async fn hand_over(
    client: &Client,
    prepared: &Prepared,
    body: Body,
    deadline: Duration,
) -> Result<Answer, OwnError> {
    let target = PathAndQuery::try_from(prepared.head.target.as_str()).map_err(OwnError::Target)?;
    let head = AppRequest { method: &prepared.head.method, target: &target, headers: &prepared.head.headers };
    let deadlines = Deadlines { connect: deadline, first_byte: deadline };
    Ok(client.send(&prepared.chosen.upstream, head, body, &deadlines).await?)
}

/// The `Host` that the app of `route` sees when browsers ask for `authority`. `None` for what is no field value.
#[must_use]
pub fn host_header(route: &Route, upstream: &Upstream, authority: &str) -> Option<HeaderValue> {
    match &route.host_header {
        HostHeader::Keep => HeaderValue::from_str(authority).ok(),
        HostHeader::Upstream => HeaderValue::from_str(&authority_of(upstream)).ok(),
        HostHeader::Name(name) => HeaderValue::from_str(name).ok(),
    }
}

/// Host and port of a server, as a URL names them.
#[must_use]
pub fn authority_of(upstream: &Upstream) -> String {
    match &*upstream.origin {
        Origin::Tcp { host, port: 80 } => bracketed(host),
        Origin::Tcp { host, port } => format!("{}:{port}", bracketed(host)),
        Origin::Unix(_) => "localhost".to_owned(),
        Origin::Memory(name) => name.clone(),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
