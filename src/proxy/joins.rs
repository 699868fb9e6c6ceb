//! Round trips between two hosts of one browser that are under way: in this process's memory, or in the store where several
//! proxies share it, since each step may come to another one.
//!
//! Invariants: a ticket is given once, and whoever has both it and the nonce takes the round trip out, once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::registry::{Registry, Slot};
use crate::store::{Key, Outage};
use crate::time::Timestamp;

/// How long a round trip may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Round trips under way at once in one process; the oldest makes room.
const MOST: usize = 10_000;

/// A round trip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Join {
    pub(super) id: [u8; 16],
    /// A digest of the nonce.
    pub(super) nonce: [u8; 16],
    /// When it began, in microseconds since the Unix epoch.
    pub(super) begun: u64,
    /// The public origin where it began, and what was asked there.
    pub(super) origin: String,
    pub(super) target: String,
    /// The host where the browser is to show its cookie.
    pub(super) elsewhere: String,
    /// A digest of the ticket, and the handle of whose it is.
    pub(super) ticket: Option<([u8; 16], u64)>,
}

/// One of this process's own, with the session that it leads to.
type Own = (Join, Option<Arc<Slot>>);

/// How one comes back.
#[derive(Debug)]
pub(super) struct Back {
    /// What was asked at the start.
    pub(super) target: String,
    /// The session of the other host, where nonce and ticket are right.
    pub(super) slot: Option<Arc<Slot>>,
}

/// Round trips under way.
#[derive(Debug, Default)]
pub(super) struct Joins(Mutex<VecDeque<Own>>);

impl Joins {
    /// One begins.
    pub(super) async fn begin(&self, registry: &Registry, join: Join) -> Result<(), Outage> {
        if registry.is_shared() {
            return registry.store().deposit(&join.id, &written(&join), PATIENCE).await;
        }
        self.all(Timestamp::from_micros(join.begun)).push_back((join, None));
        Ok(())
    }

    /// The browser has come to `host`, where the session in `slot` is its; `ticket` is a digest of what it is given. The origin to
    /// which it goes back; `None`: there is no such round trip.
    pub(super) async fn show(
        &self,
        registry: &Registry,
        (id, host): ([u8; 16], &str),
        (ticket, slot): ([u8; 16], Option<&Arc<Slot>>),
        now: Timestamp,
    ) -> Result<Option<String>, Outage> {
        let (store, ticket) = (registry.store(), slot.map(|slot| (ticket, slot.handle.0)));
        if !store.is_shared() {
            let mut joins = self.all(now);
            let own = joins.iter_mut().find(|(join, _)| join.id == id && join.elsewhere == host);
            return Ok(own.map(|(join, whose)| {
                if join.ticket.is_none() {
                    (join.ticket, *whose) = (ticket, slot.cloned());
                }
                join.origin.clone()
            }));
        }
        let Some(mut join) = store.peek(&id).await?.and_then(|text| read(&text)) else { return Ok(None) };
        if join.elsewhere != host {
            return Ok(None);
        }
        let left = PATIENCE.saturating_sub(now.since(Timestamp::from_micros(join.begun)));
        if ticket.is_some() && store.claim(&[b"join", &id[..]].concat(), PATIENCE).await? {
            join.ticket = ticket;
            store.deposit(&id, &written(&join), left).await?;
        }
        Ok(Some(join.origin))
    }

    /// The browser has come back to `origin` with digests of a nonce and a ticket. Where the nonce is not that of the one who
    /// began it, it stays good for that one.
    pub(super) async fn end(
        &self,
        registry: &Registry,
        (id, origin): ([u8; 16], &str),
        (nonce, ticket): (Option<[u8; 16]>, Option<[u8; 16]>),
        now: Timestamp,
    ) -> Result<Option<Back>, Outage> {
        let store = registry.store();
        let found = if store.is_shared() {
            store.peek(&id).await?.and_then(|text| read(&text))
        } else {
            self.all(now).iter().find(|(join, _)| join.id == id).map(|(join, _)| join.clone())
        };
        let Some(join) = found.filter(|join| join.origin == origin) else { return Ok(None) };
        if !same(nonce, &join.nonce) {
            return Ok(Some(Back { target: join.target, slot: None }));
        }
        let is_right = |join: &Join| join.ticket.is_some_and(|(own, _)| same(ticket, &own));
        if store.is_shared() {
            let Some(join) = store.withdraw(&id).await?.and_then(|text| read(&text)) else { return Ok(None) };
            let whose = join.ticket.filter(|_| is_right(&join)).map(|(_, whose)| whose.to_be_bytes());
            let slot = match whose {
                Some(whose) => registry.refresh(Key::Name(whose), now).await?,
                None => None,
            };
            return Ok(Some(Back { target: join.target, slot }));
        }
        let mut joins = self.all(now);
        let at = joins.iter().position(|(join, _)| join.id == id);
        let taken = at.and_then(|at| joins.remove(at));
        Ok(taken.map(|(join, slot)| Back { slot: slot.filter(|_| is_right(&join)), target: join.target }))
    }

    /// Those of this process, without those that have taken too long.
    fn all(&self, now: Timestamp) -> MutexGuard<'_, VecDeque<Own>> {
        let mut joins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while joins.len() >= MOST
            || joins.front().is_some_and(|(join, _)| now.since(Timestamp::from_micros(join.begun)) > PATIENCE)
        {
            joins.pop_front();
        }
        joins
    }
}

fn same(shown: Option<[u8; 16]>, own: &[u8; 16]) -> bool {
    shown.is_some_and(|shown| bool::from(shown.ct_eq(own)))
}

fn written(join: &Join) -> Vec<u8> {
    serde_json::to_vec(join).unwrap_or_default()
}

fn read(text: &[u8]) -> Option<Join> {
    serde_json::from_slice(text).ok()
}
