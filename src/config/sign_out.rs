//! `[apps.NAME.sign_out]`: how a sign-out is seen, and how the app is asked for one.
//!
//! What is asked for lies inside the app; of the three ways to ask, at most one is said.

use http::Method;

use super::app::patterns;
use super::beat;
use super::bridge::SCOPES;
use super::report::Finding;
use super::table::{Table, Text};
use crate::bridge::mount::Mount;
use crate::bridge::rules::{Recipe, Scope, SignOutRules};
use crate::wire::pattern::Pattern;

/// Reads the table of the app that `app` is, mounted at `mount`; `general` is `bridge.sign_out`.
pub(super) fn read(app: &Table<'_>, mount: &Mount, general: Scope) -> SignOutRules {
    let mut rules = SignOutRules { scope: general, detect: Vec::new(), recipe: None, login: Vec::new() };
    let Some(table) = app.table("sign_out", &format!("sign_out of {}", app.place)) else { return rules };
    rules.scope = table.choice("mode", &SCOPES).unwrap_or(general);
    let folded = |pattern: Pattern| if mount.is_case_insensitive() { pattern.ignore_case() } else { pattern };
    rules.detect = patterns(&table, "detect").into_iter().map(folded).collect();
    rules.login = patterns(&table, "login").into_iter().map(folded).collect();
    let request = table.text("request").and_then(|text| request(&table, &text, mount));
    let on_page = on_page(&table, mount);
    exclude(&table, "request", "page", "a sign-out is asked for in two ways");
    rules.recipe = request.or(on_page);
    table.finish();
    rules
}

/// `GET /AppA/logout.cfm`.
fn request(table: &Table<'_>, text: &Text, mount: &Mount) -> Option<Recipe> {
    let (method, path) = text.text.split_once(' ').unwrap_or(("", &text.text));
    let method = match method {
        "GET" => Method::GET,
        "POST" => Method::POST,
        _ => {
            let label = "a method and a path: \"GET /app/logout\" or \"POST /app/logout\"";
            table.findings.error(Finding::at(&text.span, "`request` is no request", label));
            return None;
        }
    };
    beat::inside(text, path, "request", mount, table).map(|target| Recipe::Request { method, target })
}

/// `page = "GET /admin/"` with the `form` or the `link` on it.
fn on_page(table: &Table<'_>, mount: &Mount) -> Option<Recipe> {
    let page = table.text("page").and_then(|text| page(table, &text, mount));
    let form = table.text("form").map(|text| leads_to(table, "form", &text, mount));
    let link = table.text("link").map(|text| leads_to(table, "link", &text, mount));
    exclude(table, "form", "link", "a sign-out sends a form or follows a link");
    if let Some((key, _)) = table.entry("page").filter(|_| !table.has("form") && !table.has("link")) {
        let finding = Finding::at(&key.span, "`page` says where, and not what", "the form or the link on it");
        table.findings.error(finding.help(
            "`form = \"/app/logout/\"` is sent with its hidden fields, `link = \"/app/doku.php?*do=logout*\"` is followed",
        ));
    }
    for key in ["form", "link"] {
        if let Some((key_at, _)) = table.entry(key).filter(|_| !table.has("page")) {
            let finding = Finding::at(&key_at.span, format!("`{key}` is on no page"), "on which page is it?");
            table.findings.error(finding.help("`page = \"GET /app/\"`"));
        }
    }
    let page = page?;
    match (form.flatten(), link.flatten()) {
        (Some(action), None) => Some(Recipe::Form { page, action }),
        (None, Some(href)) => Some(Recipe::Link { page, href }),
        _ => None,
    }
}

fn page(table: &Table<'_>, text: &Text, mount: &Mount) -> Option<Box<str>> {
    let Some(path) = text.text.strip_prefix("GET ") else {
        let label = "it is fetched with GET: \"GET /app/\"";
        table.findings.error(Finding::at(&text.span, "`page` is no page", label));
        return None;
    };
    beat::inside(text, path, "page", mount, table)
}

/// Where a form or a link leads: a public path with stars, perhaps with a query.
fn leads_to(table: &Table<'_>, key: &'static str, text: &Text, mount: &Mount) -> Option<Pattern> {
    let path = text.text.split('?').next().unwrap_or_default();
    if !text.text.contains('*') {
        beat::inside(text, &text.text, key, mount, table)?;
    }
    // A space would part a method from the path.
    let pattern = Pattern::parse(&text.text).ok().filter(|_| !text.text.contains(char::is_whitespace));
    if pattern.is_none() {
        let title = format!("`{key}` leads nowhere");
        table.findings.error(Finding::at(
            &text.span,
            title,
            "a path begins with `/` or `*`, and has no spaces",
        ));
    } else if path.contains('*') {
        let title = format!("`{key}` leaves the path open");
        let finding = Finding::at(&text.span, title, "a person who writes on this page could choose it");
        let help = "name the path, and leave the query open where it changes: `/app/doku.php?*do=logout*`";
        table.findings.warn(finding.help(help));
    }
    pattern.map(|pattern| if mount.is_case_insensitive() { pattern.ignore_case() } else { pattern })
}

/// Reports two keys of which only one can be meant.
fn exclude(table: &Table<'_>, one: &'static str, other: &'static str, title: &str) {
    let (Some((first, _)), Some((second, _))) = (table.entry(one), table.entry(other)) else { return };
    let (first, second) =
        if first.span.range.start <= second.span.range.start { (first, second) } else { (second, first) };
    let finding = Finding::at(&second.span, title, format!("either `{one}` or `{other}`"));
    table.findings.error(finding.also(&first.span, "and here"));
}
