//! How clients are served, as it may change while they are.
//!
//! Invariant: one step of a connection goes by one set of options.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use hyper::server::conn::{http1, http2};

use super::protocol::{self, LocalExec};
use super::serve::ServeOptions;

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
