//! What waits to be written, and who waits until it is.
//!
//! Many threads put records in; one writer takes all there are at once, and while it writes them the next group gathers.
//! That is what makes a commit's cost the cost of a group.
//!
//! Invariants: a record that is put in is asked for its bytes after that moment, so a commit holds what was true when it was
//! put in or something later; groups are committed in the order in which they gathered; what nobody waits for goes with what
//! somebody does, or after a moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::time::Timestamp;

/// Something that is kept.
pub trait Record: Send + Sync {
    /// What it is kept under, for ever.
    fn name(&self) -> [u8; 8];
    /// Writes what it is now behind `out`, and says what stands before that in clear; of it one process's own store looks at
    /// [`Head::front`] alone, and one that several proxies share at everything else. `None`: it is no more. In a shared store
    /// one that has ended is a head with [`Head::ended`] and nothing written.
    fn write(&self, out: &mut Vec<u8>) -> Option<Head>;
    /// In a shared store: what was last written, before any later change, was there under this tag a moment after `at`.
    fn written(&self, _tag: u64, _at: Timestamp) {}
    /// In a shared store: it is not there any more, and maybe nothing that leads to it. It is written as one that never was.
    fn lost(&self) {}
    /// In a shared store: it has something else than what this one was based on, which this one takes into itself.
    ///
    /// # Errors
    /// Says why it cannot be taken in; then this one is not written.
    fn merge(&self, _theirs: &[u8], _head: &Head) -> Result<(), String> {
        Ok(())
    }
}

/// What stands before a record, in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What is read of it at a start before it is opened. No secret.
    pub front: Box<[u8]>,
    /// Which writing of it the copy is based on: a random number, new at each write; 0: none.
    pub tag: u64,
    /// The proxy that sends its heartbeats and ends it by the clocks.
    pub owner: u64,
    /// How often the owner has changed: a later one's word counts.
    pub epoch: u32,
    /// When the store may forget it.
    pub expires: Timestamp,
    /// What leads to it and still has to be entered.
    pub index: SmallVec<[Index; 4]>,
    /// It is over, and stays so.
    pub ended: bool,
    /// Nothing has changed since it was last written but clocks: the other proxies need not be told.
    pub quiet: bool,
    /// Its owner has become so here: it is to be listed with that one's.
    pub list: bool,
}

/// When a session was last used, apart from its record: the little that changes with every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The session's name.
    pub name: [u8; 8],
    /// What they are. No secret.
    pub bytes: SmallVec<[u8; 64]>,
    /// When a shared store may forget them.
    pub expires: Timestamp,
}

/// How long what nobody waits for gathers before it is written, where nothing else is: so short that what is written at once keeps nobody
/// waiting.
const GATHERS: Duration = Duration::from_millis(50);
/// How far apart groups are begun at the least: of many that come one by one, each would have a commit of its own, and each commit costs more than
/// what is in it. One that comes alone does not wait.
const APART: Duration = Duration::from_millis(1);
/// Room for so many clocks is kept from group to group.
const MOST_SPARE: usize = 1 << 14;

/// What leads to a record in a shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// The hash of an id that opens it.
    Id([u8; 16]),
    /// The keyed hash of a token that it was given.
    Token(u64),
}

/// The group of records that one was put into. Later groups have higher numbers; 0 has been committed always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u64);

/// The store cannot be written now. What was put in waits, and is written as soon as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be written")]
pub struct Outage;

/// A group of records, and what committing it settles.
pub(super) struct Group {
    pub(super) mark: Mark,
    pub(super) records: Vec<Arc<dyn Record>>,
    pub(super) notes: Vec<Note>,
    pub(super) clocks: Vec<Clocks>,
}

/// Something that the store is to say of itself: a name, and what it says.
pub(super) type Note = (String, Vec<u8>);

/// The queue between those who change sessions and the writer.
pub(super) struct Queue {
    gathering: Mutex<Gathering>,
    /// The writer sleeps here.
    something: Condvar,
    /// Or here, where it is one of several tasks of its thread.
    bell: Notify,
    /// The last group that is on disk.
    committed: AtomicU64,
    fails: AtomicBool,
    /// Woken when `committed` or `fails` has changed: those who wait for a group by its number, so that whoever waits for the next one
    /// sleeps on.
    told: [Notify; ROWS],
}

/// Groups that may be on their way at once, as a rule.
const ROWS: usize = 8;

struct Gathering {
    mark: u64,
    records: Vec<Arc<dyn Record>>,
    notes: Vec<Note>,
    clocks: Vec<Clocks>,
    /// Where the next clocks gather, with the room of those before.
    spare: Vec<Clocks>,
    /// When what waits is written at the latest.
    due: Option<Instant>,
    /// True where somebody waits for it.
    hurries: bool,
    /// When the last group was taken.
    taken: Option<Instant>,
    /// Nothing more will come.
    closed: bool,
}

