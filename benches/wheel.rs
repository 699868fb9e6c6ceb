//! The heartbeat wheel with a million armed: what arming and firing cost, how late things fire, how much
//! memory they take.
//!
//! Invariant: the wheel is warm (it has turned once round its period) before anything is measured.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a bench measures real time, and may panic"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sessionbridge::heartbeat::wheel::Wheel;
use sessionbridge::time::Timestamp;

const ARMED: u64 = 1_000_000;
const SLOT: Duration = Duration::from_millis(10);

/// As large as what the heartbeat loop arms.
type Item = [u32; 2];

/// Where the `n`th of the entries lies in the period: spread evenly, in no order.
fn phase(n: u64, period: Duration) -> Duration {
    Duration::from_micros(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % u64::try_from(period.as_micros()).unwrap())
}

/// A wheel with a million armed, once round.
fn full(start: Timestamp, period: Duration) -> (Wheel<Item>, Timestamp) {
    let mut wheel = Wheel::new(start);
    for n in 0..ARMED {
        wheel.insert(start.plus(phase(n, period)), [n as u32, 0]);
    }
    let (mut now, mut due) = (start, Vec::new());
    while now < start.plus(period) {
        now = now.plus(SLOT);
        turn(&mut wheel, now, period, &mut due);
    }
    (wheel, now)
}

/// One step of the heartbeat loop: fire what is due and arm it again.
fn turn(wheel: &mut Wheel<Item>, now: Timestamp, period: Duration, due: &mut Vec<(Item, Timestamp)>) -> u64 {
    wheel.advance(now, |item, at| due.push((item, at)));
    let fired = due.len() as u64;
    for (item, at) in due.drain(..) {
        wheel.insert(at.plus(period), black_box(item));
    }
    fired
}

/// Fires (each armed again) until `wanted` have fired, and how late the latest of them was.
fn fire_and_arm(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel/fire_and_arm");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for period in [20, 20 * 60, 6 * 3600] {
        let period = Duration::from_secs(period);
        let (mut wheel, mut now) = full(Timestamp::from_secs(1_800_000_000), period);
        let mut due = Vec::new();
        group.bench_function(BenchmarkId::from_parameter(format!("{}s", period.as_secs())), |b| {
            b.iter_custom(|wanted| {
                let (mut fired, start) = (0, std::time::Instant::now());
                while fired < wanted {
                    now = now.plus(SLOT);
                    fired += turn(&mut wheel, now, period, &mut due);
                }
                start.elapsed().mul_f64(wanted as f64 / fired as f64)
            });
        });
        assert_eq!(wheel.len() as u64, ARMED);
    }
    group.finish();
}

/// Arms a million in an empty wheel.
fn arm(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel/arm");
    group.throughput(Throughput::Elements(ARMED)).sample_size(10);
    let (start, period) = (Timestamp::from_secs(1_800_000_000), Duration::from_secs(20 * 60));
    group.bench_function("1M", |b| {
        b.iter(|| {
            let mut wheel = Wheel::new(start);
            for n in 0..ARMED {
                wheel.insert(start.plus(phase(n, period)), [n as u32, 0]);
            }
            wheel
        });
    });
    group.finish();
}

/// Resident memory of this process, from the kernel's own count of pages of 4 KiB; `None` where there is no
/// procfs.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

/// Prints bytes per armed entry and the greatest lateness; no timing.
fn facts(_: &mut Criterion) {
    let start = Timestamp::from_secs(1_800_000_000);
    let mut wheels = Vec::new();
    for period in [20, 20 * 60, 86_400].map(Duration::from_secs) {
        // Those before are kept, so that none is made of what another gave back.
        let before = resident();
        let mut wheel = Wheel::<Item>::new(start);
        for n in 0..ARMED {
            wheel.insert(start.plus(phase(n, period)), [n as u32, 0]);
        }
        if let (Some(before), Some(after)) = (before, resident()) {
            let bytes = after.saturating_sub(before) as f64 / ARMED as f64;
            println!("period {period:?}: {bytes:.1} B an entry");
        }
        wheels.push((wheel, period));
    }
    for (mut wheel, period) in wheels {
        let (mut now, mut late) = (start, Duration::ZERO);
        while let Some(wake) = wheel.next_wake() {
            now = now.max(wake);
            wheel.advance(now, |[n, _], _| late = late.max(now.since(start.plus(phase(n.into(), period)))));
        }
        println!("period {period:?}: {late:?} late at the most");
    }
}

criterion_group!(benches, facts, arm, fire_and_arm);
criterion_main!(benches);
