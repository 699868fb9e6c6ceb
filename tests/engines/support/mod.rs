//! What the walks are made of: a running engine, the built program in front of it, and browsers with real sockets.

mod bridge;
mod browser;
mod engine;

use std::env;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

pub(crate) use bridge::{Bridge, events};
pub(crate) use browser::{Answer, Browser};
pub(crate) use engine::Engine;
use tokio::time::Instant;

/// Longer than anything takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Longer than the start of a Java server takes on a busy machine.
pub(crate) const START: Duration = Duration::from_secs(240);

/// Looks again and again until it is so.
pub(crate) fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    wait_at_most(DEADLINE, what, is_so);
}

/// As `wait_until`, with a deadline of its own.
pub(crate) fn wait_at_most(time: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while !is_so() {
        assert!(Instant::now() < end, "still waiting for {what}");
        pause(Duration::from_millis(50));
    }
}

/// Looks again and again until there is a value.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(what, || {
        found = look();
        found.is_some()
    });
    found.unwrap()
}

/// Lets real time pass: only where a real timeout is the point.
pub(crate) fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// What `fetch` brought: `$SESSIONBRIDGE_ENGINES/FOLDER`, as `tests/run` sets it, or `target/engines/FOLDER`.
pub(crate) fn fetched(folder: &str) -> PathBuf {
    // CARGO_TARGET_TMPDIR is `target/tmp`, wherever target is.
    let usual = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("engines");
    env::var_os("SESSIONBRIDGE_ENGINES").map_or_else(usual, PathBuf::from).join(folder)
}

/// A folder for a test's files, below the target folder.
pub(crate) fn work_folder(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(name).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}
