//! What a link or a form is for, by its words: signing in, signing out, doing something, or just looking.
//!
//! Invariant: whatever might change something is never a [`Kind::Page`]: in doubt a link is left alone.

use std::sync::LazyLock;

use super::place::Place;
use crate::config::engines;
use crate::wire::{path, query};

/// What following a link would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Looking at a page.
    Page,
    /// Signing in.
    SignIn,
    /// Signing out.
    SignOut,
    /// Perhaps doing something.
    Action,
    /// A picture, a script, a document.
    File,
}

const SIGN_OUT: [&str; 12] = [
    "logout",
    "logoff",
    "signout",
    "signoff",
    "log out",
    "log off",
    "sign out",
    "sign off",
    "abmelden",
    "exit",
    "quit",
    "deconnexion",
];
const SIGN_IN: [&str; 12] = [
    "login", "logon", "signin", "signon", "log in", "log on", "sign in", "sign on", "anmelden", "register",
    "signup", "sign up",
];
/// Words that say that something is done. Whole words only: `orders` is none.
const ACTIONS: [&str; 67] = [
    "accept",
    "activate",
    "add",
    "approve",
    "archive",
    "assign",
    "ban",
    "block",
    "buy",
    "cancel",
    "change",
    "checkout",
    "clear",
    "close",
    "confirm",
    "copy",
    "create",
    "deactivate",
    "del",
    "delete",
    "deny",
    "destroy",
    "disable",
    "drop",
    "edit",
    "empty",
    "enable",
    "execute",
    "flush",
    "forget",
    "impersonate",
    "import",
    "insert",
    "install",
    "invalidate",
    "kill",
    "like",
    "lock",
    "mark",
    "move",
    "new",
    "pay",
    "publish",
    "purge",
    "register",
    "reject",
    "release",
    "remove",
    "rename",
    "reset",
    "restart",
    "revoke",
    "rotate",
    "run",
    "save",
    "send",
    "set",
    "shutdown",
    "stop",
    "submit",
    "subscribe",
    "toggle",
    "unlock",
    "unsubscribe",
    "update",
    "upload",
    "vote",
];
/// Parts of words that say that something is done, wherever they stand in a path or query: `dodelete`, `addtocart`.
const STEMS: [&str; 18] = [
    "delete",
    "remove",
    "destroy",
    "purge",
    "logout",
    "logoff",
    "signout",
    "signoff",
    "reset",
    "drop",
    "kill",
    "cancel",
    "unsubscribe",
    "addto",
    "checkout",
    "approve",
    "reject",
    "invalidate",
];
/// Parameters whose value names what is done.
const VERBS: [&str; 12] = [
    "act",
    "action",
    "cmd",
    "command",
    "do",
    "event",
    "fuseaction",
    "func",
    "function",
    "method",
    "op",
    "task",
];
/// What is no page.
const FILES: [&str; 40] = [
    "7z", "avi", "bmp", "bz2", "css", "csv", "doc", "docx", "eot", "exe", "gif", "gz", "ico", "iso", "jar",
    "jpeg", "jpg", "js", "map", "md", "mp3", "mp4", "pdf", "png", "ppt", "rss", "svg", "swf", "tar", "tgz",
    "ttf", "txt", "wav", "webp", "woff", "woff2", "xls", "xlsx", "xml", "zip",
];

/// Where session ids ride in URLs, by the engines' names.
struct Ids {
    path_params: Vec<Box<str>>,
    queries: Vec<Box<str>>,
}

static IDS: LazyLock<Ids> = LazyLock::new(|| {
    let tokens = engines::NAMES.iter().flat_map(|(_, engine)| engines::preset(*engine));
    let parts: Vec<_> = tokens.flat_map(|token| token.parts).collect();
    Ids {
        path_params: parts.iter().filter_map(|part| part.path_param.clone()).collect(),
        queries: parts.iter().filter_map(|part| part.query.clone()).collect(),
    }
});

/// What a link to `target` (path and query) with that text is.
pub(super) fn kind(target: &str, text: &str) -> Kind {
    let (path, query) = halves(target);
    let words = format!("{} {}", spoken(path), spoken(query));
    let said = spoken(text);
    let says = |list: &[&str]| list.iter().any(|word| holds(&words, word) || holds(&said, word));
    if says(&SIGN_OUT) {
        return Kind::SignOut;
    }
    // A return address in a sign-in's query may name anything.
    if has_stem(path) {
        return Kind::Action;
    }
    if says(&SIGN_IN) {
        return Kind::SignIn;
    }
    let verb = |param: query::Param<'_>| VERBS.iter().any(|verb| query::key_is(param.key, verb));
    if says(&ACTIONS) || has_stem(query) || query::params(query).any(verb) {
        return Kind::Action;
    }
    let extension = extension(path).unwrap_or_default().to_ascii_lowercase();
    if FILES.contains(&extension.as_str()) { Kind::File } else { Kind::Page }
}

fn has_stem(text: &str) -> bool {
    let text = decoded(text);
    STEMS.iter().any(|stem| text.contains(stem))
}

/// True where an address (or a name or value in one) says "sign out", as a whole word or within one.
pub(super) fn signs_out(text: &str) -> bool {
    let (words, text) = (spoken(text), decoded(text));
    SIGN_OUT.iter().any(|word| holds(&words, word))
        || ["logout", "logoff", "signout", "signoff"].iter().any(|stem| text.contains(stem))
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().to_lowercase()
}

