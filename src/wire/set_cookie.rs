//! Set-Cookie: read as browsers read it (RFC 6265bis 5.6), edited by spans of the bytes the app sent.
//!
//! Invariant: an edit that changes nothing returns the input itself; an edit of one part leaves the bytes of all
//! others, unknown attributes and odd spellings included.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::{date, octets};

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
    /// Reads one field value. `None` where a browser would store nothing: a control octet, no name (nameless cookies
    /// are refused, they can pose as any `__Host-` cookie), or more than 4096 octets of name and value.
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

    /// The domain without its leading dot, in the app's spelling; `None` for a host-only cookie. An empty `Domain`
    /// is ignored (RFC 6265 5.2.3).
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

    /// Whether the name's prefix (`__Secure-`, `__Host-`, any case) holds for an answer over a secure origin or not
    /// (RFC 6265bis 4.1.3); true for names without one.
    pub fn prefix_ok(&self, secure_origin: bool) -> bool {
        let name = self.name();
        let starts = |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
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

/// Changes to one Set-Cookie value, applied by `finish`.
///
/// Every occurrence of an attribute is changed. In what a caller puts in, an octet that would end the part (`;`,
/// controls, `=` in a name) is written as `_`: a new part can never begin another.
pub struct Edit<'a, 'n> {
    cookie: &'a SetCookie<'a>,
    name: Option<&'n [u8]>,
    value: Option<&'n [u8]>,
    attributes: SmallVec<[(Kind, Change<'n>); 8]>,
}

#[derive(Clone, Copy)]
enum Change<'n> {
    Drop,
    Flag,
    Set(&'n [u8]),
}

impl<'a, 'n> Edit<'a, 'n> {
    /// No change yet.
    pub fn new(cookie: &'a SetCookie<'a>) -> Self {
        Self { cookie, name: None, value: None, attributes: SmallVec::new() }
    }

    /// Another name.
    #[must_use]
    pub fn rename(mut self, name: &'n [u8]) -> Self {
        self.name = Some(name);
        self
    }

    /// Another value.
    #[must_use]
    pub fn value(mut self, value: &'n [u8]) -> Self {
        self.value = Some(value);
        self
    }

    /// Exactly one `Path` of this value, or none.
    #[must_use]
    pub fn path(self, path: Option<&'n [u8]>) -> Self {
        self.change(Kind::Path, path.map_or(Change::Drop, Change::Set))
    }

    /// No `Domain`.
    #[must_use]
    pub fn drop_domain(self) -> Self {
        self.change(Kind::Domain, Change::Drop)
    }

    /// Neither `Expires` nor `Max-Age`: a session cookie.
    #[must_use]
    pub fn drop_expiry(self) -> Self {
        self.change(Kind::Expires, Change::Drop).change(Kind::MaxAge, Change::Drop)
    }

    /// With or without `Secure`.
    #[must_use]
    pub fn secure(self, on: bool) -> Self {
        self.change(Kind::Secure, if on { Change::Flag } else { Change::Drop })
    }

    /// With or without `HttpOnly`.
    #[must_use]
    pub fn http_only(self, on: bool) -> Self {
        self.change(Kind::HttpOnly, if on { Change::Flag } else { Change::Drop })
    }

    /// With or without `Partitioned`.
    #[must_use]
    pub fn partitioned(self, on: bool) -> Self {
        self.change(Kind::Partitioned, if on { Change::Flag } else { Change::Drop })
    }

    /// Exactly one `SameSite` of this word, or none.
    #[must_use]
    pub fn same_site(self, word: Option<&'n [u8]>) -> Self {
        self.change(Kind::SameSite, word.map_or(Change::Drop, Change::Set))
    }

    /// The edited value; the input, borrowed, where nothing changed.
    pub fn finish(&self) -> Cow<'a, [u8]> {
        let cookie = self.cookie;
        let mut patch = Patch { raw: cookie.raw, out: None, copied: 0 };
        if let Some(name) = self.name {
            patch.replace(cookie.name.clone(), b"", name, true);
        }
        if let Some(value) = self.value {
            patch.replace(cookie.value.clone(), b"", value, false);
        }
        let mut met: SmallVec<[Kind; 8]> = SmallVec::new();
        for attribute in &cookie.attributes {
            let Some((kind, change)) = self.attributes.iter().find(|(kind, _)| *kind == attribute.kind) else {
                continue;
            };
            let again = met.contains(kind);
            met.push(*kind);
            match change {
                Change::Flag => {}
                Change::Set(value) if !again => attribute.set(&mut patch, value),
                Change::Set(_) | Change::Drop => patch.remove(attribute.chunk.clone()),
            }
        }
        for (kind, change) in self.attributes.iter().filter(|(kind, _)| !met.contains(kind)) {
            match change {
                Change::Drop => {}
                Change::Flag => patch.append(kind.spelling(), None),
                Change::Set(value) => patch.append(kind.spelling(), Some(value)),
            }
        }
        patch.finish()
    }

    fn change(mut self, kind: Kind, change: Change<'n>) -> Self {
        self.attributes.retain(|(known, _)| *known != kind);
        self.attributes.push((kind, change));
        self
    }
}

/// The attributes of a deletion that must be those of the cookie: browsers do not let an insecure deletion touch a
/// `Secure` cookie, and keep partitioned cookies apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `Secure`.
    pub secure: bool,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `Partitioned`.
    pub partitioned: bool,
}

/// A Set-Cookie value that removes a cookie: `Max-Age=0` and a date of 1970, for browsers that know only one.
pub fn deletion(name: &[u8], path: &[u8], domain: Option<&[u8]>, flags: Flags) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + path.len() + 96);
    extend_clean(&mut out, name, true);
    out.extend_from_slice(b"=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=");
    extend_clean(&mut out, path, false);
    if let Some(domain) = domain {
        out.extend_from_slice(b"; Domain=");
        extend_clean(&mut out, domain, false);
    }
    for (on, word) in [
        (flags.secure, &b"; Secure"[..]),
        (flags.http_only, b"; HttpOnly"),
        (flags.partitioned, b"; Partitioned"),
    ] {
        if on {
            out.extend_from_slice(word);
        }
    }
    out
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

    fn set(&self, patch: &mut Patch<'_>, value: &[u8]) {
        match &self.value {
            Some(range) if octets::at(patch.raw, range).eq_ignore_ascii_case(value) && self.kind == Kind::SameSite => {}
            Some(range) => patch.replace(range.clone(), b"", value, false),
            None => patch.replace(self.name.end..self.name.end, b"=", value, false),
        }
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
    let sum = digits.iter().fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(sign * sum)
}

