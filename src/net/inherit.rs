//! Sockets that come from whoever started this process, and those that it gives to the one it starts itself: systemd's
//! protocol (sd_listen_fds(3)) both ways.
//!
//! Invariant: a socket goes to the line of the config that names its address, and to no other; what no line names, and what
//! is no listening stream socket, is said. No process that is started later gets one by accident.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use command_fds::{CommandFdExt as _, FdMapping};
use listenfd::ListenFd;
use socket2::Socket;

use super::listener::ListenAddr;

/// The first descriptor that is passed (SD_LISTEN_FDS_START).
const FIRST: i32 = 3;
/// The name of the descriptor that leads to the process that hands over.
const CHANNEL: &str = "sessionbridge-handover";

/// What this process was given at its start.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Given>,
    channel: Option<UnixStream>,
    faults: Vec<String>,
}

#[derive(Debug)]
struct Given {
    addr: ListenAddr,
    /// The name that systemd's unit gives it (`FileDescriptorName=`).
    name: String,
    socket: Socket,
}

impl Inherited {
    /// What `LISTEN_FDS` and `LISTEN_FDNAMES` tell of, which is then no longer told to anybody. To be called before any
    /// other thread is started.
    #[must_use]
    pub fn from_env() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let (mut passed, mut inherited) = (ListenFd::from_env(), Self::default());
        for at in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            let taken = match name {
                CHANNEL => channel(&mut passed, at).map(|channel| inherited.channel = Some(channel)),
                name => given(&mut passed, at, name).map(|given| inherited.sockets.push(given)),
            };
            if let Err(error) = taken {
                inherited.faults.push(format!("descriptor {} ({name}): {error}", FIRST as usize + at));
            }
        }
        inherited
    }

    /// True where there is no socket (any more).
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// For each of `lines` its sockets, with the address that they listen at. A line with port 0 gets those of the first
    /// address of its IP that no other line names.
    #[must_use]
    pub fn claim(&mut self, lines: &[ListenAddr]) -> Vec<Option<(ListenAddr, Vec<Socket>)>> {
        let mut claimed: Vec<_> = lines.iter().map(|line| self.take(line)).collect();
        for (line, sockets) in lines.iter().zip(&mut claimed) {
            let like = self.sockets.iter().map(|given| &given.addr).find(|addr| stands_for(line, addr));
            if let Some(addr) = like.cloned() {
                *sockets = self.take(&addr);
            }
        }
        claimed
    }

    fn take(&mut self, addr: &ListenAddr) -> Option<(ListenAddr, Vec<Socket>)> {
        let taken: Vec<Socket> =
            self.sockets.extract_if(.., |given| given.addr == *addr).map(|given| given.socket).collect();
        (!taken.is_empty()).then(|| (addr.clone(), taken))
    }

    /// What cannot be used, each with the reason, and what nobody has claimed; these are closed with this.
    #[must_use]
    pub fn left(mut self) -> Vec<String> {
        self.sockets.dedup_by(|next, first| next.addr == first.addr);
        let unclaimed = self.sockets.iter().map(|given| match given.name.as_str() {
            "" => format!("{}: no line of the config names it", given.addr),
            name => format!("{} ({name}): no line of the config names it", given.addr),
        });
        unclaimed.chain(std::mem::take(&mut self.faults)).collect()
    }

    /// What leads to the process that hands over, where there is one.
    pub const fn take_channel(&mut self) -> Option<UnixStream> {
        self.channel.take()
    }
}

/// True where `line` leaves the port to the system and `addr` is one that it could have got.
fn stands_for(line: &ListenAddr, addr: &ListenAddr) -> bool {
    matches!((line, addr), (ListenAddr::Tcp(line), ListenAddr::Tcp(addr)) if line.port() == 0 && line.ip() == addr.ip())
}

fn channel(passed: &mut ListenFd, at: usize) -> io::Result<UnixStream> {
    let socket = passed.take_unix_listener(at)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(OwnedFd::from(socket).into())
}

