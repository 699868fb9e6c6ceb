//! `[apps.NAME]` and `[[rules]]`.
//!
//! An app with a mistake is still read to its end and takes part in later checks with what is known of it, so
//! that one mistake hides no other.

use std::sync::Arc;

use super::address;
use super::beat::{self, Pace};
use super::engines;
use super::health;
use super::options::OriginText;
use super::report::{Finding, Span};
use super::session;
use super::sign_out;
use super::table::{Table, Text};
use super::tree::{Findings, Key, Node, Value};
use crate::bridge::mount::Mount;
use crate::bridge::rules::{AppIx, AppRules, RequestRule, Scope};
use crate::names::{App, Names};
use crate::route::{Balance, HostHeader, Route, UpstreamIx};
use crate::wire::pattern::Pattern;

/// An app as far as it can be read alone.
pub(super) struct Draft {
    pub(super) route: Route,
    /// Where it begins.
    pub(super) span: Span,
    /// Where its public path is written.
    pub(super) path: Option<Span>,
    /// True where a path is written and is none.
    pub(super) has_bad_path: bool,
    /// True where something of its heartbeat is written.
    pub(super) has_beat: bool,
    /// Where its engine is written, known or not.
    pub(super) engine: Option<Span>,
    /// Where its heartbeat's path and interval are written.
    pub(super) beat_path: Option<Span>,
    pub(super) beat_every: Option<Span>,
    /// Where it is written what its sign-out asks for first.
    pub(super) sign_out: Option<Span>,
    pub(super) upstreams: Vec<(OriginText, Span)>,
    pub(super) session: Option<session::Draft>,
}

/// What apps share while they are read.
pub(super) struct Shared<'a> {
    pub(super) findings: &'a Findings,
    /// `[heartbeat]`.
    pub(super) pace: Pace,
    /// `bridge.sign_out`.
    pub(super) sign_out: Scope,
    /// All upstream servers so far, each once.
    pub(super) origins: Vec<(UpstreamIx, OriginText)>,
    /// Their numbers.
    pub(super) names: &'a mut Names,
}

/// Reads all of `[apps]`.
pub(super) fn read_all(top: &Table<'_>, shared: &mut Shared<'_>) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let Some(apps) = top.table("apps", "`[apps]`") else { return drafts };
    for (key, node) in apps.entries() {
        check_name(key, &drafts, shared.findings);
        let place = format!("app `{}`", key.name);
        let Some(mut table) = Table::new(node, &place, shared.findings) else { continue };
        // A table's own place may be anything between its first dotted key and all of an inline table.
        table.span = key.span.clone();
        drafts.push(read(table, key, shared));
    }
    drafts
}

/// Gives the apps their numbers.
pub(super) fn number(drafts: &mut [Draft], names: &mut Names, findings: &Findings) {
    let places: Vec<String> = drafts.iter().map(|draft| place(&draft.route)).collect();
    let apps = drafts.iter().zip(&places).map(|(draft, place)| App { name: &draft.route.rules.name, place });
    let numbers = names.take_apps(&apps.collect::<Vec<_>>());
    for (draft, number) in drafts.iter_mut().zip(numbers) {
        match number {
            Some(number) => draft.route.rules.app = AppIx(number),
            None => findings.error(Finding::at(&draft.span, "there were more than 65,535 names of apps", "")),
        }
    }
}

/// What makes it the same app under another name.
fn place(route: &Route) -> String {
    let engine = route.rules.session.as_ref().map_or("none", |session| engines::name(session.engine));
    format!("{} {} {engine}", route.hosts.join(","), route.rules.mount.prefix())
}

/// An app's name is part of cookie names, of metrics and of `app.PART`.
fn check_name(key: &Key, drafts: &[Draft], findings: &Findings) {
    let good = (1..=64).contains(&key.name.len())
        && key.name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
    if !good {
        let title = format!("`{}` cannot be an app's name", key.name);
        findings.error(Finding::at(&key.span, title, "letters, digits, `-` and `_`, 64 at the most"));
    }
    if let Some(other) = drafts.iter().find(|other| other.route.rules.name.eq_ignore_ascii_case(&key.name)) {
        let title = format!("the apps `{}` and `{}` differ in case only", other.route.rules.name, key.name);
        findings.error(Finding::at(&key.span, title, "here again").also(&other.span, "first here"));
    }
}

