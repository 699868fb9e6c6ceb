//! The facts of the engines, one test each, with a browser that keeps cookies as browsers do.
//!
//! Invariant: a browser sends a cookie where its path allows, whichever application set it.

mod coldfusion;
mod lucee;
mod others;
mod pages;
mod server;
mod servlet;

use proptest::sample::select;

use super::*;

const T0: u64 = 1_700_000_000_000;
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A plain browser on one host, and the clock of the whole test.
struct Browser {
    jar: Vec<(String, String, String)>,
    now: u64,
    headers: Vec<(&'static str, &'static str)>,
}

struct Got {
    status: u16,
    headers: http::HeaderMap,
    body: String,
    set: Vec<String>,
}

impl Got {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn started(&self) -> u64 {
        self.json()["started"].as_u64().unwrap()
    }

    fn user(&self) -> Option<String> {
        self.json()["user"].as_str().map(ToOwned::to_owned)
    }
}

impl Browser {
    fn new() -> Self {
        Self {
            jar: Vec::new(),
            now: T0,
            headers: vec![("accept", "application/json"), ("host", "apps.test")],
        }
    }

    fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }

    fn later(&mut self, seconds: u64) -> &mut Self {
        self.now += seconds * 1000;
        self
    }

    fn get(&mut self, sim: &mut Sim, url: &str) -> Got {
        self.send(sim, "GET", url, "")
    }

    fn post(&mut self, sim: &mut Sim, url: &str, body: &str) -> Got {
        self.send(sim, "POST", url, body)
    }

    fn sign_in(&mut self, sim: &mut Sim) -> Got {
        self.post(sim, "login", "user=ann&password=x")
    }

    fn send(&mut self, sim: &mut Sim, method: &str, url: &str, body: &str) -> Got {
        let url = if url.starts_with('/') { url.to_owned() } else { format!("{}{url}", sim.options().mount) };
        let mut request = Request::builder().method(method).uri(&url);
        let sent = self.jar.iter().filter(|(_, _, path)| url.starts_with(path.as_str()));
        let cookies: Vec<String> = sent.map(|(name, value, _)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        if method == "POST" {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let answer = sim.handle(self.now, &request.body(Bytes::from(body.to_owned())).unwrap(), HOME);
        let (head, body) = answer.response.into_parts();
        let lines = head.headers.get_all("set-cookie").iter();
        let set: Vec<String> = lines.map(|line| line.to_str().unwrap().to_owned()).collect();
        set.iter().for_each(|line| self.keep(line));
        let body = String::from_utf8_lossy(&body).into_owned();
        Got { status: head.status.as_u16(), headers: head.headers, body, set }
    }

    fn keep(&mut self, line: &str) {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts.next().unwrap().split_once('=').unwrap();
        let attributes: Vec<(String, &str)> =
            parts.filter_map(|part| part.split_once('=')).map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
        let of = |name: &str| attributes.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let path = of("path").unwrap_or("/").to_owned();
        let gone = of("max-age") == Some("0") || of("expires").is_some_and(|when| when.contains("19"));
        self.jar.retain(|(n, _, p)| n != name || *p != path);
        if !gone || of("expires").is_some_and(|when| when.contains("20")) && of("max-age") != Some("0") {
            self.jar.push((name.to_owned(), value.to_owned(), path));
        }
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.iter().find(|(n, ..)| n == name).map(|(_, value, _)| value.as_str())
    }

    /// Puts a cookie into the jar, at path `/`, in the place of one of that name.
    fn plant(&mut self, name: &str, value: &str) {
        self.jar.retain(|(n, ..)| n != name);
        self.jar.push((name.to_owned(), value.to_owned(), "/".to_owned()));
    }
}

fn sim(profile: Profile) -> Sim {
    Sim::new(SimOptions::new(profile, "AppA").timeout_ms(10_000))
}

fn second(profile: Profile) -> Sim {
    Sim::new(SimOptions::new(profile, "AppB").timeout_ms(300_000))
}

/// A -> B -> A within A's timeout, in a plain browser: whether A's session is still the same.
fn survives_a_visit_to_b(profile: Profile) -> bool {
    let (mut a, mut b, mut ann) = (sim(profile), second(profile), Browser::new());
    let first = ann.get(&mut a, "index").started();
    ann.later(2).get(&mut b, "index");
    ann.later(2).get(&mut a, "index").started() == first
}

#[test]
fn runs_repeat() {
    for profile in Profile::all() {
        let run = || {
            let (mut app, mut ann) = (sim(profile), Browser::new());
            let answers =
                ["index", "set?k=v", "rotate", "index", "invalidate", "index", "links"].map(|page| {
                    let got = ann.later(1).get(&mut app, page);
                    (got.status, got.set, got.body)
                });
            format!("{answers:?}")
        };
        assert_eq!(run(), run(), "{profile}");
    }
}

/// Every profile keeps what was set, keeps the start, lives while touched and dies when it is not.
#[test]
fn sessions_live_while_touched() {
    for profile in Profile::all().filter(|p| *p != Profile::AspNetCookieless) {
        let (mut app, mut ann) = (sim(profile), Browser::new());
        let first = ann.get(&mut app, "index");
        assert!(first.json()["fresh"].as_bool().unwrap(), "{profile}");
        ann.get(&mut app, "set?note=hi");
        for _ in 0..5 {
            let ping = ann.later(9).get(&mut app, "ping");
            assert_eq!(ping.header("x-session-started"), first.started().to_string(), "{profile}");
            assert_eq!(ping.started(), first.started());
        }
        let index = ann.get(&mut app, "index");
        assert_eq!(index.started(), T0, "{profile}");
        assert_eq!(index.json()["seconds"], 45);
        assert_eq!(index.json()["data"]["note"], "hi");
        assert_eq!(app.counts().starts, 1, "{profile}");
        let late = if profile == Profile::AspNetMono { 40 } else { 10 };
        let now = ann.later(late).now;
        assert_eq!(app.live_sessions(now), 0, "{profile}");
        assert_eq!(ann.get(&mut app, "index").started(), now, "{profile}");
        assert_eq!((app.counts().starts, app.counts().timeouts), (2, 1), "{profile}");
    }
}

#[test]
fn pages_that_do_not_touch_do_not_extend() {
    // On express and Django the session stands in front of every page: tests of their own.
    let other = [Profile::AspNetMono, Profile::AspNetCookieless, Profile::Express, Profile::Django];
    for profile in Profile::all().filter(|profile| !other.contains(profile)) {
        let (mut app, mut ann) = (sim(profile), Browser::new());
        ann.get(&mut app, "index");
        for page in ["static.css", "notouch", "headers", "nothing-here"] {
            assert!(ann.later(3).get(&mut app, page).set.is_empty());
        }
        // A servlet container looks the session up for every request, before the application is asked.
        let extended = matches!(profile, Profile::Servlet | Profile::InvalidSession);
        assert_eq!(app.live_sessions(ann.now), usize::from(extended), "{profile}");
        assert_eq!(app.log().iter().filter(|seen| seen.session.is_some()).count(), 1);
    }
}

#[test]
fn sign_in_and_out_end_where_the_engine_ends_them() {
    for profile in Profile::all().filter(|p| *p != Profile::Django && *p != Profile::AspNetCookieless) {
        let (mut app, mut ann) = (sim(profile), Browser::new());
        assert_eq!(ann.get(&mut app, "index").user(), None);
        assert_eq!(ann.post(&mut app, "login", "user=ann&password=wrong").status, 200);
        let entered = ann.sign_in(&mut app);
        assert!(entered.header("location").contains("index"), "{profile}");
        assert_eq!(ann.get(&mut app, "index").user().as_deref(), Some("ann"), "{profile}");
        assert_eq!(ann.get(&mut app, "private").json()["user"], "ann");
        assert_eq!(ann.get(&mut app, "logout").status, 302);
        let mut after = ann.get(&mut app, "index");
        if profile == Profile::InvalidSession {
            assert_eq!(after.status, 500);
            after = ann.get(&mut app, "index");
        }
        let stays = (profile == Profile::LuceeJ2ee).then(|| "ann".to_owned());
        assert_eq!(after.user(), stays, "{profile}");
        assert_eq!(app.counts().sign_ins, 1);
    }
}

const PAGES: &str = "(index|set|login|logout|rotate|invalidate|private|links|relocate|ws)";
const NAMES: [&str; 9] = [
    "CFID",
    "cftoken",
    "JSESSIONID",
    "PHPSESSID",
    "connect.sid",
    "_app_session",
    ".ASPXAUTH",
    "ASP.NET_SessionId",
    "sessionid",
];

proptest::proptest! {
    /// Whatever is sent, every engine answers, and counts add up.
    #[test]
    fn nothing_sent_upsets_an_engine(
        profile in 0..15_usize,
        asks in proptest::collection::vec((PAGES, 0..20_u64, "[ -~]{0,40}", select(&NAMES)), 1..12),
    ) {
        let profile = Profile::all().nth(profile).unwrap();
        let (mut app, mut ann) = (sim(profile), Browser::new());
        for (page, seconds, value, name) in asks {
            let value = value.replace(';', "");
            ann.later(seconds).plant(name, &value);
            let got = ann.get(&mut app, &format!("{page}?{name}={}&CFID=1", ids::hex(value.as_bytes())));
            proptest::prop_assert!(got.status < 500 || profile == Profile::InvalidSession);
            let c = app.counts();
            let lives = c.starts - c.timeouts - c.logouts - c.replaced - c.lost;
            proptest::prop_assert_eq!(lives, app.sessions().len() as u64);
        }
    }
}
