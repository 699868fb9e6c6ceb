//! Opening a shared store that may come up a little later than this process.

use std::path::Path;
use std::time::Duration;

use super::{Opened, SharedError, SharedOptions, open};
use crate::store::StoreError;

/// Opens a shared store as [`open`] does, and where it cannot be used yet it is tried again for as long as `patience`.
///
/// # Errors
/// As [`open`].
pub fn open_in_time(
    options: &SharedOptions,
    keys: &Path,
    random: [u8; 64],
    patience: Duration,
) -> Result<Opened, StoreError> {
    let began = tokio::time::Instant::now();
    let mut told = false;
    loop {
        match open(options, keys, random) {
            Err(StoreError::Shared(error @ (SharedError::Away(_) | SharedError::Outage(_))))
                if began.elapsed() < patience =>
            {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "the shared store cannot be used yet; waiting for it");
                }
                std::thread::sleep(AGAIN);
            }
            opened => return opened,
        }
    }
}

/// When a store that cannot be used is tried again.
const AGAIN: Duration = Duration::from_millis(500);
