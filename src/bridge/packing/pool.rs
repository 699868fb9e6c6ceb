//! Things that many have in common, kept once and known by a number.
//!
//! Invariant: a thing is kept as long as it is counted, and its number is its own as long as it is kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// Things of one kind. Numbers begin at 1: 0 is for "none".
#[derive(Debug)]
pub(in crate::bridge) struct Pool<T: ?Sized> {
    numbers: HashMap<Arc<T>, u32, foldhash::fast::RandomState>,
    kept: Vec<Option<Kept<T>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Kept<T: ?Sized> {
    thing: Arc<T>,
    count: u32,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), kept: Vec::new(), free: Vec::new() }
    }
}

impl<T: ?Sized + Hash + Eq> Pool<T> {
    /// Counts `thing` once more and gives its number; `share` is asked where it is new.
    pub(in crate::bridge) fn enter(&mut self, thing: &T, share: impl FnOnce() -> Arc<T>) -> u32 {
        if let Some(&number) = self.numbers.get(thing) {
            if let Some(kept) = self.place(number) {
                kept.count += 1;
            }
            return number;
        }
        let thing = share();
        let kept = Some(Kept { thing: Arc::clone(&thing), count: 1 });
        let number = self.free.pop().unwrap_or_else(|| {
            self.kept.push(None);
            u32::try_from(self.kept.len()).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.kept.get_mut(number as usize - 1) {
            *place = kept;
        }
        self.numbers.insert(thing, number);
        number
    }

    /// What has this number; `leaves`: it is counted once less.
    pub(in crate::bridge) fn thing(&mut self, number: u32, leaves: bool) -> Option<Arc<T>> {
        let thing = Arc::clone(&self.place(number)?.thing);
        if leaves {
            self.leave(number);
        }
        Some(thing)
    }

    /// What has this number, for a look.
    pub(in crate::bridge) fn look(&self, number: u32) -> Option<&T> {
        Some(&self.kept.get((number as usize).checked_sub(1)?)?.as_ref()?.thing)
    }

    /// What has this number is counted once less.
    pub(in crate::bridge) fn leave(&mut self, number: u32) {
        let Some(kept) = self.place(number) else { return };
        kept.count -= 1;
        if kept.count == 0 {
            self.forget(number);
        }
    }

    /// Keeps one more thing, under the next number: for a pool that is only read.
    pub(in crate::bridge) fn push(&mut self, thing: Arc<T>) {
        self.kept.push(Some(Kept { thing, count: 1 }));
    }

    /// All that is kept, by number.
    pub(in crate::bridge) fn all(&self) -> impl Iterator<Item = &T> {
        self.kept.iter().flatten().map(|kept| &*kept.thing)
    }

    fn place(&mut self, number: u32) -> Option<&mut Kept<T>> {
        self.kept.get_mut((number as usize).checked_sub(1)?)?.as_mut()
    }

    fn forget(&mut self, number: u32) {
        if let Some(forgotten) = self.kept.get_mut(number as usize - 1).and_then(Option::take) {
            self.numbers.remove(&forgotten.thing);
            self.free.push(number);
        }
    }

    /// How many are kept.
    #[cfg(test)]
    pub(in crate::bridge) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_kept_as_long_as_it_is_counted() {
        let mut pool = Pool::<[u8]>::default();
        let enter = |pool: &mut Pool<[u8]>, thing: &[u8]| pool.enter(thing, || Arc::from(thing));
        let (first, second) = (enter(&mut pool, b"a"), enter(&mut pool, b"b"));
        assert_eq!((first, second, enter(&mut pool, b"a")), (1, 2, first));
        assert_eq!(pool.thing(first, true).as_deref(), Some(&b"a"[..]));
        assert_eq!(pool.thing(first, true).as_deref(), Some(&b"a"[..]));
        assert_eq!((pool.thing(first, false), pool.len()), (None, 1));
        assert_eq!(enter(&mut pool, b"c"), first, "a number that is free is given again");
        assert_eq!(pool.thing(second, false).as_deref(), Some(&b"b"[..]));
        assert_eq!(pool.thing(0, true), None);
    }
}
