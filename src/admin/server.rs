//! The listener: HTTP/1.1 on few connections, for operators and scrapers.
//!
//! Invariant: no connection waits for ever for a head, and none outlives a stop at once.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::net::drain::Drain;
use crate::net::listener::Listener;
use crate::net::stream::{Peer, Stream};

/// Connections at once; the next one waits to be accepted.
const CONNECTIONS: usize = 128;
/// How long a head may take; an idle connection is closed after it too.
const HEAD: Duration = Duration::from_secs(30);
const HEAD_BYTES: usize = 16 * 1024;
/// How long answers in progress may take after a stop was asked for.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves `router` at `listener` until `drain`. During a hold nothing is accepted. The operator's [`Peer`] is an extension
/// of each request.
pub(super) async fn serve(mut listener: Listener, router: Router, mut drain: Drain) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let round = (drain.accepting(), drain.working());
        accept(&mut listener, &router, (&permits, &mut connections), &mut drain).await;
        if drain.is_requested() {
            break;
        }
        drop(round.0);
        let mut resumed = drain.clone();
        tokio::select! {
            () = drain.requested() => break,
            () = resumed.resumed() => {}
            () = async {
                while connections.join_next().await.is_some() {}
                drop(round.1);
                std::future::pending::<()>().await;
            } => {}
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = drain.aborted() => {}
        _ = timeout(FAREWELL, all) => {}
    }
}

/// Accepts until a stop or a hold.
async fn accept(
    listener: &mut Listener,
    router: &Router,
    (permits, connections): (&Arc<Semaphore>, &mut JoinSet<()>),
    drain: &mut Drain,
) {
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = Arc::clone(permits).acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        tokio::select! {
            biased;
            () = drain.interrupted() => return,
            Some(_) = connections.join_next() => {}
            ((stream, peer), permit) = accepted => {
                let connection = converse(stream, peer, router.clone(), drain.clone());
                connections.spawn_local(async move {
                    connection.await;
                    drop(permit);
                });
            }
        }
    }
}

async fn converse(stream: Stream, peer: Peer, router: Router, mut drain: Drain) {
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks is the operator's own loss, and nothing to tell.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.interrupted() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    drop(ended);
}
