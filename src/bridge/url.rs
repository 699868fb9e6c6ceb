//! Token parameters in URLs: found, judged by shape, cut.
//!
//! Invariants: what is read is what is cut (one parser for both); whatever is decided about a token, no managed or mapped
//! name is left in what [`Clean`] holds; all other bytes stay as they were.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::rules::{AppIx, AppRules, SessionRules};
use super::to_app::inner_mount;
use crate::wire::{cookie, path, query};

/// More parameters than this are refused: no parser behind us shall read one that we did not (security: L0).
pub const MAX_PARAMS: usize = 256;

/// A public URL without tokens: the only kind that a log or a redirect may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clean<'a> {
    /// The path.
    pub path: Cow<'a, str>,
    /// The query; `None`: there was no `?`.
    pub query: Option<Cow<'a, str>>,
}

impl Clean<'_> {
    /// Path and query as one.
    #[must_use]
    pub fn to_text(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        }
    }
}

/// What was in a URL.
#[derive(Debug, Default)]
pub struct Found {
    /// Complete, well-shaped tokens under mapped names, one an app at the most.
    pub tokens: SmallVec<[UrlTokenValue; 1]>,
    /// A mapped name was there, whatever became of it.
    pub mapped: bool,
    /// A raw name of the app's own engine was there.
    pub raw: bool,
    /// A mapped set was incomplete, doubled or ill-shaped.
    pub malformed: bool,
}

impl Found {
    /// True where anything was cut.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.mapped || self.raw
    }
}

/// A complete, well-shaped token that arrived in a URL. A claim, nothing more.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlTokenValue {
    /// Whose.
    pub app: AppIx,
    /// Which of that app's tokens.
    pub token: usize,
    /// Its parts, in the order of the rule.
    pub parts: SmallVec<[Box<[u8]>; 2]>,
}

impl std::fmt::Debug for UrlTokenValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UrlTokenValue(app {}, token {})", self.app.0, self.token)
    }
}

/// More parameters than anyone reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyParams;

/// Finds and cuts the tokens of a public URL that arrives at the app of `rules`. `tokens_of` gives the session rules of any
/// app, whose shapes a mapped value must fit.
///
/// # Errors
/// [`TooManyParams`] above [`MAX_PARAMS`].
pub fn clean<'a, 'r>(
    rules: &AppRules,
    public_path: &'a str,
    public_query: Option<&'a str>,
    tokens_of: impl Fn(AppIx) -> Option<&'r SessionRules>,
) -> Result<(Clean<'a>, Found), TooManyParams> {
    let mut found = Found::default();
    let Some(session) = &rules.session else {
        return Ok((Clean { path: public_path.into(), query: public_query.map(Into::into) }, found));
    };
    if public_query.is_some_and(|query| query::count(query) > MAX_PARAMS) {
        return Err(TooManyParams);
    }
    if let Some(query) = public_query.filter(|_| !session.url_tokens.is_empty()) {
        read_mapped(session, query, tokens_of, &mut found);
    }
    let path = cut_path(session, rules.mount.prefix().len(), public_path);
    let query = public_query.map(|query| {
        let mapped =
            |name: &str| session.url_tokens.iter().any(|url_token| query::key_is(name, &url_token.param));
        query::cut(query, |name| {
            let raw = is_raw(session, name);
            let map = mapped(name);
            found.raw |= raw;
            found.mapped |= map;
            raw || map && !session.keep_url_tokens
        })
        .map_or(Cow::Borrowed(query), Cow::Owned)
    });
    found.raw |= matches!(path, Cow::Owned(_));
    let query = query.filter(|query| !query.is_empty() || public_query.is_some_and(str::is_empty));
    Ok((Clean { path, query }, found))
}

/// A Referer without the raw and mapped names of the app; `None` where nothing was there to cut.
#[must_use]
pub fn clean_referer(session: &SessionRules, rules: &AppRules, referer: &str) -> Option<String> {
    let mapped = |name: &str| session.url_tokens.iter().any(|mapped| query::key_is(name, &mapped.param));
    cut_reference(session, rules, referer, mapped)
}

/// A URL that the app wrote (a Location), without the raw names of its engine; `None` where nothing was there to cut.
/// Mapped names stay: on another host they are the hint that leads the browser's session there.
#[must_use]
pub fn clean_location(session: &SessionRules, rules: &AppRules, location: &str) -> Option<String> {
    cut_reference(session, rules, location, |_| false)
}

fn cut_reference(
    session: &SessionRules,
    rules: &AppRules,
    reference: &str,
    mapped: impl Fn(&str) -> bool,
) -> Option<String> {
    let (rest, fragment) =
        reference.split_once('#').map_or((reference, None), |(rest, fragment)| (rest, Some(fragment)));
    let (base, query) = rest.split_once('?').map_or((rest, None), |(base, query)| (base, Some(query)));
    let start = path_start(base);
    let (origin, public_path) = base.split_at(start);
    let path = cut_path(session, segment_start(rules, public_path), public_path);
    let cut = query.and_then(|query| query::cut(query, |name| is_raw(session, name) || mapped(name)));
    if matches!(path, Cow::Borrowed(_)) && cut.is_none() {
        return None;
    }
    let query = cut.or_else(|| query.map(str::to_owned)).filter(|query| !query.is_empty());
    let mut out = format!("{origin}{path}");
    for (mark, part) in [('?', query.as_deref()), ('#', fragment)] {
        if let Some(part) = part {
            out.push(mark);
            out.push_str(part);
        }
    }
    Some(out)
}

