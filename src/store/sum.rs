//! The sum of all records: what tells whether all of them are there, and none that is older than it should be.
//!
//! The database finds a flipped bit in what it reads, nearly always; not one that makes it read something else, or less. So
//! with each commit goes the sum of all records that are in the store after it. A record's part of the sum is the tag of its
//! seal, which no other record has.
//!
//! Clocks are no part of it: of what is lost there a record says nearly as much, and only less, never more.
//!
//! Invariant: a sum is that of the records which a commit leaves behind, not of those that it writes.

use std::collections::HashMap;

use super::disk::Change;

/// The sum of all records, and each one's part of it.
#[derive(Debug)]
pub(super) struct Sums {
    /// By the first byte of the name: readers that share a store out by it have nothing in common.
    parts: Vec<HashMap<u64, u64, foldhash::fast::RandomState>>,
    sum: u64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { parts: (0..256).map(|_| HashMap::default()).collect(), sum: 0 }
    }
}

/// A sum as it is written.
pub(super) type Sum = [u8; 16];

impl Sums {
    /// Makes room for what comes of `many` records, of those whose names begin with a byte of `from..=to`.
    pub(super) fn expect(&mut self, many: usize, (from, to): (u8, u8)) {
        // As even as hashes are, with a little to spare.
        let each = many / 256 + many / 2048;
        self.parts.iter_mut().take(usize::from(to) + 1).skip(from.into()).for_each(|part| part.reserve(each));
    }

    /// Takes in a record that is in the store, by its part of the sum.
    pub(super) fn add(&mut self, name: [u8; 8], part: u64) {
        self.change(name, Some(part));
    }

    /// Takes in those that another reader of the same store has met, of names that begin otherwise.
    pub(super) fn join(&mut self, other: Self) {
        self.sum ^= other.sum;
        for (own, others) in self.parts.iter_mut().zip(other.parts) {
            if own.is_empty() {
                *own = others;
            } else {
                own.extend(others);
            }
        }
    }

    /// What the sum will be after `changes`, each of another record.
    pub(super) fn after(&self, changes: &[Change]) -> Sum {
        let (mut count, mut sum) = (self.count(), self.sum);
        for change in changes {
            let before = self.part_of(change.name).and_then(|parts| parts.get(&number(change.name)).copied());
            let after = part_after(change);
            count = count + u64::from(after.is_some()) - u64::from(before.is_some());
            sum ^= before.unwrap_or_default() ^ after.unwrap_or_default();
        }
        written(count, sum)
    }

    /// True where the session has a record.
    pub(super) fn knows(&self, name: [u8; 8]) -> bool {
        self.part_of(name).is_some_and(|parts| parts.contains_key(&number(name)))
    }

    /// `changes` are in the store.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.change(change.name, part_after(change));
        }
    }

    /// What it is now.
    pub(super) fn sum(&self) -> Sum {
        written(self.count(), self.sum)
    }

    fn count(&self) -> u64 {
        self.parts.iter().map(|parts| parts.len() as u64).sum()
    }

    fn part_of(&self, name: [u8; 8]) -> Option<&HashMap<u64, u64, foldhash::fast::RandomState>> {
        self.parts.get(usize::from(name[0]))
    }

    fn change(&mut self, name: [u8; 8], part: Option<u64>) {
        let Some(parts) = self.parts.get_mut(usize::from(name[0])) else { return };
        let before = match part {
            Some(part) => parts.insert(number(name), part),
            None => parts.remove(&number(name)),
        };
        self.sum ^= before.unwrap_or_default() ^ part.unwrap_or_default();
    }
}

/// How many there are, and the sum itself.
fn written(count: u64, sum: u64) -> Sum {
    let mut written = Sum::default();
    let bytes = count.to_le_bytes().into_iter().chain(sum.to_le_bytes());
    written.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    written
}

const fn number(name: [u8; 8]) -> u64 {
    u64::from_le_bytes(name)
}

fn part_after(change: &Change) -> Option<u64> {
    change.kept.as_ref().map(|kept| part(&kept.record))
}

/// A record's part of the sum: the tail of the tag that it ends with.
pub(super) fn part(record: &[u8]) -> u64 {
    record.last_chunk().copied().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::Kept;

    #[test]
    fn a_sum_is_that_of_what_is_left_whatever_came_between() {
        let change = |name: u8, record: Option<u64>| Change {
            name: [name; 8],
            kept: record.map(|record| Kept { record: record.to_le_bytes().to_vec(), lead: Vec::new() }),
        };
        let mut sums = Sums::default();
        let empty = sums.sum();
        let mut step = |changes: &[Change]| {
            let wanted = sums.after(changes);
            sums.apply(changes);
            assert_eq!(sums.sum(), wanted, "what was said before is so");
            wanted
        };
        step(&[change(1, Some(11)), change(2, Some(22))]);
        let both = step(&[change(1, Some(12)), change(3, None)]);
        let mut other = Sums::default();
        other.add([2; 8], 22);
        let mut joined = Sums::default();
        joined.add([1; 8], 12);
        joined.join(other);
        assert_eq!(joined.sum(), both);
        assert_eq!(step(&[change(1, None), change(2, None)]), empty);
        assert_ne!(both, empty);
    }
}
