//! Every snippet of the README does what it says: configs load, commands run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

use sessionbridge::config;

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let opening = format!("```{language}\n");
    let found: Vec<String> =
        text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert!(!found.is_empty(), "no {language} in the README");
    found
}

#[test]
fn every_config_loads() {
    for text in blocks("toml") {
        if let Err(report) = config::load_str("README.md", &text, &mut sessionbridge::names::Names::default())
        {
            panic!("{report}");
        }
    }
}

#[test]
fn every_command_of_the_binary_works() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.toml"), &blocks("toml")[0]).unwrap();
    let mut tried = 0;
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let line = line.strip_prefix("target/release/").unwrap_or(line);
        let Some(rest) = line.strip_prefix("sessionbridge ") else { continue };
        if ["run", "init", "reload"].iter().any(|command| rest.starts_with(command)) {
            continue; // tests/cli.rs runs the smallest config, drafts one from apps that are there, and changes one.
        }
        let arguments = rest.split(' ').map(|word| word.trim_matches('"'));
        let output = Command::new(env!("CARGO_BIN_EXE_sessionbridge"))
            .args(arguments)
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        tried += 1;
    }
    assert!(tried >= 2, "only {tried} commands");
}

#[test]
fn every_script_that_it_names_is_there() {
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let word = line.split(' ').next().unwrap();
        if word.starts_with("tests/") || word.starts_with("benches/") {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(word).exists(), "{word} does not exist");
        }
    }
}
