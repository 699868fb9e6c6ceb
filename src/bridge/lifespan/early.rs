//! Sessions that die before their time: the figure between the longest life and the shortest.
//!
//! Invariant: what is said fits everything that was seen: no session lived as long without use as the figure, and each
//! that is counted was without use for no longer than the config allows.

use std::time::Duration;

use super::{Heard, Notice, Terms};
use crate::bridge::id::Handle;

/// As many deaths are remembered, the earliest ones.
const KEPT: usize = 16;
/// So many sessions must have died earlier than chance would have it.
const CLEAR: usize = 2;
/// So many, where the jitter of heartbeats might explain each by itself.
const LIKELY: usize = 4;

/// The early deaths of one app.
#[derive(Clone, Debug, Default)]
pub(super) struct Early {
    /// Whose, and how long they were without use at the most; shortest first.
    dead: Vec<(Handle, Duration)>,
    /// The figures that were told last: dead and alive.
    told: Option<(Duration, Duration)>,
}

impl Early {
    /// A session has died.
    pub(super) fn died(&mut self, heard: &Heard, longest: Duration, terms: &Terms) {
        let most = heard.most();
        // One that was used a moment ago says nothing, and one that nobody could reach may have had its full time.
        let idle = heard.least() >= terms.interval / 2 && !heard.missed;
        if !idle || most <= longest || most >= terms.timeout / 20 * 19 {
            return;
        }
        self.dead.retain(|(session, other)| *session != heard.session || *other <= most);
        if self.dead.iter().all(|(session, _)| *session != heard.session) {
            let at = self.dead.partition_point(|(_, other)| *other <= most);
            self.dead.insert(at, (heard.session, most));
            self.dead.truncate(KEPT);
        }
    }

    /// What is to be said now that some were seen alive after `longest`.
    pub(super) fn judge(&mut self, longest: Duration, terms: &Terms) -> Option<Notice> {
        self.dead.retain(|(_, most)| *most > longest);
        let chance = terms.about(longest);
        let clear = self.dead.iter().filter(|(_, most)| *most > chance).count();
        let shortest = self.dead.first().map(|(_, most)| *most);
        match shortest.filter(|_| clear >= CLEAR || self.dead.len() >= LIKELY) {
            None => self.told.take().map(|_| Notice::NotEarly),
            Some(dead) if self.told == Some((dead, longest)) => None,
            Some(dead) => {
                let new = self.told.replace((dead, longest)).is_none();
                Some(Notice::Early { dead, alive: longest, new })
            }
        }
    }

    /// It was something else, or the app is another one now.
    pub(super) fn forget(&mut self) -> Option<Notice> {
        std::mem::take(self).told.map(|_| Notice::NotEarly)
    }
}
