//! The Cookie request header: its pairs as the bytes they are, and the questions that a filter asks of a
//! name.
//!
//! Invariant: order, duplicates and bytes of the pairs are kept; nothing is decoded, unquoted or merged.

use std::borrow::Cow;

use http::header::{COOKIE, HeaderValue};

use super::fields::Fields;
use super::octets;

/// One `name=value` of a Cookie header, without the white space around it. A chunk without `=` has an empty
/// name and is all value, as browsers store it (RFC 6265bis 5.6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Bytes before the first `=`; empty where there is none.
    pub name: &'a [u8],
    /// Bytes after the first `=`, quotes included.
    pub value: &'a [u8],
}

/// The pairs of a Cookie line in their order, duplicates included; empty chunks are skipped.
pub fn pairs(line: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    octets::split(line, b';').map(|range| octets::trimmed(octets::at(line, &range))).filter_map(|chunk| {
        if chunk.is_empty() {
            return None;
        }
        // Names are short: a search made for long texts would take longer.
        let equals = chunk.iter().position(|&octet| octet == b'=');
        Some(match equals.and_then(|at| chunk.split_at_checked(at)) {
            Some((name, value)) => Pair {
                name: octets::trimmed(name),
                value: octets::trimmed(value.get(1..).unwrap_or_default()),
            },
            None => Pair { name: b"", value: chunk },
        })
    })
}

/// All Cookie fields as one line, joined by `"; "`: HTTP/2 clients may send crumbs (RFC 9113 8.2.3). One
/// field is what it is. `None` where there is no Cookie field.
pub fn line<'a>(fields: &Fields<'a>) -> Option<Cow<'a, HeaderValue>> {
    let first = fields.cookie.first()?;
    if !fields.cookie.is_repeated() {
        return Some(Cow::Borrowed(first));
    }
    let mut joined = Vec::with_capacity(256);
    for field in fields.all.get_all(COOKIE).iter().filter(|field| !field.is_empty()) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(field.as_bytes());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).ok().map(Cow::Owned)
}

/// Whether `raw` is a name that some server might take for `managed`: equal once ASCII and Unicode space,
/// controls and double quotes are left out, `%XX` is decoded (PHP before 7.4.11 decodes cookie names), case
/// is folded, and `.` and `[` count as `_` (PHP's own renaming). Says no at the first byte that differs.
#[inline]
pub fn folds_to(raw: &[u8], managed: &[u8]) -> bool {
    // Nearly all names differ at their first letter, and a letter is what it is to everybody.
    match (raw.first(), managed.first()) {
        (Some(first), Some(want)) if first.is_ascii_alphanumeric() && !first.eq_ignore_ascii_case(want) => {
            false
        }
        _ => folds_whole(raw, managed),
    }
}

fn folds_whole(raw: &[u8], managed: &[u8]) -> bool {
    let mut expected = managed.iter();
    let mut rest = raw;
    while !rest.is_empty() {
        let width = ignored(rest);
        if width > 0 {
            rest = rest.get(width..).unwrap_or_default();
            continue;
        }
        let (octet, used) = match octets::escape(rest) {
            Some(octet) => (octet, 3),
            None => (rest.first().copied().unwrap_or_default(), 1),
        };
        rest = rest.get(used..).unwrap_or_default();
        if used == 3 && ignored(&[octet]) > 0 {
            continue;
        }
        match expected.next() {
            Some(&want)
                if octet.eq_ignore_ascii_case(&want) || (want == b'_' && matches!(octet, b'.' | b'[')) => {}
            _ => return false,
        }
    }
    expected.next().is_none() && !managed.is_empty()
}

/// Whether this is one of RFC 2109's attributes in a Cookie header, which Tomcat and Jetty still honour: they
/// switch those servers to a parser that reads quotes, so that `$Version` must not reach an app from outside.
pub fn is_legacy_attribute(name: &[u8]) -> bool {
    [&b"$Version"[..], b"$Path", b"$Domain", b"$Port"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether all bytes are cookie-octets (RFC 6265 4.1.1), without a pair of quotes around them. Empty is
/// valid.
pub fn valid_value(value: &[u8]) -> bool {
    value.iter().all(|&octet| matches!(octet, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e))
}

/// Whether this is a token (RFC 9110 5.6.2), the grammar of a cookie's name.
pub fn valid_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&octet| octets::is_token(octet))
}

