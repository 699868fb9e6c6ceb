use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use sessionbridge::demo::sim::{Profile, SimOptions};
use sessionbridge::telemetry::access::AccessLog;

use super::support::stage::{Asked, Says, Script, app, cookie_of};
use super::support::{Answer, Browser, World, pass, run};

const INDEX: &str = "/AppA/index.cfm";

fn acf(name: &str) -> SimOptions {
    SimOptions::new(Profile::AcfStrict, name).timeout_ms(600_000)
}

/// One ColdFusion app; `more` are further lines of its table, `top` stands before it.
fn one(top: &str, more: &str) -> World {
    World::new(&format!("{top}\n{}", app("appA", "acf-strict", "10m", more)), [acf("AppA")])
}

/// A scripted app with one token, `SID`, at `/name/`.
fn scripted(name: &str, more: &str) -> String {
    format!(
        "[apps.{name}]\npath = \"/{name}/\"\nupstreams = [\"http://{name}\"]\nsession.engine = \"custom\"\n\
         session.tokens = [{{ name = \"SID\", cookie = \"SID\", pattern = \"[0-9a-f]+\" }}]\nsession.timeout = \"10m\"\n{more}\n"
    )
}

/// Sets `fields` for whoever shows no SID.
fn sets(name: &'static str, fields: &'static [&'static str]) -> Script {
    Script::new(name, move |asked: &Asked| match asked.cookie("SID") {
        Some(_) => Says::cookies(&[]),
        None => Says::cookies(fields),
    })
}

fn names(answer: &Answer) -> Vec<String> {
    answer.set_cookies().iter().map(|field| field.split('=').next().unwrap().to_owned()).collect()
}

fn in_jar(browser: &Browser) -> Vec<String> {
    let mut names: Vec<_> = browser.jar.iter().map(|kept| format!("{} {}", kept.name, kept.path)).collect();
    names.sort();
    names
}

#[test]
fn s2_4_a_thirty_year_cookie_of_an_engine_ends_with_the_browser() {
    run(async {
        let world = one("", "");
        let mut browser = world.browser();
        let answer = browser.get(INDEX).await;
        assert_eq!(names(&answer), ["bridge"], "vault: it is not even there");
        browser.close();
        assert_ne!(browser.get(INDEX).await.json()["session"], "s1");
        for (mode, name) in [("prefix", "appA.CFTOKEN"), ("pass", "CFTOKEN")] {
            let world = one("", &format!("session.cookies = \"{mode}\""));
            let mut browser = world.browser();
            browser.get(INDEX).await;
            assert!(browser.cookie(name).is_some(), "{mode}");
            browser.close();
            assert!(browser.jar.is_empty(), "{mode}: {:?}", in_jar(&browser));
        }
    });
}

#[test]
fn s4_3_long_lived_cookies_stay_and_tokens_only_where_the_config_says_so() {
    run(async {
        let app_a =
            sets("appa", &["SID=aa; Path=/; Max-Age=86400", "CFCLIENT_x=data; Path=/; Max-Age=86400"]);
        let app_b = sets("appb", &["SID=bb; Path=/; Max-Age=86400", "theme=dark; Path=/"]);
        let toml = scripted("appa", "session.cookies = \"prefix\"")
            + &scripted("appb", "session.cookies = \"prefix\"\nsession.persistent = true");
        let world = World::with_scripts(&toml, &[&app_a, &app_b]);
        let mut browser = world.browser();
        browser.get("/appa/").await;
        browser.get("/appb/").await;
        assert_eq!(
            in_jar(&browser),
            ["CFCLIENT_x /appa", "appa.SID /appa", "appb.SID /appb", "bridge /", "theme /appb"]
        );
        browser.close();
        assert_eq!(in_jar(&browser), ["CFCLIENT_x /appa", "appb.SID /appb"]);
        browser.get("/appb/").await;
        assert_eq!(app_b.last().cookie("SID").as_deref(), Some("bb"), "the kept token still counts");
        browser.get("/appa/").await;
        assert_eq!(app_a.last().cookie("CFCLIENT_x").as_deref(), Some("data"));
    });
}

#[test]
fn s4_2_cookies_of_before_are_expired_in_every_variant() {
    run(async {
        let world = one("", "");
        let mut browser = world.browser();
        for (name, path) in
            [("CFID", "/"), ("CFTOKEN", "/"), ("cfid", "/AppA"), ("CFTOKEN", "/AppA/"), ("theme", "/")]
        {
            browser.plant(name, "17", path);
        }
        let answer = browser.get(INDEX).await;
        assert_eq!(in_jar(&browser), ["bridge /", "theme /"]);
        let fields = answer.set_cookies();
        for domain in ["", "; Domain=apps.example.org", "; Domain=example.org"] {
            let variant = |field: &&String| {
                field.starts_with("CFID=;")
                    && field.contains("Path=/;") | field.ends_with("Path=/")
                    && (field.contains("Domain=") != domain.is_empty())
                    && field.contains(domain)
            };
            assert!(fields.iter().any(|field| variant(&field)), "{domain:?} in {fields:?}");
        }
        let seen = world.seen("AppA").last().unwrap().clone();
        assert_eq!(cookie_of(&seen.headers, "CFID"), None, "the old pair was not believed");
        assert!(browser.get(INDEX).await.set_cookies().is_empty(), "clean after one answer");
        browser.close();
        assert_ne!(browser.get(INDEX).await.json()["session"], "s1");
    });
}

#[test]
fn the_app_always_sees_one_token_however_polluted_the_jar_is() {
    run(async {
        let world = one("", "");
        let mut browser = world.browser();
        browser.get(INDEX).await;
        for spelling in
            ["CFID", "cfid", "CfId", "\u{2000}CFID", "CFID\u{a0}", "\"CFID\"", " CFTOKEN", "CFTOKEN "]
        {
            let bridge = browser.cookie("bridge").unwrap().to_owned();
            let cookies = format!("{spelling}=666; $Version=1; bridge={bridge}; CFTOKEN=666; $Path=/");
            let request =
                Request::get(INDEX).header("host", "apps.example.org").header("accept", "application/json");
            let request = request.header("cookie", cookies.into_bytes()).body(Full::default()).unwrap();
            assert_eq!(browser.raw(request).await.json()["session"], "s1", "{spelling:?}");
            let seen = world.seen("AppA").last().unwrap().clone();
            let line = String::from_utf8_lossy(seen.headers["cookie"].as_bytes()).into_owned();
            assert!(!line.contains("666"), "{spelling:?}: {line}");
            assert!(cookie_of(&seen.headers, "CFID").is_some() && !line.contains("Version"), "{line}");
        }
    });
}

#[test]
fn t5_a_planted_bridge_cookie_is_neither_believed_nor_sent_on() {
    run(async {
        let world = one("", "");
        let (mut browser, mut attacker) = (world.browser(), world.browser());
        browser.get(INDEX).await;
        attacker.get(INDEX).await;
        let (own, his) =
            (browser.cookie("bridge").unwrap().to_owned(), attacker.cookie("bridge").unwrap().to_owned());
        for cookies in [
            format!("bridge={his}; bridge={own}"),
            format!("bridge={own}; bridge={own}"),
            format!("\u{2000}bridge={his}; bridge={own}"),
            format!("\u{2000}bridge={his}"),
            format!("$Version=1; \"bridge\"={his}"),
            format!("BRIDGE={his}"),
            format!("bridge=\"{his}\""),
            format!("bridge={his}x"),
            format!("__Host-bridge={his}"),
        ] {
            let request =
                Request::get(INDEX).header("host", "apps.example.org").header("accept", "application/json");
            let request = request.header("cookie", cookies.clone().into_bytes());
            let answer = browser.raw(request.body(Full::default()).unwrap()).await;
            assert_eq!(answer.json()["fresh"], true, "{cookies:?}");
            let seen = world.seen("AppA").last().unwrap().clone();
            let line = seen.headers.get("cookie").map_or("", |line| line.to_str().unwrap_or("bytes"));
            assert!(!line.to_lowercase().contains("bridge") && !line.contains(&his), "{cookies:?}: {line}");
        }
    });
}

#[test]
fn t11_connection_names_cost_nothing_that_is_ours() {
    run(async {
        let world = one("", "");
        let mut browser = world.browser();
        browser.get(INDEX).await;
        let drops = [
            ("connection", "X-Forwarded-For, Cookie, X-Request-Id, x-drop, Host"),
            ("x-drop", "1"),
            ("x-keep", "1"),
        ];
        let answer = browser.send(Method::GET, INDEX, &drops, Bytes::new()).await;
        if answer.status == 200 {
            assert_eq!(answer.json()["session"], "s1");
            let seen = world.seen("AppA").last().unwrap().clone();
            assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
            assert!(cookie_of(&seen.headers, "CFID").is_some() && seen.headers.contains_key("x-request-id"));
            assert_eq!(seen.headers["host"], "apps.example.org");
            assert!(!seen.headers.contains_key("x-drop") && seen.headers.contains_key("x-keep"));
        } else {
            assert_eq!(answer.status, 400);
        }
        let drops = [
            ("connection", "x-drop"),
            ("x-drop", "1"),
            ("keep-alive", "5"),
            ("proxy-authorization", "x"),
            ("te", "x"),
        ];
        browser.send(Method::GET, INDEX, &drops, Bytes::new()).await;
        let seen = world.seen("AppA").last().unwrap().clone();
        for gone in ["x-drop", "keep-alive", "proxy-authorization", "te", "connection"] {
            assert!(!seen.headers.contains_key(gone), "{gone}");
        }
    });
}

const FORGED: [(&str, &str); 16] = [
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-port", "666"),
    ("x-forwarded-prefix", "/evil"),
    ("x-forwarded-uri", "/evil"),
    ("x-forwarded-server", "evil.example"),
    ("forwarded", "for=6.6.6.6;host=evil.example"),
    ("x-real-ip", "6.6.6.6"),
    ("x-original-url", "/evil"),
    ("x-rewrite-url", "/evil"),
    ("true-client-ip", "6.6.6.6"),
    ("x_forwarded_for", "6.6.6.6"),
    ("x_real_ip", "6.6.6.6"),
    ("x-bridge-user", "evil"),
    ("x_bridge_user", "evil"),
];

#[test]
fn t12_the_app_sees_our_forwarding_headers_only() {
    run(async {
        let world = one("", "");
        world.browser().send(Method::GET, INDEX, &FORGED, Bytes::new()).await;
        let seen = world.seen("AppA").last().unwrap().clone();
        for (name, value) in &seen.headers {
            let value = value.to_str().unwrap();
            assert!(!["6.6.6.6", "evil", "666"].iter().any(|bad| value.contains(bad)), "{name}: {value}");
        }
        assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(seen.headers["x-forwarded-proto"], "http");
        assert_eq!(seen.headers["x-forwarded-host"], "apps.example.org");
        let trusting = one("[server]\ntrusted_proxies = [\"127.0.0.1\"]", "");
        let given = [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "other.example"),
        ];
        let answer = trusting.browser().send(Method::GET, INDEX, &given, Bytes::new()).await;
        let seen = trusting.seen("AppA").last().unwrap().clone();
        assert_eq!(seen.headers["x-forwarded-host"], "other.example");
        assert!(seen.headers["x-forwarded-for"].to_str().unwrap().starts_with("192.0.2.7"));
        let field = answer.set_cookies().remove(0);
        assert!(field.starts_with("__Host-bridge=") && field.contains("; Secure"), "{field}");
    });
}

