//! A real engine as a child process: started by its `start` script, ended with this process whatever happens to it.
//!
//! Invariant: an engine that `Engine::start` returned has answered a request.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Browser, START, fetched, wait_at_most, work_folder};
use crate::walks::{App, Site};

/// Runs the engine until it ends, or until our end of the pipe is closed: that happens with this process, however it ends,
/// and Rust drops no statics. Then the work folder goes too.
const KEEPER: &str = r#"
    work=$1; shift; exec 3<&0
    "$@" 3<&- & engine=$!
    { cat <&3; kill $engine; while kill -0 $engine; do sleep 0.1; done; rm -rf "$work"; } >/dev/null 2>&1 &
    wait $engine"#;
/// How often another port is tried.
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
        self.work = work_folder(self.site.folder).keep();
        self.launch().unwrap_or_else(|said| panic!("{} does not start again:\n{said}", self.site.name));
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
        let mut child = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.work)
            .arg(folder.join("start"))
            .arg(fetched(self.site.folder))
            .arg(&self.work)
            .args([self.ports[0].to_string(), self.variant.clone()])
            .env("PORT_B", self.ports[1].to_string())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        self.running = Some(Running { child, input });
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

impl Drop for Running {
    fn drop(&mut self) {
        // The end of its input ends the keeper, which ends the engine.
        self.input = None;
        let _ = self.child.wait();
    }
}

/// A port that nobody had a moment ago.
pub(crate) fn free_port() -> u16 {
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    address.port()
}
