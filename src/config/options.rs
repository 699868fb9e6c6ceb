//! What of the config steers the process itself and has no layer of its own to belong to.
//!
//! Plain data, checked when it was made.

use std::fmt;
use std::path::PathBuf;

use http::HeaderName;

use crate::secret::Secret;
use crate::store::shared::SharedOptions;
use crate::store::{self, Place};

/// An address to listen at: `ip:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenText(pub(super) Box<str>);

impl ListenText {
    /// As written in the config.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True where https is spoken if the config has `[tls]`: on TCP, but for port 80, which is that of `http:` URLs. What
    /// connects to a unix socket is another proxy on this machine.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        !self.0.starts_with("unix:") && !self.is_port_80()
    }

    /// True for port 80.
    #[must_use]
    pub fn is_port_80(&self) -> bool {
        self.0.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() == 80)
    }

    /// True where only this machine can connect: a loopback address or a unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0.starts_with("unix:")
            || self
                .0
                .parse::<std::net::SocketAddr>()
                .is_ok_and(|address| address.ip().to_canonical().is_loopback())
    }
}

impl fmt::Display for ListenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An upstream server: `http://host:port`, always with its port, or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginText(pub(super) Box<str>);

impl OriginText {
    /// In the form above; the host in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OriginText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[store]` but for the table of live sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Where sessions are kept.
    pub kind: StoreKind,
    /// The store's folder, or where a shared store's key file is; `None`: the usual one.
    pub path: Option<PathBuf>,
    /// The key file; a relative one lies in the store's folder.
    pub keys_file: PathBuf,
}

/// `store.kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// On this machine's disk.
    Embedded,
    /// On servers that several proxies share.
    Valkey(Box<SharedOptions>),
    /// Nowhere: a restart forgets them.
    Memory,
}

impl StoreOptions {
    /// Where the store is; `None`: nowhere. `env` reads a variable of the environment.
    #[must_use]
    pub fn place(&self, env: impl Fn(&str) -> Option<String>) -> Option<Place> {
        (self.kind == StoreKind::Embedded).then(|| {
            let folder = self.path.clone().unwrap_or_else(|| store::usual_folder(env));
            let keys = folder.join(&self.keys_file);
            Place { folder, keys }
        })
    }

    /// The servers that keep the sessions, and the key file, where it is so.
    #[must_use]
    pub fn shared(&self, env: impl Fn(&str) -> Option<String>) -> Option<(&SharedOptions, PathBuf)> {
        let StoreKind::Valkey(options) = &self.kind else { return None };
        // Nothing is written there, so it is not tried which folder can be.
        let folder = self.path.clone().or_else(|| store::state_folder(env));
        let folder = folder.unwrap_or_else(|| store::SYSTEM_FOLDER.into());
        Some((options, folder.join(&self.keys_file)))
    }
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// Where it listens; `None`: nowhere.
    pub listen: Option<ListenText>,
    /// What an operator must show. There is one wherever `listen` is not local.
    pub token: Option<Secret>,
    /// A header that names the person, for the session list.
    pub user_header: Option<HeaderName>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// What is worth a line.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// Where the access log goes.
    pub access: AccessLog,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the levels' own names")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `log.access`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// To standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// To the end of this file.
    File(PathBuf),
}
