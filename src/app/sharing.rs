//! Sessions that several proxies share: what the store lets this one know, and what follows.
//!
//! Invariants: what is known to have changed elsewhere is not served from here before it was read anew; who keeps a session alive
//! hears of every app that comes into it, whichever proxy that happens at.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, spawn_local};

use super::core::Core;
use crate::clock::Clock;
use crate::proxy::Proxy;
use crate::registry::Registry;
use crate::store::{Key, News, Outage};
use crate::time::Timestamp;

/// Sessions that are read at once on one thread.
const AT_ONCE: usize = 16;
/// When a session is looked for again that the store said nothing of.
const AGAIN: Duration = Duration::from_secs(1);
/// After so long without the store, and with it without a word of who is alive, each proxy keeps alive what it has served.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between pieces of what is not urgent.
const PACE: Duration = Duration::from_millis(100);
/// Sessions that are looked at before other tasks of the thread get their turn.
const PIECE: usize = 256;

/// The sessions, by name, that a thread is to look at.
type Names = UnboundedReceiver<[u8; 8]>;

/// The way from the store to the threads.
#[derive(Debug)]
pub(super) struct Newsroom {
    to: Vec<UnboundedSender<[u8; 8]>>,
    threads: Mutex<Vec<Option<Names>>>,
    /// News are heard again.
    hears: Notify,
}

impl Newsroom {
    /// For so many threads.
    pub(super) fn new(threads: usize) -> Self {
        let (to, from): (Vec<_>, Vec<_>) = (0..threads.max(1)).map(|_| unbounded_channel()).unzip();
        Self { to, threads: Mutex::new(from.into_iter().map(Some).collect()), hears: Notify::new() }
    }

    /// What thread `number` is to look at; once.
    fn take(&self, number: usize) -> Option<Names> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.get_mut(number)?.take()
    }

    /// Takes in what the store lets know; on the store's own thread, so it is short.
    pub(super) fn hear(&self, registry: &Registry, news: &News, now: Timestamp) {
        registry.hear(news, now);
        match news {
            News::Mine { name } => self.pass_on(*name),
            News::Changed(name) if registry.is_mine_by_name(*name) => self.pass_on(*name),
            News::Hears => self.hears.notify_one(),
            _ => {}
        }
    }

    /// Has all sessions looked at, at a measured pace, whenever news are heard again: what other proxies brought into them meanwhile
    /// was not.
    async fn go_over(&self, registry: &Registry) {
        loop {
            self.hears.notified().await;
            let mut names = Vec::new();
            registry.each(|session, _| {
                names.push(session.handle.0.to_be_bytes());
                true
            });
            for some in names.chunks(PIECE) {
                some.iter().for_each(|name| self.pass_on(*name));
                tokio::time::sleep(PACE).await;
            }
        }
    }

    /// Has one of the threads look at a session, always the same.
    fn pass_on(&self, name: [u8; 8]) {
        let at = u64::from_be_bytes(name) as usize % self.to.len();
        if let Some(to) = self.to.get(at) {
            let _ = to.send(name);
        }
    }
}

/// What thread `number` does where several proxies share the sessions. Must run in a `LocalSet`.
pub(super) fn begin(core: &Core, number: usize, proxy: &Rc<Proxy>) -> Vec<JoinHandle<()>> {
    let (room, registry) = (&core.newsroom, &core.registry);
    if !registry.is_shared() {
        return Vec::new();
    }
    let mut tasks = Vec::new();
    if let Some(names) = room.take(number) {
        tasks.push(spawn_local(look_after(Rc::clone(proxy), Arc::clone(registry), core.clock, names)));
    }
    if number == 0 {
        let (room, all) = (Arc::clone(room), Arc::clone(registry));
        tasks.push(spawn_local(async move { room.go_over(&all).await }));
        tasks.push(spawn_local(go_on_alone(Rc::clone(proxy), Arc::clone(registry))));
    }
    tasks
}

/// Looks after the sessions that `names` brings, which are this proxy's to keep alive: new ones, or with another app. Must run in
/// a `LocalSet`.
async fn look_after(proxy: Rc<Proxy>, registry: Arc<Registry>, clock: Clock, mut names: Names) {
    let look = |name: [u8; 8]| {
        let (proxy, registry) = (Rc::clone(&proxy), Arc::clone(&registry));
        async move {
            loop {
                match registry.refresh(Key::Name(name), clock.now()).await {
                    Ok(Some(slot)) if registry.is_mine(&slot) => return proxy.look_after(&slot),
                    Ok(_) => return,
                    // Nobody else looks after it meanwhile.
                    Err(Outage) => tokio::time::sleep(AGAIN).await,
                }
            }
        }
    };
    let names = poll_fn(move |context| names.poll_recv(context));
    names.map(look).buffer_unordered(AT_ONCE).for_each(|()| async {}).await;
}

/// While the store is away nobody knows which proxies live: each keeps alive what it has served. Must run in a `LocalSet`.
async fn go_on_alone(proxy: Rc<Proxy>, registry: Arc<Registry>) {
    let mut away = Duration::ZERO;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !registry.store().fails() {
            away = Duration::ZERO;
            continue;
        }
        away += Duration::from_secs(1);
        if away != PATIENCE {
            continue;
        }
        let mut all = Vec::new();
        registry.each(|_, ticket| {
            all.push(ticket);
            true
        });
        for (at, ticket) in all.into_iter().enumerate() {
            if let Some(slot) = registry.slot(ticket) {
                proxy.look_after(&slot);
            }
            if at % PIECE == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}
