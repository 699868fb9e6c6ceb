//! Apps that share one app session: a token that one of them is given, the others hold as well.
//!
//! A servlet container keeps one session for all that runs in a web application, CFML and JSP alike, while each application
//! in it forgets its own part by its own clock. So the token is shared, and heartbeats, canaries and clocks are not.
//!
//! Invariant: after [`follow`] all apps of a group hold the same shared tokens, with the same descent, and count the same
//! generations; so an answer of one app that another one's answer has overtaken is known to be.

use smallvec::SmallVec;

use super::app_session::{AppSession, Loan};
use super::rules::{AppIx, AppRules};
use super::session::Session;
use crate::time::Timestamp;

/// What an app shares with another one of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The other.
    pub with: AppIx,
    /// The tokens that both have: its place in this app's rules, and in the other's.
    pub tokens: SmallVec<[(u8, u8); 2]>,
    /// Where the other stands on its servers: a cookie that would not be sent there is widened to it.
    pub path: Box<str>,
    /// True where both have the same servers: the session lives on one of them.
    pub same_servers: bool,
}

/// The app that stands for the whole group of the app of `rules`: the first of them.
#[must_use]
pub fn group(rules: &AppRules) -> AppIx {
    let shares = rules.session.iter().flat_map(|session| &session.shares);
    shares.map(|share| share.with).fold(rules.app, AppIx::min)
}

/// Lets the rest of the group of the app of `rules` hold what that app holds now. Call it after whatever may have changed its
/// tokens. An app that the person has not used yet only has its token [`AppSession::lent`]: nothing keeps it alive.
///
/// Where it was no answer that changed a token, but a sign-out that took the app session away, or one that was taken over
/// from elsewhere, the token is a generation of its own: the group's requests that are in flight change it no more.
pub fn follow(session: &mut Session, rules: &AppRules, now: Timestamp) {
    let Some(own) = rules.session.as_ref().filter(|own| !own.shares.is_empty()) else { return };
    if session.has_ended() {
        return;
    }
    // Cloned, since both lie in one list; groups are small and tokens change rarely.
    let mut loan = Loan::of(session.app(rules.app), &own.tokens);
    let others = own.shares.iter().filter_map(|share| Some(session.app(share.with)?.generation())).max();
    let mut generation = session.app(rules.app).map(AppSession::generation).max(others).unwrap_or_default();
    let torn: SmallVec<[u8; 2]> =
        torn(session, &own.shares, &loan).filter(|token| !loan.leads(*token, others)).collect();
    if !torn.is_empty() {
        generation = generation.saturating_add(1);
        for token in torn {
            loan.settle(token, generation, now);
        }
        if let Some(app) = session.app_mut(rules.app) {
            app.settle(&loan);
        }
    }
    let group = group(rules);
    if let Some(app) = session.app_mut(rules.app) {
        app.count_from(generation);
        app.set_group(group);
    }
    for share in &own.shares {
        let gives = share.tokens.iter().any(|(token, _)| loan.has(*token));
        let app = match session.app_mut(share.with) {
            None if gives => session.lent_app(share.with, now),
            app => app,
        };
        let Some(app) = app else { continue };
        app.count_from(generation);
        app.set_group(group);
        let before = app.revision();
        app.hold(&loan, share);
        if app.revision() != before {
            app.beat.proven = now;
        }
    }
}

/// The tokens of `loan` that some other app of the group does not hold as they are there.
fn torn(session: &Session, shares: &[Share], loan: &Loan<'_>) -> impl Iterator<Item = u8> {
    let held = |share: &Share, theirs, mine| {
        session.app(share.with).map_or_else(|| !loan.has(theirs), |app| app.holds_same(loan, theirs, mine))
    };
    let pairs = shares.iter().flat_map(|share| share.tokens.iter().map(move |pair| (share, *pair)));
    pairs.filter(move |(share, (theirs, mine))| !held(share, *theirs, *mine)).map(|(_, (theirs, _))| theirs)
}

#[cfg(test)]
mod tests;
