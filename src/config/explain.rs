//! The command `explain`: what would happen to one URL, in plain words.
//!
//! Nothing is asked and nothing is sent: the answer follows from the config alone. No token is shown,
//! whoever's it is.

use std::fmt::Write as _;

use http::Method;

use self::tokens::{Carried, carried, cleaned, redacted};
use super::{Config, engines, units};
use crate::bridge::rules::{
    BeatRules, Canary, CookieMode, RequestRule, SameSite, Scope, SessionRules, SignOutRules, TokenRule,
};
use crate::route::{Balance, HostHeader, Route};
use crate::wire::path::{self, Ambiguous};

mod tokens;

/// Why a URL cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// It is neither `http(s)://host/path`, nor `host/path`, nor `/path`.
    #[error("this is no URL: write http://host/path, or /path")]
    NotAUrl,
    /// Its method is none.
    #[error("this is no method: write GET, POST, .. before the URL, or nothing")]
    Method,
    /// The proxy refuses it: servers disagree on what it names.
    #[error("the proxy answers such a path with 400")]
    Ambiguous(#[from] Ambiguous),
}

/// A URL as far as routing goes.
struct Asked<'a> {
    method: Method,
    /// Lower case, without port; empty where only a path was given.
    host: String,
    path: &'a str,
    query: Option<&'a str>,
    /// The copy of `path` that routing compares.
    normal: String,
}

/// What would happen to `url`: `http://host/path?query` or `/path`, perhaps with a method before it.
///
/// # Errors
/// Where `url` is none, or one that is refused before any app is looked for.
pub fn explain(config: &Config, url: &str) -> Result<String, ExplainError> {
    let asked = parse(url)?;
    let mut out = String::new();
    let bridge = &config.routes.bridge;
    let own = asked
        .normal
        .strip_prefix(&*bridge.prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let route = config.routes.find(&asked.host, &asked.normal).filter(|_| !own);
    let title = redacted(asked.path, asked.query, config);
    line(&mut out, "request", &format!("{} {}{title}", asked.method, asked.host));
    if own {
        line(&mut out, "answered by", "the proxy itself (`bridge.prefix`)");
        return Ok(out);
    }
    let Some(route) = route else {
        line(&mut out, "app", "none: 404 no_route");
        near_miss(&mut out, config, &asked);
        return Ok(out);
    };
    place(&mut out, config, route, &asked);
    let skipped = rules(&mut out, config, &asked);
    match &route.rules.session {
        None => line(&mut out, "session", "none: the app is proxied plainly"),
        Some(_) if skipped => line(&mut out, "session", "skipped by a rule: the app sees no token"),
        Some(session) => session_lines(&mut out, config, session),
    }
    let list = carried(&asked, config, route);
    url_tokens(&mut out, config, route, &list);
    line(&mut out, "app gets", &format!("{} {}", asked.method, cleaned(&asked, config, route)));
    if route.rules.session.is_some() {
        heartbeat(&mut out, route);
        sign_out(&mut out, &route.rules.sign_out, &asked);
    }
    Ok(out)
}

/// One line: what, and how it is; without `what`, one more line of the last.
fn line(out: &mut String, what: &str, text: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{what:<12} {text}");
}

fn parse(url: &str) -> Result<Asked<'_>, ExplainError> {
    let (method, url) = match url.trim().split_once(' ') {
        Some((method, url)) => (method.parse::<Method>().map_err(|_| ExplainError::Method)?, url.trim()),
        None => (Method::GET, url.trim()),
    };
    let rest = match url.split_once("://") {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") =>
        {
            rest
        }
        // A URL in the query is none of ours.
        Some((before, _)) if !before.contains(['?', '/']) => return Err(ExplainError::NotAUrl),
        _ => url,
    };
    let (authority, target) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    let bare = if server.starts_with('[') {
        server.find(']').and_then(|at| server.get(..=at)).ok_or(ExplainError::NotAUrl)?
    } else {
        server.split(':').next().unwrap_or(server)
    };
    if rest.is_empty() || rest.contains(char::is_whitespace) || (bare.is_empty() && !url.starts_with('/')) {
        return Err(ExplainError::NotAUrl);
    }
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    let normal = path::normal(path)?.into_owned();
    let host = bare.trim_end_matches('.').to_ascii_lowercase();
    Ok(Asked { method, host, path, query, normal })
}

