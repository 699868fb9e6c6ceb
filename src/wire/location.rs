//! URLs in response headers: Location, Refresh and Link, split and re-anchored without touching their rest.
//!
//! Invariant: a URL that browsers read in another way than its bytes suggest is `None`: it is neither mapped
//! nor trusted. Only scheme and authority are ever replaced.

use std::ops::Range;

use super::octets;

/// A URL reference in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Without its colon, in its own spelling.
    pub scheme: Option<&'a str>,
    /// Between `//` and what follows; may be empty.
    pub authority: Option<&'a str>,
    /// Path, query and fragment; relative where there is neither scheme nor authority and it begins otherwise
    /// than with `/`.
    pub rest: &'a str,
}

/// Splits a redirect target: absolute, `//host/x`, a path, or relative. `None` where browsers see something
/// else than stands there: controls and spaces at the ends (they strip them), a backslash before the query (a
/// slash to them), a web scheme without `//` (`https:evil`, which names a host to them), or more than two
/// slashes before the host.
pub fn split(url: &str) -> Option<Parts<'_>> {
    if url.bytes().any(|octet| matches!(octet, 0x00..=0x1f | 0x7f))
        || url.starts_with(' ')
        || url.ends_with(' ')
    {
        return None;
    }
    let head = url.split(['?', '#']).next().unwrap_or_default();
    if head.contains('\\') {
        return None;
    }
    let (scheme, rest) = match scheme_length(head) {
        Some(length) => (url.get(..length), url.get(length + 1..)?),
        None => (None, url),
    };
    let Some(behind) = rest.strip_prefix("//") else {
        let names_host = scheme.is_some_and(is_web);
        return (!names_host).then_some(Parts { scheme, authority: None, rest });
    };
    let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
    let (authority, rest) = octets::halves(behind, end);
    if authority.is_empty() && scheme.is_none_or(is_web) {
        return None;
    }
    Some(Parts { scheme, authority: Some(authority), rest })
}

/// The URL with the public scheme and authority in place of its own, where `ours` knows them; a URL without a
/// scheme (`//host/x`) keeps none. `None` where there is nothing to replace: relative, another's, or odd.
pub fn reanchor(
    url: &str,
    ours: impl FnOnce(&str, Option<&str>) -> bool,
    public_scheme: &str,
    public_authority: &str,
) -> Option<String> {
    let parts = split(url)?;
    let authority = parts.authority?;
    if parts.scheme.is_some_and(|scheme| !is_web(scheme)) || !ours(authority, parts.scheme) {
        return None;
    }
    let (scheme, colon) = if parts.scheme.is_some() { (public_scheme, ":") } else { ("", "") };
    Some([scheme, colon, "//", public_authority, parts.rest].concat())
}

/// Where the URL lies in a Refresh header (`5; url=/x`, quoted or not, `,` for `;`), as HTML's declarative
/// refresh reads it. `None` where there is none.
pub fn refresh_url(value: &[u8]) -> Option<Range<usize>> {
    let mut at = skip(value, 0, |octet| octet.is_ascii_whitespace());
    let digits = skip(value, at, |octet| octet.is_ascii_digit());
    if digits == at && value.get(at) != Some(&b'.') {
        return None;
    }
    at = skip(value, digits, |octet| octet.is_ascii_digit() || octet == b'.');
    let spaced = skip(value, at, |octet| octet.is_ascii_whitespace());
    let separated = matches!(value.get(spaced), Some(b';' | b','));
    if !separated && spaced == at {
        return None;
    }
    at = skip(value, spaced + usize::from(separated), |octet| octet.is_ascii_whitespace());
    at = behind_url_word(value, at).unwrap_or(at);
    let end = match value.get(at) {
        Some(&quote @ (b'"' | b'\'')) => {
            at += 1;
            value
                .get(at..)
                .and_then(|rest| memchr::memchr(quote, rest))
                .map_or(value.len(), |offset| at + offset)
        }
        _ => value.len() - value.iter().rev().take_while(|octet| octet.is_ascii_whitespace()).count(),
    };
    (at < end).then_some(at..end)
}

/// Where the URLs lie in a Link header: between `<` and `>`, outside quoted parameters.
pub fn link_urls(value: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut quoted = false;
        loop {
            let octet = *value.get(at)?;
            at += 1;
            match octet {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b'<' if !quoted => {
                    let start = at;
                    let end = start + memchr::memchr(b'>', value.get(start..)?)?;
                    at = end + 1;
                    return Some(start..end);
                }
                _ => {}
            }
        }
    })
}

