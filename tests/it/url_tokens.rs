use bytes::Bytes;
use http::Method;
use sessionbridge::demo::sim::{Profile, SimOptions};
use sessionbridge::telemetry::access::AccessLog;

use super::support::said::Said;
use super::support::stage::{Asked, Says, Script, app, cookie_of};
use super::support::{Answer, Browser, World, pass, run};

const BUILDER: &str = "session.url_tokens = { builderCFID = \"CFID\", builderCFTOKEN = \"CFTOKEN\" }";
const INDEX: &str = "/AppA/index.cfm";
/// Addresses come as a trusted proxy tells them.
const TRUST: &str = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n";

fn acf(name: &str) -> SimOptions {
    SimOptions::new(Profile::AcfStrict, name).timeout_ms(600_000)
}

/// An app with a Builder extension; `more` are further lines of its table.
fn builder_world(more: &str) -> World {
    World::new(
        &format!("{TRUST}{}", app("appA", "acf-strict", "10m", &format!("{BUILDER}\n{more}"))),
        [acf("AppA")],
    )
}

/// What ColdFusion Builder is: a client that returns no cookies.
fn builder(world: &World) -> Browser {
    let mut client = world.browser();
    client.keeps_cookies = false;
    client.headers.insert("user-agent", "Jakarta Commons-HttpClient/3.1".parse().unwrap());
    client
}

/// The query with the pair, in the page that the extension's XML holds.
fn pair_in(xml: &Answer) -> String {
    let text = xml.text();
    let (_, rest) = text.split_once("url=").unwrap_or_else(|| panic!("no link in {text}"));
    let url = rest.split('"').next().unwrap();
    url.split_once('?').unwrap().1.to_owned()
}

/// The pair that an app has just issued to a client without cookies.
async fn orphan(world: &World) -> String {
    pair_in(&builder(world).post("/AppA/builder.xml", "<event/>").await)
}

fn bridge_set(answer: &Answer) -> bool {
    answer.set_cookies().iter().any(|field| field.starts_with("bridge=") && !field.starts_with("bridge=;"))
}

/// The value of `name` in a query.
fn value<'a>(query: &'a str, name: &str) -> &'a str {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap()
}

fn is_clean(answer: &Answer, to: &str) {
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), Some(to));
    assert_eq!(answer.header("cache-control").map(|text| text.contains("no-store")), Some(true));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
}

/// True where nothing that the app has been asked holds `secret`.
fn never_saw(world: &World, name: &str, secret: &str) -> bool {
    world.seen(name).iter().all(|seen| {
        let fields =
            seen.headers.values().all(|value| !String::from_utf8_lossy(value.as_bytes()).contains(secret));
        fields && !seen.path_and_query.contains(secret)
    })
}

const CLEAN: &str = "http://apps.example.org/AppA/index.cfm?json";

fn link(query: &str) -> String {
    format!("{INDEX}?json&{query}")
}

#[test]
fn u1_an_unknown_pair_is_cut_and_believed_by_nobody() {
    run(async {
        let world = builder_world("");
        let mut browser = world.browser();
        let answer = browser.visit(&link("builderCFID=999&builderCFTOKEN=87654321")).await;
        is_clean(&answer, CLEAN);
        assert!(!bridge_set(&answer));
        assert_eq!(world.counter("url_tokens", &["appA", "refused"]), 1);
        let answer = browser.get(&link("builderCFID=999&builderCFTOKEN=87654321")).await;
        assert_eq!(answer.status, 200, "no navigation: the page itself, without the pair");
        assert!(never_saw(&world, "AppA", "87654321"));
        assert_eq!(world.seen("AppA").last().unwrap().path_and_query, "/AppA/index.cfm?json");
    });
}

#[test]
fn u2_a_pair_bound_to_somebody_else_is_cut() {
    run(async {
        let world = builder_world("");
        let (mut owner, mut thief) = (world.browser(), world.browser());
        owner.get(INDEX).await;
        owner.get(INDEX).await;
        let seen = world.seen("AppA").last().unwrap().clone();
        let (id, token) =
            (cookie_of(&seen.headers, "CFID").unwrap(), cookie_of(&seen.headers, "CFTOKEN").unwrap());
        let answer = thief.visit(&link(&format!("builderCFID={id}&builderCFTOKEN={token}"))).await;
        is_clean(&answer, CLEAN);
        assert!(!bridge_set(&answer));
        assert_eq!(world.counter("url_tokens", &["refused"]), 1);
        let theirs = thief.visit("/AppA/index.cfm?json").await.json()["session"].clone();
        assert_ne!(theirs, owner.get(INDEX).await.json()["session"]);
    });
}

