//! A store that several proxies share: Valkey or Redis, one server, one that sentinels watch over, or a cluster.
//!
//! One thread of its own has all connections (`link.rs`) and does everything by turns: it brings what is in the queue into the
//! store (`writer.rs`), carries what requests ask (`asks.rs`), hears what other proxies change (`news.rs`), renews this
//! proxy's lease and sees whether the store is still what it was (`pulse.rs`), and takes over what the dead owned
//! (`takeover.rs`). What is done in the store in one step is a script (`scripts.rs`).
//!
//! Invariants: nothing secret is in the store in clear; what the store has lost is put back by those who know it, tombstones
//! first; nobody waits for a store that is away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::sync::{Notify, Semaphore, mpsc};
use zeroize::Zeroizing;

mod asks;
mod commands;
mod core;
mod fate;
mod handle;
mod hub;
mod link;
mod names;
mod news;
mod options;
mod patience;
mod pulse;
mod ring;
mod scripts;
mod standing;
mod takeover;
mod writer;

pub use options::{OnOutage, SharedOptions, Topology};
pub use patience::open_in_time;

use self::core::{Core, Counters};
use asks::Order;
use link::{Dial, bytes};
use names::Names;

use super::keys::{Keys, KeysError};
use super::queue::{Head, Outage, Queue};
use super::seal::{self, SealError};
use super::{Facts, Store, StoreError};
use crate::clock::Clock;

/// By what a session is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The hash of an id that opens it.
    Id([u8; 16]),
    /// The keyed hash of a token that it was given.
    Token(u64),
    /// Its name.
    Name([u8; 8]),
}

/// What is in the store of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Nothing.
    Nothing,
    /// Nothing, but for something that leads there: it is on its way, or long over.
    Dangling,
    /// A tombstone.
    Ended,
    /// A record, and what stands before it.
    Record {
        /// What stands before it.
        head: Head,
        /// Its bytes.
        record: Zeroizing<Vec<u8>>,
        /// Clocks that were put apart, which may be older than the record.
        clocks: Option<Vec<u8>>,
    },
}

/// What a proxy is told of a store that others change too. Sessions by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Another proxy has changed it, or has become its owner.
    Changed([u8; 8]),
    /// It has ended elsewhere, or cannot be kept.
    Ended([u8; 8]),
    /// From here on changes are not heard.
    Deaf,
    /// From here on changes are heard; what happened before was not.
    Hears,
    /// Its owner is gone, and this proxy is its owner now: it is to be fetched and watched over.
    Mine {
        /// Its name.
        name: [u8; 8],
    },
    /// The store may have lost it: it is to be put once more.
    Again([u8; 8]),
    /// The store has lost everything: all sessions are to be put once more, with all that leads to them.
    All,
    /// Another proxy has changed what is noted under this name.
    Noted(String),
    /// It has ended here, and nobody ended it before: its apps are to be told.
    First([u8; 8]),
    /// It has ended here, and somebody ended it before.
    Second([u8; 8]),
}

/// What a shared store has done and how it is, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedFacts {
    /// Round trips.
    pub trips: u64,
    /// How long they took, all together.
    pub trips_took: Duration,
    /// Writes that met somebody else's.
    pub conflicts: u64,
    /// Sessions that were taken over from proxies that are gone.
    pub takeovers: u64,
    /// Times that news could not be heard any more.
    pub deaf: u64,
    /// Sessions that were looked for.
    pub fetches: u64,
    /// Times that the store had lost something.
    pub reassertions: u64,
    /// Things under this store's keys that are nothing of ours, or cannot be read.
    pub refused: u64,
    /// Proxies whose leases are good.
    pub members: u64,
    /// True while news are heard.
    pub hears: bool,
    /// True while this proxy's lease is good.
    pub leased: bool,
    /// True where the store throws keys away when its memory is short.
    pub evicts: bool,
}

