//! Sign-outs that end sessions: by a form or a link of the app's own, with proof that the old token is dead.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use sessionbridge::bridge::timeline::What;
use sessionbridge::demo::sim::{Fault, Profile, SimOptions};
use sessionbridge::findings::{Kind, Level};

use super::support::stage::{Asked, Says, Script};
use super::support::{Browser, World, extension, pass, run};

/// One simulated app of `profile` at `/AppA/`; `more` are lines of its table.
fn one(profile: &str, engine: &str, more: &str) -> World {
    let page = extension(profile);
    let toml = format!(
        "[apps.appA]\npath = \"/AppA/\"\nupstreams = [\"http://appa\"]\nsession.engine = \"{engine}\"\n\
         session.timeout = \"1m\"\nheartbeat.path = \"/AppA/ping{page}\"\n{more}\n"
    );
    let profile: Profile = profile.parse().unwrap();
    World::new(&toml, [SimOptions::new(profile, "AppA").timeout_ms(60_000)])
}

const CANARY: &str = "heartbeat.canary = { header = \"X-Session-Started\" }";

async fn visitor(world: &World, page: &str) -> Browser {
    let mut browser = world.browser();
    for _ in 0..2 {
        browser.get(&format!("/AppA/index{page}")).await;
    }
    browser
}

/// Where the browser is sent after it signed out everywhere, without the host.
async fn signed_out(browser: &mut Browser) -> String {
    let answer = browser.own_post("/.bridge/logout").await;
    let location = answer.header("location").unwrap().to_owned();
    location.split("?done").nth(1).unwrap().to_owned()
}

/// The last words of the story of the session that ended last.
fn last_events(world: &World) -> Vec<What> {
    let ended = world.core.registry().latest_ended(1).remove(0);
    let events = ended.timeline.iter().map(|event| event.what);
    events.skip_while(|what| !matches!(what, What::Ended(_))).skip(1).collect()
}

fn finding(world: &World) -> Option<Level> {
    let all = world.core.findings().all();
    all.into_iter().find(|found| found.kind == Kind::SignOut).map(|found| found.level)
}

fn proofs(world: &World, name: &str) -> usize {
    let is_proof = |value: &http::HeaderValue| value == "proof";
    let seen = world.seen(name).into_iter();
    seen.filter(|seen| seen.headers.get("x-session-heartbeat").is_some_and(is_proof)).count()
}

#[test]
fn f16_a_form_with_its_csrf_token_signs_out_and_the_old_token_is_proven_dead() {
    run(async {
        let world =
            one("django", "django", "sign_out.page = \"GET /AppA/\"\nsign_out.form = \"/AppA/logout*\"");
        let mut browser = visitor(&world, "").await;
        // The page's own cookie is the only one that there will be.
        browser.jar.retain(|cookie| cookie.name != "csrftoken");
        browser.get("/AppA/get").await;
        assert_eq!(signed_out(&mut browser).await, "&appA=confirmed.dead");
        let seen = world.seen("AppA");
        let [page, out, proof] = &seen[seen.len() - 3..] else { panic!("{seen:?}") };
        assert_eq!((page.path_and_query.as_str(), page.status.as_u16()), ("/AppA/", 200));
        assert_eq!(
            (&out.method, out.page.as_deref(), out.status.as_u16()),
            (&Method::POST, Some("logout"), 302)
        );
        assert_eq!(out.headers["origin"], "http://apps.example.org");
        assert_eq!(out.headers["referer"], "http://apps.example.org/AppA/");
        assert_eq!(proof.page.as_deref(), Some("ping"));
        let token = page.headers["cookie"].to_str().unwrap();
        assert!(token.starts_with("sessionid=") && !token.contains("csrftoken"), "with the vault alone");
        assert!(proof.headers["cookie"].to_str().unwrap().starts_with(token), "with the vault as it was");
        assert_eq!(world.app("AppA").with(|sim| sim.counts().logouts), 1);
        assert_eq!(last_events(&world), [What::SignOutConfirmed, What::SignOutProven]);
        assert_eq!(finding(&world), Some(Level::Good));
        assert_eq!(world.counter("sign_out_proofs", &["appA", "dead"]), 1);
    });
}

