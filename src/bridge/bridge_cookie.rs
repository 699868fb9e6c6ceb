//! The proxy's own cookie: read, set, deleted, and when it must not be set.
//!
//! Invariant: it is never set in answer to a request that `SameSite` may have kept it from: that would overwrite the
//! person's own.

use cookie::{Cookie, SameSite as Attribute};
use http::{HeaderMap, HeaderValue, Method};

use super::id::BridgeId;
use super::rules::SameSite;
use crate::wire::cookie::{folds_to, line, pairs};
use crate::wire::fetch::{Dest, Fetch, Mode, cross_site};
use crate::wire::fields::Fields;

/// The bridge id that `headers` show under `name`. Two cookies of that name are none: one of them was planted.
#[must_use]
pub fn read(headers: &HeaderMap, name: &str) -> Option<BridgeId> {
    read_line(line(&Fields::of(headers))?.as_bytes(), name)
}

/// As [`read`], from a Cookie field's value.
#[must_use]
pub fn read_line(line: &[u8], name: &str) -> Option<BridgeId> {
    let mut shown = pairs(line).filter(|pair| folds_to(pair.name, name.as_bytes()));
    let (first, another) = (shown.next()?, shown.next());
    if another.is_some() || first.name != name.as_bytes() {
        return None;
    }
    BridgeId::parse(first.value)
}

/// True where `same_site` would have kept the cookie from a request of this kind, so that its absence says nothing.
#[must_use]
pub fn kept_away(
    same_site: SameSite,
    method: &Method,
    fetch: Fetch,
    origin: Option<&HeaderValue>,
    own_host: &str,
) -> bool {
    if cross_site(fetch, origin, own_host) != Some(true) {
        return false;
    }
    match same_site {
        SameSite::None => false,
        SameSite::Strict => true,
        SameSite::Lax => {
            let top_level = !fetch.is_present()
                || fetch.mode == Some(Mode::Navigate) && fetch.dest.is_none_or(|dest| dest == Dest::Document);
            !(top_level && method.is_safe())
        }
    }
}

/// The Set-Cookie field that gives the browser `value` under `name`. Session-lifetime: it is gone when the browser closes.
#[must_use]
pub fn set(name: &str, value: &str, https: bool, same_site: SameSite) -> Option<HeaderValue> {
    HeaderValue::from_str(&build(name, value, https, same_site).to_string()).ok()
}

/// The field that deletes it, with the attributes that it was set with: a deletion without `Secure` does not delete a
/// `__Host-` cookie.
#[must_use]
pub fn delete(name: &str, https: bool, same_site: SameSite) -> Option<HeaderValue> {
    let mut cookie = build(name, "", https, same_site);
    cookie.set_max_age(cookie::time::Duration::ZERO);
    cookie.set_expires(cookie::time::OffsetDateTime::UNIX_EPOCH);
    HeaderValue::from_str(&cookie.to_string()).ok()
}

fn build<'c>(name: &'c str, value: &'c str, https: bool, same_site: SameSite) -> Cookie<'c> {
    let same_site = match same_site {
        SameSite::Strict => Attribute::Strict,
        SameSite::Lax => Attribute::Lax,
        SameSite::None => Attribute::None,
    };
    Cookie::build((name, value)).path("/").secure(https).http_only(true).same_site(same_site).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fetch::Site;

    fn headers(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::header::COOKIE, HeaderValue::from_str(cookie).unwrap())])
    }

    #[test]
    fn one_cookie_is_an_id_and_two_are_none() {
        let id = BridgeId::new([3; 16]).encode();
        assert!(read(&headers(&format!("x=1; bridge={id}")), "bridge").is_some());
        assert!(read(&headers(&format!("bridge={id}; bridge={id}")), "bridge").is_none());
        assert!(read(&headers(&format!("\u{2000}bridge={id}; bridge={id}")), "bridge").is_none());
        assert!(read(&headers(&format!("BRIDGE={id}")), "bridge").is_none());
        assert!(read(&headers("bridge=short"), "bridge").is_none());
    }

    #[test]
    fn it_is_set_and_deleted_with_the_same_attributes() {
        let set = set("__Host-bridge", "abc", true, SameSite::Lax).unwrap();
        assert_eq!(set, "__Host-bridge=abc; HttpOnly; SameSite=Lax; Secure; Path=/");
        let gone = delete("__Host-bridge", true, SameSite::Lax).unwrap();
        assert!(
            gone.to_str()
                .unwrap()
                .starts_with("__Host-bridge=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0")
        );
    }

    #[test]
    fn a_cross_site_post_or_frame_says_nothing_about_the_cookie() {
        let other = |mode, dest| Fetch { site: Some(Site::CrossSite), mode: Some(mode), dest: Some(dest) };
        let kept = |same_site, method, fetch| kept_away(same_site, &method, fetch, None, "apps.example.org");
        assert!(kept(SameSite::Lax, Method::POST, other(Mode::Navigate, Dest::Document)));
        assert!(kept(SameSite::Lax, Method::GET, other(Mode::Navigate, Dest::Other)));
        assert!(!kept(SameSite::Lax, Method::GET, other(Mode::Navigate, Dest::Document)));
        assert!(kept(SameSite::Strict, Method::GET, other(Mode::Navigate, Dest::Document)));
        assert!(!kept(SameSite::None, Method::POST, other(Mode::Navigate, Dest::Document)));
        assert!(!kept(SameSite::Lax, Method::POST, Fetch::default()), "nothing says that it is cross-site");
    }
}
