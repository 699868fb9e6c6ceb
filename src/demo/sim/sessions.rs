//! The session table of one application, and the count of what began and ended.
//!
//! Invariant: `starts - ends` (over all reasons) is the number of sessions in the table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SessionView;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Idle for too long.
    Timeout,
    /// Ended by the application at a sign-out (`logout`).
    Logout,
    /// Thrown away for a new one without a sign-out (`invalidate`).
    Replaced,
    /// Lost: a restart of the engine, or killed by the test.
    Lost,
}

/// What began and ended so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions begun. A change of id with content kept is not a start.
    pub starts: u64,
    /// Ended by [`End::Timeout`].
    pub timeouts: u64,
    /// Ended by [`End::Logout`].
    pub logouts: u64,
    /// Ended by [`End::Replaced`].
    pub replaced: u64,
    /// Ended by [`End::Lost`].
    pub lost: u64,
    /// Changes of id that kept the content.
    pub rotations: u64,
    /// Sign-ins that succeeded.
    pub sign_ins: u64,
}

/// One session as the application sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) label: String,
    pub(super) started: u64,
    pub(super) renewed: u64,
    pub(super) expires: u64,
    pub(super) hits: u64,
    pub(super) user: Option<String>,
    pub(super) data: BTreeMap<String, String>,
    /// What the sign-in is bound to (`SimOptions::bind_client`).
    pub(super) binding: Option<String>,
    /// The page that form login came between (servlet).
    pub(super) wanted: Option<String>,
}

impl Session {
    pub(super) fn view(&self) -> SessionView {
        SessionView {
            label: self.label.clone(),
            started: self.started,
            expires: self.expires,
            hits: self.hits,
            user: self.user.clone(),
            data: self.data.clone(),
        }
    }
}

/// Sessions by the engine's key, in the engine's own spelling.
#[derive(Default)]
pub(super) struct Sessions {
    table: BTreeMap<String, Session>,
    labels: u64,
    /// Keys that were touched since the last look at the clock.
    touched: Vec<String>,
    /// No session but those ends before this.
    soonest: u64,
    pub(super) counts: Counts,
}

impl Sessions {
    pub(super) fn get(&self, key: &str) -> Option<&Session> {
        self.table.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Session> {
        let session = self.table.get_mut(key);
        if session.is_some() {
            self.touched.push(key.to_owned());
        }
        session
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Session)> {
        self.table.iter()
    }

    /// A new, empty session under `key`; what was there before is counted as replaced.
    pub(super) fn start(&mut self, key: &str, now: u64, timeout: u64) {
        self.end(key, End::Replaced);
        self.labels += 1;
        self.counts.starts += 1;
        let session = Session {
            label: format!("s{}", self.labels),
            started: now,
            renewed: now,
            expires: now + timeout,
            hits: 0,
            user: None,
            data: BTreeMap::new(),
            binding: None,
            wanted: None,
        };
        self.touched.push(key.to_owned());
        self.table.insert(key.to_owned(), session);
    }

    /// Puts a session that came from the client's cookie in the place of what is known of it.
    pub(super) fn restore(&mut self, key: &str, session: Session) {
        self.touched.push(key.to_owned());
        if self.table.insert(key.to_owned(), session).is_none() {
            self.counts.starts += 1;
        }
    }

    pub(super) fn end(&mut self, key: &str, why: End) -> bool {
        let known = self.table.remove(key).is_some();
        if known {
            let count = match why {
                End::Timeout => &mut self.counts.timeouts,
                End::Logout => &mut self.counts.logouts,
                End::Replaced => &mut self.counts.replaced,
                End::Lost => &mut self.counts.lost,
            };
            *count += 1;
        }
        known
    }

    /// The same session under another key.
    pub(super) fn rename(&mut self, old: &str, new: &str) {
        if let Some(session) = self.table.remove(old) {
            self.end(new, End::Replaced);
            self.touched.push(new.to_owned());
            self.table.insert(new.to_owned(), session);
            self.counts.rotations += 1;
        }
    }

    /// Ends every session whose time is over at `now`. A session of 10 s is dead 10 s after its last touch.
    pub(super) fn expire(&mut self, now: u64) {
        for key in std::mem::take(&mut self.touched) {
            self.soonest = self.soonest.min(self.table.get(&key).map_or(u64::MAX, |session| session.expires));
        }
        if self.soonest > now {
            return;
        }
        self.end_all(End::Timeout, |session| session.expires <= now);
        self.soonest = self.table.values().map(|session| session.expires).min().unwrap_or(u64::MAX);
    }

    /// How many labels were given; the next session is `s` and one more.
    pub(super) fn labels(&self) -> u64 {
        self.labels
    }

    pub(super) fn clear(&mut self) {
        self.end_all(End::Lost, |_| true);
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn end_all(&mut self, why: End, over: impl Fn(&Session) -> bool) {
        let keys: Vec<String> =
            self.table.iter().filter(|(_, s)| over(s)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.end(&key, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn starts_less_ends_is_what_lives(steps in prop::collection::vec((0..6u8, 0..4u8, 0..4u8), 0..60)) {
            let mut sessions = Sessions::default();
            for (now, (what, a, b)) in steps.into_iter().enumerate() {
                let (a, b, now) = (a.to_string(), b.to_string(), now as u64);
                match what {
                    0 | 1 => sessions.start(&a, now, 9),
                    2 => { sessions.end(&a, End::Logout); }
                    3 => sessions.rename(&a, &b),
                    4 => sessions.expire(now),
                    _ => if let Some(session) = sessions.get(&a).cloned() { sessions.restore(&b, session) },
                }
                let c = sessions.counts;
                let ends = c.timeouts + c.logouts + c.replaced + c.lost;
                prop_assert_eq!(c.starts - ends, sessions.len() as u64);
            }
        }
    }

    #[test]
    fn dead_exactly_at_the_timeout() {
        let mut sessions = Sessions::default();
        sessions.start("k", 5, 10);
        sessions.expire(14);
        assert!(sessions.has("k"));
        sessions.expire(15);
        assert!(!sessions.has("k"));
    }
}
