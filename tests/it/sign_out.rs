use bytes::Bytes;
use http::Method;
use sessionbridge::demo::sim::{Fault, Profile, SimOptions};

use super::support::stage::{Asked, Says, Script, app, extension};
use super::support::{Answer, Browser, World, pass, run};
use std::time::Duration;

fn asks(name: &str, page: &str) -> String {
    format!("sign_out.request = \"GET /{name}/logout{page}\"\n")
}

/// Two apps of a profile with timeouts of a minute; `more` are further lines of AppA's table, `top` of the file.
fn two(profile: &str, more: &str, top: &str) -> World {
    let page = extension(profile);
    let a = app("appA", profile, "1m", &format!("{}{more}", asks("AppA", page)));
    let b = app("appB", profile, "1m", &asks("AppB", page));
    let profile: Profile = profile.parse().unwrap();
    let options = |name| SimOptions::new(profile, name).timeout_ms(60_000);
    World::new(&format!("{a}{b}{top}"), [options("AppA"), options("AppB")])
}

/// A browser with a session in both apps.
async fn signed_in(world: &World, page: &str) -> Browser {
    let mut browser = world.browser();
    for app in ["AppA", "AppB"] {
        browser.get(&format!("/{app}/index{page}")).await;
        browser.get(&format!("/{app}/set{page}?k={app}")).await;
    }
    browser
}

fn logouts(world: &World, name: &str) -> usize {
    world.seen(name).iter().filter(|seen| seen.page.as_deref() == Some("logout")).count()
}

fn bridge_deleted(answer: &Answer) -> bool {
    answer.set_cookies().iter().any(|field| field.starts_with("bridge=;") && field.contains("Max-Age=0"))
}

fn states(status: &serde_json::Value) -> String {
    let state = |app: &str| status["apps"][app]["state"].as_str().unwrap_or("none").to_owned();
    format!("{} {}", state("appA"), state("appB"))
}

#[test]
fn a_sign_out_seen_by_its_word_ends_everything_together() {
    for profile in ["lucee", "aspnet", "php-lock"] {
        run(async move {
            let page = extension(profile);
            let world = two(profile, "", "");
            let mut browser = signed_in(&world, page).await;
            if profile == "aspnet" {
                browser.post("/AppA/login.aspx", "user=ann&password=x").await;
            }
            pass(50.0).await;
            assert!(!world.beats("AppB").is_empty(), "{profile}");
            let answer = browser.get(&format!("/AppA/logout{page}")).await;
            assert_eq!(answer.status, 302, "{profile}: the app's own answer");
            assert_eq!((logouts(&world, "AppA"), logouts(&world, "AppB")), (1, 1), "{profile}");
            assert_eq!(
                world.app("AppB").with(|sim| sim.counts().logouts),
                1,
                "{profile}: with the vault's cookies"
            );
            assert_eq!(world.bridges().0, 0, "{profile}");
            let beats = (world.beats("AppA").len(), world.beats("AppB").len());
            pass(300.0).await;
            assert_eq!((world.beats("AppA").len(), world.beats("AppB").len()), beats, "{profile}");
            assert!(
                browser.get(&format!("/AppB/get{page}")).await.json()["data"]["k"].is_null(),
                "{profile}"
            );
            assert_eq!(world.counter("session_ends", &["app_logout"]), 1, "{profile}");
        });
    }
}

#[test]
fn s4_13_alone_ends_one_app_and_leaves_the_other_with_its_heartbeats() {
    run(async {
        let world = two("lucee", "sign_out.mode = \"alone\"", "");
        let mut browser = signed_in(&world, ".cfm").await;
        let id = browser.cookie("bridge").unwrap().to_owned();
        browser.get("/AppA/logout.cfm").await;
        assert_eq!((logouts(&world, "AppA"), logouts(&world, "AppB")), (1, 0));
        assert!(browser.get("/AppA/get.cfm").await.json()["data"]["k"].is_null(), "signed out of AppA");
        let beats = world.beats("AppB").len();
        pass(200.0).await;
        assert!(world.beats("AppB").len() > beats + 3);
        assert_eq!(browser.get("/AppB/get.cfm").await.json()["data"]["k"], "AppB");
        assert_eq!(browser.cookie("bridge"), Some(&*id));
        assert_eq!(world.bridges(), (1, 0));
    });
}

