//! Typed reading of one table: each reader names a key, says what is wrong with its value, and counts the key
//! as known.
//!
//! Nothing here stops at a mistake: a reader that finds one reports it and yields nothing, so that all are
//! found at once. What no reader asked for is unknown, which [`Table::finish`] reports.

use std::cell::RefCell;
use std::time::Duration;

use super::report::{Finding, Span};
use super::tree::{Findings, Key, Node, Value};
use super::units;

/// A string of the config.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) span: Span,
    literal: bool,
}

impl Text {
    /// The value in backticks where it stands in the file like that, else `otherwise`: what came from outside
    /// is not shown.
    pub(super) fn quoted(&self, otherwise: &str) -> String {
        if self.literal { format!("`{}`", self.text) } else { otherwise.to_owned() }
    }

    /// A piece of it, at the same place.
    pub(super) fn with(&self, piece: &str) -> Self {
        Self { text: piece.to_owned(), ..self.clone() }
    }

    /// True where the value stands in the file as it is.
    pub(super) const fn is_literal(&self) -> bool {
        self.literal
    }

    /// The value of `node`, where it is a string.
    pub(super) fn of(node: &Node) -> Option<Self> {
        match &node.value {
            Value::Text { text, literal } => {
                Some(Self { text: text.clone(), span: node.span.clone(), literal: *literal })
            }
            _ => None,
        }
    }
}

/// A value that may be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrOff<T> {
    Off,
    On(T),
}

