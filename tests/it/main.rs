//! The whole proxy in one process, on paused time and in-memory connections: what a browser sees and what the apps saw.
//!
//! Time passes only when everything waits, so an hour takes a millisecond and nothing is flaky.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::too_many_lines, reason = "a story is told in one piece")]

mod support;

/// What operators see and may do, and what they never see.
mod admin;
/// Noise from both sides, floods.
mod attack;
/// What two servers could read in two ways is refused, or made plain.
mod framing;
/// A person moves between apps whose sessions would die without the bridge.
mod parallel;
/// Servers that come and go, and names that lead elsewhere.
mod upstreams;

/// Statuses, reason words, what passes byte for byte, streams.
mod surface;

/// Tokens that arrive in URLs: the checks of the security page, and the Builder workflow.
mod url_tokens;

/// Sign-outs: seen in an app, asked of the bridge; and what a sign-in does to the bridge cookie.
mod sign_out;

/// Heartbeats: what they carry, when they go out, what their answers mean.
mod heartbeat;
/// Heartbeats of which many come due at once.
mod waves;

/// What the deaths of sessions say about their apps.
mod explained;
/// The config read anew while the proxy runs.
mod reload;

/// Configs drafted from running apps, run as they are.
mod init;

/// The three clocks of a bridge session.
mod clocks;

/// WebSockets and event streams.
mod streams;

/// Cookies: the vault and the other modes, what browsers bring, what apps must not reach.
mod cookies;

/// Before apps whose people are signed in, and away again.
mod in_and_out;
/// Sessions of the proxy's own, by which it finds out whether an app is as the config says.
mod probes;
/// Tokens that change while requests are on their way; jars that others have filled.
mod rotation;

/// Sign-outs that end sessions: recipes, and the proof that the old token is dead.
mod recipes;

/// Sessions as people have them: one per app and person, for as long as the person is there.
mod sessions;
/// Apps that have one app session.
mod share;
