//! One thread of the proxy: it serves, keeps sessions alive and ends them, and shares nothing that it writes for each
//! request.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep_until};

use super::core::Core;
use super::keeping;
use super::sharing;
use super::workers::Turn;
use crate::clock::Clock;
use crate::health;
use crate::heartbeat::Heartbeat;
use crate::net::Connections;
use crate::net::client::{Client, ClientOptions};
use crate::net::drain::Drain;
use crate::net::listener::Listener;
use crate::net::serve::serve;
use crate::net::terms::Terms;
use crate::net::upstream::Dialer;
use crate::ping::Pinger;
use crate::proxy::{self, Parts, Proxy};
use crate::registry::agenda::{Agenda, Watch};
use crate::registry::{Registry, Walk};
use crate::setting::Setting;
use crate::sign_out::SignOut;
use crate::telemetry::RequestIds;

/// How often what the access log holds back is handed on.
const FLUSH: Duration = Duration::from_millis(100);

/// How often sessions are looked through, and in how many turns all are: so far behind are the clocks in the store.
const REST: Duration = Duration::from_millis(500);
const TURNS: usize = 8;

/// Sessions that are looked at before other tasks of the thread get their turn.
const WAKEN: usize = 64;

/// Runs worker `number` on this thread until `drain` has stopped it. Where another process serves, connections that were
/// upgraded live on for as long as a drain may take: their clients need not come back all at once. Must run in a `LocalSet`.
pub async fn run(core: Core, number: usize, listeners: Vec<Listener>, dialer: Dialer, drain: Drain) {
    let turn = core.enlist();
    let setting = Rc::clone(&turn.setting);
    let serving = core.serve_options(&setting);
    let (connections, terms) = (serving.connections.clone(), Terms::new(serving));
    let body_stall = setting.options.timeouts.body_stall;
    let client = Client::new(dialer.clone(), ClientOptions { body_stall, ..ClientOptions::default() });
    let shard = Rc::new(core.metrics.shard());
    let (agenda, entries) = Agenda::new();
    let pinger = Pinger {
        client: client.clone(),
        registry: Arc::clone(&core.registry),
        clock: core.clock,
        shard: Rc::clone(&shard),
    };
    let sign_out = SignOut { pinger: pinger.clone(), findings: core.findings.clone() };
    let proxy = Rc::new(Proxy::new(
        Arc::clone(&core.shared),
        Parts {
            setting,
            client: client.clone(),
            agenda: agenda.clone(),
            shard,
            pinger: pinger.clone(),
            sign_out: sign_out.clone(),
            access: core.access.sink(),
            ids: RequestIds::new(core.request_prefix, u16::try_from(number).unwrap_or(u16::MAX)),
        },
    ));
    let present = presenting(&proxy);
    let (pressure, armed) = (Arc::clone(&core.pressure), Arc::clone(&core.armed));
    let heartbeat = Rc::new(Heartbeat::new(present, pinger, sign_out, pressure, armed));
    let mut tasks =
        vec![spawn_local(Rc::clone(&heartbeat).run(entries)), spawn_local(flush(Rc::clone(&proxy)))];
    let before = core.watches.take(number);
    tasks.extend(before.map(|before| spawn_local(Rc::clone(&heartbeat).resume_watch(before))));
    tasks.push(spawn_local(hold_with(heartbeat, drain.clone())));
    tasks.extend(sharing::begin(&core, number, &proxy));
    if number == 0 {
        tasks.push(spawn_local(health::run(presenting(&proxy), dialer, core.clock)));
        tasks.push(spawn_local(rest(Arc::clone(&core.registry), Arc::clone(&core.shared), core.clock)));
    }
    let following =
        follow(turn, (core, (number == 0).then_some(agenda)), (Rc::clone(&proxy), client, terms.clone()));
    tasks.push(spawn_local(following));
    let serving = listeners.into_iter().map(|listener| {
        let proxy = Rc::clone(&proxy);
        let service = move |request, peer| Rc::clone(&proxy).handle(request, peer);
        serve(listener, service, &terms, drain.clone())
    });
    until_served(join_all(serving), (&connections, &terms), drain.clone()).await;
    tasks.iter().for_each(JoinHandle::abort);
    proxy.flush();
}

/// Tells the present setting.
fn presenting(proxy: &Rc<Proxy>) -> Rc<dyn Fn() -> Rc<Setting>> {
    let proxy = Rc::clone(proxy);
    Rc::new(move || proxy.setting())
}

/// Returns when `serving` is over and, where the listeners were passed on, those connections that were upgraded.
async fn until_served<T>(
    serving: impl Future<Output = T>,
    (connections, terms): (&Connections, &Terms),
    mut drain: Drain,
) {
    let mut told = drain.clone();
    let (_, end) = tokio::join!(serving, async {
        told.requested().await;
        Instant::now() + terms.drain_timeout()
    });
    if drain.is_passed_on() {
        tokio::select! {
            () = connections.gone() => {}
            () = drain.aborted() => {}
            () = sleep_until(end) => {}
        }
    }
}

/// Begins no heartbeat while nothing is to be begun.
async fn hold_with(heartbeat: Rc<Heartbeat>, mut drain: Drain) {
    loop {
        let working = drain.working();
        drain.held().await;
        tokio::select! {
            () = heartbeat.hold() => drop(working),
            () = drain.resumed() => {}
        }
        drain.resumed().await;
        heartbeat.resume();
    }
}

/// Takes each setting that follows: what begins from then on, begins with it. The thread that has an `agenda` here sees to
/// sessions that end sooner by it.
async fn follow(
    turn: Turn,
    (core, agenda): (Core, Option<Agenda>),
    (proxy, client, terms): (Rc<Proxy>, Client, Terms),
) {
    turn.follow(|setting| {
        if let Some(agenda) =
            agenda.as_ref().filter(|_| proxy.setting().bridge.clocks != setting.bridge.clocks)
        {
            spawn_local(watch_ends(Arc::clone(&core.registry), agenda.clone()));
        }
        client.set_body_stall(setting.options.timeouts.body_stall);
        terms.change(core.serve_options(&setting));
        proxy.follow(setting);
    })
    .await;
}

/// Watches the sessions that end sooner by the present clocks than by those that they were watched by.
async fn watch_ends(registry: Arc<Registry>, agenda: Agenda) {
    let (clocks, mut sooner) = (registry.clocks(), Vec::new());
    registry.each(|session, ticket| {
        if session.ends_at(&clocks) < session.watched {
            sooner.push(ticket);
        }
        true
    });
    for (at, ticket) in sooner.into_iter().enumerate() {
        if let Some(slot) = registry
            .slot(ticket)
            .filter(|slot| slot.with(|session| session.ends_sooner(&clocks, registry.lag())))
        {
            agenda.put(&slot, Watch::End);
        }
        if at % WAKEN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn flush(proxy: Rc<Proxy>) {
    loop {
        tokio::time::sleep(FLUSH).await;
        proxy.flush();
    }
}

/// Puts sessions to sleep that nobody has used for four seconds, and keeps the clocks of the others, a few at a time:
/// requests go before.
async fn rest(registry: Arc<Registry>, shared: Arc<proxy::Shared>, clock: Clock) {
    let (mut walk, mut known) = (Walk::default(), 0);
    loop {
        tokio::time::sleep(REST).await;
        known = keeping::note_served(registry.store(), shared.served(), known);
        for _ in 0..registry.pieces().div_ceil(TURNS) {
            registry.rest(&mut walk, clock.now());
            tokio::task::yield_now().await;
        }
    }
}
