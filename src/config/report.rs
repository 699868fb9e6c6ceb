//! What is wrong with a config, and how it is shown: the place in the file, a caret, and a way out.
//!
//! A report never shows a secret: values that are secrets are masked in the source before a line of it is
//! printed, and messages quote a value only where it stands in the file as it is.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::mask;

/// A file of the config.
#[derive(Debug)]
pub(super) struct Source {
    /// As shown in reports.
    pub(super) name: String,
    /// Its text with all secrets masked, byte for byte as long as the real one.
    masked: String,
}

impl Source {
    /// A file called `name` with this `text`, of which only the masked form is kept.
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), masked: mask::mask(text) }
    }
}

/// A place in a file of the config.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) source: Arc<Source>,
    pub(super) range: Range<usize>,
}

impl Span {
    /// `config.toml:12`.
    pub(super) fn line(&self) -> String {
        let before = self.source.masked.as_bytes().get(..self.range.start).unwrap_or_default();
        let line = 1 + before.iter().filter(|octet| **octet == b'\n').count();
        format!("{}:{line}", self.source.name)
    }
}

/// One mistake, or one thing to weigh.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// What is wrong.
    pub(super) title: String,
    /// Where, and what is to be said at the caret.
    pub(super) at: Option<(Span, String)>,
    /// Another place that belongs to it.
    pub(super) also: Option<(Span, String)>,
    /// What to do, in a line of its own.
    pub(super) help: Option<String>,
}

impl Finding {
    /// `title`, shown at `span`, with `label` at the caret.
    pub(super) fn at(span: &Span, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self { title: title.into(), at: Some((span.clone(), label.into())), also: None, help: None }
    }

    /// The same with another place that belongs to it.
    pub(super) fn also(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.also = Some((span.clone(), label.into()));
        self
    }

    /// The same with a line that says what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// As people read it, without a newline at its end.
    pub(super) fn render(&self, level: &Level<'static>, colour: bool) -> String {
        let mut group = Group::with_title(level.clone().primary_title(self.title.as_str()));
        if let Some((span, label)) = &self.at {
            let mut snippet = snippet(span).annotation(annotation(AnnotationKind::Primary, span, label));
            match &self.also {
                Some((also, label)) if Arc::ptr_eq(&also.source, &span.source) => {
                    snippet = snippet.annotation(annotation(AnnotationKind::Context, also, label));
                    group = group.element(snippet);
                }
                Some((also, label)) => {
                    group = group.element(snippet).element(self::snippet(also).annotation(annotation(
                        AnnotationKind::Context,
                        also,
                        label,
                    )));
                }
                None => group = group.element(snippet),
            }
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// The masked source of `span`, ready for carets.
fn snippet(span: &Span) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    Snippet::source(span.source.masked.as_str()).path(span.source.name.as_str())
}

/// A caret under `span`, kept within the text.
fn annotation<'a>(kind: AnnotationKind, span: &Span, label: &'a str) -> annotate_snippets::Annotation<'a> {
    let end = span.source.masked.len();
    let caret = kind.span(span.range.start.min(end)..span.range.end.min(end));
    if label.is_empty() { caret } else { caret.label(label) }
}

/// Something in a config that works and is still worth a thought.
#[derive(Clone, Debug)]
pub struct Warning(pub(super) Finding);

impl Warning {
    /// As people read it, with terminal colours if wanted; several lines, no newline at the end.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        self.0.render(&Level::WARNING, colour)
    }

    /// What it is about, in one line, for a log.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.0.title
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// All mistakes of a config, and its warnings.
#[derive(Debug, Default)]
pub struct Report {
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Warning>,
    /// The reason where a file could not be read at all.
    pub(super) cause: Option<Unreadable>,
}

/// A file of the config that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct Unreadable {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

impl Report {
    /// How many mistakes there are.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors.len()
    }

    /// What is worth a thought besides.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// As people read it, with terminal colours if wanted; every line ends in a newline, the last one is
    /// [`summary`].
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let errors = self.errors.iter().map(|finding| finding.render(&Level::ERROR, colour));
        let warnings = self.warnings.iter().map(|warning| warning.render(colour));
        let mut text: String = errors.chain(warnings).map(|finding| finding + "\n").collect();
        text.push_str(&summary(self.errors.len(), self.warnings.len()));
        text.push('\n');
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// `2 errors, 1 warning`.
#[must_use]
pub fn summary(errors: usize, warnings: usize) -> String {
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    match (errors, warnings) {
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}