#[test]
fn s4_13_bridge_sign_out_alone_is_the_default_of_all_apps() {
    run(async {
        let world = two("lucee", "", "[bridge]\nsign_out = \"alone\"");
        let mut browser = signed_in(&world, ".cfm").await;
        browser.get("/AppB/logout.cfm").await;
        assert_eq!(logouts(&world, "AppA"), 0);
        assert_eq!(browser.get("/AppA/get.cfm").await.json()["data"]["k"], "AppA");
        // An app that is thrown away without being asked for it takes nobody along either.
        browser.get("/AppA/invalidate.cfm").await;
        pass(100.0).await;
        assert_eq!(world.bridges().0, 1);
    });
}

#[test]
fn a_token_that_goes_without_a_word_of_sign_out_ends_that_app_alone() {
    run(async {
        let world = two("lucee", "", "");
        let mut browser = signed_in(&world, ".cfm").await;
        browser.get("/AppA/invalidate.cfm").await;
        browser.get("/AppA/index.cfm?page=catalogoutput").await;
        assert_eq!(logouts(&world, "AppB"), 0);
        assert_eq!(browser.get("/AppB/get.cfm").await.json()["data"]["k"], "AppB");
    });
}

#[test]
fn detect_alone_decides_where_it_is_given_and_an_error_does_not_count() {
    run(async {
        let more = "sign_out.detect = [\"GET /AppA/get.cfm?*bye*\", \"POST /AppA/fail.cfm*\"]";
        let world = two("acf-strict", more, "");
        let mut browser = signed_in(&world, ".cfm").await;
        browser.get("/AppA/logout.cfm").await;
        browser.get("/AppA/index.cfm").await;
        assert_eq!(logouts(&world, "AppB"), 0, "the word is not asked any more");
        browser.post("/AppA/fail.cfm", "").await;
        assert_eq!(logouts(&world, "AppB"), 0, "answered with a 500");
        assert_eq!(world.bridges().0, 1);
        let answer = browser.get("/AppA/get.cfm?x=1&bye").await;
        assert!(bridge_deleted(&answer));
        assert_eq!(logouts(&world, "AppB"), 1);
        assert_eq!(world.bridges(), (0, 0));
        assert!(browser.cookie("bridge").is_none());
    });
}

#[test]
fn the_bridges_own_sign_out_is_for_its_own_pages_only() {
    run(async {
        let world = two("acf-strict", "", "");
        let mut browser = signed_in(&world, ".cfm").await;
        let refused: [&[(&str, &str)]; 6] = [
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://apps.example.org")],
            &[("origin", "http://evil.example")],
            &[("origin", "null")],
            &[],
        ];
        for headers in refused {
            let answer = browser.send(Method::POST, "/.bridge/logout", headers, Bytes::new()).await;
            assert_eq!((answer.status.as_u16(), answer.header("x-bridge-error")), (403, Some("bad_request")));
        }
        let page = browser.visit("/.bridge/logout").await;
        assert!(page.status == 200 && page.text().contains("<form method=\"post\""));
        assert_eq!(world.bridges().0, 1, "none of this ended anything");
        let own = [("origin", "http://apps.example.org")];
        let answer = browser.send(Method::POST, "/.bridge/logout", &own, Bytes::new()).await;
        assert_eq!(answer.status, 303);
        assert!(bridge_deleted(&answer));
        assert_eq!(
            answer.header("location"),
            Some("http://apps.example.org/.bridge/logout?done&appA=confirmed.dead&appB=confirmed.dead")
        );
        let done = "/.bridge/logout?done&appA=confirmed.dead&appB=confirmed&appC=%3Cb%3E";
        let page = browser.visit(done).await;
        assert!(page.text().contains("<td>appA</td>") && !page.text().contains("appC"));
        assert!(page.text().contains("the old session is gone"), "{}", page.text());
        let told = browser.get(done).await.json();
        assert_eq!(told["apps"]["appA"], serde_json::json!({"result": "confirmed", "proof": "dead"}));
        assert_eq!(told["apps"]["appB"]["proof"], serde_json::Value::Null);
        let made_up = browser.get("/.bridge/logout?done&appA=confirmed.better").await.json();
        assert_eq!(made_up["apps"], serde_json::json!({}));
        assert_eq!((logouts(&world, "AppA"), logouts(&world, "AppB")), (1, 1));
        assert_eq!(world.counter("session_ends", &["user_logout"]), 1);
        assert_eq!(browser.get("/.bridge/status").await.json()["state"], "none");
    });
}

