//! A visitor of an app: a jar of its own, GETs only, one at a time, each bounded in time and size.
//!
//! Invariant: nothing but GET is ever sent, to the app's own server only; redirects are followed inside the app's own path.

use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, COOKIE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::{Instant, sleep, timeout};

use super::facts::{Hop, Visit};
use super::links::{self, Kind, halves, public, without_ids};
use super::place::{Place, Trouble};
use crate::clock::Clock;
use crate::net::{Body, Client, Deadlines, Upstream};
use crate::ping::reading;
use crate::wire::jar::{default_path, path_match};
use crate::wire::page::Page;
use crate::wire::request::Head;
use crate::wire::set_cookie::{Lifetime, SetCookie};

/// Decoded bytes of a page at the most.
const PAGE_LIMIT: usize = 1024 * 1024;
/// Redirects of one page at the most.
const MOST_REDIRECTS: usize = 5;
/// Between two requests: nobody is in a hurry.
const PACE: Duration = Duration::from_millis(10);
/// For a connection, and for an answer from its request to its last byte.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(5);
/// Who is asking.
const AGENT: &str = concat!("sessionbridge-init/", env!("CARGO_PKG_VERSION"));

/// How an app is asked.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) client: &'a Client,
    pub(super) upstream: &'a Upstream,
    pub(super) place: &'a Place,
    pub(super) clock: Clock,
    /// When looking at this app ends.
    pub(super) deadline: Instant,
}

/// Somebody whom the app has not seen before.
pub(super) struct Visitor<'a> {
    way: Way<'a>,
    jar: Vec<Kept>,
    asked: usize,
}

/// A cookie of the jar.
struct Kept {
    name: Vec<u8>,
    value: Vec<u8>,
    path: Vec<u8>,
}

impl<'a> Visitor<'a> {
    pub(super) fn new(way: Way<'a>) -> Self {
        Self { way, jar: Vec::new(), asked: 0 }
    }

    /// Requests so far, whatever came of them.
    pub(super) const fn asked(&self) -> usize {
        self.asked
    }

    /// Looks at `target` and wherever it redirects to inside the app. Where a redirect leaves the app, or leads to what is no
    /// page to look at, its answer is the last.
    ///
    /// # Errors
    /// Where there is no answer.
    pub(super) async fn look(&mut self, target: &str) -> Result<Visit, Trouble> {
        let mut visit = Visit { public: public(target, self.way.place), ..Visit::default() };
        let mut target = target.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let hop = self.ask(&target).await?;
            let next = next(&hop, self.way.place);
            visit.public = public(&target, self.way.place);
            visit.hops.push(hop);
            match next {
                Some(next) => target = next,
                None => break,
            }
        }
        Ok(visit)
    }

    /// One request.
    async fn ask(&mut self, target: &str) -> Result<Hop, Trouble> {
        sleep(PACE).await;
        self.asked += 1;
        let way = self.way;
        let left = way.deadline.saturating_duration_since(Instant::now()).min(ANSWER);
        let began = Instant::now();
        let headers = self.headers(target).ok_or(Trouble::Path)?;
        let head = Head::with(Method::GET, target, &headers);
        if !head.has_valid_target() {
            return Err(Trouble::Path);
        }
        let deadlines = Deadlines { connect: CONNECT, first_byte: ANSWER };
        let answering = async {
            let answer = way.client.send(way.upstream, &head, Body::empty(), &deadlines).await?;
            let mut hop = Hop {
                target: target.to_owned(),
                status: answer.parts.status.as_u16(),
                headers: answer.parts.headers,
                ..Hop::default()
            };
            if is_text(&hop.kind()) {
                let read = reading::read(answer.body, hop.headers.get(CONTENT_ENCODING), PAGE_LIMIT).await;
                (hop.text, hop.was_read, hop.complete) = (read.text, true, read.complete);
            }
            Ok::<Hop, Trouble>(hop)
        };
        let mut hop = timeout(left, answering).await.unwrap_or(Err(Trouble::Slow(ANSWER.as_secs())))?;
        hop.at_s = i64::try_from(way.clock.now().millis() / 1000).unwrap_or(i64::MAX);
        hop.was_slow = began.elapsed() > Duration::from_secs(1);
        self.keep(&hop);
        Ok(hop)
    }

    fn headers(&self, target: &str) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(&self.way.place.authority).ok()?);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml,*/*;q=0.8"));
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("en"));
        let path = halves(target).0.as_bytes();
        let own = self.jar.iter().filter(|kept| path_match(&kept.path, path));
        let line: Vec<Vec<u8>> = own.map(|kept| [&kept.name[..], b"=", &kept.value].concat()).collect();
        if !line.is_empty() {
            headers.insert(COOKIE, HeaderValue::from_bytes(&line.join(&b"; "[..])).ok()?);
        }
        Some(headers)
    }

    fn keep(&mut self, hop: &Hop) {
        let path = halves(&hop.target).0.as_bytes();
        for line in hop.headers.get_all(http::header::SET_COOKIE) {
            let Some(cookie) = SetCookie::parse(line.as_bytes()) else { continue };
            let own = cookie.path().unwrap_or_else(|| default_path(path)).to_vec();
            self.jar.retain(|kept| kept.name != cookie.name() || kept.path != own);
            if cookie.lifetime(hop.at_s) != Lifetime::Delete {
                self.jar.push(Kept {
                    name: cookie.name().to_vec(),
                    value: cookie.value().to_vec(),
                    path: own,
                });
            }
        }
    }
}

/// Where a redirect leads, if it may be followed: inside the app, to what looks like a page or a sign-in.
fn next(hop: &Hop, place: &Place) -> Option<String> {
    let to = location(hop, place)?;
    let to = without_ids(&to);
    let follow = matches!(links::kind(&public(&to, place), ""), Kind::Page | Kind::SignIn);
    (follow && place.contains(halves(&to).0)).then_some(to)
}

/// The target on the app's own server that an answer redirects to.
pub(super) fn location(hop: &Hop, place: &Place) -> Option<String> {
    let to = hop.header("location");
    let is_redirect = (300..400).contains(&hop.status) && !to.is_empty();
    is_redirect.then(|| Page::default().resolve(&place.authority, &hop.target, to))?
}

/// True for media types that are read.
fn is_text(kind: &str) -> bool {
    kind.is_empty()
        || matches!(
            kind,
            "text/html" | "text/plain" | "text/xml" | "application/json" | "application/javascript"
        )
        || kind.ends_with("+xml")
        || kind.ends_with("+json")
        || kind == "application/xml"
}
