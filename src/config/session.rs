//! `[apps.NAME.session]`: an engine's preset, and what the app says otherwise.
//!
//! A token rule that comes out of here has at least one part, and each part at least one place where it
//! rides.

use std::time::Duration;

use super::bridge::SAME_SITE;
use super::engines::{self, SessionType};
use super::report::{Finding, Span};
use super::server::set;
use super::table::{Table, Text, is_text};
use super::tree::{Key, Node, Value};
use crate::bridge::rules::{
    Adopt, CookieMode, Disposition, Engine, FormTokens, PartRule, SessionRules, SetCookiePolicy, Shape,
    TokenRule,
};
use crate::wire::pattern::Glob;

/// A session table, but for the URL tokens that may name other apps.
pub(super) struct Draft {
    pub(super) rules: SessionRules,
    /// Parameter and what it carries: `CFID` or `appA.CFID`.
    pub(super) url_tokens: Vec<(Key, Text)>,
    /// Where `adopt` is written, else the first URL token.
    pub(super) adopt: Option<Span>,
    /// The group whose apps have one session.
    pub(super) share: Option<Text>,
}

/// Where an app's tokens are kept, by word.
const MODES: [(&str, CookieMode); 3] =
    [("vault", CookieMode::Vault), ("prefix", CookieMode::Prefix), ("pass", CookieMode::Pass)];

/// What is done with a cookie, by word.
const DISPOSITIONS: [(&str, Disposition); 5] = [
    ("vault", Disposition::Vault),
    ("prefix", Disposition::Prefix),
    ("pass", Disposition::Pass),
    ("as-is", Disposition::AsIs),
    ("drop", Disposition::Drop),
];

/// Stands in where neither the app nor its engine says how long sessions live.
const TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// Reads the session of the app that `app` is; `None` where it has none, or an engine that is not known.
pub(super) fn read(app: &Table<'_>) -> Option<Draft> {
    let table = app.table("session", &format!("session of {}", app.place))?;
    let engine = table.choice("engine", &engines::NAMES);
    let of = session_type(&table, engine);
    let (tokens, timeout) = (tokens(&table, engine, of), timeout(&table, engine));
    let cookies = table.choice("cookies", &MODES).unwrap_or(CookieMode::Vault);
    let persistent = table.flag("persistent").unwrap_or(false);
    let exceptions = exceptions(&table, engine);
    let set_cookie = set_cookie(&table);
    let url_tokens = url_tokens(&table);
    let keep_url_tokens = table.flag("keep_url_tokens").unwrap_or(false);
    let form_tokens = table
        .choice("form_tokens", &[("cut", FormTokens::Cut), ("pass", FormTokens::Pass)])
        .unwrap_or(FormTokens::Cut);
    let words = [("proven", Adopt::Proven), ("legacy", Adopt::Legacy), ("never", Adopt::Never)];
    let adopt = table.choice("adopt", &words).unwrap_or(Adopt::Proven);
    let adopt_span = table
        .node("adopt")
        .map(|node| node.span.clone())
        .or_else(|| url_tokens.first().map(|(key, _)| key.span.clone()));
    let share = share(&table, cookies);
    table.unbuilt_unless("serialize", |value| matches!(value, Value::Bool(false)));
    if !table.has("engine")
        && let Some((key, _)) = table.entries().first()
    {
        let label = "without an engine the app is proxied plainly";
        let title = format!("session of {} has no `engine`", app.place);
        table.findings.error(Finding::at(&key.span, title, label));
    }
    table.finish();
    let rules = SessionRules {
        engine: engine?,
        tokens,
        timeout,
        cookies,
        persistent,
        exceptions,
        set_cookie,
        url_tokens: Vec::new(),
        keep_url_tokens,
        form_tokens,
        adopt,
        shares: Vec::new(),
    };
    Some(Draft { rules, url_tokens, adopt: adopt_span, share })
}

/// The group whose apps have one session. Only tokens that are kept here can be given to another app.
fn share(table: &Table<'_>, cookies: CookieMode) -> Option<Text> {
    let share = table.text("share")?;
    if cookies != CookieMode::Vault {
        let label = "the browser has this app's tokens: with `cookies = \"vault\"` they can be shared";
        table.findings.error(Finding::at(&share.span, "`share` needs the vault", label));
    }
    Some(share)
}

