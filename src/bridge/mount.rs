//! Where an app stands in the public URL space, and the way between the public paths and the app's own.
//!
//! Public paths are what browsers see and what the config says. They differ from the app's own only under `strip_path`.

use std::borrow::Cow;

/// The public path prefix of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// With a slash at both ends: `/AppA/`, or `/`.
    prefix: Box<str>,
    strip: bool,
    case_insensitive: bool,
}

impl Mount {
    /// For `path` of the config; a missing slash at the end is added.
    #[must_use]
    pub fn new(path: &str, strip: bool, case_insensitive: bool) -> Self {
        let trimmed = path.trim_matches('/');
        let prefix = if trimmed.is_empty() { "/".into() } else { format!("/{trimmed}/").into_boxed_str() };
        Self { prefix, strip, case_insensitive }
    }

    /// The public prefix with a slash at both ends.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The prefix without the slash at its end (`/` stays): the `Path` of a cookie that covers the whole app, `/AppA` itself
    /// included (RFC 6265 5.1.4).
    #[must_use]
    pub fn cookie_path(&self) -> &str {
        if self.prefix.len() == 1 { &self.prefix } else { &self.prefix[..self.prefix.len() - 1] }
    }

    /// True where the app does not see the prefix.
    #[must_use]
    pub const fn strips(&self) -> bool {
        self.strip
    }

    /// True where the app takes `/appa/` for `/AppA/`.
    #[must_use]
    pub const fn is_case_insensitive(&self) -> bool {
        self.case_insensitive
    }

    /// True where the public `path` belongs to the app, `/AppA` itself included.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.split(path).is_some()
    }

    /// The public `path` as the app sees it.
    #[must_use]
    pub fn to_app<'a>(&self, path: &'a str) -> Cow<'a, str> {
        match self.split(path) {
            Some(rest) if self.strip && self.prefix.len() > 1 => {
                if rest.starts_with('/') {
                    Cow::Borrowed(rest)
                } else {
                    Cow::Owned(format!("/{rest}"))
                }
            }
            _ => Cow::Borrowed(path),
        }
    }

    /// A path that the app named, as browsers must ask for it.
    #[must_use]
    pub fn to_public<'a>(&self, path: &'a str) -> Cow<'a, str> {
        if self.strip && self.prefix.len() > 1 && path.starts_with('/') {
            return Cow::Owned(format!("{}{path}", self.cookie_path()));
        }
        Cow::Borrowed(path)
    }

    /// What follows the mount in the public `path`: begins with the slash, or is empty for `/AppA` itself.
    fn split<'a>(&self, path: &'a str) -> Option<&'a str> {
        let bare = self.prefix.len() - 1;
        let (head, rest) = (path.get(..bare)?, path.get(bare..)?);
        let same = if self.case_insensitive {
            head.eq_ignore_ascii_case(&self.prefix[..bare])
        } else {
            head == &self.prefix[..bare]
        };
        (same && (rest.is_empty() || rest.starts_with('/'))).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_name_belongs_to_the_app_and_a_longer_one_does_not() {
        let mount = Mount::new("/AppA/", false, false);
        assert!(mount.contains("/AppA"));
        assert!(mount.contains("/AppA/x"));
        assert!(!mount.contains("/AppAB/x"));
        assert!(!mount.contains("/appa/x"));
        assert!(Mount::new("AppA", false, true).contains("/appa/x"));
        assert!(Mount::new("", false, false).contains("/anything"));
    }

    #[test]
    fn strip_path_takes_the_prefix_off_and_puts_it_back() {
        let mount = Mount::new("/AppA/", true, false);
        assert_eq!(mount.to_app("/AppA/x/y"), "/x/y");
        assert_eq!(mount.to_app("/AppA"), "/");
        assert_eq!(mount.to_public("/x/y"), "/AppA/x/y");
        assert_eq!(mount.to_public("/"), "/AppA/");
        assert_eq!(mount.to_public("x"), "x");
        assert_eq!(mount.cookie_path(), "/AppA");
    }

    #[test]
    fn without_strip_path_both_sides_see_the_same() {
        let mount = Mount::new("/AppA/", false, false);
        assert_eq!(mount.to_app("/AppA/x"), "/AppA/x");
        assert_eq!(mount.to_public("/AppA/x"), "/AppA/x");
        assert_eq!(Mount::new("/", true, false).to_app("/x"), "/x");
    }
}
