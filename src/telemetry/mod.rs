//! What the process says of itself: metrics, its own log, the access log, health, and the ids of requests.
//!
//! Invariant: nothing here is told a secret, and nothing here makes a request wait.

pub mod access;
mod cells;
mod escape;
mod exposition;
pub mod health;
pub mod labels;
mod line;
pub mod log;
pub mod metrics;
pub mod request_id;

pub use access::{AccessLog, AccessSink, Writing};
pub use health::{Health, Readiness};
pub use labels::{
    AppState, EndReason, Reason, SessionEvent, SignOutResult, StreamKind, UrlTokenResult, Verdict,
};
pub use line::{CleanPath, Line};
pub use log::{Access, Format, LogError, LogOptions};
pub use metrics::{Build, Gauges, Metrics, Shard};
pub use request_id::{RequestId, RequestIds};
