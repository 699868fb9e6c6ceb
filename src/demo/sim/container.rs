//! A servlet container: the ids that live in it, whichever application made them, and how it spells them.
//!
//! Invariant: an id is known here by its part without a node's suffix where the container compares so
//! (Jetty), and whole where it does not (Tomcat).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{SimOptions, visit::Visit};

/// The session ids of one container. Clones share them: give one to two applications that run in one
/// container.
#[derive(Clone, Default)]
pub struct Container(Arc<Mutex<BTreeMap<String, u64>>>);

impl Container {
    fn ids(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, id: &str, now: u64) -> bool {
        self.ids().get(id).is_some_and(|&expires| expires > now)
    }

    /// The container's own idle clock is the longest that any of its applications asked for.
    pub(super) fn touch(&self, id: &str, expires: u64) {
        let mut ids = self.ids();
        let known = ids.entry(id.to_owned()).or_insert(expires);
        *known = expires.max(*known);
    }

    pub(super) fn end(&self, id: &str) {
        self.ids().remove(id);
    }

    pub(super) fn clear(&self) {
        self.ids().clear();
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("ids", &self.ids().len()).finish()
    }
}

/// An id that a client showed.
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) by_cookie: bool,
    /// Whether it was spelt as the container spells it.
    pub(super) exact: bool,
}

/// How one container spells JSESSIONID.
#[derive(Debug)]
pub(super) struct Spelling {
    suffix: String,
    jetty: bool,
    path: String,
}

impl Spelling {
    pub(super) fn new(options: &SimOptions, default_path: &str) -> Self {
        let route = options.route.as_deref().or_else(|| options.jetty.then_some("node0"));
        Self {
            suffix: route.map_or_else(String::new, |route| format!(".{route}")),
            jetty: options.jetty,
            path: options.cookie_path.clone().unwrap_or_else(|| default_path.to_owned()),
        }
    }

    /// Whether ids are good for every application of the host: the cookie's Path is `/`.
    pub(super) fn host_wide(&self) -> bool {
        self.path == "/"
    }

    pub(super) fn issue(&self, visit: &mut Visit<'_>) -> String {
        if self.jetty {
            return format!("node0{}", visit.ids.text(26, "0123456789abcdefghijklmnopqrstuvwxyz"));
        }
        format!("{}{}", visit.ids.upper_hex(32), self.suffix)
    }

    /// All cookies of that name; the path parameter only where there is none, even if none of them is known
    /// (Tomcat's `CoyoteAdapter`; Jetty does the same).
    pub(super) fn shown(&self, visit: &Visit<'_>) -> Vec<Shown> {
        let cookies = || visit.ask.cookies.iter().filter(|(name, _)| name == "JSESSIONID");
        let path = visit.ask.path_param("jsessionid").filter(|_| cookies().next().is_none());
        let all = cookies().map(|(_, v)| (v.as_str(), true)).chain(path.map(|v| (v, false)));
        let shown = |(value, by_cookie): (&str, bool)| {
            let id = if self.jetty { value.split('.').next().unwrap_or_default() } else { value };
            let exact = !self.jetty || value.strip_prefix(id) == Some(self.suffix.as_str());
            Shown { id: id.to_owned(), by_cookie, exact }
        };
        all.map(shown).collect()
    }

    /// The id with the suffix that cookies have.
    pub(super) fn long(&self, id: &str) -> String {
        if self.jetty { format!("{id}{}", self.suffix) } else { id.to_owned() }
    }

    pub(super) fn set(&self, visit: &mut Visit<'_>, id: &str) {
        if self.jetty {
            visit.set_cookie(format!("JSESSIONID={}; Path={}", self.long(id), self.path));
            visit.headers.push(("expires", "Thu, 01 Jan 1970 00:00:00 GMT".to_owned()));
        } else {
            visit.set_cookie(format!("JSESSIONID={id}; Path={}; HttpOnly", self.path));
        }
    }
}