/// The token that rides as a segment in `reference`, whether in the public or in the app's own URL space. Of several the
/// last one: Mono 6.8 writes the new id behind a dead one (`/app/(OLD)/(NEW)/`), and would answer 404 to both.
#[must_use]
pub fn segment_token<'a>(
    session: &SessionRules,
    rules: &AppRules,
    reference: &'a str,
) -> Option<path::Segment<'a>> {
    if !session.parts().any(|part| part.rule.segment) {
        return None;
    }
    let base = reference.split(['?', '#']).next().unwrap_or(reference);
    let (_, public_path) = base.split_at(path_start(base));
    let mut found = path::session_segment(public_path, segment_start(rules, public_path))?;
    let mut end = found.span.end;
    while let Some(next) = path::session_segment(public_path, end) {
        end = next.span.end;
        // One without an id carries other tickets.
        if !next.id.is_empty() {
            found = next;
        }
    }
    Some(found)
}

/// Where the path begins in an absolute, scheme-relative or path-only reference.
fn path_start(base: &str) -> usize {
    let authority = base.find("://").map(|at| at + 3).or_else(|| base.starts_with("//").then_some(2));
    authority
        .map_or(0, |from| base.get(from..).and_then(|rest| rest.find('/')).map_or(base.len(), |at| from + at))
}

/// Behind the mount where the path has it, else behind the app's own root.
fn segment_start(rules: &AppRules, path: &str) -> usize {
    let prefix = rules.mount.prefix();
    if path.len() >= prefix.len() && rules.mount.contains(path) {
        prefix.len()
    } else {
        inner_mount(rules).min(1)
    }
}

/// A raw name of the app's own engine, in the query or a form.
#[must_use]
pub fn is_raw(session: &SessionRules, name: &str) -> bool {
    session.parts().any(|part| part.rule.query.as_ref().is_some_and(|own| query::key_is(name, own)))
}

fn cut_path<'a>(session: &SessionRules, mount: usize, public_path: &'a str) -> Cow<'a, str> {
    let mut path = Cow::Borrowed(public_path);
    let params = |name: &str| {
        session.parts().any(|part| part.rule.path_param.as_ref().is_some_and(|own| query::key_is(name, own)))
    };
    if public_path.contains(';')
        && let Some(cut) = path::cut_params(public_path, params)
    {
        path = Cow::Owned(cut);
    }
    if session.parts().any(|part| part.rule.segment) {
        while let Some(cut) =
            path::session_segment(&path, mount).map(|segment| path::cut_segment(&path, &segment))
        {
            path = Cow::Owned(cut);
        }
    }
    // What is left must not name a host where the whole did not: `/;jsessionid=x/evil.example`.
    if matches!(path, Cow::Owned(_)) && names_host(&path) && !names_host(public_path) {
        path = Cow::Owned(format!("/{}", path.trim_start_matches(['/', '\\'])));
    }
    path
}

/// True where browsers take the beginning of a path for a host.
fn names_host(path: &str) -> bool {
    let mut octets = path.bytes();
    octets.next() == Some(b'/') && matches!(octets.next(), Some(b'/' | b'\\'))
}

/// Reads the sets under mapped names. A doubled name, half a set or an odd shape is none.
fn read_mapped<'r>(
    session: &SessionRules,
    query: &str,
    tokens_of: impl Fn(AppIx) -> Option<&'r SessionRules>,
    found: &mut Found,
) {
    for first in &session.url_tokens {
        if found.tokens.iter().any(|token| token.app == first.app) {
            continue;
        }
        let Some(rule) = tokens_of(first.app).and_then(|rules| rules.tokens.get(first.token)) else {
            continue;
        };
        let mut parts: SmallVec<[Box<[u8]>; 2]> = SmallVec::new();
        let mut present = 0;
        for (at, part) in rule.parts.iter().enumerate() {
            let names = session
                .url_tokens
                .iter()
                .filter(|mapped| mapped.app == first.app && mapped.token == first.token && mapped.part == at);
            let mut values = names.flat_map(|mapped| {
                query::params(query).filter(|param| query::key_is(param.key, &mapped.param))
            });
            let (value, doubled) = (values.next(), values.next().is_some());
            present += usize::from(value.is_some());
            let value = value.and_then(|param| param.value).map(query::decoded);
            match value.filter(|value| !doubled && cookie::valid_value(value) && part.shape.fits(value)) {
                Some(value) => parts.push(value.into_owned().into_boxed_slice()),
                None => continue,
            }
        }
        if parts.len() == rule.parts.len() && !parts.is_empty() {
            found.tokens.push(UrlTokenValue { app: first.app, token: first.token, parts });
        } else if present > 0 {
            found.malformed = true;
        }
    }
}

#[cfg(test)]
mod tests;
