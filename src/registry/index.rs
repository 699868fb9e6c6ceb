//! Which places a hash leads to: eight bytes a pair.
//!
//! Open addressing with linear probing. A pair is half of the hash and the place; two hashes may share that half, so who
//! looks a place up asks there whether it was meant. The hashes are uniform and not of a client's choosing (the head of a
//! SHA-256, a keyed hash): nothing hashes them again. A table of any size, not only of powers of two, is what keeps the
//! pairs of a million sessions at eleven bytes each.
//!
//! Invariant: between the home of a pair and where it lies no slot is free.

use smallvec::SmallVec;

/// Pairs of hash and place.
#[derive(Default)]
pub(super) struct Index {
    /// Half of the hash above, one more than the place below; 0: free.
    pairs: Vec<u64>,
    len: usize,
}

/// The least that is ever set up.
const LEAST: usize = 8;

impl Index {
    /// Makes room for `many` more.
    pub(super) fn expect(&mut self, many: usize) {
        self.resize(((self.len + many) * 5 / 4 + LEAST).max(self.pairs.len()));
    }

    /// Enters that `hash` leads to `place`.
    pub(super) fn insert(&mut self, hash: u64, place: u32) {
        // At four fifths a search looks at three slots that lie side by side, on average.
        if (self.len + 1) * 5 > self.pairs.len() * 4 {
            self.resize((self.pairs.len() + self.pairs.len() / 4).max(LEAST));
        }
        self.place(pair(hash, place));
        self.len += 1;
    }

    /// Takes out that `hash` leads to `place`.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        let wanted = pair(hash, place);
        let mut hole = self.home(wanted);
        while self.at(hole) != wanted {
            if self.at(hole) == 0 {
                return;
            }
            hole = self.after(hole);
        }
        // Those behind it move up, as far as they may: none further than to its home.
        let mut next = self.after(hole);
        while self.at(next) != 0 {
            if self.distance(self.home(self.at(next)), next) >= self.distance(hole, next) {
                self.put(hole, self.at(next));
                hole = next;
            }
            next = self.after(next);
        }
        self.put(hole, 0);
        self.len -= 1;
        if self.len * 4 < self.pairs.len() && self.pairs.len() > LEAST {
            self.resize((self.len * 2).max(LEAST));
        }
    }

    /// Where `hash` may lead to.
    pub(super) fn places(&self, hash: u64) -> SmallVec<[u32; 2]> {
        let mut found = SmallVec::new();
        let mut slot = self.home(hash);
        while let Some(&pair) = self.pairs.get(slot).filter(|pair| **pair != 0) {
            if pair >> 32 == hash >> 32 {
                found.push((pair as u32).wrapping_sub(1));
            }
            slot = self.after(slot);
        }
        found
    }

    /// How many pairs there are.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    fn resize(&mut self, size: usize) {
        let before = std::mem::replace(&mut self.pairs, vec![0; size]);
        before.into_iter().filter(|pair| *pair != 0).for_each(|pair| self.place(pair));
    }

    fn place(&mut self, pair: u64) {
        let mut slot = self.home(pair);
        while self.at(slot) != 0 {
            slot = self.after(slot);
        }
        self.put(slot, pair);
    }

    /// The upper half of `hash` as a part of the whole.
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.pairs.len() as u64) >> 32) as usize
    }

    const fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.pairs.len() { 0 } else { slot + 1 }
    }

    /// How far behind `from` the slot `to` is.
    const fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.pairs.len() - from }
    }

    fn at(&self, slot: usize) -> u64 {
        self.pairs.get(slot).copied().unwrap_or(0)
    }

    fn put(&mut self, slot: usize, pair: u64) {
        if let Some(place) = self.pairs.get_mut(slot) {
            *place = pair;
        }
    }
}

fn pair(hash: u64, place: u32) -> u64 {
    hash & !u64::from(u32::MAX) | (u64::from(place) + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, near both ends, so that runs form, wrap and meet.
        #[test]
        fn holds_what_a_set_would(steps in prop::collection::vec((any::<bool>(), 0_u64..40, 0_u32..4), 1..300)) {
            let (mut index, mut model) = (Index::default(), BTreeSet::new());
            for (insert, hash, place) in steps {
                let hash = hash.wrapping_sub(20).wrapping_mul(1 << 58 | 1 << 32);
                if insert && model.insert((hash, place)) {
                    index.insert(hash, place);
                } else if !insert {
                    model.remove(&(hash, place));
                    index.remove(hash, place);
                }
                prop_assert_eq!(index.len(), model.len());
                let mut found = index.places(hash).to_vec();
                found.sort_unstable();
                let wanted: Vec<u32> = model.iter().filter(|(of, _)| *of == hash).map(|(_, place)| *place).collect();
                prop_assert_eq!(found, wanted);
            }
            for (hash, place) in &model {
                prop_assert!(index.places(*hash).contains(place));
            }
        }
    }

    #[test]
    fn it_gives_back_what_it_no_longer_needs() {
        let mut index = Index::default();
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..10_000).for_each(|n| index.insert(hash(n), n as u32));
        assert!(index.pairs.len() < 16_000, "{} slots", index.pairs.len());
        (0..9_990).for_each(|n| index.remove(hash(n), n as u32));
        assert!(index.pairs.len() < 50, "{} slots", index.pairs.len());
        assert_eq!(index.places(hash(9_995)).to_vec(), [9_995]);
    }
}