#[test]
fn f16_after_a_sign_out_the_old_token_is_dead_at_every_app() {
    run(async {
        let apps = [
            ("AppA", "django", "sign_out.page = \"GET /AppA/\"\nsign_out.form = \"/AppA/logout\""),
            ("AppB", "lucee", "sign_out.request = \"GET /AppB/logout.cfm\""),
            ("AppC", "servlet", "sign_out.request = \"POST /AppC/logout.jsp\""),
            ("AppD", "php", "sign_out.request = \"GET /AppD/logout.php\""),
        ];
        let mut toml = String::new();
        let mut sims = Vec::new();
        for (name, engine, out) in apps {
            let profile = if engine == "php" { "php-lock" } else { engine };
            let (page, upstream) = (extension(profile), name.to_lowercase());
            toml += &format!(
                "[apps.{name}]\npath = \"/{name}/\"\nupstreams = [\"http://{upstream}\"]\nsession.engine = \"{engine}\"\n\
                 session.timeout = \"1m\"\nheartbeat.path = \"/{name}/ping{page}\"\n{CANARY}\n{out}\n"
            );
            sims.push(SimOptions::new(profile.parse().unwrap(), name).timeout_ms(60_000));
        }
        let world = World::new(&toml, sims);
        let mut browser = world.browser();
        for (name, engine, _) in apps {
            let page = extension(if engine == "php" { "php-lock" } else { engine });
            browser.get(&format!("/{name}/index{page}")).await;
            browser.get(&format!("/{name}/set{page}?k=mine")).await;
        }
        pass(30.0).await;
        let told = signed_out(&mut browser).await;
        let dead: Vec<String> = apps.iter().map(|(name, ..)| format!("&{name}=confirmed.dead")).collect();
        assert_eq!(told, dead.concat());
        for (name, ..) in apps {
            let left = world.app(name).with(|sim| sim.sessions());
            assert!(
                left.iter().all(|session| session.data.is_empty()),
                "{name} has kept what was in the session"
            );
        }
    });
}

#[test]
fn f16_what_is_refused_is_not_confirmed_and_the_old_session_is_found_alive() {
    run(async {
        let world = one("django", "django", "sign_out.request = \"POST /AppA/logout\"");
        let mut browser = visitor(&world, "").await;
        assert_eq!(signed_out(&mut browser).await, "&appA=unconfirmed.still_alive");
        assert_eq!(last_events(&world), [What::SignOutUnconfirmed, What::SignOutStillAlive]);
        let found = world.core.findings().all().remove(0);
        assert_eq!((found.kind, found.level), (Kind::SignOut, Level::Warning));
        assert!(found.says.contains("appA") && found.says.contains("still answers"), "{}", found.says);
        assert_eq!(world.counter("sign_out_proofs", &["appA", "still_alive"]), 1);
        assert_eq!(world.counter("logout_propagations", &["appA", "failed"]), 1);
    });
}

#[test]
fn on_engines_that_adopt_any_id_only_a_canary_proves() {
    for (more, out, told) in [
        ("", "logout", "confirmed.unproven"),
        (CANARY, "logout", "confirmed.dead"),
        (CANARY, "index", "confirmed.still_alive"),
        ("", "index", "confirmed.unproven"),
    ] {
        run(async move {
            let world = one("lucee", "lucee", &format!("{more}\nsign_out.request = \"GET /AppA/{out}.cfm\""));
            let mut browser = visitor(&world, ".cfm").await;
            pass(50.0).await;
            assert_eq!(signed_out(&mut browser).await, format!("&appA={told}"), "{more} {out}");
            let level = match told {
                "confirmed.dead" => Some(Level::Good),
                "confirmed.still_alive" => Some(Level::Warning),
                _ => None,
            };
            assert_eq!(finding(&world), level);
        });
    }
}

#[test]
fn a_login_page_in_place_of_the_heartbeat_page_is_proof_on_any_engine() {
    run(async {
        let app = Script::new("appa", |asked: &Asked| match (asked.path(), asked.cookie("CFID")) {
            ("/appa/out", _) => Says::cookies(&[]),
            ("/appa/ping", _) => Says::cookies(&[]).status(302).header("location", "/appa/login"),
            (_, None) => Says::cookies(&["CFID=0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a", "CFTOKEN=0"]),
            _ => Says::cookies(&[]),
        });
        let more = "heartbeat.path = \"/appa/ping\"\nsign_out.request = \"GET /appa/out\"\n\
                    sign_out.login = \"/appa/login\"";
        let world = World::with_scripts(&scripted("lucee", more), &[&app]);
        let mut browser = visited(&world).await;
        assert_eq!(signed_out(&mut browser).await, "&appa=confirmed.dead");
        assert_eq!(app.last().header("x-session-heartbeat"), "proof");
    });
}

