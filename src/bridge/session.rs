//! A bridge session: what the proxy keeps for one browser.
//!
//! Invariants: it ends at `min(created + max_lifetime, last activity + (present ? presence_limit : idle_timeout))`; only
//! activity moves the last activity, and nothing brings an ended session back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::activity::Cadence;
use super::app_session::AppSession;
use super::id::Handle;
use super::passed::Passed;
use super::release::Handing;
use super::rules::{AppIx, Clocks};
use super::timeline::{Timeline, What};
use super::traits::ClientTraits;
use crate::time::Timestamp;

/// Where a bridge session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its cookie has not come back yet.
    Pending,
    /// The browser has shown its cookie.
    Bound,
    /// Over. Stays so.
    Ended(End),
}

/// What the proxy keeps for one browser.
#[derive(Debug)]
pub struct Session {
    /// Its name in logs and the API.
    pub handle: Handle,
    /// When it was made.
    pub created: Timestamp,
    /// The person's last activity in any app.
    pub last_activity: Timestamp,
    /// Requests of the person.
    pub hits: u32,
    /// Open WebSockets and event streams.
    pub streams: u32,
    /// The last sign of presence that was no stream.
    pub presence: Timestamp,
    /// How the browser last introduced itself.
    pub traits: Option<Arc<ClientTraits>>,
    /// Where it last came from.
    pub address: Option<IpAddr>,
    /// How regular its requests are.
    pub cadence: Cadence,
    /// When the scheduler next looks whether it has ended; `FAR`: no entry is held for it.
    pub watched: Timestamp,
    /// Its last events.
    pub timeline: Timeline,
    /// What is known of cookies that the browser holds.
    pub passed: Passed,
    /// In the mode `release`: what the browser has been handed back.
    pub handing: Handing,
    phase: Phase,
    apps: Vec<AppSession>,
    /// Nobody else was told of it where there is none.
    shared: Option<Box<Shared>>,
}

/// What is left of a session that has ended: for the apps' sign-outs, then dropped.
#[derive(Debug)]
pub struct Farewell {
    /// The session's name.
    pub handle: Handle,
    /// Why.
    pub end: End,
    /// Its app sessions, vaults included.
    pub apps: Vec<AppSession>,
    /// How the browser introduced itself.
    pub traits: Option<Arc<ClientTraits>>,
    /// Where it last came from.
    pub address: Option<IpAddr>,
    /// Cookies that the browser holds.
    pub passed: Passed,
}

