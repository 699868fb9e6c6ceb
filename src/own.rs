//! The proxy's own requests in a person's name, from preparation to sending: what a heartbeat and a sign-out share.
//!
//! Invariant: host and scheme come from the config and the session, a path from the config or from a page that the app has
//! shown in answer to such a request, never from a client's request at hand.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};

use crate::balance::{Balancer, Chosen};
use crate::bridge::app_session::AppSession;
use crate::bridge::own;
use crate::bridge::to_app::{self, ToApp};
use crate::bridge::traits::ClientTraits;
use crate::bridge::url::Clean;
use crate::net::body::Body;
use crate::net::client::{Answer, Client, Deadlines, SendError};
use crate::net::upstream::Upstream;
use crate::route::{HostHeader, Route};
use crate::time::Timestamp;
use crate::wire::fields::Fields;
use crate::wire::forwarded;
use crate::wire::request::Head;

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
    pub head: Head,
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
    Target,
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
    let chosen = balancer.stay(route, person.app.upstream)?;
    let public = person.app.public.as_deref();
    let authority = match (public, route.hosts.first()) {
        (Some(public), _) => public.authority.to_string(),
        (None, Some(host)) => host.to_string(),
        (None, None) => chosen.upstream.authority.to_string(),
    };
    let client = forwarded::Client {
        address: person.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        https: public.is_some_and(|public| public.https),
        via: smallvec::SmallVec::new(),
        host: None,
        port: None,
        trusted: false,
    };
    let host = host_header(route, &chosen.upstream, &authority);
    let context = ToApp {
        rules: &route.rules,
        session: Some(person.app),
        client: &client,
        authority: &authority,
        host,
        own: true,
        own_cookies: &[],
        adopting: false,
        allow_names: &[],
        now,
    };
    // What follows `#` is for browsers.
    let target = ask.target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let clean = Clean { path: path.into(), query: query.map(Into::into) };
    let headers = own::headers(person.traits, person.passed);
    let (mut head, _) = to_app::translate(&context, ask.method.clone(), &clean, &Fields::of(&headers));
    if ask.heartbeat {
        head.put(own::HEARTBEAT.as_str(), &HeaderValue::from_static("1"));
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
    if !prepared.head.has_valid_target() {
        return Err(OwnError::Target);
    }
    let deadlines = Deadlines { connect: deadline, first_byte: deadline };
    let sent = client.send(&prepared.chosen.upstream, &prepared.head, body, &deadlines).await;
    match &sent {
        Ok(_) => prepared.chosen.answered(),
        Err(error @ (SendError::Dns(_) | SendError::Connect(_) | SendError::ConnectTimeout)) => {
            prepared.chosen.failed(error);
        }
        // A page that breaks, or takes longer than we wait, is not the app: people ask for others, and wait longer.
        Err(_) => {}
    }
    Ok(sent?)
}

/// The `Host` that the app of `route` sees when browsers ask for `authority`.
#[must_use]
pub fn host_header<'a>(route: &'a Route, upstream: &'a Upstream, authority: &'a str) -> &'a str {
    match &route.host_header {
        HostHeader::Keep => authority,
        HostHeader::Upstream => &upstream.authority,
        HostHeader::Name(name) => name,
    }
}
