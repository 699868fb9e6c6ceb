//! The store on disk: an fjall database in a folder of its own, with what people's sessions are in one keyspace, what leads to
//! them in another, when they were last used in a third, and what the store says of itself in the last.
//!
//! Invariants: one process has it at a time; what was begun by a version that writes otherwise is refused, as is a folder
//! that has a store's mark and no store; after any failed write it is opened anew before it is written again, since what
//! that write left behind would hide whatever came later.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use super::sum::{Sum, Sums};

mod commit;
mod in_order;
mod lead;

pub(super) use commit::{Change, Commit, Kept, Stand};
pub(super) use in_order::InOrder;
pub(super) use lead::Lead;

/// How this version writes.
const FORMAT: u8 = 2;
/// The file that says that a folder is a store, beside the database: it is there as soon as anything else is.
const MARK: &str = "sessionbridge-store";
/// What it says as long as the store itself may not be there yet.
const BEGUN: &str = "begun";
/// The database's own folder.
const FOLDER: &str = "db";
/// Bytes that are gathered in memory before they become a table on disk. The journal is read again at a start: small, so
/// that this is short.
const MEMTABLE: u64 = 16 << 20;
/// The same for clocks: what is written every second is found fast where little is gathered.
const CLOCKS_MEMTABLE: u64 = 4 << 20;
/// The same for what the store says of itself.
const OWN_MEMTABLE: u64 = 256 << 10;
/// Bytes of all journals, at the most.
const JOURNALS: u64 = 64 << 20;
/// Everything is read once, at the start: there is nothing to keep at hand.
const CACHE: u64 = 4 << 20;

/// What the sum of all records is kept under.
const SUM: &[u8] = b"sum";

/// What is wrong with a store on disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Its folder cannot be made, or looked into.
    #[error("the store's folder {path} cannot be used")]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("the store {0} is in use by another process")]
    Locked(PathBuf),
    /// A newer version made it.
    #[error(
        "the store {path} was written by a newer version of sessionbridge (format {found}, this one reads {FORMAT})"
    )]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
    /// A version made it that was never released.
    #[error(
        "the store {path} was written by a version of sessionbridge that is too old (format {found}, this one reads {FORMAT}); \
         move it away to begin anew (everybody signs in again)"
    )]
    Older {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
    /// It was a store, and part of it is gone or changed.
    #[error(
        "the store {path} is damaged: {what}. Restore it from a backup, or move it away to begin anew \
         (everybody signs in again)"
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What was seen.
        what: String,
    },
    /// It cannot be read or written now.
    #[error("the store {path} cannot be {verb}")]
    Failed {
        /// Where.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        #[source]
        source: Box<fjall::Error>,
    },
}

/// A store on disk, open; as long as one clone of it is.
#[derive(Clone)]
pub(super) struct Disk {
    path: PathBuf,
    database: Database,
    sessions: Keyspace,
    leads: Keyspace,
    clocks: Keyspace,
    own: Keyspace,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({})", self.path.display())
    }
}

/// Whether there is a store at `path`.
///
/// # Errors
/// See [`DiskError`].
pub(super) fn exists(path: &Path) -> Result<bool, DiskError> {
    let mark = path.join(MARK);
    mark.try_exists().map_err(|source| DiskError::Folder { path: path.to_owned(), source })
}