/// The output so far: all changes come in the order of their places.
struct Patch<'a> {
    raw: &'a [u8],
    out: Option<Vec<u8>>,
    copied: usize,
}

impl<'a> Patch<'a> {
    fn replace(&mut self, range: Range<usize>, before: &[u8], new: &[u8], is_name: bool) {
        if before.is_empty() && octets::at(self.raw, &range) == new {
            return;
        }
        let out = self.upto(range.start);
        out.extend_from_slice(before);
        extend_clean(out, new, is_name);
        self.copied = range.end;
    }

    fn remove(&mut self, range: Range<usize>) {
        self.upto(range.start);
        self.copied = range.end;
    }

    fn append(&mut self, name: &[u8], value: Option<&[u8]>) {
        let end = self.raw.len();
        let out = self.upto(end);
        let open = octets::trimmed(out).ends_with(b";");
        out.extend_from_slice(if open { b" " } else { b"; " });
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            extend_clean(out, value, false);
        }
        self.copied = end;
    }

    /// The output, with everything before `place` in it.
    fn upto(&mut self, place: usize) -> &mut Vec<u8> {
        let kept = octets::at(self.raw, &(self.copied..place));
        let out = self.out.get_or_insert_with(|| Vec::with_capacity(self.raw.len() + 48));
        out.extend_from_slice(kept);
        out
    }

    fn finish(self) -> Cow<'a, [u8]> {
        match self.out {
            None => Cow::Borrowed(self.raw),
            Some(mut out) => {
                out.extend_from_slice(self.raw.get(self.copied..).unwrap_or_default());
                Cow::Owned(out)
            }
        }
    }
}

fn extend_clean(out: &mut Vec<u8>, new: &[u8], is_name: bool) {
    out.extend(new.iter().map(|&octet| match octet {
        0x00..=0x1f | 0x7f | b';' => b'_',
        b'=' if is_name => b'_',
        octet => octet,
    }));
}

#[cfg(test)]
mod tests;
