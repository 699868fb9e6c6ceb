//! The keys of signing out and in.
//!
//! Invariant: no pattern here matches the app's first page, any other page that was looked at, or the one for heartbeats.

use http::Method;

use super::super::exits;
use super::super::facts::SignOut;
use super::super::links::{Kind, halves, kind};
use super::{App, MOST_OTHERS, Text, quoted};
use crate::wire::path;
use crate::wire::pattern::Pattern;

pub(super) fn sign_out(out: &mut Text, app: &App) {
    let rank = |way: &&SignOut| match way {
        SignOut::Link(_) => 0,
        SignOut::Form { .. } => 1,
        SignOut::Changing { .. } => 2,
        SignOut::Elsewhere(_) => 3,
        SignOut::Unclear { .. } => 4,
    };
    let mut ways: Vec<&SignOut> = app.sign_out.iter().collect();
    ways.sort_by_key(rank);
    let mut ways = ways.into_iter();
    match ways.next() {
        Some(way) => {
            way_out(out, app, way);
            ways.take(MOST_OTHERS).for_each(|other| out.say(&format!("Also seen: {}.", described(other))));
        }
        None => {
            out.say("No way to sign out was seen. Where there is one: sign_out.request = \"GET /..\"");
        }
    }
    let safe = app.sign_in.iter().filter_map(|path| {
        let itself =
            |at: usize, page: &str| halves(page).0 == path && (at > 1 || kind(path, "") == Kind::SignIn);
        [open(path), path.clone()].into_iter().find(|pattern| is_safe(app, pattern, &itself))
    });
    let list: Vec<String> = safe.take(MOST_OTHERS).map(|pattern| quoted(&pattern)).collect();
    if !list.is_empty() {
        out.key("sign_out.login", &format!("[{}]", list.join(", ")));
        out.say("Its sign-in: a heartbeat that is sent there was signed out.");
    }
}

fn way_out(out: &mut Text, app: &App, way: &SignOut) {
    match way {
        SignOut::Link(target) => {
            out.key("sign_out.request", &quoted(&format!("GET {target}")));
            detect(out, app, "GET", &exits::pattern(target).unwrap_or_else(|| target.clone()));
        }
        SignOut::Form { page, action, is_post } => {
            out.key("sign_out.page", &quoted(&format!("GET {page}")));
            out.key("sign_out.form", &quoted(action));
            detect(out, app, if *is_post { "POST" } else { "GET" }, action);
        }
        SignOut::Changing { page, pattern } => {
            out.key("sign_out.page", &quoted(&format!("GET {page}")));
            out.key("sign_out.link", &quoted(pattern));
            detect(out, app, "GET", pattern);
        }
        SignOut::Elsewhere(pattern) => {
            let path = halves(pattern).0;
            out.say(&format!(
                "It signs out at {path}, outside of its own path: the bridge cannot ask for that itself."
            ));
            detect(out, app, "*", pattern);
        }
        SignOut::Unclear { .. } => {
            out.say(&format!("It may sign out by {}: nothing was drafted from that.", described(way)));
            out.say("Where you know better: sign_out.request = \"GET /..\" and sign_out.detect.");
        }
    }
}

/// The pattern with its end open, else as it is, else a comment.
fn detect(out: &mut Text, app: &App, method: &str, pattern: &str) {
    let fit = [open(pattern), pattern.to_owned()].into_iter();
    match fit.map(|pattern| format!("{method} {pattern}")).find(|text| is_safe(app, text, &|_, _| false)) {
        Some(text) => out.key("sign_out.detect", &format!("[{}]", quoted(&text))),
        None => out.say("No sign_out.detect: whatever tells it would match ordinary pages as well."),
    }
}

/// True where the pattern, whatever its method and letter case, matches no ordinary page but those that `spared` names by
/// their place among the pages and their target.
fn is_safe(app: &App, pattern: &str, spared: &dyn Fn(usize, &str) -> bool) -> bool {
    let Ok(pattern) = Pattern::parse(pattern).map(Pattern::ignore_case) else { return false };
    let matches = |target: &str| {
        let path = path::normal(halves(target).0).unwrap_or_default();
        let query = target.split_once('?').map(|(_, query)| query);
        [Method::GET, Method::POST].iter().any(|method| pattern.matches(method, &path, query))
    };
    let chosen = app.choice.chosen.as_ref().is_some_and(|chosen| matches(&chosen.path));
    let visited = app.pages.iter().enumerate().any(|(at, page)| !spared(at, page) && matches(page));
    !chosen && !visited && !matches(&app.place.mount)
}

fn described(way: &SignOut) -> String {
    match way {
        SignOut::Link(target) => format!("a link to {target}"),
        SignOut::Form { page, action, .. } => format!("a form on {page} that goes to {action}"),
        SignOut::Changing { page, pattern } => format!("a link on {page} like {pattern}"),
        SignOut::Elsewhere(pattern) => format!("{pattern}, outside of its own path"),
        SignOut::Unclear { page, why } => format!("something on {page} ({why})"),
    }
}

/// A path as a pattern that whatever follows it matches as well; a folder stands for itself.
fn open(path: &str) -> String {
    if path.ends_with(['/', '*']) { path.to_owned() } else { format!("{path}*") }
}
