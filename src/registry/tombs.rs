//! Sessions that have ended, where several proxies share them: what comes late brings none of them back.
//!
//! Invariant: what is remembered is remembered until the session would have been over anyway, unless there are too many.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bridge::id::Handle;
use crate::store::{Head, Record};
use crate::time::Timestamp;

/// How many are remembered.
const MOST: usize = 200_000;

/// That a session has ended: all that the store keeps of it.
#[derive(Debug)]
pub(super) struct Tomb {
    handle: Handle,
    owner: u64,
    epoch: u32,
    expires: Timestamp,
    tag: AtomicU64,
}

impl Tomb {
    pub(super) const fn new(handle: Handle, (owner, epoch): (u64, u32), expires: Timestamp) -> Self {
        Self { handle, owner, epoch, expires, tag: AtomicU64::new(0) }
    }
}

impl Record for Tomb {
    fn name(&self) -> [u8; 8] {
        self.handle.0.to_be_bytes()
    }

    fn write(&self, _out: &mut Vec<u8>) -> Option<Head> {
        let tag = self.tag.load(Ordering::Relaxed);
        let (owner, epoch, expires) = (self.owner, self.epoch, self.expires);
        Some(Head { tag, owner, epoch, expires, ended: true, ..Head::default() })
    }

    fn written(&self, tag: u64, _at: Timestamp) {
        self.tag.store(tag, Ordering::Relaxed);
    }
}

/// Those that are remembered: what was put where this proxy has ended it.
#[derive(Debug, Default)]
pub(super) struct Tombs {
    all: HashMap<u64, Option<Arc<Tomb>>, foldhash::fast::RandomState>,
    order: VecDeque<(u64, Timestamp)>,
}

impl Tombs {
    /// The session with this handle has ended; `tomb`: here.
    pub(super) fn add(
        &mut self,
        handle: Handle,
        tomb: Option<Arc<Tomb>>,
        expires: Timestamp,
        now: Timestamp,
    ) {
        while self.order.len() >= MOST || self.order.front().is_some_and(|(_, until)| *until < now) {
            let Some((oldest, _)) = self.order.pop_front() else { break };
            self.all.remove(&oldest);
        }
        let held = self.all.entry(handle.0).or_insert_with(|| {
            self.order.push_back((handle.0, expires));
            None
        });
        if tomb.is_some() {
            *held = tomb;
        }
    }

    /// The tomb of a session that has ended; within: where it was ended here.
    pub(super) fn find(&self, handle: Handle) -> Option<Option<Arc<Tomb>>> {
        self.all.get(&handle.0).cloned()
    }

    /// All that were made here.
    pub(super) fn own(&self) -> Vec<Arc<Tomb>> {
        self.all.values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::testing::at;

    #[test]
    fn they_are_remembered_until_their_time_and_the_store_is_told_only_of_own_ones() {
        let mut tombs = Tombs::default();
        let tomb = |number| Arc::new(Tomb::new(Handle(number), (7, 1), at(100)));
        tombs.add(Handle(1), Some(tomb(1)), at(10), at(0));
        tombs.add(Handle(2), None, at(100), at(0));
        assert_eq!(tombs.own().len(), 1);
        assert!(tombs.find(Handle(2)).is_some_and(|tomb| tomb.is_none()));
        tombs.add(Handle(2), Some(tomb(2)), at(100), at(11));
        assert!(tombs.find(Handle(1)).is_none(), "its time has passed");
        let found = tombs.find(Handle(2)).flatten().unwrap();
        found.written(9, at(1));
        let head = found.write(&mut Vec::new()).unwrap();
        assert_eq!((head.ended, head.tag, head.owner, head.expires), (true, 9, 7, at(100)));
    }
}