fn session_type(table: &Table<'_>, engine: Option<Engine>) -> SessionType {
    let words = [("auto", SessionType::Auto), ("cf", SessionType::Cf), ("j2ee", SessionType::J2ee)];
    let of = table.choice("type", &words);
    if let Some(((key, _), engine)) =
        table.entry("type").zip(engine).filter(|(_, engine)| !engines::has_types(*engine))
    {
        let title = format!("`type` means nothing to the engine `{}`", engines::name(engine));
        table.findings.error(Finding::at(
            &key.span,
            title,
            "only coldfusion and lucee have types of sessions",
        ));
    }
    of.unwrap_or(SessionType::Auto)
}

fn timeout(table: &Table<'_>, engine: Option<Engine>) -> Duration {
    let usual = engine.and_then(engines::timeout);
    if let (Some(engine), None, false) = (engine, usual, table.has("timeout")) {
        let span = table.node("engine").map_or(&table.span, |node| &node.span);
        let title = format!("{} has no `timeout`", table.place);
        let label = format!("{} apps choose their own; 20 minutes are assumed", engines::name(engine));
        table.findings.warn(Finding::at(span, title, label).help("say it: `session.timeout = \"20m\"`"));
    }
    table.duration("timeout").or(usual).unwrap_or(TIMEOUT)
}

/// The preset's tokens, or the ones that the app names.
fn tokens(table: &Table<'_>, engine: Option<Engine>, of: SessionType) -> Vec<TokenRule> {
    let own = own_tokens(table, engine);
    let Some(engine) = engine else { return Vec::new() };
    let named = table.entry("tokens");
    match (engine, named) {
        (Engine::Custom, None) => {
            let span = table.node("engine").map_or(&table.span, |node| &node.span);
            let finding =
                Finding::at(span, "the engine `custom` needs `session.tokens`", "which tokens does it have?");
            table.findings.error(finding.help("`session.tokens = [{ name = \"SID\", cookie = \"SID\" }]`"));
            Vec::new()
        }
        (Engine::Custom | Engine::Rails, Some(_)) => own,
        (_, Some((key, _))) => {
            let title = format!("the engine `{}` has its own tokens", engines::name(engine));
            table.findings.error(Finding::at(&key.span, title, "only for the engine `custom`"));
            Vec::new()
        }
        (_, None) => engines::tokens(engine, of).unwrap_or_else(|error| {
            table.findings.error(Finding::at(
                &table.span,
                "the engine's shapes are broken",
                error.to_string(),
            ));
            Vec::new()
        }),
    }
}

fn own_tokens(table: &Table<'_>, engine: Option<Engine>) -> Vec<TokenRule> {
    let Some(node) = table.node("tokens") else { return Vec::new() };
    let Value::List(items) = &node.value else {
        table.wrong("tokens", node, "a list of tables");
        return Vec::new();
    };
    let rails = engine == Some(Engine::Rails);
    if items.is_empty() || (rails && items.len() > 1) {
        let label = if rails { "a rails app has one" } else { "name at least one" };
        table.findings.error(Finding::at(&node.span, "`tokens` has the wrong number of tokens", label));
    }
    let mut seen: Vec<(String, Span)> = Vec::new();
    let mut rules = Vec::new();
    for item in items {
        let Some(entry) = Table::new(item, &format!("`tokens` in {}", table.place), table.findings) else {
            continue;
        };
        let name = entry.text("name");
        if let Some(name) = &name {
            let folded = name.text.to_ascii_lowercase();
            match seen.iter().find(|(other, _)| *other == folded) {
                Some((_, first)) => {
                    let finding = Finding::at(&name.span, "two tokens have one name", "here again");
                    table.findings.error(finding.also(first, "first here"));
                }
                None => seen.push((folded, name.span.clone())),
            }
        }
        rules.extend(own_token(entry, name, rails));
    }
    rules
}

