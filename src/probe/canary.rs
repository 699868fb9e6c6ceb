//! What there is to say of the canary: whether it tells one session from another, and whether one is needed.

use super::Case;
use super::way::Witness;
use crate::bridge::rules::Engine;
use crate::findings::Level;

/// What was seen of the canary on sessions that lived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// It is in the heartbeat page.
    pub(super) present: bool,
    /// It stays the same in one session.
    pub(super) steady: bool,
    /// It is another in another session.
    pub(super) differs: bool,
}

impl Facts {
    /// True where it tells a dead session from a living one.
    pub(super) const fn tells(self) -> bool {
        self.present && self.steady && self.differs
    }
}

/// What became of an id that the app never gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Nobody tried, or it could not be told.
    Untried,
    /// It was taken for a session's.
    Taken,
    /// Another one came back.
    Replaced,
    /// Another one came back, from a container whose session outlives the app's own.
    ReplacedAbove,
}

/// What is to be said.
pub(super) fn judge(
    case: &Case<'_>,
    facts: Facts,
    unknown: Unknown,
    witness: Option<Witness>,
) -> (Level, String) {
    verdict(case.beat.canary.is_some(), facts, (unknown, case.session.engine), witness)
}

fn verdict(
    configured: bool,
    facts: Facts,
    (unknown, engine): (Unknown, Engine),
    witness: Option<Witness>,
) -> (Level, String) {
    let needed = match unknown {
        Unknown::Untried => engine.adopts_unknown_ids(),
        Unknown::Taken | Unknown::ReplacedAbove => true,
        Unknown::Replaced => false,
    };
    let blind = "a heartbeat cannot tell a dead session from a living one";
    let level = if needed { Level::Warning } else { Level::Note };
    let (level, says) = match (configured, facts) {
        (true, facts) if facts.tells() => {
            (Level::Good, "the canary is the same in one session and another in the next".to_owned())
        }
        (true, Facts { present: false, .. }) => {
            (level, "the canary is not in the heartbeat page that an anonymous visitor gets".to_owned())
        }
        (true, Facts { steady: false, .. }) => (
            Level::Warning,
            "the canary changes within one session: each heartbeat would take the session for a new one; name \
             something that is the same as long as the session is"
                .to_owned(),
        ),
        (true, _) => {
            (Level::Warning, "the canary is the same in two sessions: it tells nothing about either".to_owned())
        }
        (false, _) => missing(unknown, needed, blind),
    };
    let url = witness == Some(Witness::Url) && level != Level::Good;
    let more = if url { " (the probes could, by an id in a URL)" } else { "" };
    (level, format!("{says}{more}"))
}

/// There is no canary.
fn missing(unknown: Unknown, needed: bool, blind: &str) -> (Level, String) {
    let show = "let the heartbeat page show when its session began, and name that in `heartbeat.canary`";
    match unknown {
        Unknown::Replaced => {
            (Level::Good, "no canary is needed: an id that the app does not know is replaced".to_owned())
        }
        Unknown::Taken => {
            (Level::Warning, format!("the app takes any id, so without a canary {blind}: {show}"))
        }
        Unknown::ReplacedAbove => {
            let says = format!(
                "its session is inside a container's, which lives longer under the same id, so without a canary {blind}: \
                 {show}"
            );
            (Level::Warning, says)
        }
        Unknown::Untried if needed => {
            (Level::Note, format!("on this engine, without a canary, {blind}: {show}"))
        }
        Unknown::Untried => (
            Level::Note,
            format!("without a canary {blind}, unless the engine replaces dead ids, as it should"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_its_word() {
        let facts = |present, steady, differs| Facts { present, steady, differs };
        let (taken, replaced) = (Unknown::Taken, Unknown::Replaced);
        let cases = [
            (true, facts(true, true, true), taken, Level::Good, "the same in one session"),
            (true, facts(false, true, false), taken, Level::Warning, "not in the heartbeat page"),
            (true, facts(false, true, false), replaced, Level::Note, "not in the heartbeat page"),
            (true, facts(true, false, true), replaced, Level::Warning, "changes within"),
            (true, facts(true, true, false), taken, Level::Warning, "same in two"),
            (false, Facts::default(), replaced, Level::Good, "no canary is needed"),
            (false, Facts::default(), taken, Level::Warning, "takes any id"),
            (false, Facts::default(), Unknown::ReplacedAbove, Level::Warning, "inside a container's"),
            (false, Facts::default(), Unknown::Untried, Level::Note, "on this engine"),
        ];
        for (configured, facts, unknown, level, word) in cases {
            let (found, says) = verdict(configured, facts, (unknown, Engine::Php), None);
            assert_eq!(found, level, "{says}");
            assert!(says.contains(word), "{says}");
        }
        let (_, says) = verdict(false, Facts::default(), (taken, Engine::Lucee), Some(Witness::Url));
        assert!(says.ends_with("by an id in a URL)"), "{says}");
    }
}
