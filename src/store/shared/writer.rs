//! Brings what is in the queue to the shared store: many sessions a round trip, several round trips at once.
//!
//! Invariants: of a session one write is under way at a time, so none overtakes another; a group is settled only when all of
//! it is in the store, and groups are settled in their order; what cannot be written waits and is written later; what leads
//! to a session is entered no later than the session.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use redis::Cmd;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::commands::{expires, listing, new_tag, noting, was_noted, writing};
use super::core::{Core, count, locked};
use super::fate::{self, Fate, Sent};
use super::link::Answer;
use super::names::{self, bucket_of};
use super::scripts::CLEAR;
use super::standing::{self, Standing};
use crate::store::queue::{Group, Head, Index, Mark, Note, Outage, Record};
use crate::store::seal;

/// Sessions in one round trip, at the most.
const BATCH: usize = 128;
/// Round trips at once.
const FLIGHTS: usize = 4;
/// Sessions that are taken from the queue before earlier ones are under way.
const MOST: usize = FLIGHTS * BATCH;
/// How long it waits where the store refuses.
const PATIENCE: Duration = Duration::from_millis(300);

/// What waits, and what is under way.
struct Writer {
    core: Arc<Core>,
    jobs: HashMap<[u8; 8], Job, foldhash::fast::RandomState>,
    /// Names of jobs that are not under way, in turn.
    turn: VecDeque<[u8; 8]>,
    notes: VecDeque<Noted>,
    clocks: Standing,
    /// True while notes are under way.
    noting: bool,
    /// Sessions that were taken from the queue and wait to be looked at, group by group.
    taken: VecDeque<(Mark, std::vec::IntoIter<Arc<dyn Record>>)>,
    /// Groups that are not settled, in order.
    groups: VecDeque<Open>,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// Not before then.
    rests: Option<Instant>,
    refused: u32,
}

/// A group, and how much of it is still to be written.
struct Open {
    mark: Mark,
    left: usize,
    many: usize,
    began: Instant,
}

/// A note, and the groups that wait for it.
type Noted = (SmallVec<[Mark; 2]>, Note);

/// A session that is to be written.
struct Job {
    record: Arc<dyn Record>,
    /// The groups that wait for this write.
    groups: SmallVec<[Mark; 2]>,
    /// The groups that it was put into while it was under way: they wait for the next one.
    next: SmallVec<[Mark; 2]>,
    /// The tag of its tombstone, kept from try to try: a lost answer is no other proxy's tombstone.
    grave: u64,
    /// What is in its place cannot be read, and goes first.
    clear: Option<Vec<u8>>,
    /// It is under way.
    flies: bool,
}

/// What goes in one round trip.
#[derive(Default)]
struct Batch {
    commands: Vec<Cmd>,
    sent: Vec<Sent>,
    notes: Vec<Noted>,
    clocks: Standing,
    /// Those of its commands that write them.
    standing: std::ops::Range<usize>,
}

struct Landed {
    batch: Batch,
    answers: Result<Vec<Answer>, Outage>,
}

/// Writes for as long as the thread runs.
pub(super) async fn run(core: Arc<Core>) {
    let mut writer = Writer {
        core: Arc::clone(&core),
        jobs: HashMap::default(),
        turn: VecDeque::new(),
        notes: VecDeque::new(),
        clocks: Standing::default(),
        noting: false,
        taken: VecDeque::new(),
        groups: VecDeque::new(),
        flights: FuturesUnordered::new(),
        rests: None,
        refused: 0,
    };
    loop {
        writer.fly();
        let rests = writer.rests.unwrap_or_else(Instant::now);
        tokio::select! {
            Some(landed) = writer.flights.next(), if !writer.flights.is_empty() => writer.land(landed),
            () = core.queue.rung(), if writer.flights.len() < FLIGHTS && writer.rests.is_none() => {}
            () = core.hub.writer.notified() => writer.rests = None,
            () = core.queue.becomes_due(), if writer.flights.len() < FLIGHTS && writer.rests.is_none() => {}
            () = tokio::time::sleep_until(rests), if writer.rests.is_some() => writer.rests = None,
        }
    }
}

impl Writer {
    /// Sends what can be sent.
    fn fly(&mut self) {
        while self.core.hub.is_up() && self.rests.is_none() && self.flights.len() < FLIGHTS {
            if self.taken.is_empty()
                && let Some(group) = self.core.queue.try_take()
            {
                self.take_in(group);
            }
            self.line_up();
            let mut batch = self.batch();
            if batch.commands.is_empty() {
                self.settle();
                if self.turn.is_empty() && self.taken.is_empty() && self.clocks.is_empty() {
                    return;
                }
                continue;
            }
            let core = Arc::clone(&self.core);
            self.flights.push(Box::pin(async move {
                let answers = core.send(std::mem::take(&mut batch.commands)).await;
                Landed { batch, answers }
            }));
        }
    }

