//! Sessions beyond the process: what an earlier one left in the store is taken in, and watched over again.
//!
//! Invariants: the numbers of apps and origins are those of the store before anything is read with them; nothing is served
//! before every session is in its place. They are opened, and watched over, while others are served already.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::bridge::packing::alone::Unknown;
use crate::bridge::rules::AppIx;
use crate::clock::Clock;
use crate::heartbeat;
use crate::names::Names;
use crate::proxy::served::Served;
use crate::registry::Registry;
use crate::registry::agenda::Waiting;
use crate::setting::Present;
use crate::store::{Found, Opened, Outage, Store, StoreError, shared};
use crate::time::Timestamp;

/// What the names are noted under.
const NAMES: &str = "names";
/// What the times are noted under since when apps have been served.
const SERVED: &str = "served";

/// Names as they are noted.
#[derive(Serialize, Deserialize, Default)]
struct Noted {
    apps: Vec<Box<str>>,
    origins: Vec<Box<str>>,
}

/// Where sessions are kept.
#[derive(Debug, Default)]
pub enum Keeping {
    /// Nowhere.
    #[default]
    Memory,
    /// In a store that is open.
    Store(Box<Opened>),
    /// In one that several proxies share.
    Shared(Box<shared::Opened>),
}

impl Keeping {
    /// The numbers of apps and origins that the sessions were kept with.
    ///
    /// # Errors
    /// Where the store is damaged.
    pub fn names(&self) -> Result<Names, StoreError> {
        let noted = match self {
            Self::Memory => None,
            Self::Store(opened) => opened.noted(NAMES)?,
            Self::Shared(opened) => opened.noted(NAMES)?,
        };
        let noted = noted.map(|text| serde_json::from_slice::<Noted>(&text)).transpose();
        let noted = noted.map_err(|_| self.damaged("its list of apps cannot be read"))?;
        let Noted { apps, origins } = noted.unwrap_or_default();
        Ok(Names::of(apps, origins))
    }

    /// What to say where something that was noted makes no sense.
    fn damaged(&self, what: &str) -> StoreError {
        match self {
            // Nothing is noted there.
            Self::Memory => shared::SharedError::Damaged(what.to_owned()).into(),
            Self::Store(opened) => opened.damaged(what),
            Self::Shared(opened) => opened.damaged(what),
        }
    }

    /// Keeps the numbers of apps and origins, before any session is kept with them.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn keep_names(&self, names: &Names) -> Result<(), StoreError> {
        match self {
            Self::Store(opened) if self.names()? != *names => opened.note(NAMES, &text(names)),
            Self::Shared(opened) if self.names()? != *names => opened.note(NAMES, &text(names)),
            _ => Ok(()),
        }
    }
}

/// Keeps the numbers of apps and origins of a config that was read while the process runs, in the place of those of `before`.
///
/// # Errors
/// Where the store cannot be written, or another proxy has given numbers of its own meanwhile: they are not what this config was
/// read with.
pub(super) async fn note_names(registry: &Registry, before: &Names, names: &Names) -> Result<(), Unnoted> {
    let (store, own) = (registry.store(), text(names));
    if !store.is_shared() {
        let mark = store.note(NAMES, own);
        return Ok(store.committed(mark).await?);
    }
    let there = store.noted(NAMES).await?;
    if there.as_ref() == Some(&own) {
        // Another proxy has read the same config before this one.
        return Ok(());
    }
    if there.as_ref() != Some(&text(before)) {
        return Err(Unnoted::Elsewhere);
    }
    store.renote(NAMES, there.as_deref(), &own).await?.map_err(|_| Unnoted::Elsewhere)
}

/// Why numbers could not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unnoted {
    /// The store.
    #[error("the store cannot be written: apps and servers cannot change now")]
    Outage(#[from] Outage),
    /// Another proxy.
    #[error(
        "another proxy has taken in other new apps or servers in the meantime; give all proxies the same config, and restart this \
         one"
    )]
    Elsewhere,
}

/// Puts in since when apps have been served, as the store remembers it.
///
/// # Errors
/// Where the store is damaged.
pub(super) fn served_before(keeping: &Keeping, served: &Served) -> Result<(), StoreError> {
    let noted = match keeping {
        Keeping::Memory => None,
        Keeping::Store(opened) => opened.noted(SERVED)?,
        Keeping::Shared(opened) => opened.noted(SERVED)?,
    };
    let noted = noted.map(|text| serde_json::from_slice::<Vec<(u16, u64)>>(&text)).transpose();
    let noted = noted.map_err(|_| keeping.damaged("its list of times cannot be read"))?;
    for (app, at) in noted.unwrap_or_default() {
        served.put(AppIx(app), Timestamp::from_micros(at));
    }
    Ok(())
}

/// Has the store remember since when apps have been served, where there are more than `known` by now. How many there are.
pub(super) fn note_served(store: &Store, served: &Served, known: usize) -> usize {
    let all = served.all();
    if all.len() > known && store.keeps() {
        let all: Vec<(u16, u64)> = all.iter().map(|(app, at)| (app.0, at.micros())).collect();
        store.note(SERVED, serde_json::to_vec(&all).unwrap_or_default());
    }
    all.len()
}

