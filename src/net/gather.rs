//! What goes out on an HTTP/2 connection in one turn, gathered: h2 writes and flushes each frame of data by itself, which under
//! TLS is a record and a system call for each answer.
//!
//! Invariant: bytes keep their order, and a flush that was promised is made good before the task rests: by [`Gathering`], at
//! the end of each turn, or by the shutdown. Where the stream cannot take them yet, the task is woken when it can.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at the most, in bytes: a full record of TLS (RFC 8446, 5.1).
const MOST: usize = 16 * 1024;

/// The memory that the connections of one thread gather in: one whose bytes have gone out leaves it to the next.
pub(super) type Shelf = Rc<Cell<Vec<u8>>>;

/// A stream whose writes are gathered until the turn ends. To be served under [`Gathering`].
pub(super) struct Gathered<T>(Rc<RefCell<Outbox<T>>>);

/// Where the turns of what serves a [`Gathered`] stream end.
pub(super) struct TurnEnd<T>(Rc<RefCell<Outbox<T>>>);

/// What serves a [`Gathered`] stream; at the end of each turn all that it wrote goes out.
pub(super) struct Gathering<'a, C, T> {
    conn: Pin<&'a mut C>,
    end: TurnEnd<T>,
}

/// How serving failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed<E> {
    /// As it says itself.
    #[error(transparent)]
    Conn(E),
    /// What it wrote could not go out.
    #[error(transparent)]
    Write(#[from] io::Error),
}

struct Outbox<T> {
    io: T,
    gathered: Vec<u8>,
    /// How much of `gathered` has gone out.
    sent: usize,
    /// What went out may still wait in the stream.
    unflushed: bool,
    /// A write found no room in this turn.
    refused: bool,
    shelf: Shelf,
}

/// Has the writes to `io` gathered.
pub(super) fn gather<T>(io: T, shelf: Shelf) -> (Gathered<T>, TurnEnd<T>) {
    let (gathered, sent) = (Vec::new(), 0);
    let outbox = Outbox { io, gathered, sent, unflushed: false, refused: false, shelf };
    let outbox = Rc::new(RefCell::new(outbox));
    (Gathered(Rc::clone(&outbox)), TurnEnd(outbox))
}

impl<'a, C, T> Gathering<'a, C, T> {
    pub(super) const fn new(conn: Pin<&'a mut C>, end: TurnEnd<T>) -> Self {
        Self { conn, end }
    }

    /// What serves.
    pub(super) fn conn(&mut self) -> Pin<&mut C> {
        self.conn.as_mut()
    }
}

