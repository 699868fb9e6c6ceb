use bytes::Bytes;
use http::Method;
use sessionbridge::demo::sim::{Fault, Profile, SimOptions};
use sessionbridge::telemetry::access::AccessLog;
use std::time::Duration;

use super::support::stage::{Asked, Says, Script, app, cookie_of, extension};
use super::support::{Answer, Browser, World, pass, run};

fn sim(profile: &str, name: &str, seconds: u64) -> SimOptions {
    SimOptions::new(profile.parse().unwrap(), name).timeout_ms(seconds * 1000)
}

/// One app of a profile with a timeout in seconds; `more` are further lines of its table, `top` stands before it.
fn one(profile: &str, seconds: u64, more: &str, top: &str) -> World {
    let toml = format!("{top}\n{}", app("appA", profile, &format!("{seconds}s"), more));
    World::new(&toml, [sim(profile, "AppA", seconds)])
}

/// AppA (ColdFusion) and AppB (servlet), a minute each.
fn mixed(top: &str) -> World {
    let toml =
        format!("{top}\n{}{}", app("appA", "acf-strict", "60s", ""), app("appB", "servlet", "60s", ""));
    World::new(&toml, [sim("acf-strict", "AppA", 60), sim("servlet", "AppB", 60)])
}

/// What an app was sent as tokens, all of it.
fn tokens_of(world: &World, name: &str) -> Vec<String> {
    let names = [
        "CFID",
        "CFTOKEN",
        "JSESSIONID",
        "PHPSESSID",
        "ASP.NET_SessionId",
        "connect.sid",
        "sessionid",
        "_app_session",
    ];
    let mut all: Vec<String> = Vec::new();
    for seen in world.seen(name) {
        all.extend(
            names.iter().filter_map(|name| cookie_of(&seen.headers, name)).filter(|value| value.len() > 6),
        );
    }
    all.sort();
    all.dedup();
    all
}

fn holds_none(answer: &Answer, secrets: &[String]) {
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        assert!(!secrets.iter().any(|secret| value.contains(secret)), "{name}: {value}");
    }
}

#[test]
fn s0_1_a_client_with_the_bridge_cookie_alone_stays_in_one_session() {
    run(async {
        let world = one("acf-strict", 60, "", "");
        let mut browser = world.browser();
        for hit in 1..=50 {
            let page = browser.get("/AppA/index.cfm").await;
            assert_eq!(page.json()["hits"], hit);
            assert_eq!(browser.jar.iter().map(|kept| kept.name.as_str()).collect::<Vec<_>>(), ["bridge"]);
        }
        assert_eq!(world.starts("AppA"), 1);
        world.browser().get("/AppA/index.cfm").await;
        assert_eq!(world.starts("AppA"), 2, "no id: a new session");
    });
}

