//! The body of a request on its way out.
//!
//! Invariant: a length that was said is kept to the byte, or the connection ends.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;
use tokio::task::{AbortHandle, spawn_local};

use super::conn::Conn;
use super::head::Framing;
use crate::net::body::{Body, BodyError};

/// A request that is being written; its head lies with the connection already.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Body,
    state: State,
    data: Bytes,
    tail: &'static [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of the body has been asked for.
    Fresh(Framing),
    /// Chunks are to come.
    Chunks,
    /// So many bytes are to come.
    Length(u64),
    /// All is framed.
    Last,
    Done,
}

/// Why a request did not go out in full.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The app does not take it.
    Io(io::Error),
    /// The client does not give it.
    Body(BodyError),
}

impl Outgoing {
    pub(crate) const fn new(body: Body, framing: Framing) -> Self {
        Self { body, state: State::Fresh(framing), data: Bytes::new(), tail: b"" }
    }

    /// True once all has been written.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The body, where nothing of it has been taken.
    pub(crate) fn untouched(self) -> Option<Body> {
        matches!(self.state, State::Fresh(_)).then_some(self.body)
    }

    /// Writes on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, conn: &mut Conn) -> Poll<Result<(), UploadError>> {
        loop {
            ready!(conn.poll_write(cx, &mut self.data, &mut self.tail)).map_err(UploadError::Io)?;
            self.state = match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Last | State::Length(0) | State::Fresh(Framing::None | Framing::Close) => State::Done,
                State::Fresh(Framing::Length(length)) => State::Length(length),
                State::Fresh(Framing::Chunked) => State::Chunks,
                State::Chunks | State::Length(_) => match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                    Some(Err(error)) => return Poll::Ready(Err(UploadError::Body(error))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => self.put(conn, data)?,
                        // Old servers merge trailers into the head, behind everything that was decided about it.
                        Err(_) => self.end(conn)?,
                    },
                    None => self.end(conn)?,
                },
            };
        }
    }

    fn put(&mut self, conn: &mut Conn, data: Bytes) -> Result<State, UploadError> {
        let next = match self.state {
            State::Length(left) => {
                let left = left.checked_sub(data.len() as u64);
                State::Length(left.ok_or(UploadError::Body(BodyError::Filter))?)
            }
            other => {
                // An empty chunk would be the last one.
                if !data.is_empty() {
                    conn.frame(format!("{:x}\r\n", data.len()).as_bytes());
                    self.tail = b"\r\n";
                }
                other
            }
        };
        self.data = data;
        Ok(next)
    }

    fn end(&self, conn: &mut Conn) -> Result<State, UploadError> {
        match self.state {
            State::Length(left) if left > 0 => return Err(UploadError::Body(BodyError::Filter)),
            State::Chunks => conn.frame(b"0\r\n\r\n"),
            _ => {}
        }
        Ok(State::Last)
    }
}

/// The rest of a request whose answer has come already, written beside it. Ends when it is dropped: what an app makes of a
/// request that it has answered is unknown, and the client's side must not wait for it.
#[derive(Debug)]
pub(super) struct Pump {
    task: AbortHandle,
    done: Rc<Cell<bool>>,
}

impl Pump {
    pub(super) fn start(mut outgoing: Outgoing, conn: Rc<RefCell<Conn>>) -> Self {
        let done = Rc::new(Cell::new(false));
        let is_done = Rc::clone(&done);
        let task = spawn_local(async move {
            let written = poll_fn(|cx| outgoing.poll(cx, &mut conn.borrow_mut())).await;
            is_done.set(written.is_ok());
        });
        Self { task: task.abort_handle(), done }
    }

    /// True once the request has gone out in full.
    pub(super) fn is_done(&self) -> bool {
        self.done.get()
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.task.abort();
    }
}
