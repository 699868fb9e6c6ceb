//! A bridge session as bytes.
//!
//! Invariant: [`Session::unpack`] reads in the order in which [`Session::pack`] writes.

use std::sync::Arc;

use super::{End, Phase, Session, Shared};
use crate::bridge::activity::Cadence;
use crate::bridge::app_session::AppSession;
use crate::bridge::id::Handle;
use crate::bridge::packing::{Packer, Unpacker};
use crate::bridge::passed::Passed;
use crate::bridge::release::Handing;
use crate::bridge::timeline::Timeline;

/// Set beside the phase where it is kept in a store that several proxies share.
const SHARED: u8 = 1 << 7;

impl Session {
    /// Writes it.
    pub fn pack(&self, out: &mut Packer<'_>) {
        let shared = self.shared.as_ref();
        out.byte(self.phase.code() | shared.map_or(0, |_| SHARED));
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
        if let Some(shared) = shared {
            out.near(self.created);
            shared.pack(out);
        }
    }

    /// Reads what [`Session::pack`] wrote.
    #[must_use]
    pub fn unpack(from: &mut Unpacker<'_>) -> Self {
        let (code, handle) = (from.byte(), Handle(from.word()));
        let phase = Phase::of(code);
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
        let mut session = Self {
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
            shared: None,
        };
        if code & SHARED != 0 {
            from.near(created);
            session.shared = Some(Box::new(Shared::unpack(from, session.rest())));
        }
        session
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
        match code & !SHARED {
            0 => Self::Pending,
            1 => Self::Bound,
            code => Self::Ended(End::ALL.get(usize::from(code) - 2).copied().unwrap_or(End::Evicted)),
        }
    }
}