#[test]
fn s0_2_remoting_bodies_pass_byte_for_byte_with_the_sessions_cookies() {
    run(async {
        let world = one("acf-strict", 60, "", "");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        let body: Bytes = (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let kind = [("content-type", "application/x-amf")];
        let answer = browser.send(Method::POST, "/AppA/echo.cfm", &kind, body.clone()).await;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let seen = world.seen("AppA").last().unwrap().clone();
        assert_eq!((seen.body_sha256, seen.body_len), (digest, 1 << 20));
        assert_eq!(seen.session.as_deref(), Some("s1"));
        assert_eq!(answer.body, body);
        assert_eq!(answer.header("content-type"), Some("application/x-amf"));
    });
}

#[test]
fn s0_4_no_method_and_no_timer_of_the_page_are_needed() {
    run(async {
        let world = one("acf-strict", 3, "", "");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        browser.get("/AppA/index.cfm").await;
        let asked = world.seen("AppA").len();
        pass(12.0).await;
        let others = world.seen("AppA")[asked..].iter().filter(|seen| !seen.heartbeat).count();
        assert_eq!(others, 0, "nothing came from the page");
        assert_eq!(browser.get("/AppA/index.cfm").await.json()["session"], "s1");
    });
}

#[test]
fn s0_5_every_kind_of_token_is_kept_by_config() {
    for profile in [
        "acf-legacy",
        "acf-strict",
        "acf-j2ee",
        "lucee",
        "lucee-j2ee",
        "openbd",
        "servlet",
        "php-lock",
        "aspnet",
        "aspnet-cookieless",
        "aspnet-mono",
        "express",
        "django",
        "rails",
    ] {
        run(async move {
            let (page, world) = (extension(profile), one(profile, 60, "", ""));
            let mut browser = world.browser();
            let first = browser.get(&format!("/AppA/index{page}")).await;
            assert_eq!(first.status, 200, "{profile}");
            browser.get(&format!("/AppA/set{page}?k=v")).await;
            pass(200.0).await;
            assert_eq!(browser.get(&format!("/AppA/get{page}")).await.json()["data"]["k"], "v", "{profile}");
            assert_eq!(world.starts("AppA"), 1, "{profile}");
            let kept: Vec<_> = browser
                .jar
                .iter()
                .map(|kept| kept.name.as_str())
                .filter(|name| *name != "csrftoken")
                .collect();
            assert_eq!(kept, ["bridge"], "{profile}");
        });
    }
}

#[test]
fn s0_5_an_engine_that_is_not_built_in_is_described_in_the_config() {
    run(async {
        let shop = Script::new("shop", |asked: &Asked| match asked.cookie("SHOPSESSION") {
            Some(_) => Says::cookies(&[]),
            None => {
                Says::cookies(&["SHOPSESSION=0123456789abcdef0123456789abcdef; Path=/shop", "shop_ticket=t1"])
            }
        });
        let toml = r#"
            [apps.shop]
            path = "/shop/"
            upstreams = ["http://shop"]
            session.engine = "custom"
            session.tokens = [{ name = "SHOPSESSION", cookie = "SHOPSESSION", query = "sid", path_param = "shopsession", pattern = "[0-9a-f]{32}" },
                              { name = "ticket", cookie = "shop_ticket", rolling = true }]
            session.timeout = "15m"
            heartbeat.path = "/shop/keepalive"
        "#;
        let world = World::with_scripts(toml, &[&shop]);
        let mut browser = world.browser();
        browser.get("/shop/").await;
        browser.get("/shop/a;shopsession=ff/b?sid=ff&x=1").await;
        assert_eq!(shop.last().target, "/shop/a/b?x=1");
        assert_eq!(shop.last().cookie("SHOPSESSION").as_deref(), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(shop.last().cookie("shop_ticket").as_deref(), Some("t1"));
        pass(600.0).await;
        assert!(shop.asked().iter().any(|asked| asked.path() == "/shop/keepalive"));
    });
}

/// A person reads a page for `seconds`; with an open page, a beacon every 20 s.
async fn reads(world: &World, browser: &mut Browser, seconds: u32, presence: bool) {
    for _ in 0..seconds / 20 {
        pass(20.0).await;
        if presence {
            assert_eq!(browser.get("/.bridge/beat.gif").await.body.len(), 43);
        }
    }
    let _ = world;
}

#[test]
fn s0_7_a_session_outlives_the_servers_limit_while_presence_is_proven() {
    run(async {
        let clocks = "[bridge]\nidle_timeout = \"90s\"\npresence_ttl = \"30s\"\npresence_limit = \"1h\"";
        for presence in [true, false] {
            let world = one("acf-strict", 60, "", clocks);
            let mut browser = world.browser();
            browser.get("/AppA/index.cfm").await;
            browser.get("/AppA/set.cfm?k=v").await;
            reads(&world, &mut browser, 180, presence).await;
            let live = world.app("AppA").with(|sim| sim.live_sessions(world.seen_now()));
            assert_eq!(live, usize::from(presence), "alive at three times the limit");
            let found = browser.get("/AppA/get.cfm").await;
            assert_eq!(found.json()["data"]["k"].as_str(), presence.then_some("v"));
        }
    });
}

#[test]
fn s0_8_url_method_and_interval_of_the_heartbeat_are_the_configs() {
    run(async {
        let beat = "heartbeat.method = \"HEAD\"\nheartbeat.every = \"4s\"\nheartbeat.jitter = \"10%\"";
        let world = one("acf-strict", 60, &beat.replace("heartbeat.path", ""), "");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        browser.get("/AppA/index.cfm").await;
        pass(120.0).await;
        let beats = world.beats("AppA");
        assert!((26..=34).contains(&beats.len()), "{}", beats.len());
        assert!(
            beats.iter().all(|beat| beat.method == Method::HEAD && beat.path_and_query == "/AppA/ping.cfm")
        );
        for pair in beats.windows(2) {
            let gap = pair[1].at - pair[0].at;
            assert!((3_600..=4_400).contains(&gap), "{gap} ms");
        }
        let beat = &beats[0];
        assert_eq!(beat.headers["x-session-heartbeat"], "1");
        assert_eq!(beat.headers["cache-control"], "no-cache");
        assert_eq!(beat.headers["user-agent"], "Mozilla/5.0 (test)");
        assert_eq!(beat.headers["host"], "apps.example.org");
    });
}

#[test]
fn s0_9_the_client_cannot_change_who_the_app_sees() {
    run(async {
        let world = one("acf-legacy", 60, "", "");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        let forged = [
            ("x-bridge-user", "root"),
            ("x-bridge-session", "root"),
            ("x_bridge_user", "root"),
            ("x-session-heartbeat", "1"),
            ("cookie", "CFID=1; CFTOKEN=11111111; cfid=1; cftoken=11111111"),
        ];
        let page = browser
            .clone()
            .send(Method::POST, "/AppA/index.cfm?CFID=1&CFTOKEN=11111111", &forged, Bytes::new())
            .await;
        assert_eq!(page.json()["fresh"], true, "that request showed no bridge cookie");
        let seen = world.seen("AppA").last().unwrap().clone();
        assert!(!seen.heartbeat && seen.headers.keys().all(|name| !name.as_str().contains("bridge")));
        assert!(seen.headers.values().all(|value| !value.to_str().unwrap().contains("11111111")));
        assert_eq!(seen.path_and_query, "/AppA/index.cfm");
        browser.plant("CFID", "1", "/");
        browser.plant("CFTOKEN", "11111111", "/");
        assert_eq!(browser.get("/AppA/index.cfm").await.json()["session"], "s1");
    });
}

#[test]
fn s0_10_no_id_of_an_app_is_in_any_header_that_a_browser_sees() {
    for profile in
        ["acf-strict", "acf-j2ee", "lucee", "servlet", "aspnet", "aspnet-cookieless", "php-lock", "django"]
    {
        run(async move {
            let (page, world) = (extension(profile), one(profile, 60, "", ""));
            let mut browser = world.browser();
            let mut answers = Vec::new();
            for target in
                ["index", "relocate", "links", "rotate", "invalidate", "index", "private", "logout", "index"]
            {
                answers.push(browser.get(&format!("/AppA/{target}{page}")).await);
                answers.push(browser.visit(&format!("/AppA/{target}{page}")).await);
            }
            answers.push(browser.post(&format!("/AppA/login{page}"), "user=ann&password=x").await);
            answers.push(browser.get(&format!("/AppA/index{page}")).await);
            let secrets = tokens_of(&world, "AppA");
            assert!(!secrets.is_empty() || profile == "aspnet-cookieless", "{profile}");
            answers.iter().for_each(|answer| holds_none(answer, &secrets));
            let segments = |value: &str| value.contains("(S(");
            assert!(
                !answers.iter().any(|answer| answer.header("location").is_some_and(segments)),
                "{profile}"
            );
        });
    }
}

#[test]
fn s0_10_refresh_and_link_are_cleaned_as_well() {
    run(async {
        let app_a = Script::new("appa", |_: &Asked| {
            Says::cookies(&["CFID=12", "CFTOKEN=87654321"])
                .header("refresh", "5; url=http://apps.example.org/AppA/next.cfm?CFID=12&CFTOKEN=87654321&x=1")
                .header("link", "</AppA/a.cfm?cfid=12&cftoken=87654321>; rel=next, </AppA/b.cfm;jsessionid=87654321>; rel=prev")
                .header("content-location", "/AppA/c.cfm?x=1&CFTOKEN=87654321")
                .header("location", "/AppA/d.cfm?CFID=12&CFTOKEN=87654321#top")
                .status(201)
        });
        let world = World::with_scripts(&app("appA", "acf-strict", "10m", ""), &[&app_a]);
        let answer = world.browser().get("/AppA/index.cfm").await;
        holds_none(&answer, &["87654321".to_owned()]);
        assert_eq!(answer.header("refresh"), Some("5; url=http://apps.example.org/AppA/next.cfm?x=1"));
        assert_eq!(answer.header("location"), Some("/AppA/d.cfm#top"));
    });
}

#[test]
fn s0_11_a_fetch_to_any_mapped_app_has_the_persons_session_there() {
    run(async {
        let world = mixed("");
        let mut browser = world.browser();
        browser.visit("/AppA/index.cfm").await;
        browser.visit("/AppB/set.jsp?k=v").await;
        let fetch = [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
            ("referer", "http://apps.example.org/AppA/index.cfm"),
        ];
        let answer = browser.send(Method::GET, "/AppB/get.jsp", &fetch, Bytes::new()).await;
        assert_eq!(answer.json()["data"]["k"], "v");
        assert_eq!(world.starts("AppB"), 1);
    });
}

#[test]
fn s0_15_the_log_says_which_id_came_from_where_and_went_to_whom() {
    use sessionbridge::telemetry::log::{Access, Format, LogOptions};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let options =
        LogOptions { level: "info".into(), format: Format::Json, access: Access::File(file.clone()) };
    let (access, writing) = AccessLog::open(&options).unwrap();
    run(async {
        let toml = app("appA", "acf-strict", "60s", "")
            + &app("appB", "servlet", "60s", "session.cookies = \"prefix\"");
        let world = World::staged(
            &toml,
            [sim("acf-strict", "AppA", 60), sim("servlet", "AppB", 60)],
            &[],
            access.clone(),
        );
        let mut browser = world.browser();
        for target in
            ["/AppA/index.cfm", "/AppA/index.cfm?CFID=1&CFTOKEN=2", "/AppB/index.jsp", "/AppB/index.jsp"]
        {
            browser.get(target).await;
        }
        pass(1.0).await;
    });
    assert!(access.close(&writing, Duration::from_secs(10)));
    let log = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["app"].as_str().unwrap(), line["token"].as_str().unwrap())).collect();
    assert_eq!(told, [("appA", "none"), ("appA", "vault"), ("appB", "none"), ("appB", "browser")]);
    let bridge = lines[0]["bridge"].as_str().expect("the session that this request made");
    assert!(lines.iter().all(|line| line["bridge"] == bridge), "{log}");
    assert_eq!(lines[1]["path"], "/AppA/index.cfm");
}

