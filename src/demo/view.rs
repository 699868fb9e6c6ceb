//! What the panel shows: each application's own view of its sessions and, with a bridge, the bridge's.
//!
//! Invariant: labels, times, words and names of cookies only; no token, no id.

use serde::Serialize;

use super::looks::{TITLE_A, TITLE_B};
use super::sim::{Seen, SessionView, server::SimHandle};
use crate::app::core::Core;
use crate::bridge::app_session::AppSession;
use crate::bridge::beat::{Next, Pace};
use crate::bridge::session::Session;
use crate::bridge::timeline::Event;
use crate::registry::Slot;
use crate::route::RouteMap;
use crate::time::Timestamp;
use std::sync::Arc;

/// How far back the dots go, in milliseconds.
pub(super) const WINDOW_MS: u64 = 60_000;

/// All that one side of the demo, with or without the bridge, has to show. Times are unix milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct State {
    pub(super) now: u64,
    pub(super) bridge: Option<Bridge>,
    pub(super) apps: Vec<App>,
    /// Names of the cookies that came with the request.
    pub(super) cookies: Vec<String>,
}

/// The bridge session that was active last.
#[derive(Debug, Serialize)]
pub(super) struct Bridge {
    label: String,
    ends_at: u64,
    clocks: Vec<Clock>,
    events: Vec<Told>,
}

/// One of the three clocks.
#[derive(Debug, Serialize)]
struct Clock {
    name: &'static str,
    /// When it strikes; absent where it does not run.
    at: Option<u64>,
    limit: u64,
}

/// An event of the bridge session.
#[derive(Debug, Serialize)]
struct Told {
    at: u64,
    app: Option<String>,
    what: &'static str,
    detail: Option<&'static str>,
}

/// One application.
#[derive(Debug, Serialize)]
pub(super) struct App {
    name: String,
    title: &'static str,
    timeout: u64,
    /// What it remembers of the person: the session that a visit touched last, if it is still there.
    session: Option<Remembered>,
    /// The label of the session that a visit touched last, whether it is there or not.
    last_label: Option<String>,
    /// Without a bridge: whether the browser's cookies still lead to it.
    reachable: Option<bool>,
    dots: Vec<Dot>,
    bridge: Option<Kept>,
}

/// Who asks, by the cookies of the request.
#[derive(Default)]
pub(super) struct Asker {
    names: Vec<String>,
    /// The pair that both applications go by.
    pair: Option<String>,
}

/// A session as its application sees it.
#[derive(Debug, Serialize)]
struct Remembered {
    label: String,
    started: u64,
    expires: u64,
}

/// A request that the application got.
#[derive(Debug, PartialEq, Serialize)]
struct Dot {
    at: u64,
    kind: Kind,
    fresh: bool,
}

/// What a request was.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Visit,
    Beat,
    /// A person's or the bridge's own.
    SignOut,
}

/// What the bridge keeps of an app session.
#[derive(Debug, Serialize)]
struct Kept {
    verdict: Option<&'static str>,
    beat_at: Option<u64>,
    beats: u32,
    next: Option<u64>,
    vault: Vec<String>,
}

impl App {
    /// For the status line: who is remembered for how long, and what the last heartbeat proved.
    pub(super) fn in_a_word(&self, now: u64) -> Option<String> {
        let session = self.session.as_ref()?;
        let age = now.saturating_sub(session.started) / 1000;
        let kept = self.bridge.as_ref().filter(|kept| kept.beats > 0);
        let beats = kept.map_or_else(String::new, |kept| {
            let plural = if kept.beats == 1 { "" } else { "s" };
            format!(", {} heartbeat{plural}, {}", kept.beats, kept.verdict.unwrap_or("not judged"))
        });
        Some(format!("{}: session {}, {age} s old{beats}", self.name, session.label))
    }
}

/// The state of `apps` at their time, behind the bridge of `core` or behind none.
pub(super) fn state(apps: &[SimHandle; 2], core: Option<&Core>, asker: Asker) -> State {
    let [a, b] = apps;
    let now = a.now();
    let slot = core.and_then(active);
    let mut shown = vec![app(a, TITLE_A, now), app(b, TITLE_B, now)];
    if core.is_none() {
        for (shown, handle) in shown.iter_mut().zip(apps) {
            let pair = asker.pair.as_deref();
            shown.reachable = Some(pair.is_some_and(|pair| handle.with(|sim| sim.knows(pair))));
        }
    }
    let mut bridge = None;
    if let (Some(core), Some(slot)) = (core, slot) {
        let at = Timestamp::from_millis(now);
        slot.with(|session| {
            bridge = Some(told(core, session, at));
            for app in &mut shown {
                app.bridge = kept(&core.setting(), session, &app.name, at);
            }
        });
    }
    State { now, bridge, apps: shown, cookies: asker.names }
}

