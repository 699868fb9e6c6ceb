use std::net::SocketAddr;
use std::time::Duration;

use super::support::{START, World, extension, pass, run};
use sessionbridge::clock::Clock;
use sessionbridge::demo::sim::{Look, Profile, SimOptions};
use sessionbridge::init;
use sessionbridge::net::{Client, ClientOptions};

/// An index as real applications have it; the tempting names lead to pages that touch no session, or away.
fn linked(look: &Look<'_>) -> String {
    let (name, started) = (look.name, look.session.as_ref().map_or(0, |session| session.started));
    format!(
        "<!doctype html><title>{name}</title><p>Session since <output id=\"started\">{started}</output>
         <a href=\"get\">What was saved</a> <a href=\"notouch\">Heartbeat</a> <a href=\"static.css\">Keep alive</a>
         <a href=\"ping\">Ping</a> <a href=\"invalidate\">Start again</a> <a href=\"set?note=1\">Note</a>
         <a href=\"logout\">Sign out</a> <a href=\"login\">Sign in</a> <a href=\"/AppB/index\">The other</a>
         <a href=\"fail\">Status</a> <a href=\"sse\">Alive</a> <a href=\"download\">Session</a>"
    )
}

/// AppA and AppB of `profile`; Django and Express say by their cookies how long their sessions live.
fn apps(profile: Profile, skin: bool) -> [SimOptions; 2] {
    ["AppA", "AppB"].map(|name| {
        let mut options = SimOptions::new(profile, name);
        if matches!(profile, Profile::Django | Profile::Express) {
            options.timeout_ms = 600_000;
        }
        options.skin = skin.then_some(linked);
        options
    })
}

/// The draft for both apps, without its first key: here nothing listens at sockets.
async fn draft(apps: [SimOptions; 2]) -> (String, World) {
    let world = World::new("", apps);
    let client = Client::new(world.dialer(), ClientOptions::default());
    let urls = ["http://appa/AppA/".to_owned(), "http://appb/AppB/".to_owned()];
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let drafted = init::draft(&client, Clock::at(START), &urls, listen, &mut |_| {}).await;
    assert!(drafted.failed.is_empty(), "{:?}", drafted.failed);
    (drafted.text.unwrap().replace("listen = \"127.0.0.1:0\"\n", ""), world)
}

/// The proxy as the draft says, and the article's walk: longer than both timeouts in AppB, then back in AppA.
async fn walk(text: &str, apps: [SimOptions; 2], page: &str) {
    let (timeout, profile) = (apps[0].timeout_ms, apps[0].profile);
    let world = World::new(text, apps);
    let mut browser = world.browser();
    let first = browser.follow(&format!("/AppA/index{page}?json")).await;
    let other = browser.follow(&format!("/AppB/index{page}?json")).await;
    for _ in 0..2 {
        #[expect(clippy::cast_precision_loss, reason = "half an hour in milliseconds")]
        pass(timeout as f64 * 0.7 / 1000.0).await;
        let again = browser.follow(&format!("/AppB/index{page}?json")).await;
        assert_eq!(again.started(), other.started(), "{profile}: AppB's own session");
    }
    let back = browser.follow(&format!("/AppA/index{page}?json")).await;
    assert_eq!(back.started(), first.started(), "{profile}: the session of before\n{text}");
    assert!(!world.beats("AppA").is_empty(), "{profile}");
}

/// What the draft says under a key of `[apps.appA]`.
fn said<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let table = text.split("[apps.appA]").nth(1)?.split("\n[").next()?;
    table.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
}

fn engine(profile: Profile) -> &'static str {
    match profile {
        // CFMX on a servlet container: its pages are CFML.
        Profile::AcfLegacy | Profile::AcfStrict | Profile::AcfJ2ee | Profile::InvalidSession => "coldfusion",
        Profile::Lucee | Profile::LuceeJ2ee => "lucee",
        Profile::OpenBd => "openbd",
        Profile::Servlet => "servlet",
        Profile::PhpLock => "php",
        Profile::AspNet | Profile::AspNetCookieless | Profile::AspNetMono => "aspnet",
        Profile::Express => "express",
        Profile::Rails => "rails",
        Profile::Django => "django",
    }
}

