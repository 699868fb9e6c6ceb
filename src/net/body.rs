//! The one body type, both ways: requests to apps, answers to clients, and what the proxy itself writes.
//!
//! Invariant: a body that ends without an error is whole. What breaks off, stalls or grows over its limit ends with a
//! [`BodyError`], and every end hook is called exactly once, at the latest on drop.

mod error;
mod filter;
mod stall;

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use smallvec::SmallVec;

pub use self::error::BodyError;
pub use self::filter::Filter;
use self::filter::Filtering;
use self::stall::Stall;
use super::h1::Reply;
use super::upload::Upload;

/// A body of an HTTP message. Small, since it is handed on from one step to the next; an empty one is nothing at all.
#[derive(Default)]
pub struct Body(Option<Box<Inner>>);

#[derive(Default)]
struct Inner {
    source: Source,
    /// Chunks to give before `source`.
    front: SmallVec<[Bytes; 1]>,
    extras: Option<Box<Extras>>,
    hooks: SmallVec<[EndHook; 2]>,
    given: u64,
    over: bool,
}

/// How a body ended.
#[derive(Clone, Debug)]
pub struct End {
    /// Whole, dropped, or failed.
    pub outcome: Outcome,
    /// Bytes of data given to the reader; they need not have reached the peer.
    pub bytes: u64,
}

/// The three ways to end.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All of it was read.
    Complete,
    /// It was dropped before its end: the reader went away or lost interest.
    Aborted,
    /// It failed.
    Failed(BodyError),
}

/// Called once with how the body ended. Do not block, and do not spawn: it may run while a runtime is torn down.
pub type EndHook = Box<dyn FnOnce(&End)>;

#[derive(Default)]
enum Source {
    #[default]
    Empty,
    /// Nothing, but of a length that a header states: the answer to a conditional request.
    Declared(u64),
    Incoming(Incoming),
    Reply(Reply),
    #[cfg(test)]
    Script(super::testing::Script),
}

/// What most bodies do not need, out of line so that those are small.
#[derive(Default)]
struct Extras {
    limit: Option<u64>,
    stall: Option<Stall>,
    filter: Option<Filtering>,
    upload: Option<Rc<Upload>>,
    until: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Bytes taken from `source`.
    taken: u64,
}

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self(None)
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let mut body = Self::empty();
        let bytes = bytes.into();
        if !bytes.is_empty() {
            body.inner().front.push(bytes);
        }
        body
    }

    /// What a peer sends.
    pub fn incoming(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::empty() } else { Self::of(Source::Incoming(incoming)) }
    }

    /// Puts chunks back before what is left of `rest`. They pass no filter and no limit (again), and count in
    /// [`End::bytes`] once.
    pub fn prefixed(chunks: impl IntoIterator<Item = Bytes>, mut rest: Self) -> Self {
        for (at, chunk) in chunks.into_iter().filter(|chunk| !chunk.is_empty()).enumerate() {
            let inner = rest.inner();
            inner.given = inner.given.saturating_sub(chunk.len() as u64);
            inner.front.insert(at, chunk);
            inner.over = false;
        }
        rest
    }

    /// Fails with [`BodyError::TooLarge`] as soon as more than `limit` bytes have come.
    #[must_use]
    pub fn limited(mut self, limit: u64) -> Self {
        self.extras().limit = Some(limit);
        self
    }

    /// Fails with [`BodyError::Stalled`] when a reader has waited `after` without a frame. Time in which nobody
    /// reads does not count.
    #[must_use]
    pub fn stalling_after(mut self, after: Duration) -> Self {
        // What is all there does not stall.
        if self.0.as_ref().is_some_and(|inner| !matches!(inner.source, Source::Empty)) {
            self.extras().stall = Some(Stall::new(after));
        }
        self
    }

    /// Passes all data through `filter`.
    #[must_use]
    pub fn filtered(mut self, filter: impl Filter + 'static) -> Self {
        self.extras().filter = Some(Filtering::new(filter));
        self
    }

    /// Ends, as if it were complete, when `over` resolves.
    #[must_use]
    pub fn until(mut self, over: impl Future<Output = ()> + 'static) -> Self {
        self.extras().until = Some(Box::pin(over));
        self
    }

    /// Adds a hook for the end. Hooks run in the order in which they were added.
    #[must_use]
    pub fn on_end(mut self, hook: impl FnOnce(&End) + 'static) -> Self {
        self.inner().hooks.push(Box::new(hook));
        self
    }

    /// The body of an app's answer.
    pub(super) fn reply(reply: Reply) -> Self {
        if reply.is_over() { Self::empty() } else { Self::of(Source::Reply(reply)) }
    }

    /// No bytes, though `length` of them are named: hyper keeps the `Content-Length` of a 304 only for such a body.
    pub(super) fn declaring(length: u64) -> Self {
        Self::of(Source::Declared(length))
    }

    /// Frames as a test sends them.
    #[cfg(test)]
    pub(super) fn scripted(script: super::testing::Script) -> Self {
        Self::of(Source::Script(script))
    }

    /// Lets `upload` follow this body.
    pub(super) fn followed_by(mut self, upload: Rc<Upload>) -> Self {
        self.extras().upload = Some(upload);
        self
    }

    fn of(source: Source) -> Self {
        let mut inner = Box::<Inner>::default();
        inner.source = source;
        Self(Some(inner))
    }

    fn inner(&mut self) -> &mut Inner {
        self.0.get_or_insert_default()
    }

    fn extras(&mut self) -> &mut Extras {
        self.inner().extras.get_or_insert_default()
    }
}

