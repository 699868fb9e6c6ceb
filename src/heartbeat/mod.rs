//! Heartbeats: when they are due and what their answers say.
//!
//! Nothing here decides about a session: a heartbeat's answer becomes a verdict in `bridge`.

pub mod reading;
pub mod wheel;
