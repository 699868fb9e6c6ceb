//! A packed session that stands alone: what it has in common with others is written before it.
//!
//! Invariant: things are read in the order of their numbers, so that they get the same ones again.

use std::sync::Arc;

use http::HeaderValue;

use super::{Common, Packer, Unpacker};
use crate::bridge::app_session::Public;
use crate::bridge::traits::ClientTraits;
use crate::secret::erase;

/// How this version writes sessions. Every change to what any of them writes makes it one more.
///
/// Of what the one before wrote, nothing is different but what it could not write: sessions that several proxies share.
pub const VERSION: u8 = 2;
/// The first version that this one reads.
const FIRST: u8 = 1;

/// A record that this version cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session was written in a way that this version does not know")]
pub struct Unknown;

/// Writes behind `out` what `pack` packs, and before it what that has in common with others.
pub fn write(out: &mut Vec<u8>, pack: impl FnOnce(&mut Packer<'_>)) {
    let (mut packed, mut common) = (Vec::with_capacity(512), Common::default());
    pack(&mut Packer::new(&mut packed, &mut common));
    out.push(VERSION);
    common.write(out);
    out.extend_from_slice(&packed);
    erase(&mut packed);
}

/// Has `unpack` read what [`write()`] wrote.
///
/// # Errors
/// Where another version wrote it.
pub fn read<T>(record: &[u8], unpack: impl FnOnce(&mut Unpacker<'_>) -> T) -> Result<T, Unknown> {
    let (version, rest) = record.split_first().ok_or(Unknown)?;
    if !(FIRST..=VERSION).contains(version) {
        return Err(Unknown);
    }
    let (mut common, mut nothing) = (Common::default(), Common::default());
    let mut from = Unpacker::look(rest, &mut nothing);
    common.read(&mut from);
    let rest = from.bytes;
    Ok(unpack(&mut Unpacker::look(rest, &mut common)))
}

impl Common {
    fn write(&self, out: &mut Vec<u8>) {
        let mut nothing = Self::default();
        let out = &mut Packer::new(out, &mut nothing);
        out.count(self.traits.all().count());
        for traits in self.traits.all() {
            for value in traits.values() {
                out.byte(u8::from(value.is_some()));
                out.run(value.map_or(b"", HeaderValue::as_bytes));
            }
        }
        out.count(self.publics.all().count());
        for public in self.publics.all() {
            out.byte(u8::from(public.https));
            out.run(public.authority.as_bytes());
        }
        out.count(self.forms.all().count());
        self.forms.all().for_each(|form| out.run(form));
    }

    fn read(&mut self, from: &mut Unpacker<'_>) {
        for _ in 0..from.count() {
            let mut value = || {
                let is = from.byte() != 0;
                let run = from.run();
                is.then(|| HeaderValue::from_bytes(run).ok()).flatten()
            };
            let traits = ClientTraits {
                user_agent: value(),
                accept: value(),
                accept_language: value(),
                accept_encoding: value(),
            };
            self.traits.push(Arc::new(traits));
        }
        for _ in 0..from.count() {
            let https = from.byte() != 0;
            let authority = String::from_utf8_lossy(from.run()).into();
            self.publics.push(Arc::new(Public { authority, https }));
        }
        for _ in 0..from.count() {
            self.forms.push(from.run().into());
        }
    }
}
