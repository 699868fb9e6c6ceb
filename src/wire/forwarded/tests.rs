use http::header::HeaderValue;
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

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets() -> Vec<IpNet> {
    ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect()
}

fn from(peer: &str, lines: &[(&str, &str)]) -> Client {
    resolve(Some(ip(peer)), &nets(), &head(lines), false)
}

#[test]
fn strangers_are_not_believed() {
    let lines = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.org"),
        ("forwarded", "for=1.1.1.1;proto=https;host=evil.org"),
    ];
    let client = from("203.0.113.9", &lines);
    assert_eq!(
        (client.address, client.https, client.host, client.trusted),
        (ip("203.0.113.9"), false, None, false)
    );
}

#[test]
fn the_walk_ends_at_the_first_stranger() {
    for (chain, address) in [
        ("1.1.1.1", "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("1.1.1.1:4711,10.0.0.2:80", "1.1.1.1"),
        ("[2001:db8::1]:4711, fd00::2", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:1.1.1.1", "1.1.1.1"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        ("6.6.6.6, ", "10.0.0.1"),
        ("", "10.0.0.1"),
    ] {
        assert_eq!(from("10.0.0.1", &[("x-forwarded-for", chain)]).address, ip(address), "{chain}");
    }
    let split = from("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "10.0.0.2")]);
    assert_eq!(split.address, ip("1.1.1.1"));
    assert_eq!(split.via.as_slice(), [ip("10.0.0.2"), ip("10.0.0.1")]);
}

#[test]
fn scheme_and_host_come_from_the_outermost_trusted_hop() {
    let two_hops = ("x-forwarded-for", "1.1.1.1, 10.0.0.2");
    for (proto, https) in
        [("https", true), ("https, http", true), ("http, https, http", true), ("junk", false)]
    {
        assert_eq!(from("10.0.0.1", &[two_hops, ("x-forwarded-proto", proto)]).https, https, "{proto}");
    }
    let spoofed = from("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https, http")]);
    assert!(!spoofed.https);
    let host = |host| from("10.0.0.1", &[("x-forwarded-host", host), ("x-forwarded-port", "8443")]);
    assert_eq!((host("a.org:81").host.as_deref(), host("a.org").port), (Some("a.org:81"), Some(8443)));
    assert_eq!(host("a.org/x").host, None);
}

#[test]
fn forwarded_elements() {
    let client = from(
        "10.0.0.1",
        &[
            (
                "forwarded",
                "for=6.6.6.6;host=evil.org, For=\"[2001:db8::1]:4711\";Proto=https;Host=\"a.org:81\"",
            ),
            ("forwarded", "for=10.0.0.2;proto=http"),
        ],
    );
    assert_eq!(
        (client.address, client.https, client.host.as_deref()),
        (ip("2001:db8::1"), true, Some("a.org:81"))
    );
    let hidden = from("10.0.0.1", &[("forwarded", "for=_hidden, for=\"a,b;c\"")]);
    assert_eq!(hidden.address, ip("10.0.0.1"));
}

#[test]
fn a_unix_peer_is_loopback() {
    let headers = head(&[("x-forwarded-for", "1.1.1.1")]);
    assert_eq!(resolve(None, &nets(), &headers, false).address, ip("1.1.1.1"));
    assert_eq!(resolve(None, &[], &headers, false).address, ip("127.0.0.1"));
}

/// What an app sees of the family.
fn written(client: &Client, authority: &str) -> HeaderMap {
    let mut head = Head::new(http::Method::GET, "/", 0);
    write(&mut head, client, authority);
    head.map()
}

#[test]
fn an_app_sees_what_is_known() {
    let client = resolve(Some(ip("203.0.113.9")), &nets(), &HeaderMap::new(), true);
    let expected = head(&[
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-host", "a.org:8443"),
        ("forwarded", "for=203.0.113.9;host=\"a.org:8443\";proto=https"),
    ]);
    assert_eq!(written(&client, "a.org:8443"), expected);
}

#[test]
fn a_trusted_chain_is_extended_and_its_forged_end_is_not() {
    let headers = head(&[("x-forwarded-for", "6.6.6.6, 2001:db8::1"), ("x-forwarded-proto", "https")]);
    let client = resolve(Some(ip("10.0.0.1")), &nets(), &headers, false);
    let expected = head(&[
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-for", "2001:db8::1, 10.0.0.1"),
        ("x-real-ip", "2001:db8::1"),
        ("x-forwarded-host", "a.org"),
        ("forwarded", "for=\"[2001:db8::1]\";host=a.org;proto=https, for=10.0.0.1"),
    ]);
    assert_eq!(written(&client, "a.org"), expected);
}

#[test]
fn places() {
    for (one, other, same) in [
        ("1.1.1.1", "1.1.1.1", true),
        ("1.1.1.1", "1.1.1.2", false),
        ("::ffff:1.1.1.1", "1.1.1.1", true),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ("1.1.1.1", "2001:db8::1", false),
    ] {
        assert_eq!(same_place(ip(one), ip(other)), same, "{one} {other}");
    }
}

proptest! {
    #[test]
    fn what_was_set_is_resolved_again(address in any::<[u8; 4]>(), https in any::<bool>()) {
        let address = IpAddr::from(address);
        prop_assume!(!nets().iter().any(|net| net.contains(&address)));
        let headers = written(&resolve(Some(address), &nets(), &HeaderMap::new(), https), "a.org");
        for gone in [FORWARDED, FOR] {
            let mut headers = headers.clone();
            headers.remove(gone);
            let client = resolve(Some(ip("10.0.0.1")), &nets(), &headers, false);
            prop_assert_eq!((client.address, client.https), (address, https));
            prop_assert_eq!(client.host.as_deref(), Some("a.org"));
        }
    }

    #[test]
    fn never_panics(value in "[ -~]{0,40}") {
        let _ = from("10.0.0.1", &[("forwarded", &value)]);
        let _ = from("10.0.0.1", &[("x-forwarded-for", &value), ("x-forwarded-host", &value)]);
    }
}
