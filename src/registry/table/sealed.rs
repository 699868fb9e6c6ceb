//! Sessions that an earlier process kept, as the store had them: each lies in its place and is found, and nobody has opened
//! it yet.
//!
//! Invariant: what is here is sealed, and is taken away with the last of a part's sessions.

use crate::bridge::id::Handle;
use crate::bridge::packing::alone::Reader;
use crate::bridge::session::{Phase, Session};
use crate::registry::front::Front;
use crate::registry::slot::Kept;
use crate::store::{Found, Opener, StoreError};
use crate::time::Timestamp;

/// Bits of a place that say where in a chunk it is; those above say in which one.
const WITHIN: u32 = 18;
const CHUNK: usize = 1 << WITHIN;
/// The name, and two lengths.
const HEAD: usize = 8 + 4 + 2;

/// The sealed sessions of one part.
pub(super) struct Sealed {
    opener: Opener,
    /// When this process took them in.
    since: Timestamp,
    reader: Reader,
    chunks: Vec<Vec<u8>>,
    /// By cell, where its session lies; [`NOWHERE`]: it has none here, or no longer.
    places: Vec<u32>,
}

/// No session lies there: a chunk ends before.
const NOWHERE: u32 = u32::MAX;

impl Sealed {
    pub(super) fn new(opener: Opener, since: Timestamp) -> Self {
        Self { opener, since, reader: Reader::default(), chunks: Vec::new(), places: Vec::new() }
    }

    /// Makes room for so many cells.
    pub(super) fn expect(&mut self, many: usize) {
        self.places.reserve_exact(many);
    }

    /// Lays one down, for `cell`. `None`: there is no more room, or it is longer than any record.
    pub(super) fn put(&mut self, cell: usize, found: &Found<'_>) -> Option<()> {
        let clocks = found.clocks.unwrap_or_default();
        let length = HEAD + found.sealed.len() + clocks.len();
        let (sealed_len, clocks_len) =
            (u32::try_from(found.sealed.len()).ok()?, u16::try_from(clocks.len()).ok()?);
        if self.chunks.last().is_none_or(|chunk| chunk.len() + length > CHUNK) {
            // The first one of a part grows as it needs to.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room.max(length)));
        }
        let number =
            u32::try_from(self.chunks.len() - 1).ok().filter(|number| *number < 1 << (32 - WITHIN))?;
        let chunk = self.chunks.last_mut()?;
        let place = number << WITHIN | u32::try_from(chunk.len()).ok()?;
        chunk.extend_from_slice(&found.name);
        chunk.extend_from_slice(&sealed_len.to_le_bytes());
        chunk.extend_from_slice(&clocks_len.to_le_bytes());
        chunk.extend_from_slice(found.sealed);
        chunk.extend_from_slice(clocks);
        self.reach(cell);
        *self.places.get_mut(cell)? = place;
        Some(())
    }

    /// `cell` is an earlier process's as well.
    pub(super) fn reach(&mut self, cell: usize) {
        if self.places.len() <= cell {
            self.places.resize(cell + 1, NOWHERE);
        }
    }

    /// The cells below this one are an earlier process's.
    pub(super) const fn end(&self) -> usize {
        self.places.len()
    }

    /// When the one of `cell`, if there is one, was made, where its cookie has not come back yet.
    pub(super) fn pending(&self, cell: usize) -> Option<Option<Timestamp>> {
        let front = self.opener.front(self.found(cell)?.sealed)?;
        Some(Front::read(front).ok()?.pending)
    }

    /// Where the one of `cell` is in its life.
    pub(super) fn phase(&self, cell: usize) -> Option<Phase> {
        Some(if self.pending(cell)?.is_some() { Phase::Pending } else { Phase::Bound })
    }

    /// The name of the one of `cell`.
    pub(super) fn handle(&self, cell: usize) -> Option<Handle> {
        Some(Handle(u64::from_be_bytes(self.found(cell)?.name)))
    }

    /// The session of `cell`, for one look.
    pub(super) fn look(&mut self, cell: usize) -> Option<Session> {
        self.read(cell).ok()?.map(|(kept, _)| kept.session)
    }

