//! Where several proxies share the sessions: this one serves copies, and reads them anew before they are too old.
//!
//! Invariant: a cookie is called unknown only where the store has said so; where it says nothing, who has a session that is known
//! here goes on with that, and nobody loses a cookie.

use std::sync::Arc;
use std::time::Duration;

use http::header::{LOCATION, SET_COOKIE};
use http::response::Parts;
use tokio::time::Instant;

use super::Proxy;
use super::error::Error;
use super::exchange::Departed;
use super::inbound::Inbound;
use super::visit::{Visit, shown};
use crate::bridge::rules::AppIx;
use crate::registry::{FLIGHT, Registry, Slot};
use crate::route::RouteMap;
use crate::store::{Key, Outage};

/// A request that goes first looks at least so often whether it may, where it hears nothing.
const GLANCE: Duration = Duration::from_millis(100);

impl Proxy {
    /// Brings what is known here of a request's session up to date.
    ///
    /// # Errors
    /// Where the store says nothing, and the session is not known here or must not be served so.
    pub(super) async fn freshen(&self, map: &RouteMap, inbound: &Inbound<'_>) -> Result<(), Error> {
        let registry = &self.shared.registry;
        let Some(id) = shown(map, inbound) else { return Ok(()) };
        let key = Key::Id(*id.key().as_bytes());
        match registry.refresh(key, inbound.now).await {
            Ok(Some(slot)) => {
                if registry.take_over(&slot, |owner| registry.store().is_alive(owner)) {
                    self.look_after(&slot);
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(Outage) if !self.shared.is_strict() && registry.knows(key) => Ok(()),
            Err(Outage) => Err(Error::StoreOutage),
        }
    }

    /// Tokens that a browser shows, to be adopted, may belong to sessions that this proxy has not heard of.
    pub(super) async fn ask_whose(&self, app: AppIx, departed: &Departed) -> Result<(), Error> {
        let registry = &self.shared.registry;
        for parts in departed.seen.tokens_shown() {
            let hash = registry.token_hash(app, parts.iter().copied());
            let asked = registry.refresh(Key::Token(hash), self.now()).await;
            asked.map_err(|Outage| Error::StoreOutage)?;
        }
        Ok(())
    }

    /// What another proxy has changed while a request was at the app is known before its answer is applied: a late answer must not
    /// undo a sign-out, or put an older token in the place of a newer one.
    pub(super) async fn read_anew(&self, visit: &Visit, parts: &Parts) {
        let registry = &self.shared.registry;
        let Some(slot) = visit.slot.as_ref().filter(|slot| registry.is_doubted(slot)) else { return };
        if parts.headers.contains_key(SET_COOKIE) || parts.headers.contains_key(LOCATION) {
            // Where the store says nothing, this is what is known.
            let _ = Box::pin(registry.refresh_slot(slot, self.now())).await;
        }
    }

    /// One request of a session goes first to an app that has given it no token yet, whichever proxies its requests come to.
    /// False where the wait for that is over, or the token is there.
    pub(super) async fn goes_first(&self, slot: &Arc<Slot>, group: AppIx, until: Instant) -> bool {
        let (registry, what) = (&self.shared.registry, turn(slot, group));
        loop {
            let changed = slot.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // Where the store says nothing, two app sessions are better than none.
            if registry.store().claim(&what, FLIGHT).await.unwrap_or(true) {
                return true;
            }
            let soon = until.min(Instant::now() + GLANCE);
            let _ = tokio::time::timeout_at(soon, changed).await;
            let _ = registry.refresh(Key::Name(slot.handle.0.to_be_bytes()), self.now()).await;
            let has_token = slot
                .with(|session| session.has_ended() || session.app(group).is_some_and(|app| app.has_token()));
            if has_token || Instant::now() >= until {
                return false;
            }
        }
    }
}

/// The first request has its answer: it is another one's turn, once what that brought is in the store.
pub(super) fn gone_first(registry: &Arc<Registry>, slot: &Arc<Slot>, group: AppIx) {
    let (registry, slot) = (Arc::clone(registry), Arc::clone(slot));
    tokio::task::spawn_local(async move {
        let _ = registry.saved(&slot).await;
        registry.store().unclaim(&turn(&slot, group)).await;
    });
}

fn turn(slot: &Slot, group: AppIx) -> Vec<u8> {
    [b"turn", &slot.handle.0.to_be_bytes()[..], &group.0.to_be_bytes()].concat()
}
