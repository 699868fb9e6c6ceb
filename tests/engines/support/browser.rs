//! A browser as far as sessions go: a cookie jar by RFC 6265, navigation with the headers that Chromium sends, real
//! sockets, a connection for each request.
//!
//! Cookies know no ports (RFC 6265 8.5): two engines at 127.0.0.1 share a jar, as two apps on one host do.

use std::sync::Mutex;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::DEADLINE;

const USER_AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
/// Of one navigation.
const MOST_REDIRECTS: usize = 10;

/// One person's browser.
#[derive(Debug, Default)]
pub(crate) struct Browser {
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    jar: Vec<Kept>,
    /// Origin of the page that is open.
    page: Option<String>,
    /// Everything that a page, a script or a person at the screen can see of the answers.
    seen: String,
}

/// One cookie in the jar.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    name: String,
    value: String,
    host: String,
    path: String,
    /// Unix seconds; `None`: with the browser.
    expires: Option<i64>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// The address that gave it, after redirects.
    pub(crate) url: String,
}

impl Browser {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Another browser with a copy of this one's jar, which has seen nothing yet.
    pub(crate) fn twin(&self) -> Self {
        let jar = self.state.lock().unwrap().jar.clone();
        Self { state: Mutex::new(State { jar, ..State::default() }) }
    }

    /// A script of the page asks; redirects are not followed.
    pub(crate) fn get(&self, url: &str) -> Answer {
        self.try_get(url).unwrap_or_else(|| panic!("no answer from {url}"))
    }

    /// As `get`; `None` where nobody listens or the connection breaks off.
    pub(crate) fn try_get(&self, url: &str) -> Option<Answer> {
        self.request(Method::GET, url, SCRIPT, "")
    }

    /// A person follows a link or types an address; redirects are followed.
    pub(crate) fn visit(&self, url: &str) -> Answer {
        self.navigate(Method::GET, url, "")
    }

    /// A person submits a form; redirects are followed.
    pub(crate) fn submit(&self, url: &str, form: &[(&str, &str)]) -> Answer {
        self.navigate(Method::POST, url, &encode(form))
    }

