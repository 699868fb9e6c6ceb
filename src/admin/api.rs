//! The paths and what is answered at each.
//!
//! Invariant: every look at one session and every end of one leaves a line in the log (target `audit`) that says who and
//! which; who is an address, which is a handle, so neither can deceive whoever reads it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router, middleware};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::gate::{self, Gate};
use super::kill::Desk;
use super::view::{self, At, SessionView};
use super::{Parts, loads, page, scan};
use crate::bridge::id::Handle;
use crate::bridge::rules::AppIx;
use crate::bridge::session::{End, Phase, Session};
use crate::net::stream::Peer;
use crate::registry::{Ended, Slot};
use crate::setting::Setting;
use crate::sign_out::{Proof, Told};
use crate::store::{Key, Outage};
use crate::telemetry::health::Readiness;
use crate::time::Timestamp;

/// How long an ended session is shown.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How many of those that ended last are looked at first.
const FIRST_LOOK: usize = 1024;

/// What all requests share.
#[derive(Clone, Debug)]
pub(super) struct Office {
    pub(super) parts: Parts,
    desk: Desk,
}

/// What every handler needs: one setting from the first line of its answer to the last.
#[derive(Clone, Debug)]
pub(super) struct Desktop {
    pub(super) parts: Parts,
    pub(super) setting: Arc<Setting>,
    desk: Desk,
}

impl FromRef<Office> for Desktop {
    fn from_ref(office: &Office) -> Self {
        let Office { parts, desk } = office.clone();
        Self { setting: parts.present.now(), parts, desk }
    }
}

impl Office {
    /// Who may ask now.
    pub(super) fn gate(&self) -> Gate {
        Gate::new(self.parts.present.now().token.as_ref())
    }
}

/// All paths.
pub(super) fn router(parts: Parts, desk: Desk) -> Router {
    let office = Office { parts, desk };
    Router::new()
        .route("/", get(overview))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/apps", get(apps))
        .route("/api/v1/config", get(loads::config))
        .route("/api/v1/reload", post(loads::reload))
        .route("/api/v1/findings", get(findings))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/sessions/{id}", get(session).delete(end))
        .fallback(|| async { ApiError::NoPath })
        .method_not_allowed_fallback(|| async { ApiError::Method })
        .layer(middleware::from_fn_with_state(office.clone(), gate::guard))
        .with_state(office)
}

impl Desktop {
    pub(super) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// A session in the table as it is shown now. `None` where it has ended.
    pub(super) fn view(&self, slot: &Slot) -> Option<SessionView<'_>> {
        let (routes, clocks) = (&self.setting, &self.parts.registry.clocks());
        slot.with(|session| view::live(session, routes, clocks, self.now()))
    }

    /// The live session with this handle, as it is by now where several proxies share it.
    async fn find(&self, handle: Handle) -> Option<Arc<Slot>> {
        let registry = &self.parts.registry;
        if !registry.is_shared() {
            return registry.find(handle);
        }
        let by = Key::Name(handle.0.to_be_bytes());
        registry.refresh(by, self.now()).await.unwrap_or_else(|Outage| registry.known(by))
    }

    fn view_ended(&self, ended: &Ended) -> SessionView<'_> {
        view::ended(ended, &self.parts.registry.clocks())
    }
}

async fn overview(State(desktop): State<Desktop>) -> Response {
    page::overview(&desktop)
}

async fn healthz(State(desktop): State<Desktop>) -> Response {
    if desktop.parts.health.live() {
        text(StatusCode::OK, "ok\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "failed\n")
    }
}

async fn readyz(State(desktop): State<Desktop>) -> Response {
    let readiness = desktop.parts.health.readiness();
    let ready = readiness == Readiness::Ready && desktop.parts.health.live();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, &format!("{}\n", readiness.as_str()))
}

async fn metrics(State(desktop): State<Desktop>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], desktop.parts.metrics.encode()).into_response()
}

