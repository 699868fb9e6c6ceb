//! The built program in front of one engine or several, and its operators' view.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use http::Method;
use serde_json::Value;

use super::{Answer, Browser, Engine, wait_for, work_folder};
use crate::walks::{App, Site};

/// `sessionbridge run` in the background; killed when dropped.
pub(crate) struct Bridge {
    child: Child,
    address: String,
    admin: String,
    /// Holds the config and the log.
    work: tempfile::TempDir,
}

impl Bridge {
    /// In front of the two apps of `engine`, as `appA` and `appB`. `more` are further lines at the top of the config.
    pub(crate) fn start(site: &Site, engine: &Engine, more: &str) -> Self {
        Self::run(&format!("{more}\n{}", site.config(engine, ["appA", "appB"])))
    }

    /// With this config, which names neither `listen` nor `admin.listen`.
    pub(crate) fn run(config: &str) -> Self {
        let work = work_folder("bridge");
        let (file, log) = (work.path().join("config.toml"), work.path().join("log"));
        let head = "listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n";
        fs::write(&file, format!("{head}{config}")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sessionbridge"))
            .args(["run", "--config"])
            .arg(&file)
            .env("STATE_DIRECTORY", work.path().join("state"))
            .stdin(Stdio::null())
            .stdout(File::create(work.path().join("access")).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut bridge = Self { child, address: String::new(), admin: String::new(), work };
        bridge.address = bridge.address_in_log("\"listening\"");
        bridge.admin = bridge.address_in_log("\"operators' view\"");
        bridge
    }

    /// Address of a page here: `path` begins with `/`.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Address of a page of `app`.
    pub(crate) fn url(&self, site: &Site, app: App, page: &str) -> String {
        self.at(&site.page(app, page))
    }

    /// The person's own view: `/.bridge/status`.
    pub(crate) fn status(&self, browser: &Browser) -> Value {
        let url = self.at("/.bridge/status");
        browser.request(Method::GET, &url, &[("accept", "application/json")], "").unwrap().json()
    }

    /// The state of one app in the person's own view.
    pub(crate) fn state(&self, browser: &Browser, app: &str) -> String {
        self.status(browser)["apps"][app]["state"].as_str().unwrap_or("none").to_owned()
    }

    /// The operators' API: `/api/v1/...`.
    pub(crate) fn admin(&self, method: Method, path: &str) -> Answer {
        Browser::new().request(method, &format!("http://{}{path}", self.admin), &[], "").unwrap()
    }

    /// The newest session that lives, with its `timeline`, as operators see it; for tests with one browser.
    pub(crate) fn session(&self) -> Value {
        self.newest("")
    }

    /// The session that ended last, with its `timeline`.
    pub(crate) fn ended_session(&self) -> Value {
        self.newest("?state=ended")
    }

    /// The events of that session: app (or `-`), event, detail (or nothing), such as `appA heartbeat alive`.
    pub(crate) fn timeline(&self) -> Vec<String> {
        events(&self.session())
    }

    /// Everything logged so far, access log included.
    pub(crate) fn log(&self) -> String {
        let text = |name: &str| fs::read_to_string(self.work.path().join(name)).unwrap_or_default();
        text("log") + &text("access")
    }

    fn newest(&self, which: &str) -> Value {
        let list = self.admin(Method::GET, &format!("/api/v1/sessions{which}")).json();
        let all = list["sessions"].as_array().unwrap();
        let newest = all.iter().max_by_key(|session| session["created"].as_str().unwrap().to_owned());
        let id = newest.unwrap_or_else(|| panic!("no session: {list}"))["id"].as_str().unwrap();
        self.admin(Method::GET, &format!("/api/v1/sessions/{id}")).json()
    }

    fn address_in_log(&mut self, word: &str) -> String {
        let log: PathBuf = self.work.path().join("log");
        wait_for(&format!("{word} in the log of the bridge"), || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the bridge ended: {status}\n{text}");
            }
            let line = text.lines().find(|line| line.contains(word))?;
            find(&serde_json::from_str(line).ok()?, "address")
        })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Whoever looks for the reason wants to know what the bridge saw.
            let log = self.log();
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("session read")).collect();
            eprintln!("log of the bridge:\n{}", lines.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The timeline of a session as lines.
pub(crate) fn events(session: &Value) -> Vec<String> {
    let word = |value: &Value, none: &str| value.as_str().unwrap_or(none).to_owned();
    let all = session["timeline"].as_array().unwrap().iter();
    let line = |event: &Value| {
        let parts = [word(&event["app"], "-"), word(&event["event"], ""), word(&event["detail"], "")];
        parts.join(" ").trim_end().to_owned()
    };
    all.map(line).collect()
}

/// The field `name`, wherever it is nested.
fn find(value: &Value, name: &str) -> Option<String> {
    let object = value.as_object()?;
    let own = object.get(name).and_then(Value::as_str).map(str::to_owned);
    own.or_else(|| object.values().find_map(|value| find(value, name)))
}
