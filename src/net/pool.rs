//! Idle connections to apps, one stack per upstream.
//!
//! Invariant: a connection in the pool has answered its last request in full, body and all, and belongs to the origin
//! that its upstream names now.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, sleep};

use super::body::Body;
use super::upstream::{Origin, Upstream, UpstreamIx};

/// All idle connections of one thread.
#[derive(Debug)]
pub(super) struct Pool {
    stacks: RefCell<Vec<Stack>>,
    idle_timeout: Duration,
    max_idle: usize,
    reaping: Cell<bool>,
}

#[derive(Debug, Default)]
struct Stack {
    origin: Option<Arc<Origin>>,
    idle: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// What the top of a stack has to offer.
enum Top {
    Ready(SendRequest<Body>),
    /// Only connections that have not come to rest after their last answer.
    Settling,
    Nothing,
}

impl Pool {
    pub(super) fn new(idle_timeout: Duration, max_idle: usize) -> Self {
        Self { stacks: RefCell::default(), idle_timeout, max_idle, reaping: Cell::new(false) }
    }

    /// The connection that was used last, if it is fit for use.
    pub(super) async fn take(&self, upstream: &Upstream) -> Option<SendRequest<Body>> {
        match self.pop(upstream) {
            Top::Ready(sender) => Some(sender),
            Top::Nothing => None,
            Top::Settling => {
                // The task of a connection runs after the one that read the end of its answer.
                yield_now().await;
                match self.pop(upstream) {
                    Top::Ready(sender) => Some(sender),
                    Top::Settling | Top::Nothing => None,
                }
            }
        }
    }

    /// Keeps a connection whose answer has ended in full.
    pub(super) fn give(&self, upstream: &Upstream, sender: SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let mut stacks = self.stacks.borrow_mut();
        if stacks.len() <= upstream.ix.0 {
            stacks.resize_with(upstream.ix.0 + 1, Stack::default);
        }
        let Some(stack) = stacks.get_mut(upstream.ix.0) else { return };
        // A connection of an older configuration must not take the place of a newer one's.
        match &stack.origin {
            Some(origin) if !same(origin, &upstream.origin) => return,
            Some(_) => {}
            None => stack.origin = Some(Arc::clone(&upstream.origin)),
        }
        if stack.idle.len() < self.max_idle {
            stack.idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Closes all idle connections of an upstream.
    pub(super) fn forget(&self, ix: UpstreamIx) {
        if let Some(stack) = self.stacks.borrow_mut().get_mut(ix.0) {
            stack.idle.clear();
        }
    }

    /// How many connections of an upstream are idle.
    pub(super) fn idle(&self, ix: UpstreamIx) -> usize {
        self.stacks.borrow().get(ix.0).map_or(0, |stack| stack.idle.len())
    }

    /// Sees to it that connections nobody asks for are closed in time. Must run in a `LocalSet`.
    pub(super) fn ensure_reaper(self: &Rc<Self>) {
        if !self.reaping.replace(true) {
            spawn_local(reap(Rc::downgrade(self), self.idle_timeout / 4));
        }
    }

    fn pop(&self, upstream: &Upstream) -> Top {
        let mut stacks = self.stacks.borrow_mut();
        let Some(stack) = stacks.get_mut(upstream.ix.0) else { return Top::Nothing };
        if !stack.origin.as_ref().is_some_and(|origin| same(origin, &upstream.origin)) {
            stack.origin = Some(Arc::clone(&upstream.origin));
            stack.idle.clear();
            return Top::Nothing;
        }
        let now = Instant::now();
        let mut settling = Vec::new();
        let mut ready = None;
        while let Some(idle) = stack.idle.pop() {
            if now - idle.since >= self.idle_timeout {
                // Those below lie there longer still.
                stack.idle.clear();
            } else if idle.sender.is_ready() {
                ready = Some(idle.sender);
                break;
            } else if !idle.sender.is_closed() {
                settling.push(idle);
            }
        }
        let any_settling = !settling.is_empty();
        stack.idle.extend(settling.into_iter().rev());
        match ready {
            Some(sender) => Top::Ready(sender),
            None if any_settling => Top::Settling,
            None => Top::Nothing,
        }
    }

    fn drop_expired(&self) {
        let now = Instant::now();
        for stack in self.stacks.borrow_mut().iter_mut() {
            stack.idle.retain(|idle| !idle.sender.is_closed() && now - idle.since < self.idle_timeout);
        }
    }
}

fn same(a: &Arc<Origin>, b: &Arc<Origin>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

async fn reap(pool: Weak<Pool>, every: Duration) {
    loop {
        sleep(every.max(Duration::from_millis(1))).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.drop_expired();
    }
}
