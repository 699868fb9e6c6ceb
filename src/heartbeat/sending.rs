//! Heartbeats on their way: which of those that wait begins when, and what follows when its answer is there.
//!
//! What has time is begun by the scheduler, one heartbeat in each turn of the thread, so that no person's request waits
//! behind a row of them. What has none is begun by whoever has an answer: a task then sends one heartbeat after the other,
//! and nothing is started, woken or told for a single one.
//!
//! Invariants: no app's heartbeats keep those of another one waiting; whoever has an answer sees to it that what waits for
//! its place goes on.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};

use super::pressure::{Ticket, Wait};
use super::queue::{EASY, Hold, Queue, Queued};
use super::{Asked, CHUNK, Heartbeat};
use crate::bridge::beat::Verdict;
use crate::bridge::rules::AppIx;
use crate::ping::alarm::Alarm;
use crate::registry::agenda::Entry;
use crate::time::Timestamp;

/// Heartbeats that begin before the scheduler looks at the time and at new entries again.
const STARTS: usize = 64;
/// Over how long those who waited for an app that is down spread when they come back, in microseconds.
const SPREAD: u64 = 1_000_000;

/// What waits on one thread, by app.
#[derive(Debug)]
pub(super) struct Queues {
    of: BTreeMap<AppIx, Queue<Entry>>,
    /// The app that had its turn last.
    last: AppIx,
}

impl Default for Queues {
    fn default() -> Self {
        Self { of: BTreeMap::new(), last: AppIx(u16::MAX) }
    }
}

impl Queues {
    /// That of `app`.
    pub(super) fn of(&mut self, app: AppIx) -> &mut Queue<Entry> {
        self.of.entry(app).or_default()
    }

    /// Some app has room: all that wait for room may ask again.
    pub(super) fn told(&mut self) {
        self.of.values_mut().for_each(Queue::has_room);
    }

    /// When the first of any app may begin, as far as that is known.
    fn open(&mut self, now: Timestamp) -> Option<Timestamp> {
        let easy = self.easy();
        self.of.values_mut().filter_map(|queue| queue.opens(now, easy)).min()
    }

    /// When the first of `app` may begin, as far as that is known.
    fn opens(&mut self, app: AppIx, now: Timestamp) -> Option<Timestamp> {
        let easy = self.easy();
        self.of(app).opens(now, easy)
    }

    /// Each app's share of what may begin without a thought.
    fn easy(&self) -> u64 {
        let waiting = self.of.values().filter(|queue| !queue.is_empty()).count();
        EASY / (waiting as u64).max(1)
    }

    /// The apps for which something waits, the one whose turn it is first.
    fn in_turn(&self) -> SmallVec<[AppIx; 8]> {
        let after = self.of.range((Excluded(self.last), Unbounded));
        let apps = after.chain(self.of.range(..=self.last));
        apps.filter(|(_, queue)| !queue.is_empty()).map(|(app, _)| *app).collect()
    }
}

/// A heartbeat that may begin.
struct Begin {
    app: AppIx,
    ticket: Ticket,
    entry: Entry,
    /// How much later than it was due.
    late: Duration,
}

impl Heartbeat {
    /// When the first of those that wait may begin, as far as that is known.
    pub(super) fn opens(&self) -> Option<Timestamp> {
        self.queues.borrow_mut().open(self.clock.now())
    }

    /// Begins what may begin, app by app in turn. Between two heartbeats all that has become ready on this thread runs.
    pub(super) async fn send_what_may(self: &Rc<Self>) {
        for _ in 0..STARTS {
            let (apps, now) = (self.queues.borrow().in_turn(), self.clock.now());
            let Some(begin) = apps.into_iter().find_map(|app| self.take(app, now)) else { return };
            self.queues.borrow_mut().last = begin.app;
            spawn_local(Rc::clone(self).send(begin));
            yield_now().await;
        }
    }

    /// Sends a heartbeat, and then what waits for its place.
    async fn send(self: Rc<Self>, begin: Begin) {
        let (mut next, mut alarm) = (Some(begin), Alarm::new());
        let _under_way = self.pause.begin();
        while let Some(Begin { app, ticket, entry, late }) = next.take() {
            self.pinger.shard.heartbeat_lag(late);
            let setting = (self.setting)();
            let pinged = if self.is_due_everywhere(app, &entry).await {
                self.pinger.ping_with(&setting, app, &entry.slot, &mut alarm).await
            } else {
                None
            };
            let now = self.clock.now();
            let answered = pinged.filter(|own| own.sent).map(|own| own.verdict != Verdict::Unreachable);
            let turn = self.pressure.done(ticket, answered, now);
            self.place(entry, now);
            next = self.follow(app, turn, now);
        }
    }

    /// Where several proxies share the sessions: whether the heartbeat is due by what all of them know. Where the store says
    /// nothing it is: one too many does no harm, and none would.
    async fn is_due_everywhere(&self, app: AppIx, entry: &Entry) -> bool {
        if !self.registry.is_shared() {
            return true;
        }
        if self.registry.refresh_slot(&entry.slot, self.clock.now()).await.is_ok() {
            self.arm(&entry.slot);
        }
        matches!(self.ask(&entry.slot, app, self.clock.now()), Asked::Now { .. })
    }

