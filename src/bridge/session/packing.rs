//! A bridge session as bytes.
//!
//! Invariant: [`Session::unpack`] reads in the order in which [`Session::pack`] writes.

use std::sync::Arc;

use super::{End, Phase, Session};
use crate::bridge::activity::Cadence;
use crate::bridge::app_session::AppSession;
use crate::bridge::id::Handle;
use crate::bridge::packing::{Packer, Unpacker};
use crate::bridge::passed::Passed;
use crate::bridge::release::Handing;
use crate::bridge::timeline::Timeline;

impl Session {
    /// Writes it.
    pub fn pack(&self, out: &mut Packer<'_>) {
        out.byte(self.phase.code());
        out.word(self.handle.0);
        out.time(self.created);
        out.time(self.last_activity);
        self.cadence.pack(out);
        out.time(self.presence);
        out.time(self.watched);
        out.number(self.hits);
        out.number(self.streams);
        let traits = self.traits.as_ref();
        let traits = traits.map_or(0, |traits| out.common.traits.enter(traits, || Arc::clone(traits)));
        out.number(traits);
        out.address(self.address);
        out.near(self.created);
        self.timeline.pack(out);
        self.passed.pack(out);
        out.count(self.apps.len());
        for app in &self.apps {
            out.near(self.created);
            app.pack(out);
        }
    }

    /// Reads what [`Session::pack`] wrote.
    #[must_use]
    pub fn unpack(from: &mut Unpacker<'_>) -> Self {
        let (phase, handle) = Self::glance(from);
        let created = from.time();
        let last_activity = from.time();
        let cadence = Cadence::unpack(from);
        let (presence, watched) = (from.time(), from.time());
        let (hits, streams) = (from.narrow(), from.narrow());
        let (traits, leaves) = (from.narrow(), from.last_time);
        let traits = from.common.traits.thing(traits, leaves);
        let address = from.address();
        from.near(created);
        let (timeline, passed) = (Timeline::unpack(from), Passed::unpack(from));
        let apps = (0..from.count()).map(|_| {
            from.near(created);
            AppSession::unpack(from)
        });
        let apps = apps.collect();
        Self {
            handle,
            created,
            last_activity,
            hits,
            streams,
            presence,
            traits,
            address,
            cadence,
            watched,
            timeline,
            passed,
            handing: Handing::default(),
            phase,
            apps,
        }
    }

    /// Reads of what [`Session::pack`] wrote only where it is in its life, and its name.
    #[must_use]
    pub fn glance(from: &mut Unpacker<'_>) -> (Phase, Handle) {
        (Phase::of(from.byte()), Handle(from.word()))
    }
}

impl Phase {
    fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Bound => 1,
            Self::Ended(end) => 2 + End::ALL.iter().take_while(|other| **other != end).map(|_| 1).sum::<u8>(),
        }
    }

    fn of(code: u8) -> Self {
        match code {
            0 => Self::Pending,
            1 => Self::Bound,
            _ => Self::Ended(End::ALL.get(usize::from(code) - 2).copied().unwrap_or(End::Evicted)),
        }
    }
}
