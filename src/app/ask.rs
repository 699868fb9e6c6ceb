//! A running proxy asked through its operators' listener: what commands beside it are made of.
//!
//! Invariant: nothing that is read is trusted to be short, or to come at all.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::config::AdminOptions;
use crate::net::listener::{ListenAddr, ListenAddrError};

/// How long connecting may take, and each wait for an answer. A config is read and in use within moments.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer at the most.
const MOST: u64 = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// `admin.listen` is off.
    #[error("the config has no operators' listener (`admin.listen = \"off\"`): send SIGHUP to the process")]
    Off,
    /// No address that can be asked.
    #[error("`admin.listen` cannot be asked")]
    Address(#[source] ListenAddrError),
    /// Nobody is there, or nobody answers.
    #[error("no answer from the operators' listener at {at}: is it running?")]
    Silent {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else listens there.
    #[error("what answers at {at} is no sessionbridge")]
    Foreign {
        /// Where.
        at: String,
    },
}

/// Sends `method` for `path` to the proxy whose operators' listener `admin` describes; its status and JSON.
///
/// # Errors
/// See [`AskError`].
pub fn ask(admin: &AdminOptions, method: &str, path: &str) -> Result<(u16, Value), AskError> {
    let at = admin.listen.as_ref().ok_or(AskError::Off)?.as_str().to_owned();
    let address: ListenAddr = at.parse().map_err(AskError::Address)?;
    let token = admin.token.as_ref().map(|token| String::from_utf8_lossy(token.expose()).into_owned());
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n{token}\r\n"
    );
    let answer = match &address {
        ListenAddr::Tcp(address) => tcp(*address).and_then(|stream| exchange(stream, &request)),
        ListenAddr::Unix(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            exchange(stream, &request)
        }),
        ListenAddr::Memory => Err(io::ErrorKind::Unsupported.into()),
    };
    let answer = answer.map_err(|source| AskError::Silent { at: at.clone(), source })?;
    read(&answer).ok_or(AskError::Foreign { at })
}

/// An address that stands for all is asked at the machine's own.
fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    let stream = TcpStream::connect_timeout(&SocketAddr::new(ip, address.port()), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body; these answers are never chunked: their length is known.
fn read(answer: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// What came of `POST /api/v1/reload`, as somebody at a terminal reads it; `None` where the answer is none of that.
#[must_use]
pub fn reloaded(answer: &Value) -> Option<Reloaded> {
    let list = |name: &str| -> Vec<&str> {
        answer.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    match (answer.get("ok").and_then(Value::as_bool), answer.get("report").and_then(Value::as_str)) {
        (Some(true), _) => {
            let mut text = String::new();
            list("warnings").iter().for_each(|warning| text.push_str(&format!("{warning}\n")));
            list("changes").iter().for_each(|change| text.push_str(&format!("{change}\n")));
            if list("changes").is_empty() {
                text.push_str("nothing has changed\n");
            }
            if !list("restart").is_empty() {
                text.push_str(&format!("used after a restart only: {}\n", list("restart").join(", ")));
            }
            Some(Reloaded { used: true, text })
        }
        (Some(false), Some(report)) => {
            let text = format!("{report}\nthe config cannot be used, the one before it stays\n");
            Some(Reloaded { used: false, text })
        }
        _ => None,
    }
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// True where the config is in use.
    pub used: bool,
    /// What there is to say.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_or_is_none() {
        let answer = b"HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(read(answer), Some((422, json!({}))));
        for other in [&b""[..], b"SSH-2.0-x\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n<html>", b"\xff"] {
            assert_eq!(read(other), None);
        }
    }

    #[test]
    fn what_came_of_it_is_told_in_lines() {
        let used =
            json!({"ok": true, "changes": ["+ apps.b"], "restart": ["listen"], "warnings": ["warning: w"]});
        let told = reloaded(&used).unwrap();
        assert_eq!(told.text, "warning: w\n+ apps.b\nused after a restart only: listen\n");
        assert!(told.used);
        assert_eq!(reloaded(&json!({"ok": true})).unwrap().text, "nothing has changed\n");
        let refused = reloaded(&json!({"ok": false, "report": "error: e"})).unwrap();
        assert!(!refused.used && refused.text.starts_with("error: e\n"));
        assert_eq!(reloaded(&json!({"error": "unauthorized"})), None);
    }
}