#[test]
fn t13_an_answer_with_our_cookie_is_nobody_elses() {
    run(async {
        let public = "public, max-age=3600";
        let app = Script::new("appa", move |asked: &Asked| {
            let says =
                if asked.cookie("SID").is_some() { Says::cookies(&[]) } else { Says::cookies(&["SID=aa"]) };
            says.header("cache-control", public)
        });
        let world = World::with_scripts(&scripted("appa", ""), &[&app]);
        let mut browser = world.browser();
        let answer = browser.get("/appa/logo.png").await;
        assert!(names(&answer).contains(&"bridge".to_owned()));
        assert_eq!(answer.headers.get_all("cache-control").iter().count(), 1);
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
        let answer = browser.get("/appa/logo.png").await;
        assert_eq!(answer.header("cache-control"), Some(public), "the app's word where we add nothing");
        assert!(answer.set_cookies().is_empty());
    });
}

#[test]
fn t25_no_request_ever_carries_half_of_one_pair_and_half_of_another() {
    run(async {
        let world = one("", "");
        let mut browser = world.browser();
        browser.get(INDEX).await;
        browser.get(INDEX).await;
        for round in 0..4 {
            let tabs = (0..64).map(|tab| {
                let (mut tab_browser, page) =
                    (browser.clone(), if (tab + round) % 3 == 0 { "rotate" } else { "index" });
                async move { tab_browser.get(&format!("/AppA/{page}.cfm")).await }
            });
            for answer in futures_util::future::join_all(tabs).await {
                assert_eq!(answer.status, 200);
            }
        }
        let mut pairs = std::collections::BTreeMap::new();
        for seen in world.seen("AppA").iter().filter(|seen| seen.headers.contains_key("cookie")) {
            let (id, token) = (cookie_of(&seen.headers, "CFID"), cookie_of(&seen.headers, "CFTOKEN"));
            assert_eq!(id.is_some(), token.is_some(), "half a pair");
            if let (Some(id), Some(token)) = (id, token) {
                assert_eq!(*pairs.entry(id).or_insert_with(|| token.clone()), token, "a mixed pair");
            }
        }
        assert!(pairs.len() >= 4, "{} pairs", pairs.len());
        assert_eq!(world.bridges(), (1, 0));
    });
}

