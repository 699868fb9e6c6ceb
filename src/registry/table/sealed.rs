//! Sessions that an earlier process kept and that nobody has opened yet: each has its place and is found, and is in the store
//! alone.
//!
//! Invariant: a session is here until it is opened, once.

use std::collections::HashMap;

use crate::bridge::id::Handle;
use crate::bridge::packing::alone::Reader;
use crate::bridge::session::Phase;
use crate::registry::slot::Kept;
use crate::store::Opener;
use crate::time::Timestamp;

/// The sealed sessions of one part.
pub(super) struct Sealed {
    opener: Opener,
    /// When this process took them in.
    since: Timestamp,
    reader: Reader,
    /// By cell, whose it is; [`NOBODY`]: none of those here.
    handles: Vec<Handle>,
    /// When those were made whose cookies have not come back yet, by cell.
    pending: HashMap<usize, Timestamp, foldhash::fast::RandomState>,
}

/// No session has this name.
const NOBODY: Handle = Handle(u64::MAX);

impl Sealed {
    pub(super) fn new(opener: Opener, since: Timestamp) -> Self {
        let (handles, pending) = (Vec::new(), HashMap::default());
        Self { opener, since, reader: Reader::default(), handles, pending }
    }

    /// Makes room for so many cells.
    pub(super) fn expect(&mut self, many: usize) {
        self.handles.reserve_exact(many);
    }

    /// The session with this handle has its place in `cell`; when it was made, where its cookie has not come back yet.
    pub(super) fn put(&mut self, cell: usize, handle: Handle, pending: Option<Timestamp>) {
        if self.handles.len() <= cell {
            self.handles.resize(cell + 1, NOBODY);
        }
        self.handles.iter_mut().skip(cell).take(1).for_each(|at| *at = handle);
        self.pending.extend(pending.map(|created| (cell, created)));
    }

    /// Whose `cell` is, if it is a sealed one's.
    pub(super) fn handle(&self, cell: usize) -> Option<Handle> {
        self.handles.get(cell).copied().filter(|handle| *handle != NOBODY)
    }

    /// When the one of `cell` was made, where its cookie has not come back yet.
    pub(super) fn pending(&self, cell: usize) -> Option<Timestamp> {
        self.pending.get(&cell).copied()
    }

    /// Where the one of `cell` is in its life.
    pub(super) fn phase(&self, cell: usize) -> Option<Phase> {
        self.handle(cell)?;
        Some(if self.pending.contains_key(&cell) { Phase::Pending } else { Phase::Bound })
    }

    /// Opens the one of `cell` for whoever asks for it. `None`, and a word in the log, where it does not open.
    pub(super) fn wake(&mut self, cell: usize) -> Option<Kept> {
        let name = self.handle(cell)?.0.to_be_bytes();
        let opener = self.opener.clone();
        let opened = opener.open(name, |record, clocks, old| self.read(record, clocks, old));
        let opened =
            opened.inspect_err(|error| tracing::error!(%error, "a session of before cannot be opened"));
        let (mut kept, old) = opened.ok()?;
        if old {
            // As if something had changed: it is put in the next time when somebody looks.
            kept.stamp = 0;
        }
        self.is_open(cell);
        Some(kept)
    }

    /// What it is that has been opened; true: it wants to be written anew.
    pub(super) fn read(&mut self, record: &[u8], clocks: Option<&[u8]>, old: bool) -> Option<(Kept, bool)> {
        Some((recovered(&mut self.reader, record, clocks, self.since)?, old))
    }

    /// The one of `cell` has been opened.
    pub(super) fn is_open(&mut self, cell: usize) {
        self.handles.iter_mut().skip(cell).take(1).for_each(|at| *at = NOBODY);
        self.pending.remove(&cell);
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
