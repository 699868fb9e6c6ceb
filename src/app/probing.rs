//! Probes in the background of a running proxy: gently, app after app, and again while an app does not answer, or has
//! something to mend.
//!
//! Invariant: one request at a time, whatever the number of apps; what is found twice is said once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, spawn_local};

use super::core::Core;
use crate::bridge::rules::AppIx;
use crate::config;
use crate::findings::{Findings, Found, Level};
use crate::net::client::{Client, ClientOptions};
use crate::net::upstream::Dialer;
use crate::ping::Pinger;
use crate::probe::{Ending, Options, Prober, Said};
use crate::setting::Setting;
use crate::sign_out::SignOut;

/// Sessions of apps with a longer timeout are not waited for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The first app is asked so long after the start, each further one so much later.
const APART: Duration = Duration::from_secs(2);
/// An app that did not answer is asked again after so long; twice as long each time.
const AGAIN: Duration = Duration::from_secs(60);
const AGAIN_AT_MOST: Duration = Duration::from_secs(600);
/// An app that answers at first and then fails to is asked all once more so often: with waiting that takes hours.
const RERUNS: u32 = 3;
/// While a probe's warning stands, an app is asked again so often, without what has to be waited for.
const MENDED: Duration = Duration::from_secs(3600);

/// What probing the apps of `core` takes, with at most `turns` requests under way.
pub(super) fn prober(core: &Core, dialer: Dialer, turns: usize) -> Prober {
    let setting = core.setting();
    let body_stall = setting.options.timeouts.body_stall;
    let options = ClientOptions { body_stall, ..ClientOptions::default() };
    let client = Client::new(dialer, options);
    let pinger = Pinger {
        client: client.clone(),
        registry: Arc::clone(&core.registry),
        clock: core.clock,
        shard: Rc::new(core.metrics.shard()),
    };
    Prober {
        client,
        https: setting.https,
        setting,
        clock: core.clock,
        presets: config::presets().into(),
        sign_out: SignOut { pinger, findings: core.findings.clone() },
        turns: Arc::new(Semaphore::new(turns)),
    }
}

/// Finds out about every app, and again about those that a new config changes; for ever. Must run in a `LocalSet`.
pub async fn run(core: Core, dialer: Dialer) {
    let turn = core.enlist();
    let (to, said) = unbounded_channel();
    let (first, probing) = (
        Rc::clone(&turn.setting),
        RefCell::new(Probing { apps: BTreeMap::new(), to, turns: Arc::new(Semaphore::new(1)) }),
    );
    probing.borrow_mut().follow(&core, &dialer, &first);
    tokio::join!(
        turn.follow(|setting| probing.borrow_mut().follow(&core, &dialer, &setting)),
        record(&core, said)
    );
}

/// What is being found out.
struct Probing {
    /// The apps, as they were when this was begun.
    apps: BTreeMap<AppIx, (String, Probe)>,
    to: UnboundedSender<Said>,
    turns: Arc<Semaphore>,
}

/// An app that is being looked at; dropping it ends that.
struct Probe(JoinHandle<()>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Probing {
    /// Begins with the apps of `setting` that are new or changed, one after the other, and leaves those that have gone.
    fn follow(&mut self, core: &Core, dialer: &Dialer, setting: &Setting) {
        self.apps.retain(|app, _| setting.route(*app).is_some());
        let new: Vec<_> =
            setting.routes().iter().map(|route| (route.rules.app, format!("{route:?}"))).collect();
        let new =
            new.into_iter().filter(|(app, says)| self.apps.get(app).is_none_or(|(known, _)| known != says));
        let new: Vec<_> = new.collect();
        if new.is_empty() {
            return;
        }
        // Whatever the number of configs, one request at a time.
        let turns = Arc::clone(&self.turns);
        let prober = Rc::new(Prober { turns, ..prober(core, dialer.clone(), 1) });
        let mut wait = APART;
        for (app, says) in new {
            let (prober, to, start) = (Rc::clone(&prober), self.to.clone(), wait);
            let findings = core.findings.clone();
            let probe = spawn_local(async move {
                tokio::time::sleep(start).await;
                once(&prober, app, &to).await;
                until_mended(&prober, app, (&findings, &to)).await;
            });
            self.apps.insert(app, (says, Probe(probe)));
            wait += APART;
        }
    }
}

/// Finds out about `app`, however often it must be asked.
async fn once(prober: &Prober, app: AppIx, to: &UnboundedSender<Said>) {
    let (mut again, mut reruns) = (AGAIN, 0);
    let options = Options { longest: LONGEST, measure: false };
    loop {
        match prober.app(app, options, to).await {
            Ending::Unreachable => {}
            Ending::Lost if reruns < RERUNS => reruns += 1,
            Ending::Lost | Ending::Done | Ending::Nothing => return,
        }
        tokio::time::sleep(again).await;
        again = (again * 2).min(AGAIN_AT_MOST);
    }
}

/// Looks from time to time whether what a probe warned of has been mended, until it has.
async fn until_mended(prober: &Prober, app: AppIx, (findings, to): (&Findings, &UnboundedSender<Said>)) {
    let options = Options { longest: Duration::ZERO, measure: false };
    loop {
        tokio::time::sleep(MENDED).await;
        if !findings.is_to_be_mended(app) {
            return;
        }
        prober.app(app, options, to).await;
    }
}

/// Takes down what is found, until nobody has anything more to say.
async fn record(core: &Core, mut said: UnboundedReceiver<Said>) {
    while let Some(said) = said.recv().await {
        if let Said::Found(found) = said
            && core.findings.put_probed(found.clone())
        {
            log(core, &found);
        }
    }
}

fn log(core: &Core, found: &Found) {
    let setting = core.setting();
    let app = setting.route(found.app).map_or("", |route| &route.rules.name);
    let (key, at) = (found.kind.key(), core.findings.place(found.app, found.kind).unwrap_or_default());
    match found.level {
        Level::Warning => tracing::warn!(app, key, at, "{}", found.says),
        Level::Note | Level::Good => tracing::debug!(app, key, at, "{}", found.says),
    }
}
