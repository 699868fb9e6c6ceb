//! The story of a request, from its arrival to the head of its answer.
//!
//! [`Proxy::handle`] cannot fail: it turns the one [`Error`] into an answer, and notes how it went. [`Proxy::respond`] is
//! the story itself; whatever a request goes through is a line of it.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::Proxy;
use super::arrival::Arrived;
use super::back::give;
use super::copies::gone_first;
use super::error::Error;
use super::exchange::Exchange;
use super::forms;
use super::inbound::{Asks, Inbound};
use super::note::Note;
use super::reply::{self, Form};
use super::roundtrip::Answered;
use super::stream;
use super::visit::Visit;
use crate::bridge::activity::{self, Standing};
use crate::bridge::rules::AppIx;
use crate::bridge::session::End as SessionEnd;
use crate::bridge::share;
use crate::bridge::url;
use crate::net::body::{Body, End, Outcome};
use crate::net::stream::Peer;
use crate::registry::{FLIGHT, Flight, Registry, Slot};
use crate::route::{Route, RouteMap};
use crate::setting::Setting;
use crate::setting::options::Options;
use crate::store::Outage;
use crate::telemetry::labels::Reason;
use crate::telemetry::{CleanPath, Line};
use crate::time::Timestamp;
use crate::wire::fields::Fields;
use crate::wire::hop;

