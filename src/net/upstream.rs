//! Where an app is and how it is reached.
//!
//! Invariant: dialing ends within the connect time, all addresses of a name together.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::resolve::Resolver;
use super::stream::Stream;

/// The place of an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Plain HTTP over TCP.
    Tcp {
        /// A name or an address; IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Plain HTTP over a unix socket.
    Unix(PathBuf),
    /// In this process, by name.
    Memory(String),
}

/// Which of a caller's upstreams; small numbers, since pools are kept in a list by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamIx(pub u16);

/// One upstream: its number and its place. A number may come to mean another place; its idle connections are then
/// dropped.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The number.
    pub ix: UpstreamIx,
    /// The place.
    pub origin: Arc<Origin>,
    /// Its host and port, as a URL names them.
    pub authority: Arc<str>,
}

impl Upstream {
    /// Number `ix`, at `origin`.
    #[must_use]
    pub fn new(ix: UpstreamIx, origin: Origin) -> Self {
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let authority = match &origin {
            Origin::Tcp { host, port: 80 } => bracketed(host),
            Origin::Tcp { host, port } => format!("{}:{port}", bracketed(host)),
            Origin::Unix(_) => "localhost".to_owned(),
            Origin::Memory(name) => name.clone(),
        };
        Self { ix, origin: Arc::new(origin), authority: authority.into() }
    }
}

/// Why a text is no [`Origin`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// TLS to apps is not built yet.
    #[error("https to upstreams is not supported yet")]
    Https,
    /// Neither `http://` nor `unix:`.
    #[error("expected http://host:port or unix:/path")]
    Scheme,
    /// No host, or no path of a socket.
    #[error("the upstream names no host or path")]
    Empty,
    /// A path, a query or a user after the host.
    #[error("only a host and a port may follow http://")]
    Extra,
    /// A port that is none.
    #[error("the port must be between 1 and 65535")]
    Port,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve.
    #[error("the name does not resolve")]
    Dns(#[source] io::Error),
    /// No address takes the connection; the error is that of the last one.
    #[error("the connection was refused")]
    Refused(#[source] io::Error),
    /// The connect time was over.
    #[error("connecting took too long")]
    Timeout,
}

/// Connects by name; what a [`Dialer::Memory`] is made of.
pub type DialMemory = Rc<dyn Fn(&str) -> io::Result<DuplexStream>>;

/// How connections are made.
#[derive(Clone)]
pub enum Dialer {
    /// By the system's sockets.
    Sockets,
    /// In this process, whatever the origin is: the function is given its text.
    Memory(DialMemory),
    /// Names by a resolver that remembers them, and then so.
    Resolving(Resolver, Reach),
}

/// How an address is reached once it is known.
#[derive(Clone)]
pub enum Reach {
    /// By the system's sockets.
    Sockets,
    /// In this process: the function is given the text of the origin with the address for its name.
    Memory(DialMemory),
}

/// Which of a name's addresses a connection was made to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    address: IpAddr,
    /// [`Resolver::changes`] when it was last known to be one of them.
    changes: u64,
}

impl Resolved {
    /// True where the host of `origin` still has the address.
    pub(super) fn is_current(&mut self, resolver: &Resolver, origin: &Origin) -> bool {
        let changes = resolver.changes();
        if self.changes == changes {
            return true;
        }
        self.changes = changes;
        matches!(origin, Origin::Tcp { host, .. } if resolver.has(host, self.address))
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(OriginError::Empty) } else { Ok(Self::Unix(path.into())) };
        }
        if text.starts_with("https://") {
            return Err(OriginError::Https);
        }
        let authority = text.strip_prefix("http://").ok_or(OriginError::Scheme)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@', '\\']) || authority.contains(char::is_whitespace) {
            return Err(OriginError::Extra);
        }
        let (host, port) = split_port(authority)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(OriginError::Empty);
        }
        Ok(Self::Tcp { host: host.to_ascii_lowercase(), port })
    }
}

/// Splits at the last colon that is not inside brackets; without one the port is HTTP's.
fn split_port(authority: &str) -> Result<(&str, u16), OriginError> {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let port = if digits { port.parse().map_err(|_| OriginError::Port)? } else { 0 };
            if port == 0 { Err(OriginError::Port) } else { Ok((host, port)) }
        }
        _ => Ok((authority, 80)),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "http://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Memory(name) => write!(f, "memory:{name}"),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sockets => "Sockets",
            Self::Memory(_) => "Memory",
            Self::Resolving(..) => "Resolving",
        })
    }
}

