//! What keeping sessions costs, and what it would cost otherwise: the store as it is (fjall, sealed), a redb database and a
//! bare file that is appended to, each with records of the size of a session, on this machine's disk.
//!
//! `cargo bench --bench store`; `-- 100000` for another number of sessions; `cargo test` only tries it out.
//! Time is told for groups of 1, 16 and 64 records, each made durable before the next; CPU is the process's own.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on stops")]
#![expect(clippy::disallowed_types, reason = "no test moves this clock")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use sessionbridge::store::{self, Head, Mark, Place, Record, Store};

/// Bytes of a session with two apps, as it is kept.
const SIZE: usize = 450;
const GROUPS: [u64; 3] = [1, 16, 64];
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");

/// A record of random bytes, which do not compress.
struct Session(u64);

impl Record for Session {
    fn name(&self) -> [u8; 8] {
        name(self.0)
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<Head> {
        out.extend_from_slice(&bytes(self.0));
        Some(Head::default())
    }
}

fn name(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn bytes(number: u64) -> Vec<u8> {
    let mut random = number.wrapping_mul(0xd129_0d3a_8a2b_11c5) | 1;
    let word = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    std::iter::repeat_with(word).flatten().take(SIZE).collect()
}

/// One way to keep sessions.
trait Keeps {
    /// Makes sessions durable, all at once.
    fn commit(&mut self, numbers: &mut dyn Iterator<Item = u64>);
    /// Ends it, opens it again and reads all. How many there are.
    fn read(self: Box<Self>, folder: &Path) -> u64;
}

struct Ours(Store);

impl Ours {
    fn open(folder: &Path) -> (Store, u64) {
        let place = Place { folder: folder.join("store"), keys: folder.join("keys") };
        let count = AtomicU64::new(0);
        let opened = store::open(&place, [7; 64]).unwrap();
        let kept = opened.store();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let read = opened.read(threads, |_, record, _| {
            count.fetch_add((record.len() / SIZE) as u64, Ordering::Relaxed);
            Ok(())
        });
        read.unwrap().start().unwrap();
        (kept, count.into_inner())
    }
}

impl Keeps for Ours {
    fn commit(&mut self, numbers: &mut dyn Iterator<Item = u64>) {
        for number in numbers {
            self.0.put(Mark::default(), || Arc::new(Session(number)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.0.settled()).unwrap();
    }

    fn read(self: Box<Self>, folder: &Path) -> u64 {
        self.0.close().unwrap();
        let (store, count) = Self::open(folder);
        store.close().unwrap();
        count
    }
}

struct Redb(Database);

impl Keeps for Redb {
    fn commit(&mut self, numbers: &mut dyn Iterator<Item = u64>) {
        let write = self.0.begin_write().unwrap();
        {
            let mut table = write.open_table(TABLE).unwrap();
            for number in numbers {
                table.insert(u64::from_be_bytes(name(number)), bytes(number).as_slice()).unwrap();
            }
        }
        write.commit().unwrap();
    }

    fn read(self: Box<Self>, folder: &Path) -> u64 {
        drop(self);
        let database = Database::open(folder.join("redb")).unwrap();
        let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
        table.iter().unwrap().map(|entry| (entry.unwrap().1.value().len() / SIZE) as u64).sum()
    }
}

struct Bare(File);

impl Keeps for Bare {
    fn commit(&mut self, numbers: &mut dyn Iterator<Item = u64>) {
        let group: Vec<u8> = numbers.flat_map(bytes).collect();
        self.0.write_all(&group).unwrap();
        self.0.sync_data().unwrap();
    }

    fn read(self: Box<Self>, folder: &Path) -> u64 {
        (std::fs::read(folder.join("bare")).unwrap().len() / SIZE) as u64
    }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // utime and stime, in hundredths of a second; the state before them is a letter.
    Duration::from_millis((fields[10] + fields[11]) * 10)
}

fn measure(what: &str, mut keeps: Box<dyn Keeps>, folder: &Path, sessions: u64, commits: usize) {
    let (began, before) = (Instant::now(), cpu());
    let mut all = 0..sessions;
    while all.start < sessions {
        let end = (all.start + 20_000).min(sessions);
        keeps.commit(&mut (all.start..end));
        all.start = end;
    }
    println!("{what:6} fill {sessions}: {:.2?}, {:.2?} of CPU", began.elapsed(), cpu() - before);
    let mut next = 0_u64;
    for size in GROUPS {
        let (mut took, before) = (Vec::new(), cpu());
        for _ in 0..commits {
            let numbers: Vec<u64> = (0..size)
                .map(|_| {
                    next =
                        next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (next >> 33) % sessions
                })
                .collect();
            let began = Instant::now();
            keeps.commit(&mut numbers.into_iter());
            took.push(began.elapsed());
        }
        took.sort();
        let each = (cpu() - before).as_secs_f64() * 1e6 / (commits as u64 * size) as f64;
        let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100]);
        println!(
            "{what:6} groups of {size:2}: median {half:.2?}, p99 {most:.2?}, {each:.1} us of CPU a record"
        );
    }
    let (began, before) = (Instant::now(), cpu());
    let read = keeps.read(folder);
    println!("{what:6} read {read}: {:.2?}, {:.2?} of CPU", began.elapsed(), cpu() - before);
    assert!(read >= sessions, "{read} are left");
}

fn main() {
    // As `cargo test` starts it: without `--bench`.
    let tries = !std::env::args().any(|argument| argument == "--bench");
    let given = std::env::args().filter_map(|argument| argument.parse().ok()).next();
    let sessions = given.unwrap_or(if tries { 300 } else { 1_000_000 });
    let commits = if tries { 3 } else { 1_000 };
    // Not in memory, where many systems keep their folder for temporary files.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = folder.path();
    let (ours, _) = Ours::open(folder);
    measure("store", Box::new(Ours(ours)), folder, sessions, commits);
    let redb = Database::builder().set_cache_size(64 << 20).create(folder.join("redb")).unwrap();
    measure("redb", Box::new(Redb(redb)), folder, sessions, commits);
    let bare = OpenOptions::new().create(true).append(true).open(folder.join("bare")).unwrap();
    measure("bare", Box::new(Bare(bare)), folder, sessions, commits);
}
