//! The addresses of names, remembered and looked up again without anybody waiting.
//!
//! The system's resolver does not say how long an answer is good for, so it is [`TTL`] for all. What is older is used all
//! the same, while it is looked up behind the request's back; where that fails, the old addresses stay, and the log says so.
//!
//! Invariants: a name that was resolved once is never without addresses; nobody waits for it as long as one of them takes
//! connections.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::spawn_local;
use tokio::time::Instant;

/// How long addresses are taken for fresh.
pub const TTL: Duration = Duration::from_secs(30);
/// Addresses of which none takes a connection are looked up anew, but not sooner than this after the last time.
const SOONEST: Duration = Duration::from_secs(1);

/// What looks a name up.
pub type Lookup = Arc<dyn Fn(String) -> LookingUp + Send + Sync>;
/// A look-up under way.
pub type LookingUp = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The names of all apps, for all threads. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    lookup: Lookup,
    names: Mutex<HashMap<String, Known>>,
    /// How often the addresses of any name have changed.
    changes: AtomicU64,
}

struct Known {
    /// The one that took the last connection first.
    addresses: Vec<IpAddr>,
    looked_up: Instant,
    looking: bool,
    failing: bool,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resolver({} names)", self.names().len())
    }
}

impl Resolver {
    /// By the system's resolver.
    #[must_use]
    pub fn system() -> Self {
        Self::with(Arc::new(|name| {
            Box::pin(async move {
                Ok(lookup_host((name.as_str(), 0)).await?.map(|address| address.ip()).collect())
            })
        }))
    }

    /// By `lookup`.
    #[must_use]
    pub fn with(lookup: Lookup) -> Self {
        Self(Arc::new(Inner { lookup, names: Mutex::default(), changes: AtomicU64::new(0) }))
    }

    /// The addresses of `name`, the one to try first at the front; of an address itself, that. Waits only for a name that is
    /// not known yet. Must run in a `LocalSet`.
    ///
    /// # Errors
    /// Where a name that is not known does not resolve.
    pub async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        self.refresh(name);
        let known = self.names().get(name).map(|known| known.addresses.clone());
        match known {
            Some(addresses) => Ok(addresses),
            None => self.look_up(name).await,
        }
    }

    /// Looks a known name up in the background where its addresses are no longer fresh. Must run in a `LocalSet`.
    pub fn refresh(&self, name: &str) {
        let stale = self.names().get_mut(name).is_some_and(|known| {
            let stale = !known.looking && known.looked_up.elapsed() >= TTL;
            known.looking |= stale;
            stale
        });
        if stale {
            let (this, name) = (self.clone(), name.to_owned());
            spawn_local(async move {
                // What comes of it is in the table, and what fails in the log.
                let _ = this.look_up(&name).await;
            });
        }
    }

    /// Looks `name` up once more, since none of its `tried` addresses took a connection. `None` where that brings nothing that
    /// was not tried.
    pub async fn others(&self, name: &str, tried: &[IpAddr]) -> Option<Vec<IpAddr>> {
        let due = self.names().get(name).is_some_and(|known| known.looked_up.elapsed() >= SOONEST);
        let mut others = if due { self.look_up(name).await.ok()? } else { Vec::new() };
        others.retain(|address| !tried.contains(address));
        (!others.is_empty()).then_some(others)
    }

    /// `address` has taken a connection: it is tried first from now on. A name with several servers behind it would otherwise
    /// scatter sessions over them.
    pub fn prefer(&self, name: &str, address: IpAddr) {
        let mut names = self.names();
        let Some(known) = names.get_mut(name) else { return };
        if let Some(at @ 1..) = known.addresses.iter().position(|own| *own == address) {
            known.addresses.get_mut(..=at).unwrap_or_default().rotate_right(1);
        }
    }

    /// Grows whenever the addresses of any name change.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// True where `name` has `address`, as far as is known.
    #[must_use]
    pub fn has(&self, name: &str, address: IpAddr) -> bool {
        name.parse() == Ok(address)
            || self.names().get(name).is_none_or(|known| known.addresses.contains(&address))
    }

    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let _looking = Looking { resolver: self, name };
        let found = (self.0.lookup)(name.to_owned()).await;
        let found = found
            .and_then(|found| if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) });
        self.keep(name, found)
    }

    fn keep(&self, name: &str, found: io::Result<Vec<IpAddr>>) -> io::Result<Vec<IpAddr>> {
        let mut names = self.names();
        let now = Instant::now();
        let known = match (names.get_mut(name), found) {
            (None, found) => {
                let addresses = found?;
                let known =
                    Known { addresses: addresses.clone(), looked_up: now, looking: false, failing: false };
                names.insert(name.to_owned(), known);
                return Ok(addresses);
            }
            (Some(known), Err(error)) => {
                known.looked_up = now;
                if !std::mem::replace(&mut known.failing, true) {
                    tracing::warn!(name, %error, "the name does not resolve any more; its old addresses are used");
                }
                return Ok(known.addresses.clone());
            }
            (Some(known), Ok(found)) => {
                known.looked_up = now;
                if std::mem::replace(&mut known.failing, false) {
                    tracing::info!(name, "the name resolves again");
                }
                known.take(found).then(|| self.0.changes.fetch_add(1, Ordering::Relaxed));
                known
            }
        };
        Ok(known.addresses.clone())
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Takes what was `found`, in the order that was: the address that took the last connection stays in front. True where they
    /// are others than before.
    fn take(&mut self, mut found: Vec<IpAddr>) -> bool {
        let same =
            found.len() == self.addresses.len() && found.iter().all(|own| self.addresses.contains(own));
        if let Some(first) = self.addresses.first()
            && let Some(at) = found.iter().position(|own| own == first)
        {
            found.get_mut(..=at).unwrap_or_default().rotate_right(1);
        }
        self.addresses = found;
        !same
    }
}

