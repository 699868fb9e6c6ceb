//! Which fields may stand behind a body.
//!
//! Invariant: nothing that frames, routes, authenticates or sets cookies gets past the reader of a head by coming late
//! (RFC 9110, 6.5.1).

use http::HeaderName;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, MAX_FORWARDS,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

const FORBIDDEN: [HeaderName; 14] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    MAX_FORWARDS,
    PROXY_AUTHORIZATION,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// True for a field that is passed on.
pub(super) fn may_trail(name: &HeaderName) -> bool {
    let text = name.as_str();
    !FORBIDDEN.contains(name) && !text.starts_with("content-") && !text.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_pass_and_what_a_head_decides_does_not() {
        let may = |name: &'static str| may_trail(&HeaderName::from_static(name));
        assert!(may("x-checksum") && may("grpc-status") && may("server-timing"));
        for name in [
            "cookie",
            "set-cookie",
            "content-length",
            "content-type",
            "x-forwarded-for",
            "host",
            "transfer-encoding",
        ] {
            assert!(!may(name), "{name}");
        }
    }
}