/// The live session whose person was active last.
fn active(core: &Core) -> Option<Arc<Slot>> {
    let mut latest = None;
    core.registry().each(|session, ticket| {
        if session.apps().any(AppSession::has_token) {
            latest = latest.max(Some((session.last_activity, ticket)));
        }
        true
    });
    core.registry().slot(latest?.1)
}

fn told(core: &Core, session: &Session, now: Timestamp) -> Bridge {
    let clocks = &core.registry().clocks();
    let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let present = session.is_present(clocks, now);
    let presence = clocks.presence_limit.unwrap_or_default();
    let label: String = session.handle.to_string().chars().take(8).collect();
    Bridge {
        label,
        ends_at: session.ends_at(clocks).millis(),
        clocks: vec![
            Clock {
                name: "idle",
                at: Some(session.last_activity.plus(clocks.idle_timeout).millis()),
                limit: millis(clocks.idle_timeout),
            },
            Clock {
                name: "presence",
                at: present.then(|| session.last_activity.plus(presence).millis()),
                limit: millis(presence),
            },
            Clock {
                name: "lifetime",
                at: Some(session.hard_end(clocks).millis()),
                limit: millis(clocks.max_lifetime),
            },
        ],
        events: session.timeline.iter().map(|event| event_of(&core.setting(), event)).collect(),
    }
}

fn event_of(routes: &RouteMap, event: &Event) -> Told {
    let app = event.app.and_then(|app| routes.route(app)).map(|route| display(&route.rules.name));
    Told { at: event.at.millis(), app, what: event.what.as_str(), detail: event.what.detail() }
}

/// `appA` of the config is AppA on the pages.
fn display(name: &str) -> String {
    name.replacen("app", "App", 1)
}

fn kept(routes: &RouteMap, session: &Session, name: &str, now: Timestamp) -> Option<Kept> {
    let route = routes.routes().iter().find(|route| display(&route.rules.name) == name)?;
    let app = session.app(route.rules.app).filter(|app| app.has_token())?;
    let (rules, own) = (route.rules.beat.as_ref()?, route.rules.session.as_ref()?);
    let pace = Pace { rules, timeout: own.timeout, seed: session.handle.0 };
    let next = match pace.next(app, now) {
        Next::Now => Some(now.millis()),
        Next::Later(at) => Some(at.millis()),
        Next::Stop => None,
    };
    let mut vault: Vec<String> =
        app.vault().iter().map(|cookie| String::from_utf8_lossy(cookie.name).into_owned()).collect();
    vault.sort();
    Some(Kept {
        verdict: app.beat.verdict.map(crate::bridge::beat::Verdict::as_str),
        beat_at: (!app.beat.at.is_zero()).then(|| app.beat.at.millis()),
        beats: app.beat.count,
        next,
        vault,
    })
}

fn app(handle: &SimHandle, title: &'static str, now: u64) -> App {
    handle.with(|sim| {
        sim.sweep(now);
        let last = sim.log().iter().rev().find(|seen| !seen.heartbeat && seen.session.is_some());
        let last_label = last.and_then(|seen| seen.session.clone());
        let views = sim.sessions();
        let session = last_label.as_ref().and_then(|label| views.iter().find(|view| view.label == *label));
        App {
            name: sim.options().name.clone(),
            title,
            timeout: sim.options().timeout_ms,
            session: session.map(remembered),
            last_label,
            reachable: None,
            dots: dots(sim.log(), now),
            bridge: None,
        }
    })
}

fn remembered(view: &SessionView) -> Remembered {
    Remembered { label: view.label.clone(), started: view.started, expires: view.expires }
}

/// The requests of the last minute that took a session.
fn dots<'a>(log: impl IntoIterator<Item = &'a Seen>, now: u64) -> Vec<Dot> {
    let recent = log.into_iter().filter(|seen| seen.session.is_some() && seen.at + WINDOW_MS > now);
    recent.map(|seen| Dot { at: seen.at, kind: kind(seen), fresh: seen.fresh }).collect()
}