impl Disk {
    /// Opens the store in the folder `path`, or begins it there.
    ///
    /// # Errors
    /// See [`DiskError`].
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let folder = |source| DiskError::Folder { path: path.to_owned(), source };
        let new = !exists(path)?;
        if new {
            fs::create_dir_all(path).map_err(folder)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(folder)?;
            fs::write(path.join(MARK), format!("{FORMAT} {BEGUN}\n")).map_err(folder)?;
        }
        let begun = read_mark(path)?;
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_database(path)));
        let disk = opened.unwrap_or_else(|_| Err(damaged(path, "reading it fails")))?;
        match disk.get(b"format")?.as_deref() {
            Some([FORMAT]) => {
                // The machine may have gone down between the two: from now on nothing passes for a store that was only begun.
                if begun {
                    mark(path)?;
                }
                Ok(disk)
            }
            Some([found]) => Err(foreign(path, *found)),
            Some(_) => Err(damaged(path, "it does not say how it was written")),
            None if begun && disk.is_new()? => {
                disk.put(b"format", &[FORMAT])?;
                mark(path)?;
                Ok(disk)
            }
            None => Err(damaged(path, "its head is missing")),
        }
    }

    fn open_database(path: &Path) -> Result<Self, DiskError> {
        let failed = |error| match error {
            fjall::Error::Locked => DiskError::Locked(path.to_owned()),
            fjall::Error::Io(source) => DiskError::Folder { path: path.to_owned(), source },
            other => damaged(path, &other.to_string()),
        };
        let database = Database::builder(path.join(FOLDER)).worker_threads(1).cache_size(CACHE);
        let database = database.max_journaling_size(JOURNALS).manual_journal_persist(true);
        let database = database.open().map_err(failed)?;
        let keyspace = |name, memtable| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable);
            database.keyspace(name, options).map_err(failed)
        };
        let (sessions, leads) = (keyspace("sessions", MEMTABLE)?, keyspace("leads", MEMTABLE)?);
        let clocks = keyspace("clocks", CLOCKS_MEMTABLE)?;
        // Of its few names the last values count. Small, since a journal is kept as long as anything in it is in memory alone.
        let own = keyspace("own", OWN_MEMTABLE)?;
        Ok(Self { path: path.to_owned(), database, sessions, leads, clocks, own })
    }

    /// True where nothing was ever written.
    fn is_new(&self) -> Result<bool, DiskError> {
        let empty = self.sessions.is_empty().and_then(|empty| Ok(empty && self.own.is_empty()?));
        empty.map_err(|error| self.failed("read", error))
    }

    /// What the store says of itself under `name`.
    pub(super) fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.value(&self.own, name)?.map(|value| value.to_vec()))
    }

    fn value(&self, keyspace: &Keyspace, name: &[u8]) -> Result<Option<fjall::Slice>, DiskError> {
        let read = catch_unwind(AssertUnwindSafe(|| keyspace.get(name)));
        let read = read.map_err(|_| damaged(&self.path, "reading it fails"))?;
        read.map_err(|error| damaged(&self.path, &error.to_string()))
    }

    /// Has the store say `value` of itself under `name`; on disk when this returns.
    pub(super) fn put(&self, name: &[u8], value: &[u8]) -> Result<(), DiskError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.own, name, value);
        batch.commit().map_err(|error| self.failed("written", error))
    }

    /// Writes all of a commit or nothing; on disk when this returns, if it is to be.
    pub(super) fn commit(&self, commit: &Commit) -> Result<(), DiskError> {
        // A removal takes three places.
        let room = commit.clocks.len() + 3 * commit.changes.len() + commit.notes.len() + 1;
        let batch = OwnedWriteBatch::with_capacity(self.database.clone(), room);
        let reach = if commit.syncs { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = batch.durability(Some(reach));
        for (name, clocks) in &commit.clocks {
            batch.insert(&self.clocks, *name, clocks.as_slice());
        }
        for change in &commit.changes {
            match &change.kept {
                Some(Kept { record, lead }) => {
                    batch.insert(&self.sessions, change.name, record.as_slice());
                    batch.insert(&self.leads, change.name, lead.as_slice());
                }
                None => {
                    batch.remove(&self.sessions, change.name);
                    batch.remove(&self.leads, change.name);
                    batch.remove(&self.clocks, change.name);
                }
            }
        }
        for (name, value) in &commit.notes {
            batch.insert(&self.own, note_name(name), value.as_slice());
        }
        batch.insert(&self.own, SUM, commit.sum.as_slice());
        batch.commit().map_err(|error| self.failed("written", error))
    }

    /// The store at `path`, opened once more after a failure. What a failed write left may be there or not, as a whole;
    /// anything else was written by somebody else.
    pub(super) fn reopen(path: &Path, either: [&Sum; 2]) -> Result<Self, DiskError> {
        if !exists(path)? {
            return Err(damaged(path, "it is not there any more"));
        }
        let disk = Self::open(path)?;
        let sum = disk.get(SUM)?;
        let is_ours = either
            .iter()
            .any(|own| sum.as_deref().map_or_else(|| **own == Sum::default(), |sum| sum == *own));
        if is_ours { Ok(disk) } else { Err(damaged(path, "somebody else has written to it")) }
    }

    /// How many records the last commit left.
    pub(super) fn count(&self) -> Result<usize, DiskError> {
        let sum = self.get(SUM)?;
        let count = sum.as_deref().and_then(|sum| sum.first_chunk().copied()).map(u64::from_le_bytes);
        Ok(count.and_then(|count| usize::try_from(count).ok()).unwrap_or_default())
    }

    /// Refuses a store whose records are not those that its last commit left.
    pub(super) fn check(&self, sums: &Sums) -> Result<(), DiskError> {
        match self.get(SUM)? {
            Some(sum) if sum == sums.sum() => Ok(()),
            None if sums.sum() == Sum::default() => Ok(()),
            _ => Err(damaged(&self.path, "records are missing, or older than they should be")),
        }
    }

    /// Shows what a start reads of all sessions whose names begin with a byte of `from..=to`, in the order of their names.
    pub(super) fn leads(
        &self,
        span: (u8, u8),
        mut look: impl FnMut([u8; 8], Lead<'_>) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.values(&self.leads, &[span.0], &[[span.1].as_slice(), &[0xff; 8]].concat()).try_for_each(
            |read| {
                let (name, lead) = read?;
                look(name, self.lead(&lead)?)
            },
        )
    }

    fn lead<'a>(&self, bytes: &'a [u8]) -> Result<Lead<'a>, DiskError> {
        Lead::read(bytes).ok_or_else(|| damaged(&self.path, "what leads to a session is not there"))
    }

    /// What is there of a session: what leads to it, its record, and its clocks, if they have moved since that was written.
    pub(super) fn find<T>(
        &self,
        name: [u8; 8],
        look: impl FnOnce(Lead<'_>, &[u8], Option<&[u8]>) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let get = |keyspace| self.value(keyspace, &name);
        let (lead, record, clocks) = (get(&self.leads)?, get(&self.sessions)?, get(&self.clocks)?);
        let missing = || damaged(&self.path, "a record is missing");
        let (lead, record) = (lead.ok_or_else(missing)?, record.ok_or_else(missing)?);
        look(self.lead(&lead)?, &record, clocks.as_deref())
    }

    /// All values of names from the one to the other, by their names.
    fn values(
        &self,
        keyspace: &Keyspace,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<([u8; 8], fjall::Slice), DiskError>> + use<'_> {
        let mut all = keyspace.range(from..=to);
        std::iter::from_fn(move || {
            let next = catch_unwind(AssertUnwindSafe(|| all.next().map(fjall::Guard::into_inner)));
            let read = next.map_err(|_| damaged(&self.path, "reading it fails")).transpose()?;
            let read = read.and_then(|read| read.map_err(|error| damaged(&self.path, &error.to_string())));
            Some(read.and_then(|(name, value)| {
                let named = name.as_ref().try_into();
                Ok((named.map_err(|_| damaged(&self.path, "a record has no name"))?, value))
            }))
        })
    }

    /// Its folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes on disk.
    pub(super) fn size(&self) -> u64 {
        self.database.disk_space().unwrap_or_default()
    }

    fn failed(&self, verb: &'static str, error: fjall::Error) -> DiskError {
        DiskError::Failed { path: self.path.clone(), verb, source: Box::new(error) }
    }
}