/// A scripted app at `/appa/` with a session of `engine`.
fn scripted(engine: &str, more: &str) -> String {
    format!(
        "[apps.appa]\npath = \"/appa/\"\nupstreams = [\"http://appa\"]\nsession.engine = \"{engine}\"\n\
         session.timeout = \"10m\"\n{more}\n"
    )
}

async fn visited(world: &World) -> Browser {
    let mut browser = world.browser();
    for _ in 0..2 {
        browser.get("/appa/x").await;
    }
    browser
}

const DOKU: &str = "session.tokens = [{ name = \"DokuWiki\", cookie = \"DokuWiki\" }]";

/// A wiki that signs out by a link with a token that each page has anew.
fn wiki() -> (Script, Rc<Cell<bool>>) {
    let (signed_in, pages) = (Rc::new(Cell::new(true)), Cell::new(0));
    let state = Rc::clone(&signed_in);
    let script = Script::new("appa", move |asked: &Asked| {
        if asked.cookie("DokuWiki").is_none() {
            return Says::cookies(&["DokuWiki=0123456789abcdef; Path=/appa/; HttpOnly"]);
        }
        let sectok = pages.get();
        if asked.target.contains("do=logout") {
            if asked.target.contains(&format!("sectok={sectok}")) {
                state.set(false);
            }
            return Says::cookies(&[]).status(302).header("location", "/appa/doku.php?id=start");
        }
        if asked.target.ends_with("do=login") {
            return Says::cookies(&[]).status(200);
        }
        if asked.path().ends_with("/ping") {
            let login = "/appa/doku.php?do=login";
            let says = Says::cookies(&[]);
            return if state.get() { says } else { says.status(302).header("location", login) };
        }
        pages.set(sectok + 1);
        Says::html(format!(
            "<a href='http://elsewhere.example/?do=logout'>not this</a><a href=\"/other/?do=logout\">nor this</a>\
             <a href=\"/appa/doku.php?id=start&amp;do=logout&amp;sectok={}&amp;DokuWiki=77\" rel=nofollow>Log Out</a>",
            sectok + 1
        ))
    });
    (script, signed_in)
}

#[test]
fn f16_a_link_with_its_token_is_followed() {
    run(async {
        let (wiki, signed_in) = wiki();
        let more = format!(
            "{DOKU}\nheartbeat.path = \"/appa/ping\"\nsign_out.page = \"GET /appa/doku.php?id=start\"\n\
             sign_out.link = \"/appa/doku.php?*do=logout*\"\nsign_out.login = \"/appa/doku.php?*do=login*\""
        );
        let world = World::with_scripts(&scripted("custom", &more), &[&wiki]);
        let mut browser = visited(&world).await;
        assert_eq!(signed_out(&mut browser).await, "&appa=confirmed.dead");
        assert!(!signed_in.get());
        let asked: Vec<String> =
            wiki.asked().iter().rev().take(3).map(|asked| asked.target.clone()).collect();
        let [proof, out, page] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((page.as_str(), proof.as_str()), ("/appa/doku.php?id=start", "/appa/ping"));
        assert!(out.starts_with("/appa/doku.php?id=start&do=logout&sectok="), "{out}");
    });
}

#[test]
fn a_page_without_the_form_or_with_a_sign_in_in_its_place_sends_nothing() {
    run(async {
        let page = Rc::new(Cell::new(""));
        let says = Rc::clone(&page);
        let app = Script::new("appa", move |asked: &Asked| match (asked.cookie("sessionid"), says.get()) {
            (None, _) => Says::cookies(&["sessionid=0123456789abcdef0123456789abcdef; Path=/; HttpOnly"]),
            _ if asked.path() != "/appa/" => Says::cookies(&[]),
            (_, "login") => Says::cookies(&[]).status(302).header("location", "/appa/login?next=/appa/"),
            (_, "elsewhere") => Says::cookies(&[]).status(302).header("location", "/appa/other"),
            (_, page) => Says::html(page),
        });
        let more = "sign_out.page = \"GET /appa/\"\nsign_out.form = \"/appa/out\"\nsign_out.login = \"/appa/login*\"";
        let world = World::with_scripts(&scripted("django", more), &[&app]);
        for (says, told) in [
            ("login", "confirmed"),
            ("elsewhere", "unconfirmed"),
            ("<p>nothing here", "unconfirmed"),
            ("<form method=post action=/other/out>", "unconfirmed"),
            ("<form method=post action=http://evil.example/appa/out>", "unconfirmed"),
            ("<form method=post action='/appa/%2e%2e/appa/out'>", "unconfirmed"),
            ("<a href=/appa/out>", "unconfirmed"),
        ] {
            page.set("");
            let mut browser = visited(&world).await;
            page.set(says);
            assert_eq!(signed_out(&mut browser).await, format!("&appa={told}"), "{says}");
            assert_eq!(app.last().target, "/appa/", "{says}");
        }
    });
}

