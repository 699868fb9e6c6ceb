//! The command `check --live`: all apps probed at once, and what was found.
//!
//! Invariant: it binds nothing and serves nobody; whatever ends it, what is known by then is told.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};

use super::core::Core;
use super::probing;
use crate::clock::Clock;
use crate::config::Config;
use crate::findings::{Findings, Found};
use crate::net::upstream::Dialer;
use crate::probe::{Options, Said};
use crate::telemetry::access::AccessLog;

/// Sessions of apps with a longer timeout are not waited for by somebody at a terminal.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// Requests under way at once.
const TURNS: usize = 32;

/// How thoroughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Without what waits for sessions to die.
    Quick,
    /// With it.
    Full,
    /// And the apps' own timeouts.
    Measure,
}

impl Depth {
    const fn options(self) -> Options {
        let longest = match self {
            Self::Quick => Duration::ZERO,
            Self::Full | Self::Measure => LONGEST,
        };
        Options { longest, measure: matches!(self, Self::Measure) }
    }
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Live {
    /// By app, in the order of reports.
    pub found: Vec<Found>,
    /// True where Ctrl-C came first.
    pub interrupted: bool,
}

/// Probes all apps of `config` and tells `progress` lines of what is going on. Ctrl-C ends it early.
///
/// # Errors
/// Where no runtime can be started.
pub fn check(config: &Config, depth: Depth, progress: impl FnMut(&str)) -> io::Result<Live> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let core = Core::new(config.clone(), Clock::system(), AccessLog::off());
    let interrupted = async {
        // Where the signal cannot be listened to, it ends the process as it always did.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Ok(LocalSet::new().block_on(&runtime, all(&core, Dialer::Sockets, depth, (progress, interrupted))))
}

/// Probes all apps of `core` until all is known or `interrupted` is ready. Must run in a `LocalSet`.
pub async fn all(
    core: &Core,
    dialer: Dialer,
    depth: Depth,
    (mut progress, interrupted): (impl FnMut(&str), impl Future<Output = ()>),
) -> Live {
    let (prober, options) = (Rc::new(probing::prober(core, dialer, TURNS)), depth.options());
    let (to, said) = unbounded_channel();
    let setting = core.setting();
    let takes = setting.routes().iter().map(|route| prober.takes(route.rules.app, options)).max();
    let takes = takes.filter(|takes| !takes.is_zero());
    progress(&takes.map_or_else(
        || "asking the apps ...".to_owned(),
        |takes| format!("this takes {} at the most; Ctrl-C ends it with what is known by then", shown(takes)),
    ));
    let mut probes = JoinSet::new();
    for route in setting.routes() {
        let (prober, to, app) = (Rc::clone(&prober), to.clone(), route.rules.app);
        probes.spawn_local(async move { prober.app(app, options, &to).await });
    }
    drop(to);
    let findings = Findings::default();
    tokio::select! {
        () = listen(core, said, &findings, &mut progress) => Live { found: findings.all(), interrupted: false },
        () = interrupted => Live { found: findings.all(), interrupted: true },
    }
}

async fn listen(
    core: &Core,
    mut said: UnboundedReceiver<Said>,
    findings: &Findings,
    progress: &mut impl FnMut(&str),
) {
    let setting = core.setting();
    let name = |app| setting.route(app).map_or("", |route| &route.rules.name);
    while let Some(said) = said.recv().await {
        match said {
            Said::Found(found) => {
                findings.put(found);
            }
            Said::Waits { app, at_most, until } => {
                progress(&format!("{}: {} at the most until {until}", name(app), shown(at_most)));
            }
        }
    }
}

/// Whole seconds.
fn shown(span: Duration) -> String {
    humantime::format_duration(Duration::from_secs(span.as_secs().max(1))).to_string()
}
