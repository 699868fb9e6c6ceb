//! The process's signals.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::loads::{By, Loads};
use crate::net::drain::Drainer;
use crate::telemetry::access::AccessLog;

/// Obeys signals for ever: TERM, INT and QUIT drain, a second one stops at once; HUP asks for the config to be
/// read anew, USR1 opens the logs again.
///
/// # Errors
/// Where a signal cannot be listened to.
pub async fn obey(drainer: Drainer, access: AccessLog, loads: Loads) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut hup = signal(SignalKind::hangup())?;
    let mut usr1 = signal(SignalKind::user_defined1())?;
    let mut usr2 = signal(SignalKind::user_defined2())?;
    let mut draining = false;
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = quit.recv() => {}
            _ = usr1.recv() => {
                access.reopen();
                continue;
            }
            _ = hup.recv() => {
                // What comes of it is in the log.
                if loads.send(By::Signal).is_none() {
                    tracing::warn!("SIGHUP: the config was read from no file here, and cannot be read anew");
                }
                continue;
            }
            _ = usr2.recv() => {
                tracing::warn!("SIGUSR2: handing over to a new binary is not built yet in this version");
                continue;
            }
        }
        if std::mem::replace(&mut draining, true) {
            tracing::warn!("stopping at once");
            drainer.abort();
        } else {
            tracing::info!("draining; once more to stop at once");
            drainer.drain();
        }
    }
}
