//! `adopt_cookies`: the cookies that browsers have had since before the proxy, where they stay with the browser.
//!
//! Invariant: of each token the browser is left with one cookie, the one that the bridge will read.

use http::HeaderValue;

use super::back::Heard;
use super::exchange::{Departed, Exchange};
use crate::bridge::rules::Disposition;
use crate::bridge::to_app::Shown;
use crate::bridge::to_client::public_path;
use crate::wire::jar;
use crate::wire::set_cookie::{Flags, Lifetime, SetCookie, deletion};

impl Exchange<'_> {
    /// Where tokens are the browser's under a name of the proxy's making, an adopted one gets that name.
    pub(super) fn rename_adopted(&self, departed: &Departed) -> Vec<HeaderValue> {
        let rules = &self.route.rules;
        let disposition = |name: &[u8]| rules.session.as_ref().map(|session| session.token_disposition(name));
        let renamed = departed.seen.shown.iter().filter(|part| part.is_to_move(rules));
        let renamed = renamed
            .filter(|part| disposition(&part.name).is_some_and(|disposition| rules.renames(disposition)));
        let path = if rules.mount.is_case_insensitive() { "/" } else { rules.mount.cookie_path() };
        let secure = if self.inbound.client.https { "; Secure" } else { "" };
        let field = |part: &Shown| {
            let mut field = rules.prefixed(&part.name);
            field.push(b'=');
            field.extend_from_slice(&part.value);
            field.extend_from_slice(format!("; Path={path}; HttpOnly{secure}").as_bytes());
            HeaderValue::from_bytes(&field).ok()
        };
        renamed.filter_map(field).collect()
    }

    /// Deletes tokens that the browser has shown and that the answer sets for another path than the app said: the browser's own
    /// may be from before the proxy, and of two that it shows neither is believed.
    pub(super) fn older(&self, departed: &Departed, heard: &Heard<'_>) -> Vec<HeaderValue> {
        let (rules, shown) = (&self.route.rules, &departed.seen.shown);
        let Some(session) = rules.session.as_ref().filter(|_| !shown.is_empty()) else { return Vec::new() };
        if self.map.bridge.adopt_cookies.is_none() || self.releases() {
            return Vec::new();
        }
        let now = i64::try_from(heard.context.now.secs()).unwrap_or(i64::MAX);
        let sets = heard.taken.iter().filter_map(|field| SetCookie::parse(field.as_bytes()));
        let moves = sets.filter(|set| {
            session.token_disposition(set.name()) == Disposition::Pass
                && shown.iter().any(|part| *part.name == *set.name())
                && set.lifetime(now) != Lifetime::Delete
                && !self.held_elsewhere(set.name())
        });
        let older = moves.filter_map(|set| {
            let path = set.path().unwrap_or_else(|| jar::default_path(heard.context.app_path.as_bytes()));
            let flags = Flags { secure: set.secure(), ..Flags::default() };
            (public_path(heard.context, path) != path).then(|| deletion(set.name(), path, None, flags))
        });
        older.filter_map(|field| HeaderValue::from_bytes(&field).ok()).collect()
    }
}
