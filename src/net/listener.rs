//! Where connections come in: bound once, or taken from whoever started this process, and accepted on every thread.
//!
//! Invariant: accepting never gives up and never spins. An error of one connection costs nothing; an error of the
//! machine (no file descriptors, no memory) is waited out with growing pauses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::stream::{Peer, Stream};
use super::tls::Tls;

/// How many connections the kernel holds for us between two accepts; it may hold fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const LOG_EVERY: Duration = Duration::from_secs(1);
/// Bytes one direction of a connection in memory holds.
const MEMORY_BUFFER: usize = 64 * 1024;

/// Where to listen: `0.0.0.0:80`, `[::]:443`, `unix:/run/x.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// An address and a port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
    /// In this process only; made by [`memory`], not parsed and not bound.
    Memory,
}

/// Why a text is no [`ListenAddr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddrError {
    /// `unix:` without a path.
    #[error("`unix:` needs a path, as in unix:/run/sessionbridge/http.sock")]
    NoPath,
    /// Neither `unix:` nor an address with a port.
    #[error("expected an IP address with a port, as in 127.0.0.1:8080 or [::]:8080, or unix:/path")]
    NoAddress(#[source] std::net::AddrParseError),
}

/// Bound sockets, one per thread, not yet accepting.
#[derive(Debug)]
pub struct Bound {
    addr: ListenAddr,
    listeners: Vec<Listener>,
    /// Each socket once, however many threads share it.
    sockets: Vec<OwnedFd>,
}

/// One thread's share of what was bound. It becomes part of a runtime at its first [`Listener::accept`].
#[derive(Debug)]
pub struct Listener {
    source: Source,
    tls: Option<Tls>,
    pause: Duration,
    logged: Option<Instant>,
}

#[derive(Debug)]
enum Source {
    IdleTcp(std::net::TcpListener),
    IdleUnix(StdUnixListener),
    Tcp(TcpListener),
    Unix(UnixListener),
    Memory(mpsc::UnboundedReceiver<DuplexStream>),
    /// Only while an idle socket is handed to the runtime, or after that failed.
    Gone,
}

/// Connects to a listener in memory.
#[derive(Clone, Debug)]
pub struct MemoryDialer(mpsc::UnboundedSender<DuplexStream>);

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Err(ListenAddrError::NoPath),
            Some(path) => Ok(Self::Unix(PathBuf::from(path))),
            None => text.parse().map(Self::Tcp).map_err(ListenAddrError::NoAddress),
        }
    }
}

impl std::fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Memory => f.write_str("memory"),
        }
    }
}

impl Bound {
    /// Binds `addr` for `threads` threads (at least one). TCP gets a socket per thread (`SO_REUSEPORT`), so that the
    /// kernel spreads connections, but shares its port with no other process; a unix socket is shared, and a stale file in its place is removed if nobody answers.
    ///
    /// # Errors
    /// Whatever the system says; `AddrInUse` for a port that is taken and a unix socket that answers; `Unsupported` for memory.
    pub fn bind(addr: &ListenAddr, threads: usize) -> io::Result<Self> {
        Self::bind_beside(addr, &[], threads)
    }

    /// As [`Bound::bind`], beside `others`: `[::]` takes IPv4 as well (where the system has it so), but not where `0.0.0.0` is named with
    /// the same port.
    ///
    /// # Errors
    /// As [`Bound::bind`].
    pub fn bind_beside(addr: &ListenAddr, others: &[ListenAddr], threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        match addr {
            ListenAddr::Tcp(addr) => {
                let ipv4 = ListenAddr::Tcp((Ipv4Addr::UNSPECIFIED, addr.port()).into());
                let only_ipv6 = addr.is_ipv6() && addr.ip().is_unspecified() && others.contains(&ipv4);
                Self::bind_tcp(*addr, only_ipv6, threads)
            }
            ListenAddr::Unix(path) => Self::bind_unix(path, threads),
            ListenAddr::Memory => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Sockets that listen at `addr` already, for `threads` threads: each socket is accepted from by one thread at least, and
    /// each thread accepts from one at least, where there is one at all.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn inherit(addr: ListenAddr, sockets: Vec<Socket>, threads: usize) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for socket in &sockets {
            // The whole description: whoever else holds it must expect it.
            socket.set_nonblocking(true)?;
        }
        for socket in sockets.iter().cycle().take(threads.max(sockets.len())) {
            listeners.push(Listener::new(Source::idle(socket.try_clone()?, &addr)));
        }
        Ok(Self { addr, listeners, sockets: sockets.into_iter().map(OwnedFd::from).collect() })
    }

