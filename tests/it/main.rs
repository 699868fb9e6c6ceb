//! The whole proxy in one process, on paused time and in-memory connections: what a browser sees and what the apps saw.
//!
//! Time passes only when everything waits, so an hour takes a millisecond and nothing is flaky.

mod support;

/// A person moves between apps whose sessions would die without the bridge.
mod parallel;

/// Tokens that arrive in URLs: the checks of the security page, and the Builder workflow.
mod url_tokens;

/// Sign-outs: seen in an app, asked of the bridge; and what a sign-in does to the bridge cookie.
mod sign_out;

/// Cookies: the vault and the other modes, what browsers bring, what apps must not reach.
mod cookies;

/// Sessions as people have them: one per app and person, for as long as the person is there.
mod sessions;