/// The extension of a path's last segment, without its dot.
pub(super) fn extension(path: &str) -> Option<&str> {
    let last = path.rsplit('/').next()?.split(';').next()?;
    last.rsplit_once('.').map(|(_, extension)| extension).filter(|extension| !extension.is_empty())
}

/// True where `word` (or two) stands in `text` as a whole; both as [`spoken`] makes them.
pub(super) fn holds(text: &str, word: &str) -> bool {
    format!(" {text} ").contains(&format!(" {word} "))
}

/// In lower case, with a single blank wherever there is no letter, and where a small letter is followed by a capital one.
pub(super) fn spoken(text: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    let (mut out, mut was_small) = (String::new(), false);
    for letter in decoded.chars() {
        if was_small && letter.is_uppercase() {
            out.push(' ');
        }
        was_small = letter.is_lowercase();
        if letter.is_alphabetic() {
            out.extend(letter.to_lowercase());
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out.trim().to_owned()
}

/// Path and query of a target; the query is empty where there is none.
pub(super) fn halves(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

/// The target without session ids that ride in path parameters and queries. Those of cookieless servers stay: without them
/// such a server only redirects.
pub(super) fn without_ids(target: &str) -> String {
    let (path, query) = halves(target);
    let cut = path::cut_params(path, |key| IDS.path_params.iter().any(|name| query::key_is(key, name)));
    let path = cut.as_deref().unwrap_or(path);
    let cut = query::cut(query, |key| IDS.queries.iter().any(|name| query::key_is(key, name)));
    let query = cut.as_deref().unwrap_or(query);
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The target as a browser in front of the bridge would ask for it: without any session id.
pub(super) fn public(target: &str, place: &Place) -> String {
    let target = without_ids(target);
    let (path, query) = halves(&target);
    let path = match path::session_segment(path, place.mount.len()) {
        Some(segment) => path::cut_segment(path, &segment),
        None => path.to_owned(),
    };
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

/// True where a path can stand in a config as it is: nothing in it is decoded, cut or a pattern.
pub(super) fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 1024
        && path.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"/._~+,@!=-".contains(&octet))
        && !path.contains("//")
        && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_by_whole_words_of_path_query_and_text() {
        for (target, text, expected) in [
            ("/AppA/ping.php", "Ping", Kind::Page),
            ("/AppA/orders.cfm?page=2", "Orders", Kind::Page),
            ("/AppA/settings", "Settings", Kind::Page),
            ("/AppA/index.cfm", "", Kind::Page),
            ("/AppA/logout.jsp", "", Kind::SignOut),
            ("/AppA/x.cfm", "Sign out", Kind::SignOut),
            ("/AppA/index.php?do=logout&sectok=1", "", Kind::SignOut),
            ("/AppA/userLogOut.do", "", Kind::SignOut),
            ("/AppA/login.jsp", "", Kind::SignIn),
            ("/AppA/x", "Log in", Kind::SignIn),
            ("/AppA/delete.cfm?id=7", "", Kind::Action),
            ("/AppA/item.cfm?id=7", "Delete", Kind::Action),
            ("/AppA/item.cfm?action=view", "View", Kind::Action),
            ("/AppA/deleteItem.cfm", "", Kind::Action),
            ("/AppA/item/7/remove", "", Kind::Action),
            ("/AppA/index.cfm?fuseaction=home.main", "", Kind::Action),
            ("/AppA/item.cfm", "Cancel my order", Kind::Action),
            ("/AppA/un%73ubscribe.cfm", "", Kind::Action),
            ("/AppA/invalidate.cfm", "", Kind::Action),
            ("/AppA/rotate", "", Kind::Action),
            ("/AppA/dodelete.cfm", "", Kind::Action),
            ("/AppA/userdelete/7", "", Kind::Action),
            ("/AppA/x.cfm?mode=itemREMOVE", "", Kind::Action),
            ("/AppA/addtocart.cfm?id=7", "", Kind::Action),
            ("/AppA/dologout.php", "", Kind::Action),
            ("/AppA/dologout.php", "Sign out", Kind::SignOut),
            ("/AppA/login/passwordreset", "", Kind::Action),
            ("/AppA/login.cfm?next=checkout", "", Kind::SignIn),
            ("/AppA/x.cfm?t=p%75rgeall", "", Kind::Action),
            ("/AppA/photo.JPG?x=1", "", Kind::File),
            ("/AppA/static.txt", "", Kind::File),
        ] {
            assert_eq!(kind(target, text), expected, "{target} {text:?}");
        }
    }

    #[test]
    fn ids_are_cut_from_targets() {
        let place = Place::parse("http://127.0.0.1:8501/AppA/").unwrap();
        for (target, expected) in [
            ("/AppA/x.jsp;jsessionid=0123456789ABCDEF0123456789ABCDEF?a=1", "/AppA/x.jsp?a=1"),
            ("/AppA/x.cfm?CFID=1&a=1&CFTOKEN=2", "/AppA/x.cfm?a=1"),
            ("/AppA/x.php?PHPSESSID=0123456789abcdefghijklmnop", "/AppA/x.php"),
            ("/AppA/(S(abcdefghijklmnopqrst0123))/x.aspx?b", "/AppA/x.aspx?b"),
            ("/AppA/x", "/AppA/x"),
        ] {
            assert_eq!(public(target, &place), expected, "{target}");
        }
        assert!(without_ids("/AppA/(S(abcdefghijklmnopqrst0123))/x.aspx").contains("(S("));
    }
}