/// A look-up under way. One that is dropped half-way does not keep others from trying.
struct Looking<'a> {
    resolver: &'a Resolver,
    name: &'a str,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.resolver.names().get_mut(self.name) {
            known.looking = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::net::testing::local;

    /// Answers in turn, and notes how often it was asked.
    fn scripted(answers: &[Option<&[&str]>]) -> (Resolver, Arc<AtomicU64>) {
        let answers: VecDeque<Option<Vec<IpAddr>>> = answers
            .iter()
            .map(|answer| answer.map(|list| list.iter().map(|ip| ip.parse().unwrap()).collect()))
            .collect();
        let (answers, asked) = (Mutex::new(answers), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&asked);
        let resolver = Resolver::with(Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let answer = answers.lock().unwrap().pop_front().flatten();
            Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::NotFound.into()) })
        }));
        (resolver, asked)
    }

    async fn of(resolver: &Resolver) -> Vec<String> {
        let found = resolver.addresses("app").await.unwrap();
        // What was begun behind our back has its turn.
        tokio::task::yield_now().await;
        found.iter().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn r48_old_addresses_serve_while_new_ones_are_looked_up_and_where_there_are_none() {
        local(async {
            let (resolver, asked) =
                scripted(&[Some(&["10.0.0.1"]), Some(&["10.0.0.2"]), None, Some(&["10.0.0.3"])]);
            assert_eq!(of(&resolver).await, ["10.0.0.1"]);
            tokio::time::advance(TTL - Duration::from_secs(1)).await;
            assert_eq!(of(&resolver).await, ["10.0.0.1"]);
            assert_eq!((asked.load(Ordering::Relaxed), resolver.changes()), (1, 0), "fresh");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(of(&resolver).await, ["10.0.0.1"], "nobody waits");
            assert_eq!(of(&resolver).await, ["10.0.0.2"]);
            assert_eq!((asked.load(Ordering::Relaxed), resolver.changes()), (2, 1));
            tokio::time::advance(TTL).await;
            assert_eq!(of(&resolver).await, ["10.0.0.2"]);
            assert_eq!(of(&resolver).await, ["10.0.0.2"], "it fails: the old one stays");
            assert_eq!((asked.load(Ordering::Relaxed), resolver.changes()), (3, 1));
            tokio::time::advance(TTL).await;
            of(&resolver).await;
            assert_eq!(of(&resolver).await, ["10.0.0.3"]);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_resolve_at_first_is_asked_again() {
        local(async {
            let (resolver, asked) = scripted(&[None, Some(&["10.0.0.1"])]);
            assert!(resolver.addresses("app").await.is_err());
            assert_eq!(of(&resolver).await, ["10.0.0.1"]);
            assert_eq!(asked.load(Ordering::Relaxed), 2);
            assert_eq!(
                resolver.addresses("::1").await.unwrap(),
                ["::1".parse::<IpAddr>().unwrap()],
                "no look-up"
            );
            assert_eq!(asked.load(Ordering::Relaxed), 2);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_that_took_a_connection_comes_first_and_stays_so() {
        local(async {
            let (resolver, _) = scripted(&[
                Some(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
                Some(&["10.0.0.3", "10.0.0.1", "10.0.0.2"]),
            ]);
            of(&resolver).await;
            resolver.prefer("app", "10.0.0.3".parse().unwrap());
            assert_eq!(of(&resolver).await, ["10.0.0.3", "10.0.0.1", "10.0.0.2"]);
            resolver.prefer("app", "10.0.0.2".parse().unwrap());
            tokio::time::advance(TTL).await;
            of(&resolver).await;
            assert_eq!(of(&resolver).await, ["10.0.0.2", "10.0.0.3", "10.0.0.1"]);
            assert_eq!(resolver.changes(), 0, "another order is no change");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_address_takes_a_connection_others_are_looked_for() {
        local(async {
            let (resolver, asked) = scripted(&[Some(&["10.0.0.1"]), Some(&["10.0.0.1", "10.0.0.2"])]);
            let tried = resolver.addresses("app").await.unwrap();
            assert_eq!(resolver.others("app", &tried).await, None, "it was looked up just now");
            assert_eq!(asked.load(Ordering::Relaxed), 1);
            tokio::time::advance(SOONEST).await;
            assert_eq!(resolver.others("app", &tried).await, Some(vec!["10.0.0.2".parse().unwrap()]));
            assert!(resolver.has("app", tried[0]) && !resolver.has("app", "10.0.0.9".parse().unwrap()));
        })
        .await;
    }
}
