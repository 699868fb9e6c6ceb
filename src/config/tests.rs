//! What the config means once it is read. How it is refused is in `tests/config.rs`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;

use super::*;
use crate::bridge::rules::{
    Adopt, Alive, Canary, CookieMode, Disposition, Engine, Mode, Recipe, SameSite, Scope, SessionRules,
    SetCookiePolicy,
};
use crate::route::{Balance, HostHeader, UpstreamIx};
use crate::setting::options::{PublicScheme, Rate};
use crate::store::shared::{OnOutage, SharedOptions, Topology};

/// Variables and files of a test.
#[derive(Default)]
struct Fixed {
    variables: HashMap<&'static str, &'static str>,
    files: HashMap<PathBuf, &'static str>,
}

impl Outside for Fixed {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|value| (*value).to_owned())
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        self.files.get(path).map(|text| (*text).to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

fn loaded_from(text: &str, outside: &Fixed) -> (Config, Vec<String>) {
    match load_with(("config.toml", text), outside, &mut Names::default()) {
        Ok((config, warnings)) => (config, warnings.iter().map(|own| own.title().to_owned()).collect()),
        Err(report) => panic!("{report}"),
    }
}

fn loaded(text: &str) -> Config {
    loaded_from(text, &Fixed::default()).0
}

/// Titles of the mistakes in `text`.
fn mistakes(text: &str) -> Vec<String> {
    match load_with(("config.toml", text), &Fixed::default(), &mut Names::default()) {
        Ok(_) => Vec::new(),
        Err(report) => report.errors.into_iter().map(|finding| finding.title).collect(),
    }
}

/// The one app of a config whose session table is `session`.
fn session(session: &str) -> SessionRules {
    let app = "listen = \"127.0.0.1:1\"\n[apps.a]\nupstreams = \"http://127.0.0.1:1\"\n";
    let config = loaded(&format!("{app}[apps.a.session]\n{session}\n"));
    config.routes.named("a").unwrap().rules.session.clone().unwrap()
}

const TWO: &str = r#"
listen = ["127.0.0.1:8080", "unix:/run/x.sock"]

[heartbeat]
every = "4m"
max_rate = "120/m"

[apps.appB]
path = "/AppB"
upstreams = ["http://App.Local", "unix:/run/b.sock"]
balance = "round-robin"
host_header = "b.local:81"
session.engine = "coldfusion"
session.timeout = "1h"
session.url_tokens = { AID = "appA.cfid", ATOKEN = "appA.CFTOKEN", own = "CFTOKEN" }

[apps.appA]
hosts = "Apps.Example.org"
path = "/AppA/"
strip_path = true
case_insensitive = true
upstreams = "http://app.local:80"
session.engine = "lucee"
session.type = "j2ee"

[apps.appA.heartbeat]
path = "/AppA/ping.cfm?x=1"
every = "auto"
limit = "1h"
alive = { status = ["2xx", 304, "401-403"], contains = "ok" }
canary.json = "session.started"

[apps.appA.sign_out]
mode = "alone"
request = "POST /AppA/logout"
detect = "GET /AppA/logout*"

[[rules]]
match = "GET /AppA/poll*"
activity = "ignore"

[[rules]]
match = "* /static/*"
session = "skip"
"#;

#[test]
fn an_app_is_read_into_the_words_of_the_core() {
    let config = loaded(TWO);
    assert_eq!(
        config.listen.iter().map(ListenText::as_str).collect::<Vec<_>>(),
        ["127.0.0.1:8080", "unix:/run/x.sock"]
    );
    assert_eq!(
        config.origins.iter().map(|(_, origin)| origin.as_str()).collect::<Vec<_>>(),
        ["http://app.local:80", "unix:/run/b.sock"]
    );
    let [b, a] = config.routes.routes() else { panic!("two apps") };
    assert_eq!((&*b.rules.name, b.rules.app.0), ("appB", 0));
    assert_eq!((&*a.rules.name, a.rules.app.0), ("appA", 1));
    assert_eq!(b.upstreams, [UpstreamIx(0), UpstreamIx(1)]);
    assert_eq!(a.upstreams, [UpstreamIx(0)]);
    assert_eq!((b.balance, a.balance), (Balance::RoundRobin, Balance::Sticky));
    assert_eq!((&b.host_header, &a.host_header), (&HostHeader::Name("b.local:81".into()), &HostHeader::Keep));
    assert!(b.hosts.is_empty());
    assert_eq!(a.hosts, [Box::<str>::from("apps.example.org")]);
    assert_eq!(b.rules.mount.prefix(), "/AppB/");
    assert!(a.rules.mount.strips() && a.rules.mount.contains("/appa/x"));
    assert!(!b.rules.mount.contains("/appb/x"));
}

#[test]
fn url_tokens_find_the_part_that_they_name() {
    let config = loaded(TWO);
    let session = config.routes.named("appB").unwrap().rules.session.as_ref().unwrap();
    let found: Vec<_> =
        session.url_tokens.iter().map(|own| (&*own.param, own.app.0, own.token, own.part)).collect();
    // On Lucee with J2EE sessions the pair is the second token; Adobe in `auto` has it there too.
    assert_eq!(found, [("AID", 1, 1, 0), ("ATOKEN", 1, 1, 1), ("own", 0, 1, 1)]);
    assert_eq!(session.timeout, Duration::from_secs(3600));
}

#[test]
fn a_heartbeat_has_its_own_pace_over_the_general_one() {
    let config = loaded(TWO);
    assert!(config.routes.named("appB").unwrap().rules.beat.is_none());
    let beat = config.routes.named("appA").unwrap().rules.beat.clone().unwrap();
    assert_eq!((&*beat.path, &beat.method), ("/AppA/ping.cfm?x=1", &Method::GET));
    assert_eq!((beat.every, beat.max_rate, beat.limit), (None, Some(2), Some(Duration::from_secs(3600))));
    assert_eq!((beat.jitter_percent, beat.max_in_flight, beat.timeout), (20, 64, Duration::from_secs(5)));
    let Alive { status, contains } = beat.alive;
    assert_eq!((status, &*contains), (vec![(200, 299), (304, 304), (401, 403)], "ok"));
    assert!(matches!(beat.canary, Some(Canary::Json(at)) if &*at == "session.started"));
}

#[test]
fn sign_outs_and_rules_are_read() {
    let config = loaded(TWO);
    let a = &config.routes.named("appA").unwrap().rules.sign_out;
    assert_eq!(a.scope, Scope::Alone);
    assert!(
        matches!(&a.recipe, Some(Recipe::Request { method: Method::POST, target }) if &**target == "/AppA/logout")
    );
    assert!(a.detect[0].matches(&Method::GET, "/appa/LOGOUT.cfm", None), "the app is case-insensitive");
    assert_eq!(config.routes.named("appB").unwrap().rules.sign_out.scope, Scope::Together);
    let does: Vec<_> = config.routes.rules.iter().map(|rule| (rule.background, rule.skip_session)).collect();
    assert_eq!(does, [(true, false), (false, true)]);
    assert_eq!(config.rule_texts, ["GET /AppA/poll*", "* /static/*"].map(Box::<str>::from));
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = loaded("listen = \"127.0.0.1:1\"\n");
    let secs = Duration::from_secs;
    let server = &config.server;
    assert_eq!((config.threads, config.max_connections, config.max_header_bytes), (0, 20_000, 32_768));
    assert_eq!((config.drain_timeout, server.max_body), (secs(30), Some(100 << 20)));
    assert_eq!(
        (server.public_scheme, server.new_sessions),
        (PublicScheme::Auto, Rate { per_second: 10.0, burst: 50 })
    );
    assert_eq!((server.timeouts.first_byte, server.timeouts.stream_idle), (secs(300), secs(3600)));
    let bridge = &config.routes.bridge;
    assert_eq!(
        (&*bridge.cookie, &*bridge.prefix, bridge.same_site),
        ("__Host-bridge", "/.bridge", SameSite::Lax)
    );
    assert_eq!((bridge.clocks.idle_timeout, bridge.clocks.max_lifetime), (secs(1800), secs(43_200)));
    assert_eq!((bridge.clocks.presence_limit, bridge.clocks.presence_ttl), (Some(secs(14_400)), secs(90)));
    assert_eq!(
        (bridge.mode, bridge.adopt_cookies, config.registry.max_sessions),
        (Mode::Bridge, None, 1_000_000)
    );
    assert_eq!(config.admin.listen.as_ref().map(ListenText::as_str), Some("127.0.0.1:9190"));
    assert_eq!((config.log.level, config.log.access.clone()), (LogLevel::Info, AccessLog::Stdout));
    assert_eq!(config.store.kind, StoreKind::Embedded);
    let memory = loaded("listen = \"127.0.0.1:1\"\nstore.kind = \"memory\"\n").store;
    assert_eq!(memory.place(|_| None), None);
}

#[test]
fn a_shared_store_is_read_whole_and_shows_no_password() {
    let store = |table: &str| {
        let text = format!(
            "listen = \"127.0.0.1:1\"\nstore.kind = \"valkey\"\nstore.keys_file = \"/run/keys\"\n[store.valkey]\n{table}"
        );
        let files = HashMap::from([(PathBuf::from("/run/valkey"), "hunter2/+\n")]);
        let (config, warnings) = loaded_from(&text, &Fixed { variables: HashMap::new(), files });
        assert!(warnings.contains(&"the key file is not there".to_owned()), "{warnings:?}");
        assert!(!format!("{config:?}").contains("hunter2"));
        config.store
    };
    let urls = |options: &SharedOptions| -> Vec<String> {
        options.urls.iter().map(|url| String::from_utf8(url.expose().to_vec()).unwrap()).collect()
    };
    let single = store("urls = \"valkeys://bridge:${file:/run/valkey}@h/2\"\n");
    assert_eq!(single.place(|_| None), None, "nothing on this machine's disk");
    let (options, keys) = single.shared(|_| None).unwrap();
    assert_eq!(urls(options), ["rediss://bridge:hunter2%2F%2B@h:6379/2"]);
    assert_eq!(keys, Path::new("/run/keys"));
    let expected = SharedOptions { urls: options.urls.clone(), ..SharedOptions::default() };
    assert_eq!(*options, expected, "the documented defaults");
    let watched = store(
        "urls = [\"redis://a\", \"redis://b:1\"]\ntopology = \"sentinel\"\nmaster = \"m\"\nprefix = \"x:\"\non_outage = \"strict\"\n",
    );
    let (options, _) = watched.shared(|_| None).unwrap();
    assert_eq!(urls(options), ["redis://a:26379/0", "redis://b:1/0"]);
    assert_eq!(options.topology, Topology::Sentinel { master: "m".to_owned() });
    assert_eq!((&*options.prefix, options.on_outage), ("x:", OnOutage::Strict));
    let many = store("urls = [\"redis://a\", \"redis://b\"]\ntopology = \"cluster\"\n");
    assert_eq!(many.shared(|_| None).unwrap().0.topology, Topology::Cluster);
}

#[test]
fn a_relative_key_file_of_a_shared_store_is_in_the_stores_folder() {
    let keys = |more: &str, state: Option<&str>| {
        let text = format!(
            "listen = \"127.0.0.1:1\"\nstore = {{ kind = \"valkey\", valkey.urls = \"redis://h\"{more} }}\n"
        );
        let state = state.map(str::to_owned);
        loaded(&text).store.shared(|_| state.clone()).unwrap().1
    };
    assert_eq!(keys("", None), Path::new("/var/lib/sessionbridge/keys"));
    assert_eq!(keys("", Some("/state:/more")), Path::new("/state/keys"));
    assert_eq!(keys(", path = \"/x\"", Some("/state")), Path::new("/x/keys"));
    assert_eq!(keys(", path = \"/x\", keys_file = \"/y/k\"", None), Path::new("/y/k"));
}

#[test]
fn what_may_be_off_can_be_off() {
    let config = loaded(
        r#"
        listen = "127.0.0.1:1"
        server.max_body = "off"
        bridge.presence_limit = "off"
        admin.listen = "off"
        log = { access = "off", level = "off" }
        "#,
    );
    assert_eq!((config.server.max_body, config.routes.bridge.clocks.presence_limit), (None, None));
    assert!(config.admin.listen.is_none());
    assert_eq!((config.log.access, config.log.level), (AccessLog::Off, LogLevel::Off));
}

#[test]
fn a_session_takes_its_engine_and_what_the_app_says() {
    let plain = session("engine = \"php\"");
    assert_eq!((plain.engine, plain.timeout), (Engine::Php, Duration::from_secs(1440)));
    assert_eq!((plain.cookies, plain.adopt), (CookieMode::Vault, Adopt::Proven));
    assert_eq!(plain.set_cookie, SetCookiePolicy::default());
    let own = session(
        r#"
        engine = "django"
        cookies = "pass"
        adopt = "never"
        persistent = true
        keep_url_tokens = true
        set_cookie = { secure = false, same_site = "Strict" }
        exceptions = { z = "drop", "CSRF*" = "as-is" }
        "#,
    );
    assert_eq!((own.cookies, own.adopt, own.persistent), (CookieMode::Pass, Adopt::Never, true));
    assert!(own.keep_url_tokens);
    assert_eq!((own.set_cookie.secure, own.set_cookie.same_site), (Some(false), Some(SameSite::Strict)));
    let first =
        |name: &str| own.exceptions.iter().find(|(glob, _)| glob.matches(name)).map(|(_, what)| *what);
    assert_eq!(own.exceptions.len(), 3, "the engine's own come last");
    assert_eq!(
        (first("z"), first("csrftoken"), first("other")),
        (Some(Disposition::Drop), Some(Disposition::AsIs), None)
    );
}

#[test]
fn own_tokens_belong_to_custom_and_rails() {
    let custom = session(
        r#"
        engine = "custom"
        timeout = "15m"
        tokens = [
            { name = "S", cookie = "SID", query = "sid", path_param = "s", pattern = "[0-9a-f]{4}|x" },
            { name = "t", cookie = "t", rolling = true },
        ]
        "#,
    );
    let [first, second] = custom.tokens.as_slice() else { panic!("two tokens") };
    assert_eq!((first.rolling, second.rolling), (false, true));
    let part = &first.parts[0];
    assert_eq!(
        (part.cookie.as_deref(), part.query.as_deref(), part.path_param.as_deref()),
        (Some("SID"), Some("sid"), Some("s"))
    );
    assert!(part.shape.fits(b"00ff") && part.shape.fits(b"x") && !part.shape.fits(b"00ffx"));
    let rails = session("engine = \"rails\"\ntimeout = \"15m\"\ntokens = [{ name = \"_shop_session\" }]");
    assert_eq!(rails.tokens[0].parts[0].cookie.as_deref(), Some("_shop_session"));
    assert!(rails.tokens[0].rolling);
}

#[test]
fn references_are_resolved_in_strings() {
    let outside = Fixed {
        variables: HashMap::from([("ADDRESS", "127.0.0.1:7"), ("ENGINE", "php")]),
        files: HashMap::from([(PathBuf::from("/run/token"), "s3cret\n")]),
    };
    let text = r#"
        listen = "${ADDRESS}"
        admin = { listen = "0.0.0.0:1", token = "${file:/run/token}" }
        [apps.a]
        path = "/$${x/"
        upstreams = "http://${HOST:-h}:1"
        session.engine = "${ENGINE}"
        heartbeat.path = "/x/"
        "#;
    // A literal `${` is no reference that could fail, and no path either.
    let report = load_with(("config.toml", text), &outside, &mut Names::default()).unwrap_err();
    let titles: Vec<_> = report.errors.iter().map(|own| own.title.as_str()).collect();
    assert_eq!(titles, ["the path of app `a` cannot be used"]);
    let (config, _) = loaded_from(&text.replace("/$${x/", "/x/"), &outside);
    assert_eq!((config.listen[0].as_str(), config.origins[0].1.as_str()), ("127.0.0.1:7", "http://h:1"));
    assert_eq!(config.admin.token.as_ref().unwrap().expose(), b"s3cret");
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn what_a_variable_holds_is_never_quoted() {
    let outside = Fixed { variables: HashMap::from([("X", "hunter2")]), files: HashMap::new() };
    let text = r#"
        listen = "${X}"
        bridge.same_site = "${X}"
        log.access = "${X}"
        [apps.a]
        path = "${X}"
        hosts = "${X}:1"
        upstreams = "${X}"
        host_header = "${X} "
        session.engine = "${X}"
        session.timeout = "${X}"
        session.url_tokens = { a = "${X}", b = "${X}.CFID" }
        heartbeat.path = "${X}"
        sign_out.request = "${X}"
        sign_out.login = "${X}"
        [apps.b]
        path = "/b/"
        upstreams = "http://h"
        session.engine = "php"
        session.url_tokens = { a = "${X}", b = "${X}.CFID" }
        heartbeat.canary.regex = "(${X}"
        [[rules]]
        match = "${X}"
        session = "${X}"
        "#;
    let report = load_with(("config.toml", text), &outside, &mut Names::default()).unwrap_err();
    assert!(report.errors() > 12, "{report}");
    assert!(!report.to_string().contains("hunter2"), "{report}");
    assert!(!format!("{report:?}").contains("hunter2"));
}

#[test]
fn included_files_are_one_config() {
    let name = "tests/config/ok/include.toml";
    let (config, _) =
        load(Path::new(name), &mut Names::default()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.routes.routes().len(), 2);
    // The main file's rules come first; the first match wins.
    assert_eq!(config.rule_texts, ["* /one/static/*", "GET /one/poll*"].map(Box::<str>::from));
    assert_eq!(config.origins.len(), 2);
}

#[test]
fn a_host_may_be_named_by_one_app_and_left_open_by_another() {
    let apps = |one: &str, two: &str| {
        let app = |name: &str, hosts: &str| format!("[apps.{name}]\nupstreams = \"http://h\"\n{hosts}\n");
        format!("listen = \"127.0.0.1:1\"\n{}{}", app("a", one), app("b", two))
    };
    assert!(mistakes(&apps("", "hosts = \"x\"")).is_empty());
    assert!(mistakes(&apps("hosts = \"y\"", "hosts = \"x\"")).is_empty());
    assert_eq!(mistakes(&apps("", "")), ["the apps `a` and `b` have the same hosts and path"]);
    assert_eq!(mistakes(&apps("hosts = [\"x\", \"y\"]", "hosts = \"X\"")).len(), 1);
}

#[test]
fn plain_http_is_weighed_only_where_it_is_plain() {
    let text = |listen: &str, server: &str| {
        format!(
            "listen = \"{listen}\"\n{server}\n[apps.a]\nupstreams = \"http://h\"\nheartbeat.path = \"/p\"\n\
             session = {{ engine = \"php\", url_tokens = {{ s = \"PHPSESSID\" }} }}\n"
        )
    };
    let warns = |listen: &str, server: &str| loaded_from(&text(listen, server), &Fixed::default()).1;
    assert_eq!(warns("0.0.0.0:80", ""), ["app `a` adopts no URL tokens over plain HTTP"]);
    assert!(warns("127.0.0.1:80", "").is_empty());
    assert!(warns("[::1]:80", "").is_empty());
    assert!(warns("0.0.0.0:80", "server.public_scheme = \"https\"").is_empty());
    assert!(warns("0.0.0.0:80", "server.trusted_proxies = [\"10.0.0.1\"]").is_empty());
}

#[test]
fn an_admin_that_others_reach_has_a_token() {
    let admin = |admin: &str| mistakes(&format!("listen = \"127.0.0.1:1\"\n[admin]\n{admin}\n"));
    for good in [
        "listen = \"[::1]:1\"",
        "listen = \"unix:/x\"",
        "listen = \"off\"",
        "listen = \"0.0.0.0:1\"\ntoken = \"t\"",
    ] {
        assert!(admin(good).is_empty(), "{good}");
    }
    assert_eq!(admin("listen = \"0.0.0.0:1\"").len(), 1);
    assert_eq!(admin("token = \" \""), ["`token` is empty"]);
}

#[test]
fn what_is_shared_is_kept_here_and_fits_where_the_other_stands() {
    let app = |name: &str, more: &str| {
        format!(
            "[apps.{name}]\npath = \"/{name}/\"\nupstreams = \"http://127.0.0.1:1\"\nheartbeat.path = \"/{name}/p\"\n{more}\n"
        )
    };
    let whole = "session = { engine = \"lucee\", share = \"one\" }";
    let text = format!(
        "listen = \"127.0.0.1:8080\"\n{}{}{}",
        app("a", whole),
        app("b", &format!("strip_path = true\n{whole}")),
        app("c", "session = { engine = \"lucee\", share = \"one\", exceptions = { CFID = \"pass\" } }"),
    );
    let (config, warnings) = loaded_from(&text, &Fixed::default());
    let shares = |app: &str| config.routes.named(app).unwrap().rules.session.clone().unwrap().shares;
    let paths: Vec<_> = shares("c").into_iter().map(|share| share.path).collect();
    assert_eq!(paths, ["/a", "/"].map(Box::<str>::from));
    let counts: Vec<usize> = shares("a").iter().map(|share| share.tokens.len()).collect();
    assert_eq!(counts, [2, 1], "c leaves CFID to the browser, so the pair is not shared");
    assert_eq!(warnings.iter().filter(|warning| warning.contains("CFID")).count(), 2, "{warnings:?}");
}

#[test]
fn numbers_stay_through_changes_of_the_config_and_a_bad_one_gives_none() {
    let app = |name: &str, path: &str, port: u16| {
        format!(
            "[apps.{name}]\npath = \"{path}\"\nupstreams = \"http://127.0.0.1:{port}\"\nsession.engine = \"lucee\"\n"
        )
    };
    let mut names = Names::default();
    let mut load = |apps: &[String]| {
        let text = format!("listen = \"127.0.0.1:1\"\n{}", apps.concat());
        let before = names.clone();
        match load_with(("config.toml", &text), &Fixed::default(), &mut names) {
            Ok((config, _)) => {
                let of = |route: &Route| (route.rules.app.0, route.upstreams[0].0);
                let numbers = config.routes.routes().iter().map(of).collect::<Vec<_>>();
                for route in config.routes.routes() {
                    assert_eq!(config.routes.route(route.rules.app).unwrap().rules.name, route.rules.name);
                }
                assert!(config.routes.route(crate::bridge::rules::AppIx(50)).is_none());
                Some(numbers)
            }
            Err(_) => {
                assert_eq!(names, before);
                None
            }
        }
    };
    let (a, b, c) = (app("a", "/a/", 1), app("b", "/b/", 2), app("c", "/c/", 3));
    assert_eq!(load(&[a, b.clone()]).unwrap(), [(0, 0), (1, 1)]);
    assert_eq!(load(&[c.clone(), b.clone()]).unwrap(), [(2, 2), (1, 1)], "a has gone");
    assert_eq!(load(&[app("d", "/d/", 4), app("d", "relative", 5)]), None);
    assert_eq!(load(&[c, app("renamed", "/b/", 6)]).unwrap(), [(2, 2), (1, 3)], "b is called so now");
    assert_eq!(load(&[b]).unwrap(), [(1, 1)], "and once more as before");
    assert_eq!(load(&[app("a", "/else/", 1)]).unwrap(), [(0, 0)], "a is back");
}
