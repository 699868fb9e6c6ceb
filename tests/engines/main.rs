//! The bridge in front of real engines, started here on loopback with short timeouts.
//!
//! Every test is `#[ignore]`d: it needs its engine, which `tests/engines/ENGINE/fetch target/engines/ENGINE` brings and
//! `tests/run` calls. Then: `cargo test --test engines -- --ignored php::`.
//!
//! Each engine has a folder (how it is brought and started, and its two apps) and a module: its [`walks::Site`], the walks
//! that every engine passes, and what is the engine's own. Real time passes only where a real timeout is the point.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

// A running engine, the built program in front of it, a browser.
mod support;
// What every engine must pass.
mod walks;

// PHP's file sessions: php-fpm behind nginx.
mod php;
// ASP.NET on Mono: FastCGI behind nginx.
mod aspnet;
// Django with sessions in a database, real sign-in and CSRF tokens.
mod django;
// Express with express-session.
mod express;
// Lucee 6.2 on Tomcat and 5.4 on Jetty, with CF and with J2EE sessions.
mod lucee;
// Tomcat: servlet sessions of two web applications.
mod tomcat;
// One person in Lucee, Tomcat, PHP and ASP.NET, through one bridge.
mod mixed;

// Drafts for the apps of every engine, run as they are.
mod init;
// What the probes find out about all of them.
mod probes;
