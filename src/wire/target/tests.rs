use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn head(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn checked(
    version: Version,
    method: &str,
    uri: &str,
    lines: &[(&str, &str)],
) -> Result<(String, String, String), Fault> {
    let (uri, headers) = (uri.parse().unwrap(), head(lines));
    match check(version, &method.parse().unwrap(), &uri, &Fields::of(&headers))? {
        Target::ServerOptions => Ok(("*".into(), String::new(), String::new())),
        Target::Resource(at) => {
            let query = at.query.map(|query| format!("?{query}")).unwrap_or_default();
            Ok((at.host.into_owned(), at.authority.to_owned(), format!("{}{query}", at.path)))
        }
    }
}

fn get(lines: &[(&str, &str)]) -> Result<(), Fault> {
    let mut lines = lines.to_vec();
    lines.push(("host", "a.org"));
    checked(Version::HTTP_11, "POST", "/", &lines).map(|_| ())
}

#[test]
fn targets() {
    let h1 = Version::HTTP_11;
    let host = [("host", "A.example.org.:8080")];
    let ok = |host: &str, authority: &str, target: &str| {
        Ok((host.to_owned(), authority.to_owned(), target.to_owned()))
    };
    assert_eq!(checked(h1, "GET", "/x?y=/", &host), ok("a.example.org", "A.example.org.:8080", "/x?y=/"));
    assert_eq!(
        checked(h1, "GET", "http://a.example.org:8080?q", &host),
        ok("a.example.org", host[0].1, "/?q")
    );
    assert_eq!(checked(h1, "GET", "http://b.org/", &[("host", "b.org:80")]), ok("b.org", "b.org:80", "/"));
    assert_eq!(checked(h1, "GET", "/", &[("host", "[::1]:80")]), ok("[::1]", "[::1]:80", "/"));
    assert_eq!(checked(Version::HTTP_2, "GET", "https://B.org/x", &[]), ok("b.org", "B.org", "/x"));
    assert_eq!(checked(Version::HTTP_10, "GET", "/x", &[]), ok("", "", "/x"));
    assert_eq!(checked(h1, "OPTIONS", "*", &host), ok("*", "", ""));
}

#[test]
fn faults_of_targets() {
    let h1 = Version::HTTP_11;
    let host = [("host", "a.org")];
    for (method, uri, fault) in [
        ("CONNECT", "a.org:443", Fault::Method),
        ("TRACE", "/", Fault::Method),
        ("GET", "*", Fault::Target),
        ("GET", "!", Fault::Target),
        ("GET", "a.org:80", Fault::Target),
        ("GET", "ftp://a.org/", Fault::Target),
        ("GET", "http://b.org/", Fault::HostMismatch),
        ("GET", "http://a.org:81/", Fault::HostMismatch),
        ("GET", "http://u@a.org/", Fault::Host),
    ] {
        assert_eq!(checked(h1, method, uri, &host), Err(fault), "{method} {uri}");
    }
    assert_eq!(checked(Version::HTTP_09, "GET", "/", &host), Err(Fault::Version));
    assert_eq!(checked(Version::HTTP_2, "GET", "/", &[]), Err(Fault::HostCount));
    assert_eq!(checked(Version::HTTP_2, "GET", "https://b.org/", &host), Err(Fault::HostMismatch));
    assert_eq!(checked(h1, "GET", "/", &[]), Err(Fault::HostCount));
    assert_eq!(checked(h1, "GET", "/", &[host[0], host[0]]), Err(Fault::HostCount));
    assert_eq!(checked(Version::HTTP_10, "GET", "/", &[host[0], host[0]]), Err(Fault::HostCount));
    for bad in [
        "", "a b", "a,b", "a/b", "u@a", "a:", "a:0", "a:65536", "a:80:80", "[::1", "[::1]x", "[x]", ".a",
        "é", "a:8o",
    ] {
        assert_eq!(checked(h1, "GET", "/", &[("host", bad)]).unwrap_err(), Fault::Host, "{bad}");
    }
}

#[test]
fn body_lengths() {
    assert_eq!(get(&[("content-length", "0")]), Ok(()));
    assert_eq!(get(&[("content-length", "17")]), Ok(()));
    assert_eq!(get(&[("transfer-encoding", "chunked")]), Ok(()));
    for te in [
        "",
        "Xchunked",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "\"chunked\"",
        ",chunked",
    ] {
        assert_eq!(get(&[("transfer-encoding", te)]), Err(Fault::TransferEncoding), "{te}");
    }
    let chunked = ("transfer-encoding", "chunked");
    assert_eq!(get(&[chunked, chunked]), Err(Fault::TransferEncoding));
    assert_eq!(get(&[chunked, ("content-length", "1")]), Err(Fault::ContentLength));
    for length in ["", "+1", "-1", "1,1", "1, 1", "0x1", "1 2", "99999999999999999999"] {
        assert_eq!(get(&[("content-length", length)]), Err(Fault::ContentLength), "{length}");
    }
    assert_eq!(get(&[("content-length", "1"), ("content-length", "1")]), Err(Fault::ContentLength));
    for version in [Version::HTTP_10, Version::HTTP_2] {
        assert_eq!(
            checked(version, "POST", "/", &[("host", "a.org"), chunked]),
            Err(Fault::TransferEncoding)
        );
    }
    let (named, upgrade) = (("connection", "upgrade"), ("upgrade", "websocket"));
    assert_eq!(get(&[named, upgrade, ("content-length", "0")]), Ok(()));
    assert_eq!(get(&[named, upgrade, ("content-length", "5")]), Err(Fault::UpgradeBody));
    assert_eq!(get(&[named, upgrade, chunked]), Err(Fault::UpgradeBody));
    assert_eq!(get(&[upgrade, chunked]), Ok(()), "Connection does not name it: it is ignored");
    assert_eq!(get(&[named, ("upgrade", "h2c"), ("content-length", "5")]), Ok(()));
}

proptest! {
    #[test]
    fn a_host_that_passes_is_canonical(host in "[ -~]{0,12}") {
        let lines = [("host", host.as_str())];
        if let Ok((name, ..)) = checked(Version::HTTP_11, "GET", "/", &lines) {
            prop_assert!(!name.is_empty(), "{:?}", host);
            let plain = |octet: u8| !octet.is_ascii_uppercase() && !b" /@,;\\\"#?".contains(&octet);
            prop_assert!(name.bytes().all(plain));
        }
    }
}
