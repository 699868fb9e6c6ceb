//! HTTP syntax as pure functions over bytes: cookies, URLs, targets, framing, forwarding names, frames and
//! globs.
//!
//! Invariant: lossless. What a function does not understand leaves byte for byte, an edit of one part leaves
//! the bytes of all others, and nothing here reads a clock, a file, a socket or a random number.

pub mod cookie;
pub mod date;
pub mod fetch;
pub mod fields;
pub mod form;
pub mod forwarded;
pub mod hop;
pub mod html;
pub mod jar;
pub mod location;
mod octets;
pub mod page;
pub mod path;
pub mod pattern;
pub mod query;
pub mod request;
pub mod set_cookie;
pub mod target;
pub mod ws;
