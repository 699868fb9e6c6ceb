//! When the next heartbeat is due, and what its answer means.
//!
//! Invariants: a heartbeat is never sent past the end of its bridge session; nothing here moves a person's clock.

use std::time::Duration;

use super::app_session::{AppSession, Learned};
use super::rules::BeatRules;
use crate::time::Timestamp;

/// What a heartbeat, or a person's own answer, proved about an app session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It lives and has been renewed.
    Alive,
    /// An empty session answers under the old id.
    Reborn,
    /// The app gave out a new id.
    Replaced,
    /// A sign-in page, 401, 403, or the token was deleted.
    SignedOut,
    /// No answer that says anything.
    Unreachable,
}

impl Verdict {
    /// All of them, in the order of their labels.
    pub const ALL: [Self; 5] =
        [Self::Alive, Self::Reborn, Self::Replaced, Self::SignedOut, Self::Unreachable];

    /// The word for it, everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Reborn => "reborn",
            Self::Replaced => "replaced",
            Self::SignedOut => "signed_out",
            Self::Unreachable => "unreachable",
        }
    }

    /// True where the token is dead: no heartbeats until the person's next request to the app.
    #[must_use]
    pub const fn stops(self) -> bool {
        matches!(self, Self::Reborn | Self::Replaced | Self::SignedOut)
    }
}

/// The heartbeats of one app session.
#[derive(Clone, Copy, Debug, Default)]
pub struct BeatState {
    /// What the last one proved.
    pub verdict: Option<Verdict>,
    /// When the last one was sent.
    pub at: Timestamp,
    /// How many have been sent, as far as the jitter is concerned.
    pub count: u32,
    /// Those in a row that proved nothing.
    pub failures: u8,
    /// True where a dead token waits for the person's next request.
    pub stopped: bool,
    /// True while a scheduler holds an entry for it.
    pub armed: bool,
    /// True while one is on its way.
    pub in_flight: bool,
    /// When the app session was last known to be the one that it is: its token began, or a heartbeat proved it. Zero: since
    /// the app's part of the bridge session was made.
    pub proven: Timestamp,
    /// The keyed hash of the canary of this app session; 0: none seen yet.
    pub canary: u64,
}

/// What a scheduler does with an entry that has come due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send one.
    Now,
    /// Come back then.
    Later(Timestamp),
    /// Drop the entry; whoever makes it due again arms it anew.
    Stop,
}

/// What decides over an app session's heartbeats besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Pace<'a> {
    /// The app's rules.
    pub rules: &'a BeatRules,
    /// The app's own session timeout.
    pub timeout: Duration,
    /// The session's handle: what its jitter is drawn from.
    pub seed: u64,
}

impl Pace<'_> {
    /// How long after the app's last request its next heartbeat comes, without jitter.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.rules.every.unwrap_or(self.timeout / 3).max(Duration::from_millis(10))
    }

    /// When the next heartbeat to `app` is due, or that none is.
    ///
    /// Traffic of the person's own postpones it, but never past two thirds of the timeout since the session was last
    /// proven renewed: a page that does not touch the session must not lull us.
    #[must_use]
    pub fn next(&self, app: &AppSession, now: Timestamp) -> Next {
        if app.beat.stopped || !app.has_token() {
            return Next::Stop;
        }
        // One page may be all that a person asks of an app: it is what makes the session.
        let active = app.activity.max(app.created);
        if self.rules.limit.is_some_and(|limit| now.since(active) >= limit) {
            return Next::Stop;
        }
        if app.beat.in_flight {
            return Next::Later(now.plus(self.rules.timeout));
        }
        if app.is_busy(now, self.timeout / 2) {
            return Next::Later(now.plus((self.timeout / 20).clamp(TICK, Duration::from_secs(5))));
        }
        let due = self.due(app);
        if due <= now { Next::Now } else { Next::Later(due) }
    }

    fn due(&self, app: &AppSession) -> Timestamp {
        let spaced = app.last_request.plus(self.jittered(app));
        let proven = app.renewed.plus(self.timeout * 2 / 3);
        let due = spaced.min(proven);
        if app.beat.at.is_zero() {
            return due;
        }
        // However little the answers prove, heartbeats to one app session keep a distance.
        due.max(app.beat.at.plus(self.distance(app.beat.failures)))
    }

    /// The least time between two heartbeats: doubled with each that proved nothing, up to the interval itself.
    fn distance(&self, failures: u8) -> Duration {
        let interval = self.interval();
        (interval / 4).saturating_mul(1 << failures.min(4)).min(interval)
    }

    /// The interval, moved by up to `jitter` either way; the same for the same heartbeat, so that asking twice does not
    /// move it.
    fn jittered(&self, app: &AppSession) -> Duration {
        let percent = u64::from(self.rules.jitter_percent);
        if percent == 0 {
            return self.interval();
        }
        let draw = mix(self.seed ^ u64::from(app.app.0) << 32 ^ u64::from(app.beat.count));
        let offset = draw % (2 * percent * 100 + 1);
        let factor = 10_000 - percent * 100 + offset;
        let micros = u64::try_from(self.interval().as_micros()).unwrap_or(u64::MAX / 20_000);
        Duration::from_micros(micros.saturating_mul(factor) / 10_000)
    }
}

/// The shortest wait between two looks at a busy app session.
const TICK: Duration = Duration::from_millis(50);

/// What of a heartbeat's answer the verdict is made from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Its status; `None`: there was no answer.
    pub status: Option<u16>,
    /// It redirects to a sign-in page, or anywhere unless `alive.status` allows it.
    pub redirects: bool,
    /// The body holds what `alive.contains` asks for, or nothing is asked.
    pub contains: bool,
    /// What its cookies would do to the app session.
    pub learned: Learned,
    /// The canary: seen before and now.
    pub canary: CanarySeen,
}

/// How an answer's canary compares with the one remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanarySeen {
    /// No canary is configured, or none has been seen yet by anyone.
    Unknown,
    /// This is the first.
    First(u64),
    /// The same as before.
    Same,
    /// Another one, or none where there was one.
    Other,
}

/// Judges the answer to a heartbeat.
#[must_use]
pub fn judge(rules: &BeatRules, evidence: &Evidence) -> Verdict {
    let Some(status) = evidence.status else { return Verdict::Unreachable };
    let allowed = rules.alive.status.iter().any(|&(from, to)| (from..=to).contains(&status));
    match status {
        401 | 403 if !allowed => return Verdict::SignedOut,
        500.. | 404 | 405 | 408 | 410 | 425 | 429 if !allowed => return Verdict::Unreachable,
        _ => {}
    }
    if evidence.learned.gone {
        return Verdict::SignedOut;
    }
    if evidence.learned.changed {
        return Verdict::Replaced;
    }
    if evidence.redirects || allowed && !evidence.contains {
        return Verdict::SignedOut;
    }
    if !allowed {
        return unexpected(status);
    }
    if evidence.canary == CanarySeen::Other { Verdict::Reborn } else { Verdict::Alive }
}

/// A status that `alive.status` does not allow and that no rule names: below 400 the app answers, but not as itself.
const fn unexpected(status: u16) -> Verdict {
    if status < 400 { Verdict::SignedOut } else { Verdict::Unreachable }
}

/// SplitMix64's finaliser: spreads neighbouring seeds (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators").
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
