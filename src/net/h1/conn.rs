//! One connection to an app: what is read of it, what is to be written, and whether it may serve again.
//!
//! Invariant: bytes that nobody asked for are never read as the answer to a request that comes after them.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::head::{self, AnswerHead, Framing, HeadError};
use super::request::Sending;
use super::spare::{READ, READ_MOST, Spare};
use crate::net::guard::Guarded;
use crate::net::pool::Pool;
use crate::net::upstream::{Resolved, Upstream};
use crate::wire::request;

/// Room that is worth a read.
const ROOM: usize = 1024;
/// Interim answers before one answer, at most.
const MAX_INTERIM: usize = 16;

/// A connection to an app. Shared only while an answer comes before its request has gone out in full.
pub(crate) struct Conn {
    io: Guarded,
    /// Where it leads.
    pub(crate) upstream: Upstream,
    /// Which of its name's addresses, where it was looked up.
    pub(crate) resolved: Option<Resolved>,
    home: Weak<Pool>,
    spare: Rc<Spare>,
    /// What has been read and not taken; without memory of its own while nothing has come.
    input: BytesMut,
    /// What is framed; without memory of its own once it has gone out.
    output: Vec<u8>,
    /// How much of `output` has gone out.
    sent: usize,
    /// How much is read at once.
    step: usize,
    /// For the head of an answer; kept from one request to the next, since moving a timer on costs less than making one.
    timer: Option<Pin<Box<Sleep>>>,
    /// True where a byte of the present request has been written.
    written: bool,
    /// True where a byte of the present answer has come.
    heard: bool,
    /// Interim answers before the present one.
    interim: usize,
    /// True where the last answer left it open.
    keeps: bool,
    /// True where the last answer had no body by rule: the system is asked whether one came all the same.
    doubted: bool,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("upstream", &self.upstream)
            .field("keeps", &self.keeps)
            .finish_non_exhaustive()
    }
}

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum NoHead {
    /// The connection failed or ended before one began.
    Lost(io::Error),
    /// What came is none.
    Bad(HeadError),
}

impl Conn {
    pub(crate) fn new(io: Guarded, upstream: Upstream, resolved: Option<Resolved>, home: &Rc<Pool>) -> Self {
        Self {
            io,
            upstream,
            resolved,
            home: Rc::downgrade(home),
            spare: home.spare(),
            input: BytesMut::new(),
            output: Vec::new(),
            sent: 0,
            step: READ,
            timer: None,
            written: false,
            heard: false,
            interim: 0,
            keeps: false,
            doubted: false,
        }
    }

    /// Puts the head of a request in front of what is to be written.
    pub(crate) fn begin(&mut self, head: &request::Head, sending: Sending) {
        (self.written, self.keeps, self.step) = (false, false, READ);
        (self.heard, self.interim, self.sent) = (false, 0, 0);
        self.output.clear();
        sending.write(head, self.output());
    }

    fn output(&mut self) -> &mut Vec<u8> {
        if self.output.capacity() == 0 {
            self.output = self.spare.take_output();
        }
        &mut self.output
    }

    /// True where a byte of the present request has been written.
    pub(crate) const fn has_written(&self) -> bool {
        self.written
    }

    /// The answer keeps the connection open, or does not. `bodiless`: it has no body whatever its fields say; an app that
    /// does not know that may still send one.
    pub(crate) const fn keep(&mut self, keeps: bool, bodiless: bool) {
        (self.keeps, self.doubted) = (keeps, bodiless);
    }

    /// Bytes that frame a body.
    pub(super) fn frame(&mut self, bytes: &[u8]) {
        self.output().extend_from_slice(bytes);
    }