/// Two nodes of one app behind one upstream list.
fn cluster() -> World {
    let toml = app("appA", "servlet", "60s", "sign_out.request = \"GET /AppA/logout.jsp\"")
        .replace("[\"http://appa\"]", "[\"http://node1\", \"http://node2\"]");
    let node = |name: &str| {
        let mut options = sim("servlet", name, 60);
        options.mount = "/AppA/".to_owned();
        options
    };
    World::new(&toml, [node("node1"), node("node2")])
}

#[test]
fn s0_20_an_object_in_the_session_stays_on_the_node_that_holds_it() {
    run(async {
        let world = cluster();
        let mut browser = world.browser();
        browser.get("/AppA/set.jsp?connection=open").await;
        for _ in 0..20 {
            assert_eq!(browser.get("/AppA/get.jsp").await.json()["data"]["connection"], "open");
            pass(10.0).await;
        }
        assert_eq!((world.starts("node1"), world.starts("node2")), (1, 0));
    });
}

#[test]
fn s1_1_people_are_spread_over_the_nodes_and_each_stays() {
    run(async {
        let world = cluster();
        let mut browsers: Vec<Browser> = (0..10).map(|_| world.browser()).collect();
        for browser in &mut browsers {
            browser.get("/AppA/set.jsp?k=v").await;
        }
        assert_eq!((world.starts("node1"), world.starts("node2")), (5, 5));
        for browser in &mut browsers {
            assert_eq!(browser.get("/AppA/get.jsp").await.json()["data"]["k"], "v");
        }
        pass(200.0).await;
        for browser in &mut browsers {
            assert_eq!(
                browser.get("/AppA/get.jsp").await.json()["data"]["k"],
                "v",
                "heartbeats go to the node as well"
            );
            browser.own_post("/.bridge/logout").await;
        }
        let logouts = ["node1", "node2"].map(|node| world.app(node).with(|sim| sim.counts().logouts));
        assert_eq!(logouts, [5, 5], "and sign-outs");
    });
}

