//! Hop-by-hop headers (RFC 9110 7.6.1): what one connection says to another is never copied.
//!
//! Invariant: what `Connection` names goes first, and it can never name away a header that the proxy or the
//! app relies on; our own headers are added afterwards. Content-Length stays for the caller, who frames anew.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use smallvec::SmallVec;

use super::octets;

const REQUEST: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

const RESPONSE: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authentication-info",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Removes what concerns only the connection to the client, `Proxy` included (it becomes a variable that CGI
/// programs obey). Ask `upgrade` first.
pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers, &REQUEST);
}

/// Removes what concerns only the connection to the app.
pub fn strip_response(headers: &mut HeaderMap) {
    strip(headers, &RESPONSE);
}

/// The protocol that a message wants to change to: `Upgrade`, where `Connection` names it and there is one.
///
/// An offer of another HTTP version is none: Java's clients send `h2c` with every request, bodies included, and an app
/// that took it would speak past the proxy (RFC 9113, 3.1, has done away with it). What is offered may be ignored.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut fields = headers.get_all(UPGRADE).iter();
    let protocol = fields.next()?;
    let named = || options(headers).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    let is_only = fields.next().is_none() && !offers_http(protocol.as_bytes());
    (is_only && named()).then(|| protocol.clone())
}

/// True where one of the protocols in an Upgrade field is HTTP itself: `h2c`, `h2`, `HTTP/2.0`.
fn offers_http(field: &[u8]) -> bool {
    octets::split(field, b',').any(|range| {
        let name = octets::trimmed(octets::at(field, &range));
        [&b"h2"[..], b"http/"]
            .iter()
            .any(|own| name.get(..own.len()).is_some_and(|n| n.eq_ignore_ascii_case(own)))
    })
}

fn strip(headers: &mut HeaderMap, fixed: &[&'static str]) {
    if headers.contains_key(CONNECTION) {
        let named: SmallVec<[HeaderName; 4]> =
            options(headers).filter_map(|option| HeaderName::from_bytes(option).ok()).collect();
        for name in named.iter().filter(|name| !is_protected(name.as_str())) {
            headers.remove(name);
        }
    }
    // One pass over what is there is cheaper than a look-up for each of what is mostly not.
    let present: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| fixed.contains(&name.as_str())).cloned().collect();
    for name in present {
        headers.remove(name);
    }
}

/// The comma-separated options of all Connection fields.
fn options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(CONNECTION).iter().flat_map(|field| {
        let field = field.as_bytes();
        octets::split(field, b',').map(move |range| octets::trimmed(octets::at(field, &range)))
    })
}

/// Names that no Connection option removes: they route, authenticate, frame or are the proxy's own.
fn is_protected(name: &str) -> bool {
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
    exact.contains(&name)
        || ["x-forwarded-", "x-bridge-", "sec-"].iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        let mut headers = head(&[
            ("connection", "close, X-Drop , X-Forwarded-For, Cookie"),
            ("connection", "host,x-bridge-error,,bad name"),
            ("x-drop", "1"),
            ("x-forwarded-for", "1.2.3.4"),
            ("cookie", "a=b"),
            ("host", "a.org"),
            ("x-bridge-error", "x"),
            ("x-keep", "2"),
        ]);
        strip_request(&mut headers);
        let kept = head(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("cookie", "a=b"),
            ("host", "a.org"),
            ("x-bridge-error", "x"),
            ("x-keep", "2"),
        ]);
        assert_eq!(headers, kept);
    }

    #[test]
    fn the_fixed_ones_go_without_connection() {
        let mut headers = head(&[
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-connection", "x"),
            ("proxy-authorization", "x"),
            ("proxy", "http://evil"),
            ("content-length", "3"),
        ]);
        strip_request(&mut headers);
        assert_eq!(headers, head(&[("content-length", "3")]));
        let mut headers = head(&[("proxy-authenticate", "x"), ("upgrade", "a"), ("set-cookie", "a=b")]);
        strip_response(&mut headers);
        assert_eq!(headers, head(&[("set-cookie", "a=b")]));
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
        fn nothing_else_is_lost(
            names in prop::collection::vec("x-[a-d]{1,2}", 0..6),
            listed in prop::collection::vec("x-[a-d]{1,2}", 0..3),
        ) {
            let mut headers = HeaderMap::new();
            for name in &names {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_static("v"));
            }
            headers.insert(CONNECTION, HeaderValue::from_str(&listed.join(", ")).unwrap());
            strip_response(&mut headers);
            let expected = names.iter().filter(|name| !listed.contains(name)).count();
            prop_assert_eq!(headers.len(), expected);
        }
    }
}
