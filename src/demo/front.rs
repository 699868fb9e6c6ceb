//! The demo's own two servers: the start page and what the panel asks for, and the way to the applications without a
//! bridge, which changes nothing.
//!
//! Invariant: without a bridge a request goes to its application as it came, and the answer comes back as it was.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::fill::fill;
use super::sim::server::SimHandle;
use super::view::{self, Asker};
use crate::app::core::Core;

const START: &str = include_str!("assets/start.html");
const STYLE: &str = include_str!("assets/demo.css");
const SCRIPT: &str = include_str!("assets/demo.js");
const MODE: &str = include_str!("assets/mode.js");
const ICON: &str = include_str!("assets/icon.svg");

type Body = BoxBody<Bytes, hyper::Error>;

/// One side of the demo: the same two applications, with a bridge before them or without.
#[derive(Debug)]
pub(super) struct Side {
    /// The applications.
    pub(super) apps: [SimHandle; 2],
    /// Where they listen; `None` with a bridge, which finds them itself.
    pub(super) addresses: Option<[SocketAddr; 2]>,
    /// The bridge.
    pub(super) core: Option<Core>,
    /// The port that browsers ask this side at, and that of the other side.
    pub(super) ports: (u16, u16),
    /// Where operators look.
    pub(super) operators: String,
    /// Tells one run of the demo from another: unix milliseconds of its start.
    pub(super) run: u64,
}

/// A thread that serves; it stops when this is dropped.
#[derive(Debug)]
pub(super) struct Serving {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, which its own message has said.
            let _ = thread.join();
        }
    }
}

/// Serves `side` at `listener` on a thread of its own.
///
/// # Errors
/// No thread or runtime to be had.
pub(super) fn spawn(listener: std::net::TcpListener, side: Side) -> io::Result<Serving> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, side) = (CancellationToken::new(), Arc::new(side));
    let stopped = stop.clone();
    let work = move || {
        runtime.block_on(async {
            if let Ok(listener) = TcpListener::from_std(listener) {
                stopped.run_until_cancelled(accept(listener, side)).await;
            }
        });
    };
    let thread = std::thread::Builder::new().name("guide".to_owned()).spawn(work)?;
    Ok(Serving { stop, thread: Some(thread) })
}

async fn accept(listener: TcpListener, side: Arc<Side>) {
    loop {
        // An error here is one of a connection that is gone already, or no descriptors: the next try may do better.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let side = Arc::clone(&side);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let side = Arc::clone(&side);
                async move { Ok::<_, Infallible>(side.answer(request).await) }
            });
            // A connection that breaks off is the browser's affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Side {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let to = self.addresses.and_then(|addresses| {
            ["/AppA/", "/AppB/"].iter().zip(addresses).find(|(mount, _)| path.starts_with(**mount))
        });
        if let Some((_, address)) = to {
            return pass_on(request, address).await.unwrap_or_else(|error| {
                text(StatusCode::BAD_GATEWAY, "text/plain", format!("the application is gone: {error}\n"))
            });
        }
        self.own(path, request.headers())
    }

    fn own(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        match path {
            "/" => text(StatusCode::OK, "text/html; charset=utf-8", START),
            "/demo/demo.css" => text(StatusCode::OK, "text/css; charset=utf-8", STYLE),
            "/demo/demo.js" => text(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT),
            "/demo/mode.js" => text(StatusCode::OK, "text/javascript; charset=utf-8", self.mode(headers)),
            "/demo/icon.svg" | "/favicon.ico" => text(StatusCode::OK, "image/svg+xml", ICON),
            "/demo/state.json" => text(StatusCode::OK, "application/json", self.state(headers)),
            _ => text(StatusCode::NOT_FOUND, "text/plain", "There is no such page in the demo.\n"),
        }
    }

    /// What the pages must know before they are painted.
    fn mode(&self, headers: &HeaderMap) -> String {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let mode = if self.core.is_some() { "with" } else { "without" };
        let other = format!("http://{}", other_side(host, self.ports.1));
        let run = self.run.to_string();
        let values = [("mode", mode), ("other", &*other), ("run", &run), ("operators", &self.operators)];
        // As JSON strings: a Host header must not be able to write script.
        let quoted = values.map(|(name, value)| (name, serde_json::Value::from(value).to_string()));
        fill(MODE, &quoted.each_ref().map(|(name, value)| (*name, &**value)))
    }

    fn state(&self, headers: &HeaderMap) -> String {
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let state = view::state(&self.apps, self.core.as_ref(), Asker::read(lines));
        serde_json::to_string(&state).unwrap_or_default()
    }
}

/// Host and port of the other side for a browser that asked at `host`.
///
/// Cookies know no ports (RFC 6265 8.5): on one host the two sides would see each other's. So the other side goes by
/// this machine's other name where it has two.
fn other_side(host: &str, port: u16) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match name {
        "localhost" => format!("127.0.0.1:{port}"),
        "127.0.0.1" | "[::1]" | "" => format!("localhost:{port}"),
        other => format!("{other}:{port}"),
    }
}

async fn pass_on(request: Request<Incoming>, to: SocketAddr) -> Result<Response<Body>, PassError> {
    let stream = TcpStream::connect(to).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(|body| body.boxed()))
}

/// Why an application was not reached.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error("no connection")]
    Connect(#[from] io::Error),
    #[error("no answer")]
    Http(#[from] hyper::Error),
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_side_goes_by_the_other_name() {
        for (host, other) in [
            ("127.0.0.1:8080", "localhost:9"),
            ("localhost:8080", "127.0.0.1:9"),
            ("localhost", "127.0.0.1:9"),
            ("[::1]:8080", "localhost:9"),
            ("[::1]", "localhost:9"),
            ("box.example.org:80", "box.example.org:9"),
            ("", "localhost:9"),
        ] {
            assert_eq!(other_side(host, 9), other, "{host}");
        }
    }
}
