//! Paths: a normal copy for routing, `;name=value` parameters, and the session segments of cookieless
//! ASP.NET.
//!
//! Invariant: what routes is a copy, what is forwarded keeps its bytes but for the parameter or segment that
//! was cut; a path that servers read in different ways is refused, never guessed. Paths come without their
//! query.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::octets;

/// Why a path cannot be routed: servers disagree on what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    Relative,
    /// A `.` or `..` segment, in any spelling.
    #[error("the path has dot segments")]
    Dots,
    /// A backslash.
    #[error("the path has a backslash")]
    Backslash,
    /// NUL or another control, encoded or not.
    #[error("the path has control characters")]
    Control,
    /// An overlong UTF-8 form or a `%uXXXX` of a character that has a meaning in paths.
    #[error("the path hides a character")]
    Hidden,
}

/// The copy of a path that routing compares: percent-decoded once (but for `%2F`, `%5C` and `%25`),
/// `;parameters` left out, repeated slashes merged. Octets that are no UTF-8 stay escaped, invalid escapes
/// stay as they are.
pub fn normal(path: &str) -> Result<Cow<'_, str>, Ambiguous> {
    if !path.starts_with('/') {
        return Err(Ambiguous::Relative);
    }
    if is_plain(path.as_bytes()) { Ok(Cow::Borrowed(path)) } else { rebuilt(path).map(Cow::Owned) }
}

/// One `;name=value` of a path.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Where it lies in the path, its `;` included.
    pub span: Range<usize>,
    /// Before the first `=`, raw.
    pub name: &'a str,
    /// After the first `=`, raw; `None` where there is none.
    pub value: Option<&'a str>,
}

/// The `;parameters` of all segments, in their order.
pub fn params(path: &str) -> impl Iterator<Item = Parameter<'_>> {
    let bytes = path.as_bytes();
    memchr::memchr_iter(b';', bytes).map(move |start| {
        let rest = bytes.get(start + 1..).unwrap_or_default();
        let end = memchr::memchr2(b';', b'/', rest).map_or(bytes.len(), |offset| start + 1 + offset);
        let text = octets::text_at(path, &(start + 1..end));
        match text.split_once('=') {
            Some((name, value)) => Parameter { span: start..end, name, value: Some(value) },
            None => Parameter { span: start..end, name: text, value: None },
        }
    })
}

/// The path without the parameters whose raw name `which` chooses (`query::key_is` compares). `None` where
/// nothing is cut.
pub fn cut_params(path: &str, mut which: impl FnMut(&str) -> bool) -> Option<String> {
    let mut out: Option<String> = None;
    let mut copied = 0;
    for parameter in params(path).filter(|parameter| which(parameter.name)) {
        let out = out.get_or_insert_with(|| String::with_capacity(path.len()));
        out.push_str(octets::text_at(path, &(copied..parameter.span.start)));
        copied = parameter.span.end;
    }
    let mut out = out?;
    out.push_str(octets::text_at(path, &(copied..path.len())));
    Some(out)
}

/// The path with `;name=value` at the end of its last segment.
pub fn insert_param(path: &str, name: &str, value: &str) -> String {
    format!("{path};{name}={value}")
}

/// How a server without cookies writes the session id into the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentStyle {
    /// `(S(id))`, also with other letters, as in `(A(x)S(id)F(y))`: ASP.NET.
    Wrapped,
    /// `(ID)`, 24 upper-case hexadecimal digits: Mono.
    Bare,
}

/// A segment that carries a session id.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The whole segment and the slash before it.
    pub span: Range<usize>,
    /// The session id, percent-decoded; empty where the segment carries other tickets only.
    pub id: Cow<'a, str>,
    /// How it is written.
    pub style: SegmentStyle,
}

/// The first session segment from `after` (the length of the mount) on. ASP.NET takes it anywhere in the
/// path, and after decoding, so that is where it is looked for.
pub fn session_segment(path: &str, after: usize) -> Option<Segment<'_>> {
    let bytes = path.as_bytes();
    // A mount may end with the slash that begins the segment.
    let from = if after > 0 && bytes.get(after - 1) == Some(&b'/') { after - 1 } else { after };
    let tail = bytes.get(from..)?;
    memchr::memchr_iter(b'/', tail).find_map(|offset| {
        let start = from + offset;
        let inner = start + 1;
        let rest = bytes.get(inner..)?;
        let end = memchr::memchr2(b'/', b';', rest).map_or(bytes.len(), |offset| inner + offset);
        let (id, style) = ticket(octets::text_at(path, &(inner..end)))?;
        Some(Segment { span: start..end, id, style })
    })
}

/// The path without this segment; `/` where nothing else is left.
pub fn cut_segment(path: &str, segment: &Segment<'_>) -> String {
    let before = octets::text_at(path, &(0..segment.span.start));
    let behind = octets::text_at(path, &(segment.span.end..path.len()));
    let slash = if before.is_empty() && !behind.starts_with('/') { "/" } else { "" };
    [before, slash, behind].concat()
}

/// The path with a session segment right behind its mount, whose length is `after`.
pub fn insert_segment(path: &str, after: usize, style: SegmentStyle, id: &str) -> String {
    let (mount, rest) = octets::halves(path, after);
    let (mount, rest) = match mount.strip_suffix('/') {
        Some(shorter) => (shorter, octets::text_at(path, &(shorter.len()..path.len()))),
        None => (mount, rest),
    };
    let slash = if rest.is_empty() { "/" } else { "" };
    match style {
        SegmentStyle::Wrapped => format!("{mount}/(S({id})){slash}{rest}"),
        SegmentStyle::Bare => format!("{mount}/({id}){slash}{rest}"),
    }
}