impl<C, E, T> Future for Gathering<'_, C, T>
where
    C: Future<Output = Result<(), E>>,
    T: AsyncWrite + Unpin,
{
    type Output = Result<(), Failed<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let polled = self.conn.as_mut().poll(cx);
            let mut outbox = self.end.0.borrow_mut();
            let out = outbox.poll_all_out(cx);
            if let Poll::Ready(ended) = polled {
                return Poll::Ready(ended.map_err(Failed::Conn));
            }
            // Whoever found no room is asked again as soon as there is some: nothing else would wake it.
            let refused = std::mem::take(&mut outbox.refused);
            ready!(out)?;
            if !refused {
                return Poll::Pending;
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> Outbox<T> {
    /// Ready when everything has gone out, in one write where the stream takes as much.
    fn poll_all_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx, &[]))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when all that was gathered has gone out, with how much of `more` has gone behind it.
    fn poll_out(&mut self, cx: &mut Context<'_>, more: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut behind = 0;
        while self.sent < self.gathered.len() {
            let rest = self.gathered.get(self.sent..).unwrap_or_default();
            let written = if more.is_empty() {
                ready!(Pin::new(&mut self.io).poll_write(cx, rest))?
            } else {
                let slices = std::iter::once(rest).chain(more.iter().map(|slice| &**slice));
                let slices: SmallVec<[IoSlice<'_>; 4]> = slices.map(IoSlice::new).collect();
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            behind = written.saturating_sub(rest.len());
            self.sent += written - behind;
        }
        if self.sent > 0 {
            self.gathered.clear();
            self.sent = 0;
            self.shelf.set(std::mem::take(&mut self.gathered));
        }
        Poll::Ready(Ok(behind))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.gathered.len() - self.sent + length <= MOST {
            self.take(bufs);
            return Poll::Ready(Ok(length));
        }
        // What is too much goes straight through, and is not copied.
        match ready!(self.poll_out(cx, bufs))? {
            0 => {
                self.unflushed = true;
                Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
            }
            written => Poll::Ready(Ok(written)),
        }
    }

    fn take(&mut self, bufs: &[IoSlice<'_>]) {
        if self.gathered.capacity() == 0 {
            self.gathered = self.shelf.take();
            self.gathered.reserve_exact(MOST);
        }
        self.gathered.drain(..self.sent);
        self.sent = 0;
        bufs.iter().for_each(|buf| self.gathered.extend_from_slice(buf));
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut outbox = self.0.borrow_mut();
        let polled = outbox.poll_write(cx, bufs);
        outbox.refused |= polled.is_pending();
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Only promised: the turn's end makes it good.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = self.0.borrow_mut();
        ready!(outbox.poll_all_out(cx))?;
        Pin::new(&mut outbox.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    /// A stream that takes so many bytes at a time, or none yet; everything where nothing is said.
    #[derive(Default)]
    struct Narrow {
        takes: VecDeque<usize>,
        got: Vec<u8>,
        writes: usize,
        flushed: usize,
        shut: bool,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let most = self.takes.pop_front().unwrap_or(usize::MAX);
            if most == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let taken = &buf[..buf.len().min(most)];
            self.got.extend_from_slice(taken);
            self.writes += 1;
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed = self.got.len();
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.shut = true;
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn whatever_the_stream_takes_all_goes_out_in_order(
            turns in proptest::collection::vec(proptest::collection::vec(1_usize..20_000, 0..6), 1..5),
            takes in proptest::collection::vec(prop_oneof![Just(0_usize), 1_usize..30_000], 0..40),
        ) {
            let shelf = Shelf::default();
            let (mut io, end) = gather(Narrow { takes: takes.into(), ..Narrow::default() }, Rc::clone(&shelf));
            let outbox = Rc::clone(&end.0);
            let bytes = |n: usize, length: usize| (0..length).map(|at| (at + n) as u8).collect::<Vec<u8>>();
            let all = turns.iter().flat_map(|turn| turn.iter().enumerate());
            let all: Vec<u8> = all.flat_map(|(n, length)| bytes(n, *length)).collect();
            let conn = async {
                for turn in &turns {
                    for (n, length) in turn.iter().enumerate() {
                        let bytes = bytes(n, *length);
                        let (one, other) = bytes.split_at(length / 3);
                        let mut left = [IoSlice::new(one), IoSlice::new(other)];
                        let mut left = &mut left[..];
                        while !left.is_empty() {
                            let polled = poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, left));
                            let written = polled.await.unwrap();
                            IoSlice::advance_slices(&mut left, written);
                        }
                        poll_fn(|cx| Pin::new(&mut io).poll_flush(cx)).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                    let outbox = outbox.borrow();
                    prop_assert!(outbox.gathered.len() - outbox.sent <= MOST);
                }
                poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await.unwrap();
                Ok(())
            };
            let mut conn = std::pin::pin!(conn);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let served = runtime.block_on(Gathering::new(conn.as_mut(), end));
            if let Err(Failed::Conn(failure)) = served {
                return Err(failure);
            }
            let outbox = outbox.borrow();
            prop_assert_eq!(&outbox.io.got, &all);
            prop_assert!(outbox.io.shut && outbox.io.flushed == all.len());
            prop_assert_eq!(outbox.gathered.capacity(), 0, "its memory is left to others");
            prop_assert!(shelf.take().capacity() <= 2 * MOST);
        }
    }

    #[test]
    fn what_is_written_and_flushed_in_one_turn_is_one_write() {
        let (mut io, end) = gather(Narrow::default(), Shelf::default());
        let outbox = Rc::clone(&end.0);
        let conn = async {
            for _ in 0..2 {
                for _ in 0..8 {
                    poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"a frame")).await?;
                    poll_fn(|cx| Pin::new(&mut io).poll_flush(cx)).await?;
                }
                tokio::task::yield_now().await;
            }
            std::future::pending::<io::Result<()>>().await
        };
        let mut conn = std::pin::pin!(conn);
        let mut serving = Gathering::new(conn.as_mut(), end);
        for turn in 1..=2 {
            assert!((&mut serving).now_or_never().is_none());
            let outbox = outbox.borrow();
            assert_eq!((outbox.io.writes, outbox.io.flushed), (turn, turn * 8 * 7));
        }
    }

    #[test]
    fn a_write_that_fails_at_the_end_of_a_turn_ends_the_connection() {
        struct Broken;
        impl AsyncWrite for Broken {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        let (mut io, end) = gather(Broken, Shelf::default());
        let conn = async {
            poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"x")).await.unwrap();
            std::future::pending::<Result<(), Infallible>>().await
        };
        let mut conn = std::pin::pin!(conn);
        let ended = Gathering::new(conn.as_mut(), end).now_or_never();
        assert!(matches!(ended, Some(Err(Failed::Write(error))) if error.kind() == io::ErrorKind::TimedOut));
    }
}
