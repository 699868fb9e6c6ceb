//! The tokens that a URL carries: which they are, what happens to them, and the URL without them.
//!
//! A [`Carried`] knows the length of a value and whether it is well shaped, never the value itself.

use super::Asked;
use crate::bridge::rules::{Adopt, AppIx, PartRule, TokenRule};
use crate::config::Config;
use crate::route::Route;
use crate::wire::{path, query};

/// One token part in a URL.
pub(super) struct Carried {
    /// As it is called in the URL.
    pub(super) name: String,
    /// Of the value, in characters.
    pub(super) length: usize,
    how: How,
}

/// Why something in a URL is a token.
enum How {
    /// `url_tokens` says whose it is.
    Mapped { app: AppIx, token: usize, part: usize, fits: bool },
    /// It is a name of the app's own engine.
    Raw,
}

impl Carried {
    /// ` (appA.CFID)`, or nothing for a raw name.
    pub(super) fn stands_for(&self, config: &Config) -> String {
        let How::Mapped { app, token, part, .. } = self.how else { return String::new() };
        let name = config.routes.route(app).map_or("?", |route| &route.rules.name);
        let part =
            rule(config, app, token).and_then(|rule| rule.parts.get(part)).map_or("?", |part| &part.name);
        format!(" ({name}.{part})")
    }

    /// What happens to it at `route`, with the others of the URL in `all`.
    pub(super) fn fate(&self, config: &Config, route: &Route, all: &[Self]) -> String {
        let How::Mapped { app, token, fits, .. } = self.how else {
            return "a raw name of the app's own engine: cut; the vault supplies the token".to_owned();
        };
        let keeps = route.rules.session.as_ref().is_some_and(|session| session.keep_url_tokens);
        let seen = if keeps { "cut from logs, the app sees it" } else { "cut" };
        if !fits {
            return format!("{seen}; not shaped like this engine's tokens: it means nothing");
        }
        let parts = rule(config, app, token).map_or(0, |rule| rule.parts.len());
        let here = |wanted: usize| {
            all.iter().any(|other| {
                matches!(&other.how, How::Mapped { app: a, token: t, part, fits: true }
                    if *a == app && *t == token && *part == wanted)
            })
        };
        if !(0..parts).all(here) {
            return format!("{seen}; half a token is none: the other part is missing");
        }
        format!("{seen}; {}", meaning(config, route, app))
    }
}

/// What a complete token of `app` means in a URL that arrives at `route`.
fn meaning(config: &Config, route: &Route, app: AppIx) -> String {
    let Some(target) = config.routes.route(app) else { return "it means nothing".to_owned() };
    let name = &target.rules.name;
    let adopt = route.rules.session.as_ref().map(|session| session.adopt);
    let adopted = match adopt {
        Some(Adopt::Proven) => {
            "adopted for a browser without a session here if it was issued through this proxy, fresh, \
                                once, to the same address, and the navigation is proven"
        }
        Some(Adopt::Legacy) => {
            "adopted for a client without a session here if it was issued through this proxy, fresh, \
                                once, to the same address; no proof of a navigation is asked"
        }
        _ => "never adopted (`adopt = \"never\"`)",
    };
    if app == route.rules.app {
        return format!("a browser that owns this session needs it not; {adopted}");
    }
    let shared = target.hosts.is_empty()
        || route.hosts.is_empty()
        || target.hosts.iter().any(|host| route.hosts.contains(host));
    if shared {
        format!("the bridge session on this host knows `{name}` already: nothing is adopted; else {adopted}")
    } else {
        let host = target.hosts.first().map_or("another host", |host| host);
        format!("a hint only: a round trip to {host} proves that it is the same browser")
    }
}

fn rule(config: &Config, app: AppIx, token: usize) -> Option<&TokenRule> {
    config.routes.route(app)?.rules.session.as_ref()?.tokens.get(token)
}