    /// One request with the cookies of the jar and these headers. `None` where nobody answers.
    pub(crate) fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let uri: Uri = url.parse().unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(uri.path_and_query().unwrap().as_str())
            .header(HOST, uri.authority().unwrap().as_str())
            .header("user-agent", USER_AGENT)
            .header("accept-language", "en-GB,en;q=0.9");
        let cookies = self.cookies(url);
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = send(&uri, request.body(Full::new(Bytes::from(body.to_owned()))).unwrap())?;
        let mut state = self.state.lock().unwrap();
        for line in answer.headers.get_all(SET_COOKIE) {
            state.keep(&uri, &String::from_utf8_lossy(line.as_bytes()));
        }
        state.seen += &format!("{:?}\n{}\n", answer.headers, answer.body);
        Some(answer)
    }

    /// The Cookie header that `url` would get; longer paths first, then older cookies (RFC 6265 5.4).
    pub(crate) fn cookies(&self, url: &str) -> String {
        let uri: Uri = url.parse().unwrap();
        let state = self.state.lock().unwrap();
        let mut fit: Vec<&Kept> = state.jar.iter().filter(|kept| kept.fits(&uri)).collect();
        fit.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        fit.iter().map(|kept| format!("{}={}", kept.name, kept.value)).collect::<Vec<_>>().join("; ")
    }

    /// The value of the cookie `name` that `url` would get.
    pub(crate) fn cookie(&self, url: &str, name: &str) -> Option<String> {
        let all = self.cookies(url);
        all.split("; ").find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }

    /// True where `text` was in any head or body that this browser got.
    pub(crate) fn has_seen(&self, text: &str) -> bool {
        self.state.lock().unwrap().seen.contains(text)
    }

    /// One request of nobody: no jar, this Cookie header (none where it is empty), this form (none where it is empty).
    pub(crate) fn bare(url: &str, cookies: &str, form: &str) -> Answer {
        let method = if form.is_empty() { Method::GET } else { Method::POST };
        let all = [("cookie", cookies), ("content-type", "application/x-www-form-urlencoded")];
        let headers = if cookies.is_empty() { &all[1..] } else { &all };
        Self::new().request(method, url, headers, form).unwrap_or_else(|| panic!("no answer from {url}"))
    }

    fn navigate(&self, method: Method, url: &str, body: &str) -> Answer {
        let (mut method, mut url, mut body) = (method, url.to_owned(), body);
        let from = self.state.lock().unwrap().page.clone();
        for _ in 0..=MOST_REDIRECTS {
            let own = origin(&url);
            let site = match &from {
                None => "none",
                Some(from) if *from == own => "same-origin",
                // Another port of one host is the same site.
                Some(_) => "same-site",
            };
            let mut headers = vec![("sec-fetch-site", site)];
            headers.extend_from_slice(NAVIGATION);
            if method == Method::POST {
                headers.push((CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded"));
                headers.push((ORIGIN.as_str(), from.as_deref().unwrap_or(&own)));
            }
            let answer = self.request(method.clone(), &url, &headers, body);
            let answer = answer.unwrap_or_else(|| panic!("no answer from {url}"));
            let location = answer.header(LOCATION.as_str());
            let (301..=308, Some(location)) = (answer.status, location) else {
                self.state.lock().unwrap().page = Some(own);
                return answer;
            };
            if answer.status < 307 && method == Method::POST {
                (method, body) = (Method::GET, "");
            }
            url = resolve(&url, &location);
        }
        panic!("redirected again and again, last to {url}");
    }
}

/// What Chromium says of a script's request to its own origin.
const SCRIPT: &[(&str, &str)] = &[
    ("accept", "*/*"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-dest", "empty"),
];
/// What Chromium says of a navigation, besides `Sec-Fetch-Site`.
const NAVIGATION: &[(&str, &str)] = &[
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-user", "?1"),
    ("sec-fetch-dest", "document"),
];

impl State {
    /// RFC 6265 5.3, without the public suffix list.
    fn keep(&mut self, uri: &Uri, line: &str) {
        let Ok(cookie) = cookie::Cookie::parse(line.to_owned()) else { return };
        let host = uri.host().unwrap();
        if cookie.domain().is_some_and(|domain| domain != host) || cookie.secure() == Some(true) {
            return;
        }
        let now = jiff::Timestamp::now().as_second();
        let expires = match cookie.max_age() {
            Some(age) => Some(now.saturating_add(age.whole_seconds())),
            None => cookie.expires_datetime().map(|at| at.unix_timestamp()),
        };
        let path = cookie.path().filter(|path| path.starts_with('/'));
        let kept = Kept {
            name: cookie.name().to_owned(),
            value: cookie.value().to_owned(),
            host: host.to_owned(),
            path: path.map_or_else(|| default_path(uri), str::to_owned),
            expires,
        };
        let dead = expires.is_some_and(|at| at <= now);
        let same = |old: &Kept| (&old.name, &old.host, &old.path) == (&kept.name, &kept.host, &kept.path);
        match self.jar.iter_mut().find(|old| same(old)) {
            _ if dead => self.jar.retain(|old| !same(old)),
            Some(old) => *old = kept,
            None => self.jar.push(kept),
        }
    }
}

impl Kept {
    fn fits(&self, uri: &Uri) -> bool {
        let rest = uri.path().strip_prefix(&*self.path);
        let path =
            rest.is_some_and(|rest| rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/'));
        let now = jiff::Timestamp::now().as_second();
        path && uri.host() == Some(&*self.host) && self.expires.is_none_or(|at| at > now)
    }
}

impl Answer {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// Every Set-Cookie line.
    pub(crate) fn set_cookies(&self) -> Vec<String> {
        let lines = self.headers.get_all(SET_COOKIE).iter();
        lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
    }

    /// The names of the cookies that it sets, in its order; deletions have a `-` before them.
    pub(crate) fn names_set(&self) -> Vec<String> {
        let name = |line: String| {
            let (name, rest) = line.split_once('=').unwrap();
            if rest.starts_with(';') { format!("-{name}") } else { name.to_owned() }
        };
        self.set_cookies().into_iter().map(name).collect()
    }

    /// The value that it gives the cookie `name`; the last one counts.
    pub(crate) fn value_set(&self, name: &str) -> String {
        let lines = self.set_cookies();
        let last = lines.iter().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        last.unwrap_or_else(|| panic!("{name} is not set: {lines:?}")).split(';').next().unwrap().to_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {} {:?}", self.status, self.url, self.body))
    }

    /// What stands in `<output id="NAME">`.
    pub(crate) fn output(&self, id: &str) -> String {
        let begin = format!("<output id=\"{id}\">");
        let rest = self.body.split_once(&begin).map(|(_, rest)| rest);
        let text = rest.and_then(|rest| rest.split_once("</output>")).map(|(text, _)| text.trim().to_owned());
        text.unwrap_or_else(|| panic!("no output {id}: {} {} {:?}", self.status, self.url, self.body))
    }
}

fn encode(form: &[(&str, &str)]) -> String {
    let part = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let pairs = form.iter().map(|(name, value)| format!("{}={}", part(name), part(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn origin(url: &str) -> String {
    let uri: Uri = url.parse().unwrap();
    format!("{}://{}", uri.scheme_str().unwrap(), uri.authority().unwrap())
}

/// RFC 6265 5.1.4.
fn default_path(uri: &Uri) -> String {
    match uri.path().rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(end) => uri.path()[..end].to_owned(),
    }
}

/// The address that `location` means on the page `base`: absolute, from the root, or beside the page.
fn resolve(base: &str, location: &str) -> String {
    let plain = base.split(['?', '#']).next().unwrap();
    if location.contains("://") {
        location.to_owned()
    } else if location.starts_with('/') {
        origin(base) + location
    } else if location.starts_with('?') {
        format!("{plain}{location}")
    } else {
        let folder = plain.rfind('/').unwrap();
        let location = location.strip_prefix("./").unwrap_or(location);
        format!("{}/{location}", &plain[..folder])
    }
}

fn send(uri: &Uri, request: Request<Full<Bytes>>) -> Option<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(uri.authority().unwrap().as_str()).await.ok()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            url: uri.to_string(),
        })
    };
    let answer = runtime.block_on(async { tokio::time::timeout(DEADLINE, exchange).await });
    answer.unwrap_or_else(|_| panic!("{} does not answer", uri.path()))
}
