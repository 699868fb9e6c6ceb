//! The app's own timeout, measured: many sessions, each looked at once after another idle time, in rounds that narrow.
//!
//! Invariant: a look is a session's last use, so that no look moves the clock that it reads.

use std::time::Duration;

use super::bracket::Bracket;
use super::way::{Life, Way};
use super::{Case, shown};
use crate::findings::{Kind, Level};

/// Sessions a round.
const MANY: u32 = 12;
/// Rounds at the most: the first narrows to a twelfth, each further one to an eleventh.
const ROUNDS: u32 = 4;
/// After so many dead ones in a row the later ones are not waited for.
const ENOUGH: u32 = 4;

/// How long measuring takes at the most, where the config says `timeout`.
pub(super) fn at_most(timeout: Duration) -> Duration {
    let (mut width, mut rounds) = (timeout * 2, 0);
    while width > Duration::from_secs(1).max(timeout / 100) && rounds < ROUNDS {
        (width, rounds) = (width / (MANY - 1), rounds + 1);
    }
    timeout * 2 * rounds
}

impl Case<'_> {
    /// Measures the app's own timeout. What was found, where it is exact.
    pub(super) async fn measure(&self, way: &Way) -> Option<Duration> {
        let configured = self.session.timeout;
        self.waits(at_most(configured), "its timeout is measured");
        let mut bracket = Bracket::new(configured * 2);
        for _ in 0..ROUNDS {
            let before = bracket;
            self.round(way, &mut bracket).await;
            if bracket.is_random() || bracket.is_known() || bracket == before {
                break;
            }
            if bracket.ends().1.is_none() {
                break;
            }
        }
        self.found(Kind::Timeout, judge(&bracket, configured));
        (bracket.is_known() && !bracket.is_random()).then(|| bracket.round())
    }

    async fn round(&self, way: &Way, bracket: &mut Bracket) {
        let mut watched = Vec::new();
        for idle in bracket.plan(MANY) {
            watched.extend(self.open(way).await.map(|visitor| (idle, visitor)));
        }
        let Some(mut other) = self.open(way).await else { return };
        let mut dead = 0;
        for (idle, mut visitor) in watched {
            self.until(visitor.used.1, idle).await;
            // A second visitor, for engines that collect when somebody comes: alone a dead session would come back to life.
            other.go_beside(&visitor);
            if other.get(&way.opener).await.is_err() {
                self.lost.set(true);
                return;
            }
            let look = self.look(way, &mut visitor).await;
            match look.life {
                Life::Unknown | Life::Silent => continue,
                Life::Alive => dead = 0,
                Life::Dead => dead += 1,
            }
            bracket.take(look.idle, look.life == Life::Alive);
            if dead == ENOUGH {
                return;
            }
        }
    }
}

/// Hundredths of a second below a minute, seconds above.
fn fine(span: Duration) -> String {
    if span >= Duration::from_secs(60) { shown(span) } else { format!("{:.2}s", span.as_secs_f64()) }
}

fn judge(bracket: &Bracket, configured: Duration) -> (Level, String) {
    let (alive, dead) = bracket.ends();
    let said = shown(configured);
    let Some(dead) = dead else {
        if alive.is_zero() {
            return (Level::Note, "the app's own timeout cannot be told: it did not answer".to_owned());
        }
        let says = format!("its sessions live for more than {}; the config says {said}", shown(alive));
        return (Level::Note, says);
    };
    let set = shown(bracket.round());
    if bracket.is_random() {
        let says = format!(
            "its sessions die at random between {} and {} without a request, or later (they are collected by chance)",
            shown(dead),
            shown(alive)
        );
        return if configured > dead {
            (Level::Warning, format!("{says}; the config says {said}: set `session.timeout = \"{set}\"`"))
        } else {
            (Level::Note, format!("{says}; the config says {said}"))
        };
    }
    let says = format!("its sessions die after {} to {} without a request", fine(alive), fine(dead));
    let slack = Duration::from_secs(1).max(configured / 100);
    if configured > dead + slack {
        (Level::Warning, format!("{says}; the config says {said}: set `session.timeout = \"{set}\"`"))
    } else if configured + slack < alive {
        let says = format!(
            "{says}; the config says {said}, so heartbeats come more often than they need to: `session.timeout` could be \"{set}\""
        );
        (Level::Note, says)
    } else if bracket.is_known() {
        (Level::Good, format!("{says}, as the config says"))
    } else {
        (Level::Note, format!("{says}; the config says {said}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn bracket(alive: f64, dead: f64) -> Bracket {
        let mut bracket = Bracket::new(secs(100_000));
        let span = Duration::from_secs_f64;
        bracket.take((span(alive), span(alive)), true);
        bracket.take((span(dead), span(dead)), false);
        bracket
    }

    #[test]
    fn what_to_set_is_said_where_the_config_is_wrong() {
        let of = |alive, dead, configured| judge(&bracket(alive, dead), secs(configured));
        let (level, says) = of(9.8, 10.1, 20);
        assert_eq!(level, Level::Warning);
        assert!(says.contains("9.80s to 10.10s") && says.contains("session.timeout = \"10s\""), "{says}");
        assert_eq!(of(9.8, 10.1, 10).0, Level::Good);
        let (level, says) = of(1195.0, 1206.0, 600);
        assert!(level == Level::Note && says.contains("could be \"20m\""), "{says}");
        let (level, says) = of(25.0, 11.0, 20);
        assert!(level == Level::Warning && says.contains("at random between 11s and 25s"), "{says}");
        assert_eq!(of(25.0, 11.0, 10).0, Level::Note);
        assert_eq!(judge(&Bracket::new(secs(20)), secs(10)).0, Level::Note);
    }

    #[test]
    fn the_longest_measurement_is_known_before() {
        assert_eq!(at_most(secs(10)), secs(40));
        assert_eq!(at_most(secs(1200)), secs(1200 * 2 * 3));
    }
}
