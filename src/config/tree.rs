//! The config as a tree in which every key and value knows its file and place.
//!
//! Built from `toml`'s own spanned tree, with references resolved; several files become one tree here, and no
//! later step knows that there was more than one.

use std::cell::RefCell;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::report::{Finding, Source, Span, Warning};
use super::vars::{self, Outside};

/// Where findings go while the config is read.
#[derive(Default)]
pub(super) struct Findings {
    errors: RefCell<Vec<Finding>>,
    warnings: RefCell<Vec<Warning>>,
}

impl Findings {
    pub(super) fn error(&self, finding: Finding) {
        self.errors.borrow_mut().push(finding);
    }

    pub(super) fn warn(&self, finding: Finding) {
        self.warnings.borrow_mut().push(Warning(finding));
    }

    /// All of them, errors in the order of the files' lines.
    pub(super) fn into_parts(self) -> (Vec<Finding>, Vec<Warning>) {
        let place = |finding: &Finding| {
            finding.at.as_ref().map(|(span, _)| (span.source.name.clone(), span.range.start))
        };
        let (mut errors, mut warnings) = (self.errors.into_inner(), self.warnings.into_inner());
        errors.sort_by_key(place);
        warnings.sort_by_key(|warning| place(&warning.0));
        (errors, warnings)
    }
}

/// A key and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) span: Span,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text, and whether it stands in the file like that: only then may a message quote it.
    Text {
        text: String,
        literal: bool,
    },
    /// A whole number; `None` where it is beyond 64 bits.
    Whole(Option<i64>),
    Bool(bool),
    List(Vec<Node>),
    Table(Vec<(Key, Node)>),
    /// A string whose references could not be resolved. Reported where it was read, and then nobody's
    /// business.
    Broken,
    /// Nothing that any setting takes: a fraction, a date.
    Other(&'static str),
}

impl Value {
    /// What it is, for a message.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } | Self::Broken => "a string",
            Self::Whole(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// The tree of the file `source` with the real `text`. What does not parse is reported, and the rest is read
/// all the same.
pub(super) fn parse(source: &Arc<Source>, text: &str, outside: &dyn Outside, findings: &Findings) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let range = error.span().unwrap_or(0..0);
        let span = Span { source: Arc::clone(source), range };
        findings.error(Finding::at(&span, error.message().trim(), ""));
    }
    let builder = Builder { source, outside, findings };
    let range = table.span();
    Node { span: builder.span(range), value: builder.table(table.get_ref()) }
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    outside: &'a dyn Outside,
    findings: &'a Findings,
}

impl Builder<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span { source: Arc::clone(self.source), range }
    }

    fn table(&self, table: &DeTable<'_>) -> Value {
        let entries = table.iter().map(|(key, value)| {
            let name = key.get_ref().clone().into_owned();
            let node =
                Node { span: self.span(value.span()), value: self.value(value.get_ref(), &value.span()) };
            (Key { name, span: self.span(key.span()) }, node)
        });
        Value::Table(entries.collect())
    }

    fn value(&self, value: &DeValue<'_>, range: &std::ops::Range<usize>) -> Value {
        match value {
            DeValue::String(text) => self.text(text, range),
            DeValue::Integer(number) => {
                Value::Whole(i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Float(_) => Value::Other("a fraction"),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(_) => Value::Other("a date or time"),
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| Node {
                        span: self.span(item.span()),
                        value: self.value(item.get_ref(), &item.span()),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => self.table(table),
        }
    }

    fn text(&self, text: &str, range: &std::ops::Range<usize>) -> Value {
        match vars::resolve(text, self.outside) {
            Ok(None) => Value::Text { text: text.to_owned(), literal: true },
            Ok(Some(text)) => Value::Text { text, literal: false },
            Err(unresolved) => {
                let span = self.span(range.clone());
                self.findings.error(Finding::at(&span, unresolved.title, unresolved.label));
                Value::Broken
            }
        }
    }
}

/// Adds what `from` says to `into`: tables by name, `[[rules]]` and certificates one after the other. What both say is
/// reported.
pub(super) fn merge(into: &mut Node, from: Node, findings: &Findings) {
    merge_at(into, from, "", findings);
}

fn merge_at(into: &mut Node, from: Node, path: &str, findings: &Findings) {
    let (Value::Table(ours), Value::Table(theirs)) = (&mut into.value, from.value) else { return };
    for (key, node) in theirs {
        let here = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
        let Some((own_key, own)) = ours.iter_mut().find(|(own, _)| own.name == key.name) else {
            ours.push((key, node));
            continue;
        };
        match (&mut own.value, &node.value) {
            (Value::List(list), Value::List(more)) if here == "rules" || here == "tls.certificates" => {
                list.extend(more.iter().cloned());
            }
            // The version says how a file is written, so each file may say it.
            _ if here == "version" => {}
            (Value::Table(_), Value::Table(_)) if path != "apps" => merge_at(own, node, &here, findings),
            _ => {
                let what = if path == "apps" { format!("app `{}`", key.name) } else { format!("`{here}`") };
                let title = format!(
                    "{what} is in two files: {} and {}",
                    own_key.span.source.name, key.span.source.name
                );
                findings.error(Finding::at(&key.span, title, "here again").also(&own_key.span, "first here"));
            }
        }
    }
}