/// Names as they are noted.
fn text(names: &Names) -> Vec<u8> {
    let noted = Noted { apps: names.apps().to_vec(), origins: names.origins().to_vec() };
    serde_json::to_vec(&noted).unwrap_or_default()
}

/// Sessions of an earlier process are in their places, and wait for being opened and watched over again.
#[derive(Debug)]
pub struct Unopened {
    registry: Arc<Registry>,
    present: Present,
    clock: Clock,
    /// To each of the threads, what it is to watch.
    watches: Vec<UnboundedSender<Watched>>,
}

/// What a thread is to watch, and from when on.
pub(super) type Watched = Vec<(Waiting, Timestamp)>;

/// Where the threads hear of it.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<Mutex<Option<UnboundedReceiver<Watched>>>>);

impl Watches {
    /// Where thread `number` hears; once.
    pub(super) fn take(&self, number: usize) -> Option<UnboundedReceiver<Watched>> {
        self.0.get(number)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Unopened {
    /// Those of `registry`, to be watched over by `threads`, which are told so.
    pub(super) fn new(
        registry: &Arc<Registry>,
        present: &Present,
        clock: Clock,
        threads: usize,
    ) -> (Self, Watches) {
        let (watches, told): (_, Vec<_>) = (0..threads.max(1)).map(|_| unbounded_channel()).unzip();
        let (registry, present) = (Arc::clone(registry), present.clone());
        let told = told.into_iter().map(|told| Mutex::new(Some(told))).collect();
        (Self { registry, present, clock, watches }, Watches(told))
    }

    /// Opens them all, on every other one of the cores at the most: people are served meanwhile.
    ///
    /// # Errors
    /// Where one does not open: the store is damaged.
    pub fn open(self) -> Result<(), StoreError> {
        let began = self.clock.now();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let parts = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let work = || {
                let mut next =
                    || Some(parts.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < Registry::PARTS);
                std::iter::from_fn(&mut next).try_for_each(|part| self.open_part(part))
            };
            let threads: Vec<_> = (0..cores.div_ceil(2)).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(opened) => opened,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        tracing::info!(took = ?self.clock.now().since(began), "sessions of before are watched over");
        Ok(())
    }

    fn open_part(&self, part: usize) -> Result<(), StoreError> {
        let (setting, clocks, now) = (self.present.now(), self.registry.clocks(), self.clock.now());
        let mut lots: Vec<Watched> = self.watches.iter().map(|_| Vec::new()).collect();
        self.registry.open_part(part, |session, ticket| {
            let at = ticket.number() / Registry::PARTS % self.watches.len();
            let (Some(lot), Some(thread)) = (lots.get_mut(at), self.watches.get(at)) else { return };
            let watches = heartbeat::watches(&setting.routes, &clocks, session, now);
            lot.extend(watches.into_iter().map(|(watch, due)| (Waiting::of(ticket, watch), due)));
            if lot.len() >= LOT {
                // Where nobody hears any more, nobody needs it.
                let _ = thread.send(std::mem::take(lot));
            }
        })?;
        for (lot, thread) in lots.into_iter().zip(&self.watches) {
            let _ = thread.send(lot);
        }
        Ok(())
    }
}

/// Watches that a thread is told of at once.
const LOT: usize = 512;

/// Takes in what `opened` holds, sealed as it is, and begins to write it.
///
/// # Errors
/// Where the store is damaged, or its thread cannot be started.
pub(super) fn take_in(
    opened: Opened,
    registry: &Registry,
    clock: Clock,
    threads: usize,
) -> Result<(), StoreError> {
    let (began, opener, sealed_anew) = (clock.now(), opened.opener(), Mutex::new(Vec::new()));
    registry.expect(opened.count()?, &opener, began);
    let read = opened.read(threads, || {
        let (mut restoring, opener, sealed_anew) = (registry.restoring(began), &opener, &sealed_anew);
        move |found: &Found<'_>, front: Option<&[u8]>| {
            let unknown = |error: Unknown| opener.damaged(&error.to_string());
            match front {
                Some(front) => restoring.lay(found, front).map_err(unknown),
                // As versions wrote it that knew of no front.
                None => opener.open(found, |record, clocks, old| {
                    let ticket = restoring.restore((record, clocks)).ok()?;
                    if old {
                        sealed_anew.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
                    }
                    Some(())
                }),
            }
        }
    })?;
    registry.restored();
    read.start()?;
    let sealed_anew = sealed_anew.into_inner().unwrap_or_else(PoisonError::into_inner);
    sealed_anew.into_iter().filter_map(|ticket| registry.slot(ticket)).for_each(|slot| registry.put(&slot));
    let counts = registry.counts();
    let took = clock.now().since(began);
    if counts.bound + counts.pending > 0 {
        tracing::info!(
            sessions = counts.bound,
            pending = counts.pending,
            ?took,
            "sessions of before are back"
        );
    }
    Ok(())
}
