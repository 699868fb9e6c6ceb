//! The process's own log: what is worth saying, as text for people or JSON for machines, to standard error.
//!
//! Invariant: it is set up once, before the first thread; what is logged by whom is the caller's to keep free
//! of secrets.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

/// The `[log]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives per module:
    /// `info,sessionbridge::heartbeat=debug`.
    pub level: String,
    /// Of the log and the access log.
    pub format: Format,
    /// Where the access log goes.
    pub access: Access,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto, access: Access::Stdout }
    }
}

impl LogOptions {
    /// Parses `level` and does nothing else: for the check of a config.
    ///
    /// # Errors
    /// Where `level` is no level and no list of directives.
    pub fn check(&self) -> Result<(), LogError> {
        self.filter().map(|_| ())
    }

    fn filter(&self) -> Result<EnvFilter, LogError> {
        let filter = EnvFilter::builder().parse(&self.level).map_err(LogError::Level)?;
        // Whatever the database has to say that matters, the store says in words of its own.
        let quiet = ["fjall=off", "lsm_tree=off"].into_iter().filter_map(|directive| directive.parse().ok());
        Ok(quiet.fold(filter, EnvFilter::add_directive))
    }
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// True for JSON, where the lines go to a terminal or not.
    #[must_use]
    pub const fn is_json(self, terminal: bool) -> bool {
        match self {
            Self::Auto => !terminal,
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// To standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// To the end of a file, which is opened again on request.
    File(PathBuf),
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// `log.level` says nothing.
    #[error("log.level is neither a level nor a list of directives")]
    Level(#[source] ParseError),
    /// Another log was set up before.
    #[error("the log was set up before")]
    Twice(#[source] TryInitError),
    /// The file of the access log.
    #[error("cannot open the access log {path:?}")]
    Open {
        /// As the config names it.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The access log's thread.
    #[error("cannot start the thread that writes the access log")]
    Thread(#[source] std::io::Error),
}

/// Sets the process's log up.
///
/// # Errors
/// Where the level cannot be parsed or this was called before.
pub fn init(options: &LogOptions) -> Result<(), LogError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = options.filter()?;
    let terminal = stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(terminal);
    if options.format.is_json(terminal) {
        lines.json().flatten_event(true).finish().try_init().map_err(LogError::Twice)
    } else {
        lines.finish().try_init().map_err(LogError::Twice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(level: &str) -> Result<(), LogError> {
        LogOptions { level: level.to_owned(), ..LogOptions::default() }.check()
    }

    #[test]
    fn levels_and_directives_are_checked() {
        assert!(level("info").is_ok() && level("warn,sessionbridge::heartbeat=debug").is_ok());
        assert!(matches!(level("info,sessionbridge=loud"), Err(LogError::Level(_))));
    }

    #[test]
    fn auto_is_text_for_people_only() {
        assert_eq!([true, false].map(|terminal| Format::Auto.is_json(terminal)), [false, true]);
    }
}