    /// What has been read and not taken.
    pub(super) const fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Writes all that is framed, `data` behind it, and then `tail`.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        tail: &mut &'static [u8],
    ) -> Poll<io::Result<()>> {
        loop {
            let framed = self.output.get(self.sent..).unwrap_or_default();
            if framed.is_empty() && data.is_empty() && tail.is_empty() {
                break;
            }
            let io = Pin::new(&mut self.io);
            let mut written = if data.is_empty() && tail.is_empty() {
                ready!(io.poll_write(cx, framed))?
            } else {
                let slices = [IoSlice::new(framed), IoSlice::new(data), IoSlice::new(tail)];
                ready!(io.poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = true;
            let mut of = |length: usize| {
                let here = written.min(length);
                written -= here;
                here
            };
            self.sent += of(framed.len());
            data.advance(of(data.len()));
            *tail = tail.get(of(tail.len())..).unwrap_or_default();
        }
        if self.output.capacity() > 0 {
            self.spare.leave_output(std::mem::take(&mut self.output));
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more; 0 at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < ROOM {
            self.make_room();
        }
        let room = self.input.capacity() - self.input.len();
        let polled = poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input);
        if polled.is_pending() && self.input.is_empty() {
            self.spare.leave_input(std::mem::take(&mut self.input));
        }
        let read = ready!(polled)?;
        if read == room {
            self.step = READ_MOST;
        }
        Poll::Ready(Ok(read))
    }

    fn make_room(&mut self) {
        if self.input.is_empty() {
            self.input = self.spare.take_input();
        }
        if self.input.capacity() - self.input.len() < ROOM {
            self.input.reserve(self.step);
        }
    }

    /// Reads the head of the answer. Interim answers but 101 are dropped.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        to_head: bool,
    ) -> Poll<Result<AnswerHead, NoHead>> {
        loop {
            while !self.input.is_empty() {
                self.heard = true;
                match head::take(&mut self.input, to_head) {
                    Ok(None) => break,
                    Ok(Some(head)) if head.parts.status.is_informational() && head.parts.status != 101 => {
                        self.interim += 1;
                        if self.interim > MAX_INTERIM {
                            return Poll::Ready(Err(NoHead::Bad(HeadError::Interim)));
                        }
                    }
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Err(error) => return Poll::Ready(Err(NoHead::Bad(error))),
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if self.heard => {
                    return Poll::Ready(Err(NoHead::Bad(HeadError::Cut)));
                }
                Ok(0) => return Poll::Ready(Err(NoHead::Lost(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {}
                Err(_) if self.heard => return Poll::Ready(Err(NoHead::Bad(HeadError::Cut))),
                Err(error) => return Poll::Ready(Err(NoHead::Lost(error))),
            }
        }
    }

    /// Sets the clock for the head of the answer.
    pub(crate) fn set_clock(&mut self, at: Instant) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(sleep_until(at))),
        }
    }

    /// Resolves when the clock has come to its end.
    pub(crate) fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// True for an idle connection that is open and on which nothing has come: neither its end, nor bytes that would be
    /// taken for the next answer. Asks the system only where something is said to have come, or is likely to.
    pub(crate) fn is_quiet(&mut self) -> bool {
        if !self.input.is_empty() || self.doubted && self.io.has_unread() {
            return false;
        }
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        // Without a budget: a task that has used its own up would find every connection quiet.
        let mut look = unconstrained(poll_fn(|cx| Pin::new(&mut self.io).poll_read(cx, &mut buffer)));
        Pin::new(&mut look).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// The body of an answer that came along with its head: most are short, and one less that has to be waited for.
    pub(crate) fn whole(this: &RefCell<Self>, framing: Framing) -> Option<Bytes> {
        let Framing::Length(length) = framing else { return None };
        let input = &mut this.borrow_mut().input;
        let length = usize::try_from(length).ok().filter(|length| *length <= input.len())?;
        Some(input.split_to(length).freeze())
    }

    /// The stream alone, with what was read of it and not taken.
    pub(crate) fn into_stream(self) -> Guarded {
        self.io.rewound(self.input.freeze())
    }

    /// Gives the connection back where it may serve again, and closes it else.
    pub(crate) fn give_back(this: Rc<RefCell<Self>>) {
        let home = {
            let conn = &mut *this.borrow_mut();
            let spotless = conn.keeps && conn.input.is_empty() && conn.output.is_empty();
            conn.spare.leave_input(std::mem::take(&mut conn.input));
            conn.home.upgrade().filter(|_| spotless)
        };
        if let Some(pool) = home {
            pool.give(this);
        }
    }
}
