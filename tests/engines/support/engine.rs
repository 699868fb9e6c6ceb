//! A real engine as a child process: started by its `start` script, ended with this process whatever happens to it.
//!
//! Invariant: an engine that `Engine::start` returned has answered a request.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Browser, START, fetched, wait_at_most, wait_until, work_folder};
use crate::walks::{App, Site};

/// Runs the engine, in a process group of its own, until it ends, or until our end of the pipe is closed: that happens with
/// this process, however it ends, and Rust drops no statics. Then the engine is asked to end, has `$2` seconds for it, and
/// nothing of its group is left after that; the work folder goes too. What a terminal sends to all is not for the keeper.
const KEEPER: &str = r#"
    trap '' HUP INT QUIT
    work=$1 grace=$2; shift 2; exec 3<&0
    setsid "$@" </dev/null 3<&- & engine=$!
    {
        gone() {
            tenths=$1
            while [ ! -e "$work/.gone" ] && [ $tenths -gt 0 ]; do sleep 0.1; tenths=$((tenths - 1)); done
            [ -e "$work/.gone" ]
        }
        cat <&3
        [ -e "$work/.gone" ] || kill -s TERM $engine
        gone $((grace * 10)) || { kill -s KILL -- -$engine; gone 50; }
        rm -rf "$work"
    } >/dev/null 2>&1 &
    exec 3<&-
    wait $engine
    kill -s KILL -- -$engine 2>/dev/null
    : >"$work/.gone""#;
/// How long an engine that is asked to end may take, in seconds.
const GRACE: u32 = 20;
/// How often a start is tried.
const TRIES: usize = 3;

/// A running engine. Dropped, it is ended.
pub(crate) struct Engine {
    site: &'static Site,
    variant: String,
    ports: [u16; 2],
    work: PathBuf,
    running: Option<Running>,
}

struct Running {
    child: Child,
    input: Option<ChildStdin>,
}

impl Engine {
    /// Starts the engine of `site` as it is there, with the variant of the site.
    pub(crate) fn start(site: &'static Site) -> Self {
        Self::start_as(site, site.variant)
    }

    /// Starts another variant of the engine.
    pub(crate) fn start_as(site: &'static Site, variant: &str) -> Self {
        for attempt in 1.. {
            let mut engine = Self {
                site,
                variant: variant.to_owned(),
                ports: [free_port(), free_port()],
                work: work_folder(site.folder).keep(),
                running: None,
            };
            match engine.launch() {
                Ok(()) => return engine,
                // Somebody else may have taken the port meanwhile.
                Err(said) => assert!(attempt < TRIES, "{} does not start:\n{said}", site.name),
            }
        }
        unreachable!("the loop returns or fails")
    }

    /// Ends it; what listens at its ports afterwards is nobody.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it anew at the same ports, in an empty work folder: every session is lost.
    pub(crate) fn restart(&mut self) {
        self.stop();
        for attempt in 1.. {
            // Somebody else may have one of them meanwhile: a connection of another test that comes from there.
            wait_until("the ports to be free again", || {
                self.ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            });
            self.work = work_folder(self.site.folder).keep();
            match self.launch() {
                Ok(()) => return,
                Err(said) => assert!(attempt < TRIES, "{} does not start again:\n{said}", self.site.name),
            }
        }
    }

    /// Where `app` is reached without the bridge: `http://127.0.0.1:PORT`.
    pub(crate) fn origin(&self, app: App) -> String {
        let own = usize::from(app == App::B && self.site.own_ports);
        format!("http://127.0.0.1:{}", self.ports[own])
    }

    /// Address of a page of `app` without the bridge.
    pub(crate) fn url(&self, app: App, page: &str) -> String {
        format!("{}{}", self.origin(app), self.site.page(app, page))
    }

    fn launch(&mut self) -> Result<(), String> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/engines").join(self.site.folder);
        let output = self.work.join("output.log");
        let log = File::create(&output).unwrap();
        let mut command = keeper(&self.work, GRACE);
        command
            .arg(folder.join("start"))
            .arg(fetched(self.site.folder))
            .arg(&self.work)
            .args([self.ports[0].to_string(), self.variant.clone()])
            .env("PORT_B", self.ports[1].to_string())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.running = Some(Running::spawn(&mut command));
        self.wait_ready().map_err(|why| {
            let said = fs::read_to_string(&output).unwrap_or_default();
            self.running = None;
            format!("{why}\n{said}")
        })
    }

    /// Until both apps answer, or the engine has given up.
    fn wait_ready(&mut self) -> Result<(), String> {
        for url in [App::A, App::B].map(|app| self.url(app, "quiet")) {
            let mut gone = false;
            wait_at_most(START, &format!("{} to answer at {url}", self.site.name), || {
                gone =
                    self.running.as_mut().is_none_or(|running| running.child.try_wait().unwrap().is_some());
                gone || Browser::new().try_get(&url).is_some_and(|answer| answer.status == 200)
            });
            if gone {
                return Err("it ended by itself".to_owned());
            }
        }
        Ok(())
    }
}

impl Running {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        Self { child, input }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The end of its input ends the keeper, which ends the engine within its grace.
        self.input = None;
        let _ = self.child.wait();
    }
}

/// A keeper in front of a command, whose arguments are to follow.
fn keeper(work: &Path, grace: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER, "keeper"]).arg(work).arg(grace.to_string());
    command
}

/// A port that nobody had a moment ago.
pub(crate) fn free_port() -> u16 {
    // Below those that connections get: whoever is stopped for a while finds its port free again.
    loop {
        let port = 10_000 + (RandomState::new().build_hasher().finish() % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Neither an engine that does not hear, nor what it started, outlives its keeper.
#[test]
fn a_hung_engine_is_killed_with_all_it_started() {
    const HUNG: &str = r#"trap "" TERM; sleep 1000 & echo $$ $! >"$1/new"; mv "$1/new" "$1/pids"; wait"#;
    let work = work_folder("hung").keep();
    let engine = Running::spawn(keeper(&work, 1).args(["sh", "-c", HUNG, "hung"]).arg(&work));
    wait_until("the engine to hang", || work.join("pids").exists());
    let pids = fs::read_to_string(work.join("pids")).unwrap();
    drop(engine);
    for pid in pids.split_whitespace() {
        // A dead process may wait for whoever inherits it, as a zombie.
        let lives =
            || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        wait_until("the engine's processes to be gone", || !lives());
    }
    wait_until("the work folder to be gone", || !work.exists());
}