#[test]
fn u3_an_orphan_is_adopted_once() {
    run(async {
        let world = builder_world("");
        let pair = orphan(&world).await;
        let (mut panel, mut late) = (world.browser(), world.browser());
        pass(50.0).await;
        let answer = panel.visit(&link(&pair)).await;
        is_clean(&answer, CLEAN);
        assert!(bridge_set(&answer));
        assert!(!bridge_set(&late.visit(&link(&pair)).await), "a second use");
        assert_eq!(panel.visit("/AppA/index.cfm?json").await.json()["session"], "s1");
        assert_eq!(late.visit("/AppA/index.cfm?json").await.json()["session"], "s2");
        assert_eq!(world.counter("url_tokens", &["adopted"]), 1);
    });
}

#[test]
fn u3_an_orphan_goes_to_the_address_that_it_was_issued_to_only() {
    run(async {
        let world = builder_world("");
        let mut xml = builder(&world);
        xml.headers.insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
        let pair = pair_in(&xml.post("/AppA/builder.xml", "").await);
        let mut elsewhere = world.browser();
        elsewhere.headers.insert("x-forwarded-for", "192.0.2.8".parse().unwrap());
        assert!(!bridge_set(&elsewhere.visit(&link(&pair)).await));
        let mut panel = world.browser();
        panel.headers.insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
        assert!(bridge_set(&panel.visit(&link(&pair)).await));
    });
}

#[test]
fn u4_an_orphan_of_61_seconds_is_cut() {
    run(async {
        let world = builder_world("");
        let pair = orphan(&world).await;
        pass(61.0).await;
        let answer = world.browser().visit(&link(&pair)).await;
        is_clean(&answer, CLEAN);
        assert!(!bridge_set(&answer));
    });
}

#[test]
fn u5_of_two_adoptions_at_once_exactly_one_wins() {
    run(async {
        let world = builder_world("");
        let target = link(&orphan(&world).await);
        let (mut one, mut other) = (world.browser(), world.browser());
        let (first, second) = tokio::join!(one.visit(&target), other.visit(&target));
        assert_eq!([&first, &second].into_iter().filter(|answer| bridge_set(answer)).count(), 1);
        assert_eq!(first.headers.get("location"), second.headers.get("location"));
    });
}

#[test]
fn u6_raw_names_never_reach_the_app() {
    run(async {
        let world = builder_world("");
        let mut browser = world.browser();
        browser.get(INDEX).await;
        let answer = browser.get("/AppA/index.cfm?a=1&CFID=77&CFTOKEN=87654321&b=2").await;
        assert_eq!(answer.json()["session"], "s1");
        assert_eq!(world.seen("AppA").last().unwrap().path_and_query, "/AppA/index.cfm?a=1&b=2");
        let answer = browser.visit("/AppA/index.cfm?cfid=77&a=1&cftoken=87654321").await;
        is_clean(&answer, "http://apps.example.org/AppA/index.cfm?a=1");
        browser.post("/AppA/set.cfm", "CFID=77&k=v&CFTOKEN=87654321").await;
        assert_eq!(world.seen("AppA").last().unwrap().body.as_deref(), Some(&b"k=v"[..]));
        assert!(never_saw(&world, "AppA", "87654321"));
    });
}

#[test]
fn u7_path_parameters_and_path_segments_are_cut() {
    run(async {
        let id = "0123456789ABCDEF0123456789ABCDEF";
        let toml = app("appA", "servlet", "10m", "") + &app("appB", "aspnet", "10m", "");
        let apps = [SimOptions::new(Profile::Servlet, "AppA"), SimOptions::new(Profile::AspNet, "AppB")];
        let world = World::new(&toml, apps);
        let mut browser = world.browser();
        browser.get(&format!("/AppA/index.jsp;jsessionid={id}?x=1")).await;
        assert_eq!(world.seen("AppA").last().unwrap().path_and_query, "/AppA/index.jsp?x=1");
        browser.get(&format!("/AppA;JSESSIONID={id}/index.jsp;%6Asessionid={id}")).await;
        assert_eq!(world.seen("AppA").last().unwrap().path_and_query, "/AppA/index.jsp");
        browser.get("/AppB/(S(abcdefghijklmnopqrstuvwx))/index.aspx?x=1").await;
        assert_eq!(world.seen("AppB").last().unwrap().path_and_query, "/AppB/index.aspx?x=1");
        let answer = browser.visit("/AppB/(S(abcdefghijklmnopqrstuvwx))/index.aspx").await;
        is_clean(&answer, "http://apps.example.org/AppB/index.aspx");
    });
}

