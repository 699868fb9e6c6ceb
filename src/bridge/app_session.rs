//! One app's part of a bridge session: its vault, and which answers may change it.
//!
//! Answers of requests that overlap may each bring a token, in any order. Every token that is applied is a generation,
//! and remembers the generation that the request which brought it was sent with (its parent).
//!
//! Invariants: the parts of a token are of one generation; whatever the order in which rival answers arrive, the same
//! one stays.

use std::sync::Arc;
use std::time::Duration;

use super::beat::BeatState;
use super::rules::AppIx;
use super::vault::{Carrier, Cookie, Role, Vault};
use crate::time::Timestamp;

/// What a request to an app was sent with, remembered until its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The generation of the token it carried; 0: none.
    pub generation: u32,
    /// How often the vault had changed by then.
    pub revision: u32,
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
}

/// What an answer's cookies did to an app session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// A token has come where there was none.
    pub first: bool,
    /// The token has another value now, or is gone.
    pub changed: bool,
    /// The token is gone.
    pub gone: bool,
    /// The app set the token that it was sent: proof that it renewed the session.
    pub renewed: bool,
    /// The answer was overtaken: its token was dropped.
    pub stale: bool,
    /// A rolling or plain cookie has another value now.
    pub rolled: bool,
}

/// The public origin of an app, as a browser asked for it: a heartbeat asks under the same. Shared between sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Public {
    /// Host and port.
    pub authority: Box<str>,
    /// True for `https`.
    pub https: bool,
}

/// One app's part of a bridge session.
#[derive(Debug)]
pub struct AppSession {
    /// Whose.
    pub app: AppIx,
    /// The server that it sticks to, as an index into the app's upstreams.
    pub upstream: Option<u16>,
    /// The public origin under which the person last asked for it.
    pub public: Option<Arc<Public>>,
    /// True where its token came by URL: a sign-in is sent without it.
    pub adopted: bool,
    /// True once a form has been posted to the app.
    pub posted: bool,
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
    parent: u32,
    revision: u32,
    by_unsafe: bool,
    brought: Timestamp,
    /// Rolling values in answers to requests that started before this are stale.
    fence: Timestamp,
    fence_by: Timestamp,
}

