//! What the deaths of an app's sessions say about the app: that it was restarted, or that it forgets sessions sooner than
//! its config says.
//!
//! Invariants: a person's own sign-in, sign-out or rotation never counts, for only heartbeats are heard here; what passes
//! [`Gate`] would have changed nothing; of one restart each session is counted once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::id::Handle;
use crate::time::Timestamp;

mod early;
mod restart;
pub mod says;

use early::Early;
pub use restart::{Restart, Stage};
use restart::{Server, Verdict};

/// How an app's sessions are kept alive, as the config says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long the app is said to keep a session that nobody uses.
    pub timeout: Duration,
    /// How long after the last request a heartbeat comes.
    pub interval: Duration,
    /// By which share of the interval it comes earlier or later, in percent.
    pub jitter_percent: u8,
}

impl Terms {
    /// Within this, each session that nobody uses is sent a heartbeat.
    fn window(&self) -> Duration {
        self.interval * (100 + u32::from(self.jitter_percent)) / 100
    }

    /// Within this, each session is, used or not: [`super::beat::Pace`] waits no longer than two thirds of the timeout.
    fn round(&self) -> Duration {
        self.window().max(self.timeout * 2 / 3) + self.settling()
    }

    /// How long a few deaths are looked at before they are believed: where many sessions live, some of them are heard.
    fn settling(&self) -> Duration {
        self.window() / 8
    }

    /// What may differ from `gap` by chance alone: the jitter of two heartbeats.
    fn about(&self, gap: Duration) -> Duration {
        let jitter = u32::from(self.jitter_percent.min(50));
        gap * (100 + jitter) / (100 - jitter)
    }
}

/// What a heartbeat proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The session lives, and is the one that it was. (A canary that is seen for the first time proves no such thing.)
    Alive,
    /// It is gone.
    Dead,
    /// There was no answer that says anything.
    Unreachable,
}

/// A heartbeat that has been judged, and was not overtaken.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// When it was sent.
    pub at: Timestamp,
    /// In whose name.
    pub session: Handle,
    /// To which of the app's servers.
    pub server: u16,
    /// When the session was known before to be the one that it is: its token began, or a heartbeat proved it.
    pub proven: Timestamp,
    /// When the app was last proven to have renewed it.
    pub renewed: Timestamp,
    /// When the app was last asked for anything in its name.
    pub used: Timestamp,
    /// True where the heartbeat before it found nobody.
    pub missed: bool,
    /// What it proved.
    pub outcome: Outcome,
}

impl Heard {
    /// How long the session was unused, at least: any request may have renewed it.
    const fn least(&self) -> Duration {
        let last = if self.used.micros() > self.renewed.micros() { self.used } else { self.renewed };
        self.at.since(last)
    }

    /// How long it was unused, at most: not every page touches the session.
    const fn most(&self) -> Duration {
        self.at.since(self.renewed)
    }
}

/// Something for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Sessions that should live died together.
    Restart(Restart),
    /// They did not: others that began before live on. Or it is too long ago to matter.
    NoRestart {
        /// True where it should never have been said.
        mistaken: bool,
    },
    /// Sessions die before their time.
    Early {
        /// The shortest time without use that none outlived.
        dead: Duration,
        /// The longest that one did; zero: none was seen.
        alive: Duration,
        /// True where it was not said before.
        new: bool,
    },
    /// Others live longer: it was something else.
    NotEarly,
}

/// Which `alive` verdicts are nothing new. Two numbers, so that they can stand in two atomics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// No session was seen to outlive a longer time without use.
    pub longest: Duration,
    /// A bit for each server (64 and on share theirs) of which it matters now who lives.
    pub watched: u64,
}

impl Gate {
    /// True where `heard` need not be heard by [`Lifespan`].
    #[must_use]
    pub fn is_nothing_new(&self, heard: &Heard) -> bool {
        heard.outcome == Outcome::Alive
            && heard.least() <= self.longest
            && self.watched & bit(heard.server) == 0
    }
}

const fn bit(server: u16) -> u64 {
    1 << (server % 64)
}

/// What is known of one app.
#[derive(Clone, Debug)]
pub struct Lifespan {
    terms: Terms,
    /// The longest time without use that a session was seen to outlive.
    longest: Duration,
    early: Early,
    servers: BTreeMap<u16, Server>,
}

impl Lifespan {
    /// Of an app of which nothing was heard yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self { terms, longest: Duration::ZERO, early: Early::default(), servers: BTreeMap::new() }
    }

    /// Takes a heartbeat's verdict in, in any order of times.
    pub fn heard(&mut self, heard: &Heard) -> Vec<Notice> {
        let mut notices = Vec::new();
        match heard.outcome {
            Outcome::Alive => self.alive(heard, &mut notices),
            Outcome::Dead => self.dead(heard, &mut notices),
            Outcome::Unreachable => {
                let terms = self.terms;
                self.server(heard.server).found_nobody(heard.at, &terms);
            }
        }
        notices
    }

    /// Time has passed; see [`Lifespan::wake`].
    pub fn look(&mut self, now: Timestamp) -> Vec<Notice> {
        let mut notices = Vec::new();
        for server in self.servers.values_mut() {
            notices.extend(server.look(now, &self.terms));
        }
        self.judge(now, &mut notices);
        notices
    }

    /// When to look again though nothing is heard.
    #[must_use]
    pub fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        self.servers.values().filter_map(|server| server.wake(now, &self.terms)).min()
    }

    /// Which verdicts need not be heard at `now`, until the next one that was, or [`Lifespan::wake`].
    #[must_use]
    pub fn gate(&self, now: Timestamp) -> Gate {
        let watching = self.servers.iter().filter(|(_, server)| server.watches(now, &self.terms));
        Gate { longest: self.longest, watched: watching.fold(0, |all, (server, _)| all | bit(*server)) }
    }

    fn server(&mut self, server: u16) -> &mut Server {
        self.servers.entry(server).or_insert_with(|| Server::new(server))
    }

    fn alive(&mut self, heard: &Heard, notices: &mut Vec<Notice>) {
        let terms = self.terms;
        notices.extend(self.server(heard.server).survived(heard, &terms));
        if heard.least() > self.longest {
            self.longest = heard.least();
            notices.extend(self.early.judge(self.longest, &terms));
            // What could have been a timeout a moment ago may be none now.
            self.judge(heard.at, notices);
        }
    }

    fn dead(&mut self, heard: &Heard, notices: &mut Vec<Notice>) {
        let (terms, longest) = (self.terms, self.longest);
        if let Some(restart) = self.server(heard.server).died(heard, &terms, longest) {
            notices.push(Notice::Restart(restart));
            return;
        }
        let before = notices.len();
        self.judge(heard.at, notices);
        if notices.len() == before {
            self.early.died(heard, longest, &terms);
            notices.extend(self.early.judge(longest, &terms));
        }
    }

    /// Looks whether what died together died of a restart. One makes a new beginning: what the app allowed before may have
    /// changed with it.
    fn judge(&mut self, now: Timestamp, notices: &mut Vec<Notice>) {
        for server in self.servers.values_mut() {
            let Some(Verdict { restart, last }) = server.judge(now, self.longest, &self.terms) else {
                continue;
            };
            notices.extend(last.map(Notice::Restart));
            notices.push(Notice::Restart(restart));
            notices.extend(self.early.forget());
            self.longest = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests;
