//! Sessions that have ended: their story, kept a day for those who ask why.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::bridge::id::Handle;
use crate::bridge::session::{End, Session};
use crate::bridge::timeline::{Event, Timeline};
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
    /// Its last events, and what its apps said afterwards.
    pub timeline: Timeline,
}

/// Those of the last day.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    /// Hashes of tokens whose sessions have ended, each until it is forgotten.
    tokens: HashMap<u64, Timestamp, foldhash::fast::RandomState>,
    /// The same in the order in which they came.
    order: VecDeque<(u64, Timestamp)>,
    all: VecDeque<Ended>,
    /// How many have been taken off the front.
    gone: usize,
    /// The place of each, counted from the first there ever was: a wave of ends is followed by a wave of words from apps.
    places: HashMap<Handle, usize, foldhash::fast::RandomState>,
}

impl Graveyard {
    pub(super) fn bury(&mut self, session: &Session, end: End, now: Timestamp) {
        let too_old = |ended: &Ended| now.since(ended.at) > KEPT;
        while self.all.len() >= MOST || self.all.front().is_some_and(too_old) {
            if let Some(oldest) = self.all.pop_front() {
                self.places.remove(&oldest.handle);
            }
            self.gone += 1;
        }
        self.places.insert(session.handle, self.gone + self.all.len());
        self.all.push_back(Ended {
            handle: session.handle,
            created: session.created,
            last_activity: session.last_activity,
            at: now,
            end,
            hits: session.hits,
            timeline: session.timeline.clone(),
        });
    }

    /// The token with this hash is dead: a browser that still shows it brings nothing back.
    pub(super) fn entomb(&mut self, hash: u64, now: Timestamp) {
        let too_old = |at: Timestamp| now.since(at) > KEPT;
        while self.order.len() >= MOST || self.order.front().is_some_and(|(_, at)| too_old(*at)) {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.tokens.get(&oldest) == Some(&at) {
                self.tokens.remove(&oldest);
            }
        }
        self.tokens.insert(hash, now);
        self.order.push_back((hash, now));
    }

    /// The token with this hash is a live session's again.
    pub(super) fn exhume(&mut self, hash: u64) {
        self.tokens.remove(&hash);
    }

    pub(super) fn is_entombed(&self, hash: u64) -> bool {
        self.tokens.contains_key(&hash)
    }

    /// Something came after the end of a session: an app's word on its sign-out.
    pub(super) fn note(&mut self, handle: Handle, event: Event) {
        let at = self.places.get(&handle).and_then(|place| place.checked_sub(self.gone));
        if let Some(ended) = at.and_then(|at| self.all.get_mut(at)) {
            ended.timeline.note(event.at, event.app, event.what);
        }
    }

    pub(super) fn find(&self, handle: Handle) -> Option<Ended> {
        let at = self.places.get(&handle)?.checked_sub(self.gone)?;
        self.all.get(at).cloned()
    }

    pub(super) fn latest(&self, most: usize) -> Vec<Ended> {
        self.all.iter().rev().take(most).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::timeline::What;

    #[test]
    fn what_comes_after_the_end_is_found_in_its_story_and_the_oldest_makes_room() {
        let mut graveyard = Graveyard::default();
        let bury = |graveyard: &mut Graveyard, number: u64, secs: u64| {
            let now = Timestamp::from_secs(secs);
            graveyard.bury(&Session::new(Handle(number), now), End::UserLogout, now);
        };
        let says = |graveyard: &Graveyard, number: u64| {
            let ended = graveyard.find(Handle(number))?;
            Some(ended.timeline.iter().filter(|event| event.what == What::SignOutProven).count())
        };
        let at = Timestamp::from_secs(3);
        let event = Event { at, app: None, what: What::SignOutProven };
        bury(&mut graveyard, 1, 1);
        bury(&mut graveyard, 2, 2);
        graveyard.note(Handle(2), event);
        assert_eq!((says(&graveyard, 1), says(&graveyard, 2)), (Some(0), Some(1)));
        bury(&mut graveyard, 3, KEPT.as_secs() + 2);
        graveyard.note(Handle(1), event);
        graveyard.note(Handle(3), event);
        assert_eq!([1, 2, 3].map(|number| says(&graveyard, number)), [None, Some(1), Some(1)]);
        assert_eq!(graveyard.latest(5).len(), 2);
    }
}
