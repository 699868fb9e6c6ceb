use super::support::plain::without_proxy;
use super::support::{Browser, World, extension, pair_apps, pair_config, pass, run};
use sessionbridge::demo::sim::{Profile, SimOptions};

const PROFILES: [&str; 12] = [
    "acf-strict",
    "acf-legacy",
    "acf-j2ee",
    "lucee",
    "lucee-j2ee",
    "openbd",
    "servlet",
    "php-lock",
    "aspnet",
    "express",
    "django",
    "rails",
];

/// What AppB says of AppA's ids where its links carry them.
const SIBLING: &str =
    "session.timeout = \"5m\"\nsession.url_tokens = { AID = \"appA.CFID\", ATOKEN = \"appA.CFTOKEN\" }";

/// AppA (10 s) and AppB (5 min); AppB knows AppA's ids as `AID` and `ATOKEN`.
fn siblings(profile: &str) -> World {
    let [mut a, mut b] = pair_apps(profile);
    (a.link_to, b.link_to) = (Some("/AppB/".to_owned()), Some("/AppA/".to_owned()));
    World::new(&pair_config(profile, "").replace("session.timeout = \"5m\"", SIBLING), [a, b])
}

/// AppA times out after 10 s; so many stays of 4 s in AppB; back in AppA the start time is unchanged and the current time
/// is later by as much. Links carry no ids.
async fn the_walk(profile: &str, stays: u64) {
    let world = World::pair(profile, "");
    let page = extension(profile);
    let mut browser = world.browser();
    let first = browser.get(&format!("/AppA/index{page}")).await;
    let other = browser.get(&format!("/AppB/index{page}")).await;
    for _ in 0..stays {
        pass(4.0).await;
        let again = browser.get(&format!("/AppB/index{page}")).await;
        assert_eq!(again.started(), other.started(), "{profile}: AppB's own session");
    }
    let back = browser.get(&format!("/AppA/index{page}")).await;
    assert_eq!(back.started(), first.started(), "{profile}: the session of before");
    assert!(back.json()["now"].as_u64().unwrap() >= first.json()["now"].as_u64().unwrap() + stays * 4_000);
    assert_eq!(world.starts("AppA"), 1, "{profile}");
}

#[test]
fn s3_1_the_demo_of_the_article_on_every_engine() {
    for profile in PROFILES {
        run(the_walk(profile, 6));
    }
}

#[test]
fn s3_20_late_return_from_the_second_application() {
    for profile in PROFILES {
        run(the_walk(profile, 30));
    }
}

/// The article's links, ids and all, under both spellings: the walk is the same, the addresses come out clean.
#[test]
fn s3_1_links_that_carry_ids() {
    for profile in ["acf-strict", "acf-legacy", "lucee", "openbd"] {
        run(async {
            let world = siblings(profile);
            let mut browser = world.browser();
            let first = browser.get("/AppA/index.cfm").await;
            let links = browser.get("/AppA/links.cfm").await.json()["links"].clone();
            let to_b: Vec<&str> =
                links.as_array().unwrap().iter().map(|link| link.as_str().unwrap()).collect();
            let (raw, named) = (to_b[3], to_b[4]);
            assert!(raw.contains("CFID=") && named.contains("AID="), "{profile}: {to_b:?}");
            for link in [raw, named] {
                let answer = browser.navigate(link, "same-origin").await;
                assert_eq!(answer.status, 303, "{profile}");
                assert_eq!(
                    answer.header("location"),
                    Some("http://apps.example.org/AppB/index.cfm"),
                    "{profile}"
                );
                for _ in 0..6 {
                    browser.get("/AppB/index.cfm").await;
                    pass(4.0).await;
                }
            }
            let back = browser.get("/AppA/index.cfm").await;
            assert_eq!(back.started(), first.started(), "{profile}");
            assert_eq!((world.starts("AppA"), world.starts("AppB")), (1, 1), "{profile}");
        });
    }
}

