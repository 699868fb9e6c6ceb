//! `session.share`: apps of one name have one app session.
//!
//! What comes out names, for each app, the others of its group and the tokens that both have, compared by the cookies that
//! carry them.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::app::Draft;
use super::report::Finding;
use super::tree::Findings;
use crate::bridge::rules::{SessionRules, TokenRule};
use crate::bridge::share::Share;

/// Finds the groups, and puts what their apps share into the drafts' rules.
pub(super) fn resolve(drafts: &mut [Draft], findings: &Findings) {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate() {
        if let Some(share) = draft.session.as_ref().and_then(|session| session.share.as_ref()) {
            groups.entry(share.text.clone()).or_default().push(at);
        }
    }
    for members in groups.values() {
        alone(drafts, members, findings);
        for &at in members {
            let shares = members.iter().filter(|&&other| other != at);
            let shares: Vec<Share> =
                shares.filter_map(|&other| between(drafts, at, other, findings)).collect();
            if let Some(session) = drafts.get_mut(at).and_then(|draft| draft.route.rules.session.as_mut()) {
                session.shares = shares;
            }
        }
    }
}

/// A group of one: a name that was mistyped, most likely.
fn alone(drafts: &[Draft], members: &[usize], findings: &Findings) {
    let [only] = members else { return };
    let share = drafts.get(*only).and_then(|draft| draft.session.as_ref()?.share.as_ref());
    if let Some(share) = share {
        let title = format!("no other app has the `share` {}", share.quoted("of this one"));
        findings.warn(Finding::at(&share.span, title, "apps that write the same name have one session"));
    }
}

/// What the app at `at` shares with the one at `other`.
fn between(drafts: &[Draft], at: usize, other: usize, findings: &Findings) -> Option<Share> {
    let (one, two) = (drafts.get(at)?, drafts.get(other)?);
    let (mine, theirs) = (one.session.as_ref()?, two.session.as_ref()?);
    let tokens = common(&mine.rules, &theirs.rules);
    if tokens.is_empty() {
        // Said once a pair.
        if at < other {
            let (first, second) = (&one.route.rules.name, &two.route.rules.name);
            let title = format!("the apps `{first}` and `{second}` have no token in common to share");
            let spans = mine.share.as_ref().zip(theirs.share.as_ref());
            if let Some((mine, theirs)) = spans {
                let label = "their engines use different cookies";
                findings.error(Finding::at(&theirs.span, title, label).also(&mine.span, "shared here"));
            }
        }
        return None;
    }
    let mount = &two.route.rules.mount;
    Some(Share {
        with: two.route.rules.app,
        tokens,
        path: mount.to_app(mount.prefix()).into_owned().into(),
        same_servers: one.route.upstreams == two.route.upstreams,
    })
}

/// The tokens that both have: places in the one's rules and in the other's.
fn common(mine: &SessionRules, theirs: &SessionRules) -> SmallVec<[(u8, u8); 2]> {
    let at = |rules: &SessionRules, token: &TokenRule| {
        let place = rules.tokens.iter().position(|other| same_cookies(token, other))?;
        u8::try_from(place).ok()
    };
    mine.tokens.iter().filter_map(|token| Some((at(mine, token)?, at(theirs, token)?))).collect()
}

/// True where both ride in cookies of the same names, part by part.
fn same_cookies(one: &TokenRule, two: &TokenRule) -> bool {
    let mut parts = one.parts.iter().zip(&two.parts);
    one.rolling == two.rolling
        && one.parts.len() == two.parts.len()
        && parts.all(|(one, two)| match (&one.cookie, &two.cookie) {
            (Some(one), Some(two)) => one.eq_ignore_ascii_case(two),
            _ => false,
        })
}
