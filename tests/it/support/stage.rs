//! Apps that answer as a test scripts them, beside the simulated ones; and what a world has said to the outside.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use sessionbridge::app::{core::Core, worker};
use sessionbridge::clock::Clock;
use sessionbridge::config;
use sessionbridge::demo::sim::server::{self, SimHandle};
use sessionbridge::demo::sim::{Profile, SimOptions};
use sessionbridge::net::{Dialer, Drainer, memory};
use sessionbridge::telemetry::access::AccessLog;

use super::{START, World, engine};

/// A request as a scripted app got it.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Asked {
    /// The path without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        cookie_of(&self.headers, name)
    }
}

/// What a scripted app answers, and how much later.
pub(crate) struct Says {
    response: Response<Bytes>,
    delay: Duration,
}

impl Says {
    /// A page that sets these cookies.
    pub(crate) fn cookies(fields: &[&str]) -> Self {
        let mut says = Self { response: Response::new(Bytes::from_static(b"{}")), delay: Duration::ZERO };
        for field in fields {
            says.response.headers_mut().append("set-cookie", HeaderValue::from_str(field).unwrap());
        }
        says.header("content-type", "application/json")
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        *self.response.status_mut() = StatusCode::from_u16(status).unwrap();
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.response.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn body(mut self, body: &'static [u8]) -> Self {
        *self.response.body_mut() = Bytes::from_static(body);
        self
    }

    /// A page of HTML.
    pub(crate) fn html(page: impl Into<String>) -> Self {
        let mut says = Self::cookies(&[]);
        *says.response.body_mut() = Bytes::from(page.into());
        says.response.headers_mut().remove("content-type");
        says.header("content-type", "text/html")
    }

    pub(crate) fn after(mut self, seconds: f64) -> Self {
        self.delay = Duration::from_secs_f64(seconds);
        self
    }
}

/// An app that answers by a function, and remembers what it was asked. Clones are the same app.
#[derive(Clone)]
pub(crate) struct Script {
    name: &'static str,
    asked: Rc<RefCell<Vec<Asked>>>,
    answer: Rc<dyn Fn(&Asked) -> Says>,
}

impl Script {
    /// Reached at `http://NAME`.
    pub(crate) fn new(name: &'static str, answer: impl Fn(&Asked) -> Says + 'static) -> Self {
        Self { name, asked: Rc::default(), answer: Rc::new(answer) }
    }

    /// Everything it was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// What it was asked last.
    pub(crate) fn last(&self) -> Asked {
        self.asked.borrow().last().cloned().expect("nobody asked")
    }

    async fn serve(self, stream: tokio::io::DuplexStream) {
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let script = self.clone();
            async move {
                let (parts, body) = request.into_parts();
                // Read to its end, as a server does before it answers.
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let (target, body) = (parts.uri.to_string(), String::from_utf8_lossy(&body).into_owned());
                let asked = Asked { method: parts.method, target, headers: parts.headers, body };
                let says = (script.answer)(&asked);
                script.asked.borrow_mut().push(asked);
                tokio::time::sleep(says.delay).await;
                Ok::<_, Infallible>(says.response.map(Full::new))
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        let _ = http.header_read_timeout(None).serve_connection(TokioIo::new(stream), service).await;
    }
}

impl World {
    /// As [`World::new`], with scripted apps beside the simulated ones and an access log.
    pub(crate) fn staged(
        toml: &str,
        apps: impl IntoIterator<Item = SimOptions>,
        scripts: &[&Script],
        access: AccessLog,
    ) -> Self {
        let clock = Clock::at(START);
        let millis: server::Clock = Arc::new(move || clock.now().millis());
        let apps: HashMap<String, SimHandle> = apps
            .into_iter()
            .map(|options| (options.name.to_lowercase(), SimHandle::new(options, Arc::clone(&millis))))
            .collect();
        let (config, _) =
            config::load_str("test.toml", &format!("listen = \"127.0.0.1:0\"\n{toml}"), &mut super::names())
                .unwrap_or_else(|report| panic!("{report}"));
        let core = Core::new(config, clock, access);
        let (listener, front) = memory();
        let (drainer, drain) = Drainer::new();
        let scripts: Vec<Script> = scripts.iter().map(|script| (*script).clone()).collect();
        let dialer = dialer(&apps, scripts);
        tokio::task::spawn_local(worker::run(core.clone(), 0, vec![listener], dialer.clone(), drain));
        Self { core, apps, front, dialer, _drainer: drainer }
    }