/// Apps that would have had the path, for another host or another case.
fn near_miss(out: &mut String, config: &Config, asked: &Asked<'_>) {
    for route in config.routes.routes() {
        let (mount, name) = (&route.rules.mount, &route.rules.name);
        if mount.contains(&asked.normal) {
            line(out, "near", &format!("app `{name}` has this path, for {} only", route.hosts.join(", ")));
        } else if mount.prefix().len() > 1
            && asked.normal.to_ascii_lowercase().starts_with(&mount.cookie_path().to_ascii_lowercase())
        {
            line(
                out,
                "near",
                &format!("app `{name}` has {}: case counts, unless `case_insensitive`", mount.prefix()),
            );
        }
    }
}

fn place(out: &mut String, config: &Config, route: &Route, asked: &Asked<'_>) {
    line(out, "app", &route.rules.name);
    let hosts = match (route.hosts.is_empty(), asked.host.is_empty()) {
        (true, _) => "any host".to_owned(),
        (false, _) => format!("host {}", asked.host),
    };
    let others = config.routes.routes().iter().filter(|other| {
        other.rules.app != route.rules.app
            && other.rules.mount.contains(&asked.normal)
            && (other.hosts.is_empty() || other.hosts.iter().any(|host| **host == *asked.host))
    });
    let beaten: Vec<String> = others.map(|other| format!("`{}`", other.rules.name)).collect();
    let beaten = if beaten.is_empty() { String::new() } else { format!("; wins over {}", beaten.join(", ")) };
    line(out, "why", &format!("path {}, {hosts}{beaten}", route.rules.mount.prefix()));
    let origins: Vec<&str> = route
        .upstreams
        .iter()
        .filter_map(|ix| config.origins.iter().find(|(number, _)| number == ix))
        .map(|(_, origin)| origin.as_str())
        .collect();
    let balance = match (origins.len(), route.balance) {
        (..2, _) => "",
        (_, Balance::Sticky) => " (sticky by app session)",
        (_, Balance::RoundRobin) => " (in turn)",
        (_, Balance::LeastRequests) => " (where the fewest requests are in flight)",
    };
    line(out, "upstreams", &format!("{}{balance}", origins.join(", ")));
    if let Some(health) = &route.health {
        let (every, rows) = (units::shown(health.every), (health.fall, health.rise));
        let says = format!("{} every {every}; {} failures: down, {} passes: up", health.path, rows.0, rows.1);
        line(out, "health", &says);
    }
    let host = match &route.host_header {
        HostHeader::Keep => "as the browser sent it",
        HostHeader::Upstream => "the upstream's own",
        HostHeader::Name(name) => name,
    };
    line(out, "Host", host);
}

/// The rule that matches, and whether the request is activity; true where the rule skips the session.
fn rules(out: &mut String, config: &Config, asked: &Asked<'_>) -> bool {
    let matches = |rule: &RequestRule| rule.pattern.matches(&asked.method, &asked.normal, asked.query);
    let all = config.routes.rules.iter().zip(&config.rule_texts).enumerate();
    let found: Vec<_> = all.filter(|(_, (rule, _))| matches(rule)).collect();
    for (place, (at, (rule, text))) in found.iter().enumerate() {
        let does = match (rule.background, rule.skip_session) {
            (true, true) => "no activity, no session",
            (true, false) => "no activity",
            _ => "no session",
        };
        let note = if place > 0 { " (not used: the first match wins)" } else { "" };
        line(out, if place == 0 { "rules" } else { "" }, &format!("{}. {text}: {does}{note}", at + 1));
    }
    if found.is_empty() {
        line(out, "rules", "none matches");
    }
    let first = found.first().map(|(_, (rule, _))| rule);
    let beat = config.routes.routes().iter().filter_map(|route| route.rules.beat.as_ref()).any(|beat| {
        let path = beat.path.split_once('?').map_or(&*beat.path, |(path, _)| path);
        path == asked.normal
    });
    let activity = match (first.is_some_and(|rule| rule.background), beat) {
        (true, _) => "no: a rule calls it background",
        (false, true) => "only as a navigation: this is a heartbeat's path",
        (false, false) => "yes: it moves the idle clock",
    };
    line(out, "activity", activity);
    first.is_some_and(|rule| rule.skip_session)
}

