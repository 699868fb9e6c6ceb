//! `session.share`: apps of one name have one app session.
//!
//! What comes out names, for each app, the others of its group and the tokens that both have, compared by the cookies that
//! carry them.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::app::Draft;
use super::report::Finding;
use super::table::Text;
use super::tree::Findings;
use crate::bridge::rules::{CookieMode, Disposition, SessionRules, TokenRule};
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
    let (mine, theirs) = (&one.session.as_ref()?.rules, &two.session.as_ref()?.rules);
    let both = common(mine, theirs);
    let mut tokens = both.clone();
    tokens.retain(|(own, others)| outside(mine, *own).is_none() && outside(theirs, *others).is_none());
    // Said once a pair.
    if at < other {
        if both.is_empty() {
            nothing_common(one, two, findings);
        }
        for &(own, others) in &both {
            let spot = outside(mine, own).map(|name| (one, two, name));
            let spot = spot.or_else(|| outside(theirs, others).map(|name| (two, one, name)));
            if let Some(spot) = spot {
                not_kept(spot, tokens.is_empty(), findings);
            }
        }
    }
    let mount = &two.route.rules.mount;
    (!tokens.is_empty()).then(|| Share {
        with: two.route.rules.app,
        tokens,
        path: mount.to_app(mount.cookie_path()).into_owned().into(),
        same_servers: one.route.upstreams == two.route.upstreams,
    })
}

fn nothing_common(one: &Draft, two: &Draft, findings: &Findings) {
    let (first, second) = (&one.route.rules.name, &two.route.rules.name);
    let title = format!("the apps `{first}` and `{second}` have no token in common to share");
    if let Some((first, second)) = share_of(one).zip(share_of(two)) {
        let label = "their engines use different cookies";
        findings.error(Finding::at(&second.span, title, label).also(&first.span, "shared here"));
    }
}

/// The first app leaves the cookie to the browser: its token cannot be shared with the second.
fn not_kept((one, two, cookie): (&Draft, &Draft, &str), nothing_left: bool, findings: &Findings) {
    let Some(share) = share_of(one) else { return };
    let (first, second) = (&one.route.rules.name, &two.route.rules.name);
    let title = format!("the app `{first}` does not keep its cookie `{cookie}` in the vault");
    let finding = Finding::at(&share.span, title, format!("so its token is not shared with `{second}`"));
    if nothing_left { findings.error(finding) } else { findings.warn(finding) }
}

fn share_of(draft: &Draft) -> Option<&Text> {
    draft.session.as_ref()?.share.as_ref()
}

/// The first cookie of the token at `place` that an exception takes out of the vault. With other modes than `vault` there is
/// no sharing at all, which is said elsewhere.
fn outside(rules: &SessionRules, place: u8) -> Option<&str> {
    let cookies =
        rules.tokens.get(usize::from(place))?.parts.iter().filter_map(|part| part.cookie.as_deref());
    let mut cookies = cookies.filter(|_| rules.cookies == CookieMode::Vault);
    cookies.find(|name| rules.token_disposition(name.as_bytes()) != Disposition::Vault)
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
