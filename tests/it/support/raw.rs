//! The proxy between clients and apps that speak raw bytes: for what no proper HTTP library would send.
//!
//! The app's side reads strictly and notes whatever two servers could read in two ways.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use sessionbridge::app::{core::Core, worker};
use sessionbridge::clock::Clock;
use sessionbridge::config;
use sessionbridge::net::{Dialer, Drain, Drainer, MemoryDialer, memory};
use sessionbridge::telemetry::access::AccessLog;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;

use super::START;

/// Longer than anything but a timeout takes on paused time.
const SILENCE: Duration = Duration::from_millis(200);

/// One request as an app read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Which app.
    pub(crate) app: String,
    /// The request line.
    pub(crate) line: String,
    /// Names in lower case, in their order.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What another server could have read otherwise.
    pub(crate) unclean: Vec<String>,
}

impl Heard {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(own, _)| own == name).map(|(_, value)| &**value).collect()
    }

    /// The one field of that name.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        match self.all(name)[..] {
            [] => None,
            [one] => Some(one),
            ref many => panic!("{name}: {many:?}"),
        }
    }

    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }
}

/// What an app does with a request.
pub(crate) enum Act {
    /// Says this and stays.
    Say(Vec<u8>),
    /// Says this and closes.
    Last(Vec<u8>),
    /// Never answers.
    Hang,
}

impl Act {
    /// A whole answer with this body.
    pub(crate) fn ok(body: &str) -> Self {
        Self::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }

    pub(crate) fn say(bytes: impl AsRef<[u8]>) -> Self {
        Self::Say(bytes.as_ref().to_vec())
    }

    pub(crate) fn last(bytes: impl AsRef<[u8]>) -> Self {
        Self::Last(bytes.as_ref().to_vec())
    }
}

type App = Rc<dyn Fn(&Heard) -> Act>;

/// The proxy, apps of raw bytes behind it.
pub(crate) struct Stage {
    pub(crate) core: Core,
    front: MemoryDialer,
    heard: Rc<RefCell<Vec<Heard>>>,
    _drainer: Drainer,
    _drain: Drain,
}

/// One connection of a client.
pub(crate) struct Wire {
    stream: DuplexStream,
    unread: Vec<u8>,
    pub(crate) closed: bool,
}

/// An answer as a client reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// False where the connection ended before the message did.
    pub(crate) whole: bool,
    /// Its bytes.
    pub(crate) raw: Vec<u8>,
}

impl Reply {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(own, _)| own == name).map(|(_, value)| &**value).collect()
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        match self.all(name)[..] {
            [] => None,
            [one] => Some(one),
            ref many => panic!("{name}: {many:?}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts that this is an answer of the proxy's own for this reason.
    pub(crate) fn is_own(&self, status: u16, reason: &str) {
        assert_eq!((self.status, self.one("x-bridge-error")), (status, Some(reason)), "{self:?}");
        assert_eq!(self.one("cache-control"), Some("no-store"), "{self:?}");
        assert!(self.one("x-request-id").is_some_and(|id| id.len() >= 16), "{self:?}");
        assert!(self.whole, "{self:?}");
    }
}

impl Stage {
    /// `toml` is the config but for `listen`; the app `x` is reached at `http://x`.
    pub(crate) fn new<F>(toml: &str, apps: Vec<(&str, F)>) -> Self
    where
        F: Fn(&Heard) -> Act + 'static,
    {
        let (config, _) =
            config::load_str("test.toml", &format!("listen = \"127.0.0.1:0\"\n{toml}"), &mut super::names())
                .unwrap_or_else(|report| panic!("{report}"));
        let core = Core::new(config, Clock::at(START), AccessLog::off());
        let heard = Rc::new(RefCell::new(Vec::new()));
        let apps: HashMap<String, App> =
            apps.into_iter().map(|(name, app)| (name.to_owned(), Rc::new(app) as App)).collect();
        let (listener, front) = memory();
        let (drainer, drain) = Drainer::new();
        let dialer = dialer(apps, Rc::clone(&heard));
        tokio::task::spawn_local(worker::run(core.clone(), 0, vec![listener], dialer, drain.clone()));
        Self { core, front, heard, _drainer: drainer, _drain: drain }
    }

    /// One app `a` at `/`, without sessions.
    pub(crate) fn plain(more: &str, app: impl Fn(&Heard) -> Act + 'static) -> Self {
        let toml = format!("{more}\n[apps.a]\nupstreams = [\"http://a\"]\n");
        Self::new(&toml, vec![("a", app)])
    }

    pub(crate) fn connect(&self) -> Wire {
        Wire { stream: self.front.connect().unwrap(), unread: Vec::new(), closed: false }
    }

    pub(crate) fn front(&self) -> MemoryDialer {
        self.front.clone()
    }

    /// What the apps have read since the last time.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.borrow_mut())
    }

    /// All answers to these bytes on a connection of their own, and whether the connection was closed behind them.
    pub(crate) async fn ask(&self, bytes: impl AsRef<[u8]>) -> (Vec<Reply>, bool) {
        let mut wire = self.connect();
        wire.say(bytes).await;
        let replies = wire.answers().await;
        (replies, wire.closed)
    }

    /// The one answer to these bytes.
    pub(crate) async fn one(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let (mut replies, _) = self.ask(&bytes).await;
        assert_eq!(replies.len(), 1, "{:?}: {replies:?}", String::from_utf8_lossy(bytes.as_ref()));
        replies.remove(0)
    }
}

