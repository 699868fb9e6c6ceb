//! Cookies that a bridge gave to the browser under a name of its own (`appA.CFID`): they get their plain names back.
//!
//! Invariant: the browser shows one under its renamed name until an answer that hands it back has arrived, so none is lost.

use http::HeaderValue;

use super::super::rules::AppRules;
use super::super::to_app::Renamed;
use super::super::vault::{Carrier, Cookie, Reach, Role, Vault};
use super::{Asks, field, paths};
use crate::wire::set_cookie::{Flags, deletion};

/// A cookie under its plain name again.
#[derive(Debug)]
pub struct HandedBack {
    /// The plain name: an answer that sets it itself knows better.
    pub name: Box<[u8]>,
    /// Sets the plain one.
    pub sets: Vec<HeaderValue>,
    /// Delete the renamed one.
    pub deletes: Vec<HeaderValue>,
}

/// Hands back what the browser has shown as `renamed`. Attributes are those that `vault` knows; where it knows none, the
/// cookie is for the whole host, until the browser is closed, and no script reads it.
#[must_use]
pub fn renamed(
    rules: &AppRules,
    vault: Option<&Vault>,
    renamed: &[Renamed],
    asks: &Asks<'_>,
) -> Vec<HandedBack> {
    renamed.iter().map(|one| hand_back(rules, vault, one, asks)).collect()
}

fn hand_back(rules: &AppRules, vault: Option<&Vault>, shown: &Renamed, asks: &Asks<'_>) -> HandedBack {
    let known = vault.and_then(|vault| vault.iter().find(|held| held.name == &*shown.name));
    let unknown = Cookie {
        name: &shown.name,
        value: b"",
        path: b"/",
        host: b"",
        subdomains: false,
        expires: 0,
        started: 0,
        role: Role::Plain,
        carrier: Carrier::Cookie,
        secure: false,
        reach: Reach { http_only: true, same_site: None },
    };
    let cookie = Cookie { value: &shown.value, ..known.unwrap_or(unknown) };
    let sets = paths(rules, &cookie).filter_map(|path| field(cookie.name, &path, &cookie, asks)).collect();
    HandedBack { name: shown.name.clone(), sets, deletes: deletions(rules, &cookie, asks) }
}

/// Deletes what the browser has of `cookie` under its other name.
pub(super) fn deletions(rules: &AppRules, cookie: &Cookie<'_>, asks: &Asks<'_>) -> Vec<HeaderValue> {
    let name = rules.prefixed(cookie.name);
    let inside = std::str::from_utf8(cookie.path).map(|path| rules.mount.to_public(path));
    let mut at = vec!["/", rules.mount.cookie_path(), inside.as_deref().unwrap_or("/")];
    at.sort_unstable();
    at.dedup();
    let flags = Flags { secure: asks.https, ..Flags::default() };
    let deletes = at.into_iter().map(|path| deletion(&name, path.as_bytes(), None, flags));
    deletes.filter_map(|field| HeaderValue::from_bytes(&field).ok()).collect()
}
