//! Urlencoded bodies: fields cut from a whole one, or their names overwritten in one that streams.
//!
//! Invariant: a field that is not chosen keeps its bytes; masking never changes the length of the body.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::octets;
use super::query::{self, KeyMatch};

/// The body without the fields whose raw name `which` chooses (`query::key_bytes_are` compares). Fields are
/// split at `&` only, as servers split bodies. `None` where nothing is cut.
pub fn cut(body: &[u8], mut which: impl FnMut(&[u8]) -> bool) -> Option<Vec<u8>> {
    let mut chosen = |field: &[u8]| {
        let name = memchr::memchr(b'=', field).and_then(|at| field.get(..at)).unwrap_or(field);
        !field.is_empty() && which(name)
    };
    let mut fields = octets::split(body, b'&');
    let first = fields.by_ref().find(|span| chosen(octets::at(body, span)))?;
    let mut out = Vec::with_capacity(body.len());
    out.extend_from_slice(octets::at(body, &(0..first.start.saturating_sub(1))));
    let mut empty = first.start == 0;
    for span in fields {
        if chosen(octets::at(body, &span)) {
            continue;
        }
        let start = if empty { span.start } else { span.start.saturating_sub(1) };
        empty = false;
        out.extend_from_slice(octets::at(body, &(start..span.end)));
    }
    Some(out)
}

/// Overwrites the names of managed fields with `_` in a body that comes in chunks, so that its length holds.
///
/// A name is compared as `query::key_is` does, and may be split over chunks. Held back are at most the bytes
/// of the longest managed name with every character escaped. A name with a space behind it, longer than that,
/// is masked as far as it was held: it can only be a managed one in disguise.
pub struct Mask {
    names: Arc<[Box<str>]>,
    limit: usize,
    held: SmallVec<[u8; 64]>,
    in_name: bool,
}

impl Mask {
    /// A mask for these names, at the start of a body.
    pub fn new(names: Arc<[Box<str>]>) -> Self {
        let longest = names.iter().map(|name| name.len()).max().unwrap_or_default();
        // `%uXXXX` is the longest spelling of a character; one more shows whether a space follows.
        Self { names, limit: 6 * (longest + 1), held: SmallVec::new(), in_name: true }
    }

    /// The part of the body that is certain once this chunk has come; borrowed where a chunk lies within one
    /// value.
    pub fn feed<'a>(&mut self, chunk: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.in_name && memchr::memchr(b'&', chunk).is_none() {
            return Cow::Borrowed(chunk);
        }
        let mut out = Vec::with_capacity(self.held.len() + chunk.len());
        let mut rest = chunk;
        while let Some((&octet, behind)) = rest.split_first() {
            if self.in_name {
                self.name_octet(octet, &mut out);
                rest = behind;
            } else {
                let used = memchr::memchr(b'&', rest).map_or(rest.len(), |at| at + 1);
                let (value, behind) = rest.split_at_checked(used).unwrap_or((rest, b""));
                out.extend_from_slice(value);
                self.in_name = value.ends_with(b"&");
                rest = behind;
            }
        }
        Cow::Owned(out)
    }

    /// What was still held when the body ended.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.held.len());
        self.release(&mut out);
        out
    }

    fn name_octet(&mut self, octet: u8, out: &mut Vec<u8>) {
        if matches!(octet, b'=' | b'&') {
            self.release(out);
            out.push(octet);
            self.in_name = octet == b'&';
            return;
        }
        self.held.push(octet);
        if is_blank_unit(&self.held) {
            // Space before a name is trimmed by servers, without end; it is no part of what is held.
            out.append(&mut self.held.to_vec());
            self.held.clear();
        } else if self.held.len() > self.limit {
            self.release(out);
            self.in_name = false;
        }
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        let managed = self.names.iter().any(|name| query::compare(&self.held, name) != KeyMatch::No);
        if managed {
            out.resize(out.len() + self.held.len(), b'_');
        } else {
            out.extend_from_slice(&self.held);
        }
        self.held.clear();
    }
}

