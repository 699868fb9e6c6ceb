use bytes::Bytes;
use http::Method;
use http::request::Parts;
use sessionbridge::demo::sim::Fault;

use super::support::scripted::{Say, Script, script_config, servlet_cookie, simple};
use super::support::{Browser, World, pass, run};

/// `set?v=B&d=3` sets `B...` and answers three seconds later, if it was asked with `A...`.
fn app(parts: &Parts) -> Say {
    let old = parts.headers.get("cookie").is_some_and(|line| line.to_str().unwrap().contains("AAAA"));
    let query = parts.uri.query().unwrap_or_default();
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
    match (value("v="), value("d=")) {
        (Some(id), Some(delay)) => {
            let say = simple(parts).after(delay.parse().unwrap());
            if old { say.with("set-cookie", servlet_cookie(id.chars().next().unwrap())) } else { say }
        }
        _ => simple(parts),
    }
}

/// Sends each request at its second (method, target, start), in the same browser; then what the app is sent.
async fn interleaved(requests: &[(Method, String, f64)]) -> (Script, String) {
    let script = Script::new(app);
    let world =
        World::scripted(&script_config("heartbeat.every = \"1h\"", ""), [("app", script.clone())], []);
    let mut browser = world.browser();
    browser.get("/app/").await;
    browser.get("/app/").await;
    let sent = requests.iter().cloned().map(|(method, target, start)| {
        let mut browser = browser.clone();
        tokio::task::spawn_local(async move {
            pass(start).await;
            let answer = browser.send(method, &target, &[], Bytes::new()).await;
            assert_eq!(answer.status, 200);
            (tokio::time::Instant::now(), browser)
        })
    });
    // A browser has one jar: what the last answer put into it counts.
    let answered = futures_util::future::join_all(sent).await.into_iter().map(Result::unwrap);
    let (_, mut last) = answered.max_by_key(|(at, _)| *at).unwrap();
    last.get("/app/").await;
    let line = script.asked().last().unwrap().header("cookie").to_owned();
    (script, line)
}

/// Whatever the order of arrival, the same answer of two rivals stays.
#[test]
fn t26_of_two_rivals_the_rank_decides_and_not_the_order_of_arrival() {
    // Methods of the two, the one that starts first is B; which stays.
    for (first, second, stays) in [
        (Method::GET, Method::GET, "CCCC"),
        (Method::POST, Method::POST, "CCCC"),
        (Method::POST, Method::GET, "BBBB"),
        (Method::GET, Method::POST, "CCCC"),
        (Method::HEAD, Method::GET, "CCCC"),
        (Method::DELETE, Method::GET, "BBBB"),
    ] {
        for (slow, quick) in [(4.0, 1.0), (1.0, 4.0), (2.0, 1.0)] {
            run(async {
                let requests = [
                    (first.clone(), format!("/app/set?v=B&d={slow}"), 0.0),
                    (second.clone(), format!("/app/set?v=C&d={quick}"), 0.5),
                ];
                let (_, line) = interleaved(&requests).await;
                assert!(line.contains(stays), "{first} then {second}, {slow} s and {quick} s: {line}");
            });
        }
    }
}

/// An answer older than both is stale: its token is dropped, and a GET is sent once more with the current one.
#[test]
fn t26_an_answer_that_was_overtaken_twice_is_stale() {
    run(async {
        let script = Script::new(|parts| {
            let line =
                parts.headers.get("cookie").map(|line| line.to_str().unwrap().to_owned()).unwrap_or_default();
            match parts.uri.path() {
                "/app/slow" if line.contains("AAAA") => {
                    Say::body("old").with("set-cookie", servlet_cookie('Z')).after(9.0)
                }
                "/app/slow" => Say::body(line),
                "/app/next" if line.contains("AAAA") => Say::body("").with("set-cookie", servlet_cookie('B')),
                "/app/next" => Say::body("").with("set-cookie", servlet_cookie('C')),
                _ => simple(parts),
            }
        });
        let world = World::scripted(&script_config("", ""), [("app", script.clone())], []);
        let mut browser = world.browser();
        browser.get("/app/").await;
        let mut other = browser.clone();
        let slow = tokio::task::spawn_local(async move { other.get("/app/slow").await });
        pass(1.0).await;
        browser.post("/app/next", "a=1").await;
        browser.post("/app/next", "a=1").await;
        let answer = slow.await.unwrap();
        assert!(answer.text().contains("CCCC"), "sent once more with the current token: {}", answer.text());
        browser.get("/app/").await;
        assert!(script.asked().last().unwrap().header("cookie").contains("CCCC"));
    });
}