/// Why a shared store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// An address is none.
    #[error(
        "the address {0} of the shared store is none: redis://, rediss://, valkey:// or valkeys://, a host, a port"
    )]
    Address(usize),
    /// It cannot be reached, or used.
    #[error("the shared store cannot be used: {0}")]
    Away(String),
    /// Its secret does not open.
    #[error(
        "the shared store was sealed with a key that is not in {keys}; all proxies need the same key file"
    )]
    Key {
        /// Where the keys are.
        keys: PathBuf,
    },
    /// Its secret is damaged.
    #[error("the shared store is damaged: {0}")]
    Damaged(String),
    /// It cannot be read or written now.
    #[error(transparent)]
    Outage(#[from] Outage),
    /// Another proxy has changed it meanwhile.
    #[error("another proxy has changed {0} in the shared store; try again")]
    Changed(String),
}

/// A shared store, for those who use it.
pub(super) struct Shared {
    core: Arc<Core>,
    orders: mpsc::UnboundedSender<Order>,
    closed: AtomicBool,
}

/// A shared store that has been opened. Nothing is heard of it, and nothing owned in it, before [`Opened::start`].
pub struct Opened {
    store: Arc<Shared>,
    secret: [u8; 32],
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened(shared)")
    }
}

/// Opens the shared store that `options` tell of, sealed with the key file `keys`, which must be there and be the same for
/// every proxy. `random` are 64 random bytes: for the store's secret, if it has none yet, and for who this process is.
///
/// # Errors
/// See [`StoreError`].
pub fn open(options: &SharedOptions, keys: &Path, random: [u8; 64]) -> Result<Opened, StoreError> {
    let random = Zeroizing::new(random);
    let (mut secret, mut me) = ([0; 32], [0; 8]);
    secret.copy_from_slice(&random[..32]);
    me.copy_from_slice(&random[32..40]);
    let dial = Dial::new(options).map_err(SharedError::Address)?;
    let own = Keys::load(keys, None).map_err(|error| match error {
        KeysError::Missing(path) => KeysError::Wanted(path),
        other => other,
    })?;
    let core = Arc::new(core_of(options, dial, own, u64::from_be_bytes(me).max(1)));
    let (orders, taken) = mpsc::unbounded_channel();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let shared = Arc::new(Shared { core: Arc::clone(&core), orders, closed: AtomicBool::new(false) });
    let keys = keys.to_owned();
    let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(work(core, taken, (secret, keys), &tell)),
            Err(error) => drop(tell.send(Err(StoreError::Thread(error)))),
        }
    });
    thread.map_err(StoreError::Thread)?;
    let opened =
        told.recv().unwrap_or_else(|_| Err(SharedError::Away("its thread has ended".to_owned()).into()));
    Ok(Opened { store: shared, secret: opened? })
}

fn core_of(options: &SharedOptions, dial: Dial, keys: Keys, me: u64) -> Core {
    Core {
        me,
        names: Names::new(&options.prefix),
        keys,
        clock: Clock::system(),
        dial,
        hub: hub::Hub::default(),
        queue: Queue::new(),
        secret: OnceLock::new(),
        hashes: OnceLock::new(),
        tell: OnceLock::new(),
        ring: Mutex::default(),
        members: RwLock::default(),
        notes: Mutex::new(BTreeMap::new()),
        marks: Mutex::default(),
        unsure: Mutex::default(),
        heard: AtomicU64::new(0),
        serves: AtomicBool::new(false),
        hurry: Notify::new(),
        again: Notify::new(),
        taking: Arc::new(Semaphore::new(1)),
        facts: Counters::default(),
    }
}

/// The thread's work, until nobody has the store any more.
async fn work(
    core: Arc<Core>,
    orders: mpsc::UnboundedReceiver<Order>,
    (secret, keys): ([u8; 32], PathBuf),
    tell: &std::sync::mpsc::SyncSender<Result<[u8; 32], StoreError>>,
) {
    let mut pulse = pulse::Pulse::default();
    let opened = match pulse.connect(&core).await {
        Ok(()) => kept_secret(&core, secret, keys).await,
        Err(error) => Err(SharedError::Away(error.0)),
    };
    let failed = opened.is_err();
    let _ = tell.send(opened.map_err(StoreError::from));
    if failed {
        return;
    }
    tokio::spawn(pulse::run(Arc::clone(&core), pulse));
    tokio::spawn(writer::run(Arc::clone(&core)));
    asks::serve(&core, orders).await;
}

