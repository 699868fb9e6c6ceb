//! The head of an answer: read once, its framing decided.
//!
//! Invariant: one length at the most. Several lengths, a length beside an encoding, an encoding other than `chunked` alone,
//! an encoding from HTTP/1.0: each is refused, never chosen among (RFC 9112, 6.3).

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Response, StatusCode, Version};
use smallvec::SmallVec;

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
pub(crate) struct Head {
    /// Status, version and fields as they came.
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
pub(super) fn take(buffer: &mut BytesMut, to_head: bool) -> Result<Option<Head>, HeadError> {
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
    let start = buffer.as_ptr() as usize;
    let at = |bytes: &[u8]| {
        let from = (bytes.as_ptr() as usize).saturating_sub(start);
        from..from + bytes.len()
    };
    let places: SmallVec<[(Range<usize>, Range<usize>); 32]> =
        answer.headers.iter().map(|field| (at(field.name.as_bytes()), at(field.value))).collect();
    let headers = fields_of(&buffer.split_to(length).freeze(), &places)?;
    let (framing, keeps) = (framing(status, version, &headers, to_head)?, keeps(version, &headers));
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, headers);
    if let Some(reason) = reason {
        parts.extensions.insert(reason);
    }
    // RFC 9110, 8.6: a 204 has no length. An app that says one may send that body.
    let odd = status == StatusCode::NO_CONTENT
        && (parts.headers.contains_key(TRANSFER_ENCODING)
            || parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0"));
    Ok(Some(Head { parts, framing, keeps: keeps && framing != Framing::Close && !odd }))
}

/// Values share the bytes that were read; nothing is copied.
fn fields_of(head: &Bytes, places: &[(Range<usize>, Range<usize>)]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(places.len() + 4);
    for (name, value) in places {
        let name = head.get(name.clone()).and_then(|name| HeaderName::from_bytes(name).ok());
        let value = HeaderValue::from_maybe_shared(head.slice(value.clone())).ok();
        headers.append(name.ok_or(HeadError::Field)?, value.ok_or(HeadError::Field)?);
    }
    Ok(headers)
}

fn framing(
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
    to_head: bool,
) -> Result<Framing, HeadError> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let framing = match (encodings.next(), lengths.next()) {
        (Some(_), Some(_)) => return Err(HeadError::Ambiguous),
        (Some(encoding), None) => {
            let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if encodings.next().is_some() || !chunked || version == Version::HTTP_10 {
                return Err(HeadError::Ambiguous);
            }
            Framing::Chunked
        }
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(HeadError::Ambiguous);
            }
            Framing::Length(number(length.as_bytes()).ok_or(HeadError::Ambiguous)?)
        }
        (None, None) => Framing::Close,
    };
    let bodiless = to_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(if bodiless { Framing::None } else { framing })
}

/// Digits alone, as far as they fit.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn keeps(version: Version, headers: &HeaderMap) -> bool {
    let says = |word: &str| {
        let fields = headers.get_all(CONNECTION).iter().filter_map(|field| field.to_str().ok());
        fields.flat_map(|field| field.split(',')).any(|option| option.trim().eq_ignore_ascii_case(word))
    };
    if version == Version::HTTP_10 { says("keep-alive") && !says("close") } else { !says("close") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Head>, HeadError> {
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
