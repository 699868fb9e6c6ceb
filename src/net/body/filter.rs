//! Rewriting a body as it passes.
//!
//! Invariant: as many bytes go out as came in, or the body fails; trailers come after all of them.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::error::BodyError;

/// Rewrites data as it passes, without changing its length in total; bytes may be held back until `finish`.
pub trait Filter {
    /// Takes a chunk and gives what can go out now, perhaps nothing.
    fn chunk(&mut self, chunk: Bytes) -> Bytes;
    /// Called at a clean end, if bytes are held back then: gives them.
    fn finish(&mut self) -> Bytes {
        Bytes::new()
    }
}

impl<F: FnMut(Bytes) -> Bytes> Filter for F {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self(chunk)
    }
}

/// A filter at work.
pub(super) struct Filtering {
    filter: Box<dyn Filter>,
    taken: u64,
    given: u64,
    /// A frame that came after the data (trailers), kept while the held back bytes go first.
    trailers: Option<HeaderMap>,
    finished: bool,
}

impl Filtering {
    pub(super) fn new(filter: impl Filter + 'static) -> Self {
        Self { filter: Box::new(filter), taken: 0, given: 0, trailers: None, finished: false }
    }

    /// Trailers that waited for what was held back.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// `None` asks for another round: there is nothing to give just now.
    #[expect(clippy::option_option, reason = "the inner one is the end of the body")]
    pub(super) fn pass(
        &mut self,
        frame: Option<Result<Frame<Bytes>, BodyError>>,
    ) -> Option<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            None if !self.finished && self.held_back() > 0 => return self.end(None),
            other => return Some(other),
        };
        match frame.into_data() {
            Ok(data) => {
                self.taken += data.len() as u64;
                let out = self.filter.chunk(data);
                self.given += out.len() as u64;
                let grew = self.given > self.taken;
                Some(Some(if grew { Err(BodyError::Filter) } else { Ok(Frame::data(out)) }))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) if self.held_back() > 0 => self.end(Some(trailers)),
                Ok(trailers) => Some(Some(Ok(Frame::trailers(trailers)))),
                Err(frame) => Some(Some(Ok(frame))),
            },
        }
    }

    #[expect(clippy::option_option, reason = "the inner one is the end of the body")]
    fn end(&mut self, trailers: Option<HeaderMap>) -> Option<Option<Result<Frame<Bytes>, BodyError>>> {
        self.trailers = trailers;
        self.finished = true;
        let held = self.filter.finish();
        self.given += held.len() as u64;
        if self.given != self.taken {
            return Some(Some(Err(BodyError::Filter)));
        }
        (!held.is_empty()).then(|| Some(Ok(Frame::data(held))))
    }

    /// Bytes that came and have not gone out.
    pub(super) fn held_back(&self) -> u64 {
        self.taken.saturating_sub(self.given)
    }

    /// Before `finish` only a filter that holds nothing back is drained: then `finish` has nothing to give.
    pub(super) fn is_drained(&self) -> bool {
        self.trailers.is_none() && self.held_back() == 0
    }
}
