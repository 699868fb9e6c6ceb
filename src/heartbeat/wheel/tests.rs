use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What a test does to a wheel.
#[derive(Clone, Debug)]
enum Step {
    /// Arm something so many microseconds from now; negative: due already.
    Insert(i64),
    /// Let so many microseconds pass.
    Pass(u64),
    /// Sleep until the wheel asks to be woken.
    Wake,
}

fn span() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..30_000_u64,
        4 => 0..30_000_000_u64,
        2 => 0..86_400_000_000_u64,
        1 => 0..100 * 86_400_000_000_u64,
        1 => (0..60_u32).prop_map(|bit| 1_u64 << bit),
        4 => (0..4_u64, 0..3_u64).prop_map(|(turns, slots)| (turns * SLOTS as u64 + slots) * SLOT_MICROS),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => span().prop_map(|span| Step::Insert(span.cast_signed())),
        1 => (0..30_000_000_i64).prop_map(|span| Step::Insert(-span)),
        3 => span().prop_map(Step::Pass),
        3 => Just(Step::Wake),
    ]
}

/// The wheel beside an ordered map that keeps for each entry when it may fire at the earliest and must at the
/// latest.
struct Pair {
    wheel: Wheel<u32>,
    model: BTreeMap<u32, (Timestamp, Timestamp)>,
    now: Timestamp,
    made: u32,
}

impl Pair {
    fn new(now: Timestamp) -> Self {
        Self { wheel: Wheel::new(now), model: BTreeMap::new(), now, made: 0 }
    }

    fn insert(&mut self, offset: i64) {
        let due = Timestamp::from_micros(self.now.micros().saturating_add_signed(offset));
        let slot = Duration::from_micros(SLOT_MICROS);
        self.wheel.insert(due, self.made);
        // The present of the wheel is the slot that has begun.
        let horizon = self.now.plus(HORIZON);
        let due = if due > horizon { horizon.minus(slot) } else { due };
        self.model.insert(self.made, (due, due.max(self.now).plus(slot)));
        self.made += 1;
    }

    fn advance(&mut self, now: Timestamp) {
        self.now = now;
        let model = &mut self.model;
        self.wheel.advance(now, |item, due| {
            let (earliest, _) = model.remove(&item).expect("fired once");
            assert!(earliest <= now, "early");
            assert!(due <= now && now.since(due) <= now.since(earliest), "said to have been due later");
        });
        assert!(now == Timestamp::FAR || self.model.values().all(|(_, latest)| *latest > now), "late");
        assert_eq!(self.wheel.len(), self.model.len());
        assert_eq!(self.wheel.is_empty(), self.model.is_empty());
    }

    /// The wheel must not ask to sleep over anything.
    fn wake(&mut self) {
        let Some(at) = self.wheel.next_wake() else { return assert!(self.model.is_empty()) };
        let first = self.model.values().map(|(_, latest)| *latest).min();
        assert!(at > self.now || self.now == Timestamp::FAR, "asks for the past");
        assert!(first.is_some_and(|latest| at <= latest), "sleeps too long");
        self.advance(at);
    }
}

proptest! {
    #[test]
    fn fires_what_an_ordered_map_would(start in span(), steps in prop::collection::vec(step(), 1..200)) {
        let mut pair = Pair::new(Timestamp::from_micros(start));
        for step in steps {
            match step {
                Step::Insert(offset) => pair.insert(offset),
                Step::Pass(span) => pair.advance(pair.now.plus(Duration::from_micros(span))),
                Step::Wake => pair.wake(),
            }
        }
        pair.advance(Timestamp::FAR);
        let last = Timestamp::FAR.micros() / SLOT_MICROS;
        prop_assert!(pair.model.values().all(|(due, _)| tick_of(*due) > last));
    }
}

