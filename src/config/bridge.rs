//! `[bridge]`: what lives and dies together.
//!
//! The two clocks that end every session, `idle_timeout` and `max_lifetime`, cannot be off.

use std::time::Duration;

use super::report::Finding;
use super::server::set;
use super::table::{OrOff, Table, is_text};
use super::tree::Value;
use super::units;
use crate::bridge::rules::{BridgeRules, Clocks, Mode, SameSite, Scope};

/// The words of `same_site`.
pub(super) const SAME_SITE: [(&str, SameSite); 3] =
    [("Lax", SameSite::Lax), ("Strict", SameSite::Strict), ("None", SameSite::None)];

/// The words of `sign_out`.
pub(super) const SCOPES: [(&str, Scope); 2] = [("together", Scope::Together), ("alone", Scope::Alone)];

/// The words of `mode`.
const MODES: [(&str, Mode); 2] = [("bridge", Mode::Bridge), ("release", Mode::Release)];

/// All of `[bridge]`.
pub(super) struct Bridge {
    /// The default of `sign_out.mode`.
    pub(super) sign_out: Scope,
    pub(super) rules: BridgeRules,
}

/// Reads `[bridge]` of the top table.
pub(super) fn read(top: &Table<'_>) -> Bridge {
    let mut bridge = defaults();
    let Some(table) = top.table("bridge", "`[bridge]`") else { return bridge };
    let rules = &mut bridge.rules;
    set(&mut rules.mode, table.choice("mode", &MODES));
    set(&mut rules.cookie, cookie_name(&table));
    set(&mut rules.same_site, table.choice("same_site", &SAME_SITE));
    set(&mut rules.prefix, prefix(&table));
    let clocks = &mut rules.clocks;
    set(&mut clocks.idle_timeout, table.duration("idle_timeout"));
    set(&mut clocks.presence_limit, table.duration_or_off("presence_limit").map(OrOff::on));
    set(&mut clocks.presence_ttl, table.duration("presence_ttl"));
    set(&mut clocks.max_lifetime, table.duration("max_lifetime"));
    set(&mut bridge.sign_out, table.choice("sign_out", &SCOPES));
    set(&mut rules.adopt_cookies, table.duration_or_off("adopt_cookies").map(OrOff::on));
    weigh(&table, rules);
    table.unbuilt_unless("widget", is_default_widget);
    table.finish();
    bridge
}

/// What holds where `[bridge]` says nothing.
fn defaults() -> Bridge {
    Bridge {
        sign_out: Scope::Together,
        rules: BridgeRules {
            mode: Mode::Bridge,
            cookie: "__Host-bridge".into(),
            same_site: SameSite::Lax,
            prefix: "/.bridge".into(),
            clocks: Clocks {
                idle_timeout: Duration::from_secs(30 * 60),
                presence_limit: Some(Duration::from_secs(4 * 3600)),
                presence_ttl: Duration::from_secs(90),
                max_lifetime: Duration::from_secs(12 * 3600),
            },
            adopt_cookies: None,
        },
    }
}

/// A cookie's name is a token (RFC 6265 4.1.1), also without the prefix that plain HTTP takes off.
fn cookie_name(table: &Table<'_>) -> Option<Box<str>> {
    let text = table.text("cookie")?;
    let bare = text.text.strip_prefix("__Host-").or_else(|| text.text.strip_prefix("__Secure-"));
    let is_token = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet))
    };
    if is_token(bare.unwrap_or(&text.text)) {
        return Some(text.text.into());
    }
    let label = "letters, digits and `-`, `_`, `.`, also after `__Host-`";
    table.findings.error(Finding::at(&text.span, "`cookie` is no name for a cookie", label));
    None
}

/// The proxy's own path, without a slash at its end.
fn prefix(table: &Table<'_>) -> Option<Box<str>> {
    let text = table.text("prefix")?;
    super::address::read(&text, "`prefix` is no path", table.findings, super::address::mount)?;
    let path = text.text.trim_end_matches('/');
    if path.is_empty() {
        let label = "the proxy's own pages need a path that no app has: \"/.bridge\"";
        table.findings.error(Finding::at(&text.span, "`prefix` cannot be `/`", label));
        return None;
    }
    Some(path.into())
}

/// Clocks and cookies that work and may not be meant.
fn weigh(table: &Table<'_>, rules: &BridgeRules) {
    let clocks = &rules.clocks;
    let shorter = |key: &'static str, than: &str, why: &str| {
        if let Some(node) = table.node(key) {
            table.findings.warn(Finding::at(&node.span, format!("`{key}` is shorter than `{than}`"), why));
        }
    };
    let written = |keys: [&'static str; 2]| keys.into_iter().find(|key| table.has(key)).unwrap_or(keys[0]);
    if clocks.max_lifetime < clocks.idle_timeout {
        match written(["max_lifetime", "idle_timeout"]) {
            "max_lifetime" => shorter("max_lifetime", "idle_timeout", "nobody can be idle for that long"),
            key => warn_longer(table, key, "max_lifetime"),
        }
    }
    if clocks.presence_limit.is_some_and(|limit| limit < clocks.idle_timeout) {
        match written(["presence_limit", "idle_timeout"]) {
            "presence_limit" => {
                shorter("presence_limit", "idle_timeout", "an open page then ends a session early")
            }
            key => warn_longer(table, key, "presence_limit"),
        }
    }
    if let Some(node) = table.node("mode").filter(|_| rules.mode == Mode::Release) {
        let title = "in the mode `release` no new session is bridged";
        let label = "each browser is handed its app cookies back with its next answers";
        let finding = Finding::at(&node.span, title, label);
        table.findings.warn(finding.help("take the proxy out when the metric `sessionbridge_bridges` is 0"));
        return;
    }
    if let Some((span, node)) = rules.adopt_cookies.zip(table.node("adopt_cookies")) {
        let title = format!("for {} browsers may bring app cookies of their own", units::shown(span));
        let label = "on engines that take any id, a guess is as good then as without the proxy";
        table.findings.warn(Finding::at(&node.span, title, label));
    }
}

fn warn_longer(table: &Table<'_>, key: &'static str, than: &str) {
    if let Some(node) = table.node(key) {
        let title = format!("`{key}` is longer than `{than}`");
        table.findings.warn(Finding::at(&node.span, title, format!("`{than}` ends the session first")));
    }
}

/// The widget's documented defaults, said aloud: they ask for nothing.
fn is_default_widget(value: &Value) -> bool {
    let Value::Table(entries) = value else { return false };
    entries.iter().all(|(key, node)| match key.name.as_str() {
        "warn_before" => is_text(&node.value, "2m"),
        "language" => is_text(&node.value, "en"),
        _ => false,
    })
}
