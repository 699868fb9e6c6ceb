//! So many per client address: new sessions, failed adoptions.
//!
//! Invariant: asking does not count; only what has happened does. An address is its IPv4, or the /64 of its IPv6.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;

use crate::time::Timestamp;

/// Addresses that are remembered before the ones with a full bucket are forgotten.
const SWEEP_ABOVE: usize = 50_000;

/// A token bucket an address.
#[derive(Debug)]
pub struct Buckets {
    /// The bits of two numbers, which a reload may change.
    per_second: AtomicU64,
    burst: AtomicU64,
    table: DashMap<IpAddr, Bucket, foldhash::quality::RandomState>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Timestamp,
}

impl Buckets {
    /// `per_second` sustained, `burst` at once.
    #[must_use]
    pub fn new(per_second: f64, burst: u32) -> Self {
        let buckets =
            Self { per_second: AtomicU64::new(0), burst: AtomicU64::new(0), table: DashMap::default() };
        buckets.set(per_second, burst);
        buckets
    }

    /// From now on `per_second` sustained and `burst` at once; what was counted stays.
    pub fn set(&self, per_second: f64, burst: u32) {
        self.per_second.store(per_second.to_bits(), Relaxed);
        self.burst.store(f64::from(burst).to_bits(), Relaxed);
    }

    fn burst(&self) -> f64 {
        f64::from_bits(self.burst.load(Relaxed))
    }

    /// True where one more may happen.
    #[must_use]
    pub fn allows(&self, address: IpAddr, now: Timestamp) -> bool {
        self.table.get(&place(address)).is_none_or(|bucket| self.left(&bucket, now) >= 1.0)
    }

    /// One has happened.
    pub fn count(&self, address: IpAddr, now: Timestamp) {
        if self.table.len() > SWEEP_ABOVE {
            self.table.retain(|_, bucket| self.left(bucket, now) < self.burst());
        }
        let mut bucket = self.table.entry(place(address)).or_insert(Bucket { left: self.burst(), at: now });
        bucket.left = (self.left(&bucket, now) - 1.0).max(0.0);
        bucket.at = now;
    }

    fn left(&self, bucket: &Bucket, now: Timestamp) -> f64 {
        let gained = now.since(bucket.at).as_secs_f64() * f64::from_bits(self.per_second.load(Relaxed));
        (bucket.left + gained).min(self.burst())
    }
}

/// A bucket that allows `tries` in `span`.
#[must_use]
pub fn tries(tries: u32, span: Duration) -> Buckets {
    Buckets::new(f64::from(tries) / span.as_secs_f64(), tries)
}

fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6([a, b, c, d, 0, 0, 0, 0].into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_so_many_a_second_and_asking_is_free() {
        let (buckets, address) = (Buckets::new(2.0, 3), [192, 0, 2, 1].into());
        let at = Timestamp::from_secs(1000);
        for _ in 0..3 {
            assert!(buckets.allows(address, at) && buckets.allows(address, at));
            buckets.count(address, at);
        }
        assert!(!buckets.allows(address, at));
        assert!(buckets.allows([192, 0, 2, 2].into(), at), "another address");
        assert!(buckets.allows(address, at.plus(Duration::from_millis(500))));
        assert!(!buckets.allows(address, at.plus(Duration::from_millis(400))));
    }

    #[test]
    fn a_whole_v6_network_is_one_address() {
        let (buckets, at) = (Buckets::new(1.0, 1), Timestamp::from_secs(1000));
        buckets.count("2001:db8::1".parse().unwrap(), at);
        assert!(!buckets.allows("2001:db8::ffff".parse().unwrap(), at));
        assert!(buckets.allows("2001:db8:0:1::1".parse().unwrap(), at));
    }
}