/// All tokens in the URL: mapped parameters, raw names, path parameters, session segments.
pub(super) fn carried(asked: &Asked<'_>, config: &Config, route: &Route) -> Vec<Carried> {
    let mut list: Vec<Carried> = Vec::new();
    for param in asked.query.into_iter().flat_map(query::params) {
        let value = query::decoded(param.value.unwrap_or_default());
        let how = mapped(param.key, &value, config, route)
            .or_else(|| is_raw_query(param.key, route).then_some(How::Raw));
        let name = String::from_utf8_lossy(&query::decoded(param.key)).into_owned();
        list.extend(how.map(|how| Carried { name, length: length(&value), how }));
    }
    for param in path::params(asked.path).filter(|param| is_raw_path_param(param.name, route)) {
        let length = length(param.value.unwrap_or_default().as_bytes());
        list.push(Carried { name: format!(";{}", param.name), length, how: How::Raw });
    }
    if let Some(segment) = segment(asked.path, route) {
        list.push(Carried {
            name: "path segment".to_owned(),
            length: segment.id.chars().count(),
            how: How::Raw,
        });
    }
    list
}

fn mapped(key: &str, value: &[u8], config: &Config, route: &Route) -> Option<How> {
    let session = route.rules.session.as_ref()?;
    let own = session.url_tokens.iter().find(|own| query::key_is(key, &own.param))?;
    let part = rule(config, own.app, own.token).and_then(|rule| rule.parts.get(own.part));
    let fits = part.is_some_and(|part| part.shape.fits(value));
    Some(How::Mapped { app: own.app, token: own.token, part: own.part, fits })
}

fn length(value: &[u8]) -> usize {
    String::from_utf8_lossy(value).chars().count()
}

/// The parts of the app's own tokens.
fn parts(route: &Route) -> impl Iterator<Item = &PartRule> {
    route.rules.session.iter().flat_map(|session| &session.tokens).flat_map(|token| &token.parts)
}

fn is_raw_query(key: &str, route: &Route) -> bool {
    parts(route).filter_map(|part| part.query.as_deref()).any(|name| query::key_is(key, name))
}

fn is_raw_path_param(name: &str, route: &Route) -> bool {
    parts(route).filter_map(|part| part.path_param.as_deref()).any(|own| query::key_is(name, own))
}

fn segment<'a>(text: &'a str, route: &Route) -> Option<path::Segment<'a>> {
    if !parts(route).any(|part| part.segment) {
        return None;
    }
    path::session_segment(text, route.rules.mount.prefix().len())
}

/// Path and query with every token's value as `…`, whichever app's token it is and wherever it goes.
pub(super) fn redacted(text: &str, query: Option<&str>, config: &Config) -> String {
    let routes = config.routes.routes();
    let is_token = |key: &str| {
        routes.iter().any(|route| {
            let session = route.rules.session.as_ref();
            let mapped =
                session.is_some_and(|own| own.url_tokens.iter().any(|own| query::key_is(key, &own.param)));
            mapped || is_raw_query(key, route) || is_raw_path_param(key, route)
        })
    };
    let mut path = text.to_owned();
    let found: Vec<_> = path::params(text).filter(|param| is_token(param.name)).collect();
    for param in found.iter().rev() {
        path.replace_range(param.span.clone(), &format!(";{}=\u{2026}", param.name));
    }
    let has_segments = routes.iter().flat_map(parts).any(|part| part.segment);
    let segment = path::session_segment(&path, 0).filter(|_| has_segments).map(|segment| segment.span);
    if let Some(span) = segment {
        path.replace_range(span, "/(\u{2026})");
    }
    let Some(query) = query else { return path };
    let mut masked = query.to_owned();
    let found: Vec<_> =
        query::params(query).filter(|param| param.value.is_some() && is_token(param.key)).collect();
    for param in found.iter().rev() {
        masked.replace_range(param.span.clone(), &format!("{}=\u{2026}", param.key));
    }
    format!("{path}?{masked}")
}

/// Path and query as the app gets them.
pub(super) fn cleaned(asked: &Asked<'_>, config: &Config, route: &Route) -> String {
    let session = route.rules.session.as_ref();
    let keeps = session.is_some_and(|session| session.keep_url_tokens);
    let is_mapped = |key: &str| mapped(key, b"", config, route).is_some();
    let goes = |key: &str| is_raw_query(key, route) || (!keeps && is_mapped(key));
    let mut path = path::cut_params(asked.path, |name| is_raw_path_param(name, route))
        .unwrap_or_else(|| asked.path.to_owned());
    if let Some(found) = segment(&path, route) {
        path = path::cut_segment(&path, &found);
    }
    let left = asked.query.map(|text| query::cut(text, goes).unwrap_or_else(|| text.to_owned()));
    let left = left.filter(|text| !text.is_empty() || asked.query == Some(""));
    redacted(&route.rules.mount.to_app(&path), left.as_deref(), config)
}
