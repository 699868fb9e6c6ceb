//! What an answer does to a session: the one place where a person's answers, and a heartbeat's, change it.
//!
//! Invariants: an ended session learns nothing; a heartbeat's answer moves no clock of the person and signs nobody out of
//! another app.

use super::app_session::{AppSession, Edit, Learned, Sent};
use super::beat::Verdict;
use super::rules::{AppRules, Scope};
use super::session::{Phase, Session};
use super::share;
use super::sign_out::Asked;
use super::timeline::What;
use super::vault::{Role, Vault};
use crate::time::Timestamp;

/// A person's own answer from an app, as far as the session goes.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// What its request was sent with.
    pub sent: Sent,
    /// Its status.
    pub status: u16,
    /// Its cookies for the vault.
    pub edits: &'a [Edit<'a>],
    /// What was asked.
    pub asked: Asked<'a>,
    /// True where a form was posted.
    pub form: bool,
    /// Now.
    pub now: Timestamp,
}

/// What follows from an answer.
#[derive(Debug, Default)]
pub struct Effect {
    /// What its cookies did.
    pub learned: Learned,
    /// It was a sign-out, and reaches so far. The app session is as it was before the answer.
    pub signed_out: Option<Scope>,
    /// The person has signed in: the bridge cookie is to be renewed.
    pub renew: bool,
    /// A heartbeat is to be armed for the app.
    pub arm: bool,
}

/// Applies a person's answer from the app of `rules`.
pub fn apply(session: &mut Session, rules: &AppRules, answer: &Answer<'_>) -> Effect {
    let mut effect = Effect::default();
    let brings = answer.edits.iter().any(|edit| edit.value.is_some());
    if session.has_ended() || session.app(rules.app).is_none() && !brings {
        return effect;
    }
    let bound = session.phase() == Phase::Bound;
    let Some(app) = session.app_or_new(rules.app, answer.now) else { return effect };
    app.last_request = app.last_request.max(answer.now);
    let before = answer.asked.may_sign_out(&rules.sign_out).then(|| app.vault().clone());
    let first_form = answer.form && !app.posted;
    app.lent = false;
    app.posted |= answer.form && answer.status < 500;
    effect.learned = app.learn(answer.sent, answer.edits, answer.now);
    if effect.learned.changed {
        app.beat.proven = answer.now;
    }
    if let Some(before) = before
        && answer.asked.signed_out(&rules.sign_out, answer.status, effect.learned)
    {
        app.restore(before);
        effect.signed_out = Some(rules.sign_out.scope);
        return effect;
    }
    if answer.status < 500 {
        revive(app, answer.now);
    }
    effect.arm = bound && rules.beat.is_some() && should_arm(app);
    share::follow(session, rules, answer.now);
    effect.renew = bound && signs_in(rules, answer, &effect.learned, first_form);
    note(session, rules, &effect.learned, answer.now);
    effect
}

/// The edits of a sign-out's own answer that begin a new session: values of the old one that it sets again are dropped. A
/// token is new where any part of it is: Lucee's CFTOKEN is `0` in each.
pub fn fresh<'a>(edits: &'a [Edit<'a>], old: &'a Vault) -> impl Iterator<Item = Edit<'a>> {
    let is_new = |edit: &Edit<'_>| {
        edit.value.is_some_and(|value| !value.is_empty() && !old.iter().any(|held| held.value == value))
    };
    edits.iter().copied().filter(move |edit| match edit.role {
        Role::Token { token, .. } => {
            let part = |other: &&Edit<'_>| matches!(other.role, Role::Token { token: of, .. } if of == token);
            edit.value.is_some() && edits.iter().filter(part).any(is_new)
        }
        Role::Plain => is_new(edit),
    })
}

/// The person's answer came below 500: what a heartbeat found dead may live again, and its canary is learned anew.
fn revive(app: &mut AppSession, now: Timestamp) {
    if app.beat.stopped {
        app.beat.proven = now;
        app.beat.stopped = false;
        app.beat.canary = 0;
        app.beat.failures = 0;
        app.beat.verdict = None;
    }
}

/// True once for an app session that wants heartbeats and has no entry with the scheduler.
pub fn should_arm(app: &mut AppSession) -> bool {
    let wanted = app.has_token() && !app.lent && !app.beat.stopped && !app.beat.armed;
    app.beat.armed |= wanted;
    wanted
}

/// A token changed in answer to an unsafe method, a form posted to a sign-in page, or, where the app names none, the first
/// form posted to it (ColdFusion sign-ins often change no token).
fn signs_in(rules: &AppRules, answer: &Answer<'_>, learned: &Learned, first_form: bool) -> bool {
    let changed = (learned.changed && !learned.gone || learned.other_changed) && answer.sent.unsafe_method;
    let form =
        if rules.sign_out.login.is_empty() { first_form } else { answer.asked.signs_in(&rules.sign_out) };
    changed || form && answer.status < 500
}

fn note(session: &mut Session, rules: &AppRules, learned: &Learned, now: Timestamp) {
    let what = match learned {
        Learned { first: true, .. } => What::TokenLearned,
        Learned { gone: true, .. } => What::TokenDeleted,
        Learned { changed: true, .. } => What::TokenRotated,
        Learned { stale: true, .. } => What::TokenStale,
        _ => return,
    };
    session.timeline.note(now, Some(rules.app), what);
}

/// A heartbeat's answer, judged.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// The keyed hash of a canary that was seen for the first time.
    pub canary: Option<u64>,
    /// Now.
    pub now: Timestamp,
}

/// A heartbeat's answer that was overtaken says nothing; it is no longer in flight.
pub fn overtaken(session: &mut Session, rules: &AppRules) {
    if let Some(app) = session.app_mut(rules.app) {
        app.beat.in_flight = false;
        app.beat.count = app.beat.count.wrapping_add(1);
    }
}

/// Records a heartbeat's verdict for the app of `rules`. Its cookies have been learned before.
pub fn beat(session: &mut Session, rules: &AppRules, judged: &Judged) {
    let Some(app) = session.app_mut(rules.app) else { return };
    app.beat.in_flight = false;
    app.beat.count = app.beat.count.wrapping_add(1);
    let changed = app.beat.verdict != Some(judged.verdict);
    app.beat.verdict = Some(judged.verdict);
    app.beat.stopped = judged.verdict.stops();
    match judged.verdict {
        Verdict::Alive => {
            app.beat.failures = 0;
            app.beat.proven = app.beat.at;
            app.renewed = app.renewed.max(judged.now);
            app.last_request = app.last_request.max(judged.now);
            if let Some(canary) = judged.canary {
                app.beat.canary = canary;
            }
        }
        Verdict::Unreachable => app.beat.failures = app.beat.failures.saturating_add(1),
        Verdict::Reborn | Verdict::Replaced | Verdict::SignedOut => {}
    }
    if changed {
        session.timeline.note(judged.now, Some(rules.app), What::Heartbeat(judged.verdict));
    }
}

#[cfg(test)]
mod tests;
