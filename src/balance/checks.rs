//! What a row of health checks says: `fall` failures in a row and a server is down, `rise` passes and it is up again.
//!
//! Invariant: a server of which nothing is known yet is up.

/// What health checks have said of one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    down: bool,
    /// How many in a row have said otherwise.
    against: u32,
}

/// How many in a row it takes. Both at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Votes {
    /// Failures until a server is down.
    pub fall: u32,
    /// Passes until it is up again.
    pub rise: u32,
}

impl Checks {
    /// True where the server is down.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.down
    }

    /// A check has passed, or failed. True where that has changed how the server stands.
    pub const fn heard(&mut self, passed: bool, votes: Votes) -> bool {
        if passed != self.down {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let enough = if self.down { votes.rise } else { votes.fall };
        if self.against < enough {
            return false;
        }
        (self.down, self.against) = (!self.down, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VOTES: Votes = Votes { fall: 3, rise: 2 };

    #[test]
    fn it_falls_and_rises_by_rows() {
        let mut checks = Checks::default();
        let turns = "ffpffppfffpfpp".chars().filter_map(|word| {
            let turned = checks.heard(word == 'p', VOTES);
            turned.then(|| checks.is_down())
        });
        assert_eq!(turns.collect::<Vec<_>>(), [true, false]);
    }

    proptest! {
        /// It stands otherwise than before exactly where a row of the right length ends.
        #[test]
        fn only_a_row_turns_it(passes in proptest::collection::vec(any::<bool>(), 0..100), fall in 1_u32..5, rise in 1_u32..5) {
            let (mut checks, votes) = (Checks::default(), Votes { fall, rise });
            let (mut down, mut row) = (false, 0);
            for passed in passes {
                row = if passed == down { row + 1 } else { 0 };
                let turns = row == if down { rise } else { fall };
                if turns {
                    (down, row) = (!down, 0);
                }
                prop_assert_eq!(checks.heard(passed, votes), turns);
                prop_assert_eq!(checks.is_down(), down);
            }
        }
    }
}
