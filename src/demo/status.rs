//! One quiet line on a terminal that says how the demo is doing.
//!
//! Invariant: the line is cleared when it ends, so that the shell's prompt stands where it should.

use std::io::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::sim::server::SimHandle;
use super::view::{self, Asker, State};
use crate::app::core::Core;

/// How often the line is written anew.
const EVERY: Duration = Duration::from_secs(1);

/// The line, until dropped.
#[derive(Debug)]
pub(super) struct Line {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, which its own message has said.
            let _ = thread.join();
        }
    }
}

/// Writes the line every second. Where there is no thread to be had there is no line.
pub(super) fn spawn(apps: [SimHandle; 2], core: Core) -> Line {
    let (stop, stopped) = mpsc::channel();
    let work = move || {
        while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            write(&format!("\r\x1b[2K  {}", text(&view::state(&apps, Some(&core), Asker::default()))));
        }
        write("\r\x1b[2K");
    };
    let thread = std::thread::Builder::new().name("status".to_owned()).spawn(work).ok();
    Line { stop: Some(stop), thread }
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    // A terminal that is gone needs no line.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What the line says.
fn text(state: &State) -> String {
    let apps: Vec<String> = state.apps.iter().filter_map(|app| app.in_a_word(state.now)).collect();
    if apps.is_empty() { "Nobody is here yet.".to_owned() } else { apps.join("   ") }
}
