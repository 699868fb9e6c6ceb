//! Sessions of before are opened while people are served.
//!
//! Invariant: whoever waits until they are is told, however it ends.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use super::keeping::Unopened;
use crate::net::drain::Drainer;
use crate::store::StoreError;

/// Opens the sessions of before on a thread of its own, and tells `opened`. Where one does not open, nobody is served any more.
pub(super) fn begin(
    unopened: Option<Unopened>,
    opened: Arc<OnceLock<()>>,
    stop: Option<Drainer>,
) -> io::Result<JoinHandle<Result<(), StoreError>>> {
    let tells = Opens(opened);
    let open = move || {
        let _whoever_waits_is_told = tells;
        let opened = unopened.map_or(Ok(()), Unopened::open);
        if let Err(error) = &opened {
            tracing::error!(%error, "stopping at once");
            stop.iter().for_each(Drainer::abort);
        }
        opened
    };
    std::thread::Builder::new().name("opening".to_owned()).spawn(open)
}

/// However it ends.
struct Opens(Arc<OnceLock<()>>);

impl Drop for Opens {
    fn drop(&mut self) {
        let _ = self.0.set(());
    }
}
