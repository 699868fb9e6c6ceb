//! What stays open: WebSockets and event streams, as a browser holds them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::Browser;

/// An open connection whose head has come.
pub(crate) struct Open {
    stream: DuplexStream,
    /// The answer's head.
    pub(crate) head: String,
}

impl Browser {
    /// Opens a WebSocket.
    pub(crate) async fn web_socket(&self, target: &str) -> Open {
        let more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        self.open(target, more).await
    }

    /// Opens an event stream.
    pub(crate) async fn event_stream(&self, target: &str) -> Open {
        self.open(target, "Accept: text/event-stream\r\n").await
    }

    async fn open(&self, target: &str, more: &str) -> Open {
        let mut stream = self.connect();
        let cookies = self.cookies(target).map(|line| format!("Cookie: {line}\r\n")).unwrap_or_default();
        let head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{cookies}{more}\r\n", self.host);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        Open { stream, head: String::from_utf8(head).unwrap() }
    }
}

impl Open {
    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// Sends a text frame of less than 126 bytes, masked.
    pub(crate) async fn say(&mut self, text: &str) {
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 1, 2, 3, 4];
        frame.extend(text.bytes().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key));
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next frame: opcode and payload.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let first = self.stream.read_u8().await.unwrap();
        let length = usize::from(self.stream.read_u8().await.unwrap());
        assert!(length < 126, "a short frame, unmasked");
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.unwrap();
        (first & 0x0f, payload)
    }

    /// What comes until the other side closes; `None` where it does not within `seconds`.
    pub(crate) async fn rest(&mut self, seconds: f64) -> Option<Vec<u8>> {
        let mut rest = Vec::new();
        let reading = self.stream.read_to_end(&mut rest);
        let read = tokio::time::timeout(Duration::from_secs_f64(seconds), reading).await;
        // A connection that is broken off has ended, too.
        read.is_ok().then_some(rest)
    }

    /// Takes what comes for so long.
    pub(crate) async fn listen(&mut self, seconds: f64) -> Vec<u8> {
        let mut heard = Vec::new();
        let listening = async {
            let mut buffer = [0; 1024];
            loop {
                match self.stream.read(&mut buffer).await {
                    Ok(read) if read > 0 => heard.extend_from_slice(&buffer[..read]),
                    _ => std::future::pending().await,
                }
            }
        };
        let _: Result<(), _> = tokio::time::timeout(Duration::from_secs_f64(seconds), listening).await;
        heard
    }
}