fn read(table: Table<'_>, key: &Key, shared: &mut Shared<'_>) -> Draft {
    let hosts = hosts(&table);
    let case_insensitive = table.flag("case_insensitive").unwrap_or(false);
    let strip = table.flag("strip_path").unwrap_or(false);
    let path = table.text("path");
    let good_path = path.as_ref().filter(|path| {
        let title = format!("the path of {} cannot be used", table.place);
        address::read(path, &title, table.findings, address::mount).is_some()
    });
    let mount = Mount::new(good_path.map_or("/", |path| &path.text), strip, case_insensitive);
    let upstreams = upstreams(&table);
    let numbers = upstreams.iter().filter_map(|(origin, span)| origin_number(shared, origin, span)).collect();
    let words = [
        ("sticky", Balance::Sticky),
        ("round-robin", Balance::RoundRobin),
        ("least-requests", Balance::LeastRequests),
    ];
    let balance = table.choice("balance", &words).unwrap_or(Balance::Sticky);
    let host_header = host_header(&table);
    let session = session::read(&table);
    // Where the path is wrong, the mount is all there is: that is one mistake, not one more for all that lies
    // below it.
    let beat = beat::read(&table, &mount, &shared.pace);
    let sign_out = sign_out::read(&table, &mount, shared.sign_out);
    let health = health::read(&table, &mount);
    table.unbuilt("tls");
    table.unbuilt_unless("html", is_plain_html);
    let sub = |table_key: &'static str, key: &str| -> Option<Span> {
        let Value::Table(entries) = &table.node(table_key)?.value else { return None };
        entries.iter().find(|(own, _)| own.name == key).map(|(_, node)| node.span.clone())
    };
    let (engine, beat_path, beat_every) =
        (sub("session", "engine"), sub("heartbeat", "path"), sub("heartbeat", "every"));
    let sign_out_at = sub("sign_out", "request").or_else(|| sub("sign_out", "page"));
    let (has_bad_path, has_beat) = (table.has("path") && good_path.is_none(), table.has("heartbeat"));
    let rules = AppRules {
        // Its number it is given once all are read.
        app: AppIx(u16::MAX),
        name: Arc::from(key.name.as_str()),
        mount,
        session: session.as_ref().map(|draft| draft.rules.clone()),
        beat,
        sign_out,
        // The mode is the same for all apps: the route map sets it.
        releases: false,
    };
    table.finish();
    Draft {
        route: Route { rules, hosts, upstreams: numbers, balance, host_header, health },
        span: key.span.clone(),
        path: good_path.map(|path| path.span.clone()),
        has_bad_path,
        has_beat,
        engine,
        beat_path,
        beat_every,
        sign_out: sign_out_at,
        upstreams,
        session,
    }
}

fn hosts(table: &Table<'_>) -> Vec<Box<str>> {
    let mut list: Vec<Box<str>> = Vec::new();
    for text in table.texts("hosts").unwrap_or_default() {
        let title = format!("a host of {} cannot be used", table.place);
        let Some(host) = address::read(&text, &title, table.findings, address::host) else { continue };
        if list.contains(&host) {
            table.findings.error(Finding::at(&text.span, "`hosts` has a name twice", "here again"));
        } else {
            list.push(host);
        }
    }
    list
}

fn upstreams(table: &Table<'_>) -> Vec<(OriginText, Span)> {
    if !table.has("upstreams") {
        let finding = Finding::at(&table.span, format!("{} has no `upstreams`", table.place), "where is it?");
        table.findings.error(finding.help("`upstreams = [\"http://127.0.0.1:8501\"]`"));
    }
    let texts = table.texts("upstreams");
    if let (Some([]), Some(node)) = (texts.as_deref(), table.node("upstreams")) {
        let empty = matches!(&node.value, Value::List(items) if items.is_empty());
        if empty {
            table.findings.error(Finding::at(&node.span, "`upstreams` is empty", "an app is somewhere"));
        }
    }
    let mut list: Vec<(OriginText, Span)> = Vec::new();
    for text in texts.unwrap_or_default() {
        let title = format!("an upstream of {} cannot be used", table.place);
        let Some(origin) = address::read(&text, &title, table.findings, address::upstream) else { continue };
        match list.iter().find(|(other, _)| *other == origin) {
            Some((_, first)) => {
                let finding = Finding::at(&text.span, "`upstreams` has a server twice", "here again");
                table.findings.error(finding.also(first, "first here"));
            }
            None => list.push((origin, text.span)),
        }
    }
    list
}

