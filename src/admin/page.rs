//! The page for people: apps and the latest sessions in one dense table each, anew every few seconds, without a script.
//!
//! Invariant: whatever is put into the page is escaped where it is put in, and the page may load and run nothing.

use std::fmt::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::response::{Html, IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::CONTENT_SECURITY_POLICY;

use super::api::Desktop;
use super::scan;
use super::view::{self, AppView, At, SessionView, UpstreamView};
use crate::time::Timestamp;
use crate::wire::html::{capitalised, escape};

/// How many sessions are shown; the API has them all.
const SHOWN: usize = 200;

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem;color:#1c2330;background:#fff}\
h1{font-size:1.25rem;margin:0 0 .25rem}h2{font-size:1rem;margin:1.5rem 0 .4rem}p{margin:.2rem 0;color:#5b6472}\
div{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:left;padding:.22rem .9rem .22rem 0;border-bottom:1px solid #e3e6ea;vertical-align:top;white-space:nowrap}\
th{font-weight:600;color:#5b6472;position:sticky;top:0;background:#fff}td.n,th.n{text-align:right}\
td.w{white-space:normal;min-width:22rem}\
code{font:13px ui-monospace,monospace}span{display:inline-block;margin-right:.9rem}\
.bad{color:#b3261e;font-weight:600}.dim{color:#8a93a0}tbody tr:hover{background:#f4f6f9}\
@media(prefers-color-scheme:dark){body,th{background:#14181f;color:#e6e9ee}p,th{color:#9aa4b2}\
th,td{border-color:#333b48}.bad{color:#ff8a80}.dim{color:#7d8794}tbody tr:hover{background:#1d232d}}";

/// The one thing that the page may have is its style, by its hash.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// Apps, and the sessions with the latest activity.
pub(super) fn overview(desktop: &Desktop) -> Response {
    let (parts, now) = (&desktop.parts, desktop.now());
    let counts = scan::census(&parts.registry, &desktop.setting, now);
    let found = parts.findings.all();
    let apps = desktop.setting.routes().iter().zip(&counts);
    let apps: Vec<_> = apps
        .map(|(route, states)| {
            view::app((route, desktop.setting.balancer.servers(route)), states, (&found, &parts.findings))
        })
        .collect();
    let (findings, servers) = (findings(&apps), servers(&apps));
    let apps = apps.iter().fold(String::new(), |rows, app| rows + &app_row(app));
    let slots = scan::latest(&parts.registry, SHOWN);
    let views = slots.iter().filter_map(|slot| desktop.view(slot));
    let sessions = views.fold(String::new(), |rows, view| rows + &session_row(&view, now));
    let all = parts.registry.counts();
    let body = format!(
        "<h1>sessionbridge</h1><p>{bound} bound, {pending} pending. {ready}. {at}</p>{config}\
         <h2>Apps</h2><div><table><thead><tr><th>App<th>Path<th>Hosts<th>Engine<th class=n>Servers<th class=n>Timeout\
         <th>Heartbeat<th>Sessions</thead><tbody>{apps}</tbody></table></div>{servers}{findings}\
         <h2>Sessions</h2>{hint}<div><table><thead><tr><th>Id<th>State<th>Browser<th>Net<th class=n>Begun<th class=n>Active\
         <th class=n>Left<th class=n>Requests<th>Open<th>Apps</thead><tbody>{sessions}</tbody></table></div>",
        bound = all.bound,
        pending = all.pending,
        ready = capitalised(parts.health.readiness().as_str()),
        at = At(now),
        config = super::loads::banner(&parts.loads),
        hint = hint(all.bound + all.pending),
    );
    page(&body)
}

fn page(body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta name=color-scheme content=\"light dark\"><meta http-equiv=refresh content=5>\
         <title>sessionbridge</title><style>{STYLE}</style><main>{body}</main></html>"
    );
    let mut response = Html(html).into_response();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn hint(sessions: usize) -> String {
    match sessions {
        0 => "<p>None yet: open one of the apps through the bridge.</p>".to_owned(),
        1..=SHOWN => String::new(),
        _ => {
            format!("<p>The {SHOWN} with the latest activity; all are at <code>/api/v1/sessions</code>.</p>")
        }
    }
}

fn app_row(app: &AppView<'_>) -> String {
    let states = app.sessions.iter().filter(|(_, count)| **count > 0).fold(
        String::new(),
        |mut all, (state, count)| {
            let _ = write!(all, "<span{}>{count} {}</span>", class(state), escape(state));
            all
        },
    );
    let hosts = if app.hosts.is_empty() { "any".to_owned() } else { app.hosts.join(", ") };
    let heartbeat = app.heartbeat.map_or_else(|| "<span class=dim>none</span>".to_owned(), escape);
    format!(
        "<tr><td><b>{}</b><td><code>{}</code><td>{}<td>{}<td class=n>{}<td class=n>{}<td>{heartbeat}<td>{}",
        escape(app.name),
        escape(app.mount),
        escape(&hosts),
        escape(app.engine.unwrap_or("no session here")),
        up(&app.upstreams),
        app.timeout.map(seconds).unwrap_or_default(),
        if states.is_empty() { "<span class=dim>none</span>" } else { &states },
    )
}

/// How many servers it has, and how many of them are up where not all are.
fn up(servers: &[UpstreamView]) -> String {
    let up = servers.iter().filter(|server| server.state == "up").count();
    if up == servers.len() {
        return up.to_string();
    }
    format!("<span class=bad>{up} of {} up</span>", servers.len())
}

/// The apps' servers, where an app has several, or one that is not as it should be.
fn servers(apps: &[AppView<'_>]) -> String {
    let shown = apps
        .iter()
        .filter(|app| app.upstreams.len() > 1 || app.upstreams.iter().any(|own| own.state != "up"));
    let rows = shown.flat_map(|app| app.upstreams.iter().map(move |server| (app.name, server)));
    let rows = rows.fold(String::new(), |mut rows, (app, server)| {
        let class = if server.state == "up" { "" } else { " class=bad" };
        let last = server.last_error.as_ref();
        let _ = write!(
            rows,
            "<tr><td><b>{}</b><td><code>{}</code><td{class}>{}<td>{}<td class=n>{}<td>{}",
            escape(app),
            escape(&server.url),
            escape(&server.state.replace('_', " ")),
            server.since,
            server.in_flight,
            last.map(|last| format!("{} <span class=dim>{}</span>", escape(&last.reason), last.at))
                .unwrap_or_default(),
        );
        rows
    });
    if rows.is_empty() {
        return rows;
    }
    format!(
        "<h2>Servers</h2><div><table><thead><tr><th>App<th>Server<th>State<th>Since<th class=n>In flight<th>Last error\
         </thead><tbody>{rows}</tbody></table></div>"
    )
}

/// What was found out about the apps, where anything was: warnings stand out, what is as it should be steps back.
fn findings(apps: &[AppView<'_>]) -> String {
    let rows = apps.iter().flat_map(|app| app.findings.iter().map(move |found| (app.name, found)));
    let rows = rows.fold(String::new(), |mut rows, (app, found)| {
        let class = match found.level {
            "warning" => " class=bad",
            "good" => " class=dim",
            _ => "",
        };
        let _ = write!(
            rows,
            "<tr><td><b>{}</b><td>{}<td{class}>{}<td class=w>{}<td><code>{}</code>",
            escape(app),
            found.at,
            escape(found.level),
            escape(found.says),
            escape(found.place.as_deref().unwrap_or(found.key)),
        );
        rows
    });
    if rows.is_empty() {
        return rows;
    }
    format!(
        "<h2>Findings</h2><div><table><thead><tr><th>App<th>At<th>Level<th>What was found<th>Config\
         </thead><tbody>{rows}</tbody></table></div>"
    )
}

fn session_row(view: &SessionView<'_>, now: Timestamp) -> String {
    let apps = view.apps.iter().fold(String::new(), |mut all, (name, app)| {
        let beats = match (app.heartbeats.verdict, app.heartbeats.count) {
            (Some(verdict), count) => format!(" <span class=dim>{count} heartbeats, last {verdict}</span>"),
            (None, _) => String::new(),
        };
        let _ = write!(all, "<span{}>{} {}</span>{beats}", class(app.state), escape(name), escape(app.state));
        all
    });
    let left = view.expires_at.map(|at| ago(at.0, now)).unwrap_or_default();
    format!(
        "<tr><td><code>{}</code><td>{}<td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{left}<td class=n>{}<td>{}<td>{apps}",
        escape(view.id.get(..8).unwrap_or_default()),
        escape(view.state),
        escape(view.user_agent.unwrap_or("unknown")),
        escape(view.address.as_deref().unwrap_or_default()),
        ago(now, view.created.0),
        ago(now, view.last_activity.0),
        view.hits,
        if view.present { "yes" } else { "" },
    )
}

/// The class of a state: what is wrong stands out, what is over steps back. The word says it too.
fn class(state: &str) -> &'static str {
    match state {
        "live" => "",
        "none" => " class=dim",
        _ => " class=bad",
    }
}

fn ago(later: Timestamp, earlier: Timestamp) -> String {
    seconds(later.since(earlier).as_secs_f64())
}

/// A span as people say it: its two largest units.
fn seconds(span: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(span).unwrap_or_default().as_secs();
    match (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_inert() {
        let app = AppView {
            name: "<script>alert(1)</script>",
            mount: "/\"onload=x/",
            hosts: vec!["<b>"],
            upstreams: vec![UpstreamView {
                url: "http://<u>:80".to_owned(),
                state: "half_open",
                since: At(Timestamp::from_secs(1)),
                circuit: "half_open",
                healthy: None,
                in_flight: 7,
                last_error: Some(view::FaultView {
                    at: At(Timestamp::from_secs(1)),
                    reason: "<connect_refused>".to_owned(),
                }),
            }],
            engine: None,
            timeout: Some(1200.0),
            heartbeat: Some("/'<img>"),
            sessions: [("live", 2)].into(),
            findings: vec![view::FindingView {
                app: None,
                kind: "restart",
                level: "warning",
                at: At(Timestamp::from_secs(1)),
                key: "session.timeout",
                place: Some("config.toml:7".to_owned()),
                says: "<i>restarted</i>",
            }],
        };
        let found = findings(std::slice::from_ref(&app));
        assert!(found.contains("&lt;i&gt;restarted") && found.contains("<td class=bad>warning"), "{found}");
        assert!(!found.contains("<i>") && !found.contains("<script"));
        assert_eq!(findings(&[]), "");
        let rows = servers(std::slice::from_ref(&app));
        assert!(rows.contains("http://&lt;u&gt;:80") && rows.contains("&lt;connect_refused&gt;"), "{rows}");
        assert!(rows.contains("<td class=bad>half open") && rows.contains("<td class=n>7"), "{rows}");
        assert!(!rows.contains("<u>") && !rows.contains("<script"));
        let row = app_row(&app);
        assert!(row.contains("<span class=bad>0 of 1 up</span>"), "{row}");
        assert!(
            row.contains("&lt;script&gt;")
                && row.contains("&quot;onload")
                && row.contains("&#39;&lt;img&gt;")
        );
        assert!(!row.contains("<script") && !row.contains("<img") && !row.contains("<td><b><b>"));
        assert!(row.contains("2 live") && row.contains("20 min 0 s"));
    }

    #[test]
    fn spans_are_said_in_two_units() {
        let said = [59.9, 61.0, 3_600.0, 90_000.0, -1.0, f64::NAN].map(seconds);
        assert_eq!(said, ["59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h", "0 s", "0 s"]);
    }

    #[test]
    fn the_policy_names_the_style_and_nothing_else() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!POLICY.contains("unsafe"));
    }
}
