//! A new binary takes over from a running one (SIGUSR2): the old process starts its successor, gives it all listening
//! sockets and a channel, lets go of the store when the successor asks for it, and ends when it says that it serves.
//!
//! | old process | says | new process |
//! |---|---|---|
//! | starts the binary at its own path | | reads its config, takes the sockets |
//! | | `taken` → | |
//! | accepts no more, waits for what is in flight, lets go of the store | | waits |
//! | | ← `released` | |
//! | | | opens the store, serves |
//! | | `serving` → | |
//! | ends what it still has, then itself | closes the channel | tells systemd |
//!
//! Invariant: at every moment one of the two holds every listening socket, so no connection is refused or reset: what comes
//! in between waits in the kernel. Until the successor serves the old process can go on as if nothing had happened, and does
//! so whatever becomes of the successor; the two never have the store, or send heartbeats, at the same time.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::notify;
use crate::net::drain::Drainer;
use crate::net::inherit;

/// How long a successor may take from its start until it serves.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long requests in flight are waited for before the store is let go of. Connections wait in the kernel so long.
const QUIET: Duration = Duration::from_secs(3);
/// How long a successor that has closed its channel may take to end by itself, so that its exit can be told.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// How long the old process is waited for; it gives up before.
const PREDECESSOR: Duration = Duration::from_secs(60);

const TAKEN: u8 = b't';
const RELEASED: u8 = b'r';
const SERVING: u8 = b's';

type Hook = Box<dyn FnMut() -> io::Result<()> + Send>;

/// What lets go of what only one process can have, and takes it again.
pub struct Hooks {
    /// Called when nothing is accepted any more, and nothing in flight or some seconds have gone by.
    pub release: Hook,
    /// Called after `release` where the successor failed.
    pub retake: Hook,
}

/// What started this process, as it is started again.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
}

