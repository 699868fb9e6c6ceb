//! Where sessions are kept beyond the process: what an answer acknowledges is on disk before its first byte leaves.
//!
//! All sessions are in memory and are read from there; the store is written behind them and read once, at the start: what leads
//! to them before anybody is served, and then what they are (`opener.rs`). Who
//! changes a session puts it into the queue (`queue.rs`) and, where somebody was told of the change, waits for the commit
//! of its group; one thread (`writer.rs`) asks the records for their bytes, seals them (`seal.rs`) under a key of the key
//! file (`keys.rs`) and brings them to disk (`disk.rs`).
//!
//! The store knows nothing of sessions: it keeps [`Record`]s, each under eight bytes that are its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use zeroize::Zeroizing;

mod disk;
mod keys;
mod opener;
mod queue;
mod seal;
pub mod shared;
mod sum;
#[cfg(test)]
mod tests;
mod writer;

pub use disk::DiskError;
pub use keys::KeysError;
pub use opener::{InTurn, Look, Opener};
pub use queue::{Clocks, Head, Index, Mark, Outage, Record};
pub use shared::{Fetched, Key, News};

use disk::{Disk, damaged, note_name};
use keys::{Keys, Print};
use queue::Queue;
use seal::SealError;
use shared::{Shared, SharedFacts};
use sum::Sums;
use writer::{Done, Held};

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its folder.
    pub folder: PathBuf,
    /// Its key file.
    pub keys: PathBuf,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read, or must not be.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its key file.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// It was sealed with a key that is not there.
    #[error(
        "the store {folder} was sealed with the key {key}, which is not in {keys}; put its line back, below the others, or \
         move the store away to begin anew (everybody signs in again)"
    )]
    Key {
        /// What the key was called.
        key: String,
        /// Where the store is.
        folder: PathBuf,
        /// Where the keys are.
        keys: PathBuf,
    },
    /// One that several proxies share.
    #[error(transparent)]
    Shared(#[from] shared::SharedError),
    /// The writer's thread.
    #[error("no thread can be started for the store")]
    Thread(#[source] std::io::Error),
}

/// The store, for whoever changes sessions. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Store(Kind);

/// What a store is.
#[derive(Clone, Default)]
enum Kind {
    #[default]
    Memory,
    /// This process's own.
    Disk(Arc<Open>),
    /// Several proxies'.
    Shared(Arc<Shared>),
}

/// One that is on disk.
struct Open {
    queue: Arc<Queue>,
    done: Arc<Done>,
    place: Place,
    writer: Mutex<Writer>,
}

/// Who writes.
#[derive(Default)]
enum Writer {
    /// Nobody yet.
    #[default]
    None,
    /// A thread.
    Runs(JoinHandle<Held>),
    /// Nobody any more.
    Rests(Held),
}

/// A store that has been opened, before anything is written to it.
pub struct Opened {
    place: Place,
    disk: Disk,
    keys: Keys,
    secret: [u8; 32],
    store: Store,
}

/// What the store has done, for metrics and operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Groups that were committed.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// Sessions whose clocks alone were written.
    pub clocks: u64,
    /// Times that it could not be written.
    pub failures: u64,
    /// How long the commits took, all together.
    pub took: Duration,
    /// Bytes on disk, as last looked at.
    pub bytes: u64,
    /// Of a store that several proxies share.
    pub shared: Option<SharedFacts>,
    /// Records that wait.
    pub waiting: u64,
    /// True while it cannot be written.
    pub fails: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Disk(open) => write!(f, "Store({})", open.place.folder.display()),
            Kind::Shared(_) => f.write_str("Store(shared)"),
            Kind::Memory => f.write_str("Store(memory)"),
        }
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({:?})", self.disk)
    }
}

impl Store {
    /// None: sessions are in memory, and a restart forgets them.
    #[must_use]
    pub const fn memory() -> Self {
        Self(Kind::Memory)
    }

