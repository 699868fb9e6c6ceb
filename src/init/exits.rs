//! What becomes of a link or a form that seems to sign out: a request, a pattern that knows it again, or only a comment.
//!
//! Invariant: pure. A pattern always holds something that stays and that says "sign out", unless the page is for nothing else;
//! nothing that may be a token of the session is kept, and every path is plain.

use super::facts::{Seen, SignOut};
use super::links::{Kind, halves, is_plain, kind, signs_out, spoken};
use super::place::Place;
use crate::wire::page::{FieldKind, Form};
use crate::wire::query;

/// Why only a comment is made of a link.
const TEXT_ONLY: &str = "only the link's text says so, and it leads to an ordinary page";
const NOTHING_STAYS: &str = "nothing in its address stays the same";
/// Why only a comment is made of a form.
const OWN_PAGE: &str = "its form goes to a page that does other things too";

/// The way out that a link on `page` is, by its public target.
pub(super) fn link(target: &str, page: &str, is_ours: bool) -> Option<SignOut> {
    let ((path, query), page) = (halves(target), halves(page).0);
    if !is_plain(path) || !is_plain(page) {
        return None;
    }
    let Some(pattern) = pattern(target) else {
        return Some(SignOut::Unclear { page: page.to_owned(), why: NOTHING_STAYS });
    };
    if !is_ours {
        return Some(SignOut::Elsewhere(pattern));
    }
    let parts: Vec<String> = query::params(query).filter_map(|param| whole(&param)).collect();
    if query.is_empty() {
        Some(SignOut::Link(path.to_owned()))
    } else if parts.len() == query::params(query).count() {
        Some(SignOut::Link(format!("{path}?{}", parts.join("&"))))
    } else {
        let pattern = if pattern.ends_with('*') { pattern } else { format!("{pattern}*") };
        Some(SignOut::Changing { page: page.to_owned(), pattern })
    }
}

/// The way out that a form on `page` is, which goes to `action` (both public): `None` where it is none.
pub(super) fn form(action: &str, page: &str, form: &Form, is_ours: bool) -> Option<SignOut> {
    let ((path, _), page) = (halves(action), halves(page).0);
    let buttons: Vec<String> = form
        .fields
        .iter()
        .filter(|field| field.kind == FieldKind::Submit)
        .map(|field| spoken(&field.value))
        .collect();
    if kind(action, &buttons.join(" ")) != Kind::SignOut || !is_plain(path) || !is_plain(page) {
        return None;
    }
    // A page of WebForms posts everything to itself.
    let is_webform = form.fields.iter().any(|field| field.name == "__VIEWSTATE");
    let is_sure = signs_out(path) || (buttons.len() == 1 && !is_webform && !signs_out(action));
    Some(if path == page || !is_sure {
        SignOut::Unclear { page: page.to_owned(), why: OWN_PAGE }
    } else if is_ours {
        SignOut::Form { page: page.to_owned(), action: path.to_owned(), is_post: form.is_post }
    } else {
        SignOut::Elsewhere(path.to_owned())
    })
}

/// What of a target tells a sign-out, without an end that is open: its path where that says so, else its path with the
/// parameters that do, else with those that stay. `None` where no parameter stays.
pub(super) fn pattern(target: &str) -> Option<String> {
    let (path, query) = halves(target);
    if query.is_empty() || signs_out(path) {
        return Some(path.to_owned());
    }
    let mut kept: Vec<String> = query::params(query).filter_map(|param| said(&param)).collect();
    if kept.is_empty() {
        kept = query::params(query).filter_map(|param| whole(&param)).collect();
    }
    (!kept.is_empty()).then(|| format!("{path}?*{}*", kept.join("*")))
}

/// When all pages are known: what only its text calls a sign-out and what leads to one of them becomes a comment.
pub(super) fn settle(seen: &mut Seen, place: &Place) {
    let visited: Vec<String> = seen.pages.iter().map(|visit| halves(&visit.public).0.to_owned()).collect();
    let is_page = |target: &str| {
        let path = halves(target).0;
        path == halves(&place.entry).0
            || place.mount.trim_end_matches('/') == path.trim_end_matches('/')
            || visited.iter().any(|page| page.eq_ignore_ascii_case(path))
    };
    let first = visited.first().filter(|path| is_plain(path)).unwrap_or(&place.mount);
    for way in &mut seen.sign_out {
        let (target, page, why) = match &*way {
            SignOut::Link(target) | SignOut::Elsewhere(target) => (target, first, TEXT_ONLY),
            SignOut::Changing { page, pattern } => (pattern, page, TEXT_ONLY),
            SignOut::Form { page, action, .. } => (action, page, OWN_PAGE),
            SignOut::Unclear { .. } => continue,
        };
        if is_page(target.trim_end_matches('*')) && !signs_out(target) {
            *way = SignOut::Unclear { page: page.clone(), why };
        }
    }
    let mut known: Vec<SignOut> = Vec::new();
    seen.sign_out.retain(|way| {
        !known.contains(way) && {
            known.push(way.clone());
            true
        }
    });
}

/// A parameter, where it is short words only: a longer value is most likely a token of the session. Digits are what the link
/// is where the name says what they are for.
fn whole(param: &query::Param<'_>) -> Option<String> {
    let is_word = |text: &str| text.len() <= 12 && text.bytes().all(|octet| octet.is_ascii_alphabetic());
    if is_word(param.key) && param.value.is_none_or(is_word) {
        return Some(
            param.value.map_or_else(|| param.key.to_owned(), |value| format!("{}={value}", param.key)),
        );
    }
    said(param).filter(|said| param.value.is_none_or(|value| value.is_empty() || !said.ends_with('=')))
}

