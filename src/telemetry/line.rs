//! One line of the access log.
//!
//! Invariant: one request is one line, whatever it had in it; a path gets here only as a [`CleanPath`].

use std::net::IpAddr;
use std::time::Duration;

use http::{Method, Version};

use super::escape;
use super::request_id::hex_digit;
use crate::digits;
use crate::time::Timestamp;

/// Bytes of a path that are logged at the most.
const MAX_PATH: usize = 2048;
/// Bytes of any other text that comes from a client.
const MAX_TEXT: usize = 256;
/// As long as the time to the second in RFC 3339.
const SECOND: usize = "1970-01-01T00:00:00".len();

/// A path, with its query where that is to be logged, that has no token in it any more.
#[derive(Clone, Copy, Debug)]
pub struct CleanPath<'a>(&'a str);

impl<'a> CleanPath<'a> {
    /// Vouches that every token has been cut from `path`. Every caller is a place to review.
    #[must_use]
    pub const fn cleaned(path: &'a str) -> Self {
        Self(path)
    }
}

/// What the access log says of a request.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When its head had arrived.
    pub time: Timestamp,
    /// Its id.
    pub id: &'a str,
    /// Who sent it; `None` on a unix socket.
    pub client: Option<IpAddr>,
    /// Its method.
    pub method: &'a Method,
    /// The host asked for.
    pub host: &'a str,
    /// The path asked for.
    pub path: CleanPath<'a>,
    /// HTTP's version between browser and proxy.
    pub version: Version,
    /// The status it was answered with.
    pub status: u16,
    /// How it ended: a word of [`super::Reason`].
    pub reason: &'a str,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From its head to the end of its answer.
    pub duration: Duration,
    /// From asking the upstream to the head of its answer.
    pub upstream_ms: Option<Duration>,
    /// The app's name.
    pub app: Option<&'a str>,
    /// Which of the app's upstreams.
    pub upstream: Option<usize>,
    /// The bridge session's handle: a keyed hash, never the id.
    pub bridge: Option<u64>,
    /// True where it counts as the person's activity.
    pub activity: bool,
    /// How the token came: `vault`, `browser`, `url` or `none`.
    pub token: &'a str,
    /// What happened to the session: words joined by commas, empty for nothing.
    pub events: &'a str,
    /// What the client calls itself.
    pub user_agent: Option<&'a [u8]>,
}

/// Writes lines in one format.
#[derive(Debug)]
pub(super) struct Lines {
    json: bool,
    second: u64,
    /// `second` in RFC 3339, without the zone.
    text: [u8; SECOND],
}

impl Lines {
    pub(super) const fn new(json: bool) -> Self {
        Self { json, second: 0, text: *b"1970-01-01T00:00:00" }
    }

