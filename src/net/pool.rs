//! Idle connections to apps, one stack per upstream.
//!
//! Invariant: a connection in the pool has answered its last request in full, body and all, and belongs to the origin
//! that its upstream names now, and to an address that its name has now.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::h1::{Conn, Spare};
use super::resolve::Resolver;
use super::upstream::{Origin, Upstream, UpstreamIx};

/// All idle connections of one thread.
#[derive(Debug)]
pub(super) struct Pool {
    stacks: RefCell<Vec<Stack>>,
    idle_timeout: Duration,
    max_idle: usize,
    resolver: Option<Resolver>,
    reaping: Cell<bool>,
    spare: Rc<Spare>,
}

#[derive(Debug, Default)]
struct Stack {
    origin: Option<Arc<Origin>>,
    idle: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    conn: Rc<RefCell<Conn>>,
    since: Instant,
}

impl Pool {
    /// An empty one. `resolver` knows the addresses of names, where they are remembered.
    pub(super) fn new(idle_timeout: Duration, max_idle: usize, resolver: Option<Resolver>) -> Self {
        let (stacks, reaping) = (RefCell::default(), Cell::new(false));
        Self { stacks, idle_timeout, max_idle, resolver, reaping, spare: Rc::default() }
    }

    /// What its connections pass on.
    pub(super) fn spare(&self) -> Rc<Spare> {
        Rc::clone(&self.spare)
    }

    /// An idle connection to `upstream` that is still good, the one used last first.
    pub(super) fn take(&self, upstream: &Upstream) -> Option<Rc<RefCell<Conn>>> {
        let mut stacks = self.stacks.borrow_mut();
        let stack = stacks.get_mut(usize::from(upstream.ix.0))?;
        if !stack.origin.as_ref().is_some_and(|origin| same(origin, &upstream.origin)) {
            stack.origin = Some(Arc::clone(&upstream.origin));
            stack.idle.clear();
            return None;
        }
        let now = Instant::now();
        while let Some(idle) = stack.idle.pop() {
            if now - idle.since >= self.idle_timeout {
                // Those below are older.
                stack.idle.clear();
            } else if self.serves(&mut idle.conn.borrow_mut()) {
                return Some(idle.conn);
            }
        }
        None
    }

    /// Keeps a connection whose answer has ended in full.
    pub(super) fn give(&self, conn: Rc<RefCell<Conn>>) {
        let (ix, origin) = {
            let mut conn = conn.borrow_mut();
            if !self.leads_there(&mut conn) {
                return;
            }
            (usize::from(conn.upstream.ix.0), Arc::clone(&conn.upstream.origin))
        };
        let mut stacks = self.stacks.borrow_mut();
        if stacks.len() <= ix {
            stacks.resize_with(ix + 1, Stack::default);
        }
        let Some(stack) = stacks.get_mut(ix) else { return };
        // A connection of an older configuration must not take the place of a newer one's.
        match &stack.origin {
            Some(present) if !same(present, &origin) => return,
            Some(_) => {}
            None => stack.origin = Some(origin),
        }
        if stack.idle.len() < self.max_idle {
            stack.idle.push(Idle { conn, since: Instant::now() });
        }
    }

    /// Closes all idle connections of an upstream.
    pub(super) fn forget(&self, ix: UpstreamIx) {
        if let Some(stack) = self.stacks.borrow_mut().get_mut(usize::from(ix.0)) {
            stack.idle.clear();
        }
    }

    /// How many connections of an upstream are idle.
    pub(super) fn idle(&self, ix: UpstreamIx) -> usize {
        self.stacks.borrow().get(usize::from(ix.0)).map_or(0, |stack| stack.idle.len())
    }

    /// Sees to it that connections nobody asks for are closed in time. Must run in a `LocalSet`.
    pub(super) fn ensure_reaper(self: &Rc<Self>) {
        if !self.reaping.replace(true) {
            spawn_local(reap(Rc::downgrade(self), self.idle_timeout / 4));
        }
    }

    fn drop_expired(&self) {
        let now = Instant::now();
        for stack in self.stacks.borrow_mut().iter_mut() {
            stack.idle.retain(|idle| {
                now - idle.since < self.idle_timeout && self.serves(&mut idle.conn.borrow_mut())
            });
            // Where connections are used again and again, nobody dials, and nobody else would ask where the name leads now.
            if let (Some(resolver), Some(Origin::Tcp { host, .. })) =
                (&self.resolver, stack.origin.as_deref())
                && !stack.idle.is_empty()
            {
                resolver.refresh(host);
            }
        }
    }

    /// True for an idle connection on which a request may go out.
    fn serves(&self, conn: &mut Conn) -> bool {
        conn.is_quiet() && self.leads_there(conn)
    }

    /// True where the address that it is connected to is still one of its name's.
    fn leads_there(&self, conn: &mut Conn) -> bool {
        let (Some(resolver), Some(resolved)) = (&self.resolver, &mut conn.resolved) else { return true };
        resolved.is_current(resolver, &conn.upstream.origin)
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
