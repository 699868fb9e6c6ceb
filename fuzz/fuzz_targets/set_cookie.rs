//! Set-Cookie fields as apps send them: an edit that changes nothing leaves the bytes, others can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionbridge::wire::set_cookie::{Edit, SetCookie};

fuzz_target!(|field: &[u8]| {
    let Some(cookie) = SetCookie::parse(field) else { return };
    assert_eq!(&*Edit::new(&cookie).finish(), field);
    let _ = (cookie.lifetime(1_767_225_600), cookie.prefix_ok(true), cookie.prefix_ok(false));
    let edit = Edit::new(&cookie).rename(b"renamed").path(Some(b"/app")).drop_domain().drop_expiry();
    let edited = edit.secure(true).http_only(true).finish();
    let again = SetCookie::parse(&edited).expect("what was edited is a cookie");
    assert_eq!(
        (again.name(), again.value(), again.path()),
        (&b"renamed"[..], cookie.value(), Some(&b"/app"[..]))
    );
    assert!(again.secure() && again.http_only() && again.domain().is_none());
});