/// Cookies that change with use: the later request wins, but what an unsafe method set, or a deletion, is a fence.
#[test]
fn t26_rolling_cookies_never_go_back() {
    let config = r#"
[apps.app]
path = "/app/"
upstreams = ["http://app"]
session.engine = "custom"
session.tokens = [{ name = "data", cookie = "data", rolling = true }]
session.timeout = "30s"
"#;
    // The slow one's method, the quick one's, and which value stays; the slow one starts first.
    for (first, second, deletes, stays) in [
        (Method::GET, Method::GET, false, "data=quick"),
        (Method::GET, Method::POST, false, "data=quick"),
        (Method::POST, Method::GET, false, "data=slow"),
        (Method::GET, Method::POST, true, ""),
    ] {
        run(async {
            let script = Script::new(move |parts| match parts.uri.path() {
                "/app/slow" => Say::body("").with("set-cookie", "data=slow; Path=/app").after(3.0),
                "/app/quick" if deletes => Say::body("").with("set-cookie", "data=; Path=/app; Max-Age=0"),
                "/app/quick" => Say::body("").with("set-cookie", "data=quick; Path=/app"),
                "/app/first" => Say::body("").with("set-cookie", "data=first; Path=/app"),
                _ => Say::body(""),
            });
            let world = World::scripted(config, [("app", script.clone())], []);
            let mut browser = world.browser();
            browser.get("/app/first").await;
            let (mut other, method) = (browser.clone(), first.clone());
            let slow =
                tokio::task::spawn_local(
                    async move { other.send(method, "/app/slow", &[], Bytes::new()).await },
                );
            pass(1.0).await;
            browser.send(second.clone(), "/app/quick", &[], Bytes::new()).await;
            slow.await.unwrap();
            browser.get("/app/").await;
            assert_eq!(script.asked().last().unwrap().header("cookie"), stays, "{first} {second} {deletes}");
        });
    }
}

/// Fifty pages at once while the app gives the session a new id: all find the same session.
#[test]
fn f11_fifty_requests_across_a_rotation_lose_nothing() {
    for profile in ["acf-strict", "servlet", "express", "django"] {
        run(async {
            let more = "[heartbeat]\nevery = \"1h\"";
            let world = World::new(
                &super::support::pair_config(profile, more),
                super::support::pair_apps(profile).map(|app| app.timeout_ms(600_000)),
            );
            let page = super::support::extension(profile);
            let mut browser = world.browser();
            browser.get(&format!("/AppA/set{page}?mine=1")).await;
            // The new id is on its way for 10 ms, in which ten pages are asked for with the old one, and take longer.
            let slow = |millis| Fault::Slow(std::time::Duration::from_millis(millis));
            world.app("AppA").with(|sim| sim.set_fault("rotate", slow(10)));
            world.app("AppA").with(|sim| sim.set_fault("get", slow(100)));
            let requests = (0..51).map(|n| {
                let mut browser: Browser = browser.clone();
                let target = format!("/AppA/get{page}");
                let rotate = format!("/AppA/rotate{page}");
                tokio::task::spawn_local(async move {
                    pass(f64::from(n) * 0.001).await;
                    if n == 10 { browser.post(&rotate, "").await } else { browser.get(&target).await }
                })
            });
            let answers = futures_util::future::join_all(requests).await;
            let lost = answers
                .into_iter()
                .enumerate()
                .filter(|(n, answer)| *n != 10 && answer.as_ref().unwrap().json()["data"]["mine"] != "1");
            let lost: Vec<usize> = lost.map(|(n, _)| n).collect();
            let sent = world.seen("AppA").iter().filter(|seen| seen.page.as_deref() == Some("get")).count();
            assert!(sent >= 50, "{profile}");
            let now = browser.get(&format!("/AppA/get{page}")).await;
            assert_eq!(now.json()["data"]["mine"], "1", "{profile}: afterwards");
            assert!(lost.is_empty(), "{profile}: {lost:?}");
        });
    }
}

