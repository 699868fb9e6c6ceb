//! Watching over a connection that hyper serves: until it ends, until its time comes, and when a drain begins.
//!
//! Invariant: a busy connection does not touch the timer, and hyper has seen a request that came already before it is
//! told to stop.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use super::stream::Peer;

/// The thread's own drain signal: a plain flag on the hot path, waiters only once per connection.
#[derive(Debug, Default)]
pub(super) struct Lamp {
    lit: Cell<bool>,
    notify: Notify,
}

/// Why watching is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// The connection ended.
    Closed,
    /// The moment came that was named.
    Due,
}

impl Lamp {
    pub(super) fn light(&self) {
        self.lit.set(true);
        self.notify.notify_waiters();
    }

    pub(super) const fn shines(&self) -> bool {
        self.lit.get()
    }

    pub(super) async fn is_lit(&self) {
        if !self.lit.get() {
            self.notify.notified().await;
        }
    }
}

/// Runs `conn` until it ends or the moment that `due` names has come. When the lamp is lit, `stop` is called once; `conn`
/// is polled before, so that hyper has seen a request that came already.
pub(super) async fn watch<C, E>(
    mut conn: Pin<&mut C>,
    peer: &Peer,
    stop: impl Fn(Pin<&mut C>),
    due: impl Fn() -> Option<Instant>,
    lamp: &Lamp,
) -> Watched
where
    C: Future<Output = Result<(), E>>,
    E: std::error::Error,
{
    let mut lit = pin!(lamp.is_lit());
    let mut registered = false;
    let mut stopped = false;
    let mut timer = pin!(sleep_until(due().unwrap_or_else(Instant::now)));
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = conn.as_mut().poll(cx) {
                if let Err(error) = ended {
                    debug!(%peer, %error, "a connection failed");
                }
                return Poll::Ready(Watched::Closed);
            }
            if !registered {
                registered = true;
                let _ = lit.as_mut().poll(cx);
            }
            if stopped || !lamp.lit.get() {
                break;
            }
            stopped = true;
            stop(conn.as_mut());
        }
        poll_overdue(timer.as_mut(), &due, cx).map(|()| Watched::Due)
    })
    .await
}

/// Ready when the moment that `due` names has come. The timer is moved only when it must fire earlier or has fired,
/// so that a busy connection does not touch it.
fn poll_overdue(
    mut timer: Pin<&mut Sleep>,
    due: &impl Fn() -> Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let Some(at) = due() else { return Poll::Pending };
        if at < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(at);
        }
        ready!(timer.as_mut().poll(cx));
        if at <= timer.deadline() {
            return Poll::Ready(());
        }
    }
}
