//! Set-Cookie fields of an app whose cookies are the browser's own again.
//!
//! Invariant: a cookie is set as the app said it, wherever that can come back; and what a bridge has put elsewhere under its
//! name is deleted, which would hide it from the app for as long as it lasts.

use http::HeaderValue;

use super::super::rules::{AppRules, Disposition};
use super::super::to_client::{SetCookies, ToClient, host_of, public_path};
use crate::wire::jar;
use crate::wire::set_cookie::{Edit, Flags, SetCookie, deletion};

/// `field` for the browser: as it is, but for a domain that browsers refuse here. Where the app does not see its mount, the
/// public path gets a copy.
pub fn as_said(context: &ToClient<'_>, field: &HeaderValue, out: &mut SetCookies) {
    let Some(set) = SetCookie::parse(field.as_bytes()) else { return };
    let host = host_of(context.public_authority).as_bytes();
    let path = set.path().unwrap_or_else(|| jar::default_path(context.app_path.as_bytes()));
    let bridged = public_path(context, path);
    let mut edit = Edit::new(&set);
    if set.domain().is_some_and(|domain| !jar::domain_match(domain, host)) {
        edit = edit.drop_domain();
    }
    out.extend(left_over(context, &set, (path, &bridged)));
    out.extend(HeaderValue::from_bytes(&edit.finish()));
    if context.rules.mount.strips() && bridged != path {
        out.extend(HeaderValue::from_bytes(&edit.path(Some(&bridged)).finish()));
    }
}

/// Deletes what a bridge has made of the same cookie: another path, another name.
fn left_over(context: &ToClient<'_>, set: &SetCookie<'_>, (path, bridged): (&[u8], &[u8])) -> SetCookies {
    let (rules, mut out) = (context.rules, SetCookies::new());
    let flags = Flags { secure: set.secure(), ..Flags::default() };
    let Some(disposition) = disposition(rules, set.name()) else { return out };
    if rules.renames(disposition) {
        let name = rules.prefixed(set.name());
        out.extend(HeaderValue::from_bytes(&deletion(&name, bridged, None, flags)));
    } else if disposition == Disposition::Pass && bridged != path && !rules.mount.strips() {
        out.extend(HeaderValue::from_bytes(&deletion(set.name(), bridged, None, flags)));
    }
    out
}

/// What a bridge did with the cookie `name`; `None` where the app has no session here.
fn disposition(rules: &AppRules, name: &[u8]) -> Option<Disposition> {
    let session = rules.session.as_ref()?;
    Some(match session.cookie(name) {
        Some(_) => session.token_disposition(name),
        None => session.exception(name).unwrap_or(Disposition::Pass),
    })
}
