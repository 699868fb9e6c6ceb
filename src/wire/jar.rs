//! The matching rules of a cookie jar (RFC 6265bis 5.1): default path, path match, domain match.
//!
//! Invariant: pure comparisons; whether a domain is a public suffix is decided elsewhere.

/// The path a cookie gets that names none: the request path up to, without, its last slash; `/` otherwise
/// (RFC 6265bis 5.1.4). `request_path` comes without its query.
pub fn default_path(request_path: &[u8]) -> &[u8] {
    match memchr::memrchr(b'/', request_path) {
        Some(last) if last > 0 && request_path.starts_with(b"/") => request_path.get(..last).unwrap_or(b"/"),
        _ => b"/",
    }
}

/// Whether a cookie of `cookie_path` goes to `request_path` (RFC 6265bis 5.1.4): equal, or a prefix that ends
/// at a slash. Bytes are compared as they are: case counts and nothing is decoded.
pub fn path_match(cookie_path: &[u8], request_path: &[u8]) -> bool {
    match request_path.strip_prefix(cookie_path) {
        Some(rest) => rest.is_empty() || cookie_path.ends_with(b"/") || rest.starts_with(b"/"),
        None => false,
    }
}

/// Whether `host` is `cookie_domain` or a name below it (RFC 6265bis 5.1.3), without regard to ASCII case.
/// The domain comes without its leading dot, the host without its port. An address matches only itself.
pub fn domain_match(cookie_domain: &[u8], host: &[u8]) -> bool {
    if cookie_domain.is_empty() {
        return false;
    }
    if host.eq_ignore_ascii_case(cookie_domain) {
        return true;
    }
    let Some((above, tail)) =
        host.len().checked_sub(cookie_domain.len()).and_then(|start| host.split_at_checked(start))
    else {
        return false;
    };
    above.ends_with(b".") && tail.eq_ignore_ascii_case(cookie_domain) && !is_address(host)
}

fn is_address(host: &[u8]) -> bool {
    host.starts_with(b"[")
        || std::str::from_utf8(host).is_ok_and(|host| host.parse::<std::net::IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn default_paths() {
        for (request, path) in
            [("", "/"), ("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a"), ("a/b", "/"), ("//x", "/")]
        {
            assert_eq!(default_path(request.as_bytes()), path.as_bytes(), "{request}");
        }
    }

    #[test]
    fn path_matches() {
        for (cookie, request, matched) in [
            ("/", "/", true),
            ("/", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a/", "/a/b", true),
            ("/a/", "/a", false),
            ("/a", "/ab", false),
            ("/A", "/a", false),
            ("/a", "/", false),
        ] {
            assert_eq!(path_match(cookie.as_bytes(), request.as_bytes()), matched, "{cookie} {request}");
        }
    }

    #[test]
    fn domain_matches() {
        for (domain, host, matched) in [
            ("example.org", "example.org", true),
            ("Example.ORG", "home.example.org", true),
            ("example.org", "badexample.org", false),
            ("example.org.", "home.example.org", false),
            ("home.example.org", "example.org", false),
            ("", "example.org", false),
            (".example.org", "home.example.org", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("0.0.1", "127.0.0.1", false),
        ] {
            assert_eq!(domain_match(domain.as_bytes(), host.as_bytes()), matched, "{domain} {host}");
        }
    }

    proptest! {
        #[test]
        fn a_default_path_matches_its_request(request in "/[a-c/]{0,12}") {
            prop_assert!(path_match(default_path(request.as_bytes()), request.as_bytes()));
        }
    }
}
