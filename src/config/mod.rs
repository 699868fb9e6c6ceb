//! The config: from a TOML file to the words of the product, with every mistake found at once.
//!
//! Parse, don't validate: what comes out of [`load`] is usable as it is, and no later step looks at it again.
//! Reading never stops at a mistake, and no report shows a secret.

mod address;
mod app;
mod beat;
mod bridge;
mod check;
pub mod engines;
mod explain;
mod health;
mod lines;
mod mask;
mod newcomers;
mod options;
mod outline;
mod places;
mod reading;
mod report;
mod server;
mod session;
mod share;
mod sign_out;
mod sources;
mod table;
mod tls;
mod tree;
mod units;
mod valkey;
mod vars;

use std::path::Path;
use std::time::Duration;

pub use self::engines::presets;
pub use self::explain::{ExplainError, explain};
pub use self::lines::Lines;
pub use self::newcomers::newcomers;
pub use self::options::{
    AccessLog, AdminOptions, ListenText, LogFormat, LogLevel, LogOptions, OriginText, StoreKind, StoreOptions,
};
pub use self::outline::{Change, How, Outline};
use self::reading::Recorder;
pub use self::reading::Sources;
pub use self::report::{Report, Unreadable, Warning, summary};
use self::table::Table;
use self::tree::{Findings, Node, Value};
use self::vars::{Outside, Process};
use crate::bridge::rules::RequestRule;
use crate::names::Names;
use crate::route::{Route, RouteMap, UpstreamIx};
use crate::{net, registry, setting};

/// All of the config.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where browsers connect, at least one.
    pub listen: Vec<ListenText>,
    /// How https is served at those that speak it; `None`: all are plain.
    pub tls: Option<net::Tls>,
    /// Threads that serve; 0: one per core.
    pub threads: usize,
    /// `[server]` as far as requests go.
    pub server: setting::options::Options,
    /// Connections of browsers at the most.
    pub max_connections: usize,
    /// Bytes of a request's head at the most, from 8 KiB to 1 MiB.
    pub max_header_bytes: usize,
    /// How long a drain waits for requests in flight.
    pub drain_timeout: Duration,
    /// Apps, rules for requests, and what lives and dies together.
    pub routes: RouteMap,
    /// The patterns of `routes.rules` as written, in the same order.
    pub rule_texts: Vec<Box<str>>,
    /// All upstream servers, each once, with the numbers by which routes name them.
    pub origins: Vec<(UpstreamIx, OriginText)>,
    /// The table of live sessions.
    pub registry: registry::options::Options,
    /// Where they are kept.
    pub store: StoreOptions,
    /// What operators reach.
    pub admin: AdminOptions,
    /// What is written down.
    pub log: LogOptions,
    /// Where the settings of the apps stand.
    pub lines: Lines,
    /// What it says, to be held against another.
    pub outline: Outline,
}

/// A config with what is worth a thought in it, or all its mistakes.
pub type Read = Result<(Config, Vec<Warning>), Report>;

/// Reads the config at `path` and what it includes. New apps and servers are given numbers in `names`, which a config with a
/// mistake leaves as they are.
///
/// # Errors
/// All mistakes at once, and the warnings with them.
pub fn load(path: &Path, names: &mut Names) -> Read {
    read(path, names).0
}

/// [`load`], and what was read for it.
pub fn read(path: &Path, names: &mut Names) -> (Read, Sources) {
    let (name, outside) = (path.display().to_string(), Recorder::new(&Process));
    let read = match outside.file(path) {
        Ok(text) => load_with((&name, &text), &outside, names),
        Err(error) => {
            let title = format!("cannot read `{name}`: {}", vars::reason(&error));
            let finding = report::Finding { title, at: None, also: None, help: None };
            let cause = Unreadable { path: path.to_owned(), source: error };
            Err(Report { errors: vec![finding], warnings: Vec::new(), cause: Some(cause) })
        }
    };
    (read, outside.into_sources())
}

/// [`load`] for `text`, called `name` in reports; what it includes is looked for beside `name`.
///
/// # Errors
/// All mistakes at once, and the warnings with them.
pub fn load_str(name: &str, text: &str, names: &mut Names) -> Read {
    load_with((name, text), &Process, names)
}

