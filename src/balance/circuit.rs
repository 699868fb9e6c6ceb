//! The circuit breaker of one server, as a function of what happened and when.
//!
//! Invariants: only what says that a server is not there opens it (no connection, no first byte, a connection that breaks
//! before an answer); an answer of any status closes it. While it is open, one request at a time goes through.

use std::time::Duration;

use crate::time::Timestamp;

/// As many failures in a row open it.
pub const FAILURES: u32 = 5;
/// They are in a row where no more than this lies between one and the next.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long it is open before one request tries the server; twice as long after each try that failed.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And at the most.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The circuit breaker of one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circuit {
    open: Option<Open>,
    /// In a row, while it is closed.
    failures: u32,
    last: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// Then the next request may try the server.
    until: Timestamp,
    /// Tries that failed.
    tries: u32,
    /// True while one is under way.
    trying: bool,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// All requests go through.
    Closed,
    /// None does.
    Open,
    /// One tries whether the server is back.
    HalfOpen,
}

impl Stand {
    /// The word for it in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Circuit {
    /// How it stands.
    #[must_use]
    pub const fn stand(&self) -> Stand {
        match self.open {
            None => Stand::Closed,
            Some(Open { trying: true, .. }) => Stand::HalfOpen,
            Some(_) => Stand::Open,
        }
    }

    /// True where nothing has failed of late.
    #[must_use]
    pub const fn is_spotless(&self) -> bool {
        self.open.is_none() && self.failures == 0
    }

    /// Asks whether a request may go through now.
    ///
    /// A try whose outcome nobody hears of (its client has gone) must not keep the server shut: after the pause the next one
    /// may.
    ///
    /// # Errors
    /// When the next request may.
    pub fn admit(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if now < open.until {
            return Err(open.until);
        }
        (open.trying, open.until) = (true, now.plus(open.pause()));
        Ok(())
    }

    /// The server has answered.
    pub const fn answered(&mut self) {
        (self.open, self.failures) = (None, 0);
    }

    /// It did not. True where that has opened the circuit.
    pub fn failed(&mut self, now: Timestamp) -> bool {
        match &mut self.open {
            // Of requests that began before it opened.
            Some(Open { trying: false, .. }) => false,
            Some(open) => {
                (open.trying, open.tries) = (false, open.tries.saturating_add(1));
                open.until = now.plus(open.pause());
                false
            }
            None => {
                let in_a_row = self.failures > 0 && now.since(self.last) <= WINDOW;
                self.failures = if in_a_row { self.failures.saturating_add(1) } else { 1 };
                self.last = now;
                if self.failures < FAILURES {
                    return false;
                }
                self.open = Some(Open { until: now.plus(FIRST_PAUSE), tries: 0, trying: false });
                true
            }
        }
    }
}

impl Open {
    fn pause(&self) -> Duration {
        FIRST_PAUSE.saturating_mul(1 << self.tries.min(8)).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    fn opened(millis: u64) -> Circuit {
        let mut circuit = Circuit::default();
        let opens: Vec<bool> = (0..FAILURES).map(|_| circuit.failed(at(millis))).collect();
        assert_eq!(opens, [false, false, false, false, true], "told once");
        circuit
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let mut circuit = Circuit::default();
        for _ in 0..10 {
            for _ in 1..FAILURES {
                circuit.failed(at(0));
            }
            assert!(circuit.admit(at(0)).is_ok() && !circuit.is_spotless());
            circuit.answered();
            assert!(circuit.is_spotless());
        }
        assert_eq!(opened(0).admit(at(0)), Err(at(1_000)));
        let (mut rare, apart) = (Circuit::default(), u64::try_from(WINDOW.as_millis()).unwrap() + 1);
        (0..20).for_each(|n| assert!(!rare.failed(at(n * apart)), "too far apart to say anything"));
        assert_eq!(rare.stand(), Stand::Closed);
    }

    #[test]
    fn one_request_tries_and_its_outcome_decides() {
        let mut circuit = opened(0);
        assert_eq!(circuit.stand(), Stand::Open);
        assert!(circuit.admit(at(1_000)).is_ok());
        assert_eq!((circuit.stand(), circuit.admit(at(1_000))), (Stand::HalfOpen, Err(at(2_000))));
        circuit.failed(at(1_500));
        assert_eq!(
            (circuit.stand(), circuit.admit(at(1_500))),
            (Stand::Open, Err(at(3_500))),
            "twice as long"
        );
        circuit.failed(at(1_600));
        assert_eq!(circuit.admit(at(1_600)), Err(at(3_500)), "late news of old requests change nothing");
        assert!(circuit.admit(at(3_500)).is_ok());
        circuit.answered();
        assert!(circuit.is_spotless() && circuit.admit(at(3_500)).is_ok());
    }

    #[test]
    fn a_try_that_nobody_hears_of_keeps_nothing_shut() {
        let mut circuit = opened(0);
        assert!(circuit.admit(at(1_000)).is_ok());
        assert!(circuit.admit(at(1_999)).is_err());
        assert!(circuit.admit(at(2_000)).is_ok(), "the next one tries");
    }

    proptest! {
        /// Whatever happens in whatever order: while it is open, at most one request goes through in a pause; a pause ends;
        /// it opens only on failures; an answer closes it.
        #[test]
        fn however_it_goes(events in proptest::collection::vec((0_u8..3, 0_u64..5_000), 1..200)) {
            let (mut circuit, mut now, mut in_a_row, mut last) = (Circuit::default(), 0, 0, None);
            for (event, passes) in events {
                now += passes;
                match event {
                    0 => {
                        circuit.answered();
                        (in_a_row, last) = (0, None);
                        prop_assert!(circuit.is_spotless());
                    }
                    1 => {
                        in_a_row += 1;
                        let opens = circuit.failed(at(now));
                        prop_assert!(!opens || in_a_row >= FAILURES);
                    }
                    _ => match circuit.admit(at(now)) {
                        Ok(()) if circuit.stand() == Stand::Closed => {}
                        Ok(()) => {
                            prop_assert_eq!(circuit.stand(), Stand::HalfOpen);
                            if let Some(last) = last {
                                prop_assert!(at(now).since(last) >= FIRST_PAUSE);
                            }
                            last = Some(at(now));
                        }
                        Err(until) => {
                            prop_assert!(until > at(now) && until.since(at(now)) <= LONGEST_PAUSE);
                            let mut later = circuit;
                            prop_assert!(later.admit(until).is_ok());
                        }
                    },
                }
            }
        }
    }
}
