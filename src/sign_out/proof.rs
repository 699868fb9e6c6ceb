//! The proof of a sign-out: does the old token still open the session?
//!
//! Invariants: the person's session has ended before; what is asked is the page that heartbeats ask, once, and what it sets
//! is learned by nobody.

use http::HeaderValue;

use super::{Proof, SignOut, forget, is_provable, person};
use crate::bridge::app_session::AppSession;
use crate::bridge::beat::Verdict;
use crate::bridge::own::passed_after;
use crate::bridge::session::Farewell;
use crate::findings::{Found, Kind, Level};
use crate::own::Person;
use crate::route::Route;
use crate::setting::Setting;

impl SignOut {
    /// Whether the session of `person` with the app of `route` still answers: asked of the app's heartbeat page with the
    /// vault as it is in `person`, and judged as a heartbeat is. `None` where there is no such page or no token. Counts
    /// nothing and finds nothing: for whoever draws conclusions of his own.
    pub async fn proof(&self, setting: &Setting, route: &Route, person: &Person<'_>) -> Option<Proof> {
        let verdict = self.pinger.ask_with_old(setting, route, person).await?;
        let known = person.app.beat.canary != 0;
        let silent = route.rules.session.as_ref().is_none_or(|session| session.engine.adopts_unknown_ids());
        Some(match verdict {
            Verdict::Reborn | Verdict::Replaced | Verdict::SignedOut => Proof::Dead,
            Verdict::Alive if known || !silent => Proof::StillAlive,
            Verdict::Alive | Verdict::Unreachable => Proof::Unproven,
        })
    }

    /// As [`SignOut::proof`] for an app of `farewell`, whose sign-out had `relayed` to the browser; counted, and found. A
    /// sign-in that the app remembers in the browser takes no part: it would sign in anew, and the question is about the old.
    pub(super) async fn prove(
        &self,
        setting: &Setting,
        route: &Route,
        (farewell, app): (&Farewell, &AppSession),
        relayed: &[HeaderValue],
    ) -> Option<Proof> {
        if !is_provable(route, app) {
            return None;
        }
        let person = person(farewell, app);
        let path = route.rules.beat.as_ref().map_or("/", |beat| beat.path.split('?').next().unwrap_or("/"));
        let gone: Vec<HeaderValue> = relayed.iter().cloned().chain(forget(farewell, app)).collect();
        let passed = passed_after(&route.rules, (person.passed, &gone), path, self.pinger.clock.now());
        let proof = self.proof(setting, route, &Person { passed: &passed, ..person }).await?;
        self.pinger.shard.sign_out_proof(route.rules.app.index(), proof);
        self.found(route, proof);
        Some(proof)
    }

    /// What a sign-out has shown of the app. What cannot be told leaves standing what was known.
    fn found(&self, route: &Route, proof: Proof) {
        let name = &route.rules.name;
        let in_cookies = route
            .rules
            .session
            .as_ref()
            .is_some_and(|session| session.tokens.first().is_some_and(|token| token.rolling));
        let (level, says) = match proof {
            Proof::Unproven => return,
            Proof::Dead => (Level::Good, format!("{name}: after its sign-out the old session is gone")),
            Proof::StillAlive if in_cookies => (
                Level::Note,
                format!(
                    "{name}: after sign-out its old cookie still opens the session; its sessions are in its \
                         cookies, and no sign-out ends those"
                ),
            ),
            Proof::StillAlive => (
                Level::Warning,
                format!(
                    "{name}: after sign-out the old session still answers: its sign-out does not end it, or its \
                         heartbeat page looks at no session"
                ),
            ),
        };
        let (at, app) = (self.pinger.clock.now(), route.rules.app);
        let new = self.findings.put(Found { at, app, kind: Kind::SignOut, level, says: says.clone() });
        if new && level == Level::Warning {
            tracing::warn!(app = %name, "{says}");
        }
    }
}
