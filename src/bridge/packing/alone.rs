//! A packed session that stands alone: what it has in common with others is written before it.
//!
//! Invariant: things are read in the order of their numbers, so that they get the same ones again.

use std::collections::HashMap;
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

/// True where this version reads what the one with this number wrote.
#[must_use]
pub const fn is_known(version: u8) -> bool {
    FIRST <= version && version <= VERSION
}

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
    let mut common = Common::default();
    let (head, rest) = halves(record)?;
    common.read(head);
    Ok(unpack(&mut Unpacker::look(rest, &mut common)))
}

/// Reads many records. What they have in common is the same for most of them, and made once.
#[derive(Debug, Default)]
pub struct Reader {
    /// By how it is written.
    known: HashMap<Box<[u8]>, Common, foldhash::fast::RandomState>,
}

/// Kinds of beginnings that a [`Reader`] keeps: with about a kilobyte each, more would cost more than they spare.
const MOST_KNOWN: usize = 1 << 13;

impl Reader {
    /// As [`read()`].
    ///
    /// # Errors
    /// As [`read()`].
    pub fn read<T>(
        &mut self,
        record: &[u8],
        unpack: impl FnOnce(&mut Unpacker<'_>) -> T,
    ) -> Result<T, Unknown> {
        let (head, rest) = halves(record)?;
        if let Some(common) = self.known.get_mut(head) {
            return Ok(unpack(&mut Unpacker::look(rest, common)));
        }
        let mut common = Common::default();
        common.read(head);
        let unpacked = unpack(&mut Unpacker::look(rest, &mut common));
        if self.known.len() < MOST_KNOWN {
            self.known.insert(head.into(), common);
        }
        Ok(unpacked)
    }
}

/// What [`Common::write`] wrote, and what is behind it.
fn halves(record: &[u8]) -> Result<(&[u8], &[u8]), Unknown> {
    let (version, text) = record.split_first().ok_or(Unknown)?;
    if !is_known(*version) {
        return Err(Unknown);
    }
    let mut nothing = Common::default();
    let mut from = Unpacker::look(text, &mut nothing);
    // Four values of a browser, one of an origin, each behind a byte; cookies.
    for (values, marked) in [(4, true), (1, true), (1, false)] {
        for _ in 0..values * from.count() {
            if marked {
                from.byte();
            }
            from.run();
        }
    }
    let length = text.len() - from.bytes.len();
    text.split_at_checked(length).ok_or(Unknown)
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

    fn read(&mut self, text: &[u8]) {
        let mut nothing = Self::default();
        let from = &mut Unpacker::look(text, &mut nothing);
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