/// A browser that has a bridge session already comes to an app of several nodes: it stays there from the first answer on.
#[test]
fn s1_1_a_second_app_is_sticky_from_its_first_answer_on() {
    run(async {
        let toml = app("appA", "servlet", "60s", "")
            + &app("appB", "servlet", "60s", "")
                .replace("[\"http://appb\"]", "[\"http://node1\", \"http://node2\"]");
        let node = |name: &str| {
            let mut options = sim("servlet", name, 60);
            options.mount = "/AppB/".to_owned();
            options
        };
        let world = World::new(&toml, [sim("servlet", "appA", 60), node("node1"), node("node2")]);
        let mut browser = world.browser();
        browser.get("/AppA/index.jsp").await;
        browser.get("/AppA/index.jsp").await;
        for _ in 0..6 {
            assert_eq!(browser.get("/AppB/index.jsp").await.status, 200);
            pass(50.0).await;
        }
        assert_eq!(world.starts("node1") + world.starts("node2"), 1);
    });
}

#[test]
fn s0_22_nine_steps_of_pages_remoting_and_scripts_are_one_session() {
    run(async {
        let world = one("acf-strict", 60, "", "");
        let mut browser = world.browser();
        let amf = [("content-type", "application/x-amf")];
        let ajax = [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "cors"),
            ("x-requested-with", "XMLHttpRequest"),
        ];
        browser.visit("/AppA/login.cfm").await;
        browser.post("/AppA/login.cfm", "user=ann&password=x").await;
        browser.visit("/AppA/private.cfm").await;
        for step in 4..9 {
            pass(70.0).await;
            let target = format!("/AppA/set.cfm?step{step}=done");
            let answer = match step % 3 {
                0 => browser.send(Method::POST, "/AppA/echo.cfm", &amf, Bytes::from_static(b"\0\x03")).await,
                1 => browser.send(Method::POST, &target, &ajax, Bytes::new()).await,
                _ => browser.visit(&target).await,
            };
            assert_eq!(answer.status, 200, "step {step}");
        }
        let page = browser.post("/AppA/set.cfm", "delete=account").await;
        assert_eq!(page.json()["data"]["delete"], "account");
        assert_eq!(page.json()["data"]["step4"], "done");
        assert_eq!(browser.get("/AppA/private.cfm").await.json()["user"], "ann");
        assert_eq!(world.starts("AppA"), 1);
    });
}