    /// True where sessions outlive the process.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        !matches!(self.0, Kind::Memory)
    }

    /// Where what is written waits, if anything is.
    fn queue(&self) -> Option<&Queue> {
        match &self.0 {
            Kind::Memory => None,
            Kind::Disk(open) => Some(&open.queue),
            Kind::Shared(shared) => Some(shared.queue()),
        }
    }

    /// The store on disk, if it is one.
    const fn disk(&self) -> Option<&Arc<Open>> {
        match &self.0 {
            Kind::Disk(open) => Some(open),
            _ => None,
        }
    }

    /// Has `record` written with the next commit, unless it was marked `was` and is to be anyway. What it is marked from
    /// here on.
    pub fn put(&self, was: Mark, record: impl FnOnce() -> Arc<dyn Record>) -> Mark {
        self.queue().map_or_else(Mark::default, |queue| queue.put(was, true, record))
    }

    /// The same, for which nobody waits: a moment later, where nothing else is to be written.
    pub fn put_late(&self, was: Mark, record: impl FnOnce() -> Arc<dyn Record>) -> Mark {
        self.queue().map_or_else(Mark::default, |queue| queue.put(was, false, record))
    }

    /// Has clocks written as [`Store::put_late`] does: of sessions of which nothing else has changed.
    pub fn put_clocks(&self, clocks: impl IntoIterator<Item = Clocks>) {
        if let Some(queue) = self.queue() {
            queue.put_clocks(clocks);
        }
    }

    /// Notes something that is no secret under `name`, with the next commit.
    pub fn note(&self, name: &str, value: Vec<u8>) -> Mark {
        self.queue().map_or_else(Mark::default, |queue| queue.note((name.to_owned(), value)))
    }

    /// True where what was put in under `mark` is on disk.
    #[must_use]
    pub fn is_committed(&self, mark: Mark) -> bool {
        self.queue().is_none_or(|queue| queue.is_committed(mark))
    }

    /// Resolves when what was put in under `mark` is on disk.
    ///
    /// # Errors
    /// [`Outage`] where the store cannot be written now; it is tried on.
    pub async fn committed(&self, mark: Mark) -> Result<(), Outage> {
        match self.queue() {
            Some(queue) => queue.committed(mark).await,
            None => Ok(()),
        }
    }

    /// Resolves when all that has been put in is on disk; clocks that came with records may follow.
    ///
    /// # Errors
    /// As [`Store::committed`].
    pub async fn settled(&self) -> Result<(), Outage> {
        match self.queue() {
            Some(queue) => queue.committed(queue.last()).await,
            None => Ok(()),
        }
    }

    /// True while it cannot be written.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.queue().is_some_and(Queue::fails)
    }

    /// What it has done.
    #[must_use]
    pub fn facts(&self) -> Facts {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(queue) = self.queue() else { return Facts::default() };
        let facts = Facts { waiting: queue.waiting() as u64, fails: queue.fails(), ..Facts::default() };
        match &self.0 {
            Kind::Memory => facts,
            Kind::Disk(open) => {
                let done = &open.done;
                Facts {
                    commits: done.groups.load(Relaxed),
                    records: done.records.load(Relaxed),
                    clocks: done.clocks.load(Relaxed),
                    failures: done.failures.load(Relaxed),
                    took: Duration::from_micros(done.micros.load(Relaxed)),
                    bytes: done.bytes.load(Relaxed),
                    ..facts
                }
            }
            Kind::Shared(shared) => shared.facts(facts),
        }
    }

    /// Writes what waits and lets go of the disk, so that another process may have it: what is put in later waits for
    /// [`Store::retake`]. A shared one gives up what this proxy owns, and goes on writing.
    ///
    /// # Errors
    /// [`Outage`] where not all could be written.
    pub fn close(&self) -> Result<(), Outage> {
        if let Kind::Shared(shared) = &self.0 {
            return shared.close();
        }
        let Some(open) = self.disk() else { return Ok(()) };
        open.queue.close();
        let mut writer = open.writer.lock().unwrap_or_else(PoisonError::into_inner);
        *writer = match std::mem::take(&mut *writer) {
            Writer::Runs(thread) => thread.join().map_or_else(
                |_| {
                    tracing::error!("the store's writer has panicked");
                    Writer::None
                },
                Writer::Rests,
            ),
            other => other,
        };
        // Whoever comes now waits for nobody.
        open.queue.fail();
        match &*writer {
            Writer::Rests(held) if held.left.is_none() => Ok(()),
            _ => Err(Outage),
        }
    }

    /// Takes a store again that was let go of, and writes what has come meanwhile.
    ///
    /// # Errors
    /// Where it cannot be had, or somebody else has written to it: what this process knows is not what is there.
    pub fn retake(&self) -> Result<(), StoreError> {
        if let Kind::Shared(shared) = &self.0 {
            shared.retake();
        }
        let Some(open) = self.disk() else { return Ok(()) };
        let mut writer = open.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match std::mem::take(&mut *writer) {
            Writer::Rests(held) => held,
            other => {
                *writer = other;
                return Ok(());
            }
        };
        let sum = held.sums.sum();
        let left = held.left.as_ref().map_or(sum, |(_, left)| left.sum);
        *writer = match again(|| Disk::reopen(&open.place.folder, [&sum, &left])) {
            Ok(disk) => Writer::Runs(open.write(disk, held)?),
            Err(error) => {
                *writer = Writer::Rests(held);
                return Err(error.into());
            }
        };
        Ok(())
    }

    /// True where it was let go of, and not taken again.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.0 {
            Kind::Memory => false,
            Kind::Disk(open) => open.queue.is_closed(),
            Kind::Shared(shared) => shared.is_closed(),
        }
    }
}

