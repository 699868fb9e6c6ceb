//! The head of a request, as it goes out.
//!
//! Invariant: its framing is said once, by us, and is that of the body that follows.

use http::Method;
use http_body::Body as _;

use super::head::Framing;
use crate::digits;
use crate::net::body::Body;
use crate::wire::request::Head;

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

    /// Writes `head` to `out`, and how its body ends.
    pub(super) fn write(self, head: &Head, out: &mut Vec<u8>) {
        out.reserve(head.text().len() + 48);
        out.extend_from_slice(head.text());
        match self.framing {
            Framing::Length(length) => {
                out.extend_from_slice(b"content-length: ");
                digits::number(out, length);
                out.extend_from_slice(b"\r\n");
            }
            Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Framing::None | Framing::Close => {}
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// RFC 9110, 8.6: methods whose meaning includes content send a length even of 0.
fn announces_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
