//! The query of a URL: its parameters as raw spans, and the removal of some of them.
//!
//! Invariant: keys are decoded once and only to be compared; what is not cut leaves byte for byte.

use std::borrow::Cow;
use std::ops::Range;

use super::octets;

/// One parameter of a query, nothing of it decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Param<'a> {
    /// Where it lies in the query, without its separators.
    pub span: Range<usize>,
    /// Before the first `=`.
    pub key: &'a str,
    /// After the first `=`; `None` where there is none.
    pub value: Option<&'a str>,
}

/// The parameters of a query (without its `?`), split at `&` and at `;`, which some servers take for a
/// separator too. Empty ones are skipped.
pub fn params(query: &str) -> impl Iterator<Item = Param<'_>> {
    pieces(query).filter(|span| !span.is_empty()).map(|span| {
        let text = octets::text_at(query, &span);
        match text.split_once('=') {
            Some((key, value)) => Param { span, key, value: Some(value) },
            None => Param { span, key: text, value: None },
        }
    })
}

/// How many parameters there are, empty ones included.
pub fn count(query: &str) -> usize {
    if query.is_empty() { 0 } else { memchr::memchr2_iter(b'&', b';', query.as_bytes()).count() + 1 }
}

/// Whether some server would take this raw key for `name`: decoded once (`%XX`, `%uXXXX`, `+`), without space
/// and NUL around it, ASCII case folded; what follows a NUL is ignored (servers in C), and `.`, `[` and space
/// count as `_` (PHP renames them).
pub fn key_is(raw_key: &str, name: &str) -> bool {
    matches!(compare(raw_key.as_bytes(), name), KeyMatch::Whole)
}

/// `key_is` for keys that are not known to be UTF-8.
pub fn key_bytes_are(raw_key: &[u8], name: &str) -> bool {
    matches!(compare(raw_key, name), KeyMatch::Whole)
}

/// A raw key or value decoded once: `%XX`, and `+` as a space. Escapes that are none stay as they are.
pub fn decoded(raw: &str) -> Cow<'_, [u8]> {
    let bytes = raw.as_bytes();
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(Units { rest: bytes, wide: false }.collect())
}

/// The query without the parameters whose raw key `which` chooses. What is left keeps its bytes and the
/// separator before it, but for the first. `None` where nothing is cut; an empty string where nothing is
/// left.
pub fn cut(query: &str, mut which: impl FnMut(&str) -> bool) -> Option<String> {
    let mut chosen = |span: &Range<usize>| {
        let text = octets::text_at(query, span);
        let key = text.split_once('=').map_or(text, |(key, _)| key);
        !span.is_empty() && which(key)
    };
    let mut spans = pieces(query);
    let first = spans.by_ref().find(|span| chosen(span))?;
    let mut out = String::with_capacity(query.len());
    out.push_str(octets::text_at(query, &(0..first.start.saturating_sub(1))));
    let mut empty = first.start == 0;
    for span in spans {
        if chosen(&span) {
            continue;
        }
        let start = if empty { span.start } else { span.start.saturating_sub(1) };
        empty = false;
        out.push_str(octets::text_at(query, &(start..span.end)));
    }
    Some(out)
}

/// How a raw key compares to a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyMatch {
    /// It is another one.
    No,
    /// It is this name.
    Whole,
    /// It begins with this name and a space; what follows makes it another one.
    Head,
}

/// Compares as `key_is` does; says no at the first character that differs.
pub(super) fn compare(raw_key: &[u8], name: &str) -> KeyMatch {
    let mut units = Units { rest: raw_key, wide: true }.skip_while(|&unit| is_blank(unit)).fuse();
    for expected in name.bytes() {
        match units.next() {
            Some(unit) if unit.eq_ignore_ascii_case(&expected) => {}
            Some(b'.' | b'[' | b' ') if expected == b'_' => {}
            _ => return KeyMatch::No,
        }
    }
    match units.next() {
        _ if name.is_empty() => KeyMatch::No,
        None | Some(0) => KeyMatch::Whole,
        Some(unit) if !is_blank(unit) => KeyMatch::No,
        Some(_) if units.take_while(|&unit| unit != 0).all(is_blank) => KeyMatch::Whole,
        Some(_) => KeyMatch::Head,
    }
}

/// Space, NUL and the controls that servers trim from a key.
pub(super) fn is_blank(unit: u8) -> bool {
    matches!(unit, 0 | b'\t'..=b'\r' | b' ')
}

fn pieces(query: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut next = if query.is_empty() { None } else { Some(0) };
    std::iter::from_fn(move || {
        let start = next?;
        let rest = query.as_bytes().get(start..).unwrap_or_default();
        let end = memchr::memchr2(b'&', b';', rest).map(|offset| start + offset);
        next = end.map(|end| end + 1);
        Some(start..end.unwrap_or(query.len()))
    })
}

