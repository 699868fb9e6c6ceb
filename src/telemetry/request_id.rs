//! Ids of requests: unique in the process, most likely in the world, and made without asking the system for
//! anything.
//!
//! Invariant: an id is a one-to-one function of thread and count, so no two requests of a process share one.
//! It is no secret: who has seen one can compute the next.

use std::fmt;

/// The number of threads that ids have room for, as a power of two.
const THREAD_BITS: u32 = 16;

/// 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    fn of(number: u64) -> Self {
        let mut digits = [0; 16];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = hex_digit(number >> (60 - 4 * at));
        }
        Self(digits)
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The digit for the lowest four bits of `number`.
pub(super) const fn hex_digit(number: u64) -> u8 {
    match (number & 15) as u8 {
        digit @ 0..=9 => b'0' + digit,
        digit => b'a' + digit - 10,
    }
}

/// One thread's source of ids.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    next: u64,
}

impl RequestIds {
    /// For the thread of this number (below 65,536), with 64 random bits that all threads of the process
    /// share.
    #[must_use]
    pub const fn new(prefix: u64, thread: u16) -> Self {
        Self { prefix, next: (thread as u64) << (u64::BITS - THREAD_BITS) }
    }

    /// A new id.
    pub fn make(&mut self) -> RequestId {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        RequestId::of(mixed(number ^ self.prefix))
    }
}

/// A one-to-one function that spreads every bit over all others: the finalizer of SplitMix64 (Steele, Lea,
/// Flood 2014).
const fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_over_threads_and_look_unlike() {
        let mut seen = HashSet::new();
        for thread in 0..4 {
            let mut ids = RequestIds::new(7, thread);
            for _ in 0..1000 {
                assert!(seen.insert(ids.make()));
            }
        }
        assert!(seen.iter().all(|id| id.as_str().len() == 16));
        let heads: HashSet<_> = seen.iter().map(|id| id.as_str().split_at(4).0.to_owned()).collect();
        assert!(heads.len() > 3_500, "{} of 4000 begin differently", heads.len());
    }

    #[test]
    fn processes_with_other_prefixes_make_other_ids() {
        assert_ne!(RequestIds::new(1, 0).make(), RequestIds::new(2, 0).make());
    }

    #[test]
    fn an_id_is_its_number_in_hex() {
        assert_eq!(RequestId::of(0x0123_4567_89ab_cdef).as_str(), "0123456789abcdef");
    }
}
