//! The built program on a folder of its own, started, killed and started again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::app::App;

/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// One process.
pub(crate) struct Process {
    child: Child,
    log: Receiver<String>,
    pub(crate) seen: Vec<String>,
    pub(crate) address: String,
    pub(crate) admin: String,
}

/// The config before `app`, its store in `folder`.
pub(crate) fn config(folder: &Path, app: &App) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nlog = {{ access = \"off\", format = \"json\" }}\n\
         store.path = \"{}\"\nserver.threads = 2\n\
         server.limits.new_sessions = {{ rate = \"100000/s\", burst = 100000, per = \"client-ip\" }}\n\
         [apps.a]\npath = \"/a/\"\nupstreams = [\"http://{}\"]\nsession.engine = \"coldfusion\"\nsession.type = \"cf\"\n\
         sign_out.detect = [\"GET /a/logout\"]\nheartbeat.path = \"/a/ping\"\n",
        folder.join("store").display(),
        app.address
    )
}

impl Process {
    /// Starts it in `folder` with `config`; it serves when this returns.
    pub(crate) fn start(folder: &Path, config: &str) -> Self {
        Self::start_as(folder, config, "exec \"$0\" \"$@\"")
    }

    /// `shell` runs the program as `"$0" "$@"`.
    pub(crate) fn start_as(folder: &Path, config: &str, shell: &str) -> Self {
        let mut process = Self::spawn(folder, config, shell);
        process.address = process.address_of("\"listening\"");
        process.admin = process.address_of("\"operators' view\"");
        process
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(folder: &Path, config: &str, shell: &str) -> Self {
        let file: PathBuf = folder.join("config.toml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", shell, env!("CARGO_BIN_EXE_sessionbridge"), "run", "--config"])
            .arg(&file)
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        Self { child, log, seen: Vec::new(), address: String::new(), admin: String::new() }
    }

    fn address_of(&mut self, what: &str) -> String {
        let line = self.wait_for(what);
        let (_, rest) = line.split_once("\"address\":\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    /// The next line of the log that holds `what`.
    pub(crate) fn wait_for(&mut self, what: &str) -> String {
        if let Some(line) = self.seen.iter().find(|line| line.contains(what)) {
            return line.clone();
        }
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else { panic!("no {what}: {:#?}", self.seen) };
            self.seen.push(line.clone());
            if line.contains(what) {
                return line;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As `kill -TERM`; its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        let status = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(status.success());
        self.ended()
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) fn ended(&mut self) -> i32 {
        let code = self.child.wait().unwrap().code().unwrap();
        self.seen.extend(self.log.iter());
        code
    }

    /// What the operators' API says at `path`.
    pub(crate) fn api(&self, path: &str) -> serde_json::Value {
        let text = self.admin_text(path);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub(crate) fn admin_text(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let host = &self.admin;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.seen.extend(self.log.try_iter());
            eprintln!("{:#?}", self.seen);
        }
    }
}
