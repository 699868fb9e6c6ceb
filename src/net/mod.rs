//! Sockets and HTTP connections, both directions.
//!
//! Invariant: nothing here knows a route or a session. Every wait that a peer could stretch (a head, a body, a write, a
//! connect, a first byte, an idle connection) has a bound, and a message that broke off is never passed on as complete.
//!
//! Everything runs on a current-thread runtime inside a `LocalSet`: listeners and counters may be shared by threads,
//! connections, bodies and pools belong to one.

pub mod body;
pub mod client;
pub mod drain;
pub mod inherit;
pub mod listener;
pub mod resolve;
pub mod serve;
pub mod stream;
pub mod terms;
pub mod tls;
pub mod upgrade;
pub mod upstream;

mod connections;
mod gather;
mod guard;
mod h1;
mod park;
mod phase;
mod pool;
mod protocol;
mod refuse;
mod seat;
mod served;
mod upload;
mod watch;

#[cfg(test)]
mod testing;

pub use body::{Body, BodyError, End, EndHook, Filter, Outcome};
pub use client::{Answer, Client, ClientOptions, Deadlines, SendError};
pub use connections::Connections;
pub use drain::{Drain, Drainer};
pub use h1::HeadError;
pub use listener::{Bound, ListenAddr, ListenAddrError, Listener, MemoryDialer, memory};
pub use refuse::LastWord;
pub use resolve::Resolver;
pub use serve::serve;
pub use stream::{Peer, Stream};
pub use terms::{ServeOptions, Terms};
pub use tls::{Certificate, CertificateFault, LeastVersion, Tls};
pub use upgrade::{CloseFrame, FrameWatch, Splice, SpliceEnd, Spliced, splice};
pub use upstream::{ConnectError, Dialer, Origin, OriginError, Reach, Upstream, UpstreamIx};
