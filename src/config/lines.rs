//! Where the settings of each app stand, kept after the config was read: what turns out at run time is said with its line.
//!
//! Invariant: places only; no value is kept but the masked text of the files.

use std::collections::BTreeMap;
use std::fmt;

use annotate_snippets::Level;

use super::report::{Finding, Span};
use super::tree::{Node, Value};
use crate::bridge::rules::AppIx;
use crate::findings::{self, Found, Kind, Places};
use crate::route::RouteMap;

/// The places of the settings below `[apps]`.
#[derive(Clone, Default)]
pub struct Lines {
    apps: Vec<Own>,
}

/// A config is shown without the text of its files.
impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines(of {} apps)", self.apps.len())
    }
}

/// Those of one app.
#[derive(Clone)]
struct Own {
    name: String,
    /// `None` where its table is none.
    app: Option<AppIx>,
    /// Where its name stands.
    at: Span,
    /// By key below the app: `heartbeat.path`.
    keys: BTreeMap<String, Span>,
}

impl Lines {
    /// Of the whole tree `top`, whose apps are `routes`.
    pub(super) fn of(top: &Node, routes: &RouteMap) -> Self {
        let apps = entries(top).find(|(key, _)| key.name == "apps");
        let own = apps.into_iter().flat_map(|(_, apps)| entries(apps)).map(|(key, node)| {
            let mut keys = BTreeMap::new();
            gather(node, "", &mut keys);
            let app = routes.named(&key.name).map(|route| route.rules.app);
            Own { name: key.name.clone(), app, at: key.span.clone(), keys }
        });
        Self { apps: own.collect() }
    }

    /// The place of what each kind of finding is about, for each app.
    #[must_use]
    pub fn places(&self) -> Places {
        let apps = self.apps.iter().filter_map(|own| Some((own.app?, own)));
        let of =
            |(app, own): (AppIx, &Own)| Kind::ALL.map(|kind| ((app, kind), own.nearest(kind.key()).line()));
        apps.flat_map(of).collect()
    }

    /// What was found, as people read it, at the line that it is about; no newline at its end.
    #[must_use]
    pub fn render(&self, found: &Found, colour: bool) -> String {
        let own = self.apps.iter().find(|own| own.app == Some(found.app));
        let name = own.map_or("?", |own| &own.name);
        let title = format!("{name}: {}", found.says);
        if found.level == findings::Level::Good {
            return format!("good: {title}");
        }
        let level = if found.level == findings::Level::Note { Level::NOTE } else { Level::WARNING };
        let at = own.map(|own| (own.nearest(found.kind.key()).clone(), String::new()));
        Finding { title, at, also: None, help: None }.render(&level, colour)
    }
}

impl Own {
    /// Where `key` (`heartbeat.path`) stands, or the nearest that is written: its table, or the app.
    fn nearest(&self, key: &str) -> &Span {
        let mut key = key;
        loop {
            if let Some(span) = self.keys.get(key) {
                return span;
            }
            match key.rsplit_once('.') {
                Some((table, _)) => key = table,
                None => return &self.at,
            }
        }
    }
}

fn entries(node: &Node) -> impl Iterator<Item = &(super::tree::Key, Node)> {
    let list = if let Value::Table(entries) = &node.value { entries.as_slice() } else { &[] };
    list.iter()
}

/// The keys below `node`: of a table its name, since its own place may be all of it.
fn gather(node: &Node, path: &str, into: &mut BTreeMap<String, Span>) {
    for (key, value) in entries(node) {
        let here = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
        let is_table = matches!(value.value, Value::Table(_));
        let span = if is_table { &key.span } else { &value.span };
        gather(value, &here, into);
        into.insert(here, span.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_str;
    use super::*;
    use crate::names::Names;
    use crate::time::Timestamp;

    const CONFIG: &str = "listen = \"127.0.0.1:0\"
[apps.appA]
path = \"/AppA/\"
upstreams = [\"http://127.0.0.1:1\"]
session.engine = \"lucee\"
heartbeat = { path = \"/AppA/ping.cfm\", canary = { header = \"X-A\" } }
[apps.appB]
path = \"/AppB/\"
upstreams = [\"http://127.0.0.1:2\"]
";

    #[test]
    fn a_key_has_its_line_and_one_that_is_not_there_that_of_its_app() {
        let places = load_str("my.toml", CONFIG, &mut Names::default()).unwrap().0.lines.places();
        let line = |app, kind| places[&(AppIx(app), kind)].as_str();
        assert_eq!(line(0, Kind::Token), "my.toml:5");
        assert_eq!(line(0, Kind::HeartbeatPage), "my.toml:6");
        assert_eq!(line(0, Kind::Timeout), "my.toml:5", "its table is there");
        assert_eq!(line(0, Kind::SignOut), "my.toml:2");
        assert_eq!(line(1, Kind::Extends), "my.toml:7");
        assert_eq!(places.len(), 2 * Kind::ALL.len());
    }

    #[test]
    fn what_was_found_is_shown_with_a_caret() {
        let lines = load_str("my.toml", CONFIG, &mut Names::default()).unwrap().0.lines;
        let found = |level| Found {
            at: Timestamp::ZERO,
            app: AppIx(0),
            kind: Kind::HeartbeatPage,
            level,
            says: "it answers 404".to_owned(),
        };
        let text = lines.render(&found(findings::Level::Warning), false);
        assert!(text.starts_with("warning: appA: it answers 404"), "{text}");
        assert!(text.contains("my.toml:6:22") && text.contains("^^^^"), "{text}");
        assert!(lines.render(&found(findings::Level::Note), false).starts_with("note: "));
        assert_eq!(lines.render(&found(findings::Level::Good), false), "good: appA: it answers 404");
    }
}
