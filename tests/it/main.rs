//! The whole proxy in one process, on paused time and in-memory connections: what a browser sees and what the apps saw.
//!
//! Time passes only when everything waits, so an hour takes a millisecond and nothing is flaky.

mod support;

/// Noise from both sides, floods.
mod attack;
/// What two servers could read in two ways is refused, or made plain.
mod framing;
/// A person moves between apps whose sessions would die without the bridge.
mod parallel;
/// Statuses, reason words, what passes byte for byte, streams.
mod surface;