#[test]
fn s0_27_errors_of_apps_pass_and_ours_are_told_apart() {
    run(async {
        let failing = Script::new("appa", |_: &Asked| {
            Says::cookies(&[]).status(500).body(b"<h1>Half a page</h1>\0\xff Variable SESSION is undefined")
        });
        let toml = app("appA", "acf-strict", "60s", "") + &app("appB", "servlet", "60s", "");
        let world = World::with_scripts(&toml, &[&failing]);
        let answer = world.browser().get("/AppA/index.cfm").await;
        assert_eq!(answer.status, 500);
        assert_eq!(answer.body, &b"<h1>Half a page</h1>\0\xff Variable SESSION is undefined"[..]);
        assert!(answer.header("x-bridge-error").is_none() && answer.header("x-request-id").is_some());
        assert_eq!(failing.last().header("x-request-id"), answer.header("x-request-id").unwrap());
        let ours = world.browser().get("/AppB/index.jsp").await;
        assert_eq!((ours.status.as_u16(), ours.header("x-bridge-error")), (502, Some("connect_refused")));
        assert_eq!(ours.header("cache-control"), Some("no-store"));
        assert_eq!(ours.json()["request_id"].as_str(), ours.header("x-request-id"));
        let page = world.browser().visit("/AppB/index.jsp").await;
        assert!(page.text().contains(page.header("x-request-id").unwrap()) && page.text().contains("appB"));
    });
}

#[test]
fn s1_2_the_browser_holds_one_opaque_id() {
    run(async {
        let world = mixed("");
        let mut browser = world.browser();
        let first = browser.get("/AppA/index.cfm").await;
        let second = browser.get("/AppB/index.jsp").await;
        assert_eq!((first.set_cookies().len(), second.set_cookies().len()), (1, 0));
        let id = browser.cookie("bridge").unwrap();
        assert!(
            id.len() == 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{id}"
        );
        let mut other = world.browser();
        other.get("/AppA/index.cfm").await;
        let alike = id.bytes().zip(other.cookie("bridge").unwrap().bytes()).filter(|(a, b)| a == b).count();
        assert!(alike < 8, "nothing of two browsers of one address and agent is alike");
    });
}

#[test]
fn s1_8_nothing_is_stored_on_the_disk_of_the_person() {
    run(async {
        let world = mixed("");
        let mut browser = world.browser();
        for target in ["/AppA/index.cfm", "/AppB/index.jsp", "/AppA/login.cfm", "/.bridge/status"] {
            for field in browser.get(target).await.set_cookies() {
                let folded = field.to_lowercase();
                assert!(!folded.contains("expires") && !folded.contains("max-age"), "{field}");
                assert!(
                    field.contains("HttpOnly") && field.contains("SameSite=Lax") && field.contains("Path=/"),
                    "{field}"
                );
            }
        }
        assert_eq!(browser.jar.len(), 1);
        browser.close();
        assert!(browser.jar.is_empty());
    });
}

#[test]
fn s1_5_the_idle_end_is_exact_and_everything_is_gone_after_it() {
    run(async {
        let world = one(
            "acf-strict",
            60,
            "sign_out.request = \"GET /AppA/logout.cfm\"",
            "[bridge]\nidle_timeout = \"300s\"",
        );
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        browser.get("/AppA/set.cfm?k=v").await;
        pass(299.0).await;
        assert_eq!(browser.get("/AppA/get.cfm").await.json()["data"]["k"], "v");
        pass(301.0).await;
        assert_eq!(world.bridges(), (0, 0));
        assert!(world.metrics().contains("sessionbridge_bridges{state=\"bound\"} 0"));
        assert_eq!(world.counter("session_ends", &["idle"]), 1);
        assert_eq!(world.app("AppA").with(|sim| sim.counts().logouts), 1, "the app was signed out of");
        let answer = browser.get("/AppA/get.cfm").await;
        assert!(answer.json()["data"]["k"].is_null());
        assert_ne!(answer.json()["session"], "s1");
    });
}

