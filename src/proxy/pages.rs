//! The proxy's own pages under its prefix: what a person sees and asks of the bridge.
//!
//! Invariants: looking extends nothing; what changes something is asked for by the site's own pages only.

use std::rc::Rc;

use http::header::{CONTENT_TYPE, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::Proxy;
use super::error::Error;
use super::inbound::Inbound;
use super::reply::{self, Form};
use super::visit::Visit;
use crate::bridge::app_session::AppSession;
use crate::bridge::beat::Verdict;
use crate::bridge::session::Session;
use crate::net::body::Body;
use crate::registry::Slot;
use crate::route::RouteMap;
use crate::setting::Setting;
use crate::sign_out::Told;
use crate::time::Timestamp;
use crate::wire::fetch::Site;
use crate::wire::html::escape;
use crate::wire::query;

/// One transparent pixel, 43 bytes.
const PIXEL: &[u8; 43] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\
\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

impl Proxy {
    /// The page `name` below the prefix.
    pub(super) async fn page(
        self: &Rc<Self>,
        map: &Rc<Setting>,
        inbound: &Inbound<'_>,
        name: &str,
        visit: &mut Visit,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Error> {
        let get = matches!(*inbound.method, Method::GET | Method::HEAD);
        let post = inbound.method == Method::POST;
        match name {
            "status" if get => Ok(self.status(map, visit, Form::wanted(headers))),
            "extend" if post => {
                no_foreign_page(inbound, headers)?;
                Ok(self.extend(map, visit).await)
            }
            "logout" if get => Ok(logout_page(map, inbound, Form::wanted(headers))),
            "logout" if post => {
                only_own_pages(inbound, headers)?;
                Ok(self.log_out(map, inbound, visit).await)
            }
            "beat.gif" if get => Ok(self.beat(visit)),
            "join" if get => self.join_there(map, inbound, visit).await,
            "join/back" if get => self.join_back(map, inbound, visit).await,
            "status" | "extend" | "logout" | "beat.gif" | "join" | "join/back" => Err(Error::Method),
            _ => Err(Error::NoPage),
        }
    }

    /// Seconds left, in all and per app.
    fn status(&self, map: &RouteMap, visit: &Visit, form: Form) -> Response<Body> {
        let now = self.now();
        let status = self.status_of(map, visit.slot.as_deref(), now);
        match form {
            Form::Json => json_reply(&status),
            Form::Html => status_page(&status, now),
        }
    }

    fn status_of(&self, map: &RouteMap, slot: Option<&Slot>, now: Timestamp) -> Value {
        let clocks = &self.shared.registry.clocks();
        let told = slot.and_then(|slot| {
            slot.with(|session| {
                (!session.has_ended()).then(|| {
                    json!({
                        "now": rfc3339(now),
                        "state": "active",
                        "expires_at": rfc3339(session.ends_at(clocks)),
                        "hard_end": rfc3339(session.hard_end(clocks)),
                        "apps": apps(map, session, now),
                    })
                })
            })
        });
        told.unwrap_or_else(|| json!({"now": rfc3339(now), "state": "none", "expires_at": null, "hard_end": null, "apps": {}}))
    }

    /// "I need more time": activity, and a heartbeat to every app at once.
    async fn extend(self: &Rc<Self>, map: &Rc<Setting>, visit: &Visit) -> Response<Body> {
        let Some(slot) = &visit.slot else { return json_reply(&self.status_of(map, None, self.now())) };
        let apps: Vec<_> = slot.with(|session| {
            session.extend(self.now());
            // What a heartbeat found dead gets no other: it would only prove that something lives in its place.
            let alive = session.apps().filter(|app| app.has_token() && !app.beat.stopped);
            alive.map(|app| app.app).collect()
        });
        let asked = apps.iter().filter_map(|app| map.route(*app)).map(|route| async move {
            let verdict = self.pinger.ping(map, route.rules.app, slot).await;
            (route.rules.name.to_string(), verdict)
        });
        let verdicts = futures_util::future::join_all(asked).await;
        let mut status = self.status_of(map, Some(slot), self.now());
        for (name, verdict) in verdicts {
            if let Some(app) = status.get_mut("apps").and_then(|apps| apps.get_mut(&name)) {
                app["result"] = json!(verdict.map_or("none", Verdict::as_str));
            }
        }
        json_reply(&status)
    }

    /// Ends the session and signs out of its apps; the page that follows says what ended.
    async fn log_out(
        self: &Rc<Self>,
        map: &Rc<Setting>,
        inbound: &Inbound<'_>,
        visit: &mut Visit,
    ) -> Response<Body> {
        let told = match visit.slot.take() {
            Some(slot) => self.sign_out_all(map, &slot).await,
            None => Vec::new(),
        };
        visit.stale = true;
        let results: Vec<String> = told
            .iter()
            .filter_map(|told| Some(format!("{}={}", map.route(told.app)?.rules.name, result(told))))
            .collect();
        let query = format!("?done{}{}", if results.is_empty() { "" } else { "&" }, results.join("&"));
        let mut response =
            reply::see_other(&inbound.absolute(&format!("{}/logout{query}", map.bridge.prefix)));
        let here = told.into_iter().filter(|told| told.is_at(&inbound.authority));
        for field in here.flat_map(|told| told.deletions) {
            response.headers_mut().append(SET_COOKIE, field);
        }
        response
    }

    /// A sign that a page is open.
    fn beat(&self, visit: &Visit) -> Response<Body> {
        if let Some(slot) = &visit.slot {
            let now = self.now();
            slot.with(|session| session.seen(&self.shared.registry.clocks(), now));
        }
        let mut response = reply::own(StatusCode::OK, "image/gif", String::new());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
        response.map(|_| Body::full(&PIXEL[..]))
    }
}

/// Refuses what is known to come from a page of another origin. More time is no harm where nobody says who asks.
fn no_foreign_page(inbound: &Inbound<'_>, headers: &HeaderMap) -> Result<(), Error> {
    if inbound.fetch.site.is_none() && !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    only_own_pages(inbound, headers)
}

/// Refuses what another site's page asks for: by Fetch Metadata, else by Origin; who sends neither is refused too.
fn only_own_pages(inbound: &Inbound<'_>, headers: &HeaderMap) -> Result<(), Error> {
    let own = match inbound.fetch.site {
        Some(site) => site == Site::SameOrigin,
        None => {
            headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes() == inbound.absolute("").as_bytes())
        }
    };
    if own { Ok(()) } else { Err(Error::CrossSite) }
}

fn apps(map: &RouteMap, session: &Session, now: Timestamp) -> Value {
    let mut apps = Map::new();
    for route in map.routes() {
        let Some(rules) = &route.rules.session else { continue };
        let app = session.app(route.rules.app).filter(|app| app.has_token() || app.beat.stopped);
        let told = match app {
            None => json!({"state": "none"}),
            Some(app) => {
                let ends = app.last_request.max(app.renewed).plus(rules.timeout);
                json!({"state": state(app, ends, now), "expires_at": rfc3339(ends)})
            }
        };
        apps.insert(route.rules.name.to_string(), told);
    }
    Value::Object(apps)
}

/// The state of an app session as far as anybody knows.
fn state(app: &AppSession, ends: Timestamp, now: Timestamp) -> &'static str {
    match app.beat.verdict {
        None | Some(Verdict::Alive) if ends <= now => "none",
        None | Some(Verdict::Alive) => "live",
        Some(verdict) => verdict.as_str(),
    }
}

