//! When each app was first served here: the window of `adopt_cookies` begins then.
//!
//! Invariant: a time that is known is never moved later, neither by a request nor by what an earlier process knew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::bridge::rules::AppIx;
use crate::time::Timestamp;

/// When each app was first served here.
#[derive(Debug, Default)]
pub struct Served {
    first: Mutex<HashMap<AppIx, Timestamp, foldhash::fast::RandomState>>,
}

impl Served {
    /// Since when `app` has been served here; `now`, where nobody knows of an earlier time: it is remembered then.
    pub fn since(&self, app: AppIx, now: Timestamp) -> Timestamp {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner).entry(app).or_insert(now)
    }

    /// `app` was served at `at`: what a store remembers. The earlier one of two times stays.
    pub fn put(&self, app: AppIx, at: Timestamp) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let known = first.entry(app).or_insert(at);
        *known = at.min(*known);
    }

    /// All that is known: what a store is to remember.
    #[must_use]
    pub fn all(&self) -> Vec<(AppIx, Timestamp)> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = first.iter().map(|(app, at)| (*app, *at)).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_time_that_anybody_knows_of_stays() {
        let (served, at) = (Served::default(), Timestamp::from_secs);
        assert_eq!(served.since(AppIx(1), at(100)), at(100));
        assert_eq!(served.since(AppIx(1), at(200)), at(100));
        served.put(AppIx(1), at(50));
        served.put(AppIx(0), at(70));
        served.put(AppIx(0), at(90));
        assert_eq!(served.since(AppIx(1), at(300)), at(50));
        assert_eq!(served.all(), [(AppIx(0), at(70)), (AppIx(1), at(50))]);
    }
}