    /// The sockets themselves, for a process that is to have them after this one. While anybody holds one, its port stays
    /// open and what comes waits to be accepted.
    pub fn take_sockets(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    /// The address as bound: the port is never 0.
    pub fn local_addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// The same, where only TLS is spoken.
    #[must_use]
    pub fn under(self, tls: &Tls) -> Self {
        let listeners = self.listeners.into_iter().map(|listener| listener.under(tls.clone())).collect();
        Self { listeners, ..self }
    }

    /// The shares, as many as threads were asked for, or more where there were more sockets.
    pub fn into_listeners(self) -> Vec<Listener> {
        self.listeners
    }

    fn bind_tcp(addr: SocketAddr, only_ipv6: bool, threads: usize) -> io::Result<Self> {
        refuse_sharing(addr, only_ipv6)?;
        let first = tcp_socket(addr, only_ipv6)?;
        let addr = first.local_addr()?.as_socket().unwrap_or(addr);
        let mut sockets = vec![first];
        for _ in 1..threads {
            sockets.push(tcp_socket(addr, only_ipv6)?);
        }
        Self::inherit(ListenAddr::Tcp(addr), sockets, threads)
    }

    fn bind_unix(path: &Path, threads: usize) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = Socket::from(StdUnixListener::bind(path)?);
        Self::inherit(ListenAddr::Unix(path.to_owned()), vec![socket], threads)
    }
}

impl Source {
    fn idle(socket: Socket, addr: &ListenAddr) -> Self {
        match addr {
            ListenAddr::Tcp(_) => Self::IdleTcp(socket.into()),
            ListenAddr::Unix(_) => Self::IdleUnix(socket.into()),
            ListenAddr::Memory => Self::Gone,
        }
    }
}