/// Whether this is one space, in any spelling, and nothing else.
fn is_blank_unit(bytes: &[u8]) -> bool {
    match bytes {
        [b'+'] => true,
        [octet] => query::is_blank(*octet),
        [_, _, _] => octets::escape(bytes).is_some_and(query::is_blank),
        [_, _, _, _, _, _] => {
            octets::wide_escape(bytes).and_then(|code| u8::try_from(code).ok()).is_some_and(query::is_blank)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Arc<[Box<str>]> {
        ["CFID", "CFTOKEN"].map(Box::from).into()
    }

    fn masked(chunks: &[&[u8]]) -> String {
        let mut mask = Mask::new(names());
        let mut out: Vec<u8> = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(&mask.feed(chunk));
        }
        out.extend_from_slice(&mask.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_cut() {
        let cut_cfid = |body: &[u8]| cut(body, |name| query::key_bytes_are(name, "CFID"));
        assert_eq!(cut_cfid(b"a=1&cf%49d=2&b=\xff+").unwrap(), b"a=1&b=\xff+");
        assert_eq!(cut_cfid(b"CFID=1").unwrap(), b"");
        assert_eq!(cut_cfid(b"CFID&a&&CFID=").unwrap(), b"a&");
        assert_eq!(cut_cfid(b"a=CFID&b=1;CFID=2"), None);
        assert_eq!(cut_cfid(b""), None);
    }

    #[test]
    fn names_are_masked() {
        for (body, expected) in [
            ("CFID=1&a=CFID&cftoken=2", "____=1&a=CFID&_______=2"),
            ("%43FID=1", "______=1"),
            ("+%20CFID%20=1", "+%20_______=1"),
            ("a=1&CFID", "a=1&____"),
            ("CFIDX=1&XCFID=2", "CFIDX=1&XCFID=2"),
            ("&&CFID=&=CFID", "&&____=&=CFID"),
            ("", ""),
        ] {
            assert_eq!(masked(&[body.as_bytes()]), expected, "{body}");
        }
        let padded = format!("CFID{}=1&CFID=2", "%20".repeat(40));
        let out = masked(&[padded.as_bytes()]);
        assert!(out.starts_with("____") && out.ends_with("=1&____=2") && out.len() == padded.len());
        let leading = format!("{}CFID=1", "%00".repeat(40));
        assert!(masked(&[leading.as_bytes()]).ends_with("%00____=1"));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut mask = Mask::new(names());
        let name = vec![b'x'; 1000];
        assert!(mask.feed(&name).len() >= 1000 - 6 * 8 && mask.held.is_empty());
        assert!(matches!(mask.feed(b"more=CFID"), Cow::Borrowed(_)));
        assert_eq!(&*mask.feed(b"&CF"), b"&");
        assert_eq!(&*mask.feed(b"ID"), b"");
        assert_eq!(mask.finish(), b"____");
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            body in "((CFID|cft%4fken|a|%20|\\+|%u0043FID|é)[=&]?){0,12}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = body.as_bytes();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.sort_unstable();
            let mut chunks: Vec<&[u8]> = Vec::new();
            let mut from = 0;
            for place in places {
                chunks.push(&bytes[from..place]);
                from = place;
            }
            chunks.push(&bytes[from..]);
            let out = masked(&chunks);
            prop_assert_eq!(out.len(), bytes.len());
            prop_assert_eq!(&out, &masked(&[bytes]));
            for (before, after) in body.split('&').zip(out.split('&')) {
                let name = |field: &str| field.split('=').next().unwrap_or_default().to_owned();
                let managed = |field: &str| names().iter().any(|known| query::key_is(&name(field), known));
                let is_managed = managed(before);
                prop_assert!(!managed(after));
                prop_assert!(is_managed || before == after || name(before).contains(['+', '%']));
            }
        }

        #[test]
        fn cutting_is_lossless(body in "([a-c]{0,2}(=[a-z;%]{0,3})?&){0,6}[a-c]{0,2}") {
            let kept = |body: &[u8]| -> Vec<Vec<u8>> {
                octets::split(body, b'&').map(|span| octets::at(body, &span).to_vec())
                    .filter(|field| !field.is_empty() && field != b"a" && !field.starts_with(b"a="))
                    .collect()
            };
            let left = cut(body.as_bytes(), |name| name == b"a");
            prop_assert_eq!(kept(left.as_deref().unwrap_or(body.as_bytes())), kept(body.as_bytes()));
        }
    }
}
