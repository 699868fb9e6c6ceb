//! What a tracked session costs: bytes at a hundred thousand and at a million, by part, and nanoseconds to find one.
//!
//! Every session is a person's with two apps, as the proxy would have it after a visit: one token of two parts and one of one,
//! 32 bytes each, kept by the rules of adoption, a session that is bound, its end and both heartbeats on the wheel.
//! Bytes are the growth of this process (`/proc/self/smaps_rollup`, proportional set size) while the thing is made.
//!
//! `-- 1000000 keep FOLDER` leaves them in a store instead, `-- 1000000 keep redis://HOST:PORT KEYS` in one that proxies share
//! (`benches/cluster/run memory` calls it).
//!
//! `cargo bench --bench sessions [-- 100000]` with the system's allocator, `--bench sessions_mimalloc` with the other.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a bench measures real time, and may panic"
)]

use std::hint::black_box;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use sessionbridge::bridge::app_session::{Edit, Public};
use sessionbridge::bridge::id::BridgeId;
use sessionbridge::bridge::rules::{AppIx, Clocks};
use sessionbridge::bridge::traits::ClientTraits;
use sessionbridge::bridge::vault::{Carrier, Reach, Role};
use sessionbridge::heartbeat::wheel::Wheel;
use sessionbridge::registry::agenda::{Entry, Waiting, Watch};
use sessionbridge::registry::options::Options;
use sessionbridge::registry::{Opened, Registry, Slot, Visitor, Walk};
use sessionbridge::secret::Secret;
use sessionbridge::store::shared::{self, SharedOptions};
use sessionbridge::store::{self, Place, Store};
use sessionbridge::time::Timestamp;

const APPS: [AppIx; 2] = [AppIx(0), AppIx(1)];

/// SplitMix64: tokens and ids of no meaning, the same in each run.
struct Numbers(u64);

impl Numbers {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 32 hexadecimal digits.
    fn token(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}

/// The id of the `n`th session.
fn id(n: u64) -> BridgeId {
    let mut numbers = Numbers(n << 20);
    BridgeId::new((u128::from(numbers.next()) << 64 | u128::from(numbers.next())).to_le_bytes())
}

fn visitor(n: u64) -> Visitor {
    Visitor { address: address(n), agent: n % 64 }
}

fn address(n: u64) -> IpAddr {
    IpAddr::from([10, (n >> 16) as u8, (n >> 8) as u8, n as u8])
}

/// What sessions have in common.
struct Common {
    traits: Vec<Arc<ClientTraits>>,
    public: Arc<Public>,
}

impl Common {
    fn new() -> Self {
        let traits = (0..64).map(|n| {
            let agent =
                format!("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{n}");
            Arc::new(ClientTraits {
                user_agent: HeaderValue::from_str(&agent).ok(),
                accept: Some(HeaderValue::from_static("text/html,application/xhtml+xml,*/*;q=0.8")),
                accept_language: Some(HeaderValue::from_static("de,en;q=0.7")),
                accept_encoding: Some(HeaderValue::from_static("gzip, deflate, br")),
            })
        });
        Self {
            traits: traits.collect(),
            public: Arc::new(Public { authority: "apps.example.org".into(), https: true }),
        }
    }
}

fn edit<'a>(name: &'a str, value: &'a str, path: &'a str, part: u8, parts: u8) -> Edit<'a> {
    Edit {
        name: name.as_bytes(),
        value: Some(value.as_bytes()),
        path: path.as_bytes(),
        host: b"",
        subdomains: false,
        expires: 0,
        role: Role::Token { token: 0, part },
        parts,
        rolling: false,
        carrier: Carrier::Cookie,
        secure: false,
        reach: Reach::default(),
    }
}

