//! A bridge session as several proxies have it, and how their copies become one again.
//!
//! Each proxy works on a copy of its own; writes to the store may be lost, repeated and reordered. Whatever comes, in whatever
//! order: all copies that have taken in the same changes are the same. What only grows is joined (clocks, events, the way from
//! pending to ended). All else is of parts, an app session and those that share its tokens, or what is known of the browser;
//! of each part the later state counts, whole. An app that was signed out of alone leaves behind since when it is gone.
//!
//! Invariants: merging is commutative, associative and idempotent (an app's own clocks aside: `app_session/merge.rs`); an ended one
//! stays ended; no clock of the session goes back; what has
//! changed here and was not revised yet must be revised before a merge, and is later than all that was known then.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::time::Duration;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::{Phase, Session};
use crate::bridge::app_session::AppSession;
use crate::bridge::packing::{Packer, Unpacker};
use crate::bridge::rules::AppIx;
use crate::time::Timestamp;

/// What a session is among several proxies, once another one was told of it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Since when what is known of the browser is as it is.
    revised: Timestamp,
    /// What that was then.
    rest: u64,
    /// Apps whose sessions were taken out, each for those that share its tokens, and when; zero: since the last revision.
    gone: Vec<(AppIx, Timestamp)>,
}

/// What a merge has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Theirs had something that was later than what was here.
    pub learned: bool,
    /// Theirs lacks something that is here, clocks aside.
    pub ahead: bool,
}

impl Shared {
    /// An app session was taken out, which others may know.
    pub(super) fn leaves(&mut self, app: &AppSession) {
        let group = app.group();
        if !app.revised().is_zero() && !self.gone.iter().any(|(of, _)| *of == group) {
            self.gone.push((group, Timestamp::ZERO));
        }
    }

    pub(super) fn pack(&self, out: &mut Packer<'_>) {
        out.time(self.revised);
        out.count(self.gone.len());
        for (group, since) in &self.gone {
            out.number(group.0);
            out.time(*since);
        }
    }

    /// Reads what [`Shared::pack`] wrote; `rest` is what is known of the browser.
    pub(super) fn unpack(from: &mut Unpacker<'_>, rest: u64) -> Self {
        let revised = from.time();
        let gone = (0..from.count()).map(|_| (AppIx(from.narrow()), from.time())).collect();
        Self { revised, rest, gone }
    }
}

impl Session {
    /// True where it is kept in a store that several proxies share.
    #[must_use]
    pub const fn is_revised(&self) -> bool {
        self.shared.is_some()
    }

    /// The last moment at which anything is known to have happened to it.
    #[must_use]
    pub fn moment(&self) -> Timestamp {
        let apps = self.apps.iter().map(AppSession::moment).max().unwrap_or_default();
        self.created.max(self.last_activity).max(self.presence).max(self.timeline.last()).max(apps)
    }

    /// What has changed since it was last revised is so since `now`, or since just after the last that was known.
    pub fn revise(&mut self, now: Timestamp) {
        let time = now.max(self.latest().plus(Duration::from_micros(1)));
        if self.has_ended() {
            return self.shared().revised = self.shared().revised.max(Timestamp::from_micros(1));
        }
        for group in self.groups(self) {
            let left = self.gone(group) == Some(Timestamp::ZERO);
            if left || self.members(group).any(AppSession::wants_revision) {
                self.revise_group(group, time);
            }
        }
        let rest = self.rest();
        let shared = self.shared();
        if shared.revised.is_zero() || rest != shared.rest {
            (shared.revised, shared.rest) = (time, rest);
        }
    }

    fn revise_group(&mut self, group: AppIx, time: Timestamp) {
        self.shared().gone.retain(|(of, _)| *of != group);
        let mut is_there = false;
        for app in self.apps.iter_mut().filter(|app| app.group() == group) {
            app.revise(time);
            is_there = true;
        }
        if !is_there {
            self.shared().gone.push((group, time));
        }
    }

    /// It comes from another proxy: what that one has under way is not under way here.
    pub fn arrived(&mut self) {
        self.streams = 0;
        self.watched = Timestamp::FAR;
        self.apps.iter_mut().for_each(AppSession::arrived);
    }

    /// Takes in what another proxy's copy knows. What has changed here must have been revised.
    pub fn merge(&mut self, mut theirs: Self) -> Merged {
        theirs.arrived();
        let mut merged = Merged::default();
        self.created = self.created.min(theirs.created);
        self.last_activity = self.last_activity.max(theirs.last_activity);
        self.presence = self.presence.max(theirs.presence);
        self.hits = self.hits.max(theirs.hits);
        self.cadence.merge(theirs.cadence);
        self.timeline.merge(&theirs.timeline);
        self.merge_rest(&mut theirs, &mut merged);
        for group in self.groups(&theirs) {
            self.merge_group(group, &mut theirs, &mut merged);
        }
        self.merge_phase(theirs.phase, &mut merged);
        merged
    }

