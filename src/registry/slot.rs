//! A session that is awake: it, the ids that open it, and who waits for it.
//!
//! Invariant: the lock is held only inside [`Slot::with`], which runs no await; nothing outside this module sees it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::copied::Copied;
use super::dials::Dials;
use super::record::Outbox;
use super::table::Ticket;
use crate::bridge::id::{Handle, Key};
use crate::bridge::rules::AppIx;
use crate::bridge::session::{End, Phase, Session, mix};
use crate::store::{Clocks, Mark, Record};
use crate::time::Timestamp;

/// How long an id that has been replaced stays good, at the most.
pub const GRACE: Duration = Duration::from_secs(60);

/// Who shows an id: what the grace of a replaced one is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

    /// Takes in what another proxy knows of the same id. True where theirs lacks something.
    pub(super) fn merge(&mut self, theirs: &Self) -> bool {
        let lacks = self.seen && !theirs.seen
            || self.over && !theirs.over
            || self.replaced.is_some() && theirs.replaced.is_none()
            || self.only.is_some() && theirs.only.is_none();
        self.seen |= theirs.seen;
        self.over |= theirs.over;
        self.line = self.line.min(theirs.line);
        self.replaced = self.replaced.into_iter().chain(theirs.replaced).min();
        self.only = self.only.into_iter().chain(theirs.only).min();
        self.instead_of = self.instead_of.or(theirs.instead_of);
        lacks
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
    /// Hashes of ids that were dropped, in order, where another copy may still have them.
    pub(super) gone: Vec<u64>,
    /// What it is in a store that several proxies share; none where there is only one.
    pub(super) copied: Option<Box<Copied>>,
}

impl Kept {
    /// The session's stamp and that of its ids.
    pub(super) fn stamped(&self) -> u64 {
        let of = |held: &Held| {
            held.key.hash() ^ u64::from(held.replaced.is_some()) ^ u64::from(held.only.is_some()) << 1
        };
        let ids = self.ids.iter().map(of).fold(self.session.stamp(), mix);
        let stamp = self.owned.iter().copied().fold(ids, mix);
        self.copied.as_ref().map_or(stamp, |copied| mix(stamp, self.shared_stamp(copied)))
    }

