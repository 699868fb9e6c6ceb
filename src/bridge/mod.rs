//! HTTP meaning: what a session is, and the only two translations between a browser and an app.
//!
//! Pure: `now` and random bytes are arguments, nothing here waits, reads or writes. What an answer does to a session is
//! decided in [`answer`] alone.

pub mod activity;
pub mod adoption;
pub mod answer;
pub mod app_session;
pub mod beat;
pub mod bridge_cookie;
pub mod classify;
pub mod id;
pub mod janitor;
pub mod lifespan;
mod lineage;
pub mod mount;
pub mod moved;
pub mod own;
pub mod packing;
pub mod passed;
pub mod release;
pub mod rules;
pub mod session;
pub mod share;
pub mod sign_out;
#[cfg(test)]
pub(crate) mod testing;
pub mod timeline;
pub mod to_app;
pub mod to_client;
pub mod traits;
pub mod url;
pub mod vault;
