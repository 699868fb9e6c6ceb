//! sessionbridge: a reverse proxy that makes a person's sessions in several old web applications live and end as one.

pub mod config;
pub mod net;
pub mod wire;
