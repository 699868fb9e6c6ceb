//! One byte stream, whatever carries it, and who is at its other end.
//!
//! Invariant: [`Rewind`] gives every sniffed byte back, once and in order, before anything newer; waiting for the first
//! byte loses none and holds no buffer.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls::{Greeting, Secured};

/// Bytes up to which pieces are put together before they are written.
const FEW: usize = 2048;

/// A connected byte stream. `Memory` is for tests: it lets paused time stand in for waiting.
#[derive(Debug)]
pub enum Stream {
    /// TCP, IPv4 or IPv6.
    Tcp(TcpStream),
    /// A unix domain socket.
    Unix(UnixStream),
    /// One end of a pair in memory.
    Memory(Pipe),
    /// Any of the others under TLS, after the handshake.
    Tls(Box<Secured>),
}

/// One end of a pair in memory, of which one byte may have been read ahead: it cannot be asked otherwise.
#[derive(Debug)]
pub struct Pipe {
    io: DuplexStream,
    ahead: Option<u8>,
}

/// Who is at the other end of an accepted connection, and what it said in a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    address: Option<SocketAddr>,
    greeting: Option<Arc<Greeting>>,
}

impl Peer {
    /// A process on this machine, by a unix socket or in memory.
    pub const LOCAL: Self = Self { address: None, greeting: None };

    /// A TCP peer.
    pub fn at(address: SocketAddr) -> Self {
        Self { address: Some(address), greeting: None }
    }

    /// The same, after a handshake.
    pub(super) fn greeted(self, greeting: Greeting) -> Self {
        Self { greeting: Some(Arc::new(greeting)), ..self }
    }

    /// The address without the port; `None` for a local peer.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip())
    }

    /// True where the connection is under TLS here.
    pub fn is_tls(&self) -> bool {
        self.greeting.is_some()
    }

    /// False where the handshake was for another host than `host` (lower case, without a port), and its certificate does
    /// not name that: the request was sent to the wrong place (RFC 9110, 15.5.20).
    pub fn may_ask_for(&self, host: &str) -> bool {
        self.greeting.as_ref().is_none_or(|greeting| greeting.is_for(host))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("local"),
        }
    }
}

impl From<DuplexStream> for Stream {
    fn from(io: DuplexStream) -> Self {
        Self::Memory(Pipe { io, ahead: None })
    }
}

impl Stream {
    /// Ready when bytes, the end or an error wait to be read. Nothing is read but from memory, a byte that is kept.
    pub(super) fn poll_spoken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // The runtime takes an accepted socket for readable until somebody has looked.
            Self::Tcp(io) => io.poll_peek(cx, &mut ReadBuf::new(&mut [0])).map(drop),
            Self::Unix(io) => poll_unix_spoken(io, cx),
            Self::Memory(pipe) => pipe.poll_spoken(cx),
            Self::Tls(tls) => {
                let (io, session) = tls.get_mut();
                // What came with the end of the handshake is decrypted already.
                if session.wants_read() { io.get_mut().poll_spoken(cx) } else { Poll::Ready(()) }
            }
        }
    }

    /// Resolves when bytes, the end or an error wait to be read.
    pub(super) async fn spoken(&mut self) {
        poll_fn(|cx| self.poll_spoken(cx)).await;
    }

    /// The first byte that waits to be read, if that can be known without reading it.
    pub(super) async fn first_byte(&self) -> Option<u8> {
        let mut first = [0];
        match self {
            Self::Tcp(io) => (io.peek(&mut first).await.ok()? > 0).then_some(first[0]),
            Self::Memory(pipe) => pipe.ahead,
            Self::Unix(_) | Self::Tls(_) => None,
        }
    }

    /// True where bytes, or the end, lie with the system that nobody has read.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(io) => socket2::SockRef::from(io).peek(&mut byte),
            Self::Unix(io) => socket2::SockRef::from(io).peek(&mut byte),
            Self::Memory(pipe) => return pipe.ahead.is_some(),
            Self::Tls(tls) => {
                let (io, session) = tls.get_ref();
                return !session.wants_read() || io.get_ref().has_unread();
            }
        };
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// How many bytes of what was written the system has taken, where that is not what a write says; else 0. Under
    /// TLS a write that is ready may still wait as a whole in the session.
    pub(super) fn taken(&self) -> u64 {
        match self {
            Self::Tls(tls) => tls.get_ref().0.taken(),
            _ => 0,
        }
    }
}

fn poll_unix_spoken(io: &UnixStream, cx: &mut Context<'_>) -> Poll<()> {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    while ready!(io.poll_read_ready(cx)).is_ok() {
        let peeked = io.try_io(Interest::READABLE, || socket2::SockRef::from(io).peek(&mut byte));
        if !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            break;
        }
    }
    Poll::Ready(())
}

/// Bytes that are few, in one piece: moving them costs less than what `writev` takes more than `send`.
fn joined(bufs: &[IoSlice<'_>]) -> Option<SmallVec<[u8; FEW]>> {
    if bufs.iter().map(|buf| buf.len()).sum::<usize>() > FEW {
        return None;
    }
    let mut bytes = SmallVec::new();
    bufs.iter().for_each(|buf| bytes.extend_from_slice(buf));
    Some(bytes)
}

impl Pipe {
    fn poll_spoken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ahead.is_some() {
            return Poll::Ready(());
        }
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        self.ahead = buf.filled().first().copied();
        polled.map(drop)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.ahead.take_if(|_| buf.remaining() > 0) {
            Some(byte) => {
                buf.put_slice(&[byte]);
                Poll::Ready(Ok(()))
            }
            None => Pin::new(&mut self.io).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_read(cx, buf),
            Self::Memory(pipe) => Pin::new(pipe).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_write(cx, buf),
            Self::Memory(pipe) => Pin::new(&mut pipe.io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => match joined(bufs) {
                Some(bytes) => Pin::new(io).poll_write(cx, &bytes),
                None => Pin::new(io).poll_write_vectored(cx, bufs),
            },
            Self::Unix(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Memory(pipe) => Pin::new(&mut pipe.io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Unix(io) => io.is_write_vectored(),
            Self::Memory(pipe) => pipe.io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_flush(cx),
            Self::Unix(io) => Pin::new(io).poll_flush(cx),
            Self::Memory(pipe) => Pin::new(&mut pipe.io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Self::Unix(io) => Pin::new(io).poll_shutdown(cx),
            Self::Memory(pipe) => Pin::new(&mut pipe.io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
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
        self.inner.has_unread()
    }

    /// See [`Stream::taken`].
    pub(super) fn taken(&self) -> u64 {
        self.inner.taken()
    }

    /// What is still to be given back, and the stream that it goes before.
    pub(super) fn into_parts(self) -> (Bytes, Stream) {
        (self.sniffed, self.inner)
    }

    /// True where something was read that is still to be given back.
    pub(super) fn has_sniffed(&self) -> bool {
        !self.sniffed.is_empty()
    }

    /// Gives `read` back, where nothing is to be given back yet.
    pub(super) fn rewind(&mut self, read: Bytes) {
        self.sniffed = read;
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
            let mut stream = Rewind::new(Bytes::from_static(b"hello "), Stream::from(near));
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