/// The pair that the last link of AppA's page shows for itself.
async fn pair_of(browser: &mut Browser, app: &str) -> (String, String) {
    let links = browser.get(&format!("/{app}/links.cfm")).await.json()["links"].clone();
    let link = links[4].as_str().unwrap().to_owned();
    let value = |name: &str| {
        let (_, rest) = link.split_once(&format!("{name}=")).unwrap();
        rest.split('&').next().unwrap().to_owned()
    };
    (value("AID"), value("ATOKEN"))
}

#[test]
fn s3_2_a_sibling_pair_is_bound_to_its_own_app() {
    run(async {
        let world = siblings("acf-strict");
        let mut browser = world.browser();
        let first = browser.get("/AppA/index.cfm").await;
        let (id, token) = pair_of(&mut browser, "AppA").await;
        let answer = browser.follow(&format!("/AppB/index.cfm?AID={id}&ATOKEN={token}&x=1")).await;
        assert_eq!(answer.status, 200);
        let b = pair_of(&mut browser, "AppB").await;
        assert_ne!(b, (id.clone(), token.clone()), "AppB has a pair of its own");
        for seen in world.seen("AppB") {
            let text = format!("{} {:?}", seen.path_and_query, seen.headers);
            assert!(!text.contains(&token) && !text.contains("AID"), "AppB never sees AppA's pair");
            let sends =
                seen.headers.get_all("cookie").iter().any(|line| line.to_str().unwrap().contains(&token));
            assert!(!sends);
        }
        assert!(world.seen("AppB").iter().any(|seen| seen.path_and_query == "/AppB/index.cfm?x=1"));
        pass(30.0).await;
        assert_eq!(
            browser.get("/AppA/index.cfm").await.started(),
            first.started(),
            "and AppA's is kept alive"
        );
        assert!(world.seen("AppA").iter().all(|seen| !format!("{:?}", seen.headers).contains(&b.1)));
        assert_eq!(world.metric("sessionbridge_url_tokens_total{app=\"appB\",result=\"own\"}"), 1.0);
    });
}

/// The pair of a client that has no bridge cookie (the Builder's XML call, then its browser panel) becomes AppA's token of
/// the panel's bridge session, though it arrives at AppB.
#[test]
fn s3_2_a_sibling_pair_without_a_bridge_cookie_is_adopted_for_its_app() {
    run(async {
        let world = siblings("acf-strict");
        let mut call = world.browser();
        call.keeps_cookies = false;
        let first = call.get("/AppA/index.cfm").await;
        let set = world.seen("AppA").len();
        assert_eq!(set, 1);
        let (id, token) = {
            // What the app printed into its own page at that visit.
            let (_, answer) = (first, call.get("/AppA/links.cfm").await);
            let link = answer.json()["links"][4].as_str().unwrap().to_owned();
            let value = |name: &str| {
                link.split_once(&format!("{name}=")).unwrap().1.split('&').next().unwrap().to_owned()
            };
            (value("AID"), value("ATOKEN"))
        };
        let mut panel = world.browser();
        panel.follow(&format!("/AppB/index.cfm?AID={id}&ATOKEN={token}")).await;
        let there = panel.get("/AppA/index.cfm").await;
        assert_eq!(world.starts("AppA"), 2, "two calls without cookies, and none for the panel");
        assert!(!there.json()["fresh"].as_bool().unwrap());
        assert_eq!(pair_of(&mut panel, "AppA").await, (id, token));
        assert_eq!(world.metric("sessionbridge_url_tokens_total{app=\"appB\",result=\"adopted\"}"), 1.0);
    });
}

