//! What is said where no service is asked: to a connection over the cap, to plain HTTP where TLS is spoken, and to a head
//! that is no HTTP.
//!
//! Invariant: a refused connection costs one write, is gone within [`LINGER`], and few are refused at a time; the rest
//! are just closed. What hyper says of itself is recognised only where no request is in flight and all that it writes is
//! that one answer.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::stream::Stream;

const AT_A_TIME: usize = 64;
const LINGER: Duration = Duration::from_secs(1);

/// Makes the whole answer, head and body, for a status; the connection is closed behind it.
#[derive(Clone)]
pub struct LastWord(Arc<dyn Fn(StatusCode) -> Bytes + Send + Sync>);

impl LastWord {
    /// That of `make`.
    pub fn new(make: impl Fn(StatusCode) -> Bytes + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    pub(super) fn of(&self, status: StatusCode) -> Bytes {
        (self.0)(status)
    }
}

impl fmt::Debug for LastWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastWord")
    }
}

/// The status of an answer that hyper gives by itself (its `Http1Transaction::on_error`), if `written` is one and
/// nothing else. It has no hook to say more.
pub(super) fn automatic(written: &[u8]) -> Option<StatusCode> {
    const SAID: [(&[u8], StatusCode); 3] = [
        (b"HTTP/1.1 400 Bad Request\r\n", StatusCode::BAD_REQUEST),
        (b"HTTP/1.1 414 URI Too Long\r\n", StatusCode::URI_TOO_LONG),
        (b"HTTP/1.1 431 Request Header Fields Too Large\r\n", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    ];
    let (rest, status) =
        SAID.into_iter().find_map(|(line, status)| Some((written.strip_prefix(line)?, status)))?;
    let date = rest.strip_prefix(b"connection: close\r\ncontent-length: 0\r\ndate: ")?;
    let end = memchr::memchr(b'\r', date)?;
    (date.get(end..) == Some(b"\r\n\r\n")).then_some(status)
}

/// How many connections are being refused on this thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Rc<Cell<usize>>);

/// One of them, until dropped.
#[derive(Debug)]
pub(super) struct Refusal(Rc<Cell<usize>>);

impl Refusals {
    /// A place to refuse politely, or `None`.
    pub(super) fn begin(&self) -> Option<Refusal> {
        if self.0.get() >= AT_A_TIME {
            return None;
        }
        self.0.set(self.0.get() + 1);
        Some(Refusal(Rc::clone(&self.0)))
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Refusal {
    /// Says `word` and reads on for a moment: closing on unread bytes would reset the connection and lose the answer.
    pub(super) async fn say(self, mut stream: Stream, word: Bytes) {
        let talk = async {
            stream.write_all(&word).await?;
            stream.shutdown().await?;
            let mut unread = [0; 1024];
            while stream.read(&mut unread).await? > 0 {}
            std::io::Result::Ok(())
        };
        // It is lost either way.
        let _ = timeout(LINGER, talk).await;
    }
}
