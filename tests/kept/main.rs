//! Nothing acknowledged is lost: the built program before a scripted app, killed, restarted, starved of disk or of answers, and asked
//! afterwards what it still knows.
//!
//! Ports are chosen by the system; every wait is for a condition, with a deadline. What takes minutes runs with
//! `SESSIONBRIDGE_FULL=1`, and shortened without.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod app;
mod browser;
mod crash;
mod damage;
mod disk;
mod hangs;
mod process;
mod restart;

/// `full` with `SESSIONBRIDGE_FULL=1`, else `short`.
fn shortened<T>(full: T, short: T) -> T {
    if std::env::var_os("SESSIONBRIDGE_FULL").is_some_and(|value| value == "1") { full } else { short }
}
