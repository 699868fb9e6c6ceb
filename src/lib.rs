//! sessionbridge: a reverse proxy that makes a person's sessions in several old web applications live and end as one.

pub mod bridge;
pub mod proxy {
    //! Placeholder of the layer while the core is built.
    pub mod options;
}
pub mod registry;
pub mod net;
pub mod route;
pub mod secret;
pub mod time;
pub mod wire;
