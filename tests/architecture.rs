//! The layers, kept: imports only go down, pure modules stay pure, files say what they are and stay small.
//!
//! The table here is the diagram. A module that is missing from it fails the test, so it cannot go stale.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module's rank. A module may import those of a lower rank, and none of its own: siblings never meet.
const RANKS: &[(&str, u32)] = &[
    ("secret", 0),
    ("digits", 0),
    ("time", 0),
    ("random", 0),
    ("names", 0),
    ("numbered", 0),
    ("telemetry", 1),
    ("wire", 1),
    ("clock", 1),
    ("loads", 1),
    ("net", 2),
    ("bridge", 2),
    ("route", 3),
    ("store", 3),
    ("registry", 4),
    ("balance", 4),
    ("findings", 4),
    ("own", 5),
    ("lives", 5),
    ("setting", 6),
    ("ping", 7),
    ("health", 7),
    ("sign_out", 8),
    ("proxy", 9),
    ("heartbeat", 9),
    ("admin", 9),
    ("probe", 9),
    ("config", 10),
    ("app", 11),
    ("demo", 12),
    ("init", 12),
];

/// Modules without effects: what they need of the world is an argument.
const PURE: &[&str] = &["secret", "digits", "time", "names", "wire", "bridge", "route"];
/// What a pure module may not name.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "tracing",
    "std::fs",
    "std::net::Tcp",
    "std::thread",
    "std::env",
    "SystemTime",
    "Instant::now",
    "crate::random",
];
/// Sibling or upward imports that are part of the design, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];
/// Non-test lines of a file, at most.
const MOST_LINES: usize = 400;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found.sort();
    found
}

/// All of `src`: path below it and text.
fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(files.len() > 50, "the sources are not where they were");
    files
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(file).unwrap())
        })
        .collect()
}

fn module(name: &str) -> &str {
    name.split(['/', '.']).next().unwrap()
}

fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/") || name.ends_with("testing.rs")
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> String {
    let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    own.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn imports_only_go_down() {
    let ranks: BTreeMap<&str, u32> = RANKS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, text) in all() {
        let own = module(&name);
        if matches!(own, "lib" | "main") || is_test(&name) {
            continue;
        }
        let rank = *ranks.get(own).unwrap_or_else(|| panic!("{own} is not in the table of layers"));
        let code = code(&text);
        for used in code.match_indices("crate::").map(|(at, _)| {
            let rest = &code[at + 7..];
            let end = rest
                .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                .unwrap_or(rest.len());
            &rest[..end]
        }) {
            let Some(&other) = ranks.get(used) else { continue };
            let allowed = EXCEPTIONS.iter().any(|(from, to, _)| *from == own && *to == used);
            if used != own && other >= rank && !allowed {
                wrong.push(format!("{name} imports {used}: {own} is of rank {rank}, {used} of rank {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_names_every_module() {
    let ranks: BTreeMap<&str, u32> = RANKS.iter().copied().collect();
    let files = all();
    for (module, _) in RANKS {
        assert!(files.iter().any(|(name, _)| self::module(name) == *module), "{module} does not exist");
    }
    for (name, _) in &files {
        let own = module(name);
        assert!(
            matches!(own, "lib" | "main") || ranks.contains_key(own),
            "{own} is not in the table of layers"
        );
    }
}

#[test]
fn the_pure_core_names_no_effect() {
    let mut wrong = Vec::new();
    for (name, text) in all() {
        if !PURE.contains(&module(&name)) || is_test(&name) {
            continue;
        }
        let code = code(&text);
        wrong.extend(
            IMPURE.iter().filter(|word| code.contains(**word)).map(|word| format!("{name} names {word}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_stays_small() {
    let mut wrong = Vec::new();
    for (name, text) in all() {
        if !is_test(&name) && !text.starts_with("//!") {
            wrong.push(format!("{name} does not begin with //!"));
        }
        let lines = text.split("#[cfg(test)]").next().unwrap().lines().count();
        if !is_test(&name) && lines > MOST_LINES {
            wrong.push(format!("{name} has {lines} lines, more than {MOST_LINES}"));
        }
        // Split, so that this file does not find itself.
        for word in
            [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")]
        {
            if text.contains(word) {
                wrong.push(format!("{name} holds {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_clock_reads_the_time_and_only_random_draws() {
    for (name, text) in all() {
        let code = code(&text);
        if name != "clock.rs" && !is_test(&name) {
            assert!(!code.contains("SystemTime::now"), "{name} reads the wall clock");
        }
        if name != "random.rs" {
            assert!(!code.contains("rand::fill"), "{name} draws randomness");
        }
    }
}
