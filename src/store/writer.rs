//! The one thread that writes the store: group after group, for as long as the store is open.
//!
//! Invariants: a group is settled only when all of it is on disk; one that cannot be written is tried again, and nothing
//! that came later goes before it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::disk::{Change, Commit, Disk, DiskError};
use super::keys::Keys;
use super::queue::{Group, Queue};
use super::seal;
use super::sum::Sums;

/// How long it waits before it tries again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the writer has done so far.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) groups: AtomicU64,
    pub(super) records: AtomicU64,
    /// Groups that could not be written at once.
    pub(super) failures: AtomicU64,
    /// Microseconds from taking a group to its being on disk, all together.
    pub(super) micros: AtomicU64,
    /// Bytes on disk, as last looked at.
    pub(super) bytes: AtomicU64,
}

/// How the store is opened anew after a failure.
pub(super) type Reopen = Box<dyn Fn() -> Result<Disk, DiskError> + Send>;

/// Writes what `queue` brings until it is closed, then lets go of the store.
pub(super) fn run(queue: &Queue, held: (Disk, Sums), reopen: &Reopen, keys: &Keys, done: &Done) {
    let (mut disk, mut sums) = (Some(held.0), held.1);
    while let Some(group) = queue.take() {
        let began = Instant::now();
        let count = group.records.len();
        let mark = group.mark;
        let changes = changes(&group, keys);
        let sum = sums.after(&changes);
        let commit = Commit { changes, sum, notes: group.notes };
        drop(group.records);
        if !write(queue, &mut disk, reopen, &commit, done) {
            break;
        }
        let groups = done.groups.fetch_add(1, Ordering::Relaxed);
        done.records.fetch_add(count as u64, Ordering::Relaxed);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        done.micros.fetch_add(micros, Ordering::Relaxed);
        queue.settle(mark);
        if groups.is_multiple_of(1024)
            && let Some(disk) = &disk
        {
            done.bytes.store(disk.size(), Ordering::Relaxed);
        }
    }
}

/// What a group changes: of a record that is in it twice, only once. What cannot be sealed is left as it was.
fn changes(group: &Group, keys: &Keys) -> Vec<Change> {
    let mut places: HashMap<[u8; 8], usize, foldhash::fast::RandomState> = HashMap::default();
    let mut changes: Vec<Change> = Vec::with_capacity(group.records.len());
    for record in &group.records {
        let name = record.name();
        let mut text = seal::room();
        let record = record.write(&mut text).then(|| seal::seal(keys, &name, text)).transpose();
        let Ok(record) = record else {
            tracing::error!("a session cannot be sealed, and is not kept: the system gives no randomness");
            continue;
        };
        match places.get(&name).and_then(|at| changes.get_mut(*at)) {
            Some(change) => change.record = record,
            None => {
                places.insert(name, changes.len());
                changes.push(Change { name, record });
            }
        }
    }
    changes
}

/// Brings `changes` to disk, however long it takes. False where the queue was closed before it could be done.
fn write(queue: &Queue, disk: &mut Option<Disk>, reopen: &Reopen, commit: &Commit, done: &Done) -> bool {
    let mut tries = 0_u32;
    loop {
        let written = match disk.take().map_or_else(reopen, Ok) {
            Ok(open) => open.commit(commit).map(|()| open),
            Err(error) => Err(error),
        };
        let error = match written {
            Ok(open) => {
                *disk = Some(open);
                if tries > 0 {
                    tracing::warn!(tries, "the store can be written again");
                }
                return true;
            }
            // Whatever a failed write left behind is cut off as the store is opened again.
            Err(error) => error,
        };
        done.failures.fetch_add(u64::from(tries == 0), Ordering::Relaxed);
        queue.fail();
        // Once at first, then every half minute.
        if tries.is_multiple_of(60) {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, cause, "the store cannot be written: sessions go on, new ones are refused");
        }
        tries += 1;
        if queue.pause(PATIENCE) {
            tracing::error!(
                records = commit.changes.len(),
                "closed before the last changes could be written"
            );
            return false;
        }
    }
}