#[test]
fn s3_3_raw_ids_meant_for_one_app_never_hook_the_other() {
    for profile in ["acf-strict", "acf-legacy", "lucee", "openbd"] {
        run(async {
            let world = siblings(profile);
            let mut browser = world.browser();
            browser.get("/AppA/index.cfm").await;
            let (id, token) = pair_of(&mut browser, "AppA").await;
            let a = world.seen("AppA").last().unwrap().session.clone();
            let answer = browser.get(&format!("/AppB/index.cfm?CFID={id}&CFTOKEN={token}")).await;
            assert_eq!(answer.status, 200, "{profile}");
            assert_ne!(
                pair_of(&mut browser, "AppB").await,
                (id.clone(), token.clone()),
                "{profile}: B gets its own"
            );
            assert!(world.seen("AppB").iter().all(|seen| !seen.path_and_query.contains("CFID")), "{profile}");
            // The same in the browser's own cookies.
            browser.plant("CFID", &id, "/");
            browser.plant("cftoken", &token, "/AppB");
            browser.get("/AppB/index.cfm").await;
            let cookie = |seen: &sessionbridge::demo::sim::Seen| format!("{:?}", seen.headers.get("cookie"));
            assert!(
                world.seen("AppB").iter().all(|seen| !cookie(seen).contains(&format!("={id};"))),
                "{profile}"
            );
            assert_eq!(world.starts("AppB"), 1, "{profile}");
            assert!(a.is_some());
        });
    }
}

#[test]
fn s3_4_values_that_are_no_ids_are_ignored_and_counted() {
    run(async {
        let world = siblings("acf-strict");
        let mut browser = world.browser();
        browser.get("/AppB/index.cfm").await;
        let bad = [
            ("abc", "xyz"),
            ("99999999999999999999999999999999", "12345678"),
            ("-1", "12345678"),
            ("1,2", "12345678,87654321"),
            ("1%202", "12345678"),
            ("%27%20or%201=1", "12345678"),
        ];
        for (id, token) in bad {
            let answer = browser.get(&format!("/AppB/index.cfm?AID={id}&ATOKEN={token}&k=v")).await;
            assert_eq!(answer.status, 200, "{id}");
            assert_eq!(world.seen("AppB").last().unwrap().path_and_query, "/AppB/index.cfm?k=v", "{id}");
        }
        assert_eq!(world.metric("sessionbridge_url_tokens_total{app=\"appB\",result=\"malformed\"}"), 6.0);
        // A pair of zeroes has the shape of one, and belongs to nobody.
        browser.get("/AppB/index.cfm?AID=0&ATOKEN=0").await;
        pass(60.0).await;
        assert!(world.seen("AppA").is_empty(), "AppA is not asked for any of them");
        let told = browser.get("/.bridge/status").await.json();
        assert_eq!(told["apps"]["appA"]["state"], "none");
        assert_eq!(world.starts("AppB"), 1);
    });
}

#[test]
fn s3_5_no_heartbeat_for_a_pair_that_nobody_proved() {
    run(async {
        let world = siblings("acf-legacy");
        let (mut owner, mut other) = (world.browser(), world.browser());
        owner.get("/AppA/index.cfm").await;
        let (id, token) = pair_of(&mut owner, "AppA").await;
        other.get("/AppB/index.cfm").await;
        // The owner's, which is bound to her; a made-up one; half of one.
        for query in
            [format!("AID={id}&ATOKEN={token}"), "AID=77&ATOKEN=12345678".to_owned(), format!("AID={id}")]
        {
            other.follow(&format!("/AppB/index.cfm?{query}")).await;
        }
        world.app("AppA").with(|sim| sim.clear_log());
        pass(8.0).await;
        let kept = world.beats("AppA");
        assert!(
            !kept.is_empty() && kept.iter().all(|seen| seen.session.as_deref() == Some("s1")),
            "{kept:?}"
        );
        owner.own_post("/.bridge/logout").await;
        world.app("AppA").with(|sim| sim.clear_log());
        pass(120.0).await;
        assert!(world.seen("AppA").is_empty(), "zero pings for the other browser");
    });
}

