//! Lucee in two generations, 6.2 on Tomcat and 5.4 on Jetty, each with CF sessions (`cfid`, `cftoken`) and with J2EE sessions
//! (`JSESSIONID`).

mod seen_cf;
mod seen_jee;
mod share;
mod urls;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::init;
use crate::support::{Answer, Bridge, Browser, Engine};
use crate::walks::{self, App, Person, Site, Way};

const CF: Site = Site {
    folder: "lucee",
    engine: "lucee",
    extension: ".cfm",
    config: "session.type = \"cf\"",
    tokens: &["cfid", "cftoken"],
    adopts: true,
    ..Site::DEFAULT
};
const JEE: Site = Site {
    suffix: "J",
    config: "session.type = \"j2ee\"",
    // A sign-in changes the pair, JSESSIONID stays.
    tokens: &["JSESSIONID", "cfid", "cftoken"],
    adopts: false,
    // What it ends is the application's session, not the container's.
    logout_keeps_id: true,
    ..CF
};

pub(crate) static CF_ON_TOMCAT: Site = Site { name: "Lucee 6.2, CF sessions", variant: "tomcat", ..CF };
pub(crate) static JEE_ON_TOMCAT: Site = Site { name: "Lucee 6.2, J2EE sessions", variant: "tomcat", ..JEE };
// Here the bridge finds out by itself which kind of session it is.
pub(crate) static CF_ON_JETTY: Site =
    Site { name: "Lucee 5.4, CF sessions", variant: "jetty", config: "", ..CF };
pub(crate) static JEE_ON_JETTY: Site =
    Site { name: "Lucee 5.4, J2EE sessions", variant: "jetty", config: "", ..JEE };

pub(crate) static TOMCAT: LazyLock<Engine> = LazyLock::new(|| Engine::start(&CF_ON_TOMCAT));
pub(crate) static JETTY: LazyLock<Engine> = LazyLock::new(|| Engine::start(&CF_ON_JETTY));

/// One generation, asked without a jar: each request says which cookies it has.
struct Lucee {
    /// True for 6.2 on Tomcat, false for 5.4 on Jetty.
    is_6: bool,
    engine: &'static Engine,
}

impl Lucee {
    /// Runs `look` on both generations at once: most of it is waiting.
    fn each(look: impl Fn(&Self) + Sync) {
        let look = &look;
        thread::scope(|scope| {
            for (is_6, engine) in [(true, &TOMCAT), (false, &JETTY)] {
                let name = if is_6 { "Lucee 6.2" } else { "Lucee 5.4" };
                let run = move || look(&Self { is_6, engine });
                // The name is in the message where the test fails.
                thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, run).unwrap();
            }
        });
    }

    /// GET `path`, such as `AppA/state.cfm`, with this Cookie header (none where it is empty).
    fn ask(&self, path: &str, cookies: &str) -> Answer {
        self.post(path, cookies, "")
    }

    /// POST of a form.
    fn post(&self, path: &str, cookies: &str, form: &str) -> Answer {
        Browser::bare(&format!("{}/{path}", self.engine.origin(App::A)), cookies, form)
    }

    /// When the session of these cookies began, asked by a page that keeps it alive.
    fn started(&self, app: &str, cookies: &str) -> u64 {
        started(&self.ask(&format!("{app}/ping.cfm"), cookies))
    }
}

fn started(answer: &Answer) -> u64 {
    answer.json()["started"].as_u64().unwrap()
}

/// A GUID that no engine has seen and no other test uses.
fn guid() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:08x}-0000-4000-8000-{:012x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The cookies of a CF session under this id.
fn pair(id: &str) -> String {
    format!("cfid={id}; cftoken=0")
}

macro_rules! walks_of {
    ($name:ident, $site:expr, $engine:expr, $kept_without_bridge:expr) => {
        mod $name {
            use super::*;

            #[test]
            #[ignore = "needs Lucee: tests/run"]
            fn s3_1() {
                walks::s3_1(&$site, &$engine);
            }

            #[test]
            #[ignore = "needs Lucee: tests/run"]
            fn f15_init_drafts_a_config_that_runs_s3_1() {
                init::drafts_a_config_that_runs_s3_1(&$site, &$engine);
            }

            #[test]
            #[ignore = "needs Lucee: tests/run"]
            fn colliding_names() {
                walks::collide(&$site, &$engine);
                assert_eq!(walks::collide_plain(&$site, &$engine), $kept_without_bridge);
            }

            #[test]
            #[ignore = "needs Lucee: tests/run"]
            fn rotation() {
                walks::rotation(&$site, &$engine);
            }

            #[test]
            #[ignore = "needs Lucee: tests/run"]
            fn sign_out() {
                walks::sign_out(&$site, &$engine);
            }

            #[test]
            #[ignore = "needs Lucee: tests/run"]
            fn verdicts() {
                walks::verdicts(&$site, &mut Engine::start(&$site));
            }
        }
    };
}

// Each app adopts the id of the other, with content of its own: what people lose is in `seen_06`.
walks_of!(cf_6, CF_ON_TOMCAT, TOMCAT, (true, true));
walks_of!(cf_5, CF_ON_JETTY, JETTY, (true, true));
// One container session, and the content of each app in a corner of its own.
walks_of!(jee_6, JEE_ON_TOMCAT, TOMCAT, (true, true));
walks_of!(jee_5, JEE_ON_JETTY, JETTY, (true, true));

/// Client variables in cookies are no tokens: they pass, unless the config keeps them too, and count either way.
#[test]
#[ignore = "needs Lucee: tests/run"]
fn client_variables_pass_or_are_kept() {
    for (site, engine) in [(&CF_ON_TOMCAT, &*TOMCAT), (&CF_ON_JETTY, &*JETTY)] {
        let kept = Site { config: "session.exceptions = { \"CF_CLIENT_*\" = \"vault\" }", ..CF };
        for (config, seen) in [(site, true), (&kept, false)] {
            let bridge = Bridge::start(config, engine, "");
            let person = Person::new(site, Way::Bridge(&bridge));
            let visits = |app| person.visit(app, "client").json()["visits"].clone();
            assert_eq!([visits(App::A), visits(App::A), visits(App::B), visits(App::A)], [1, 2, 1, 3]);
            assert_eq!(person.browser.has_seen("CF_CLIENT_APPA="), seen, "{}", site.name);
            assert!(!person.browser.has_seen("cfid="), "{}", site.name);
        }
    }
}
