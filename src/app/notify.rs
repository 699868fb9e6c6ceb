//! What systemd is told (sd_notify(3)), for units of `Type=notify` and `notify-reload`.
//!
//! Invariant: without `NOTIFY_SOCKET` nothing is said, and nothing that goes wrong here is more than a line in the log.

use sd_notify::NotifyState;

/// The process serves: at its start and after a reload. `status` is a line for people.
pub fn ready(status: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it, whether or not the new config could be used.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now, NotifyState::Status("reading the config")]),
        Err(error) => tracing::debug!(%error, "the monotonic clock cannot be read"),
    }
}

/// The process finishes what it has, and ends.
pub fn stopping(status: &str) {
    say(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// A line for people.
pub fn status(status: &str) {
    say(&[NotifyState::Status(status)]);
}

/// Another process is the service from now on. What this one says after that, systemd does not hear.
pub fn main_pid(pid: u32) {
    say(&[NotifyState::MainPid(pid)]);
}

/// The process is alive.
pub(super) fn watchdog() {
    say(&[NotifyState::Watchdog]);
}

fn say(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}
