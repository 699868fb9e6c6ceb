//! The story of the config: each time that it was read anew, by whom, and what came of it; and the way to ask for that.
//!
//! Invariant: what is told of a config are names of keys and reports, which show no secret.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::time::Timestamp;

/// As many are remembered.
const MOST: usize = 20;

/// Who asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The start of the process.
    Start,
    /// A file has changed.
    File,
    /// SIGHUP.
    Signal,
    /// An operator, by the address of the connection.
    Operator(String),
}

/// What came of a config that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in use.
    Used {
        /// What it says otherwise than the one before: keys.
        changes: Vec<String>,
        /// What of it waits for a restart: keys.
        restart: Vec<String>,
        /// What is worth a thought, as people read it.
        warnings: Vec<String>,
    },
    /// It cannot be used, and the one before it stays: all its mistakes, as people read them.
    Refused(String),
}

/// A config that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// When.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: By,
    /// What came of it.
    pub outcome: Outcome,
}

/// Somebody who asks for the config to be read anew.
#[derive(Debug)]
pub struct Ask {
    /// Who.
    pub by: By,
    /// Where the answer goes.
    pub told: oneshot::Sender<Load>,
}

/// The last of them, latest first, for all threads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    all: Arc<Mutex<VecDeque<Load>>>,
    desk: Arc<Mutex<Option<UnboundedSender<Ask>>>>,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::File => f.write_str("file"),
            Self::Signal => f.write_str("signal"),
            Self::Operator(who) => write!(f, "operator {who}"),
        }
    }
}

impl Load {
    /// True where the config is in use.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        matches!(self.outcome, Outcome::Used { .. })
    }
}

impl Loads {
    /// From now on whoever asks is heard by the one who holds what is returned.
    #[must_use]
    pub fn open(&self) -> UnboundedReceiver<Ask> {
        let (desk, asks) = unbounded_channel();
        *self.desk.lock().unwrap_or_else(PoisonError::into_inner) = Some(desk);
        asks
    }

    /// Asks for the config to be read anew; the answer comes when all threads have what it says, or when it was refused. `None`
    /// where nobody reads configs here, or the process stops.
    pub async fn ask(&self, by: By) -> Option<Load> {
        self.send(by)?.await.ok()
    }

    /// As [`Loads::ask`], for somebody who does not wait.
    pub fn send(&self, by: By) -> Option<oneshot::Receiver<Load>> {
        let (told, hears) = oneshot::channel();
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.as_ref()?.send(Ask { by, told }).ok()?;
        Some(hears)
    }

    /// Takes `load` down.
    pub fn note(&self, load: Load) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_front(load);
        all.truncate(MOST);
    }

    /// All that are remembered, latest first.
    #[must_use]
    pub fn all(&self) -> Vec<Load> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The latest.
    #[must_use]
    pub fn last(&self) -> Option<Load> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(n: u64) -> Load {
        Load { at: Timestamp::from_secs(n), by: By::File, outcome: Outcome::Refused(String::new()) }
    }

    #[test]
    fn the_last_twenty_are_told_latest_first() {
        let loads = Loads::default();
        (0..30).map(load).for_each(|load| loads.note(load));
        let at: Vec<u64> = loads.all().iter().map(|load| load.at.secs()).collect();
        assert_eq!(at, (10..30).rev().collect::<Vec<_>>());
        assert_eq!(loads.last(), Some(load(29)));
    }

    #[tokio::test]
    async fn who_asks_is_answered_or_told_that_nobody_is_there() {
        let loads = Loads::default();
        assert_eq!(loads.ask(By::Signal).await, None);
        let mut asks = loads.open();
        let answer = tokio::join!(loads.ask(By::Signal), async {
            let ask = asks.recv().await.unwrap();
            assert_eq!(ask.by, By::Signal);
            ask.told.send(load(1)).unwrap();
        });
        assert_eq!(answer.0, Some(load(1)));
        drop(asks);
        assert_eq!(loads.ask(By::Signal).await, None);
    }
}
