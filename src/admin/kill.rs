//! The sign-outs of sessions that an operator has ended, on the thread that has the connections to the apps.
//!
//! Invariant: once asked for, a sign-out is tried, whether or not the operator waits for it.

use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use crate::bridge::session::Farewell;
use crate::setting::Present;
use crate::sign_out::{SignOut, Told};

/// A session that has ended, and who waits to hear how its apps took it.
#[derive(Debug)]
pub(super) struct Job {
    farewell: Box<Farewell>,
    done: oneshot::Sender<Vec<Told>>,
}

/// Where ended sessions are handed in.
#[derive(Clone, Debug)]
pub(super) struct Desk(mpsc::UnboundedSender<Job>);

impl Desk {
    /// The desk, and what [`run`] works on.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Job>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Signs out of the apps of `farewell`. `None` where the proxy stops meanwhile.
    pub(super) async fn sign_out(&self, farewell: Farewell) -> Option<Vec<Told>> {
        let (done, told) = oneshot::channel();
        self.0.send(Job { farewell: Box::new(farewell), done }).ok()?;
        told.await.ok()
    }
}

/// Works on what is handed in, all of it at once.
pub(super) async fn run(mut jobs: mpsc::UnboundedReceiver<Job>, present: Present, sign_out: SignOut) {
    let sign_out = Rc::new(sign_out);
    while let Some(Job { farewell, done }) = jobs.recv().await {
        sign_out.pinger.shard.session_end(farewell.end.into());
        let (sign_out, setting) = (Rc::clone(&sign_out), present.now());
        spawn_local(async move {
            // Whoever asked may be gone; the apps are told all the same.
            let _ = done.send(sign_out.all(&setting, &farewell, None).await);
        });
    }
}
