//! What the proxy logs on the thread of a test.
//!
//! One subscriber for the whole program, with a sink a thread: subscribers that come and go race for what other threads
//! decide about a line of code that logs for the first time.

use std::cell::RefCell;
use std::io::{Result, Write};
use std::sync::Once;

thread_local! {
    static HEARD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Listens on this thread until it is dropped.
pub(crate) struct Said(());

impl Said {
    /// Listens from now on, to all levels.
    pub(crate) fn listen() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
            tracing::subscriber::set_global_default(lines.with_writer(|| Sink).finish()).unwrap();
        });
        HEARD.set(Some(Vec::new()));
        Self(())
    }

    /// What has been said so far.
    pub(crate) fn text(&self) -> String {
        HEARD.with_borrow(|heard| String::from_utf8_lossy(heard.as_deref().unwrap_or_default()).into_owned())
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        HEARD.with_borrow_mut(|heard| {
            if let Some(heard) = heard {
                heard.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
