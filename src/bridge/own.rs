//! The proxy's own requests to an app: a heartbeat, a sign-out. Made as the person's browser would have made them, and
//! translated by the same [`super::to_app`].

use http::header::{CACHE_CONTROL, COOKIE, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::rules::AppRules;
use super::traits::ClientTraits;
use crate::time::Timestamp;
use crate::wire::set_cookie::{Lifetime, SetCookie};
use crate::wire::{cookie, jar};

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

/// The cookies of `passed` as a browser would send them for the public `path` after it got the Set-Cookie fields `relayed`.
/// Tokens stay out: what the vault holds is what is sent. A deletion takes the name away wherever it was for: the line does
/// not say.
#[must_use]
pub fn passed_after(
    rules: &AppRules,
    (passed, relayed): (&[u8], &[HeaderValue]),
    path: &str,
    now: Timestamp,
) -> Vec<u8> {
    let now_s = i64::try_from(now.secs()).unwrap_or(i64::MAX);
    let is_token = |name: &[u8]| {
        let name = rules.unprefixed(name).unwrap_or(name);
        rules.session.as_ref().is_some_and(|session| session.cookie(name).is_some())
    };
    let mut pairs: Vec<(&[u8], &[u8])> = cookie::pairs(passed).map(|pair| (pair.name, pair.value)).collect();
    let sets = relayed.iter().filter_map(|field| SetCookie::parse(field.as_bytes()));
    for set in sets.filter(|set| !is_token(set.name())) {
        let deletes = set.lifetime(now_s) == Lifetime::Delete;
        let elsewhere = set.path().is_some_and(|place| !jar::path_match(place, path.as_bytes()));
        if deletes || !elsewhere {
            pairs.retain(|(name, _)| *name != set.name());
        }
        if !deletes && !elsewhere {
            pairs.push((set.name(), set.value()));
        }
    }
    let pairs: Vec<Vec<u8>> = pairs.iter().map(|(name, value)| [*name, *value].join(&b'=')).collect();
    pairs.join(&b"; "[..])
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

    #[test]
    fn what_answers_set_goes_along_with_the_next_request_and_tokens_do_not() {
        use super::super::rules::Engine;
        let rules = super::super::testing::app(Engine::Lucee, "appA", "/AppA/");
        let after = |passed: &str, fields: &[&str]| {
            let fields: Vec<HeaderValue> =
                fields.iter().map(|field| HeaderValue::from_str(field).unwrap()).collect();
            let now = Timestamp::from_secs(1_767_225_600);
            let line = passed_after(&rules, (passed.as_bytes(), &fields), "/AppA/logout", now);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(after("", &[]), "");
        assert_eq!(after("theme=dark", &["csrftoken=x; Path=/; Max-Age=100"]), "theme=dark; csrftoken=x");
        assert_eq!(after("csrftoken=old; theme=dark", &["csrftoken=x"]), "theme=dark; csrftoken=x");
        assert_eq!(after("remember=ann", &["remember=; Path=/elsewhere; Max-Age=0"]), "");
        assert_eq!(after("a=1", &["a=2; Path=/elsewhere"]), "a=1", "another cookie of that name");
        assert_eq!(after("a=1", &["CFID=0; Path=/", "appA.CFTOKEN=1"]), "a=1");
    }
}
