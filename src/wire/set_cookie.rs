//! Set-Cookie: read as browsers read it (RFC 6265bis 5.6), edited by spans of the bytes the app sent.
//!
//! Invariant: an edit that changes nothing returns the input itself; an edit of one part leaves the bytes of
//! all others, unknown attributes and odd spellings included.

use std::ops::Range;

use smallvec::SmallVec;

use super::{date, octets};

mod edit;

pub use edit::{Edit, Flags, deletion};

/// The longest name and value together, in octets, that a browser keeps (RFC 6265bis 5.6).
pub const MAX_PAIR: usize = 4096;
/// The longest attribute value, in octets; a longer attribute is ignored (RFC 6265bis 5.6).
pub const MAX_ATTRIBUTE: usize = 1024;
/// The longest life of a cookie in seconds: 400 days (RFC 6265bis 5.5).
pub const MAX_AGE: i64 = 400 * 86_400;

/// A Set-Cookie value and where its parts lie.
pub struct SetCookie<'a> {
    raw: &'a [u8],
    name: Range<usize>,
    value: Range<usize>,
    attributes: SmallVec<[Attribute; 8]>,
}

/// How long a cookie lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until the browser closes.
    Session,
    /// Until this Unix second, 400 days from now at most.
    Until(i64),
    /// It is to be removed now.
    Delete,
}

impl<'a> SetCookie<'a> {
    /// Reads one field value. `None` where a browser would store nothing: a control octet, no name (nameless
    /// cookies are refused, they can pose as any `__Host-` cookie), or more than 4096 octets of name and
    /// value.
    pub fn parse(raw: &'a [u8]) -> Option<Self> {
        if raw.iter().any(|&octet| matches!(octet, 0x00..=0x08 | 0x0a..=0x1f | 0x7f)) {
            return None;
        }
        let mut chunks = octets::split(raw, b';');
        let (name, value) = pair(raw, chunks.next()?);
        let value = value?;
        if name.is_empty() || name.len() + value.len() > MAX_PAIR {
            return None;
        }
        let attributes = chunks.map(|chunk| Attribute::read(raw, chunk)).collect();
        Some(Self { raw, name, value, attributes })
    }

    /// The cookie's name, trimmed.
    pub fn name(&self) -> &'a [u8] {
        octets::at(self.raw, &self.name)
    }

    /// The cookie's value as a user agent stores it: trimmed, quotes kept.
    pub fn value(&self) -> &'a [u8] {
        octets::at(self.raw, &self.value)
    }

    /// The path, where the last `Path` is absolute; `None` means the default path (`jar::default_path`).
    pub fn path(&self) -> Option<&'a [u8]> {
        self.last(Kind::Path).filter(|path| path.starts_with(b"/"))
    }

    /// The domain without its leading dot, in the app's spelling; `None` for a host-only cookie. An empty
    /// `Domain` is ignored (RFC 6265 5.2.3).
    pub fn domain(&self) -> Option<&'a [u8]> {
        let domain = self.values(Kind::Domain).find(|value| !value.is_empty())?;
        Some(domain.strip_prefix(b".").unwrap_or(domain))
    }

    /// `Max-Age` in seconds, saturated; `None` where there is no valid one.
    pub fn max_age(&self) -> Option<i64> {
        self.values(Kind::MaxAge).find_map(max_age)
    }

    /// `Expires` in Unix seconds; `None` where there is no date that can be read.
    pub fn expires(&self) -> Option<i64> {
        self.values(Kind::Expires).find_map(date::parse)
    }

    /// Whether it has `Secure`.
    pub fn secure(&self) -> bool {
        self.last(Kind::Secure).is_some()
    }

    /// Whether it has `HttpOnly`.
    pub fn http_only(&self) -> bool {
        self.last(Kind::HttpOnly).is_some()
    }

    /// Whether it has `Partitioned`.
    pub fn partitioned(&self) -> bool {
        self.last(Kind::Partitioned).is_some()
    }

    /// The last `SameSite` in the app's spelling, unknown words included.
    pub fn same_site(&self) -> Option<&'a [u8]> {
        self.last(Kind::SameSite)
    }

    /// How long it lives from `now_s` (Unix seconds): `Max-Age` wins over `Expires`, 400 days is the most.
    pub fn lifetime(&self, now_s: i64) -> Lifetime {
        let latest = now_s.saturating_add(MAX_AGE);
        let end = match (self.max_age(), self.expires()) {
            (Some(seconds), _) if seconds <= 0 => return Lifetime::Delete,
            (Some(seconds), _) => now_s.saturating_add(seconds),
            (None, Some(at)) if at <= now_s => return Lifetime::Delete,
            (None, Some(at)) => at,
            (None, None) => return Lifetime::Session,
        };
        Lifetime::Until(end.min(latest))
    }

    /// Whether the name's prefix (`__Secure-`, `__Host-`, any case) holds for an answer over a secure origin
    /// or not (RFC 6265bis 4.1.3); true for names without one.
    pub fn prefix_ok(&self, secure_origin: bool) -> bool {
        let name = self.name();
        let starts =
            |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
        if starts(b"__Host-") {
            return secure_origin && self.secure() && self.domain().is_none() && self.path() == Some(b"/");
        }
        !starts(b"__Secure-") || (secure_origin && self.secure())
    }

    /// Values of all attributes of a kind that a browser would heed, the last first.
    fn values(&self, kind: Kind) -> impl Iterator<Item = &'a [u8]> {
        let found = self.attributes.iter().rev().filter(move |attribute| attribute.kind == kind);
        found.map(|attribute| attribute.value(self.raw)).filter(|value| value.len() <= MAX_ATTRIBUTE)
    }

    fn last(&self, kind: Kind) -> Option<&'a [u8]> {
        self.values(kind).next()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Path,
    Domain,
    Expires,
    MaxAge,
    Secure,
    HttpOnly,
    SameSite,
    Partitioned,
    Other,
}