#[test]
fn a_late_answer_brings_nothing_back() {
    run(async {
        let world = two("lucee", "", "");
        let mut browser = signed_in(&world, ".cfm").await;
        world.app("AppA").with(|sim| sim.set_fault("rotate", Fault::Slow(Duration::from_secs(5))));
        let mut tab = browser.clone();
        let late = tokio::task::spawn_local(async move { tab.get("/AppA/rotate.cfm").await });
        pass(1.0).await;
        browser.own_post("/.bridge/logout").await;
        assert_eq!(world.bridges(), (0, 0));
        let late = late.await.unwrap();
        assert_eq!(late.status, 200);
        assert!(late.set_cookies().is_empty(), "{:?}", late.set_cookies());
        assert_eq!(world.bridges(), (0, 0), "nothing is made again");
    });
}

#[test]
fn a_late_answer_loses_the_cookies_that_would_pass_as_well() {
    run(async {
        let app = Script::new("appa", |asked: &Asked| match asked.path() {
            "/appa/slow" => {
                Says::cookies(&["SID=ffff; Path=/", "remember=ann; Path=/; Max-Age=86400"]).after(5.0)
            }
            _ if asked.cookie("SID").is_some() => Says::cookies(&[]),
            _ => Says::cookies(&["SID=aaaa"]),
        });
        let world = World::with_scripts(&remembering_app("appa", ""), &[&app]);
        let mut browser = world.browser();
        browser.get("/appa/").await;
        browser.get("/appa/").await;
        let mut tab = browser.clone();
        let late = tokio::task::spawn_local(async move { tab.get("/appa/slow").await });
        pass(1.0).await;
        browser.own_post("/.bridge/logout").await;
        let late = late.await.unwrap();
        assert_eq!((late.status.as_u16(), late.set_cookies().len()), (200, 0), "{:?}", late.set_cookies());
        assert_eq!(world.bridges(), (0, 0));
    });
}

#[test]
fn a_late_answer_brings_nothing_back_into_an_app_that_was_left_alone() {
    run(async {
        let world = two("aspnet", "sign_out.mode = \"alone\"", "");
        let mut browser = signed_in(&world, ".aspx").await;
        browser.post("/AppA/login.aspx", "user=ann&password=x").await;
        assert_eq!(browser.get("/AppA/index.aspx").await.json()["user"], "ann");
        // A ticket is renewed in the second half of its life: this answer carries a new one, and comes too late.
        pass(35.0).await;
        world.app("AppA").with(|sim| sim.set_fault("big", Fault::Slow(Duration::from_secs(5))));
        let mut tab = browser.clone();
        let late = tokio::task::spawn_local(async move { tab.get("/AppA/big.aspx?size=1").await });
        pass(1.0).await;
        browser.get("/AppA/logout.aspx").await;
        late.await.unwrap();
        assert!(browser.get("/AppA/index.aspx").await.json()["user"].is_null(), "she has signed out");
    });
}

/// An app whose remembered sign-in is a cookie that passes.
fn remembering(name: &'static str, delay: f64, deletes: bool) -> Script {
    Script::new(name, move |asked: &Asked| match asked.path().rsplit('/').next().unwrap() {
        "out" if deletes => Says::cookies(&["remember=; Path=/; Max-Age=0"]).after(delay),
        "out" => Says::cookies(&[]).after(delay),
        _ if asked.cookie("SID").is_some() => Says::cookies(&[]),
        _ => Says::cookies(&[
            "SID=0123456789abcdef",
            "remember=ann; Path=/; Max-Age=86400; HttpOnly",
            "theme=dark; Path=/; Max-Age=86400",
        ]),
    })
}

