//! One byte stream, whatever carries it, and who is at its other end.
//!
//! Invariant: [`Rewind`] gives every sniffed byte back, once and in order, before anything newer.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected byte stream. `Memory` is for tests: it lets paused time stand in for waiting.
#[derive(Debug)]
pub enum Stream {
    /// TCP, IPv4 or IPv6.
    Tcp(TcpStream),
    /// A unix domain socket.
    Unix(UnixStream),
    /// One end of a pair in memory.
    Memory(DuplexStream),
}

/// Who is at the other end of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A TCP peer.
    Ip(SocketAddr),
    /// A process on this machine, by a unix socket or in memory.
    Local,
}

impl Peer {
    /// The address without the port; `None` for a local peer.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(addr) => Some(addr.ip()),
            Self::Local => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Local => f.write_str("local"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_read(cx, buf),
            Self::Memory(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_write(cx, buf),
            Self::Memory(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Unix(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Memory(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Unix(io) => io.is_write_vectored(),
            Self::Memory(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_flush(cx),
            Self::Unix(io) => Pin::new(io).poll_flush(cx),
            Self::Memory(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Self::Unix(io) => Pin::new(io).poll_shutdown(cx),
            Self::Memory(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// A stream of which the first bytes were read already.
#[derive(Debug)]
pub struct Rewind {
    sniffed: Bytes,
    inner: Stream,
}

impl Rewind {
    /// A stream that gives `sniffed` first, then what `inner` has.
    pub fn new(sniffed: Bytes, inner: Stream) -> Self {
        Self { sniffed, inner }
    }

    /// True where bytes, or the end, lie with the system that nobody has read.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = match &self.inner {
            Stream::Tcp(io) => socket2::SockRef::from(io).peek(&mut byte),
            Stream::Unix(io) => socket2::SockRef::from(io).peek(&mut byte),
            Stream::Memory(_) => return false,
        };
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, with `read` in front of what is still to come.
    pub(super) fn rewound(self, read: Bytes) -> Self {
        Self { sniffed: read, ..self }
    }
}

impl AsyncRead for Rewind {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sniffed.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let len = self.sniffed.len().min(buf.remaining());
        buf.put_slice(&self.sniffed.split_to(len));
        if !self.sniffed.has_remaining() {
            // Gives the memory back at once: the connection may live for hours.
            self.sniffed = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewind {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn rewind_gives_sniffed_bytes_first_whatever_the_reader_asks_for() {
        for step in 1..=7 {
            let (mut far, near) = tokio::io::duplex(64);
            far.write_all(b"world").await.unwrap();
            drop(far);
            let mut stream = Rewind::new(Bytes::from_static(b"hello "), Stream::Memory(near));
            let mut all = Vec::new();
            let mut buf = vec![0; step];
            loop {
                let n = stream.read(&mut buf).await.unwrap();
                if n == 0 {
                    break;
                }
                all.extend_from_slice(&buf[..n]);
            }
            assert_eq!(all, b"hello world");
        }
    }

    #[tokio::test]
    async fn what_lies_with_the_system_is_seen_without_reading_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut stream = Rewind::new(Bytes::new(), Stream::Tcp(near));
        assert!(!stream.has_unread());
        far.write_all(b"x").await.unwrap();
        let mut buf = [0];
        assert!(
            tokio::time::timeout(std::time::Duration::from_secs(60), async {
                while !stream.has_unread() {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .is_ok()
        );
        stream.read_exact(&mut buf).await.unwrap();
        assert_eq!((buf, stream.has_unread()), (*b"x", false));
    }
}