    /// Opens the one of `cell` for whoever asks for it. `None`, and a word in the log, where it does not open.
    pub(super) fn wake(&mut self, cell: usize) -> Option<Kept> {
        match self.open(cell) {
            Ok(opened) => {
                let (mut kept, old) = opened?;
                if old {
                    // As if something had changed: it is put in the next time when somebody looks.
                    kept.stamp = 0;
                }
                Some(kept)
            }
            Err(error) => {
                tracing::error!(%error, "a session of before cannot be opened");
                None
            }
        }
    }

    /// Opens the one of `cell` for good. True beside it: it wants to be written anew, since another key seals by now.
    ///
    /// # Errors
    /// Where it does not open, or another version wrote it.
    pub(super) fn open(&mut self, cell: usize) -> Result<Option<(Kept, bool)>, StoreError> {
        let opened = self.read(cell)?;
        self.places.iter_mut().skip(cell).take(1).for_each(|place| *place = NOWHERE);
        Ok(opened)
    }

    fn read(&mut self, cell: usize) -> Result<Option<(Kept, bool)>, StoreError> {
        let place = self.places.get(cell).copied().unwrap_or(NOWHERE);
        let Some(found) = found(&self.chunks, place) else { return Ok(None) };
        let (reader, since) = (&mut self.reader, self.since);
        let opened = self
            .opener
            .open(&found, |record, clocks, old| Some((recovered(reader, record, clocks, since)?, old)));
        opened.map(Some)
    }

    fn found(&self, cell: usize) -> Option<Found<'_>> {
        found(&self.chunks, *self.places.get(cell)?)
    }
}

/// A session as an earlier process kept it, with the clocks that were kept apart, as it is taken in at `now`. `None`: another
/// version wrote it, or it has ended.
pub(in crate::registry) fn recovered(
    reader: &mut Reader,
    record: &[u8],
    clocks: Option<&[u8]>,
    now: Timestamp,
) -> Option<Kept> {
    let mut kept = reader.read(record, Kept::unpack).ok()?;
    if let Some(clocks) = clocks {
        kept.session.take_clocks(clocks);
    }
    kept.session.recovered(now);
    (!kept.session.has_ended() && !kept.ids.is_empty()).then_some(kept)
}

fn found(chunks: &[Vec<u8>], at: u32) -> Option<Found<'_>> {
    let rest = chunks.get((at >> WITHIN) as usize)?.get(at as usize % CHUNK..)?;
    let (name, rest) = rest.split_first_chunk()?;
    let (sealed, rest) = rest.split_first_chunk()?;
    let (clocks, rest) = rest.split_first_chunk()?;
    let (sealed, rest) = rest.split_at_checked(u32::from_le_bytes(*sealed) as usize)?;
    let clocks = rest.get(..u16::from_le_bytes(*clocks).into())?;
    Some(Found { name: *name, sealed, clocks: (!clocks.is_empty()).then_some(clocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found_where_it_lies() {
        let long = vec![7; CHUNK + 5];
        let put: [(&[u8], Option<&[u8]>); 4] =
            [(b"one", None), (&long, Some(b"noon")), (b"three", Some(b"night")), (&long[..CHUNK / 2], None)];
        let mut sealed = Sealed::new(Opener::none(), Timestamp::ZERO);
        let mut all = Vec::new();
        for (number, (text, clocks)) in put.iter().cycle().take(80).enumerate() {
            let found = Found { name: [0, 0, 0, 0, 0, 0, 9, number as u8], sealed: text, clocks: *clocks };
            // Every other cell.
            sealed.put(2 * number, &found).unwrap();
            all.push(found);
        }
        assert_eq!(sealed.end(), 159);
        for (number, put) in all.into_iter().enumerate() {
            assert_eq!(sealed.found(2 * number), Some(put));
            assert_eq!(sealed.handle(2 * number), Some(Handle(u64::from_be_bytes(put.name))));
            assert_eq!(sealed.found(2 * number + 1), None);
        }
    }

    #[test]
    fn what_does_not_open_is_said_so_and_nobody_gets_it() {
        let mut sealed = Sealed::new(Opener::none(), Timestamp::ZERO);
        sealed.put(0, &Found { name: [1; 8], sealed: b"\x01no record", clocks: None }).unwrap();
        assert!(sealed.wake(0).is_none() && sealed.look(0).is_none());
        assert!(sealed.open(0).unwrap_err().to_string().contains("does not open"));
        assert!(sealed.open(1).unwrap().is_none(), "where nothing lies there is nothing to open");
    }
}
