//! A simulated application behind HTTP/1.1, on any stream.
//!
//! Invariant: the application is locked only while it makes an answer, never while anything waits.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt, future, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use super::{Live, Sim, SimOptions, ws};

/// Says what time it is, in unix milliseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

type Body = BoxBody<Bytes, Infallible>;

/// An application that is served: clones are the same application. Tests look into it by [`SimHandle::with`].
#[derive(Clone)]
pub struct SimHandle {
    sim: Arc<Mutex<Sim>>,
    locks: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    clock: Clock,
}

impl fmt::Debug for SimHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|sim| sim.fmt(f))
    }
}

impl SimHandle {
    /// An application on that clock. Tests on tokio's paused time give one that follows it.
    pub fn new(options: SimOptions, clock: Clock) -> Self {
        Self { sim: Arc::new(Mutex::new(Sim::new(options))), locks: Arc::default(), clock }
    }

    /// Works on the application. Not from inside another `with` of the same one.
    pub fn with<R>(&self, work: impl FnOnce(&mut Sim) -> R) -> R {
        work(&mut guard(&self.sim))
    }

    /// The time of this application, in unix milliseconds.
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Waits until no other request of that session is being answered.
    async fn wait_in_line(&self, key: Option<String>) -> Option<OwnedSemaphorePermit> {
        let key = key?;
        let line = {
            let mut lines = guard(&self.locks);
            lines.retain(|_, line| Arc::strong_count(line) > 1);
            Arc::clone(lines.entry(key).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        line.acquire_owned().await.ok()
    }

    async fn answer(&self, mut request: Request<Incoming>, address: IpAddr) -> Response<Body> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let request = Request::from_parts(head, body);
        let key = self.with(|sim| sim.lock_key(&request, address));
        let _turn = self.wait_in_line(key).await;
        let answer = self.with(|sim| sim.handle(self.now(), &request, address));
        if answer.hang {
            future::pending::<()>().await;
        }
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        match answer.live {
            Live::None => answer.response.map(|body| Full::new(body).boxed()),
            Live::EventStream => answer.response.map(|_| events(self.clone())),
            Live::WebSocket => {
                tokio::spawn(async move {
                    if let Ok(stream) = upgrade.await {
                        // An end by error is an end: the client has gone.
                        let _ = ws::echo(TokioIo::new(stream)).await;
                    }
                });
                answer.response.map(|body| Full::new(body).boxed())
            }
        }
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One event at once and one a second, each with the time of the application.
fn events(handle: SimHandle) -> Body {
    let ticks = tokio::time::interval(Duration::from_secs(1));
    let stream = futures_util::stream::unfold((handle, ticks), |(handle, mut ticks)| async move {
        ticks.tick().await;
        let event = Frame::data(Bytes::from(format!("data: {{\"now\":{}}}\n\n", handle.now())));
        Some((Ok::<_, Infallible>(event), (handle, ticks)))
    });
    BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(Box::pin(stream)))))
}

/// Makes a stream `Sync`, as a boxed body must be: it is only ever polled through `&mut`.
struct SyncStream<S>(Mutex<S>);

impl<S: futures_util::Stream + Unpin> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let stream = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::pin::Pin::new(stream).poll_next(cx)
    }
}

/// Serves every connection of a listener, each on a task of its own, until dropped.
///
/// # Errors
/// What `accept` says.
pub async fn serve(handle: SimHandle, listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve_stream(handle.clone(), stream, peer.ip()));
    }
}

/// Serves one connection (a socket, or one end of `tokio::io::duplex`) to its end.
pub async fn serve_stream<S>(handle: SimHandle, stream: S, address: IpAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let handle = handle.clone();
        async move { Ok::<_, Infallible>(handle.answer(request, address).await) }
    });
    // Connections are kept for ever: a test that moves its clock by minutes must not find them closed.
    let mut server = http1::Builder::new();
    let connection = server.header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
    // A connection that breaks off is the client's affair.
    let _ = connection.with_upgrades().await;
}

/// An application on a thread of its own; it stops when this is dropped.
#[derive(Debug)]
pub struct SimRemote {
    /// The application.
    pub handle: SimHandle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for SimRemote {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, which its own message has said.
            let _ = thread.join();
        }
    }
}

/// Serves an application on a free port of the loopback address.
///
/// # Errors
/// No port or no thread to be had.
pub fn spawn_thread(options: SimOptions, clock: Clock) -> io::Result<(SocketAddr, SimRemote)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (handle, stop) = (SimHandle::new(options, clock), CancellationToken::new());
    let (served, stopped) = (handle.clone(), stop.clone());
    let work = move || {
        runtime.block_on(async {
            if let Ok(listener) = TcpListener::from_std(listener) {
                let _ = stopped.run_until_cancelled(serve(served, listener)).await;
            }
        });
    };
    let name = handle.with(|sim| sim.options().name.clone());
    let thread = std::thread::Builder::new().name(name).spawn(work)?;
    Ok((address, SimRemote { handle, stop, thread: Some(thread) }))
}
