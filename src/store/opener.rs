//! Opening what was kept, when somebody wants to look at it.
//!
//! Invariant: nobody opens a record that was written since the start: who wrote it has the session itself.

use std::sync::Arc;

use super::StoreError;
use super::disk::{Disk, DiskError, InOrder, Lead, damaged};
use super::keys::Keys;
use super::seal::{self, SealError};
use super::sum;

/// Opens records. Cheap to clone; the store is in use as long as a clone is there.
#[derive(Clone)]
pub struct Opener(Arc<(Keys, Disk)>);

/// Opens records in the order of their names, which is faster.
pub struct InTurn<'a> {
    opener: &'a Opener,
    records: InOrder<'a>,
}

/// What somebody makes of a record and the clocks that were kept apart from it, which may be older; true beside them: the
/// record should be written anew, since another key seals by now. `None`: nothing can be made of it.
pub trait Look<T>: FnOnce(&[u8], Option<&[u8]>, bool) -> Option<T> {}

impl<T, F: FnOnce(&[u8], Option<&[u8]>, bool) -> Option<T>> Look<T> for F {}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opener({:?})", self.0.1)
    }
}

impl std::fmt::Debug for InTurn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InTurn({:?})", self.opener)
    }
}

impl Opener {
    pub(super) fn new(keys: Keys, disk: Disk) -> Self {
        Self(Arc::new((keys, disk)))
    }

    /// Has `look` look at the record of this name.
    ///
    /// # Errors
    /// Where it does not open, or `look` makes nothing of it.
    pub fn open<T>(&self, name: [u8; 8], look: impl Look<T>) -> Result<T, StoreError> {
        let (keys, disk) = &*self.0;
        let opened =
            disk.find(name, |lead, record, clocks| unsealed(keys, disk, name, (lead, record, clocks), look));
        Ok(opened?)
    }

    /// For whoever opens many, from the name `from` on.
    #[must_use]
    pub fn in_turn(&self, from: [u8; 8]) -> InTurn<'_> {
        InTurn { opener: self, records: self.0.1.in_order(from) }
    }

    /// What to say where something in the store makes no sense.
    #[must_use]
    pub fn damaged(&self, what: &str) -> StoreError {
        damaged(self.0.1.path(), what).into()
    }
}

impl InTurn<'_> {
    /// As [`Opener::open`]; names only rise.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub fn open<T>(&mut self, name: [u8; 8], look: impl Look<T>) -> Result<T, StoreError> {
        let (keys, disk) = &*self.opener.0;
        let opened = self
            .records
            .find(name, |lead, record, clocks| unsealed(keys, disk, name, (lead, record, clocks), look));
        Ok(opened?)
    }
}

fn unsealed<T>(
    keys: &Keys,
    disk: &Disk,
    name: [u8; 8],
    (lead, record, clocks): (Lead<'_>, &[u8], Option<&[u8]>),
    look: impl Look<T>,
) -> Result<T, DiskError> {
    if sum::part(record) != lead.part {
        return Err(damaged(disk.path(), "a record is older than it should be"));
    }
    let opened = seal::open_with(lead.front, keys, &name, record);
    let (record, old) = opened.map_err(|error| match error {
        SealError::Newer => damaged(disk.path(), "a record was written by a newer version"),
        SealError::Key(_) | SealError::Damaged => damaged(disk.path(), "a record does not open"),
    })?;
    // Clocks that nobody here has signed are as good as none: the record has some of its own.
    let clocks = clocks.and_then(|clocks| seal::signed(keys, &name, clocks));
    look(&record, clocks, old)
        .ok_or_else(|| damaged(disk.path(), "a session was written in a way that this version does not know"))
}