/// The command `check`: what there is to say of the config at `path`, and whether it is usable. Warnings
/// alone do no harm.
#[must_use]
pub fn check(path: &Path, colour: bool) -> (String, bool) {
    match load(path, &mut Names::default()) {
        Err(report) => (report.render(colour), false),
        Ok((_, warnings)) => {
            let mut text: String = warnings.iter().map(|warning| warning.render(colour) + "\n").collect();
            text.push_str(&summary(0, warnings.len()));
            text.push('\n');
            (text, true)
        }
    }
}

/// [`load_str`], with variables and files from `outside`.
fn load_with((name, text): (&str, &str), outside: &dyn Outside, names: &mut Names) -> Read {
    let findings = Findings::default();
    let node = sources::read(name, text, outside, &findings);
    let mut named = names.clone();
    let config = read_all(&node, outside, &findings, &mut named);
    let (errors, warnings) = findings.into_parts();
    match config {
        Some(config) if errors.is_empty() => {
            *names = named;
            Ok((config, warnings))
        }
        _ => Err(Report { errors, warnings, cause: None }),
    }
}

/// The whole tree; what is returned is usable only where no error was found.
fn read_all(node: &Node, outside: &dyn Outside, findings: &Findings, names: &mut Names) -> Option<Config> {
    let top = Table::new(node, "", findings)?;
    version(&top);
    let _ = top.entry("include");
    let listen = server::listen(&top);
    let server = server::read(&top);
    let tls = tls::read(&top, &listen, outside);
    let bridge = bridge::read(&top);
    let mut shared = app::Shared {
        findings,
        pace: beat::read_general(&top),
        sign_out: bridge.sign_out,
        origins: Vec::new(),
        names: &mut *names,
    };
    let mut drafts = app::read_all(&top, &mut shared);
    let origins = shared.origins;
    app::number(&mut drafts, names, findings);
    let (rules, rule_texts): (Vec<RequestRule>, Vec<Box<str>>) = app::read_rules(&top).into_iter().unzip();
    let (registry, store) = places::store(&top, outside);
    let (admin, log) = (places::admin(&top), places::log(&top));
    places::unbuilt(&top);
    top.finish();
    check::overlaps(&drafts, &bridge.rules, findings);
    check::url_tokens(&mut drafts, findings);
    share::resolve(&mut drafts, findings);
    check::heartbeats(&drafts, findings);
    check::released(&drafts, &bridge.rules, findings);
    let plain: Vec<&ListenText> = listen.iter().filter(|own| tls.is_none() || !own.speaks_tls()).collect();
    let entrance = check::Entrance { plain: &plain, server: &server.options, bridge: &bridge.rules };
    check::exposure(&drafts, &entrance, findings);
    let routes: Vec<Route> = drafts.into_iter().map(|draft| draft.route).collect();
    if routes.is_empty() {
        let title = "there are no apps: every request is answered with 404".to_owned();
        findings.warn(report::Finding { title, at: None, also: None, help: None });
    }
    let routes = RouteMap::new(routes, rules, bridge.rules);
    let mut outline = Outline::of(node);
    // Files are renewed where they are.
    outline.add("tls.certificates", tls.as_ref().map_or(0, net::Tls::fingerprint));
    Some(Config {
        lines: Lines::of(node, &routes),
        outline,
        listen,
        tls,
        threads: server.threads,
        server: server.options,
        max_connections: server.max_connections,
        max_header_bytes: server.max_header_bytes,
        drain_timeout: server.drain_timeout,
        routes,
        rule_texts,
        origins,
        registry,
        store,
        admin,
        log,
    })
}

/// `version` says how the file is written; there is one way so far.
fn version(top: &Table<'_>) {
    let Some(node) = top.node("version") else { return };
    if !matches!(node.value, Value::Whole(Some(1))) {
        let title = "`version` must be 1";
        top.findings.error(report::Finding::at(
            &node.span,
            title,
            "this version of sessionbridge reads version 1",
        ));
    }
}

#[cfg(test)]
mod tests;
