//! An app session as bytes.
//!
//! Invariant: [`AppSession::unpack`] reads in the order in which [`AppSession::pack`] writes.

use std::sync::Arc;

use super::{AppSession, Fence};
use crate::bridge::beat::{BeatState, Verdict};
use crate::bridge::lineage::Lineage;
use crate::bridge::packing::{Packer, Unpacker};
use crate::bridge::rules::AppIx;
use crate::bridge::vault::Vault;
use crate::time::Timestamp;

/// What is true of an app session, a bit each; those that often are stand in the first byte.
const ARMED: u16 = 1;
const POSTED: u16 = 1 << 1;
const ADOPTED: u16 = 1 << 2;
const CANARY: u16 = 1 << 3;
/// From here three bits: 0, or one more than the verdict's place in [`Verdict::ALL`].
const VERDICT: u16 = 4;
const LENT: u16 = 1 << 7;
const APART: u16 = 1 << 8;
const STOPPED: u16 = 1 << 9;
const IN_FLIGHT: u16 = 1 << 10;
const FENCED: u16 = 1 << 11;
const DELETES: u16 = 1 << 12;
const REVISED: u16 = 1 << 13;
const GROUPED: u16 = 1 << 14;

impl AppSession {
    /// Writes it. Since when it is busy matters only while it is.
    pub(in crate::bridge) fn pack(&self, out: &mut Packer<'_>) {
        let bits = self.bits();
        out.number(bits);
        out.number(self.app.0);
        out.number(self.upstream.map_or(0, |upstream| u32::from(upstream) + 1));
        let public = self.public.as_ref();
        let public = public.map_or(0, |public| out.common.publics.enter(public, || Arc::clone(public)));
        for number in [public, self.hits, self.generation, self.revision, self.beat.count] {
            out.number(number);
        }
        out.number(self.beat.failures);
        out.number(self.in_flight);
        out.time(self.created);
        self.vault.pack(out);
        out.count(self.lineages.len());
        self.lineages.iter().for_each(|lineage| lineage.pack(out));
        for time in [self.renewed, self.beat.proven, self.activity, self.last_request, self.beat.at] {
            out.time(time);
        }
        if self.in_flight > 0 {
            out.time(self.busy_since);
        }
        if bits & FENCED != 0 {
            out.time(self.fence.came);
            out.time(self.fence.started);
        }
        if bits & CANARY != 0 {
            out.word(self.beat.canary);
        }
        if bits & REVISED != 0 {
            out.time(self.revised());
        }
        if bits & GROUPED != 0 {
            out.number(self.group().0);
        }
    }

    fn bits(&self) -> u16 {
        let verdict = self.beat.verdict.map_or(0, |verdict| {
            1 + Verdict::ALL.iter().take_while(|other| **other != verdict).map(|_| 1).sum::<u16>()
        });
        [
            (self.beat.armed, ARMED),
            (self.posted, POSTED),
            (self.adopted, ADOPTED),
            (self.beat.canary != 0, CANARY),
            (self.lent, LENT),
            (self.apart, APART),
            (self.beat.stopped, STOPPED),
            (self.beat.in_flight, IN_FLIGHT),
            (self.fence != Fence::default(), FENCED),
            (self.fence.deletes, DELETES),
            (!self.revised().is_zero(), REVISED),
            (!self.revised().is_zero() && self.shared.group.is_some(), GROUPED),
        ]
        .into_iter()
        .filter(|(holds, _)| *holds)
        .fold(verdict << VERDICT, |bits, (_, bit)| bits | bit)
    }

    /// Writes its clocks, of all that a request or a heartbeat may move on where nothing else changes.
    pub(in crate::bridge) fn pack_clocks(&self, out: &mut Packer<'_>) {
        out.number(self.app.0);
        out.number(self.hits);
        for time in
            [self.created, self.renewed, self.beat.proven, self.activity, self.last_request, self.beat.at]
        {
            out.time(time);
        }
    }

    /// Reads what [`AppSession::pack_clocks`] wrote behind the app: an app session of which nothing else is known.
    pub(in crate::bridge) fn unpack_clocks(app: AppIx, from: &mut Unpacker<'_>) -> Self {
        let mut session = Self::new(app, Timestamp::ZERO);
        session.hits = from.narrow();
        session.created = from.time();
        session.renewed = from.time();
        session.beat.proven = from.time();
        session.activity = from.time();
        session.last_request = from.time();
        session.beat.at = from.time();
        session
    }

    /// Its clocks go forward to those of `read`, if that is the same app session.
    pub(in crate::bridge) fn take_clocks(&mut self, read: &Self) {
        if self.created != read.created {
            return;
        }
        self.hits = self.hits.max(read.hits);
        self.renewed = self.renewed.max(read.renewed);
        self.beat.proven = self.beat.proven.max(read.beat.proven);
        self.activity = self.activity.max(read.activity);
        self.last_request = self.last_request.max(read.last_request);
        self.beat.at = self.beat.at.max(read.beat.at);
    }

    /// Reads what [`AppSession::pack`] wrote.
    pub(in crate::bridge) fn unpack(from: &mut Unpacker<'_>) -> Self {
        let bits: u16 = from.narrow();
        let is = |bit| bits & bit != 0;
        let mut session = Self::new(AppIx(from.narrow()), Timestamp::ZERO);
        session.upstream = from.narrow::<u32>().checked_sub(1).and_then(|place| place.try_into().ok());
        let (public, leaves) = (from.narrow(), from.last_time);
        session.public = from.common.publics.thing(public, leaves);
        session.hits = from.narrow();
        session.generation = from.narrow();
        session.revision = from.narrow();
        session.beat = BeatState { count: from.narrow(), failures: from.narrow(), ..BeatState::default() };
        session.in_flight = from.narrow();
        session.created = from.time();
        session.vault = Vault::unpack(from);
        session.lineages = (0..from.count()).map(|_| Lineage::unpack(from)).collect();
        session.renewed = from.time();
        session.beat.proven = from.time();
        session.activity = from.time();
        session.last_request = from.time();
        session.beat.at = from.time();
        if session.in_flight > 0 {
            session.busy_since = from.time();
        }
        if is(FENCED) {
            session.fence = Fence { came: from.time(), started: from.time(), deletes: is(DELETES) };
        }
        if is(CANARY) {
            session.beat.canary = from.word();
        }
        let verdict = usize::from(bits >> VERDICT & 7);
        session.beat.verdict = verdict.checked_sub(1).and_then(|at| Verdict::ALL.get(at).copied());
        (session.beat.armed, session.posted, session.adopted) = (is(ARMED), is(POSTED), is(ADOPTED));
        (session.lent, session.apart) = (is(LENT), is(APART));
        (session.beat.stopped, session.beat.in_flight) = (is(STOPPED), is(IN_FLIGHT));
        if is(REVISED) {
            let revised = from.time();
            session.shared.group = is(GROUPED).then(|| AppIx(from.narrow()));
            session.revise(revised);
        }
        session
    }
}
