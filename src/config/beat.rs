//! `[heartbeat]` for all apps, and `[apps.NAME.heartbeat]`.
//!
//! The general table is the default of each app's own; what a heartbeat asks for lies inside the app.

use std::time::Duration;

use http::Method;

use super::address;
use super::report::Finding;
use super::server::set;
use super::table::{OrOff, Table, Text};
use super::tree::{Node, Value};
use super::units;
use crate::bridge::mount::Mount;
use crate::bridge::rules::{Alive, BeatRules, Canary};
use crate::wire::path;

/// The keys that `[heartbeat]` and an app's own table share.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    every: Option<Duration>,
    jitter_percent: u8,
    timeout: Duration,
    max_in_flight: usize,
    max_rate: Option<u32>,
    limit: Option<Duration>,
}

impl Pace {
    /// Where nobody says anything.
    const DEFAULT: Self = Self {
        every: None,
        jitter_percent: 20,
        timeout: Duration::from_secs(5),
        max_in_flight: 64,
        max_rate: None,
        limit: None,
    };

    /// With what `table` says over it.
    fn with(mut self, table: &Table<'_>) -> Self {
        let every = table.unit("every", "a duration", |text| match text {
            "auto" => Ok(None),
            "off" => Err("leave `heartbeat.path` out for an app that is not to be kept alive".to_owned()),
            _ => units::duration(text).map(Some),
        });
        set(&mut self.every, every);
        set(&mut self.jitter_percent, table.unit("jitter", "a share", |text| units::percent(text, 50)));
        set(&mut self.timeout, table.duration("timeout"));
        set(&mut self.max_in_flight, table.whole("max_in_flight", 1));
        set(&mut self.max_rate, table.unit_or_off("max_rate", "a rate", per_second).map(OrOff::on));
        set(&mut self.limit, table.duration_or_off("limit").map(OrOff::on));
        self
    }
}

/// Reads `[heartbeat]` of the top table.
pub(super) fn read_general(top: &Table<'_>) -> Pace {
    let Some(table) = top.table("heartbeat", "`[heartbeat]`") else { return Pace::DEFAULT };
    let pace = Pace::DEFAULT.with(&table);
    table.finish();
    pace
}

/// Reads the heartbeat of the app that `app` is, mounted at `mount`; `None` where it has none.
pub(super) fn read(app: &Table<'_>, mount: &Mount, general: &Pace) -> Option<BeatRules> {
    let table = app.table("heartbeat", &format!("heartbeat of {}", app.place))?;
    let pace = general.clone().with(&table);
    let path = own_path(&table, "path", mount);
    let method = table.choice("method", &[("GET", false), ("HEAD", true)]).unwrap_or(false);
    let alive = read_alive(&table);
    let canary = read_canary(&table);
    let reads_body = !alive.contains.is_empty() || matches!(canary, Some(Canary::Json(_) | Canary::Regex(_)));
    if method && reads_body {
        let span = table.node("method").map_or(&table.span, |node| &node.span);
        let label = "`alive.contains`, `canary.json` and `canary.regex` need GET";
        table.findings.error(Finding::at(span, "a HEAD has no body to look at", label));
    }
    if !table.has("path") {
        let label = "this app is not kept alive";
        let title = format!("{} has a heartbeat without a path", app.place);
        let first = table.entries().first().map_or(&table.span, |(key, _)| &key.span);
        table.findings.warn(Finding::at(first, title, label));
    }
    let method = if method { Method::HEAD } else { Method::GET };
    table.finish();
    Some(BeatRules {
        path: path?,
        method,
        every: pace.every,
        jitter_percent: pace.jitter_percent,
        timeout: pace.timeout,
        max_in_flight: pace.max_in_flight,
        max_rate: pace.max_rate,
        limit: pace.limit,
        alive,
        canary,
    })
}

/// The public path under `key`, which must lie inside the app.
fn own_path(table: &Table<'_>, key: &'static str, mount: &Mount) -> Option<Box<str>> {
    let text = table.text(key)?;
    inside(&text, &text.text, key, mount, table)
}

