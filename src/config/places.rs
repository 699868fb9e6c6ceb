//! `[store]`, `[admin]`, `[log]`, and the tables that are not built yet.
//!
//! An admin listener that others can reach has a token.

use std::path::PathBuf;

use http::HeaderName;

use super::address;
use super::options::{
    AccessLog, AdminOptions, ListenText, LogFormat, LogLevel, LogOptions, StoreKind, StoreOptions,
};
use super::report::Finding;
use super::server::set;
use super::table::{Table, is_text};
use super::tree::Value;
use super::valkey;
use super::vars::Outside;
use crate::registry::options::Options;
use crate::secret::Secret;

/// Reads `[store]` of the top table: the table of live sessions, and where they are kept.
pub(super) fn store(top: &Table<'_>, outside: &dyn Outside) -> (Options, StoreOptions) {
    let mut options = Options { max_sessions: 1_000_000 };
    let mut store = StoreOptions { kind: StoreKind::Embedded, path: None, keys_file: "keys".into() };
    let Some(table) = top.table("store", "`[store]`") else { return (options, store) };
    let kinds = [("embedded", Kind::Embedded), ("valkey", Kind::Valkey), ("memory", Kind::Memory)];
    let kind = table.choice("kind", &kinds).unwrap_or(Kind::Embedded);
    store.path = folder(&table);
    if let Some(file) = table.text("keys_file") {
        if file.text.is_empty() {
            let label = "a file; a name alone is one in the store's folder";
            table.findings.error(Finding::at(&file.span, "`keys_file` is empty", label));
        }
        store.keys_file = file.text.into();
    }
    let shared = valkey::read(&table, kind == Kind::Valkey);
    match (kind, shared) {
        (Kind::Memory, _) => store.kind = StoreKind::Memory,
        (Kind::Valkey, Some(shared)) => store.kind = StoreKind::Valkey(Box::new(shared)),
        // What is missing has been said.
        (Kind::Embedded | Kind::Valkey, _) => {}
    }
    set(&mut options.max_sessions, table.whole("max_sessions", 1));
    valkey::look_for_keys(&table, &store, outside);
    table.finish();
    (options, store)
}

/// The words of `kind`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    Valkey,
    Memory,
}

fn folder(store: &Table<'_>) -> Option<PathBuf> {
    let path = store.text("path")?;
    if !path.text.starts_with('/') {
        let title = "`path` must be absolute";
        store.findings.error(Finding::at(&path.span, title, "e.g. \"/var/lib/sessionbridge\""));
        return None;
    }
    Some(path.text.into())
}

/// Reads `[admin]` of the top table.
pub(super) fn admin(top: &Table<'_>) -> AdminOptions {
    let mut admin =
        AdminOptions { listen: Some(ListenText("127.0.0.1:9190".into())), token: None, user_header: None };
    let Some(table) = top.table("admin", "`[admin]`") else { return admin };
    let listen = table.text("listen");
    match &listen {
        Some(text) if text.text == "off" => admin.listen = None,
        Some(text) => {
            let title = "`admin.listen` cannot be used";
            set(&mut admin.listen, address::read(text, title, table.findings, address::listen).map(Some));
        }
        None => {}
    }
    admin.token = table.text("token").and_then(|text| {
        if text.text.trim().is_empty() {
            table.findings.error(Finding::at(
                &text.span,
                "`token` is empty",
                "make one: `openssl rand -hex 32`",
            ));
            return None;
        }
        Some(Secret::new(text.text.trim().as_bytes()))
    });
    if let Some(text) =
        listen.filter(|_| !table.has("token") && admin.listen.as_ref().is_some_and(|own| !own.is_local()))
    {
        let finding = Finding::at(
            &text.span,
            "`admin` can be reached by others and has no `token`",
            "this address is not local",
        );
        table.findings.error(
            finding.help("`token = \"${file:/etc/sessionbridge/admin-token}\"`, or listen at 127.0.0.1"),
        );
    }
    admin.user_header = table.text("user_header").filter(|text| !text.text.is_empty()).and_then(|text| {
        let name = text.text.parse::<HeaderName>().ok();
        if name.is_none() {
            table.findings.error(Finding::at(
                &text.span,
                "`user_header` is no name of a header",
                "e.g. \"X-Remote-User\"",
            ));
        }
        name
    });
    table.finish();
    admin
}

/// Reads `[log]` of the top table.
pub(super) fn log(top: &Table<'_>) -> LogOptions {
    let mut log = LogOptions { level: LogLevel::Info, format: LogFormat::Auto, access: AccessLog::Stdout };
    let Some(table) = top.table("log", "`[log]`") else { return log };
    let levels = [
        ("off", LogLevel::Off),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    set(&mut log.level, table.choice("level", &levels));
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    set(&mut log.format, table.choice("format", &formats));
    log.access = match table.text("access") {
        None => AccessLog::Stdout,
        Some(text) if text.text == "stdout" => AccessLog::Stdout,
        Some(text) if text.text == "off" => AccessLog::Off,
        Some(text) if text.text.contains('/') => AccessLog::File(text.text.into()),
        Some(text) => {
            let label = "`stdout`, `off`, or a file with its path: \"/var/log/sessionbridge/access.log\"";
            let title = format!("`access` cannot be {}", text.quoted("what this stands for"));
            table.findings.error(Finding::at(&text.span, title, label));
            AccessLog::Stdout
        }
    };
    table.finish();
    log
}

/// Refuses what is defined and not built yet at the top of the file.
pub(super) fn unbuilt(top: &Table<'_>) {
    top.unbuilt_unless("traces", |value| {
        let Value::Table(entries) = value else { return false };
        entries.iter().all(|(key, node)| key.name == "otlp" && is_text(&node.value, ""))
    });
}
