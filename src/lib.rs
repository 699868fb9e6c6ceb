//! sessionbridge: a reverse proxy that makes a person's sessions in several old web applications live and end as one.

pub mod bridge;
pub mod clock;
pub mod heartbeat;
pub mod net;
pub mod telemetry;
pub mod time;
pub mod wire;
