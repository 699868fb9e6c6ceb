//! What the fields of a request are to a proxy, found in one pass over its head.
//!
//! A look-up by name hashes and probes; a request is asked some twenty questions of which most find nothing, so one pass
//! that sorts what is there costs a fraction of that.
//!
//! Invariant: a field that is there twice is never read as if it were there once; whoever asks for the first is told.

use http::header::{HeaderMap, HeaderValue};

/// What a field is to a proxy, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields' own names")]
pub enum Field {
    Host,
    Cookie,
    ContentLength,
    ContentType,
    TransferEncoding,
    Connection,
    Upgrade,
    /// Another one that concerns one connection only.
    Hop,
    Expect,
    Referer,
    Origin,
    Accept,
    AcceptLanguage,
    AcceptEncoding,
    UserAgent,
    FetchSite,
    FetchMode,
    FetchDest,
    RequestId,
    /// One that tells of the client, and that the proxy writes itself: X-Forwarded-For and its like.
    Forwarded,
    /// Another one of that family.
    ForwardedToo,
    /// One that only this proxy sets.
    Own,
    /// Any other.
    Plain,
}

impl Field {
    /// By its lower-case name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        // By the first letter: most names are found, or found to be none, after few comparisons.
        match name.as_bytes() {
            [b'a', ..] => match name {
                "accept" => Self::Accept,
                "accept-language" => Self::AcceptLanguage,
                "accept-encoding" => Self::AcceptEncoding,
                _ => Self::Plain,
            },
            [b'c', ..] => match name {
                "cookie" => Self::Cookie,
                "connection" => Self::Connection,
                "content-length" => Self::ContentLength,
                "content-type" => Self::ContentType,
                "cf-connecting-ip" => Self::ForwardedToo,
                _ => Self::Plain,
            },
            [b'f', ..] => match name {
                "forwarded" => Self::Forwarded,
                "front-end-https" | "fastly-client-ip" => Self::ForwardedToo,
                _ => Self::Plain,
            },
            [b'h', ..] => match name {
                "host" => Self::Host,
                "http2-settings" => Self::Hop,
                _ => Self::Plain,
            },
            [b's', b'e', b'c', ..] => match name {
                "sec-fetch-site" => Self::FetchSite,
                "sec-fetch-mode" => Self::FetchMode,
                "sec-fetch-dest" => Self::FetchDest,
                _ => Self::Plain,
            },
            [b't', ..] => match name {
                "te" | "trailer" => Self::Hop,
                "transfer-encoding" => Self::TransferEncoding,
                "true-client-ip" => Self::ForwardedToo,
                _ => Self::Plain,
            },
            [b'x', ..] => Self::of_x(name),
            _ => match name {
                "user-agent" => Self::UserAgent,
                "upgrade" => Self::Upgrade,
                "referer" => Self::Referer,
                "origin" => Self::Origin,
                "expect" => Self::Expect,
                // `Proxy` becomes a variable that CGI programs obey.
                "keep-alive" | "proxy-connection" | "proxy-authorization" | "proxy" => Self::Hop,
                _ => Self::Plain,
            },
        }
    }

    fn of_x(name: &str) -> Self {
        match name {
            "x-request-id" => Self::RequestId,
            "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port"
            | "x-real-ip" => Self::Forwarded,
            "x-client-ip"
            | "x-cluster-client-ip"
            | "x-original-forwarded-for"
            | "x-original-host"
            | "x-original-url"
            | "x-rewrite-url"
            | "x-url-scheme"
            | "x-scheme" => Self::ForwardedToo,
            _ if name.starts_with("x-forwarded") => Self::ForwardedToo,
            _ if is_own(name) => Self::Own,
            _ => Self::Plain,
        }
    }
}

/// Compared as servers do that turn header names into variables: `_` is `-` to them.
fn is_own(name: &str) -> bool {
    let is = |own: &str| {
        let head = name.as_bytes().get(..own.len());
        head.is_some_and(|head| {
            head.iter().zip(own.bytes()).all(|(&one, other)| one == other || one == b'_' && other == b'-')
        })
    };
    is("x-bridge-") || name.len() == "x-session-heartbeat".len() && is("x-session-heartbeat")
}

/// A field that decides something: the first of its name, and whether there are more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found<'a> {
    first: Option<&'a HeaderValue>,
    repeated: bool,
}

