//! One process after another, as whoever runs them meets it: sockets of systemd, words to it, a new binary under load.
//!
//! Every wait is for a condition, with a deadline; ports are chosen by the system.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use sessionbridge::clock::Clock;
use sessionbridge::demo::sim::server::{self, SimRemote};
use sessionbridge::demo::sim::{Profile, Seen, SimOptions};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sessionbridge");
/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// `sessionbridge run`, and whatever takes over from it; all are killed when this is dropped.
struct Running {
    child: Child,
    /// Of it and of its successors.
    pids: Vec<u32>,
    log: Receiver<String>,
    seen: Vec<String>,
    address: String,
}

impl Running {
    fn start(directory: &Path, config: &str) -> Self {
        Self::start_as(Command::new(PROGRAM), directory, config)
    }

    /// With what `command` brings.
    fn start_as(mut command: Command, directory: &Path, config: &str) -> Self {
        let file = directory.join("config.toml");
        std::fs::write(&file, config).unwrap();
        command.arg("run").arg("--config").arg(file).env("RUST_BACKTRACE", "0");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Whoever listened may be gone.
                let _ = lines.send(line);
            }
        });
        let pids = vec![child.id()];
        let mut running = Self { child, pids, log, seen: Vec::new(), address: String::new() };
        running.address = running.field("\"listening\"", "address");
        running
    }

    /// The next line of the log with `word` in it.
    fn wait_for(&mut self, word: &str) -> String {
        loop {
            let line = self.log.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|error| panic!("no {word:?} ({error}): {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(word) {
                return line;
            }
        }
    }

    /// A field of the next line with `word` in it.
    fn field(&mut self, word: &str, name: &str) -> String {
        let line: serde_json::Value = serde_json::from_str(&self.wait_for(word)).unwrap();
        match &line["fields"][name] {
            serde_json::Value::Null => line[name].to_string(),
            found => found.to_string(),
        }
        .trim_matches('"')
        .to_owned()
    }

    /// Tells the process that serves now.
    fn signal(&self, name: &str) {
        let pid = self.pids.last().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Has a new process take over, and waits until the old one says that it has.
    fn hand_over(&mut self) {
        self.signal("USR2");
        let pid = self.field("handing over to a new process", "pid");
        self.pids.push(pid.parse().unwrap());
        self.wait_for("the new process serves");
    }

    /// The exit code of the first process, once it has ended.
    fn ended(&mut self) -> i32 {
        let mut status = None;
        wait_until("the end of the program", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code().unwrap()
    }

    /// Waits until all processes have ended: their log is over.
    fn all_ended(&mut self) {
        loop {
            match self.log.recv_timeout(DEADLINE) {
                Ok(line) => self.seen.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("{error}: {:#?}", self.seen),
            }
        }
        assert!(!self.seen.iter().any(|line| line.contains("panicked")), "{:#?}", self.seen);
    }

    fn connect(&self) -> TcpStream {
        connect(&self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // They may have ended already.
        for pid in &self.pids[1..] {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until it is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    const STEP: Duration = Duration::from_millis(5);
    for _ in 0..DEADLINE.as_millis() / STEP.as_millis() {
        if is_so() {
            return;
        }
        thread::park_timeout(STEP);
    }
    panic!("still waiting for {what}");
}

fn connect(address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().unwrap();
    let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// An app without sessions: it answers every request with its path; `/slow` when it is told to, `/ws` by going on as an echo.
struct App {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    may_answer: Arc<AtomicBool>,
}

impl App {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, may_answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counts, may) = (Arc::clone(&asked), Arc::clone(&may_answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (counts, may) = (Arc::clone(&counts), Arc::clone(&may));
                // A connection that breaks is the proxy's affair.
                thread::spawn(move || drop(answer_all(stream, &counts, &may)));
            }
        });
        Self { address, asked, may_answer }
    }

    /// A config with this app, and more lines before it.
    fn config(&self, more: &str) -> String {
        format!(
            "listen = \"127.0.0.1:0\"\nlog.format = \"json\"\nstore.kind = \"memory\"\n{more}\n[apps.plain]\nupstreams = [\"http://{}\"]\n",
            self.address
        )
    }

    fn wait_until_asked(&self) {
        wait_until("the app to be asked", || self.asked.load(Ordering::SeqCst) > 0);
    }
}

fn answer_all(mut stream: TcpStream, asked: &AtomicUsize, may_answer: &AtomicBool) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    loop {
        let (mut first, mut line) = (String::new(), String::new());
        if lines.read_line(&mut first)? == 0 {
            return Ok(());
        }
        while lines.read_line(&mut line)? > 2 {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        if path == "/slow" {
            asked.fetch_add(1, Ordering::SeqCst);
            wait_until("leave to answer", || may_answer.load(Ordering::SeqCst));
        }
        if path == "/ws" {
            stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            )?;
            return io::copy(&mut lines, &mut stream).map(drop);
        }
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len())?;
    }
}

