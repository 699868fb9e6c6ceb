//! Sessions that die together though each by itself should live: the server that kept them was started anew.
//!
//! A restart ends every session that began before it and none that began after. So a session of before that is proven
//! alive afterwards speaks against it; deaths that a timeout can explain speak for nothing.
//!
//! Invariant: what is kept has a bound, however many sessions die or live.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Heard, Notice, Terms};
use crate::bridge::id::Handle;
use crate::time::Timestamp;

/// As many deaths, and as many survivors, are remembered.
const KEPT: usize = 64;
/// After as many survivors since the last death it is clear that there was no restart.
const ENOUGH: usize = 16;
/// As many sessions must die together, or all there are.
const TOGETHER: usize = 3;
/// Where it is as many, nothing more is waited for.
const MANY: usize = 12;
/// For so long a restart is worth telling.
const TOLD: Duration = Duration::from_secs(24 * 3600);

/// How far a restart's story is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has just been noticed.
    Began,
    /// One more session was found dead.
    Grew,
    /// No more are to be expected.
    Over,
}

/// A restart of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Which of the app's servers.
    pub server: u16,
    /// Up to then sessions that died were alive.
    pub after: Timestamp,
    /// From then on they were dead, or nobody answered.
    pub before: Timestamp,
    /// How many sessions were found dead so far.
    pub lost: u32,
    /// How many of them were not told before.
    pub new: u32,
    /// How far its story is.
    pub stage: Stage,
}

/// What was found to be a restart, and the last one's end where it had not been told.
pub(super) struct Verdict {
    pub(super) restart: Restart,
    pub(super) last: Option<Restart>,
}

#[derive(Clone, Copy, Debug)]
struct Death {
    at: Timestamp,
    session: Handle,
    proven: Timestamp,
    least: Duration,
    most: Duration,
    missed: bool,
}

impl Death {
    /// True where no timeout explains it: others outlived as long without use, or nobody could reach the app just before.
    fn is_unexplained(&self, longest: Duration, terms: &Terms) -> bool {
        self.most <= longest || self.missed && self.most < terms.timeout
    }

    /// True where a timeout need not explain it.
    fn may_be_unexplained(&self, longest: Duration, terms: &Terms) -> bool {
        self.is_unexplained(longest, terms) || self.least <= terms.about(longest) && self.most < terms.timeout
    }
}

/// A session that lived on.
#[derive(Clone, Copy, Debug)]
struct Survivor {
    proven: Timestamp,
    at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    restart: Restart,
    /// The first death: what was proven before it is of before.
    first: Timestamp,
    survivors: u32,
    over: Timestamp,
}

/// What is known of one server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    number: u16,
    /// By time.
    deaths: VecDeque<Death>,
    survivors: VecDeque<Survivor>,
    /// How many survivors there were since the last death.
    since_death: usize,
    /// When nobody answered, thinned out.
    nobody: VecDeque<Timestamp>,
    run: Option<Run>,
}

impl Server {
    pub(super) const fn new(number: u16) -> Self {
        Self {
            number,
            deaths: VecDeque::new(),
            survivors: VecDeque::new(),
            since_death: 0,
            nobody: VecDeque::new(),
            run: None,
        }
    }

    /// A session has died. `Some`: it belongs to a restart that is known.
    pub(super) fn died(&mut self, heard: &Heard, terms: &Terms, longest: Duration) -> Option<Restart> {
        if let Some(run) = &mut self.run
            && heard.proven < run.first
        {
            return Some(run.grow(heard));
        }
        let death = Death {
            at: heard.at,
            session: heard.session,
            proven: heard.proven,
            least: heard.least(),
            most: heard.most(),
            missed: heard.missed,
        };
        // One that a timeout explains may still be of a restart, once there is one.
        self.since_death = if death.may_be_unexplained(longest, terms) { 0 } else { self.since_death };
        self.deaths.retain(|other| other.session != death.session);
        let at = self.deaths.partition_point(|other| other.at <= death.at);
        self.deaths.insert(at, death);
        if self.deaths.len() > KEPT {
            self.deaths.pop_front();
        }
        None
    }

    /// A session lives. `Some`: so there was no restart.
    pub(super) fn survived(&mut self, heard: &Heard, terms: &Terms) -> Option<Notice> {
        if !self.watches(heard.at, terms) {
            return None;
        }
        if let Some(run) = &mut self.run
            && heard.proven < run.first
        {
            run.survivors += u32::from(heard.at > run.first);
            let mistaken = run.survivors > run.restart.lost;
            return mistaken.then(|| {
                self.run = None;
                Notice::NoRestart { mistaken: true }
            });
        }
        self.since_death += 1;
        self.survivors.push_back(Survivor { proven: heard.proven, at: heard.at });
        if self.survivors.len() > KEPT {
            self.survivors.pop_front();
        }
        None
    }

