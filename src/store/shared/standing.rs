//! What the clocks of sessions stand at, apart from their records, on its way to the store.
//!
//! Invariant: of each session the latest is kept until the store has it, whatever is lost on the way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use redis::Cmd;
use smallvec::SmallVec;

use super::core::{Core, count};
use super::link::{Answer, Refusal};
use crate::store::queue::{Clocks, Mark};
use crate::store::seal;
use crate::time::Timestamp;

/// Sessions of which they go in one round trip, at the most.
const BATCH: usize = 512;
/// They are kept for this much at the least, whatever the session's end is.
const LEAST: Duration = Duration::from_secs(1);

/// Clocks, and the groups that wait for them.
#[derive(Default)]
pub(super) struct Standing {
    all: HashMap<[u8; 8], Clocks, foldhash::fast::RandomState>,
    groups: SmallVec<[Mark; 2]>,
}

impl Standing {
    /// Takes in those of a group; what held them is given back.
    pub(super) fn add(&mut self, group: Mark, mut clocks: Vec<Clocks>) -> Vec<Clocks> {
        if !clocks.is_empty() {
            self.groups.push(group);
        }
        self.all.extend(clocks.drain(..).map(|clocks| (clocks.name, clocks)));
        clocks
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.groups.is_empty()
    }

    /// What goes in the next round trip: with the last of them the groups that wait.
    pub(super) fn some(&mut self) -> Self {
        if self.all.len() <= BATCH {
            return std::mem::take(self);
        }
        let names: Vec<[u8; 8]> = self.all.keys().take(BATCH).copied().collect();
        let some = names.into_iter().filter_map(|name| Some((name, self.all.remove(&name)?)));
        Self { all: some.collect(), groups: SmallVec::new() }
    }

    /// They did not come to the store: they wait again, but for those that have moved on meanwhile.
    pub(super) fn again(&mut self, others: Self) {
        for (name, clocks) in others.all {
            if let Entry::Vacant(place) = self.all.entry(name) {
                place.insert(clocks);
            }
        }
        self.groups.extend(others.groups);
    }

    /// What writes them.
    pub(super) fn commands(&self, core: &Core) -> Vec<Cmd> {
        let now = core.clock.now();
        let of = |clocks: &Clocks| writing(core, clocks, now);
        self.all.values().filter_map(of).collect()
    }

    /// What became of them, by the answers to their commands: the groups that wait for them no longer, or why they wait again.
    pub(super) fn landed(
        self,
        core: &Core,
        answers: &[Answer],
    ) -> Result<SmallVec<[Mark; 2]>, (Self, String)> {
        match answers.iter().find_map(|answer| answer.as_ref().err()) {
            None => {
                count(&core.facts.clocks, self.all.len() as u64);
                Ok(self.groups)
            }
            Some(Refusal::Now(why) | Refusal::Other(why)) => Err((self, why.clone())),
            Some(Refusal::Type | Refusal::Script) => Err((self, "clocks are refused".to_owned())),
        }
    }
}

/// What takes those of a session out that has ended.
pub(super) fn forgetting(core: &Core, name: [u8; 8]) -> Cmd {
    let mut forget = redis::cmd("DEL");
    forget.arg(core.names.clocks(name));
    forget
}

fn writing(core: &Core, clocks: &Clocks, now: Timestamp) -> Option<Cmd> {
    let signed = seal::sign(&core.keys, &clocks.name, &clocks.bytes)?;
    let until = clocks.expires.max(now.plus(LEAST)).millis();
    let mut set = redis::cmd("SET");
    set.arg(core.names.clocks(clocks.name)).arg(&signed[..]).arg("PXAT").arg(until);
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(name: u16, byte: u8) -> Clocks {
        let mut full = [0; 8];
        full[..2].copy_from_slice(&name.to_be_bytes());
        Clocks { name: full, bytes: SmallVec::from_slice(&[byte]), expires: Timestamp::FAR }
    }

    #[test]
    fn the_latest_of_each_goes_and_groups_wait_for_the_last_of_theirs() {
        let mut standing = Standing::default();
        standing.add(Mark(1), (0..700).map(|name| clocks(name, 1)).collect());
        let first = standing.some();
        assert_eq!((first.all.len(), first.groups.len(), standing.all.len()), (BATCH, 0, 700 - BATCH));
        standing.add(Mark(2), (0..700).map(|name| clocks(name, 2)).collect());
        standing.again(first);
        assert!(standing.all.values().all(|clocks| clocks.bytes[..] == [2]), "what has moved on stays so");
        assert!(standing.some().groups.is_empty());
        let last = standing.some();
        assert_eq!((last.all.len(), &last.groups[..]), (700 - BATCH, &[Mark(1), Mark(2)][..]));
        assert!(standing.is_empty());
        standing.again(last);
        assert_eq!((standing.all.len(), standing.groups.len()), (700 - BATCH, 2));
        standing.add(Mark(3), Vec::new());
        assert_eq!(standing.groups.len(), 2, "which has none waits for none");
    }
}
