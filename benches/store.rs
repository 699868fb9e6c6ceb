//! What keeping sessions costs, and what it would cost otherwise: in memory alone, the store as it is (fjall, sealed), the one
//! that several proxies share (a `redis-server` of its own on loopback, where there is one), a redb database and a bare file
//! that is appended to, each with records of the size of a session, on this machine's disk.
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
use sessionbridge::clock::Clock;
use sessionbridge::secret::Secret;
use sessionbridge::store::shared::{self, SharedOptions};
use sessionbridge::store::{self, Fetched, Head, Index, Key, Mark, Place, Record, Store};
use sessionbridge::time::Timestamp;

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

/// Makes the record of a session.
type Makes = Box<dyn Fn(u64) -> Arc<dyn Record>>;

/// One way to keep sessions.
trait Keeps {
    /// Makes sessions durable, all at once.
    fn commit(&mut self, numbers: &mut dyn Iterator<Item = u64>);
    /// The store itself, and its records, if it is one of ours.
    fn ours(&self) -> Option<(Store, Makes)> {
        None
    }
    /// Ends it, opens it again and reads all. How many there are.
    fn read(self: Box<Self>, folder: &Path) -> u64;
}

struct Ours(Store);

impl Ours {
    fn open(folder: &Path) -> (Store, u64) {
        let place = Place { folder: folder.join("store"), keys: folder.join("keys") };
        let count = AtomicU64::new(0);
        let opened = store::open(&place, [7; 64]).unwrap();
        let (kept, opener) = (opened.store(), opened.opener());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let read = opened.read(threads, || {
            let mut turn = None;
            let (opener, count) = (&opener, &count);
            move |name, _: &[u8]| {
                let turn = turn.get_or_insert_with(|| opener.in_turn(name));
                let size = turn.open(name, |record: &[u8], _: Option<&[u8]>, _: bool| Some(record.len()))?;
                count.fetch_add((size / SIZE) as u64, Ordering::Relaxed);
                Ok(())
            }
        });
        read.unwrap().start().unwrap();
        (kept, count.into_inner())
    }
}

impl Keeps for Ours {
    fn ours(&self) -> Option<(Store, Makes)> {
        Some((self.0.clone(), Box::new(|number| Arc::new(Session(number)))))
    }

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

/// No more than the processes' memory.
struct Memory(Store);

impl Keeps for Memory {
    fn ours(&self) -> Option<(Store, Makes)> {
        Some((self.0.clone(), Box::new(|number| Arc::new(Session(number)))))
    }

    fn commit(&mut self, numbers: &mut dyn Iterator<Item = u64>) {
        for number in numbers {
            self.0.put(Mark::default(), || Arc::new(Session(number)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.0.settled()).unwrap();
    }

    fn read(self: Box<Self>, _folder: &Path) -> u64 {
        u64::MAX
    }
}

/// A session of the shared store knows what is there.
struct SharedSession {
    number: u64,
    owner: u64,
    tag: AtomicU64,
    clock: Clock,
}

impl Record for SharedSession {
    fn name(&self) -> [u8; 8] {
        name(self.number)
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<Head> {
        out.extend_from_slice(&bytes(self.number));
        let mut head = Head {
            tag: self.tag.load(Ordering::Relaxed),
            owner: self.owner,
            expires: self.clock.now().plus(Duration::from_secs(8 * 3600)),
            ..Head::default()
        };
        if head.tag == 0 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&self.name());
            head.index.extend([Index::Id(id), Index::Token(self.number), Index::Token(!self.number)]);
        }
        Some(head)
    }

    fn written(&self, tag: u64, _at: Timestamp) {
        self.tag.store(tag, Ordering::Relaxed);
    }
}

struct Shared {
    server: Server,
    store: Store,
    sessions: Vec<Arc<SharedSession>>,
}

/// A `redis-server`, and what it has cost so far.
struct Server(std::process::Child, u16);

impl Server {
    /// Where there is one on this machine.
    fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = std::process::Command::new("redis-server");
        command.args([
            "--save",
            "",
            "--appendonly",
            "no",
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ]);
        let server = Self(command.stdout(std::process::Stdio::null()).spawn().ok()?, port);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(server)
    }

