//! The heartbeat page asked once more with the cookies of a session that has been signed out of: does it answer still?
//!
//! Invariant: nothing is learned from the answer. The session that is asked with is nobody's any more, and stays as it is.

use http::HeaderValue;

use super::{Pinger, context, fields};
use crate::bridge::beat::{self, Evidence, Verdict};
use crate::bridge::{own as mark, to_client};
use crate::own::{self, Ask, Person};
use crate::route::{Route, RouteMap};

impl Pinger {
    /// What the heartbeat page of `route` shows of the session of `person`, who has signed out. The request says of itself
    /// that it is no heartbeat that keeps anything alive. `None` where the app has no such page, or the session no token.
    ///
    /// An app that gives every visitor a session begins an empty one for this request, as for any visitor.
    pub async fn ask_with_old(
        &self,
        routes: &RouteMap,
        route: &Route,
        person: &Person<'_>,
    ) -> Option<Verdict> {
        let rules = route.rules.beat.as_ref().filter(|_| person.app.has_token())?;
        let (ask, now) =
            (Ask { method: &rules.method, target: &rules.path, heartbeat: true }, self.clock.now());
        let Some(mut prepared) = own::prepare(route, &self.balancer, person, &ask, now) else {
            return Some(Verdict::Unreachable);
        };
        prepared.head.set(&mark::HEARTBEAT, &HeaderValue::from_static("proof"));
        let app = person.app;
        let heard = tokio::time::timeout(rules.timeout, self.exchange(rules, &prepared)).await;
        let Some(heard) = heard.ok().flatten() else { return Some(Verdict::Unreachable) };
        let fields = fields(routes, route, &heard.parts.headers);
        let authority = prepared.chosen.upstream.authority.to_string();
        let public = app.public.as_deref();
        let context = context(route, &prepared, &authority, public, Some(app.vault()), self.clock.now());
        let riding = to_client::map_urls(&context, &mut heard.parts.headers.clone());
        let mut from_app = to_client::read(&context, &fields, &[]);
        // As in a heartbeat's answer: a dead id in the path is answered with a redirect to the new one.
        from_app.edits.extend(riding.as_ref().and_then(|token| to_client::path_edit(&context, token)));
        let learned = app.clone().learn_from_beat(app.sent(now, false), &from_app.edits, self.clock.now());
        let said = self.evidence(route, rules, app.beat.canary, &heard);
        Some(beat::judge(rules, &Evidence { learned, ..said }))
    }
}