fn given(passed: &mut ListenFd, at: usize, name: &str) -> io::Result<Given> {
    let socket = match passed.take_tcp_listener(at) {
        Ok(socket) => socket.map(Socket::from),
        Err(_) => passed.take_unix_listener(at)?.map(Socket::from),
    };
    let socket = socket.ok_or(io::ErrorKind::NotFound)?;
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "does not listen"));
    }
    let local = socket.local_addr()?;
    let addr = match (local.as_socket(), local.as_pathname()) {
        (Some(addr), _) => ListenAddr::Tcp(addr),
        (_, Some(path)) => ListenAddr::Unix(path.to_owned()),
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither TCP nor a path")),
    };
    Ok(Given { addr, name: name.to_owned(), socket })
}

/// Gives `sockets`, and one end of a channel, to the process that `command` starts; the other end is returned. `command`
/// holds the sockets until it is dropped.
///
/// # Errors
/// Whatever the system says.
pub fn pass_on(command: &mut Command, sockets: &[OwnedFd]) -> io::Result<UnixStream> {
    let (own, its) = UnixStream::pair()?;
    let mut passed = Vec::with_capacity(sockets.len() + 1);
    for socket in sockets {
        passed.push(socket.try_clone()?);
    }
    passed.push(its.into());
    let names = vec!["socket"; sockets.len()].into_iter().chain([CHANNEL]).collect::<Vec<_>>().join(":");
    // Whose process it is cannot be known before it is one: without LISTEN_PID it is whoever reads this first.
    command.env_remove("LISTEN_PID").env("LISTEN_FDS", passed.len().to_string()).env("LISTEN_FDNAMES", names);
    let mappings = (FIRST..).zip(passed).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).map_err(io::Error::other)?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listener::Bound;

    fn listening(at: &str) -> Given {
        let mut bound = Bound::bind(&at.parse().unwrap(), 1).unwrap();
        let socket = bound.take_sockets().remove(0).into();
        Given { addr: bound.local_addr().clone(), name: "web".to_owned(), socket }
    }

    fn inherited(sockets: Vec<Given>) -> Inherited {
        Inherited { sockets, ..Inherited::default() }
    }

    #[test]
    fn a_socket_goes_to_the_line_that_names_its_address() {
        let directory = tempfile::tempdir().unwrap();
        let path = format!("unix:{}", directory.path().join("s").display());
        let sockets = vec![listening("127.0.0.1:0"), listening(&path), listening("127.0.0.1:0")];
        let addrs: Vec<ListenAddr> = sockets.iter().map(|given| given.addr.clone()).collect();
        let mut inherited = inherited(sockets);
        let other: ListenAddr = "127.0.0.2:0".parse().unwrap();
        let mut claimed = inherited.claim(&[addrs[1].clone(), other, addrs[0].clone()]);
        assert!(claimed[0].is_some() && claimed[1].is_none());
        let (addr, sockets) = claimed.pop().unwrap().unwrap();
        assert_eq!((addr, sockets.len()), (addrs[0].clone(), 1));
        assert_eq!(sockets[0].local_addr().unwrap().as_socket().unwrap().to_string(), addrs[0].to_string());
        assert_eq!(inherited.left(), [format!("{} (web): no line of the config names it", addrs[2])]);
    }

    #[test]
    fn lines_that_leave_the_port_open_get_what_no_other_names() {
        let sockets: Vec<Given> = (0..3).map(|_| listening("127.0.0.1:0")).collect();
        let addrs: Vec<ListenAddr> = sockets.iter().map(|given| given.addr.clone()).collect();
        let any: ListenAddr = "127.0.0.1:0".parse().unwrap();
        let mut inherited = inherited(sockets);
        let claimed = inherited.claim(&[any.clone(), addrs[0].clone(), any]);
        let got: Vec<ListenAddr> = claimed.into_iter().map(|claimed| claimed.unwrap().0).collect();
        assert_eq!(got, [1, 0, 2].map(|at: usize| addrs[at].clone()));
        assert!(inherited.left().is_empty());
    }
}