#[test]
fn s2_6_absolute_urls_of_an_app_point_to_the_proxy() {
    run(async {
        let world = one("acf-strict", 60, "", "server.trusted_proxies = [\"127.0.0.1\"]");
        let mut browser = world.browser();
        browser.at("public.example.org:8443").headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let xml = browser.post("/AppA/builder.xml", "").await.text();
        assert!(xml.contains("url=https://public.example.org:8443/AppA/index.cfm?"), "{xml}");
        let upstream = Script::new("appa", |asked: &Asked| match asked.path() {
            "/AppA/own" => Says::cookies(&[]).status(302).header("location", "http://appa/AppA/x"),
            "/AppA/seen" => Says::cookies(&[]).status(302).header("location", "http://inner.example/AppA/x"),
            _ => Says::cookies(&[]).status(302).header("location", "https://elsewhere.example/AppA/x"),
        });
        let toml = app("appA", "acf-strict", "60s", "host_header = \"inner.example\"");
        let world = World::with_scripts(&toml, &[&upstream]);
        let mut browser = world.browser();
        let ours = Some("http://apps.example.org/AppA/x");
        assert_eq!(browser.get("/AppA/own").await.header("location"), ours);
        assert_eq!(browser.get("/AppA/seen").await.header("location"), ours);
        assert_eq!(
            browser.get("/AppA/far").await.header("location"),
            Some("https://elsewhere.example/AppA/x")
        );
        assert_eq!(upstream.last().header("host"), "inner.example");
        assert_eq!(upstream.last().header("x-forwarded-host"), "apps.example.org");
    });
}

#[test]
fn s2_11_a_client_that_refuses_cookies_goes_in_no_circle() {
    for profile in ["acf-strict", "servlet", "aspnet-cookieless", "aspnet-mono", "php-lock"] {
        run(async move {
            let (page, world) = (extension(profile), one(profile, 60, "", ""));
            let mut client = world.browser();
            client.keeps_cookies = false;
            let answer = client.follow(&format!("/AppA/index{page}?json&CFID=1&CFTOKEN=2")).await;
            assert_eq!(answer.status, 200, "{profile}");
            assert!(answer.header("location").is_none());
            assert_eq!(world.bridges().0, 0, "{profile}: nothing of it is bound");
            pass(100.0).await;
            assert_eq!((world.beats("AppA").len(), world.bridges()), (0, (0, 0)), "{profile}");
        });
    }
}

#[test]
fn s4_1_servlet_sessions_live_in_memory_by_cookie_or_path() {
    run(async {
        let mut options = sim("servlet", "AppA", 60);
        options.route = Some("node1".to_owned());
        let world = World::new(&app("appA", "servlet", "60s", ""), [options]);
        let mut browser = world.browser();
        browser.get("/AppA/set.jsp?k=v").await;
        let page = browser.get("/AppA/get.jsp;jsessionid=0123456789ABCDEF0123456789ABCDEF.node1").await;
        assert_eq!(page.json()["data"]["k"], "v", "her session, whatever the path says");
        pass(200.0).await;
        assert_eq!(browser.get("/AppA/get.jsp").await.json()["data"]["k"], "v");
        browser.close();
        assert!(browser.get("/AppA/get.jsp").await.json()["data"]["k"].is_null());
    });
}

#[test]
fn s4_7_heartbeats_are_capped_and_counted() {
    run(async {
        let world = one("acf-strict", 60, "heartbeat.max_rate = \"5/s\"\nheartbeat.max_in_flight = 2", "");
        let mut browsers: Vec<Browser> = (0..40).map(|_| world.browser()).collect();
        for browser in &mut browsers {
            browser.get("/AppA/index.cfm").await;
            browser.get("/AppA/index.cfm").await;
        }
        pass(100.0).await;
        let mut seconds = std::collections::BTreeMap::new();
        for beat in world.beats("AppA") {
            *seconds.entry(beat.at / 1000).or_insert(0) += 1;
        }
        assert!(seconds.values().all(|count| *count <= 5), "{seconds:?}");
        let live = world.app("AppA").with(|sim| sim.live_sessions(world.seen_now()));
        assert_eq!(live, 40, "and they are enough");
        assert_eq!(world.counter("heartbeats", &["appA", "alive"]), world.beats("AppA").len() as u64);
        // But for one that is on its way right now.
        for _ in 0..100 {
            if world.counter("heartbeats_armed", &[]) == 40 {
                break;
            }
            pass(0.1).await;
        }
        assert_eq!(world.counter("heartbeats_armed", &[]), 40, "{}", world.metrics());
        world.app("AppA").with(|sim| sim.set_fault("ping", Fault::Slow(Duration::from_secs(3))));
        let before = world.beats("AppA").len();
        pass(6.0).await;
        let begun = world.beats("AppA").len() - before;
        assert!(begun <= 6, "two at a time: {begun}");
    });
}

