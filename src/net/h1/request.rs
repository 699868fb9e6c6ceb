//! The head of a request, as it goes out.
//!
//! Invariant: its framing is said once, by us, and is that of the body that follows.

use bytes::{BufMut as _, BytesMut};
use http::Method;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body::Body as _;

use super::head::Framing;
use crate::net::body::Body;
use crate::net::client::AppRequest;

/// A request on its way out, as far as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sending {
    /// How its body ends; never with the connection.
    pub(crate) framing: Framing,
    /// True for HEAD: the answer has no body, whatever it says.
    pub(crate) is_head: bool,
}

impl Sending {
    /// What is known of `body` decides. Servers refuse a POST without a length (411), even of nothing.
    pub(crate) fn of(method: &Method, body: &Body) -> Self {
        let framing = match body.size_hint().exact() {
            Some(0) if body.is_end_stream() && !announces_body(method) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        Self { framing, is_head: method == Method::HEAD }
    }

    /// Writes `head` to `out`.
    pub(super) fn write(self, head: &AppRequest<'_>, out: &mut BytesMut) {
        let fields: usize =
            head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        out.reserve(head.method.as_str().len() + head.target.as_str().len() + fields + 64);
        out.put_slice(head.method.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(head.target.as_str().as_bytes());
        out.put_slice(b" HTTP/1.1\r\n");
        for (name, value) in head.headers {
            if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
                continue;
            }
            out.put_slice(name.as_str().as_bytes());
            out.put_slice(b": ");
            out.put_slice(value.as_bytes());
            out.put_slice(b"\r\n");
        }
        match self.framing {
            Framing::Length(length) => {
                out.put_slice(b"content-length: ");
                out.put_slice(length.to_string().as_bytes());
                out.put_slice(b"\r\n");
            }
            Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
            Framing::None | Framing::Close => {}
        }
        out.put_slice(b"\r\n");
    }
}

/// RFC 9110, 8.6: methods whose meaning includes content send a length even of 0.
fn announces_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
