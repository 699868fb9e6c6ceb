//! What a config says of a store that several proxies share.
//!
//! Invariant: its addresses, which may hold a password, are shown to nobody.

use crate::secret::Secret;

/// Where a shared store is, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedOptions {
    /// `redis://`, `rediss://`, `valkey://` or `valkeys://` addresses: of the server, of the sentinels or of nodes of the
    /// cluster. One at the least.
    pub urls: Vec<Secret>,
    /// What answers there.
    pub topology: Topology,
    /// What all of its keys begin with.
    pub prefix: String,
    /// What becomes of requests while it cannot be reached.
    pub on_outage: OnOutage,
}

/// How the servers of a store stand to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// One server, or an address that always leads to the one that is written to.
    #[default]
    Single,
    /// Sentinels tell which server is written to.
    Sentinel {
        /// What they call it.
        master: String,
    },
    /// Several servers share the keys.
    Cluster,
}

/// What becomes of requests while the store cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// Known sessions go on from memory; what changes is written later.
    #[default]
    Degrade,
    /// Whoever needs a session is told to come again.
    Strict,
}

impl Default for SharedOptions {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            topology: Topology::default(),
            prefix: "sb:".to_owned(),
            on_outage: OnOutage::default(),
        }
    }
}