impl Gathering {
    const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.notes.is_empty() && self.clocks.is_empty()
    }

    /// When what waits is to be taken.
    fn due(&self) -> Option<Instant> {
        let due = self.due?;
        let soon = self.taken.map(|taken| taken + APART).filter(|_| !self.closed);
        Some(if self.hurries || self.closed {
            soon.map_or_else(Instant::now, |soon| soon.min(due))
        } else {
            due
        })
    }

    /// True where there is something that is not to wait.
    fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }

    /// Something waits from now on that may have waited before. True: whoever writes has to know.
    fn waits(&mut self, hurries: bool) -> bool {
        let news = self.due.is_none() || hurries && !self.hurries;
        self.hurries |= hurries;
        if self.due.is_none() {
            self.due = Some(Instant::now() + GATHERS);
        }
        news
    }

    /// All there is, if any of it is due; what comes from here on is the next group.
    fn take(&mut self) -> Option<Group> {
        if !self.is_due() {
            return None;
        }
        let (records, notes) = (std::mem::take(&mut self.records), std::mem::take(&mut self.notes));
        let clocks = std::mem::replace(&mut self.clocks, std::mem::take(&mut self.spare));
        (self.due, self.hurries, self.taken) = (None, false, Some(Instant::now()));
        self.mark += 1;
        Some(Group { mark: Mark(self.mark - 1), records, notes, clocks })
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            gathering: Mutex::new(Gathering {
                mark: 1,
                records: Vec::new(),
                notes: Vec::new(),
                clocks: Vec::new(),
                spare: Vec::new(),
                due: None,
                hurries: false,
                taken: None,
                closed: false,
            }),
            something: Condvar::new(),
            bell: Notify::new(),
            committed: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            told: std::array::from_fn(|_| Notify::new()),
        }
    }

    /// Puts a record in, unless it `was` put into the group that gathers now. `hurries`: somebody may wait for it.
    pub(super) fn put(&self, was: Mark, hurries: bool, record: impl FnOnce() -> Arc<dyn Record>) -> Mark {
        let mut gathering = self.gathering();
        if was.0 != gathering.mark {
            gathering.records.push(record());
        }
        if gathering.waits(hurries) {
            self.ring();
        }
        Mark(gathering.mark)
    }

    /// Puts clocks in, for which nobody waits.
    pub(super) fn put_clocks(&self, clocks: impl IntoIterator<Item = Clocks>) {
        let mut gathering = self.gathering();
        gathering.clocks.extend(clocks);
        if !gathering.clocks.is_empty() && gathering.waits(false) {
            self.ring();
        }
    }

    /// Clocks have been written: others may have their place.
    pub(super) fn give_back(&self, mut clocks: Vec<Clocks>) {
        clocks.clear();
        if clocks.capacity() <= MOST_SPARE {
            self.gathering().spare = clocks;
        }
    }

    /// Resolves when what waits is due; never where nothing does.
    pub(super) async fn becomes_due(&self) {
        let due = self.gathering().due();
        match due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Puts a note in.
    pub(super) fn note(&self, note: Note) -> Mark {
        let mut gathering = self.gathering();
        gathering.notes.push(note);
        gathering.waits(true);
        self.ring();
        Mark(gathering.mark)
    }

    /// The group that holds the last of what was put in; clocks wait no longer.
    pub(super) fn last(&self) -> Mark {
        let mut gathering = self.gathering();
        if gathering.is_empty() {
            return Mark(gathering.mark - 1);
        }
        if gathering.waits(true) {
            self.ring();
        }
        Mark(gathering.mark)
    }

    pub(super) fn is_committed(&self, mark: Mark) -> bool {
        mark.0 <= self.committed.load(Ordering::Acquire)
    }

    pub(super) fn fails(&self) -> bool {
        self.fails.load(Ordering::Acquire)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.gathering().records.len()
    }

    /// Resolves when the group is on disk.
    ///
    /// # Errors
    /// [`Outage`] where it cannot be brought there now.
    pub(super) async fn committed(&self, mark: Mark) -> Result<(), Outage> {
        loop {
            let told = self.told(mark.0).notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.is_committed(mark) {
                return Ok(());
            }
            if self.fails() {
                return Err(Outage);
            }
            told.await;
        }
    }

    /// Nothing more will be put in that matters.
    pub(super) fn close(&self) {
        self.gathering().closed = true;
        self.something.notify_one();
    }

    /// True where there is no writer any more.
    pub(super) fn is_closed(&self) -> bool {
        self.gathering().closed
    }

    /// There is a writer again.
    pub(super) fn reopen(&self) {
        self.gathering().closed = false;
        self.fails.store(false, Ordering::Release);
    }

    /// The next group; the calling thread sleeps until there is one. `None`: it is closed, and all has been taken.
    pub(super) fn take(&self) -> Option<Group> {
        let mut gathering = self.gathering();
        while !gathering.is_due() && !gathering.closed {
            gathering = match gathering.due() {
                Some(due) => {
                    let rest = due.saturating_duration_since(Instant::now());
                    self.something.wait_timeout(gathering, rest).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.something.wait(gathering).unwrap_or_else(PoisonError::into_inner),
            };
        }
        gathering.take()
    }

    /// The next group, if there is one now.
    pub(super) fn try_take(&self) -> Option<Group> {
        self.gathering().take()
    }

    /// Resolves when there may be a group.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn ring(&self) {
        self.something.notify_one();
        self.bell.notify_one();
    }

    /// The store can be written again, whether or not anything waits.
    pub(super) fn heal(&self) {
        self.fails.store(false, Ordering::Release);
    }

    /// Sleeps for `span`, or until it is closed. True: it is.
    pub(super) fn pause(&self, span: Duration) -> bool {
        let waits = |gathering: &mut Gathering| !gathering.closed;
        let waited = self.something.wait_timeout_while(self.gathering(), span, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// The writer has brought a group to disk.
    pub(super) fn settle(&self, mark: Mark) {
        let before = self.committed.swap(mark.0, Ordering::AcqRel);
        let failed = self.fails.swap(false, Ordering::AcqRel);
        if failed || mark.0 - before.min(mark.0) >= ROWS as u64 {
            return self.told.iter().for_each(Notify::notify_waiters);
        }
        (before + 1..=mark.0).for_each(|group| self.told(group).notify_waiters());
    }

    #[expect(clippy::indexing_slicing, reason = "taken modulo the number of them")]
    const fn told(&self, group: u64) -> &Notify {
        &self.told[group as usize % ROWS]
    }

    /// The writer cannot bring anything to disk.
    pub(super) fn fail(&self) {
        self.fails.store(true, Ordering::Release);
        self.told.iter().for_each(Notify::notify_waiters);
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);

    impl Record for Fixed {
        fn name(&self) -> [u8; 8] {
            [self.0; 8]
        }

        fn write(&self, out: &mut Vec<u8>) -> Option<Head> {
            out.push(self.0);
            Some(Head::default())
        }
    }

    fn put(queue: &Queue, was: Mark, byte: u8) -> Mark {
        queue.put(was, true, || Arc::new(Fixed(byte)))
    }

    #[tokio::test]
    async fn what_is_put_in_while_a_group_is_written_goes_with_the_next() {
        let queue = Queue::new();
        assert_eq!(queue.last(), Mark(0));
        let first = put(&queue, Mark(0), 1);
        assert_eq!(put(&queue, first, 1), first, "it is in this group already");
        let group = queue.take().unwrap();
        assert_eq!((group.mark, group.records.len()), (first, 1));
        let second = put(&queue, first, 1);
        assert!(second > first);
        queue.settle(group.mark);
        assert_eq!(queue.committed(first).await, Ok(()));
        assert!(!queue.is_committed(second));
        assert_eq!(queue.last(), second);
        assert_eq!(queue.waiting(), 1);
    }

    #[tokio::test]
    async fn who_waits_hears_of_an_outage_and_what_waits_is_not_lost() {
        let queue = Arc::new(Queue::new());
        let mark = put(&queue, Mark(0), 1);
        let waits = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.committed(mark).await }
        });
        tokio::task::yield_now().await;
        let group = queue.take().unwrap();
        queue.fail();
        assert_eq!(waits.await.unwrap(), Err(Outage));
        queue.settle(group.mark);
        assert_eq!(queue.committed(mark).await, Ok(()));
    }

    fn clocks(byte: u8) -> Clocks {
        Clocks { name: [byte; 8], bytes: SmallVec::from_slice(&[byte]), expires: Timestamp::FAR }
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_gather_for_a_while_or_go_with_what_is_not_to_wait() {
        let queue = Queue::new();
        queue.put_clocks([clocks(1)]);
        queue.rung().await;
        tokio::time::advance(GATHERS / 2).await;
        queue.put_clocks([clocks(2)]);
        let late = queue.put(Mark(0), false, || Arc::new(Fixed(9)));
        assert!(queue.try_take().is_none());
        let began = Instant::now();
        queue.becomes_due().await;
        assert_eq!(began.elapsed(), GATHERS / 2);
        let group = queue.try_take().unwrap();
        assert_eq!((group.clocks, group.records.len(), group.mark), (vec![clocks(1), clocks(2)], 1, late));
        queue.put_clocks([clocks(3)]);
        let late = queue.put(Mark(0), false, || Arc::new(Fixed(1)));
        assert!(queue.try_take().is_none());
        assert_eq!(put(&queue, late, 1), late, "the same, but now somebody waits for it");
        assert!(queue.try_take().is_none(), "a moment ago a group was taken");
        tokio::time::advance(APART).await;
        let both = queue.take().unwrap();
        assert_eq!((both.clocks.len(), both.records.len()), (1, 1));
        assert!(futures_util::FutureExt::now_or_never(queue.becomes_due()).is_none());
        queue.put_clocks([clocks(4)]);
        let last = queue.last();
        tokio::time::advance(APART).await;
        assert_eq!(queue.take().unwrap().mark, last, "who waits for all waits no longer than needed");
    }

    #[test]
    fn a_closed_queue_is_emptied_first() {
        let queue = Queue::new();
        put(&queue, Mark(0), 1);
        queue.close();
        assert!(queue.take().is_some());
        queue.put_clocks([clocks(1)]);
        assert!(queue.take().is_some());
        assert!(queue.take().is_none());
        assert!(queue.pause(Duration::from_secs(60)), "who is closed waits for nothing");
    }
}