#[test]
fn s4_8_the_count_of_sessions_is_the_apps_own() {
    run(async {
        let world = one("acf-strict", 600, "", "[bridge]\nidle_timeout = \"500s\"");
        let mut browsers: Vec<Browser> = (0..30).map(|_| world.browser()).collect();
        for browser in &mut browsers {
            browser.get("/AppA/index.cfm").await;
            browser.get("/AppA/index.cfm").await;
        }
        let live = |world: &World| world.app("AppA").with(|sim| sim.live_sessions(world.seen_now()));
        assert_eq!((world.bridges(), live(&world)), ((30, 0), 30));
        assert!(world.metrics().contains("sessionbridge_bridges{state=\"bound\"} 30"));
        for browser in browsers.iter_mut().take(10) {
            browser.own_post("/.bridge/logout").await;
        }
        assert_eq!(world.bridges(), (20, 0));
    });
}

#[test]
fn s4_9_what_is_told_of_sessions_shows_no_id_of_anybody() {
    run(async {
        let world = mixed("");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        browser.get("/AppB/index.jsp").await;
        browser.get("/AppB/index.jsp").await;
        pass(100.0).await;
        let mut secrets = tokens_of(&world, "AppA");
        secrets.extend(tokens_of(&world, "AppB"));
        secrets.push(browser.cookie("bridge").unwrap().to_owned());
        assert!(secrets.len() >= 3);
        let registry = world.core.registry();
        let mut told = vec![world.metrics(), format!("{registry:?}")];
        let mut found = None;
        registry.each(|session, ticket| {
            told.push(format!("{session:?}"));
            found = Some(ticket);
            true
        });
        let slot = registry.slot(found.unwrap()).unwrap();
        told.push(format!("{slot:?} {}", slot.handle));
        told.push(browser.get("/.bridge/status").await.text());
        told.push(browser.visit("/.bridge/status").await.text());
        told.push(world.browser().get("/.bridge/status").await.text());
        assert_eq!(told.len(), 7, "one session");
        for text in &told {
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
        }
        assert!(told[6].contains("\"none\""), "and a stranger is told nothing");
    });
}

#[test]
fn s4_10_beginnings_and_ends_are_counted_as_the_app_counts_them() {
    run(async {
        let top = "[bridge]\nidle_timeout = \"200s\"";
        let world = one("lucee", 60, "sign_out.request = \"GET /AppA/logout.cfm\"", top);
        let mut browsers: Vec<Browser> = (0..6).map(|_| world.browser()).collect();
        for browser in &mut browsers {
            browser.get("/AppA/index.cfm").await;
            browser.get("/AppA/index.cfm").await;
        }
        let counts = || world.app("AppA").with(|sim| sim.counts());
        assert_eq!((world.bridges().0 as u64, counts().starts), (6, 6));
        for browser in browsers.iter_mut().take(2) {
            browser.own_post("/.bridge/logout").await;
        }
        pass(250.0).await;
        let ends = |word| world.counter("session_ends", &[word]);
        assert_eq!((ends("user_logout"), ends("idle")), (2, 4));
        assert_eq!(counts().logouts, 6, "each end was told to the app");
        let registry = world.core.registry();
        let stories = registry.latest_ended(100);
        assert_eq!(stories.len(), 6);
        assert_eq!(stories.iter().filter(|story| story.end.as_str() == "idle").count(), 4);
        assert_eq!(world.counter("logout_propagations", &["appA", "ok"]), 6);
    });
}

#[test]
fn s4_14_after_an_invalidate_the_person_sees_a_page() {
    run(async {
        let world = one("invalid-session", 60, "", "");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        assert_eq!(browser.get("/AppA/set.cfm?k=v").await.json()["session"], "s1");
        browser.get("/AppA/invalidate.cfm").await;
        let answer = browser.get("/AppA/index.cfm").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["session"], "s2");
        assert_eq!(browser.get("/AppA/index.cfm").await.json()["session"], "s2");
        let last: Vec<u16> =
            world.seen("AppA").iter().rev().take(3).map(|seen| seen.status.as_u16()).collect();
        assert_eq!(last, [200, 200, 500], "sent once more, without the dead token");
        // A POST is never sent twice, and an error that says something else is the person's to see.
        browser.get("/AppA/invalidate.cfm").await;
        let asked = world.seen("AppA").len();
        assert_eq!(browser.post("/AppA/set.cfm", "k=v").await.status, 500);
        assert_eq!(world.seen("AppA").len(), asked + 1);
        assert_eq!(
            browser.get("/AppA/fail.cfm").await.text(),
            "<h1>Half a page</h1><p>Error: it failed here"
        );
    });
}

