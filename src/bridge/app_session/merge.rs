//! An app session as several proxies have it: whose word counts.
//!
//! Every change that is put into the shared store gets a time, later than all that was known before. The later one of two
//! states counts, whole: a token, what it descends from and what is known of the app session that it opens. Only what merely
//! grows (when the person was last here, how often) is taken from both, and only of one and the same app session: where another
//! one lay between them it may be lost. No token hangs on that, and the session's own clocks never are.
//!
//! Invariants: merging is commutative, associative and idempotent but for an app's clocks; what this process has under way (requests, entries of its
//! scheduler) stays its own; a vault that came from elsewhere is a change that no answer from before it overlooks.

use std::cmp::Ordering;

use super::{AppSession, Sent};
use crate::bridge::beat::BeatState;
use crate::bridge::rules::AppIx;
use crate::bridge::vault::{Cookie, Vault};
use crate::time::Timestamp;

/// What an app session is among several proxies; nothing where there is only one.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    /// Nobody else was told of it where there is none.
    revision: Option<Box<Revision>>,
    /// The app that stands for those that share its tokens: they count as one.
    pub(super) group: Option<AppIx>,
    /// How often another proxy's vault has taken the place of the one that was here. Of this process only.
    pub(super) swaps: u16,
}

#[derive(Clone, Copy, Debug)]
struct Revision {
    /// Since when it is as it is.
    since: Timestamp,
    /// What it was stamped then.
    stamp: u64,
}

impl Shared {
    /// Since when it is as it is; zero: nobody else was told of it.
    pub(super) fn revised(&self) -> Timestamp {
        self.revision.as_ref().map_or(Timestamp::ZERO, |revision| revision.since)
    }
}

impl AppSession {
    /// Those that share its tokens, itself at the least: what one of them has changed is a change of all.
    pub(in crate::bridge) fn group(&self) -> AppIx {
        self.shared.group.unwrap_or(self.app)
    }

    pub(in crate::bridge) const fn set_group(&mut self, group: AppIx) {
        self.shared.group = Some(group);
    }

    /// Since when it is as it was last revised; zero: it never was.
    pub(in crate::bridge) fn revised(&self) -> Timestamp {
        self.shared.revised()
    }

    /// True where something has changed since then.
    pub(in crate::bridge) fn wants_revision(&self) -> bool {
        self.shared.revision.as_ref().is_none_or(|revision| revision.stamp != self.stamp())
    }

    /// As it is now it is since `time`.
    pub(in crate::bridge) fn revise(&mut self, time: Timestamp) {
        let revision = Revision { since: time, stamp: self.stamp() };
        match &mut self.shared.revision {
            Some(held) => **held = revision,
            none => *none = Some(Box::new(revision)),
        }
    }

    /// Nobody else knows it: it comes from another session.
    pub(in crate::bridge) fn forget_revision(&mut self) {
        self.shared.revision = None;
    }

    /// It comes from another proxy: what that one has under way is not under way here.
    pub(in crate::bridge) const fn arrived(&mut self) {
        self.recovered();
        self.shared.swaps = 1;
    }

    /// The last moment at which anything is known to have happened to it.
    pub(in crate::bridge) fn moment(&self) -> Timestamp {
        self.created.max(self.activity).max(self.last_request).max(self.renewed).max(self.beat.proven)
    }

    /// True for the answer to a request that was sent before another proxy's vault came.
    pub(super) const fn is_foreign(&self, sent: Sent) -> bool {
        self.shared.swaps != 0 && sent.revision >> 32 != self.shared.swaps as u64
    }

    /// Takes in what `theirs`, of the same app, knows beyond this: less than it where theirs counts, more where this one does,
    /// also where both have changed within the same microsecond.
    pub(in crate::bridge) fn merge(&mut self, mut theirs: Self) -> Ordering {
        let order = self.order(&theirs);
        if order == Ordering::Equal {
            self.join_rest(&theirs);
        }
        if self.created == theirs.created {
            self.join_clocks(&mut theirs);
        }
        if order == Ordering::Less {
            self.become_other(theirs);
        }
        order
    }

    /// Which of two states counts. Two changes of one moment are told apart by what they made.
    fn order(&self, theirs: &Self) -> Ordering {
        let of = |app: &Self| (app.revised(), app.stamp(), app.shared.group);
        of(self).cmp(&of(theirs)).then_with(|| values(&self.vault, &theirs.vault))
    }

    fn join_clocks(&mut self, theirs: &mut Self) {
        self.hits = self.hits.max(theirs.hits);
        self.activity = self.activity.max(theirs.activity);
        self.last_request = self.last_request.max(theirs.last_request);
        (theirs.hits, theirs.activity, theirs.last_request) = (self.hits, self.activity, self.last_request);
    }

    fn become_other(&mut self, theirs: Self) {
        let swapped = self.vault != theirs.vault || self.generation != theirs.generation;
        let swaps = self.shared.swaps.wrapping_add(u16::from(swapped));
        let (in_flight, busy_since, beat) = (self.in_flight, self.busy_since, self.beat);
        // The answer to a heartbeat of another app session is none for this one.
        let beats = beat.in_flight && self.created == theirs.created;
        *self = theirs;
        (self.in_flight, self.busy_since, self.shared.swaps) = (in_flight, busy_since, swaps);
        (self.beat.armed, self.beat.in_flight) = (beat.armed, beats);
    }

    /// The same state, of which each proxy has seen something of its own.
    fn join_rest(&mut self, theirs: &Self) {
        self.renewed = self.renewed.max(theirs.renewed);
        let place = |app: &Self| (app.last_request, app.upstream);
        if place(self).cmp(&place(theirs)).then_with(|| self.public.cmp(&theirs.public)).is_lt() {
            (self.upstream, self.public) = (theirs.upstream, theirs.public.clone());
        }
        if rank(&self.beat) < rank(&theirs.beat) {
            let BeatState { armed, in_flight, .. } = self.beat;
            self.beat = BeatState { armed, in_flight, ..theirs.beat };
        }
        self.fence = self.fence.max(theirs.fence);
        if self.lineages < theirs.lineages {
            self.lineages.clone_from(&theirs.lineages);
        }
        // The same values; an attribute that is another one is no change.
        if self.vault < theirs.vault {
            self.vault.clone_from(&theirs.vault);
        }
    }
}

/// What of two vaults decides between them: names and values, not their age.
fn values(ours: &Vault, theirs: &Vault) -> Ordering {
    ours.iter().map(facts).cmp(theirs.iter().map(facts))
}

const fn facts(cookie: Cookie<'_>) -> (&[u8], &[u8], &[u8], &[u8]) {
    (cookie.name, cookie.value, cookie.path, cookie.host)
}

/// What was last heard of the heartbeats counts: the last one sent, or the person's answer that proved something.
fn rank(beat: &BeatState) -> impl Ord + use<> {
    let says = (beat.verdict, beat.stopped, beat.failures, beat.canary);
    (beat.at.max(beat.proven), beat.count, says, beat.at, beat.proven)
}