#[test]
fn t27_one_apps_cookies_never_touch_another_apps() {
    run(async {
        let fields: &[&str] = &[
            "SID=eeee; Path=/appa",
            "theme=evil; Path=/appa; Max-Age=86400",
            "wide=evil; Path=/; Domain=example.org; Max-Age=86400",
            "appa.SID=666; Path=/; Max-Age=86400",
            "bridge=AAAAAAAAAAAAAAAAAAAAAA; Path=/; Max-Age=86400",
        ];
        let a = sets("appa", &["SID=aaaa; Path=/", "theme=dark; Path=/; Max-Age=86400"]);
        let evil: &'static [&'static str] = Box::leak(fields.to_vec().into_boxed_slice());
        let b = sets("appb", evil);
        let world = World::with_scripts(&(scripted("appa", "") + &scripted("appb", "")), &[&a, &b]);
        let mut browser = world.browser();
        browser.get("/appa/").await;
        let own = browser.cookie("bridge").unwrap().to_owned();
        let answer = browser.get("/appb/").await;
        assert!(
            !answer.set_cookies().iter().any(|field| field.contains("Domain=")),
            "{:?}",
            answer.set_cookies()
        );
        browser.get("/appa/").await;
        assert_eq!(browser.cookie("bridge"), Some(&*own));
        assert_eq!(a.last().cookie("SID").as_deref(), Some("aaaa"));
        assert_eq!(a.last().cookie("theme").as_deref(), Some("dark"));
        let evil =
            in_jar(&browser).into_iter().filter(|kept| !kept.ends_with(" /appb") && kept != "theme /appa");
        assert_eq!(evil.collect::<Vec<_>>(), ["bridge /"]);
    });
}

