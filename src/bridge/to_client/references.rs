//! The URLs in an answer's fields: mapped to the public URL space, tokens cut.
//!
//! Invariant: a URL that browsers read in another way than its bytes suggest is neither mapped nor trusted.

use http::header::{CONTENT_LOCATION, LINK, LOCATION, REFRESH};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::ToClient;
use crate::bridge::app_session::Edit;
use crate::bridge::url;
use crate::bridge::vault::{Carrier, Reach};
use crate::wire::location;
use crate::wire::path::SegmentStyle;

/// Where a redirect led, once cleaned.
#[derive(Clone, PartialEq, Eq)]
pub struct PathToken {
    /// The id that rode in the path.
    pub id: Box<str>,
    /// How.
    pub carrier: Carrier,
}

impl std::fmt::Debug for PathToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PathToken({:?})", self.carrier)
    }
}

/// Maps the URLs in the fields of an answer that hold any, and cuts tokens from them. Tells the token of a redirect that
/// rode in its path, for the engines that have such: the only one that is learned from a URL.
pub fn map_urls(context: &ToClient<'_>, headers: &mut HeaderMap) -> Option<PathToken> {
    let riding =
        headers.get(LOCATION).and_then(|value| value.to_str().ok()).and_then(|url| path_token(context, url));
    for name in [LOCATION, CONTENT_LOCATION] {
        replace(headers, &name, |value| {
            std::str::from_utf8(value).ok().and_then(|url| map_url(context, url)).map(Into::into)
        });
    }
    replace(headers, &REFRESH, |value| {
        let span = location::refresh_url(value)?;
        splice(value, std::iter::once(span), |url| map_url(context, url))
    });
    replace(headers, &LINK, |value| splice(value, location::link_urls(value), |url| map_url(context, url)));
    riding
}

/// One URL as the browser must see it; `None` where it may stay as it is.
fn map_url(context: &ToClient<'_>, url: &str) -> Option<String> {
    let scheme = if context.https { "https" } else { "http" };
    let ours = |authority: &str, _: Option<&str>| {
        authority.eq_ignore_ascii_case(context.app_authority)
            || authority.eq_ignore_ascii_case(context.public_authority)
            || authority.eq_ignore_ascii_case(context.app_host)
    };
    let foreign =
        location::split(url).is_some_and(|parts| parts.authority.is_some_and(|one| !ours(one, None)));
    if foreign {
        return cut(context, url);
    }
    let anchored = location::reanchor(url, ours, scheme, context.public_authority);
    let seen = anchored.as_deref().unwrap_or(url);
    let cleaned = cut(context, seen);
    let seen = cleaned.as_deref().unwrap_or(seen);
    let public = mount_url(context, seen);
    let out = public.or(cleaned).or(anchored)?;
    (out != url).then_some(out)
}

fn cut(context: &ToClient<'_>, url: &str) -> Option<String> {
    context.rules.session.as_ref().and_then(|session| url::clean_location(session, context.rules, url))
}

/// Puts the public prefix before the path of a URL that the app wrote in its own space.
fn mount_url(context: &ToClient<'_>, url: &str) -> Option<String> {
    if !context.rules.mount.strips() {
        return None;
    }
    let parts = location::split(url)?;
    if !parts.rest.starts_with('/') {
        return None;
    }
    let head = url.len() - parts.rest.len();
    Some(format!("{}{}", url.get(..head)?, context.rules.mount.to_public(parts.rest)))
}

fn path_token(context: &ToClient<'_>, url: &str) -> Option<PathToken> {
    let session = context.rules.session.as_ref()?;
    let segment = url::segment_token(session, context.rules, url)?;
    let carrier = match segment.style {
        SegmentStyle::Wrapped => Carrier::Wrapped,
        SegmentStyle::Bare => Carrier::Bare,
    };
    Some(PathToken { id: segment.id.into(), carrier })
}

/// The edit that [`PathToken`] stands for.
#[must_use]
pub fn path_edit<'a>(context: &ToClient<'_>, token: &'a PathToken) -> Option<Edit<'a>> {
    let session = context.rules.session.as_ref()?;
    let part = session.parts().find(|part| part.rule.segment)?;
    Some(Edit {
        name: b"",
        value: Some(token.id.as_bytes()),
        path: b"/",
        host: b"",
        subdomains: false,
        expires: 0,
        role: part.role,
        parts: part.parts,
        rolling: part.rolling,
        carrier: token.carrier,
        secure: false,
        reach: Reach::default(),
    })
}

fn replace(headers: &mut HeaderMap, name: &HeaderName, edit: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    if !headers.contains_key(name) {
        return;
    }
    let values: SmallVec<[HeaderValue; 2]> = headers.get_all(name).iter().cloned().collect();
    if !values.iter().any(|value| edit(value.as_bytes()).is_some()) {
        return;
    }
    headers.remove(name);
    for value in values {
        let edited = edit(value.as_bytes()).and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        headers.append(name.clone(), edited.unwrap_or(value));
    }
}

/// Replaces the URLs at `spans` of a field's value.
fn splice(
    value: &[u8],
    spans: impl Iterator<Item = std::ops::Range<usize>>,
    edit: impl Fn(&str) -> Option<String>,
) -> Option<Vec<u8>> {
    let (mut out, mut at, mut edited) = (Vec::with_capacity(value.len()), 0, false);
    for span in spans {
        let new = value.get(span.clone()).and_then(|url| std::str::from_utf8(url).ok()).and_then(&edit);
        let Some(new) = new else { continue };
        out.extend_from_slice(value.get(at..span.start)?);
        out.extend_from_slice(new.as_bytes());
        (at, edited) = (span.end, true);
    }
    out.extend_from_slice(value.get(at..)?);
    edited.then_some(out)
}
