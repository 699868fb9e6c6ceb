//! When a token that arrived in a URL may be adopted.
//!
//! A token in a URL is never proof of who someone is. What is left to decide here is whether the request that carries it
//! could be the person's own step from one client to another; whether the token is an orphan that was issued through this
//! proxy a moment ago is the registry's to say.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Method};
use smallvec::SmallVec;

use super::app_session::Edit;
use super::rules::Adopt;
use super::to_app::{Seen, Shown};
use super::to_client::{FromApp, same_token};
use super::vault::Role;
use crate::time::Timestamp;
use crate::wire::fetch::{Dest, Fetch, Mode, Site};
use crate::wire::{forwarded, location};

/// How long after its issue an orphan may be adopted.
pub const FRESH: Duration = Duration::from_secs(60);

/// Failed adoptions of one address in a minute, before its tries are no longer looked at.
pub const TRIES_A_MINUTE: u32 = 5;

/// Where and when a token was issued to a client that never showed its bridge cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// When.
    pub issued: Timestamp,
    /// To whom.
    pub address: Option<IpAddr>,
}

impl Orphan {
    /// True where a request from `address` may take it at `now`: within [`FRESH`], from the same place.
    #[must_use]
    pub fn may_go_to(&self, address: IpAddr, now: Timestamp) -> bool {
        now.since(self.issued) <= FRESH && self.address.is_some_and(|own| forwarded::same_place(own, address))
    }
}

/// True where the request could be a person's own step: a top-level navigation that no other site caused.
#[must_use]
pub fn is_own_step(adopt: Adopt, method: &Method, fetch: Fetch, headers: &HeaderMap, own_host: &str) -> bool {
    if adopt == Adopt::Never || method != Method::GET {
        return false;
    }
    if fetch.is_present() {
        return fetch.mode == Some(Mode::Navigate)
            && fetch.dest == Some(Dest::Document)
            && matches!(fetch.site, Some(Site::None | Site::SameOrigin | Site::SameSite));
    }
    adopt == Adopt::Legacy && !headers.contains_key(http::header::ORIGIN) && referer_is_own(headers, own_host)
}

/// True without a Referer, or with one of the own host.
fn referer_is_own(headers: &HeaderMap, own_host: &str) -> bool {
    let Some(referer) = headers.get(http::header::REFERER) else { return true };
    let authority = referer.to_str().ok().and_then(location::split).and_then(|parts| parts.authority);
    let host = authority.and_then(crate::wire::target::split_authority).map(|(host, _)| host);
    host.is_some_and(|host| host.eq_ignore_ascii_case(own_host))
}

impl Seen {
    /// The values of each token that was shown, in the order of its parts, whatever the browser's order.
    #[must_use]
    pub fn tokens_shown(&self) -> Vec<Vec<&[u8]>> {
        let mut parts: Vec<(u8, u8, &[u8])> = Vec::with_capacity(self.shown.len());
        for shown in &self.shown {
            if let Role::Token { token, part } = shown.role {
                parts.push((token, part, &shown.value));
            }
        }
        parts.sort_unstable();
        let tokens = parts.chunk_by(|one, next| one.0 == next.0);
        tokens.map(|token| token.iter().map(|(_, _, value)| *value).collect()).collect()
    }
}

impl FromApp<'_> {
    /// Leaves out what sets the very tokens that were `shown`: they are another session's by now.
    pub fn leave_shown(&mut self, shown: &[Shown]) {
        let is_shown = |edit: &Edit<'_>| {
            shown
                .iter()
                .any(|part| part.role == edit.role && edit.value.is_some_and(|value| *value == *part.value))
        };
        let others: SmallVec<[Role; 2]> =
            self.edits.iter().filter(|edit| !is_shown(edit)).map(|edit| edit.role).collect();
        self.edits.retain(|edit| !is_shown(edit) || others.iter().any(|other| same_token(*other, edit.role)));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn navigation(site: Site) -> Fetch {
        Fetch { site: Some(site), mode: Some(Mode::Navigate), dest: Some(Dest::Document) }
    }

    fn step(adopt: Adopt, method: Method, fetch: Fetch, headers: &[(&'static str, &'static str)]) -> bool {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        is_own_step(adopt, &method, fetch, &headers.collect(), "apps.example.org")
    }

    #[test]
    fn only_a_top_level_navigation_that_no_other_site_caused_is_a_step() {
        assert!(step(Adopt::Proven, Method::GET, navigation(Site::None), &[]));
        assert!(step(Adopt::Proven, Method::GET, navigation(Site::SameOrigin), &[]));
        assert!(!step(Adopt::Proven, Method::GET, navigation(Site::CrossSite), &[]));
        assert!(!step(Adopt::Proven, Method::POST, navigation(Site::None), &[]));
        let frame = Fetch { dest: Some(Dest::Other), ..navigation(Site::None) };
        assert!(!step(Adopt::Proven, Method::GET, frame, &[]));
        assert!(!step(Adopt::Never, Method::GET, navigation(Site::None), &[]));
    }

    #[test]
    fn an_old_client_is_believed_only_where_the_config_asks_for_it() {
        let none = Fetch::default();
        assert!(!step(Adopt::Proven, Method::GET, none, &[]));
        assert!(step(Adopt::Legacy, Method::GET, none, &[]));
        assert!(step(Adopt::Legacy, Method::GET, none, &[("referer", "http://apps.example.org:8080/AppA/")]));
        assert!(!step(Adopt::Legacy, Method::GET, none, &[("referer", "http://evil.example/")]));
        assert!(!step(Adopt::Legacy, Method::GET, none, &[("origin", "http://apps.example.org")]));
    }

    #[test]
    fn an_orphan_goes_to_the_same_place_within_a_minute() {
        let at = Timestamp::from_secs(1000);
        let orphan = Orphan { issued: at, address: Some([192, 0, 2, 1].into()) };
        assert!(orphan.may_go_to([192, 0, 2, 1].into(), at.plus(FRESH)));
        assert!(!orphan.may_go_to([192, 0, 2, 1].into(), at.plus(Duration::from_secs(61))));
        assert!(!orphan.may_go_to([192, 0, 2, 2].into(), at));
    }
}