    /// A world of scripted apps alone.
    pub(crate) fn with_scripts(toml: &str, scripts: &[&Script]) -> Self {
        Self::staged(toml, [], scripts, AccessLog::off())
    }

    /// The sum of the samples of the metric `sessionbridge_NAME` whose labels hold all of `words`.
    pub(crate) fn counter(&self, name: &str, words: &[&str]) -> u64 {
        let metrics = self.metrics();
        let of_name = |line: &&str| {
            let bare = line.split(['{', ' ']).next().unwrap_or_default();
            bare.strip_prefix("sessionbridge_").is_some_and(|bare| {
                bare == name || bare.strip_suffix("_total").is_some_and(|bare| bare == name)
            })
        };
        let lines = metrics.lines().filter(of_name);
        let lines = lines.filter(|line| words.iter().all(|word| line.contains(&format!("\"{word}\""))));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    /// The apps' time now, in unix milliseconds.
    pub(crate) fn seen_now(&self) -> u64 {
        self.apps.values().next().map(SimHandle::now).unwrap()
    }

    /// How many bridge sessions there are: bound, pending.
    pub(crate) fn bridges(&self) -> (usize, usize) {
        let counts = self.core.registry().counts();
        (counts.bound, counts.pending)
    }
}

/// The value of a cookie among request headers.
pub(crate) fn cookie_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = text(headers, "cookie").split("; ").filter_map(|pair| pair.split_once('='));
    let mut values =
        pairs.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
    let first = values.next();
    assert!(values.next().is_none(), "{name} twice");
    first
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// The file extension of a profile's pages, with its dot; some have none.
pub(crate) fn extension(profile: &str) -> &'static str {
    profile.parse::<Profile>().unwrap().extension()
}

/// The table of an app at `/Name/`, whose name begins with a small letter in the config. `more` are further lines of it.
pub(crate) fn app(name: &str, profile: &str, timeout: &str, more: &str) -> String {
    let (engine, extra) = engine(profile);
    let page = extension(profile);
    let (title, upstream) = (titled(name), name.to_lowercase());
    format!(
        "[apps.{name}]\npath = \"/{title}/\"\nupstreams = [\"http://{upstream}\"]\nsession.engine = \"{engine}\"\n\
         session.timeout = \"{timeout}\"\nheartbeat.path = \"/{title}/ping{page}\"\n\
         heartbeat.canary = {{ header = \"X-Session-Started\" }}\n{extra}\n{more}\n"
    )
}

/// `AppA` of `appA`.
fn titled(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

fn dialer(apps: &HashMap<String, SimHandle>, scripts: Vec<Script>) -> Dialer {
    let apps = apps.clone();
    Dialer::Memory(Rc::new(move |origin: &str| {
        let name = origin.strip_prefix("http://").unwrap_or(origin).trim_end_matches(":80");
        let (near, far) = tokio::io::duplex(64 * 1024);
        if let Some(script) = scripts.iter().find(|script| script.name == name) {
            tokio::task::spawn_local(script.clone().serve(far));
            return Ok(near);
        }
        let handle = apps.get(name).cloned().ok_or(std::io::ErrorKind::ConnectionRefused)?;
        tokio::task::spawn_local(server::serve_stream(handle, far, IpAddr::V4(Ipv4Addr::LOCALHOST)));
        Ok(near)
    }))
}