#[test]
fn u8_no_spelling_of_a_name_slips_past() {
    run(async {
        let world = builder_world("");
        let mut browser = world.browser();
        for query in [
            "builder%43FID=999&builder%43FTOKEN=87654321",
            "BUILDERCFID=999&BUILDERCFTOKEN=87654321",
            "builderCFID=1&builderCFID=999&builderCFTOKEN=87654321&buildercftoken=87654321",
            "a=1;builderCFID=999;builderCFTOKEN=87654321",
            "+builderCFID=999&%20builderCFTOKEN=87654321",
            "builderCFID%00=999&builderCFTOKEN%00x=87654321",
            "%43FID=999&CFTOKE%4e=87654321",
        ] {
            let answer = browser.get(&format!("{INDEX}?{query}")).await;
            assert_eq!(answer.status, 200, "{query}");
            assert!(never_saw(&world, "AppA", "87654321"), "{query}");
            assert!(!world.seen("AppA").last().unwrap().path_and_query.contains("999"), "{query}");
        }
        // What is doubled is no pair, even where it is the one that would be adopted.
        let pair = orphan(&world).await;
        let answer = world.browser().visit(&link(&format!("{pair}&builderCFID=1"))).await;
        assert!(!bridge_set(&answer));
        assert_eq!(world.counter("url_tokens", &["adopted"]), 0);
        let before = world.seen("AppA").len();
        let many = (0..10_000).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        let answer = browser.get(&format!("{INDEX}?{}&{pair}", &many[..20_000])).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bridge-error")), (400, Some("bad_request")));
        assert_eq!(world.seen("AppA").len(), before);
    });
}

#[test]
fn u9_odd_values_are_cut_and_never_in_a_header() {
    run(async {
        let world = builder_world("");
        let mut browser = world.browser();
        let long = "7".repeat(5000);
        for odd in [
            "1%0d%0aX-Planted:%20y",
            "1;%20CFTOKEN=z",
            "1%3B%20CFTOKEN=z",
            &long,
            "0",
            "-1",
            "1,2",
            "abc",
            "",
        ] {
            let answer = browser.visit(&link(&format!("builderCFID={odd}&builderCFTOKEN=87654321"))).await;
            assert_eq!(answer.status, 303, "{odd}");
            assert!(!bridge_set(&answer), "{odd}");
            let location = answer.header("location").unwrap();
            assert!(location.starts_with(CLEAN) && !location.contains("CFID"), "{odd}: {location}");
            let answer = browser.get(&format!("{INDEX}?builderCFID={odd}&builderCFTOKEN=87654321")).await;
            assert!(!answer.headers.contains_key("x-planted"));
            let seen = world.seen("AppA").last().unwrap().clone();
            assert!(!seen.headers.contains_key("x-planted"));
            assert!(never_saw(&world, "AppA", "87654321"), "{odd}");
        }
        assert!(world.counter("url_tokens", &["malformed"]) >= 7);
    });
}

#[test]
fn u10_the_clean_url_is_on_our_own_host() {
    run(async {
        let toml = app("appA", "acf-strict", "10m", BUILDER).replace("path = \"/AppA/\"", "path = \"/\"");
        let toml = toml.replace("/AppA/ping", "/ping");
        let mut options = acf("AppA");
        options.mount = "/".to_owned();
        let world = World::new(&toml, [options]);
        for path in
            ["//evil.com/x", "//evil.com", "/%5Cevil.com/", "/https:evil.com", "///evil.com/%0d%0aX:y"]
        {
            let answer = world.browser().visit(&format!("{path}?builderCFID=1&builderCFTOKEN=2")).await;
            let location = answer.header("location").unwrap_or("-");
            let ours = location.starts_with("http://apps.example.org/");
            assert!(
                answer.status == 303 && ours || answer.status == 400,
                "{path}: {} {location}",
                answer.status
            );
        }
        let answer = world.browser().visit("//evil.com/x?builderCFID=1&builderCFTOKEN=2").await;
        assert_eq!(answer.header("location"), Some("http://apps.example.org//evil.com/x"));
    });
}

/// Requests that could be the work of another page: none of them adopts what a navigation of the person's own would.
async fn adopts_nothing(headers: &[(&'static str, &'static str)], method: Method) {
    let world = builder_world("");
    let pair = orphan(&world).await;
    let mut victim = world.browser();
    let answer = victim.send(method, &link(&pair), headers, Bytes::new()).await;
    assert_eq!(world.counter("url_tokens", &["adopted"]), 0, "{headers:?}");
    if answer.status == 200 {
        assert_ne!(answer.json()["session"], "s1", "{headers:?}");
    }
    let cookies = victim.jar.clone();
    let answer = victim.get(INDEX).await;
    assert_ne!(answer.json()["session"], "s1", "{headers:?} {cookies:?}");
    // It is still there for the one to whom it was issued.
    assert!(bridge_set(&world.browser().visit(&link(&pair)).await), "{headers:?}");
}

#[test]
fn u11_a_cross_site_navigation_adopts_nothing() {
    let headers =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    run(adopts_nothing(&headers, Method::GET));
}

#[test]
fn u12_a_frame_an_image_and_a_script_adopt_nothing() {
    for site in ["cross-site", "same-origin"] {
        for (mode, dest) in [("navigate", "iframe"), ("no-cors", "image"), ("cors", "empty")] {
            let headers = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
            run(adopts_nothing(&headers, Method::GET));
        }
    }
}

