//! The same apps on one host without the proxy: what people have today.

use std::net::{IpAddr, Ipv4Addr};

use http::Request;
use http_body_util::BodyExt as _;
use sessionbridge::clock::Clock;
use sessionbridge::demo::sim::{Sim, SimOptions};
use sessionbridge::net::{Body, Connections, Drainer, LastWord, ServeOptions, memory, serve};

use super::{Browser, START};

/// A browser whose host serves `apps` by path, and nothing between them.
pub(crate) fn without_proxy(apps: impl IntoIterator<Item = SimOptions>) -> (Browser, Drainer) {
    let clock = Clock::at(START);
    let apps: Vec<_> = apps.into_iter().map(|options| std::cell::RefCell::new(Sim::new(options))).collect();
    let apps = std::rc::Rc::new(apps);
    let (listener, front) = memory();
    let (drainer, drain) = Drainer::new();
    let service = move |request: Request<hyper::body::Incoming>, _| {
        let apps = std::rc::Rc::clone(&apps);
        async move {
            let (parts, body) = request.into_parts();
            let request = Request::from_parts(parts, body.collect().await.unwrap().to_bytes());
            let app = apps.iter().find(|app| request.uri().path().starts_with(&app.borrow().options().mount));
            let now = clock.now().millis();
            let answer = app.unwrap().borrow_mut().handle(now, &request, IpAddr::V4(Ipv4Addr::LOCALHOST));
            answer.response.map(Body::full)
        }
    };
    let seconds = std::time::Duration::from_secs;
    let options = ServeOptions {
        connections: Connections::new(100),
        max_header_bytes: 32 * 1024,
        header: seconds(10),
        idle: seconds(75),
        body_stall: seconds(30),
        drain_timeout: seconds(1),
        last_word: LastWord::new(|_| bytes::Bytes::new()),
    };
    tokio::task::spawn_local(async move { serve(listener, service, &options, drain).await });
    (Browser::new(front, "apps.example.org"), drainer)
}
