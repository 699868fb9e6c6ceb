//! The same apps on one host without the proxy: what people have today.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use sessionbridge::clock::Clock;
use sessionbridge::demo::sim::{Sim, SimOptions};
use sessionbridge::net::memory;

use super::{Browser, START};

/// A browser whose host serves `apps` by path, and nothing between them.
pub(crate) fn without_proxy(apps: impl IntoIterator<Item = SimOptions>) -> Browser {
    let clock = Clock::at(START);
    let apps: Rc<Vec<_>> = Rc::new(apps.into_iter().map(|options| RefCell::new(Sim::new(options))).collect());
    let (mut listener, front) = memory();
    let answer = move |request: Request<Incoming>| {
        let apps = Rc::clone(&apps);
        async move { Ok::<_, Infallible>(by_path(&apps, clock.now().millis(), request).await) }
    };
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await;
            let service = hyper::service::service_fn(answer.clone());
            let server = hyper::server::conn::http1::Builder::new();
            tokio::task::spawn_local(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    Browser::new(front, "apps.example.org")
}

async fn by_path(apps: &[RefCell<Sim>], now: u64, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body.collect().await.unwrap().to_bytes());
    let app = apps.iter().find(|app| request.uri().path().starts_with(&app.borrow().options().mount));
    let answer = app.unwrap().borrow_mut().handle(now, &request, IpAddr::V4(Ipv4Addr::LOCALHOST));
    answer.response.map(Full::new)
}
