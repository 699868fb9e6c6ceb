//! Real servers, each of one test: on free ports, in a folder of their own, killed at the end.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue};
use tempfile::TempDir;

/// A `redis-server`.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: TempDir,
    more: Vec<String>,
}

/// A port that nobody has now.
pub(crate) fn free_port() -> u16 {
    // Below those that connections get: whoever is stopped for a while finds its port free again.
    loop {
        let port = 10_000 + (RandomState::new().build_hasher().finish() % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Server {
    /// Starts one with further settings, each a name and a value.
    pub(crate) fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        // Between finding a port and taking it somebody else may.
        for _ in 0..10 {
            let port = free_port();
            let child = spawn(port, &folder, &more);
            let mut server = Self { child, port, folder: tempfile::tempdir().unwrap(), more: more.clone() };
            if server.answers() {
                server.folder = folder;
                return server;
            }
        }
        panic!("no redis-server could be started");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Waits until it answers; false: it has ended before.
    fn answers(&mut self) -> bool {
        for _ in 0..1000 {
            // One that wants a password is there too.
            match self.try_ask::<String>(&["PING"]) {
                Ok(_) => return true,
                Err(error) if error.code() == Some("NOAUTH") => return true,
                Err(_) => {}
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn connection(&self) -> redis::RedisResult<Connection> {
        Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(1))
    }

    pub(crate) fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut self.connection()?)
    }

    /// What it says to a command.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap()
    }

    /// All keys that begin so.
    pub(crate) fn keys(&self, begin: &str) -> Vec<String> {
        self.ask(&["KEYS", &format!("{begin}*")])
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same port, with what it left on disk, if anything.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.more);
        assert!(self.answers(), "it does not start again");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// It is there and says nothing.
    pub(crate) fn hang(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }
}

/// Several that share the keys: three that are written to, each with so many replicas.
pub(crate) fn cluster(replicas: usize) -> Vec<Server> {
    let start = |_| {
        let bus = free_port().to_string();
        let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1500"];
        Server::start(&[&settings[..], &["--repl-diskless-sync-delay", "0"]].concat())
    };
    let servers: Vec<Server> = (0..3 * (1 + replicas)).map(start).collect();
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)))
        .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success(), "no cluster could be made");
    servers
}

fn spawn(port: u16, folder: &TempDir, more: &[String]) -> Child {
    let sentinel = more.first().is_some_and(|word| word.ends_with("sentinel.conf"));
    let mut command = Command::new("redis-server");
    if sentinel {
        command.args(more).arg("--sentinel");
    } else {
        command.args(["--save", "", "--appendonly", "no"]).args(more);
    }
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("redis-server cannot be started (apt-get install redis-server): {error}")
        })
}

impl Drop for Server {
    fn drop(&mut self) {
        // A stopped process dies by this signal too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
