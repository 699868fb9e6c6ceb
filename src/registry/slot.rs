//! A session that is awake: it, the ids that open it, and who waits for it.
//!
//! Invariant: the lock is held only inside [`Slot::with`], which runs no await; nothing outside this module sees it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::table::Ticket;
use crate::bridge::id::{Handle, Key};
use crate::bridge::rules::AppIx;
use crate::bridge::session::{End, Phase, Session, mix};
use crate::store::{Mark, Record, Store};
use crate::time::Timestamp;

/// How long an id that has been replaced stays good, at the most.
pub const GRACE: Duration = Duration::from_secs(60);

/// Who shows an id: what the grace of a replaced one is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The client's address.
    pub address: IpAddr,
    /// A hash of its User-Agent.
    pub agent: u64,
}

/// An id that opens the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) key: Key,
    /// False until the browser has shown it.
    pub(super) seen: bool,
    /// Since when it has been replaced, and for whom it is still good.
    pub(super) replaced: Option<(Timestamp, Visitor)>,
    /// The id in whose place it came.
    pub(super) instead_of: Option<Key>,
    /// The id that came in its place has come back: this one opens nothing any more.
    pub(super) over: bool,
    /// Which host's it is: each host of one browser has ids of its own.
    pub(super) line: u8,
    /// There was a sign-in on another host: from then on it is good for this visitor only.
    pub(super) only: Option<Visitor>,
}

impl Held {
    pub(super) const fn new(key: Key, line: u8, instead_of: Option<Key>) -> Self {
        Self { key, seen: false, replaced: None, instead_of, over: false, line, only: None }
    }

    /// True where it is as good as on the first day, or within its grace for `visitor`.
    pub(super) fn opens(&self, visitor: Visitor, now: Timestamp) -> bool {
        !self.over
            && self.only.is_none_or(|only| only == visitor)
            && (self.replaced.is_none() || self.in_grace(visitor, now))
    }

    /// True where it was `visitor`'s a moment ago.
    pub(super) fn in_grace(&self, visitor: Visitor, now: Timestamp) -> bool {
        self.replaced.is_some_and(|(since, by)| by == visitor && now.since(since) < GRACE)
    }
}

/// The session and its ids.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) session: Session,
    pub(super) ids: SmallVec<[Held; 1]>,
    /// Hashes of tokens that it was given, the last ones, under which it is found.
    pub(super) owned: SmallVec<[u64; 2]>,
    /// Apps, each for the group that shares its session, to which a first request is on its way, and since when.
    pub(super) flights: SmallVec<[(AppIx, Timestamp); 1]>,
    /// What it was stamped when it was last put into the store.
    pub(super) stamp: u64,
}

impl Kept {
    /// The session's stamp and that of its ids.
    pub(super) fn stamped(&self) -> u64 {
        let of = |held: &Held| {
            held.key.hash() ^ u64::from(held.replaced.is_some()) ^ u64::from(held.only.is_some()) << 1
        };
        let ids = self.ids.iter().map(of).fold(self.session.stamp(), mix);
        self.owned.iter().copied().fold(ids, mix)
    }
}

/// One bridge session in the table.
#[derive(Debug)]
pub struct Slot {
    /// Its name in logs.
    pub handle: Handle,
    /// Where the table keeps it.
    pub(super) ticket: Ticket,
    /// Somebody was given it since the table last looked.
    used: AtomicBool,
    kept: Mutex<Kept>,
    /// The group of the store into which it was last put.
    mark: AtomicU64,
    /// The one with the last change that an answer may acknowledge: nobody waits for clocks to be kept.
    told: AtomicU64,
    /// Woken when a first request has been answered, and when the session has ended.
    changed: Notify,
}

/// What a request to an app that may have no token yet is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flight {
    /// Go on: there is a token, or this one goes first and must [`Slot::land`].
    Go {
        /// True where it goes first.
        first: bool,
    },
    /// Another one goes first: wait for [`Slot::changed`].
    Wait,
}

/// How long the others wait for the first.
pub const FLIGHT: Duration = Duration::from_secs(2);

impl Slot {
    /// Of a new session that `key` opens.
    pub(super) fn new(session: Session, key: Key, ticket: Ticket) -> Self {
        let ids = SmallVec::from_elem(Held::new(key, 0, None), 1);
        let (owned, flights) = (SmallVec::new(), SmallVec::new());
        Self::awake(Kept { session, ids, owned, flights, stamp: 0 }, ticket)
    }

