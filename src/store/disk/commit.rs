//! What is brought to disk at once, or not at all.

use smallvec::SmallVec;

use crate::store::queue::Note;
use crate::store::sum::Sum;

/// A change to a session's record.
#[derive(Clone, Debug)]
pub(in crate::store) struct Change {
    pub(in crate::store) name: [u8; 8],
    /// `None`: it is no more.
    pub(in crate::store) kept: Option<Kept>,
}

/// What is kept of a session.
#[derive(Clone, Debug)]
pub(in crate::store) struct Kept {
    /// Its record, sealed.
    pub(in crate::store) record: Vec<u8>,
    /// What a start reads of it, as [`Lead::write`](super::Lead::write) writes it.
    pub(in crate::store) lead: Vec<u8>,
}

/// What the clocks of a session are to stand at, signed.
pub(in crate::store) type Stand = ([u8; 8], SmallVec<[u8; 72]>);

/// What is written at once.
#[derive(Debug)]
pub(in crate::store) struct Commit {
    pub(in crate::store) changes: Vec<Change>,
    /// Of sessions that have a record.
    pub(in crate::store) clocks: Vec<Stand>,
    pub(in crate::store) notes: Vec<Note>,
    /// Of all records that are there after it.
    pub(in crate::store) sum: Sum,
    /// False where more comes at once: it may come to disk with that.
    pub(in crate::store) syncs: bool,
}
