use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_514_764_800;

fn read(raw: &str) -> SetCookie<'_> {
    SetCookie::parse(raw.as_bytes()).unwrap()
}

fn edited(raw: &str, edit: impl for<'e> Fn(Edit<'e, 'e>) -> Edit<'e, 'e>) -> String {
    let cookie = read(raw);
    String::from_utf8(edit(Edit::new(&cookie)).finish().into_owned()).unwrap()
}

#[test]
fn reads_as_browsers_do() {
    let cookie = read(
        " sid =\t\"a b\" ; path = /x ;DOMAIN=.Example.org;Max-Age=60; \
         expires=Thu, 01 Jan 1970 00:00:00 GMT;; httponly=no; SameSite=Odd; priority=High; Partitioned",
    );
    assert_eq!(cookie.name(), b"sid");
    assert_eq!(cookie.value(), b"\"a b\"");
    assert_eq!(cookie.path(), Some(&b"/x"[..]));
    assert_eq!(cookie.domain(), Some(&b"Example.org"[..]));
    assert_eq!((cookie.max_age(), cookie.expires()), (Some(60), Some(0)));
    assert_eq!(cookie.same_site(), Some(&b"Odd"[..]));
    assert!(cookie.http_only() && cookie.partitioned() && !cookie.secure());
    assert_eq!(cookie.lifetime(NOW), Lifetime::Until(NOW + 60));
}

#[test]
fn what_no_browser_stores() {
    for raw in ["", "a", "=a", "=__Host-x=y", " = x", ";a=b", "a=b\x01", "a=b; Path=/\n", "a\x7f=b"] {
        assert!(SetCookie::parse(raw.as_bytes()).is_none(), "{raw:?}");
    }
    assert!(SetCookie::parse(format!("a={}", "x".repeat(MAX_PAIR - 1)).as_bytes()).is_some());
    assert!(SetCookie::parse(format!("a={}", "x".repeat(MAX_PAIR)).as_bytes()).is_none());
    assert_eq!(SetCookie::parse(b"a=\xe9\t ").unwrap().value(), b"\xe9");
}

#[test]
fn the_last_attribute_that_counts_wins() {
    assert_eq!(read("a=b; path=/x; path=/y").path(), Some(&b"/y"[..]));
    assert_eq!(read("a=b; path=/x; path=").path(), None);
    assert_eq!(read("a=b; path=x").path(), None);
    assert_eq!(read("a=b; domain=x.org; domain=").domain(), Some(&b"x.org"[..]));
    assert_eq!(read("a=b; max-age=5; max-age=x").max_age(), Some(5));
    let long = format!("a=b; path=/x; path=/{}", "y".repeat(MAX_ATTRIBUTE));
    assert_eq!(read(&long).path(), Some(&b"/x"[..]));
}

#[test]
fn lifetimes() {
    for (attributes, lifetime) in [
        ("", Lifetime::Session),
        ("; Max-Age=0", Lifetime::Delete),
        ("; Max-Age=-20", Lifetime::Delete),
        ("; Max-Age=-", Lifetime::Session),
        ("; Max-Age=50,399", Lifetime::Session),
        ("; Max-Age=99999999999999999999999", Lifetime::Until(NOW + MAX_AGE)),
        ("; Expires=Thu, 01-Jan-1970 00:00:10 GMT", Lifetime::Delete),
        ("; Expires=Thu, 01-Jan-1970 00:00:10 GMT; Max-Age=7", Lifetime::Until(NOW + 7)),
        ("; Max-Age=0; Expires=Fri, 31 Dec 2100 23:59:59 GMT", Lifetime::Delete),
        ("; Expires=Fri, 31 Dec 2100 23:59:59 GMT", Lifetime::Until(NOW + MAX_AGE)),
        ("; Expires=Mon, 01 Jan 2018 00:01:00 GMT", Lifetime::Until(NOW + 60)),
        ("; Expires=never", Lifetime::Session),
    ] {
        assert_eq!(read(&format!("a=b{attributes}")).lifetime(NOW), lifetime, "{attributes}");
    }
}

#[test]
fn prefixes() {
    for (raw, secure, insecure) in [
        ("a=b", true, true),
        ("__Secure-a=b; Secure", true, false),
        ("__SECURE-a=b", false, false),
        ("__Host-a=b; Secure; Path=/", true, false),
        ("__host-a=b; Secure; Path=/", true, false),
        ("__Host-a=b; Secure", false, false),
        ("__Host-a=b; Secure; Path=/x", false, false),
        ("__Host-a=b; Secure; Path=/; Domain=x.org", false, false),
    ] {
        let cookie = read(raw);
        assert_eq!((cookie.prefix_ok(true), cookie.prefix_ok(false)), (secure, insecure), "{raw}");
    }
}