/// How many bytes at the start of `bytes` servers are known to trim or to skip: quotes, controls and spaces,
/// in UTF-8 and, for the two of Latin-1, as single bytes.
fn ignored(bytes: &[u8]) -> usize {
    match bytes {
        [0x00..=0x20 | 0x7f | b'"' | 0x85 | 0xa0, ..] => 1,
        [0xc2, 0x85 | 0xa0, ..] => 2,
        [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf, ..] => 3,
        [0xe2, 0x81, 0x9f, ..] | [0xe3, 0x80, 0x80, ..] => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn split(line: &[u8]) -> Vec<(&[u8], &[u8])> {
        pairs(line).map(|pair| (pair.name, pair.value)).collect()
    }

    #[test]
    fn pairs_keep_order_duplicates_and_bytes() {
        assert_eq!(
            split(b"a=1;;  b=\"x y\" ; a=2=3;flag; \xe9=\xe8 ;=v; ;"),
            [
                (&b"a"[..], &b"1"[..]),
                (b"b", b"\"x y\""),
                (b"a", b"2=3"),
                (b"", b"flag"),
                (b"\xe9", b"\xe8"),
                (b"", b"v")
            ]
        );
        assert_eq!(split(b""), []);
    }

    #[test]
    fn crumbs_are_joined_in_order() {
        let mut headers = HeaderMap::new();
        assert_eq!(line(&Fields::of(&headers)), None);
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        assert_eq!(line(&Fields::of(&headers)).unwrap().as_bytes(), b"a=1");
        headers.append(COOKIE, HeaderValue::from_bytes(b"b=\xe9").unwrap());
        headers.append(COOKIE, HeaderValue::from_static(""));
        headers.append(COOKIE, HeaderValue::from_static("c=3"));
        assert_eq!(line(&Fields::of(&headers)).unwrap().as_bytes(), b"a=1; b=\xe9; c=3");
    }

    #[test]
    fn names_in_disguise_fold() {
        let disguises: [&[u8]; 12] = [
            b"JSESSIONID",
            b"jsessionid",
            b" JSESSIONID\t",
            b"\"JSESSIONID\"",
            b"\xe2\x80\x80JSESSIONID",
            b"JSESSIONID\xe3\x80\x80",
            b"\xa0JSESSIONID\x85",
            b"\xc2\xa0JSESS\xe2\x80\xafIONID",
            b"JSESSIONID\xe2\x81\x9f\xe2\x80\xa8",
            b"JSE%53SIONID",
            b"JSESSIONID%20",
            b"%22JSESSIONID%00",
        ];
        for name in disguises {
            assert!(folds_to(name, b"JSESSIONID"), "{}", name.escape_ascii());
        }
        assert!(folds_to(b"..Host-bridge", b"__Host-bridge"));
        for name in
            [&b"JSESSIONID2"[..], b"JSESSIONI", b"", b"XJSESSIONID", b"JSESSION-ID", b"\xc3\xa0JSESSIONID"]
        {
            assert!(!folds_to(name, b"JSESSIONID"), "{}", name.escape_ascii());
        }
        assert!(!folds_to(b" ", b""));
    }

    #[test]
    fn grammar() {
        assert!(
            is_legacy_attribute(b"$version") && is_legacy_attribute(b"$PORT") && !is_legacy_attribute(b"$a")
        );
        assert!(valid_value(b"") && valid_value(b"aB0-._!~:/=") && valid_name(b"appa.CFID"));
        for octet in b" \",;\\\x00\x7f\x80" {
            assert!(!valid_value(&[*octet]) && !valid_name(&[*octet]));
        }
        assert!(!valid_name(b"") && !valid_name(b"a/b") && !valid_name(b"a=b"));
    }

    proptest! {
        #[test]
        fn pairs_lose_nothing(raw in prop::collection::vec(any::<u8>(), 0..64)) {
            let strip = |bytes: &[u8]| -> Vec<u8> {
                bytes.iter().copied().filter(|octet| !matches!(octet, b' ' | b'\t' | b';' | b'=')).collect()
            };
            let seen: Vec<u8> = pairs(&raw).flat_map(|pair| [pair.name, pair.value].concat()).collect();
            prop_assert_eq!(strip(&seen), strip(&raw));
        }

        #[test]
        fn well_formed_lines_come_back(
            given in prop::collection::vec(("[a-zA-Z0-9_.-]{1,8}", "[!-+.-:<-~]{0,8}"), 0..8),
        ) {
            let line: Vec<String> = given.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let line = line.join("; ");
            let seen: Vec<(Vec<u8>, Vec<u8>)> =
                pairs(line.as_bytes()).map(|pair| (pair.name.to_vec(), pair.value.to_vec())).collect();
            let given: Vec<(Vec<u8>, Vec<u8>)> =
                given.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
            prop_assert_eq!(seen, given);
        }

        #[test]
        fn padding_never_hides_a_name(pad in prop::collection::vec(prop::sample::select(
            vec![" ", "\t", "\"", "\u{85}", "\u{a0}", "\u{2003}",
                "\u{2028}", "\u{202f}", "\u{205f}", "\u{3000}"],
            ), 0..6),
            at in 0_usize..=4) {
            let name = format!("{}{}{}", &"CFID"[..at], pad.concat(), &"CFID"[at..]);
            prop_assert!(folds_to(name.as_bytes(), b"cfid"));
        }
    }
}
