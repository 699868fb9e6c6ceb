//! An app that answers what a test tells it to, for what no engine does of itself; and a proxy before such apps.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use sessionbridge::app::{core::Core, worker};
use sessionbridge::clock::Clock;
use sessionbridge::config;
use sessionbridge::demo::sim::SimOptions;
use sessionbridge::demo::sim::server::{self, SimHandle};
use sessionbridge::net::resolve::Lookup;
use sessionbridge::net::upstream::DialMemory;
use sessionbridge::net::{Dialer, Drainer, Reach, Resolver, memory};
use sessionbridge::telemetry::access::AccessLog;

use super::{START, World};

/// What a scripted app answers.
#[derive(Clone, Debug)]
pub(crate) struct Say {
    status: u16,
    headers: Vec<(&'static str, String)>,
    chunk: Bytes,
    chunks: usize,
    after: Duration,
}

impl Say {
    /// An empty answer.
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), chunk: Bytes::new(), chunks: 0, after: Duration::ZERO }
    }

    /// 200 with these bytes.
    pub(crate) fn body(body: impl Into<Bytes>) -> Self {
        Self { chunk: body.into(), chunks: 1, ..Self::status(200) }
    }

    /// The body so many times over.
    pub(crate) fn times(mut self, chunks: usize) -> Self {
        self.chunks = chunks;
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same, so many seconds later.
    pub(crate) fn after(mut self, seconds: f64) -> Self {
        self.after = Duration::from_secs_f64(seconds);
        self
    }
}

