//! What the simulation knows besides the product, and holds it to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sessionbridge::bridge::rules::{AppIx, AppRules, Clocks};
use sessionbridge::bridge::session::Session;
use sessionbridge::bridge::vault::Role;
use sessionbridge::time::Timestamp;

/// A token: which server's, which generation.
pub(crate) type Token = (usize, u64);

/// A bridge session's life, as the simulation counts it.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) browser: usize,
    created: Timestamp,
    activity: Timestamp,
    /// It has ended; true: and that is kept.
    ended: Option<bool>,
    /// Its states, in order.
    states: Vec<String>,
    /// The last state that an answer has acknowledged.
    acknowledged: usize,
    /// It has been kept once.
    kept: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tombstone {
    /// The bridge session that it was of.
    of: u64,
    /// That is kept.
    kept: bool,
    /// The process that it was made in is running: only that one tells a browser's own cookie from a dead one.
    fresh: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    lives: BTreeMap<u64, Life>,
    owners: BTreeMap<Token, usize>,
    /// Tokens of sessions that have ended.
    tombstones: BTreeMap<Token, Tombstone>,
}

/// The generation of `app`'s token in `session`, its parts as they are held.
fn held(session: &Session, app: AppIx, token: u8) -> Vec<String> {
    let cookies = session.app(app).into_iter().flat_map(|app| app.vault().iter());
    let parts = cookies.filter(|cookie| matches!(cookie.role, Role::Token { token: of, .. } if of == token));
    parts.map(|cookie| String::from_utf8_lossy(cookie.value).into_owned()).collect()
}

fn number(part: &str) -> u64 {
    part.trim_start_matches(['J', 't']).parse().unwrap_or_default()
}

/// The deciding token of `app` in `session`.
pub(crate) fn generation(session: &Session, app: AppIx) -> Option<u64> {
    held(session, app, 0).first().map(|part| number(part))
}

/// All that an answer may acknowledge of `session`, as text.
fn state(session: &Session, rules: &[&AppRules]) -> String {
    let of = |rules: &&AppRules| {
        let tokens: Vec<Vec<String>> = (0..2).map(|token| held(session, rules.app, token)).collect();
        format!("{}{tokens:?}", rules.name)
    };
    rules.iter().map(of).collect::<Vec<_>>().join(" ")
}

impl Oracle {
    pub(crate) fn begins(&mut self, handle: u64, browser: usize, now: Timestamp) {
        let life = Life {
            browser,
            created: now,
            activity: now,
            ended: None,
            states: Vec::new(),
            acknowledged: 0,
            kept: false,
        };
        self.lives.insert(handle, life);
    }

    pub(crate) fn browser(&self, handle: u64) -> usize {
        self.lives[&handle].browser
    }

    pub(crate) fn issued(&mut self, token: Token, browser: usize) {
        self.owners.insert(token, browser);
    }

    pub(crate) fn owner(&self, token: Token) -> Option<usize> {
        self.owners.get(&token).copied()
    }

    pub(crate) fn active(&mut self, handle: u64, now: Timestamp) {
        self.lives.get_mut(&handle).unwrap().activity = now;
    }

    /// Its end by the clocks.
    fn end(&self, handle: u64, clocks: &Clocks) -> Timestamp {
        let life = &self.lives[&handle];
        life.created.plus(clocks.max_lifetime).min(life.activity.plus(clocks.idle_timeout))
    }

    pub(crate) fn lives(&self, handle: u64, clocks: &Clocks, now: Timestamp) -> bool {
        self.lives[&handle].ended.is_none() && now < self.end(handle, clocks)
    }

    /// A token goes out in the name of `browser`, for the session `handle`.
    pub(crate) fn sends(
        &self,
        (token, adopting): (Option<Token>, bool),
        (browser, handle): (usize, Option<u64>),
        clocks: &Clocks,
        now: Timestamp,
    ) -> Result<(), String> {
        if let Some(handle) = handle.filter(|handle| !self.lives(*handle, clocks, now)) {
            return Err(format!("a request after the end of session {handle:x}"));
        }
        let Some(token) = token else { return Ok(()) };
        if let Some(tomb) = self.tombstones.get(&token).filter(|tomb| tomb.fresh || !adopting) {
            return Err(format!("{token:?} goes out after its tombstone: {tomb:?}"));
        }
        match self.owner(token) {
            Some(owner) if owner == browser => Ok(()),
            // A guess, for all that anybody knows.
            None if adopting => Ok(()),
            owner => Err(format!("browser {browser} sends {token:?}, which is {owner:?}'s")),
        }
    }

    /// The session `handle` has ended, or its part for one app; these are its tokens.
    pub(crate) fn entombs(&mut self, handle: u64, tokens: impl Iterator<Item = Token>, whole: bool) {
        for token in tokens {
            self.tombstones.insert(token, Tombstone { of: handle, kept: false, fresh: true });
        }
        if whole {
            self.lives.get_mut(&handle).unwrap().ended = Some(false);
        }
    }

