//! How hard heartbeats may press on each app: in flight, a second, and less where it does not answer.
//!
//! Invariant: an app that does not answer is asked less and less, and is not stormed when it is back.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::bridge::rules::{AppIx, BeatRules};
use crate::time::Timestamp;

/// The state of all apps.
#[derive(Debug)]
pub struct Pressure(Vec<Mutex<App>>);

#[derive(Clone, Copy, Debug, Default)]
struct App {
    in_flight: usize,
    /// Heartbeats in a row that proved nothing.
    failures: u32,
    /// Before this, one at a time tries whether the app is back.
    backs_off_until: Timestamp,
    /// The second that is being counted, and how many were sent in it.
    second: u64,
    sent: u32,
}

/// The right to send one heartbeat; given back to [`Pressure::done`].
#[derive(Debug)]
#[must_use]
pub struct Ticket(AppIx);

/// As many failures in a row make an app one that is down.
const DOWN: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long one that found no room waits before it asks again.
const CROWDED: Duration = Duration::from_millis(20);

impl Pressure {
    /// For `apps` apps.
    #[must_use]
    pub fn new(apps: usize) -> Self {
        Self((0..apps).map(|_| Mutex::default()).collect())
    }

    /// Asks to send a heartbeat to `app`.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub fn admit(&self, app: AppIx, rules: &BeatRules, now: Timestamp) -> Result<Ticket, Duration> {
        let Some(state) = self.0.get(app.index()) else { return Err(LONGEST_PAUSE) };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if now < state.backs_off_until {
            // Spread over what comes after the pause, so that all who wait do not come at once.
            let spread = Duration::from_millis(now.micros() % 1_000);
            return Err(state.backs_off_until.since(now) + spread);
        }
        let most = if state.failures >= DOWN { 1 } else { rules.max_in_flight.max(1) };
        if state.in_flight >= most {
            return Err(if state.failures >= DOWN { FIRST_PAUSE } else { CROWDED });
        }
        if let Some(rate) = rules.max_rate {
            if state.second != now.secs() {
                (state.second, state.sent) = (now.secs(), 0);
            }
            if state.sent >= rate.max(1) {
                return Err(Duration::from_micros(1_000_000 - now.micros() % 1_000_000));
            }
            state.sent += 1;
        }
        state.in_flight += 1;
        Ok(Ticket(app))
    }

    /// The heartbeat has its answer, or has none; `None`: it was not sent, and says nothing about the app.
    pub fn done(&self, ticket: Ticket, answered: Option<bool>, now: Timestamp) {
        let Some(state) = self.0.get(ticket.0.index()) else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_flight = state.in_flight.saturating_sub(1);
        let Some(answered) = answered else { return };
        if answered {
            state.failures = 0;
            state.backs_off_until = Timestamp::ZERO;
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= DOWN {
            let pause = FIRST_PAUSE.saturating_mul(1 << (state.failures - DOWN).min(6)).min(LONGEST_PAUSE);
            state.backs_off_until = now.plus(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(max_in_flight: usize, max_rate: Option<u32>) -> BeatRules {
        BeatRules {
            path: "/ping".into(),
            method: http::Method::GET,
            every: None,
            jitter_percent: 0,
            timeout: Duration::from_secs(5),
            max_in_flight,
            max_rate,
            limit: None,
            alive: crate::bridge::rules::Alive { status: vec![(200, 299)], contains: "".into() },
            canary: None,
        }
    }

    #[test]
    fn no_more_in_flight_than_allowed() {
        let (pressure, rules, now) = (Pressure::new(1), rules(2, None), Timestamp::from_secs(100));
        let first = pressure.admit(AppIx(0), &rules, now).unwrap();
        let _second = pressure.admit(AppIx(0), &rules, now).unwrap();
        assert_eq!(pressure.admit(AppIx(0), &rules, now).unwrap_err(), CROWDED);
        pressure.done(first, Some(true), now);
        assert!(pressure.admit(AppIx(0), &rules, now).is_ok());
    }

    #[test]
    fn no_more_a_second_than_allowed() {
        let (pressure, rules, now) = (Pressure::new(1), rules(100, Some(3)), Timestamp::from_secs(100));
        for _ in 0..3 {
            let ticket = pressure.admit(AppIx(0), &rules, now).unwrap();
            pressure.done(ticket, Some(true), now);
        }
        let wait = pressure.admit(AppIx(0), &rules, now).unwrap_err();
        assert!(pressure.admit(AppIx(0), &rules, now.plus(wait)).is_ok());
    }

    #[test]
    fn an_app_that_is_down_is_tried_by_one_at_a_time_and_ever_less() {
        let (pressure, rules) = (Pressure::new(1), rules(64, None));
        let (mut now, mut pauses) = (Timestamp::from_secs(100), Vec::new());
        for _ in 0..16 {
            let ticket = loop {
                match pressure.admit(AppIx(0), &rules, now) {
                    Ok(ticket) => break ticket,
                    Err(wait) => {
                        pauses.push(wait);
                        now = now.plus(wait);
                    }
                }
            };
            if pauses.len() > 1 {
                assert!(pressure.admit(AppIx(0), &rules, now).is_err(), "one at a time");
            }
            pressure.done(ticket, Some(false), now);
        }
        assert!(pauses.windows(2).all(|pair| pair[1] + Duration::from_secs(1) >= pair[0]));
        assert!(pauses.last().unwrap() >= &Duration::from_secs(30));
        let ticket = loop {
            match pressure.admit(AppIx(0), &rules, now) {
                Ok(ticket) => break ticket,
                Err(wait) => now = now.plus(wait),
            }
        };
        pressure.done(ticket, Some(true), now);
        let _one = pressure.admit(AppIx(0), &rules, now).unwrap();
        assert!(pressure.admit(AppIx(0), &rules, now).is_ok(), "back at full pace");
    }
}
