//! HTTP/1.1 towards apps: one request and its answer on one connection.
//!
//! Ours rather than a library's, since forwarding is what the proxy exists for; and strict, since what an app writes is not
//! to be trusted with the next person's answer.
//!
//! Invariants: an answer whose end can be read in two ways is refused; a connection is fit for another request only after a
//! request and an answer that both ended in full, with nothing behind them; a body that broke off never looks complete.

mod chunked;
mod conn;
#[cfg(test)]
mod differential;
mod head;
mod reply;
mod request;
mod spare;
mod trailers;
mod upload;

pub(super) use self::conn::{Conn, NoHead};
pub use self::head::HeadError;
pub(super) use self::head::{AnswerHead, Framing};
pub(super) use self::reply::Reply;
pub(super) use self::request::Sending;
pub(super) use self::spare::Spare;
pub(super) use self::upload::{Outgoing, UploadError};
