//! Raw token names in urlencoded bodies, for the engines that read them there: cut, or made unreadable.
//!
//! Multipart bodies are not read. What is short is cut and gets a new length; what is long streams, and the bytes of such a
//! name are overwritten, so that the length holds.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::BodyExt as _;

use super::error::Error;
use crate::bridge::rules::{FormTokens, SessionRules};
use crate::bridge::url;
use crate::net::body::{Body, BodyError, Filter};
use crate::net::client::SendError;
use crate::wire::fields::Fields;
use crate::wire::form;

/// Bodies up to this are cut; longer ones stream.
const CUT: u64 = 256 * 1024;

/// True where the body of a request with `fields` is a form.
#[must_use]
pub(super) fn is_form(fields: &Fields<'_>) -> bool {
    is_urlencoded(fields)
        || fields.content_type.first().is_some_and(|value| starts_with(value, b"multipart/form-data"))
}

fn is_urlencoded(fields: &Fields<'_>) -> bool {
    fields.content_type.first().is_some_and(|value| starts_with(value, b"application/x-www-form-urlencoded"))
}

fn starts_with(value: &HeaderValue, kind: &[u8]) -> bool {
    value.as_bytes().get(..kind.len()).is_some_and(|head| head.eq_ignore_ascii_case(kind))
}

/// Takes the raw names of the app's engine out of `body`; `length` is what Content-Length said.
///
/// # Errors
/// Where a body that must be read here breaks off.
pub(super) async fn clean(
    rules: Option<&SessionRules>,
    fields: &Fields<'_>,
    body: Body,
    length: Option<u64>,
) -> Result<Body, Error> {
    let Some(rules) =
        rules.filter(|rules| rules.engine.reads_forms() && rules.form_tokens == FormTokens::Cut)
    else {
        return Ok(body);
    };
    if !is_urlencoded(fields) {
        return Ok(body);
    }
    if length.is_none_or(|length| length > CUT) {
        return Ok(body.filtered(Masked(form::Mask::new(names(rules)))));
    }
    let whole = body.collect().await.map_err(|error: BodyError| SendError::RequestBody(error))?.to_bytes();
    let is_raw = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| url::is_raw(rules, name));
    Ok(match form::cut(&whole, is_raw) {
        Some(cut) => Body::full(cut),
        None => Body::full(whole),
    })
}

fn names(rules: &SessionRules) -> Arc<[Box<str>]> {
    rules.parts().filter_map(|part| part.rule.query.clone()).collect()
}

/// Overwrites the names in a body that streams.
struct Masked(form::Mask);

impl Filter for Masked {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        Bytes::from(self.0.feed(&chunk).into_owned())
    }

    fn finish(&mut self) -> Bytes {
        Bytes::from(self.0.finish())
    }
}
