//! Whether the app's sign-out ends a session: a probe's, which nobody has signed in to.
//!
//! Invariant: a session that outlives it is a note and no warning, since an app may rightly end only what somebody has signed
//! in to; the proof at a person's own sign-out has the last word.

use super::Case;
use super::way::{self, Life, Way};
use crate::findings::{Kind, Level};
use crate::sign_out::Outcome;

impl Case<'_> {
    /// Signs a session of the probe's own out, and looks whether it lives.
    pub(super) async fn sign_out(&self, way: &Way) {
        if self.route.rules.sign_out.recipe.is_none() {
            return;
        }
        let Some(visitor) = &mut self.open(way).await else { return };
        // An empty session under the old id must not show the same canary, which may be a time in whole seconds.
        self.until(visitor.used.1, way::APART).await;
        let Some(outcome) = visitor.sign_out().await else { return };
        // The recipe goes on with a copy: what its answers set is not looked at, the question is whether the old token is dead.
        let life = self.look(way, visitor).await.life;
        self.found(Kind::SignOut, judge(outcome, life));
    }
}

fn judge(outcome: Outcome, life: Life) -> (Level, String) {
    let refused = match outcome {
        Outcome::Done | Outcome::WasOut => None,
        Outcome::Refused(status) => Some(format!("answered {status}")),
        Outcome::NoPage(status) => Some(format!("not sent: its page answers {status}")),
        Outcome::NothingThere => {
            let says = "the page of the sign-out has no such form or link for who has not signed in; the first sign-out of \
                        a person will tell";
            return (Level::Note, says.to_owned());
        }
        Outcome::Late | Outcome::Unreachable => Some("not answered".to_owned()),
    };
    match (life, refused) {
        (Life::Dead, _) => (Level::Good, "the sign-out ends a session: the old token is dead".to_owned()),
        (Life::Alive, Some(how)) => {
            let says = format!(
                "the sign-out request was {how} and ended nothing: see its method and path; an app that wants a form \
                 needs a `page` and a `form`"
            );
            (Level::Warning, says)
        }
        (Life::Alive, None) => {
            let says = "the sign-out did not end a session that nobody had signed in to: an app may end only others; the \
                        first sign-out of a person will tell"
                .to_owned();
            (Level::Note, says)
        }
        (Life::Unknown | Life::Silent, _) => (
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
        assert_eq!(judge(Outcome::Done, Life::Dead).0, Level::Good);
        assert_eq!(judge(Outcome::Refused(403), Life::Dead).0, Level::Good);
        assert_eq!(judge(Outcome::Refused(404), Life::Alive).0, Level::Warning);
        assert_eq!(judge(Outcome::Done, Life::Alive).0, Level::Note);
        assert_eq!(judge(Outcome::Done, Life::Unknown).0, Level::Note);
    }
}