#[test]
fn edits_touch_only_their_part() {
    let raw = "cfid=1;Path=/; Priority=High;Path=/two;  SameSite=lax ;Expires=x;secure;";
    assert_eq!(
        edited(raw, |edit| edit.path(Some(b"/AppA"))),
        "cfid=1;Path=/AppA; Priority=High;  SameSite=lax ;Expires=x;secure;"
    );
    assert_eq!(
        edited(raw, |edit| edit.path(None).rename(b"appa.CFID").value(b"22")),
        "appa.CFID=22; Priority=High;  SameSite=lax ;Expires=x;secure;"
    );
    assert_eq!(edited(raw, |edit| edit.same_site(Some(b"Lax")).secure(true)), raw);
    assert_eq!(
        edited(raw, |edit| edit.drop_expiry().drop_domain().secure(false).http_only(true)),
        "cfid=1;Path=/; Priority=High;Path=/two;  SameSite=lax ; HttpOnly"
    );
    assert_eq!(edited("a=b; ", |edit| edit.partitioned(true).secure(true)), "a=b;  Partitioned; Secure");
    assert_eq!(edited("a=b; Path ; x", |edit| edit.path(Some(b"/p"))), "a=b; Path=/p ; x");
    assert_eq!(edited("a=b; Domain=x; domain=y;DOMAIN", |edit| edit.drop_domain()), "a=b");
    assert_eq!(edited("a= ; x", |edit| edit.value(b"v")), "a=v ; x");
}

#[test]
fn nothing_put_in_begins_another_part() {
    assert_eq!(
        edited("a=b", |edit| edit.rename(b"x=y;z").value(b"1;2=3\r\n").path(Some(b"/;Secure"))),
        "x_y_z=1_2=3__; Path=/_Secure"
    );
}

#[test]
fn no_change_is_the_input_itself() {
    let cookie = read("a=b ;path=/x; weird");
    let same =
        Edit::new(&cookie).rename(b"a").value(b"b").path(Some(b"/x")).drop_expiry().secure(false).finish();
    assert!(matches!(same, Cow::Borrowed(b"a=b ;path=/x; weird")));
}

#[test]
fn deletions_delete() {
    let flags = Flags { secure: true, http_only: true, partitioned: true };
    let raw = deletion(b"CFID", b"/AppA", Some(b"example.org"), flags);
    let cookie = SetCookie::parse(&raw).unwrap();
    assert_eq!((cookie.name(), cookie.value(), cookie.path()), (&b"CFID"[..], &b""[..], Some(&b"/AppA"[..])));
    assert_eq!((cookie.max_age(), cookie.expires()), (Some(0), Some(0)));
    assert!(cookie.secure() && cookie.http_only() && cookie.partitioned() && cookie.domain().is_some());
    let plain = deletion(b"a", b"/", None, Flags::default());
    assert_eq!(plain, b"a=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/");
}

fn chunk() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -:<-~\t]{0,12}",
        " ?(Path|PATH) ?(= ?/[a-z]{0,3})?",
        " ?Domain=[a-z.]{0,6}",
        " ?(Max-Age|Expires)=[0-9a-z]{0,4}",
        " ?(Secure|HttpOnly|Partitioned|SameSite)(=[A-Za-z]{0,4})?",
    ]
}

fn line() -> impl Strategy<Value = String> {
    ("[a-z]{1,6}", "[ -:<-~]{0,12}", prop::collection::vec(chunk(), 0..8))
        .prop_map(|(name, value, rest)| format!("{name}={value};{}", rest.join(";")))
}

proptest! {
    #[test]
    fn an_empty_edit_borrows(raw in line()) {
        let cookie = read(&raw);
        prop_assert!(matches!(Edit::new(&cookie).finish(), Cow::Borrowed(out) if out == raw.as_bytes()));
    }

    #[test]
    fn foreign_chunks_survive_in_order(raw in line()) {
        let foreign = |raw: &[u8]| -> Vec<Vec<u8>> {
            octets::split(raw, b';').skip(1).map(|range| octets::at(raw, &range).to_vec())
                .filter(|chunk| Kind::of(octets::at(chunk, &pair(chunk, 0..chunk.len()).0)) == Kind::Other)
                .filter(|chunk| !octets::trimmed(chunk).is_empty())
                .collect()
        };
        let cookie = read(&raw);
        let out = Edit::new(&cookie).rename(b"n").path(Some(b"/new")).drop_domain().drop_expiry().secure(true)
            .same_site(None).finish();
        prop_assert_eq!(foreign(&out), foreign(raw.as_bytes()));
        let again = SetCookie::parse(&out).unwrap();
        prop_assert_eq!(again.path(), Some(&b"/new"[..]));
        prop_assert_eq!(again.values(Kind::Path).count(), 1);
        prop_assert!(again.domain().is_none() && again.secure() && again.same_site().is_none());
        prop_assert_eq!((again.value(), again.lifetime(NOW)), (cookie.value(), Lifetime::Session));
        prop_assert_eq!(again.http_only(), cookie.http_only());
    }

    #[test]
    fn parsing_never_panics(raw in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Some(cookie) = SetCookie::parse(&raw) {
            let _ = (cookie.lifetime(NOW), cookie.prefix_ok(true));
            let _ = Edit::new(&cookie).path(Some(b"/")).finish();
        }
    }
}
