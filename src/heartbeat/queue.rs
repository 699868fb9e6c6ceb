//! Heartbeats to one app whose time has come, on one thread: first come, first served, and no faster than they have to be.
//!
//! Invariants: what waits is begun in the order in which it came; nothing waits for credit once its own time to wait is
//! over; however many wait, they are spread over the time that they have, so that people's requests pass between them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// Heartbeats that may begin in a second on one thread without anybody asking how urgent they are: a twentieth of a core.
pub(super) const EASY: u64 = 3_000;
/// What may begin at once after a time in which little began.
const BURST: u64 = 8;
/// One heartbeat of credit: a heartbeat a second earns one unit in a microsecond.
const ONE: u64 = 1_000_000;
/// In how short a time one turn's share is spent, in microseconds.
const TURN: u64 = 2_000;

/// Heartbeats that wait, of one app.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: VecDeque<Queued<T>>,
    /// What may begin now, in units of which a heartbeat costs [`ONE`].
    credit: u64,
    /// Up to when credit has been given.
    counted: Timestamp,
    hold: Hold,
    /// True where this thread stands in line for room at the app.
    in_line: bool,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Queued<T> {
    /// What is to be begun.
    pub(super) item: T,
    /// When it was due.
    pub(super) due: Timestamp,
    /// When it should have begun, however many there are.
    pub(super) by: Timestamp,
}

/// What keeps a queue besides credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nothing.
    Open,
    /// All that the app may have in flight is: who frees a place tells.
    Room,
    /// The app has had what it may have until then.
    Until(Timestamp),
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            credit: 0,
            counted: Timestamp::ZERO,
            hold: Hold::Open,
            in_line: false,
        }
    }
}

impl<T> Queue<T> {
    /// Puts one at the end.
    pub(super) fn push(&mut self, waiting: Queued<T>) {
        self.waiting.push_back(waiting);
    }

    /// Takes the first, and what it costs.
    pub(super) fn pop(&mut self) -> Option<Queued<T>> {
        self.credit = self.credit.saturating_sub(ONE);
        let first = self.waiting.pop_front();
        // After a wave its room goes back.
        if self.waiting.capacity() > 1024 && self.waiting.len() < self.waiting.capacity() / 4 {
            self.waiting.shrink_to(self.waiting.capacity() / 2);
        }
        first
    }

    /// What was taken does not begin after all, and costs nothing.
    pub(super) fn refund(&mut self) {
        self.credit = self.credit.saturating_add(ONE);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True where the first has waited as long as it can.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.waiting.front().is_some_and(|first| first.by <= now)
    }

    /// Keeps it for another reason than credit.
    pub(super) fn hold(&mut self, hold: Hold) {
        self.in_line |= hold == Hold::Room;
        self.hold = hold;
    }

    /// The app may have room: nothing is kept back for that any more.
    pub(super) fn has_room(&mut self) {
        if self.hold == Hold::Room {
            self.hold = Hold::Open;
        }
    }

    /// True once where it stood in line for room and nothing waits any more.
    pub(super) fn leaves_line(&mut self) -> bool {
        self.waiting.is_empty() && std::mem::take(&mut self.in_line)
    }

    /// When the first may begin, as far as this queue knows: `now` or before it where it may already, `None` where nothing
    /// waits or somebody else will tell. `easy` is this app's share of [`EASY`].
    pub(super) fn opens(&mut self, now: Timestamp, easy: u64) -> Option<Timestamp> {
        let first = self.waiting.front()?;
        let at = match self.hold {
            Hold::Room => return None,
            Hold::Until(at) if at > now => return Some(at),
            Hold::Until(_) | Hold::Open => now,
        };
        if self.is_overdue(now) {
            return Some(at);
        }
        // All that wait, in the time that the first of them has.
        let left = micros(first.by.since(now)).max(1);
        let rate = easy.max((self.waiting.len() as u64).saturating_mul(ONE) / left).max(1);
        let earned = rate.saturating_mul(micros(now.since(self.counted)));
        let most = (rate.saturating_mul(TURN)).max(BURST * ONE);
        (self.credit, self.counted) = (self.credit.saturating_add(earned).min(most), now);
        let owed = ONE.saturating_sub(self.credit);
        Some(now.plus(Duration::from_micros(owed.div_ceil(rate))))
    }
}

