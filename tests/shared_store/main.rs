//! The store that several proxies share, on real servers: what is written, what becomes of it where servers hang, die, forget
//! and change places, and what several proxies do at once.
//!
//! Each test starts its own `redis-server` on free ports and ends it. They are ignored where nobody asks for them, since not
//! every machine has it: `cargo test --test shared_store -- --ignored`, or `tests/run`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod claims;
mod clocks;
mod losses;
mod members;
mod outages;
mod proxy;
mod server;
mod topologies;
mod writes;
