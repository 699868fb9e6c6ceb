//! The cookies of a request that the browser itself holds: which of them go to the app, and which are not its to have.
//!
//! Invariant: nothing of a managed name goes on but what the app's rules let the browser hold, or what is to be adopted.

use smallvec::SmallVec;

use super::{Renamed, Seen, Shown, ToApp, is_ours, is_token_value, push};
use crate::bridge::app_session::AppSession;
use crate::bridge::classify::Managed;
use crate::bridge::rules::{Disposition, SessionRules};
use crate::bridge::vault::Role;
use crate::wire::cookie;
use crate::wire::request::Head;

pub(super) fn from_browser(context: &ToApp<'_>, line: &[u8], out: &mut Vec<u8>, seen: &mut Seen) {
    let Some(rules) = &context.rules.session else {
        for pair in
            cookie::pairs(line).filter(|pair| !is_ours(context, pair.name) && !hides(context, None, *pair))
        {
            push(out, pair.name, pair.value);
        }
        return;
    };
    seen.passed.reserve(line.len());
    let mut doubled: SmallVec<[Role; 2]> = SmallVec::new();
    for pair in cookie::pairs(line) {
        if is_ours(context, pair.name)
            || cookie::is_legacy_attribute(pair.name)
            || hides(context, Some(rules), pair)
        {
            continue;
        }
        let unprefixed = context.rules.unprefixed(pair.name);
        let name = unprefixed.unwrap_or(pair.name);
        match rules.cookie(name) {
            Some(part) => {
                token_cookie(context, rules, &part, (pair.name, name, pair.value), (seen, &mut doubled))
            }
            None => plain_cookie(context, rules, (pair.name, name, pair.value), out, seen),
        }
    }
    // Two cookies of one managed name: one of them was planted. Neither is believed.
    for shown in seen.shown.iter().filter(|shown| doubled.contains(&shown.role)) {
        stray(&mut seen.stray, &shown.name);
    }
    seen.shown.retain(|shown| !doubled.contains(&shown.role));
    let whole: SmallVec<[Role; 4]> =
        seen.shown.iter().filter(|one| is_whole(&seen.shown, one)).map(|one| one.role).collect();
    seen.shown.retain(|shown| whole.contains(&shown.role));
    for shown in &seen.shown {
        push(out, rules.app_spelling(&shown.name, context.rules), &shown.value);
    }
}

/// A cookie of the browser that has a managed name.
fn token_cookie(
    context: &ToApp<'_>,
    rules: &SessionRules,
    part: &Managed<'_>,
    (as_sent, name, value): (&[u8], &[u8], &[u8]),
    (seen, doubled): (&mut Seen, &mut SmallVec<[Role; 2]>),
) {
    let renamed = as_sent.len() != name.len();
    let disposition = rules.token_disposition(name);
    // What the vault holds, the browser cannot replace.
    let may_adopt = || {
        let held = context.session.is_some_and(AppSession::has_token);
        context.adopting && !held && !renamed && part.rule.shape.fits(value)
    };
    let goes = match disposition {
        Disposition::Prefix | Disposition::Pass | Disposition::AsIs => {
            renamed == context.rules.renames(disposition) || may_adopt()
        }
        Disposition::Vault => may_adopt(),
        Disposition::Drop => false,
    };
    // Of one that was there before the proxy and the proxy's own, the latter counts.
    let mut goes = goes && is_token_value(value);
    if goes && context.rules.renames(disposition) {
        let other = seen.shown.iter().position(|shown| shown.role == part.role);
        let to_move = |shown: &Shown| shown.is_to_move(context.rules);
        if let Some(at) = other.filter(|at| renamed && seen.shown.get(*at).is_some_and(to_move)) {
            stray(&mut seen.stray, &seen.shown.remove(at).name);
        }
        goes = renamed || !seen.shown.iter().any(|shown| shown.role == part.role && !to_move(shown));
    }
    if !goes {
        stray(&mut seen.stray, as_sent);
        return;
    }
    if seen.shown.iter().any(|shown| shown.role == part.role) {
        doubled.push(part.role);
    }
    seen.shown.push(Shown { role: part.role, parts: part.parts, name: as_sent.into(), value: value.into() });
}

