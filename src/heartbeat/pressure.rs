//! How hard heartbeats may press on each app: in flight, a second, and less where it does not answer.
//!
//! Invariants: an app that does not answer is asked less and less, and is not stormed when it is back; whoever finds no
//! room is told when there is some, one thread after the other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::bridge::rules::{AppIx, BeatRules};
use crate::numbered::Numbered;
use crate::time::Timestamp;

/// The state of all apps.
#[derive(Debug, Default)]
pub struct Pressure {
    apps: Numbered<Mutex<App>>,
    /// Heartbeats of all threads whose time has come and that have not begun.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct App {
    in_flight: usize,
    /// Heartbeats in a row that proved nothing.
    failures: u32,
    /// Before this, one at a time tries whether the app is back.
    backs_off_until: Timestamp,
    /// The second that is being counted, and how many were sent in it.
    second: u64,
    sent: u32,
    /// Threads that found no room, each once, the next to be told first.
    line: VecDeque<Arc<Notify>>,
}

/// The right to send one heartbeat; given back to [`Pressure::done`].
#[derive(Debug)]
#[must_use]
pub struct Ticket(AppIx);

/// Why a heartbeat may not be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As many are in flight as may be. The thread stands in line, and is told when one has its answer.
    Room,
    /// The app has had all that it may be asked in this second.
    Until(Timestamp),
    /// The app does not answer: nobody asks before then.
    Down(Timestamp),
}

