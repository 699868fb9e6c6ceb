//! Two apps, a store, and proxies between them, each with a way of its own to the store.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::app::App;
use crate::browser::Browser;
use crate::link::Link;
use crate::proxy::Proxy;
use crate::server::{PASSWORD, Server};

/// How long a change on one proxy may take to be seen on all others while the store serves.
pub(crate) const NEWS: Duration = Duration::from_secs(1);
/// How long after the store is back everything that was done meanwhile may take to hold everywhere.
pub(crate) const HEALED: Duration = Duration::from_secs(10);

/// What differs between scenarios.
pub(crate) struct Setting {
    pub(crate) proxies: usize,
    pub(crate) on_outage: &'static str,
    /// How often heartbeats are sent.
    pub(crate) every: &'static str,
    /// More lines of app `a`.
    pub(crate) a: &'static str,
    /// Of app `b`.
    pub(crate) b: &'static str,
}

impl Default for Setting {
    fn default() -> Self {
        Self { proxies: 2, on_outage: "degrade", every: "5m", a: "", b: "" }
    }
}

/// All of it; it ends with the test.
pub(crate) struct Stage {
    pub(crate) proxies: Vec<Proxy>,
    /// The way of each proxy to the store.
    pub(crate) links: Vec<Link>,
    pub(crate) server: Server,
    pub(crate) a: App,
    pub(crate) b: App,
    pub(crate) folder: TempDir,
}

/// Somebody who is signed in to both apps.
pub(crate) struct Person {
    pub(crate) browser: Browser,
    pub(crate) a: u64,
    pub(crate) b: u64,
}

impl Stage {
    /// Two proxies on one server.
    pub(crate) fn new() -> Self {
        Self::of(&Setting::default())
    }

    pub(crate) fn of(setting: &Setting) -> Self {
        let server = Server::start();
        let (a, b, folder) = (App::start(), App::start(), tempfile::tempdir().unwrap());
        let store = format!(
            "[store.valkey]\nurls = \"valkey://:{PASSWORD}@${{STORE}}/0\"\non_outage = \"{}\"\n",
            setting.on_outage
        );
        write_config(folder.path(), &store, (setting, &a, &b));
        let links: Vec<Link> = (0..setting.proxies).map(|_| Link::to(server.address)).collect();
        let proxies = links.iter().map(|link| Proxy::start(folder.path(), link.address)).collect();
        Self { proxies, links, server, a, b, folder }
    }

    /// Where browsers reach proxy `number`.
    pub(crate) fn at(&self, number: usize) -> &str {
        &self.proxies[number].address
    }

    /// Somebody new at proxy `number`, signed in to both apps, whose cookie has come back.
    pub(crate) fn person(&self, number: usize) -> Person {
        Person::arrive(self.at(number))
    }

    /// A proxy in the place of one that is gone.
    pub(crate) fn replace(&mut self, number: usize) {
        self.proxies[number] = Proxy::start(self.folder.path(), self.links[number].address);
    }

    /// No app was ever shown halves of two tokens.
    pub(crate) fn nothing_was_mixed(&self) {
        assert!(
            self.a.mixed().is_empty() && self.b.mixed().is_empty(),
            "{:?} {:?}",
            self.a.mixed(),
            self.b.mixed()
        );
    }
}

impl Person {
    pub(crate) fn arrive(address: &str) -> Self {
        let mut browser = Browser::default();
        let mut sign_in = |page: &str| {
            let answer = browser.ask(address, "GET", page).unwrap();
            answer.body.parse().unwrap_or_else(|_| panic!("{page}: {answer:?}"))
        };
        let (a, b) = (sign_in("/a/in"), sign_in("/b/in"));
        let mut person = Self { browser, a, b };
        person.goes_on(address);
        person
    }

    /// In both apps she has the session that she had.
    ///
    /// On a machine that is so busy that a server of this machine does not answer within 200 ms, she asks again. Where no answer but
    /// the right one will do, [`Person::is_signed_in`] is what is asked.
    #[track_caller]
    pub(crate) fn goes_on(&mut self, address: &str) {
        let busy = |says: &[String; 2]| says.iter().any(|says| says.contains("store_outage"));
        let mut look =
            || ["/a/page", "/b/page"].map(|page| self.browser.get(address, page).unwrap_or_default());
        let began = Instant::now();
        let mut says = look();
        while busy(&says) && began.elapsed() < HEALED {
            eprintln!("the machine is too busy for its store");
            thread::park_timeout(Duration::from_millis(50));
            says = look();
        }
        assert_eq!(says, [self.a.to_string(), self.b.to_string()]);
    }

    /// What both apps say, and with which status.
    pub(crate) fn looks(&mut self, address: &str) -> [Option<(u16, String)>; 2] {
        let mut look =
            |page: &str| self.browser.ask(address, "GET", page).map(|answer| (answer.status, answer.body));
        [look("/a/page"), look("/b/page")]
    }

    /// True where they say that it is the session that she had.
    pub(crate) fn is_right(&self, says: &[Option<(u16, String)>; 2]) -> bool {
        *says == [self.a, self.b].map(|session| Some((200, session.to_string())))
    }

    /// True where in both apps she has the session that she had.
    pub(crate) fn is_signed_in(&mut self, address: &str) -> bool {
        let says = self.looks(address);
        self.is_right(&says)
    }

    /// [`Person::is_signed_in`], after [`HEALED`] at the latest.
    #[track_caller]
    pub(crate) fn is_known(&mut self, what: &str, address: &str) {
        let began = Instant::now();
        loop {
            let says = self.looks(address);
            if self.is_right(&says) {
                return;
            }
            assert!(began.elapsed() < HEALED, "{what}: {says:?} is not {} and {}", self.a, self.b);
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Signs out of everything; that was acknowledged when this returns.
    #[track_caller]
    pub(crate) fn sign_out(&mut self, address: &str) {
        // Her cookie is kept: others may have it, too.
        let answer = self.browser.clone().ask(address, "POST", "/.bridge/logout").unwrap();
        assert_eq!(answer.status, 303, "{answer:?}");
    }
}

/// The config of all proxies, and their key file, which is the same.
pub(crate) fn write_config(folder: &Path, store: &str, (setting, a, b): (&Setting, &App, &App)) {
    let app = |name: &str, app: &App, more: &str| {
        format!(
            "[apps.{name}]\npath = \"/{name}/\"\nupstreams = [\"http://{}\"]\nsession.engine = \"coldfusion\"\n\
             session.type = \"cf\"\nheartbeat.path = \"/{name}/ping\"\nsign_out.detect = [\"GET /{name}/logout\"]\n\
             sign_out.request = \"GET /{name}/leave\"\n{more}\n",
            app.address
        )
    };
    let text = format!(
        "listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nlog = {{ access = \"off\", format = \"json\" }}\n\
         server.threads = 2\nstore.kind = \"valkey\"\nstore.keys_file = \"keys\"\n\
         heartbeat = {{ every = \"{}\", jitter = \"0%\" }}\n\
         server.limits.new_sessions = {{ rate = \"100000/s\", burst = 100000, per = \"client-ip\" }}\n{store}{}{}",
        setting.every,
        app("a", a, setting.a),
        app("b", b, setting.b),
    );
    std::fs::write(folder.join("config.toml"), text).unwrap();
    std::fs::write(folder.join("keys"), "k1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    std::fs::set_permissions(folder.join("keys"), std::fs::Permissions::from_mode(0o600)).unwrap();
}
