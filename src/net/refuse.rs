//! The short answer to a connection over the cap.
//!
//! Invariant: a refused connection costs one write, is gone within [`LINGER`], and few are refused at a time; the rest
//! are just closed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::stream::Stream;

const AT_A_TIME: usize = 64;
const LINGER: Duration = Duration::from_secs(1);
const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Retry-After: 1\r\n\
    X-Bridge-Error: overloaded\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n\
    Content-Length: 0\r\n\r\n";

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
    /// Says 503 and reads on for a moment: closing on unread bytes would reset the connection and lose the answer.
    pub(super) async fn say(self, mut stream: Stream) {
        let talk = async {
            stream.write_all(ANSWER).await?;
            stream.shutdown().await?;
            let mut unread = [0; 1024];
            while stream.read(&mut unread).await? > 0 {}
            std::io::Result::Ok(())
        };
        // It is lost either way.
        let _ = timeout(LINGER, talk).await;
    }
}
