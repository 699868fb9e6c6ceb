//! What one config says to everything that answers requests or sends some: immutable, and replaced as a whole.
//!
//! Invariant: whoever has begun something with a setting ends it with the same one. Nothing in it changes but what is known of
//! servers and apps by experience, and that goes on in the next one.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::balance::Balancer;
use crate::lives::Lives;
use crate::route::RouteMap;
use crate::secret::Secret;

pub mod options;

use options::Options;

/// A route map, and what goes with it. Each thread has one of its own, so that holding it costs no other thread anything.
#[derive(Clone)]
pub struct Setting {
    /// Apps, rules for requests, and what lives and dies together.
    pub routes: RouteMap,
    /// The apps' servers.
    pub balancer: Arc<Balancer>,
    /// What heartbeats have told about the apps.
    pub lives: Arc<Lives>,
    /// `[server]` as far as requests go.
    pub options: Options,
    /// Bytes of a request line and its headers at the most.
    pub max_header_bytes: usize,
    /// How long a drain waits for requests in flight.
    pub drain_timeout: Duration,
    /// True where browsers surely come by `https`.
    pub https: bool,
    /// What an operator must show.
    pub token: Option<Secret>,
}

/// The setting that whatever begins now begins with. Cheap to clone; for everybody but the threads that serve, which are
/// handed theirs.
#[derive(Clone, Debug)]
pub struct Present(Arc<Mutex<Arc<Setting>>>);

impl Deref for Setting {
    type Target = RouteMap;

    fn deref(&self) -> &RouteMap {
        &self.routes
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting(of {} apps)", self.routes.routes().len())
    }
}

impl Present {
    /// Begins with `setting`.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(setting))))
    }

    /// The present one.
    #[must_use]
    pub fn now(&self) -> Arc<Setting> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `setting` in its place.
    pub fn replace(&self, setting: Arc<Setting>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = setting;
    }
}
