//! Whether the heartbeat page extends a session: one is touched at two thirds of the timeout, its control is not, and both
//! are looked at after four thirds.
//!
//! Invariant: a page is blamed only where the control died and a third session proved that the touch came in time.

use std::time::Duration;

use super::way::{Life, Way, Witness};
use super::{Case, shown};
use crate::findings::{Kind, Level};

/// What this showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Whether the page extends sessions.
    Yes,
    /// Nothing, because the timeout is another than the config says.
    NotYet,
}

/// How long this takes, where a dead session is known to be dead so `late`.
pub(super) fn takes(timeout: Duration, late: Duration) -> Duration {
    (timeout * 4 / 3).max(timeout + late)
}

/// What three looks showed.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// At two thirds.
    early: Life,
    /// Touched at two thirds, at four thirds.
    touched: Life,
    /// Never touched, at four thirds.
    control: Life,
}

impl Case<'_> {
    /// Finds out whether the heartbeat page extends a session that lives for `timeout`.
    pub(super) async fn extends(&self, way: &Way, timeout: Duration) -> Known {
        let end = takes(timeout, way.witness.late());
        self.waits(end, "its heartbeat page is known to extend sessions");
        let Some(seen) = self.watch(way, timeout).await else {
            self.lost.set(true);
            let says = "whether the heartbeat page extends a session cannot be told: the app did not answer";
            self.found(Kind::Extends, (Level::Note, says.to_owned()));
            return Known::Yes;
        };
        let (level, says, known) = judge(seen, end);
        self.found(Kind::Extends, (level, says));
        if let Some(found) = timeout_of(seen, timeout, end).filter(|_| !self.options.measure) {
            self.found(Kind::Timeout, found);
        }
        known
    }

    async fn watch(&self, way: &Way, timeout: Duration) -> Option<Seen> {
        // In this order: where the first is alive after so long, so was the second when it was touched.
        let mut early = self.open(way).await?;
        let (mut touched, mut control) = (self.open(way).await?, self.open(way).await?);
        let mut other = self.open(way).await?;
        // From the last use of each: opening takes its time, too.
        self.until(touched.used.1, timeout * 2 / 3).await;
        let known = touched.canary.clone();
        let touch = touched.beat().await.ok()?;
        let is_new = touch.replaced() || way.witness == Witness::Canary && touch.canary != known;
        let early = if is_new { Life::Dead } else { self.look(way, &mut early).await.life };
        if early != Life::Alive {
            return Some(Seen { early, touched: Life::Unknown, control: Life::Unknown });
        }
        let end = takes(timeout, way.witness.late());
        // Once, or, where it takes longer until a dead session shows, as often as heartbeats come.
        let mut next = timeout;
        while next < end.saturating_sub(timeout / 3) {
            self.until(control.used.1, next).await;
            touched.beat().await.ok()?;
            next += timeout / 3;
        }
        self.until(control.used.1, end).await;
        // Engines that collect at random do it when somebody else comes (PHP): a lone dead session would come back to life.
        other.get(&way.opener).await.ok()?;
        let control = self.look(way, &mut control).await.life;
        let touched = self.look(way, &mut touched).await.life;
        Some(Seen { early, touched, control })
    }

    /// Waits until `span` after `since`.
    pub(super) async fn until(&self, since: crate::time::Timestamp, span: Duration) {
        tokio::time::sleep_until(self.prober.clock.instant(since.plus(span))).await;
    }
}

fn judge(seen: Seen, end: Duration) -> (Level, String, Known) {
    let untold = "whether the heartbeat page extends a session cannot be told yet";
    match (seen.early, seen.touched, seen.control) {
        (Life::Alive, Life::Alive, Life::Dead) => {
            let says = format!(
                "the heartbeat page extends sessions: one that it was asked with lived for {}, its control did not",
                shown(end)
            );
            (Level::Good, says, Known::Yes)
        }
        (Life::Alive, Life::Dead, Life::Dead) => {
            let says = "the heartbeat page did not extend a session: the one that it was asked with died like the one that \
                        nobody used; name a page that reads or writes the session"
                .to_owned();
            (Level::Warning, says, Known::Yes)
        }
        (Life::Dead, ..) => {
            (Level::Note, format!("{untold}: sessions died before the timeout"), Known::NotYet)
        }
        (_, _, Life::Alive) => {
            let says = format!(
                "{untold}: a session that nobody used still lived after {}; its timeout is longer, or the engine \
                 collects at random",
                shown(end)
            );
            (Level::Note, says, Known::NotYet)
        }
        _ => (Level::Note, format!("{untold}: the app did not answer"), Known::Yes),
    }
}

/// What follows for `session.timeout`.
fn timeout_of(seen: Seen, timeout: Duration, end: Duration) -> Option<(Level, String)> {
    if seen.early == Life::Dead {
        let says = format!(
            "a session that nobody used for {} was dead; the config says {}: find out with `sessionbridge check --live \
             --measure-timeout`, and set `session.timeout` so",
            shown(timeout * 2 / 3),
            shown(timeout)
        );
        return Some((Level::Warning, says));
    }
    (seen.control == Life::Dead).then(|| {
        let says = format!(
            "its sessions live for more than {} and less than {} without a request, as far as one could see",
            shown(timeout * 2 / 3),
            shown(end)
        );
        (Level::Good, says)
    })
}

#[cfg(test)]
mod tests {
    use super::Life::{Alive, Dead, Unknown};
    use super::*;

    #[test]
    fn a_page_is_blamed_only_where_the_control_died_in_its_time() {
        let timeout = Duration::from_secs(30);
        let of = |early, touched, control| judge(Seen { early, touched, control }, timeout);
        assert_eq!(of(Alive, Alive, Dead).0, Level::Good);
        let (level, says, known) = of(Alive, Dead, Dead);
        assert!(level == Level::Warning && known == Known::Yes && says.contains("did not extend"), "{says}");
        for seen in [(Dead, Unknown, Unknown), (Alive, Dead, Alive), (Alive, Alive, Alive)] {
            let (level, says, known) = of(seen.0, seen.1, seen.2);
            assert_eq!((level, known), (Level::Note, Known::NotYet), "{says}");
        }
        assert_eq!(of(Alive, Alive, Unknown).0, Level::Note);
        assert_eq!(of(Unknown, Unknown, Unknown).0, Level::Note);
    }

    #[test]
    fn a_session_that_died_early_is_a_warning_of_the_timeout() {
        let timeout = Duration::from_secs(30);
        let of =
            |early, control| timeout_of(Seen { early, touched: Unknown, control }, timeout, timeout * 4 / 3);
        assert_eq!(of(Dead, Unknown).unwrap().0, Level::Warning);
        assert_eq!(of(Alive, Dead).unwrap().0, Level::Good);
        assert!(of(Alive, Alive).is_none());
    }
}
