//! One app's part of a bridge session: its vault, and which answers may change it.
//!
//! Answers of requests that overlap may each bring a token, in any order. Every token that is applied is a generation,
//! and remembers the one that it replaced (`lineage.rs`).
//!
//! Invariants: the parts of a token are of one generation; whatever the order in which rival answers arrive, the same
//! one stays.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::beat::BeatState;
use super::lineage::Lineage;
use super::rules::AppIx;
use super::session::mix;
use super::vault::{Carrier, Cookie, Reach, Role, Vault};
use crate::time::Timestamp;

mod learning;
mod merge;
mod packing;
mod sharing;

pub(super) use sharing::Loan;

use merge::Shared;

/// What a request to an app was sent with, remembered until its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The generation of the tokens that it carried.
    pub generation: u32,
    /// How often the vault had changed by then; above that, how often another proxy's had taken its place.
    pub revision: u64,
    /// When it started: breaks ties between rivals.
    pub started: Timestamp,
    /// True for methods that may change something (RFC 9110 9.2.1): a sign-in is a POST.
    pub unsafe_method: bool,
}

/// One cookie that an answer sets or deletes, meant for the vault.
#[derive(Clone, Copy)]
pub struct Edit<'a> {
    /// In the app's own spelling.
    pub name: &'a [u8],
    /// `None`: it is deleted.
    pub value: Option<&'a [u8]>,
    /// The path, in the app's own URL space.
    pub path: &'a [u8],
    /// The public host that it is for; empty: wherever the app is served.
    pub host: &'a [u8],
    /// Also for the names below that host.
    pub subdomains: bool,
    /// Seconds since the Unix epoch; 0: as long as the session.
    pub expires: u64,
    /// What it is to the app.
    pub role: Role,
    /// How many parts its token has.
    pub parts: u8,
    /// True where its value changes with use, as its token's rule says; always so for [`Role::Plain`].
    pub rolling: bool,
    /// Where the value rides.
    pub carrier: Carrier,
    /// Only for TLS.
    pub secure: bool,
    /// Who in a browser may use it.
    pub reach: Reach,
}

/// What an answer's cookies did to an app session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// A token has come where there was none.
    pub first: bool,
    /// The token that decides has another value now, or is gone. (With J2EE sessions `CFID` only travels along.)
    pub changed: bool,
    /// The token that decides is gone, or a rolling one (a forms ticket) is.
    pub gone: bool,
    /// A token that only travels along has another value now, or is gone.
    pub other_changed: bool,
    /// The app set the token that it was sent: proof that it renewed the session.
    pub renewed: bool,
    /// The answer was overtaken: its token was dropped.
    pub stale: bool,
    /// A cookie that does not decide (rolling, plain, travelling along) has another value now.
    pub rolled: bool,
}

/// The public origin of an app, as a browser asked for it: a heartbeat asks under the same. Shared between sessions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Public {
    /// Host and port.
    pub authority: Box<str>,
    /// True for `https`.
    pub https: bool,
}

/// One app's part of a bridge session.
#[derive(Clone, Debug)]
pub struct AppSession {
    /// Whose.
    pub app: AppIx,
    /// The server that it sticks to, by the number of its origin.
    pub upstream: Option<u16>,
    /// The public origin under which the person last asked for it.
    pub public: Option<Arc<Public>>,
    /// True where its token came by URL: a sign-in is sent without it.
    pub adopted: bool,
    /// True once a form has been posted to the app.
    pub posted: bool,
    /// True as long as it only holds the token of an app that it shares a session with: the person has not been here, and
    /// nobody keeps it alive.
    pub lent: bool,
    /// Requests of the person.
    pub hits: u32,
    /// When it began here.
    pub created: Timestamp,
    /// The person's last activity in this app.
    pub activity: Timestamp,
    /// The app's last request, of anyone.
    pub last_request: Timestamp,
    /// When the app was last proven to have renewed it.
    pub renewed: Timestamp,
    /// Ordinary requests of the person in flight.
    pub in_flight: u16,
    /// Since when there has been one.
    pub busy_since: Timestamp,
    /// Its heartbeats.
    pub beat: BeatState,
    vault: Vault,
    generation: u32,
    revision: u32,
    /// By token, as far as any has come.
    lineages: SmallVec<[Lineage; 1]>,
    fence: Fence,
    /// True where it was given from elsewhere and its group has not followed it yet: its generations are not the group's.
    apart: bool,
    shared: Shared,
}

/// The last answer that began a generation of a rolling cookie; older answers to it are stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Fence {
    /// When it came.
    came: Timestamp,
    /// When its request started.
    started: Timestamp,
    /// True where it deleted: then there is no cookie left to tell its age.
    deletes: bool,
}

impl AppSession {
    /// An empty one.
    #[must_use]
    pub fn new(app: AppIx, now: Timestamp) -> Self {
        Self {
            app,
            upstream: None,
            public: None,
            adopted: false,
            posted: false,
            lent: false,
            hits: 0,
            created: now,
            activity: Timestamp::ZERO,
            last_request: now,
            renewed: now,
            in_flight: 0,
            busy_since: Timestamp::ZERO,
            beat: BeatState::default(),
            vault: Vault::default(),
            generation: 0,
            revision: 0,
            lineages: SmallVec::new(),
            fence: Fence::default(),
            apart: false,
            shared: Shared::default(),
        }
    }

    /// Its cookies.
    #[must_use]
    pub const fn vault(&self) -> &Vault {
        &self.vault
    }

    /// How often its vault has changed.
    #[must_use]
    pub const fn revision(&self) -> u32 {
        self.revision
    }