impl Wire {
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has refused already does not read on.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Whatever comes before silence or the end.
    pub(crate) async fn hear(&mut self) -> Vec<u8> {
        let mut buffer = [0; 4096];
        while !self.closed {
            match timeout(SILENCE, self.stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => self.closed = true,
                Ok(Ok(read)) => self.unread.extend_from_slice(&buffer[..read]),
                Err(_) => break,
            }
        }
        std::mem::take(&mut self.unread)
    }

    /// The answers that come before silence or the end, interim ones included.
    pub(crate) async fn answers(&mut self) -> Vec<Reply> {
        let bytes = self.hear().await;
        replies(&bytes, false)
    }
}

/// Takes a byte stream apart into answers. `heads`: they answer HEAD, so that none has a body.
pub(crate) fn replies(mut bytes: &[u8], heads: bool) -> Vec<Reply> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (reply, rest) = reply(bytes, heads);
        found.push(reply);
        bytes = rest;
    }
    found
}

fn reply(bytes: &[u8], heads: bool) -> (Reply, &[u8]) {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return (Reply { raw: bytes.to_vec(), ..Reply::default() }, &[]);
    };
    let (line, fields) = head(&bytes[..end]);
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut reply = Reply { status, fields, whole: true, ..Reply::default() };
    let rest = &bytes[end + 4..];
    let bodyless = heads || status < 200 || status == 204 || status == 304;
    let used = if bodyless {
        0
    } else if reply.one("transfer-encoding") == Some("chunked") {
        let (used, body, whole) = chunked(rest, &mut Vec::new());
        (reply.body, reply.whole) = (body, whole);
        used
    } else if let Some(length) = reply.one("content-length") {
        let length: usize = length.parse().unwrap();
        reply.whole = rest.len() >= length;
        reply.body = rest[..length.min(rest.len())].to_vec();
        reply.body.len()
    } else {
        reply.body = rest.to_vec();
        rest.len()
    };
    reply.raw = bytes[..end + 4 + used].to_vec();
    (reply, &rest[used..])
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn head(bytes: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    (line, fields.collect())
}

/// Bytes used, the body, whether it came to its end; strict faults go to `unclean`.
fn chunked(bytes: &[u8], unclean: &mut Vec<String>) -> (usize, Vec<u8>, bool) {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return (bytes.len(), body, false) };
        let size = String::from_utf8_lossy(&bytes[at..at + end]).into_owned();
        if size.is_empty() || !size.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            unclean.push(format!("chunk size {size:?}"));
        }
        let Ok(size) = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16) else {
            return (bytes.len(), body, false);
        };
        at += end + 2;
        if bytes.len() < at + size + 2 {
            if size == 0 {
                return (bytes.len(), body, false);
            }
            body.extend_from_slice(&bytes[at.min(bytes.len())..bytes.len().min(at + size)]);
            return (bytes.len(), body, false);
        }
        if size == 0 {
            // Trailers, up to the empty line.
            let Some(end) = find(&bytes[at - 2..], b"\r\n\r\n") else { return (bytes.len(), body, false) };
            return (at + 2 + end, body, true);
        }
        body.extend_from_slice(&bytes[at..at + size]);
        if &bytes[at + size..at + size + 2] != b"\r\n" {
            unclean.push("chunk without its line end".to_owned());
        }
        at += size + 2;
    }
}

