//! Opening what was kept, when somebody wants to look at it.

use std::path::Path;
use std::sync::Arc;

use super::StoreError;
use super::disk::damaged;
use super::keys::Keys;
use super::seal::{self, SealError};

/// What was kept of a session, as it lies in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// What it was kept under.
    pub name: [u8; 8],
    /// Its record, sealed.
    pub sealed: &'a [u8],
    /// Its clocks, signed, if they have moved since its record was first written: they may be older than the record all the
    /// same.
    pub clocks: Option<&'a [u8]>,
}

/// Opens records. Cheap to clone.
#[derive(Clone)]
pub struct Opener(Arc<(Keys, Box<Path>)>);

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opener({})", self.0.1.display())
    }
}

impl Opener {
    pub(super) fn new(keys: Keys, folder: &Path) -> Self {
        Self(Arc::new((keys, folder.into())))
    }

    /// One that opens nothing.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self::new(Keys::default(), Path::new(""))
    }

    /// The front of a record that has one, without opening it.
    #[must_use]
    pub fn front<'a>(&'a self, sealed: &'a [u8]) -> Option<&'a [u8]> {
        seal::front(&self.0.0, sealed).ok().flatten()
    }

    /// Has `look` look at a record and its clocks; true beside them: the record should be written anew, since another key seals by
    /// now.
    ///
    /// # Errors
    /// Where it does not open, or `look` makes nothing of it.
    pub fn open<T>(
        &self,
        found: &Found<'_>,
        look: impl FnOnce(&[u8], Option<&[u8]>, bool) -> Option<T>,
    ) -> Result<T, StoreError> {
        let (keys, folder) = &*self.0;
        let opened = seal::open(keys, &found.name, found.sealed);
        let (record, old) = opened.map_err(|error| match error {
            SealError::Newer => damaged(folder, "a record was written by a newer version"),
            SealError::Key(_) | SealError::Damaged => damaged(folder, "a record does not open"),
        })?;
        // Clocks that nobody here has signed are as good as none: the record has some of its own.
        let clocks = found.clocks.and_then(|clocks| seal::signed(keys, &found.name, clocks));
        let unknown = "a session was written in a way that this version does not know";
        look(&record, clocks, old).ok_or_else(|| self.damaged(unknown))
    }

    /// What to say where something in the store makes no sense.
    #[must_use]
    pub fn damaged(&self, what: &str) -> StoreError {
        StoreError::from(damaged(&self.0.1, what))
    }
}
