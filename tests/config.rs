//! The config's reports, its fixtures and its reference, as their users see them.
//!
//! A report that changes is a change for people: each is compared verbatim. `BLESS=1 cargo test --test
//! config` writes them anew, to be read in the diff.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its fixtures has failed")]

use std::path::{Path, PathBuf};

use sessionbridge::config::{self, Config};

const REFERENCE: &str = "config.toml.example";

/// The TOML files right in `directory`, sorted.
fn fixtures(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {directory}");
    files
}

/// Compares `report` with the file beside `fixture`.
fn compare(fixture: &Path, report: &str) {
    let beside = fixture.with_extension("stderr");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&beside, report).unwrap();
    }
    let expected = std::fs::read_to_string(&beside).unwrap_or_default();
    assert!(
        expected == report,
        "{} is now reported as\n\n{report}\nand not as\n\n{expected}",
        fixture.display()
    );
}

fn loaded(text: &str) -> Config {
    match config::load_str("config.toml", text, &mut sessionbridge::names::Names::default()) {
        Ok((config, _)) => config,
        Err(report) => panic!("{report}"),
    }
}

#[test]
fn every_mistake_is_reported_as_written_beside_it() {
    for fixture in fixtures("tests/config/bad") {
        let Err(report) = config::load(&fixture, &mut sessionbridge::names::Names::default()) else {
            panic!("{} loads", fixture.display())
        };
        assert!(report.errors() > 0);
        compare(&fixture, &report.to_string());
    }
}

#[test]
fn good_files_load_with_the_warnings_written_beside_them() {
    for fixture in fixtures("tests/config/ok") {
        let (report, usable) = config::check(&fixture, false);
        assert!(usable, "{}:\n{report}", fixture.display());
        compare(&fixture, &report);
    }
}

#[test]
fn no_report_shows_a_secret() {
    for fixture in fixtures("tests/config/bad") {
        let (report, _) = config::check(&fixture, false);
        for secret in ["hunter2", "correct horse", "battery staple", "a secret of ours"] {
            assert!(!report.contains(secret), "{} shows `{secret}`", fixture.display());
        }
    }
}

#[test]
fn the_smallest_useful_file_has_nothing_to_complain_of() {
    assert_eq!(
        config::check(Path::new("tests/config/ok/smallest.toml"), false),
        ("0 errors\n".to_owned(), true)
    );
}

#[test]
fn colours_are_for_terminals_only() {
    let file = Path::new("tests/config/bad/units.toml");
    assert!(config::check(file, true).0.contains('\u{1b}'));
    assert!(!config::check(file, false).0.contains('\u{1b}'));
}

#[test]
fn the_reference_loads_without_a_mistake() {
    let (report, usable) = config::check(Path::new(REFERENCE), false);
    assert!(usable, "{report}");
}

/// A line of the reference that states a default: `key = value` whose comment is no example.
fn states_a_default(line: &str) -> bool {
    let is_setting = line.starts_with(|first: char| first.is_ascii_lowercase()) && line.contains(" = ");
    is_setting && !line.contains("# e.g.")
}

#[test]
fn what_the_reference_states_as_a_default_is_one() {
    let text = std::fs::read_to_string(REFERENCE).unwrap();
    let bare: String =
        text.lines().filter(|line| !states_a_default(line)).map(|line| line.to_owned() + "\n").collect();
    assert!(text.lines().filter(|line| states_a_default(line)).count() > 40);
    assert_eq!(format!("{:#?}", loaded(&bare)), format!("{:#?}", loaded(&text)));
}

#[test]
fn the_reference_has_every_setting() {
    let text = std::fs::read_to_string(REFERENCE).unwrap();
    let missing: Vec<&str> = SETTINGS.split_whitespace().filter(|key| !has_setting(&text, key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// True where `text` sets `key`, also inside an inline table or behind `#`.
fn has_setting(text: &str, key: &str) -> bool {
    text.match_indices(key).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let behind = &text[at + key.len()..];
        before.is_none_or(|before| !before.is_alphanumeric() && before != '_') && behind.starts_with(" = ")
    })
}

/// Every setting that is built, by its last name.
const SETTINGS: &str = "
    version include listen
    threads trusted_proxies allow_headers public_scheme max_connections max_header_bytes max_body
    drain_timeout
    header body_stall idle connect first_byte stream_idle
    new_sessions rate burst per
    mode cookie same_site prefix idle_timeout presence_limit presence_ttl max_lifetime sign_out adopt_cookies
    every jitter timeout max_in_flight max_rate limit
    hosts path case_insensitive strip_path upstreams balance host_header
    engine type cookies persistent exceptions set_cookie secure http_only partitioned
    url_tokens keep_url_tokens form_tokens adopt tokens name query path_param pattern rolling
    method alive status contains canary json regex
    detect request page form link login match activity session fall rise
    min_version redirect_http cert key
    kind keys_file max_sessions urls topology master prefix on_outage token user_header level format access
";

#[test]
fn a_file_that_is_not_there_is_an_error_that_keeps_its_cause() {
    let report =
        config::load(Path::new("tests/config/none.toml"), &mut sessionbridge::names::Names::default())
            .unwrap_err();
    assert!(report.to_string().contains("there is no such file"));
    assert!(std::error::Error::source(&report).unwrap().downcast_ref::<config::Unreadable>().is_some());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        text in "([a-z]{1,4} = (\"[a-z${}:/.*-]{0,8}\"|[0-9]{1,5}|true|\\[\\]|\\{\\})\n\
                 |\\[(server|apps\\.a|bridge|x)\\]\n){0,8}.{0,6}"
    ) {
        if let Err(report) = config::load_str("any.toml", &text, &mut sessionbridge::names::Names::default()) {
            proptest::prop_assert!(report.to_string().contains("error"));
        }
    }

    #[test]
    fn a_known_key_with_any_value_never_panics(
        key in "(listen|include|server\\.threads|bridge\\.idle_timeout|rules|store|version\
                |admin\\.token|log\\.level|apps\\.a\\.(path|upstreams|hosts|session|heartbeat|sign_out))",
        value in "(\"[ -!#-\\[\\]-~]{0,12}\"|-?[0-9]{1,21}|1\\.5|true|\\[\\[\\]\\]|\\{ a = 1 \\}|1979-05-27)",
    ) {
        if let Err(report) = config::load_str("any.toml", &format!("{key} = {value}\n"), &mut sessionbridge::names::Names::default()) {
            proptest::prop_assert!(report.to_string().contains("error"));
        }
    }
}
