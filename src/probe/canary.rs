//! What there is to say of the canary: whether it tells one session from another, and whether one is needed.

use super::Case;
use super::way::Witness;
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

/// What is to be said. `adopts`: whether the app was seen to take an id that it never gave.
pub(super) fn judge(
    case: &Case<'_>,
    facts: Facts,
    adopts: Option<bool>,
    witness: Option<Witness>,
) -> (Level, String) {
    let strict = adopts == Some(false);
    let known = adopts.unwrap_or_else(|| case.session.engine.adopts_unknown_ids());
    verdict(case.beat.canary.is_some(), facts, (strict, known), witness)
}

fn verdict(
    configured: bool,
    facts: Facts,
    (strict, adopts): (bool, bool),
    witness: Option<Witness>,
) -> (Level, String) {
    let blind = "a heartbeat cannot tell a dead session from a living one";
    let level = if adopts { Level::Warning } else { Level::Note };
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
        (false, _) if strict => {
            (Level::Good, "no canary is needed: an id that the app does not know is replaced".to_owned())
        }
        (false, _) if adopts => {
            let says = format!(
                "the app takes any id, so without a canary {blind}: let the heartbeat page show when its session began"
            );
            (Level::Warning, says)
        }
        (false, _) => (Level::Note, format!("without a canary {blind}, unless the engine replaces dead ids")),
    };
    let url = witness == Some(Witness::Url) && level != Level::Good;
    let more = if url { " (the probes could, by an id in a URL)" } else { "" };
    (level, format!("{says}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_its_word() {
        let facts = |present, steady, differs| Facts { present, steady, differs };
        let cases = [
            (true, facts(true, true, true), (false, true), Level::Good, "the same in one session"),
            (true, facts(false, true, false), (false, true), Level::Warning, "not in the heartbeat page"),
            (true, facts(false, true, false), (true, false), Level::Note, "not in the heartbeat page"),
            (true, facts(true, false, true), (true, false), Level::Warning, "changes within"),
            (true, facts(true, true, false), (false, true), Level::Warning, "same in two"),
            (false, Facts::default(), (true, false), Level::Good, "no canary is needed"),
            (false, Facts::default(), (false, true), Level::Warning, "takes any id"),
            (false, Facts::default(), (false, false), Level::Note, "unless the engine"),
        ];
        for (configured, facts, engine, level, word) in cases {
            let (found, says) = verdict(configured, facts, engine, None);
            assert_eq!(found, level, "{says}");
            assert!(says.contains(word), "{says}");
        }
        let (_, says) = verdict(false, Facts::default(), (false, true), Some(Witness::Url));
        assert!(says.ends_with("by an id in a URL)"), "{says}");
    }
}
