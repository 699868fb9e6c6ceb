//! A session that nobody uses, as bytes: what a million of them are kept as.
//!
//! Three thoughts make it small. Numbers take as many bytes as they need, and most are small. A time is written as its
//! distance from the time written before it: the times of one session lie close together. What many sessions have in common
//! (browsers, origins, the names and paths of cookies) is kept once, in [`Common`], and written as a number.
//!
//! Invariant: what is read is what was written, to the microsecond; each thing in [`Common`] is counted once for each packed
//! session that names it.

use std::net::IpAddr;

use super::app_session::Public;
use super::traits::ClientTraits;
use crate::time::Timestamp;

pub mod alone;
mod dense;
mod pool;
#[cfg(test)]
mod tests;

pub(super) use dense::Value;
use pool::Pool;

/// What packed sessions have in common.
#[derive(Debug, Default)]
pub struct Common {
    pub(super) traits: Pool<ClientTraits>,
    pub(super) publics: Pool<Public>,
    /// Cookies of a vault without value and age.
    pub(super) forms: Pool<[u8]>,
}

/// Writes a session.
#[derive(Debug)]
pub struct Packer<'a> {
    bytes: &'a mut Vec<u8>,
    pub(super) common: &'a mut Common,
    last: u64,
    dense: bool,
}

/// Times that have no distance to others; all further codes are distances.
const ZERO: u64 = 0;
const FAR: u64 = 1;
const NEAR: u64 = 2;

impl<'a> Packer<'a> {
    /// Writes behind what is in `bytes`.
    pub const fn new(bytes: &'a mut Vec<u8>, common: &'a mut Common) -> Self {
        Self { bytes, common, last: 0, dense: false }
    }

    /// Writes values in fewer bits: only for an [`Unpacker`] that is [dense](Unpacker::dense) too.
    #[must_use]
    pub const fn dense(self) -> Self {
        Self { dense: true, ..self }
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Eight bytes: a number that is as likely large as small.
    pub fn word(&mut self, word: u64) {
        self.bytes.extend_from_slice(&word.to_le_bytes());
    }

    /// A number that is likely small, seven bits to a byte, lowest first.
    pub fn number(&mut self, number: impl Into<u64>) {
        let mut rest = number.into();
        while rest >= 0x80 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }

    /// How many follow.
    pub fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// The next time lies close to this one.
    pub const fn near(&mut self, time: Timestamp) {
        self.last = time.micros();
    }

    /// A time.
    pub fn time(&mut self, time: Timestamp) {
        let code = match time {
            Timestamp::ZERO => ZERO,
            Timestamp::FAR => FAR,
            _ => {
                let distance = time.micros().wrapping_sub(self.last).cast_signed();
                self.last = time.micros();
                // The sign goes to the lowest bit. Only in 292 000 years is this `FAR`.
                ((distance << 1) ^ (distance >> 63)).cast_unsigned().checked_add(NEAR).unwrap_or(FAR)
            }
        };
        self.number(code);
    }

    /// Bytes, and how many.
    pub fn run(&mut self, run: &[u8]) {
        self.count(run.len());
        self.bytes.extend_from_slice(run);
    }

    /// A cookie's value.
    pub(super) fn value(&mut self, value: &[u8]) {
        if self.dense {
            let head = dense::head(value);
            self.number(head);
            dense::write(head, value, self.bytes);
        } else {
            self.run(value);
        }
    }

    /// Bytes of which the reader knows how many.
    pub fn raw(&mut self, run: &[u8]) {
        self.bytes.extend_from_slice(run);
    }

    /// An address.
    pub fn address(&mut self, address: Option<IpAddr>) {
        match address {
            None => self.byte(0),
            Some(IpAddr::V4(address)) => {
                self.byte(4);
                self.raw(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                self.byte(6);
                self.raw(&address.octets());
            }
        }
    }
}

/// Reads a session. Behind the end there are only zeros: who reads what was not written gets nonsense, no panic.
#[derive(Debug)]
pub struct Unpacker<'a> {
    bytes: &'a [u8],
    pub(super) common: &'a mut Common,
    /// True where the packed session is no more when it has been read.
    pub(super) last_time: bool,
    last: u64,
    dense: bool,
}

impl<'a> Unpacker<'a> {
    /// Reads `bytes`, which stay.
    pub const fn look(bytes: &'a [u8], common: &'a mut Common) -> Self {
        Self { bytes, common, last_time: false, last: 0, dense: false }
    }

    /// Reads `bytes` for the last time: what they have in common with others is no longer counted for them.
    pub const fn last(bytes: &'a [u8], common: &'a mut Common) -> Self {
        Self { bytes, common, last_time: true, last: 0, dense: false }
    }

    /// Reads what a [dense](Packer::dense) one wrote.
    #[must_use]
    pub const fn dense(self) -> Self {
        Self { dense: true, ..self }
    }

    /// As [`Packer::byte`].
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// As [`Packer::word`].
    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// As [`Packer::number`].
    pub fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f).unbounded_shl(shift);
            if byte & 0x80 == 0 {
                return number;
            }
            shift += 7;
        }
    }

    /// As [`Packer::count`]: of what follows each takes a byte at the least.
    pub fn count(&mut self) -> usize {
        self.narrow::<usize>().min(self.bytes.len())
    }

    /// A number that was written from a narrower type.
    pub fn narrow<T: TryFrom<u64> + Default>(&mut self) -> T {
        T::try_from(self.number()).unwrap_or_default()
    }

    /// As [`Packer::near`].
    pub const fn near(&mut self, time: Timestamp) {
        self.last = time.micros();
    }

    /// As [`Packer::time`].
    pub fn time(&mut self) -> Timestamp {
        match self.number() {
            ZERO => Timestamp::ZERO,
            FAR => Timestamp::FAR,
            code => {
                let folded = code - NEAR;
                let distance = (folded >> 1) ^ (folded & 1).wrapping_neg();
                self.last = self.last.wrapping_add(distance);
                Timestamp::from_micros(self.last)
            }
        }
    }

    /// As [`Packer::run`].
    pub fn run(&mut self) -> &'a [u8] {
        let length = self.narrow();
        let (run, rest) = self.bytes.split_at_checked(length).unwrap_or_default();
        self.bytes = rest;
        run
    }

    /// As [`Packer::value`].
    pub(super) fn value(&mut self) -> Value<'a> {
        if self.dense {
            let head = self.number();
            dense::read(head, &mut self.bytes)
        } else {
            Value::plain(self.run())
        }
    }

    /// As [`Packer::raw`].
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let Some((run, rest)) = self.bytes.split_first_chunk() else {
            self.bytes = &[];
            return [0; N];
        };
        self.bytes = rest;
        *run
    }

    /// As [`Packer::address`].
    pub fn address(&mut self) -> Option<IpAddr> {
        match self.byte() {
            4 => Some(IpAddr::from(self.array::<4>())),
            6 => Some(IpAddr::from(self.array::<16>())),
            _ => None,
        }
    }
}
