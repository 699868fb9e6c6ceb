//! The access log: each thread formats its own lines, one thread writes them all.
//!
//! Invariant: a request never waits for the disk. A batch that the writing thread has no room for is dropped
//! and its lines are counted; a line is written whole or not at all, as long as the file takes what it is
//! given.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::line::{Line, Lines};
use super::log::{Access, LogError, LogOptions};

/// Bytes after which a sink hands its lines on by itself: each time another thread is woken, often on the core that serves.
const BATCH: usize = 64 * 1024;
/// Batches that may wait for the writing thread: 4 MiB, some tenths of a second of a busy proxy.
const QUEUE: usize = 64;

/// The access log, open. Cheap to clone; it is written until [`AccessLog::close`].
#[derive(Clone, Debug)]
pub struct AccessLog {
    json: bool,
    /// `None`: it is off.
    queue: Option<SyncSender<Batch>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    reopen: AtomicBool,
    closing: AtomicBool,
}

/// Whole lines. One without any wakes the writing thread.
#[derive(Debug, Default)]
struct Batch {
    text: Vec<u8>,
    lines: u64,
}

/// The end of the log's thread.
#[derive(Debug)]
pub struct Writing(Option<Receiver<()>>);

impl AccessLog {
    /// Opens the log that `options` names and starts its thread.
    ///
    /// # Errors
    /// Where its file cannot be opened for appending or the thread cannot be started.
    pub fn open(options: &LogOptions) -> Result<(Self, Writing), LogError> {
        let (target, terminal) = match &options.access {
            Access::Off => return Ok((Self::off(), Writing(None))),
            Access::Stdout => (Target::Stdout, stdout().is_terminal()),
            Access::File(path) => (Target::open(path)?, false),
        };
        let (queue, batches) = sync_channel(QUEUE);
        let (end, ended) = sync_channel(0);
        let shared = Arc::<Shared>::default();
        let writer = Writer { target, shared: Arc::clone(&shared), failing: false, _end: end };
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        thread.spawn(move || writer.run(&batches)).map_err(LogError::Thread)?;
        Ok((
            Self { json: options.format.is_json(terminal), queue: Some(queue), shared },
            Writing(Some(ended)),
        ))
    }

    /// A log that takes lines and writes none.
    #[must_use]
    pub fn off() -> Self {
        Self { json: true, queue: None, shared: Arc::default() }
    }

    /// For one thread to write its lines to.
    #[must_use]
    pub fn sink(&self) -> AccessSink {
        AccessSink { log: self.clone(), lines: Lines::new(self.json), batch: Batch::default() }
    }

    /// How many lines were dropped since the start: no room in the queue, or the file did not take them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Opens the file of this name again, after it was moved away. Soon, not at once; standard output stays
    /// as it is.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Writes what has been handed on, then ends. Lines that come later are dropped. False where that takes
    /// longer than `patience` (somebody does not read our standard output).
    pub fn close(&self, writing: &Writing, patience: Duration) -> bool {
        self.shared.closing.store(true, Ordering::Release);
        self.wake();
        let Writing(Some(ended)) = writing else { return true };
        ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }

    /// A full queue needs no waking.
    fn wake(&self) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(Batch::default());
        }
    }

    fn hand_on(&self, batch: Batch) {
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) = queue.try_send(batch) {
            self.shared.dropped.fetch_add(batch.lines, Ordering::Relaxed);
        }
    }
}

/// One thread's end of the access log. Its lines are handed on when they fill 64 KiB, on
/// [`AccessSink::flush`], which the owner calls at least every 100 ms, and when it is dropped.
#[derive(Debug)]
pub struct AccessSink {
    log: AccessLog,
    lines: Lines,
    batch: Batch,
}

impl AccessSink {
    /// Adds a line.
    pub fn write(&mut self, line: &Line<'_>) {
        if self.log.queue.is_none() {
            return;
        }
        if self.batch.text.capacity() == 0 {
            self.batch.text.reserve(BATCH + BATCH / 4);
        }
        self.lines.push(&mut self.batch.text, line);
        self.batch.lines += 1;
        if self.batch.text.len() >= BATCH {
            self.flush();
        }
    }

    /// Hands on what there is. Never waits.
    pub fn flush(&mut self) {
        if self.batch.lines > 0 {
            self.log.hand_on(std::mem::take(&mut self.batch));
        }
    }
}