/// Names a request, in the answer, in the log and at the app.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl Proxy {
    /// Answers a request from `peer`. Cannot fail. The story is long and is handed on from one owner to the next before it
    /// begins, so it lies on the heap; and so does, apart, each of its chapters that few requests have, to keep it short.
    pub fn handle(
        self: Rc<Self>,
        mut request: Request<Incoming>,
        peer: Peer,
    ) -> Pin<Box<impl Future<Output = Response<Body>>>> {
        let began = self.now();
        let upgraded = hop::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let mut note = Note::new(self.ids.borrow_mut().make());
        Box::pin(async move {
            let result = self.respond((&parts, began), body, &peer, upgraded, &mut note).await;
            let result = self.keep(result, &mut note).await;
            self.answer(result, (parts, began), note)
        })
    }

    /// Makes an answer of what the story came to, which tells the log how it went once it has gone out.
    fn answer(
        self: Rc<Self>,
        result: Result<Response<Body>, Error>,
        (parts, began): (Parts, Timestamp),
        mut note: Note,
    ) -> Response<Body> {
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                if matches!(error, Error::Framing(_) | Error::Path(_)) {
                    self.shard.framing_refused();
                }
                note.reason = Some(error.reason());
                tracing::debug!(reason = error.reason().as_str(), %error, request_id = note.id(), "request failed");
                let app = note.app.as_ref().map(|(_, name)| &**name);
                reply::error(&error, Form::wanted(&parts.headers), app, note.id())
            }
        };
        let headers = response.headers_mut();
        if let Some(fields) = note.fields.take() {
            headers.extend(*fields);
        }
        let mut id = note.id.clone();
        // No two answers have the same: HTTP/2 is not to remember it (RFC 7541, 6.2.3), which costs a look at all those before.
        id.set_sensitive(true);
        headers.insert(X_REQUEST_ID, id);
        let agent = parts.headers.get(USER_AGENT).cloned();
        let (method, version, status) = (parts.method, parts.version, response.status());
        let told = Told { proxy: self, note, began, method, version, agent, status };
        response.map(|body| body.on_end(move |end| told.write(end)))
    }

    /// What an answer acknowledges is kept before its first byte leaves. Where the store cannot be written, sessions that
    /// were kept before go on; one that is new is refused, since a restart would take it away again. A store that several proxies
    /// share is the operator's to weigh: `on_outage`.
    async fn keep(
        &self,
        result: Result<Response<Body>, Error>,
        note: &mut Note,
    ) -> Result<Response<Body>, Error> {
        let Some((slot, new)) = note.session.take() else { return result };
        let store = self.shared.registry.store();
        match self.shared.registry.saved(&slot).await {
            Err(Outage) if self.shared.goes_on() => result,
            Err(Outage) if new => {
                note.fields = None;
                self.shared.registry.end(&slot, SessionEnd::Evicted, self.now());
                Err(Error::StoreOutage)
            }
            // Another process has the store by now, and will not hear of it: nobody is told what is not so there.
            Err(Outage) if store.is_closed() || self.shared.is_strict() => {
                note.fields = None;
                Err(Error::StoreOutage)
            }
            _ => result,
        }
    }

    /// The story.
    async fn respond(
        self: &Rc<Self>,
        (parts, began): (&Parts, Timestamp),
        body: Incoming,
        peer: &Peer,
        upgraded: Option<OnUpgrade>,
        note: &mut Note,
    ) -> Result<Response<Body>, Error> {
        let map = self.setting();
        let fields = Fields::of(&parts.headers);
        let Asks::Resource(inbound) = Inbound::read(parts, &fields, peer, &map.options, began)? else {
            return Ok(Self::server_options());
        };
        note.host.push_str(&inbound.host);
        note.client = Some(inbound.address());
        take_request_id(&inbound, note);

        if self.shared.registry.is_shared() {
            Box::pin(self.freshen(&map, &inbound)).await?;
        }
        let mut visit = self.visit(&map, &inbound, note);
        if let Some(page) = own_page(&map, &inbound) {
            note.path.push_str(&inbound.normal);
            let response = Box::pin(self.page(&map, &inbound, page, &mut visit, &parts.headers)).await;
            visit.tell(note);
            let mut response = response?;
            give(&map, &inbound, &visit, response.headers_mut());
            return Ok(response);
        }

        let route = map.find(&inbound.host, &inbound.normal).ok_or(Error::NoRoute)?;
        note.app = Some((route.rules.app.index(), Arc::clone(&route.rules.name)));
        let tokens_of = |app| map.route(app).and_then(|route| route.rules.session.as_ref());
        let cleaned = url::clean(&route.rules, inbound.path(), inbound.query(), tokens_of);
        let (clean, found) = cleaned.map_err(|_| Error::TooManyParams)?;
        note.path = clean.to_text();
        if let Some(redirect) = to_mount(route, &inbound, &clean) {
            return Ok(redirect);
        }
        let standing = standing(&map, &inbound);
        let arrived = Arrived { route, inbound: &inbound, clean: &clean, found: &found };
        if found.any()
            && let Some(mut redirect) = Box::pin(self.arrive(&map, &arrived, &mut visit, note)).await?
        {
            give(&map, &inbound, &visit, redirect.headers_mut());
            return Ok(redirect);
        }
        let (has_session, releases) = (route.rules.session.is_some(), route.rules.releases);
        if has_session && !releases && visit.slot.is_none() && !visit.kept_away && !standing.skip_session {
            self.may_make_one(&inbound)?;
        }

        let length = content_length(&fields);
        let body = within_bounds(body, length, &map.options)?;
        let form = inbound.method == Method::POST && forms::is_form(&fields);
        let body = forms::clean(route.rules.session.as_ref(), &fields, body, length).await?;
        let upgrade = upgraded.as_ref().and_then(|_| hop::upgrade(&parts.headers));
        let exchange =
            Exchange { map: &map, route, inbound: &inbound, clean: &clean, standing, form, upgrade };
        let first = self.take_turn(&visit, route, standing).await;
        let answered = self.exchange(&exchange, &mut visit, body, note).await;
        visit.tell(note);
        drop(first);
        if answered.is_err() {
            // An id that was given is given all the same: the browser's old one may be over.
            give(&map, &inbound, &visit, note.fields.get_or_insert_default());
        }
        Ok(self.release(answered?, (&map, &visit), route, upgraded, note))
    }

    /// `OPTIONS *` asks about the proxy itself.
    fn server_options() -> Response<Body> {
        let mut response = reply::own(StatusCode::NO_CONTENT, "text/plain", String::new());
        let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        response.headers_mut().insert(http::header::ALLOW, methods);
        response
    }

    /// Refuses what could make a session, where it could not be kept or this address has made too many: before an app has
    /// made one in vain.
    fn may_make_one(&self, inbound: &Inbound<'_>) -> Result<(), Error> {
        if self.shared.registry.store().fails() && !self.shared.goes_on() {
            Err(Error::StoreOutage)
        } else if self.shared.new_sessions.allows(inbound.address(), inbound.now) {
            Ok(())
        } else {
            Err(Error::RateLimited)
        }
    }

    /// Waits until the first request of this session to the app has its answer, where this is not the first; what is
    /// returned lets the others go on when it is dropped.
    async fn take_turn(&self, visit: &Visit, route: &Route, standing: Standing) -> Option<First> {
        let takes_turns = route.rules.session.is_some() && !route.rules.releases && !standing.skip_session;
        let slot = visit.slot.as_ref().filter(|_| takes_turns)?;
        let (app, group) = (route.rules.app, share::group(&route.rules));
        let until = tokio::time::Instant::now() + FLIGHT;
        loop {
            let changed = slot.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match slot.depart(app, group, self.now()) {
                Flight::Go { first: false } => return None,
                Flight::Go { first: true } => {
                    let registry = Arc::clone(&self.shared.registry);
                    let mut first = First { slot: Arc::clone(slot), group, registry, claimed: false };
                    if first.registry.is_shared() {
                        first.claimed = Box::pin(self.goes_first(slot, group, until)).await;
                        return first.claimed.then_some(first);
                    }
                    return Some(first);
                }
                Flight::Wait => {
                    tokio::time::timeout_at(until, changed).await.ok()?;
                }
            }
        }
    }

    /// Lets an answer go: its body streams, what was in flight is counted off at its end.
    fn release(
        self: &Rc<Self>,
        answered: Answered,
        (map, visit): (&Setting, &Visit),
        route: &Route,
        upgraded: Option<OnUpgrade>,
        note: &mut Note,
    ) -> Response<Body> {
        let Answered { response, departed, app_side } = answered;
        let (app, slot) = (route.rules.app, visit.slot.as_ref());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if let (Some(client), Some(app_side)) = (upgraded, app_side) {
                self.tunnel((&response, map), (client, app_side), slot, app);
            }
            return response;
        }
        if stream::is_events(response.headers()) {
            drop(departed.in_flight);
            return response.map(|body| self.events(map, body, slot, app));
        }
        note.held = Some((departed.chosen, departed.in_flight));
        response.map(|body| body.stalling_after(map.options.timeouts.body_stall))
    }
}

