//! HTTP meaning: what a session is, and the only two translations between a browser and an app.
//!
//! Pure: `now` and random bytes are arguments, nothing here waits, reads or writes. A session changes only by a
//! [`change::Change`] applied to it.

pub mod mount;
pub mod rules;
