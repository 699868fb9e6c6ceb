//! The app's timeout, caught between a session that lived and one that did not.
//!
//! Pure. Invariant: a look that contradicts another widens what is said, never narrows it.

use std::time::Duration;

/// What is known of a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bracket {
    /// A session lived that had not been used for as long as this.
    alive: Duration,
    /// A session was dead that had not been used for as long as this.
    dead: Option<Duration>,
    /// As far as anybody looks.
    end: Duration,
}

impl Bracket {
    /// Nothing is known but that nobody looks beyond `end`.
    pub(super) const fn new(end: Duration) -> Self {
        Self { alive: Duration::ZERO, dead: None, end }
    }

    /// Takes a look at a session that had not been used for `idle` (at least, at most).
    pub(super) fn take(&mut self, idle: (Duration, Duration), alive: bool) {
        if alive {
            self.alive = self.alive.max(idle.0);
        } else {
            self.dead = Some(self.dead.map_or(idle.1, |dead| dead.min(idle.1)));
        }
    }

    /// What it lies between: more than the first, at most the second, which is `None` where no session died.
    pub(super) const fn ends(&self) -> (Duration, Option<Duration>) {
        (self.alive, self.dead)
    }

    /// True where one session outlived another: the engine collects at random.
    pub(super) fn is_random(&self) -> bool {
        self.dead.is_some_and(|dead| dead <= self.alive)
    }

    /// How wide it is.
    pub(super) fn width(&self) -> Duration {
        self.dead.unwrap_or(self.end).saturating_sub(self.alive)
    }

    /// True where it is as narrow as anybody needs: a second, or a hundredth.
    pub(super) fn is_known(&self) -> bool {
        self.dead.is_some_and(|dead| self.width() <= Duration::from_secs(1).max(dead / 100))
    }

    /// When to look next, at `many` sessions, each after another span. Once a session has died, the first and the last of
    /// them are outside of the bracket: they show whether it holds, for engines that sweep at fixed times look exact once.
    pub(super) fn plan(&self, many: u32) -> Vec<Duration> {
        let Some(dead) = self.dead else {
            let width = self.end.saturating_sub(self.alive);
            return (1..=many).map(|at| self.alive + width * at / many).collect();
        };
        let step = dead.saturating_sub(self.alive) / many.saturating_sub(1).max(1);
        let inside = (1..many.saturating_sub(1)).map(|at| self.alive + step * at);
        std::iter::once(self.alive.saturating_sub(step)).chain(inside).chain([dead + step]).collect()
    }

    /// A span in it that somebody may have written into a config: whole minutes, tens, fives, seconds; its lower end else.
    pub(super) fn round(&self) -> Duration {
        let (Some(dead), alive) = (self.dead, self.alive) else { return self.alive };
        if self.is_random() {
            return dead;
        }
        let fits = [60_000_u64, 10_000, 5_000, 1_000].into_iter().find_map(|unit| {
            let top = u64::try_from(dead.as_millis()).ok()? / unit * unit;
            Some(Duration::from_millis(top)).filter(|top| *top > alive)
        });
        fits.unwrap_or(alive)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_narrows_and_a_contradiction_shows() {
        let mut bracket = Bracket::new(at(20_000));
        assert_eq!((bracket.is_known(), bracket.plan(2)), (false, vec![at(10_000), at(20_000)]));
        bracket.take((at(8_000), at(8_010)), true);
        bracket.take((at(11_000), at(11_010)), false);
        assert_eq!(bracket.ends(), (at(8_000), Some(at(11_010))));
        assert_eq!(bracket.round(), at(10_000));
        assert!(!bracket.is_random() && !bracket.is_known());
        let plan = bracket.plan(4);
        assert!(plan[0] < at(8_000) && plan[1] > at(8_000) && plan[2] < at(11_010) && plan[3] > at(11_010));
        bracket.take((at(14_000), at(14_010)), true);
        assert!(bracket.is_random());
        assert_eq!(bracket.round(), at(11_010), "no later than the first that died");
    }

    proptest! {
        #[test]
        fn an_exact_timeout_is_always_inside_and_found_in_four_rounds(
            timeout in 1_000_u64..3_600_000, factor in 60_u64..200, late in 0_u64..200,
        ) {
            let end = at(timeout * factor / 100 * 2);
            let mut bracket = Bracket::new(end);
            for _ in 0..4 {
                for idle in bracket.plan(12) {
                    let real = idle + at(late / 2);
                    bracket.take((idle, idle + at(late)), real < at(timeout));
                    let (alive, dead) = bracket.ends();
                    prop_assert!(alive < at(timeout) && dead.is_none_or(|dead| dead >= at(timeout)));
                }
                prop_assert!(!bracket.is_random());
            }
            prop_assert!(bracket.is_known(), "{bracket:?}");
        }
    }
}