/// What to say of a store that another version made.
fn foreign(path: &Path, found: u8) -> DiskError {
    let path = path.to_owned();
    if found > FORMAT { DiskError::Newer { path, found } } else { DiskError::Older { path, found } }
}

/// What a note is kept under: apart from the store's own words.
pub(super) fn note_name(name: &str) -> Vec<u8> {
    format!("note {name}").into_bytes()
}

/// Says that the store is there.
fn mark(path: &Path) -> Result<(), DiskError> {
    let written = fs::write(path.join(MARK), format!("{FORMAT}\n"));
    written.map_err(|source| DiskError::Folder { path: path.to_owned(), source })
}

/// True where the store may not be there yet.
fn read_mark(path: &Path) -> Result<bool, DiskError> {
    let mark = fs::read_to_string(path.join(MARK));
    let mark = mark.map_err(|source| DiskError::Folder { path: path.to_owned(), source })?;
    let (format, rest) = mark.trim().split_once(' ').unwrap_or_else(|| (mark.trim(), ""));
    match format.parse::<u8>() {
        Ok(FORMAT) => Ok(rest == BEGUN),
        Ok(found) => Err(foreign(path, found)),
        _ => Err(damaged(path, "its mark is not one")),
    }
}

pub(super) fn damaged(path: &Path, what: &str) -> DiskError {
    DiskError::Damaged { path: path.to_owned(), what: what.to_owned() }
}