fn json_reply(value: &Value) -> Response<Body> {
    reply::own(StatusCode::OK, "application/json", value.to_string())
}

/// RFC 3339 with milliseconds.
#[must_use]
pub(super) fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|at| format!("{at:.3}")).unwrap_or_default()
}

fn status_page(status: &Value, now: Timestamp) -> Response<Body> {
    let text = |value: &Value| value.as_str().map(escape).unwrap_or_default();
    let left = |value: &Value| {
        let at =
            value.as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok()).map(|at| at.as_millisecond());
        let now = i64::try_from(now.millis()).unwrap_or(i64::MAX);
        at.map(|at| format!("{} s", (at - now).max(0) / 1000)).unwrap_or_default()
    };
    let rows: String =
        status["apps"].as_object().into_iter().flatten().fold(String::new(), |rows, (name, app)| {
            let row = format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(name),
                text(&app["state"]),
                left(&app["expires_at"])
            );
            rows + &row
        });
    let body = match status["state"].as_str() {
        Some("active") => format!(
            "<p>Signed in here for another <strong>{}</strong> without activity.</p>\
             <table><tr><th>App</th><th>Session</th><th>Its own clock</th></tr>{rows}</table>",
            left(&status["expires_at"])
        ),
        _ => "<p>This browser has no session here.</p>".to_owned(),
    };
    reply::page(StatusCode::OK, "Your sessions", &body)
}

