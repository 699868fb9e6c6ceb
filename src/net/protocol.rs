//! Which HTTP a client speaks, and how hyper is to serve it.
//!
//! Invariant: a limit is set for everything that a client could make large: heads, fields, streams, windows, resets.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncReadExt as _;
use tokio::task::spawn_local;

use super::stream::Stream;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MAX_HEADERS: usize = 100;
/// hyper refuses smaller ones.
const LEAST_BUFFER: usize = 8 * 1024;
const H2_STREAMS: u32 = 100;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const H2_PENDING_RESETS: usize = 20;
const H2_SEND_BUFFER: usize = 64 * 1024;
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs HTTP/2 streams on this thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalExec;

impl<F: Future<Output: 'static> + 'static> Executor<F> for LocalExec {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// HTTP/1 with heads of at most so many bytes.
pub(super) fn http1(max_header_bytes: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_buf_size(max_header_bytes.max(LEAST_BUFFER))
        .max_header_size(max_header_bytes)
        .max_headers(MAX_HEADERS)
        .keep_alive(true)
        // `Guarded` looks for the client's end, for less.
        .half_close(true);
    builder
}

/// HTTP/2 with heads of at most so many bytes.
pub(super) fn http2(max_header_bytes: usize) -> http2::Builder<LocalExec> {
    let mut builder = http2::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(H2_PENDING_RESETS)
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// Whether the client begins with HTTP/2's preface (RFC 9113, 3.4), and all that was read to know. `None`: it said
/// nothing and left.
pub(super) async fn sniff(stream: &mut Stream) -> io::Result<Option<(bool, Bytes)>> {
    let mut read = BytesMut::with_capacity(4096);
    loop {
        let ended = stream.read_buf(&mut read).await? == 0;
        if read.is_empty() {
            return Ok(None);
        }
        let is_preface = read.iter().zip(PREFACE).all(|(a, b)| a == b);
        if ended || !is_preface || read.len() >= PREFACE.len() {
            return Ok(Some((is_preface && read.len() >= PREFACE.len(), read.freeze())));
        }
    }
}