    /// Of a session that has slept.
    pub(super) fn awake(kept: Kept, ticket: Ticket) -> Self {
        let (handle, used, changed) = (kept.session.handle, AtomicBool::new(true), Notify::new());
        let (mark, told) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { handle, ticket, used, kept: Mutex::new(kept), mark, told, changed }
    }

    /// Somebody is given it.
    pub(super) fn is_used(&self) {
        // A store only where it changes something: many threads may be given it at once.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// True where somebody was given it since this was last asked.
    pub(super) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// True where nothing is under way that sleep would make forgotten.
    pub(super) fn may_rest(&mut self) -> bool {
        self.kept().flights.is_empty()
    }

    /// True where the store was told of everything that an answer may acknowledge.
    pub(super) fn is_put(&mut self) -> bool {
        let kept = self.kept();
        kept.stamp == kept.stamped()
    }

    /// Has the store write it with the next commit.
    pub(super) fn put(self: &Arc<Self>, store: &Store) {
        self.with_kept(|kept| self.put_kept(kept, store));
    }

    /// Has the store write it where something has changed that an answer may acknowledge. The group that holds the last
    /// such change.
    pub(super) fn put_if_changed(self: &Arc<Self>, store: &Store) -> Mark {
        self.with_kept(|kept| {
            if kept.stamp != kept.stamped() {
                self.put_kept(kept, store);
            }
            Mark(self.told.load(Ordering::Relaxed))
        })
    }

    /// Under the session's lock: who sees the stamp of a change finds the mark of its group as well.
    fn put_kept(self: &Arc<Self>, kept: &mut Kept, store: &Store) {
        let (was, stamp) = (Mark(self.mark.load(Ordering::Relaxed)), kept.stamped());
        let mark = store.put(was, || Arc::clone(self) as Arc<dyn Record>);
        self.mark.store(mark.0, Ordering::Relaxed);
        if std::mem::replace(&mut kept.stamp, stamp) != stamp {
            self.told.store(mark.0, Ordering::Relaxed);
        }
    }

    /// What is kept, for whoever has the slot for itself.
    pub(super) fn kept(&mut self) -> &mut Kept {
        self.kept.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on the session, alone. Short and without waiting: other requests of the person stand behind it.
    pub fn with<T>(&self, work: impl FnOnce(&mut Session) -> T) -> T {
        self.with_kept(|kept| work(&mut kept.session))
    }

    pub(super) fn with_kept<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        // A panic in `work` leaves a session that is whole, since changes are applied at its end.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut kept)
    }

    /// Asks to go to `app`, of the apps that share its session the one that `group` stands for: where it has no token yet, one
    /// request to the group goes first and the others wait for its answer, so that one app session is made.
    pub fn depart(&self, app: AppIx, group: AppIx, now: Timestamp) -> Flight {
        self.with_kept(|kept| {
            if kept.session.has_ended() || kept.session.app(app).is_some_and(|session| session.has_token()) {
                return Flight::Go { first: false };
            }
            match kept.flights.iter_mut().find(|(of, _)| *of == group) {
                Some((_, since)) if now.since(*since) < FLIGHT => Flight::Wait,
                Some((_, since)) => {
                    *since = now;
                    Flight::Go { first: true }
                }
                None => {
                    kept.flights.push((group, now));
                    Flight::Go { first: true }
                }
            }
        })
    }

    /// The first request to the `group` has its answer, or has failed.
    pub fn land(&self, group: AppIx) {
        self.with_kept(|kept| kept.flights.retain(|(of, _)| *of != group));
        self.changed.notify_waiters();
    }

    /// Resolves when the session changes in a way that someone waits for. Ask for it before looking.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Wakes those who wait.
    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Resolves when the session has ended, and what it had with it: what was handed back to its browser goes on there.
    pub async fn ended(&self) {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let is_over = |phase| matches!(phase, Phase::Ended(end) if end != End::Released);
            if self.with(|session| is_over(session.phase())) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::testing::at;

    #[test]
    fn the_first_requests_to_a_group_go_one_at_a_time() {
        let (first, second, apart) = (AppIx(0), AppIx(1), AppIx(2));
        let ticket = Ticket { place: 0, generation: 0 };
        let slot = Slot::new(Session::new(Handle(1), at(0)), Key::from_bytes([0; 16]), ticket);
        assert_eq!(slot.depart(second, first, at(1)), Flight::Go { first: true });
        assert_eq!(
            slot.depart(first, first, at(1)),
            Flight::Wait,
            "it shares the session that is being made"
        );
        assert_eq!(slot.depart(apart, apart, at(1)), Flight::Go { first: true });
        slot.land(first);
        assert_eq!(slot.depart(first, first, at(1)), Flight::Go { first: true });
    }
}