    /// What is known of the browser: as the later one says.
    fn merge_rest(&mut self, theirs: &mut Self, merged: &mut Merged) {
        let rank = |session: &Self| {
            session.shared.as_ref().map(|shared| (shared.revised, shared.rest)).unwrap_or_default()
        };
        let later = rank(self) < rank(theirs);
        merged.ahead |= rank(self) > rank(theirs);
        merged.learned |= later;
        if later {
            (self.traits, self.address) = (theirs.traits.take(), theirs.address);
            let shared = self.shared();
            (shared.revised, shared.rest) = rank(theirs);
        }
        self.passed.merge(std::mem::take(&mut theirs.passed), later);
    }

    fn merge_group(&mut self, group: AppIx, theirs: &mut Self, merged: &mut Merged) {
        let (ours, other) = (self.since(group), theirs.since(group));
        merged.ahead |= ours > other;
        if other > ours {
            // Whoever is not among them was taken out there, or had not come yet here.
            let stay = |app: &AppSession| app.group() != group || theirs.app(app.app).is_some();
            self.apps.retain(stay);
            let gone = &mut self.shared().gone;
            gone.retain(|(of, _)| *of != group);
            gone.extend(theirs.gone(group).map(|since| (group, since)));
            merged.learned = true;
        }
        let known = std::mem::take(&mut theirs.apps);
        for app in known {
            if app.group() != group {
                theirs.apps.push(app);
            } else if let Some(own) = self.app_mut(app.app) {
                let order = own.merge(app);
                merged.learned |= order.is_lt();
                merged.ahead |= order.is_gt();
            } else if other >= ours && self.gone(group).is_none() {
                self.apps.reserve_exact(1);
                self.apps.push(app);
                merged.learned = true;
            }
        }
    }

    /// Of two ends it is the one that stands first in the list of them that is told.
    fn merge_phase(&mut self, theirs: Phase, merged: &mut Merged) {
        let rank = |phase| match phase {
            Phase::Pending => 0,
            Phase::Bound => 1,
            Phase::Ended(end) => {
                u8::MAX - super::End::ALL.iter().take_while(|other| **other != end).map(|_| 1).sum::<u8>()
            }
        };
        let further = rank(self.phase) > rank(theirs);
        merged.ahead |= further;
        let changed = rank(theirs) > rank(self.phase);
        merged.learned |= changed;
        if changed {
            self.phase = theirs;
        }
        if self.has_ended() {
            *merged = Merged { learned: changed, ahead: further };
            self.apps.clear();
            self.traits = None;
            self.passed = super::Passed::default();
            self.shared().gone.clear();
        }
    }

    /// Since when the apps of `group` are as they are, or are gone.
    fn since(&self, group: AppIx) -> Timestamp {
        let apps = self.members(group).map(AppSession::revised).max();
        apps.max(self.gone(group)).unwrap_or_default()
    }

    fn shared(&mut self) -> &mut Shared {
        self.shared.get_or_insert_default()
    }

    /// Apps that were taken out, each for its group.
    fn all_gone(&self) -> &[(AppIx, Timestamp)] {
        self.shared.as_ref().map(|shared| &shared.gone[..]).unwrap_or_default()
    }

    fn gone(&self, group: AppIx) -> Option<Timestamp> {
        self.all_gone().iter().find(|(of, _)| *of == group).map(|(_, since)| *since)
    }

    fn members(&self, group: AppIx) -> impl Iterator<Item = &AppSession> {
        self.apps.iter().filter(move |app| app.group() == group)
    }

    /// Those that count as one, of both.
    fn groups(&self, other: &Self) -> SmallVec<[AppIx; 8]> {
        let of = |session: &'_ Self| -> SmallVec<[AppIx; 8]> {
            let gone = session.all_gone().iter().map(|(group, _)| *group);
            session.apps.iter().map(AppSession::group).chain(gone).collect()
        };
        let mut groups = of(self);
        groups.extend(of(other));
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The latest revision of any part.
    fn latest(&self) -> Timestamp {
        let apps = self.apps.iter().map(AppSession::revised);
        let gone = self.all_gone().iter().map(|(_, since)| *since);
        let rest = self.shared.as_ref().map(|shared| shared.revised);
        apps.chain(gone).chain(rest).max().unwrap_or_default()
    }

    /// What is known of the browser, as a number.
    pub(super) fn rest(&self) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        (&self.traits, self.address).hash(&mut hasher);
        self.passed.hash_rest(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests;
