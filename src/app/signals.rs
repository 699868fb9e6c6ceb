//! The process's signals.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify};

use super::handover::Handover;
use super::notify;
use crate::loads::{By, Loads};
use crate::net::drain::Drainer;
use crate::telemetry::access::AccessLog;

/// The signals of this process, listened to from the moment that this is made: before, most of them end it.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
}

impl Signals {
    /// Listens to them. Must run in a runtime.
    ///
    /// # Errors
    /// Where a signal cannot be listened to.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }
}

/// Obeys signals for ever: TERM, INT and QUIT drain, a second one stops at once; HUP asks for the config to be read
/// anew, USR1 opens the logs again; USR2 hands over to a new process, where `handover` says how.
pub async fn obey(
    mut signals: Signals,
    drainer: Drainer,
    (access, loads): (AccessLog, Loads),
    handover: Option<Handover>,
) -> Infallible {
    let successions = handover.map(Successions::new);
    let mut draining = false;
    loop {
        tokio::select! {
            _ = signals.term.recv() => {}
            _ = signals.int.recv() => {}
            _ = signals.quit.recv() => {}
            _ = signals.usr1.recv() => {
                access.reopen();
                continue;
            }
            _ = signals.hup.recv() => {
                // What comes of it is in the log.
                if loads.send(By::Signal).is_none() {
                    tracing::warn!("SIGHUP: the config was read from no file here, and cannot be read anew");
                }
                continue;
            }
            _ = signals.usr2.recv() => {
                match &successions {
                    Some(successions) if !drainer.is_requested() => successions.begin(),
                    _ => tracing::warn!("SIGUSR2: there is nothing to hand over"),
                }
                continue;
            }
        }
        if std::mem::replace(&mut draining, true) {
            tracing::warn!("stopping at once");
            drainer.abort();
        } else {
            if let Some(successions) = &successions {
                successions.stop().await;
            }
            tracing::info!("draining; once more to stop at once");
            if !drainer.is_requested() {
                notify::stopping("draining");
            }
            drainer.drain();
        }
    }
}

/// Hand-overs, one at a time.
struct Successions {
    /// Locked while one is under way.
    handover: Arc<Mutex<Handover>>,
    stop: Arc<Notify>,
}

impl Successions {
    fn new(handover: Handover) -> Self {
        Self { handover: Arc::new(Mutex::new(handover)), stop: Arc::default() }
    }

    /// Begins one, unless one is under way.
    fn begin(&self) {
        let Ok(mut handover) = Arc::clone(&self.handover).try_lock_owned() else {
            tracing::warn!("SIGUSR2: a hand-over is under way already");
            return;
        };
        let stop = Arc::clone(&self.stop);
        tokio::spawn(async move {
            if let Err(error) = handover.run(&stop).await {
                tell(&error);
            }
        });
    }

    /// Ends the one that is under way, if one is, and closes the sockets that were kept for the next.
    async fn stop(&self) {
        self.stop.notify_one();
        self.handover.lock().await.close();
    }
}

/// Loud, with all causes.
fn tell(error: &dyn std::error::Error) {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    tracing::error!(%reason, "the hand-over failed; this process serves on");
}