/// A path as the most lenient server resolves it.
fn resolved(path: &str) -> String {
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
    let mut out: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment.split([';', '\0']).next().unwrap() {
            ".." => drop(out.pop()),
            "" | "." => {}
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}

#[test]
fn t28_a_path_goes_where_it_leads_or_nowhere() {
    run(async {
        let (a, b) = (sets("appa", &["SID=aa"]), sets("appb", &["SID=bb"]));
        let world = World::with_scripts(&(scripted("appa", "") + &scripted("appb", "")), &[&a, &b]);
        let paths = [
            "/appa/x",
            "/appb/x",
            "/appa",
            "/appb",
            "//appb/x",
            "///appa//x",
            "/appa//x",
            "/appa/../appb/x",
            "/appa/./x",
            "/appa/%2e%2e/appb/x",
            "/appa/%2E./appb/x",
            "/appa/.%2e/appb",
            "/appa/..%2fappb/x",
            "/appa/%2e%2e%2fappb/x",
            "/appa%2f..%2fappb/x",
            "/appa/%252e%252e/appb/x",
            "/appa/..;/appb/x",
            "/appa;x/../appb/x",
            "/appa;x/y",
            "/appa/..;a=b/appb/x",
            "/appa/%5c../appb/x",
            "/appa/..%5cappb/x",
            "/appa/%2e%2e%5cappb",
            "/appa/..%00/appb",
            "/appa/x%00",
            "/appa%00/x",
            "/%61ppa/x",
            "/app%61/x",
            "/app%2561/x",
            "/appa/%c0%ae%c0%ae/appb/x",
            "/appa/%u002e%u002e/appb/x",
            "/appa%2fx",
            "/appa/x/..",
            "/appa/x/../..",
            "/appa/...",
            "/appax",
            "/appa.",
            "/",
            "/appb/../appa/../appb/x",
            "/appa/x;y=/../../appb/z",
            "/%2e/appa/x",
            "/;/appb/x",
            "/appa%3b/x",
        ];
        let (mut reached, mut refused) = (0, 0);
        for path in paths {
            let before = (a.asked().len(), b.asked().len());
            let answer = world.browser().get(path).await;
            let after = (a.asked().len() - before.0, b.asked().len() - before.1);
            match after {
                (0, 0) => {
                    assert!([400, 404].contains(&answer.status.as_u16()), "{path}: {}", answer.status);
                    refused += 1;
                }
                (1, 0) => {
                    assert!(format!("{}/", resolved(path)).starts_with("/appa/"), "{path} reached appa")
                }
                (0, 1) => {
                    assert!(format!("{}/", resolved(path)).starts_with("/appb/"), "{path} reached appb")
                }
                _ => panic!("{path}: {after:?}"),
            }
            if after != (0, 0) {
                let script = if after.0 == 1 { &a } else { &b };
                assert_eq!(script.last().target, path, "the bytes are forwarded as they came");
                reached += 1;
            }
        }
        assert!(reached >= 10 && refused >= 15, "{reached} {refused}");
    });
}

#[test]
fn mode_prefix_keeps_two_apps_of_one_name_apart_in_the_browser() {
    run(async {
        let (a, b) =
            (sets("appa", &["SID=aa; Path=/"]), sets("appb", &["SID=bb; Path=/; Secure; Max-Age=99"]));
        let mode = "session.cookies = \"prefix\"";
        let world = World::with_scripts(&(scripted("appa", mode) + &scripted("appb", mode)), &[&a, &b]);
        let mut browser = world.browser();
        let answer = browser.get("/appa/").await;
        assert!(
            answer.set_cookies().contains(&"appa.SID=aa; Path=/appa".to_owned()),
            "{:?}",
            answer.set_cookies()
        );
        let answer = browser.get("/appb/").await;
        assert!(
            answer.set_cookies().contains(&"appb.SID=bb; Path=/appb; Secure".to_owned()),
            "{:?}",
            answer.set_cookies()
        );
        for _ in 0..2 {
            browser.get("/appa/").await;
            browser.get("/appb/").await;
        }
        assert_eq!(a.last().header("cookie"), "SID=aa");
        assert_eq!(b.last().header("cookie"), "SID=bb");
        browser.plant("SID", "cc", "/");
        browser.get("/appa/").await;
        assert_eq!(a.last().header("cookie"), "SID=aa", "the bare name is nobody's");
    });
}

#[test]
fn mode_pass_renames_nothing_and_still_keeps_alive() {
    run(async {
        let toml = app("appA", "acf-strict", "10s", "session.cookies = \"pass\"");
        let world = World::new(&toml, [acf("AppA").timeout_ms(10_000)]);
        let mut browser = world.browser();
        browser.get(INDEX).await;
        assert_eq!(in_jar(&browser), ["CFID /AppA", "CFTOKEN /AppA", "bridge /"]);
        browser.get(INDEX).await;
        let seen = world.seen("AppA").last().unwrap().clone();
        assert_eq!(cookie_of(&seen.headers, "CFID").as_deref(), browser.cookie("CFID"));
        pass(60.0).await;
        assert_eq!(browser.get(INDEX).await.json()["session"], "s1");
        assert!(world.beats("AppA").len() >= 10);
        let beat = world.beats("AppA").pop().unwrap();
        assert_eq!(cookie_of(&beat.headers, "CFID").as_deref(), browser.cookie("CFID"));
        assert_eq!(world.starts("AppA"), 1);
    });
}

#[test]
fn exceptions_say_what_is_done_with_a_cookie_by_its_name() {
    run(async {
        let app = sets(
            "appa",
            &[
                "SID=aa",
                "XSRF-TOKEN=x; Path=/; HttpOnly",
                "legacy_a=1; Path=/; Max-Age=99",
                "hidden=2; Path=/; Max-Age=99",
                "own=3; Path=/elsewhere; Domain=example.org",
                "mine=4; Path=/",
                "auth=5; HttpOnly",
            ],
        );
        let more = "session.exceptions = { \"XSRF-*\" = \"pass\", \"legacy_*\" = \"drop\", hidden = \"vault\", \
                    own = \"as-is\", mine = \"prefix\" }";
        let world = World::with_scripts(&scripted("appa", more), &[&app]);
        let mut browser = world.browser();
        browser.plant("legacy_b", "1", "/");
        let answer = browser.get("/appa/").await;
        let mut fields = answer.set_cookies();
        fields.retain(|field| !field.starts_with("bridge="));
        assert_eq!(
            fields,
            [
                "XSRF-TOKEN=x; Path=/appa; HttpOnly",
                "own=3; Path=/elsewhere; Domain=example.org",
                "appa.mine=4; Path=/appa"
            ]
        );
        browser.plant("hidden", "planted", "/");
        browser.get("/appa/").await;
        let mut sent: Vec<String> = app.last().header("cookie").split("; ").map(str::to_owned).collect();
        sent.sort();
        assert_eq!(sent, ["SID=aa", "XSRF-TOKEN=x", "auth=5", "hidden=2", "mine=4"]);
    });
}

#[test]
fn the_policy_of_an_app_is_put_on_cookies_that_pass() {
    run(async {
        let app = sets("appa", &["SID=aa", "theme=dark; SameSite=None; Secure; Path=/"]);
        let more = "session.set_cookie = { secure = true, http_only = true, same_site = \"Strict\" }";
        let world = World::with_scripts(&scripted("appa", more), &[&app]);
        let answer = world.browser().get("/appa/").await;
        let theme = answer.set_cookies().into_iter().find(|field| field.starts_with("theme=")).unwrap();
        let mut parts: Vec<&str> = theme.split("; ").collect();
        parts.sort_unstable();
        assert_eq!(parts, ["HttpOnly", "Path=/appa", "SameSite=Strict", "Secure", "theme=dark"]);
    });
}

#[test]
fn an_app_that_does_not_see_its_prefix_is_mapped_both_ways() {
    run(async {
        let app = Script::new("appa", |asked: &Asked| match asked.path() {
            "/go" => Says::cookies(&["SID=aa; Path=/", "theme=dark; Path=/x; Max-Age=9"])
                .status(302)
                .header("location", "/x/y?a=1"),
            "/abs" => Says::cookies(&[]).status(302).header("location", "http://appa/x"),
            "/off" => Says::cookies(&["theme=; Path=/x; Max-Age=0"])
                .status(302)
                .header("location", "http://other.example/x"),
            _ => Says::cookies(&[]),
        });
        let world = World::with_scripts(
            &scripted("appa", "strip_path = true").replace("\"/appa/\"", "\"/pub/app/\""),
            &[&app],
        );
        let mut browser = world.browser();
        let answer = browser.get("/pub/app?q=1").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (308, Some("http://apps.example.org/pub/app/?q=1"))
        );
        let answer = browser.get("/pub/app/go").await;
        assert_eq!(answer.header("location"), Some("/pub/app/x/y?a=1"));
        assert_eq!(in_jar(&browser), ["bridge /", "theme /pub/app/x"]);
        browser.get("/pub/app/x/y?a=1").await;
        assert_eq!(
            (app.last().target.as_str(), app.last().header("cookie")),
            ("/x/y?a=1", "SID=aa; theme=dark")
        );
        assert_eq!(
            browser.get("/pub/app/abs").await.header("location"),
            Some("http://apps.example.org/pub/app/x")
        );
        let answer = browser.get("/pub/app/off").await;
        assert_eq!(answer.header("location"), Some("http://other.example/x"));
        let deletions: Vec<_> =
            answer.set_cookies().into_iter().map(|field| field.replace("; Max-Age=0", "")).collect();
        assert_eq!(deletions, ["theme=; Path=/x", "theme=; Path=/pub/app/x"], "for both paths");
        assert_eq!(world.browser().get("/x").await.status, 404);
    });
}