/// Takes `number` into a stamp, as [`Session::stamp`] is made.
#[must_use]
pub const fn mix(stamp: u64, number: u64) -> u64 {
    (stamp ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

impl Session {
    /// A new one, pending until its cookie comes back.
    #[must_use]
    pub fn new(handle: Handle, now: Timestamp) -> Self {
        let mut timeline = Timeline::default();
        timeline.note(now, None, What::Created);
        Self {
            handle,
            created: now,
            last_activity: now,
            hits: 0,
            streams: 0,
            presence: Timestamp::ZERO,
            traits: None,
            address: None,
            cadence: Cadence::default(),
            watched: Timestamp::FAR,
            timeline,
            passed: Passed::default(),
            handing: Handing::default(),
            phase: Phase::Pending,
            apps: Vec::new(),
            shared: None,
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// True once it is over.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// A number that is another one as soon as something has changed that an answer may acknowledge: an app session made,
    /// its token or vault changed, its end. Clocks and counters are none of that.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        let phase = match self.phase {
            Phase::Pending => 0,
            Phase::Bound => 1,
            Phase::Ended(_) => 2,
        };
        self.apps.iter().map(AppSession::stamp).fold(phase, mix)
    }

    /// Its app sessions.
    pub fn apps_mut(&mut self) -> impl Iterator<Item = &mut AppSession> {
        self.apps.iter_mut()
    }

    /// The process that had it is no more: nothing is in flight, no stream is open, nobody watches it. Who had a stream open
    /// was there until now, and has the time of one sign of presence to come back.
    pub fn recovered(&mut self, now: Timestamp) {
        if self.streams > 0 {
            self.presence = self.presence.max(now);
        }
        self.streams = 0;
        self.watched = Timestamp::FAR;
        self.apps.iter_mut().for_each(AppSession::recovered);
    }

    /// Its cookie has come back. True the first time.
    pub fn bind(&mut self, now: Timestamp) -> bool {
        let first = self.phase == Phase::Pending;
        if first {
            self.phase = Phase::Bound;
            self.timeline.note(now, None, What::Bound);
        }
        first
    }

    /// Its app sessions.
    pub fn apps(&self) -> impl Iterator<Item = &AppSession> {
        self.apps.iter().filter(|app| !app.lent)
    }

    /// These and those of apps that were lent another's token.
    pub fn all_apps(&self) -> impl Iterator<Item = &AppSession> {
        self.apps.iter()
    }

    /// Its session with `app`.
    #[must_use]
    pub fn app(&self, app: AppIx) -> Option<&AppSession> {
        self.apps.iter().find(|session| session.app == app)
    }

    /// Its session with `app`, to change.
    pub fn app_mut(&mut self, app: AppIx) -> Option<&mut AppSession> {
        self.apps.iter_mut().find(|session| session.app == app)
    }

    /// Its session with `app`, made if there is none. None for a session that has ended.
    pub fn app_or_new(&mut self, app: AppIx, now: Timestamp) -> Option<&mut AppSession> {
        if self.has_ended() {
            return None;
        }
        let at = self.apps.iter().position(|session| session.app == app).unwrap_or_else(|| {
            self.apps.reserve_exact(1);
            self.apps.push(AppSession::new(app, now));
            self.apps.len() - 1
        });
        self.apps.get_mut(at)
    }

    /// As [`Session::app_or_new`], for one that only holds what another app lends it.
    pub(super) fn lent_app(&mut self, app: AppIx, now: Timestamp) -> Option<&mut AppSession> {
        let made = self.app(app).is_none();
        let session = self.app_or_new(app, now)?;
        session.lent |= made;
        Some(session)
    }

    /// Takes the session with `app` out, vault and all: its sign-out, alone.
    pub fn take_app(&mut self, app: AppIx) -> Option<AppSession> {
        let at = self.apps.iter().position(|session| session.app == app)?;
        let taken = self.apps.remove(at);
        if let Some(shared) = &mut self.shared {
            shared.leaves(&taken);
        }
        Some(taken)
    }

    /// What is left of `app`, which was taken out: the session itself goes on.
    #[must_use]
    pub fn farewell_alone(&self, app: AppSession) -> Farewell {
        Farewell {
            handle: self.handle,
            end: End::AppLogout,
            apps: vec![app],
            traits: self.traits.clone(),
            address: self.address,
            passed: self.passed.clone(),
        }
    }

    /// Takes over an app session of another bridge session of the same browser, or one that begins anew, unless it has a live
    /// one of its own; one that is only lent is none. True where it was taken: its group is to [`super::share::follow`] it.
    pub fn give_app(&mut self, mut session: AppSession) -> bool {
        // What was in flight there is counted off there.
        session.in_flight = 0;
        session.beat.in_flight = false;
        session.beat.armed = false;
        session.set_apart();
        session.forget_revision();
        if self.has_ended() || self.app(session.app).is_some_and(|own| !own.lent && own.has_token()) {
            return false;
        }
        self.take_app(session.app);
        self.apps.push(session);
        true
    }

    /// A request of the person has come. Only activity moves a clock.
    pub fn touch(&mut self, app: AppIx, activity: bool, now: Timestamp) {
        self.hits = self.hits.saturating_add(1);
        let moved = activity && !self.has_ended();
        if moved {
            self.last_activity = self.last_activity.max(now);
        }
        if let Some(session) = self.app_mut(app) {
            session.hits = session.hits.saturating_add(1);
            if moved {
                session.activity = session.activity.max(now);
            }
        }
    }

    /// The person has asked for more time: activity in every app.
    pub fn extend(&mut self, now: Timestamp) {
        if self.has_ended() {
            return;
        }
        self.last_activity = self.last_activity.max(now);
        for session in &mut self.apps {
            session.activity = session.activity.max(now);
        }
        self.timeline.note(now, None, What::Extended);
    }

    /// A page has shown that it is open. Nothing for a session that is over by the clocks: presence brings none back.
    pub fn seen(&mut self, clocks: &Clocks, now: Timestamp) {
        if !self.has_ended() && self.expired(clocks, now).is_none() {
            self.presence = self.presence.max(now);
        }
    }

    /// A WebSocket or an event stream has been opened.
    pub const fn stream_opened(&mut self) {
        self.streams = self.streams.saturating_add(1);
    }

    /// One has been closed: until now the page was provably open, so that presence ends `presence_ttl` later.
    pub fn stream_closed(&mut self, clocks: &Clocks, now: Timestamp) {
        self.seen(clocks, now);
        self.streams = self.streams.saturating_sub(1);
    }

    /// True while a page is provably open.
    #[must_use]
    pub fn is_present(&self, clocks: &Clocks, now: Timestamp) -> bool {
        self.streams > 0 || !self.presence.is_zero() && now < self.presence.plus(clocks.presence_ttl)
    }

    /// The hard end.
    #[must_use]
    pub fn hard_end(&self, clocks: &Clocks) -> Timestamp {
        self.created.plus(clocks.max_lifetime)
    }

    /// When it ends if nothing more happens. Presence that stops after `idle_timeout` has passed ends it `presence_ttl` later.
    #[must_use]
    pub fn ends_at(&self, clocks: &Clocks) -> Timestamp {
        let idle = self.last_activity.plus(clocks.idle_timeout);
        let by_presence = clocks.presence_limit.map_or(Timestamp::ZERO, |limit| {
            let until = if self.streams > 0 {
                Timestamp::FAR
            } else if self.presence.is_zero() {
                Timestamp::ZERO
            } else {
                self.presence.plus(clocks.presence_ttl)
            };
            until.min(self.last_activity.plus(limit))
        });
        idle.max(by_presence).min(self.hard_end(clocks))
    }

    /// True where it ends sooner than the scheduler looks, which then wants another entry for it. The scheduler looks so much
    /// later as the clocks may `lag` behind.
    pub fn ends_sooner(&mut self, clocks: &Clocks, lag: Duration) -> bool {
        let ends = self.ends_at(clocks).plus(lag).min(self.hard_end(clocks));
        let sooner = !self.has_ended() && ends < self.watched;
        if sooner {
            self.watched = ends;
        }
        sooner
    }

    /// Why it is over by the clocks at `now`, if it is.
    #[must_use]
    pub fn expired(&self, clocks: &Clocks, now: Timestamp) -> Option<End> {
        if self.has_ended() || now < self.ends_at(clocks) {
            return None;
        }
        Some(if now >= self.hard_end(clocks) { End::MaxLifetime } else { End::Idle })
    }

    /// Ends it: the fence first, then what is left goes to whoever signs the apps out. `None` if it had ended before.
    pub fn end(&mut self, end: End, now: Timestamp) -> Option<Farewell> {
        if self.has_ended() {
            return None;
        }
        self.phase = Phase::Ended(end);
        self.apps.retain(|app| !app.lent);
        self.timeline.note(now, None, What::Ended(end));
        Some(Farewell {
            handle: self.handle,
            end,
            apps: std::mem::take(&mut self.apps),
            traits: self.traits.take(),
            address: self.address,
            passed: std::mem::take(&mut self.passed),
        })
    }
}

mod clocks;
mod end;
mod merge;
mod packing;
#[cfg(test)]
mod tests;

pub use end::End;
pub use merge::Merged;
use merge::Shared;