async fn apps(State(desktop): State<Desktop>) -> Json<Value> {
    let (routes, now) = (&desktop.setting, desktop.now());
    let counts = scan::census(&desktop.parts.registry, routes, now);
    let found = desktop.parts.findings.all();
    let apps = routes.routes().iter().zip(&counts).map(|(route, states)| {
        let servers = desktop.setting.balancer.servers(route);
        view::app((route, servers), states, (&found, &desktop.parts.findings))
    });
    Json(json!({"now": At(now), "apps": apps.collect::<Vec<_>>()}))
}

async fn findings(State(desktop): State<Desktop>) -> Json<Value> {
    let found = desktop.parts.findings.all();
    let name = |app: AppIx| desktop.setting.route(app).map(|route| &*route.rules.name);
    let list: Vec<_> =
        found.iter().map(|found| view::finding(found, name(found.app), &desktop.parts.findings)).collect();
    Json(json!({"now": At(desktop.now()), "findings": list}))
}

/// What may stand in the query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
    app: Option<String>,
    state: Option<Which>,
}

/// Sessions of one state. Without it: those that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    Bound,
    Pending,
    Ended,
}

/// The list, checked.
#[derive(Debug)]
struct Wanted {
    limit: usize,
    after: Option<Handle>,
    app: Option<AppIx>,
    state: Option<Which>,
}

async fn sessions(
    State(desktop): State<Desktop>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(listing) = listing.map_err(|_| ApiError::Query)?;
    let wanted = Wanted::of(&desktop, listing)?;
    let (list, next) = match wanted.state {
        Some(Which::Ended) => list_ended(&desktop, &wanted),
        _ => list_live(&desktop, &wanted),
    };
    let next = next.map(|handle| URL_SAFE_NO_PAD.encode(handle.0.to_be_bytes()));
    Ok(Json(json!({"now": At(desktop.now()), "sessions": list, "next_cursor": next})))
}

impl Wanted {
    fn of(desktop: &Desktop, listing: Listing) -> Result<Self, ApiError> {
        let limit = listing.limit.unwrap_or(100);
        if !(1..=1000).contains(&limit) {
            return Err(ApiError::Query);
        }
        let app = match listing.app {
            Some(name) => Some(desktop.setting.named(&name).ok_or(ApiError::NoApp)?.rules.app),
            None => None,
        };
        let after = match listing.cursor {
            Some(cursor) => Some(place(&cursor).ok_or(ApiError::Query)?),
            None => None,
        };
        Ok(Self { limit, after, app, state: listing.state })
    }

    fn wants(&self, session: &Session) -> bool {
        let state = match session.phase() {
            Phase::Pending => Which::Pending,
            Phase::Bound => Which::Bound,
            Phase::Ended(_) => return false,
        };
        self.state.is_none_or(|wanted| wanted == state)
            && self.app.is_none_or(|app| session.app(app).is_some())
    }

    fn wants_ended(&self, ended: &Ended) -> bool {
        self.app.is_none_or(|app| ended.timeline.iter().any(|event| event.app == Some(app)))
    }
}

/// The place behind which a cursor goes on.
fn place(cursor: &str) -> Option<Handle> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    Some(Handle(u64::from_be_bytes(bytes.try_into().ok()?)))
}

fn list_live<'a>(desktop: &'a Desktop, wanted: &Wanted) -> (Vec<SessionView<'a>>, Option<Handle>) {
    let registry = &desktop.parts.registry;
    let (slots, more) = scan::page(registry, wanted.after, wanted.limit, |session| wanted.wants(session));
    let next = slots.last().filter(|_| more).map(|slot| slot.handle);
    (slots.iter().filter_map(|slot| desktop.view(slot)).collect(), next)
}

