//! Handing settings to the threads that serve.
//!
//! Invariants: each thread is handed every setting that follows the one it begins with, in their order; it takes one between two
//! turns of its work, and nobody waits for a thread that has ended.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::setting::{Present, Setting};

/// The way to each thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Workers(Arc<Mutex<Vec<UnboundedSender<Handed>>>>);

/// A setting on its way; dropping it says that the thread has it.
#[derive(Debug)]
struct Handed {
    setting: Arc<Setting>,
    _taken: oneshot::Sender<()>,
}

/// What one thread is handed.
#[derive(Debug)]
pub(super) struct Turn {
    /// What it begins with.
    pub(super) setting: Rc<Setting>,
    next: UnboundedReceiver<Handed>,
}

/// Threads that were handed a setting.
#[derive(Debug)]
#[must_use]
pub(super) struct Taken(Vec<oneshot::Receiver<()>>);

impl Workers {
    /// Puts `setting` in the place of the `present` one, and on the way to all threads.
    pub(super) fn hand(&self, present: &Present, setting: Arc<Setting>) -> Taken {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        present.replace(Arc::clone(&setting));
        let mut taken = Vec::new();
        workers.retain(|worker| {
            let (say, told) = oneshot::channel();
            taken.push(told);
            worker.send(Handed { setting: Arc::clone(&setting), _taken: say }).is_ok()
        });
        Taken(taken)
    }

    /// One thread more, which begins with the `present` setting.
    pub(super) fn enlist(&self, present: &Present) -> Turn {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (to, next) = unbounded_channel();
        workers.push(to);
        Turn { setting: own(&present.now()), next }
    }
}

impl Turn {
    /// Does `take` with each setting that follows, for ever.
    pub(super) async fn follow(mut self, take: impl Fn(Rc<Setting>)) {
        while let Some(handed) = self.next.recv().await {
            take(own(&handed.setting));
        }
    }
}

impl Taken {
    /// Ready when all threads that live have it.
    pub(super) async fn by_all(self) {
        for taken in self.0 {
            // Nothing is ever said: what counts is that it is dropped.
            let _ = taken.await;
        }
    }
}

/// A thread's own copy: what it counts as held is counted by no other.
fn own(setting: &Arc<Setting>) -> Rc<Setting> {
    Rc::new((**setting).clone())
}