#[test]
fn s4_21_an_id_in_the_path_is_kept_in_the_vault_and_put_back() {
    for (profile, form) in [("aspnet-cookieless", "/AppA/(S("), ("aspnet-mono", "/AppA/(")] {
        run(async move {
            let mut options = sim(profile, "AppA", 60);
            options.cookieless = true;
            let world = World::new(
                &app("appA", profile, "60s", "sign_out.request = \"GET /AppA/logout.aspx\""),
                [options],
            );
            let mut browser = world.browser();
            let page = browser.visit("/AppA/index.aspx?json").await;
            assert_eq!(
                (page.status.as_u16(), page.json()["session"].as_str()),
                (200, Some("s1")),
                "{profile}"
            );
            browser.get("/AppA/set.aspx?k=v").await;
            let last = world.seen("AppA").last().unwrap().clone();
            assert!(
                last.path_and_query.starts_with(form) && last.path_and_query.ends_with(")/set.aspx?k=v"),
                "{profile}"
            );
            pass(200.0).await;
            assert_eq!(browser.get("/AppA/get.aspx").await.json()["data"]["k"], "v", "{profile}: kept alive");
            assert!(
                world.beats("AppA").iter().all(|beat| beat.path_and_query.starts_with(form)),
                "{profile}"
            );
            // Somebody else's link with the id in its path opens nothing.
            let leaked = last.path_and_query.replace("set.aspx?k=v", "get.aspx?json");
            let thief = world.browser().follow(&leaked).await;
            assert!(thief.json()["data"]["k"].is_null(), "{profile}");
            browser.post("/AppA/login.aspx", "user=ann&password=x").await;
            assert_eq!(browser.get("/AppA/private.aspx").await.json()["user"], "ann", "{profile}");
            assert_eq!(
                world.app("AppA").with(|sim| sim.counts().starts),
                2,
                "{profile}: hers and the thief's"
            );
            assert_eq!(browser.jar.len(), 1, "{profile}");
        });
    }
}

/// A new id in the path: the heartbeat's answer is a redirect to it, and no sign-out.
#[test]
fn f3_replaced_where_the_id_is_in_the_path() {
    for profile in ["aspnet-cookieless", "aspnet-mono"] {
        run(async move {
            let mut options = sim(profile, "AppA", 10);
            options.cookieless = true;
            let world = World::new(&app("appA", profile, "10s", ""), [options]);
            let mut browser = world.browser();
            browser.visit("/AppA/index.aspx").await;
            browser.visit("/AppA/index.aspx").await;
            pass(8.0).await;
            let counted = |verdict| world.counter("heartbeats", &["appA", verdict]);
            assert!(counted("alive") > 0, "{profile}");
            world.app("AppA").with(|sim| sim.restart());
            pass(8.0).await;
            assert_eq!((counted("replaced"), counted("signed_out")), (1, 0), "{profile}");
            let before = counted("alive");
            assert_eq!(browser.visit("/AppA/index.aspx").await.status, 200, "{profile}");
            pass(8.0).await;
            assert!(counted("alive") > before, "{profile}");
        });
    }
}

#[test]
fn s4_21_a_wandering_expired_id_is_replaced_without_the_persons_doing() {
    // Mono's late sessions are gone after four times their timeout at the latest; it writes the new id behind the dead one.
    for (profile, late) in [("aspnet-cookieless", 100.0), ("aspnet-mono", 300.0)] {
        run(async move {
            let toml = app("appA", profile, "60s", "").replace("heartbeat.", "# heartbeat.");
            let mut options = sim(profile, "AppA", 60);
            options.cookieless = true;
            let world = World::new(&toml, [options]);
            let mut browser = world.browser();
            browser.visit("/AppA/index.aspx?json").await;
            browser.visit("/AppA/index.aspx?json").await;
            pass(late).await;
            let page = browser.visit("/AppA/index.aspx?json").await;
            assert_eq!((page.status.as_u16(), page.json()["session"].as_str()), (200, Some("s2")));
            assert_eq!(browser.visit("/AppA/index.aspx?json").await.json()["session"], "s2");
        });
    }
    assert_eq!(Profile::AspNetCookieless.extension(), ".aspx");
}