#[test]
fn u13_a_post_adopts_nothing() {
    for site in ["cross-site", "same-origin", "none"] {
        let headers =
            [("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        run(adopts_nothing(&headers, Method::POST));
    }
}

#[test]
fn without_fetch_metadata_only_legacy_adopts_and_only_without_a_foreign_page_behind_it() {
    run(async {
        let html = ("accept", "text/html");
        let world = builder_world("");
        let pair = orphan(&world).await;
        assert!(!bridge_set(&world.browser().send(Method::GET, &link(&pair), &[html], Bytes::new()).await));
        let world = builder_world("session.adopt = \"legacy\"");
        let pair = orphan(&world).await;
        let foreign = [html, ("referer", "http://evil.example/")];
        assert!(!bridge_set(&world.browser().send(Method::GET, &link(&pair), &foreign, Bytes::new()).await));
        let answer = world.browser().send(Method::GET, &link(&pair), &[html], Bytes::new()).await;
        is_clean(&answer, CLEAN);
        assert!(bridge_set(&answer));
        let world = builder_world("session.adopt = \"never\"");
        let pair = orphan(&world).await;
        assert!(!bridge_set(&world.browser().visit(&link(&pair)).await));
    });
}

#[test]
fn u14_a_live_session_is_kept() {
    run(async {
        let world = builder_world("");
        let mut browser = world.browser();
        browser.get(INDEX).await;
        browser.get(INDEX).await;
        let own = browser.cookie("bridge").unwrap().to_owned();
        let pair = orphan(&world).await;
        let answer = browser.visit(&link(&pair)).await;
        is_clean(&answer, CLEAN);
        assert_eq!(browser.cookie("bridge"), Some(&*own));
        assert_eq!(browser.get(INDEX).await.json()["session"], "s1");
        assert_eq!(world.counter("url_tokens", &["own"]), 1);
        assert_eq!(world.counter("url_tokens", &["adopted"]), 0);
    });
}

#[test]
fn u15_the_whole_fixation_play_gives_the_attacker_nothing() {
    run(async {
        let world = builder_world("");
        // The attacker has a session of his own, returns no cookie, and keeps the bridge cookie that he got.
        let mut attacker = builder(&world);
        let made = attacker.post("/AppA/builder.xml", "").await;
        let (pair, his) = (pair_in(&made), made.set_cookies());
        let his = his[0].split(';').next().unwrap().trim_start_matches("bridge=").to_owned();
        let (id, token) = (value(&pair, "builderCFID").to_owned(), value(&pair, "builderCFTOKEN").to_owned());
        // The victim follows his link, from the same address and in time, and signs in.
        let mut victim = world.browser();
        victim.follow(&link(&pair)).await;
        assert_eq!(world.counter("url_tokens", &["adopted"]), 1);
        assert_ne!(victim.cookie("bridge"), Some(&*his));
        victim.post("/AppA/login.cfm", "user=ann&password=x").await;
        assert_eq!(victim.get(INDEX).await.json()["user"], "ann");
        let name = world.app("AppA").with(|sim| sim.knows(&format!("{id}_{token}")).then(|| sim.sessions()));
        let fixed = name.into_iter().flatten().find(|session| session.label == "s1");
        assert!(fixed.is_none_or(|session| session.user.is_none()), "she signed in to a session of her own");
        // He replays what he knows: in cookies, in URLs, in the path, with his bridge cookie, cookieless.
        for planted in [
            vec![("CFID", &*id), ("CFTOKEN", &*token)],
            vec![("cfid", &*id), ("cftoken", &*token)],
            vec![("bridge", &*his)],
            vec![],
        ] {
            for target in [
                format!("/AppA/private.cfm?json&{pair}"),
                format!("/AppA/private.cfm?json&CFID={id}&CFTOKEN={token}"),
                format!("/AppA/private.cfm;CFID={id};CFTOKEN={token}?json"),
                "/AppA/private.cfm?json".to_owned(),
            ] {
                let mut replay = world.browser();
                planted.iter().for_each(|(name, value)| replay.plant(name, value, "/"));
                let form = format!("CFID={id}&CFTOKEN={token}");
                let answers = [
                    replay.get(&target).await,
                    replay.follow(&target).await,
                    replay.post(&target, &form).await,
                ];
                for answer in answers {
                    assert!(!answer.text().contains("ann"), "{planted:?} {target}: {}", answer.text());
                }
            }
        }
        assert_eq!(victim.get(INDEX).await.json()["user"], "ann", "she is still in");
    });
}

/// Two hosts, one app each; links of AppA to AppB carry AppA's pair as AID and ATOKEN.
fn two_hosts() -> World {
    let a = app("appA", "acf-strict", "10m", "hosts = [\"a.example\"]");
    let tokens = "session.url_tokens = { AID = \"appA.CFID\", ATOKEN = \"appA.CFTOKEN\" }";
    let b = app("appB", "acf-strict", "10m", &format!("hosts = [\"b.example\"]\n{tokens}"));
    World::new(&(a + &b), [acf("AppA"), acf("AppB")])
}

/// The pair of the session with AppA, as AppA prints it into links.
fn named_pair(world: &World) -> String {
    let label = world.app("AppA").with(|sim| sim.sessions().last().unwrap().label.clone());
    let seen =
        world.seen("AppA").into_iter().rev().find(|seen| {
            seen.session.as_deref() == Some(&label) && cookie_of(&seen.headers, "CFID").is_some()
        });
    let seen = seen.unwrap();
    let part = |name| cookie_of(&seen.headers, name).unwrap();
    format!("AID={}&ATOKEN={}", part("CFID"), part("CFTOKEN"))
}

async fn apps_at(browser: &mut Browser, host: &str) -> String {
    let status = browser.at(host).get("/.bridge/status").await.json();
    ["appA", "appB"].map(|app| status["apps"][app]["state"].as_str().unwrap_or("none").to_owned()).join(" ")
}

#[test]
fn case_2_a_round_trip_makes_two_hosts_show_one_bridge_session() {
    run(async {
        let world = two_hosts();
        let mut browser = world.browser();
        browser.at("a.example").visit("/AppA/index.cfm?json").await;
        browser.visit("/AppA/set.cfm?json&k=v").await;
        let pair = named_pair(&world);
        let page = browser.at("b.example").follow(&format!("/AppB/index.cfm?json&{pair}&x=1")).await;
        assert_eq!((page.status.as_u16(), browser.host.as_str()), (200, "b.example"));
        assert_eq!(page.json()["app"], "AppB");
        assert_eq!(world.seen("AppB").last().unwrap().path_and_query, "/AppB/index.cfm?json&x=1");
        assert_eq!(apps_at(&mut browser, "b.example").await, "live live");
        assert_eq!(apps_at(&mut browser, "a.example").await, "live live");
        let ids: Vec<_> = browser.jar.iter().filter(|cookie| cookie.name == "bridge").collect();
        assert_eq!(ids.len(), 2);
        assert_ne!(ids[0].value, ids[1].value, "each host has an id of its own");
        assert!(browser.cookie("bridge-join").is_none(), "the nonce is gone");
        assert_eq!(world.bridges(), (1, 0));
        assert_eq!((world.starts("AppA"), world.starts("AppB")), (1, 1));
        // Neither app ever saw the other's names.
        assert!(never_saw(&world, "AppB", value(&pair, "ATOKEN")));
    });
}

#[test]
fn case_2_works_while_the_session_there_is_still_pending_and_keeps_what_was_here() {
    run(async {
        let world = two_hosts();
        let mut browser = world.browser();
        browser.at("b.example").visit("/AppB/set.cfm?json&k=here").await;
        browser.visit("/AppB/index.cfm?json").await;
        let page = browser.at("a.example").visit("/AppA/index.cfm?json").await;
        assert_eq!(page.json()["session"], "s1");
        // The link that the first page prints, before its cookie has come back once.
        let pair = {
            let slot = world.seen("AppA").last().unwrap().session.clone();
            assert_eq!(slot.as_deref(), Some("s1"));
            "AID=101&ATOKEN=12345678"
        };
        let page = browser.at("b.example").follow(&format!("/AppB/index.cfm?json&{pair}")).await;
        assert_eq!(page.json()["data"]["k"], "here", "her session with AppB is the one that she had");
        assert_eq!(apps_at(&mut browser, "b.example").await, "live live");
        assert_eq!(world.bridges().0, 1);
    });
}

#[test]
fn case_2_a_sign_in_on_one_host_takes_nobody_out_on_the_other() {
    run(async {
        let world = two_hosts();
        let mut browser = world.browser();
        browser.at("a.example").visit("/AppA/index.cfm?json").await;
        browser.visit("/AppA/set.cfm?json&k=v").await;
        let pair = named_pair(&world);
        browser.at("b.example").follow(&format!("/AppB/index.cfm?json&{pair}")).await;
        let before = browser.clone();
        browser.post("/AppB/login.cfm", "user=ann&password=x").await;
        assert_eq!(browser.get("/AppB/index.cfm").await.json()["user"], "ann");
        pass(100.0).await;
        // Who knew the id of the other host, and is somewhere else, is out.
        let mut thief = before.clone();
        thief.headers.insert("user-agent", "curl/8".parse().unwrap());
        assert_eq!(apps_at(&mut thief, "a.example").await, "none none");
        assert_eq!(apps_at(&mut before.clone(), "b.example").await, "none none", "the old one of this host");
        assert_eq!(apps_at(&mut browser, "a.example").await, "live live");
        assert_eq!(browser.get("/AppA/get.cfm").await.json()["data"]["k"], "v");
    });
}

#[test]
fn case_2_without_cookies_ends_after_one_round() {
    run(async {
        let world = two_hosts();
        let mut client = builder(&world);
        let page = client.at("b.example").follow("/AppB/index.cfm?json&AID=101&ATOKEN=12345678").await;
        assert_eq!(page.json()["app"], "AppB");
        assert_eq!(world.starts("AppA"), 0);
    });
}

#[test]
fn t9_the_way_back_is_what_was_asked_here_whatever_the_url_says() {
    run(async {
        let world = two_hosts();
        let mut browser = world.browser();
        browser.at("a.example").visit("/AppA/index.cfm?json").await;
        let there = step(&mut browser, "http://b.example/AppB/index.cfm?json&AID=101&ATOKEN=12345678").await;
        assert!(there.starts_with("http://a.example/.bridge/join?id="), "{there}");
        let back = step(&mut browser, &format!("{there}&to=//evil.example&origin=http://evil.example")).await;
        assert!(back.starts_with("http://b.example/.bridge/join/back?id="), "{back}");
        let end = step(&mut browser, &format!("{back}&target=//evil.example/&to=http://evil.example")).await;
        assert_eq!(end, "http://b.example/AppB/index.cfm?json");
        for odd in ["/.bridge/join?id=//evil.example", "/.bridge/join/back?id=x&ticket=y", "/.bridge/join"] {
            assert_eq!(browser.visit(odd).await.status, 404, "{odd}");
        }
    });
}

/// Follows one redirect at a time, and says where the next leads.
async fn step(browser: &mut Browser, url: &str) -> String {
    let (host, path) = url.split_once("://").unwrap().1.split_once('/').unwrap();
    let answer = browser.at(host).navigate(&format!("/{path}"), "cross-site").await;
    answer.header("location").unwrap_or_else(|| panic!("{} {}", answer.status, answer.text())).to_owned()
}

#[test]
fn u17_a_return_link_with_the_attackers_own_ticket_joins_nobody() {
    run(async {
        let world = two_hosts();
        let (mut attacker, mut victim) = (world.browser(), world.browser());
        attacker.at("a.example").visit("/AppA/login.cfm").await;
        attacker.post("/AppA/login.cfm", "user=mallory&password=x").await;
        attacker.visit("/AppA/index.cfm?json").await;
        victim.at("b.example").visit("/AppB/index.cfm?json").await;
        victim.visit("/AppB/index.cfm?json").await;
        let there = step(&mut attacker, "http://b.example/AppB/index.cfm?json&AID=101&ATOKEN=12345678").await;
        let back = step(&mut attacker, &there).await;
        assert!(back.starts_with("http://b.example/.bridge/join/back?id="), "{back}");
        let own = victim.cookie("bridge").unwrap().to_owned();
        let after = step(&mut victim, &back).await;
        assert_eq!(after, "http://b.example/AppB/index.cfm?json");
        assert_eq!(victim.cookie("bridge"), Some(&*own));
        assert_eq!(apps_at(&mut victim, "b.example").await, "none live", "no session of the attacker's");
        // The attacker's own way back still works, once.
        step(&mut attacker, &back).await;
        assert_eq!(apps_at(&mut attacker, "b.example").await, "live none");
        let answer = attacker.at("b.example").visit(back.strip_prefix("http://b.example").unwrap()).await;
        assert_eq!(answer.status, 404);
        // Nor does it join the attacker where the victim goes through his first redirect: he has the nonce, and no ticket.
        let mut other = world.browser();
        victim.at("a.example").visit("/AppA/index.cfm?json").await;
        let there = step(&mut other, "http://b.example/AppB/index.cfm?json&AID=101&ATOKEN=99999999").await;
        let back = step(&mut victim, &there).await;
        step(&mut victim, &back).await;
        let (head, _) = back.split_once("ticket=").unwrap();
        step(&mut other, &format!("{head}ticket=AAAAAAAAAAAAAAAAAAAAAA")).await;
        assert_eq!(apps_at(&mut other, "b.example").await, "none none");
        assert_eq!(apps_at(&mut victim, "b.example").await, "none live");
    });
}

#[test]
fn u16_no_token_is_in_anything_that_the_proxy_writes() {
    use sessionbridge::telemetry::log::{Access, Format, LogOptions};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let options =
        LogOptions { level: "trace".into(), format: Format::Json, access: Access::File(file.clone()) };
    let (access, writing) = AccessLog::open(&options).unwrap();
    let (traced, mut said) = (Said::listen(), Vec::new());
    let mut secrets: Vec<String> = Vec::new();
    run(async {
        let toml = format!(
            "{TRUST}{}{}",
            app(
                "appA",
                "acf-strict",
                "1m",
                &format!("{BUILDER}\nsign_out.request = \"GET /AppA/logout.cfm\"")
            ),
            app("appB", "servlet", "1m", "")
        );
        let apps =
            [acf("AppA").timeout_ms(60_000), SimOptions::new(Profile::Servlet, "AppB").timeout_ms(60_000)];
        let world = World::staged(&toml, apps, &[], access.clone());
        let pair = orphan(&world).await;
        let mut browser = world.browser();
        let planted = "PLANTED-87654321";
        browser.plant("CFTOKEN", planted, "/");
        browser
            .headers
            .insert("referer", format!("http://apps.example.org/AppA/?CFTOKEN={planted}").parse().unwrap());
        secrets.extend([value(&pair, "builderCFTOKEN").to_owned(), planted.to_owned()]);
        let mut told = vec![
            browser.visit(&link(&pair)).await,
            browser.visit(&link(&pair)).await,
            world.browser().visit(&link(&pair)).await,
            browser.get(&link("builderCFID=999&builderCFTOKEN=PLANTED-87654321")).await,
            browser.get(&link("CFID=5&CFTOKEN=PLANTED-87654321")).await,
            browser.get("/AppB/index.jsp;jsessionid=PLANTED-87654321").await,
            browser.get("/nowhere?CFTOKEN=PLANTED-87654321").await,
            browser.get("/AppA/%2e%2e/x?CFTOKEN=PLANTED-87654321").await,
            browser.visit("/nowhere;jsessionid=PLANTED-87654321").await,
            browser.get("/.bridge/status?CFTOKEN=PLANTED-87654321").await,
            browser.visit("/.bridge/status").await,
            browser.get("/.bridge/x;jsessionid=PLANTED-87654321?CFTOKEN=PLANTED-87654321").await,
            browser.post("/AppA/login.cfm", "user=ann&password=x&CFTOKEN=PLANTED-87654321").await,
            browser.get("/AppA/index.cfm").await,
        ];
        pass(120.0).await;
        secrets.extend(browser.jar.iter().map(|cookie| cookie.value.clone()));
        told.push(browser.own_post("/.bridge/logout").await);
        told.push(browser.get("/AppA/index.cfm").await);
        for seen in world.seen("AppA").into_iter().chain(world.seen("AppB")) {
            let names = ["CFTOKEN", "JSESSIONID"].into_iter();
            secrets.extend(names.filter_map(|name| cookie_of(&seen.headers, name)));
        }
        pass(1.0).await;
        said.push(world.metrics());
        // What browsers are told holds no app's token; the bridge cookie is theirs, in Set-Cookie alone.
        for answer in told {
            let headers = answer.headers.iter().filter(|(name, _)| *name != "set-cookie");
            said.extend(headers.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned()));
            said.push(answer.text());
            said.extend(answer.set_cookies().into_iter().filter(|field| !field.starts_with("bridge=")));
        }
    });
    assert!(access.close(&writing, std::time::Duration::from_secs(10)));
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.lines().count() >= 14, "{log}");
    assert!(log.contains("adopted_from_url") && log.contains("url_token_refused"), "{log}");
    said.extend([log, traced.text()]);
    secrets.sort();
    secrets.dedup();
    secrets.retain(|secret| secret.len() > 6);
    assert!(secrets.len() >= 4, "{secrets:?}");
    for secret in secrets {
        for text in &said {
            assert!(!text.contains(&secret), "{secret} in {text}");
        }
    }
}