/// `path`, as it stands in `text`, where it is a path inside `mount`.
pub(super) fn inside(
    text: &Text,
    path: &str,
    key: &str,
    mount: &Mount,
    table: &Table<'_>,
) -> Option<Box<str>> {
    let path_text = text.with(path);
    address::read(&path_text, &format!("`{key}` is no path"), table.findings, address::path)?;
    let bare = path.split_once('?').map_or(path, |(path, _)| path);
    let normal = match path::normal(bare) {
        Ok(normal) => normal,
        Err(error) => {
            let title = format!("`{key}` is no path");
            table.findings.error(Finding::at(&text.span, title, error.to_string()));
            return None;
        }
    };
    if mount.contains(&normal) {
        return Some(path.into());
    }
    let label = format!("the app's public path is `{}`", mount.prefix());
    table.findings.error(Finding::at(&text.span, format!("`{key}` lies outside the app"), label));
    None
}

/// So many a second, as a whole number.
fn per_second(text: &str) -> Result<u32, String> {
    let rate = units::rate(text)?;
    let whole = rate.round();
    if rate < 1.0 || (rate - whole).abs() > f64::EPSILON {
        return Err("it must be a whole number a second: \"500/s\"".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is made from a u32")]
    Ok(whole as u32)
}

fn read_alive(heartbeat: &Table<'_>) -> Alive {
    let mut alive = Alive { status: vec![(200, 299)], contains: "".into() };
    let Some(table) = heartbeat.table("alive", &format!("`alive` in {}", heartbeat.place)) else {
        return alive;
    };
    if let Some(node) = table.node("status") {
        let items = match &node.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        if items.is_empty() {
            table.findings.error(Finding::at(&node.span, "`status` is empty", "no answer would be alive"));
        }
        let read: Vec<_> = items.into_iter().filter_map(|item| status(&table, item)).collect();
        if !read.is_empty() {
            alive.status = read;
        }
    }
    set(&mut alive.contains, table.text("contains").map(|text| text.text.into()));
    table.finish();
    alive
}

/// `"2xx"`, `"200"`, `200` or `"200-204"`.
fn status(table: &Table<'_>, node: &Node) -> Option<(u16, u16)> {
    let text = match &node.value {
        Value::Whole(Some(number)) => number.to_string(),
        Value::Text { text, .. } => text.clone(),
        Value::Broken => return None,
        _ => {
            table.wrong("status", node, "a status, or a list of them");
            return None;
        }
    };
    let one = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (200..600).contains(status));
    let range = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) => class
            .parse()
            .ok()
            .filter(|class| (2..6).contains(class))
            .map(|class: u16| (class * 100, class * 100 + 99)),
        (None, Some((from, to))) => one(from).zip(one(to)).filter(|(from, to)| from <= to),
        (None, None) => one(&text).map(|status| (status, status)),
    };
    if range.is_none() {
        let label = "write \"2xx\", \"200\" or \"200-204\"";
        table.findings.error(Finding::at(&node.span, "`status` is no status of an answer", label));
    }
    range
}

fn read_canary(heartbeat: &Table<'_>) -> Option<Canary> {
    let table = heartbeat.table("canary", &format!("`canary` in {}", heartbeat.place))?;
    let given = |key| table.text(key).filter(|text| !text.text.is_empty());
    let (header, json, regex) = (given("header"), given("json"), given("regex"));
    let mut all: Vec<&Text> = [&header, &json, &regex].into_iter().flatten().collect();
    all.sort_by_key(|text| text.span.range.start);
    if let [first, second, ..] = all.as_slice() {
        let finding = Finding::at(&second.span, "`canary` looks at two places", "one of the three");
        table.findings.error(finding.also(&first.span, "and here"));
    }
    let canary = if let Some(text) = header {
        let name = text.text.parse().ok().map(Canary::Header);
        if name.is_none() {
            table.findings.error(Finding::at(&text.span, "`header` is no name of a header", ""));
        }
        name
    } else if let Some(text) = json {
        Some(Canary::Json(text.text.into()))
    } else if let Some(text) = regex {
        regex::bytes::Regex::new(&text.text)
            .map(Canary::Regex)
            .map_err(|error| bad_regex(&table, "regex", &text, &error))
            .ok()
    } else {
        None
    };
    table.finish();
    canary
}

/// Reports a regular expression that is none.
pub(super) fn bad_regex(table: &Table<'_>, key: &str, text: &Text, error: &regex::Error) {
    // The library's text repeats the expression over several lines; its last line says what is wrong.
    let reason =
        error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    table.findings.error(Finding::at(&text.span, format!("`{key}` is no regular expression"), reason));
}