/// One entry of `tokens`. A rails session rides in a cookie and changes with every answer, whatever else is
/// said.
fn own_token(entry: Table<'_>, name: Option<Text>, rails: bool) -> Option<TokenRule> {
    if !entry.has("name") {
        entry.findings.error(Finding::at(&entry.span, "a token has no `name`", "how is it called?"));
    }
    let place = |key: &'static str| {
        let text = entry.text(key)?;
        if text.text.is_empty() || text.text.bytes().any(|octet| octet <= b' ' || b";,=".contains(&octet)) {
            entry.findings.error(Finding::at(&text.span, format!("`{key}` is no name"), ""));
        }
        Some(text.text.into_boxed_str())
    };
    let mut cookie = place("cookie");
    let (mut query, mut path_param) = (None, None);
    let mut rolling = rails;
    if rails {
        cookie = cookie.or_else(|| name.as_ref().map(|name| name.text.as_str().into()));
    } else {
        (query, path_param) = (place("query"), place("path_param"));
        set(&mut rolling, entry.flag("rolling"));
        let nowhere = !["cookie", "query", "path_param"].into_iter().any(|key| entry.has(key));
        if nowhere && let Some(name) = &name {
            let label = "it needs `cookie`, `query` or `path_param`";
            entry.findings.error(Finding::at(&name.span, "a token rides nowhere", label));
        }
    }
    let shape = match entry.text("pattern") {
        Some(text) => {
            Shape::new(&text.text).map_err(|error| super::beat::bad_regex(&entry, "pattern", &text, &error))
        }
        None => Shape::new(engines::OPAQUE).map_err(|_| ()),
    };
    let rideless = cookie.is_none() && query.is_none() && path_param.is_none();
    entry.finish();
    let (name, shape) = (name?, shape.ok()?);
    if rideless {
        return None;
    }
    let part = PartRule { name: name.text.into(), cookie, query, path_param, segment: false, shape };
    Some(TokenRule { parts: vec![part], rolling })
}

/// The app's exceptions in the order of the file, then the engine's.
fn exceptions(table: &Table<'_>, engine: Option<Engine>) -> Vec<(Glob, Disposition)> {
    let mut list = Vec::new();
    if let Some(own) = table.table("exceptions", &format!("`exceptions` in {}", table.place)) {
        for (key, node) in own.entries() {
            if let Some(what) = choose_disposition(&own, key, node) {
                list.push((Glob::new(&key.name).ignore_case(), what));
            }
        }
    }
    let preset = engine.map_or(&[][..], engines::exceptions);
    list.extend(preset.iter().map(|(name, what)| (Glob::new(name).ignore_case(), *what)));
    list
}

fn choose_disposition(table: &Table<'_>, key: &Key, node: &Node) -> Option<Disposition> {
    let Some(text) = Text::of(node) else {
        if !matches!(node.value, Value::Broken) {
            table.wrong(&key.name, node, "a string");
        }
        return None;
    };
    table.choose(&text, &format!("what is done with the cookie `{}`", key.name), &DISPOSITIONS)
}

fn set_cookie(table: &Table<'_>) -> SetCookiePolicy {
    let mut policy = SetCookiePolicy::default();
    let Some(own) = table.table("set_cookie", &format!("`set_cookie` in {}", table.place)) else {
        return policy;
    };
    policy.secure = own.flag("secure");
    policy.http_only = own.flag("http_only");
    policy.same_site = own.choice("same_site", &SAME_SITE);
    policy.partitioned = own.flag("partitioned");
    let unfit =
        own.node("same_site").filter(|node| is_text(&node.value, "None") && policy.secure == Some(false));
    if let Some(node) = unfit {
        let label = "browsers refuse `SameSite=None` without `Secure`";
        table.findings.warn(Finding::at(&node.span, "cookies that browsers will not keep", label));
    }
    own.finish();
    policy
}

fn url_tokens(table: &Table<'_>) -> Vec<(Key, Text)> {
    let place = format!("`url_tokens` in {}", table.place);
    let Some(own) = table.table("url_tokens", &place) else { return Vec::new() };
    let mut list: Vec<(Key, Text)> = Vec::new();
    for (key, node) in own.entries() {
        let Some(text) = Text::of(node) else {
            if !matches!(node.value, Value::Broken) {
                own.wrong(&key.name, node, "a string such as \"CFID\" or \"appA.CFID\"");
            }
            continue;
        };
        match list.iter().find(|(other, _)| other.name.eq_ignore_ascii_case(&key.name)) {
            Some((first, _)) => {
                let title = format!("the parameter `{}` is mapped twice: case means nothing", key.name);
                table
                    .findings
                    .error(Finding::at(&key.span, title, "here again").also(&first.span, "first here"));
            }
            None => list.push((key.clone(), text)),
        }
    }
    list
}
