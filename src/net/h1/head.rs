//! The head of an answer: read once, its framing decided.
//!
//! Invariant: one length at the most. Several lengths, a length beside an encoding, an encoding other than `chunked` alone,
//! an encoding from HTTP/1.0: each is refused, never chosen among (RFC 9112, 6.3).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::response::Parts;
use http::{Response, StatusCode, Version};
use smallvec::SmallVec;

use crate::wire::hop;

/// Fields of an answer, at most; legacy apps send more than most.
const MAX_FIELDS: usize = 200;
/// Bytes of a head, at most.
pub(super) const MAX_BYTES: usize = 32 * 1024;

/// How the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    /// Status, version and fields as they came, but for those that concern the connection only.
    pub(crate) parts: Parts,
    /// How its body ends.
    pub(crate) framing: Framing,
    /// True where the app keeps the connection open.
    pub(crate) keeps: bool,
}

/// Why bytes are no head of an answer.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Not HTTP/1.
    #[error("no HTTP/1 answer: {0}")]
    Malformed(#[from] httparse::Error),
    /// A name or value that no field may have, or a status that is none.
    #[error("a field or the status cannot be")]
    Field,
    /// More than 32 KiB, or than 200 fields.
    #[error("the head is too large")]
    TooLarge,
    /// Its end can be read in two ways.
    #[error("the length is ambiguous")]
    Ambiguous,
    /// The connection ended within it.
    #[error("the head broke off")]
    Cut,
    /// One interim answer after another.
    #[error("too many interim answers")]
    Interim,
}

/// Takes a head off the front of `buffer`, where it is there in full. `to_head`: the request was a HEAD.
pub(super) fn take(buffer: &mut BytesMut, to_head: bool) -> Result<Option<AnswerHead>, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut answer,
        buffer,
        &mut fields,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length <= MAX_BYTES => length,
        Ok(httparse::Status::Partial) if buffer.len() < MAX_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(error) => return Err(error.into()),
    };
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(HeadError::Field)?;
    let version = if answer.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let reason =
        answer.reason.filter(|reason| status.canonical_reason() != Some(reason) && !reason.is_empty());
    let reason = reason.and_then(|reason| hyper::ext::ReasonPhrase::try_from(reason.as_bytes()).ok());
    let places = places(&answer, buffer);
    let (headers, said) = fields_of(&buffer.split_to(length).freeze(), &places, status)?;
    let (framing, keeps) = (said.framing(status, version, to_head)?, said.keeps(version));
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    if let Some(reason) = reason {
        parts.extensions.insert(reason);
    }
    // RFC 9110, 8.6: a 204 has no length. An app that says one may send that body.
    let odd = status == StatusCode::NO_CONTENT
        && (said.encoding.is_some() || said.length.as_ref().is_some_and(|length| length != "0"));
    Ok(Some(AnswerHead { parts, framing, keeps: keeps && framing != Framing::Close && !odd }))
}

/// Where a field lies in its head, whose length fits.
#[derive(Clone, Copy)]
struct Place {
    name: (u16, u16),
    value: (u16, u16),
}

fn places(answer: &httparse::Response<'_, '_>, buffer: &[u8]) -> SmallVec<[Place; 24]> {
    let start = buffer.as_ptr() as usize;
    let at = |bytes: &[u8]| {
        let from = (bytes.as_ptr() as usize).saturating_sub(start);
        (from as u16, (from + bytes.len()) as u16)
    };
    let mut places = SmallVec::new();
    for field in &*answer.headers {
        places.push(Place { name: at(field.name.as_bytes()), value: at(field.value) });
    }
    places
}

/// What a head says of its own message and of the connection.
#[derive(Default)]
struct Said {
    encoding: Option<HeaderValue>,
    length: Option<HeaderValue>,
    /// True where either is there twice.
    twice: bool,
    closes: bool,
    keeps: bool,
}

/// The fields that go further: those of the connection end here, but for the protocol that a 101 changes to. Values share the
/// bytes that were read; nothing is copied.
fn fields_of(head: &Bytes, places: &[Place], status: StatusCode) -> Result<(HeaderMap, Said), HeadError> {
    let bytes = |(from, to): (u16, u16)| head.get(usize::from(from)..usize::from(to)).unwrap_or_default();
    let connection = places.iter().filter(|place| bytes(place.name).eq_ignore_ascii_case(b"connection"));
    let named = hop::Named::by(connection.map(|place| bytes(place.value)));
    let (mut headers, mut said) = (HeaderMap::with_capacity(places.len() + 2), Said::default());
    for place in places {
        let name = HeaderName::from_bytes(bytes(place.name)).map_err(|_| HeadError::Field)?;
        let value = head.slice(usize::from(place.value.0)..usize::from(place.value.1));
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| HeadError::Field)?;
        if hop::is_of_answer(name.as_str()) {
            let switches = status == StatusCode::SWITCHING_PROTOCOLS && name == UPGRADE;
            if switches && !hop::offers_http(value.as_bytes()) {
                headers.append(name, value);
            } else {
                said.hear(&name, value);
            }
        } else if !named.has(name.as_str()) {
            if name == CONTENT_LENGTH {
                said.twice |= said.length.replace(value.clone()).is_some();
            }
            headers.append(name, value);
        }
    }
    Ok((headers, said))
}