/// As many failures in a row make an app one that is down.
const DOWN: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Pressure {
    /// Asks to send a heartbeat to `app`, on the thread that `told` wakes.
    ///
    /// # Errors
    /// Why it may not be sent now.
    pub fn admit(
        &self,
        app: AppIx,
        rules: &BeatRules,
        now: Timestamp,
        told: &Arc<Notify>,
    ) -> Result<Ticket, Wait> {
        let Some(mut state) = self.app(app) else { return Err(Wait::Down(now.plus(LONGEST_PAUSE))) };
        if now < state.backs_off_until {
            return Err(Wait::Down(state.backs_off_until));
        }
        let most = if state.failures >= DOWN { 1 } else { rules.max_in_flight.max(1) };
        if state.in_flight >= most {
            state.line_up(told);
            return Err(Wait::Room);
        }
        if let Some(rate) = rules.max_rate {
            if state.second != now.secs() {
                (state.second, state.sent) = (now.secs(), 0);
            }
            if state.sent >= rate.max(1) {
                return Err(Wait::Until(Timestamp::from_secs(now.secs() + 1)));
            }
            state.sent += 1;
        }
        state.in_flight += 1;
        Ok(Ticket(app))
    }

    /// The heartbeat has its answer, or has none; `None`: it was not sent, and says nothing about the app. Gives the thread
    /// whose turn it is, where one waits for room: the caller goes on if that is its own, and tells it if not.
    pub fn done(&self, ticket: Ticket, answered: Option<bool>, now: Timestamp) -> Option<Arc<Notify>> {
        let mut state = self.app(ticket.0)?;
        state.in_flight = state.in_flight.saturating_sub(1);
        match answered {
            None => state.sent = state.sent.saturating_sub(1),
            Some(true) => (state.failures, state.backs_off_until) = (0, Timestamp::ZERO),
            Some(false) => state.failed(now),
        }
        state.next_in_line()
    }

    /// Nothing waits any more for `app` on the thread that `told` wakes: whoever is next may have its place.
    pub fn leave(&self, app: AppIx, told: &Arc<Notify>) {
        let next = self.app(app).and_then(|mut state| {
            state.line.retain(|other| !Arc::ptr_eq(other, told));
            state.next_in_line()
        });
        if let Some(next) = next {
            next.notify_one();
        }
    }

    /// As many heartbeats more wait for their turn.
    pub(super) fn wait(&self, more: usize) {
        self.waiting.fetch_add(more, Ordering::Relaxed);
    }

    /// One of those that wait does so no longer.
    pub(super) fn waits_no_more(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Heartbeats of all threads whose time has come and that have not begun.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn app(&self, app: AppIx) -> Option<MutexGuard<'_, App>> {
        self.apps.at(app.index()).map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl App {
    fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= DOWN {
            let pause = FIRST_PAUSE.saturating_mul(1 << (self.failures - DOWN).min(6)).min(LONGEST_PAUSE);
            self.backs_off_until = now.plus(pause);
        }
    }

    fn line_up(&mut self, told: &Arc<Notify>) {
        if !self.line.iter().any(|other| Arc::ptr_eq(other, told)) {
            self.line.push_back(Arc::clone(told));
        }
    }

    /// Whose turn it is. It stays in line, as the last, until it says that nothing waits there.
    fn next_in_line(&mut self) -> Option<Arc<Notify>> {
        if self.line.len() > 1 {
            self.line.rotate_left(1);
        }
        self.line.back().cloned()
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

    fn thread() -> Arc<Notify> {
        Arc::default()
    }

    fn is(turn: Option<&Arc<Notify>>, thread: &Arc<Notify>) -> bool {
        turn.is_some_and(|turn| Arc::ptr_eq(turn, thread))
    }

    const APP: AppIx = AppIx(0);

    #[test]
    fn no_more_in_flight_than_allowed() {
        let (pressure, rules, now) = (Pressure::default(), rules(2, None), Timestamp::from_secs(100));
        let me = thread();
        let first = pressure.admit(APP, &rules, now, &me).unwrap();
        let second = pressure.admit(APP, &rules, now, &me).unwrap();
        assert_eq!(pressure.admit(APP, &rules, now, &me).unwrap_err(), Wait::Room);
        assert!(is(pressure.done(first, Some(true), now).as_ref(), &me), "who found no room is told");
        assert!(pressure.admit(APP, &rules, now, &me).is_ok());
        pressure.leave(APP, &me);
        assert!(pressure.done(second, Some(true), now).is_none(), "nobody waits any more");
    }

    #[test]
    fn threads_take_turns_at_what_is_free() {
        let (pressure, rules, now) = (Pressure::default(), rules(1, None), Timestamp::from_secs(100));
        let threads = [thread(), thread(), thread()];
        let mut ticket = pressure.admit(APP, &rules, now, &threads[0]).unwrap();
        for _ in 0..2 {
            for thread in &threads {
                assert_eq!(pressure.admit(APP, &rules, now, thread).unwrap_err(), Wait::Room);
            }
        }
        let mut turns = [0; 3];
        for _ in 0..30 {
            let turn = pressure.done(ticket, Some(true), now).unwrap();
            turns[threads.iter().position(|thread| Arc::ptr_eq(thread, &turn)).unwrap()] += 1;
            ticket = pressure.admit(APP, &rules, now, &turn).unwrap();
        }
        assert_eq!(turns, [10, 10, 10]);
    }

    #[tokio::test]
    async fn who_leaves_the_line_passes_its_turn_on() {
        let (pressure, rules, now) = (Pressure::default(), rules(1, None), Timestamp::from_secs(100));
        let [one, other] = [thread(), thread()];
        let ticket = pressure.admit(APP, &rules, now, &one).unwrap();
        assert!(pressure.admit(APP, &rules, now, &one).is_err());
        assert!(pressure.admit(APP, &rules, now, &other).is_err());
        assert!(is(pressure.done(ticket, None, now).as_ref(), &one));
        pressure.leave(APP, &one);
        other.notified().await;
    }

    #[test]
    fn no_more_a_second_than_allowed() {
        let (pressure, rules, now) =
            (Pressure::default(), rules(100, Some(3)), Timestamp::from_millis(100_400));
        for _ in 0..3 {
            let ticket = pressure.admit(APP, &rules, now, &thread()).unwrap();
            pressure.done(ticket, Some(true), now);
        }
        let wait = pressure.admit(APP, &rules, now, &thread()).unwrap_err();
        assert_eq!(wait, Wait::Until(Timestamp::from_secs(101)));
        assert!(pressure.admit(APP, &rules, Timestamp::from_secs(101), &thread()).is_ok());
    }

    #[test]
    fn an_app_that_is_down_is_tried_by_one_at_a_time_and_ever_less() {
        let (pressure, rules, me) = (Pressure::default(), rules(64, None), thread());
        let (mut now, mut pauses) = (Timestamp::from_secs(100), Vec::new());
        let ask = |now: &mut Timestamp, pauses: &mut Vec<Duration>| loop {
            match pressure.admit(APP, &rules, *now, &me) {
                Ok(ticket) => break ticket,
                Err(Wait::Down(until)) => {
                    pauses.push(until.since(*now));
                    *now = until;
                }
                Err(other) => panic!("{other:?}"),
            }
        };
        for _ in 0..16 {
            let ticket = ask(&mut now, &mut pauses);
            if pauses.len() > 1 {
                assert_eq!(pressure.admit(APP, &rules, now, &me).unwrap_err(), Wait::Room, "one at a time");
            }
            pressure.done(ticket, Some(false), now);
        }
        assert!(pauses.is_sorted() && pauses[0] == FIRST_PAUSE, "{pauses:?}");
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        let ticket = ask(&mut now, &mut pauses);
        pressure.done(ticket, Some(true), now);
        let _one = pressure.admit(APP, &rules, now, &me).unwrap();
        assert!(pressure.admit(APP, &rules, now, &me).is_ok(), "back at full pace");
    }
}
