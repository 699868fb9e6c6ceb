//! The few byte operations that several syntaxes share.
//!
//! Invariant: no function panics, whatever range or byte it is handed; one that is out of bounds reads as
//! empty.

use std::ops::Range;

/// The bytes of `raw` in `range`; empty where the range does not fit.
pub(super) fn at<'a>(raw: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    raw.get(range.clone()).unwrap_or_default()
}

/// The characters of `raw` in `range`; empty where the range does not fit or cuts a character.
pub(super) fn text_at<'a>(raw: &'a str, range: &Range<usize>) -> &'a str {
    raw.get(range.clone()).unwrap_or_default()
}

/// `raw` in two: before and from byte `at` on; the second is empty where `at` does not fit.
pub(super) fn halves(raw: &str, at: usize) -> (&str, &str) {
    raw.split_at_checked(at).unwrap_or((raw, ""))
}

/// Space or horizontal tab (OWS of RFC 9110 5.6.3).
pub(super) fn is_ows(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// The part of `range` of `raw` that is left without OWS at both ends.
pub(super) fn trim(raw: &[u8], range: Range<usize>) -> Range<usize> {
    let bytes = at(raw, &range);
    let lead = bytes.iter().take_while(|&&octet| is_ows(octet)).count();
    if lead == bytes.len() {
        return range.start..range.start;
    }
    let trail = bytes.iter().rev().take_while(|&&octet| is_ows(octet)).count();
    range.start + lead..range.end - trail
}

/// `bytes` without OWS at both ends.
pub(super) fn trimmed(bytes: &[u8]) -> &[u8] {
    at(bytes, &trim(bytes, 0..bytes.len()))
}

/// The ranges between occurrences of `separator`: one more than there are separators.
pub(super) fn split(raw: &[u8], separator: u8) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let start = next?;
        let rest = raw.get(start..).unwrap_or_default();
        let end = memchr::memchr(separator, rest).map(|offset| start + offset);
        next = end.map(|end| end + 1);
        Some(start..end.unwrap_or(raw.len()))
    })
}

/// The octet that `%XX` at the start of `bytes` stands for.
pub(super) fn escape(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

/// The code unit that `%uXXXX` at the start of `bytes` stands for (IIS and ASP decode it).
pub(super) fn wide_escape(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [b'%', b'u' | b'U', digits @ ..] => {
            digits.get(..4)?.iter().try_fold(0_u16, |code, &digit| Some(code << 4 | u16::from(hex(digit)?)))
        }
        _ => None,
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A character of a token (RFC 9110 5.6.2).
pub(super) fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes() {
        assert_eq!(escape(b"%4fx"), Some(b'O'));
        assert_eq!(escape(b"%4"), None);
        assert_eq!(escape(b"%g0"), None);
        assert_eq!(wide_escape(b"%u0041"), Some(0x41));
        assert_eq!(wide_escape(b"%u004"), None);
    }

    #[test]
    fn odd_ranges_read_as_empty() {
        assert_eq!(at(b"ab", &(1..9)), b"");
        assert_eq!(text_at("\u{e9}", &(1..2)), "");
        assert_eq!(trim(b" \t ", 0..3), 0..0);
    }

    proptest! {
        #[test]
        fn split_covers_everything(
            raw in prop::collection::vec(prop::sample::select(b"a;; =".to_vec()), 0..20),
        ) {
            let joined: Vec<&[u8]> = split(&raw, b';').map(|range| at(&raw, &range)).collect();
            prop_assert_eq!(joined.join(&b';'), raw);
        }
    }
}