/// The visit of the `n`th person: a page of the first app, then one of the second, then her cookie comes back.
fn visit(registry: &Registry, common: &Common, n: u64) -> Arc<Slot> {
    let mut numbers = Numbers(n);
    let start = Timestamp::from_micros(1_800_000_000_000_000 + n * 40);
    let (mut random, wanted) = ([0; 16], id(n));
    random.copy_from_slice(&decode(&wanted));
    let (slot, made) = registry.create(random, start).unwrap();
    assert!(made == wanted);
    let tokens = [numbers.token(), numbers.token(), numbers.token()];
    let edits: [&[Edit<'_>]; 2] = [
        &[edit("CFID", &tokens[0], "/", 0, 2), edit("CFTOKEN", &tokens[1], "/", 1, 2)],
        &[edit("JSESSIONID", &tokens[2], "/appB", 0, 1)],
    ];
    slot.with(|session| {
        session.traits = Some(Arc::clone(&common.traits[(n % 64) as usize]));
        session.address = Some(address(n));
    });
    for (at, app) in APPS.into_iter().enumerate() {
        let asked = start.plus(Duration::from_millis(2500 * at as u64));
        let answered = asked.plus(Duration::from_micros(20_000 + n % 1000));
        slot.with(|session| {
            let held = session.app_or_new(app, answered).unwrap();
            held.public = Some(Arc::clone(&common.public));
            held.upstream = Some(0);
            let sent = held.sent(asked, false);
            held.request_began(asked);
            held.learn(sent, edits[at], answered);
            held.beat.canary = numbers.next();
            held.beat.armed = true;
            held.request_ended(answered);
            session.touch(app, true, asked);
            session.cadence.observe(n as u32, asked);
            session.ends_sooner(&registry.clocks(), Duration::ZERO);
        });
        let parts: Vec<&[u8]> = edits[at].iter().filter_map(|edit| edit.value).collect();
        registry.own_token(app, parts.into_iter(), &slot);
    }
    let back = registry.open(&wanted, visitor(n), start.plus(Duration::from_secs(1)));
    assert!(matches!(back, Opened::Session { bound: true, .. }));
    slot
}

fn decode(id: &BridgeId) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(id.encode()).unwrap()
}

/// This process's memory, in bytes.
fn memory() -> f64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

/// Puts all sessions to sleep; seconds.
fn rest(registry: &Registry) -> f64 {
    let (mut walk, pieces) = (Walk::default(), registry.pieces());
    let mut round = || (0..pieces).for_each(|_| registry.rest(&mut walk, Timestamp::ZERO));
    // What was used is left awake the first time.
    round();
    let began = Instant::now();
    round();
    let spent = began.elapsed().as_secs_f64();
    round();
    spent
}

