//! The whole proxy in one process, on paused time and in-memory connections: what a browser sees and what the apps saw.
//!
//! Time passes only when everything waits, so an hour takes a millisecond and nothing is flaky.

mod support;

/// What operators see and may do, and what they never see.
mod admin;
/// A person moves between apps whose sessions would die without the bridge.
mod parallel;