impl Dialer {
    /// By the system's sockets; names are remembered by `resolver`.
    #[must_use]
    pub const fn sockets(resolver: Resolver) -> Self {
        Self::Resolving(resolver, Reach::Sockets)
    }

    /// A new connection to `origin`, within `limit`. Of a name's addresses each is tried in turn, and none takes the time of
    /// those behind it.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn dial(&self, origin: &Origin, limit: Duration) -> Result<Stream, ConnectError> {
        Ok(self.dial_resolved(origin, limit).await?.0)
    }

    /// As [`Dialer::dial`], and which address of a name it is to.
    pub(super) async fn dial_resolved(
        &self,
        origin: &Origin,
        limit: Duration,
    ) -> Result<(Stream, Option<Resolved>), ConnectError> {
        in_time(limit, self.dial_patiently(origin, Instant::now() + limit)).await
    }

    /// What remembers names, where anything does.
    pub(super) const fn resolver(&self) -> Option<&Resolver> {
        match self {
            Self::Resolving(resolver, _) => Some(resolver),
            Self::Sockets | Self::Memory(_) => None,
        }
    }

    async fn dial_patiently(
        &self,
        origin: &Origin,
        due: Instant,
    ) -> Result<(Stream, Option<Resolved>), ConnectError> {
        let reach = match self {
            Self::Memory(dial) => return dial_memory(dial, origin).map(|stream| (stream, None)),
            Self::Resolving(resolver, reach) => match origin {
                Origin::Tcp { host, port } if host.parse::<IpAddr>().is_err() => {
                    let (stream, resolved) = dial_name(resolver, reach, (host, *port), due).await?;
                    return Ok((stream, Some(resolved)));
                }
                _ => reach.clone(),
            },
            Self::Sockets => Reach::Sockets,
        };
        Ok((reach.connect(origin).await?, None))
    }
}

impl Reach {
    async fn connect(&self, origin: &Origin) -> Result<Stream, ConnectError> {
        match (self, origin) {
            (Self::Memory(dial), origin) => dial_memory(dial, origin),
            (Self::Sockets, Origin::Tcp { host, port }) => dial_tcp(host, *port).await,
            (Self::Sockets, Origin::Unix(path)) => {
                UnixStream::connect(path).await.map(Stream::Unix).map_err(ConnectError::Refused)
            }
            (Self::Sockets, Origin::Memory(_)) => {
                Err(ConnectError::Refused(io::ErrorKind::Unsupported.into()))
            }
        }
    }
}

async fn in_time<T>(
    limit: Duration,
    dialing: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    timeout(limit, dialing).await.unwrap_or(Err(ConnectError::Timeout))
}

fn dial_memory(dial: &DialMemory, origin: &Origin) -> Result<Stream, ConnectError> {
    let dialed = match origin {
        Origin::Memory(name) => dial(name),
        other => dial(&other.to_string()),
    };
    dialed.map(Stream::from).map_err(ConnectError::Refused)
}

/// Tries the addresses of a name in turn, and once more those that it has now where none takes the connection.
async fn dial_name(
    resolver: &Resolver,
    reach: &Reach,
    (host, port): (&str, u16),
    due: Instant,
) -> Result<(Stream, Resolved), ConnectError> {
    let connect = async |origin: Origin| reach.connect(&origin).await;
    let changes = resolver.changes();
    let addresses = resolver.addresses(host).await.map_err(ConnectError::Dns)?;
    let error = match dial_each(connect, &addresses, port, due).await {
        Ok((stream, address)) => {
            resolver.prefer(host, address);
            return Ok((stream, Resolved { address, changes }));
        }
        Err(error) => error,
    };
    let Some(others) = resolver.others(host, &addresses).await else { return Err(error) };
    let changes = resolver.changes();
    let (stream, address) = dial_each(connect, &others, port, due).await?;
    resolver.prefer(host, address);
    Ok((stream, Resolved { address, changes }))
}

