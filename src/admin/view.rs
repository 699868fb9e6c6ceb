//! Sessions and apps as operators see them: the shapes of the API's answers.
//!
//! Invariant: only what stands in these shapes leaves; none of them has a place for a token, a cookie, a URL or a text of
//! a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::client;
use super::scan::States;
use crate::balance::circuit::Stand;
use crate::balance::server::Server;
use crate::bridge::app_session::AppSession;
use crate::bridge::beat::Verdict;
use crate::bridge::rules::{Clocks, Engine};
use crate::bridge::session::{Phase, Session};
use crate::bridge::timeline::{Event, Timeline};
use crate::findings::{Findings, Found};
use crate::registry::Ended;
use crate::route::{Route, RouteMap};
use crate::telemetry::labels::AppState;
use crate::time::Timestamp;

/// A point in time, as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At(pub(super) Timestamp);

impl At {
    /// `None` for "never" and for what is too far away to have a date.
    pub(super) fn known(at: Timestamp) -> Option<Self> {
        (!at.is_zero() && at != Timestamp::FAR).then_some(Self(at))
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = i64::try_from(self.0.millis()).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => f.write_str("never"),
        }
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One bridge session.
#[derive(Debug, Serialize)]
pub(super) struct SessionView<'a> {
    /// 16 hexadecimal digits.
    pub(super) id: String,
    /// `bound`, `pending` or `ended`.
    pub(super) state: &'static str,
    pub(super) created: At,
    pub(super) last_activity: At,
    /// When it ends if nothing more happens.
    pub(super) expires_at: Option<At>,
    pub(super) hard_end: At,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    /// Requests of the person.
    pub(super) hits: u32,
    /// True while a page is provably open.
    pub(super) present: bool,
    /// The browser's family.
    pub(super) user_agent: Option<&'static str>,
    /// The net that it last came from.
    pub(super) address: Option<String>,
    pub(super) apps: BTreeMap<&'a str, AppSessionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeline: Option<Vec<EventView<'a>>>,
}

/// One app's part of a bridge session.
#[derive(Debug, Serialize)]
pub(super) struct AppSessionView {
    /// A state of [`AppState`], or `none` where there is no token or its time is over.
    pub(super) state: &'static str,
    pub(super) hits: u32,
    pub(super) created: At,
    pub(super) last_activity: Option<At>,
    /// The app's last request, of anyone.
    pub(super) last_request: Option<At>,
    pub(super) heartbeats: BeatView,
    /// When the app forgets it if nobody asks for anything.
    pub(super) expires_at: Option<At>,
}

/// The heartbeats of one app session.
#[derive(Debug, Serialize)]
pub(super) struct BeatView {
    pub(super) count: u32,
    pub(super) last_at: Option<At>,
    pub(super) verdict: Option<&'static str>,
    /// True where a dead token waits for the person's next request.
    pub(super) stopped: bool,
}

/// One event of a session's story.
#[derive(Debug, Serialize)]
pub(super) struct EventView<'a> {
    pub(super) at: At,
    pub(super) app: Option<&'a str>,
    pub(super) event: &'static str,
    pub(super) detail: Option<&'static str>,
}

/// One app.
#[derive(Debug, Serialize)]
pub(super) struct AppView<'a> {
    pub(super) name: &'a str,
    /// Where it stands in the public URL space.
    pub(super) mount: &'a str,
    /// Empty: any.
    pub(super) hosts: Vec<&'a str>,
    /// Its servers.
    pub(super) upstreams: Vec<UpstreamView>,
    pub(super) engine: Option<&'static str>,
    /// Seconds after which it forgets a session that nobody uses.
    pub(super) timeout: Option<f64>,
    /// The page that heartbeats ask for, without its query.
    pub(super) heartbeat: Option<&'a str>,
    /// How many sessions of it are in each state; every state has a number.
    pub(super) sessions: BTreeMap<&'static str, u64>,
    /// What was found out about it.
    pub(super) findings: Vec<FindingView<'a>>,
}

