//! A browser as far as HTTP goes: a cookie jar, Fetch Metadata, redirects on request.

use bytes::Bytes;
use http::header::{COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use sessionbridge::net::MemoryDialer;
use sessionbridge::wire::jar;
use sessionbridge::wire::set_cookie::{Lifetime, SetCookie};

/// A cookie as the browser keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) path: String,
    pub(crate) persistent: bool,
    pub(crate) host: String,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// When the app's session began, in unix milliseconds: the index page's own word.
    pub(crate) fn started(&self) -> u64 {
        self.json()["started"].as_u64().unwrap_or_else(|| panic!("no session in {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The Set-Cookie fields.
    pub(crate) fn set_cookies(&self) -> Vec<String> {
        self.headers
            .get_all(SET_COOKIE)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
            .collect()
    }
}

/// One person's browser.
#[derive(Clone)]
pub(crate) struct Browser {
    dialer: MemoryDialer,
    /// The host that it asks for, and every request's default headers.
    pub(crate) host: String,
    pub(crate) headers: HeaderMap,
    pub(crate) jar: Vec<Kept>,
    /// False: it returns no cookie, ever.
    pub(crate) keeps_cookies: bool,
}

impl Browser {
    pub(crate) fn new(dialer: MemoryDialer, host: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("Mozilla/5.0 (test)"));
        headers.insert("accept", HeaderValue::from_static("application/json"));
        Self { dialer, host: host.to_owned(), headers, jar: Vec::new(), keeps_cookies: true }
    }

    /// The same person's browser on another host: the jar knows which cookie is whose.
    pub(crate) fn at(&mut self, host: &str) -> &mut Self {
        host.clone_into(&mut self.host);
        self
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.send(Method::GET, target, &[], Bytes::new()).await
    }

    /// A top-level navigation, with the metadata of a browser of today.
    pub(crate) async fn visit(&mut self, target: &str) -> Answer {
        self.navigate(target, "none").await
    }

    /// A top-level navigation that a page of `site` caused (`same-origin`, `same-site`, `cross-site`, `none`).
    pub(crate) async fn navigate(&mut self, target: &str, site: &str) -> Answer {
        let headers = [
            ("sec-fetch-site", site),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept", "text/html,application/xhtml+xml"),
        ];
        self.send(Method::GET, target, &headers, Bytes::new()).await
    }

    /// As [`Browser::visit`], and wherever redirects lead; ten at the most.
    pub(crate) async fn follow(&mut self, target: &str) -> Answer {
        let mut answer = self.visit(target).await;
        for _ in 0..10 {
            let Some(location) = answer.header(LOCATION.as_str()).map(str::to_owned) else { return answer };
            let target = match location.split_once("://") {
                Some((_, rest)) => {
                    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                    self.at(host);
                    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
                }
                None => location,
            };
            answer = self.navigate(&target, "same-origin").await;
        }
        panic!("ten redirects and no end");
    }

    pub(crate) async fn post(&mut self, target: &str, form: &str) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, target, &headers, Bytes::from(form.to_owned())).await
    }

    /// A POST of one of the site's own pages.
    pub(crate) async fn own_post(&mut self, target: &str) -> Answer {
        self.send(Method::POST, target, &[("sec-fetch-site", "same-origin")], Bytes::new()).await
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target).body(Full::new(body)).unwrap();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert("host", HeaderValue::from_str(&self.host).unwrap());
        if let Some(cookies) = self.cookies(target) {
            request.headers_mut().insert(COOKIE, HeaderValue::from_str(&cookies).unwrap());
        }
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let answer = self.raw(request).await;
        self.store(target, &answer.headers);
        answer
    }

    /// Sends a request as it is, on a connection of its own.
    pub(crate) async fn raw(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = TokioIo::new(self.dialer.connect().unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        connection.abort();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A connection of its own, for what is not HTTP alone.
    pub(crate) fn connect(&self) -> tokio::io::DuplexStream {
        self.dialer.connect().unwrap()
    }

    /// The Cookie field for a request: longest path first.
    pub(crate) fn cookies(&self, target: &str) -> Option<String> {
        let path = target.split('?').next().unwrap_or(target);
        let mut sent: Vec<&Kept> = self
            .jar
            .iter()
            .filter(|cookie| {
                cookie.host == self.host && jar::path_match(cookie.path.as_bytes(), path.as_bytes())
            })
            .collect();
        sent.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> =
            sent.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// The value of a cookie in the jar.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.iter().find(|cookie| cookie.name == name).map(|cookie| &*cookie.value)
    }

    /// Puts a cookie into the jar by hand.
    pub(crate) fn plant(&mut self, name: &str, value: &str, path: &str) {
        self.jar.push(Kept {
            name: name.into(),
            value: value.into(),
            path: path.into(),
            persistent: false,
            host: self.host.clone(),
        });
    }

    fn store(&mut self, target: &str, headers: &HeaderMap) {
        let asked = target.split('?').next().unwrap_or(target);
        for field in headers.get_all(SET_COOKIE).iter().filter(|_| self.keeps_cookies) {
            let Some(set) = SetCookie::parse(field.as_bytes()) else { continue };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let path = set.path().unwrap_or_else(|| jar::default_path(asked.as_bytes()));
            let (name, path) = (text(set.name()), text(path));
            let lifetime = set.lifetime(1_767_225_600);
            self.jar.retain(|kept| kept.name != name || kept.path != path || kept.host != self.host);
            if lifetime != Lifetime::Delete {
                let persistent = lifetime != Lifetime::Session;
                self.jar.push(Kept {
                    name,
                    value: text(set.value()),
                    path,
                    persistent,
                    host: self.host.clone(),
                });
            }
        }
    }

    /// The window is closed: what was for the session only is gone.
    pub(crate) fn close(&mut self) {
        self.jar.retain(|cookie| cookie.persistent);
    }
}