/// The installation's secret: that of the store, or `new` where it has none yet.
async fn kept_secret(core: &Core, new: [u8; 32], keys: PathBuf) -> Result<[u8; 32], SharedError> {
    let mut text = seal::room();
    text.extend_from_slice(&new);
    let sealed =
        seal::seal(&core.keys, SECRET, text).map_err(|error| SharedError::Damaged(error.to_string()))?;
    let mut keep = scripts::KEEP.on(&core.names.secret());
    keep.arg(sealed);
    let kept = match core.send_one(keep).await? {
        Ok(kept) => bytes(kept).unwrap_or_default(),
        Err(why) => return Err(SharedError::Away(format!("{why:?}"))),
    };
    let (plain, _) = seal::open(&core.keys, SECRET, &kept).map_err(|error| match error {
        SealError::Key(_) => SharedError::Key { keys },
        other => SharedError::Damaged(format!("its secret does not open: {other}")),
    })?;
    let plain: [u8; 32] =
        plain.as_slice().try_into().map_err(|_| SharedError::Damaged("its secret is none".to_owned()))?;
    let _ = core.secret.set((plain, kept));
    let _ = core.hashes.set(hmac::Key::new(hmac::HMAC_SHA256, &plain));
    Ok(plain)
}

/// What the secret is kept under.
const SECRET: &[u8] = b"secret";

impl Opened {
    /// 32 random bytes that are the installation's own: the same for all proxies.
    #[must_use]
    pub const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// What is noted under `name`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn noted(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.store.ask_now(self.store.get_note(name)).map_err(SharedError::from)?;
        let value = bytes(value);
        core::locked(&self.store.core.notes).insert(name.to_owned(), value.clone());
        Ok(value)
    }

    /// Notes something that is no secret under `name`, where that is still what [`Opened::noted`] told; in the store when
    /// this returns.
    ///
    /// # Errors
    /// See [`StoreError`]; [`SharedError::Changed`] where another proxy was faster.
    pub fn note(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let was = core::locked(&self.store.core.notes).get(name).cloned().flatten();
        let answer = self.store.ask_now(self.store.set_note(name, was.as_deref(), value));
        let answer = answer.map_err(SharedError::from)?;
        let set = self.store.was_set(name, value, answer);
        Ok(set.map_err(|_| SharedError::Changed(name.to_owned()))?)
    }

    /// What to say where something that was noted makes no sense.
    #[must_use]
    pub fn damaged(&self, what: &str) -> StoreError {
        SharedError::Damaged(what.to_owned()).into()
    }

    /// The store, for those who will use it.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::shared(Arc::clone(&self.store))
    }

    /// Begins to serve: from here on this proxy has a lease, and is told `news`, on the store's thread, which waits for it.
    /// What `news` holds of the store it should hold weakly: the thread ends when nobody has the store any more.
    pub fn start(self, news: impl Fn(News) + Send + Sync + 'static) {
        let _ = self.store.core.tell.set(Box::new(news));
        self.store.core.serves.store(true, Ordering::Release);
        let _ = self.store.orders.send(Order::Start);
    }
}

impl Shared {
    /// Where what is written waits.
    pub(super) fn queue(&self) -> &Queue {
        &self.core.queue
    }

    /// What it has done.
    pub(super) fn facts(&self, facts: Facts) -> Facts {
        let done = &self.core.facts;
        Facts {
            commits: done.groups.load(Ordering::Relaxed),
            records: done.records.load(Ordering::Relaxed),
            clocks: done.clocks.load(Ordering::Relaxed),
            failures: done.failures.load(Ordering::Relaxed),
            took: Duration::from_micros(done.micros.load(Ordering::Relaxed)),
            shared: Some(self.core.facts()),
            ..facts
        }
    }

    /// Writes what waits and gives up what this proxy owns. What is put in later is written all the same.
    pub(super) fn close(&self) -> Result<(), Outage> {
        self.core.serves.store(false, Ordering::Release);
        self.closed.store(true, Ordering::Release);
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let reply = Box::new(move |written| {
            let _ = tell.send(written);
        });
        self.orders.send(Order::Close(reply)).map_err(|_| Outage)?;
        if told.recv().unwrap_or(false) { Ok(()) } else { Err(Outage) }
    }

    /// Owns sessions again.
    pub(super) fn retake(&self) {
        self.closed.store(false, Ordering::Release);
        self.core.serves.store(true, Ordering::Release);
        self.core.hurry.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