    /// Nobody answered.
    pub(super) fn found_nobody(&mut self, at: Timestamp, terms: &Terms) {
        if self.nobody.back().is_none_or(|last| at.since(*last) >= terms.window() / 64) {
            self.nobody.push_back(at);
            if self.nobody.len() > KEPT {
                self.nobody.pop_front();
            }
        }
    }

    /// True where it matters who lives.
    pub(super) fn watches(&self, now: Timestamp, terms: &Terms) -> bool {
        let open = self.deaths.back().is_some_and(|last| now < last.at.plus(terms.round()));
        let running = self.run.is_some_and(|run| now < run.over);
        running || open && self.since_death < ENOUGH
    }

    /// Time has passed.
    pub(super) fn look(&mut self, now: Timestamp, terms: &Terms) -> Option<Notice> {
        let far = terms.timeout.max(terms.round());
        self.deaths.retain(|death| now <= death.at.plus(far));
        let run = self.run.as_mut()?;
        if now >= run.first.plus(TOLD) {
            self.run = None;
            return Some(Notice::NoRestart { mistaken: false });
        }
        (now >= run.over).then(|| run.close()).flatten().map(Notice::Restart)
    }

    /// When something may be said though nothing is heard.
    pub(super) fn wake(&self, now: Timestamp, terms: &Terms) -> Option<Timestamp> {
        let of_death = |death: &Death| [death.at.plus(terms.settling()), death.at.plus(terms.round())];
        let of_run = |run: &Run| [run.over, run.first.plus(TOLD)];
        let deaths = self.deaths.iter().flat_map(of_death);
        deaths.chain(self.run.iter().flat_map(of_run)).filter(|at| *at > now).min()
    }

    /// Looks for deaths that only a restart explains; one that is found is kept.
    pub(super) fn judge(&mut self, now: Timestamp, longest: Duration, terms: &Terms) -> Option<Verdict> {
        if self.deaths.len() < TOGETHER - 1 {
            return None;
        }
        let firsts = self.deaths.iter().map(|death| death.at);
        let first = firsts.into_iter().find(|first| self.is_restart(*first, now, (longest, terms)))?;
        let dead = self.deaths.iter().filter(|death| death.at >= first && death.proven < first);
        let lost = u32::try_from(dead.clone().count()).unwrap_or(u32::MAX);
        let after = dead.map(|death| death.proven).max().unwrap_or(first);
        let nobody = self.nobody.iter().find(|at| **at > after && **at < first);
        let before = nobody.copied().unwrap_or(first);
        let restart = Restart { server: self.number, after, before, lost, new: lost, stage: Stage::Began };
        self.deaths.retain(|death| death.proven >= first);
        self.survivors.clear();
        let run = Run { restart, first, survivors: 0, over: first.plus(terms.timeout) };
        let last = self.run.replace(run).and_then(|mut last| last.close());
        Some(Verdict { restart, last })
    }

    /// True where what died from `first` on died of a restart, as far as that can be told now.
    fn is_restart(&self, first: Timestamp, now: Timestamp, (longest, terms): (Duration, &Terms)) -> bool {
        let survivors = self.survivors.iter();
        let survivors = survivors.filter(|alive| alive.proven < first && alive.at > first).count();
        if survivors * 4 > self.deaths.len() {
            return false;
        }
        let count = |within: Duration| {
            let until = first.plus(within);
            let dead = self.deaths.iter().filter(|death| {
                death.at >= first
                    && death.at <= until
                    && death.proven < first
                    && death.may_be_unexplained(longest, terms)
            });
            let sure = dead.clone().filter(|death| death.is_unexplained(longest, terms)).count();
            let all = dead.count();
            if sure > 0 { all } else { 0 }
        };
        let dead = count(terms.window());
        let settled = dead >= MANY || now >= first.plus(terms.settling());
        if dead >= TOGETHER && survivors * 4 <= dead && settled {
            return true;
        }
        // Two of two: by now everybody else would have been heard.
        survivors == 0 && now >= first.plus(terms.round()) && count(terms.round()) >= TOGETHER - 1
    }
}

impl Run {
    fn grow(&mut self, heard: &Heard) -> Restart {
        let restart = &mut self.restart;
        restart.lost = restart.lost.saturating_add(1);
        restart.after = restart.after.max(heard.proven.min(restart.before));
        restart.before = restart.before.min(heard.at).max(restart.after);
        Restart { new: 1, stage: Stage::Grew, ..*restart }
    }

    /// Its end, once.
    fn close(&mut self) -> Option<Restart> {
        if self.restart.stage == Stage::Over {
            return None;
        }
        self.restart.stage = Stage::Over;
        Some(Restart { new: 0, ..self.restart })
    }
}