    /// Appends `line` and a line feed.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, line: &Line<'_>) {
        if self.json {
            self.push_json(out, line)
        } else {
            self.push_text(out, line)
        }
        out.push(b'\n');
    }

    fn push_json(&mut self, out: &mut Vec<u8>, line: &Line<'_>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.time(out, line.time);
        text(out, b"\",\"id\":\"", line.id.as_bytes(), MAX_TEXT);
        if let Some(client) = line.client {
            out.extend_from_slice(b"\",\"client\":\"");
            digits::address(out, client);
        }
        out.extend_from_slice(b"\",\"method\":\"");
        // A method, like our own words below, has nothing to escape: token characters only (RFC 9110, 9.1).
        let method = line.method.as_str().as_bytes();
        out.extend_from_slice(method.get(..MAX_TEXT).unwrap_or(method));
        text(out, b"\",\"host\":\"", line.host.as_bytes(), MAX_TEXT);
        text(out, b"\",\"path\":\"", line.path.0.as_bytes(), MAX_PATH);
        out.extend_from_slice(b"\",\"version\":\"");
        out.extend_from_slice(version(line.version).as_bytes());
        integer(out, b"\",\"status\":", line.status.into());
        out.extend_from_slice(b",\"reason\":\"");
        out.extend_from_slice(line.reason.as_bytes());
        integer(out, b"\",\"bytes_out\":", line.bytes_out);
        out.extend_from_slice(b",\"duration_ms\":");
        millis(out, line.duration);
        if let Some(duration) = line.upstream_ms {
            out.extend_from_slice(b",\"upstream_ms\":");
            millis(out, duration);
        }
        push_json_session(out, line);
        out.push(b'}');
    }

    /// `TIME ID CLIENT "METHOD HOST PATH VERSION" STATUS REASON BYTES DURATIONms UPSTREAMms APP/UPSTREAM
    /// BRIDGE ACTIVITY TOKEN EVENTS "USER AGENT"`, with `-` for what there is not: as many words in every
    /// line.
    fn push_text(&mut self, out: &mut Vec<u8>, line: &Line<'_>) {
        self.time(out, line.time);
        word(out, line.id);
        out.push(b' ');
        match line.client {
            Some(client) => digits::address(out, client),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b" \"");
        escape::push(out, line.method.as_str().as_bytes(), MAX_TEXT);
        word(out, line.host);
        out.push(b' ');
        escape::push(out, line.path.0.as_bytes(), MAX_PATH);
        word(out, version(line.version));
        out.extend_from_slice(b"\" ");
        digits::number(out, line.status.into());
        word(out, line.reason);
        out.push(b' ');
        digits::number(out, line.bytes_out);
        out.push(b' ');
        millis(out, line.duration);
        out.extend_from_slice(b"ms ");
        match line.upstream_ms {
            Some(duration) => {
                millis(out, duration);
                out.extend_from_slice(b"ms");
            }
            None => out.push(b'-'),
        }
        push_text_session(out, line);
    }

    fn time(&mut self, out: &mut Vec<u8>, time: Timestamp) {
        if time.secs() != self.second {
            self.second = time.secs();
            self.text = second_text(time.secs()).unwrap_or(*b"9999-12-31T23:59:59");
        }
        out.extend_from_slice(&self.text);
        out.push(b'.');
        digits::three(out, time.millis());
        out.push(b'Z');
    }
}

fn push_json_session(out: &mut Vec<u8>, line: &Line<'_>) {
    if let Some(app) = line.app {
        text(out, b",\"app\":\"", app.as_bytes(), MAX_TEXT);
        out.push(b'"');
    }
    if let Some(upstream) = line.upstream {
        integer(out, b",\"upstream\":", upstream as u64);
    }
    if let Some(bridge) = line.bridge {
        out.extend_from_slice(b",\"bridge\":\"");
        hex(out, bridge);
        out.push(b'"');
    }
    out.extend_from_slice(if line.activity { b",\"activity\":true" } else { b",\"activity\":false" });
    out.extend_from_slice(b",\"token\":\"");
    out.extend_from_slice(line.token.as_bytes());
    if !line.events.is_empty() {
        text(out, b"\",\"events\":\"", line.events.as_bytes(), MAX_TEXT);
    }
    if let Some(agent) = line.user_agent {
        text(out, b"\",\"user_agent\":\"", agent, MAX_TEXT);
    }
    out.push(b'"');
}

fn push_text_session(out: &mut Vec<u8>, line: &Line<'_>) {
    word(out, line.app.unwrap_or("-"));
    if let Some(upstream) = line.upstream {
        out.push(b'/');
        digits::number(out, upstream as u64);
    }
    out.push(b' ');
    match line.bridge {
        Some(bridge) => hex(out, bridge),
        None => out.push(b'-'),
    }
    word(out, if line.activity { "active" } else { "background" });
    word(out, line.token);
    word(out, if line.events.is_empty() { "-" } else { line.events });
    out.extend_from_slice(b" \"");
    escape::push(out, line.user_agent.unwrap_or(b"-"), MAX_TEXT);
    out.push(b'"');
}

/// `None` for years that RFC 3339 does not have.
fn second_text(secs: u64) -> Option<[u8; SECOND]> {
    let text = jiff::Timestamp::from_second(i64::try_from(secs).ok()?).ok()?.to_string();
    text.as_bytes().first_chunk().copied()
}

fn word(out: &mut Vec<u8>, word: &str) {
    out.push(b' ');
    escape::push(out, word.as_bytes(), MAX_TEXT);
}

/// What stands before a string, its opening quote included, and the string. The quote that ends it is the next piece's.
fn text(out: &mut Vec<u8>, before: &[u8], value: &[u8], limit: usize) {
    out.extend_from_slice(before);
    escape::push(out, value, limit);
}

fn integer(out: &mut Vec<u8>, before: &[u8], value: u64) {
    out.extend_from_slice(before);
    digits::number(out, value);
}