/// Latest first. The place is kept by the last one shown: what ends meanwhile stands before it and moves nothing.
fn list_ended<'a>(desktop: &'a Desktop, wanted: &Wanted) -> (Vec<SessionView<'a>>, Option<Handle>) {
    let now = desktop.now();
    let mut look = FIRST_LOOK;
    loop {
        let latest = desktop.parts.registry.latest_ended(look);
        let all = latest.len() < look;
        let start = match wanted.after {
            Some(after) => latest.iter().position(|ended| ended.handle == after).map(|at| at + 1),
            None => Some(0),
        };
        let rest = start.and_then(|start| latest.get(start..)).unwrap_or_default();
        let mut found = rest.iter().filter(|ended| now.since(ended.at) <= KEPT && wanted.wants_ended(ended));
        let list: Vec<&Ended> = found.by_ref().take(wanted.limit).collect();
        let more = found.next().is_some();
        if all || more {
            let next = list.last().filter(|_| more).map(|ended| ended.handle);
            return (list.into_iter().map(|ended| desktop.view_ended(ended)).collect(), next);
        }
        look = look.saturating_mul(8);
    }
}

async fn session(
    State(desktop): State<Desktop>,
    Extension(operator): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let handle = handle(&id).ok_or(ApiError::NoSession)?;
    tracing::info!(target: "audit", %operator, session = %handle, "session read");
    let routes = &desktop.setting;
    if let Some(slot) = desktop.find(handle).await
        && let Some(mut view) = desktop.view(&slot)
    {
        view.timeline = Some(slot.with(|session| view::timeline(&session.timeline, routes)));
        return Ok(Json(view).into_response());
    }
    let ended = ended(&desktop, handle).ok_or(ApiError::NoSession)?;
    let mut view = desktop.view_ended(&ended);
    view.timeline = Some(view::timeline(&ended.timeline, routes));
    Ok(Json(view).into_response())
}

async fn end(
    State(desktop): State<Desktop>,
    Extension(operator): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let handle = handle(&id).ok_or(ApiError::NoSession)?;
    let registry = &desktop.parts.registry;
    let slot = desktop.find(handle).await;
    let farewell = slot.and_then(|slot| registry.end(&slot, End::Operator, desktop.now()));
    let found = farewell.is_some();
    tracing::info!(target: "audit", %operator, session = %handle, found, "session ended by an operator");
    let Some(farewell) = farewell else {
        return Err(ended(&desktop, handle).map_or(ApiError::NoSession, |_| ApiError::Ended));
    };
    let told = desktop.desk.sign_out(farewell).await.ok_or(ApiError::Stopping)?;
    let apps: Map<String, Value> = told.iter().filter_map(|told| result(&desktop, told)).collect();
    Ok(Json(json!({"id": handle.to_string(), "state": "ended", "apps": apps})))
}

/// How one app took its sign-out: its name and a word.
fn result(desktop: &Desktop, told: &Told) -> Option<(String, Value)> {
    let word = match (told.asked, told.confirmed) {
        (false, _) => "not_asked",
        (true, true) => "confirmed",
        (true, false) => "unconfirmed",
    };
    Some((
        desktop.setting.route(told.app)?.rules.name.to_string(),
        json!({"result": word, "proof": told.proof.map(Proof::as_str)}),
    ))
}

/// The story of a session that ended within the last day.
fn ended(desktop: &Desktop, handle: Handle) -> Option<Ended> {
    let ended = desktop.parts.registry.ended(handle)?;
    (desktop.now().since(ended.at) <= KEPT).then_some(ended)
}

/// A session's name as we write it, and no other spelling.
fn handle(id: &str) -> Option<Handle> {
    id.parse::<Handle>().ok().filter(|handle| handle.to_string() == id)
}

fn text(status: StatusCode, body: &str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], body.to_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        assert_eq!(handle("00000000000000ff"), Some(Handle(255)));
        for other in
            ["ff", "00000000000000FF", "+0000000000000ff", "", "00000000000000fg", "000000000000000ff"]
        {
            assert_eq!(handle(other), None, "{other}");
        }
    }

    #[test]
    fn a_cursor_is_ours_or_none() {
        assert_eq!(place("AAAAAAAAAP8"), Some(Handle(255)));
        for other in ["", "AAAA", "!!!!", "AAAAAAAAAP8="] {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
