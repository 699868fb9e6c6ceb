//! What a page is made from, for who writes pages of another look.
//!
//! Invariant: no id is in it.

use super::{SessionView, visit::Visit};

/// Writes a page.
pub type Skin = fn(&Look<'_>) -> String;

/// A page to be written.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// What the application calls itself.
    pub name: &'a str,
    /// The public path of the application, with a slash at both ends.
    pub mount: &'a str,
    /// The stem of the page.
    pub page: &'a str,
    /// The time, in unix milliseconds.
    pub now: u64,
    /// The session in hand; `None` where the page ended it.
    pub session: Option<SessionView>,
    /// Whether this request began it.
    pub fresh: bool,
}

impl<'a> Look<'a> {
    pub(super) fn of(visit: &'a Visit<'_>) -> Self {
        Self {
            name: &visit.options.name,
            mount: &visit.options.mount,
            page: visit.ask.page.as_deref().unwrap_or_default(),
            now: visit.now,
            session: visit.session().map(|session| session.view()),
            fresh: visit.fresh,
        }
    }
}
