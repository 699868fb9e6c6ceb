//! Copies of sessions that several proxies share: read anew where they may be old.
//!
//! Invariant: where the store is there, nobody is served from a copy that another proxy has changed longer ago than news take.

use std::sync::Arc;
use std::time::Duration;

use super::copies::NotTaken;
use super::slot::Slot;
use super::table::By;
use super::{Registry, Timestamp};
use crate::bridge::id::{self as bridge, Handle};
use crate::store::{Fetched, Key, News, Outage};

/// How long a copy is fresh of which there are no news: whatever could keep news from coming makes this proxy deaf long before.
const FRESH: Duration = Duration::from_secs(300);
/// How long its clocks are.
const LATELY: Duration = Duration::from_secs(2);
/// How often what dangles is looked at again, and after what pause: many times longer than a write takes.
const TRIES: usize = 4;
const PAUSE: Duration = Duration::from_millis(40);
/// By so much the clocks of a session that another proxy serves may be behind in the store: five seconds until they are put, and a
/// little more.
const LAG: Duration = Duration::from_secs(7);

impl Registry {
    /// The session that `by` leads to, as it is in the store by now, where several proxies share it. `None`: there is none.
    ///
    /// # Errors
    /// [`Outage`] where the store says nothing; what is known here stays as it is.
    pub async fn refresh(&self, by: Key, now: Timestamp) -> Result<Option<Arc<Slot>>, Outage> {
        match self.fresh(by, now) {
            Some(slot) => Ok(Some(slot)),
            None => self.read(by, now).await,
        }
    }

    /// What leads to a session is entered before the session says so itself, and where that takes a second try there is a moment
    /// between the two in which nobody is to be told that a cookie is unknown.
    async fn read(&self, by: Key, now: Timestamp) -> Result<Option<Arc<Slot>>, Outage> {
        for _ in 0..TRIES {
            let read = self.read_once(by, now).await?;
            if !read.dangles {
                return Ok(read.slot);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(self.read_once(by, now).await?.slot)
    }

    async fn read_once(&self, by: Key, now: Timestamp) -> Result<Read, Outage> {
        // Of one that is known the name is known, by which it is found in one step.
        let name = self.known(by).map_or(by, |slot| Key::Name(slot.handle.0.to_be_bytes()));
        match self.outbox.store.fetch(name).await? {
            Fetched::Record { head, record, clocks } => {
                match self.take_in(&head, (&record, clocks.as_deref()), now) {
                    Ok(slot) => Ok(Read { dangles: !has_known(&slot, by), slot: Some(slot) }),
                    Err(NotTaken::Ended) => Ok(Read::default()),
                    // Somebody newer wrote it: as good as away, and nobody loses a cookie.
                    Err(NotTaken::Unknown(_)) => Err(Outage),
                }
            }
            Fetched::Ended => {
                if let Key::Token(hash) = by {
                    // Whoever still shows it brings nothing back.
                    self.graveyard().entomb(hash, now);
                }
                let slot = self.known(by);
                slot.into_iter().for_each(|slot| drop(self.end_elsewhere(slot.handle.0.to_be_bytes(), now)));
                Ok(Read::default())
            }
            Fetched::Nothing => Ok(Read { slot: self.not_there(by, now), dangles: false }),
            Fetched::Dangling => Ok(Read { slot: self.not_there(by, now), dangles: true }),
        }
    }

    /// The same, of a session that is known here, with its clocks as they are in the store by now: of those there are no news.
    ///
    /// # Errors
    /// As [`Registry::refresh`].
    pub async fn refresh_slot(&self, slot: &Arc<Slot>, now: Timestamp) -> Result<(), Outage> {
        if self.is_known_since(slot, now.minus(LATELY)) {
            return Ok(());
        }
        self.read(Key::Name(slot.handle.0.to_be_bytes()), now).await.map(|_| ())
    }

    /// True where this proxy sends the heartbeats of a session and ends it by the clocks: it is its own, or, where nobody can be
    /// asked who lives, any that was served here.
    #[must_use]
    pub fn beats_here(&self, slot: &Slot) -> bool {
        !self.is_shared() || self.is_mine(slot) || self.outbox.store.fails()
    }

    /// How far clocks may be behind that another proxy has moved.
    #[must_use]
    pub const fn lag(&self) -> Duration {
        if self.is_shared() { LAG } else { Duration::ZERO }
    }
}

/// What was read of a session.
#[derive(Default)]
struct Read {
    slot: Option<Arc<Slot>>,
    /// What led there is not known there: not yet, or not any more.
    dangles: bool,
}

/// True where `by` opens the session, or is known to do so no more.
fn has_known(slot: &Slot, by: Key) -> bool {
    let Key::Id(id) = by else { return true };
    let hash = bridge::Key::from_bytes(id).hash();
    slot.with_kept(|kept| {
        kept.ids.iter().any(|held| *held.key.as_bytes() == id) || kept.gone.binary_search(&hash).is_ok()
    })
}

impl Registry {
    /// What the store lets know, at `now`. Short: of what it has lost the rest goes with [`Registry::rest`].
    pub fn hear(&self, news: &News, now: Timestamp) {
        match news {
            News::Changed(name) | News::Mine { name } => self.doubt(*name, now),
            News::Ended(name) => drop(self.end_elsewhere(*name, now)),
            News::Deaf => self.hears(None),
            News::Hears => self.hears(Some(now)),
            News::Again(name) => self.put_again(*name),
            News::All => self.put_all(),
            News::Noted(_) | News::First(_) | News::Second(_) => {}
        }
    }

    /// True where this proxy has the session that `by` leads to, however old its copy is.
    #[must_use]
    pub fn knows(&self, by: Key) -> bool {
        self.known(by).is_some()
    }

    /// The copy of the session that `by` leads to, where it needs not be read again. By clocks that others may have moved on no
    /// session is over.
    #[must_use]
    pub fn fresh(&self, by: Key, now: Timestamp) -> Option<Arc<Slot>> {
        self.known(by).filter(|slot| {
            self.is_known_since(slot, now.minus(LATELY))
                || self.is_known_since(slot, now.minus(FRESH))
                    && slot.with(|session| session.expired(&self.clocks(), now).is_none())
        })
    }

    /// The live session that `by` leads to here, however old its copy is.
    #[must_use]
    pub fn known(&self, by: Key) -> Option<Arc<Slot>> {
        let (index, hash) = match by {
            Key::Id(id) => (By::Id, bridge::Key::from_bytes(id).hash()),
            Key::Token(token) => (By::Token, token),
            Key::Name(name) => (By::Handle, u64::from_be_bytes(name)),
        };
        let is_it = |slot: &Arc<Slot>| {
            slot.with_kept(|kept| match by {
                _ if kept.session.has_ended() => false,
                Key::Id(id) => kept.ids.iter().any(|held| *held.key.as_bytes() == id),
                Key::Token(token) => kept.owned.contains(&token),
                Key::Name(_) => slot.handle.0 == hash,
            })
        };
        if self.sharing.is_none() && matches!(by, Key::Name(_)) {
            return self.find(Handle(hash));
        }
        self.table.find(index, hash).into_iter().find(is_it)
    }

    /// The store has nothing where `by` leads to. What is known here was lost there, or has not come there yet.
    fn not_there(&self, by: Key, now: Timestamp) -> Option<Arc<Slot>> {
        let slot = self.known(by)?;
        self.put_again(slot.handle.0.to_be_bytes());
        slot.is_known(now);
        Some(slot)
    }
}
