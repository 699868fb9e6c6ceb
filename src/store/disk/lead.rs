//! What a start reads of a session before its record is opened: short, so that a million of them are read at once.
//!
//! Invariant: it is written with the record, and says which one that is.

use crate::store::keys::Print;
use crate::store::sum;

/// What leads to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Lead<'a> {
    /// With which key the record is sealed.
    pub(in crate::store) print: Print,
    /// The record's part of the sum.
    pub(in crate::store) part: u64,
    /// What the record is sealed with, in clear.
    pub(in crate::store) front: &'a [u8],
}

impl<'a> Lead<'a> {
    /// Of a record that is sealed with this key and front.
    pub(in crate::store) fn write(print: Print, front: &[u8], record: &[u8]) -> Vec<u8> {
        [&print[..], &sum::part(record).to_le_bytes(), front].concat()
    }

    /// Reads what [`Lead::write`] wrote.
    pub(in crate::store) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (print, rest) = bytes.split_first_chunk()?;
        let (part, front) = rest.split_first_chunk()?;
        Some(Self { print: *print, part: u64::from_le_bytes(*part), front })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_written() {
        let written = Lead::write([1, 2, 3, 4], b"front", b"a record that ends with its tag");
        let part = sum::part(b"a record that ends with its tag");
        assert_eq!(Lead::read(&written), Some(Lead { print: [1, 2, 3, 4], part, front: b"front" }));
        assert_eq!(Lead::read(&written[..11]), None);
    }
}