    fn says(&self, what: &str) {
        let memory = redis_info(self.1, "used_memory");
        println!("{what:6} server: {:.2?} of CPU so far, {memory} bytes", cpu_of(&self.0.id().to_string()));
    }
}

/// A number that a server tells of itself.
fn redis_info(port: u16, name: &str) -> u64 {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"INFO\r\nQUIT\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().parse().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Shared {
    fn open(server: Server, folder: &Path, sessions: u64) -> Self {
        std::fs::write(folder.join("shared-keys"), "k1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
            .unwrap();
        let urls = vec![Secret::new(format!("redis://127.0.0.1:{}", server.1).into_bytes())];
        let options = SharedOptions { urls, ..SharedOptions::default() };
        let opened = shared::open(&options, &folder.join("shared-keys"), [7; 64]).unwrap();
        let store = opened.store();
        opened.start(|_| {});
        let clock = Clock::system();
        let owner = store.me();
        let session = |number| Arc::new(SharedSession { number, owner, tag: AtomicU64::new(0), clock });
        Self { server, store, sessions: (0..sessions).map(session).collect() }
    }
}

impl Keeps for Shared {
    fn ours(&self) -> Option<(Store, Makes)> {
        let sessions = self.sessions.clone();
        let make =
            move |number: u64| Arc::clone(&sessions[usize::try_from(number).unwrap()]) as Arc<dyn Record>;
        Some((self.store.clone(), Box::new(make)))
    }

    fn commit(&mut self, numbers: &mut dyn Iterator<Item = u64>) {
        for number in numbers {
            let session = Arc::clone(&self.sessions[usize::try_from(number).unwrap()]);
            self.store.put(Mark::default(), || session);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.store.settled()).unwrap();
    }

    /// Asks for each of them, 64 at once, as requests do whose sessions other proxies had.
    fn read(self: Box<Self>, _folder: &Path) -> u64 {
        self.server.says("shared");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut found = 0;
        for chunk in self.sessions.chunks(64) {
            let asked = chunk.iter().map(|session| self.store.fetch(Key::Name(session.name())));
            let asked = runtime.block_on(futures_util::future::join_all(asked));
            found += asked.iter().filter(|found| matches!(found, Ok(Fetched::Record { .. }))).count();
        }
        self.server.says("shared");
        println!("shared facts: {:?}", self.store.facts());
        found as u64
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
    cpu_of("self")
}

fn cpu_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // utime and stime, in hundredths of a second; the state before them is a letter.
    Duration::from_millis((fields[10] + fields[11]) * 10)
}

/// 64 that change a session each and wait for their own, again and again, as requests on 64 connections do.
fn together(what: &str, store: &Store, make: &Makes, sessions: u64, commits: u64) {
    const AT_ONCE: u64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (began, before) = (Instant::now(), cpu());
    let one = |number: u64| async move {
        let mut took = Vec::new();
        for round in 0..commits / AT_ONCE {
            let session = (number * 7919 + round * 104_729) % sessions;
            let began = Instant::now();
            let mark = store.put(Mark::default(), || make(session));
            store.committed(mark).await.unwrap();
            took.push(began.elapsed());
        }
        took
    };
    let all = runtime.block_on(futures_util::future::join_all((0..AT_ONCE).map(one)));
    let mut took: Vec<Duration> = all.into_iter().flatten().collect();
    took.sort();
    if took.is_empty() {
        return;
    }
    let many = took.len() as f64;
    let each = (cpu() - before).as_secs_f64() * 1e6 / many;
    let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    let rate = many / began.elapsed().as_secs_f64();
    println!(
        "{what:6} 64 at once: median {half:.2?}, p99 {most:.2?}, {each:.1} us of CPU each, {rate:.0} a second"
    );
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
    if let Some((store, make)) = keeps.ours() {
        together(what, &store, &make, sessions, commits as u64 * 10);
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
    measure("memory", Box::new(Memory(Store::memory())), folder, sessions, commits);
    match Server::start() {
        Some(server) => {
            let shared = Box::new(Shared::open(server, folder, sessions));
            measure("shared", shared, folder, sessions, commits);
        }
        None => println!("shared left out: there is no redis-server (apt-get install redis-server)"),
    }
    let (ours, _) = Ours::open(folder);
    measure("store", Box::new(Ours(ours)), folder, sessions, commits);
    let redb = Database::builder().set_cache_size(64 << 20).create(folder.join("redb")).unwrap();
    measure("redb", Box::new(Redb(redb)), folder, sessions, commits);
    let bare = OpenOptions::new().create(true).append(true).open(folder.join("bare")).unwrap();
    measure("bare", Box::new(Bare(bare)), folder, sessions, commits);
}
