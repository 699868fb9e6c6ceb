//! What is read of a session at a start before its record is opened: what leads to it, and whether its cookie has come back.
//!
//! It stands before the record in clear. Hashes say nothing to who has not the ids and tokens themselves, and those of tokens
//! are keyed with what is sealed.
//!
//! Invariant: it says what the record behind it does, since both are written at once.

use super::slot::Kept;
use crate::bridge::packing::alone::{self, Unknown};
use crate::bridge::session::Phase;
use crate::time::Timestamp;

/// One byte of flags: its cookie has not come back yet.
const PENDING: u8 = 1;
const WORD: usize = size_of::<u64>();

/// What leads to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Front<'a> {
    /// When it was made, where its cookie has not come back yet.
    pub(super) pending: Option<Timestamp>,
    ids: &'a [u8],
    tokens: &'a [u8],
}

impl<'a> Front<'a> {
    /// Reads what [`write()`] wrote.
    ///
    /// # Errors
    /// Where another version wrote it, or the record behind it.
    pub(super) fn read(front: &'a [u8]) -> Result<Self, Unknown> {
        let ([version, flags, ids], rest) = front.split_first_chunk().ok_or(Unknown)?;
        if !alone::is_known(*version) || *flags > PENDING {
            return Err(Unknown);
        }
        let (created, rest) = rest.split_at_checked(WORD * usize::from(*flags)).ok_or(Unknown)?;
        let (ids, tokens) = rest.split_at_checked(WORD * usize::from(*ids)).ok_or(Unknown)?;
        if !tokens.len().is_multiple_of(WORD) {
            return Err(Unknown);
        }
        Ok(Self { pending: words(created).next().map(Timestamp::from_micros), ids, tokens })
    }

    /// Hashes of the ids that open it.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> + use<'a> {
        words(self.ids)
    }

    /// Hashes of the tokens that it was given.
    pub(super) fn tokens(&self) -> impl Iterator<Item = u64> + use<'a> {
        words(self.tokens)
    }
}

/// Writes the front of a session.
pub(super) fn write(kept: &Kept) -> Box<[u8]> {
    let pending = kept.session.phase() == Phase::Pending;
    // There are never more than a few.
    let ids = u8::try_from(kept.ids.len()).unwrap_or(u8::MAX);
    let mut front = Vec::with_capacity(3 + WORD * (1 + kept.ids.len() + kept.owned.len()));
    front.extend([alone::VERSION, u8::from(pending) * PENDING, ids]);
    let created = pending.then(|| kept.session.created.micros());
    let ids = kept.ids.iter().take(ids.into()).map(|held| held.key.hash());
    for word in created.into_iter().chain(ids).chain(kept.owned.iter().copied()) {
        front.extend_from_slice(&word.to_le_bytes());
    }
    front.into()
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + use<'_> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bridge::id::{Handle, Key};
    use crate::bridge::session::Session;
    use crate::bridge::testing::at;
    use crate::registry::slot::Slot;
    use crate::registry::table::Ticket;

    #[test]
    fn it_says_what_leads_to_the_session() {
        let key = Key::from_bytes([7; 16]);
        let ticket = Ticket { place: 0, generation: 0 };
        let slot = Slot::new(Session::new(Handle(1), at(5)), key, ticket, None);
        let front = slot.with_kept(|kept| write(kept));
        let read = Front::read(&front).unwrap();
        assert_eq!(read.pending, Some(at(5)));
        assert_eq!((read.ids().collect::<Vec<_>>(), read.tokens().count()), (vec![key.hash()], 0));
        let front = slot.with_kept(|kept| {
            kept.session.bind(at(6));
            kept.owned.extend([11, u64::MAX]);
            write(kept)
        });
        let read = Front::read(&front).unwrap();
        assert_eq!((read.pending, read.tokens().collect::<Vec<_>>()), (None, vec![11, u64::MAX]));
        assert_eq!(read.ids().collect::<Vec<_>>(), [key.hash()]);
        let mut newer = front;
        newer[0] = alone::VERSION + 1;
        assert_eq!(Front::read(&newer), Err(Unknown));
    }

    proptest! {
        #[test]
        fn whatever_it_is_reading_it_ends(bytes: Vec<u8>) {
            if let Ok(front) = Front::read(&bytes) {
                prop_assert!(front.ids().count() + front.tokens().count() <= bytes.len() / WORD);
            }
        }
    }
}