#[test]
fn s2_2_a_builder_pair_becomes_the_sessions_and_nobody_elses() {
    run(async {
        let world = builder_world("");
        let pair = orphan(&world).await;
        let cross = world.browser().navigate(&link(&pair), "cross-site").await;
        let half = world.browser().visit(&link(pair.split('&').next().unwrap())).await;
        let form =
            [("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let posted = world.browser().send(Method::POST, &link(&pair), &form, Bytes::new()).await;
        assert!(!bridge_set(&cross) && !bridge_set(&half));
        assert_ne!(posted.json()["session"], "s1");
        let mut panel = world.browser();
        let answer = panel.visit(&link(&pair)).await;
        is_clean(&answer, CLEAN);
        let page = panel.visit("/AppA/index.cfm?json").await;
        assert_eq!(page.json()["session"], "s1", "no parameters are needed any more");
        let seen = world.seen("AppA").last().unwrap().clone();
        assert_eq!(cookie_of(&seen.headers, "CFID").as_deref(), Some(value(&pair, "builderCFID")));
        assert_eq!(cookie_of(&seen.headers, "CFTOKEN").as_deref(), Some(value(&pair, "builderCFTOKEN")));
        assert_eq!(seen.path_and_query, "/AppA/index.cfm?json");
        let thief = world.browser().follow(&link(&pair)).await;
        let guessed = format!("builderCFID={}&builderCFTOKEN=11111111", value(&pair, "builderCFID"));
        let guesser = world.browser().follow(&link(&guessed)).await;
        assert_ne!(thief.json()["session"], "s1");
        assert_ne!(guesser.json()["session"], "s1");
    });
}

#[test]
fn s2_2_an_old_panel_gets_it_on_this_very_request() {
    run(async {
        let world = builder_world("session.adopt = \"legacy\"");
        let pair = orphan(&world).await;
        let mut panel = world.browser();
        let page = panel.get(&link(&pair)).await;
        assert_eq!(page.json()["session"], "s1");
        assert!(bridge_set(&page));
        assert_eq!(world.seen("AppA").last().unwrap().path_and_query, "/AppA/index.cfm?json");
        assert_eq!(panel.get(INDEX).await.json()["session"], "s1");
        assert_eq!(world.starts("AppA"), 1);
    });
}

#[test]
fn s2_3_half_a_pair_is_none() {
    run(async {
        let world = builder_world("");
        let mut browser = world.browser();
        browser.get(INDEX).await;
        for half in ["builderCFID=999", "builderCFTOKEN=87654321", "builderCFID=&builderCFTOKEN=87654321"] {
            let page = browser.get(&link(half)).await;
            assert_eq!(page.json()["session"], "s1", "{half}");
            assert_eq!(world.seen("AppA").last().unwrap().path_and_query, "/AppA/index.cfm?json", "{half}");
        }
        assert_eq!(world.counter("url_tokens", &["malformed"]), 3);
    });
}

#[test]
fn s2_7_the_whole_workflow_begins_one_session() {
    run(async {
        let world = builder_world("");
        let pair = orphan(&world).await;
        let mut panel = world.browser();
        let page = panel.follow(&link(&pair)).await;
        assert_eq!(page.json()["session"], "s1");
        for _ in 0..5 {
            pass(300.0).await;
            assert_eq!(panel.get(INDEX).await.json()["session"], "s1");
        }
        assert_eq!(world.starts("AppA"), 1, "adopting beats creating");
    });
}

#[test]
fn s2_8_the_pair_converts_wherever_it_stands_in_the_query() {
    run(async {
        for shape in
            ["{}&x=1", "x=1&{}", "x=1&{}&jsessionid=8430a3f7c1d2e4b5a697", "x=1&jsessionid=84&{}", "x=1;{}"]
        {
            let world = builder_world("");
            let pair = orphan(&world).await;
            let page = world.browser().follow(&link(&shape.replace("{}", &pair))).await;
            assert_eq!(page.json()["session"], "s1", "{shape}");
            let query = world.seen("AppA").last().unwrap().path_and_query.clone();
            assert_eq!(query.replace(';', "&"), "/AppA/index.cfm?json&x=1", "{shape}");
        }
    });
}

#[test]
fn s2_10_a_hand_over_may_change_the_user_agent_and_heartbeats_show_the_last_one() {
    run(async {
        let world = builder_world("session.adopt = \"legacy\"");
        let pair = orphan(&world).await;
        let mut panel = world.browser();
        panel.headers.insert("user-agent", "Mozilla/4.0 (compatible; MSIE 7.0)".parse().unwrap());
        assert_eq!(panel.get(&link(&pair)).await.json()["session"], "s1");
        panel.get(INDEX).await;
        let mut again = world.browser();
        again.headers.insert("user-agent", "Mozilla/4.0 (compatible; MSIE 7.0)".parse().unwrap());
        assert_ne!(again.get(&link(&pair)).await.json()["session"], "s1", "once");
        pass(400.0).await;
        let agents: Vec<_> =
            world.beats("AppA").iter().map(|beat| beat.headers["user-agent"].clone()).collect();
        assert!(!agents.is_empty());
        assert!(agents.iter().all(|agent| agent == "Mozilla/4.0 (compatible; MSIE 7.0)"), "{agents:?}");
    });
}

#[test]
fn s4_4_a_thousand_guesses_adopt_nothing_and_are_soon_not_looked_at() {
    run(async {
        let world = builder_world("session.adopt = \"legacy\"");
        let pair = orphan(&world).await;
        for guess in 0..1000 {
            let query = format!("builderCFID={}&builderCFTOKEN={}", 100 + guess % 50, 10_000_000 + guess);
            assert!(!bridge_set(&world.browser().visit(&link(&query)).await));
        }
        assert_eq!(world.counter("url_tokens", &["adopted"]), 0);
        assert!(world.counter("url_tokens", &["refused"]) <= 6);
        assert!(world.counter("url_tokens", &["rate_limited"]) >= 990);
        assert!(
            !bridge_set(&world.browser().visit(&link(&pair)).await),
            "even the right pair, from there, now"
        );
        assert_eq!(world.starts("AppA"), 1);
    });
}

#[test]
fn s4_5_the_uuid_shape_of_the_slides_is_taken() {
    run(async {
        let token = "3ee6c307a7278c7b-5278BEA6-1030-C351-3E33390F2EAD02B9";
        let old = Script::new("appa", move |asked: &Asked| match asked.cookie("CFID") {
            Some(_) => Says::cookies(&[]),
            None => Says::cookies(&["CFID=1201", &format!("CFTOKEN={token}")]),
        });
        let world = World::with_scripts(&app("appA", "acf-strict", "10m", BUILDER), &[&old]);
        builder(&world).get("/AppA/builder.xml").await;
        let mut panel = world.browser();
        panel.follow(&format!("{INDEX}?builderCFID=1201&builderCFTOKEN={token}")).await;
        assert_eq!(old.last().cookie("CFTOKEN").as_deref(), Some(token));
        let near = format!("{INDEX}?builderCFID=1201&builderCFTOKEN={}", &token[..51]);
        assert_eq!(world.browser().visit(&near).await.status, 303);
        assert_eq!(world.counter("url_tokens", &["malformed"]), 1, "a character short");
    });
}
