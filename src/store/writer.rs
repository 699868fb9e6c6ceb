//! The one thread that writes the store: group after group, for as long as the store is open.
//!
//! Invariants: a group is settled only when all of it is on disk, but for clocks, for which nobody waits: they follow in small
//! portions, since whoever serves may share this thread's core. What cannot be written is tried again, and nothing that came later
//! goes before it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::disk::{Change, Commit, Disk, DiskError, Kept, Lead, Stand, damaged};
use super::keys::Keys;
use super::queue::{Clocks, Group, Mark, Queue};
use super::seal::{self, SealError};
use super::sum::Sums;

/// How long it waits before it tries again.
const PATIENCE: Duration = Duration::from_millis(500);

/// Clocks that are written at once, as a rule: some 0.3 ms.
const PORTION: usize = 128;

/// What the writer has done so far.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) groups: AtomicU64,
    pub(super) records: AtomicU64,
    /// Sessions whose clocks alone were written.
    pub(super) clocks: AtomicU64,
    /// Groups that could not be written at once.
    pub(super) failures: AtomicU64,
    /// Microseconds from taking a group to its being on disk, all together.
    pub(super) micros: AtomicU64,
    /// Bytes on disk, as last looked at.
    pub(super) bytes: AtomicU64,
}

/// What the writer knows, also while it has no store.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) folder: PathBuf,
    pub(super) keys: Keys,
    /// Of what it wrote last.
    pub(super) sums: Sums,
    /// What it could not write before it was closed, and the group that it settles.
    pub(super) left: Option<(Mark, Commit)>,
}

/// Writes what `queue` brings until it is closed, then lets go of the store.
pub(super) fn run(queue: &Queue, disk: Disk, mut held: Held, done: &Done) -> Held {
    let _whoever_waits_is_told = Ends(queue);
    let mut disk = Some(disk);
    if let Some((mark, left)) = held.left.take() {
        match write(queue, &mut disk, &mut held, left, done) {
            Ok(()) => queue.settle(mark),
            Err(left) => held.left = Some((mark, left)),
        }
    }
    let mut over = Over::default();
    while held.left.is_none()
        && let Some(group) = over.next(queue)
    {
        let wrote = match group {
            Some(group) => write_group(queue, &mut disk, &mut held, (group, &mut over), done),
            None => Ok(()),
        };
        // After each group too: where the next one is always due, clocks would never be written.
        let wrote = wrote.and_then(|()| write_some(queue, &mut disk, &mut held, &mut over, done));
        match wrote {
            Ok(()) => over.settle(queue),
            Err(mut left) => {
                let clocks = stands(&held, over.clocks.drain(..).rev());
                let kept = |stand: &Stand| !left.changes.iter().any(|change| change.name == stand.0);
                left.clocks.extend(clocks.into_iter().filter(kept));
                left.syncs = true;
                held.left = over.owed.map(|mark| (mark, left));
            }
        }
    }
    held
}

/// Clocks of groups that were taken and are not on disk yet.
#[derive(Default)]
struct Over {
    /// Of each session the last, by name, the highest first.
    clocks: Vec<Clocks>,
    /// The last group that was taken: settled when there are none any more, at the latest.
    owed: Option<Mark>,
}

impl Over {
    /// What is to be done next: a group, or, while none is due, some of these. `None`: the queue is closed, and all is done.
    fn next(&self, queue: &Queue) -> Option<Option<Group>> {
        if self.clocks.is_empty() { queue.take().map(Some) } else { Some(queue.try_take()) }
    }

    /// Takes more in. In order the database takes them in faster.
    fn add(&mut self, mut more: Vec<Clocks>, queue: &Queue) {
        if !more.is_empty() {
            self.clocks.append(&mut more);
            self.clocks.sort_by_key(|clocks| clocks.name);
            self.clocks.reverse();
            self.clocks.dedup_by_key(|clocks| clocks.name);
        }
        queue.give_back(more);
    }

    fn settle(&mut self, queue: &Queue) {
        if self.clocks.is_empty()
            && let Some(mark) = self.owed.take()
        {
            queue.settle(mark);
        }
    }
}

/// Brings a group to disk and settles it, but for its clocks.
///
/// # Errors
/// What could not be written before the queue was closed.
fn write_group(
    queue: &Queue,
    disk: &mut Option<Disk>,
    held: &mut Held,
    (group, over): (Group, &mut Over),
    done: &Done,
) -> Result<(), Commit> {
    let began = Instant::now();
    let (count, mark) = (group.records.len(), group.mark);
    let changes = changes(&group, &held.keys);
    over.add(group.clocks, queue);
    over.owed = Some(mark);
    let waits = count > 0 || !group.notes.is_empty();
    if waits {
        let sum = held.sums.after(&changes);
        let commit = Commit { sum, changes, clocks: Vec::new(), notes: group.notes, syncs: true };
        drop(group.records);
        write(queue, disk, held, commit, done)?;
    }
    let groups = done.groups.fetch_add(1, Ordering::Relaxed);
    done.records.fetch_add(count as u64, Ordering::Relaxed);
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    done.micros.fetch_add(micros, Ordering::Relaxed);
    if waits {
        queue.settle(mark);
    }
    if groups.is_multiple_of(1024)
        && let Some(disk) = disk
    {
        done.bytes.store(disk.size(), Ordering::Relaxed);
    }
    Ok(())
}

