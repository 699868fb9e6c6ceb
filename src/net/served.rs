//! An answer on its way to a client: it ends the request in the connection's phase, and tells when the client does not
//! take it.
//!
//! Invariant: a request counts as in flight from its head to the end, or the loss, of its answer.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::body::{Body, BodyError};
use super::phase::Phase;

/// One request in flight, until dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Phase>);

impl InFlight {
    pub(super) fn begin(phase: &Arc<Phase>, has_body: bool) -> Self {
        phase.request_began(has_body);
        Self(Arc::clone(phase))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// Since when a stream's reader has had a chunk without asking for the next; `None` while it waits for us.
type Wait = Rc<Cell<Option<Instant>>>;

/// The answers under way on one HTTP/2 connection. There a client can stop reading one stream without blocking the
/// socket, so a write stall does not show it.
#[derive(Debug, Default)]
pub(super) struct Streams(RefCell<Vec<Wait>>);

impl Streams {
    fn join(&self) -> Wait {
        let wait = Wait::default();
        let mut waits = self.0.borrow_mut();
        if waits.len() == waits.capacity() {
            waits.retain(|wait| Rc::strong_count(wait) > 1);
        }
        waits.push(Rc::clone(&wait));
        wait
    }

    /// Since when the most patient stream waits for its client.
    pub(super) fn longest_wait(&self) -> Option<Instant> {
        let mut waits = self.0.borrow_mut();
        waits.retain(|wait| Rc::strong_count(wait) > 1);
        waits.iter().filter_map(|wait| wait.get()).min()
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Served {
    body: Body,
    wait: Option<Wait>,
    _in_flight: InFlight,
}

impl Served {
    pub(super) fn new(body: Body, in_flight: InFlight, streams: Option<&Streams>) -> Self {
        Self { body, wait: streams.map(Streams::join), _in_flight: in_flight }
    }
}

impl http_body::Body for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(wait) = &self.wait {
            wait.set(polled.is_ready().then(Instant::now));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
