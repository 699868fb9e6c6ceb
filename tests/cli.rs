//! The built program, as whoever runs it meets it: real sockets, signals, exit codes.
//!
//! Ports are chosen by the system and learned from the log; every wait is for a condition, with a deadline.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use sessionbridge::clock::Clock;
use sessionbridge::demo::sim::server::{self, SimRemote};
use sessionbridge::demo::sim::{Profile, SimOptions};
use tokio::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sessionbridge");
/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The program with `arguments`, in `directory`, to its end.
fn program(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).current_dir(directory).env("RUST_BACKTRACE", "0").output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `sessionbridge run` in the background; killed when dropped.
struct Running {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
    address: String,
}

impl Running {
    fn start(directory: &Path, config: &str) -> Self {
        Self::start_as(directory, config, "exec \"$0\" \"$@\"")
    }

    /// `shell` runs the program as `"$0" "$@"`.
    fn start_as(directory: &Path, config: &str, shell: &str) -> Self {
        let file = directory.join("config.toml");
        std::fs::write(&file, config).unwrap();
        let mut running = Self::spawn(&file, shell);
        let line = running.wait_for("\"listening\"");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        running.address = find(&line, "address").unwrap();
        running
    }

    fn spawn(config: &Path, shell: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", shell, PROGRAM, "run", "--config"])
            .arg(config)
            .env("RUST_BACKTRACE", "0")
            .env("STATE_DIRECTORY", config.with_file_name("state"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Whoever listened may be gone.
                let _ = lines.send(line);
            }
        });
        Self { child, log, seen: Vec::new(), address: String::new() }
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

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// The exit code, once it has ended.
    fn ended(&mut self) -> i32 {
        let mut status = None;
        wait_until("the end of the program", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        // The pipe is closed with the program: this ends.
        self.seen.extend(self.log.iter());
        assert!(!self.seen.iter().any(|line| line.contains("panicked")), "{:#?}", self.seen);
        status.unwrap().code().unwrap()
    }

    fn connect(&self) -> TcpStream {
        let address: SocketAddr = self.address.parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// One GET on a connection of its own; the whole answer.
    fn get(&self, target: &str, more: &str) -> String {
        ask(self.connect(), target, &format!("Connection: close\r\n{more}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The field `name`, wherever it is nested.
fn find(value: &serde_json::Value, name: &str) -> Option<String> {
    let object = value.as_object()?;
    let own = object.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    own.or_else(|| object.values().find_map(|value| find(value, name)))
}

fn ask(mut stream: impl std::io::Read + std::io::Write, target: &str, more: &str) -> String {
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: apps.example.org\r\nAccept: application/json\r\n{more}\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
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

/// Two apps on sockets, and the smallest config for them.
struct Apps {
    a: SimRemote,
    b: SimRemote,
    config: String,
}

fn apps(more: &str) -> Apps {
    let clock = Clock::system();
    let millis: server::Clock = Arc::new(move || clock.now().millis());
    let (at_a, a) =
        server::spawn_thread(SimOptions::new(Profile::AcfStrict, "AppA"), Arc::clone(&millis)).unwrap();
    let (at_b, b) = server::spawn_thread(SimOptions::new(Profile::AcfStrict, "AppB"), millis).unwrap();
    let config = format!(
        "listen = \"127.0.0.1:0\"\nadmin.listen = \"off\"\n{more}\n\
         [apps.appA]\npath = \"/AppA/\"\nupstreams = [\"http://{at_a}\"]\nsession.engine = \"coldfusion\"\n\
         heartbeat.path = \"/AppA/ping.cfm\"\n\
         [apps.appB]\npath = \"/AppB/\"\nupstreams = [\"http://{at_b}\"]\nsession.engine = \"coldfusion\"\n\
         session.url_tokens = {{ AID = \"appA.CFID\", ATOKEN = \"appA.CFTOKEN\" }}\nheartbeat.path = \"/AppB/ping.cfm\"\n"
    );
    Apps { a, b, config }
}

/// Value of the bridge cookie that an answer sets.
fn cookie(answer: &str) -> String {
    let line = answer
        .lines()
        .find(|line| line.to_lowercase().starts_with("set-cookie: bridge="))
        .unwrap_or_else(|| panic!("{answer}"));
    let pair = line.split_once(": ").unwrap().1.split(';').next().unwrap();
    format!("Cookie: {pair}\r\n")
}

fn body(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1)
        .unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn the_smallest_config_serves_two_apps() {
    let (directory, apps) = (tempfile::tempdir().unwrap(), apps(""));
    let mut running = Running::start(directory.path(), &apps.config);
    assert!(!running.address.ends_with(":0"), "{}", running.address);
    let first = running.get("/AppA/index.cfm", "");
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    let session = cookie(&first);
    let again = running.get("/AppA/index.cfm", &session);
    assert_eq!(body(&again)["started"], body(&first)["started"]);
    assert_eq!(body(&running.get("/AppB/index.cfm", &session))["app"], "AppB");
    let status = body(&running.get("/.bridge/status", &session));
    assert_eq!(status["state"], "active");
    assert_eq!(apps.a.handle.with(|sim| sim.counts().starts), 1);
    running.signal("TERM");
    assert_eq!(running.ended(), 0);
}

#[test]
fn two_threads_know_one_session_and_connections_are_kept() {
    let (directory, apps) = (tempfile::tempdir().unwrap(), apps("server.threads = 2"));
    let running = Running::start(directory.path(), &apps.config);
    let first = running.get("/AppA/index.cfm", "");
    let (session, started) = (cookie(&first), body(&first)["started"].clone());
    // Which thread a connection falls to is the kernel's choice: of so many, some fall to each.
    let streams: Vec<TcpStream> = (0..32).map(|_| running.connect()).collect();
    for mut stream in streams {
        for _ in 0..3 {
            write!(stream, "GET /AppA/index.cfm HTTP/1.1\r\nHost: apps.example.org\r\nAccept: application/json\r\n{session}\r\n").unwrap();
            let (mut head, mut octet) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut octet).unwrap();
                head.push(octet[0]);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head.split_once("content-length: ").unwrap().1.split("\r\n").next().unwrap();
            let mut said = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut said).unwrap();
            let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
            assert_eq!(said["started"], started);
        }
    }
    // Probes begin sessions of their own.
    let person = |seen: &&sessionbridge::demo::sim::Seen| {
        let agent = seen.headers.get("user-agent").and_then(|agent| agent.to_str().ok());
        seen.fresh && !agent.is_some_and(|agent| agent.starts_with("sessionbridge-probe/"))
    };
    assert_eq!(apps.a.handle.with(|sim| sim.log().iter().filter(person).count()), 1);
}

#[test]
fn http2_without_tls_on_a_real_socket() {
    use http_body_util::{BodyExt as _, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let (directory, apps) = (tempfile::tempdir().unwrap(), apps(""));
    let running = Running::start(directory.path(), &apps.config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TokioIo::new(tokio::net::TcpStream::connect(&running.address).await.unwrap());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..3 {
            let request = http::Request::get("http://apps.example.org/AppB/big.cfm?size=500000");
            let answer =
                sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 500_000);
        }
    });
    assert_eq!(apps.b.handle.with(|sim| sim.log().len()), 3);
}

#[test]
fn unix_sockets_on_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let (front, back) = (directory.path().join("front.sock"), directory.path().join("back.sock"));
    let app = UnixListener::bind(&back).unwrap();
    thread::spawn(move || {
        for mut stream in app.incoming().map_while(Result::ok) {
            let mut read = [0; 4096];
            while stream.read(&mut read).is_ok_and(|length| length > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nby a pipe").unwrap();
            }
        }
    });
    let config = format!(
        "listen = \"unix:{}\"\nadmin.listen = \"off\"\n[apps.a]\nupstreams = [\"unix:{}\"]\n",
        front.display(),
        back.display()
    );
    let running = Running::start(directory.path(), &config);
    assert_eq!(running.address, format!("unix:{}", front.display()));
    for _ in 0..3 {
        let stream = UnixStream::connect(&front).unwrap();
        let answer = ask(stream, "/", "Connection: close\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("by a pip"), "{answer}");
    }
}

#[test]
fn a_term_lets_the_request_in_flight_end_and_takes_no_more() {
    let (directory, apps) = (tempfile::tempdir().unwrap(), apps(""));
    let mut running = Running::start(directory.path(), &apps.config);
    let (address, stream) = (running.address.clone(), running.connect());
    let slow = thread::spawn(move || ask(stream, "/AppA/slow.cfm?ms=1500", ""));
    wait_until("the app to be asked", || seen(&apps.a, "slow"));
    running.signal("TERM");
    running.wait_for("draining");
    wait_until("the port to be closed", || TcpStream::connect(&address).is_err());
    let answer = slow.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    body(&answer);
    assert_eq!(running.ended(), 0);
    assert!(running.seen.iter().any(|line| line.contains("\"stopped\"")), "{:#?}", running.seen);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for signal in ["TERM", "INT", "QUIT"] {
        let (directory, apps) = (tempfile::tempdir().unwrap(), apps("server.drain_timeout = \"10m\""));
        let mut running = Running::start(directory.path(), &apps.config);
        let mut stream = running.connect();
        write!(stream, "GET /AppA/slow.cfm?ms=600000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        wait_until("the app to be asked", || seen(&apps.a, "slow"));
        running.signal(signal);
        running.wait_for("draining");
        running.signal(signal);
        running.wait_for("at once");
        assert_eq!(running.ended(), 0);
        assert_eq!(stream.read(&mut [0; 100]).unwrap_or(0), 0, "nothing was answered");
    }
}

fn seen(app: &SimRemote, page: &str) -> bool {
    app.handle.with(|sim| {
        // A request is noted when its answer is made, before the answer's delay.
        sim.log().iter().any(|seen| seen.page.as_deref() == Some(page))
    })
}

#[test]
fn usr1_opens_the_access_log_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (log, old) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let apps = apps(&format!("log.access = \"{}\"", log.display()));
    let mut running = Running::start(directory.path(), &apps.config);
    let lines = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
    running.get("/AppA/index.cfm?CFID=12345&first=1", "");
    wait_until("the first line", || lines(&log).ends_with('\n'));
    assert!(lines(&log).contains("first=1") && !lines(&log).contains("12345"), "{}", lines(&log));
    std::fs::rename(&log, &old).unwrap();
    running.signal("USR1");
    wait_until("the new file", || log.exists());
    running.get("/AppA/index.cfm?second=1", "");
    wait_until("the second line", || lines(&log).contains("second=1"));
    assert!(lines(&old).contains("first=1") && !lines(&old).contains("second=1"));
    running.signal("HUP");
    running.wait_for("the config was read anew");
    running.signal("TERM");
    assert_eq!(running.ended(), 0);
}

#[test]
fn a_port_that_is_taken_is_a_failure_with_a_reason_also_by_another_of_us() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let app = "[apps.a]\nupstreams = [\"http://127.0.0.1:1\"]\n";
    let running =
        Running::start(directory.path(), &format!("listen = \"127.0.0.1:0\"\nadmin.listen = \"off\"\n{app}"));
    for address in [taken.local_addr().unwrap().to_string(), running.address.clone()] {
        let file = directory.path().join("second.toml");
        for config in [
            format!("listen = \"{address}\"\nadmin.listen = \"off\"\n{app}"),
            format!("listen = \"127.0.0.1:0\"\nadmin.listen = \"{address}\"\n{app}"),
        ] {
            std::fs::write(&file, config).unwrap();
            let mut second = Running::spawn(&file, "exec \"$0\" \"$@\"");
            assert_eq!(second.ended(), 1, "{:#?}", second.seen);
            let said = second.seen.join("\n");
            assert!(
                said.contains(&format!("error: cannot listen at {address}: ")) && said.contains("in use"),
                "{said}"
            );
        }
    }
}

#[test]
fn without_file_descriptors_it_waits_and_recovers() {
    let (directory, apps) = (tempfile::tempdir().unwrap(), apps("server.threads = 1"));
    let mut running = Running::start_as(directory.path(), &apps.config, "ulimit -n 48; exec \"$0\" \"$@\"");
    let hoard: Vec<TcpStream> = (0..100).map(|_| running.connect()).collect();
    running.wait_for("cannot accept connections");
    let before = ticks(running.child.id());
    // At most one line a second: two more are over a second's work, or rest.
    running.wait_for("cannot accept connections");
    running.wait_for("cannot accept connections");
    let spent = ticks(running.child.id()) - before;
    assert!(spent < 30, "{spent} hundredths of a second of work while there is nothing to do");
    drop(hoard);
    assert!(running.get("/AppA/index.cfm", "").starts_with("HTTP/1.1 200 "));
}

/// CPU time of a process, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_large_upload_is_told_why_it_is_refused() {
    let (directory, apps) = (tempfile::tempdir().unwrap(), apps("server.max_body = \"1MiB\""));
    let running = Running::start(directory.path(), &apps.config);
    for _ in 0..10 {
        let mut stream = running.connect();
        let length = 8 << 20;
        write!(stream, "POST /AppA/echo.cfm HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
            .unwrap();
        // Clients send without looking; the answer must survive what is unread.
        let _ = stream.write_all(&vec![b'x'; length]);
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{ended:?} {answer:?}");
    }
}

#[test]
fn a_name_that_does_not_resolve_and_a_closed_port_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "listen = \"127.0.0.1:0\"\nadmin.listen = \"off\"\n[apps.dns]\npath = \"/dns/\"\nupstreams = [\"http://no.such.invalid\"]\n\
         [apps.closed]\npath = \"/closed/\"\nupstreams = [\"http://{closed}\"]\n"
    );
    let running = Running::start(directory.path(), &config);
    for (path, reason) in [("/dns/", "dns_failed"), ("/closed/", "connect_refused")] {
        let answer = running.get(path, "").to_lowercase();
        assert!(
            answer.starts_with("http/1.1 502 ") && answer.contains(&format!("x-bridge-error: {reason}\r\n")),
            "{answer}"
        );
    }
}

#[test]
fn check_tells_all_mistakes_at_once_and_run_refuses_them_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let good = apps("").config;
    std::fs::write(directory.path().join("good.toml"), &good).unwrap();
    let output = program(directory.path(), &["check", "good.toml"]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    assert!(errors(&output).contains("0 errors"), "{}", errors(&output));
    let bad = "listen = \"127.0.0.1\"\nbridge.mode = \"sideways\"\nserver.timeouts.idle = 5\n[store]\nkind = \"disk\"\n\
               [apps.a]\npaht = \"/\"\nupstreams = [\"ftp://x\"]\nsession.engine = \"coldfusio\"\n";
    std::fs::write(directory.path().join("config.toml"), bad).unwrap();
    for arguments in [
        &["check"][..],
        &["check", "config.toml"],
        &["run"],
        &["run", "-c", "config.toml"],
        &["explain", "http://x/"],
    ] {
        let output = program(directory.path(), arguments);
        let said = errors(&output);
        assert_eq!(code(&output), 78, "{arguments:?}: {said}");
        for (line, mistake) in [
            (1, "`listen`"),
            (2, "sideways"),
            (3, "`idle`"),
            (5, "`kind` cannot be `disk`"),
            (7, "paht"),
            (8, "ftp"),
            (9, "coldfusio"),
        ] {
            assert!(said.contains(mistake), "{arguments:?} says nothing of {mistake}: {said}");
            assert!(said.contains(&format!("config.toml:{line}:")), "no line {line}: {said}");
        }
        assert!(said.contains("7 errors"), "{said}");
        assert!(!said.contains('\u{1b}'), "no colours where nobody looks");
    }
    let output = program(directory.path(), &["check", "nowhere.toml"]);
    assert_eq!(code(&output), 78);
    assert!(errors(&output).contains("nowhere.toml"), "{}", errors(&output));
}

#[test]
fn without_a_config_it_says_how_to_get_one() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["run"][..], &["check"], &["explain", "http://x/"]] {
        let output = program(directory.path(), arguments);
        assert_eq!(code(&output), 78, "{arguments:?}");
        let said = errors(&output);
        assert!(said.contains("no config") && said.contains("config.toml.example"), "{said}");
    }
}

