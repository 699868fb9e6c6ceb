//! The built program: one of several, which share a config, a key file and a store.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::server::{PASSWORD, signal};
use crate::{DEADLINE, until};

/// One proxy.
pub(crate) struct Proxy {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reads: Option<JoinHandle<()>>,
    pub(crate) address: String,
    admin: String,
}

impl Proxy {
    /// Starts it with `config.toml` and `keys` of `folder`, and a store at `store`; it serves when this returns.
    ///
    /// One that finds no store ends and is started again, as a service is: on a machine that is busy enough a server of this machine
    /// does not answer in time.
    pub(crate) fn start(folder: &Path, store: SocketAddr) -> Self {
        for _ in 0..10 {
            let mut proxy = Self::spawn(folder, store);
            if let Some(address) = proxy.address_of("listening") {
                proxy.address = address;
                proxy.admin = proxy.address_of("operators' view").unwrap();
                return proxy;
            }
        }
        panic!("it finds no store")
    }

    /// The same, and waits for nothing.
    pub(crate) fn spawn(folder: &Path, store: SocketAddr) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sessionbridge"))
            .args(["run", "--config"])
            .arg(folder.join("config.toml"))
            .env("RUST_BACKTRACE", "0")
            .env("STATE_DIRECTORY", folder)
            .env("STORE", store.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reads = thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        Self { child, log, reads: Some(reads), address: String::new(), admin: String::new() }
    }

    /// `None`: it has ended, since it found no store.
    fn address_of(&mut self, what: &str) -> Option<String> {
        let (mut address, mut ended) = (None, false);
        until(what, || {
            ended = self.child.try_wait().unwrap().is_some();
            if ended {
                // All that it has said.
                self.reads.take().map(JoinHandle::join);
            }
            let lines = self.log();
            let found = lines.iter().find(|line| line.contains(&format!("\"{what}\"")));
            address = found
                .and_then(|line| Some(line.split_once("\"address\":\"")?.1.split('"').next()?.to_owned()));
            address.is_some() || ended
        });
        let says = |line: &String| line.contains("the shared store cannot be used");
        assert!(!ended || self.log().iter().any(says), "it has ended: {:#?}", self.log());
        address.filter(|_| !ended)
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Where operators ask.
    pub(crate) fn admin_address(&self) -> &str {
        &self.admin
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As `kill -TERM`; its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        signal(self.child.id(), "TERM");
        self.ended()
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) fn ended(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }

    /// As `kill -STOP`, `kill -CONT`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// A metric, all its series together.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics");
        let own = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        own.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What its operators are told at `path`.
    pub(crate) fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
        let log = self.log();
        if thread::panicking() {
            eprintln!("{}: {log:#?}", self.address);
            return;
        }
        let escaped = PASSWORD.replace('/', "%2F");
        let bad =
            |line: &&String| line.contains("panicked") || line.contains(PASSWORD) || line.contains(&escaped);
        assert!(!log.iter().any(|line| bad(&line)), "{log:#?}");
    }
}