impl<T> OrOff<T> {
    /// `None` where it is off.
    pub(super) fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

/// One table of the config.
pub(super) struct Table<'a> {
    /// As messages name it: "app `shop`", "`[server]`"; empty for the top of the file.
    pub(super) place: String,
    /// Where it begins.
    pub(super) span: Span,
    pub(super) findings: &'a Findings,
    entries: &'a [(Key, Node)],
    known: RefCell<Vec<&'static str>>,
    /// Of the known ones, those that are refused: nobody is told to write them.
    refused: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    /// The table `node`, which messages call `place`; `None`, and a report, where it is no table.
    pub(super) fn new(node: &'a Node, place: &str, findings: &'a Findings) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            if !matches!(node.value, Value::Broken) {
                let title = format!("{place} must be a table");
                findings.error(Finding::at(&node.span, title, format!("this is {}", node.value.kind())));
            }
            return None;
        };
        let (place, span) = (place.to_owned(), node.span.clone());
        Some(Self { place, span, findings, entries, known: RefCell::default(), refused: RefCell::default() })
    }

    /// Reports every key that no reader asked for.
    pub(super) fn finish(self) {
        let (known, refused) = (self.known.borrow(), self.refused.borrow());
        let offered = || known.iter().copied().filter(|key| !refused.contains(key));
        for (key, _) in self.entries.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            let place = if self.place.is_empty() { String::new() } else { format!(" in {}", self.place) };
            let label = match closest(&key.name, offered()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known here: {}", words(offered())),
            };
            self.findings.error(Finding::at(
                &key.span,
                format!("unknown setting `{}`{place}", key.name),
                label,
            ));
        }
    }

    /// All entries, for tables whose keys are names of the user's.
    pub(super) const fn entries(&self) -> &'a [(Key, Node)] {
        self.entries
    }

    /// The entry `key`.
    pub(super) fn entry(&self, key: &'static str) -> Option<&'a (Key, Node)> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        self.entries.iter().find(|(own, _)| own.name == key)
    }

    /// The value of `key`, where it is there and no mistake is known of it.
    pub(super) fn node(&self, key: &'static str) -> Option<&'a Node> {
        self.entry(key).map(|(_, node)| node).filter(|node| !matches!(node.value, Value::Broken))
    }

    /// True where `key` is written, well or not.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.entry(key).is_some()
    }

    /// The table under `key`, called `place` in messages.
    pub(super) fn table(&self, key: &'static str, place: &str) -> Option<Self> {
        Self::new(self.node(key)?, place, self.findings)
    }

    /// Reports that the value of `key` is no `wanted`.
    pub(super) fn wrong(&self, key: &str, node: &Node, wanted: &str) {
        let label = format!("this is {}", node.value.kind());
        self.findings.error(Finding::at(&node.span, format!("`{key}` must be {wanted}"), label));
    }

    /// The string under `key`.
    pub(super) fn text(&self, key: &'static str) -> Option<Text> {
        let node = self.node(key)?;
        let text = Text::of(node);
        if text.is_none() {
            self.wrong(key, node, "a string");
        }
        text
    }

    /// The strings under `key`: a string is a list of one.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<Text>> {
        let node = self.node(key)?;
        let Value::List(items) = &node.value else {
            let text = Text::of(node);
            if text.is_none() {
                self.wrong(key, node, "a string or a list of strings");
            }
            return text.map(|text| vec![text]);
        };
        let texts = items.iter().filter_map(|item| {
            let text = Text::of(item);
            if text.is_none() && !matches!(item.value, Value::Broken) {
                self.wrong(key, item, "a list of strings");
            }
            text
        });
        Some(texts.collect())
    }

    /// True or false.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Value::Bool(flag) => Some(*flag),
            Value::Text { text, literal: true } if text == "true" || text == "false" => {
                let title = format!("`{key}` must be true or false");
                self.findings.error(Finding::at(&node.span, title, format!("write {text} without quotes")));
                None
            }
            _ => {
                self.wrong(key, node, "true or false");
                None
            }
        }
    }

    /// A whole number of at least `least`.
    pub(super) fn whole(&self, key: &'static str, least: usize) -> Option<usize> {
        let node = self.node(key)?;
        let Value::Whole(number) = &node.value else {
            self.wrong(key, node, "a whole number");
            return None;
        };
        // 32 bits are more than any count here can mean, and fit everywhere.
        let number = number.and_then(|number| u32::try_from(number).ok()).map(|number| number as usize);
        if number.is_none_or(|number| number < least) {
            let label = format!("it must lie between {least} and {}", u32::MAX);
            self.findings.error(Finding::at(&node.span, format!("`{key}` is out of range"), label));
        }
        number.filter(|number| *number >= least)
    }

    /// The value of `key` by `read`, which says what is wrong; a bare number is told `bare`.
    pub(super) fn unit<T>(
        &self,
        key: &'static str,
        what: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.node(key)?;
        if let Value::Whole(_) | Value::Other("a fraction") = node.value {
            let number = match node.value {
                Value::Whole(Some(number)) => number.to_string(),
                _ => String::new(),
            };
            let label = read(&number).err().unwrap_or_default();
            let label = label.strip_prefix("a unit is missing: ").unwrap_or(&label);
            let title = format!("`{key}` must be {what} with its unit, not a bare number");
            self.findings.error(Finding::at(&node.span, title, label));
            return None;
        }
        let text = self.text(key)?;
        match read(&text.text) {
            Ok(value) => Some(value),
            Err(label) => {
                self.findings.error(Finding::at(&text.span, format!("`{key}` is not {what}"), label));
                None
            }
        }
    }

    /// The same, for a key that may be `"off"`.
    pub(super) fn unit_or_off<T>(
        &self,
        key: &'static str,
        what: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<OrOff<T>> {
        self.unit(key, what, |text| match text {
            "off" => Ok(OrOff::Off),
            _ => read(text).map(OrOff::On),
        })
    }

    /// A duration that cannot be off.
    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        self.unit(key, "a duration", |text| match text {
            "off" => Err("this one cannot be off".to_owned()),
            _ => units::duration(text),
        })
    }

    /// A duration, or off.
    pub(super) fn duration_or_off(&self, key: &'static str) -> Option<OrOff<Duration>> {
        self.unit_or_off(key, "a duration", units::duration)
    }

    /// One of `choices`, by its word.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        self.choose(&text, &format!("`{key}`"), choices)
    }

    /// One of `choices`, by the word `text`, which messages call `what`.
    pub(super) fn choose<T: Copy>(
        &self,
        text: &Text,
        what: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.text) {
            return Some(*value);
        }
        let all = || choices.iter().map(|(word, _)| *word);
        let label = match closest(&text.text, all()).filter(|_| text.literal) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("it is one of {}", words(all())),
        };
        let title = format!("{what} cannot be {}", text.quoted("what this stands for"));
        self.findings.error(Finding::at(&text.span, title, label));
        None
    }

    /// Refuses `key`, which is defined and not built yet, whatever it says.
    pub(super) fn unbuilt(&self, key: &'static str) {
        self.unbuilt_unless(key, |_| false);
    }

    /// Refuses `key`, which is defined and not built yet, unless its value is what is done anyway.
    pub(super) fn unbuilt_unless(&self, key: &'static str, is_default: impl Fn(&Value) -> bool) {
        self.refused.borrow_mut().push(key);
        let Some((own, _)) = self.entry(key).filter(|(_, node)| !is_default(&node.value)) else { return };
        let place = if self.place.is_empty() { String::new() } else { format!(" in {}", self.place) };
        let title = format!("`{key}`{place} is not built yet in this version");
        self.findings.error(Finding::at(&own.span, title, "take it out"));
    }
}

/// The one of `names` that `name` was most likely meant to be.
pub(super) fn closest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let folded = name.to_lowercase().replace('-', "_");
    names
        .map(|known| (strsim::jaro_winkler(&folded, &known.to_lowercase().replace('-', "_")), known))
        .filter(|(likeness, _)| *likeness > 0.84)
        .max_by(|one, two| one.0.total_cmp(&two.0))
        .map(|(_, known)| known)
}

/// A list of words in backticks.
pub(super) fn words<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// True for a value that is the string `word`.
pub(super) fn is_text(value: &Value, word: &str) -> bool {
    matches!(value, Value::Text { text, .. } if text == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = || ["upstreams", "path", "hosts", "case_insensitive"].into_iter();
        assert_eq!(closest("upstream", known()), Some("upstreams"));
        assert_eq!(closest("case-insensitive", known()), Some("case_insensitive"));
        assert_eq!(closest("zebra", known()), None);
    }
}