/// Asks for `path` and reads one answer, of which the connection goes on. `None`: it was closed before its first byte.
fn ask(stream: &mut (impl Read + Write), path: &str, more: &str) -> io::Result<Option<String>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: apps.example.org\r\n{more}\r\n");
    let closed = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    };
    match stream.write_all(request.as_bytes()) {
        Err(error) if closed(&error) => return Ok(None),
        written => written?,
    }
    let (mut head, mut octet) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut octet) {
            Ok(0) if head.is_empty() => return Ok(None),
            Err(error) if head.is_empty() && closed(&error) => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => read?,
        };
        head.push(octet[0]);
    }
    let mut answer = String::from_utf8(head).unwrap();
    let lower = answer.to_lowercase();
    let length = lower.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    answer.push_str(&String::from_utf8(body).unwrap());
    Ok(Some(answer))
}

/// One request on a connection of its own, which must be answered by the app.
fn get(running: &Running, path: &str) {
    let answer = ask(&mut running.connect(), path, "Connection: close\r\n").unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(path), "{answer}");
}

/// Clients that ask without a pause, half of them on connections that are kept, the others on a new one each time.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: &str) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..8).map(|number| {
            let (stop, answered, address) = (Arc::clone(&stop), Arc::clone(&answered), address.to_owned());
            thread::spawn(move || client(number, &address, &stop, &answered))
        });
        let clients = clients.collect();
        Self { stop, answered, clients }
    }

    /// Waits for so many answers more.
    fn goes_on(&self, more: usize) {
        let now = self.answered.load(Ordering::SeqCst);
        wait_until("answers", || self.answered.load(Ordering::SeqCst) >= now + more || self.has_failed());
    }

    fn has_failed(&self) -> bool {
        self.clients.iter().any(JoinHandle::is_finished)
    }

    /// What went wrong.
    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

/// Asks until it is stopped or something goes wrong, which is returned.
fn client(number: usize, address: &str, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let keeps = number.is_multiple_of(2);
    let (mut kept, path) = (None, format!("/client/{number}"));
    while !stop.load(Ordering::SeqCst) {
        let is_new = kept.is_none();
        let mut stream = match kept.take().map_or_else(|| TcpStream::connect(address), Ok) {
            Ok(stream) => stream,
            Err(error) => return vec![format!("{number} cannot connect: {error}")],
        };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let more = if keeps { "" } else { "Connection: close\r\n" };
        match ask(&mut stream, &path, more) {
            Ok(Some(answer)) if answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&path) => {
                answered.fetch_add(1, Ordering::SeqCst);
                kept = (keeps && !answer.to_lowercase().contains("connection: close")).then_some(stream);
            }
            // A connection that is kept may be closed at any time between two requests (RFC 9112, 9.3.1).
            Ok(None) if !is_new => {}
            wrong => return vec![format!("{number}, new {is_new}: {wrong:?}")],
        }
    }
    Vec::new()
}