impl Said {
    fn hear(&mut self, name: &HeaderName, value: HeaderValue) {
        if name == TRANSFER_ENCODING {
            self.twice |= self.encoding.replace(value).is_some();
        } else if name == CONNECTION {
            for option in value.as_bytes().split(|&octet| octet == b',') {
                let option = option.trim_ascii();
                self.closes |= option.eq_ignore_ascii_case(b"close");
                self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
    }

    fn framing(&self, status: StatusCode, version: Version, to_head: bool) -> Result<Framing, HeadError> {
        let framing = match (&self.encoding, &self.length) {
            _ if self.twice => return Err(HeadError::Ambiguous),
            (Some(_), Some(_)) => return Err(HeadError::Ambiguous),
            (Some(encoding), None) => {
                let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
                if !chunked || version == Version::HTTP_10 {
                    return Err(HeadError::Ambiguous);
                }
                Framing::Chunked
            }
            (None, Some(length)) => Framing::Length(number(length.as_bytes()).ok_or(HeadError::Ambiguous)?),
            (None, None) => Framing::Close,
        };
        let bodiless = to_head
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(if bodiless { Framing::None } else { framing })
    }

    fn keeps(&self, version: Version) -> bool {
        !self.closes && (version == Version::HTTP_11 || self.keeps)
    }
}

/// Digits alone, as far as they fit.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<AnswerHead>, HeadError> {
        take(&mut BytesMut::from(text), false)
    }

    fn framing_of(fields: &str) -> Option<Framing> {
        read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).ok().flatten().map(|head| head.framing)
    }

    #[test]
    fn a_length_is_one_length_or_none() {
        assert_eq!(framing_of("Content-Length: 12\r\n"), Some(Framing::Length(12)));
        assert_eq!(framing_of("Transfer-Encoding: Chunked\r\n"), Some(Framing::Chunked));
        assert_eq!(framing_of("Server: x\r\n"), Some(Framing::Close));
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 1a\r\n",
            "Content-Length: \r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n",
        ] {
            assert_eq!(framing_of(fields), None, "{fields:?}");
        }
        assert!(
            read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err(),
            "HTTP/1.0 knows no chunks"
        );
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for text in [
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        let many = "X: y\r\n".repeat(MAX_FIELDS + 1);
        assert!(matches!(read(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")), Err(HeadError::TooLarge)));
        let long = "y".repeat(MAX_BYTES);
        assert!(matches!(read(&format!("HTTP/1.1 200 OK\r\nX: {long}")), Err(HeadError::TooLarge)));
        assert!(matches!(read(&format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n")), Err(HeadError::TooLarge)));
    }

    #[test]
    fn what_follows_stays_and_fields_are_as_they_came() {
        let mut buffer =
            BytesMut::from("HTTP/1.1 404 Nope\r\nSet-Cookie: a=é\r\nX:\r\nset-cookie: b\r\n\r\nbody");
        let head = take(&mut buffer, false).unwrap().unwrap();
        assert_eq!(&buffer[..], b"body");
        assert_eq!(head.parts.status, 404);
        let cookies: Vec<_> = head.parts.headers.get_all("set-cookie").iter().collect();
        assert_eq!((cookies.len(), head.parts.headers.get("x").unwrap().as_bytes()), (2, &b""[..]));
        assert!(
            head.parts.extensions.get::<hyper::ext::ReasonPhrase>().is_some(),
            "the app's own reason phrase"
        );
    }

    #[test]
    fn a_head_that_comes_in_pieces_is_waited_for() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        for at in 0..text.len() {
            let mut buffer = BytesMut::from(&text[..at]);
            assert!(take(&mut buffer, false).unwrap().is_none(), "{at}");
            buffer.extend_from_slice(&text.as_bytes()[at..]);
            assert!(take(&mut buffer, false).unwrap().is_some());
        }
    }

    #[test]
    fn what_has_no_body_has_none_whatever_its_length_says() {
        let mut buffer = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n");
        assert_eq!(take(&mut buffer, true).unwrap().unwrap().framing, Framing::None);
        for status in ["204 No Content", "304 Not Modified", "103 Early Hints"] {
            let head = read(&format!("HTTP/1.1 {status}\r\nContent-Length: 42\r\n\r\n")).unwrap().unwrap();
            assert_eq!(head.framing, Framing::None);
        }
    }

    #[test]
    fn a_connection_is_kept_where_the_app_keeps_it() {
        let kept = |text: &str| read(text).unwrap().unwrap().keeps;
        assert!(kept("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\n\r\n"), "its end is the body's");
        assert!(!kept("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(kept("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(kept("HTTP/1.1 204 No Content\r\n\r\n"));
        assert!(!kept("HTTP/1.1 204 No Content\r\nContent-Length: 12\r\n\r\n"), "a body may follow");
        assert!(!kept("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_panic(bytes: Vec<u8>, to_head: bool) {
            let _ = take(&mut BytesMut::from(&bytes[..]), to_head);
        }
    }
}
