//! Hop-by-hop headers (RFC 9110 7.6.1): what one connection says to another is never copied.
//!
//! Invariant: what `Connection` names goes first, and it can never name away a header that the proxy or the
//! app relies on; our own headers are added afterwards. Content-Length stays for the caller, who frames anew.

use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use smallvec::SmallVec;

use super::fields::Fields;
use super::octets;

/// Fields of an answer that concern only the connection to the app.
#[must_use]
pub fn is_of_answer(name: &str) -> bool {
    match name.as_bytes() {
        [b'c' | b'k' | b'p' | b't' | b'u', ..] => matches!(
            name,
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "proxy-authenticate"
                | "proxy-authentication-info"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
        ),
        _ => false,
    }
}

/// What `Connection` names besides the words and fields that are known anyway: fields that go no further.
#[derive(Debug, Default)]
pub struct Named<'a>(SmallVec<[&'a [u8]; 2]>);

impl<'a> Named<'a> {
    /// By the values of all `Connection` fields.
    pub fn by(fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut named = SmallVec::new();
        for field in fields {
            // What nearly all say, and that names nothing.
            if !field.eq_ignore_ascii_case(b"keep-alive") && !field.eq_ignore_ascii_case(b"close") {
                named.extend(options_of(field).filter(|option| !is_protected(option)));
            }
        }
        Self(named)
    }

    /// By the `Connection` fields of `fields`.
    #[must_use]
    pub fn by_request(fields: &Fields<'a>) -> Self {
        match (fields.connection.first(), fields.connection.is_repeated()) {
            (None, _) => Self::default(),
            (Some(field), false) => Self::by([field.as_bytes()]),
            (Some(_), true) => Self::by(fields.all.get_all(CONNECTION).iter().map(HeaderValue::as_bytes)),
        }
    }

    /// True for a field that is named.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|named| named.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// The protocol that a message wants to change to: `Upgrade`, where `Connection` names it and there is one.
///
/// An offer of another HTTP version is none: Java's clients send `h2c` with every request, bodies included, and an app
/// that took it would speak past the proxy (RFC 9113, 3.1, has done away with it). What is offered may be ignored.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut fields = headers.get_all(UPGRADE).iter();
    let protocol = fields.next()?;
    let mut options = headers.get_all(CONNECTION).iter().flat_map(|field| options_of(field.as_bytes()));
    let is_only = fields.next().is_none() && !offers_http(protocol.as_bytes());
    (is_only && options.any(|option| option.eq_ignore_ascii_case(b"upgrade"))).then(|| protocol.clone())
}

/// True where one of the protocols in an Upgrade field is HTTP itself: `h2c`, `h2`, `HTTP/2.0`.
#[must_use]
pub fn offers_http(field: &[u8]) -> bool {
    octets::split(field, b',').any(|range| {
        let name = octets::trimmed(octets::at(field, &range));
        [&b"h2"[..], b"http/"]
            .iter()
            .any(|own| name.get(..own.len()).is_some_and(|n| n.eq_ignore_ascii_case(own)))
    })
}

/// The comma-separated options of a Connection field.
fn options_of(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    octets::split(field, b',').map(move |range| octets::trimmed(octets::at(field, &range)))
}

/// Names that no Connection option removes: they route, authenticate, frame or are the proxy's own.
fn is_protected(name: &[u8]) -> bool {
    let exact = [
        "host",
        "cookie",
        "set-cookie",
        "content-length",
        "content-type",
        "content-encoding",
        "content-range",
        "authorization",
        "www-authenticate",
        "forwarded",
        "location",
        "origin",
        "referer",
        "cache-control",
        "vary",
        "expires",
        "x-real-ip",
        "x-request-id",
        "x-session-heartbeat",
        "strict-transport-security",
        "content-security-policy",
        "x-frame-options",
        "via",
    ];
    exact.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
        || ["x-forwarded-", "x-bridge-", "sec-"].iter().any(|family| {
            name.get(..family.len()).is_some_and(|head| head.eq_ignore_ascii_case(family.as_bytes()))
        })
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn head(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn what_connection_names_goes_but_for_the_protected() {
        let headers = head(&[
            ("connection", "close, X-Drop , X-Forwarded-For, Cookie"),
            ("connection", "host,x-bridge-error,,bad name"),
        ]);
        let named = Named::by_request(&Fields::of(&headers));
        assert!(named.has("x-drop"));
        for name in ["x-forwarded-for", "cookie", "host", "x-bridge-error", "x-keep", "x-dro"] {
            assert!(!named.has(name), "{name}");
        }
    }

    #[test]
    fn the_fixed_ones_go_without_connection() {
        for name in ["keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authenticate"] {
            assert!(is_of_answer(name), "{name}");
        }
        for name in ["set-cookie", "content-length", "content-type", "upgrade-insecure-requests", "t", ""] {
            assert!(!is_of_answer(name), "{name}");
        }
    }

    #[test]
    fn upgrades_need_both() {
        let both = head(&[("connection", "keep-alive, UPGRADE"), ("upgrade", "websocket")]);
        assert_eq!(upgrade(&both).unwrap(), "websocket");
        assert_eq!(upgrade(&head(&[("connection", "upgrade")])), None);
        assert_eq!(upgrade(&head(&[("upgrade", "websocket")])), None);
        assert_eq!(upgrade(&head(&[("connection", "upgrades"), ("upgrade", "websocket")])), None);
        for http in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "h2"] {
            assert_eq!(upgrade(&head(&[("connection", "upgrade"), ("upgrade", http)])), None, "{http}");
        }
        let two = head(&[("connection", "upgrade"), ("upgrade", "a"), ("upgrade", "b")]);
        assert_eq!(upgrade(&two), None);
    }

    proptest! {
        #[test]
        fn nothing_else_is_named(
            names in prop::collection::vec("x-[a-d]{1,2}", 0..6),
            listed in prop::collection::vec("x-[a-d]{1,2}", 0..3),
        ) {
            let line = listed.join(", ").to_uppercase();
            let named = Named::by([line.as_bytes()]);
            for name in &names {
                prop_assert_eq!(named.has(name), listed.contains(name));
            }
        }
    }
}
