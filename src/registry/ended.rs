//! Sessions that have ended: their story, kept a day for those who ask why.

use std::collections::VecDeque;
use std::time::Duration;

use crate::bridge::id::Handle;
use crate::bridge::session::{End, Session};
use crate::bridge::timeline::Timeline;
use crate::time::Timestamp;

/// How long one is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How many are kept.
const MOST: usize = 100_000;

/// The story of a session that has ended. Holds no token.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its name.
    pub handle: Handle,
    /// When it was made.
    pub created: Timestamp,
    /// The person's last activity.
    pub last_activity: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// Why.
    pub end: End,
    /// Requests of the person.
    pub hits: u32,
    /// Its last events.
    pub timeline: Timeline,
}

/// Those of the last day.
#[derive(Debug, Default)]
pub(super) struct Graveyard(VecDeque<Ended>);

impl Graveyard {
    pub(super) fn bury(&mut self, session: &Session, end: End, now: Timestamp) {
        let too_old = |ended: &Ended| now.since(ended.at) > KEPT;
        while self.0.len() >= MOST || self.0.front().is_some_and(too_old) {
            self.0.pop_front();
        }
        self.0.push_back(Ended {
            handle: session.handle,
            created: session.created,
            last_activity: session.last_activity,
            at: now,
            end,
            hits: session.hits,
            timeline: session.timeline.clone(),
        });
    }

    pub(super) fn find(&self, handle: Handle) -> Option<Ended> {
        self.0.iter().rev().find(|ended| ended.handle == handle).cloned()
    }

    pub(super) fn latest(&self, most: usize) -> Vec<Ended> {
        self.0.iter().rev().take(most).cloned().collect()
    }
}