    fn take_in(&mut self, group: Group) {
        let many = group.records.len();
        let left = many + group.notes.len() + usize::from(!group.clocks.is_empty());
        self.groups.push_back(Open { mark: group.mark, left, many, began: Instant::now() });
        for note in group.notes {
            self.wait((SmallVec::from_slice(&[group.mark]), note), true);
        }
        self.core.queue.give_back(self.clocks.add(group.mark, group.clocks));
        self.taken.push_back((group.mark, group.records.into_iter()));
    }

    /// Has so many sessions wait for their turn as can be under way soon: a group may hold all there are.
    fn line_up(&mut self) {
        while self.turn.len() < MOST
            && let Some((mark, records)) = self.taken.front_mut()
        {
            let mark = *mark;
            match records.next() {
                Some(record) => self.line_up_one(mark, record),
                None => drop(self.taken.pop_front()),
            }
        }
    }

    fn line_up_one(&mut self, mark: Mark, record: Arc<dyn Record>) {
        let name = record.name();
        match self.jobs.get_mut(&name) {
            Some(job) => {
                job.record = record;
                if job.flies { &mut job.next } else { &mut job.groups }.push(mark);
            }
            None => {
                let groups = SmallVec::from_slice(&[mark]);
                let next = SmallVec::new();
                self.jobs.insert(name, Job { record, groups, next, grave: 0, clear: None, flies: false });
                self.turn.push_back(name);
            }
        }
    }

    /// The next round trip's.
    fn batch(&mut self) -> Batch {
        let mut batch = Batch { clocks: self.clocks.some(), ..Batch::default() };
        while batch.sent.len() < BATCH
            && let Some(name) = self.turn.pop_front()
        {
            if !self.write(name, &mut batch) {
                self.finish(name, false);
            }
        }
        let began = batch.commands.len();
        batch.commands.extend(batch.clocks.commands(&self.core));
        batch.standing = began..batch.commands.len();
        // One round trip of notes at a time: each is compared with what was noted before it.
        if !self.noting {
            for noted in self.notes.drain(..) {
                let (name, value) = &noted.1;
                let was = locked(&self.core.notes).get(name).cloned().flatten();
                batch.commands.push(noting(&self.core, name, was.as_deref(), value));
                batch.notes.push(noted);
            }
            self.noting = !batch.notes.is_empty();
        }
        batch
    }

    /// Has a note wait; of two with one name the `newer` one is kept, and settles both.
    fn wait(&mut self, (marks, note): Noted, newer: bool) {
        match self.notes.iter_mut().find(|(_, other)| other.0 == note.0) {
            Some((others, other)) => {
                others.extend(marks);
                if newer {
                    *other = note;
                }
            }
            None => self.notes.push_back((marks, note)),
        }
    }

    /// Has a session wait for its turn again.
    fn queue(&mut self, name: [u8; 8], first: bool) {
        if let Some(job) = self.jobs.get_mut(&name) {
            job.flies = false;
            if first { self.turn.push_front(name) } else { self.turn.push_back(name) }
        }
    }

    /// Adds a session's commands. False: there is nothing to write.
    fn write(&mut self, name: [u8; 8], batch: &mut Batch) -> bool {
        let Some(job) = self.jobs.get_mut(&name) else { return true };
        let (core, record) = (&self.core, Arc::clone(&job.record));
        let (mut text, at) = (seal::room(), core.clock.now());
        let Some(head) = record.write(&mut text) else { return false };
        job.flies = true;
        let began = batch.commands.len();
        let expires = expires(at, &head);
        let tag = if head.ended && job.grave != 0 { job.grave } else { new_tag() };
        let mut value = names::head(&Head { expires, ..head.clone() }, tag).to_vec();
        if head.ended {
            job.grave = tag;
        } else {
            let Ok(sealed) = seal::seal(&core.keys, &name, text) else {
                tracing::error!(
                    "a session cannot be sealed, and is not kept: the system gives no randomness"
                );
                return false;
            };
            value.extend_from_slice(&sealed);
        }
        if let Some(seen) = job.clear.take() {
            let mut clear = CLEAR.on(&core.names.session(name));
            clear.arg(seen);
            batch.commands.push(clear);
        }
        for index in &head.index {
            let key = match index {
                Index::Id(id) => core.names.id(*id),
                Index::Token(token) => core.names.token(*token),
            };
            let mut set = redis::cmd("SET");
            set.arg(key).arg(&name[..]).arg("PXAT").arg(expires.millis());
            batch.commands.push(set);
        }
        let bucket = core.names.bucket(head.owner, bucket_of(name));
        if !head.ended && head.owner == core.me && (head.tag == 0 || head.list) {
            batch.commands.push(listing("SADD", &bucket, name));
        }
        let script = batch.commands.len();
        batch.commands.push(writing(core, name, &head, (tag, expires.millis()), value));
        if head.ended {
            batch.commands.push(standing::forgetting(core, name));
            if head.owner != 0 {
                batch.commands.push(listing("SREM", &bucket, name));
            }
        }
        let commands = began..batch.commands.len();
        let Head { owner, ended, .. } = head;
        batch.sent.push(Sent { name, record, tag, at, owner, expires, ended, commands, script });
        true
    }

