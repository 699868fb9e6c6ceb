//! What a session is besides itself where several proxies share the store: whose it is, what of it is there, and how another
//! proxy's copy is taken in.
//!
//! Invariants: an id that was replaced or is over stays so, one that was dropped never comes back; where the epoch is the same
//! the store's word on the owner counts; what has changed here and was not put is still to be put after a merge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smallvec::SmallVec;

use super::dials::Dials;
use super::front;
use super::slot::{Held, Kept};
use crate::bridge::id::Key;
use crate::bridge::packing::{Common, Packer, Unpacker};
use crate::bridge::session::{Merged, Phase, mix};
use crate::store::{Clocks, Head, Index};
use crate::time::Timestamp;

/// By so much a person's activity here may be later than the store knows.
const PUT_LATE: Duration = Duration::from_secs(5);
/// Ids that were dropped are remembered, so many at the most.
const MOST_GONE: usize = 64;

/// How many sessions there are, where everyone who changes one can count.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) bound: AtomicUsize,
    pub(super) waiting: AtomicUsize,
}

/// What a session is in a store that several proxies share.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    /// The writing that this copy is based on; 0: none.
    pub(super) tag: u64,
    /// Which proxy sends its heartbeats.
    pub(super) owner: u64,
    /// How often that has changed.
    pub(super) epoch: u32,
    /// True until the store has it among this owner's.
    pub(super) unlisted: bool,
    /// When the store may forget it, as last put.
    pub(super) expires: Timestamp,
    /// Hashes of ids and tokens that lead to it in the store.
    pub(super) entered: SmallVec<[u64; 4]>,
    /// Those of the write that is under way.
    pub(super) writing: SmallVec<[u64; 4]>,
    /// What it was stamped when it was written; and in the write that is under way.
    pub(super) stamp: (u64, u64),
    /// The person's last activity and the last sign of presence, as last put.
    pub(super) put: (Timestamp, Timestamp),
    /// Until when it was known to be what is in the store, while it sleeps.
    pub(super) known: Timestamp,
    pub(super) tally: Arc<Tally>,
}

impl Copied {
    /// Of a session that is made here.
    pub(super) fn new(owner: u64, tally: &Arc<Tally>) -> Self {
        Self {
            tag: 0,
            owner,
            epoch: 1,
            unlisted: false,
            expires: Timestamp::FAR,
            entered: SmallVec::new(),
            writing: SmallVec::new(),
            stamp: (0, 0),
            put: (Timestamp::ZERO, Timestamp::ZERO),
            known: Timestamp::ZERO,
            tally: Arc::clone(tally),
        }
    }

    /// The store may have lost what leads to it.
    pub(super) fn unlead(&mut self) {
        self.entered.clear();
        self.writing.clear();
    }

    /// The store has it no more.
    pub(super) fn lost(&mut self) {
        self.unlead();
        self.tag = 0;
        // Whoever looked meanwhile is to look again.
        self.stamp.0 = !self.stamp.1;
    }

    /// Writes what a sleeping session keeps of it.
    pub(super) fn pack(&self, out: &mut Packer<'_>) {
        out.word(self.tag);
        out.word(self.owner);
        out.number(self.epoch);
        for time in [self.known, self.put.0, self.put.1, self.expires] {
            out.time(time);
        }
    }

    /// Reads what [`Copied::pack`] wrote: one that sleeps is in the store with all that leads to it.
    pub(super) fn unpack(from: &mut Unpacker<'_>, tally: &Arc<Tally>) -> Self {
        let mut copied = Self::new(0, tally);
        (copied.tag, copied.owner, copied.epoch) = (from.word(), from.word(), from.narrow());
        copied.known = from.time();
        copied.put = (from.time(), from.time());
        copied.expires = from.time();
        copied
    }
}