    /// Which token of the app's rules decides whether it lives: the first that is held.
    #[must_use]
    pub fn deciding(&self) -> Option<u8> {
        self.vault
            .iter()
            .filter_map(|cookie| match cookie.role {
                Role::Token { token, .. } => Some(token),
                Role::Plain => None,
            })
            .min()
    }

    /// True where it holds a token.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.deciding().is_some()
    }

    /// What a request that starts `now` is sent with.
    #[must_use]
    pub const fn sent(&self, started: Timestamp, unsafe_method: bool) -> Sent {
        Sent { generation: self.generation, revision: self.changes(), started, unsafe_method }
    }

    /// How often its vault has changed, by answers here and by another proxy's word.
    const fn changes(&self) -> u64 {
        (self.shared.swaps as u64) << 32 | self.revision as u64
    }

    /// It is at `server` from now on. That is a change like one of its cookies: what a heartbeat hears at the old one comes too late.
    pub(super) const fn go_to(&mut self, server: u16) {
        self.upstream = Some(server);
        self.revision = self.revision.wrapping_add(1);
    }

    /// Its part of [`super::session::Session::stamp`].
    pub(super) fn stamp(&self) -> u64 {
        let flags = u64::from(self.adopted) | u64::from(self.posted) << 1 | u64::from(self.lent) << 2;
        let changes = u64::from(self.generation) << 32 | u64::from(self.revision);
        let numbers =
            [u64::from(self.app.0), self.created.micros(), changes, flags | u64::from(self.apart) << 3];
        numbers.into_iter().fold(0, mix)
    }

    /// The process that had it is no more: no request of it is in flight, and no heartbeat waits.
    pub(super) const fn recovered(&mut self) {
        self.in_flight = 0;
        self.beat.in_flight = false;
        self.beat.armed = false;
    }

    /// Its tokens, each as the values of its parts.
    #[must_use]
    pub fn tokens(&self) -> Vec<Vec<Box<[u8]>>> {
        let of = |token: u8| -> Vec<Box<[u8]>> {
            (0..u8::MAX)
                .map_while(|part| self.vault.part(token, part).map(|cookie| cookie.value.into()))
                .collect()
        };
        let held = self.vault.iter().filter_map(|cookie| match cookie.role {
            Role::Token { token, part: 0 } => Some(token),
            _ => None,
        });
        held.map(of).collect()
    }

    /// Applies what the answer to the request `sent` set and deleted, if it is not overtaken.
    pub fn learn(&mut self, sent: Sent, edits: &[Edit<'_>], now: Timestamp) -> Learned {
        let mut learned = Learned::default();
        let before = self.deciding();
        self.learn_tokens(sent, edits, &mut learned);
        self.learn_rolling(sent, edits, now, &mut learned);
        if learned.changed || learned.rolled {
            self.revision = self.revision.wrapping_add(1);
        }
        let after = self.deciding();
        learned.first = before.is_none() && after.is_some();
        learned.gone |= before.is_some_and(|token| after.is_none_or(|after| after > token));
        if learned.renewed || learned.changed {
            self.renewed = now;
        }
        learned
    }

    /// As [`AppSession::learn`], for the answer to a heartbeat: only if nothing here has changed since it was sent.
    pub fn learn_from_beat(&mut self, sent: Sent, edits: &[Edit<'_>], now: Timestamp) -> Learned {
        if sent.revision != self.changes() {
            return Learned { stale: true, ..Learned::default() };
        }
        self.learn(sent, edits, now)
    }

    /// Puts `cookies` in as a token taken over from elsewhere (a URL, the browser's own cookie, a pending session): a new
    /// generation, and no part of the old one is left.
    pub fn adopt<'a>(&mut self, cookies: impl Iterator<Item = Cookie<'a>>, now: Timestamp) {
        let sent = self.sent(now, false);
        let mut met: SmallVec<[u8; 2]> = SmallVec::new();
        self.generation = self.generation.saturating_add(1);
        for cookie in cookies {
            if let Role::Token { token, .. } = cookie.role
                && !met.contains(&token)
            {
                met.push(token);
                self.forget(token);
                self.begin(token, sent, true);
            }
            self.vault.put(&cookie);
        }
        self.beat.proven = now;
        self.renewed = now;
        self.revision = self.revision.wrapping_add(1);
    }

    /// Drops the token that an app has declared dead; what it sets next is a first token.
    pub fn drop_token(&mut self) {
        if self.vault.retain(|cookie| cookie.role == Role::Plain) {
            self.revision = self.revision.wrapping_add(1);
            self.generation = self.generation.saturating_add(1);
            self.lineages.fill(Lineage::fresh(self.generation));
            self.adopted = false;
        }
    }

    /// Takes back what an answer did to the vault: it was a sign-out, and the old cookies are needed for it.
    pub fn restore(&mut self, vault: Vault) {
        self.vault = vault;
    }

    /// Longest time an ordinary request may hold heartbeats back is counted from here on.
    pub fn request_began(&mut self, now: Timestamp) {
        if self.in_flight == 0 {
            self.busy_since = now;
        }
        self.in_flight = self.in_flight.saturating_add(1);
        self.last_request = self.last_request.max(now);
    }

    /// An ordinary request of the person has been answered, or has become a stream.
    pub fn request_ended(&mut self, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.last_request = self.last_request.max(now);
    }

    /// True while a request of the person's own is in flight, for `at_most` since the first of them began.
    #[must_use]
    pub fn is_busy(&self, now: Timestamp, at_most: Duration) -> bool {
        self.in_flight > 0 && now.since(self.busy_since) < at_most
    }
}

#[cfg(test)]
mod tests;