/// The id in a segment that is a ticket.
fn ticket(segment: &str) -> Option<(Cow<'_, str>, SegmentStyle)> {
    if !segment.starts_with(['(', '%']) {
        return None;
    }
    if !segment.contains('%') {
        let (range, style) = ticket_range(segment)?;
        return Some((Cow::Borrowed(octets::text_at(segment, &range)), style));
    }
    let whole = String::from_utf8(unescaped(segment.as_bytes()).to_vec()).ok()?;
    let (range, style) = ticket_range(&whole)?;
    Some((Cow::Owned(octets::text_at(&whole, &range).to_owned()), style))
}

fn ticket_range(segment: &str) -> Option<(Range<usize>, SegmentStyle)> {
    let inner = segment.strip_prefix('(')?.strip_suffix(')')?;
    if inner.len() == 24 && inner.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'A'..=b'F')) {
        return Some((1..25, SegmentStyle::Bare));
    }
    let mut id = 0..0;
    let mut rest = inner;
    while !rest.is_empty() {
        let letter = rest.bytes().next().filter(u8::is_ascii_alphabetic)?;
        let (value, behind) = octets::halves(rest, 1).1.strip_prefix('(')?.split_once(')')?;
        if letter.eq_ignore_ascii_case(&b'S') {
            let end = segment.len() - 1 - behind.len() - 1;
            id = end - value.len()..end;
        }
        rest = behind;
    }
    (!inner.is_empty()).then_some((id, SegmentStyle::Wrapped))
}

/// Whether a path is its own normal form, by its bytes.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    path.iter().all(|&octet| {
        let plain = match octet {
            b'%' | b';' | b'\\' | 0x7f | 0x00..=0x1f => false,
            b'/' | b'.' => previous != b'/',
            _ => true,
        };
        previous = octet;
        plain
    })
}

fn rebuilt(path: &str) -> Result<String, Ambiguous> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(path.len());
    for segment in octets::split(bytes, b'/').skip(1) {
        let raw = octets::at(bytes, &segment);
        refuse_ambiguous(raw)?;
        let bare = octets::split(raw, b';').next().map_or(raw, |range| octets::at(raw, &range));
        if bare.is_empty() && segment.end < bytes.len() {
            continue;
        }
        out.push(b'/');
        extend_decoded(&mut out, bare);
    }
    Ok(text(out))
}

/// Looks at a segment as the servers do that decode before they split, and those that split before they
/// decode.
fn refuse_ambiguous(raw: &[u8]) -> Result<(), Ambiguous> {
    let plain = unescaped(raw);
    if raw.contains(&b'\\') {
        return Err(Ambiguous::Backslash);
    }
    if plain.iter().any(|octet| matches!(octet, 0x00..=0x1f | 0x7f)) {
        return Err(Ambiguous::Control);
    }
    if is_overlong(&plain) || hides_wide(raw) {
        return Err(Ambiguous::Hidden);
    }
    let dots = plain.split(|octet| matches!(octet, b'/' | b'\\')).any(|piece| {
        let name = piece.split(|&octet| octet == b';').next().unwrap_or_default();
        matches!(name.trim_ascii(), b"." | b"..")
    });
    if dots { Err(Ambiguous::Dots) } else { Ok(()) }
}

/// Overlong forms of ASCII, which only broken decoders take for what they hide: `%c0%af` is a slash to them.
fn is_overlong(plain: &[u8]) -> bool {
    plain.windows(2).any(|pair| matches!(pair, [0xc0, 0xae | 0xaf] | [0xc1, 0x9c]))
        || plain.windows(3).any(|triple| matches!(triple, [0xe0, 0x80 | 0x81, _] | [0xf0, 0x80, 0x80]))
}

/// `%u002e` and its like: IIS decodes them.
fn hides_wide(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'%', raw).any(|at| {
        let code = octets::wide_escape(raw.get(at..).unwrap_or_default());
        matches!(code, Some(0..=0x1f | 0x25 | 0x2e | 0x2f | 0x3b | 0x5c | 0x7f))
    })
}

/// All escapes decoded once.
fn unescaped(raw: &[u8]) -> SmallVec<[u8; 64]> {
    let mut out = SmallVec::new();
    let mut rest = raw;
    while let Some(&first) = rest.first() {
        let (octet, used) = octets::escape(rest).map_or((first, 1), |octet| (octet, 3));
        out.push(octet);
        rest = rest.get(used..).unwrap_or_default();
    }
    out
}

fn extend_decoded(out: &mut Vec<u8>, raw: &[u8]) {
    let mut rest = raw;
    while let Some(&first) = rest.first() {
        let used = match octets::escape(rest) {
            Some(b'/' | b'\\' | b'%') => {
                out.extend_from_slice(rest.get(..3).unwrap_or_default());
                3
            }
            Some(octet) => {
                out.push(octet);
                3
            }
            None => {
                out.push(first);
                1
            }
        };
        rest = rest.get(used..).unwrap_or_default();
    }
}

/// Text of decoded bytes; those that are no UTF-8 are escaped again.
fn text(bytes: Vec<u8>) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.into_bytes(),
    };
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for octet in chunk.invalid() {
            out.push_str(percent_encoding::percent_encode_byte(*octet));
        }
    }
    out
}

#[cfg(test)]
mod tests;
