//! An app with sessions of two parts, which knows what it gave to whom and sees every pair that it never gave.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// It, while it runs: as long as the test does.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last: u64,
    live: HashSet<u64>,
    /// Pairs whose halves were never given together.
    mixed: Vec<String>,
    /// Requests with a session that has ended here.
    dead: u64,
    /// Heartbeats to sessions that live.
    beats: u64,
}

impl App {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let of_server = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&of_server);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    pub(crate) fn mixed(&self) -> Vec<String> {
        self.state.lock().unwrap().mixed.clone()
    }

    pub(crate) fn beats(&self) -> u64 {
        self.state.lock().unwrap().beats
    }

    /// True while session `number` lives here.
    pub(crate) fn lives(&self, number: u64) -> bool {
        self.state.lock().unwrap().live.contains(&number)
    }
}

/// The second half of the token whose first half is `number`.
fn second(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9).wrapping_add(1_000_003) % 900_000_000 + 100_000_000
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            return;
        }
        let mut cookie = String::new();
        loop {
            let mut field = String::new();
            if !matches!(reader.read_line(&mut field), Ok(1..)) {
                return;
            }
            if let Some(value) = field.to_ascii_lowercase().strip_prefix("cookie: ") {
                value.trim().clone_into(&mut cookie);
            }
            if field == "\r\n" {
                break;
            }
        }
        let answer = state.lock().unwrap().answer(line.split(' ').nth(1).unwrap_or_default(), &cookie);
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl State {
    fn answer(&mut self, target: &str, cookie: &str) -> String {
        let shown = self.shown(cookie);
        let live = shown.filter(|number| self.live.contains(number));
        self.dead += u64::from(shown.is_some() && live.is_none());
        // Whatever the app is called.
        let (fields, body) = match target.get(2..).unwrap_or_default() {
            "/in" => self.begin(),
            "/rotate" if live.is_some() => {
                self.live.remove(&live.unwrap());
                self.begin()
            }
            "/logout" => {
                live.map(|number| self.live.remove(&number));
                (String::new(), "out".to_owned())
            }
            _ => {
                self.beats += u64::from(target.ends_with("/ping") && live.is_some());
                (String::new(), live.map_or_else(|| "none".to_owned(), |number| number.to_string()))
            }
        };
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
    }

    fn begin(&mut self) -> (String, String) {
        self.last += 1;
        let number = self.last;
        self.live.insert(number);
        let fields = format!(
            "Set-Cookie: CFID={number}; Path=/; HttpOnly\r\nSet-Cookie: CFTOKEN={}; Path=/; HttpOnly\r\n",
            second(number)
        );
        (fields, number.to_string())
    }

    /// The session whose token came, if one came whole.
    fn shown(&mut self, cookie: &str) -> Option<u64> {
        let part = |name: &str| {
            let mut pairs = cookie.split("; ").filter_map(|pair| pair.split_once('='));
            pairs.find(|(own, _)| *own == name).and_then(|(_, value)| value.parse::<u64>().ok())
        };
        let (first, half) = (part("cfid"), part("cftoken"));
        if let Some(number) = first.filter(|number| half == Some(second(*number))) {
            return Some(number);
        }
        if first.is_some() || half.is_some() {
            self.mixed.push(cookie.to_owned());
        }
        None
    }
}