#[test]
fn case_insensitive_apps_share_nothing_by_accident() {
    run(async {
        let (a, b) =
            (sets("appa", &["SID=aa", "theme=dark; Path=/appa"]), sets("appb", &["SID=bb", "theme=light"]));
        let more = "case_insensitive = true";
        let world = World::with_scripts(&(scripted("appa", more) + &scripted("appb", more)), &[&a, &b]);
        let mut browser = world.browser();
        browser.get("/AppA/x").await;
        browser.get("/APPB/x").await;
        browser.get("/appA/y").await;
        assert_eq!((a.last().target.as_str(), a.last().header("cookie")), ("/appA/y", "SID=aa; theme=dark"));
        browser.get("/aPPb/y").await;
        assert_eq!(b.last().cookie("SID").as_deref(), Some("bb"));
        assert!(!b.last().header("cookie").contains("dark"), "{}", b.last().header("cookie"));
        assert_eq!(world.browser().get("/appab/").await.status, 404);
    });
}

#[test]
fn the_host_decides_between_apps_of_one_path() {
    run(async {
        let (a, b, any) = (sets("appa", &["SID=aa"]), sets("appb", &["SID=bb"]), sets("any", &["SID=cc"]));
        let toml = scripted("appa", "hosts = [\"a.example\"]").replace("\"/appa/\"", "\"/\"")
            + &scripted("appb", "hosts = [\"b.example\", \"B2.example\"]").replace("\"/appb/\"", "\"/\"")
            + &scripted("any", "hosts = [\"a.example\"]").replace("\"/any/\"", "\"/any/\"");
        let world = World::with_scripts(&toml, &[&a, &b, &any]);
        let mut browser = world.browser();
        for (host, path, script) in [
            ("a.example", "/x", &a),
            ("A.Example:8080", "/x", &a),
            ("a.example", "/any/x", &any),
            ("b.example", "/any/x", &b),
            ("b2.example", "/", &b),
        ] {
            let before = script.asked().len();
            assert_eq!(browser.at(host).get(path).await.status, 200, "{host}");
            assert_eq!(script.asked().len(), before + 1, "{host}{path}");
        }
        let answer = browser.at("c.example").get("/x").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bridge-error")), (404, Some("no_route")));
    });
}