impl Drop for AccessSink {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What the log's thread has.
struct Writer {
    target: Target,
    shared: Arc<Shared>,
    /// True while the last write has failed: said once.
    failing: bool,
    /// Dropped with the thread, which is what [`AccessLog::close`] waits for.
    _end: SyncSender<()>,
}

impl Writer {
    fn run(mut self, batches: &Receiver<Batch>) {
        while let Ok(batch) = batches.recv() {
            self.write(&batch);
            if self.shared.closing.load(Ordering::Acquire) {
                batches.try_iter().for_each(|batch| self.write(&batch));
                return;
            }
        }
    }

    fn write(&mut self, batch: &Batch) {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            self.reopen();
        }
        if batch.lines == 0 {
            return;
        }
        match self.target.write(&batch.text) {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.shared.dropped.fetch_add(batch.lines, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "the access log cannot be written; its lines are dropped");
                }
            }
        }
    }

    /// Where that fails the old file goes on.
    fn reopen(&mut self) {
        let Target::File(path, _) = &self.target else { return };
        match Target::open(path) {
            Ok(target) => self.target = target,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the access log stays in its old file"
            ),
        }
    }
}

enum Target {
    Stdout,
    File(PathBuf, File),
}

impl Target {
    fn open(path: &Path) -> Result<Self, LogError> {
        let file = append(path).map_err(|source| LogError::Open { path: path.to_owned(), source })?;
        Ok(Self::File(path.to_owned(), file))
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = stdout().lock();
                out.write_all(text)?;
                out.flush()
            }
            Self::File(_, file) => file.write_all(text),
        }
    }
}

/// Addresses and names of pages are for the operator and their group only.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::line::tests::line;
    use super::super::log::Format;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn open(path: &Path) -> (AccessLog, Writing) {
        let access = Access::File(path.to_owned());
        AccessLog::open(&LogOptions { access, format: Format::Json, ..LogOptions::default() }).unwrap()
    }

    #[test]
    fn lines_of_all_threads_arrive_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (log, writing) = open(&path);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let mut sink = log.sink();
                std::thread::spawn(move || (0..500).for_each(|_| sink.write(&line())))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(log.close(&writing, LONG));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((text.lines().count(), log.dropped()), (2000, 0));
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    }

    #[test]
    fn a_file_that_was_moved_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let (log, writing) = open(&path);
        let mut sink = log.sink();
        fs::rename(&path, &moved).unwrap();
        log.reopen();
        sink.write(&line());
        sink.flush();
        assert!(log.close(&writing, LONG));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(fs::read_to_string(&moved).unwrap(), "");
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let (queue, batches) = sync_channel(1);
        let log = AccessLog { json: true, queue: Some(queue), shared: Arc::default() };
        let mut sink = log.sink();
        for _ in 0..3 {
            sink.write(&line());
            sink.write(&line());
            sink.flush();
        }
        assert_eq!(log.dropped(), 4);
        assert_eq!(batches.recv().unwrap().lines, 2);
        drop(batches);
        sink.write(&line());
        drop(sink);
        assert_eq!(log.dropped(), 5);
    }

    #[test]
    fn a_sink_hands_on_by_itself_when_it_is_full() {
        let (queue, batches) = sync_channel(1);
        let log = AccessLog { json: true, queue: Some(queue), shared: Arc::default() };
        let mut sink = log.sink();
        let batch = loop {
            sink.write(&line());
            if let Ok(batch) = batches.try_recv() {
                break batch;
            }
        };
        assert!((BATCH..BATCH + 4096).contains(&batch.text.len()), "{}", batch.text.len());
        assert_eq!(batch.text.iter().filter(|byte| **byte == b'\n').count() as u64, batch.lines);
    }

    #[test]
    fn off_is_quiet() {
        let (log, writing) =
            AccessLog::open(&LogOptions { access: Access::Off, ..LogOptions::default() }).unwrap();
        let mut sink = log.sink();
        sink.write(&line());
        log.reopen();
        assert!(sink.batch.text.is_empty() && log.close(&writing, LONG));
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::File(folder.path().to_owned());
        let error = AccessLog::open(&LogOptions { access, ..LogOptions::default() }).unwrap_err();
        assert!(matches!(error, LogError::Open { .. }));
    }
}