impl Kept {
    /// What a sign-out or a sign-in on another proxy must know beyond the stamp of one that nobody shares.
    pub(super) fn shared_stamp(&self, copied: &Copied) -> u64 {
        let of = |held: &Held| u64::from(held.seen) | u64::from(held.over) << 1;
        let ids = self.ids.iter().map(of).fold(u64::from(copied.epoch), mix);
        // Whose heartbeats have been stopped, or begin anew: the owner is to hear of it.
        let stopped = self.session.apps().filter(|app| app.beat.stopped).map(|app| u64::from(app.app.0) + 1);
        let ids = stopped.fold(ids, mix);
        mix(mix(ids, self.gone.len() as u64), self.session.passed.stamp())
    }

    /// Remembers that these ids open it no more, where another copy may say that they do.
    pub(super) fn drops(&mut self, ids: impl IntoIterator<Item = u64>) {
        if self.copied.is_some() {
            self.gone.extend(ids);
            self.gone.sort_unstable();
            self.gone.dedup();
            self.gone.truncate(MOST_GONE);
        }
    }

    /// Hashes of all that leads to it.
    pub(super) fn leads(&self) -> impl Iterator<Item = (u64, Index)> {
        let ids = self.ids.iter().map(|held| (held.key.hash(), Index::Id(*held.key.as_bytes())));
        ids.chain(self.owned.iter().map(|hash| (*hash, Index::Token(*hash))))
    }

    /// All its clocks, to be put apart from the rest: from now on the others know them.
    pub(super) fn clocks_apart(&mut self) -> Clocks {
        let (mut bytes, mut nothing) = (Vec::with_capacity(64), Common::default());
        self.session.pack_clocks(&mut Packer::new(&mut bytes, &mut nothing));
        let (put, name) = (self.clocks(), self.session.handle.0.to_be_bytes());
        let copied = self.copied.as_mut();
        let expires = copied.map_or(Timestamp::FAR, |copied| {
            copied.put = put;
            copied.expires
        });
        Clocks { name, bytes: bytes.as_slice().into(), expires }
    }

    /// The clocks that other proxies must know.
    pub(super) const fn clocks(&self) -> (Timestamp, Timestamp) {
        (self.session.last_activity, self.session.presence)
    }

    /// True where its clocks have moved so far since it was last put that others would judge it wrongly.
    pub(super) fn has_gone_on(&self, dials: &Dials) -> bool {
        self.copied.as_ref().is_some_and(|copied| {
            let (activity, presence) = copied.put;
            self.session.last_activity.since(activity) > PUT_LATE
                || self.session.presence.since(presence) > dials.read().presence_ttl / 3
        })
    }

    /// It is put: what has changed of it is so from now on, for all.
    pub(super) fn is_put(&mut self, dials: &Dials) {
        let clocks = self.clocks();
        let Some(copied) = &mut self.copied else { return };
        let moment = self.session.moment();
        self.session.revise(moment);
        copied.put = clocks;
        if !self.session.has_ended() {
            copied.expires = self.session.hard_end(&dials.read());
        }
    }

    /// What the store is to be told of it, before what it is.
    pub(super) fn head(&mut self) -> Head {
        let Some(copied) = &self.copied else { return Head { front: front::write(self), ..Head::default() } };
        let stamp = self.stamped();
        let ended = self.session.has_ended();
        let new = self.leads().filter(|(hash, _)| !ended && !copied.entered.contains(hash));
        let new: SmallVec<[(u64, Index); 4]> = new.collect();
        let head = Head {
            front: Box::default(),
            tag: copied.tag,
            owner: copied.owner,
            epoch: copied.epoch,
            expires: copied.expires,
            index: new.iter().map(|(_, index)| *index).collect(),
            ended,
            quiet: copied.stamp.0 == stamp,
            list: copied.unlisted,
        };
        if let Some(copied) = &mut self.copied {
            copied.stamp.1 = stamp;
            copied.writing = new.into_iter().map(|(hash, _)| hash).collect();
        }
        head
    }