fn remembering_app(name: &str, more: &str) -> String {
    format!(
        "[apps.{name}]\npath = \"/{name}/\"\nupstreams = [\"http://{name}\"]\nsession.engine = \"custom\"\n\
         session.tokens = [{{ name = \"SID\", cookie = \"SID\" }}]\nsession.timeout = \"10m\"\n{more}\n"
    )
}

/// Deletions of `remember` among Set-Cookie fields, by path.
fn forgotten(answer: &Answer) -> Vec<String> {
    let fields = answer.set_cookies().into_iter().filter(|field| field.starts_with("remember=;"));
    let path = |field: String| {
        assert!(field.contains("Max-Age=0") || field.contains("Expires=Thu, 01 Jan 1970"), "{field}");
        field.split("; ").find_map(|part| part.strip_prefix("Path=")).unwrap().to_owned()
    };
    let mut paths: Vec<String> = fields.map(path).collect();
    paths.sort();
    paths
}

#[test]
fn a_remembered_sign_in_is_deleted_in_the_browser_whatever_the_apps_do() {
    run(async {
        let (asked, silent) = (remembering("asked", 0.0, true), remembering("silent", 0.0, true));
        let (slow, quick) = (remembering("slow", 2.5, true), remembering("quick", 0.0, false));
        let out = |name: &str| format!("sign_out.request = \"GET /{name}/out\"");
        let toml = remembering_app("asked", &out("asked"))
            + &remembering_app("silent", "")
            + &remembering_app("slow", &out("slow"))
            + &remembering_app("quick", "sign_out.detect = [\"GET /quick/bye\"]");
        let world = World::with_scripts(&toml, &[&asked, &silent, &slow, &quick]);
        let mut browser = world.browser();
        for name in ["asked", "silent", "slow", "quick", "slow"] {
            browser.get(&format!("/{name}/")).await;
        }
        assert_eq!(browser.jar.iter().filter(|cookie| cookie.name == "remember").count(), 4);
        let began = tokio::time::Instant::now();
        let answer = browser.get("/quick/bye").await;
        assert_eq!(began.elapsed().as_secs_f64(), 2.0, "the slow one is waited for so long");
        let paths = forgotten(&answer);
        assert!(paths.contains(&"/asked".to_owned()), "what the app deleted itself: {paths:?}");
        assert!(paths.contains(&"/silent".to_owned()), "an app that is not asked: {paths:?}");
        assert!(paths.contains(&"/slow".to_owned()), "an app that has not answered in time: {paths:?}");
        let left: Vec<_> = browser.jar.iter().filter(|cookie| cookie.name == "remember").collect();
        assert!(left.iter().all(|cookie| cookie.path == "/quick"), "{left:?}");
        assert_eq!(browser.jar.iter().filter(|cookie| cookie.name == "theme").count(), 4, "no sign-in");
        pass(3.0).await;
        let out = slow.last();
        assert_eq!((out.path(), out.cookie("SID").as_deref()), ("/slow/out", Some("0123456789abcdef")));
        assert_eq!(out.cookie("remember").as_deref(), Some("ann"), "with the cookies that passed");
    });
}

#[test]
fn the_bridges_own_sign_out_deletes_remembered_sign_ins_and_does_not_wait_for_ever() {
    run(async {
        let (slow, silent) = (remembering("slow", 2.5, true), remembering("silent", 0.0, false));
        let toml =
            remembering_app("slow", "sign_out.request = \"GET /slow/out\"") + &remembering_app("silent", "");
        let world = World::with_scripts(&toml, &[&slow, &silent]);
        let mut browser = world.browser();
        for name in ["slow", "silent"] {
            browser.get(&format!("/{name}/")).await;
        }
        let began = tokio::time::Instant::now();
        let answer = browser.own_post("/.bridge/logout").await;
        assert_eq!(began.elapsed().as_secs_f64(), 2.0);
        assert_eq!(forgotten(&answer), ["/silent", "/slow"]);
        assert_eq!(
            answer.header("location"),
            Some("http://apps.example.org/.bridge/logout?done&slow=unconfirmed&silent=dropped")
        );
    });
}