#[test]
fn f15_a_draft_from_bare_pages_runs_the_walk_unedited_on_every_engine() {
    for profile in Profile::all() {
        run(async {
            let (text, world) = draft(apps(profile, false)).await;
            let path = said(&text, "heartbeat.path").unwrap_or_else(|| panic!("{profile}\n{text}"));
            assert_eq!(path, "\"/AppA/\"", "{profile}: the only page there is\n{text}");
            let asked = world.seen("AppA");
            assert!(asked.len() <= 5 && asked.iter().all(|seen| seen.method == "GET"), "{profile}");
            walk(&text, apps(profile, false), &extension(&profile.to_string())).await;
        });
    }
}

#[test]
fn f15_a_draft_chooses_the_ping_page_with_its_canary_and_runs_the_walk() {
    for profile in Profile::all() {
        run(async {
            let (text, world) = draft(apps(profile, true)).await;
            let bare = matches!(profile, Profile::InvalidSession);
            let is = |key, value: &str| assert_eq!(said(&text, key), Some(value), "{profile}\n{text}");
            // Without an extension a CFMX of before ColdFusion 10 looks like any servlet.
            is("session.engine", &format!("\"{}\"", if bare { "servlet" } else { engine(profile) }));
            is("heartbeat.path", "\"/AppA/ping\"");
            assert!(said(&text, "heartbeat.canary").unwrap().contains("started"), "{profile}\n{text}");
            is("sign_out.request", "\"GET /AppA/logout\"");
            is("sign_out.login", "[\"/AppA/login*\"]");
            for seen in world.seen("AppA") {
                let page = seen.page.as_deref().unwrap_or_default().to_owned();
                assert!(
                    !["logout", "login", "invalidate", "static.css", "set"].contains(&&*page),
                    "{profile}: {page}"
                );
                assert!(!seen.heartbeat);
            }
            walk(&text, apps(profile, true), "").await;
        });
    }
}

#[test]
fn f15_the_draft_says_what_kind_of_session_and_how_long() {
    run(async {
        for (profile, key, value) in [
            (Profile::AcfJ2ee, "session.type", Some("\"j2ee\"")),
            (Profile::LuceeJ2ee, "session.type", Some("\"j2ee\"")),
            (Profile::Lucee, "session.type", None),
            (Profile::Django, "session.timeout", Some("\"10m\"")),
            (Profile::Express, "session.timeout", Some("\"10m\"")),
            (Profile::Lucee, "session.timeout", Some("\"30m\"")),
        ] {
            let (text, _) = draft(apps(profile, false)).await;
            assert_eq!(said(&text, key), value, "{profile} {key}\n{text}");
        }
    });
}

#[test]
fn f15_no_id_of_any_session_is_in_a_draft() {
    for profile in Profile::all() {
        run(async {
            let (text, world) = draft(apps(profile, true)).await;
            for seen in world.seen("AppA") {
                for line in seen.headers.get_all("cookie") {
                    for pair in line.to_str().unwrap().split("; ") {
                        let value = pair.split_once('=').unwrap().1;
                        assert!(value.len() < 6 || !text.contains(value), "{profile}: {pair}\n{text}");
                    }
                }
            }
        });
    }
}

#[test]
fn init_looks_for_ten_seconds_at_an_app_at_the_most() {
    run(async {
        let before = tokio::time::Instant::now();
        let [mut a, b] = apps(Profile::PhpLock, true);
        a.skin = Some(|_| (0..9).map(|n| format!("<a href=\"slow?ms=4000&n={n}\">more</a>")).collect());
        let (text, _) = draft([a, b]).await;
        assert!(text.contains("it was slow"), "{text}");
        assert!(before.elapsed() < Duration::from_secs(22), "{:?}", before.elapsed());
    });
}