#[test]
fn explain_names_the_app_and_what_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), apps("").config).unwrap();
    let url = "http://apps.example.org/AppB/index.cfm?AID=1&ATOKEN=2&x=3";
    let output = program(directory.path(), &["explain", url]);
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(code(&output), 0, "{}", errors(&output));
    for word in ["appB", "appA", "AID"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let output = program(directory.path(), &["explain", "not a url at all"]);
    assert_eq!(code(&output), 2, "{}", errors(&output));
}

/// A server that answers every request with `answer`, and where it listens.
fn answering(answer: &'static str) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut read = [0; 4096];
            if stream.read(&mut read).is_ok_and(|length| length > 0) {
                // Whoever asked may be gone.
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    address
}

/// Where the two apps listen, as `init` is told.
fn urls(apps: &Apps) -> [String; 2] {
    let at = |name: &str| apps.config.split(&format!("path = \"/{name}/\"\nupstreams = [\"")).nth(1).unwrap();
    ["AppA", "AppB"].map(|name| format!("{}/{name}/index.cfm", at(name).split('"').next().unwrap()))
}

#[test]
fn f15_init_prints_a_config_that_runs_and_says_what_collides() {
    let (directory, apps) = (tempfile::tempdir().unwrap(), apps(""));
    let [a, b] = urls(&apps);
    let output = program(directory.path(), &["init", &a, &b, "--listen", "127.0.0.1:0"]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(code(&output), 0, "{}", errors(&output));
    assert!(errors(&output).contains("coldfusion; "), "progress: {}", errors(&output));
    assert!(text.contains("# appA and appB both set CFID and CFTOKEN on 127.0.0.1"), "{text}");
    std::fs::write(directory.path().join("draft.toml"), &text).unwrap();
    assert_eq!(code(&program(directory.path(), &["check", "draft.toml"])), 0);
    let running = Running::start(directory.path(), &format!("admin.listen = \"off\"\n{text}"));
    let first = running.get("/AppA/index.cfm", "");
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert_eq!(body(&running.get("/AppB/index.cfm", &cookie(&first)))["app"], "AppB");
}

#[test]
fn init_writes_a_file_and_overwrites_none_unless_told_so() {
    let (directory, apps) = (tempfile::tempdir().unwrap(), apps(""));
    let [a, _] = urls(&apps);
    let file = directory.path().join("new.toml");
    let output = program(directory.path(), &["init", &a, "--out", "new.toml", "--timeout", "90s"]);
    assert_eq!((code(&output), output.stdout.len()), (0, 0), "{}", errors(&output));
    assert!(std::fs::read_to_string(&file).unwrap().contains("session.timeout = \"1m30s\""));
    std::fs::write(&file, "mine").unwrap();
    let asked = apps.a.handle.with(|sim| sim.log().len());
    let output = program(directory.path(), &["init", &a, "--out", "new.toml"]);
    assert_eq!(code(&output), 1);
    assert!(errors(&output).contains("new.toml exists: --force"), "{}", errors(&output));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(apps.a.handle.with(|sim| sim.log().len()), asked, "nobody was asked for nothing");
    assert_eq!(code(&program(directory.path(), &["init", &a, "--out", "new.toml", "--force"])), 0);
    assert!(std::fs::read_to_string(&file).unwrap().contains("[apps.appA]"));
}

#[test]
fn init_says_what_is_wrong_with_each_url_and_drafts_the_rest() {
    let (directory, apps) = (tempfile::tempdir().unwrap(), apps(""));
    let [a, b] = urls(&apps);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let noise = answering("hello, I am no web server\r\n\r\n");
    let picture = answering(
        "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
    );
    let missing = a.replace("/AppA/", "/nothing/");
    let wrong = [
        ("https://127.0.0.1/AppA/".to_owned(), "https to apps is not supported yet"),
        ("127.0.0.1:80".to_owned(), "write http://host:port/path/"),
        (format!("http://{closed}/x/"), "cannot be reached"),
        ("http://no.such.invalid/x/".to_owned(), "does not resolve"),
        (format!("http://{noise}/x/"), "speaks no HTTP"),
        (format!("http://{picture}/x/"), "is no web page, but image/png"),
        (missing, "answers 404"),
    ];
    let mut arguments = vec!["init", &b];
    arguments.extend(wrong.iter().map(|(url, _)| url.as_str()));
    let output = program(directory.path(), &arguments);
    let (text, said) = (String::from_utf8(output.stdout.clone()).unwrap(), errors(&output));
    assert_eq!(code(&output), 1, "{said}");
    assert!(text.contains("[apps.appB]") && !text.contains("[apps.appA]"), "{text}");
    for (url, reason) in &wrong {
        assert!(
            said.lines().any(|line| line.starts_with(url) && line.contains(reason)),
            "{url} {reason}: {said}"
        );
    }
    assert!(said.contains("7 of 8 apps could not be looked at"), "{said}");
    let output = program(directory.path(), &["init", "https://127.0.0.1/"]);
    assert_eq!((code(&output), output.stdout.len()), (1, 0), "there is nothing to draft");
}

#[test]
fn the_command_line_is_told_in_a_few_lines() {
    let directory = tempfile::tempdir().unwrap();
    for wrong in [&[][..], &["fly"], &["run", "--fast"], &["explain"], &["check", "a", "b"]] {
        let output = program(directory.path(), wrong);
        assert_eq!(code(&output), 2, "{wrong:?}");
        assert!(errors(&output).contains("Usage: sessionbridge"), "{}", errors(&output));
    }
    let output = program(directory.path(), &["--version"]);
    let version = format!("sessionbridge {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((code(&output), String::from_utf8(output.stdout).unwrap()), (0, version));
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["check", "--help"],
        &["explain", "--help"],
        &["init", "--help"],
    ] {
        let output = program(directory.path(), arguments);
        let help = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(code(&output), 0);
        assert!(help.lines().count() <= 24 && help.lines().all(|line| line.len() <= 100), "{help}");
    }
    let help = String::from_utf8(program(directory.path(), &["--help"]).stdout).unwrap();
    for command in ["run", "check", "explain", "init", "demo"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{help}");
    }
    assert!(
        help.contains("config.toml") && help.contains("78"),
        "where the config is, and what the exit codes mean: {help}"
    );
}

/// An app on an engine of its own thread, whose sessions live for so many seconds, and the config of it.
fn live_app(profile: Profile, engine: &str, seconds: u64, more: &str) -> (SimRemote, String) {
    let clock = Clock::system();
    let options = SimOptions::new(profile, "AppA").timeout_ms(seconds * 1000);
    let (address, remote) = server::spawn_thread(options, Arc::new(move || clock.now().millis())).unwrap();
    let config = format!(
        "listen = \"127.0.0.1:0\"\nadmin.listen = \"off\"\nlog.format = \"json\"\n[apps.appA]\npath = \"/AppA/\"\n\
         upstreams = [\"http://{address}\"]\nsession.engine = \"{engine}\"\nsession.timeout = \"6s\"\n{more}\n"
    );
    (remote, config)
}

/// `check --live` of `config`.
fn check_live(config: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), config).unwrap();
    program(directory.path(), &[&["check", "--live"], arguments].concat())
}

