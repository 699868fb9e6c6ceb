//! What this proxy wrote lately, so that it can be written again where the store has lost it.
//!
//! Invariant: bounded, by time and in number; of what is forgotten here the sessions themselves are still in memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::time::Timestamp;

/// How long a write is remembered: no replica lags as long.
pub(super) const SPAN: Duration = Duration::from_secs(60);
/// Writes that are remembered at the most.
const MOST: usize = 1 << 20;
/// The same of ends.
const MOST_ENDS: usize = 1 << 18;

/// Writes and ends, latest last.
#[derive(Debug, Default)]
pub(super) struct Ring {
    writes: VecDeque<(Instant, [u8; 8])>,
    ends: HashMap<[u8; 8], End, foldhash::fast::RandomState>,
    order: VecDeque<(Instant, [u8; 8])>,
}

/// A tombstone that was written, or heard of.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) tag: u64,
    pub(super) owner: u64,
    pub(super) expires: Timestamp,
    at: Instant,
    /// Whoever ended it here has been told how.
    told: bool,
}

impl Ring {
    /// A session was written.
    pub(super) fn wrote(&mut self, name: [u8; 8], now: Instant) {
        let old = |(at, _): &(Instant, _)| now.duration_since(*at) > SPAN;
        while self.writes.front().is_some_and(old) || self.writes.len() >= MOST {
            self.writes.pop_front();
        }
        self.writes.push_back((now, name));
    }

    /// A session has ended; `told`: somebody here is told so now. True where nobody was before.
    pub(super) fn ended(
        &mut self,
        name: [u8; 8],
        (tag, owner, expires): (u64, u64, Timestamp),
        told: bool,
    ) -> bool {
        let now = Instant::now();
        let was = self.ends.get(&name).is_some_and(|end| end.told);
        let end = End { tag, owner, expires, at: now, told: told || was };
        if self.ends.insert(name, end).is_none() {
            self.order.push_back((now, name));
        }
        while self.order.len() > MOST_ENDS {
            self.forget_oldest();
        }
        !was
    }

    /// Forgets ends that the store forgets too.
    pub(super) fn prune(&mut self, now: Timestamp) {
        while let Some((_, name)) = self.order.front()
            && self.ends.get(name).is_none_or(|end| end.expires < now)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, name)) = self.order.pop_front() {
            self.ends.remove(&name);
        }
    }

    /// The ends of the last `span`, or all.
    pub(super) fn ends(&self, span: Option<Duration>) -> Vec<([u8; 8], End)> {
        let now = Instant::now();
        let young = |end: &End| span.is_none_or(|span| now.duration_since(end.at) <= span);
        self.ends.iter().filter(|(_, end)| young(end)).map(|(name, end)| (*name, *end)).collect()
    }

    /// What was written within [`SPAN`] and has not ended, each once.
    pub(super) fn writes(&self) -> Vec<[u8; 8]> {
        let now = Instant::now();
        let mut seen = HashSet::with_hasher(foldhash::fast::RandomState::default());
        let young = self.writes.iter().filter(|(at, _)| now.duration_since(*at) <= SPAN);
        young
            .map(|(_, name)| *name)
            .filter(|name| !self.ends.contains_key(name) && seen.insert(*name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_are_remembered_for_a_minute_each_once_and_not_when_they_ended() {
        let mut ring = Ring::default();
        ring.wrote([1; 8], Instant::now());
        tokio::time::advance(SPAN / 2).await;
        for name in [2, 2, 3] {
            ring.wrote([name; 8], Instant::now());
        }
        assert_eq!(ring.writes(), [[1; 8], [2; 8], [3; 8]]);
        assert!(ring.ended([3; 8], (1, 1, Timestamp::from_secs(9)), false), "nobody was told yet");
        assert!(ring.ended([3; 8], (1, 1, Timestamp::from_secs(9)), true));
        assert!(!ring.ended([3; 8], (1, 1, Timestamp::from_secs(9)), true), "told once");
        tokio::time::advance(SPAN / 2 + Duration::from_secs(1)).await;
        assert_eq!(ring.writes(), [[2; 8]]);
        assert_eq!((ring.ends(Some(Duration::from_secs(1))).len(), ring.ends(None).len()), (0, 1));
        ring.prune(Timestamp::from_secs(10));
        assert!(ring.ends(None).is_empty());
    }
}
