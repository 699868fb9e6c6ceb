//! Whether the heartbeat page extends a session: one is touched at two thirds of the timeout, its control is not, and both
//! are looked at after four thirds.
//!
//! Invariant: a page is blamed only where the control died and a third session proved that the touch came in time.

use std::time::Duration;

use super::visitor::Visitor;
use super::way::{self, Life, Look, Way, Witness};
use super::{Case, shown};
use crate::findings::{Kind, Level};
use crate::ping::reading;
use crate::time::Timestamp;

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
    early: Look,
    /// Touched at two thirds, at four thirds; its idle time is the longest since the touch.
    touched: Look,
    /// Never touched, at four thirds.
    control: Look,
}

/// Nobody looked.
const UNSEEN: Look = Look { life: Life::Unknown, idle: (Duration::ZERO, Duration::ZERO) };

/// What a touch showed.
enum Touch {
    /// The session was there still.
    Came,
    /// Another one was there, after so long.
    Late(Look),
}

/// Why nothing was seen.
const SILENT: &str = "the app did not answer";
const OTHERWISE: &str =
    "the heartbeat page answered in a way that `alive` does not allow, or without the canary";

impl Case<'_> {
    /// Finds out whether the heartbeat page extends a session that lives for `timeout`.
    pub(super) async fn extends(&self, way: &Way, timeout: Duration) -> Known {
        let end = takes(timeout, way.witness.late());
        self.waits(end, "its heartbeat page is known to extend sessions");
        let seen = match self.watch(way, timeout).await {
            Ok(seen) => seen,
            Err(why) => {
                self.found(Kind::Extends, (Level::Note, format!("{UNTOLD}: {why}")));
                return Known::Yes;
            }
        };
        let (level, says, known) = judge(seen, timeout);
        self.found(Kind::Extends, (level, says));
        if let Some(found) = timeout_of(seen, timeout).filter(|_| !self.options.measure) {
            self.found(Kind::Timeout, found);
        }
        known
    }

    async fn watch(&self, way: &Way, timeout: Duration) -> Result<Seen, &'static str> {
        // In this order: where the first is alive after so long, so was the second when it was touched.
        let mut early = self.watched(way).await?;
        let (mut touched, mut control) = (self.watched(way).await?, self.watched(way).await?);
        let mut other = self.watched(way).await?;
        // From the last use of each: opening takes its time, too.
        self.until(touched.used.1, timeout * 2 / 3).await;
        let early = match self.touch(way, &mut touched).await? {
            Touch::Late(look) => look,
            Touch::Came => self.look(way, &mut early).await,
        };
        if early.life != Life::Alive {
            return Ok(Seen { early, touched: UNSEEN, control: UNSEEN });
        }
        let end = takes(timeout, way.witness.late());
        let longest = self.touch_until(&mut touched, control.used.1, (timeout, end)).await?;
        self.until(control.used.1, end).await;
        // Engines that collect at random do it when somebody else comes (PHP): a lone dead session would come back to life.
        other.go_beside(&control);
        self.answered(other.get(&way.opener).await).ok_or(SILENT)?;
        let control = self.look(way, &mut control).await;
        let mut touched = self.look(way, &mut touched).await;
        touched.idle.1 = touched.idle.1.max(longest);
        Ok(Seen { early, touched, control })
    }

    /// A session to be watched.
    async fn watched(&self, way: &Way) -> Result<Visitor<'_>, &'static str> {
        self.open(way).await.ok_or_else(|| {
            self.lost.set(true);
            SILENT
        })
    }

    /// Sends the heartbeat of `visitor`, which may come too late.
    async fn touch(&self, way: &Way, visitor: &mut Visitor<'_>) -> Result<Touch, &'static str> {
        let (used, known) = (visitor.used, visitor.canary.clone());
        let heard = self.answered(visitor.beat().await).ok_or(SILENT)?;
        let late = Touch::Late(Look { life: Life::Dead, idle: way::idle(used, visitor.used) });
        if heard.replaced() {
            return Ok(late);
        }
        if !reading::alive_status(&self.beat.alive, heard.status) {
            return Err(OTHERWISE);
        }
        if way.witness != Witness::Canary || self.same_canary(&heard, &known).ok_or(OTHERWISE)? {
            Ok(Touch::Came)
        } else {
            Ok(late)
        }
    }

    /// Touches `visitor` once more, or, where it takes longer until a dead session shows, as often as heartbeats come:
    /// from `timeout` after `since` to `end`. How long it was not used in between, at the most.
    async fn touch_until(
        &self,
        visitor: &mut Visitor<'_>,
        since: Timestamp,
        (timeout, end): (Duration, Duration),
    ) -> Result<Duration, &'static str> {
        let (mut next, mut longest) = (timeout, Duration::ZERO);
        while next < end.saturating_sub(timeout / 3) {
            self.until(since, next).await;
            let used = visitor.used;
            let heard = self.answered(visitor.beat().await).ok_or(SILENT)?;
            if !heard.replaced() && !reading::alive_status(&self.beat.alive, heard.status) {
                return Err(OTHERWISE);
            }
            longest = longest.max(way::idle(used, visitor.used).1);
            next += timeout / 3;
        }
        Ok(longest)
    }

    /// Waits until `span` after `since`.
    pub(super) async fn until(&self, since: Timestamp, span: Duration) {
        tokio::time::sleep_until(self.prober.clock.instant(since.plus(span))).await;
    }
}