/// The decoded octets of a raw key or value. With `wide`, `%uXXXX` counts as well: beyond ASCII as 0xFF,
/// which equals nothing that names are made of.
struct Units<'a> {
    rest: &'a [u8],
    wide: bool,
}

impl Iterator for Units<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let first = *self.rest.first()?;
        let (unit, used) = match first {
            b'+' => (b' ', 1),
            b'%' => match (octets::escape(self.rest), octets::wide_escape(self.rest)) {
                (Some(octet), _) => (octet, 3),
                (None, Some(code)) if self.wide => {
                    (u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(0xff), 6)
                }
                _ => (first, 1),
            },
            octet => (octet, 1),
        };
        self.rest = self.rest.get(used..).unwrap_or_default();
        Some(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut_cfid(query: &str) -> Option<String> {
        cut(query, |key| key_is(key, "CFID"))
    }

    #[test]
    fn params_are_raw() {
        let seen: Vec<_> =
            params("a=1;b&&c==%20&=x&%zz").map(|param| (param.span, param.key, param.value)).collect();
        assert_eq!(
            seen,
            [
                (0..3, "a", Some("1")),
                (4..5, "b", None),
                (7..13, "c", Some("=%20")),
                (14..16, "", Some("x")),
                (17..20, "%zz", None)
            ]
        );
        assert_eq!((count(""), count("a"), count("a&b;c&"), params("").count()), (0, 1, 4, 0));
    }

    #[test]
    fn keys_in_disguise() {
        for key in [
            "CFID",
            "cfid",
            "%43FID",
            "%63f%49d",
            "%u0043FID",
            "+CFID",
            "CFID%20",
            "%00CFID",
            "CFID%00",
            "CFID%00x",
            "%0aCFID++",
        ] {
            assert!(key_is(key, "CFID"), "{key}");
        }
        for key in
            ["", "CFI", "CFIDX", "%2543FID", "CF+ID", "CFID+x", "%4", "CFID%", "%uff23FID", "%C3%A7FID"]
        {
            assert!(!key_is(key, "CFID"), "{key}");
        }
        assert!(key_is("legacy.sid", "legacy_sid") && key_is("legacy+sid", "legacy_sid"));
        assert!(!key_is("", "") && !key_is("a", ""));
    }

    #[test]
    fn decoding_is_done_once() {
        assert_eq!(&*decoded("a%2541+b%"), b"a%41 b%");
        assert_eq!(&*decoded("%u0041"), b"%u0041");
        assert!(matches!(decoded("plain"), Cow::Borrowed(b"plain")));
    }

    #[test]
    fn cuts_leave_the_rest_alone() {
        for (query, left) in [
            ("CFID=1", Some("")),
            ("CFID", Some("")),
            ("CFID=1&a=%20+b", Some("a=%20+b")),
            ("a=1&CFID=1;b=2", Some("a=1;b=2")),
            ("a=1;CFID=2", Some("a=1")),
            ("CFID=1&CFID=2&cfid=3", Some("")),
            ("a&&CFID=1&&b", Some("a&&&b")),
            ("&CFID=1", Some("")),
            ("CFID=1&", Some("")),
            ("x=CFID=1&y=%26CFID=1", None),
            ("a=1&b", None),
            ("", None),
        ] {
            assert_eq!(cut_cfid(query).as_deref(), left, "{query}");
        }
    }

    proptest! {
        #[test]
        fn cutting_is_lossless(query in "([a-d]{0,2}(=[a-zé%+]{0,3})?[&;]){0,6}[a-d]{0,2}") {
            let kept = |query: &str| -> Vec<String> {
                let others = params(query).filter(|param| param.key != "a");
                others.map(|param| query[param.span].to_owned()).collect()
            };
            match cut(&query, |key| key == "a") {
                None => prop_assert!(params(&query).all(|param| param.key != "a")),
                Some(left) => {
                    prop_assert!(params(&left).all(|param| param.key != "a"));
                    prop_assert_eq!(kept(&left), kept(&query));
                    prop_assert!(left.len() < query.len());
                }
            }
        }

        #[test]
        fn any_escaping_of_a_key_is_seen(choices in prop::collection::vec(0..4_u8, 6)) {
            let key: String = "sessid".chars().zip(&choices).map(|(letter, choice)| match choice {
                0 => letter.to_string(),
                1 => letter.to_uppercase().to_string(),
                2 => format!("%{:02x}", letter as u32),
                _ => format!("%u{:04X}", letter.to_ascii_uppercase() as u32),
            }).collect();
            prop_assert!(key_is(&key, "SessID"));
        }

        #[test]
        fn never_panics(query in "\\PC{0,40}") {
            let _ = (cut(&query, |_| true), count(&query), decoded(&query), key_is(&query, "a"));
        }
    }
}
