//! A session that sleeps, with the ids that open it, as bytes.
//!
//! Invariant: it holds tokens, and is erased when dropped.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::copied::{Copied, Tally};
use super::slot::{Held, Kept, Visitor};
use crate::bridge::id::{Handle, Key};
use crate::bridge::packing::{Common, Packer, Unpacker};
use crate::bridge::session::{Phase, Session};
use crate::secret::erase;

/// A session that sleeps.
pub(super) struct Packed(Box<[u8]>);

impl Drop for Packed {
    fn drop(&mut self) {
        erase(&mut self.0);
    }
}

impl Packed {
    /// Packs `kept` on `bench`, which is left empty.
    pub(super) fn new(kept: &Kept, bench: &mut Vec<u8>, common: &mut Common) -> Self {
        bench.clear();
        let out = &mut Packer::new(bench, common).dense();
        kept.pack(out);
        if let Some(copied) = &kept.copied {
            copied.pack(out);
        }
        let packed = Self(bench.as_slice().into());
        erase(bench);
        bench.clear();
        packed
    }

    /// Unpacks it for good.
    pub(super) fn wake(&self, common: &mut Common, tally: &Arc<Tally>) -> Kept {
        let from = &mut Unpacker::last(&self.0, common).dense();
        let mut kept = Kept::unpack(from);
        if kept.session.is_revised() {
            kept.copied = Some(Box::new(Copied::unpack(from, tally)));
            kept.is_in_store();
        }
        kept
    }

    /// Its session, for one look.
    pub(super) fn look(&self, common: &mut Common) -> Session {
        Session::unpack(&mut Unpacker::look(&self.0, common).dense())
    }

    /// Where it is in its life, and its name.
    pub(super) fn glance(&self, common: &mut Common) -> (Phase, Handle) {
        Session::glance(&mut Unpacker::look(&self.0, common))
    }
}

impl Kept {
    /// Writes it; who is on the way is left out.
    pub(super) fn pack(&self, out: &mut Packer<'_>) {
        self.session.pack(out);
        out.near(self.session.created);
        out.count(self.ids.len());
        self.ids.iter().for_each(|held| pack(held, out));
        out.count(self.owned.len());
        self.owned.iter().for_each(|hash| out.word(*hash));
        if self.session.is_revised() {
            out.count(self.gone.len());
            self.gone.iter().for_each(|hash| out.word(*hash));
        }
    }

    /// Reads what [`Kept::pack`] wrote.
    pub(super) fn unpack(from: &mut Unpacker<'_>) -> Self {
        let session = Session::unpack(from);
        from.near(session.created);
        let ids = (0..from.count()).map(|_| unpack(from)).collect();
        let owned = (0..from.count()).map(|_| from.word()).collect();
        let gone =
            if session.is_revised() { (0..from.count()).map(|_| from.word()).collect() } else { Vec::new() };
        let flights = smallvec::SmallVec::new();
        let mut kept = Self { session, ids, owned, flights, stamp: 0, gone, copied: None };
        kept.stamp = kept.stamped();
        kept
    }
}

const SEEN: u8 = 1;
const OVER: u8 = 1 << 1;
const REPLACED: u8 = 1 << 2;
const INSTEAD: u8 = 1 << 3;
const ONLY: u8 = 1 << 4;

fn pack(held: &Held, out: &mut Packer<'_>) {
    let bits = [
        (held.seen, SEEN),
        (held.over, OVER),
        (held.replaced.is_some(), REPLACED),
        (held.instead_of.is_some(), INSTEAD),
        (held.only.is_some(), ONLY),
    ];
    out.byte(bits.into_iter().filter(|(holds, _)| *holds).map(|(_, bit)| bit).sum());
    out.byte(held.line);
    out.raw(held.key.as_bytes());
    if let Some((since, by)) = held.replaced {
        out.time(since);
        visitor(by, out);
    }
    if let Some(key) = held.instead_of {
        out.raw(key.as_bytes());
    }
    if let Some(only) = held.only {
        visitor(only, out);
    }
}

fn unpack(from: &mut Unpacker<'_>) -> Held {
    let bits = from.byte();
    let line = from.byte();
    let key = Key::from_bytes(from.array());
    Held {
        key,
        line,
        seen: bits & SEEN != 0,
        over: bits & OVER != 0,
        replaced: (bits & REPLACED != 0).then(|| (from.time(), read_visitor(from))),
        instead_of: (bits & INSTEAD != 0).then(|| Key::from_bytes(from.array())),
        only: (bits & ONLY != 0).then(|| read_visitor(from)),
    }
}

fn visitor(visitor: Visitor, out: &mut Packer<'_>) {
    out.address(Some(visitor.address));
    out.word(visitor.agent);
}

fn read_visitor(from: &mut Unpacker<'_>) -> Visitor {
    let address = from.address().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Visitor { address, agent: from.word() }
}