async fn dial_each(
    connect: impl AsyncFn(Origin) -> Result<Stream, ConnectError>,
    addresses: &[IpAddr],
    port: u16,
    due: Instant,
) -> Result<(Stream, IpAddr), ConnectError> {
    let mut last = ConnectError::Dns(io::ErrorKind::NotFound.into());
    for (at, &address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = due.saturating_duration_since(Instant::now()) / left;
        let origin = Origin::Tcp { host: address.to_string(), port };
        match in_time(share, connect(origin)).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_tcp(host: &str, port: u16) -> Result<Stream, ConnectError> {
    let mut last = None;
    for addr in lookup_host((host, port)).await.map_err(ConnectError::Dns)? {
        match TcpStream::connect(addr).await {
            Ok(stream) => {
                // A peer that is gone already makes this fail; the first write will say so.
                let _ = stream.set_nodelay(true);
                return Ok(Stream::Tcp(stream));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) => ConnectError::Refused(error),
        None => ConnectError::Dns(io::ErrorKind::NotFound.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_parse_and_print() {
        for (text, printed) in [
            ("http://10.0.0.1:8500", "http://10.0.0.1:8500"),
            ("http://App.Example:8500/", "http://app.example:8500"),
            ("http://app", "http://app:80"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[::1]", "http://[::1]:80"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_origin_says_why() {
        for (text, error) in [
            ("https://app", OriginError::Https),
            ("app:80", OriginError::Scheme),
            ("ftp://app", OriginError::Scheme),
            ("http://", OriginError::Empty),
            ("http://:80", OriginError::Empty),
            ("unix:", OriginError::Empty),
            ("http://app/path", OriginError::Extra),
            ("http://user@app", OriginError::Extra),
            ("http://app:0", OriginError::Port),
            ("http://app:65536", OriginError::Port),
            ("http://app:", OriginError::Port),
            ("http://app:+80", OriginError::Port),
        ] {
            assert_eq!(text.parse::<Origin>(), Err(error), "{text}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_an_unknown_name_is_not_resolved() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let origin = Origin::Tcp { host: "127.0.0.1".into(), port };
        let error = Dialer::Sockets.dial(&origin, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
        // A name with an empty label is refused without asking the network.
        let origin = Origin::Tcp { host: "no..such".into(), port };
        let error = Dialer::Sockets.dial(&origin, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Dns(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_remembered_name_is_dialed_at_an_address_that_takes_the_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Origin::Tcp { host: "localhost".into(), port: listener.local_addr().unwrap().port() };
        let dialer = Dialer::sockets(Resolver::system());
        for _ in 0..2 {
            // Where `localhost` is `::1` as well, nobody listens there.
            dialer.dial(&origin, Duration::from_secs(5)).await.unwrap();
            listener.accept().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_leaves_those_behind_it_their_time() {
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|own| own.parse().unwrap());
        let start = Instant::now();
        let connect = async |origin: Origin| match origin {
            Origin::Tcp { host, .. } if host == "10.0.0.3" => Ok(Stream::from(tokio::io::duplex(1).0)),
            Origin::Tcp { host, .. } if host == "10.0.0.2" => {
                Err(ConnectError::Refused(io::ErrorKind::ConnectionRefused.into()))
            }
            _ => std::future::pending().await,
        };
        let (_, address) = dial_each(connect, &addresses, 80, start + Duration::from_secs(3)).await.unwrap();
        assert_eq!((address, start.elapsed()), (addresses[2], Duration::from_secs(1)));
        let error =
            dial_each(connect, &addresses[..1], 80, start + Duration::from_secs(3)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Timeout), "{error:?}");
        assert_eq!(start.elapsed(), Duration::from_secs(3), "the last one has all that is left");
    }

    #[tokio::test]
    async fn a_unix_socket_is_dialed_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let origin = format!("unix:{}", path.display()).parse().unwrap();
        let stream = Dialer::Sockets.dial(&origin, Duration::from_secs(5)).await.unwrap();
        assert!(matches!(stream, Stream::Unix(_)));
        listener.accept().await.unwrap();
        drop(listener);
        let error = Dialer::Sockets.dial(&origin, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn connecting_ends_in_time() {
        let dialing = async { std::future::pending::<Result<Stream, ConnectError>>().await };
        let start = Instant::now();
        let error = in_time(Duration::from_secs(3), dialing).await.unwrap_err();
        assert!(matches!(error, ConnectError::Timeout), "{error:?}");
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