impl Inner {
    fn finish(&mut self, outcome: Outcome) {
        self.over = true;
        if let (Some(extras), Outcome::Complete) = (&self.extras, &outcome)
            && let Some(upload) = &extras.upload
        {
            upload.completed();
        }
        if self.hooks.is_empty() {
            return;
        }
        let end = End { outcome, bytes: self.given };
        for hook in std::mem::take(&mut self.hooks) {
            hook(&end);
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.source {
            Source::Empty | Source::Declared(_) => Poll::Ready(None),
            Source::Incoming(incoming) => {
                Pin::new(incoming).poll_frame(cx).map_err(|error| BodyError::Broken(Arc::new(error)))
            }
            Source::Reply(reply) => reply.poll_frame(cx),
            #[cfg(test)]
            Source::Script(script) => script.poll_recv(cx),
        };
        match &mut self.extras {
            None => polled,
            Some(extras) => extras.check(cx, polled),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let until = self.extras.as_mut().and_then(|extras| extras.until.as_mut());
        if until.is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(None);
        }
        if !self.front.is_empty() {
            let chunk = self.front.remove(0);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        loop {
            if let Some(trailers) = self.kept_trailers() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            let frame = ready!(self.poll_source(cx));
            let Some(filtering) = self.extras.as_mut().and_then(|extras| extras.filter.as_mut()) else {
                return Poll::Ready(frame);
            };
            match filtering.pass(frame) {
                Some(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(frame) => return Poll::Ready(frame),
                None => {}
            }
        }
    }

    fn kept_trailers(&mut self) -> Option<HeaderMap> {
        self.extras.as_mut()?.filter.as_mut()?.take_trailers()
    }

    /// Whether the source and all that stands between it and the reader is used up.
    fn is_drained(&self) -> bool {
        let source = match &self.source {
            Source::Empty => true,
            Source::Declared(_) => false,
            Source::Incoming(incoming) => incoming.is_end_stream(),
            Source::Reply(reply) => reply.is_over(),
            #[cfg(test)]
            Source::Script(_) => false,
        };
        let filter = self.extras.as_ref().and_then(|extras| extras.filter.as_ref());
        source && self.front.is_empty() && filter.is_none_or(Filtering::is_drained)
    }
}

impl Extras {
    fn check(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<Option<Result<Frame<Bytes>, BodyError>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = polled else {
            return match self.stall.as_mut().map(|stall| stall.poll(cx)) {
                Some(Poll::Ready(after)) => Poll::Ready(Some(Err(BodyError::Stalled { after }))),
                Some(Poll::Pending) | None => Poll::Pending,
            };
        };
        if let Some(stall) = &mut self.stall {
            stall.moved();
        }
        if let Some(Ok(frame)) = &frame {
            self.taken += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        match self.limit {
            Some(limit) if self.taken > limit => Poll::Ready(Some(Err(BodyError::TooLarge { limit }))),
            _ => Poll::Ready(frame),
        }
    }
}

impl Inner {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let polled = self.poll_next(cx);
        if let Some(upload) = self.extras.as_ref().and_then(|extras| extras.upload.as_ref()) {
            upload.polled(&polled);
        }
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => self.finish(Outcome::Complete),
            Poll::Ready(Some(Err(error))) => {
                let error = error.clone();
                self.finish(Outcome::Failed(error));
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.given += frame.data_ref().map_or(0, |data| data.len() as u64);
                // hyper asks no more once the end is known, so it is reported now. Trailers are the last frame.
                if frame.is_trailers() || self.is_drained() {
                    self.finish(Outcome::Complete);
                }
            }
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        if self.over {
            return SizeHint::with_exact(0);
        }
        let mut ahead: u64 = self.front.iter().map(|chunk| chunk.len() as u64).sum();
        if let Some(filtering) = self.extras.as_ref().and_then(|extras| extras.filter.as_ref()) {
            ahead += filtering.held_back();
        }
        let mut hint = match &self.source {
            Source::Empty => return SizeHint::with_exact(ahead),
            Source::Declared(length) => return SizeHint::with_exact(*length),
            Source::Incoming(incoming) => incoming.size_hint(),
            Source::Reply(reply) => reply.size_hint(),
            #[cfg(test)]
            Source::Script(_) => SizeHint::default(),
        };
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint.set_lower(hint.lower().saturating_add(ahead));
        hint
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.over {
            let outcome = if self.is_drained() { Outcome::Complete } else { Outcome::Aborted };
            self.finish(outcome);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().0.as_mut().map_or(Poll::Ready(None), |inner| inner.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.over || inner.is_drained())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |inner| inner.size_hint())
    }
}

impl fmt::Debug for Body {
    /// Sizes only: bodies hold what people type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.0.as_ref().map_or(0, |inner| inner.given);
        f.debug_struct("Body").field("size", &self.size_hint()).field("given", &given).finish()
    }
}

#[cfg(test)]
mod tests;
