//! What the answer to a heartbeat sets: cookies, and the token that rides in the path of a redirect.
//!
//! Invariant: it is learned only under the fence of what the heartbeat was sent with.

use http::header::{LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::bridge::app_session::{AppSession, Learned, Sent};
use crate::bridge::to_client::{self, SetCookies, ToClient};
use crate::own::Prepared;
use crate::route::{Route, RouteMap};
use crate::time::Timestamp;
use crate::wire::target::split_authority;

/// What an answer sets.
pub(super) struct Sets<'a> {
    /// The Set-Cookie fields that are the app's to set.
    fields: SetCookies,
    location: Option<&'a HeaderValue>,
}

impl<'a> Sets<'a> {
    /// What an answer of the app of `route` with these `headers` sets.
    pub(super) fn of(routes: &RouteMap, route: &Route, headers: &'a HeaderMap) -> Self {
        let mut fields = headers.get_all(SET_COOKIE).iter().cloned().collect();
        to_client::drop_own(&route.rules, &mut fields, routes.own_cookies());
        Self { fields, location: headers.get(LOCATION) }
    }

    /// Applies it to `app`, which was asked by `prepared` when it was as `sent`. Gives what was learned, and the Set-Cookie
    /// fields that are the browser's.
    pub(super) fn learn(
        &self,
        route: &Route,
        prepared: &Prepared,
        app: &mut AppSession,
        (sent, now): (Sent, Timestamp),
    ) -> (Learned, SetCookies) {
        if self.fields.is_empty() && self.location.is_none() {
            // What most answers to heartbeats are.
            return (app.learn_from_beat(sent, &[], now), SetCookies::new());
        }
        let (public, vault) = (app.public.clone(), app.vault().clone());
        let public = public.as_deref();
        let public_authority = public.map_or("", |public| &public.authority);
        let context = ToClient {
            rules: &route.rules,
            vault: Some(&vault),
            app_path: prepared.head.path(),
            app_host: split_authority(public_authority).map_or(public_authority, |(host, _)| host),
            app_authority: &prepared.chosen.upstream.authority,
            public_authority,
            https: public.is_some_and(|public| public.https),
            now,
        };
        let riding = self.location.and_then(|location| {
            to_client::map_urls(&context, &mut HeaderMap::from_iter([(LOCATION, location.clone())]))
        });
        let mut from_app = to_client::read(&context, &self.fields, &[]);
        // A dead id in the path is answered with a redirect to the new one.
        from_app.edits.extend(riding.as_ref().and_then(|token| to_client::path_edit(&context, token)));
        (app.learn_from_beat(sent, &from_app.edits, now), from_app.relayed)
    }
}