    /// Takes in what became of a round trip.
    fn land(&mut self, landed: Landed) {
        let Landed { batch, answers } = landed;
        let Ok(answers) = answers else {
            // Whoever lost the connection has said so.
            batch.sent.iter().for_each(|sent| self.queue(sent.name, false));
            self.noting &= batch.notes.is_empty();
            batch.notes.into_iter().for_each(|noted| self.wait(noted, false));
            self.clocks.again(batch.clocks);
            self.core.queue.fail();
            return;
        };
        let mut refused = None;
        for sent in &batch.sent {
            let own = answers.get(sent.commands.clone()).unwrap_or_default();
            match fate::of(&self.core, sent, own, answers.get(sent.script)) {
                Fate::Done => self.finish(sent.name, true),
                fate @ (Fate::Again | Fate::Clear(_)) => {
                    if let Some(job) = self.jobs.get_mut(&sent.name) {
                        job.clear = if let Fate::Clear(seen) = fate { Some(seen) } else { None };
                    }
                    self.queue(sent.name, true);
                }
                Fate::Later(why) => {
                    refused = Some(why);
                    self.queue(sent.name, false);
                }
            }
        }
        match batch.clocks.landed(&self.core, answers.get(batch.standing).unwrap_or_default()) {
            Ok(groups) => groups.into_iter().for_each(|group| self.close(group)),
            Err((clocks, why)) => {
                refused = Some(why);
                self.clocks.again(clocks);
            }
        }
        self.noting &= batch.notes.is_empty();
        let noted = answers.len() - batch.notes.len().min(answers.len());
        for ((marks, note), answer) in batch.notes.into_iter().zip(answers.into_iter().skip(noted)) {
            match was_noted(&self.core, &note, answer) {
                Ok(()) => marks.into_iter().for_each(|mark| self.close(mark)),
                Err(why) => {
                    refused = Some(why);
                    self.wait((marks, note), false);
                }
            }
        }
        match refused {
            Some(why) => self.rest(&why),
            None => self.refused = 0,
        }
        self.settle();
    }

    /// A session's write is done, or there was none to do.
    fn finish(&mut self, name: [u8; 8], wrote: bool) {
        let Some(job) = self.jobs.get_mut(&name) else { return };
        count(&self.core.facts.records, u64::from(wrote));
        let groups = std::mem::take(&mut job.groups);
        if job.next.is_empty() {
            self.jobs.remove(&name);
        } else {
            job.groups = std::mem::take(&mut job.next);
            (job.grave, job.flies) = (0, false);
            self.turn.push_back(name);
        }
        for mark in groups {
            self.close(mark);
        }
    }

    /// One thing less for a group to wait for.
    fn close(&mut self, mark: Mark) {
        let first = self.groups.front().map_or(0, |group| group.mark.0);
        let at = usize::try_from(mark.0.saturating_sub(first)).unwrap_or(usize::MAX);
        if let Some(group) = self.groups.get_mut(at) {
            group.left = group.left.saturating_sub(1);
        }
    }

    /// Settles the groups that wait for nothing any more, in their order.
    fn settle(&mut self) {
        let mut last = None;
        while self.groups.front().is_some_and(|group| group.left == 0) {
            if let Some(group) = self.groups.pop_front() {
                let facts = &self.core.facts;
                count(&facts.groups, u64::from(group.many > 0));
                count(&facts.micros, u64::try_from(group.began.elapsed().as_micros()).unwrap_or(u64::MAX));
                last = Some(group.mark);
            }
        }
        if let Some(mark) = last {
            self.core.queue.settle(mark);
        }
    }

    /// The store refuses: it is asked again in a while.
    fn rest(&mut self, why: &str) {
        if self.refused.is_multiple_of(100) {
            tracing::error!(why, "the shared store does not take what changes: it waits");
        }
        self.refused += 1;
        count(&self.core.facts.failures, u64::from(self.refused == 1));
        self.core.queue.fail();
        self.rests = Some(Instant::now() + PATIENCE);
    }
}