/// The number of `origin`, which is put into the list of all if it is new.
fn origin_number(shared: &mut Shared<'_>, origin: &OriginText, span: &Span) -> Option<UpstreamIx> {
    let Some(number) = shared.names.origin(origin.as_str()).map(UpstreamIx) else {
        shared.findings.error(Finding::at(span, "there were more than 65,535 upstream servers", ""));
        return None;
    };
    if shared.origins.iter().all(|(other, _)| *other != number) {
        shared.origins.push((number, origin.clone()));
    }
    Some(number)
}

fn host_header(table: &Table<'_>) -> HostHeader {
    let Some(text) = table.text("host_header") else { return HostHeader::Keep };
    match text.text.as_str() {
        "keep" => HostHeader::Keep,
        "upstream" => HostHeader::Upstream,
        name => {
            // A port is part of what an app may want to see.
            if name.parse::<http::uri::Authority>().is_err() || name.contains('@') {
                let title = "`host_header` is no host";
                table.findings.error(Finding::at(&text.span, title, "`keep`, `upstream` or a name"));
            }
            HostHeader::Name(name.into())
        }
    }
}

/// True where `[apps.NAME.html]` asks for nothing.
fn is_plain_html(value: &Value) -> bool {
    let Value::Table(entries) = value else { return false };
    entries.iter().all(|(key, node)| {
        matches!(key.name.as_str(), "widget" | "mask_ids" | "cookieless_links")
            && matches!(node.value, Value::Bool(false))
    })
}

/// The patterns under `key`, a list of them or one.
pub(super) fn patterns(table: &Table<'_>, key: &'static str) -> Vec<Pattern> {
    let texts = table.texts(key).unwrap_or_default();
    texts.iter().filter_map(|text| pattern(table.findings, key, text)).collect()
}

fn pattern(findings: &Findings, key: &str, text: &Text) -> Option<Pattern> {
    match Pattern::parse(&text.text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let label = if text.is_literal() { error.to_string() } else { String::new() };
            let finding = Finding::at(&text.span, format!("`{key}` is no pattern for requests"), label);
            findings.error(finding.help("a pattern is a method or `*`, and a path: `GET /app/poll*`"));
            None
        }
    }
}

/// Reads `[[rules]]`, each with its pattern as written.
pub(super) fn read_rules(top: &Table<'_>) -> Vec<(RequestRule, Box<str>)> {
    let Some(node) = top.node("rules") else { return Vec::new() };
    let Value::List(items) = &node.value else {
        top.wrong("rules", node, "a list of tables: `[[rules]]`");
        return Vec::new();
    };
    items.iter().filter_map(|item| read_rule(item, top.findings)).collect()
}

fn read_rule(item: &Node, findings: &Findings) -> Option<(RequestRule, Box<str>)> {
    let table = Table::new(item, "`[[rules]]`", findings)?;
    let text = table.text("match");
    if !table.has("match") {
        findings.error(Finding::at(&item.span, "a rule has no `match`", "which requests is it about?"));
    }
    let pattern = text.as_ref().and_then(|text| pattern(findings, "match", text));
    let background = table.choice("activity", &[("ignore", ())]).is_some();
    let skip_session = table.choice("session", &[("skip", ())]).is_some();
    if !table.has("activity") && !table.has("session") {
        let label = "it needs `activity = \"ignore\"` or `session = \"skip\"`";
        findings.error(Finding::at(&item.span, "a rule does nothing", label));
    }
    table.finish();
    Some((RequestRule { pattern: pattern?, background, skip_session }, text?.text.into()))
}
