//! What `sessionbridge check --live` finds out about the real engines: F4 (the timeout), F5 (heartbeat page and sign-out).
//!
//! Real time passes here because real timeouts are what is measured.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use crate::support::{Engine, work_folder};
use crate::walks::Site;
use crate::{django, express, lucee, php, tomcat};

/// What a check says of AppA of `site`, with the heartbeat page `page` and `session.timeout` as `timeout`.
fn check(site: &Site, engine: &Engine, (page, timeout): (&str, &str), more: &[&str]) -> String {
    let all = site.config_with_heartbeat(engine, ["appA", "appB"], page);
    let own = all.split("[apps.appB]").next().unwrap();
    let said = format!("session.timeout = \"{}s\"", site.timeouts[0]);
    assert!(own.contains(&said), "{own}");
    let own = own.replace(&said, &format!("session.timeout = \"{timeout}\""));
    let work = work_folder("check");
    fs::write(work.path().join("config.toml"), format!("listen = \"127.0.0.1:0\"\n{own}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sessionbridge"))
        .args(["check", "--live"])
        .args(more)
        .current_dir(work.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    eprintln!("{}, {page}:\n{text}", site.name);
    text
}

/// True where a line begins with `level` and says `words` of appA.
fn says(text: &str, level: &str, words: &str) -> bool {
    text.lines().any(|line| line.starts_with(&format!("{level}: appA: ")) && line.contains(words))
}

/// AppA's sessions live for 10 s; the config says 15: found out to within a second.
fn exact(site: &Site, engine: &Engine) {
    let text = check(site, engine, ("ping", "15s"), &["--measure-timeout"]);
    assert!(says(&text, "warning", "set `session.timeout = \"10s\"`"), "{text}");
    assert!(says(&text, "good", "the heartbeat page extends sessions"), "{text}");
    assert!(says(&text, "good", "its session hangs on"), "{text}");
    assert!(says(&text, "good", "the canary is the same in one session"), "{text}");
}

/// The quiet page never touches the session.
fn quiet(site: &Site, engine: &Engine) {
    let text = check(site, engine, ("quiet", "10s"), &[]);
    assert!(says(&text, "warning", "did not extend a session"), "{text}");
}

/// These apps sweep with every request: what is seen is as exact as the times of files, which are whole seconds.
#[test]
#[ignore = "needs PHP: tests/run"]
fn php_f4_and_f5() {
    let text = check(&php::SITE, &php::PHP, ("ping", "20s"), &["--measure-timeout"]);
    assert!(says(&text, "warning", "the config says 20s: set `session.timeout = \"1"), "{text}");
    assert!(says(&text, "good", "the heartbeat page extends sessions"), "{text}");
    assert!(says(&text, "good", "the sign-out ends a session"), "{text}");
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn php_f5_a_page_that_asks_for_a_sign_in() {
    let text = check(&php::SITE, &php::PHP, ("guarded", "10s"), &["--quick"]);
    assert!(says(&text, "warning", "asks for a sign-in"), "{text}");
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn php_s3_9_in_strict_mode() {
    quiet(&php::STRICT_SITE, &php::STRICT);
}

#[test]
#[ignore = "needs Express: tests/run"]
fn express_f4() {
    exact(&express::SITE, &express::EXPRESS);
}

/// Without `rolling` the cookie's expiry stays, and the store's entry moves all the same: what the vault holds lives on.
#[test]
#[ignore = "needs Express: tests/run"]
fn express_f5_without_rolling() {
    let text = check(&express::FIXED_SITE, &express::FIXED, ("ping", "10s"), &[]);
    assert!(says(&text, "good", "the heartbeat page extends sessions"), "{text}");
    assert!(says(&text, "good", "the sign-out ends a session"), "{text}");
}

#[test]
#[ignore = "needs Django: tests/run"]
fn django_f4() {
    exact(&django::SITE, &django::DJANGO);
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn lucee_f4() {
    let sites = [
        (&lucee::CF_ON_TOMCAT, &lucee::TOMCAT),
        (&lucee::JEE_ON_TOMCAT, &lucee::TOMCAT),
        (&lucee::CF_ON_JETTY, &lucee::JETTY),
        (&lucee::JEE_ON_JETTY, &lucee::JETTY),
    ];
    // Most of it is waiting.
    thread::scope(|scope| {
        sites.map(|(site, engine)| scope.spawn(|| exact(site, engine))).map(|one| one.join().unwrap())
    });
}

/// Without a canary an id in a URL is the witness: Lucee knows it until its next sweep, so this takes two minutes.
#[test]
#[ignore = "needs Lucee: tests/run"]
fn lucee_s3_9() {
    let sites = [(&lucee::CF_ON_TOMCAT, &lucee::TOMCAT), (&lucee::CF_ON_JETTY, &lucee::JETTY)];
    thread::scope(|scope| {
        sites.map(|(site, engine)| scope.spawn(|| quiet(site, engine))).map(|one| one.join().unwrap())
    });
}

#[test]
#[ignore = "needs Tomcat: tests/run"]
fn tomcat_f4() {
    exact(&tomcat::SITE, &tomcat::TOMCAT);
}