#[test]
fn a_deletion_has_the_attributes_that_browsers_ask_for() {
    run(async {
        let app = Script::new("appa", |asked: &Asked| {
            if asked.cookie("SID").is_some() {
                return Says::cookies(&[]);
            }
            Says::cookies(&[
                "SID=0123456789abcdef",
                "__Secure-remember=ann; Path=/app; Secure; HttpOnly; Max-Age=86400",
                "nearby=ann; Secure; HttpOnly; Max-Age=86400",
            ])
        });
        let toml = "server.public_scheme = \"https\"\n".to_owned()
            + &remembering_app("appa", "strip_path = true").replace("\"/appa/\"", "\"/public/\"");
        let world = World::with_scripts(&toml, &[&app]);
        let mut browser = world.browser();
        browser.get("/public/app/x").await;
        browser.get("/public/app/x").await;
        assert_eq!(app.last().target, "/app/x");
        let answer = browser.own_post("/.bridge/logout").await;
        let find = |name: &str| {
            let fields = answer.set_cookies();
            fields
                .into_iter()
                .find(|field| field.starts_with(name))
                .unwrap_or_else(|| panic!("no deletion of {name}"))
        };
        let secure = find("__Secure-remember=;");
        assert!(secure.contains("; Secure") && secure.contains("Path=/public/app;"), "{secure}");
        assert!(
            find("nearby=;").contains("Path=/public/app;"),
            "the path that the browser made up: {:?}",
            find("nearby")
        );
    });
}

#[test]
fn the_sign_outs_own_answer_begins_a_fresh_session() {
    run(async {
        let world = two("lucee", "", "");
        let mut browser = signed_in(&world, ".cfm").await;
        let old = browser.cookie("bridge").unwrap().to_owned();
        let answer = browser.get("/AppA/logout.cfm").await;
        let new = browser.cookie("bridge").unwrap().to_owned();
        assert_ne!(new, old);
        assert!(!answer.set_cookies().iter().any(|field| field.to_lowercase().contains("cfid")));
        assert_eq!(world.bridges(), (0, 1));
        let page = browser.get("/AppA/index.cfm").await;
        assert_eq!(
            (page.json()["session"].as_str(), page.json()["fresh"].as_bool()),
            (Some("s2"), Some(false))
        );
        assert_eq!(browser.cookie("bridge"), Some(&*new));
        let mut thief = world.browser();
        thief.plant("bridge", &old, "/");
        assert_eq!(thief.get("/.bridge/status").await.json()["state"], "none");
    });
}

#[test]
fn what_the_sign_out_sets_again_of_the_old_session_is_dropped() {
    run(async {
        let app = Script::new("appa", |asked: &Asked| match asked.path() {
            "/appa/logout" => {
                Says::cookies(&["SID=fedcba9876543210; Path=/", "auth=secret; Path=/; HttpOnly"])
            }
            _ if asked.cookie("SID").is_some() => Says::cookies(&[]),
            _ => Says::cookies(&["SID=0123456789abcdef; Path=/", "auth=secret; Path=/; HttpOnly"]),
        });
        let world = World::with_scripts(&remembering_app("appa", ""), &[&app]);
        let mut browser = world.browser();
        browser.get("/appa/").await;
        browser.get("/appa/").await;
        assert_eq!(app.last().cookie("auth").as_deref(), Some("secret"));
        browser.get("/appa/logout").await;
        browser.get("/appa/").await;
        assert_eq!(app.last().cookie("SID").as_deref(), Some("fedcba9876543210"));
        assert_eq!(app.last().cookie("auth"), None);
    });
}

#[test]
fn apps_are_asked_at_the_same_time_and_one_that_hangs_holds_nobody_up() {
    run(async {
        let names = ["one", "two", "three"];
        let scripts: Vec<Script> = names.iter().map(|name| remembering(name, 1.5, false)).collect();
        let toml: String = names
            .iter()
            .map(|name| remembering_app(name, &format!("sign_out.request = \"POST /{name}/out\"")))
            .collect();
        let world = World::with_scripts(&toml, &scripts.iter().collect::<Vec<_>>());
        let mut browser = world.browser();
        for name in names {
            browser.get(&format!("/{name}/")).await;
        }
        browser.get("/one/").await;
        let began = tokio::time::Instant::now();
        let answer = browser.own_post("/.bridge/logout").await;
        assert_eq!(began.elapsed().as_secs_f64(), 1.5);
        assert!(
            answer.header("location").unwrap().ends_with("?done&one=confirmed&two=confirmed&three=confirmed")
        );
        assert!(scripts.iter().all(|script| script.last().method == Method::POST));
    });
}

