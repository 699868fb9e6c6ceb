//! Real servers of Redis on this machine, each in a folder of its own, killed when dropped.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::{DEADLINE, until};

/// What a server here asks for; with signs that mean something in a URL.
pub(crate) const PASSWORD: &str = "a/pass+word=of@ours";

/// One server.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: TempDir,
    options: Options,
}

/// How one is started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// Asks for [`PASSWORD`].
    pub(crate) password: bool,
    /// Watches over others instead of keeping anything.
    pub(crate) sentinel: bool,
    /// Is to be a node of a cluster.
    pub(crate) cluster: bool,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nothing,
    Text(String),
    Number(i64),
    List(Vec<Self>),
    Error(String),
}

impl Reply {
    /// A number, or the number that a text is.
    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// A text, that of an error, too.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Error(text) => text,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            other => panic!("{other:?}"),
        }
    }
}

impl Server {
    /// One that writes nothing to disk, and asks for a password.
    pub(crate) fn start() -> Self {
        Self::start_as(Options { password: true, ..Options::default() })
    }

    pub(crate) fn start_as(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A server takes no port 0, and a free one may be taken by others before it is bound.
        for _ in 0..20 {
            let port = free_port();
            let mut child = spawn(&folder, port, options);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            if is_up(&mut child, address, options) {
                return Self { child, address, folder, options };
            }
            let _ = (child.kill(), child.wait());
        }
        panic!("no server: {}", said(&folder));
    }

    /// As `kill -9`: what it knew is lost.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, at the same address, empty.
    pub(crate) fn restart(&mut self) {
        let until = Instant::now() + DEADLINE;
        loop {
            self.child = spawn(&self.folder, self.address.port(), self.options);
            if is_up(&mut self.child, self.address, self.options) {
                return;
            }
            assert!(Instant::now() < until, "it does not come back: {}", said(&self.folder));
        }
    }

    /// As `kill -STOP`: connections stand, nothing is answered.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    /// As `kill -CONT`.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// One command on a connection of its own.
    pub(crate) fn ask(&self, command: &[&str]) -> Reply {
        ask(self.address, self.options, command).unwrap_or_else(|error| panic!("{error}: {command:?}"))
    }

    /// True where it answers a command, and says this in it. A server that is being promoted ends connections.
    pub(crate) fn says(&self, command: &[&str], what: &str) -> bool {
        ask(self.address, self.options, command).is_ok_and(|reply| reply.text().contains(what))
    }

    /// The keys that a pattern finds.
    pub(crate) fn keys(&self, pattern: &str) -> Vec<String> {
        self.ask(&["KEYS", pattern]).list().iter().map(|key| key.text().to_owned()).collect()
    }

    /// Follows the server at `master` from now on; it has all that is there when this returns.
    pub(crate) fn follow(&self, master: SocketAddr) {
        if self.options.password {
            self.ask(&["CONFIG", "SET", "masterauth", PASSWORD]);
        }
        self.ask(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
        until("a replica that has everything", || {
            self.ask(&["INFO", "replication"]).text().contains("master_link_status:up")
        });
    }

    /// Is written to from now on.
    pub(crate) fn promote(&self) {
        self.ask(&["REPLICAOF", "NO", "ONE"]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
        if thread::panicking() {
            eprintln!("{}: {}", self.address, said(&self.folder));
        }
    }
}

/// Tells a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "{name} to {pid}");
}

/// A port that is free, and below which the bus of a cluster's node has room.
fn free_port() -> u16 {
    loop {
        // Below those that connections get: whoever is stopped for a while finds its port free again.
        let port = 10_000 + (RandomState::new().build_hasher().finish() % 20_000) as u16;
        if [port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
}

/// The last lines of its log.
fn said(folder: &TempDir) -> String {
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn spawn(folder: &TempDir, port: u16, options: Options) -> Child {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut config = format!(
        "port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {}\nlogfile {}\ndaemonize no\n",
        folder.path().display(),
        path("log")
    );
    if !options.sentinel {
        // A replica that lags is given the rest at once, not after a pause for more of them.
        config += "save \"\"\nappendonly no\nrepl-diskless-sync-delay 0\nrepl-timeout 5\n";
    }
    if options.password {
        config += &format!("requirepass {PASSWORD}\n");
    }
    if options.cluster {
        config += &format!(
            "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-node-timeout 1000\ncluster-port {}\n",
            port + 10_000
        );
    }
    std::fs::write(path("config"), config).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(path("config"));
    if options.sentinel {
        command.arg("--sentinel");
    }
    let spawned = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    spawned.unwrap_or_else(|error| panic!("redis-server (Debian: apt-get install redis-server): {error}"))
}

/// True once it answers, and is the one that was started.
fn is_up(child: &mut Child, address: SocketAddr, options: Options) -> bool {
    let own = format!("process_id:{}\r", child.id());
    let until = Instant::now() + DEADLINE;
    while child.try_wait().unwrap().is_none() && Instant::now() < until {
        match ask(address, options, &["INFO", "server"]) {
            Ok(Reply::Text(text)) if text.contains(&own) => return true,
            _ => thread::park_timeout(Duration::from_millis(5)),
        }
    }
    false
}

fn ask(address: SocketAddr, options: Options, command: &[&str]) -> io::Result<Reply> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut stream = BufReader::new(stream);
    if options.password {
        say(&mut stream, &["AUTH", PASSWORD])?;
    }
    say(&mut stream, command)
}

/// RESP2, as far as tests need it.
fn say(stream: &mut BufReader<TcpStream>, command: &[&str]) -> io::Result<Reply> {
    let mut text = format!("*{}\r\n", command.len());
    for part in command {
        text += &format!("${}\r\n{part}\r\n", part.len());
    }
    stream.get_mut().write_all(text.as_bytes())?;
    reply(stream)
}

fn reply(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
    let number = || rest.parse::<i64>().map_err(io::Error::other);
    Ok(match kind {
        "+" => Reply::Text(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(number()?),
        "$" => match usize::try_from(number()?) {
            Err(_) => Reply::Nothing,
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes)?;
                Reply::Text(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
        },
        "*" => Reply::List((0..number()?).map(|_| reply(stream)).collect::<io::Result<_>>()?),
        _ => return Err(io::Error::other(line.to_owned())),
    })
}
