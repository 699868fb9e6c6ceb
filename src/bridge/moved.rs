//! An app session that goes on at another server, because its own is gone.
//!
//! Invariant: only a person's request takes it there; what was known of it at the old server counts for nothing at the new one.

use super::app_session::AppSession;
use super::rules::AppRules;
use super::session::Session;
use super::timeline::What;
use crate::time::Timestamp;

/// The app session of the app of `rules` is at `server` from now on, and those of the apps that share it there as well.
pub fn moved(session: &mut Session, rules: &AppRules, server: u16, now: Timestamp) {
    settle(session, rules, server, now);
    session.timeline.note(now, Some(rules.app), What::Moved);
}

/// As [`moved`], without a word of it: for one that goes back where it was.
pub fn settle(session: &mut Session, rules: &AppRules, server: u16, now: Timestamp) {
    let shares = rules.session.iter().flat_map(|own| &own.shares).filter(|share| share.same_servers);
    for app in std::iter::once(rules.app).chain(shares.map(|share| share.with)) {
        if let Some(app) = session.app_mut(app) {
            begin_at(app, server, now);
        }
    }
}

/// The canary of before is not the one that the new server shows, and what dies there did not die with it.
const fn begin_at(app: &mut AppSession, server: u16, now: Timestamp) {
    app.go_to(server);
    app.beat.canary = 0;
    app.beat.failures = 0;
    app.beat.proven = now;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::id::Handle;
    use crate::bridge::rules::{AppIx, Engine};
    use crate::bridge::testing;

    #[test]
    fn what_was_known_at_the_old_server_is_forgotten() {
        let now = Timestamp::from_secs(1_000);
        let rules = testing::app(Engine::Servlet, "appA", "/AppA/");
        let mut session = Session::new(Handle(1), now);
        let app = session.app_or_new(rules.app, now).unwrap();
        let beat = app.sent(now, false);
        (app.upstream, app.beat.canary, app.beat.failures) = (Some(3), 77, 2);
        session.app_or_new(AppIx(rules.app.0 + 1), now).unwrap().upstream = Some(3);
        let stamp = session.stamp();
        moved(&mut session, &rules, 9, now);
        assert_ne!(session.stamp(), stamp, "it is kept where sessions are");
        let app = session.app_mut(rules.app).unwrap();
        assert!(app.learn_from_beat(beat, &[], now).stale, "a heartbeat's answer from the old server");
        assert_eq!((app.upstream, app.beat.canary, app.beat.failures, app.beat.proven), (Some(9), 0, 0, now));
        assert_eq!(
            session.app(AppIx(rules.app.0 + 1)).unwrap().upstream,
            Some(3),
            "another app stays where it is"
        );
        assert_eq!(session.timeline.iter().last().unwrap().what, What::Moved);
    }
}
