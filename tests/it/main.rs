//! The whole proxy in one process, on paused time and in-memory connections: what a browser sees and what the apps saw.
//!
//! Time passes only when everything waits, so an hour takes a millisecond and nothing is flaky.

mod support;

/// A person moves between apps whose sessions would die without the bridge.
mod parallel;

/// Heartbeats: what they carry, when they go out, what their answers mean.
mod heartbeat;

/// The three clocks of a bridge session.
mod clocks;

/// WebSockets and event streams.
mod streams;

/// Tokens that change while requests are on their way; jars that others have filled.
mod rotation;