/// Hands over, as often as it is tried.
#[derive(Debug)]
pub struct Handover {
    program: Program,
    sockets: Vec<OwnedFd>,
    drainer: Drainer,
    hooks: Hooks,
}

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// No process could be started.
    #[error("{program} cannot be started")]
    Start {
        /// The binary.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The successor ended.
    #[error("the new process ended before it was {due}: {status}")]
    Ended {
        /// What was waited for.
        due: &'static str,
        /// How.
        status: ExitStatus,
    },
    /// It took too long.
    #[error("within {PATIENCE:?} the new process was not {due}, and was ended")]
    Late {
        /// What was waited for.
        due: &'static str,
    },
    /// This process is told to stop.
    #[error("this process is to stop, so the new one was ended as well")]
    Stopped,
    /// The hook.
    #[error("the store cannot be let go of")]
    Release(#[source] io::Error),
    /// The channel, or the process.
    #[error("the new process cannot be spoken with")]
    Channel(#[from] io::Error),
}

impl Default for Hooks {
    fn default() -> Self {
        Self { release: Box::new(|| Ok(())), retake: Box::new(|| Ok(())) }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

impl Program {
    /// This process's. To be asked for at the start: by the time of a hand-over the file may be another one.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let path = locate(Path::new(&name)).or_else(|| std::env::current_exe().ok());
        Self { path: path.unwrap_or_else(|| PathBuf::from(&name)), name, arguments: arguments.collect() }
    }
}

/// Where the shell has found `name`. A symbolic link stays one: an upgrade may point it elsewhere.
fn locate(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 || name.is_absolute() {
        return std::path::absolute(name).ok();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

impl Handover {
    /// From this process, whose listening sockets are `sockets`, to `program`.
    #[must_use]
    pub const fn new(program: Program, sockets: Vec<OwnedFd>, drainer: Drainer, hooks: Hooks) -> Self {
        Self { program, sockets, drainer, hooks }
    }

    /// Lets go of the sockets: a drain closes them.
    pub fn close(&mut self) {
        self.sockets.clear();
    }

    /// Starts a successor and hands over to it; returns its process id. Ends early when `stop` is notified.
    ///
    /// # Errors
    /// See [`HandoverError`]. Then this process serves on.
    pub async fn run(&mut self, stop: &Notify) -> Result<u32, HandoverError> {
        let mut successor = Successor::start(&self.program, &self.sockets)?;
        let mut gave = Gave::Nothing;
        match self.lead(&mut successor, &mut gave, stop).await {
            Ok(()) => {
                let pid = successor.child.id();
                notify::main_pid(pid);
                tracing::info!(pid, "the new process serves; this one ends what it still has");
                self.close();
                // With this the process may end at any moment.
                self.drainer.pass_on();
                Ok(pid)
            }
            Err(why) => {
                successor.end();
                self.go_on(gave);
                Err(why)
            }
        }
    }

    async fn lead(
        &mut self,
        successor: &mut Successor,
        gave: &mut Gave,
        stop: &Notify,
    ) -> Result<(), HandoverError> {
        successor.says(TAKEN, "ready to take over", stop).await?;
        *gave = Gave::Accepting;
        self.drainer.hold();
        if timeout_at(successor.end, self.drainer.closed()).await.is_err() {
            return Err(HandoverError::Late { due: "given the connections" });
        }
        if timeout(QUIET, self.drainer.quiet()).await.is_err() {
            tracing::info!("some requests in flight take longer: they are finished without the store");
        }
        *gave = Gave::Store;
        (self.hooks.release)().map_err(HandoverError::Release)?;
        // Where nobody reads it, no answer comes.
        let _ = successor.channel.write_all(&[RELEASED]).await;
        successor.says(SERVING, "serving", stop).await
    }

    fn go_on(&mut self, gave: Gave) {
        if gave == Gave::Store
            && let Err(error) = (self.hooks.retake)()
        {
            tracing::error!(%error, "the store cannot be taken again: sessions go on in memory, new ones are refused");
        }
        self.drainer.resume();
    }
}

/// What was let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gave {
    Nothing,
    Accepting,
    Store,
}

/// A process that is to take over.
struct Successor {
    child: Child,
    channel: tokio::net::UnixStream,
    /// Until when it must serve.
    end: Instant,
}

impl Successor {
    fn start(program: &Program, sockets: &[OwnedFd]) -> Result<Self, HandoverError> {
        let mut command = Command::new(&program.path);
        // The watchdog's limit holds for it, too, and names this process.
        command.arg0(&program.name).args(&program.arguments).env_remove("WATCHDOG_PID");
        let channel = inherit::pass_on(&mut command, sockets)?;
        channel.set_nonblocking(true)?;
        let channel = tokio::net::UnixStream::from_std(channel)?;
        let started = command.spawn();
        let child =
            started.map_err(|source| HandoverError::Start { program: program.path.clone(), source })?;
        tracing::info!(pid = child.id(), program = %program.path.display(), "handing over to a new process");
        Ok(Self { child, channel, end: Instant::now() + PATIENCE })
    }

    async fn says(&mut self, word: u8, due: &'static str, stop: &Notify) -> Result<(), HandoverError> {
        let mut said = [0];
        let read = tokio::select! {
            read = timeout_at(self.end, self.channel.read(&mut said)) => read,
            () = stop.notified() => return Err(HandoverError::Stopped),
        };
        match read {
            Err(_) => Err(HandoverError::Late { due }),
            Ok(Ok(1)) if said == [word] => Ok(()),
            Ok(_) => Err(HandoverError::Ended { due, status: self.status().await? }),
        }
    }

    /// How it ended; one that lives on with its channel closed is ended.
    async fn status(&mut self) -> io::Result<ExitStatus> {
        let end = Instant::now() + LAST_BREATH;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(LAST_BREATH / 100).await;
        }
        self.child.kill()?;
        self.child.wait()
    }

    /// Ends it, if it has not ended: what it has taken is free after that.
    fn end(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::error!(%error, "the new process cannot be ended");
        }
    }
}

/// What leads to the process that this one takes over from.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

impl Predecessor {
    pub(super) const fn new(channel: UnixStream) -> Self {
        Self(channel)
    }

    /// Says that this process can serve but for the store, and returns when the store is free. A predecessor that is gone
    /// has no store.
    pub(super) fn let_go(&mut self) -> io::Result<()> {
        self.0.set_read_timeout(Some(PREDECESSOR))?;
        // One that does not hear it is gone, which reading tells.
        let _ = self.0.write_all(&[TAKEN]);
        let mut said = [0];
        match self.0.read(&mut said)? {
            0 => tracing::warn!("the process that handed over is gone"),
            _ if said == [RELEASED] => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    /// Says that this process serves, and returns when it is the service.
    pub(super) fn retire(mut self) {
        let _ = self.0.write_all(&[SERVING]);
        // It ends with the channel, or is gone, or takes too long: this process serves whatever comes.
        let _ = self.0.read(&mut [0]);
    }
}

#[cfg(test)]
mod tests;
