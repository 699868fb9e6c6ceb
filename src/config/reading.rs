//! Which files a config was made from, so that it is known when to read it anew.
//!
//! Invariant: of what is in a file only a hash is kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use super::vars::Outside;

/// What was read besides the process's own environment: also of a config that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Each file, and a hash of what was in it; `None`: it could not be read.
    files: BTreeMap<PathBuf, Option<u64>>,
    /// Directories of which the names of files mattered.
    directories: BTreeSet<PathBuf>,
}

impl Sources {
    /// The files, by the paths under which they were looked for.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Directories whose files were looked through.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(PathBuf::as_path)
    }
}

/// An [`Outside`] that takes down what it was asked for.
pub(super) struct Recorder<'a> {
    inner: &'a dyn Outside,
    sources: RefCell<Sources>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(inner: &'a dyn Outside) -> Self {
        Self { inner, sources: RefCell::default() }
    }

    pub(super) fn into_sources(self) -> Sources {
        self.sources.into_inner()
    }
}

impl Outside for Recorder<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.inner.variable(name)
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        let read = self.inner.file(path);
        let hash = read.as_ref().ok().map(|text| {
            let mut hasher = std::hash::DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        });
        self.sources.borrow_mut().files.insert(absolute(path), hash);
        read
    }

    fn names(&self, directory: &Path) -> Vec<OsString> {
        self.sources.borrow_mut().directories.insert(absolute(directory));
        self.inner.names(directory)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