#[test]
fn an_address_that_makes_sessions_without_end_is_refused_and_live_ones_are_not() {
    run(async {
        let top = "[server.limits]\nnew_sessions = { rate = \"1/s\", burst = 5, per = \"client-ip\" }";
        let world = one(&format!("{top}\n[server]\ntrusted_proxies = [\"127.0.0.1\"]"), "");
        let mut known = world.browser();
        known.get(INDEX).await;
        known.get(INDEX).await;
        for _ in 0..4 {
            assert_eq!(world.browser().get(INDEX).await.status, 200);
        }
        let starts = world.starts("AppA");
        let answer = world.browser().get(INDEX).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bridge-error")), (429, Some("rate_limited")));
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(world.starts("AppA"), starts, "before the app has made one in vain");
        for _ in 0..50 {
            assert_eq!(known.get(INDEX).await.status, 200);
        }
        let mut other = world.browser();
        other.headers.insert("x-forwarded-for", "192.0.2.9".parse().unwrap());
        assert_eq!(other.get(INDEX).await.status, 200, "another address");
        pass(1.0).await;
        assert_eq!(world.browser().get(INDEX).await.status, 200);
        assert_eq!(world.browser().get(INDEX).await.status, 429);
    });
}

#[test]
fn t21_bots_fill_their_own_fifth_and_no_live_session_goes() {
    run(async {
        let top = "[store]\nkind = \"memory\"\nmax_sessions = 50\n[server.limits]\nnew_sessions = { rate = \"1000/s\", burst = 10000 }";
        let world = one(top, "");
        let mut people = Vec::new();
        for _ in 0..20 {
            let mut browser = world.browser();
            browser.get(INDEX).await;
            browser.get(INDEX).await;
            people.push(browser);
        }
        for _ in 0..1000 {
            let mut bot = world.browser();
            bot.keeps_cookies = false;
            bot.get(INDEX).await;
        }
        assert_eq!(world.bridges(), (20, 10));
        for (n, browser) in people.iter_mut().enumerate() {
            assert_eq!(browser.get(INDEX).await.json()["session"], format!("s{}", n + 1));
        }
        assert_eq!(world.beats("AppA").len(), 0, "nobody is kept alive for them");
        // Pages that touch no session, and cookies that only a client speaks of, make nothing at all.
        let mut bot = world.browser();
        bot.plant("CFID", "1", "/");
        bot.plant("CFTOKEN", "12345678", "/");
        let before = world.bridges();
        bot.get("/AppA/notouch.cfm").await;
        bot.get("/AppA/static.css").await;
        assert_eq!(world.bridges(), before);
        pass(601.0).await;
        assert_eq!(world.bridges().1, 0, "and they fade");
    });
}

