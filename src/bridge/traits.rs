//! How a browser introduces itself: what an app may have bound its session to, and a heartbeat therefore repeats.

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, USER_AGENT};
use http::{HeaderMap, HeaderValue};

use crate::wire::fields::Fields;

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
    /// As a request with `fields` says.
    #[must_use]
    pub fn of(fields: &Fields<'_>) -> Self {
        Self {
            user_agent: fields.user_agent.first().cloned(),
            accept: fields.accept.first().cloned(),
            accept_language: fields.accept_language.first().cloned(),
            accept_encoding: fields.accept_encoding.first().cloned(),
        }
    }

    /// True where `fields` say the same: the common case, decided without an allocation.
    #[must_use]
    pub fn match_fields(&self, fields: &Fields<'_>) -> bool {
        fields.user_agent.first() == self.user_agent.as_ref()
            && fields.accept.first() == self.accept.as_ref()
            && fields.accept_language.first() == self.accept_language.as_ref()
            && fields.accept_encoding.first() == self.accept_encoding.as_ref()
    }

    /// Their values, in the order of the fields above.
    #[must_use]
    pub fn values(&self) -> [Option<&HeaderValue>; 4] {
        [&self.user_agent, &self.accept, &self.accept_language, &self.accept_encoding].map(Option::as_ref)
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
        let traits = ClientTraits::of(&Fields::of(&headers));
        let mut out = HeaderMap::new();
        traits.put(&mut out);
        assert_eq!(out, headers);
        assert!(traits.match_fields(&Fields::of(&headers)));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        assert!(!traits.match_fields(&Fields::of(&headers)));
    }
}