/// A cookie of the browser that is no token.
fn plain_cookie(
    context: &ToApp<'_>,
    rules: &SessionRules,
    (as_sent, name, value): (&[u8], &[u8], &[u8]),
    out: &mut Vec<u8>,
    seen: &mut Seen,
) {
    let vaulted = || {
        context
            .session
            .is_some_and(|session| session.vault().iter().any(|held| cookie::folds_to(name, held.name)))
    };
    let exception = rules.exception(name);
    let renamed = as_sent.len() != name.len();
    if renamed && !context.rules.renames(exception.unwrap_or(Disposition::Pass)) {
        // The app itself chose a name that looks like one of ours.
        plain_cookie(context, rules, (as_sent, as_sent, value), out, seen);
        return;
    }
    let goes = match exception {
        Some(Disposition::Vault | Disposition::Drop) => false,
        Some(Disposition::Prefix) => renamed,
        Some(Disposition::AsIs | Disposition::Pass) | None => !vaulted(),
    };
    if goes {
        if renamed && context.rules.releases {
            seen.renamed.push(Renamed { name: name.into(), value: value.into() });
        }
        push(out, name, value);
        push(&mut seen.passed, as_sent, value);
    }
}

/// True where a server that splits cookies in other places than the standard does would find a name in `pair` that is not
/// the browser's to set: behind a leading `=`, or behind a comma (Rack before 2, RFC 2109).
fn hides(context: &ToApp<'_>, rules: Option<&SessionRules>, pair: cookie::Pair<'_>) -> bool {
    let managed = |piece: &[u8]| {
        let name = piece.split(|&octet| octet == b'=').next().unwrap_or_default();
        is_ours(context, name) || rules.is_some_and(|rules| rules.cookie(name).is_some())
    };
    if pair.name.is_empty() && (pair.value.contains(&b'=') || managed(pair.value)) {
        return true;
    }
    // `a,CFID=1`, `a=1,CFID=2`.
    let behind_comma = |text: &[u8]| {
        memchr::memchr(b',', text).is_some() && text.split(|&octet| octet == b',').skip(1).any(managed)
    };
    behind_comma(pair.name) || behind_comma(pair.value)
}

fn stray(strays: &mut SmallVec<[Box<[u8]>; 2]>, name: &[u8]) {
    if !strays.iter().any(|stray| **stray == *name) {
        strays.push(name.into());
    }
}

/// True where all parts of the token that `one` belongs to were shown.
fn is_whole(shown: &[Shown], one: &Shown) -> bool {
    let of = |role: Role| if let Role::Token { token, .. } = role { Some(token) } else { None };
    shown.iter().filter(|other| of(other.role) == of(one.role)).count() == usize::from(one.parts)
}

/// The browser holds its cookies itself: they go as they come, but for the proxy's own; those that it renamed under the
/// names that the app gave them.
pub(super) fn as_they_come(context: &ToApp<'_>, line: &[u8], head: &mut Head, seen: &mut Seen) {
    let ours = |pair: &cookie::Pair<'_>| is_ours(context, pair.name) || hides(context, None, *pair);
    let pairs = || cookie::pairs(line).filter(|pair| !ours(pair));
    for pair in pairs() {
        if let Some(name) = context.rules.own_name(pair.name) {
            seen.renamed.push(Renamed { name: name.into(), value: pair.value.into() });
        }
    }
    let mut out = Vec::with_capacity(line.len());
    let mut met: SmallVec<[&[u8]; 8]> = SmallVec::new();
    for pair in pairs() {
        let own = context.rules.own_name(pair.name);
        let name = own.unwrap_or(pair.name);
        // Below a mount that the app does not see, the first one of a name is its own.
        let again = context.rules.mount.strips() && met.contains(&name);
        if own.is_none() && seen.renamed.iter().any(|renamed| *renamed.name == *name) || again {
            continue;
        }
        met.push(name);
        push(&mut out, name, pair.value);
    }
    if !out.is_empty() {
        head.put_with("cookie", |text| text.extend_from_slice(&out));
    }
}
