//! How an answer's cookies change the vault of an app session.
//!
//! Invariants: a token is set whole or not at all; what has been overtaken changes nothing; the vault keeps its bounds.

use smallvec::SmallVec;

use super::{AppSession, Edit, Fence, Learned, Sent};
use crate::bridge::lineage::Lineage;
use crate::bridge::vault::{Cookie, Role};
use crate::time::Timestamp;

/// At most so many cookies in a vault; the oldest plain one makes room (security: T23).
const MAX_COOKIES: usize = 64;
/// At most so many bytes in a vault.
const MAX_BYTES: usize = 32 * 1024;

impl AppSession {
    pub(super) fn learn_tokens(&mut self, sent: Sent, edits: &[Edit<'_>], learned: &mut Learned) {
        let mut left: SmallVec<[&Edit<'_>; 4]> = edits.iter().filter(|edit| !edit.rolling).collect();
        let decided = self.deciding();
        let generation = self.generation;
        while let Some(token) = left.first().and_then(|edit| edit.token()) {
            let mine: SmallVec<[&Edit<'_>; 4]> =
                left.iter().copied().filter(|edit| edit.token() == Some(token)).collect();
            left.retain(|edit| edit.token() != Some(token));
            let decides = decided.is_none_or(|deciding| token <= deciding);
            match self.learn_token(token, sent, &mine, generation) {
                Outcome::Nothing => {}
                Outcome::Renewed => learned.renewed |= decides,
                Outcome::Stale => learned.stale |= decides,
                Outcome::Changed if decides => learned.changed = true,
                Outcome::Changed => (learned.rolled, learned.other_changed) = (true, true),
            }
        }
    }

    /// What the answer says of one token. Half a token is none: where it leaves a part missing, the others go with it.
    fn learn_token(&mut self, token: u8, sent: Sent, edits: &[&Edit<'_>], generation: u32) -> Outcome {
        let half = self.leaves_half(token, edits);
        let holds = self.vault.iter().any(|cookie| is_of(cookie.role, token));
        let changes = if half { holds } else { edits.iter().any(|edit| self.would_change(edit)) };
        if !changes {
            // The same value set again is a renewal, never a change; a deletion of what is not held is nothing.
            if half || edits.iter().all(|edit| edit.value.is_none()) {
                return Outcome::Nothing;
            }
            // Apps that renew with every answer must not cost a copy of the vault each time.
            for edit in edits {
                let as_held = |held: Cookie<'_>| Cookie { value: b"", started: 0, ..held } == edit.cookie();
                if !self.held(edit).is_some_and(as_held) {
                    self.put(edit, sent.started);
                }
            }
            return Outcome::Renewed;
        }
        let parts = edits.first().map_or(1, |edit| edit.parts);
        let whole = half || edits.len() == usize::from(parts);
        let lineage = self.lineages.get(usize::from(token)).copied().unwrap_or_default();
        // Where another proxy's token came in between, generations say nothing: then it is a rival.
        let accepts =
            if self.is_foreign(sent) { lineage.yields_to(sent, whole) } else { lineage.accepts(sent, whole) };
        if !accepts {
            return Outcome::Stale;
        }
        if half {
            self.forget(token);
        }
        for edit in edits.iter().filter(|_| !half) {
            match edit.value {
                Some(_) => self.put(edit, sent.started),
                None => self.remove(edit),
            }
        }
        self.generation = generation.saturating_add(1);
        self.begin(token, sent, whole);
        Outcome::Changed
    }

    /// True where a part would be missing after `edits`, all of one token, and another would not.
    fn leaves_half(&self, token: u8, edits: &[&Edit<'_>]) -> bool {
        let parts = edits.first().map_or(1, |edit| edit.parts);
        let mut there =
            (0..parts).map(|part| match edits.iter().find(|edit| edit.role == Role::Token { token, part }) {
                Some(edit) => edit.value.is_some(),
                None => self.vault.part(token, part).is_some(),
            });
        let first = there.next();
        there.any(|other| Some(other) != first)
    }

    pub(super) fn begin(&mut self, token: u8, sent: Sent, whole: bool) {
        let at = usize::from(token);
        if self.lineages.len() <= at {
            self.lineages.resize(at + 1, Lineage::default());
        }
        if let Some(lineage) = self.lineages.get_mut(at) {
            lineage.begin(self.generation, sent, whole);
        }
    }

    pub(super) fn forget(&mut self, token: u8) {
        self.vault.retain(|cookie| !is_of(cookie.role, token));
    }

    pub(super) fn learn_rolling(
        &mut self,
        sent: Sent,
        edits: &[Edit<'_>],
        now: Timestamp,
        learned: &mut Learned,
    ) {
        // What this answer opens must not overtake its own other cookies.
        let mut opened = None;
        for edit in edits.iter().filter(|edit| edit.rolling) {
            let opens = sent.unsafe_method || edit.value.is_none();
            if self.is_overtaken(sent, edit, opens) {
                continue;
            }
            let held = self.held(edit).map(|cookie| cookie.value);
            let changes = held != edit.value;
            learned.rolled |= changes;
            learned.renewed |= edit.value.is_some() && edit.role != Role::Plain;
            learned.gone |= held.is_some() && edit.value.is_none() && edit.role != Role::Plain;
            match edit.value {
                Some(_) => self.put(edit, if opens && changes { now } else { sent.started }),
                None => self.remove(edit),
            }
            if opens && changes {
                opened = Some(opened.unwrap_or(false) || edit.value.is_none());
            }
        }
        if let Some(deletes) = opened {
            self.fence = Fence { came: now, started: sent.started, deletes };
        }
        self.drop_rolling_halves(edits);
    }

    /// Whether what `edit` would replace is younger. A cookie that began a generation is as old as the answer that brought
    /// it, so that everything sent before is stale; another one is as old as its request.
    fn is_overtaken(&self, sent: Sent, edit: &Edit<'_>, opens: bool) -> bool {
        let held = self.held(edit).map(|cookie| cookie.started);
        if opens {
            let fenced = held.map_or(self.fence.deletes, |started| started == self.fence.came.micros());
            return fenced && sent.started < self.fence.came && sent.started <= self.fence.started;
        }
        held.map_or(self.fence.deletes && sent.started < self.fence.came, |started| {
            started > sent.started.micros()
        })
    }

    fn drop_rolling_halves(&mut self, edits: &[Edit<'_>]) {
        for edit in edits.iter().filter(|edit| edit.rolling) {
            if let Role::Token { token, .. } = edit.role
                && (0..edit.parts).any(|part| self.vault.part(token, part).is_none())
            {
                self.forget(token);
            }
        }
    }

    fn held(&self, edit: &Edit<'_>) -> Option<Cookie<'_>> {
        self.vault.iter().find(|cookie| match edit.role {
            Role::Token { .. } => cookie.role == edit.role,
            Role::Plain => edit.is_same(cookie),
        })
    }

    fn would_change(&self, edit: &Edit<'_>) -> bool {
        self.held(edit).map(|cookie| cookie.value) != edit.value
    }

    fn put(&mut self, edit: &Edit<'_>, started: Timestamp) {
        let Some(value) = edit.value else { return };
        if let Role::Token { .. } = edit.role {
            // A token part has one place: the same part under another path or spelling is replaced, not shadowed.
            self.vault.retain(|cookie| cookie.role != edit.role || edit.is_same(cookie));
        }
        self.vault.put(&Cookie { value, started: started.micros(), ..edit.cookie() });
        self.bound();
    }

    fn remove(&mut self, edit: &Edit<'_>) {
        self.vault.retain(|cookie| match edit.role {
            Role::Token { .. } => cookie.role != edit.role,
            Role::Plain => !edit.is_same(cookie),
        });
    }

    /// Keeps the vault within its bounds: the plain cookie that was set longest ago goes first.
    fn bound(&mut self) {
        while self.vault.count() > MAX_COOKIES || self.vault.size() > MAX_BYTES {
            let plain = self.vault.iter().enumerate().filter(|(_, cookie)| cookie.role == Role::Plain);
            let Some((oldest, _)) = plain.min_by_key(|(_, cookie)| cookie.started) else { return };
            let mut at = 0;
            self.vault.retain(|_| {
                at += 1;
                at - 1 != oldest
            });
        }
    }
}

impl<'a> Edit<'a> {
    /// As it would stand in the vault; age and a missing value left open.
    const fn cookie(&self) -> Cookie<'a> {
        Cookie {
            name: self.name,
            value: b"",
            path: self.path,
            host: self.host,
            subdomains: self.subdomains,
            expires: self.expires,
            started: 0,
            role: self.role,
            carrier: self.carrier,
            secure: self.secure,
            reach: self.reach,
        }
    }

    /// True where it would take the place of `held`, or delete it.
    pub(in crate::bridge) fn is_same(&self, held: &Cookie<'_>) -> bool {
        self.cookie().is_same(held)
    }

    /// True where both are about one cookie.
    pub(in crate::bridge) fn is_about_same(&self, other: &Edit<'_>) -> bool {
        match self.role {
            Role::Token { .. } => self.role == other.role,
            Role::Plain => self.is_same(&other.cookie()),
        }
    }

    /// Which token it is about.
    const fn token(&self) -> Option<u8> {
        match self.role {
            Role::Token { token, .. } => Some(token),
            Role::Plain => None,
        }
    }
}

/// What an answer did to one token.
enum Outcome {
    Nothing,
    Renewed,
    Changed,
    Stale,
}

fn is_of(role: Role, token: u8) -> bool {
    matches!(role, Role::Token { token: of, .. } if of == token)
}