/// One server of an app.
#[derive(Debug, Serialize)]
pub(super) struct UpstreamView {
    /// As the config has it.
    pub(super) url: String,
    /// `up`; `down`: its health checks fail; `open`: it did not answer, and is left alone; `half_open`: one request tries it.
    pub(super) state: &'static str,
    /// Since when it gets requests, or gets none.
    pub(super) since: At,
    /// Its circuit breaker: `closed`, `open` or `half_open`.
    pub(super) circuit: &'static str,
    /// What its health checks say; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) healthy: Option<bool>,
    /// Requests that have no whole answer yet.
    pub(super) in_flight: u64,
    /// What went wrong last, if anything ever did.
    pub(super) last_error: Option<FaultView>,
}

/// Something that went wrong at a server.
#[derive(Debug, Serialize)]
pub(super) struct FaultView {
    pub(super) at: At,
    /// A reason word of a request, or `status_503`.
    pub(super) reason: String,
}

/// Something that was found out about an app.
#[derive(Debug, Serialize)]
pub(super) struct FindingView<'a> {
    /// The app's name; left out where it stands below the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<&'a str>,
    pub(super) kind: &'static str,
    /// `good`, `note` or `warning`.
    pub(super) level: &'static str,
    /// When it was last found to be so.
    pub(super) at: At,
    /// The key below `apps.NAME` that it is about.
    pub(super) key: &'static str,
    /// File and line of it, or of what stands nearest.
    pub(super) place: Option<String>,
    /// One sentence.
    pub(super) says: &'a str,
}

/// A live session. `None` where it has ended meanwhile.
pub(super) fn live<'a>(
    session: &Session,
    routes: &'a RouteMap,
    clocks: &Clocks,
    now: Timestamp,
) -> Option<SessionView<'a>> {
    let state = match session.phase() {
        Phase::Pending => "pending",
        Phase::Bound => "bound",
        Phase::Ended(_) => return None,
    };
    let apps = session.apps().filter_map(|app| {
        let route = routes.route(app.app)?;
        Some((&*route.rules.name, app_session(app, route, now)))
    });
    let agent = session.traits.as_ref().and_then(|traits| traits.user_agent.as_ref());
    Some(SessionView {
        id: session.handle.to_string(),
        state,
        created: At(session.created),
        last_activity: At(session.last_activity),
        expires_at: Some(At(session.ends_at(clocks))),
        hard_end: At(session.hard_end(clocks)),
        ended_at: None,
        reason: None,
        hits: session.hits,
        present: session.is_present(clocks, now),
        user_agent: agent.map(|agent| client::family(agent.as_bytes())),
        address: session.address.map(client::net),
        apps: apps.collect(),
        timeline: None,
    })
}

/// A session that has ended.
pub(super) fn ended<'a>(ended: &Ended, clocks: &Clocks) -> SessionView<'a> {
    SessionView {
        id: ended.handle.to_string(),
        state: "ended",
        created: At(ended.created),
        last_activity: At(ended.last_activity),
        expires_at: None,
        hard_end: At(ended.created.plus(clocks.max_lifetime)),
        ended_at: Some(At(ended.at)),
        reason: Some(ended.end.as_str()),
        hits: ended.hits,
        present: false,
        user_agent: None,
        address: None,
        apps: BTreeMap::new(),
        timeline: None,
    }
}

/// The events of a session, oldest first.
pub(super) fn timeline<'a>(timeline: &Timeline, routes: &'a RouteMap) -> Vec<EventView<'a>> {
    let event = |event: &Event| EventView {
        at: At(event.at),
        app: event.app.and_then(|app| routes.route(app)).map(|route| &*route.rules.name),
        event: event.what.as_str(),
        detail: event.what.detail(),
    };
    timeline.iter().map(event).collect()
}

/// What was found out about the app called `app`; `findings` know its place in the config.
pub(super) fn finding<'a>(found: &'a Found, app: Option<&'a str>, findings: &'a Findings) -> FindingView<'a> {
    FindingView {
        app,
        kind: found.kind.as_str(),
        level: found.level.as_str(),
        at: At(found.at),
        key: found.kind.key(),
        place: findings.place(found.app, found.kind),
        says: &found.says,
    }
}