#[test]
fn a_cross_site_post_does_not_overwrite_the_persons_own_cookie() {
    run(async {
        let world = one("", "");
        let mut browser = world.browser();
        browser.get(INDEX).await;
        let own = browser.cookie("bridge").unwrap().to_owned();
        let kept: &[&[(&str, &str)]] = &[
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
            &[("origin", "http://evil.test")],
        ];
        for headers in kept {
            // SameSite=Lax has kept the cookie in the browser: this is what arrives.
            let mut away = world.browser();
            away.host.clone_from(&browser.host);
            let method = if headers[0].1 == "cross-site" && headers[1].1 == "no-cors" {
                Method::GET
            } else {
                Method::POST
            };
            let answer = away.send(method, INDEX, headers, Bytes::new()).await;
            assert_eq!(answer.status, 200, "it runs");
            assert!(answer.set_cookies().is_empty(), "{headers:?}: {:?}", answer.set_cookies());
        }
        assert_eq!(world.bridges(), (0, 1), "and nothing is remembered of it");
        assert_eq!(browser.cookie("bridge"), Some(&*own));
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        let answer = world.browser().send(Method::GET, INDEX, &link, Bytes::new()).await;
        assert_eq!(names(&answer), ["bridge"], "a link from elsewhere does carry it");
    });
}

