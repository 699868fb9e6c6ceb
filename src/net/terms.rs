//! How clients are served, as the config has it, and as it may change while they are.
//!
//! Invariant: one step of a connection goes by one set of options.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};

use super::connections::Connections;
use super::protocol::{self, LocalExec};
use super::refuse::LastWord;

/// How clients are served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The cap, shared by all threads.
    pub connections: Connections,
    /// Bytes of a request line and its headers; over it the answer is 431.
    pub max_header_bytes: usize,
    /// From the first byte of a head to its end; a TLS handshake has as long.
    pub header: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// Without a byte taken by the client while an answer waits.
    pub body_stall: Duration,
    /// What a drain waits for requests in flight.
    pub drain_timeout: Duration,
    /// Answers where no service is asked: 400, 414, 431 to a head, 503 over the cap.
    pub last_word: LastWord,
}

/// [`ServeOptions`] that may change while clients are served: clones of it, on one thread, change together. A connection goes by
/// the new ones from its next request on.
#[derive(Clone)]
pub struct Terms(Rc<RefCell<Rc<Agreed>>>);

/// Options, and what is made of them.
pub(super) struct Agreed {
    pub(super) options: ServeOptions,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<LocalExec>,
}

impl Terms {
    /// Begins with `options`.
    #[must_use]
    pub fn new(options: ServeOptions) -> Self {
        Self(Rc::new(RefCell::new(Rc::new(Agreed::new(options)))))
    }

    /// From now on `options`.
    pub fn change(&self, options: ServeOptions) {
        self.0.replace(Rc::new(Agreed::new(options)));
    }

    /// What a drain waits for requests in flight, as it is now.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        self.0.borrow().options.drain_timeout
    }

    /// The present ones.
    pub(super) fn now(&self) -> Rc<Agreed> {
        Rc::clone(&self.0.borrow())
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().options.fmt(f)
    }
}

impl Agreed {
    fn new(options: ServeOptions) -> Self {
        let (http1, http2) =
            (protocol::http1(options.max_header_bytes), protocol::http2(options.max_header_bytes));
        Self { options, http1, http2 }
    }
}