fn kind(seen: &Seen) -> Kind {
    match seen.page.as_deref() {
        _ if seen.heartbeat => Kind::Beat,
        Some("logout") => Kind::SignOut,
        _ => Kind::Visit,
    }
}

impl Asker {
    /// From the lines of `Cookie` headers.
    pub(super) fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut names, mut pair) = (Vec::new(), [None, None]);
        for (name, value) in
            lines.into_iter().flat_map(|line| line.split(';')).filter_map(|c| c.split_once('='))
        {
            let name = name.trim();
            for (part, own) in pair.iter_mut().zip(["CFID", "CFTOKEN"]) {
                if name == own {
                    part.get_or_insert(value);
                }
            }
            if !name.is_empty() && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        let [id, token] = pair;
        Self { names, pair: id.zip(token).map(|(id, token)| format!("{id}_{token}")) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use http::Request;

    use super::super::sim::{Profile, SimOptions};
    use super::*;

    fn ask(handle: &SimHandle, path: &str, heartbeat: bool) {
        let mut request = Request::builder().uri(path);
        if heartbeat {
            request = request.header("x-session-heartbeat", "1");
        }
        let request = request.body(Bytes::new()).unwrap();
        handle.with(|sim| sim.handle(handle.now(), &request, IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn an_application_shows_the_last_session_and_that_it_is_gone() {
        let time = Arc::new(AtomicU64::new(1_000_000));
        let clock = Arc::clone(&time);
        let options = |name| SimOptions::new(Profile::AcfStrict, name).timeout_ms(10_000);
        let apps = ["AppA", "AppB"].map(|name| {
            let clock = Arc::clone(&clock);
            SimHandle::new(options(name), Arc::new(move || clock.load(Ordering::Relaxed)))
        });
        ask(&apps[0], "/AppA/index.cfm", false);
        let shown = state(&apps, None, Asker::default());
        assert_eq!(shown.apps[0].session.as_ref().unwrap().expires, 1_010_000);
        assert_eq!(shown.apps[0].dots, [Dot { at: 1_000_000, kind: Kind::Visit, fresh: true }]);
        assert!(shown.apps[1].session.is_none() && shown.apps[1].last_label.is_none());

        time.store(1_010_000, Ordering::Relaxed);
        // A heartbeat without a cookie begins a session of its own, which is nobody's.
        ask(&apps[0], "/AppA/ping.cfm", true);
        let shown = state(&apps, None, Asker::default());
        assert!(shown.apps[0].session.is_none());
        assert_eq!(shown.apps[0].last_label.as_deref(), Some("s1"));
        assert_eq!(shown.apps[0].dots.len(), 2);

        time.store(1_070_000, Ordering::Relaxed);
        assert!(state(&apps, None, Asker::default()).apps[0].dots.is_empty());
    }

    #[test]
    fn who_asks_is_known_by_names_and_by_the_first_pair() {
        let asker = Asker::read(["CFID=1; CFTOKEN=2", "x=3;CFID=4; ; =5"]);
        assert_eq!(asker.names, ["CFID", "CFTOKEN", "x"]);
        assert_eq!(asker.pair.as_deref(), Some("1_2"));
        assert!(Asker::read(["CFID=1"]).pair.is_none());
        assert!(Asker::read([]).names.is_empty());
    }

    #[test]
    fn without_a_bridge_a_session_whose_cookies_are_overwritten_is_out_of_reach() {
        let options = |name| SimOptions::new(Profile::AcfStrict, name);
        let apps = ["AppA", "AppB"].map(|name| SimHandle::new(options(name), Arc::new(|| 1_000)));
        let request = Request::builder().uri("/AppA/index.cfm").body(Bytes::new()).unwrap();
        let answer = apps[0].with(|sim| sim.handle(1_000, &request, IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let cookies = answer.response.headers().get_all("set-cookie");
        let lines: Vec<&str> =
            cookies.iter().map(|line| line.to_str().unwrap().split(';').next().unwrap()).collect();
        let reachable = |lines: &[&str]| {
            let shown = state(&apps, None, Asker::read(lines.iter().copied()));
            shown.apps.iter().map(|app| app.reachable).collect::<Vec<_>>()
        };
        assert_eq!(reachable(&lines), [Some(true), Some(false)]);
        assert_eq!(reachable(&["CFID=900; CFTOKEN=901"]), [Some(false), Some(false)]);
    }
}