/// A request that a scripted app was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Seconds since the world began.
    pub(crate) at: f64,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    pub(crate) fn heartbeat(&self) -> bool {
        self.headers.contains_key("x-session-heartbeat")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

type Answers = Box<dyn FnMut(&Parts) -> Say>;

struct State {
    answers: Answers,
    asked: Vec<Asked>,
    down: bool,
    refused: usize,
    open: usize,
    most_open: usize,
    chunks_taken: usize,
}

/// An app that answers by a closure. Clones are the same app.
#[derive(Clone)]
pub(crate) struct Script(Rc<RefCell<State>>);

impl Script {
    pub(crate) fn new(answers: impl FnMut(&Parts) -> Say + 'static) -> Self {
        Self(Rc::new(RefCell::new(State {
            answers: Box::new(answers),
            asked: Vec::new(),
            down: false,
            refused: 0,
            open: 0,
            most_open: 0,
            chunks_taken: 0,
        })))
    }

    /// From now on it answers so.
    pub(crate) fn now(&self, answers: impl FnMut(&Parts) -> Say + 'static) {
        self.0.borrow_mut().answers = Box::new(answers);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.0.borrow().asked.clone()
    }

    pub(crate) fn beats(&self) -> Vec<Asked> {
        self.0.borrow().asked.iter().filter(|asked| asked.heartbeat()).cloned().collect()
    }

    /// While it is down, connections are refused, those that are open included.
    pub(crate) fn down(&self, down: bool) {
        self.0.borrow_mut().down = down;
    }

    /// How many connections were refused.
    pub(crate) fn refused(&self) -> usize {
        self.0.borrow().refused
    }

    /// The most heartbeats that were being answered at one time.
    pub(crate) fn most_open(&self) -> usize {
        self.0.borrow().most_open
    }

    /// How many chunks of bodies were asked for.
    pub(crate) fn chunks_taken(&self) -> usize {
        self.0.borrow().chunks_taken
    }

    async fn serve(self, stream: tokio::io::DuplexStream, clock: Clock) {
        let this = self.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let this = this.clone();
            async move { Ok::<_, Infallible>(this.answer(request, clock).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        let serving = server.header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
        let mut serving = std::pin::pin!(serving);
        loop {
            tokio::select! {
                _ = serving.as_mut() => return,
                () = tokio::time::sleep(Duration::from_millis(50)), if self.0.borrow().down => return,
                () = tokio::time::sleep(Duration::from_secs(1)), if !self.0.borrow().down => {}
            }
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        clock: Clock,
    ) -> Response<StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + use<>>>
    {
        let (parts, _) = request.into_parts();
        let say = {
            let state = &mut *self.0.borrow_mut();
            let asked = Asked {
                at: clock.now().since(START).as_secs_f64(),
                path: parts.uri.to_string(),
                headers: parts.headers.clone(),
            };
            state.open += usize::from(asked.heartbeat());
            state.most_open = state.most_open.max(state.open);
            state.asked.push(asked);
            (state.answers)(&parts)
        };
        tokio::time::sleep(say.after).await;
        let heartbeat = parts.headers.contains_key("x-session-heartbeat");
        self.0.borrow_mut().open -= usize::from(heartbeat);
        let (this, chunk) = (self.clone(), say.chunk);
        let chunks = futures_util::stream::iter((0..say.chunks).map(move |_| {
            this.0.borrow_mut().chunks_taken += 1;
            Ok(Frame::data(chunk.clone()))
        }));
        let mut response = Response::new(StreamBody::new(chunks));
        *response.status_mut() = http::StatusCode::from_u16(say.status).unwrap();
        for (name, value) in say.headers {
            response.headers_mut().append(name, value.parse().unwrap());
        }
        response
    }
}

impl World {
    /// As [`World::new`], with scripted apps beside the simulated ones: the upstream of script `NAME` is `http://NAME`.
    pub(crate) fn scripted(
        toml: &str,
        scripts: impl IntoIterator<Item = (&'static str, Script)>,
        apps: impl IntoIterator<Item = SimOptions>,
    ) -> Self {
        Self::dialed(toml, scripts, apps, Dialer::Memory)
    }

    /// As [`World::scripted`], without simulated apps: names of upstreams are looked up by `lookup`, and the script of the
    /// address is asked.
    pub(crate) fn resolving(
        toml: &str,
        lookup: Lookup,
        scripts: impl IntoIterator<Item = (&'static str, Script)>,
    ) -> Self {
        let dialer = |dial| Dialer::Resolving(Resolver::with(lookup), Reach::Memory(dial));
        Self::dialed(toml, scripts, [], dialer)
    }

    fn dialed(
        toml: &str,
        scripts: impl IntoIterator<Item = (&'static str, Script)>,
        apps: impl IntoIterator<Item = SimOptions>,
        dialer: impl FnOnce(DialMemory) -> Dialer,
    ) -> Self {
        let clock = Clock::at(START);
        let millis: server::Clock = Arc::new(move || clock.now().millis());
        let apps: HashMap<String, SimHandle> = apps
            .into_iter()
            .map(|options| (options.name.to_lowercase(), SimHandle::new(options, Arc::clone(&millis))))
            .collect();
        let scripts: HashMap<&'static str, Script> = scripts.into_iter().collect();
        let (config, _) =
            config::load_str("test.toml", &format!("listen = \"127.0.0.1:0\"\n{toml}"), &mut super::names())
                .unwrap_or_else(|report| panic!("{report}"));
        let core = Core::new(config, clock, AccessLog::off());
        let (listener, front) = memory();
        let (drainer, drain) = Drainer::new();
        let dialed = apps.clone();
        let dialer = dialer(Rc::new(move |origin: &str| {
            let name = origin.strip_prefix("http://").unwrap_or(origin).trim_end_matches(":80");
            let (near, far) = tokio::io::duplex(64 * 1024);
            if let Some(script) = scripts.get(name) {
                if script.0.borrow().down {
                    script.0.borrow_mut().refused += 1;
                    return Err(std::io::ErrorKind::ConnectionRefused.into());
                }
                tokio::task::spawn_local(script.clone().serve(far, clock));
                return Ok(near);
            }
            let handle = dialed.get(name).cloned().ok_or(std::io::ErrorKind::ConnectionRefused)?;
            tokio::task::spawn_local(server::serve_stream(handle, far, IpAddr::V4(Ipv4Addr::LOCALHOST)));
            Ok(near)
        }));
        tokio::task::spawn_local(worker::run(core.clone(), 0, vec![listener], dialer.clone(), drain));
        Self { core, apps, front, dialer, drainer }
    }

    /// The number of a metric: `name` with all its labels, as it is scraped.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |number| number.trim().parse().unwrap())
    }

    /// Heartbeats to `app` with that verdict.
    pub(crate) fn verdicts(&self, app: &str, verdict: &str) -> f64 {
        self.metric(&format!("sessionbridge_heartbeats_total{{app=\"{app}\",result=\"{verdict}\"}}"))
    }
}

/// The config of one scripted app at `/app/` that holds a servlet's session of 30 s, asked at `/app/ping`.
pub(crate) fn script_config(heartbeat: &str, more: &str) -> String {
    format!(
        r#"
[apps.app]
path = "/app/"
upstreams = ["http://app"]
session.engine = "servlet"
session.timeout = "30s"
heartbeat.path = "/app/ping"
heartbeat.jitter = "0%"
{heartbeat}

{more}
"#
    )
}

/// A new id of a servlet container.
pub(crate) fn servlet_cookie(id: char) -> String {
    format!("JSESSIONID={}; Path=/app; HttpOnly", String::from(id).repeat(32))
}

/// Answers as an app does that gives `A...` to who shows no session, and says `ok` to all.
pub(crate) fn simple(parts: &Parts) -> Say {
    let known =
        parts.headers.get("cookie").is_some_and(|line| line.to_str().unwrap().contains("JSESSIONID="));
    let say = Say::body("ok");
    if known { say } else { say.with("set-cookie", servlet_cookie('A')) }
}
