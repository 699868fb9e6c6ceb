//! What all tasks of a shared store have in common.
//!
//! Invariant: locks here are held for moments, by nobody who waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use aws_lc_rs::hmac;
use redis::Cmd;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::hub::Hub;
use super::link::{Answer, Dial, Refusal};
use super::names::Names;
use super::ring::Ring;
use super::{News, SharedFacts};
use crate::clock::Clock;
use crate::store::keys::Keys;
use crate::store::queue::{Outage, Queue};
use crate::time::Timestamp;

/// Whoever is told the news.
pub(super) type Tell = Box<dyn Fn(News) + Send + Sync>;

/// What a shared store's handle and its thread have in common.
pub(super) struct Core {
    pub(super) me: u64,
    pub(super) names: Names,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    pub(super) dial: Dial,
    pub(super) hub: Hub,
    pub(super) queue: Queue,
    /// The installation's secret, plain and as it is kept.
    pub(super) secret: OnceLock<([u8; 32], Vec<u8>)>,
    /// What claims are hashed with.
    pub(super) hashes: OnceLock<hmac::Key>,
    pub(super) tell: OnceLock<Tell>,
    pub(super) ring: Mutex<Ring>,
    pub(super) members: RwLock<Members>,
    /// Notes as they were last seen.
    pub(super) notes: Mutex<BTreeMap<String, Option<Vec<u8>>>>,
    /// The marks of the store as it was last seen.
    pub(super) marks: Mutex<Vec<Vec<u8>>>,
    /// Until then what is not found may only be missing.
    pub(super) unsure: Mutex<Option<Instant>>,
    /// Since when news are heard, in microseconds; 0: they are not.
    pub(super) heard: AtomicU64,
    /// True while this proxy wants to own sessions.
    pub(super) serves: AtomicBool,
    /// Asks the pulse to beat now.
    pub(super) hurry: Notify,
    /// Asks for the news to be heard anew.
    pub(super) again: Notify,
    /// Whoever takes over holds it.
    pub(super) taking: Arc<Semaphore>,
    pub(super) facts: Counters,
}

/// Who shares the store.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Those whose leases were good when last looked at, and when they were seen to be.
    pub(super) alive: HashMap<u64, Instant>,
    /// Until when this one's lease is good.
    pub(super) leased: Option<Instant>,
}

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) groups: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) clocks: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) micros: AtomicU64,
    pub(super) trips: AtomicU64,
    pub(super) trip_micros: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) takeovers: AtomicU64,
    pub(super) deaf: AtomicU64,
    pub(super) fetches: AtomicU64,
    pub(super) reassertions: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) evicts: AtomicBool,
}

/// One more, or more.
pub(super) fn count(counter: &AtomicU64, many: u64) {
    counter.fetch_add(many, Ordering::Relaxed);
}

/// A lock that nobody poisons for good.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    /// Sends commands over the connection that there is, and opens the breaker where that fails. On the store's thread.
    pub(super) async fn send(&self, commands: Vec<Cmd>) -> Result<Vec<Answer>, Outage> {
        let linked = self.hub.linked().ok_or(Outage)?;
        let began = Instant::now();
        match linked.link.send(commands).await {
            Ok(answers) => {
                count(&self.facts.trips, 1);
                count(
                    &self.facts.trip_micros,
                    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
                );
                if let Some(Err(Refusal::Other(why))) =
                    answers.iter().find(|answer| matches!(answer, Err(Refusal::Other(_))))
                {
                    self.lose(linked.number, why);
                }
                Ok(answers)
            }
            Err(error) => {
                self.lose(linked.number, &error.0);
                Err(Outage)
            }
        }
    }

    /// One command, alone.
    pub(super) async fn send_one(&self, command: Cmd) -> Result<Answer, Outage> {
        self.send(vec![command]).await?.into_iter().next().ok_or(Outage)
    }

    /// The connection is broken: nobody waits for it any more.
    pub(super) fn lose(&self, number: u64, why: &str) {
        if self.hub.lose(number) {
            count(&self.facts.failures, 1);
            self.queue.fail();
            tracing::error!(
                why,
                "the shared store cannot be reached: known sessions go on, and what changes waits"
            );
        }
    }

    /// Tells whoever wants the news.
    pub(super) fn tell(&self, news: News) {
        if let Some(tell) = self.tell.get() {
            tell(news);
        }
    }

    /// What is told on the channel: who tells it, of which kind it is, and of what.
    pub(super) fn says(&self, kind: u8, what: &[u8]) -> Vec<u8> {
        [&self.me.to_be_bytes()[..], &[kind], what].concat()
    }

    /// A keyed hash of something that must not be seen in the store.
    pub(super) fn hash(&self, kind: u8, what: &[u8]) -> [u8; 16] {
        let mut out = [0; 16];
        if let Some(key) = self.hashes.get() {
            let mut context = hmac::Context::with_key(key);
            context.update(&[kind]);
            context.update(what);
            out.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        }
        out
    }

    /// True where what is not found may only be missing: the store was emptied a moment ago.
    pub(super) fn is_unsure(&self) -> bool {
        locked(&self.unsure).is_some_and(|until| Instant::now() < until)
    }

    /// From here on, for a while, what is not found may only be missing.
    pub(super) fn doubt(&self) {
        *locked(&self.unsure) = Some(Instant::now() + super::pulse::LEASE);
    }

    pub(super) fn has_lease(&self) -> bool {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        self.serves.load(Ordering::Acquire) && members.leased.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn is_alive(&self, owner: u64) -> bool {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        owner == self.me || members.alive.contains_key(&owner)
    }

    pub(super) fn heard(&self) -> Option<Timestamp> {
        match self.heard.load(Ordering::Acquire) {
            0 => None,
            at => Some(Timestamp::from_micros(at)),
        }
    }

    /// What was counted, for metrics.
    pub(super) fn facts(&self) -> SharedFacts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner).alive.len();
        let facts = &self.facts;
        SharedFacts {
            trips: get(&facts.trips),
            trips_took: std::time::Duration::from_micros(get(&facts.trip_micros)),
            conflicts: get(&facts.conflicts),
            takeovers: get(&facts.takeovers),
            deaf: get(&facts.deaf),
            fetches: get(&facts.fetches),
            reassertions: get(&facts.reassertions),
            refused: get(&facts.refused),
            members: members as u64,
            hears: self.heard().is_some(),
            leased: self.has_lease(),
            evicts: facts.evicts.load(Ordering::Relaxed),
        }
    }
}