/// How an app took its sign-out: a word, and behind a dot what was left of its session.
fn result(told: &Told) -> String {
    let word = match (told.asked, told.confirmed) {
        (false, _) => "dropped",
        (true, true) => "confirmed",
        (true, false) => "unconfirmed",
    };
    told.proof.map_or_else(|| word.to_owned(), |proof| format!("{word}.{}", proof.as_str()))
}

/// What a [`result`] says to a person. `None` for what is none: anybody can write the query of a link.
fn words(result: &str, proof: Option<&str>) -> Option<&'static str> {
    Some(match (result, proof) {
        ("confirmed", None | Some("unproven")) => "signed out, the app has confirmed it",
        ("confirmed", Some("dead")) => "signed out; the app has confirmed it, and the old session is gone",
        ("confirmed", Some("still_alive")) => {
            "signed out here; the app has confirmed it too, but the old session still answers there"
        }
        ("unconfirmed", None | Some("unproven")) => "signed out here; the app has not confirmed it in time",
        ("unconfirmed", Some("dead")) => {
            "signed out; the app has not confirmed it, but the old session is gone"
        }
        ("unconfirmed", Some("still_alive")) => {
            "signed out here; the app has not confirmed it, and the old session still answers there"
        }
        ("dropped", None) => "signed out here; the app was not told, it has no sign-out request configured",
        _ => return None,
    })
}

/// The page with the button, or, after it, what ended. Names come from the config, words from a list: the query is only
/// what picks them.
fn logout_page(map: &RouteMap, inbound: &Inbound<'_>, form: Form) -> Response<Body> {
    let given = inbound.query().unwrap_or_default();
    let is_done = query::params(given).any(|param| param.key == "done");
    let told = map.routes().iter().filter_map(|route| {
        let param = query::params(given).find(|param| param.key == &*route.rules.name)?;
        let value = param.value?;
        let (result, proof) =
            value.split_once('.').map_or((value, None), |(word, proof)| (word, Some(proof)));
        Some((&*route.rules.name, result, proof, words(result, proof)?))
    });
    if form == Form::Json && is_done {
        let apps: Map<String, Value> = told
            .map(|(name, result, proof, _)| (name.to_owned(), json!({"result": result, "proof": proof})))
            .collect();
        return json_reply(&json!({"state": "ended", "apps": apps}));
    }
    if !is_done {
        let body = format!(
            "<p>This ends your sessions in all apps here.</p><form method=\"post\" action=\"{}/logout\">\
             <button>Sign out everywhere</button></form>",
            escape(&map.bridge.prefix)
        );
        return reply::page(StatusCode::OK, "Sign out", &body);
    }
    let rows: String = told
        .map(|(name, _, _, words)| format!("<tr><td>{}</td><td>{words}</td></tr>", escape(name)))
        .collect();
    let table = if rows.is_empty() { String::new() } else { format!("<table>{rows}</table>") };
    reply::page(StatusCode::OK, "You are signed out", &format!("<p>Your session here has ended.</p>{table}"))
}