/// Three apps; `keeps` names those that are kept alive.
fn three(keeps: &[&str]) -> World {
    let toml: String = ["appA", "appB", "appC"]
        .iter()
        .map(|name| {
            let path = format!("/A{}/", &name[1..]);
            let beat = if keeps.contains(name) { format!("heartbeat.path = \"{path}ping.cfm\"") } else { String::new() };
            format!(
                "[apps.{name}]\npath = \"{path}\"\nupstreams = [\"http://{}\"]\nsession.engine = \"coldfusion\"\n\
                 session.timeout = \"10s\"\n{beat}\n",
                name.to_lowercase()
            )
        })
        .collect();
    let app = |name| SimOptions::new(Profile::AcfStrict, name).timeout_ms(10_000);
    World::new(&toml, ["AppA", "AppB", "AppC"].map(app))
}

#[test]
fn s3_6_each_direction_is_configured_by_itself() {
    for keeps in [&["appA"][..], &["appB"], &["appA", "appB"], &["appA", "appB", "appC"], &[]] {
        run(async {
            let world = three(keeps);
            let mut browser = world.browser();
            let mut begun = Vec::new();
            for app in ["AppA", "AppB", "AppC"] {
                begun.push(browser.get(&format!("/{app}/index.cfm")).await.started());
            }
            pass(35.0).await;
            for (app, begun) in ["appA", "appB", "appC"].iter().zip(begun) {
                let now = browser.get(&format!("/A{}/index.cfm", &app[1..])).await.started();
                assert_eq!(now == begun, keeps.contains(app), "{app} where {keeps:?} are kept");
            }
        });
    }
}

#[test]
fn s3_7_one_page_of_the_second_app_and_then_only_signs_of_presence() {
    run(async {
        let more = "[bridge]\nidle_timeout = \"20s\"\npresence_ttl = \"8s\"\npresence_limit = \"10m\"";
        let world = World::pair("acf-strict", more);
        let mut browser = world.browser();
        let first = browser.get("/AppA/index.cfm").await;
        browser.get("/AppB/index.cfm").await;
        for _ in 0..40 {
            pass(5.0).await;
            let answer = browser.get("/.bridge/beat.gif").await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 43));
        }
        assert_eq!(browser.get("/AppA/index.cfm").await.started(), first.started());
        assert_eq!(world.seen("AppB").iter().filter(|seen| !seen.heartbeat).count(), 1, "one page, no more");
    });
}

/// A form with the article's fields goes on in the person's own session; a stranger's pair in it changes nothing.
#[test]
fn s3_8_ids_in_a_form_are_cut_and_the_session_is_extended() {
    for profile in ["acf-legacy", "acf-strict", "openbd"] {
        run(async {
            let toml = pair_config(profile, "")
                .replace("heartbeat.path", "# heartbeat.path")
                .replace("heartbeat.canary", "# ");
            let world = World::new(&toml, pair_apps(profile));
            let (mut browser, mut stranger) = (world.browser(), world.browser());
            let first = browser.get("/AppA/index.cfm").await;
            let (id, token) = pair_of_plain(&mut browser).await;
            stranger.get("/AppA/set.cfm?owner=stranger").await;
            let strange = pair_of_plain(&mut stranger).await;
            for (id, token) in [(&id, &token), (&strange.0, &strange.1)] {
                pass(7.0).await;
                let form = format!("note=hello&CFID={id}&CFTOKEN={token}&last=1");
                let answer = browser.post("/AppA/set.cfm", &form).await;
                assert_eq!(answer.json()["session"], "s1", "{profile}");
                let seen = world.seen("AppA").pop().unwrap();
                assert_eq!(seen.body.unwrap(), "note=hello&last=1", "{profile}");
            }
            pass(7.0).await;
            let now = browser.get("/AppA/index.cfm").await;
            assert_eq!(now.started(), first.started(), "{profile}: 21 s after, of a session of 10 s");
            assert_eq!(now.json()["data"]["note"], "hello", "{profile}");
        });
    }
}

