//! An app with sessions of two parts, which remembers every request: whose it was, how old its token, and what was never given.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

/// It, while it runs: as long as the test does.
///
/// Pages, below whatever it is mounted at: `in` begins a session, `first` begins one where there is none and takes its time over it,
/// `rotate` gives the session a new token, `leave` is what sign-outs ask for, `logout` is a sign-out that a person makes here,
/// `link` begins one and prints its token into a link, `ping` is for heartbeats; everything else says which session it is.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// One request that came with a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    /// The session.
    pub(crate) session: u64,
    pub(crate) at: Instant,
    /// The first half of the token.
    pub(crate) token: u64,
    /// How long it had been replaced by another when it came.
    pub(crate) stale: Duration,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Page,
    Beat,
    Leave,
}

#[derive(Default)]
struct State {
    /// Tokens that were given, by their first half.
    tokens: HashMap<u64, Token>,
    /// Sessions that live, and the tokens that each has now.
    live: HashMap<u64, u64>,
    hits: Vec<Hit>,
    /// Pairs whose halves were never given together.
    mixed: Vec<String>,
    begun: u64,
    /// How long a sign-out request takes.
    leave_takes: Duration,
    /// How long a heartbeat takes.
    beat_takes: Duration,
}

struct Token {
    session: u64,
    /// When the next one was given.
    replaced: Option<Instant>,
}

/// How long `first` takes: others arrive meanwhile.
const FIRST_TAKES: Duration = Duration::from_millis(150);

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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Cookies that were halves of two pairs.
    pub(crate) fn mixed(&self) -> Vec<String> {
        self.state().mixed.clone()
    }

    /// Sessions that were begun here.
    pub(crate) fn begun(&self) -> u64 {
        self.state().begun
    }

    /// True while the session lives here.
    pub(crate) fn lives(&self, session: u64) -> bool {
        self.state().live.contains_key(&session)
    }

    /// The requests of one session, of one kind.
    pub(crate) fn hits(&self, session: u64, kind: Kind) -> Vec<Hit> {
        let own = |hit: &&Hit| hit.session == session && hit.kind == kind;
        self.state().hits.iter().filter(own).copied().collect()
    }

    /// Heartbeats of one session.
    pub(crate) fn beats(&self, session: u64) -> Vec<Instant> {
        self.hits(session, Kind::Beat).iter().map(|hit| hit.at).collect()
    }

    /// The longest that a token had been replaced when it came.
    pub(crate) fn stalest(&self) -> Duration {
        self.state().hits.iter().map(|hit| hit.stale).max().unwrap_or_default()
    }

    /// The sign-out requests and the heartbeats take so long.
    pub(crate) fn takes(&self, leave: Duration, beat: Duration) {
        let mut state = self.state();
        (state.leave_takes, state.beat_takes) = (leave, beat);
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
        let target = line.split(' ').nth(1).unwrap_or_default();
        let (answer, takes) = state.lock().unwrap().answer(target, &cookie);
        if !takes.is_zero() {
            thread::sleep(takes);
        }
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl State {
    /// The answer, and how long it takes.
    fn answer(&mut self, target: &str, cookie: &str) -> (String, Duration) {
        let path = target.split('?').next().unwrap_or_default();
        let page = path.rsplit('/').next().unwrap_or_default();
        let kind = match page {
            "ping" => Kind::Beat,
            "leave" => Kind::Leave,
            _ => Kind::Page,
        };
        let live = self.shown(cookie, kind).filter(|session| self.live.contains_key(session));
        let mut takes = Duration::ZERO;
        let (fields, body) = match (page, live) {
            ("in", _) => self.begin(),
            ("first", None) => {
                takes = FIRST_TAKES;
                self.begin()
            }
            ("link", _) => {
                let (fields, session) = self.begin();
                let number = self.live[&session.parse::<u64>().unwrap()];
                (fields, format!("builderCFID={number}&builderCFTOKEN={}", second(number)))
            }
            ("rotate", Some(session)) => self.rotate(session),
            ("logout" | "leave", Some(session)) => {
                takes = if kind == Kind::Leave { self.leave_takes } else { takes };
                self.live.remove(&session);
                (String::new(), "out".to_owned())
            }
            (_, live) => {
                takes = if kind == Kind::Beat { self.beat_takes } else { takes };
                (String::new(), live.map_or_else(|| "none".to_owned(), |session| session.to_string()))
            }
        };
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len()), takes)
    }

    fn begin(&mut self) -> (String, String) {
        self.begun += 1;
        let session = self.begun;
        (self.give(session), session.to_string())
    }

    fn rotate(&mut self, session: u64) -> (String, String) {
        let old = self.live.get(&session).copied();
        if let Some(token) = old.and_then(|old| self.tokens.get_mut(&old)) {
            token.replaced = Some(Instant::now());
        }
        (self.give(session), session.to_string())
    }

    /// A new token for a session, which then has no other.
    fn give(&mut self, session: u64) -> String {
        let number = self.tokens.len() as u64 + 1;
        self.tokens.insert(number, Token { session, replaced: None });
        self.live.insert(session, number);
        format!(
            "Set-Cookie: CFID={number}; Path=/; HttpOnly\r\nSet-Cookie: CFTOKEN={}; Path=/; HttpOnly\r\n",
            second(number)
        )
    }

    /// The session whose token came, if one came whole. A token that was replaced still opens it: what is asserted is how old it was.
    fn shown(&mut self, cookie: &str, kind: Kind) -> Option<u64> {
        let part = |name: &str| {
            let mut pairs = cookie.split("; ").filter_map(|pair| pair.split_once('='));
            pairs.find(|(own, _)| *own == name).and_then(|(_, value)| value.parse::<u64>().ok())
        };
        let (first, half) = (part("cfid"), part("cftoken"));
        let whole = first.filter(|number| half == Some(second(*number)));
        let Some((number, token)) = whole.and_then(|number| Some((number, self.tokens.get(&number)?))) else {
            if first.is_some() || half.is_some() {
                self.mixed.push(cookie.to_owned());
            }
            return None;
        };
        let at = Instant::now();
        let stale = token.replaced.map_or(Duration::ZERO, |replaced| at - replaced);
        let session = token.session;
        self.hits.push(Hit { session, at, token: number, stale, kind });
        Some(session)
    }
}
