//! How the body of a request to an app fares, seen from the one who waits for the answer.
//!
//! Invariant: the first-byte clock runs only while the app has something to answer for: not while the client owes us
//! bytes, and from anew with each chunk the app takes.

use std::cell::{Cell, RefCell};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;

use super::body::BodyError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The app was given a chunk and may take the next.
    Flowing,
    /// The app would take more, the client has not sent it.
    Starved,
    Complete,
    Failed,
}

/// Follows one upload.
#[derive(Debug)]
pub(super) struct Upload {
    state: Cell<State>,
    moved: Cell<Instant>,
    error: RefCell<Option<BodyError>>,
}

impl Upload {
    pub(super) fn new() -> Self {
        Self { state: Cell::new(State::Flowing), moved: Cell::new(Instant::now()), error: RefCell::new(None) }
    }

    /// Told of every poll of the body.
    pub(super) fn polled(&self, polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        match polled {
            Poll::Pending => self.state.set(State::Starved),
            Poll::Ready(Some(Err(error))) => {
                self.state.set(State::Failed);
                self.error.replace(Some(error.clone()));
            }
            Poll::Ready(_) => {
                self.state.set(State::Flowing);
                self.moved.set(Instant::now());
            }
        }
    }

    /// The whole body was taken.
    pub(super) fn completed(&self) {
        self.state.set(State::Complete);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state.get() == State::Complete
    }

    /// Why the body failed, if it did.
    pub(super) fn take_error(&self) -> Option<BodyError> {
        self.error.take()
    }

    /// The moment at which the wait for the first byte has lasted `limit`, as things stand at `now`.
    pub(super) fn due(&self, now: Instant, limit: Duration) -> Instant {
        match self.state.get() {
            State::Starved => now + limit,
            State::Flowing | State::Complete | State::Failed => self.moved.get() + limit,
        }
    }
}