/// A browser that had a session with AppA before the proxy came.
async fn of_before(world: &World) -> (Browser, String) {
    // The app's own port, in effect: the pair of a session that no bridge session knows.
    let mut direct = world.browser();
    direct.keeps_cookies = false;
    direct.get(INDEX).await;
    pass(700.0).await;
    let fields = world.app("AppA").with(|sim| {
        let request = Request::get("/AppA/index.cfm").body(Bytes::new()).unwrap();
        let now = world.seen_now();
        let answer = sim.handle(now, &request, std::net::IpAddr::from([127, 0, 0, 1]));
        answer
            .response
            .headers()
            .get_all("set-cookie")
            .iter()
            .map(|field| field.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    });
    let mut browser = world.browser();
    for field in fields {
        let (name, rest) = field.split_once('=').unwrap();
        browser.plant(name, rest.split(';').next().unwrap(), "/");
    }
    let label = world.app("AppA").with(|sim| sim.sessions().last().unwrap().label.clone());
    (browser, label)
}

#[test]
fn with_adopt_cookies_nobody_is_signed_out_by_putting_the_proxy_in() {
    run(async {
        let world = one("[bridge]\nadopt_cookies = \"12h\"", "");
        let (mut browser, label) = of_before(&world).await;
        let (id, token) =
            (browser.cookie("CFID").unwrap().to_owned(), browser.cookie("CFTOKEN").unwrap().to_owned());
        assert_eq!(browser.get(INDEX).await.json()["session"], *label);
        assert_eq!(in_jar(&browser), ["bridge /"], "adopted, and expired in the browser");
        assert_eq!(browser.get(INDEX).await.json()["session"], *label);
        pass(1500.0).await;
        assert_eq!(browser.get(INDEX).await.json()["session"], *label, "kept alive");
        // Bound now: the same cookies in another browser go nowhere.
        let mut thief = world.browser();
        thief.plant("CFID", &id, "/");
        thief.plant("CFTOKEN", &token, "/");
        assert_ne!(thief.get(INDEX).await.json()["session"], *label);
        assert_ne!(thief.get(INDEX).await.json()["session"], *label);
        // Neither do half a pair and two of one name.
        let mut odd = world.browser();
        odd.plant("CFID", &id, "/");
        odd.get(INDEX).await;
        let last = world.seen("AppA").last().unwrap().clone();
        assert!(cookie_of(&last.headers, "CFID").is_none());
    });
}

#[test]
fn adoption_of_cookies_ends_with_its_window_and_guesses_are_limited() {
    run(async {
        let world = one("[bridge]\nadopt_cookies = \"1h\"", "");
        let (mut browser, label) = of_before(&world).await;
        pass(300.0).await;
        let mut tried = 0;
        for guess in 0..100 {
            let mut guesser = world.browser();
            guesser.plant("CFID", &(100 + guess).to_string(), "/");
            guesser.plant("CFTOKEN", "12345678", "/");
            guesser.get(INDEX).await;
            let last = world.seen("AppA").last().unwrap().clone();
            tried += usize::from(cookie_of(&last.headers, "CFID").is_some());
        }
        assert_eq!(tried, 5, "tries that came to the app");
        pass(60.0).await;
        assert_eq!(browser.clone().get(INDEX).await.json()["session"], *label, "a minute later it goes on");
        pass(3600.0).await;
        browser.get(INDEX).await;
        let last = world.seen("AppA").last().unwrap().clone();
        assert!(cookie_of(&last.headers, "CFID").is_none(), "the window is over");
        assert_eq!(in_jar(&browser), ["bridge /"]);
    });
}

#[test]
fn without_adopt_cookies_what_a_browser_brings_is_dropped_and_expired() {
    run(async {
        let world = one("", "");
        let (mut browser, label) = of_before(&world).await;
        assert_ne!(browser.get(INDEX).await.json()["session"], *label);
        assert_eq!(in_jar(&browser), ["bridge /"]);
        let last = world.seen("AppA").last().unwrap().clone();
        assert_eq!(last.headers["cookie"], "cookies=on");
    });
}

#[test]
fn apps_without_an_engine_are_proxied_plainly() {
    run(async {
        let plain = Script::new("plain", |_: &Asked| {
            Says::cookies(&["CFID=1; Path=/plain; Domain=example.org; Max-Age=99"])
        });
        let toml = app("appA", "acf-strict", "10m", "")
            + "[apps.plain]\npath = \"/plain/\"\nupstreams = [\"http://plain\"]\n";
        let world = World::staged(&toml, [acf("AppA")], &[&plain], AccessLog::off());
        let mut browser = world.browser();
        browser.get(INDEX).await;
        let answer = browser.get("/plain/?CFID=5").await;
        assert_eq!(answer.set_cookies(), ["CFID=1; Path=/plain; Domain=example.org; Max-Age=99"]);
        assert_eq!(plain.last().target, "/plain/?CFID=5");
        browser.get("/plain/").await;
        assert_eq!(plain.last().header("cookie"), "CFID=1", "its own, and not the bridge's");
    });
}