const UNTOLD: &str = "whether the heartbeat page extends a session cannot be told yet";

fn judge(seen: Seen, timeout: Duration) -> (Level, String, Known) {
    let note = |why: String, known| (Level::Note, format!("{UNTOLD}: {why}"), known);
    match (seen.early.life, seen.touched.life, seen.control.life) {
        (Life::Alive, Life::Alive, Life::Dead) => {
            let says = format!(
                "the heartbeat page extends sessions: one that it was asked with lived for {}, its control did not",
                shown(seen.control.idle.0)
            );
            (Level::Good, says, Known::Yes)
        }
        (Life::Dead, ..) if seen.early.idle.1 < timeout => {
            note("sessions died before the timeout".to_owned(), Known::NotYet)
        }
        (Life::Alive, Life::Dead, Life::Dead) if seen.touched.idle.1 < timeout => {
            let says = "the heartbeat page did not extend a session: the one that it was asked with died like the one that \
                        nobody used; name a page that reads or writes the session"
                .to_owned();
            (Level::Warning, says, Known::Yes)
        }
        (Life::Dead, ..) | (Life::Alive, Life::Dead, Life::Dead) => {
            note("the app was asked later than planned, and answered too slowly".to_owned(), Known::NotYet)
        }
        (_, _, Life::Alive) => {
            let why = format!(
                "a session that nobody used still lived after {}; its timeout is longer, or the engine collects at random",
                shown(seen.control.idle.0)
            );
            note(why, Known::NotYet)
        }
        _ => note(SILENT.to_owned(), Known::Yes),
    }
}

/// What follows for `session.timeout`.
fn timeout_of(seen: Seen, timeout: Duration) -> Option<(Level, String)> {
    if seen.early.life == Life::Dead && seen.early.idle.1 < timeout {
        let says = format!(
            "a session that nobody used for {} was dead; the config says {}: find out with `sessionbridge check --live \
             --measure-timeout`, and set `session.timeout` so",
            shown(seen.early.idle.1),
            shown(timeout)
        );
        return Some((Level::Warning, says));
    }
    (seen.control.life == Life::Dead).then(|| {
        let says = format!(
            "its sessions live for more than {} and less than {} without a request, as far as one could see",
            shown(seen.early.idle.0),
            shown(seen.control.idle.1)
        );
        (Level::Good, says)
    })
}

#[cfg(test)]
mod tests {
    use super::Life::{Alive, Dead, Unknown};
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Three looks after (life, whole seconds at the most).
    fn seen(early: (Life, u64), touched: (Life, u64), control: (Life, u64)) -> Seen {
        let look = |(life, secs)| Look { life, idle: (Duration::from_secs(secs), Duration::from_secs(secs)) };
        Seen { early: look(early), touched: look(touched), control: look(control) }
    }

    fn in_time(early: Life, touched: Life, control: Life) -> Seen {
        seen((early, 20), (touched, 20), (control, 40))
    }

    #[test]
    fn a_page_is_blamed_only_where_the_control_died_in_its_time() {
        let of = |early, touched, control| judge(in_time(early, touched, control), TIMEOUT);
        assert_eq!(of(Alive, Alive, Dead).0, Level::Good);
        let (level, says, known) = of(Alive, Dead, Dead);
        assert!(level == Level::Warning && known == Known::Yes && says.contains("did not extend"), "{says}");
        for seen in [(Dead, Unknown, Unknown), (Alive, Dead, Alive), (Alive, Alive, Alive)] {
            let (level, says, known) = of(seen.0, seen.1, seen.2);
            assert_eq!((level, known), (Level::Note, Known::NotYet), "{says}");
        }
        assert_eq!(of(Alive, Alive, Unknown).0, Level::Note);
        assert_eq!(of(Alive, Unknown, Dead).0, Level::Note);
        assert_eq!(of(Unknown, Unknown, Unknown).0, Level::Note);
    }

    #[test]
    fn a_look_that_came_too_late_blames_nothing() {
        let late = seen((Alive, 20), (Dead, 30), (Dead, 50));
        let (level, says, _) = judge(late, TIMEOUT);
        assert!(level == Level::Note && says.contains("later than planned"), "{says}");
        let late = seen((Dead, 30), (Unknown, 0), (Unknown, 0));
        let (level, says, _) = judge(late, TIMEOUT);
        assert!(level == Level::Note && !says.contains("died before"), "{says}");
        assert!(timeout_of(late, TIMEOUT).is_none());
    }

    #[test]
    fn a_session_that_died_early_is_a_warning_of_the_timeout() {
        let of = |early, control| timeout_of(in_time(early, Unknown, control), TIMEOUT);
        assert_eq!(of(Dead, Unknown).unwrap().0, Level::Warning);
        let (level, says) = of(Alive, Dead).unwrap();
        assert!(level == Level::Good && says.contains("more than 20s and less than 40s"), "{says}");
        assert!(of(Alive, Alive).is_none());
    }
}
