//! A browser of one person: one connection, the bridge cookie, answers read to their end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any answer takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// One browser.
#[derive(Default)]
pub(crate) struct Browser {
    /// `name=value` of the bridge cookie.
    pub(crate) cookie: Option<String>,
    connection: Option<(String, BufReader<TcpStream>)>,
}

/// An answer that was read to its end: only such a one acknowledges anything.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Browser {
    /// One that shows this cookie.
    pub(crate) fn with(cookie: Option<String>) -> Self {
        Self { cookie, connection: None }
    }

    /// Asks the proxy at `address`. `None` where no whole answer came.
    pub(crate) fn ask(&mut self, address: &str, method: &str, target: &str) -> Option<Answer> {
        let mut connection = match self.connection.take() {
            Some((to, connection)) if to == address => connection,
            _ => connect(address)?,
        };
        let cookie = self.cookie.as_ref().map_or(String::new(), |cookie| format!("Cookie: {cookie}\r\n"));
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: apps.example.org\r\nSec-Fetch-Site: same-origin\r\nUser-Agent: test\r\n{cookie}\
             Content-Length: 0\r\n\r\n"
        );
        connection.get_mut().write_all(request.as_bytes()).ok()?;
        let answer = read(&mut connection)?;
        for line in answer.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie: ")) {
            let pair = line["set-cookie: ".len()..].split(';').next().unwrap_or_default();
            if let Some(value) = pair.strip_prefix("bridge=") {
                self.cookie = (!value.is_empty()).then(|| pair.to_owned());
            }
        }
        if !answer.head.to_ascii_lowercase().contains("connection: close") {
            self.connection = Some((address.to_owned(), connection));
        }
        Some(answer)
    }

    /// [`Browser::ask`] for a GET; its body.
    pub(crate) fn get(&mut self, address: &str, target: &str) -> Option<String> {
        self.ask(address, "GET", target).map(|answer| answer.body)
    }

    /// Signs in. The session's number at the app.
    pub(crate) fn sign_in(&mut self, address: &str) -> Option<u64> {
        let answer = self.ask(address, "GET", "/a/in")?;
        answer.body.parse().ok().filter(|_| answer.status == 200)
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
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length?];
    connection.read_exact(&mut body).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}