/// Milliseconds to the microsecond: `12.345`.
fn millis(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    digits::number(out, micros / 1000);
    out.push(b'.');
    digits::three(out, micros);
}

fn hex(out: &mut Vec<u8>, value: u64) {
    out.extend((0..16).rev().map(|at| hex_digit(value >> (4 * at))));
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// A line with everything in it.
    pub(in crate::telemetry) fn line() -> Line<'static> {
        Line {
            time: Timestamp::from_micros(1_800_000_000_045_678),
            id: "0123456789abcdef",
            client: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
            method: &Method::GET,
            host: "apps.example.org",
            path: CleanPath::cleaned("/builder/list.cfm?page=2"),
            version: Version::HTTP_11,
            status: 200,
            reason: "ok",
            bytes_out: 10_240,
            duration: Duration::from_micros(12_345),
            upstream_ms: Some(Duration::from_micros(11_007)),
            app: Some("builder"),
            upstream: Some(0),
            bridge: Some(0xff),
            activity: true,
            token: "vault",
            events: "created,rotated",
            user_agent: Some(b"Mozilla/5.0 \"x\""),
        }
    }

    fn written(json: bool, line: &Line<'_>) -> String {
        let mut out = Vec::new();
        Lines::new(json).push(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_every_field() {
        let text = written(true, &line());
        let wanted = serde_json::json!({
            "time": "2027-01-15T08:00:00.045Z", "id": "0123456789abcdef",
            "client": "192.0.2.7", "method": "GET", "host": "apps.example.org",
            "path": "/builder/list.cfm?page=2", "version": "HTTP/1.1",
            "status": 200, "reason": "ok", "bytes_out": 10240,
            "duration_ms": 12.345, "upstream_ms": 11.007, "app": "builder", "upstream": 0,
            "bridge": "00000000000000ff", "activity": true, "token": "vault",
            "events": "created,rotated", "user_agent": "Mozilla/5.0 \"x\"",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), wanted);
    }

    #[test]
    fn json_leaves_out_what_there_is_not() {
        let bare = Line {
            client: None,
            upstream_ms: None,
            app: None,
            upstream: None,
            bridge: None,
            events: "",
            user_agent: None,
            ..line()
        };
        let value: serde_json::Value = serde_json::from_str(&written(true, &bare)).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 12);
    }

    #[test]
    fn text_has_as_many_words_in_every_line() {
        assert_eq!(
            written(false, &line()),
            "2027-01-15T08:00:00.045Z 0123456789abcdef 192.0.2.7 \
             \"GET apps.example.org /builder/list.cfm?page=2 HTTP/1.1\" 200 ok 10240 12.345ms 11.007ms builder/0 00000000000000ff active vault created,rotated \
             \"Mozilla/5.0 \\\"x\\\"\"\n"
        );
        let bare = Line {
            client: None,
            upstream_ms: None,
            app: None,
            upstream: None,
            bridge: None,
            events: "",
            user_agent: None,
            ..line()
        };
        assert!(written(false, &bare).ends_with("200 ok 10240 12.345ms - - - active vault - \"-\"\n"));
    }

    #[test]
    fn a_request_cannot_forge_a_line() {
        let evil = Line {
            path: CleanPath::cleaned("/a\n{\"status\":200}\u{202e}"),
            host: "h\r\n",
            user_agent: Some(b"\x1b[31m\n\xff"),
            client: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            ..line()
        };
        for json in [false, true] {
            let text = written(json, &evil);
            assert_eq!(text.matches('\n').count(), 1);
            assert!(!text.contains(['\r', '\x1b', '\u{202e}']));
        }
    }

    #[test]
    fn times_are_written_anew_each_second() {
        let mut lines = Lines::new(false);
        let mut write = |millis| {
            let mut out = Vec::new();
            lines.push(&mut out, &Line { time: Timestamp::from_millis(millis), ..line() });
            String::from_utf8(out).unwrap().split(' ').next().unwrap().to_owned()
        };
        assert_eq!(write(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(write(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(write(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(write(u64::MAX / 1000), "9999-12-31T23:59:59.551Z");
    }

    #[test]
    fn numbers_are_written_whole() {
        for value in [0, 9, 10, 99, 100, 18_446_744_073_709_551_615] {
            let mut out = Vec::new();
            digits::number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