/// At most so many cookies in a vault; the oldest plain one makes room (security: T23).
const MAX_COOKIES: usize = 64;
/// At most so many bytes in a vault.
const MAX_BYTES: usize = 32 * 1024;

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
            parent: 0,
            revision: 0,
            by_unsafe: false,
            brought: Timestamp::ZERO,
            fence: Timestamp::ZERO,
            fence_by: Timestamp::ZERO,
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
    pub fn sent(&self, started: Timestamp, unsafe_method: bool) -> Sent {
        let generation = if self.has_token() { self.generation } else { 0 };
        Sent { generation, revision: self.revision, started, unsafe_method }
    }

    /// Applies what the answer to the request `sent` set and deleted, if it is not overtaken.
    pub fn learn(&mut self, sent: Sent, edits: &[Edit<'_>], now: Timestamp) -> Learned {
        let mut learned = Learned::default();
        let had = self.has_token();
        self.learn_tokens(sent, edits, &mut learned);
        self.learn_rolling(sent, edits, now, &mut learned);
        if learned.changed || learned.rolled {
            self.drop_halves(edits);
            self.revision = self.revision.wrapping_add(1);
        }
        learned.first = !had && self.has_token();
        learned.gone = had && !self.has_token();
        if learned.renewed || learned.changed {
            self.renewed = now;
        }
        learned
    }

    /// As [`AppSession::learn`], for the answer to a heartbeat: only if nothing here has changed since it was sent.
    pub fn learn_from_beat(&mut self, sent: Sent, edits: &[Edit<'_>], now: Timestamp) -> Learned {
        if sent.revision != self.revision {
            return Learned { stale: true, ..Learned::default() };
        }
        self.learn(sent, edits, now)
    }

    /// Puts `cookies` in as a token taken over from elsewhere (a URL, the browser's own cookie, a pending session): a new
    /// generation.
    pub fn adopt<'a>(&mut self, cookies: impl Iterator<Item = Cookie<'a>>, now: Timestamp) {
        for cookie in cookies {
            self.vault.put(&cookie);
        }
        self.begin(Sent { generation: self.generation, revision: 0, started: now, unsafe_method: false });
        self.renewed = now;
        self.revision = self.revision.wrapping_add(1);
    }

    /// Drops the token that an app has declared dead; what it sets next is a first token.
    pub fn drop_token(&mut self) {
        if self.vault.retain(|cookie| cookie.role == Role::Plain) {
            self.revision = self.revision.wrapping_add(1);
            self.generation = self.generation.wrapping_add(1);
            self.parent = 0;
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

    fn learn_tokens(&mut self, sent: Sent, edits: &[Edit<'_>], learned: &mut Learned) {
        let mine = || edits.iter().filter(|edit| !edit.rolling);
        if mine().next().is_none() {
            return;
        }
        let changes = mine().any(|edit| self.would_change(edit));
        if !changes {
            // The same value set again is a renewal, never a change; a deletion of what is not held is nothing.
            learned.renewed = mine().any(|edit| edit.value.is_some());
            mine().filter(|edit| edit.value.is_some()).for_each(|edit| self.put(edit, sent));
            return;
        }
        if !self.applies(sent, edits) {
            learned.stale = true;
            return;
        }
        for edit in mine() {
            match edit.value {
                Some(_) => self.put(edit, sent),
                None => self.remove(edit),
            }
        }
        self.begin(sent);
        learned.changed = true;
    }

    /// Whether an answer that would change the token may.
    fn applies(&self, sent: Sent, edits: &[Edit<'_>]) -> bool {
        if sent.generation == self.generation || sent.generation == 0 && !self.has_token() {
            return true;
        }
        if sent.generation != self.parent || !whole(edits) {
            return false;
        }
        match (sent.unsafe_method, self.by_unsafe) {
            (true, false) => true,
            (false, true) => false,
            _ => sent.started > self.brought,
        }
    }

    fn begin(&mut self, sent: Sent) {
        self.parent = sent.generation;
        self.generation = self.generation.wrapping_add(1).max(1);
        self.by_unsafe = sent.unsafe_method;
        self.brought = sent.started;
    }

    fn learn_rolling(&mut self, sent: Sent, edits: &[Edit<'_>], now: Timestamp, learned: &mut Learned) {
        for edit in edits.iter().filter(|edit| edit.rolling) {
            let opens = sent.unsafe_method || edit.value.is_none();
            let overtaken = sent.started < self.fence && !(opens && sent.started > self.fence_by);
            let held = self.held(edit);
            if overtaken || held.is_some_and(|cookie| cookie.started > sent.started.micros()) {
                continue;
            }
            let changes = held.map(|cookie| cookie.value) != edit.value;
            match edit.value {
                Some(_) => self.put(edit, sent),
                None => self.remove(edit),
            }
            learned.rolled |= changes;
            learned.renewed |= edit.value.is_some() && !matches!(edit.role, Role::Plain);
            if opens && changes {
                (self.fence, self.fence_by) = (now, sent.started);
            }
        }
    }

    /// Half a token is none: where a part is missing, the others go.
    fn drop_halves(&mut self, edits: &[Edit<'_>]) {
        for edit in edits {
            if let Role::Token { token, .. } = edit.role
                && (0..edit.parts).any(|part| self.vault.part(token, part).is_none())
            {
                self.vault
                    .retain(|cookie| !matches!(cookie.role, Role::Token { token: of, .. } if of == token));
            }
        }
    }

    fn held(&self, edit: &Edit<'_>) -> Option<Cookie<'_>> {
        self.vault.iter().find(|cookie| match edit.role {
            Role::Token { .. } => cookie.role == edit.role,
            Role::Plain => cookie.name == edit.name && cookie.path == edit.path,
        })
    }

    fn would_change(&self, edit: &Edit<'_>) -> bool {
        self.held(edit).map(|cookie| cookie.value) != edit.value
    }

    fn put(&mut self, edit: &Edit<'_>, sent: Sent) {
        let Some(value) = edit.value else { return };
        if let Role::Token { .. } = edit.role {
            // A token part has one place: the same part under another path or spelling is replaced, not shadowed.
            self.vault.retain(|cookie| {
                cookie.role != edit.role || cookie.name == edit.name && cookie.path == edit.path
            });
        } else {
            self.make_room(value.len() + edit.name.len());
        }
        self.vault.put(&Cookie {
            name: edit.name,
            value,
            path: edit.path,
            expires: edit.expires,
            started: sent.started.micros(),
            role: edit.role,
            carrier: edit.carrier,
            secure: edit.secure,
        });
    }

    fn remove(&mut self, edit: &Edit<'_>) {
        self.vault.retain(|cookie| match edit.role {
            Role::Token { .. } => cookie.role != edit.role,
            Role::Plain => cookie.name != edit.name || cookie.path != edit.path,
        });
    }

    fn make_room(&mut self, bytes: usize) {
        while self.vault.count() >= MAX_COOKIES || self.vault.size() + bytes > MAX_BYTES {
            let oldest = self
                .vault
                .iter()
                .filter(|cookie| cookie.role == Role::Plain)
                .map(|cookie| cookie.started)
                .min();
            let Some(oldest) = oldest else { return };
            self.vault.retain(|cookie| cookie.role != Role::Plain || cookie.started != oldest);
        }
    }
}

/// True where every token that `edits` touch is set whole or deleted whole: only then can it stand in for another, since
/// parts that are not named would stay those of the generation that it replaces.
fn whole(edits: &[Edit<'_>]) -> bool {
    let mine = || edits.iter().filter(|edit| !edit.rolling);
    mine().all(|edit| {
        let alike = mine().filter(|other| match (other.role, edit.role) {
            (Role::Token { token: a, .. }, Role::Token { token: b, .. }) => {
                a == b && other.value.is_some() == edit.value.is_some()
            }
            _ => false,
        });
        alike.count() == usize::from(edit.parts)
    })
}

#[cfg(test)]
mod tests;