/// A parameter that says "sign out", without a value that may change.
fn said(param: &query::Param<'_>) -> Option<String> {
    let is_name = |text: &str| {
        (1..=32).contains(&text.len())
            && text.bytes().all(|octet| octet.is_ascii_alphabetic() || b"_.-".contains(&octet))
    };
    let is_number = |text: &str| text.len() <= 4 && text.bytes().all(|octet| octet.is_ascii_digit());
    if !is_name(param.key) {
        return None;
    }
    let Some(value) = param.value else { return signs_out(param.key).then(|| param.key.to_owned()) };
    let says = is_name(value) && signs_out(value);
    if says || (signs_out(param.key) && (is_number(value) || (is_name(value) && value.len() <= 12))) {
        return Some(format!("{}={value}", param.key));
    }
    signs_out(param.key).then(|| format!("{}=", param.key))
}

#[cfg(test)]
mod tests {
    use super::super::facts::testing::visit;
    use super::*;

    fn unclear(page: &str, why: &'static str) -> Option<SignOut> {
        Some(SignOut::Unclear { page: page.to_owned(), why })
    }

    #[test]
    fn a_pattern_needs_what_says_sign_out() {
        for (target, expected) in [
            ("/A/index.php?logout=1", Some("/A/index.php?*logout=1*")),
            ("/A/index.php?page=home&logout=1", Some("/A/index.php?*logout=1*")),
            ("/A/index.php?logout", Some("/A/index.php?*logout*")),
            ("/A/index.php?logout=0123456789abcdef", Some("/A/index.php?*logout=*")),
            (
                "/A/index.cfm?fuseaction=security.logout&k=9f8e7d",
                Some("/A/index.cfm?*fuseaction=security.logout*"),
            ),
            ("/A/index.php?do=bye", Some("/A/index.php?*do=bye*")),
            ("/A/index.php?t=0123456789abcdef", None),
            ("/A/index.php?id=1", None),
            ("/A/logout.php?t=0123456789abcdef", Some("/A/logout.php")),
            ("/A/logout.php", Some("/A/logout.php")),
        ] {
            assert_eq!(pattern(target).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn a_link_keeps_what_stays_and_nothing_that_may_be_a_token() {
        let own = |target: &str| link(target, "/A/", true);
        assert_eq!(own("/A/index.php?logout=1"), Some(SignOut::Link("/A/index.php?logout=1".into())));
        let changing =
            |pattern: &str| Some(SignOut::Changing { page: "/A/".into(), pattern: pattern.into() });
        assert_eq!(own("/A/index.php?logout=98765432109"), changing("/A/index.php?*logout=*"));
        assert_eq!(own("/A/logout/?t=0123456789abcdef"), changing("/A/logout/*"));
        assert_eq!(own("/A/x.php?t=0123456789abcdef"), unclear("/A/", NOTHING_STAYS));
        for odd in ["/A/logout;sid=0123456789", "/A/logout*", "/A/log%6Fut"] {
            assert_eq!((own(odd), link(&format!("{odd}?a=1b2"), "/A/", true)), (None, None), "{odd}");
        }
        let out = link("/sso/index.php?logout=1", "/A/", false);
        assert_eq!(out, Some(SignOut::Elsewhere("/sso/index.php?*logout=1*".into())));
    }

    fn page_form(html: &str, action: &str) -> Option<SignOut> {
        let page = crate::wire::page::Page::read(html.as_bytes());
        form(action, "/A/x.aspx", &page.forms[0], true)
    }

    #[test]
    fn a_form_that_goes_to_its_own_page_is_only_noted() {
        let post = "<form method=post><input type=hidden name=__VIEWSTATE value=x><input type=submit value='Sign out'></form>";
        assert_eq!(page_form(post, "/A/x.aspx"), unclear("/A/x.aspx", OWN_PAGE));
        assert_eq!(page_form(post, "/A/default.aspx"), unclear("/A/x.aspx", OWN_PAGE), "postback");
        let two = "<form><input type=submit value=Save><input type=submit value=Logout></form>";
        assert_eq!(page_form(two, "/A/do.php"), unclear("/A/x.aspx", OWN_PAGE), "which button?");
        let text = "<form><input name=q value=Logout><input type=submit value=Find></form>";
        assert_eq!(page_form(text, "/A/find.php"), None, "no button says so");
        let one = "<form method=post><input type=submit value=Logout></form>";
        let found = SignOut::Form { page: "/A/x.aspx".into(), action: "/A/bye.php".into(), is_post: true };
        assert_eq!(page_form(one, "/A/bye.php"), Some(found));
    }

    #[test]
    fn what_only_its_text_calls_a_sign_out_is_a_comment_where_it_leads_to_a_page() {
        let place = Place::parse("http://127.0.0.1:1/A/").unwrap();
        let ways = ["/A/", "/A/home.php", "/A/home.php?do=bye", "/A/bye.php", "/A/home.php?logout=1"];
        let mut seen = Seen {
            pages: vec![visit("/A/", &[], ""), visit("/A/home.php", &[], "")],
            sign_out: ways.map(|target| SignOut::Link(target.into())).to_vec(),
            ..Seen::default()
        };
        settle(&mut seen, &place);
        let expected = [
            unclear("/A/", TEXT_ONLY).unwrap(),
            SignOut::Link("/A/bye.php".into()),
            SignOut::Link("/A/home.php?logout=1".into()),
        ];
        assert_eq!(seen.sign_out, expected);
    }
}