#[test]
fn s3_9_check_live_shows_the_line_of_a_heartbeat_page_that_extends_nothing() {
    let (_app, config) =
        live_app(Profile::AcfStrict, "coldfusion", 6, "heartbeat.path = \"/AppA/notouch.cfm\"");
    let output = check_live(&config, &[]);
    let text = errors(&output);
    assert_eq!(code(&output), 0, "{text}");
    assert!(text.contains("this takes 8s at the most; Ctrl-C"), "{text}");
    assert!(
        text.contains("appA: 8s at the most until its heartbeat page is known to extend sessions"),
        "{text}"
    );
    let (_, after) = text.split_once("warning: appA: the heartbeat page did not extend a session").unwrap();
    let shown = after.split("warning:").next().unwrap();
    assert!(shown.contains("--> config.toml:9:18"), "{text}");
    assert!(shown.contains("heartbeat.path = \"/AppA/notouch.cfm\"") && shown.contains("^^^^"), "{text}");
    assert!(text.contains("good: appA: it sets CFID, CFTOKEN"), "{text}");
    assert!(text.ends_with("0 errors, 1 warning\n"), "{text}");
}

#[test]
fn f5_check_live_quick_waits_for_nothing_and_an_app_that_is_down_is_a_warning() {
    let down = "[apps.gone]\npath = \"/Gone/\"\nupstreams = [\"http://127.0.0.1:1\"]\nsession.engine = \"php\"\nheartbeat.path = \"/Gone/\"";
    let more = format!("heartbeat.path = \"/AppA/index.jsp\"\n{down}");
    let (_app, config) = live_app(Profile::Servlet, "php", 6, &more);
    let output = check_live(&config, &["--quick"]);
    let text = errors(&output);
    assert_eq!(code(&output), 0, "{text}");
    assert!(text.starts_with("asking the apps ...\n"), "{text}");
    assert!(
        text.contains("warning: appA: it sets JSESSIONID: that is the token of servlet, not of php"),
        "{text}"
    );
    assert!(text.contains("--> config.toml:7:18"), "{text}");
    assert!(text.contains("warning: gone: the app does not answer"), "{text}");
    let both = check_live(&config, &["--quick", "--measure-timeout"]);
    assert_eq!(code(&both), 2, "{}", errors(&both));
    let bad = check_live("listen = 1", &[]);
    assert_eq!(code(&bad), 78);
}

