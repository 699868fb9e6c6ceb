//! Changes to a Set-Cookie value, made on spans of its own bytes.
//!
//! Invariant: what is not asked to change leaves byte for byte, and nothing that is put in begins another
//! attribute.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::{Attribute, Kind, SetCookie};
use crate::wire::octets;

/// Changes to one Set-Cookie value, applied by `finish`.
///
/// Every occurrence of an attribute is changed. In what a caller puts in, an octet that would end the part
/// (`;`, controls, `=` in a name) is written as `_`: a new part can never begin another.
pub struct Edit<'e, 'a> {
    cookie: &'e SetCookie<'a>,
    name: Option<&'e [u8]>,
    value: Option<&'e [u8]>,
    attributes: SmallVec<[(Kind, Change<'e>); 8]>,
}

#[derive(Clone, Copy)]
enum Change<'e> {
    Drop,
    Flag,
    Set(&'e [u8]),
}

impl<'e, 'a> Edit<'e, 'a> {
    /// No change yet.
    pub fn new(cookie: &'e SetCookie<'a>) -> Self {
        Self { cookie, name: None, value: None, attributes: SmallVec::new() }
    }

    /// Another name.
    #[must_use]
    pub fn rename(mut self, name: &'e [u8]) -> Self {
        self.name = Some(name);
        self
    }

    /// Another value.
    #[must_use]
    pub fn value(mut self, value: &'e [u8]) -> Self {
        self.value = Some(value);
        self
    }

    /// Exactly one `Path` of this value, or none.
    #[must_use]
    pub fn path(self, path: Option<&'e [u8]>) -> Self {
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
    pub fn same_site(self, word: Option<&'e [u8]>) -> Self {
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
            let Some((kind, change)) = self.attributes.iter().find(|(kind, _)| *kind == attribute.kind)
            else {
                continue;
            };
            let again = met.contains(kind);
            met.push(*kind);
            match change {
                Change::Flag => {}
                Change::Set(value) if !again => set(attribute, &mut patch, value),
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

    fn change(mut self, kind: Kind, change: Change<'e>) -> Self {
        self.attributes.retain(|(known, _)| *known != kind);
        self.attributes.push((kind, change));
        self
    }
}

/// The attributes of a deletion that must be those of the cookie: browsers do not let an insecure deletion
/// touch a `Secure` cookie, and keep partitioned cookies apart.
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

fn set(attribute: &Attribute, patch: &mut Patch<'_>, value: &[u8]) {
    match &attribute.value {
        Some(range)
            if octets::at(patch.raw, range).eq_ignore_ascii_case(value)
                && attribute.kind == Kind::SameSite => {}
        Some(range) => patch.replace(range.clone(), b"", value, false),
        None => patch.replace(attribute.name.end..attribute.name.end, b"=", value, false),
    }
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