/// Writes some of the clocks that stand over, if any do, and lets others have the core.
///
/// # Errors
/// As [`write_group`].
fn write_some(
    queue: &Queue,
    disk: &mut Option<Disk>,
    held: &mut Held,
    over: &mut Over,
    done: &Done,
) -> Result<(), Commit> {
    if over.clocks.is_empty() {
        return Ok(());
    }
    // The more there are, the more at once: they come to an end, however long a group takes.
    let many = PORTION.max(over.clocks.len() / 64);
    let some = over.clocks.split_off(over.clocks.len().saturating_sub(many));
    let clocks = stands(held, some.into_iter().rev());
    let (written, syncs) = (clocks.len() as u64, over.clocks.is_empty());
    let commit = Commit { sum: held.sums.sum(), changes: Vec::new(), clocks, notes: Vec::new(), syncs };
    write(queue, disk, held, commit, done)?;
    done.clocks.fetch_add(written, Ordering::Relaxed);
    std::thread::yield_now();
    Ok(())
}

/// What the clocks of those sessions are to stand at that have a record.
fn stands(held: &Held, clocks: impl Iterator<Item = Clocks>) -> Vec<Stand> {
    let known = clocks.filter(|clocks| held.sums.knows(clocks.name));
    known
        .filter_map(|clocks| Some((clocks.name, seal::sign(&held.keys, &clocks.name, &clocks.bytes)?)))
        .collect()
}

/// With the writer nobody brings anything to disk any more, however it ended.
struct Ends<'a>(&'a Queue);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fail();
    }
}

/// What a group changes: of a record that is in it twice, only once. What cannot be sealed is left as it was.
fn changes(group: &Group, keys: &Keys) -> Vec<Change> {
    let mut places: HashMap<[u8; 8], usize, foldhash::fast::RandomState> = HashMap::default();
    let mut changes: Vec<Change> = Vec::with_capacity(group.records.len());
    for record in &group.records {
        let name = record.name();
        let mut text = seal::room();
        let kept = record.write(&mut text).map(|head| kept(&head.front, keys, name, text)).transpose();
        let Ok(kept) = kept else {
            tracing::error!("a session cannot be sealed, and is not kept: the system gives no randomness");
            continue;
        };
        match places.get(&name).and_then(|at| changes.get_mut(*at)) {
            Some(change) => change.kept = kept,
            None => {
                places.insert(name, changes.len());
                changes.push(Change { name, kept });
            }
        }
    }
    changes
}

/// What is kept of a session that is written as `text`, with this front.
fn kept(front: &[u8], keys: &Keys, name: [u8; 8], text: Vec<u8>) -> Result<Kept, SealError> {
    let print = keys.first().ok_or(SealError::Damaged)?.print;
    let record = seal::seal_with(front, keys, &name, text)?;
    Ok(Kept { lead: Lead::write(print, front, &record), record })
}

/// Brings a commit to disk, however long it takes.
///
/// # Errors
/// It, where the queue was closed before that could be done.
fn write(
    queue: &Queue,
    disk: &mut Option<Disk>,
    held: &mut Held,
    commit: Commit,
    done: &Done,
) -> Result<(), Commit> {
    let (mut tries, before) = (0_u32, held.sums.sum());
    loop {
        // The database is not ours: a panic of its is a failure like any other.
        let written = catch_unwind(AssertUnwindSafe(|| {
            let open = match disk.take() {
                Some(open) => open,
                None => Disk::reopen(&held.folder, [&before, &commit.sum])?,
            };
            open.commit(&commit).map(|()| open)
        }));
        match written.unwrap_or_else(|_| Err(damaged(&held.folder, "writing it fails"))) {
            Ok(open) => {
                *disk = Some(open);
                held.sums.apply(&commit.changes);
                if tries > 0 {
                    tracing::warn!(tries, "the store can be written again");
                }
                return Ok(());
            }
            // Whatever a failed write left behind is cut off as the store is opened again.
            Err(error) => told(&error, tries),
        }
        done.failures.fetch_add(u64::from(tries == 0), Ordering::Relaxed);
        queue.fail();
        tries += 1;
        if queue.pause(PATIENCE) {
            tracing::error!(
                records = commit.changes.len(),
                "closed before the last changes could be written"
            );
            return Err(commit);
        }
    }
}

/// Says what failed: at first, then every half minute.
fn told(error: &DiskError, tries: u32) {
    if tries.is_multiple_of(60) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, cause, "the store cannot be written: sessions go on, new ones are refused");
    }
}
