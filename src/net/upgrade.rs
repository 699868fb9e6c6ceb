//! Two upgraded connections joined into one: WebSocket and whatever else follows a 101.
//!
//! Invariant: bytes of the peers pass unchanged and in order; a close frame of ours goes out only where the stream it
//! joins stands at a frame's end, and nothing follows it.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::client::AppStream;

const BUFFER: usize = 8 * 1024;
/// What a close takes at most.
const FAREWELL: Duration = Duration::from_secs(1);

/// Told of all bytes of one direction, in order; says whether the stream stands at the end of a frame after them.
pub type FrameWatch = Box<dyn FnMut(&[u8]) -> bool>;

/// What to say at a close, and when it may be said.
pub struct CloseFrame {
    /// The whole frame.
    pub bytes: Bytes,
    /// The tracker of the direction in which it goes.
    pub watch: FrameWatch,
}

/// How two connections are joined.
pub struct Splice<E> {
    /// Without a byte either way for this long both are closed.
    pub stream_idle: Duration,
    /// Resolves when both are to be closed: the session ended, or the proxy stops.
    pub ended: E,
    /// For the client when `ended` resolves; without it the connection is just closed.
    pub to_client: Option<CloseFrame>,
    /// For the app.
    pub to_app: Option<CloseFrame>,
}

/// Why a splice is over, and what passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// Why.
    pub reason: SpliceEnd,
    /// Bytes from the app to the client.
    pub to_client: u64,
    /// Bytes from the client to the app.
    pub to_app: u64,
}

/// Why a splice is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpliceEnd {
    /// Both sides closed.
    Closed,
    /// One side broke off.
    Broken,
    /// Nothing passed for the idle time.
    Idle,
    /// `ended` resolved.
    Ended,
}

/// Joins two upgraded connections until both are closed, one breaks, nothing passes, or `ended` resolves.
pub async fn splice<E: Future<Output = ()>>(
    client: Upgraded,
    app: Box<AppStream>,
    options: Splice<E>,
) -> Spliced {
    join(TokioIo::new(client), app, options).await
}

async fn join<E, C, A>(client: C, app: A, options: Splice<E>) -> Spliced
where
    E: Future<Output = ()>,
    C: AsyncRead + AsyncWrite,
    A: AsyncRead + AsyncWrite,
{
    let (mut client_in, mut client_out) = split(client);
    let (mut app_in, mut app_out) = split(app);
    let pulse = Cell::new(Instant::now());
    let down = Lane::new(&pulse);
    let up = Lane::new(&pulse);
    let reason = {
        let both = async {
            tokio::try_join!(
                down.pump(&mut app_in, &mut client_out, options.to_client),
                up.pump(&mut client_in, &mut app_out, options.to_app),
            )
        };
        let mut both = pin!(both);
        tokio::select! {
            biased;
            ended = &mut both => if ended.is_ok() { SpliceEnd::Closed } else { SpliceEnd::Broken },
            () = options.ended => {
                let by = Instant::now() + FAREWELL;
                down.stop();
                up.stop();
                // Late or broken, both are closed by being dropped.
                let _ = timeout_at(by, both).await;
                SpliceEnd::Ended
            }
            () = silence(&pulse, options.stream_idle) => SpliceEnd::Idle,
        }
    };
    Spliced { reason, to_client: down.passed.get(), to_app: up.passed.get() }
}

/// Resolves when `pulse` is `limit` old.
async fn silence(pulse: &Cell<Instant>, limit: Duration) {
    loop {
        let due = pulse.get() + limit;
        if due <= Instant::now() {
            return;
        }
        sleep_until(due).await;
    }
}

/// One direction.
struct Lane<'a> {
    pulse: &'a Cell<Instant>,
    passed: Cell<u64>,
    stopping: Cell<bool>,
    wake: Notify,
}

impl<'a> Lane<'a> {
    fn new(pulse: &'a Cell<Instant>) -> Self {
        Self { pulse, passed: Cell::new(0), stopping: Cell::new(false), wake: Notify::new() }
    }

    fn stop(&self) {
        self.stopping.set(true);
        self.wake.notify_one();
    }

    async fn pump(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        mut close: Option<CloseFrame>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut at_boundary = true;
        while !self.stopping.get() || (close.is_some() && !at_boundary) {
            let read = tokio::select! {
                biased;
                () = self.wake.notified() => continue,
                read = from.read(&mut buffer) => read?,
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return to.shutdown().await;
            }
            self.pulse.set(Instant::now());
            if let Some(close) = &mut close {
                at_boundary = (close.watch)(bytes);
            }
            to.write_all(bytes).await?;
            to.flush().await?;
            self.pulse.set(Instant::now());
            self.passed.set(self.passed.get() + read as u64);
        }
        if let Some(close) = close {
            to.write_all(&close.bytes).await?;
        }
        to.shutdown().await?;
        // The peer may still be talking: closing on unread bytes would reset the connection and lose the close frame.
        while from.read(&mut buffer).await? > 0 {}
        Ok(())
    }
}

#[cfg(test)]
mod tests;
