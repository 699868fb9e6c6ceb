//! A browser of one person: cookies by host, answers read to their end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::DEADLINE;

/// What a browser says of a request that stays on its site.
const SAME: &str = "Sec-Fetch-Site: same-origin\r\n";
/// One browser.
pub(crate) struct Browser {
    pub(crate) host: &'static str,
    /// Name and value, by host.
    cookies: BTreeMap<(&'static str, String), String>,
    connection: Option<(String, BufReader<TcpStream>)>,
}

/// An answer that was read to its end: only such a one acknowledges anything.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self::at("apps.example.org")
    }
}

impl Clone for Browser {
    /// Another tab.
    fn clone(&self) -> Self {
        Self { host: self.host, cookies: self.cookies.clone(), connection: None }
    }
}

impl Browser {
    /// One that asks this host.
    pub(crate) const fn at(host: &'static str) -> Self {
        Self { host, cookies: BTreeMap::new(), connection: None }
    }

    /// The bridge cookie of the host.
    pub(crate) fn bridge(&self) -> Option<&String> {
        self.cookies.get(&(self.host, "bridge".to_owned()))
    }

    /// Takes a cookie that another browser had.
    pub(crate) fn with_bridge(value: &str) -> Self {
        let mut browser = Self::default();
        browser.cookies.insert((browser.host, "bridge".to_owned()), value.to_owned());
        browser
    }

    /// Asks the proxy at `address`. `None` where no whole answer came.
    pub(crate) fn ask(&mut self, address: &str, method: &str, target: &str) -> Option<Answer> {
        self.send(address, method, target, SAME)
    }

    /// Goes to a page, by a link on a page of `site`; `none`: by hand.
    pub(crate) fn navigate(&mut self, address: &str, target: &str, site: &str) -> Option<Answer> {
        let says =
            format!("Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n");
        self.send(address, "GET", target, &says)
    }

    /// [`Browser::ask`] for a GET; its body.
    pub(crate) fn get(&mut self, address: &str, target: &str) -> Option<String> {
        self.ask(address, "GET", target).map(|answer| answer.body)
    }

    /// The bridge's own word for the session: `active` or `none`.
    pub(crate) fn state(&mut self, address: &str) -> String {
        let Some(answer) = self.ask(address, "GET", "/.bridge/status") else { return "silence".to_owned() };
        let status: serde_json::Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        // One that knows nothing says so instead.
        let says = status["state"].as_str().or_else(|| status["error"].as_str());
        says.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    fn send(&mut self, address: &str, method: &str, target: &str, says: &str) -> Option<Answer> {
        let mut connection = match self.connection.take() {
            Some((to, connection)) if to == address => connection,
            _ => connect(address)?,
        };
        let own = self.cookies.iter().filter(|((host, _), _)| *host == self.host);
        let pairs: Vec<String> = own.map(|((_, name), value)| format!("{name}={value}")).collect();
        let cookie =
            if pairs.is_empty() { String::new() } else { format!("Cookie: {}\r\n", pairs.join("; ")) };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: test\r\nAccept: application/json\r\n{says}{cookie}\
             Content-Length: 0\r\n\r\n",
            self.host
        );
        connection.get_mut().write_all(request.as_bytes()).ok()?;
        let answer = read(&mut connection)?;
        self.keep(&answer);
        if !answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.connection = Some((address.to_owned(), connection));
        }
        Some(answer)
    }

    fn keep(&mut self, answer: &Answer) {
        for line in answer.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie: ")) {
            let pair = line["set-cookie: ".len()..].split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').unwrap_or_default();
            let key = (self.host, name.to_owned());
            if value.is_empty() || line.contains("Max-Age=0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
    }
}

fn connect(address: &str) -> Option<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(BufReader::new(stream))
}

fn read(connection: &mut BufReader<TcpStream>) -> Option<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, head, body: String::new() };
    let length =
        answer.field("content-length").unwrap_or_else(|| panic!("an answer of no length: {answer:?}"));
    let mut body = vec![0; length.trim().parse().ok()?];
    connection.read_exact(&mut body).ok()?;
    answer.body = String::from_utf8_lossy(&body).into_owned();
    Some(answer)
}
