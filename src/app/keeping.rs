//! Sessions beyond the process: what an earlier one left in the store is taken in, and watched over again.
//!
//! Invariants: the numbers of apps and origins are those of the store before anything is read with them; nothing is served
//! before every session is in its place. They are opened, and watched over, while others are served already.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::bridge::rules::AppIx;
use crate::clock::Clock;
use crate::heartbeat;
use crate::names::Names;
use crate::proxy::served::Served;
use crate::registry::Registry;
use crate::registry::agenda::Waiting;
use crate::registry::restoring::Laid;
use crate::setting::Present;
use crate::store::{Opened, Opener, Outage, Store, StoreError, shared};
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
    laid: Laid,
    opener: Opener,
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
    /// Opens them all, on every other one of the cores at the most: people are served meanwhile.
    ///
    /// # Errors
    /// Where one does not open: the store is damaged.
    pub fn open(self) -> Result<(), StoreError> {
        let began = self.clock.now();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores.div_ceil(2)).map(|_| scope.spawn(|| self.open_some())).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(opened) => opened,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        self.registry.all_open();
        let counts = self.registry.counts();
        if counts.bound + counts.pending > 0 {
            tracing::info!(took = ?self.clock.now().since(began), "sessions of before are kept alive again");
        }
        Ok(())
    }

    /// Opens what nobody else does.
    fn open_some(&self) -> Result<(), StoreError> {
        let mut lots: Vec<Watched> = self.watches.iter().map(|_| Vec::with_capacity(LOT)).collect();
        let (mut setting, mut clocks) = (self.present.now(), self.registry.clocks());
        loop {
            let last = self.registry.open_next(&self.laid, &self.opener, |session, ticket| {
                let at = ticket.number() % self.watches.len();
                let (Some(lot), Some(thread)) = (lots.get_mut(at), self.watches.get(at)) else { return };
                let watches = heartbeat::watches(&setting.routes, &clocks, session, self.clock.now());
                lot.extend(watches.into_iter().map(|(watch, due)| (Waiting::of(ticket, watch), due)));
                if lot.len() >= LOT {
                    // Where nobody hears any more, nobody needs it.
                    let _ = thread.send(std::mem::replace(lot, Vec::with_capacity(LOT)));
                    // The config may have been read anew.
                    (setting, clocks) = (self.present.now(), self.registry.clocks());
                }
            })?;
            if last {
                break;
            }
        }
        for (lot, thread) in lots.into_iter().zip(&self.watches) {
            let _ = thread.send(lot);
        }
        Ok(())
    }
}

/// Watches that a thread is told of at once.
const LOT: usize = 512;

/// Takes in what `opened` holds, sealed as it is, and begins to write it. What is left to be done, for so many `threads`, and
/// where they hear of what they are to watch.
///
/// # Errors
/// Where the store is damaged, or its thread cannot be started.
pub(super) fn take_in(
    opened: Opened,
    registry: &Arc<Registry>,
    (present, clock): (&Present, Clock),
    threads: usize,
) -> Result<(Unopened, Watches), StoreError> {
    let (began, opener, laid) = (clock.now(), opened.opener(), Laid::default());
    registry.expect(opened.count()?, &opener, began);
    let read = opened.read(threads, || {
        let (mut restoring, opener) = (registry.restoring(&laid, began), &opener);
        move |name, front: &[u8]| {
            restoring.lay(name, front).map_err(|error| opener.damaged(&error.to_string()))
        }
    })?;
    registry.restored();
    read.start()?;
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
    let (watches, told): (_, Vec<_>) = (0..threads.max(1)).map(|_| unbounded_channel()).unzip();
    let (registry, present) = (Arc::clone(registry), present.clone());
    let told = told.into_iter().map(|told| Mutex::new(Some(told))).collect();
    Ok((Unopened { registry, present, clock, laid, opener, watches }, Watches(told)))
}