impl<'a> Found<'a> {
    /// The first of them.
    #[must_use]
    pub const fn first(self) -> Option<&'a HeaderValue> {
        self.first
    }

    /// True where there are several.
    #[must_use]
    pub const fn is_repeated(self) -> bool {
        self.repeated
    }

    fn see(&mut self, value: &'a HeaderValue) {
        self.repeated |= self.first.is_some();
        self.first.get_or_insert(value);
    }
}

/// The fields of a request that decide something.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields' own names")]
pub struct Fields<'a> {
    pub host: Found<'a>,
    pub cookie: Found<'a>,
    pub content_length: Found<'a>,
    pub content_type: Found<'a>,
    pub transfer_encoding: Found<'a>,
    pub connection: Found<'a>,
    pub upgrade: Found<'a>,
    pub origin: Found<'a>,
    pub referer: Found<'a>,
    pub accept: Found<'a>,
    pub accept_language: Found<'a>,
    pub accept_encoding: Found<'a>,
    pub user_agent: Found<'a>,
    pub fetch_site: Found<'a>,
    pub fetch_mode: Found<'a>,
    pub fetch_dest: Found<'a>,
    pub request_id: Found<'a>,
    /// All there are.
    pub all: &'a HeaderMap,
}

impl<'a> Fields<'a> {
    /// Sorts the fields of a head.
    #[must_use]
    pub fn of(all: &'a HeaderMap) -> Self {
        let none = Found { first: None, repeated: false };
        let mut fields = Self {
            host: none,
            cookie: none,
            content_length: none,
            content_type: none,
            transfer_encoding: none,
            connection: none,
            upgrade: none,
            origin: none,
            referer: none,
            accept: none,
            accept_language: none,
            accept_encoding: none,
            user_agent: none,
            fetch_site: none,
            fetch_mode: none,
            fetch_dest: none,
            request_id: none,
            all,
        };
        for (name, value) in all {
            if let Some(found) = fields.place(Field::of(name.as_str())) {
                found.see(value);
            }
        }
        fields
    }

    fn place(&mut self, field: Field) -> Option<&mut Found<'a>> {
        Some(match field {
            Field::Host => &mut self.host,
            Field::Cookie => &mut self.cookie,
            Field::ContentLength => &mut self.content_length,
            Field::ContentType => &mut self.content_type,
            Field::TransferEncoding => &mut self.transfer_encoding,
            Field::Connection => &mut self.connection,
            Field::Upgrade => &mut self.upgrade,
            Field::Origin => &mut self.origin,
            Field::Referer => &mut self.referer,
            Field::Accept => &mut self.accept,
            Field::AcceptLanguage => &mut self.accept_language,
            Field::AcceptEncoding => &mut self.accept_encoding,
            Field::UserAgent => &mut self.user_agent,
            Field::FetchSite => &mut self.fetch_site,
            Field::FetchMode => &mut self.fetch_mode,
            Field::FetchDest => &mut self.fetch_dest,
            Field::RequestId => &mut self.request_id,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (name, field) in [
            ("host", Field::Host),
            ("accept", Field::Accept),
            ("accept-charset", Field::Plain),
            ("te", Field::Hop),
            ("proxy", Field::Hop),
            ("proxy-status", Field::Plain),
            ("x-forwarded-for", Field::Forwarded),
            ("x-forwarded-prefix", Field::ForwardedToo),
            ("x-bridge-app", Field::Own),
            ("x_bridge-app", Field::Own),
            ("x_session-heartbeat", Field::Own),
            ("x-session-heartbeats", Field::Plain),
            ("x", Field::Plain),
            ("", Field::Plain),
        ] {
            assert_eq!(Field::of(name), field, "{name}");
        }
    }

    #[test]
    fn what_is_there_twice_says_so() {
        let mut headers = HeaderMap::new();
        headers.append("host", HeaderValue::from_static("a"));
        headers.append("cookie", HeaderValue::from_static("a=1"));
        headers.append("cookie", HeaderValue::from_static("b=2"));
        let fields = Fields::of(&headers);
        assert_eq!((fields.host.first().unwrap(), fields.host.is_repeated()), (&"a".parse().unwrap(), false));
        assert_eq!(fields.cookie.first().unwrap(), "a=1");
        assert!(fields.cookie.is_repeated() && fields.accept.first().is_none());
    }
}
