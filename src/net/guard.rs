//! The stream that hyper reads and writes: it notices when bytes come, ends a write that does not move, and says more
//! where hyper refuses a head by itself.
//!
//! Invariant: while bytes wait to be written, some are taken within the stall time, or the write fails with `TimedOut`.
//! The timer is touched only when a write blocks, and the phase knows while one does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::connections::Permit;
use super::phase::Phase;
use super::refuse::{self, LastWord};
use super::stream::{Rewind, Stream};

/// A stream under guard. It is `Send` because hyper asks that of what can be upgraded.
#[derive(Debug)]
pub(super) struct Guarded {
    io: Rewind,
    stall: WriteStall,
    phase: Option<Arc<Phase>>,
    last_word: Option<LastWord>,
    /// What is written in the place of so many bytes of hyper's.
    instead: Option<(Bytes, usize)>,
    /// Held as long as the socket is open, also after an upgrade.
    _permit: Option<Permit>,
}

impl Guarded {
    /// For a connection to an app.
    pub(super) fn new(io: Rewind, stall: Duration) -> Self {
        let stall = WriteStall { limit: stall, timer: None, armed: false, taken: 0 };
        Self { io, stall, phase: None, last_word: None, instead: None, _permit: None }
    }

    /// For a connection of a client: under the cap and, for HTTP/1, with its phase kept.
    pub(super) fn accepted(mut self, permit: Permit, phase: Option<Arc<Phase>>) -> Self {
        self._permit = Some(permit);
        self.phase = phase;
        self
    }

    /// Says `word` where hyper would say a bare status.
    pub(super) fn refusing_with(mut self, word: LastWord) -> Self {
        self.last_word = Some(word);
        self
    }

    /// The same, with `read` in front of what is still to come.
    pub(super) fn rewound(mut self, read: Bytes) -> Self {
        self.io = self.io.rewound(read);
        self
    }

    /// True where bytes, or the end, lie with the system that nobody has read.
    pub(super) fn has_unread(&self) -> bool {
        self.io.has_unread()
    }

    /// What was accepted, without what guarded it: the bytes that are still to be read, the first of which are `read`, the
    /// stream behind them, and the place under the cap.
    pub(super) fn into_accepted(self, read: Bytes) -> (Bytes, Stream, Option<Permit>) {
        let (ahead, stream) = self.io.into_parts();
        let unread = if ahead.is_empty() { read } else { [read, ahead].concat().into() };
        (unread, stream, self._permit)
    }

    /// True where what hyper is about to write is replaced.
    fn is_replaced(&mut self, written: &[u8]) -> bool {
        if self.instead.is_none()
            && let (Some(word), Some(phase)) = (&self.last_word, &self.phase)
            && phase.is_silent()
            && let Some(status) = refuse::automatic(written)
        {
            self.instead = Some((word.of(status), written.len()));
        }
        self.instead.is_some()
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some((bytes, length)) = &mut self.instead {
            if bytes.is_empty() {
                let length = *length;
                self.instead = None;
                return Poll::Ready(Ok(length));
            }
            let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
            match std::task::ready!(self.stall.check(cx, polled, self.io.taken()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => bytes.advance(written),
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Fails where the client ends its side before it has its answer: nobody waits for that any more. hyper would look for the
    /// end by itself (its `half_close(false)`), but takes 8 KiB anew for that, with every request.
    fn notice_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.io.has_sniffed() || self.phase.as_ref().is_none_or(|phase| phase.is_silent()) {
            return Ok(());
        }
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, &mut buf) else { return Ok(()) };
        read?;
        if buf.filled().is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // What comes behind the head: hyper reads it when its time has come, and may be waiting for it now.
        self.io.rewind(Bytes::copy_from_slice(buf.filled()));
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn watched<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Some(phase) = &self.phase {
            phase.write_waits(polled.is_pending());
        }
        self.stall.check(cx, polled, self.io.taken())
    }
}

#[derive(Debug)]
struct WriteStall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
    /// See `Stream::taken`.
    taken: u64,
}

impl WriteStall {
    fn check<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        taken: u64,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.armed = false;
            return polled;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.armed || self.taken != taken {
            (self.armed, self.taken) = (true, taken);
            timer.as_mut().reset(Instant::now() + limit);
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "write stalled"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Some(phase) = &self.phase
            && buf.filled().len() > before
        {
            phase.bytes_came();
        }
        polled
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_replaced(buf) {
            return self.poll_instead(cx);
        }
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watched(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs
            && self.is_replaced(only)
        {
            return self.poll_instead(cx);
        }
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watched(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.notice_end(cx)?;
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.watched(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watched(cx, polled)
    }
}
