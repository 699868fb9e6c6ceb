//! `tests/rows.md` states what must work, a line each, with the tests that prove it; here the table is held to its word.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

/// All test functions' names, in `src` and `tests`.
fn tests(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            if entry.file_name().is_some_and(|name| name != "node_modules") {
                tests(&entry, found);
            }
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        } else if entry.file_name().is_some_and(|name| name == "walk.mjs") {
            found.push("walk.mjs".to_owned());
        }
    }
}

#[test]
fn every_row_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    tests(&root.join("src"), &mut found);
    tests(&root.join("tests"), &mut found);
    let table = fs::read_to_string(root.join("tests/rows.md")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| row") && !line.starts_with("| ---"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 50, "only {} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let names: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            wrong.push(format!("{}: names no test", row[0]));
        }
        for name in names {
            if !found.iter().any(|test| test == name) {
                wrong.push(format!("{}: there is no test {name}", row[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