fn session_lines(out: &mut String, config: &Config, session: &SessionRules) {
    let engine = engines::name(session.engine);
    line(out, "session", &format!("{engine}, {} without a request", units::shown(session.timeout)));
    let tokens: Vec<String> = session.tokens.iter().map(token).collect();
    line(out, "tokens", &tokens.join(", or "));
    let cookies = match session.cookies {
        CookieMode::Vault => "vault: token cookies stay in the proxy",
        CookieMode::Prefix => "prefix: token cookies go to the browser under a name of their own",
        CookieMode::Pass => "pass: token cookies go to the browser as they are",
    };
    line(out, "cookies", cookies);
    let bridge = &config.routes.bridge;
    let plain = bridge.cookie_name(false);
    let also = if plain == &*bridge.cookie { String::new() } else { format!(" (`{plain}` over plain HTTP)") };
    let same_site = match bridge.same_site {
        SameSite::None => "",
        SameSite::Lax => ", not from cross-site posts and frames",
        SameSite::Strict => ", not from other sites",
    };
    line(out, "bridge by", &format!("cookie `{}`{also}{same_site}", bridge.cookie));
}

fn token(rule: &TokenRule) -> String {
    let parts: Vec<&str> = rule.parts.iter().map(|part| &*part.name).collect();
    format!("{}{}", parts.join(" + "), if rule.rolling { " (rolling)" } else { "" })
}

fn url_tokens(out: &mut String, config: &Config, route: &Route, list: &[Carried]) {
    if list.is_empty() {
        line(out, "URL tokens", "none in this URL");
        return;
    }
    for (at, carried) in list.iter().enumerate() {
        let kind = carried.stands_for(config);
        let text = format!("{}{kind} = \u{2026} ({} characters)", carried.name, carried.length);
        line(out, if at == 0 { "URL tokens" } else { "" }, &text);
        line(out, "", &format!("  {}", carried.fate(config, route, list)));
    }
}

fn heartbeat(out: &mut String, route: &Route) {
    let (Some(beat), Some(session)) = (&route.rules.beat, &route.rules.session) else {
        line(out, "heartbeat", "none: this app is not kept alive");
        return;
    };
    let every = beat.every.unwrap_or(session.timeout / 3);
    let every = units::shown(std::time::Duration::from_secs(every.as_secs().max(1)));
    line(
        out,
        "heartbeat",
        &format!(
            "{} {} every {every}, {} percent early or late",
            beat.method, beat.path, beat.jitter_percent
        ),
    );
    line(out, "", &format!("alive: {}{}", statuses(beat), canary(beat)));
}

fn statuses(beat: &BeatRules) -> String {
    let ranges = beat
        .alive
        .status
        .iter()
        .map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") });
    let ranges = ranges.collect::<Vec<_>>().join(", ");
    if beat.alive.contains.is_empty() {
        ranges
    } else {
        format!("{ranges} with `{}` in the body", beat.alive.contains)
    }
}

fn canary(beat: &BeatRules) -> String {
    match &beat.canary {
        None => String::new(),
        Some(Canary::Header(name)) => format!("; canary: header {name}"),
        Some(Canary::Json(at)) => format!("; canary: {at} in the JSON"),
        Some(Canary::Regex(regex)) => format!("; canary: /{}/ in the body", regex.as_str()),
    }
}

fn sign_out(out: &mut String, rules: &SignOutRules, asked: &Asked<'_>) {
    let hit = |list: &[crate::wire::pattern::Pattern]| {
        list.iter().any(|pattern| pattern.matches(&asked.method, &asked.normal, asked.query))
    };
    if hit(&rules.detect) {
        let reach = match rules.scope {
            Scope::Together => "every app of the bridge session",
            Scope::Alone => "this app alone",
        };
        line(out, "sign-out", &format!("yes, if the app answers below 400: it ends {reach}"));
    }
    if hit(&rules.login) {
        line(out, "sign-in", "a sign-in page: a form posted here is a sign-in");
    }
}

#[cfg(test)]
mod tests;