#[test]
fn a_sign_in_gives_a_new_id_and_the_old_one_is_good_until_it_comes_back() {
    run(async {
        let world = two("acf-strict", "", "");
        let mut browser = signed_in(&world, ".cfm").await;
        let old = browser.clone();
        assert_eq!(world.starts("AppA"), 1);
        browser.post("/AppA/login.cfm", "user=ann&password=x").await;
        assert_ne!(browser.cookie("bridge"), old.cookie("bridge"));
        // The button was clicked twice: the second click knows the old id only.
        let mut twice = old.clone();
        let answer = twice.post("/AppA/login.cfm", "user=ann&password=x").await;
        assert_eq!(answer.status, 302);
        assert_eq!(world.starts("AppA"), 1, "in the same session");
        // Somebody elsewhere, with another browser, who knows it too.
        let mut thief = old.clone();
        thief.headers.insert("user-agent", "curl/8".parse().unwrap());
        assert_eq!(thief.get("/.bridge/status").await.json()["state"], "none");
        assert_ne!(twice.cookie("bridge"), old.cookie("bridge"), "the first click's answer may be lost");
        for mut tab in [browser.clone(), twice.clone()] {
            assert_eq!(tab.get("/AppA/index.cfm").await.json()["user"], "ann");
        }
        assert_eq!(
            old.clone().get("/.bridge/status").await.json()["state"],
            "none",
            "the new one has come back"
        );
    });
}

#[test]
fn an_old_id_is_good_for_a_minute_at_the_most() {
    run(async {
        let world = two("acf-strict", "", "");
        let mut browser = signed_in(&world, ".cfm").await;
        let mut old = browser.clone();
        browser.post("/AppA/login.cfm", "user=ann&password=x").await;
        pass(59.0).await;
        assert_eq!(old.clone().get("/.bridge/status").await.json()["state"], "active");
        pass(2.0).await;
        assert_eq!(old.get("/.bridge/status").await.json()["state"], "none");
        assert_eq!(browser.get("/.bridge/status").await.json()["state"], "active");
    });
}

#[test]
fn a_button_clicked_three_times_works_as_well() {
    run(async {
        let world = two("acf-strict", "sign_out.login = [\"/AppA/login.cfm*\"]", "");
        let browser = signed_in(&world, ".cfm").await;
        for _ in 0..3 {
            let mut click = browser.clone();
            click.post("/AppA/login.cfm", "user=ann&password=x").await;
            assert!(click.cookie("bridge").is_some());
        }
        assert_eq!(world.starts("AppA"), 1);
    });
}

#[test]
fn a_straggler_with_the_old_id_does_not_take_the_new_one_away() {
    run(async {
        let world = two("acf-strict", "", "");
        let mut browser = signed_in(&world, ".cfm").await;
        // Sent before the sign-in's answer came, and on the way for longer than what follows.
        let mut straggler = browser.clone();
        browser.post("/AppA/login.cfm", "user=ann&password=x").await;
        browser.get("/AppA/index.cfm").await;
        let answer = straggler.get("/AppA/index.cfm").await;
        assert!(
            answer.set_cookies().is_empty(),
            "its answer would overwrite the new id: {:?}",
            answer.set_cookies()
        );
        assert_ne!(answer.json()["user"], "ann");
    });
}

#[test]
fn states_are_told_app_by_app() {
    run(async {
        let world = two("lucee", "sign_out.mode = \"alone\"", "");
        let mut browser = signed_in(&world, ".cfm").await;
        assert_eq!(states(&browser.get("/.bridge/status").await.json()), "live live");
        browser.own_post("/.bridge/logout").await;
        assert_eq!(states(&browser.get("/.bridge/status").await.json()), "none none");
        assert_eq!(browser.get("/.bridge/extend").await.status, 405);
    });
}
