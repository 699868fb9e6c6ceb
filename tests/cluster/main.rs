//! Several proxies on one store: the built program, twice and more, on real servers of Redis, behind links that can be cut, held and
//! slowed down.
//!
//! What is asserted are the bounds of `docs/cluster.md`. Ports are chosen by the system; every wait is for a condition, with a
//! deadline; what was started is killed at the end, also of a test that fails. What takes minutes runs with `SESSIONBRIDGE_FULL=1`,
//! and shortened without.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
// One mistake in a scenario would be told once for each of them.
#![expect(clippy::too_many_lines, reason = "a story is told in one piece")]

use std::thread;
use std::time::Duration;

use tokio::time::Instant;

mod app;
mod browser;
mod link;
mod proxy;
mod server;
mod stage;

/// One of the proxies fails, or is cut off.
mod failing;
/// People before two proxies under which everything changes, for long.
mod long;
/// What has to be done once, by whomever.
mod once;
/// The store is slow, away, emptied, or another.
mod outage;
/// The page of the docs.
mod page;
/// Two proxies, and nothing fails.
mod together;
/// Sentinels, and a cluster of stores.
mod topologies;

/// `full` with `SESSIONBRIDGE_FULL=1`, else `short`.
fn shortened<T>(full: T, short: T) -> T {
    if std::env::var_os("SESSIONBRIDGE_FULL").is_some_and(|value| value == "1") { full } else { short }
}

/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Looks again and again until it is so; how long that took. Panics after `limit`.
#[track_caller]
fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    loop {
        if is_so() {
            return began.elapsed();
        }
        assert!(began.elapsed() < limit, "after {limit:?} still not: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// [`within`] a time that says nothing about how fast it is.
#[track_caller]
fn until(what: &str, is_so: impl FnMut() -> bool) {
    within(DEADLINE, what, is_so);
}

/// Keeps looking for so long; panics as soon as it is not so.
#[track_caller]
fn for_all_of(span: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < span {
        assert!(is_so(), "after {:?} no longer: {what}", began.elapsed());
        thread::park_timeout(Duration::from_millis(20));
    }
}