/// The pair as the app's own page shows it: the vault's, asked through the page that prints its headers.
async fn pair_of_plain(browser: &mut Browser) -> (String, String) {
    let headers = browser.get("/AppA/headers.cfm").await.json()["headers"].clone();
    let line = headers.as_array().unwrap().iter().find(|pair| pair[0] == "cookie").unwrap()[1]
        .as_str()
        .unwrap()
        .to_owned();
    let value = |name: &str| {
        let pair = line.split("; ").find(|pair| pair.to_lowercase().starts_with(name)).unwrap();
        pair.split_once('=').unwrap().1.to_owned()
    };
    (value("cfid="), value("cftoken="))
}

#[test]
fn s3_11_a_shared_url_shares_no_session() {
    for profile in ["acf-strict", "acf-legacy", "lucee", "openbd"] {
        run(async {
            let world = siblings(profile);
            let mut owner = world.browser();
            owner.get("/AppA/set.cfm?secret=mine").await;
            let (id, token) = pair_of(&mut owner, "AppA").await;
            for query in [format!("CFID={id}&CFTOKEN={token}"), format!("cfid={id}&cftoken={token}&a=1")] {
                let mut stranger = world.browser();
                let answer = stranger.visit(&format!("/AppA/index.cfm?{query}")).await;
                assert_eq!(answer.status, 303, "{profile}");
                let clean = answer.header("location").unwrap().to_owned();
                assert!(
                    !clean.contains(&token) && !clean.to_lowercase().contains("cfid"),
                    "{profile}: {clean}"
                );
                let there = stranger.follow("/AppA/index.cfm").await;
                assert!(!there.text().contains("mine"), "{profile}");
                assert_ne!(pair_of(&mut stranger, "AppA").await.0, id, "{profile}");
            }
            assert_eq!(owner.get("/AppA/get.cfm").await.json()["data"]["secret"], "mine", "{profile}");
        });
    }
}

#[test]
fn s3_12_several_servers_without_a_rewrite_each_person_stays_at_one() {
    run(async {
        let toml =
            pair_config("acf-strict", "").replace("\"http://appa\"", "\"http://node1\", \"http://node2\"");
        let node = |name| {
            let mut options = SimOptions::new(Profile::AcfStrict, name).timeout_ms(10_000);
            options.mount = "/AppA/".to_owned();
            options
        };
        let [_, b] = pair_apps("acf-strict");
        let world = World::new(&toml, [node("node1"), node("node2"), b]);
        for _ in 0..10 {
            let mut browser = world.browser();
            let first = browser.get("/AppA/index.cfm").await;
            browser.get("/AppB/index.cfm").await;
            pass(31.0).await;
            let back = browser.get("/AppA/index.cfm").await;
            assert_eq!((back.started(), &back.json()["app"]), (first.started(), &first.json()["app"]));
        }
        assert_eq!(world.starts("node1") + world.starts("node2"), 10);
        assert!(world.starts("node1") > 0 && world.starts("node2") > 0, "both have work");
    });
}

#[test]
fn s3_13_crawlers_create_nothing_durable() {
    run(async {
        let world = World::pair("acf-strict", "");
        let mut refused = 0;
        for hit in 0..1000 {
            let mut crawler = world.browser();
            crawler.keeps_cookies = false;
            let answer = crawler.get(&format!("/AppA/index.cfm?page={hit}")).await;
            refused += usize::from(answer.status == 429);
        }
        assert!(world.starts("AppA") <= 60, "{} of a burst of 50", world.starts("AppA"));
        assert!(refused >= 940);
        let counts = world.core.registry().counts();
        assert_eq!(counts.bound, 0, "nobody came back");
        assert!(counts.pending <= 60);
        pass(12.0).await;
        assert!(world.beats("AppA").is_empty(), "nobody is kept alive");
        assert_eq!(world.core.registry().counts().pending, 0, "after the app's own timeout they are gone");
        pass(1900.0).await;
        assert_eq!(
            world.seen("AppA").iter().filter(|seen| seen.page.as_deref() == Some("logout")).count(),
            0
        );
    });
}

