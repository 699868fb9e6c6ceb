//! How a browser introduces itself: what an app may have bound its session to, and a heartbeat therefore repeats.

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, USER_AGENT};
use http::{HeaderMap, HeaderValue};

/// The four header fields that apps have been seen to bind sessions to (DokuWiki, Lucee's `identify.client`). Shared
/// between the sessions of like browsers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields' own names")]
pub struct ClientTraits {
    pub user_agent: Option<HeaderValue>,
    pub accept: Option<HeaderValue>,
    pub accept_language: Option<HeaderValue>,
    pub accept_encoding: Option<HeaderValue>,
}

impl ClientTraits {
    /// As `headers` say.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self {
            user_agent: headers.get(USER_AGENT).cloned(),
            accept: headers.get(ACCEPT).cloned(),
            accept_language: headers.get(ACCEPT_LANGUAGE).cloned(),
            accept_encoding: headers.get(ACCEPT_ENCODING).cloned(),
        }
    }

    /// True where `headers` say the same: the common case, decided without an allocation.
    #[must_use]
    pub fn match_headers(&self, headers: &HeaderMap) -> bool {
        headers.get(USER_AGENT) == self.user_agent.as_ref()
            && headers.get(ACCEPT) == self.accept.as_ref()
            && headers.get(ACCEPT_LANGUAGE) == self.accept_language.as_ref()
            && headers.get(ACCEPT_ENCODING) == self.accept_encoding.as_ref()
    }

    /// Puts them into `headers`.
    pub fn put(&self, headers: &mut HeaderMap) {
        let fields = [
            (USER_AGENT, &self.user_agent),
            (ACCEPT, &self.accept),
            (ACCEPT_LANGUAGE, &self.accept_language),
            (ACCEPT_ENCODING, &self.accept_encoding),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_what_is_put() {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("Jakarta"));
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("de"));
        let traits = ClientTraits::of(&headers);
        let mut out = HeaderMap::new();
        traits.put(&mut out);
        assert_eq!(out, headers);
        assert!(traits.match_headers(&headers));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        assert!(!traits.match_headers(&headers));
    }
}