#[test]
fn f5_a_running_proxy_says_what_it_found_with_the_line() {
    let (_app, config) = live_app(Profile::Servlet, "servlet", 6, "heartbeat.path = \"/AppA/nothing.jsp\"");
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(directory.path(), &config);
    let line: serde_json::Value = serde_json::from_str(&running.wait_for("answers 404")).unwrap();
    assert_eq!(
        (&line["level"], &line["app"], &line["key"]),
        (&"WARN".into(), &"appA".into(), &"heartbeat.path".into())
    );
    assert!(line["at"].as_str().unwrap().ends_with("config.toml:9"), "{line}");
    running.signal("TERM");
    assert_eq!(running.ended(), 0);
}

/// The lines of a config that serve `apps.example.org` over https with a certificate in `directory`, and a client that
/// trusts it.
fn https(directory: &Path) -> (String, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["apps.example.org".to_owned()]).unwrap();
    std::fs::write(directory.join("site.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("site.key"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    ("[[tls.certificates]]\ncert = \"site.pem\"\nkey = \"site.key\"".to_owned(), Arc::new(client))
}

#[test]
fn https_is_served_with_certificates_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, client) = https(directory.path());
    let apps = apps(&tls);
    let mut running = Running::start(directory.path(), &apps.config);
    let greet = || {
        let name = "apps.example.org".try_into().unwrap();
        let session = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
        rustls::StreamOwned::new(session, running.connect())
    };
    let first = ask(greet(), "/AppA/index.cfm", "Connection: close\r\n");
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    let given =
        first.lines().find(|line| line.to_lowercase().starts_with("set-cookie: __host-bridge=")).unwrap();
    assert!(given.contains("; Secure"), "{given}");
    let seen = apps.a.handle.with(|sim| {
        sim.log()
            .iter()
            .any(|seen| seen.headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https"))
    });
    assert!(seen, "the app is told of https");
    let mut stream = greet();
    write!(stream, "GET / HTTP/1.1\r\nHost: other.example.org\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("misdirected"), "{answer}");
    let plain = running.get("/AppA/index.cfm", "");
    assert!(plain.starts_with("HTTP/1.1 400 ") && plain.to_lowercase().contains("x-bridge-error"), "{plain}");
    running.signal("TERM");
    assert_eq!(running.ended(), 0);
}

/// [`Apps`] with an operators' listener on a unix socket in `directory`.
fn apps_with_operators(directory: &Path, more: &str) -> Apps {
    let mut apps = apps(more);
    let socket = format!("admin.listen = \"unix:{}\"", directory.join("admin.sock").display());
    apps.config = apps.config.replace("admin.listen = \"off\"", &socket);
    apps
}

#[test]
fn a_changed_file_a_signal_and_a_command_have_the_config_read_anew() {
    let directory = tempfile::tempdir().unwrap();
    let apps = apps_with_operators(directory.path(), "");
    let mut running = Running::start(directory.path(), &apps.config);
    let session = cookie(&running.get("/AppA/index.cfm", ""));
    let started = body(&running.get("/AppA/index.cfm", &session))["started"].clone();
    let file = directory.path().join("config.toml");
    let put = |config: &str| {
        let new = directory.path().join("new");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    put(&apps.config.replace("[apps.appB]", "[apps.other]"));
    let line = running.wait_for("the config was read anew");
    assert!(line.contains("apps.appB is apps.other now") && line.contains("\"file\""), "{line}");
    running.signal("HUP");
    let line = running.wait_for("the config was read anew");
    assert!(line.contains("\"signal\"") && line.contains("\"none\""), "{line}");
    let reload = || program(directory.path(), &["reload"]);
    let done = reload();
    assert_eq!(
        (code(&done), &*String::from_utf8_lossy(&done.stdout)),
        (0, "nothing has changed\n"),
        "{}",
        errors(&done)
    );
    put(&apps.config.replace("[apps.appB]", "[apps.appB"));
    let line = running.wait_for("the one before it stays");
    assert!(line.contains("config.toml:"), "{line}");
    let done = reload();
    assert!(code(&done) == 78 && errors(&done).contains("config.toml:"), "{}", errors(&done));
    put(&apps.config.replace("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:1\""));
    let done = reload();
    let told = String::from_utf8(done.stdout.clone()).unwrap();
    assert!(
        code(&done) == 0 && told.contains("used after a restart only: listen"),
        "{told}{}",
        errors(&done)
    );
    assert_eq!(body(&running.get("/AppA/index.cfm", &session))["started"], started);
    running.signal("TERM");
    assert_eq!(running.ended(), 0);
    let done = reload();
    assert!(code(&done) == 1 && errors(&done).contains("is it running?"), "{}", errors(&done));
}

#[test]
fn a_certificate_that_is_renewed_is_the_one_of_the_next_handshake() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, old) = https(directory.path());
    let apps = apps(&tls);
    let mut running = Running::start(directory.path(), &apps.config);
    let greet = |client: &Arc<rustls::ClientConfig>| {
        let name = "apps.example.org".try_into().unwrap();
        rustls::StreamOwned::new(
            rustls::ClientConnection::new(Arc::clone(client), name).unwrap(),
            running.connect(),
        )
    };
    let mut kept = greet(&old);
    write!(kept, "GET /AppA/index.cfm HTTP/1.1\r\nHost: apps.example.org\r\n\r\n").unwrap();
    let mut first = [0; 12];
    kept.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let (_, new) = https(directory.path());
    let line = running.wait_for("the config was read anew");
    assert!(line.contains("~ tls.certificates"), "{line}");
    let greet = |client: &Arc<rustls::ClientConfig>| {
        let name = "apps.example.org".try_into().unwrap();
        rustls::StreamOwned::new(
            rustls::ClientConnection::new(Arc::clone(client), name).unwrap(),
            running.connect(),
        )
    };
    let answer = ask(greet(&new), "/AppA/index.cfm", "Connection: close\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let mut stranger = (*old).clone();
    stranger.resumption = rustls::client::Resumption::disabled();
    let refused = greet(&Arc::new(stranger)).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    // A key that does not fit is a mistake, and the certificate before it stays.
    std::fs::write(directory.path().join("site.key"), rcgen::KeyPair::generate().unwrap().serialize_pem())
        .unwrap();
    running.wait_for("the one before it stays");
    let answer = ask(
        rustls::StreamOwned::new(
            rustls::ClientConnection::new(Arc::clone(&new), "apps.example.org".try_into().unwrap()).unwrap(),
            running.connect(),
        ),
        "/AppA/index.cfm",
        "Connection: close\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// Requests a second that are aimed at, over all clients.
const RATE: u32 = 500;
const CLIENTS: u32 = 10;
const PAGE: &str = "/AppA/index.cfm";

/// One of [`CLIENTS`]: asks for a page at its share of [`RATE`] until then, and counts; every one of a session.
fn visits(
    number: u32,
    until: Instant,
    (ask, connect): (&dyn Fn() -> String, &dyn Fn() -> TcpStream),
    (session, started): (&str, &serde_json::Value),
) -> u32 {
    let (mut asked, pace, begin) = (0, Duration::from_secs(1) * CLIENTS / RATE, Instant::now());
    while Instant::now() < until {
        // Half on new connections, half on one that is kept.
        let answers = if number.is_multiple_of(2) {
            vec![ask()]
        } else {
            let mut stream = connect();
            (0..20).map(|_| kept_get(&mut stream, PAGE, session)).collect()
        };
        for answer in answers {
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert_eq!(body(&answer)["started"], *started);
            asked += 1;
        }
        thread::sleep((begin + pace * asked).saturating_duration_since(Instant::now()));
    }
    asked
}

/// Reloads every 100 ms under load, for so long: nothing fails, and nobody's session is lost.
fn reloads_under_load(span: Duration) {
    let directory = tempfile::tempdir().unwrap();
    let apps = apps_with_operators(directory.path(), "server.threads = 2\nlog.access = \"off\"");
    let running = Running::start(directory.path(), &apps.config);
    let session = cookie(&running.get("/AppA/index.cfm", ""));
    let started = body(&running.get("/AppA/index.cfm", &session))["started"].clone();
    let (until, address) = (Instant::now() + span, running.address.as_str());
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    };
    let client = |number| {
        let ask = || ask(connect(), PAGE, &format!("Connection: close\r\n{session}"));
        visits(number, until, (&ask, &connect), (&session, &started))
    };
    let (asked, reloads) = thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        let mut reloads = 0_u32;
        while Instant::now() < until {
            let begin = Instant::now();
            // An app more, an app less, the servers in another order, other bounds.
            let more = "[apps.more]\npath = \"/more/\"\nupstreams = [\"http://127.0.0.1:9\"]\n";
            let config = match reloads % 3 {
                0 => format!("{}{more}", apps.config),
                1 => apps
                    .config
                    .replace("server.threads = 2", "server.threads = 2\nserver.timeouts.idle = \"50s\""),
                _ => apps.config.clone(),
            };
            std::fs::write(directory.path().join("config.toml"), config).unwrap();
            let stream = UnixStream::connect(directory.path().join("admin.sock")).unwrap();
            let answer = post(stream, "/api/v1/reload");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            reloads += 1;
            thread::sleep((begin + Duration::from_millis(100)).saturating_duration_since(Instant::now()));
        }
        (clients.into_iter().map(|client| client.join().unwrap()).sum::<u32>(), reloads)
    });
    let seconds = u32::try_from(span.as_secs()).unwrap();
    assert!(asked >= RATE * seconds / 4, "{asked} requests");
    assert!(reloads >= seconds * 3, "{reloads} reloads");
    let person = |seen: &&sessionbridge::demo::sim::Seen| seen.fresh && !is_probe(seen);
    assert_eq!(apps.a.handle.with(|sim| sim.log().iter().filter(person).count()), 1, "one session, ever");
    assert!(!running.seen.iter().any(|line| line.contains("panicked")));
}

fn is_probe(seen: &sessionbridge::demo::sim::Seen) -> bool {
    let agent = seen.headers.get("user-agent").and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with("sessionbridge-probe/"))
}

fn post(mut stream: UnixStream, target: &str) -> String {
    write!(
        stream,
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// One GET on a connection that is kept.
fn kept_get(stream: &mut TcpStream, target: &str, more: &str) -> String {
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: apps.example.org\r\nAccept: application/json\r\n{more}\r\n"
    )
    .unwrap();
    let (mut answer, mut octet) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet).unwrap();
        answer.push(octet[0]);
    }
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    let length = head.split_once("content-length: ").unwrap().1.split("\r\n").next().unwrap();
    let mut said = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut said).unwrap();
    answer.extend(said);
    String::from_utf8(answer).unwrap()
}

#[test]
fn r5_reloads_under_load_fail_nothing_and_lose_nobody() {
    reloads_under_load(Duration::from_secs(5));
}

#[test]
#[ignore = "takes a minute: tests/run"]
fn r5_reloads_under_load_for_a_minute() {
    reloads_under_load(Duration::from_secs(60));
}