/// Sessions of many people, each kept alive in AppA while its owner is in AppB.
async fn crowd(people: u64) {
    let more = "[server.limits]\nnew_sessions = { rate = \"100000/s\", burst = 100000, per = \"client-ip\" }";
    let mut apps = pair_apps("acf-strict");
    apps.iter_mut().for_each(|app| app.log_limit = 1);
    let world = World::new(
        &pair_config("acf-strict", more).replace("\"10s\"", "\"2m\""),
        apps.map(|app| app.timeout_ms(120_000)),
    );
    let mut browsers = Vec::new();
    for _ in 0..people {
        let mut browser = world.browser();
        let first = browser.get("/AppA/index.cfm").await.started();
        browser.get("/AppB/index.cfm").await;
        browsers.push((browser, first));
    }
    pass(600.0).await;
    assert_eq!(world.starts("AppA"), people);
    assert!(world.verdicts("appA", "alive") >= 10.0 * people as f64);
    assert_eq!(world.app("AppA").with(|sim| sim.sessions().len() as u64), people, "all alive");
    for (browser, first) in browsers.iter_mut().step_by(97) {
        assert_eq!(browser.get("/AppA/index.cfm").await.started(), *first);
    }
}

#[test]
fn s3_14_load_is_not_the_issue() {
    run(crowd(500));
}

#[test]
#[ignore = "needs minutes: tests/run"]
fn s3_14_twenty_thousand_sessions() {
    run(crowd(20_000));
}

/// With the apps fighting over one pair on one host, as it has been since the engine was fixed in 2011.
#[test]
fn s3_19_the_walk_on_strict_engines_fails_without_the_proxy() {
    run(the_walk("acf-strict", 6));
    run(async {
        let mut browser = without_proxy(pair_apps("acf-strict"));
        let first = browser.get("/AppA/index.cfm").await;
        assert_eq!(browser.get("/AppA/index.cfm").await.started(), first.started(), "alone it works");
        let other = browser.get("/AppB/index.cfm").await;
        let back = browser.get("/AppA/index.cfm").await;
        assert_ne!(
            back.started() + u64::from(back.json()["session"] != "s1"),
            first.started(),
            "AppA's is lost"
        );
        assert_eq!(back.json()["session"], "s2");
        assert_eq!(browser.get("/AppB/index.cfm").await.json()["session"], "s2", "and so is AppB's");
        assert_eq!(other.json()["session"], "s1");
    });
    run(async {
        let world = World::pair("acf-strict", "");
        let mut browser = world.browser();
        for _ in 0..3 {
            assert_eq!(browser.get("/AppA/index.cfm").await.json()["session"], "s1");
            assert_eq!(browser.get("/AppB/index.cfm").await.json()["session"], "s1");
        }
    });
}

#[test]
fn f1_heartbeats_go_to_each_app_with_its_own_cookies() {
    run(async {
        let world = World::pair("acf-strict", "");
        let mut browser = world.browser();
        browser.get("/AppA/index.cfm").await;
        browser.get("/AppB/index.cfm").await;
        let (a, b) = (pair_of_plain(&mut browser).await, world.seen("AppB").pop().unwrap());
        assert_eq!(b.headers.get("cookie").map(|line| line.to_str().unwrap().contains(&a.1)), Some(false));
        pass(130.0).await;
        let beats = world.beats("AppA");
        assert!(beats.len() >= 30, "{} in 130 s, one every 3.3 s or so", beats.len());
        for beat in &beats {
            let line = beat.headers.get("cookie").unwrap().to_str().unwrap();
            assert_eq!(line, format!("CFID={}; CFTOKEN={}", a.0, a.1));
            assert_eq!(
                (beat.path_and_query.as_str(), beat.session.as_deref()),
                ("/AppA/ping.cfm", Some("s1"))
            );
        }
        let of_b = world.beats("AppB");
        assert!((1..=3).contains(&of_b.len()), "{} in 130 s, one every 100 s or so", of_b.len());
        assert!(of_b.iter().all(|beat| !format!("{:?}", beat.headers).contains(&a.1)));
    });
}
