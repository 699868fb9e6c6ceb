//! What of the config steers the table of live sessions.

/// `[store]` as far as the table itself goes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bridge sessions at the most; pending ones may fill a fifth of that.
    pub max_sessions: usize,
}