/// Behind `url =`, in any case.
fn behind_url_word(value: &[u8], at: usize) -> Option<usize> {
    let word = value.get(at..at + 3)?;
    let equals = skip(value, at + 3, |octet| octet.is_ascii_whitespace());
    if !word.eq_ignore_ascii_case(b"url") || value.get(equals) != Some(&b'=') {
        return None;
    }
    Some(skip(value, equals + 1, |octet| octet.is_ascii_whitespace()))
}

fn skip(value: &[u8], from: usize, mut which: impl FnMut(u8) -> bool) -> usize {
    from + value.iter().skip(from).take_while(|&&octet| which(octet)).count()
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// The length of the scheme (RFC 3986 3.1) before the first colon.
fn scheme_length(url: &str) -> Option<usize> {
    let length = url.find(':')?;
    let scheme = url.get(..length)?;
    let valid = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'));
    valid.then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_in_parts() {
        for (url, scheme, authority, rest) in [
            ("http://a.org:80/x?y#z", Some("http"), Some("a.org:80"), "/x?y#z"),
            ("HTTPS://a.org?x=/", Some("HTTPS"), Some("a.org"), "?x=/"),
            ("//a.org/x", None, Some("a.org"), "/x"),
            ("/x?u=http://b.org\\", None, None, "/x?u=http://b.org\\"),
            ("x.cfm?a:b", None, None, "x.cfm?a:b"),
            ("./a:b", None, None, "./a:b"),
            ("?x", None, None, "?x"),
            ("", None, None, ""),
            ("mailto:a@b.org", Some("mailto"), None, "a@b.org"),
            ("file:///etc", Some("file"), Some(""), "/etc"),
        ] {
            assert_eq!(split(url), Some(Parts { scheme, authority, rest }), "{url}");
        }
        for url in [
            "/\\evil",
            "\\\\evil",
            "https:evil",
            "http:/evil",
            "///evil",
            "http:///evil",
            " /x",
            "/x ",
            "/\t/evil",
            "h\nttp://x",
        ] {
            assert_eq!(split(url), None, "{url:?}");
        }
    }

    #[test]
    fn only_ours_is_reanchored() {
        let public =
            |url: &str| reanchor(url, |authority, _| authority == "10.0.0.1:8500", "https", "apps.org");
        assert_eq!(public("http://10.0.0.1:8500/x?%20").as_deref(), Some("https://apps.org/x?%20"));
        assert_eq!(public("//10.0.0.1:8500/x").as_deref(), Some("//apps.org/x"));
        assert_eq!(public("http://10.0.0.1:8500").as_deref(), Some("https://apps.org"));
        for url in ["/x", "x", "http://other/x", "ftp://10.0.0.1:8500/", "http:\\\\10.0.0.1:8500/"] {
            assert_eq!(public(url), None, "{url}");
        }
    }

    #[test]
    fn refresh() {
        for (value, url) in [
            ("5; url=/x?y", Some("/x?y")),
            ("0;URL='/x y'", Some("/x y")),
            (" 3.5 , url = \"/x\" junk", Some("/x")),
            ("5;/x ", Some("/x")),
            ("5 url=/x", Some("/x")),
            ("0;url=\"/x", Some("/x")),
            ("5;urls", Some("urls")),
            ("5", None),
            ("5;", None),
            ("5;url=", None),
            ("url=/x", None),
            ("5x;url=/x", None),
            ("", None),
        ] {
            assert_eq!(refresh_url(value.as_bytes()).map(|span| &value[span]), url, "{value}");
        }
    }

    #[test]
    fn links() {
        let value = "</a;b>; rel=\"next <no>\", <>; title=\"\\\"<x>\",<http://b/c,d>";
        assert_eq!(
            link_urls(value.as_bytes()).map(|span| &value[span]).collect::<Vec<_>>(),
            ["/a;b", "", "http://b/c,d"]
        );
        assert_eq!(link_urls(b"<open").count() + link_urls(b"").count(), 0);
    }

    proptest! {
        #[test]
        fn parts_make_the_url_again(url in "([a-z]{0,4}:)?(//[a-z.:@]{0,6})?[a-z/?#:\\\\ ]{0,12}") {
            if let Some(parts) = split(&url) {
                let scheme = parts.scheme.map(|scheme| format!("{scheme}:")).unwrap_or_default();
                let authority = parts.authority.map(|authority| format!("//{authority}")).unwrap_or_default();
                prop_assert_eq!(format!("{scheme}{authority}{}", parts.rest), url);
            }
        }

        #[test]
        fn spans_lie_inside(value in "[0-9;,=url\"'<> \\\\/é]{0,24}") {
            let bytes = value.as_bytes();
            let inside = |span: Range<usize>| span.start < span.end && span.end <= bytes.len();
            prop_assert!(refresh_url(bytes).is_none_or(inside));
            prop_assert!(link_urls(bytes).all(|span| span.start <= span.end && span.end < bytes.len()));
        }
    }
}