#[test]
fn forms_of_apps_that_do_not_see_their_prefix_and_forms_that_are_sent_with_get() {
    for (html, method, target, body) in [
        (
            "<form method=post action=/out><input type=hidden name=t value='a&amp;b c'>",
            "POST",
            "/out",
            "t=a%26b+c",
        ),
        ("<form method=post action='out?x=1'><button name=do value=go>", "POST", "/out?x=1", "do=go"),
        ("<form method=post action=/appa/out>", "POST", "/out", ""),
        ("<form method=post action=http://apps.example.org/out>", "POST", "/out", ""),
        ("<form method=post action=http://appa/out>", "POST", "/out", ""),
        ("<form action='/out?x=1'><input type=hidden name=t value=1>", "GET", "/out?t=1", ""),
        ("<base href=/deep/><form method=post action=../out>", "POST", "/out", ""),
    ] {
        run(async move {
            let app = Script::new("appa", move |asked: &Asked| match asked.cookie("sessionid") {
                None => Says::cookies(&["sessionid=0123456789abcdef0123456789abcdef; Path=/; HttpOnly"]),
                Some(_) if asked.target == "/" => Says::html(html),
                Some(_) => Says::cookies(&[]),
            });
            let more = "strip_path = true\nsign_out.page = \"GET /appa/\"\nsign_out.form = \"/appa/out\"";
            let world = World::with_scripts(&scripted("django", more), &[&app]);
            let mut browser = visited(&world).await;
            assert_eq!(signed_out(&mut browser).await, "&appa=confirmed", "{html}");
            let out = app.last();
            assert_eq!((out.method.as_str(), out.target.as_str(), out.body.as_str()), (method, target, body));
            assert_eq!(out.header("origin").is_empty(), method == "GET");
        });
    }
}

/// What a Django app at `/appa/` was asked last, whose page shows `html`, and what came of it. Another app is below it.
async fn last_of(html: String, out: &str) -> (String, Asked) {
    let app = Script::new("appa", move |asked: &Asked| match asked.cookie("sessionid") {
        None => Says::cookies(&["sessionid=0123456789abcdef0123456789abcdef; Path=/; HttpOnly"]),
        Some(_) if asked.target == "/appa/page?x=1" && asked.method == "GET" => Says::html(html.clone()),
        Some(_) => Says::cookies(&[]),
    });
    let inner = Script::new("inner", |_: &Asked| Says::cookies(&[]));
    let more = format!(
        "sign_out.page = \"GET /appa/page?x=1\"\nsign_out.{out}\n[apps.inner]\npath = \"/appa/inner/\"\n\
         upstreams = [\"http://inner\"]"
    );
    let world = World::with_scripts(&scripted("django", &more), &[&app, &inner]);
    let mut browser = visited(&world).await;
    let told = signed_out(&mut browser).await;
    assert!(inner.asked().is_empty());
    (told, app.last())
}