/// How long a heartbeat may wait for its turn: a quarter of its pace, and no longer than half of what its token has left to
/// live. One whose token must be dead already has no hurry.
pub(super) fn patience(interval: Duration, left: Duration) -> Duration {
    let usual = interval / 4;
    if left.is_zero() { usual } else { usual.min(left / 2) }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_secs(1_000).plus(Duration::from_micros(micros))
    }

    fn queue(count: u64, by: Timestamp) -> Queue<u64> {
        let mut queue = Queue::default();
        (0..count).for_each(|item| queue.push(Queued { item, due: at(0), by }));
        queue
    }

    /// When each begins if it begins as soon as it may, and which it is.
    fn begin_all(queue: &mut Queue<u64>, easy: u64) -> Vec<(u64, Timestamp)> {
        let (mut now, mut begun) = (at(0), Vec::new());
        while let Some(opens) = queue.opens(now, easy) {
            if opens > now {
                now = opens;
            } else {
                begun.push((queue.pop().unwrap().item, now));
            }
        }
        begun
    }

    #[test]
    fn a_few_begin_at_once_and_in_order() {
        let begun = begin_all(&mut queue(BURST, at(60 * ONE)), EASY);
        assert_eq!(begun, (0..BURST).map(|item| (item, at(0))).collect::<Vec<_>>());
    }

    #[test]
    fn many_are_spread_over_the_time_they_have() {
        let (many, have) = (100_000, 10 * ONE);
        let begun = begin_all(&mut queue(many, at(have)), 1_000);
        assert_eq!(begun.len(), 100_000);
        assert!(begun.iter().map(|(item, _)| *item).eq(0..many), "first come, first served");
        assert!(begun.last().unwrap().1 <= at(have), "none waits longer than it can");
        for from in (0..have).step_by(100_000) {
            let began =
                begun.iter().filter(|(_, when)| (at(from)..at(from + 100_000)).contains(when)).count();
            assert!(began <= 1_100, "{began} in the tenth of a second after {from}");
        }
    }

    #[test]
    fn what_has_time_goes_at_an_easy_pace() {
        let begun = begin_all(&mut queue(6_000, at(3_600 * ONE)), 1_000);
        let took = begun.last().unwrap().1.since(at(0));
        assert!((Duration::from_millis(5_900)..Duration::from_millis(6_100)).contains(&took), "{took:?}");
    }

    #[test]
    fn what_is_overdue_waits_for_no_credit() {
        assert!(!queue(1, at(1)).is_overdue(at(0)) && queue(1, at(0)).is_overdue(at(0)));
        let begun = begin_all(&mut queue(1_000, at(0)), 1);
        assert!(begun.iter().all(|(_, when)| *when == at(0)));
    }

    #[test]
    fn a_queue_that_is_kept_opens_when_it_is_said_to() {
        let mut queue = queue(1, at(ONE));
        queue.hold(Hold::Room);
        assert_eq!(queue.opens(at(0), EASY), None);
        queue.hold(Hold::Until(at(500)));
        assert_eq!(queue.opens(at(0), EASY), Some(at(500)));
        assert_eq!(queue.opens(at(500), EASY), Some(at(500)));
        queue.pop();
        assert_eq!(queue.opens(at(500), EASY), None, "nothing waits");
    }

    #[test]
    fn what_does_not_begin_costs_nothing() {
        let mut queue = queue(BURST * 3, at(60 * ONE));
        queue.opens(at(0), 1);
        for _ in 0..BURST * 2 {
            queue.pop();
            queue.refund();
        }
        let begun = begin_all(&mut queue, 1);
        assert!(begun.len() as u64 == BURST && begun.iter().all(|(_, when)| *when == at(0)));
    }

    #[test]
    fn nobody_waits_longer_than_half_of_what_the_token_has_left() {
        let seconds = Duration::from_secs;
        assert_eq!(patience(seconds(400), seconds(800)), seconds(100));
        assert_eq!(patience(seconds(400), seconds(60)), seconds(30));
        assert_eq!(
            patience(seconds(400), Duration::ZERO),
            seconds(100),
            "nothing is left to be saved in a hurry"
        );
    }
}