/// Tries until whoever has the store lets go of it, for a while.
fn again<T>(mut open: impl FnMut() -> Result<T, DiskError>) -> Result<T, DiskError> {
    for _ in 0..250 {
        match open() {
            Err(DiskError::Locked(_)) => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened,
        }
    }
    open()
}

impl Open {
    /// Begins to write.
    fn write(&self, disk: Disk, held: Held) -> Result<JoinHandle<Held>, StoreError> {
        self.done.bytes.store(disk.size(), std::sync::atomic::Ordering::Relaxed);
        self.queue.reopen();
        let thread = std::thread::Builder::new().name("store".to_owned());
        let (queue, done) = (Arc::clone(&self.queue), Arc::clone(&self.done));
        let writer = thread.spawn(move || writer::run(&queue, disk, held, &done));
        writer.map_err(StoreError::Thread)
    }
}

/// Opens the store at `place`, or begins it; `random` are 64 random bytes for one that begins.
///
/// # Errors
/// See [`StoreError`]. Nothing of a store that is refused is changed.
pub fn open(place: &Place, random: [u8; 64]) -> Result<Opened, StoreError> {
    let random = Zeroizing::new(random);
    let (mut key, mut secret) = ([0; 32], [0; 32]);
    key.copy_from_slice(&random[..32]);
    secret.copy_from_slice(&random[32..]);
    let new = !disk::exists(&place.folder)?;
    if new {
        // The key file may lie in the folder.
        std::fs::create_dir_all(&place.folder)
            .map_err(|source| DiskError::Folder { path: place.folder.clone(), source })?;
    }
    let keys = Keys::load(&place.keys, new.then_some(key))?;
    let disk = Disk::open(&place.folder)?;
    let (queue, done) = (Arc::new(Queue::new()), Arc::new(Done::default()));
    let open = Open { queue, done, place: place.clone(), writer: Mutex::default() };
    let store = Store(Kind::Disk(Arc::new(open)));
    let mut opened = Opened { place: place.clone(), disk, keys, secret, store };
    let kept = opened.disk.get(SECRET)?.map(|sealed| seal::open(&opened.keys, SECRET, &sealed));
    let seal_anew = match kept.transpose().map_err(|error| opened.refused(error))? {
        Some((kept, old)) => {
            let kept = kept.as_slice().try_into();
            opened.secret = kept.map_err(|_| damaged(&place.folder, "its secret is none"))?;
            old
        }
        None => true,
    };
    if seal_anew {
        opened.seal_secret()?;
    }
    Ok(opened)
}

/// More room than for so many records is not made in advance.
const MOST_EXPECTED: usize = 1 << 24;
/// What the secret is kept under.
const SECRET: &[u8] = b"secret";

impl Opened {
    /// Seals the secret with the key that seals now, and notes what that is called.
    fn seal_secret(&self) -> Result<(), StoreError> {
        let mut text = seal::room();
        text.extend_from_slice(&self.secret);
        let sealed = seal::seal(&self.keys, SECRET, text).map_err(|error| self.refused(error))?;
        if let Some(key) = self.keys.first() {
            self.disk.put(&key_name(key.print), key.name.as_bytes())?;
        }
        Ok(self.disk.put(SECRET, &sealed)?)
    }

    fn refused(&self, error: SealError) -> StoreError {
        let folder = &self.place.folder;
        match error {
            SealError::Newer => damaged(folder, "a record was written by a newer version").into(),
            SealError::Key(print) => {
                let name = self.disk.get(&key_name(print)).ok().flatten();
                let name =
                    name.map_or_else(|| "?".to_owned(), |name| String::from_utf8_lossy(&name).into_owned());
                StoreError::Key { key: name, folder: folder.clone(), keys: self.place.keys.clone() }
            }
            SealError::Damaged => damaged(folder, "a record does not open").into(),
        }
    }

