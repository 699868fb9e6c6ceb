//! The heartbeat page asked once more with the cookies of a session that has been signed out of: does it answer still?
//!
//! Invariant: nothing is learned from the answer. The session that is asked with is nobody's any more, and stays as it is.

use http::HeaderValue;

use super::Pinger;
use super::sets::Sets;
use crate::bridge::beat::{self, Evidence, Verdict};
use crate::bridge::own as mark;
use crate::own::{self, Ask, Person};
use crate::route::Route;
use crate::setting::Setting;

impl Pinger {
    /// What the heartbeat page of `route` shows of the session of `person`, who has signed out. The request says of itself
    /// that it is no heartbeat that keeps anything alive. `None` where the app has no such page, or the session no token.
    ///
    /// An app that gives every visitor a session begins an empty one for this request, as for any visitor.
    pub async fn ask_with_old(
        &self,
        setting: &Setting,
        route: &Route,
        person: &Person<'_>,
    ) -> Option<Verdict> {
        let rules = route.rules.beat.as_ref().filter(|_| person.app.has_token())?;
        let (ask, now) =
            (Ask { method: &rules.method, target: &rules.path, heartbeat: true }, self.clock.now());
        let Some(mut prepared) = own::prepare(route, &setting.balancer, person, &ask, now) else {
            return Some(Verdict::Unreachable);
        };
        prepared.head.set(&mark::HEARTBEAT, &HeaderValue::from_static("proof"));
        let app = person.app;
        let heard = tokio::time::timeout(rules.timeout, self.exchange(rules, &prepared)).await;
        let Some(heard) = heard.ok().flatten() else { return Some(Verdict::Unreachable) };
        let (sets, now) = (Sets::of(setting, route, &heard.parts.headers), self.clock.now());
        let (learned, _) = sets.learn(route, &prepared, &mut app.clone(), (app.sent(now, false), now));
        let said = self.evidence(route, rules, app.beat.canary, &heard);
        Some(beat::judge(rules, &Evidence { learned, ..said }))
    }
}
