//! The body of an answer, as it comes.
//!
//! Invariant: its end is the end that its framing names; a connection that ends before is an error, never an end.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::chunked::{Chunked, Piece};
use super::conn::Conn;
use super::head::Framing;
use super::upload::{Outgoing, Pump};
use crate::net::body::BodyError;

/// The body of an answer, with the connection that it comes on.
#[derive(Debug)]
pub(crate) struct Reply {
    rest: Rest,
    line: Option<Line>,
}

#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(Chunked),
    Close,
    Over,
}

#[derive(Debug)]
struct Line {
    conn: Rc<RefCell<Conn>>,
    /// Where the request is still going out.
    pump: Option<Pump>,
}

impl Reply {
    /// The body of an answer on `conn`; `unsent` is what of the request has not gone out. Its connection is given back at a
    /// clean end, which for an answer without a body is now.
    pub(crate) fn new(conn: Rc<RefCell<Conn>>, framing: Framing, unsent: Option<Outgoing>) -> Self {
        let rest = match framing {
            Framing::None | Framing::Length(0) => Rest::Over,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Chunked::new()),
            Framing::Close => Rest::Close,
        };
        let mut reply = Self { rest, line: None };
        if matches!(reply.rest, Rest::Over) {
            if unsent.is_none() {
                Conn::give_back(conn);
            }
            return reply;
        }
        let pump = unsent.map(|outgoing| Pump::start(outgoing, Rc::clone(&conn)));
        reply.line = Some(Line { conn, pump });
        reply
    }

    /// True once it has been read to its end.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.rest, Rest::Over)
    }

    /// What is known of its length.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.rest {
            Rest::Length(left) => SizeHint::with_exact(left),
            Rest::Over => SizeHint::with_exact(0),
            Rest::Chunked(_) | Rest::Close => SizeHint::default(),
        }
    }

    /// What comes next.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(line) = &self.line else { return Poll::Ready(None) };
        let conn = Rc::clone(&line.conn);
        let polled = {
            let conn = &mut *conn.borrow_mut();
            loop {
                match self.rest.take(conn.input()) {
                    Ok(Some(piece)) => break Ok(piece),
                    Ok(None) => {}
                    Err(error) => break Err(error),
                }
                match ready!(conn.poll_fill(cx)) {
                    Ok(0) if matches!(self.rest, Rest::Close) => break Ok(Piece::End),
                    Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                }
            }
        };
        drop(conn);
        Poll::Ready(match polled {
            Ok(Piece::Data(data)) => {
                if matches!(self.rest, Rest::Length(0)) {
                    self.end();
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(Piece::Trailers(trailers)) => {
                self.end();
                Some(Ok(Frame::trailers(trailers)))
            }
            Ok(Piece::End | Piece::More) => {
                self.end();
                None
            }
            Err(error) => {
                (self.rest, self.line) = (Rest::Over, None);
                Some(Err(BodyError::Broken(Arc::new(error))))
            }
        })
    }

    fn end(&mut self) {
        self.rest = Rest::Over;
        let Some(Line { conn, pump }) = self.line.take() else { return };
        if pump.is_none_or(|pump| pump.is_done()) {
            Conn::give_back(conn);
        }
    }
}

impl Rest {
    /// Takes what comes next off the front of `input`; `None` where more has to be read first.
    fn take(&mut self, input: &mut BytesMut) -> io::Result<Option<Piece>> {
        let data = |input: &mut BytesMut, most: u64| {
            let here = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
            (here > 0).then(|| Piece::Data(input.split_to(here).freeze()))
        };
        match self {
            Self::Over => Ok(Some(Piece::End)),
            Self::Close => Ok(data(input, u64::MAX)),
            Self::Length(left) => {
                let piece = data(input, *left);
                if let Some(Piece::Data(data)) = &piece {
                    *left -= data.len() as u64;
                }
                Ok(piece)
            }
            Self::Chunked(chunked) => match chunked.next(input) {
                Ok(Piece::More) => Ok(None),
                Ok(piece) => Ok(Some(piece)),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
        }
    }
}
