//! A shared store as those see it who have any store: what is asked of one that is not shared has no news.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Fetched, Key, Shared};
use crate::store::queue::Outage;
use crate::store::{Kind, Store};
use crate::time::Timestamp;

impl Store {
    pub(super) const fn shared(shared: Arc<Shared>) -> Self {
        Self(Kind::Shared(shared))
    }

    const fn as_shared(&self) -> Option<&Arc<Shared>> {
        match &self.0 {
            Kind::Shared(shared) => Some(shared),
            _ => None,
        }
    }

    /// True where other proxies have the same store.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.as_shared().is_some()
    }

    /// Who this process is, as an owner of sessions; 0 where nobody else could be.
    #[must_use]
    pub fn me(&self) -> u64 {
        self.as_shared().map_or(0, |shared| shared.core.me)
    }

    /// True where that proxy had a good lease when last looked at. This one is alive.
    #[must_use]
    pub fn is_alive(&self, owner: u64) -> bool {
        self.as_shared().is_none_or(|shared| shared.core.is_alive(owner))
    }

    /// True while this proxy's own lease is good: nobody takes its sessions over.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        self.as_shared().is_none_or(|shared| shared.core.has_lease())
    }

    /// Since when all that other proxies change has been heard. `None`: it is not.
    #[must_use]
    pub fn news_heard_since(&self) -> Option<Timestamp> {
        self.as_shared()?.core.heard()
    }

    /// Reads a session. A store that is not shared has nothing that is not here.
    ///
    /// # Errors
    /// [`Outage`] where the store is away, may have lost it, or has something there that cannot be read.
    pub async fn fetch(&self, by: Key) -> Result<Fetched, Outage> {
        match self.as_shared() {
            Some(shared) => shared.fetch(by).await,
            None => Ok(Fetched::Nothing),
        }
    }

    /// Claims something for a while. True: it is the caller's, and nobody else's until then or until it is given up.
    ///
    /// # Errors
    /// [`Outage`]: then it may be claimed or not.
    pub async fn claim(&self, what: &[u8], span: Duration) -> Result<bool, Outage> {
        match self.as_shared() {
            Some(shared) => shared.claim(what, span).await,
            None => Ok(true),
        }
    }

    /// Gives up a claim.
    pub async fn unclaim(&self, what: &[u8]) {
        if let Some(shared) = self.as_shared() {
            shared.unclaim(what).await;
        }
    }

    /// Puts something in, sealed, that is taken out once.
    ///
    /// # Errors
    /// [`Outage`], and where the store is not shared.
    pub async fn deposit(&self, under: &[u8; 16], value: &[u8], span: Duration) -> Result<(), Outage> {
        self.as_shared().ok_or(Outage)?.deposit(under, value, span).await
    }

    /// Takes it out: one of those who ask gets it.
    ///
    /// # Errors
    /// [`Outage`]: then it may be gone.
    pub async fn withdraw(&self, under: &[u8; 16]) -> Result<Option<Zeroizing<Vec<u8>>>, Outage> {
        self.as_shared().ok_or(Outage)?.withdraw(under, false).await
    }

    /// Looks at it, and leaves it there.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn peek(&self, under: &[u8; 16]) -> Result<Option<Zeroizing<Vec<u8>>>, Outage> {
        self.as_shared().ok_or(Outage)?.withdraw(under, true).await
    }

    /// What is noted under `name` in a shared store.
    ///
    /// # Errors
    /// [`Outage`], and where the store is not shared.
    pub async fn noted(&self, name: &str) -> Result<Option<Vec<u8>>, Outage> {
        self.as_shared().ok_or(Outage)?.noted(name).await
    }

    /// Notes `value` in a shared store, where what is noted is `was`. An error within: what is noted instead.
    ///
    /// # Errors
    /// [`Outage`], and where the store is not shared.
    pub async fn renote(
        &self,
        name: &str,
        was: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Result<(), Option<Vec<u8>>>, Outage> {
        self.as_shared().ok_or(Outage)?.renote(name, was, value).await
    }
}