#[test]
fn what_a_person_writes_on_the_page_does_not_choose_what_is_asked() {
    let (link, out) = ("link = \"/appa/doku?*do=logout*\"", "<a href='/appa/doku?do=logout&t=1'>out</a>");
    for (html, out, target) in [
        (out.to_owned(), link, "/appa/doku?do=logout&t=1"),
        (format!("{out}{out}"), link, "/appa/doku?do=logout&t=1"),
        (out.to_owned(), "link = \"*do=logout*\"", "/appa/doku?do=logout&t=1"),
        (format!("<a href='/appa/doku?id=evil&do=logout'>x</a>{out}"), link, ""),
        (format!("{out}<a href='/appa/doku?id=evil&do=logout'>x</a>"), link, ""),
        // A star in the query does not reach the path, nor one in the path the query.
        (format!("<a href='/appa/delete/doku?do=logout'>x</a>{out}"), link, "/appa/doku?do=logout&t=1"),
        ("<a href='/appa/delete?x=/out'>x</a>".to_owned(), "link = \"/appa/*/out\"", ""),
        ("<a href=/appa/inner/out>x</a>".to_owned(), "link = \"/appa/*out\"", ""),
        ("<a href=/appa/%69nner/out>x</a>".to_owned(), "link = \"/appa/*out\"", ""),
        ("<a href=/appa/inner/out>x</a><a href=out>y</a>".to_owned(), "link = \"/appa/*out\"", "/appa/out"),
        (format!("<form action=/appa/out>{}", hidden("t", &"x".repeat(70_000))), "form = \"/appa/out\"", ""),
    ] {
        run(async move {
            let (told, last) = last_of(html.clone(), out).await;
            let html = html.chars().take(200).collect::<String>();
            let (wanted, way) = if target.is_empty() { ("/appa/page?x=1", "un") } else { (target, "") };
            assert_eq!((last.target.as_str(), told), (wanted, format!("&appa={way}confirmed")), "{html}");
        });
    }
}

fn hidden(name: &str, value: &str) -> String {
    format!("<input type=hidden name='{name}' value='{value}'>")
}

#[test]
fn forms_are_sent_as_browsers_send_them() {
    let h = hidden("t", "1");
    for (html, method, target, body) in [
        (format!("<form method=post action=/appa/page>{h}"), "POST", "/appa/page", "t=1"),
        (format!("<form method=post action='#top'>{h}"), "POST", "/appa/page?x=1", "t=1"),
        (format!("<form method=post action='#'>{h}"), "POST", "/appa/page?x=1", "t=1"),
        (
            "<form method=post action=/appa/x><button name=b formaction=page>".to_owned(),
            "POST",
            "/appa/page",
            "b=",
        ),
        (
            "<form method=post action=page><button name=b formaction=/appa/x>".to_owned(),
            "GET",
            "/appa/page?x=1",
            "",
        ),
        (
            "<form method=post action=page><button formaction=//evil.example/appa/page>".to_owned(),
            "GET",
            "/appa/page?x=1",
            "",
        ),
        (
            format!(
                "<form method=post action=page>{h}<input type=hidden name=d disabled><button name=e disabled>"
            ),
            "POST",
            "/appa/page",
            "t=1",
        ),
    ] {
        run(async move {
            let (_, last) = last_of(html.clone(), "form = \"/appa/page\"").await;
            assert_eq!((last.method.as_str(), &*last.target, &*last.body), (method, target, body), "{html}");
        });
    }
}

#[test]
fn tokens_in_forms_stay_on_the_page() {
    for (method, target, body) in [("post", "/appa/out", "t=1"), ("get", "/appa/out?t=1", "")] {
        run(async move {
            let html = format!(
                "<form method={method} action='/appa/out?CFID=7'>{}{}{}",
                hidden("CFID", "7"),
                hidden("cftoken", "8"),
                hidden("t", "1")
            );
            let app = Script::new("appa", move |asked: &Asked| match asked.cookie("CFID") {
                None => Says::cookies(&["CFID=0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a", "CFTOKEN=0"]),
                Some(_) if asked.target == "/appa/" => Says::html(html.clone()),
                Some(_) => Says::cookies(&[]),
            });
            let more = "sign_out.page = \"GET /appa/\"\nsign_out.form = \"/appa/out\"";
            let world = World::with_scripts(&scripted("lucee", more), &[&app]);
            let mut browser = visited(&world).await;
            assert_eq!(signed_out(&mut browser).await, "&appa=confirmed");
            assert_eq!((&*app.last().target, &*app.last().body), (target, body));
        });
    }
}