    /// It is over: hashes of the ids and tokens that led to it.
    pub(super) fn no_longer_leads(&mut self) -> (SmallVec<[u64; 4]>, SmallVec<[u64; 2]>) {
        let ids = self.ids.drain(..).map(|held| held.key.hash());
        // Where another proxy has dropped one, it may still lead here.
        let ids = ids.chain(std::mem::take(&mut self.gone)).collect();
        (ids, std::mem::take(&mut self.owned))
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
    /// When it was last known to be what is in a store that several proxies share, in microseconds.
    known: AtomicU64,
    /// When another one was last heard to have changed it.
    news: AtomicU64,
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

/// How long it is a session's turn to be written whole, and of how many turns one is its own.
const SPAN: Duration = Duration::from_secs(4);
const TURNS: u64 = 64;

/// How long the others wait for the first.
pub const FLIGHT: Duration = Duration::from_secs(2);

impl Slot {
    /// Of a new session that `key` opens.
    pub(super) fn new(session: Session, key: Key, ticket: Ticket, copied: Option<Box<Copied>>) -> Self {
        let ids = SmallVec::from_elem(Held::new(key, 0, None), 1);
        let (owned, flights) = (SmallVec::new(), SmallVec::new());
        Self::awake(Kept { session, ids, owned, flights, stamp: 0, gone: Vec::new(), copied }, ticket)
    }

    /// Of a session that has slept.
    pub(super) fn awake(kept: Kept, ticket: Ticket) -> Self {
        let (handle, used, changed) = (kept.session.handle, AtomicBool::new(true), Notify::new());
        let known = kept.copied.as_ref().map_or(0, |copied| copied.known.micros());
        let (mark, told) = (AtomicU64::new(0), AtomicU64::new(0));
        let (known, news) = (AtomicU64::new(known), AtomicU64::new(0));
        Self { handle, ticket, used, kept: Mutex::new(kept), mark, told, known, news, changed }
    }

    /// At `moment` it was what is in the store.
    pub(super) fn is_known(&self, moment: Timestamp) {
        self.known.fetch_max(moment.micros(), Ordering::Relaxed);
    }

    /// Another proxy has changed it, as was heard at `moment`.
    pub(super) fn is_doubted(&self, moment: Timestamp) {
        self.news.fetch_max(moment.micros(), Ordering::Relaxed);
    }

    /// When it was last known to be what is in the store, if nothing else was heard since.
    pub(super) fn known(&self) -> Option<Timestamp> {
        let (known, news) = (self.known.load(Ordering::Relaxed), self.news.load(Ordering::Relaxed));
        (known > news).then(|| Timestamp::from_micros(known))
    }

    /// When it was last what is in the store, whatever was heard since.
    pub(super) fn last_known(&self) -> Timestamp {
        Timestamp::from_micros(self.known.load(Ordering::Relaxed))
    }

    /// For whoever has the slot for itself, before it is put to sleep.
    pub(super) fn keep_known(&mut self) {
        let known = self.known().unwrap_or(Timestamp::ZERO);
        if let Some(copied) = &mut self.kept().copied {
            copied.known = known;
        }
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

    /// True where the store was told of everything that an answer may acknowledge, and other proxies of its clocks.
    pub(super) fn is_put(&mut self) -> bool {
        let kept = self.kept();
        kept.stamp == kept.stamped() && kept.copied.as_ref().is_none_or(|copied| copied.put == kept.clocks())
    }

    /// True where it is another proxy's.
    pub(super) fn is_a_copy(&mut self, me: u64) -> bool {
        self.kept().copied.as_ref().is_some_and(|copied| copied.owner != me)
    }

    /// Has the store write it with the next commit.
    pub(super) fn put(self: &Arc<Self>, outbox: &Outbox, dials: &Dials) {
        self.with_kept(|kept| self.put_kept(kept, outbox, dials));
    }

    /// Has the store write it where something has changed that an answer may acknowledge, and its clocks where other proxies must
    /// not miss for long that they have moved. The group that holds the last change of the first kind.
    pub(super) fn put_if_changed(self: &Arc<Self>, outbox: &Outbox, dials: &Dials) -> Mark {
        self.with_kept(|kept| {
            if kept.stamp != kept.stamped() {
                self.put_kept(kept, outbox, dials);
            } else if kept.copied.is_some() && kept.has_gone_on(dials) {
                let clocks = self.put_or_clocks(kept, outbox, dials);
                outbox.store.put_clocks(clocks);
            }
            Mark(self.told.load(Ordering::Relaxed))
        })
    }

    /// It was used: its clocks, where nothing else is to be written now.
    pub(super) fn used(self: &Arc<Self>, outbox: &Outbox, dials: &Dials) -> Option<Clocks> {
        self.with_kept(|kept| self.put_or_clocks(kept, outbox, dials))
    }

    fn put_or_clocks(self: &Arc<Self>, kept: &mut Kept, outbox: &Outbox, dials: &Dials) -> Option<Clocks> {
        if kept.stamp == kept.stamped() && outbox.takes_clocks() && !self.is_its_turn(kept) {
            return Some(kept.clocks_apart());
        }
        self.put_kept(kept, outbox, dials);
        None
    }

    /// What no clock tells and nobody waits for (the story, how often, what a browser is like) is written now and then all the
    /// same, of each session that is used in another one of so many spans.
    const fn is_its_turn(&self, kept: &Kept) -> bool {
        let span = kept.session.last_activity.micros() / SPAN.as_micros() as u64;
        (self.handle.0 ^ span).is_multiple_of(TURNS)
    }

    /// Under the session's lock: who sees the stamp of a change finds the mark of its group as well.
    fn put_kept(self: &Arc<Self>, kept: &mut Kept, outbox: &Outbox, dials: &Dials) {
        kept.is_put(dials);
        let (was, stamp) = (Mark(self.mark.load(Ordering::Relaxed)), kept.stamped());
        let told = std::mem::replace(&mut kept.stamp, stamp) != stamp;
        let mark = outbox.put(was, !told, || Arc::clone(self) as Arc<dyn Record>);
        self.mark.store(mark.0, Ordering::Relaxed);
        if told {
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
        let slot = Slot::new(Session::new(Handle(1), at(0)), Key::from_bytes([0; 16]), ticket, None);
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
