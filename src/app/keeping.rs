//! Sessions beyond the process: what an earlier one left in the store is taken in, and watched over again.
//!
//! Invariants: the numbers of apps and origins are those of the store before anything is read with them; nothing is served
//! before every session is in its place.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bridge::rules::AppIx;
use crate::clock::Clock;
use crate::heartbeat;
use crate::names::Names;
use crate::proxy::served::Served;
use crate::registry::agenda::{Waiting, Watch};
use crate::registry::{Registry, Ticket};
use crate::route::RouteMap;
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

/// What sessions of an earlier process are watched for, each by one of the threads.
#[derive(Debug, Default)]
pub(super) struct Watches(Box<[Mutex<Watched>]>);

/// What one thread watches.
type Watched = Vec<(Waiting, Timestamp)>;

impl Watches {
    /// Room for what `many` sessions are watched for by so many `threads`.
    fn expecting(many: usize, threads: usize) -> Self {
        let threads = threads.max(1);
        // An end and two heartbeats each; as even as hashes are, with a little to spare.
        let share = 3 * (many + many / 64) / threads;
        Self((0..threads).map(|_| Mutex::new(Vec::with_capacity(share))).collect())
    }

    /// For one of those who put sessions in.
    fn gather(&self) -> Gathered<'_> {
        let by_thread = self.0.iter().map(|_| Vec::with_capacity(GATHERED)).collect();
        Gathered { all: self, by_thread }
    }

    /// What thread `number` watches; once.
    pub(super) fn take(&self, number: usize) -> Watched {
        let own = self.0.get(number).map(|own| own.lock().unwrap_or_else(PoisonError::into_inner));
        own.map(|mut own| std::mem::take(&mut *own)).unwrap_or_default()
    }
}

/// Watches that are put in at once.
const GATHERED: usize = 4096;

/// Watches that one reader has met, and not put in yet: those who read do not wait for each other with each session.
struct Gathered<'a> {
    all: &'a Watches,
    by_thread: Box<[Watched]>,
}

impl Gathered<'_> {
    fn put(&mut self, ticket: Ticket, watches: impl IntoIterator<Item = (Watch, Timestamp)>) {
        let at = ticket.number() % self.by_thread.len().max(1);
        let (Some(own), Some(all)) = (self.by_thread.get_mut(at), self.all.0.get(at)) else { return };
        own.extend(watches.into_iter().map(|(watch, due)| (Waiting::of(ticket, watch), due)));
        if own.len() > GATHERED - MOST_WATCHES {
            all.lock().unwrap_or_else(PoisonError::into_inner).append(own);
        }
    }
}

/// More than a session is nearly ever watched for.
const MOST_WATCHES: usize = 16;

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        for (own, all) in self.by_thread.iter_mut().zip(&self.all.0) {
            all.lock().unwrap_or_else(PoisonError::into_inner).append(own);
        }
    }
}

/// Takes in what `opened` holds, and begins to write it.
///
/// # Errors
/// Where the store is damaged, or its thread cannot be started.
pub(super) fn take_in(
    opened: Opened,
    registry: &Registry,
    routes: &RouteMap,
    clock: Clock,
    threads: usize,
) -> Result<Watches, StoreError> {
    let began = clock.now();
    let many = opened.count()?;
    registry.expect(many);
    let (watches, sealed_anew) = (Watches::expecting(many, threads), Mutex::new(Vec::new()));
    let clocks = registry.clocks();
    let read = opened.read(threads, || {
        let (mut restoring, mut gathered) = (registry.restoring(began), watches.gather());
        let (clocks, sealed_anew) = (&clocks, &sealed_anew);
        move |found: &Found<'_>| {
            let taken = restoring.restore((found.record, found.clocks), |session, ticket| {
                gathered.put(ticket, heartbeat::watches(routes, clocks, session, began));
                if found.old {
                    sealed_anew.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
                }
            });
            taken.map_err(|error| error.to_string())
        }
    })?;
    registry.restored();
    read.start()?;
    for ticket in sealed_anew.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if let Some(slot) = registry.slot(ticket) {
            registry.put(&slot);
        }
    }
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
    Ok(watches)
}
