//! The files of a config: the main one and what it includes, as one tree.
//!
//! Included files are read in the order of their names, so that the result never depends on the file system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::Regex;

use super::report::{Finding, Source};
use super::table::{Table, Text};
use super::tree::{self, Findings, Key, Node, Value};
use super::vars::{self, Outside};

/// The main file `name` with its `text`, and all files that it includes.
pub(super) fn read(name: &str, text: &str, outside: &dyn Outside, findings: &Findings) -> Node {
    let source = Arc::new(Source::new(name, text));
    let mut main = tree::parse(&source, text, outside, findings);
    let directory = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
    let mut included: Vec<PathBuf> = Vec::new();
    for pattern in patterns(&main, findings) {
        for path in matching(directory, &pattern, outside, findings) {
            if path != Path::new(name) && !included.contains(&path) {
                include(&mut main, &path, &pattern, outside, findings);
                included.push(path);
            }
        }
    }
    main
}

/// The globs under `include`.
fn patterns(main: &Node, findings: &Findings) -> Vec<Text> {
    let Some(top) = Table::new(main, "", findings) else { return Vec::new() };
    top.texts("include").unwrap_or_default()
}

/// Adds the file at `path`, which `pattern` asked for, to `main`.
fn include(main: &mut Node, path: &Path, pattern: &Text, outside: &dyn Outside, findings: &Findings) {
    let name = path.display().to_string();
    let text = match outside.file(path) {
        Ok(text) => text,
        Err(error) => {
            let title = format!("cannot read the included file `{name}`");
            findings.error(Finding::at(&pattern.span, title, vars::reason(&error)));
            return;
        }
    };
    let source = Arc::new(Source::new(&name, &text));
    let mut node = tree::parse(&source, &text, outside, findings);
    if let Value::Table(entries) = &mut node.value {
        entries.retain(|(key, _)| !refuse_nested(key, findings));
    }
    tree::merge(main, node, findings);
}

/// True, and a report, for an `include` in a file that is itself included.
fn refuse_nested(key: &Key, findings: &Findings) -> bool {
    let nested = key.name == "include";
    if nested {
        let title = "an included file cannot include others";
        findings.error(Finding::at(&key.span, title, "name them in the main file"));
    }
    nested
}

/// The files that `pattern` names, sorted. Stars stand in the last part of a path only; a name without a star
/// is a file that must be there.
fn matching(directory: &Path, pattern: &Text, outside: &dyn Outside, findings: &Findings) -> Vec<PathBuf> {
    let whole = directory.join(&pattern.text);
    let last = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parent = whole.parent().unwrap_or(directory);
    if parent.to_string_lossy().contains('*') {
        let label = "`*` is for names of files, not of directories";
        findings.error(Finding::at(&pattern.span, "`include` has a star in a directory", label));
        return Vec::new();
    }
    if !last.contains('*') {
        return vec![whole];
    }
    let expression = last.split('*').map(regex::escape).collect::<Vec<_>>().join(".*");
    let Ok(glob) = Regex::new(&format!("^{expression}$")) else { return Vec::new() };
    let names = outside.names(if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let mut found: Vec<PathBuf> = names
        .into_iter()
        // A name that begins with a dot is an editor's or a package manager's own, as in a shell.
        .filter(|name| name.to_str().is_some_and(|name| !name.starts_with('.') && glob.is_match(name)))
        .map(|name| parent.join(name))
        .collect();
    found.sort();
    found
}