fn tcp_socket(addr: SocketAddr, only_ipv6: bool) -> io::Result<Socket> {
    let socket = unbound(addr, only_ipv6)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn unbound(addr: SocketAddr, only_ipv6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if only_ipv6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// `SO_REUSEPORT` lets a forgotten second process of the same user take half of the connections in silence: an address
/// that anybody listens at is taken, which shows where one binds without it.
fn refuse_sharing(addr: SocketAddr, only_ipv6: bool) -> io::Result<()> {
    if addr.port() == 0 {
        return Ok(());
    }
    let probe = unbound(addr, only_ipv6)?;
    // Connections of a process that is gone, in TIME_WAIT, are nobody's.
    probe.set_reuse_address(true)?;
    probe.bind(&addr.into())
}

/// Removes what a process that is gone left behind, never a socket that answers and never another kind of file.
fn remove_stale(path: &Path) -> io::Result<()> {
    match StdUnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Connecting to a file that is no socket is refused as well: look before removing.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(path)? => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

fn is_socket(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::FileTypeExt as _;
    Ok(std::fs::symlink_metadata(path)?.file_type().is_socket())
}

/// A listener in memory and what connects to it.
pub fn memory() -> (Listener, MemoryDialer) {
    let (tx, rx) = mpsc::unbounded_channel();
    (Listener::new(Source::Memory(rx)), MemoryDialer(tx))
}

impl MemoryDialer {
    /// A new connection; the other end waits to be accepted.
    ///
    /// # Errors
    /// `ConnectionRefused` when the listener is gone.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(MEMORY_BUFFER);
        self.0.send(far).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}

impl Listener {
    fn new(source: Source) -> Self {
        Self { source, tls: None, pause: FIRST_PAUSE, logged: None }
    }

    /// The same, where only TLS is spoken.
    #[must_use]
    pub fn under(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// How TLS is spoken here; `None`: not at all.
    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The next connection. Errors are waited out, so this ends only with a connection; a memory listener whose
    /// dialers are all gone waits for ever. Safe to drop at any await.
    pub async fn accept(&mut self) -> (Stream, Peer) {
        loop {
            match self.accept_once().await {
                Ok(accepted) => {
                    self.pause = FIRST_PAUSE;
                    return accepted;
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => self.wait_out(&error).await,
            }
        }
    }

    async fn accept_once(&mut self) -> io::Result<(Stream, Peer)> {
        self.enter_runtime()?;
        match &mut self.source {
            Source::Tcp(listener) => {
                let (stream, addr) = listener.accept().await?;
                // A peer that is gone already makes this fail; reading will say so.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Peer::at(canonical(addr))))
            }
            Source::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::LOCAL))
            }
            Source::Memory(queue) => match queue.recv().await {
                Some(stream) => Ok((Stream::from(stream), Peer::LOCAL)),
                None => std::future::pending().await,
            },
            Source::IdleTcp(_) | Source::IdleUnix(_) | Source::Gone => {
                Err(io::ErrorKind::NotConnected.into())
            }
        }
    }

    fn enter_runtime(&mut self) -> io::Result<()> {
        if !matches!(self.source, Source::IdleTcp(_) | Source::IdleUnix(_)) {
            return Ok(());
        }
        self.source = match std::mem::replace(&mut self.source, Source::Gone) {
            Source::IdleTcp(socket) => Source::Tcp(TcpListener::from_std(socket)?),
            Source::IdleUnix(socket) => Source::Unix(UnixListener::from_std(socket)?),
            other => other,
        };
        Ok(())
    }

    async fn wait_out(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.logged.is_none_or(|at| now - at >= LOG_EVERY) {
            self.logged = Some(now);
            warn!(%error, pause_ms = self.pause.as_millis(), "cannot accept connections");
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        sleep(pause).await;
    }
}

/// accept(2) reports errors that the new connection already has as its own; EPERM comes from a firewall rule.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | PermissionDenied | TimedOut
    )
}

/// An IPv4 client of a dual-stack socket as the IPv4 address that it has.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn addresses_parse_and_print() {
        for text in ["0.0.0.0:80", "[::]:443", "127.0.0.1:0", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
        assert_eq!("unix:".parse::<ListenAddr>(), Err(ListenAddrError::NoPath));
        for bad in ["", "80", ":80", "localhost:80", "1.2.3.4", "[::]", "tcp:1.2.3.4:80"] {
            assert!(bad.parse::<ListenAddr>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn port_zero_is_one_port_for_all_threads() {
        let bound = Bound::bind(&"127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ListenAddr::Tcp(addr) = *bound.local_addr() else { panic!("tcp") };
        assert_ne!(addr.port(), 0);
        let mut listeners = bound.into_listeners();
        assert_eq!(listeners.len(), 3);
        let mut only = listeners.pop().unwrap();
        drop(listeners);
        let client = tokio::net::TcpStream::connect(addr).await.unwrap();
        let (_, peer) = only.accept().await;
        assert_eq!(peer, Peer::at(client.local_addr().unwrap()));
    }

    #[tokio::test]
    async fn sockets_of_another_number_of_threads_are_all_accepted_from() {
        for (sockets, threads) in [(1, 3), (3, 1), (2, 2), (2, 3)] {
            let mut bound = Bound::bind(&"127.0.0.1:0".parse().unwrap(), sockets).unwrap();
            let ListenAddr::Tcp(addr) = *bound.local_addr() else { panic!("tcp") };
            let kept = bound.take_sockets().into_iter().map(Socket::from).collect::<Vec<_>>();
            assert_eq!(kept.len(), sockets);
            drop(bound);
            let bound = Bound::inherit(ListenAddr::Tcp(addr), kept, threads).unwrap();
            let mut listeners = bound.into_listeners();
            assert_eq!(listeners.len(), sockets.max(threads));
            let mut clients = Vec::new();
            for _ in 0..32 {
                clients.push(tokio::net::TcpStream::connect(addr).await.unwrap());
                let accepted = listeners.iter_mut().map(|listener| Box::pin(listener.accept()));
                futures_util::future::select_all(accepted).await;
            }
        }
    }

    #[test]
    fn a_port_that_is_bound_is_shared_with_nobody() {
        let first = Bound::bind(&"127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(Bound::bind(first.local_addr(), 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let addr = first.local_addr().clone();
        drop(first);
        Bound::bind(&addr, 2).unwrap();
    }

    #[test]
    fn both_families_may_be_named_with_one_port() {
        if std::net::TcpListener::bind("[::1]:0").is_err() {
            eprintln!("not tested: this machine has no IPv6");
            return;
        }
        let ipv4 = Bound::bind(&"0.0.0.0:0".parse().unwrap(), 2).unwrap();
        let ListenAddr::Tcp(addr) = *ipv4.local_addr() else { panic!("tcp") };
        let ipv6: ListenAddr = format!("[::]:{}", addr.port()).parse().unwrap();
        let lines = [ipv4.local_addr().clone(), ipv6.clone()];
        let bound = Bound::bind_beside(&ipv6, &lines, 2).unwrap();
        assert_eq!(Bound::bind_beside(&ipv6, &lines, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop((ipv4, bound));
        // By itself it takes both, where the system has it so.
        let both = Bound::bind(&ipv6, 1).unwrap();
        let dual =
            std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|only| only.trim() == "0");
        assert_eq!(Bound::bind(&lines[0], 1).is_err(), dual);
        drop(both);
    }

    #[tokio::test]
    async fn a_stale_unix_socket_is_replaced_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(StdUnixListener::bind(&path).unwrap());
        let addr = ListenAddr::Unix(path.clone());
        let bound = Bound::bind(&addr, 2).unwrap();
        assert_eq!(Bound::bind(&addr, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let mut listener = bound.into_listeners().remove(0);
        // The second bind knocked to see whether anybody answers.
        listener.accept().await;
        let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let (mut stream, peer) = listener.accept().await;
        assert_eq!((stream.read_u8().await.unwrap(), peer), (b'x', Peer::LOCAL));
    }

    #[test]
    fn a_file_in_the_place_of_a_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        assert!(Bound::bind(&ListenAddr::Unix(path.clone()), 1).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_out_of_resources_is_waited_out_with_growing_pauses() {
        let mut listener = Listener::new(Source::Gone);
        let start = Instant::now();
        let error = io::Error::from_raw_os_error(24);
        assert!(!concerns_one_connection(&error));
        for _ in 0..10 {
            listener.wait_out(&error).await;
        }
        // 5 + 10 + .. + 640 ms, then a second each.
        assert_eq!(start.elapsed().as_millis(), 5 * 255 + 2 * 1000);
    }
}
