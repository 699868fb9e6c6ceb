//! A store that several proxies share, as far as sessions go: it compares and sets, tells who changed what, and forgets its last
//! writes when another server takes its place.

use std::collections::BTreeMap;
use std::time::Duration;

use sessionbridge::store::{Head, Index};
use sessionbridge::time::Timestamp;

/// A session's name.
pub(crate) type Name = [u8; 8];

/// What becomes of a write.
pub(crate) enum Fate {
    /// It is there, under this tag.
    Written(u64),
    /// Nothing is, where something was expected.
    Lost,
    /// Something else is.
    Conflict(Head, Vec<u8>),
    /// A tombstone is. True: it is the first one, of this very write.
    Ended(bool),
}

/// What is under a name: a tombstone has no bytes.
pub(crate) type Entry = (Head, Vec<u8>);

#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) all: BTreeMap<Name, Entry>,
    pub(crate) index: BTreeMap<[u8; 16], Name>,
    tags: u64,
    /// When each was written, and what was there before.
    log: Vec<(Timestamp, Name, Option<Entry>)>,
    /// Rules to break.
    pub(crate) ignores_tags: bool,
    pub(crate) ignores_tombstones: bool,
}

impl Shelf {
    /// A new tag, as a writer draws one.
    pub(crate) fn tag(&mut self) -> u64 {
        self.tags += 1;
        self.tags
    }

    /// Writes, where what is there is what the writer knows.
    pub(crate) fn write(
        &mut self,
        name: Name,
        (head, record): (&Head, &[u8]),
        tag: u64,
        now: Timestamp,
    ) -> Fate {
        match self.all.get(&name) {
            Some((there, _)) if there.ended && !self.ignores_tombstones => {
                return Fate::Ended(there.tag == tag);
            }
            Some((there, theirs))
                if !head.ended && !there.ended && there.tag != head.tag && !self.ignores_tags =>
            {
                return Fate::Conflict(there.clone(), theirs.clone());
            }
            None if head.tag != 0 && !head.ended => return Fate::Lost,
            _ => {}
        }
        for index in &head.index {
            if let Index::Id(id) = index {
                self.index.insert(*id, name);
            }
        }
        let before = self.all.insert(name, (Head { tag, ..head.clone() }, record.to_vec()));
        self.log.push((now, name, before));
        if head.ended { Fate::Ended(true) } else { Fate::Written(tag) }
    }

    /// Makes a session another proxy's; false where it is no more, or not the old one's.
    pub(crate) fn takes_over(&mut self, name: Name, (old, new): (u64, u64), now: Timestamp) -> bool {
        let tag = self.tag();
        let Some(entry) = self.all.get_mut(&name).filter(|(head, _)| !head.ended && head.owner == old) else {
            return false;
        };
        self.log.push((now, name, Some(entry.clone())));
        (entry.0.owner, entry.0.epoch, entry.0.tag) = (new, entry.0.epoch + 1, tag);
        true
    }

    /// Another server takes its place, which has not heard of the last writes. Their names.
    pub(crate) fn fails_over(&mut self, lost: Duration, now: Timestamp) -> Vec<Name> {
        let mut names = Vec::new();
        while self.log.last().is_some_and(|(at, ..)| now.since(*at) < lost) {
            let Some((_, name, before)) = self.log.pop() else { break };
            match before {
                Some(before) => self.all.insert(name, before),
                None => self.all.remove(&name),
            };
            names.push(name);
        }
        names
    }
}