#[test]
fn a_proof_that_takes_its_time_goes_on_behind() {
    run(async {
        let world = one("express", "express", "sign_out.request = \"GET /AppA/logout\"");
        let mut browser = visitor(&world, "").await;
        world.app("AppA").with(|sim| sim.set_fault("ping", Fault::Slow(Duration::from_millis(2500))));
        let began = tokio::time::Instant::now();
        assert_eq!(signed_out(&mut browser).await, "&appA=confirmed.unproven");
        assert_eq!(began.elapsed().as_secs_f64(), 2.0);
        assert_eq!(last_events(&world), [What::SignOutConfirmed]);
        pass(1.0).await;
        assert_eq!(last_events(&world), [What::SignOutConfirmed, What::SignOutProven]);
        assert_eq!(world.counter("sign_out_proofs", &["dead"]), 1);
    });
}

#[test]
fn an_end_by_a_clock_asks_for_no_proof() {
    run(async {
        let more = "sign_out.request = \"GET /AppA/logout.jsp\"\n[bridge]\nidle_timeout = \"2m\"";
        let world = one("servlet", "servlet", more);
        visitor(&world, ".jsp").await;
        pass(200.0).await;
        assert_eq!(world.bridges(), (0, 0));
        assert_eq!(world.app("AppA").with(|sim| sim.counts().logouts), 1);
        assert_eq!(last_events(&world), [What::SignOutConfirmed]);
        assert_eq!(proofs(&world, "AppA"), 0);
    });
}

#[test]
fn a_sign_out_that_a_person_makes_in_one_app_is_proven_too() {
    run(async {
        let detect = "sign_out.detect = \"GET /AppA/logout*\"\n";
        for mode in ["together", "alone"] {
            let world = one("servlet", "servlet", &format!("{detect}sign_out.mode = \"{mode}\""));
            let mut browser = visitor(&world, ".jsp").await;
            browser.get("/AppA/logout.jsp").await;
            pass(0.1).await;
            assert_eq!(proofs(&world, "AppA"), 1, "{mode}");
            assert_eq!(world.counter("sign_out_proofs", &["appA", "dead"]), 1, "{mode}");
            assert_eq!(world.app("AppA").with(|sim| sim.counts().logouts), 1, "{mode}");
            if mode == "alone" {
                browser.own_post("/.bridge/logout").await;
            }
            let story = world.core.registry().latest_ended(1).remove(0).timeline;
            assert!(story.iter().any(|event| event.what == What::SignOutProven), "{mode}: {story:?}");
        }
    });
}

#[test]
fn a_remembered_sign_in_takes_no_part_in_the_proof() {
    run(async {
        let app = Script::new("appa", |asked: &Asked| match asked.cookie("JSESSIONID") {
            None => Says::cookies(&[
                "JSESSIONID=0123456789ABCDEF0123456789ABCDEF; Path=/; HttpOnly",
                "remember=ann; Path=/; Max-Age=86400; HttpOnly",
                "theme=dark; Path=/; Max-Age=86400",
            ]),
            _ => Says::cookies(&[]),
        });
        let more = "heartbeat.path = \"/appa/ping\"\nsign_out.request = \"GET /appa/out\"";
        let world = World::with_scripts(&scripted("servlet", more), &[&app]);
        let mut browser = visited(&world).await;
        browser.get("/appa/x").await;
        assert_eq!(app.last().cookie("remember").as_deref(), Some("ann"));
        assert_eq!(signed_out(&mut browser).await, "&appa=confirmed.still_alive");
        let proof = app.last();
        assert_eq!(proof.path(), "/appa/ping");
        assert_eq!(proof.cookie("remember"), None);
        assert_eq!(proof.cookie("theme").as_deref(), Some("dark"));
        assert!(proof.cookie("JSESSIONID").is_some());
    });
}

#[test]
fn tokens_that_pass_to_the_browser_are_asked_for_as_they_were() {
    run(async {
        let app = Script::new("appa", |asked: &Asked| match (asked.path(), asked.cookie("JSESSIONID")) {
            ("/appa/out", _) => Says::cookies(&["JSESSIONID=FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF; Path=/"]),
            (_, None) => Says::cookies(&["JSESSIONID=0123456789ABCDEF0123456789ABCDEF; Path=/"]),
            _ => Says::cookies(&[]),
        });
        let more = "session.cookies = \"pass\"\nheartbeat.path = \"/appa/ping\"\nsign_out.request = \"GET /appa/out\"";
        let world = World::with_scripts(&scripted("servlet", more), &[&app]);
        let mut browser = visited(&world).await;
        signed_out(&mut browser).await;
        let proof = app.last();
        assert_eq!(proof.header("cookie"), "JSESSIONID=0123456789ABCDEF0123456789ABCDEF");
    });
}
