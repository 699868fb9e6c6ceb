//! What a heartbeat reads of an answer: the head of its body, decoded, and what is to be found there.
//!
//! Invariant: however long an answer is, and whatever its coding promises, no more than the limit of decoded
//! bytes is kept, not much more than that is taken from the wire, and a decoder's window is at most 16 MiB.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue};
use http_body::Body;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, ReadBuf};

use crate::bridge::rules::{Alive, Canary};

/// Decoded bytes that `alive` and the canary may look at.
pub const LIMIT: usize = 64 * 1024;

/// The largest window that zstd may ask for, as a power of two: 8 MiB, RFC 9659.
const ZSTD_WINDOW: u32 = 23;

/// The head of an answer's body.
#[derive(Debug, Default)]
pub struct Reading {
    /// The decoded bytes, as many as the limit allows. May hold tokens: never log it.
    pub text: Vec<u8>,
    /// True where this is all of the body.
    pub complete: bool,
    /// What went wrong; `text` is what came before it.
    pub fault: Option<Fault>,
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Content-Encoding names something unknown, or several codings: nothing was read, and nothing is proved.
    Coding,
    /// The bytes are not what Content-Encoding says.
    Garbled,
    /// The connection broke off.
    Broken,
}

/// Reads at most `limit` decoded bytes of `body` (usually [`LIMIT`]). Stops early, so the connection may have
/// bytes left; to keep `body` for those, pass `&mut body`. Has no timeout of its own.
pub async fn read<B>(body: B, encoding: Option<&HeaderValue>, limit: usize) -> Reading
where
    B: Body<Data = Bytes>,
{
    let Some(coding) = Coding::of(encoding) else {
        return Reading { fault: Some(Fault::Coding), ..Reading::default() };
    };
    // Compression may expand a little; what expands more has blocks without content, made to keep a reader
    // busy.
    let budget = limit.saturating_mul(2).saturating_add(4096);
    let mut wire = Wire { body: Box::pin(body), chunk: Bytes::new(), budget, broken: false };
    let mut text = Vec::new();
    let end = decode(&mut wire, coding, limit, &mut text).await;
    let complete = end.is_ok() && text.len() <= limit;
    text.truncate(limit);
    let fault = end.err().map(|_| if wire.broken { Fault::Broken } else { Fault::Garbled });
    Reading { text, complete, fault }
}

/// True where `text` has `needle` in it; an empty one is in everything.
#[must_use]
pub fn contains(needle: &str, text: &[u8]) -> bool {
    needle.is_empty() || memchr::memmem::find(text, needle.as_bytes()).is_some()
}

/// True where a status is one that `alive` names.
#[must_use]
pub fn alive_status(alive: &Alive, status: u16) -> bool {
    alive.status.iter().any(|(first, last)| (*first..=*last).contains(&status))
}

/// The canary in an answer; `None` where there is none, or an empty one. A JSON document that is cut short
/// has none.
#[must_use]
pub fn canary(rule: &Canary, headers: &HeaderMap, text: &[u8]) -> Option<Vec<u8>> {
    let found = match rule {
        Canary::Header(name) => headers.get(name)?.as_bytes().to_vec(),
        Canary::Json(path) => in_json(path, text)?,
        Canary::Regex(regex) => {
            let groups = regex.captures(text)?;
            groups.get(1).or_else(|| groups.get(0))?.as_bytes().to_vec()
        }
    };
    (!found.is_empty()).then_some(found)
}

/// The value at `path`: a string's content, anything else as JSON, `null` as nothing.
fn in_json(path: &str, text: &[u8]) -> Option<Vec<u8>> {
    // ColdFusion puts `//` before JSON where `secureJSON` is on, and some pages a byte order mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
    let text = text.strip_prefix(b"//").unwrap_or(text);
    let document: Value = serde_json::from_slice(text).ok()?;
    let value = if path.is_empty() || path.starts_with('/') {
        document.pointer(path)?
    } else {
        path.split('.').try_fold(&document, |value, key| member(value, key))?
    };
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        other => serde_json::to_vec(other).ok(),
    }
}

fn member<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// A content coding that can be taken off.
#[derive(Clone, Copy, Debug)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// RFC 9110 8.4.1: names without case, `x-gzip` is `gzip`.
    fn of(encoding: Option<&HeaderValue>) -> Option<Self> {
        let Some(encoding) = encoding else { return Some(Self::Identity) };
        match encoding.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            b"br" => Some(Self::Brotli),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Decodes into `text` until `limit` is passed or the body ends.
async fn decode<B>(wire: &mut Wire<B>, coding: Coding, limit: usize, text: &mut Vec<u8>) -> io::Result<()>
where
    B: Body<Data = Bytes>,
{
    // An answer to HEAD names a coding and has no body, which no decoder accepts.
    if wire.fill_buf().await?.is_empty() {
        return Ok(());
    }
    match coding {
        Coding::Identity => take(wire, limit, text).await,
        Coding::Gzip => take(GzipDecoder::new(wire), limit, text).await,
        Coding::Deflate => take(ZlibDecoder::new(wire), limit, text).await,
        Coding::Brotli => take(BrotliDecoder::new(wire), limit, text).await,
        Coding::Zstd => {
            let window = DParameter::window_log_max(ZSTD_WINDOW);
            take(ZstdDecoder::with_params(wire, &[window]), limit, text).await
        }
    }
}

/// One byte more than `limit`, which tells a body that ends there from one that goes on.
async fn take(from: impl AsyncRead + Unpin, limit: usize, text: &mut Vec<u8>) -> io::Result<()> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    from.take(limit.saturating_add(1)).read_to_end(text).await.map(|_| ())
}

/// A body as bytes off the wire, up to a budget. Trailers are left alone.
struct Wire<B> {
    body: Pin<Box<B>>,
    chunk: Bytes,
    /// Bytes that may still be taken; the end is an error, not an end of the body.
    budget: usize,
    broken: bool,
}

impl<B: Body<Data = Bytes>> AsyncBufRead for Wire<B> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.chunk.is_empty() {
            match ready!(this.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(Ok(&[])),
                Some(Ok(frame)) => this.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(_)) => {
                    this.broken = true;
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
            }
        }
        if this.budget == 0 {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let end = this.chunk.len().min(this.budget);
        Poll::Ready(Ok(this.chunk.get(..end).unwrap_or_default()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        this.chunk.advance(amount.min(this.chunk.len()));
        this.budget = this.budget.saturating_sub(amount);
    }
}

impl<B: Body<Data = Bytes>> AsyncRead for Wire<B> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let from = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = from.len().min(to.remaining());
        to.put_slice(from.get(..amount).unwrap_or_default());
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