impl Kind {
    const KNOWN: [Self; 8] = [
        Self::Path,
        Self::Domain,
        Self::Expires,
        Self::MaxAge,
        Self::Secure,
        Self::HttpOnly,
        Self::SameSite,
        Self::Partitioned,
    ];

    fn of(name: &[u8]) -> Self {
        Self::KNOWN.into_iter().find(|kind| name.eq_ignore_ascii_case(kind.spelling())).unwrap_or(Self::Other)
    }

    fn spelling(self) -> &'static [u8] {
        match self {
            Self::Path => b"Path",
            Self::Domain => b"Domain",
            Self::Expires => b"Expires",
            Self::MaxAge => b"Max-Age",
            Self::Secure => b"Secure",
            Self::HttpOnly => b"HttpOnly",
            Self::SameSite => b"SameSite",
            Self::Partitioned => b"Partitioned",
            Self::Other => b"",
        }
    }
}

struct Attribute {
    kind: Kind,
    /// From its `;` to the next one.
    chunk: Range<usize>,
    name: Range<usize>,
    value: Option<Range<usize>>,
}

impl Attribute {
    fn read(raw: &[u8], chunk: Range<usize>) -> Self {
        let (name, value) = pair(raw, chunk.clone());
        let kind = Kind::of(octets::at(raw, &name));
        Self { kind, chunk: chunk.start.saturating_sub(1)..chunk.end, name, value }
    }

    fn value<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        self.value.as_ref().map_or(&b""[..], |value| octets::at(raw, value))
    }
}

/// Name and value of a chunk, trimmed; no value where there is no `=`.
fn pair(raw: &[u8], chunk: Range<usize>) -> (Range<usize>, Option<Range<usize>>) {
    match memchr::memchr(b'=', octets::at(raw, &chunk)).map(|offset| chunk.start + offset) {
        Some(equals) => {
            (octets::trim(raw, chunk.start..equals), Some(octets::trim(raw, equals + 1..chunk.end)))
        }
        None => (octets::trim(raw, chunk), None),
    }
}

/// RFC 6265bis 5.6.2: digits after an optional `-`, anything else is no Max-Age.
fn max_age(value: &[u8]) -> Option<i64> {
    let (sign, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, value),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let sum = digits
        .iter()
        .fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(sign * sum)
}

#[cfg(test)]
mod tests;
