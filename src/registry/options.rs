//! What of the config steers the table of live sessions.

/// `[store]` as far as the table itself goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bridge sessions at the most; pending ones may fill a fifth of that.
    pub max_sessions: usize,
}

impl Options {
    /// Pending sessions at the most: a fifth of the table.
    #[must_use]
    pub fn max_pending(&self) -> usize {
        (self.max_sessions / 5).max(1)
    }
}
