//! The proxy's own requests to an app: a heartbeat, a sign-out. Made as the person's browser would have made them, and
//! translated by the same [`super::to_app`].

use http::header::{CACHE_CONTROL, COOKIE, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::traits::ClientTraits;

/// Tells an app's owner which requests are heartbeats.
pub const HEARTBEAT: HeaderName = HeaderName::from_static("x-session-heartbeat");

/// The fields of a request in the name of a person: how the browser introduces itself, the cookies that it last sent to
/// this app, and that no cache may answer.
#[must_use]
pub fn headers(traits: Option<&ClientTraits>, passed: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    if let Some(traits) = traits {
        traits.put(&mut headers);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    if !passed.is_empty()
        && let Ok(line) = HeaderValue::from_bytes(passed)
    {
        headers.insert(COOKIE, line);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cache_may_answer_and_the_person_is_recognised() {
        let traits =
            ClientTraits { user_agent: Some(HeaderValue::from_static("MSIE")), ..ClientTraits::default() };
        let headers = headers(Some(&traits), b"theme=dark");
        assert_eq!(headers.get(CACHE_CONTROL).unwrap(), "no-cache");
        assert_eq!(headers.get(http::header::USER_AGENT).unwrap(), "MSIE");
        assert_eq!(headers.get(COOKIE).unwrap(), "theme=dark");
    }
}