#[test]
fn slots_of_all_levels_that_begin_together_fire_together() {
    let turns = [1_u64, SLOTS as u64];
    let at = |tick: u64| Timestamp::from_micros(tick * SLOT_MICROS);
    for turn in turns {
        let boundary = turn * SLOTS as u64;
        // From far and from near, for the very tick at which slots of several levels begin, and beyond it.
        let mut wheel = Wheel::new(at(0));
        for from in [0, boundary - turn, boundary - 1] {
            wheel.advance(at(from), |_, _| panic!("early"));
            (0..3).for_each(|beyond| wheel.insert(at(boundary + beyond), beyond));
        }
        for beyond in 0..3 {
            let mut fired = Vec::new();
            wheel.advance(at(boundary + beyond), |item, _| fired.push(item));
            assert_eq!(fired, [beyond; 3], "turn {turn}");
        }
    }
}

#[test]
fn nothing_is_lost_in_many_rounds() {
    let (slot, period) = (Duration::from_micros(SLOT_MICROS), Duration::from_secs(100));
    let mut now = Timestamp::from_secs(1_800_000_000);
    let mut wheel = Wheel::new(now);
    for n in 0..10_000 {
        wheel.insert(now.plus(Duration::from_millis(10 + n * 10)), n);
    }
    let (mut fired, mut due) = (0, Vec::new());
    for _ in 0..50_000 {
        now = now.plus(slot);
        wheel.advance(now, |item, at| due.push((item, at)));
        fired += due.len();
        due.drain(..).for_each(|(item, at)| wheel.insert(at.plus(period), item));
    }
    assert_eq!((fired, wheel.len()), (50_000, 10_000));
}

#[test]
fn slots_fire_in_order_of_time() {
    let mut wheel = Wheel::new(Timestamp::ZERO);
    for at in [90_000_u64, 20, 3_000, 86_400_000, 700] {
        wheel.insert(Timestamp::from_millis(at), at);
    }
    let mut fired = Vec::new();
    wheel.advance(Timestamp::from_secs(100_000), |item, _| fired.push(item));
    assert_eq!(fired, [20, 700, 3_000, 90_000, 86_400_000]);
}

#[test]
fn going_back_in_time_fires_nothing_and_breaks_nothing() {
    let mut wheel = Wheel::new(Timestamp::from_secs(100));
    wheel.insert(Timestamp::from_secs(101), ());
    wheel.advance(Timestamp::from_secs(50), |(), _| panic!("fired"));
    let mut fired = 0;
    wheel.advance(Timestamp::from_secs(101), |(), _| fired += 1);
    assert_eq!(fired, 1);
}

#[test]
fn a_wheel_that_was_full_gives_its_memory_back() {
    let mut wheel = Wheel::new(Timestamp::ZERO);
    for at in 0..100_000 {
        wheel.insert(Timestamp::from_millis(at), at);
    }
    let held =
        |wheel: &Wheel<u64>| wheel.blocks.blocks.iter().map(|block| block.entries.capacity()).sum::<usize>();
    let full = held(&wheel);
    assert!(full >= 100_000);
    wheel.advance(Timestamp::from_secs(100), |_, _| {});
    assert!(held(&wheel) < full / 3, "{} of {full}", held(&wheel));
    for at in 0..100_000 {
        wheel.insert(Timestamp::from_millis(at + 100_010), at);
    }
    assert_eq!(wheel.len(), 100_000);
}

#[test]
fn what_is_too_far_away_fires_at_the_horizon() {
    let now = Timestamp::from_secs(1_800_000_000);
    let mut wheel = Wheel::new(now);
    wheel.insert(Timestamp::FAR, ());
    wheel.advance(now.plus(HORIZON).minus(Duration::from_millis(10)), |(), _| panic!("early"));
    let mut fired = None;
    wheel.advance(now.plus(HORIZON), |(), due| fired = Some(due));
    assert_eq!(fired, Some(now.plus(HORIZON)));
}

#[test]
fn what_the_scheduler_arms_takes_twelve_bytes() {
    assert_eq!(size_of::<Entry<crate::registry::agenda::Waiting>>(), 12);
}
