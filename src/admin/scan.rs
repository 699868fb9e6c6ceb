//! Walks over all live sessions.
//!
//! Invariants: each session is looked at once, and one that sleeps is not woken unless it is on a page. What changes during
//! a walk may be seen before or after its change.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bridge::id::Handle;
use crate::bridge::session::Session;
use crate::registry::{Registry, Slot, Ticket};
use crate::route::RouteMap;
use crate::telemetry::labels::AppState;
use crate::time::Timestamp;

use super::view;

/// How many sessions of one app are in each state.
pub(super) type States = BTreeMap<AppState, u64>;

/// For each app, in the order of [`RouteMap::routes`], how many sessions of it are in each state at `now`.
pub(super) fn census(registry: &Registry, routes: &RouteMap, now: Timestamp) -> Vec<States> {
    let mut counts = vec![States::new(); routes.routes().len()];
    registry.each(|session, _| {
        for app in session.apps() {
            let state = routes.route(app.app).and_then(|route| view::state(app, route, now));
            let states = routes.place(app.app).and_then(|place| counts.get_mut(place));
            if let (Some(state), Some(states)) = (state, states) {
                *states.entry(state).or_default() += 1;
            }
        }
        true
    });
    counts
}

/// Up to `limit` sessions that `keep` wants, in the order of their handles, from behind `after` on; and whether there
/// are more.
pub(super) fn page(
    registry: &Registry,
    after: Option<Handle>,
    limit: usize,
    keep: impl Fn(&Session) -> bool,
) -> (Vec<Arc<Slot>>, bool) {
    let mut first: BTreeMap<Handle, Ticket> = BTreeMap::new();
    registry.each(|session, ticket| {
        let handle = session.handle;
        let full = first.len() > limit;
        let too_late = full && first.last_key_value().is_some_and(|(last, _)| handle >= *last);
        let passed = after.is_some_and(|after| handle <= after);
        if passed || too_late || !keep(session) {
            return true;
        }
        first.insert(handle, ticket);
        if full {
            first.pop_last();
        }
        true
    });
    let more = first.len() > limit;
    (first.into_values().take(limit).filter_map(|ticket| registry.slot(ticket)).collect(), more)
}

/// The up to `most` sessions with the latest activity, latest first.
pub(super) fn latest(registry: &Registry, most: usize) -> Vec<Arc<Slot>> {
    let mut latest: BTreeMap<(Timestamp, Handle), Ticket> = BTreeMap::new();
    registry.each(|session, ticket| {
        latest.insert((session.last_activity, session.handle), ticket);
        if latest.len() > most {
            latest.pop_first();
        }
        true
    });
    latest.into_values().rev().filter_map(|ticket| registry.slot(ticket)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::bridge::rules::Clocks;
    use crate::registry::options::Options;

    fn registry(sessions: u16) -> Registry {
        let hour = Duration::from_secs(3600);
        let clocks = Clocks {
            idle_timeout: hour,
            presence_limit: None,
            presence_ttl: Duration::from_secs(90),
            max_lifetime: 12 * hour,
        };
        let registry = Registry::new(Options { max_sessions: 1_000_000 }, clocks, &[7; 32]);
        for n in 0..sessions {
            let mut random = [0; 16];
            random[..2].copy_from_slice(&n.to_le_bytes());
            let at = Timestamp::from_secs(1_000 + u64::from(n));
            let (slot, _) = registry.create(random, at).unwrap();
            random[15] = 1;
            if n % 3 == 0 {
                let _ = registry.second_id(&slot, random);
            }
        }
        registry
    }

    proptest! {
        #[test]
        fn pages_together_hold_every_session_once_and_in_order(sessions in 0..60_u16, limit in 1..20_usize) {
            let registry = registry(sessions);
            let (mut handles, mut after) = (Vec::new(), None);
            loop {
                let (page, more) = page(&registry, after, limit, |_| true);
                prop_assert!(page.len() == limit || !more);
                handles.extend(page.iter().map(|slot| slot.handle));
                after = handles.last().copied();
                if !more { break }
            }
            prop_assert!(handles.is_sorted_by(|one, next| one < next));
            prop_assert_eq!(handles.len(), usize::from(sessions));
        }
    }

    #[test]
    fn the_latest_come_first_and_each_once() {
        let registry = registry(50);
        let at = |slot: &Arc<Slot>| slot.with(|session| session.last_activity.secs());
        let latest: Vec<u64> = latest(&registry, 3).iter().map(at).collect();
        assert_eq!(latest, [1_049, 1_048, 1_047]);
    }

    #[test]
    fn what_is_not_wanted_takes_no_place_on_a_page() {
        let registry = registry(50);
        let even = |session: &Session| session.created.secs().is_multiple_of(2);
        let (page, more) = page(&registry, None, 25, even);
        assert_eq!((page.len(), more), (25, false));
    }
}
