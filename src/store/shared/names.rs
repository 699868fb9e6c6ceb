//! What things are called in a shared store, and what stands before a record there.
//!
//! Invariant: nothing that opens anything is in a name or in a head: ids and tokens are there as hashes.

use std::io::Write as _;

use crate::store::Head;
use crate::time::Timestamp;

/// How heads are written. A higher one is a newer version's.
const WRITTEN: u8 = 1;
/// A tombstone.
const ENDED: u8 = 1;
/// Bytes of a head.
pub(super) const HEAD: usize = 30;
/// How many sets list a proxy's sessions.
pub(super) const BUCKETS: u16 = 4096;

/// What keys are called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: Box<[u8]>,
    channel: Box<[u8]>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.as_bytes().into(), channel: format!("{prefix}news").into_bytes().into() }
    }

    fn with(&self, kind: &str, bytes: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + kind.len() + 2 * bytes.len() + 8);
        key.extend_from_slice(&self.prefix);
        key.extend_from_slice(kind.as_bytes());
        for byte in bytes {
            key.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        key
    }

    /// A session's record.
    pub(super) fn session(&self, name: [u8; 8]) -> Vec<u8> {
        self.with("s:", &name)
    }

    /// A session's clocks.
    pub(super) fn clocks(&self, name: [u8; 8]) -> Vec<u8> {
        self.with("l:", &name)
    }

    /// What an id leads to.
    pub(super) fn id(&self, id: [u8; 16]) -> Vec<u8> {
        self.with("i:", &id)
    }

    /// What a token leads to.
    pub(super) fn token(&self, token: u64) -> Vec<u8> {
        self.with("t:", &token.to_be_bytes())
    }

    /// One of the sets of a proxy's sessions.
    pub(super) fn bucket(&self, owner: u64, bucket: u16) -> Vec<u8> {
        let mut key = self.with("o:", &owner.to_be_bytes());
        let _ = write!(key, ":{bucket}");
        key
    }

    /// Who takes such a set over.
    pub(super) fn taking(&self, owner: u64, bucket: u16) -> Vec<u8> {
        let mut key = self.with("x:", &owner.to_be_bytes());
        let _ = write!(key, ":{bucket}");
        key
    }

    /// All proxies, by when their leases were renewed.
    pub(super) fn members(&self) -> Vec<u8> {
        self.with("m", &[])
    }

    /// A claim.
    pub(super) fn claim(&self, what: [u8; 16]) -> Vec<u8> {
        self.with("c:", &what)
    }

    /// Something that is taken out once.
    pub(super) fn once(&self, under: [u8; 16]) -> Vec<u8> {
        self.with("k:", &under)
    }

    /// A note.
    pub(super) fn note(&self, name: &str) -> Vec<u8> {
        let mut key = self.with("n:", &[]);
        key.extend_from_slice(name.as_bytes());
        key
    }

    /// The installation's secret, sealed.
    pub(super) fn secret(&self) -> Vec<u8> {
        self.with("secret", &[])
    }

    /// One of the marks that are gone when the store was emptied.
    pub(super) fn mark(&self, number: usize) -> Vec<u8> {
        let mut key = self.with("alive", &[]);
        if number > 0 {
            let _ = write!(key, ":{number}");
        }
        key
    }

    /// What is there for a while after the store was found emptied.
    pub(super) fn emptied(&self) -> Vec<u8> {
        self.with("emptied", &[])
    }

    /// Where news are told.
    pub(super) fn channel(&self) -> &[u8] {
        &self.channel
    }
}

const fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

/// Which of its owner's sets a session is in.
pub(super) const fn bucket_of(name: [u8; 8]) -> u16 {
    (u64::from_be_bytes(name) % BUCKETS as u64) as u16
}

/// A session in such a set: small integers take eight bytes there.
pub(super) const fn listed(name: [u8; 8]) -> i64 {
    i64::from_be_bytes(name)
}

/// What stands before a record, as bytes.
pub(super) fn head(head: &Head, tag: u64) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    let fields = [WRITTEN, if head.ended { ENDED } else { 0 }]
        .into_iter()
        .chain(tag.to_be_bytes())
        .chain(head.owner.to_be_bytes())
        .chain(head.epoch.to_be_bytes())
        .chain(head.expires.micros().to_be_bytes());
    out.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    out
}

/// The head of what is stored, and the sealed record behind it. `None`: it is nothing of ours.
pub(super) fn stored(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let (head, sealed) = bytes.split_first_chunk::<HEAD>()?;
    let [WRITTEN, flags, rest @ ..] = head else { return None };
    let (tag, rest) = rest.split_first_chunk::<8>()?;
    let (owner, rest) = rest.split_first_chunk::<8>()?;
    let (epoch, rest) = rest.split_first_chunk::<4>()?;
    let expires = rest.first_chunk::<8>()?;
    let head = Head {
        tag: u64::from_be_bytes(*tag),
        owner: u64::from_be_bytes(*owner),
        epoch: u32::from_be_bytes(*epoch),
        expires: Timestamp::from_micros(u64::from_be_bytes(*expires)),
        ended: flags & ENDED != 0,
        ..Head::default()
    };
    Some((head, sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_as_it_was_and_anything_else_is_nothing_of_ours() {
        let wanted = Head {
            tag: 7,
            owner: u64::MAX,
            epoch: 3,
            expires: Timestamp::from_secs(5),
            ended: true,
            ..Head::default()
        };
        let mut bytes = head(&wanted, 7).to_vec();
        bytes.extend_from_slice(b"sealed");
        assert_eq!(stored(&bytes), Some((wanted, &b"sealed"[..])));
        bytes[0] = 9;
        assert_eq!(stored(&bytes), None);
        assert_eq!(stored(b"\x01"), None);
    }

    #[test]
    fn names_begin_with_the_prefix_and_are_hex() {
        let names = Names::new("sb:");
        assert_eq!(names.session([0xab; 8]), b"sb:s:abababababababab");
        assert_eq!(names.bucket(1, 4095), b"sb:o:0000000000000001:4095");
        assert_eq!((bucket_of([0xff; 8]), listed([0xff; 8])), (4095, -1));
        assert_eq!((names.mark(0), names.mark(3)), (b"sb:alive".to_vec(), b"sb:alive:3".to_vec()));
    }
}
