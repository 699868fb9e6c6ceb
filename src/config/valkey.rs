//! `[store.valkey]`: which servers the proxies share, and what holds while they are away.
//!
//! Invariants: an address that comes out of here can be dialled as it is; what may hold a password is quoted nowhere.

use super::address::{self, StoreServer};
use super::options::StoreOptions;
use super::report::Finding;
use super::server::set;
use super::table::{Table, Text};
use super::vars::Outside;
use crate::secret::Secret;
use crate::store::shared::{OnOutage, SharedOptions, Topology};

/// The words of `topology`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

/// Bytes that every key may begin with, at the most.
const LONGEST_PREFIX: usize = 32;

/// Reads `[store.valkey]` of `store`. `wanted`: the config says that sessions are kept there, so it has to be complete.
pub(super) fn read(store: &Table<'_>, wanted: bool) -> Option<SharedOptions> {
    let Some(table) = store.table("valkey", "`[store.valkey]`") else {
        if wanted && !store.has("valkey") {
            let span = store.node("kind").map_or(&store.span, |node| &node.span);
            let finding = Finding::at(span, "`[store.valkey]` is missing", "which server?");
            store.findings.error(finding.help(EXAMPLE));
        }
        return None;
    };
    let kind = kind(&table);
    let topology = topology(&table, kind);
    let urls = urls(&table, kind, wanted);
    let prefix = prefix(&table);
    let mut on_outage = OnOutage::Degrade;
    let words = [("degrade", OnOutage::Degrade), ("strict", OnOutage::Strict)];
    set(&mut on_outage, table.choice("on_outage", &words));
    if !wanted && table.has("urls") {
        let title = "`[store.valkey]` is not used: `store.kind` is another";
        table.findings.warn(Finding::at(&table.span, title, "say `kind = \"valkey\"` in `[store]`"));
    }
    table.finish();
    Some(SharedOptions { urls: urls?, topology: topology?, prefix: prefix?, on_outage })
}

/// What to write where nothing is written.
const EXAMPLE: &str = "name it: `[store.valkey]` with `urls = [\"valkey://user:${file:/run/secrets/valkey}@valkey.example.org:6379/0\"]`";

fn kind(table: &Table<'_>) -> Kind {
    let kinds = [("single", Kind::Single), ("sentinel", Kind::Sentinel), ("cluster", Kind::Cluster)];
    table.choice("topology", &kinds).unwrap_or(Kind::Single)
}

/// The topology, whole.
fn topology(table: &Table<'_>, kind: Kind) -> Option<Topology> {
    let master = table.text("master");
    match (kind, master) {
        (Kind::Single, None) => Some(Topology::Single),
        (Kind::Cluster, None) => Some(Topology::Cluster),
        (Kind::Sentinel, Some(master)) if !master.text.trim().is_empty() => {
            Some(Topology::Sentinel { master: master.text.trim().to_owned() })
        }
        (Kind::Sentinel, Some(master)) => {
            let label = "as the sentinels call it: \"mymaster\"";
            table.findings.error(Finding::at(&master.span, "`master` is empty", label));
            None
        }
        (Kind::Sentinel, None) => {
            if !table.has("master") {
                let span = table.node("topology").map_or(&table.span, |node| &node.span);
                let finding =
                    Finding::at(span, "sentinels watch over servers by name", "`master` is missing");
                table.findings.error(finding.help("e.g. `master = \"mymaster\"`, as in `sentinel monitor`"));
            }
            None
        }
        (_, Some(master)) => {
            let label = "only sentinels know servers by name: `topology = \"sentinel\"`";
            table.findings.error(Finding::at(&master.span, "`master` is for sentinels", label));
            None
        }
    }
}

/// The servers, at least one.
fn urls(table: &Table<'_>, kind: Kind, wanted: bool) -> Option<Vec<Secret>> {
    let Some(texts) = table.texts("urls") else {
        if wanted && !table.has("urls") {
            let finding = Finding::at(&table.span, "`[store.valkey]` has no `urls`", "which server?");
            table.findings.error(finding.help(EXAMPLE));
        }
        return None;
    };
    if let Some(node) = table.node("urls").filter(|_| texts.is_empty()) {
        table.findings.error(Finding::at(&node.span, "`urls` is empty", "which server?").help(EXAMPLE));
    }
    if let Some(second) = texts.get(1).filter(|_| kind == Kind::Single) {
        let finding = Finding::at(&second.span, "`urls` names several servers", "`single` is one");
        let help = "where they are sentinels, or a cluster, say so: `topology = \"sentinel\"`, `\"cluster\"`";
        table.findings.error(finding.help(help));
    }
    let servers: Vec<_> = texts.iter().filter_map(|text| server(table, text, kind)).collect();
    let whole = !texts.is_empty() && servers.len() == texts.len();
    let tls = servers.first()?.tls;
    if let Some((_, other)) = servers.iter().zip(&texts).find(|(own, _)| whole && own.tls != tls) {
        let title = "`urls` mixes servers with TLS and without";
        table.findings.error(Finding::at(&other.span, title, "unlike the first"));
    }
    whole.then(|| servers.into_iter().map(|own| Secret::new(own.url.into_bytes())).collect())
}

fn server(table: &Table<'_>, text: &Text, kind: Kind) -> Option<StoreServer> {
    let title = "one of `urls` cannot be used";
    let port = if kind == Kind::Sentinel { 26379 } else { 6379 };
    let server = address::read(text, title, table.findings, |text| address::store(text, port))?;
    if kind == Kind::Cluster && server.database != 0 {
        let label = "a cluster has no database but 0";
        table.findings.error(Finding::at(&text.span, title, label));
        return None;
    }
    Some(server)
}

/// What all keys begin with.
fn prefix(table: &Table<'_>) -> Option<String> {
    let Some(text) = table.text("prefix") else { return Some("sb:".to_owned()) };
    let says = if text.text.is_empty() {
        "other programs' keys may stand beside: \"sb:\""
    } else if text.text.len() > LONGEST_PREFIX {
        "every key begins with it: 32 signs at the most"
    } else if !text.text.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}*?[]\\".contains(&byte)) {
        // Braces would tie all keys to one server of a cluster.
        "letters, digits and signs but `{`, `}`, `*`, `?`, `[`, `]`"
    } else {
        return Some(text.text);
    };
    table.findings.error(Finding::at(&text.span, "`prefix` cannot be used", says));
    None
}

/// Warns where the keys are not there: no proxy can make them, since all must have the same.
pub(super) fn look_for_keys(store: &Table<'_>, options: &StoreOptions, outside: &dyn Outside) {
    let Some((_, keys)) = options.shared(|name| outside.variable(name)) else { return };
    if outside.has(&keys) {
        return;
    }
    let span = ["keys_file", "kind"]
        .into_iter()
        .find_map(|key| store.node(key))
        .map_or(&store.span, |node| &node.span);
    let finding =
        Finding::at(span, "the key file is not there", "all proxies need the same one, so none is made");
    let path = keys.display();
    let help = format!(
        "make it once, and copy it: `echo \"k1 $(openssl rand -base64 32)\" > {path}; chmod 600 {path}`"
    );
    store.findings.warn(finding.help(help));
}