#[test]
fn r7_a_new_binary_takes_over_under_load_and_nobody_is_refused() {
    let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
    let config = |threads| app.config(&format!("admin.listen = \"off\"\nserver.threads = {threads}"));
    let mut running = Running::start(directory.path(), &config(2));
    let load = Load::start(&running.address);
    load.goes_on(200);
    // More threads than sockets, fewer, as many.
    for threads in [3, 1, 2] {
        std::fs::write(directory.path().join("config.toml"), config(threads)).unwrap();
        running.hand_over();
        load.goes_on(200);
    }
    assert_eq!(running.ended(), 0);
    assert_eq!(load.end(), [""; 0]);
    get(&running, "/after");
    running.signal("TERM");
    running.all_ended();
    assert_eq!(running.seen.iter().filter(|line| line.contains("\"stopped\"")).count(), 4);
    assert!(TcpStream::connect(&running.address).is_err(), "nobody has the port any more");
}

#[test]
fn sessions_go_over_to_the_new_process() {
    let directory = tempfile::tempdir().unwrap();
    let (config, app) = kept(directory.path());
    let mut running = Running::start(directory.path(), &config);
    let mut sessions: Vec<(String, serde_json::Value)> = Vec::new();
    for _ in 0..3 {
        for _ in 0..5 {
            sessions.push(person(&running));
        }
        running.hand_over();
        for (cookie, before) in &sessions {
            assert_eq!(started(&running, cookie).1, *before);
        }
    }
    // Probes begin sessions of their own.
    let is_person = |seen: &&Seen| {
        let agent = seen.headers.get("user-agent").and_then(|agent| agent.to_str().ok());
        seen.fresh && !agent.is_some_and(|agent| agent.starts_with("sessionbridge-probe/"))
    };
    let people = app.handle.with(|sim| sim.log().iter().filter(is_person).count());
    assert_eq!(people, sessions.len(), "nobody began a session anew");
}

#[test]
fn an_answer_that_comes_after_the_store_is_gone_comes_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (config, app) = kept(directory.path());
    let mut running = Running::start(directory.path(), &config);
    let (cookie, before) = person(&running);
    let (mut stream, fields) = (running.connect(), format!("Accept: application/json\r\n{cookie}"));
    let slow = thread::spawn(move || ask(&mut stream, "/AppA/slow.cfm?ms=4500", &fields));
    wait_until("the app to be asked", || {
        app.handle.with(|sim| sim.log().iter().any(|seen| seen.page.as_deref() == Some("slow")))
    });
    running.hand_over();
    let answer = slow.join().unwrap().unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        running.seen.iter().any(|line| line.contains("finished without the store")),
        "{:#?}",
        running.seen
    );
    assert_eq!(running.ended(), 0);
    assert_eq!(started(&running, &cookie).1, before);
}

/// AppA, and a config with it and a store.
fn kept(directory: &Path) -> (String, SimRemote) {
    let clock = Clock::system();
    let options = SimOptions::new(Profile::AcfStrict, "AppA");
    let (address, app) = server::spawn_thread(options, Arc::new(move || clock.now().millis())).unwrap();
    let config = format!(
        "listen = \"127.0.0.1:0\"\nadmin.listen = \"off\"\nlog.format = \"json\"\n\
         store.path = \"{}\"\n[apps.appA]\npath = \"/AppA/\"\nupstreams = [\"http://{address}\"]\n\
         session.engine = \"coldfusion\"\nheartbeat.path = \"/AppA/ping.cfm\"\n",
        directory.join("store").display()
    );
    (config, app)
}

/// Somebody new: the field with the cookie, and when the session in AppA was begun.
fn person(running: &Running) -> (String, serde_json::Value) {
    let (answer, started) = started(running, "");
    let (_, after) = answer.split_once("set-cookie: ").unwrap();
    (format!("Cookie: {}\r\n", after.split(';').next().unwrap()), started)
}

/// What AppA answers to somebody with these fields (in lower case), and when that session was begun.
fn started(running: &Running, fields: &str) -> (String, serde_json::Value) {
    let fields = format!("Accept: application/json\r\n{fields}");
    let answer = ask(&mut running.connect(), "/AppA/index.cfm", &fields).unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    (head.replace("Set-Cookie", "set-cookie"), body["started"].clone())
}

