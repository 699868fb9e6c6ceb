//! Whose tokens are whose, as far as any may be taken over from a URL or a browser's own cookie.
//!
//! Invariant: what an answer has brought is known to be its session's before that answer is released.

use std::sync::Arc;

use super::Proxy;
use crate::bridge::app_session::AppSession;
use crate::bridge::rules::AppIx;
use crate::bridge::session::Farewell;
use crate::registry::Slot;
use crate::route::RouteMap;

impl Proxy {
    /// Remembers whose the tokens of the session are: those of `app` and of the apps that share them, as far as tokens of
    /// those may be taken over.
    pub(super) fn own_tokens(&self, map: &RouteMap, app: AppIx, slot: &Arc<Slot>) {
        let rules = map.route(app).and_then(|route| route.rules.session.as_ref());
        let shares = rules.iter().flat_map(|rules| &rules.shares).map(|share| share.with);
        for app in std::iter::once(app).chain(shares) {
            self.own_tokens_of(map, app, slot);
        }
    }

    /// The tokens of app sessions that the person has signed out of are nobody's any more.
    pub(super) fn entomb(&self, map: &RouteMap, left: &Farewell, slot: &Slot) {
        for app in left.apps.iter().filter(|app| map.takes_over(app.app)) {
            for parts in app.tokens() {
                self.shared.registry.entomb(app.app, parts.iter().map(|part| &**part), slot, self.now());
            }
        }
    }

    fn own_tokens_of(&self, map: &RouteMap, app: AppIx, slot: &Arc<Slot>) {
        if !map.takes_over(app) {
            return;
        }
        let all = slot.with(|session| session.app(app).map(AppSession::tokens)).unwrap_or_default();
        for parts in all {
            self.shared.registry.own_token(app, parts.iter().map(|part| &**part), slot);
        }
    }
}