/// What a request says of the person.
fn standing(map: &RouteMap, inbound: &Inbound<'_>) -> Standing {
    let request = (inbound.method, &*inbound.normal, inbound.query());
    activity::judge(&map.rules, request, inbound.fetch, map.heartbeats())
}

/// The request's body within its bounds.
fn within_bounds(body: Incoming, length: Option<u64>, options: &Options) -> Result<Body, Error> {
    let body = Body::incoming(body);
    if http_body::Body::is_end_stream(&body) {
        return Ok(body);
    }
    let body = body.stalling_after(options.timeouts.body_stall);
    match options.max_body {
        Some(most) if length.is_some_and(|length| length > most) => Err(Error::BodyTooLarge),
        Some(most) => Ok(body.limited(most)),
        None => Ok(body),
    }
}

/// A request that goes first to an app which has given no token yet. Dropping it lets the others go.
struct First {
    slot: Arc<Slot>,
    group: AppIx,
    registry: Arc<Registry>,
    /// True where it is the first of all proxies'.
    claimed: bool,
}

impl Drop for First {
    fn drop(&mut self) {
        self.slot.land(self.group);
        if self.claimed {
            gone_first(&self.registry, &self.slot, self.group);
        }
    }
}

/// What the log is told when the answer's body has ended.
struct Told {
    proxy: Rc<Proxy>,
    note: Note,
    began: Timestamp,
    method: Method,
    version: Version,
    agent: Option<HeaderValue>,
    status: StatusCode,
}

impl Told {
    fn write(self, end: &End) {
        let note = &self.note;
        let duration = self.proxy.now().since(self.began);
        let app = note.app.as_ref().map(|(at, _)| *at);
        let reason = note.reason.unwrap_or(match end.outcome {
            Outcome::Complete => Reason::Ok,
            // Nobody reads the body of an answer to HEAD.
            Outcome::Aborted if self.method == Method::HEAD => Reason::Ok,
            Outcome::Aborted => Reason::ClientGone,
            Outcome::Failed(_) => Reason::UpstreamReset,
        });
        self.proxy.shard.request(app, &self.method, self.status.as_u16(), duration);
        self.proxy.shard.request_end(app, reason);
        self.proxy.access.borrow_mut().write(&Line {
            time: self.began,
            id: note.id(),
            client: note.client,
            method: &self.method,
            host: &note.host,
            path: CleanPath::cleaned(&note.path),
            version: self.version,
            status: self.status.as_u16(),
            reason: reason.as_str(),
            bytes_out: end.bytes,
            duration,
            upstream_ms: note.upstream_took,
            app: note.app.as_ref().map(|(_, name)| &**name),
            upstream: note.upstream,
            bridge: note.bridge.map(|handle| handle.0),
            activity: note.activity,
            token: note.token.as_str(),
            events: &note.events.join(","),
            user_agent: self.agent.as_ref().map(HeaderValue::as_bytes),
        });
    }
}

/// `/AppA` of an app that does not see the prefix: browsers must resolve its relative links against `/AppA/`.
fn to_mount(route: &Route, inbound: &Inbound<'_>, clean: &url::Clean<'_>) -> Option<Response<Body>> {
    let mount = &route.rules.mount;
    if !mount.strips() || mount.prefix().len() == 1 || inbound.normal.len() + 1 != mount.prefix().len() {
        return None;
    }
    let query = clean.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    Some(reply::redirect(
        StatusCode::PERMANENT_REDIRECT,
        &inbound.absolute(&format!("{}{query}", mount.prefix())),
    ))
}

/// The page of the proxy's own that is asked for, without the prefix.
fn own_page<'a>(map: &RouteMap, inbound: &'a Inbound<'_>) -> Option<&'a str> {
    let rest = inbound.normal.strip_prefix(&*map.bridge.prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

/// The request's id goes to the app as well; one that a trusted proxy gave is kept.
fn take_request_id(inbound: &Inbound<'_>, note: &mut Note) {
    let given = inbound.fields.request_id.first().filter(|_| inbound.client.trusted);
    if let Some(given) = given.filter(|id| id.to_str().is_ok() && (1..=128).contains(&id.len())) {
        note.id = given.clone();
    }
}

fn content_length(fields: &Fields<'_>) -> Option<u64> {
    fields.content_length.first()?.to_str().ok()?.parse().ok()
}
