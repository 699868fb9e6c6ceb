//! What a config says, key by key, in a form that only serves to tell what another one says otherwise.
//!
//! Invariant: no value is in it, only hashes that leave the process nowhere; what is told of a difference are names of keys.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};

use super::tree::{Node, Value};

/// The keys of a config.
#[derive(Clone, Default)]
pub struct Outline(BTreeMap<String, u64>);

/// One difference between two configs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// A key, or a table that is all new or all gone: `apps.shop`.
    pub key: String,
    /// What became of it.
    pub how: How,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It was not there before.
    Added,
    /// It is there no more.
    Removed,
    /// It has another value.
    Changed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.how {
            How::Added => '+',
            How::Removed => '-',
            How::Changed => '~',
        };
        write!(f, "{sign} {}", self.key)
    }
}

/// A config is shown without what it says.
impl fmt::Debug for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outline(..)")
    }
}

impl Outline {
    /// Of the whole tree `top`.
    pub(super) fn of(top: &Node) -> Self {
        let mut keys = BTreeMap::new();
        gather(top, "", &mut keys);
        Self(keys)
    }

    /// The value of `key` is more than what is written there.
    pub(super) fn add(&mut self, key: &str, more: u64) {
        if let Some(value) = self.0.get_mut(key) {
            *value = value.rotate_left(1) ^ more;
        }
    }

    /// What `new` says otherwise, by key.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let changed =
            self.0.iter().filter(|(key, value)| new.0.get(*key).is_some_and(|other| other != *value));
        let mut all: Vec<Change> =
            changed.map(|(key, _)| Change { key: key.clone(), how: How::Changed }).collect();
        all.extend(self.lacks(new).map(|key| Change { key, how: How::Added }));
        all.extend(new.lacks(self).map(|key| Change { key, how: How::Removed }));
        all.sort();
        all.dedup();
        all
    }

    /// Keys of `other` that are not here: of a table that is not here at all only its own.
    fn lacks<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = String> + 'a {
        other.0.keys().filter(|key| !self.0.contains_key(*key)).map(|key| {
            let ends = key.match_indices('.').map(|(at, _)| at);
            let prefixes = ends.filter_map(|at| key.get(..at));
            prefixes.into_iter().find(|prefix| !self.has(prefix)).unwrap_or(key).to_owned()
        })
    }

    /// True where `key` is here, or something below it.
    fn has(&self, key: &str) -> bool {
        let below = format!("{key}.");
        self.0.contains_key(key)
            || self.0.range(below.clone()..).next().is_some_and(|(own, _)| own.starts_with(&below))
    }
}

/// The keys below `node`. A list is one value, whatever is in it.
fn gather(node: &Node, path: &str, into: &mut BTreeMap<String, u64>) {
    let Value::Table(entries) = &node.value else { return };
    for (key, value) in entries {
        let here = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
        if matches!(&value.value, Value::Table(_)) {
            gather(value, &here, into);
        } else {
            let mut hasher = std::hash::DefaultHasher::new();
            hash(value, &mut hasher);
            into.insert(here, hasher.finish());
        }
    }
}

fn hash(node: &Node, into: &mut std::hash::DefaultHasher) {
    match &node.value {
        Value::Text { text, .. } => text.hash(into),
        Value::Whole(number) => number.hash(into),
        Value::Bool(value) => value.hash(into),
        Value::List(items) => {
            items.len().hash(into);
            items.iter().for_each(|item| hash(item, into));
        }
        Value::Table(entries) => {
            entries.len().hash(into);
            for (key, value) in entries {
                key.name.hash(into);
                hash(value, into);
            }
        }
        Value::Broken => "broken".hash(into),
        Value::Other(kind) => kind.hash(into),
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_str;
    use crate::names::Names;

    fn changes(old: &str, new: &str) -> Vec<String> {
        let outline = |text: &str| load_str("c", text, &mut Names::default()).unwrap().0.outline;
        outline(old).changes(&outline(new)).iter().map(ToString::to_string).collect()
    }

    const ONE: &str = "listen = \"127.0.0.1:1\"\n[apps.a]\nupstreams = \"http://h:1\"\n";

    #[test]
    fn a_difference_is_named_by_the_highest_key_that_says_it() {
        assert_eq!(changes(ONE, ONE), [""; 0]);
        assert_eq!(changes(ONE, &ONE.replace("h:1", "h:2")), ["~ apps.a.upstreams"]);
        let two = format!("{ONE}[apps.b]\npath = \"/b/\"\nupstreams = \"http://h:3\"\n");
        assert_eq!(changes(ONE, &two), ["+ apps.b"]);
        assert_eq!(changes(&two, ONE), ["- apps.b"]);
        assert_eq!(changes(ONE, &ONE.replace("apps.a", "apps.ab")), ["- apps.a", "+ apps.ab"]);
        let timeouts = format!("{ONE}[server]\nthreads = 1\n[server.timeouts]\nidle = \"9s\"\n");
        assert_eq!(changes(ONE, &timeouts), ["+ server"]);
        assert_eq!(changes(&format!("{ONE}[server]\nthreads = 1\n"), &timeouts), ["+ server.timeouts"]);
    }

    #[test]
    fn how_it_is_written_makes_no_difference() {
        let other = "# words\nlisten = ['127.0.0.1:1'] # more\napps = { a.upstreams = \"http://h:1\" }\n";
        assert_eq!(changes(&ONE.replace("\"127.0.0.1:1\"", "[\"127.0.0.1:1\"]"), other), [""; 0]);
    }
}
