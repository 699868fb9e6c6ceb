//! What there is to say of a heartbeat page that was asked anonymously.

use super::visitor::Heard;
use crate::bridge::rules::BeatRules;
use crate::findings::Level;
use crate::ping::reading;

/// What the first, anonymous answer of the heartbeat page tells. Never where it leads: its redirects may hold tokens.
pub(super) fn judge(rules: &BeatRules, heard: &Heard) -> (Level, String) {
    let status = heard.status;
    let allowed = reading::alive_status(&rules.alive, status);
    let sign_in = heard.password
        || matches!(status, 401 | 403) && !allowed
        || heard.redirect.as_ref().is_some_and(|redirect| redirect.sign_in);
    if sign_in {
        let says = format!(
            "asked anonymously the heartbeat page answers {status} and asks for a sign-in: on some engines (Tomcat) \
             that overwrites the page which the person had asked for; choose one that needs no sign-in"
        );
        return (Level::Warning, says);
    }
    // To itself is how cookieless engines begin.
    if let Some(redirect) = heard.redirect.as_ref().filter(|_| !allowed) {
        let itself = redirect.to.as_deref() == Some(&*rules.path);
        if !itself {
            let says = format!(
                "asked anonymously the heartbeat page redirects ({status}): a heartbeat does not follow, and takes it \
                 for a sign-out; name the page that it leads to, or allow the status in `alive`"
            );
            return (Level::Warning, says);
        }
    } else if !allowed {
        let says = format!(
            "the heartbeat page answers {status}, which `alive` does not allow: no heartbeat would find anybody alive"
        );
        return (Level::Warning, says);
    }
    if heard.contains == Some(false) {
        let says = "asked anonymously the heartbeat page has not what `alive.contains` asks for: who has not signed in \
                    counts as signed out"
            .to_owned();
        return (Level::Note, says);
    }
    (Level::Good, format!("the heartbeat page answers {status} and asks for no sign-in"))
}
