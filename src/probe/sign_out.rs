//! Whether the app's sign-out ends a session: a probe's, which nobody has signed in to.
//!
//! Invariant: a session that outlives it is a note and no warning, since an app may rightly end only what somebody has signed
//! in to; the proof at a person's own sign-out has the last word.

use super::Case;
use super::way::{self, Life, Way};
use crate::findings::{Kind, Level};
use crate::own::Ask;

impl Case<'_> {
    /// Signs a session of the probe's own out, and looks whether it lives.
    pub(super) async fn sign_out(&self, way: &Way) {
        let Some((method, target)) = &self.route.rules.sign_out.request else { return };
        let Some(mut visitor) = self.open(way).await else { return };
        // An empty session under the old id must not show the same canary, which may be a time in whole seconds.
        self.until(visitor.used.1, way::APART).await;
        // What the answer sets must not be looked at: the question is whether the old token is dead.
        let held = visitor.session().vault().clone();
        let ask = Ask { method, target, heartbeat: false };
        let Ok(heard) = visitor.ask(&ask, super::visitor::PATIENCE).await else {
            self.found(Kind::SignOut, (Level::Warning, "the sign-out request was not answered".to_owned()));
            return;
        };
        let canary = visitor.canary.take();
        let mut old = self.visitor().with_token(held.iter(), &visitor);
        old.canary = canary;
        let life = self.look(way, &mut old).await.life;
        self.found(Kind::SignOut, judge(heard.status, life));
    }
}

fn judge(status: u16, life: Life) -> (Level, String) {
    match life {
        Life::Dead => (Level::Good, format!("the sign-out ends a session: the old token is dead ({status})")),
        Life::Alive if status >= 400 => {
            let says = format!(
                "the sign-out request was answered {status} and ended nothing: see its method and path; an app that \
                 wants a form needs a recipe"
            );
            (Level::Warning, says)
        }
        Life::Alive => {
            let says = "the sign-out did not end a session that nobody had signed in to: an app may end only others; the \
                        first sign-out of a person will tell"
                .to_owned();
            (Level::Note, says)
        }
        Life::Unknown => (
            Level::Note,
            "whether the sign-out ends a session cannot be told: the app did not answer".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_sign_out_is_a_warning() {
        assert_eq!(judge(302, Life::Dead).0, Level::Good);
        assert_eq!(judge(403, Life::Dead).0, Level::Good);
        assert_eq!(judge(404, Life::Alive).0, Level::Warning);
        assert_eq!(judge(302, Life::Alive).0, Level::Note);
        assert_eq!(judge(302, Life::Unknown).0, Level::Note);
    }
}
