use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use http::header::HeaderName;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use regex::bytes::Regex;

use super::*;

async fn encoded(coding: &str, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" | "X-GZip" => GzipEncoder::new(plain).read_to_end(&mut out).await.unwrap(),
        "deflate" => ZlibEncoder::new(plain).read_to_end(&mut out).await.unwrap(),
        "br" => BrotliEncoder::new(plain).read_to_end(&mut out).await.unwrap(),
        "zstd" => ZstdEncoder::new(plain).read_to_end(&mut out).await.unwrap(),
        _ => AsyncReadExt::read_to_end(&mut { plain }, &mut out).await.unwrap(),
    };
    out
}

/// A body that comes in chunks of three bytes and, if so asked, breaks off.
fn chunked(bytes: &[u8], breaks: bool) -> impl Body<Data = Bytes> + use<> {
    let mut frames: Vec<io::Result<_>> =
        bytes.chunks(3).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
    if breaks {
        frames.push(Err(io::ErrorKind::ConnectionReset.into()));
    }
    StreamBody::new(futures_util::stream::iter(frames))
}

const CODINGS: [&str; 6] = ["identity", "gzip", "X-GZip", "deflate", "br", "zstd"];

#[tokio::test]
async fn every_coding_is_taken_off() {
    for coding in CODINGS {
        let body = encoded(coding, b"<p>Signed in as Alice</p>").await;
        let reading = read(chunked(&body, false), Some(&HeaderValue::from_static(coding)), LIMIT).await;
        assert_eq!(reading.text, b"<p>Signed in as Alice</p>", "{coding}");
        assert!(reading.complete && reading.fault.is_none(), "{coding}");
    }
}

#[tokio::test]
async fn a_bomb_is_not_unpacked() {
    let bomb = vec![0; 2 << 20];
    for coding in CODINGS {
        let body = Full::new(Bytes::from(encoded(coding, &bomb).await));
        let reading = read(body, Some(&HeaderValue::from_static(coding)), 1000).await;
        assert_eq!(reading.text.len(), 1000, "{coding}");
        assert!(
            reading.text.capacity() < 100_000 && !reading.complete && reading.fault.is_none(),
            "{coding}"
        );
    }
}

#[tokio::test]
async fn blocks_without_content_do_not_keep_it_busy() {
    // Stored blocks of deflate with nothing in them, for ever, inside gzip.
    let mut body = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    body.extend(b"\0\0\0\xff\xff".repeat(100_000));
    let mut body = Full::new(Bytes::from(body));
    let reading = read(&mut body, Some(&HeaderValue::from_static("gzip")), 1000).await;
    assert_eq!((reading.text.len(), reading.complete, reading.fault), (0, false, Some(Fault::Garbled)));
}

#[tokio::test]
async fn the_limit_tells_an_end_from_a_cut() {
    for (limit, complete) in [(9, false), (10, true), (11, true)] {
        let reading = read(chunked(b"0123456789", false), None, limit).await;
        assert_eq!((reading.text.len(), reading.complete), (limit.min(10), complete));
    }
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let zip = encoded("gzip", b"hello, hello, hello").await;
    let short = zip.get(..zip.len() - 9).unwrap();
    for (coding, body, breaks, fault) in [
        ("gzip, br", &zip[..], false, Fault::Coding),
        ("compress", &zip[..], false, Fault::Coding),
        ("gzip", b"<html>".as_slice(), false, Fault::Garbled),
        ("gzip", short, false, Fault::Garbled),
        ("gzip", short, true, Fault::Broken),
        ("identity", b"<html>".as_slice(), true, Fault::Broken),
    ] {
        let reading = read(chunked(body, breaks), Some(&HeaderValue::from_static(coding)), LIMIT).await;
        assert_eq!((reading.fault, reading.complete), (Some(fault), false), "{coding}");
    }
}

#[tokio::test]
async fn no_body_is_a_whole_body_in_any_coding() {
    for coding in CODINGS {
        let reading = read(chunked(b"", false), Some(&HeaderValue::from_static(coding)), LIMIT).await;
        assert!(reading.text.is_empty() && reading.complete && reading.fault.is_none(), "{coding}");
    }
}

#[test]
fn a_canary_is_found_in_json_by_either_kind_of_path() {
    let find = |path: &str, text: &str| {
        canary(&Canary::Json(path.into()), &HeaderMap::new(), text.as_bytes())
            .map(|it| String::from_utf8(it).unwrap())
    };
    let text = r#"{"session": {"started": "10:31", "ids": [7, {"a/b": true}], "none": null, "empty": ""}}"#;
    for (path, value) in [
        ("session.started", Some("10:31")),
        ("/session/started", Some("10:31")),
        ("session.ids.0", Some("7")),
        ("/session/ids/1/a~1b", Some("true")),
        ("session.ids.1", Some(r#"{"a/b":true}"#)),
        ("session.none", None),
        ("session.empty", None),
        ("session.started.x", None),
        ("session.ids.9", None),
    ] {
        assert_eq!(find(path, text).as_deref(), value, "{path}");
        assert_eq!(find(path, &format!("\u{feff}\r\n//{text}\n")).as_deref(), value, "{path} with a prefix");
        assert_eq!(find(path, text.trim_end_matches('}')), None, "{path} cut short");
    }
}

#[test]
fn a_canary_is_found_by_header_and_by_pattern() {
    let headers =
        HeaderMap::from_iter([(HeaderName::from_static("x-started"), HeaderValue::from_static("42"))]);
    let named = |name| canary(&Canary::Header(HeaderName::from_static(name)), &headers, b"");
    assert_eq!((named("x-started"), named("x-other")), (Some(b"42".to_vec()), None));
    let matched = |pattern| canary(&Canary::Regex(Regex::new(pattern).unwrap()), &headers, b"since=10:31;");
    assert_eq!(matched("since=([0-9:]+)"), Some(b"10:31".to_vec()));
    assert_eq!(matched("[0-9]+:[0-9]+"), Some(b"10:31".to_vec()));
    assert_eq!((matched("until=(.*)"), matched("since=()")), (None, None));
}

#[test]
fn alive_is_a_status_and_a_text() {
    let alive = Alive { status: vec![(200, 299), (304, 304)], contains: "Alice".into() };
    assert_eq!(
        [199, 200, 299, 300, 304].map(|it| alive_status(&alive, it)),
        [false, true, true, false, true]
    );
    assert!(
        contains(&alive.contains, b"as Alice") && !contains(&alive.contains, b"as Bob") && contains("", b"")
    );
}
