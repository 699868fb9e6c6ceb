//! `sessionbridge init` on real engines: what it drafts runs the walk of S3-1 as it is.

use std::fs;
use std::process::Command;

use crate::support::{Engine, work_folder};
use crate::walks::{self, App, Site};

/// The draft for both apps of `engine`, from their index pages alone; `more` are further arguments.
pub(crate) fn draft(site: &Site, engine: &Engine, more: &[&str]) -> String {
    let work = work_folder("init");
    let file = work.path().join("config.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_sessionbridge"))
        .arg("init")
        .args([App::A, App::B].map(|app| engine.origin(app) + &site.page(app, "index")))
        .args(more)
        .arg("--out")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {}", site.name, String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(&file).unwrap()
}

/// The draft knows the engine and its heartbeat page, and the walk runs with it unedited: only the addresses where the proxy
/// listens are this test's. An engine whose cookies do not say how long a session lives is told by `--timeout`.
pub(crate) fn drafts_a_config_that_runs_s3_1(site: &Site, engine: &Engine) {
    let text = draft(site, engine, &["--timeout", &format!("{}s", site.timeouts[0])]);
    let has = |line: String| assert!(text.contains(&line), "{}: no {line} in\n{text}", site.name);
    has(format!("session.engine = \"{}\"", site.engine));
    has(format!("heartbeat.path = \"{}\"", site.page(App::A, "ping")));
    has("heartbeat.canary = { json = \"started\" }".to_owned());
    for app in [App::A, App::B] {
        assert!(!text.contains(&format!("heartbeat.path = \"{}\"", site.page(app, "quiet"))), "{text}");
    }
    has(format!("sign_out.login = [\"{}*\"]", site.page(App::A, "login")));
    if site.sign_out == "GET" {
        has(format!("sign_out.request = \"GET {}\"", site.page(App::A, "logout")));
    } else {
        has(format!("sign_out.form = \"{}\"", site.page(App::A, "logout")));
    }
    walks::s3_1_with(site, engine, &without_listen(&text));
}

/// The draft but for its first key, for which tests choose.
fn without_listen(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("listen = ")).map(|line| format!("{line}\n")).collect()
}
