//! Which requests are activity, and the notice of those that look like a person but beat like a clock.
//!
//! Invariant: what a rule calls background, and a page's own pings of a heartbeat path, never move a clock.

use std::time::Duration;

use http::Method;

use super::packing::{Packer, Unpacker};
use super::rules::RequestRule;
use crate::time::Timestamp;
use crate::wire::fetch::{Fetch, Mode};

/// What a request means for the clocks and the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It moves the idle clock.
    pub activity: bool,
    /// It runs without a session.
    pub skip_session: bool,
}

/// Judges a request for a public path. `heartbeats` are the heartbeat paths of all apps, queries included.
pub fn judge<'a>(
    rules: &[RequestRule],
    (method, path, query): (&Method, &str, Option<&str>),
    fetch: Fetch,
    mut heartbeats: impl Iterator<Item = &'a str>,
) -> Standing {
    let rule = rules.iter().find(|rule| rule.pattern.matches(method, path, query));
    let skip_session = rule.is_some_and(|rule| rule.skip_session);
    let background = rule.is_some_and(|rule| rule.background);
    let pings = fetch.mode.is_some_and(|mode| mode != Mode::Navigate)
        && heartbeats.any(|beat| beat.split('?').next() == Some(path));
    Standing { activity: !background && !pings && !skip_session, skip_session }
}

/// How regular a session's requests are: one path, one interval, nothing between.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cadence {
    path: u32,
    at: Timestamp,
    interval_ms: u32,
    repeats: u8,
}

/// As many equal intervals in a row are no person's doing.
const STEADY: u8 = 5;
/// Faster than this is a page loading its parts.
const SHORTEST: Duration = Duration::from_millis(900);

impl Cadence {
    /// A request for the path with the hash `path` has come. True once, when it has become clear that a clock sends it.
    pub fn observe(&mut self, path: u32, now: Timestamp) -> bool {
        let gap = now.since(self.at);
        let interval = u32::try_from(gap.as_millis()).unwrap_or(u32::MAX);
        let tolerance = (self.interval_ms / 20).max(100);
        let same = path == self.path && gap >= SHORTEST;
        self.repeats = match same {
            true if interval.abs_diff(self.interval_ms) <= tolerance => self.repeats.saturating_add(1),
            true => 1,
            false => 0,
        };
        if !same || self.repeats == 1 {
            self.interval_ms = interval;
        }
        (self.path, self.at) = (path, now);
        self.repeats == STEADY
    }

    /// The later one of both: what one proxy has seen of a session's requests.
    pub(super) fn merge(&mut self, theirs: Self) {
        let rank = |cadence: Self| (cadence.at, cadence.path, cadence.interval_ms, cadence.repeats);
        if rank(*self) < rank(theirs) {
            *self = theirs;
        }
    }

    /// Writes it.
    pub(super) fn pack(&self, out: &mut Packer<'_>) {
        out.time(self.at);
        if !self.at.is_zero() {
            out.raw(&self.path.to_le_bytes());
            out.number(self.interval_ms);
            out.byte(self.repeats);
        }
    }

    /// Reads what [`Cadence::pack`] wrote.
    pub(super) fn unpack(from: &mut Unpacker<'_>) -> Self {
        let at = from.time();
        if at.is_zero() {
            return Self::default();
        }
        Self { at, path: u32::from_le_bytes(from.array()), interval_ms: from.narrow(), repeats: from.byte() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pattern::Pattern;

    fn rule(pattern: &str, background: bool, skip_session: bool) -> RequestRule {
        RequestRule { pattern: Pattern::parse(pattern).unwrap(), background, skip_session }
    }

    fn standing(method: Method, path: &str, mode: Option<Mode>) -> Standing {
        let rules = [rule("GET /AppA/poll*", true, false), rule("* /static/*", false, true)];
        let fetch = Fetch { mode, ..Fetch::default() };
        judge(&rules, (&method, path, None), fetch, ["/AppA/ping.cfm?x=1"].into_iter())
    }

    #[test]
    fn declared_background_is_no_activity() {
        assert!(!standing(Method::GET, "/AppA/poll.cfm", None).activity);
        assert!(standing(Method::POST, "/AppA/poll.cfm", None).activity);
        assert!(standing(Method::GET, "/static/x.css", None).skip_session);
    }

    #[test]
    fn a_page_that_pings_the_heartbeat_path_is_no_activity_but_a_visit_to_it_is() {
        assert!(!standing(Method::GET, "/AppA/ping.cfm", Some(Mode::NoCors)).activity);
        assert!(standing(Method::GET, "/AppA/ping.cfm", Some(Mode::Navigate)).activity);
        assert!(standing(Method::GET, "/AppA/ping.cfm", None).activity, "no metadata proves nothing");
    }

    #[test]
    fn a_clock_is_noticed_once_and_a_person_never() {
        let mut cadence = Cadence::default();
        let noticed: Vec<u64> =
            (0..20).filter(|n| cadence.observe(7, Timestamp::from_secs(1000 + n * 60))).collect();
        assert_eq!(noticed, [5]);
        let mut cadence = Cadence::default();
        let gaps = [60, 61, 3, 60, 45, 60, 60, 12, 60, 60, 60, 1];
        let mut at = 1000;
        assert!(!gaps.iter().any(|gap| {
            at += gap;
            cadence.observe(7, Timestamp::from_secs(at))
        }));
    }
}