#[test]
fn f11_the_first_visit_makes_one_session() {
    for profile in ["acf-strict", "servlet", "express", "php-lock", "django"] {
        run(async {
            let world = World::pair(profile, "");
            let page = super::support::extension(profile);
            let mut browser = world.browser();
            browser.get(&format!("/AppA/index{page}")).await;
            world
                .app("AppB")
                .with(|sim| sim.set_fault("index", Fault::Slow(std::time::Duration::from_secs(1))));
            let requests = (0..50).map(|_| {
                let mut browser: Browser = browser.clone();
                let target = format!("/AppB/index{page}");
                tokio::task::spawn_local(async move { browser.get(&target).await })
            });
            let answers = futures_util::future::join_all(requests).await;
            assert!(answers.into_iter().all(|answer| answer.unwrap().status == 200));
            assert_eq!(world.starts("AppB"), 1, "{profile}");
        });
    }
    // An app that keeps the first waiting keeps the others two seconds, no more.
    run(async {
        let world = World::pair("acf-strict", "");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        world.app("AppB").with(|sim| sim.set_fault("slow", Fault::Hang));
        let mut first = browser.clone();
        let hangs = tokio::task::spawn_local(async move { first.get("/AppB/slow.cfm").await });
        pass(0.1).await;
        let began = world.app("AppB").now();
        browser.get("/AppB/index.cfm").await;
        assert!(world.app("AppB").now() - began <= 2_000);
        hangs.abort();
    });
}

#[test]
fn f9_a_polluted_browser_is_clean_after_one_answer() {
    for (profile, names) in [
        ("acf-strict", &["CFID", "CFTOKEN", "cfid", "cftoken", "Cfid"][..]),
        ("lucee", &["cfid", "cftoken", "CFID", "CFTOKEN"]),
        ("servlet", &["JSESSIONID", "jsessionid"]),
        ("php-lock", &["PHPSESSID"]),
    ] {
        run(async {
            let world = World::pair(profile, "");
            let page = super::support::extension(profile);
            let mut browser = world.browser();
            for (n, name) in names.iter().enumerate() {
                for path in ["/", "/AppA", "/AppA/"] {
                    browser.plant(name, &format!("{n}0000000-0000-0000-0000-000000000000"), path);
                }
            }
            browser.plant("theme", "dark", "/");
            let answer = browser.get(&format!("/AppA/index{page}")).await;
            let left: Vec<&str> = browser.jar.iter().map(|cookie| &*cookie.name).collect();
            assert_eq!(left, ["theme", "bridge"], "{profile}");
            let fields = answer.set_cookies();
            // Each field takes room: of many names the wider domains come with the next answer.
            let domains =
                ["apps.example.org", "example.org"].into_iter().take(if names.len() > 2 { 1 } else { 2 });
            for domain in domains {
                let wide = format!("domain={domain}");
                assert!(
                    fields.iter().any(|field| field.to_lowercase().contains(&wide)),
                    "{profile}: {fields:?}"
                );
            }
            browser.get(&format!("/AppA/index{page}")).await;
            for seen in world.seen("AppA") {
                let line = seen
                    .headers
                    .get("cookie")
                    .map(|line| line.to_str().unwrap().to_lowercase())
                    .unwrap_or_default();
                assert!(!line.contains("0000000-0000"), "{profile}: {line}");
                for name in names {
                    let pair = format!("{}=", name.to_lowercase());
                    assert!(
                        line.split("; ").filter(|one| one.starts_with(&pair)).count() <= 1,
                        "{profile}: {line}"
                    );
                }
            }
            assert_eq!(world.starts("AppA"), 1, "{profile}");
        });
    }
}

