//! What is found out about an app's sessions, in words.
//!
//! Invariant: a figure that sessions outlive is rounded down, one that they do not is rounded up.

use std::time::Duration;

use super::Restart;
use crate::time::Timestamp;

/// How well a point in time must be known to be said as one.
const POINT: Duration = Duration::from_secs(60);

/// That the app `name` was restarted; `server` is named where it has several.
#[must_use]
pub fn restart(name: &str, server: Option<&str>, restart: &Restart) -> String {
    let who = server.map_or_else(|| name.to_owned(), |server| format!("{name} at {server}"));
    let span = restart.before.since(restart.after);
    let about = time_of_day(restart.after.plus(span / 2));
    let between = if span < POINT {
        String::new()
    } else {
        format!(" (between {} and {})", time_of_day(restart.after), time_of_day(restart.before))
    };
    let plural = if restart.lost == 1 { "session" } else { "sessions" };
    format!("{who} was restarted at about {about} UTC{between}, {} {plural} ended", restart.lost)
}

/// That sessions of the app `name` die before the configured `timeout`: none outlived `dead` without use, some `alive`.
#[must_use]
pub fn early(name: &str, dead: Duration, alive: Duration, timeout: Duration) -> String {
    let (up, down) = (up(dead), down(alive));
    let config = span(timeout);
    if alive.is_zero() {
        return format!(
            "sessions of {name} die after {up} or less without use, none was ever seen to live longer; the config says \
             {config}: set `session.timeout` below {up}, or `heartbeat.path` to a page that does not end them"
        );
    }
    format!(
        "sessions of {name} die after {up} or less without use (some lived for {down}); the config says {config}: set \
         `session.timeout = \"{down}\"`"
    )
}

/// A time of day, in UTC: `14:03:10`.
#[must_use]
pub fn time_of_day(at: Timestamp) -> String {
    let seconds = at.secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Rounded down to what [`span`] says.
fn down(gap: Duration) -> String {
    span(rounded(gap, Duration::ZERO))
}

/// Rounded up to what [`span`] says.
fn up(gap: Duration) -> String {
    let unit = unit(gap);
    span(rounded(gap, unit.saturating_sub(Duration::from_nanos(1))))
}

/// To seconds; below ten of them to tenths.
const fn unit(gap: Duration) -> Duration {
    if gap.as_secs() < 10 { Duration::from_millis(100) } else { Duration::from_secs(1) }
}

fn rounded(gap: Duration, more: Duration) -> Duration {
    let unit = unit(gap);
    let units = (gap + more).as_nanos() / unit.as_nanos();
    unit.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX))
}

/// A span as the config writes it: `1h20m`, `9m40s`, `40s`, `3400ms`.
fn span(gap: Duration) -> String {
    let (whole, millis) = (gap.as_secs(), gap.subsec_millis());
    if millis > 0 && whole < 10 {
        return format!("{}ms", gap.as_millis());
    }
    let parts = [(whole / 3600, "h"), (whole / 60 % 60, "m"), (whole % 60, "s")];
    let said: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if said.is_empty() { "0s".to_owned() } else { said }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::*;

    fn restarted(server: Option<&str>, after: u64, before: u64, lost: u32) -> String {
        let (after, before) = (Timestamp::from_secs(after), Timestamp::from_secs(before));
        let run = Restart { server: 0, after, before, lost, new: 0, stage: Stage::Over };
        restart("appA", server, &run)
    }

    #[test]
    fn a_restart_is_said_as_well_as_it_is_known() {
        assert_eq!(
            restarted(Some("http://10.0.0.2:8080"), 50_580, 50_600, 12),
            "appA at http://10.0.0.2:8080 was restarted at about 14:03:10 UTC, 12 sessions ended"
        );
        assert_eq!(
            restarted(None, 50_520, 50_640, 1),
            "appA was restarted at about 14:03:00 UTC (between 14:02:00 and 14:04:00), 1 session ended"
        );
    }

    #[test]
    fn figures_are_rounded_to_the_safe_side() {
        let said = |millis| (down(Duration::from_millis(millis)), up(Duration::from_millis(millis)));
        assert_eq!(said(579_001), ("9m39s".to_owned(), "9m40s".to_owned()));
        assert_eq!(said(579_000), ("9m39s".to_owned(), "9m39s".to_owned()));
        assert_eq!(said(3_333), ("3300ms".to_owned(), "3400ms".to_owned()));
        assert_eq!(said(3_600_000), ("1h".to_owned(), "1h".to_owned()));
        let seconds = Duration::from_secs;
        let says = early("appA", seconds(580), seconds(400), seconds(1200));
        assert!(says.contains("after 9m40s or less") && says.contains("the config says 20m"), "{says}");
        assert!(says.ends_with("set `session.timeout = \"6m40s\"`"), "{says}");
        assert!(early("appA", seconds(580), seconds(0), seconds(1200)).contains("below 9m40s"));
    }
}