/// Nanoseconds for one `work`, the median of several rounds of as many as `count`.
fn nanos(count: u64, mut work: impl FnMut(u64)) -> f64 {
    let mut rounds: Vec<f64> = (0..7)
        .map(|round| {
            let start = Instant::now();
            (0..count).for_each(|n| work(round * count + n));
            start.elapsed().as_secs_f64() * 1e9 / count as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn clocks() -> Clocks {
    Clocks {
        idle_timeout: Duration::from_secs(3600),
        max_lifetime: Duration::from_secs(12 * 3600),
        presence_limit: None,
        presence_ttl: Duration::from_secs(90),
    }
}

fn measure(count: u64, falls_asleep: bool) {
    let (clocks, common) = (clocks(), Common::new());
    let per = |bytes: f64| bytes / count as f64;
    let before = memory();
    let began = Instant::now();
    let registry = Registry::new(Options { max_sessions: 2_000_000 }, clocks, &[7; 32]);
    let mut slots = Vec::new();
    for n in 0..count {
        let slot = visit(&registry, &common, n);
        if n % 1000 == 0 {
            slots.push(slot);
        }
        // As time passes, the earlier ones fall asleep.
        if falls_asleep && n % (count / 50) == 0 {
            rest(&registry);
        }
    }
    let made = began.elapsed().as_secs_f64() * 1e6 / count as f64;
    if !falls_asleep {
        println!("{count} sessions: {:.0} B each awake; {made:.2} us to make", per(memory() - before));
    }
    let spent = rest(&registry) * 1e9 / count as f64;
    if falls_asleep {
        println!("{count} sessions: {:.0} B each asleep", per(memory() - before));
    } else {
        println!("{count} sessions: {spent:.0} ns to put one to sleep");
    }
    let before = memory();
    let wheel = armed(&slots, count);
    println!("{count} sessions: {:.0} B each in the wheel", per(memory() - before));
    drop(black_box(wheel));
    time_opens(&registry, count);
}

/// A wheel with two heartbeats and an end for each session.
fn armed(slots: &[Arc<Slot>], count: u64) -> Wheel<Waiting> {
    let mut wheel = Wheel::new(Timestamp::from_micros(1_800_000_000_000_000));
    for n in 0..count {
        let slot = &slots[(n / 1000) as usize];
        for (minutes, watch) in [(7, Watch::Beat(APPS[0])), (7, Watch::Beat(APPS[1])), (60, Watch::End)] {
            let due = Timestamp::from_micros(1_800_000_000_000_000 + n * 40)
                .plus(Duration::from_secs(minutes * 60));
            wheel.insert(due, Entry { slot: Arc::clone(slot), watch }.waiting());
        }
    }
    wheel
}

/// How long it takes to open a session by its id.
fn time_opens(registry: &Registry, count: u64) {
    let now = Timestamp::from_micros(1_800_000_000_000_000).plus(Duration::from_secs(120));
    let mut ids: Vec<BridgeId> = (0..1 << 20).map(|n| id(Numbers(n).next() % count)).collect();
    ids.truncate(1 << 20);
    let open = |id: &BridgeId, n: u64| {
        // Who shows it does not matter to an id that has not been replaced.
        assert!(matches!(black_box(registry.open(id, visitor(n), now)), Opened::Session { .. }));
    };
    let woken = {
        let began = Instant::now();
        ids.iter().take(50_000).enumerate().for_each(|(n, id)| open(id, n as u64));
        began.elapsed().as_secs_f64() * 1e9 / 50_000.0
    };
    println!("{count} sessions: open one that sleeps, random: {woken:.0} ns");
    (0..count).for_each(|n| open(&id(n), n));
    println!("{count} sessions: open, random: {:.0} ns", nanos(100_000, |n| open(&ids[n as usize], n)));
    println!("{count} sessions: open, hot: {:.0} ns", nanos(100_000, |n| open(&ids[n as usize % 16], n)));
    println!(
        "the id's SHA-256 alone: {:.0} ns",
        nanos(100_000, |n| {
            black_box(ids[n as usize].key());
        })
    );
}

/// Leaves `count` sessions in a store at `url`, sealed with the key file `keys`.
fn share(count: u64, url: &str, keys: &str) {
    let options = SharedOptions { urls: vec![Secret::new(url.as_bytes())], ..SharedOptions::default() };
    let opened = shared::open(&options, Path::new(keys), sessionbridge::random::bytes()).unwrap();
    let (kept, secret) = (opened.store(), *opened.secret());
    let options = Options { max_sessions: 2_000_000 };
    let registry = Registry::kept_in(kept.clone(), options, clocks(), &secret);
    opened.start(|_| {});
    leave(count, &registry, &kept);
}

/// Leaves `count` sessions in a store in `folder`, for the start of a process to be timed (docs/performance.md).
fn keep(count: u64, folder: &str) {
    let place = Place { folder: folder.into(), keys: Path::new(folder).join("keys") };
    let opened = store::open(&place, [7; 64]).unwrap();
    let kept = opened.store();
    let options = Options { max_sessions: 2_000_000 };
    let registry = Registry::kept_in(kept.clone(), options, clocks(), opened.secret());
    opened.read(1, || |_, _: &[u8]| Ok(())).unwrap().start().unwrap();
    leave(count, &registry, &kept);
}

fn leave(count: u64, registry: &Registry, kept: &Store) {
    let (common, runtime) = (Common::new(), tokio::runtime::Builder::new_current_thread().build().unwrap());
    // A server that is too busy to answer in time has what it was told some moments later.
    let settle = || {
        while runtime.block_on(kept.settled()).is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    for n in 0..count {
        registry.put(&visit(registry, &common, n));
        if n % 1000 == 0 {
            // Groups like those of a service: one that is too long for a journal is left in one, and read from there.
            settle();
        }
        if n % 10_000 == 0 {
            rest(registry);
        }
    }
    settle();
    kept.close().unwrap();
}

/// Measures, each thing in a process of its own: what one gave back would not be counted for the next.
pub(crate) fn main() {
    let counts: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let mut arguments = std::env::args().skip_while(|argument| argument != "keep");
    if let (Some(_), Some(folder), keys) = (arguments.next(), arguments.next(), arguments.next()) {
        let leave = |count: &u64| match &keys {
            Some(keys) if folder.contains("://") => share(*count, &folder, keys),
            _ => keep(*count, &folder),
        };
        return counts.iter().for_each(leave);
    }
    let ways = [("asleep", true), ("awake", false)];
    if let Some((_, falls_asleep)) = ways.iter().find(|(way, _)| std::env::args().any(|arg| arg == *way)) {
        counts.iter().for_each(|count| measure(*count, *falls_asleep));
        return;
    }
    // `cargo bench` says so; `cargo test` only wants to see that it runs.
    let usual =
        if std::env::args().any(|arg| arg == "--bench") { vec![100_000, 1_000_000] } else { vec![100] };
    for count in if counts.is_empty() { usual } else { counts } {
        for (way, _) in ways {
            let mut measured = std::process::Command::new(std::env::current_exe().unwrap());
            assert!(measured.args([way, &count.to_string()]).status().unwrap().success());
        }
    }
}