#[test]
fn what_is_in_flight_at_a_hand_over_is_finished_by_the_old_process() {
    let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
    let mut running = Running::start(directory.path(), &app.config("admin.listen = \"off\""));
    let mut stream = running.connect();
    let slow = thread::spawn(move || ask(&mut stream, "/slow", ""));
    app.wait_until_asked();
    running.hand_over();
    get(&running, "/meanwhile");
    assert!(running.child.try_wait().unwrap().is_none(), "the old one has something left to do");
    app.may_answer.store(true, Ordering::SeqCst);
    let answer = slow.join().unwrap().unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("/slow"), "{answer}");
    assert_eq!(running.ended(), 0);
}

#[test]
fn a_successor_that_fails_leaves_the_old_process_serving() {
    let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
    let binary = directory.path().join("sessionbridge");
    std::os::unix::fs::symlink(PROGRAM, &binary).unwrap();
    let good = app.config("admin.listen = \"off\"\nserver.threads = 1");
    let mut running = Running::start_as(Command::new(&binary), directory.path(), &good);
    let load = Load::start(&running.address);
    let config = directory.path().join("config.toml");
    std::fs::write(&config, "listen = 1").unwrap();
    running.signal("USR2");
    let line = running.wait_for("the hand-over failed");
    assert!(line.contains("\"ERROR\"") && line.contains("exit status: 78"), "{line}");
    std::fs::write(&config, &good).unwrap();
    // One that cannot be started, one that ends at once, and one that ends with the store in its hands: 3 is the socket,
    // 4 the channel.
    for (stub, says) in [
        ("", "cannot be started"),
        ("#!/bin/sh\nexit 3\n", "before it was ready to take over: exit status: 3"),
        ("#!/bin/sh\nprintf t >&4\ndd bs=1 count=1 <&4\nexit 5\n", "before it was serving: exit status: 5"),
    ] {
        replace(&binary, stub);
        running.signal("USR2");
        let line = running.wait_for("the hand-over failed");
        assert!(line.contains(says), "{line}");
        load.goes_on(50);
    }
    std::fs::remove_file(&binary).unwrap();
    std::os::unix::fs::symlink(PROGRAM, &binary).unwrap();
    running.hand_over();
    load.goes_on(50);
    assert_eq!(load.end(), [""; 0]);
    assert_eq!(running.ended(), 0);
}

/// Puts a script in the place of a binary, as an upgrade does: by another file of its name.
fn replace(binary: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let new = binary.with_extension("new");
    std::fs::write(&new, script).unwrap();
    let mode = if script.is_empty() { 0o644 } else { 0o755 };
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::rename(&new, binary).unwrap();
}

#[test]
fn a_second_hand_over_is_refused_while_one_is_under_way_and_a_stop_ends_it() {
    let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
    let binary = directory.path().join("sessionbridge");
    std::os::unix::fs::symlink(PROGRAM, &binary).unwrap();
    let mut running =
        Running::start_as(Command::new(&binary), directory.path(), &app.config("admin.listen = \"off\""));
    replace(&binary, "#!/bin/sh\nexec sleep 600\n");
    running.signal("USR2");
    running.wait_for("handing over to a new process");
    running.signal("USR2");
    running.wait_for("a hand-over is under way already");
    get(&running, "/served");
    running.signal("TERM");
    running.wait_for("this process is to stop, so the new one was ended as well");
    assert_eq!(running.ended(), 0);
    running.all_ended();
}

#[test]
fn a_websocket_lives_on_in_the_old_process_until_it_ends_or_the_drain_does() {
    for drain_timeout in ["10m", "200ms"] {
        let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
        let more = format!("admin.listen = \"off\"\nserver.drain_timeout = \"{drain_timeout}\"");
        let mut running = Running::start(directory.path(), &app.config(&more));
        let mut socket = running.connect();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let answer = ask(&mut socket, "/ws", upgrade).unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        running.hand_over();
        get(&running, "/meanwhile");
        if drain_timeout == "10m" {
            // A masked frame with "hi", whatever the mask.
            let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
            let mut echo = [0; 8];
            for _ in 0..3 {
                socket.write_all(&frame).unwrap();
                socket.read_exact(&mut echo).unwrap();
                assert_eq!(echo, frame);
            }
            assert!(running.child.try_wait().unwrap().is_none());
            drop(socket);
        } else {
            assert!(!matches!(socket.read(&mut [0]), Ok(1)), "it is cut");
        }
        assert_eq!(running.ended(), 0);
    }
}

