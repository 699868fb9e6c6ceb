//! Apps that share one app session: a token that one of them is given, the others hold as well.
//!
//! A servlet container keeps one session for all that runs in a web application, CFML and JSP alike, while each application
//! in it forgets its own part by its own clock. So the token is shared, and heartbeats, canaries and clocks are not.
//!
//! Invariant: after [`follow`] all apps of a group hold the same shared tokens, with the same descent, and count the same
//! generations; so an answer of one app that another one's answer has overtaken is known to be.

use smallvec::SmallVec;

use super::app_session::AppSession;
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

/// Lets the rest of the group of the app of `rules` hold what that app holds now. Call it after whatever may have changed its
/// tokens. An app that the person has not used yet only has its token [`AppSession::lent`]: nothing keeps it alive.
pub fn follow(session: &mut Session, rules: &AppRules, now: Timestamp) {
    let Some(shares) = rules.session.as_ref().map(|rules| &rules.shares).filter(|shares| !shares.is_empty())
    else {
        return;
    };
    if session.has_ended() {
        return;
    }
    let members = || std::iter::once(rules.app).chain(shares.iter().map(|share| share.with));
    let generation =
        members().filter_map(|app| Some(session.app(app)?.generation())).max().unwrap_or_default();
    if let Some(app) = session.app_mut(rules.app) {
        app.count_from(generation);
    }
    // Cloned, since both lie in one list; groups are small and tokens change rarely.
    let source = session.app(rules.app).map(AppSession::loan).unwrap_or_default();
    for share in shares {
        let gives = share.tokens.iter().any(|(token, _)| source.has(*token));
        let app = match session.app_mut(share.with) {
            None if gives => session.lent_app(share.with, now),
            app => app,
        };
        let Some(app) = app else { continue };
        app.count_from(generation);
        let before = app.revision();
        app.hold(&source, share);
        if app.revision() != before {
            app.beat.proven = now;
        }
    }
}

#[cfg(test)]
mod tests;