#[test]
fn f14_explain_says_which_app_which_rule_and_which_cookies_an_address_meets() {
    let toml = super::support::pair_config(
        "acf-strict",
        "[[rules]]\nmatch = \"GET /AppA/poll*\"\nactivity = \"ignore\"\n",
    );
    let (config, _) = sessionbridge::config::load_str(
        "t.toml",
        &format!("listen = \"127.0.0.1:0\"\n{toml}"),
        &mut sessionbridge::names::Names::default(),
    )
    .unwrap();
    let told = sessionbridge::config::explain(
        &config,
        "http://apps.example.org/AppA/poll.cfm?CFID=1&CFTOKEN=22222222",
    )
    .unwrap();
    for word in ["appA", "GET /AppA/poll*", "CFID", "CFTOKEN", "http://appa", "/AppA/ping.cfm"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(!told.contains("22222222"), "no token is shown");
    assert!(told.contains("GET /AppA/poll.cfm\n"), "what the app gets: {told}");
}

/// A sign-in gives the browser another id; a button that was clicked three times shows the old one each time.
#[test]
fn a_sign_in_button_clicked_three_times_works() {
    run(async {
        let signs_in = |parts: &Parts| match parts.uri.query() {
            Some(id) => Say::body("ok").with("set-cookie", servlet_cookie(id.chars().next().unwrap())),
            None => simple(parts),
        };
        let (a, b) = (Script::new(signs_in), Script::new(simple));
        let other = script_config("", "")
            .replace("/app", "/other")
            .replace("apps.app", "apps.other")
            .replace("http://app", "http://other");
        let config = format!("{}{other}", script_config("", ""));
        let world = World::scripted(&config, [("app", a.clone()), ("other", b.clone())], []);
        let mut browser = world.browser();
        browser.get("/other/").await;
        browser.get("/app/").await;
        let mut last = browser.clone();
        for id in ["B", "C", "D"] {
            last = browser.clone();
            let answer = last.post(&format!("/app/sign-in?{id}"), "user=anna").await;
            assert!(answer.set_cookies().iter().any(|field| field.starts_with("bridge=")), "{id}");
        }
        last.get("/other/").await;
        assert!(
            b.asked().last().unwrap().header("cookie").contains("JSESSIONID=AAAA"),
            "the other app's session is hers"
        );
        assert_eq!(world.core.registry().counts().bound, 1);
        browser.get("/other/").await;
        assert_eq!(
            b.asked().last().unwrap().header("cookie"),
            "",
            "the new id has come back, the old one is over"
        );
    });
}

/// A browser has an id for each host; a sign-in on one host says nothing about the other's.
#[test]
fn a_sign_in_on_one_host_leaves_the_other_hosts_id_good() {
    use sessionbridge::registry::{Opened, Visitor};
    run(async {
        let world = World::pair("acf-strict", "");
        let registry = world.core.registry();
        let visitor = Visitor { address: [192, 0, 2, 1].into(), agent: 1 };
        let at = |seconds| super::support::START.plus(std::time::Duration::from_secs(seconds));
        let (slot, here) = registry.create([1; 16], at(0)).unwrap();
        let there = registry.second_id(&slot, [2; 16]).unwrap();
        let opens = |id, now| matches!(registry.open(id, visitor, now), Opened::Session { .. });
        assert!(opens(&here, at(1)) && opens(&there, at(1)));
        let next = registry.renew(&slot, [3; 16], (visitor, 0), at(2)).unwrap();
        assert!(opens(&here, at(30)), "until the new one has come back");
        assert!(opens(&next, at(31)) && !opens(&here, at(32)));
        assert!(opens(&there, at(600)), "the other host's");
        let lost = registry.renew(&slot, [4; 16], (visitor, 0), at(601)).unwrap();
        assert!(!opens(&next, at(662)), "a minute is all, where the new one never comes back");
        assert!(opens(&lost, at(663)));
    });
}
