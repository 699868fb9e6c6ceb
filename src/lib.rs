//! The map of the house: words, layers, one request, one heartbeat, invariants, recipes.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod admin;
pub mod app;
pub mod balance;
pub mod bridge;
pub mod clock;
pub mod config;
pub mod demo;
pub mod digits;
pub mod findings;
pub mod heartbeat;
pub mod init;
pub mod net;
pub mod own;
pub mod ping;
pub mod probe;
pub mod proxy;
pub mod random;
pub mod registry;
pub mod route;
pub mod secret;
pub mod sign_out;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod wire;
