//! The time limit of requests that are made one after the other.
//!
//! Invariant: it goes off for the request at hand only.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is moved on from one request to the next, which costs the runtime's lock only where it goes off; a new one
/// takes it twice for each request.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// One that is not set.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// What `work` comes to within `limit`; `None` where it takes longer.
    pub async fn within<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let at = Instant::now() + limit;
        match &mut self.0 {
            Some(timer) => timer.as_mut().reset(at),
            none => *none = Some(Box::pin(sleep_until(at))),
        }
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(result));
            }
            match &mut self.0 {
                Some(timer) => timer.as_mut().poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_has_its_own_time() {
        let (mut alarm, start) = (Alarm::new(), Instant::now());
        let seconds = Duration::from_secs;
        for _ in 0..3 {
            assert_eq!(alarm.within(seconds(5), async { sleep(seconds(4)).await }).await, Some(()));
        }
        assert_eq!(alarm.within(seconds(5), sleep(seconds(6))).await, None);
        assert_eq!(start.elapsed(), seconds(17));
        assert_eq!(
            alarm.within(seconds(5), async { sleep(seconds(1)).await }).await,
            Some(()),
            "after it went off"
        );
        assert_eq!(alarm.within(seconds(1), sleep(seconds(2))).await, None, "sooner than the one before");
        assert_eq!(start.elapsed(), seconds(19));
    }
}