fn dialer(apps: HashMap<String, App>, heard: Rc<RefCell<Vec<Heard>>>) -> Dialer {
    Dialer::Memory(Rc::new(move |origin: &str| {
        let name = origin.strip_prefix("http://").unwrap_or(origin).trim_end_matches(":80");
        let app = apps.get(name).map(Rc::clone).ok_or(std::io::ErrorKind::ConnectionRefused)?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::task::spawn_local(serve(name.to_owned(), far, app, Rc::clone(&heard)));
        Ok(near)
    }))
}

/// Reads requests strictly and does what the app says.
async fn serve(name: String, mut stream: DuplexStream, app: App, heard: Rc<RefCell<Vec<Heard>>>) {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let request = loop {
            if let Some((request, used)) = request(&bytes) {
                bytes.drain(..used);
                break Heard { app: name.clone(), ..request };
            }
            match stream.read(&mut buffer).await {
                Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
                _ => {
                    if !bytes.is_empty() {
                        let line = String::from_utf8_lossy(&bytes).into_owned();
                        let unclean = vec!["broken off".to_owned()];
                        heard.borrow_mut().push(Heard { app: name, line, unclean, ..Heard::default() });
                    }
                    return;
                }
            }
        };
        let act = app(&request);
        heard.borrow_mut().push(request);
        match act {
            Act::Say(bytes) if stream.write_all(&bytes).await.is_err() => return,
            Act::Say(_) => {}
            Act::Last(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

/// A whole request at the beginning of `bytes`.
fn request(bytes: &[u8]) -> Option<(Heard, usize)> {
    let end = find(bytes, b"\r\n\r\n")?;
    let (line, fields) = head(&bytes[..end]);
    let mut heard = Heard { line, fields, ..Heard::default() };
    heard.unclean = strict(&bytes[..end], &heard);
    let rest = &bytes[end + 4..];
    let coded = heard.fields.iter().any(|(name, _)| name == "transfer-encoding");
    let used = if coded {
        let (used, body, whole) = chunked(rest, &mut heard.unclean);
        if !whole {
            return None;
        }
        heard.body = body;
        used
    } else {
        let length = heard.all("content-length").first().and_then(|length| length.parse().ok()).unwrap_or(0);
        heard.body = rest.get(..length)?.to_vec();
        length
    };
    Some((heard, end + 4 + used))
}

fn strict(head: &[u8], heard: &Heard) -> Vec<String> {
    let mut unclean = Vec::new();
    let mut fault = |is: bool, what: &str| {
        if is {
            unclean.push(what.to_owned());
        }
    };
    let text = String::from_utf8_lossy(head).replace("\r\n", "");
    fault(text.contains(['\r', '\n', '\0']), "bare CR, LF or NUL");
    let parts: Vec<&str> = heard.line.split(' ').collect();
    fault(parts.len() != 3 || parts[2] != "HTTP/1.1", "request line");
    fault(parts.get(1).is_none_or(|target| !target.starts_with('/') && *target != "*"), "target");
    for (name, _) in &heard.fields {
        let token = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&octet);
        fault(name.is_empty() || !name.bytes().all(token), "field name");
    }
    fault(heard.all("host").len() != 1, "Host");
    let (lengths, codings) = (heard.all("content-length"), heard.all("transfer-encoding"));
    fault(lengths.len() + codings.len() > 1, "several lengths");
    fault(lengths.iter().any(|length| !length.bytes().all(|octet| octet.is_ascii_digit())), "Content-Length");
    fault(codings.iter().any(|coding| *coding != "chunked"), "Transfer-Encoding");
    unclean
}
