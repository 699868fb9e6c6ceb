//! The command `healthcheck`: is the proxy of this config ready? For containers without a client of their own.
//!
//! Invariant: it ends within seconds, whatever the other side does.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::net::listener::{ListenAddr, ListenAddrError};

/// For each step: connect, write, read.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is read of an answer: its status and a word.
const ENOUGH: u64 = 4096;

/// Why it is not known to be ready.
#[derive(Debug, thiserror::Error)]
pub enum Unready {
    /// There is nobody to ask.
    #[error("admin.listen is \"off\": there is no operators' view to ask")]
    Off,
    /// The port is known to the running process only.
    #[error("admin.listen = \"{0}\" leaves the port to the system: name one")]
    NoPort(SocketAddr),
    /// No address.
    #[error("admin.listen cannot be read")]
    Address(#[from] ListenAddrError),
    /// Nobody answers.
    #[error("no answer from {at}")]
    Silent {
        /// Where it was asked.
        at: ListenAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says that it is not.
    #[error("not ready: {0}")]
    Not(String),
}

/// Asks the operators' view at `listen` (as in the config) whether the proxy is ready.
///
/// # Errors
/// Where it is not, or cannot be asked.
pub fn ask(listen: Option<&str>) -> Result<(), Unready> {
    let at = match listen.ok_or(Unready::Off)?.parse()? {
        ListenAddr::Tcp(addr) if addr.port() == 0 => return Err(Unready::NoPort(addr)),
        ListenAddr::Tcp(addr) => ListenAddr::Tcp(SocketAddr::new(reachable(addr.ip()), addr.port())),
        other => other,
    };
    let answer = answer(&at).map_err(|source| Unready::Silent { at, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        status => Err(Unready::Not(format!("{} {}", status.unwrap_or_default(), body.trim()))),
    }
}

fn answer(at: &ListenAddr) -> io::Result<String> {
    match at {
        ListenAddr::Tcp(addr) => {
            let stream = TcpStream::connect_timeout(addr, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            converse(stream)
        }
        ListenAddr::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            converse(stream)
        }
        ListenAddr::Memory => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// In HTTP/1.0: the answer ends with the connection, and a probe need not name a host.
fn converse(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ENOUGH).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// An address of this machine, for one that stands for all of them.
const fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that says `answer` to one client, and where.
    fn answering(answer: &'static str) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = stream.read(&mut [0; 100]).unwrap();
            assert!(asked > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        at.to_string()
    }

    #[test]
    fn only_a_200_is_ready() {
        assert!(ask(Some(&answering("HTTP/1.0 200 OK\r\n\r\nready\n"))).is_ok());
        let not = ask(Some(&answering("HTTP/1.0 503 Service Unavailable\r\n\r\ndraining\n"))).unwrap_err();
        assert_eq!(not.to_string(), "not ready: 503 draining");
        assert!(matches!(ask(Some(&answering(""))), Err(Unready::Silent { .. })));
        assert!(matches!(ask(Some(&answering("nonsense"))), Err(Unready::Not(_))));
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        assert!(matches!(ask(None), Err(Unready::Off)));
        assert!(matches!(ask(Some("0.0.0.0:0")), Err(Unready::NoPort(_))));
        assert!(matches!(ask(Some("unix:/nowhere/at/all")), Err(Unready::Silent { .. })));
        assert_eq!(reachable("0.0.0.0".parse().unwrap()).to_string(), "127.0.0.1");
        assert_eq!(reachable("::".parse().unwrap()).to_string(), "::1");
    }
}
