//! A store that several proxies share: Valkey or Redis.

mod options;

pub use options::{OnOutage, SharedOptions, Topology};