    /// What was last written is in the store as `tag`. False: nobody shares it.
    pub(super) fn written(&mut self, tag: u64) -> bool {
        let Some(copied) = self.copied.as_mut() else { return false };
        copied.tag = tag;
        copied.stamp.0 = copied.stamp.1;
        copied.unlisted = false;
        let new = std::mem::take(&mut copied.writing);
        copied.entered.extend(new);
        true
    }

    /// It is in the store as it is, with all that leads to it.
    pub(super) fn is_in_store(&mut self) {
        self.stamp = self.stamped();
        let all = self.leads().map(|(hash, _)| hash).collect();
        if let Some(copied) = &mut self.copied {
            (copied.entered, copied.stamp) = (all, (self.stamp, self.stamp));
        }
    }

    /// Takes in what another proxy's copy knows, with the head that it stands under in the store.
    pub(super) fn merge(&mut self, theirs: Self, head: &Head) -> Merged {
        let (clean, phase) = (self.stamp == self.stamped(), self.session.phase());
        let leads: SmallVec<[u64; 8]> = theirs.leads().map(|(hash, _)| hash).collect();
        self.session.revise(self.session.moment());
        let mut merged = self.session.merge(theirs.session);
        let before = self.stamped();
        let lacks = self.merge_ids(theirs.ids, theirs.gone);
        merged.ahead |= lacks && !self.session.has_ended();
        for hash in theirs.owned {
            if self.owned.len() < 2 * super::MOST_TOKENS && !self.owned.contains(&hash) {
                self.owned.push(hash);
            }
        }
        merged.learned |= self.stamped() != before;
        if let Some(copied) = &mut self.copied {
            copied.tag = head.tag;
            if head.epoch >= copied.epoch {
                (copied.owner, copied.epoch) = (head.owner, head.epoch);
            } else {
                merged.ahead = true;
            }
            let new = leads.into_iter().filter(|hash| !copied.entered.contains(hash)).collect::<Vec<_>>();
            copied.entered.extend(new);
            copied.tally.binds(phase, self.session.phase());
        }
        let stamp = self.stamped();
        self.stamp = if clean { stamp } else { !stamp };
        if let Some(copied) = &mut self.copied {
            // What the store has may be older than what it had, and others may have read that meanwhile: of this they are told.
            copied.stamp.0 = if merged.ahead { !stamp } else { stamp };
        }
        merged
    }

    /// True where theirs lack something.
    fn merge_ids(&mut self, theirs: SmallVec<[Held; 1]>, gone: Vec<u64>) -> bool {
        let known: SmallVec<[Key; 4]> = theirs.iter().map(|held| held.key).collect();
        let mut lacks = self.gone.iter().any(|hash| !gone.contains(hash));
        self.drops(gone);
        lacks |= self.ids.iter().any(|held| !known.contains(&held.key));
        for held in theirs {
            match self.ids.iter_mut().find(|own| own.key == held.key) {
                Some(own) => lacks |= own.merge(&held),
                None => self.ids.push(held),
            }
        }
        let gone = &self.gone;
        self.ids.retain(|held| gone.binary_search(&held.key.hash()).is_err());
        let seen: SmallVec<[Key; 4]> =
            self.ids.iter().filter(|held| held.seen).map(|held| held.key).collect();
        seen.into_iter().for_each(|key| super::replaces(&mut self.ids, key));
        lacks
    }
}

impl Tally {
    fn binds(&self, before: Phase, after: Phase) {
        if before == Phase::Pending && after == Phase::Bound {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.bound.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One that was in this phase is here no more.
    pub(super) fn leaves(&self, was: Phase) {
        if let Some(count) = self.counts(was) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts one by where it is in its life.
    pub(super) fn counts(&self, phase: Phase) -> Option<&AtomicUsize> {
        match phase {
            Phase::Pending => Some(&self.waiting),
            Phase::Bound => Some(&self.bound),
            Phase::Ended(_) => None,
        }
    }
}