    /// There is room at `app`, and it is the turn of the thread that `turn` wakes: if that is this one, what cannot wait any
    /// longer comes next.
    fn follow(self: &Rc<Self>, app: AppIx, turn: Option<Arc<Notify>>, now: Timestamp) -> Option<Begin> {
        let next = match turn {
            Some(other) if !Arc::ptr_eq(&other, &self.told) => {
                other.notify_one();
                None
            }
            _ => {
                let overdue = {
                    let mut queues = self.queues.borrow_mut();
                    queues.of(app).has_room();
                    queues.of(app).is_overdue(now)
                };
                overdue.then(|| self.take(app, now)).flatten()
            }
        };
        // Where there is room for more than that, the scheduler begins it.
        if next.is_some()
            && let Some(more) = self.take(app, now)
        {
            spawn_local(Rc::clone(self).send(more));
        }
        let opens = self.queues.borrow_mut().opens(app, now);
        if opens.is_some_and(|at| at < self.sleeps_until.get()) {
            self.told.notify_one();
        }
        next
    }

    /// Takes the next heartbeat to `app`, if it may begin now. What is not due any more is put where it belongs.
    fn take(&self, app: AppIx, now: Timestamp) -> Option<Begin> {
        if self.pause.is_held() {
            return None;
        }
        self.queues.borrow_mut().opens(app, now).filter(|opens| *opens <= now)?;
        let ticket = self.ticket(app, now)?;
        let found = self.first_due(app, now);
        let begin = match found {
            Some(Queued { item: entry, due, .. }) => Some(Begin { app, ticket, entry, late: now.since(due) }),
            None => {
                let turn = self.pressure.done(ticket, None, now);
                turn.filter(|turn| !Arc::ptr_eq(turn, &self.told)).inspect(|turn| turn.notify_one());
                None
            }
        };
        self.leave_line(app);
        begin
    }

    /// The first of those that wait for `app` that is due still. It does not look at very many at once.
    fn first_due(&self, app: AppIx, now: Timestamp) -> Option<Queued<Entry>> {
        for _ in 0..CHUNK {
            let waiting = self.pop(app)?;
            match self.ask(&waiting.item.slot, app, now) {
                Asked::Now { .. } => return Some(waiting),
                Asked::Later(at) => self.insert(at, waiting.item),
                Asked::Stop => {}
            }
            self.queues.borrow_mut().of(app).refund();
        }
        None
    }

    /// The right to send one to `app`. Where there is none now, its queue is kept, or goes back into the wheel.
    fn ticket(&self, app: AppIx, now: Timestamp) -> Option<Ticket> {
        let setting = (self.setting)();
        let Some(rules) = setting.route(app).and_then(|route| route.rules.beat.as_ref()) else {
            self.give_up_queue(app, now);
            return None;
        };
        let wait = match self.pressure.admit(app, rules, now, &self.told) {
            Ok(ticket) => return Some(ticket),
            Err(wait) => wait,
        };
        match wait {
            Wait::Room => self.queues.borrow_mut().of(app).hold(Hold::Room),
            Wait::Until(at) => self.queues.borrow_mut().of(app).hold(Hold::Until(at)),
            Wait::Down(until) => self.put_off(app, until),
        }
        None
    }

    /// Nobody asks `app` before `until`: what waits comes due again after that, not all at once.
    fn put_off(&self, app: AppIx, until: Timestamp) {
        for _ in 0..CHUNK {
            let Some(waiting) = self.pop(app) else { break };
            let spread = Duration::from_micros(waiting.item.slot.handle.0 % SPREAD);
            self.insert(until.plus(spread), waiting.item);
            self.queues.borrow_mut().of(app).refund();
        }
        self.leave_line(app);
    }

    /// Nothing that waits begins any more.
    pub(super) fn drop_what_waits(&self) {
        let apps = self.queues.borrow().in_turn();
        apps.into_iter().for_each(|app| self.drop_queue(app));
    }

    /// The app is kept alive no longer. Each session is told, so that whoever comes back when the app is back is seen to anew.
    fn give_up_queue(&self, app: AppIx, now: Timestamp) {
        while let Some(waiting) = self.pop(app) {
            self.ask(&waiting.item.slot, app, now);
        }
        self.leave_line(app);
    }

    fn drop_queue(&self, app: AppIx) {
        while self.pop(app).is_some() {}
        self.leave_line(app);
    }

    fn pop(&self, app: AppIx) -> Option<Queued<Entry>> {
        let waiting = self.queues.borrow_mut().of(app).pop()?;
        self.pressure.waits_no_more();
        Some(waiting)
    }

    /// Where nothing waits any more, this thread does not stand in the way of others.
    fn leave_line(&self, app: AppIx) {
        let leaves = self.queues.borrow_mut().of(app).leaves_line();
        if leaves {
            self.pressure.leave(app, &self.told);
        }
    }
}