/// An app and its `servers`, with the states that its sessions are in, and what was found out about it among `found`.
pub(super) fn app<'a>(
    (route, servers): (&'a Route, &[Arc<Server>]),
    states: &States,
    (found, findings): (&'a [Found], &'a Findings),
) -> AppView<'a> {
    let session = route.rules.session.as_ref();
    let all =
        [AppState::Live, AppState::Reborn, AppState::Replaced, AppState::SignedOut, AppState::Unreachable];
    let own = found.iter().filter(|found| found.app == route.rules.app);
    let count = |state: AppState| (state.as_str(), states.get(&state).copied().unwrap_or(0));
    AppView {
        name: &route.rules.name,
        mount: route.rules.mount.prefix(),
        hosts: route.hosts.iter().map(|host| &**host).collect(),
        upstreams: servers.iter().map(|server| upstream(server, route)).collect(),
        engine: session.map(|session| engine(session.engine)),
        timeout: session.map(|session| session.timeout.as_secs_f64()),
        heartbeat: route.rules.beat.as_ref().and_then(|beat| beat.path.split('?').next()),
        sessions: all.map(count).into(),
        findings: own.map(|found| finding(found, None, findings)).collect(),
    }
}

fn upstream(server: &Server, route: &Route) -> UpstreamView {
    let standing = server.standing();
    let state = match (standing.healthy, standing.circuit) {
        (false, _) => "down",
        (true, Stand::Closed) => "up",
        (true, circuit) => circuit.as_str(),
    };
    let fault = standing.last_fault;
    UpstreamView {
        url: server.upstream.origin.to_string(),
        state,
        since: At(standing.since),
        circuit: standing.circuit.as_str(),
        healthy: route.health.is_some().then_some(standing.healthy),
        in_flight: standing.in_flight,
        last_error: fault.map(|(at, fault)| FaultView { at: At(at), reason: fault.to_string() }),
    }
}

/// The state of an app session at `now`, as far as anybody knows. `None` where there is no token, or its app has
/// forgotten it for lack of use.
pub(super) fn state(app: &AppSession, route: &Route, now: Timestamp) -> Option<AppState> {
    match app.beat.verdict {
        Some(Verdict::Reborn) => return Some(AppState::Reborn),
        Some(Verdict::Replaced) => return Some(AppState::Replaced),
        Some(Verdict::SignedOut) => return Some(AppState::SignedOut),
        Some(Verdict::Alive | Verdict::Unreachable) | None => {}
    }
    if ends(app, route).is_none_or(|ends| ends <= now) {
        return None;
    }
    Some(match app.beat.verdict {
        Some(Verdict::Unreachable) => AppState::Unreachable,
        _ => AppState::Live,
    })
}

/// An engine by its name in the config.
const fn engine(engine: Engine) -> &'static str {
    match engine {
        Engine::ColdFusion => "coldfusion",
        Engine::Lucee => "lucee",
        Engine::OpenBd => "openbd",
        Engine::BoxLang => "boxlang",
        Engine::Servlet => "servlet",
        Engine::Php => "php",
        Engine::AspNet => "aspnet",
        Engine::AspNetCore => "aspnetcore",
        Engine::Django => "django",
        Engine::Express => "express",
        Engine::Rails => "rails",
        Engine::Custom => "custom",
    }
}

/// When the app forgets a session that nobody uses any more; `None` where there is no token.
fn ends(app: &AppSession, route: &Route) -> Option<Timestamp> {
    let timeout = route.rules.session.as_ref()?.timeout;
    app.has_token().then(|| app.last_request.max(app.renewed).plus(timeout))
}

fn app_session(app: &AppSession, route: &Route, now: Timestamp) -> AppSessionView {
    AppSessionView {
        state: state(app, route, now).map_or("none", AppState::as_str),
        hits: app.hits,
        created: At(app.created),
        last_activity: At::known(app.activity),
        last_request: At::known(app.last_request),
        heartbeats: BeatView {
            count: app.beat.count,
            last_at: At::known(app.beat.at),
            verdict: app.beat.verdict.map(Verdict::as_str),
            stopped: app.beat.stopped,
        },
        expires_at: ends(app, route).and_then(At::known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_never_is_no_time() {
        assert_eq!(At(Timestamp::from_millis(1_767_225_600_007)).to_string(), "2026-01-01T00:00:00.007Z");
        assert_eq!((At::known(Timestamp::ZERO), At::known(Timestamp::FAR)), (None, None));
        assert_eq!(At(Timestamp::FAR).to_string(), "never");
    }
}
