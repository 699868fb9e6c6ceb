//! Parked connections: those on which nothing is asked wait here, for their next byte or the end of their time.
//!
//! Invariant: a parked connection costs its socket, a small task and one entry here: no buffer, no parser, no timer of
//! its own. It is roused by what its client sends, at its deadline, or when the lot is shut, whichever is first; what
//! the client has sent by then is served.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::stream::Stream;

/// The parked connections of one thread, by their deadlines.
#[derive(Debug, Default)]
pub(super) struct Lot {
    waiting: RefCell<BTreeMap<Key, Waker>>,
    /// Tells keys of one deadline apart.
    next: Cell<u64>,
    /// A deadline came in that is before all others.
    sooner: Notify,
    shut: Cell<bool>,
}

type Key = (Instant, u64);

/// A place in the lot, left when dropped.
struct Place<'a> {
    lot: &'a Lot,
    key: Key,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lot.waiting.borrow_mut().remove(&self.key);
    }
}

impl Lot {
    /// Parks `stream` until its client has said something, or left: true. False at `deadline`, or when the lot is shut.
    pub(super) async fn wait(&self, deadline: Instant, stream: &mut Stream) -> bool {
        let place = Place { lot: self, key: (deadline, self.next.get()) };
        self.next.set(self.next.get() + 1);
        poll_fn(|cx| {
            if stream.poll_spoken(cx).is_ready() {
                return Poll::Ready(true);
            }
            if self.shut.get() {
                // The runtime may not have been told yet of what the system has.
                return Poll::Ready(stream.has_unread());
            }
            if deadline <= Instant::now() {
                return Poll::Ready(false);
            }
            self.enter(place.key, cx.waker());
            Poll::Pending
        })
        .await
    }

    fn enter(&self, key: Key, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.first_key_value().is_none_or(|(first, _)| key < *first) {
            self.sooner.notify_one();
        }
        waiting.insert(key, waker.clone());
    }

    /// Rouses those whose time is over, for ever.
    pub(super) async fn attend(&self) {
        loop {
            let first = self.waiting.borrow().first_key_value().map(|((deadline, _), _)| *deadline);
            match first {
                None => self.sooner.notified().await,
                Some(deadline) => {
                    tokio::select! {
                        () = self.sooner.notified() => {}
                        () = sleep_until(deadline) => self.rouse_until(Instant::now()),
                    }
                }
            }
        }
    }

    /// From now on nobody is parked, and whoever is gets roused.
    pub(super) fn shut(&self) {
        self.shut.set(true);
        self.rouse(std::mem::take(&mut *self.waiting.borrow_mut()));
    }

    fn rouse_until(&self, now: Instant) {
        let due = {
            let mut waiting = self.waiting.borrow_mut();
            let later = waiting.split_off(&(now, u64::MAX));
            std::mem::replace(&mut *waiting, later)
        };
        self.rouse(due);
    }

    fn rouse(&self, due: BTreeMap<Key, Waker>) {
        due.into_values().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::advance;

    use crate::net::testing::{local, secs};

    #[tokio::test(start_paused = true)]
    async fn a_parked_stream_is_roused_by_bytes_the_end_or_its_time() {
        local(async {
            let lot = Rc::new(Lot::default());
            let own = Rc::clone(&lot);
            tokio::task::spawn_local(async move { own.attend().await });
            let start = Instant::now();
            for order in [[30, 10, 20], [10, 20, 30]] {
                let begun = Instant::now();
                let waits = order.map(|s| {
                    let (near, far) = tokio::io::duplex(8);
                    let lot = Rc::clone(&lot);
                    async move {
                        let mut stream = Stream::from(near);
                        let roused = lot.wait(begun + secs(s), &mut stream).await;
                        (roused, begun.elapsed() == secs(s), far)
                    }
                });
                for (roused, in_time, _) in futures_util::future::join_all(waits).await {
                    assert!(!roused && in_time);
                }
            }
            assert_eq!(start.elapsed(), secs(60));
            let (near, mut far) = tokio::io::duplex(8);
            let mut stream = Stream::from(near);
            far.write_all(b"hello").await.unwrap();
            assert!(lot.wait(Instant::now() + secs(1), &mut stream).await);
            assert!(lot.wait(Instant::now() + secs(1), &mut stream).await, "nothing was lost by asking");
            let mut read = [0; 5];
            stream.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"hello");
            drop(far);
            assert!(lot.wait(Instant::now() + secs(1), &mut stream).await);
            assert!(lot.waiting.borrow().is_empty());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_waiting_leaves_no_trace() {
        let lot = Lot::default();
        let (near, _far) = tokio::io::duplex(8);
        let mut stream = Stream::from(near);
        assert!(lot.wait(Instant::now() + secs(1), &mut stream).now_or_never().is_none());
        assert!(lot.waiting.borrow().is_empty());
        advance(Duration::from_secs(2)).await;
    }

    #[tokio::test]
    async fn a_lot_that_is_shut_lets_go_of_all_but_those_who_spoke() {
        let lot = Lot::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = Stream::Tcp(listener.accept().await.unwrap().0);
        let deadline = Instant::now() + secs(3600);
        assert!(lot.wait(deadline, &mut stream).now_or_never().is_none());
        lot.shut();
        assert_eq!(lot.wait(deadline, &mut stream).now_or_never(), Some(false));
        // Blocking, so that the runtime cannot have heard of it.
        let far = far.into_std().unwrap();
        far.set_nonblocking(false).unwrap();
        std::io::Write::write_all(&mut &far, b"x").unwrap();
        while !stream.has_unread() {
            std::thread::yield_now();
        }
        assert_eq!(lot.wait(deadline, &mut stream).now_or_never(), Some(true));
    }
}