/// The program, given `sockets` as systemd gives them.
fn activated(sockets: &[(&str, OwnedFd)]) -> Command {
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    let mappings = (3..)
        .zip(sockets)
        .map(|(child_fd, (_, socket))| FdMapping { parent_fd: socket.try_clone().unwrap(), child_fd });
    // systemd names the process; a shell knows its own id.
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\"", PROGRAM]);
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    command.fd_mappings(mappings.collect()).unwrap();
    command
}

#[test]
fn sockets_of_systemd_are_taken_by_their_address_and_outlive_the_process() {
    let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
    let (web, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (address, unused) = (web.local_addr().unwrap().to_string(), other.local_addr().unwrap().to_string());
    let path = directory.path().join("admin.sock");
    let admin = UnixListener::bind(&path).unwrap();
    let sockets = [("web", web.into()), ("admin", admin.into()), ("spare", OwnedFd::from(other))];
    let more = format!("admin.listen = \"unix:{}\"\nserver.threads = 2", path.display());
    let config = app.config(&more).replace("\"127.0.0.1:0\"", &format!("[\"{address}\", \"127.0.0.2:0\"]"));
    for _ in 0..2 {
        // Nobody accepts yet, and nobody is refused.
        let mut early = connect(&address);
        let mut running = Running::start_as(activated(&sockets), directory.path(), &config);
        assert_eq!(running.address, address);
        let seen = running.seen.join("\n");
        assert!(
            seen.contains(&format!("not used: {unused} (spare): no line of the config names it")),
            "{seen}"
        );
        assert!(seen.contains("with none for this address") && seen.contains("127.0.0.2:0"), "{seen}");
        let answer = ask(&mut early, "/early", "Connection: close\r\n").unwrap().unwrap();
        assert!(answer.ends_with("/early"), "{answer}");
        // Threads share the one socket.
        (0..32).for_each(|_| get(&running, "/shared"));
        assert_eq!(code(&healthcheck(directory.path())), 0);
        // They are handed on as well.
        running.hand_over();
        get(&running, "/handed");
        assert_eq!(code(&healthcheck(directory.path())), 0);
        running.signal("TERM");
        running.all_ended();
    }
}

fn healthcheck(directory: &Path) -> Output {
    let config = directory.join("config.toml");
    Command::new(PROGRAM).arg("healthcheck").arg("--config").arg(config).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn healthcheck_is_1_where_nobody_answers() {
    let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
    let path = directory.path().join("admin.sock");
    let config = app.config(&format!("admin.listen = \"unix:{}\"", path.display()));
    std::fs::write(directory.path().join("config.toml"), &config).unwrap();
    let output = healthcheck(directory.path());
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(code(&output), 1);
    assert!(said.contains("no answer from unix:"), "{said}");
    std::fs::write(directory.path().join("config.toml"), "listen = 1").unwrap();
    assert_eq!(code(&healthcheck(directory.path())), 78);
}

/// A unit's end of the notify protocol.
struct Unit {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Unit {
    fn new(directory: &Path) -> Self {
        let path = directory.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, path }
    }

    /// The next message but for the watchdog's.
    fn hears(&self) -> String {
        loop {
            let said = self.hears_any();
            if said != "WATCHDOG=1\n" {
                return said;
            }
        }
    }

    fn hears_any(&self) -> String {
        let mut message = [0; 512];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }
}

#[test]
fn systemd_is_told_what_happens_and_that_the_workers_run() {
    let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
    let unit = Unit::new(directory.path());
    let mut command = Command::new(PROGRAM);
    command.env("NOTIFY_SOCKET", &unit.path).env("WATCHDOG_USEC", "200000");
    let mut running = Running::start_as(command, directory.path(), &app.config("admin.listen = \"off\""));
    assert_eq!(unit.hears_any(), "READY=1\nSTATUS=serving\n");
    (0..3).for_each(|_| assert_eq!(unit.hears_any(), "WATCHDOG=1\n"));
    running.signal("HUP");
    let said = unit.hears();
    assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said}");
    assert_eq!(unit.hears(), "READY=1\nSTATUS=serving\n");
    running.hand_over();
    assert_eq!(unit.hears(), format!("MAINPID={}\n", running.pids[1]));
    assert_eq!(unit.hears(), "READY=1\nSTATUS=serving\n", "by the new process, which is the unit's now");
    assert_eq!(running.ended(), 0);
    (0..3).for_each(|_| assert_eq!(unit.hears_any(), "WATCHDOG=1\n"));
    running.signal("TERM");
    assert_eq!(unit.hears(), "STOPPING=1\nSTATUS=draining\n");
    running.all_ended();
}

#[test]
fn a_watchdogs_limit_for_another_process_is_not_ours() {
    let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
    let unit = Unit::new(directory.path());
    let mut command = Command::new(PROGRAM);
    command.env("NOTIFY_SOCKET", &unit.path).env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1");
    let mut running = Running::start_as(command, directory.path(), &app.config("admin.listen = \"off\""));
    assert_eq!(unit.hears_any(), "READY=1\nSTATUS=serving\n");
    get(&running, "/served");
    running.signal("TERM");
    assert_eq!(unit.hears_any(), "STOPPING=1\nSTATUS=draining\n", "without a word before");
    running.all_ended();
}

#[test]
fn r4_a_term_under_load_ends_what_is_in_flight_and_the_process_with_0() {
    let (directory, app) = (tempfile::tempdir().unwrap(), App::start());
    let mut running =
        Running::start(directory.path(), &app.config("admin.listen = \"off\"\nserver.threads = 2"));
    let load = Load::start(&running.address);
    load.goes_on(200);
    let mut stream = running.connect();
    let slow = thread::spawn(move || ask(&mut stream, "/slow", ""));
    app.wait_until_asked();
    running.signal("TERM");
    running.wait_for("draining");
    wait_until("the port to be closed", || TcpStream::connect(&running.address).is_err());
    app.may_answer.store(true, Ordering::SeqCst);
    let answer = slow.join().unwrap().unwrap().unwrap();
    assert!(answer.ends_with("/slow"), "{answer}");
    assert_eq!(running.ended(), 0);
    let wrong = load.end();
    // Whoever comes now is refused, or was not answered at all, and may ask elsewhere; no answer broke off.
    let may_be = |wrong: &String| wrong.contains("cannot connect") || wrong.ends_with("Ok(None)");
    assert!(wrong.len() == 8 && wrong.iter().all(may_be), "{wrong:#?}");
}

#[test]
fn the_units_for_systemd_are_as_systemd_wants_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (folder, directory) = (root.join("packaging/systemd"), tempfile::tempdir().unwrap());
    let unit = std::fs::read_to_string(folder.join("sessionbridge.service")).unwrap();
    // Its command line is one of ours.
    let command =
        unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/sessionbridge ")).unwrap();
    let output = Command::new(PROGRAM).args(command.split(' ')).arg("--help").output().unwrap();
    assert_eq!(code(&output), 0, "{command}");
    std::fs::write(
        directory.path().join("sessionbridge.service"),
        unit.replace("/usr/bin/sessionbridge", PROGRAM),
    )
    .unwrap();
    std::fs::copy(folder.join("sessionbridge.socket"), directory.path().join("sessionbridge.socket"))
        .unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "sessionbridge.service", "sessionbridge.socket"]);
    let Ok(output) = verify.current_dir(directory.path()).output() else {
        eprintln!("left out: systemd-analyze is missing");
        return;
    };
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    // Before 253 that type is not known; docs/running.md says what to do then.
    let new = |line: &&str| line.contains("/sessionbridge.") && !line.contains("ignoring: notify-reload");
    let wrong: Vec<&str> = said.lines().filter(new).collect();
    assert!(wrong.is_empty() && output.status.success(), "{said}");
}