    /// 32 random bytes that are the store's own from its beginning: what names and hashes of this installation are keyed
    /// with.
    #[must_use]
    pub const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// What was noted under `name`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn noted(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk.get(&note_name(name))?)
    }

    /// Notes something that is no secret under `name`; on disk when this returns.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn note(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        Ok(self.disk.put(&note_name(name), value)?)
    }

    /// The store, for those who will change sessions; nothing is written before [`Read::start`].
    #[must_use]
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// What to say where something that was noted makes no sense.
    #[must_use]
    pub fn damaged(&self, what: &str) -> StoreError {
        damaged(&self.place.folder, what).into()
    }

    /// How many records there are.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn count(&self) -> Result<usize, StoreError> {
        // A count that was damaged is no reason to ask for all of the memory.
        Ok(self.disk.count()?.min(MOST_EXPECTED))
    }

    /// What opens the records that [`Opened::read`] finds. The store is in use as long as one is there.
    #[must_use]
    pub fn opener(&self) -> Opener {
        Opener::new(self.keys.clone(), self.disk.clone())
    }

    /// Shows what leads to every session, on as many `threads` at once, each to what `begin` gives for that thread and in the
    /// order of the sessions' names: the name, and the front of its record.
    ///
    /// # Errors
    /// See [`StoreError`]; one record that was sealed with a key that is not there is enough, or one that is missing.
    pub fn read<L: FnMut([u8; 8], &[u8]) -> Result<(), StoreError>>(
        self,
        threads: usize,
        begin: impl Fn() -> L + Sync,
    ) -> Result<Read, StoreError> {
        let (all, many) = (Mutex::new(Sums::default()), self.count()?);
        let share = 256_usize.div_ceil(threads.clamp(1, 256));
        let starts = (0..256_usize).step_by(share);
        let read = |start: usize| {
            let span = (start as u8, (start + share - 1).min(255) as u8);
            let (mut refusal, mut sums) = (None, Sums::default());
            let mut look = begin();
            sums.expect(many, span);
            let read = self.disk.leads(span, |name, lead| {
                sums.add(name, lead.part);
                let key = self.keys.of(lead.print).ok_or_else(|| self.refused(SealError::Key(lead.print)));
                key.and_then(|_| look(name, lead.front)).map_err(|error| {
                    refusal = Some(error);
                    damaged(&self.place.folder, "")
                })
            });
            all.lock().unwrap_or_else(PoisonError::into_inner).join(sums);
            match (read, refusal) {
                (_, Some(refusal)) => Err(refusal),
                (read, None) => read.map_err(StoreError::from),
            }
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = starts.map(|start| scope.spawn(move || read(start))).collect();
            parts.into_iter().try_for_each(|part| match part.join() {
                Ok(read) => read,
                Err(_) => Err(damaged(&self.place.folder, "reading it fails").into()),
            })
        })?;
        let sums = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.disk.check(&sums)?;
        Ok(Read { opened: self, sums })
    }
}

/// A store whose records have been read.
#[derive(Debug)]
pub struct Read {
    opened: Opened,
    sums: Sums,
}

impl Read {
    /// Begins to write.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(self) -> Result<(), StoreError> {
        let Self { opened: Opened { place, disk, keys, store, .. }, sums } = self;
        let Some(open) = store.disk() else { return Ok(()) };
        let runs = open.write(disk, Held { folder: place.folder, keys, sums, left: None })?;
        *open.writer.lock().unwrap_or_else(PoisonError::into_inner) = Writer::Runs(runs);
        Ok(())
    }
}

/// Waits until the store at `place` is nobody else's, for `patience` at the most, and opens it.
///
/// # Errors
/// As [`open`].
pub fn open_in_turn(place: &Place, random: [u8; 64], patience: Duration) -> Result<Opened, StoreError> {
    let began = tokio::time::Instant::now();
    let mut told = false;
    loop {
        match open(place, random) {
            Err(StoreError::Disk(DiskError::Locked(_))) if began.elapsed() < patience => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(folder = %place.folder.display(), "another process still has the store; waiting for it");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}

fn key_name(print: Print) -> Vec<u8> {
    [b"key ", &print[..]].concat()
}

/// The folder of a store whose config names none: `$STATE_DIRECTORY` (systemd), else `/var/lib/sessionbridge` where it can
/// be written, else a folder of the user's own. `env` reads a variable.
#[must_use]
pub fn usual_folder(env: impl Fn(&str) -> Option<String>) -> PathBuf {
    if let Some(state) = state_folder(&env) {
        return state;
    }
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let system = Path::new(SYSTEM_FOLDER);
    if is_writable(system) {
        return system.to_owned();
    }
    let home = || PathBuf::from(env("HOME").unwrap_or_default()).join(".local/state");
    env("XDG_STATE_HOME").map_or_else(home, PathBuf::from).join("sessionbridge")
}

/// Where services keep what they have to keep.
pub const SYSTEM_FOLDER: &str = "/var/lib/sessionbridge";

/// The folder that systemd gives a unit that asks for one. `env` reads a variable.
pub fn state_folder(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let state = env("STATE_DIRECTORY").filter(|value| !value.is_empty())?;
    // Several, separated by colons, where a unit asks for several.
    state.split(':').next().map(PathBuf::from)
}

/// True where `folder` is there and can be written, or can be made.
fn is_writable(folder: &Path) -> bool {
    let probe = folder.join(".sessionbridge-probe");
    let made = !folder.exists();
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&probe, ""));
    let _ = std::fs::remove_file(probe);
    if made && written.is_err() {
        let _ = std::fs::remove_dir(folder);
    }
    written.is_ok()
}