    /// All that is known of `handle` is kept now.
    pub(crate) fn kept(&mut self, handle: u64, there: bool) -> Result<(), String> {
        let life = self.lives.get_mut(&handle).unwrap();
        if there == life.ended.is_some() {
            return Err(format!("session {handle:x}: kept {there}, ended {:?}", life.ended));
        }
        life.kept = true;
        life.ended = life.ended.map(|_| true);
        self.tombstones.values_mut().filter(|tomb| tomb.of == handle).for_each(|tomb| tomb.kept = true);
        Ok(())
    }

    /// Remembers the state that a session is in; tells which one it is, counted from its beginning.
    pub(crate) fn sees(&mut self, handle: u64, session: &Session, rules: &[&AppRules]) -> usize {
        let states = &mut self.lives.get_mut(&handle).unwrap().states;
        let now = state(session, rules);
        if states.last() != Some(&now) {
            states.push(now);
        }
        states.len() - 1
    }

    /// An answer that depends on state `at` of the session has reached the browser.
    pub(crate) fn acknowledges(&mut self, handle: u64, at: usize) {
        let life = self.lives.get_mut(&handle).unwrap();
        life.acknowledged = life.acknowledged.max(at);
        assert!(life.kept || life.ended.is_some(), "an answer was released before its session was kept");
    }

    /// What must hold of a session at all times.
    pub(crate) fn is_whole(&self, session: &Session, rules: &[&AppRules]) -> Result<(), String> {
        for app in rules {
            let Some(tokens) = app.session.as_ref().map(|session| &session.tokens) else { continue };
            for (token, rule) in (0u8..).zip(tokens) {
                let parts = held(session, app.app, token);
                if !parts.is_empty() && parts.len() != rule.parts.len() {
                    return Err(format!("{} holds {} parts of token {token}", app.name, parts.len()));
                }
                if parts.iter().any(|part| part != &parts[0]) {
                    return Err(format!("{} holds parts of two generations: {parts:?}", app.name));
                }
            }
            let shares = app.session.iter().flat_map(|own| &own.shares);
            for share in shares.filter(|share| session.app(share.with).is_some()) {
                let (own, other) = (held(session, app.app, 0), held(session, share.with, 0));
                if session.app(app.app).is_some() && own != other {
                    return Err(format!("{} holds {own:?}, whoever it shares with {other:?}", app.name));
                }
            }
        }
        Ok(())
    }

    /// No token is in two sessions.
    pub(crate) fn are_apart<'s>(&self, all: impl Iterator<Item = (u64, &'s [Token])>) -> Result<(), String> {
        let mut met: BTreeMap<Token, u64> = BTreeMap::new();
        for (handle, tokens) in all {
            for token in tokens {
                match met.insert(*token, handle) {
                    Some(other) if other != handle => {
                        return Err(format!("{token:?} is in the sessions {other:x} and {handle:x}"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The process is gone, and what it had not kept.
    pub(crate) fn crashes(&mut self) {
        self.tombstones.retain(|_, tomb| tomb.kept);
        self.tombstones.values_mut().for_each(|tomb| tomb.fresh = false);
        for life in self.lives.values_mut().filter(|life| life.ended == Some(false)) {
            life.ended = None;
        }
    }

    /// What the next process has found.
    pub(crate) fn recovers(
        &mut self,
        found: &BTreeMap<u64, (Timestamp, Timestamp, String)>,
        skew: Duration,
    ) -> Result<(), String> {
        for (handle, life) in &mut self.lives {
            let Some((created, activity, state)) = found.get(handle) else {
                if life.kept && life.ended.is_none() {
                    return Err(format!("session {handle:x} was acknowledged and is lost"));
                }
                life.ended = Some(true);
                continue;
            };
            if life.ended.is_some() {
                return Err(format!("session {handle:x} has ended and is back"));
            }
            if *created != life.created || activity.since(life.activity) > skew {
                return Err(format!("the crash has lengthened the life of {handle:x}"));
            }
            let at = life.states.iter().rposition(|known| known == state);
            if at.is_none_or(|at| at < life.acknowledged) {
                return Err(format!(
                    "session {handle:x} is in state {at:?}, but {} was acknowledged: {state}, not {:?}",
                    life.acknowledged, life.states
                ));
            }
            life.activity = *activity;
            life.states.push(state.clone());
        }
        let known: BTreeSet<u64> = self.lives.keys().copied().collect();
        found
            .keys()
            .find(|handle| !known.contains(handle))
            .map_or(Ok(()), |handle| Err(format!("{handle:x} is new")))
    }
}

/// The text of [`state`], for what was found after a crash.
pub(crate) fn state_of(session: &Session, rules: &[&AppRules]) -> String {
    state(session, rules)
}
