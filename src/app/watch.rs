//! Notices that a file of the config may have changed: by the system's word, and by looking from time to time.
//!
//! Directories are watched, not files: editors put a new file in the place of the old one, and Kubernetes swaps a link above it.
//! Invariant: what is missed by the one way is noticed by the other, seconds later; whether a change is one, only reading tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

use crate::config::Sources;

/// Nothing is read before it was quiet for so long: whoever writes one file often writes another.
const QUIET: Duration = Duration::from_millis(250);
/// But for no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often somebody looks, whatever the system says.
const POLL: Duration = Duration::from_secs(5);
/// Links that are followed, one to the next.
const LINKS: usize = 16;

/// What is looked at.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None`: the system does not tell.
    watcher: Option<RecommendedWatcher>,
    events: UnboundedReceiver<Vec<PathBuf>>,
    poll: Duration,
    sources: Sources,
    /// Directories that the system was asked to tell about, and which ones they were then.
    directories: BTreeMap<PathBuf, Option<Stamp>>,
    /// The files, by all the names that their links give them.
    files: BTreeSet<PathBuf>,
    stamps: Vec<Option<Stamp>>,
}

/// What tells one state of a file or directory from another, as far as that can be seen without reading.
type Stamp = (u64, u64, u64, i64, i64);

impl Watch {
    /// Looks at nothing yet.
    pub(super) fn new() -> Self {
        Self::every(POLL)
    }

    fn every(poll: Duration) -> Self {
        let (to, events) = unbounded_channel();
        let tell = move |event: notify::Result<Event>| {
            if let Some(event) = event.ok().filter(is_change) {
                // Nobody listens any more where this fails.
                let _ = to.send(event.paths);
            }
        };
        let watcher = notify::recommended_watcher(tell);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "the system does not tell of changed files: the config is looked at every {poll:?}");
        }
        Self {
            watcher: watcher.ok(),
            events,
            poll,
            sources: Sources::default(),
            directories: BTreeMap::new(),
            files: BTreeSet::new(),
            stamps: Vec::new(),
        }
    }

    /// Looks at `sources` from now on.
    pub(super) fn look_at(&mut self, sources: &Sources) {
        self.sources = sources.clone();
        self.ask();
        self.stamps = self.stamps_now();
    }

    /// Ready when something may have changed, and it has been quiet since.
    pub(super) async fn changed(&mut self) {
        loop {
            let mut named = false;
            tokio::select! {
                Some(paths) = self.events.recv() => {
                    named = self.names(&paths);
                    let until = Instant::now() + PATIENCE;
                    while let Ok(Some(paths)) = timeout(QUIET, self.events.recv()).await {
                        named |= self.names(&paths);
                        if Instant::now() >= until {
                            break;
                        }
                    }
                }
                () = sleep(self.poll) => {}
            }
            // Without the system's word a file may change twice between two looks, and look the same.
            if named || self.watcher.is_none() || self.stamps_now() != self.stamps {
                self.ask();
                self.stamps = self.stamps_now();
                return;
            }
        }
    }

    /// True where one of `paths` is a file of the config's.
    fn names(&self, paths: &[PathBuf]) -> bool {
        paths.iter().any(|path| self.files.contains(path))
    }

    fn stamps_now(&self) -> Vec<Option<Stamp>> {
        self.sources.files().chain(self.sources.directories()).map(stamp).collect()
    }

    /// Asks the system to tell about all directories in which something could change.
    fn ask(&mut self) {
        let (mut directories, mut files) = (BTreeSet::new(), BTreeSet::new());
        for directory in self.sources.directories() {
            steps(directory, &mut directories, &mut files);
            directories.insert(directory.to_owned());
        }
        for file in self.sources.files() {
            steps(file, &mut directories, &mut files);
        }
        self.files = files;
        let Some(watcher) = &mut self.watcher else { return };
        self.directories.retain(|known, _| {
            let stays = directories.contains(known);
            if !stays {
                // It may be gone by itself.
                let _ = watcher.unwatch(known);
            }
            stays
        });
        for directory in directories {
            let now = stamp(&directory).map(|(device, inode, ..)| (device, inode, 0, 0, 0));
            if now.is_none() || self.directories.get(&directory) == Some(&now) {
                continue;
            }
            // Another one may stand in the old one's place, which is no longer told about.
            let _ = watcher.unwatch(&directory);
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.directories.insert(directory, now);
                }
                Err(error) => {
                    let directory = directory.display();
                    tracing::warn!(%directory, %error, "a directory is not watched: it is looked at every {POLL:?}");
                }
            }
        }
    }
}

/// True for what may have changed a file: reading one is told of as well. Linux tells of each write, and again when the writer
/// is done, which is soon enough: a log that lies beside the config is written some hundred times a second.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Data(_)) => !cfg!(target_os = "linux"),
        _ => true,
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let of = |data: Metadata| (data.dev(), data.ino(), data.len(), data.mtime(), data.mtime_nsec());
    std::fs::metadata(path).ok().map(of)
}

/// The directories in which something decides what is at `path`: its own, and that of each link on the way. And the names there.
fn steps(path: &Path, directories: &mut BTreeSet<PathBuf>, names: &mut BTreeSet<PathBuf>) {
    let (mut left, mut path) = (LINKS, path.to_owned());
    'again: while left > 0 {
        left -= 1;
        let mut walked = PathBuf::new();
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            if matches!(part, Component::ParentDir) {
                walked.pop();
                continue;
            }
            walked.push(part);
            let Ok(target) = std::fs::read_link(&walked) else { continue };
            names.insert(walked.clone());
            walked.pop();
            directories.insert(walked.clone());
            path = walked.join(target).join(parts.as_path());
            continue 'again;
        }
        names.insert(walked.clone());
        directories.extend(walked.parent().map(Path::to_owned));
        return;
    }
}

#[cfg(test)]
mod tests;
