//! How the body of a request to an app fares, seen from the one who waits for the answer.
//!
//! Invariant: the first-byte clock runs only while the app has something to answer for: not while the client owes us
//! bytes, and from anew with each chunk the app takes.

use std::cell::Cell;
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
}

impl Upload {
    pub(super) fn new() -> Self {
        Self { state: Cell::new(State::Flowing), moved: Cell::new(Instant::now()) }
    }

    /// Told of every poll of the body.
    pub(super) fn polled(&self, polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        match polled {
            Poll::Pending => self.state.set(State::Starved),
            Poll::Ready(Some(Err(_))) => self.state.set(State::Failed),
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

    /// The moment at which the wait for the first byte has lasted `limit`, as things stand at `now`.
    pub(super) fn due(&self, now: Instant, limit: Duration) -> Instant {
        match self.state.get() {
            State::Starved => now + limit,
            State::Flowing | State::Complete | State::Failed => self.moved.get() + limit,
        }
    }
}
