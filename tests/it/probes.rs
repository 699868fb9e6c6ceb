use std::collections::HashMap;
use std::time::Duration;

use http::request::Parts;
use sessionbridge::app::live::{self, Depth};
use sessionbridge::app::probing;
use sessionbridge::demo::sim::{Profile, SimOptions};
use sessionbridge::findings::{Found, Kind, Level};

use super::support::scripted::{Say, Script, script_config, servlet_cookie, simple};
use super::support::{World, extension, pair_apps, pair_config, pass, run};

/// What probing all apps of `world` finds.
async fn probe(world: &World, depth: Depth) -> Vec<Found> {
    let never = std::future::pending();
    live::all(&world.core, world.dialer(), depth, (|_: &str| {}, never)).await.found
}

/// Level and words of what was found of `kind` in the first app.
fn of(found: &[Found], kind: Kind) -> (Level, &str) {
    // appB has the lower number.
    let first = found.iter().map(|found| found.app).max();
    let found = found.iter().find(|found| Some(found.app) == first && found.kind == kind);
    let found = found.unwrap_or_else(|| panic!("nothing of {kind:?}"));
    (found.level, &found.says)
}

/// One app of `profile` whose sessions live for 30 s; `more` is of its table.
fn one(profile: &str, more: &str) -> World {
    one_with(profile, more, |options| options)
}

fn one_with(profile: &str, more: &str, change: impl FnOnce(SimOptions) -> SimOptions) -> World {
    let config = pair_config(profile, "");
    let app = config.split("[apps.appB]").next().unwrap().replace("\"10s\"", "\"30s\"");
    let named = |line: &&str| {
        let key = line.split(' ').next().unwrap_or_default();
        key.is_empty() || !more.lines().any(|own| own.split(' ').next() == Some(key))
    };
    let kept: String = app.lines().filter(named).map(|line| format!("{line}\n")).collect();
    let options = SimOptions::new(profile.parse().unwrap(), "AppA").timeout_ms(30_000);
    World::new(&format!("{kept}\n{}", more.replace("heartbeat.canary = \"none\"", "")), [change(options)])
}

/// F5, F4: on every engine all is found to be as it should be, where it is.
#[test]
fn f5_each_engine_is_found_as_it_is_configured() {
    for profile in Profile::all().map(|profile| profile.to_string()) {
        run(async {
            let world = one(&profile, "");
            let found = probe(&world, Depth::Full).await;
            for kind in [Kind::Token, Kind::HeartbeatPage, Kind::Canary, Kind::Extends] {
                let (level, says) = of(&found, kind);
                // Mono drops dead sessions when it likes: the control may have lived on.
                let by_chance = kind == Kind::Extends && profile == "aspnet-mono";
                assert!(level == Level::Good || by_chance && says.contains("at random"), "{profile}: {says}");
            }
            let (level, says) = of(&found, Kind::SignOut);
            // `structClear`, a cookie that is the session, a form in the place of a link: these do not end it.
            let expected = match profile.as_str() {
                "acf-legacy" | "openbd" | "lucee-j2ee" | "rails" => Level::Note,
                "django" => Level::Warning,
                _ => Level::Good,
            };
            assert_eq!(level, expected, "{profile}: {says}");
            assert_eq!(world.core.registry().counts().bound + world.core.registry().counts().pending, 0);
        });
    }
}

/// S3-9: any page of the app may be the heartbeat page, if it touches the session.
#[test]
fn s3_9_a_page_that_never_touches_the_session_did_not_extend() {
    // Not Tomcat and Express: they touch the session of every request that shows a valid id.
    for profile in ["lucee", "acf-strict", "aspnet-cookieless"] {
        run(async {
            for (page, level, word) in
                [("notouch", Level::Warning, "did not extend"), ("index", Level::Good, "extends sessions")]
            {
                let path = format!("heartbeat.path = \"/AppA/{page}{}\"", extension(profile));
                let world = one(profile, &format!("{path}\nheartbeat.canary = \"none\""));
                let found = probe(&world, Depth::Full).await;
                let (seen, says) = of(&found, Kind::Extends);
                assert!(seen == level && says.contains(word), "{profile}: {says}");
            }
        });
    }
}

/// Without a canary such engines show nothing, and that is said.
#[test]
fn f5_on_engines_that_take_any_id_a_canary_is_asked_for() {
    for profile in ["php-lock", "acf-legacy", "openbd", "lucee", "aspnet"] {
        run(async {
            let world = one(profile, "heartbeat.canary = \"none\"");
            let found = probe(&world, Depth::Full).await;
            let (level, says) = of(&found, Kind::Canary);
            assert!(level == Level::Warning && says.contains("takes any id"), "{profile}: {says}");
            let (level, says) = of(&found, Kind::Extends);
            // Lucee takes an id in a URL only of a session that it still has.
            let told = profile == "lucee";
            assert_eq!(level == Level::Good, told, "{profile}: {says}");
            assert!(told || level == Level::Note && says.contains("give it a `heartbeat.canary`"), "{says}");
        });
    }
}

/// With J2EE sessions on Lucee the container's id outlives the app's own session: it proves nothing.
#[test]
fn f5_a_session_within_a_containers_needs_a_canary() {
    run(async {
        let world = one("lucee-j2ee", "heartbeat.canary = \"none\"");
        let found = probe(&world, Depth::Full).await;
        let (level, says) = of(&found, Kind::Canary);
        assert!(level == Level::Warning && says.contains("inside a container's"), "{says}");
        assert_eq!(of(&found, Kind::Extends).0, Level::Note);
    });
}

#[test]
fn f4_the_timeout_is_learned_to_within_a_second_where_it_is_exact() {
    for profile in ["lucee", "servlet", "acf-strict", "aspnet", "express", "php-lock"] {
        run(async {
            let world = one_with(profile, "session.timeout = \"20s\"", |options| options.timeout_ms(10_000));
            let found = probe(&world, Depth::Measure).await;
            let (level, says) = of(&found, Kind::Timeout);
            assert_eq!(level, Level::Warning, "{profile}: {says}");
            assert!(says.contains("set `session.timeout = \"10s\"`"), "{profile}: {says}");
            let (level, says) = of(&found, Kind::Extends);
            assert_eq!(level, Level::Good, "with the measured figure {profile}: {says}");
        });
    }
    run(async {
        let world = one("servlet", "session.timeout = \"20m\"");
        world.app("AppA").with(|sim| assert_eq!(sim.options().timeout_ms, 30_000));
        let found = probe(&world, Depth::Measure).await;
        assert!(of(&found, Kind::Timeout).1.contains("\"30s\""), "{}", of(&found, Kind::Timeout).1);
    });
    run(async {
        let world = one("servlet", "session.timeout = \"10s\"");
        let found = probe(&world, Depth::Measure).await;
        let (level, says) = of(&found, Kind::Timeout);
        assert!(level == Level::Note && says.contains("live for more than 2"), "{says}");
    });
}

/// An app that forgets a session `from` to `to` seconds after its last use, as chance has it, and shows its start as a canary.
fn forgetful(from: u64, to: u64) -> Script {
    Script::new(forgetting(from, to))
}

fn forgetting(from: u64, to: u64) -> impl FnMut(&Parts) -> Say {
    let mut sessions: HashMap<String, (tokio::time::Instant, u64, usize)> = HashMap::new();
    let mut made = 0_usize;
    move |parts: &Parts| {
        let now = tokio::time::Instant::now();
        let line = parts.headers.get("cookie").map(|line| line.to_str().unwrap().to_owned());
        let shown = line.and_then(|line| {
            line.split("; ").find_map(|pair| pair.strip_prefix("PHPSESSID=")).map(ToOwned::to_owned)
        });
        sessions.retain(|_, (used, lives, _)| now - *used < Duration::from_secs(*lives));
        made += 1;
        let id = shown.clone().unwrap_or_else(|| format!("{made:026}"));
        let lives = from + (made as u64 * 7919) % (to - from);
        let session = sessions.entry(id.clone()).or_insert((now, lives, made));
        (session.0, session.1) = (now, lives);
        let say = Say::body("ok").with("x-began", session.2.to_string());
        if shown.is_some() { say } else { say.with("set-cookie", format!("PHPSESSID={id}; path=/")) }
    }
}

#[test]
fn f4_a_range_where_sessions_are_collected_at_random() {
    run(async {
        let config =
            script_config("heartbeat.canary = { header = \"x-began\" }", "").replace("servlet", "php");
        let world = World::scripted(&config, [("app", forgetful(12, 40))], []);
        let found = probe(&world, Depth::Measure).await;
        let (level, says) = of(&found, Kind::Timeout);
        assert!(says.contains("at random between"), "{says}");
        assert_eq!(level, Level::Warning, "30 s are more than the first that died: {says}");
    });
}

#[test]
fn f5_another_engine_than_configured_is_named() {
    for (real, configured, word) in [
        ("php-lock", "servlet", "php"),
        ("servlet", "php", "servlet"),
        ("lucee", "coldfusion", "lucee"),
        ("django", "express", "django"),
    ] {
        run(async {
            let world = one(real, &format!("session.engine = \"{configured}\""));
            let found = probe(&world, Depth::Quick).await;
            let (level, says) = of(&found, Kind::Token);
            assert_eq!(level, Level::Warning, "{says}");
            assert!(says.contains(word) && says.contains("set `session.engine` so"), "{says}");
        });
    }
}

#[test]
fn f5_a_heartbeat_page_that_asks_for_a_sign_in_is_named() {
    for profile in ["servlet", "aspnet", "lucee", "django"] {
        run(async {
            let page = extension(profile);
            let world = one(profile, &format!("heartbeat.path = \"/AppA/private{page}\""));
            let found = probe(&world, Depth::Quick).await;
            let (level, says) = of(&found, Kind::HeartbeatPage);
            assert!(level == Level::Warning && says.contains("asks for a sign-in"), "{profile}: {says}");
            assert!(!found.iter().any(|found| found.kind == Kind::Extends && found.level == Level::Good));
        });
    }
    run(async {
        let world = one("servlet", "heartbeat.path = \"/AppA/nothing.jsp\"");
        let found = probe(&world, Depth::Quick).await;
        let (level, says) = of(&found, Kind::HeartbeatPage);
        assert!(level == Level::Warning && says.contains("answers 404"), "{says}");
    });
}

#[test]
fn f5_what_a_canary_is_worth_is_said() {
    for (header, word) in [
        ("X-Nothing", "is not in the heartbeat page"),
        ("X-Same", "same in two"),
        ("X-Each", "changes within"),
    ] {
        run(async {
            let mut count = 0;
            let script = Script::new(move |parts| {
                count += 1;
                simple(parts).with("x-same", "1").with("x-each", count.to_string())
            });
            let config = script_config(&format!("heartbeat.canary = {{ header = \"{header}\" }}"), "");
            let world = World::scripted(&config, [("app", script)], []);
            let found = probe(&world, Depth::Quick).await;
            assert!(of(&found, Kind::Canary).1.contains(word), "{}", of(&found, Kind::Canary).1);
        });
    }
}

#[test]
fn f5_a_sign_out_that_is_refused_is_a_warning_and_one_that_spares_the_anonymous_a_note() {
    for (status, level, word) in [(404, Level::Warning, "answered 404"), (200, Level::Note, "did not end")] {
        run(async {
            let mut made = 0_u8;
            let script = Script::new(move |parts: &Parts| {
                let line = parts.headers.get("cookie").map(|line| line.to_str().unwrap().to_owned());
                let given = (0..made).map(|at| servlet_cookie(char::from(b'G' + at)));
                let known = line.is_some_and(|line| given.clone().any(|own| line.contains(&own[..43])));
                let say = if parts.uri.path() == "/app/bye" { Say::status(status) } else { Say::body("ok") };
                if known {
                    return say;
                }
                made += 1;
                say.with("set-cookie", servlet_cookie(char::from(b'G' + made - 1)))
            });
            let more = "sign_out.request = \"GET /app/bye\"";
            let world = World::scripted(&script_config(more, ""), [("app", script)], []);
            let found = probe(&world, Depth::Quick).await;
            let (found, says) = of(&found, Kind::SignOut);
            assert!(found == level && says.contains(word), "{says}");
        });
    }
}

/// Probes are nobody: no person's session is used, and none is in the table.
#[test]
fn f4_no_persons_session_is_ever_used() {
    run(async {
        let world = World::new(&pair_config("servlet", ""), pair_apps("servlet"));
        let mut browser = world.browser();
        browser.get("/AppA/index.jsp").await;
        browser.get("/AppA/set.jsp?a=1").await;
        let before = world.app("AppA").with(|sim| sim.sessions()[0].clone());
        let found = probe(&world, Depth::Measure).await;
        assert_eq!(of(&found, Kind::Extends).0, Level::Good);
        let own = world.seen("AppA").into_iter().filter(|seen| {
            seen.headers
                .get("user-agent")
                .is_some_and(|agent| agent.to_str().unwrap().starts_with("sessionbridge-probe/"))
        });
        let own: Vec<_> = own.collect();
        assert!(own.len() > 20, "{}", own.len());
        assert!(own.iter().all(|seen| seen.session.as_deref() != Some(before.label.as_str())));
        let counts = world.core.registry().counts();
        assert_eq!(counts.bound + counts.pending, 1, "the person's own");
    });
}

/// In the background: one request at a time, again while an app does not answer, and what is found can be taken back.
#[test]
fn f5_in_the_background_an_app_that_is_down_is_asked_again() {
    run(async {
        let script = Script::new(simple);
        script.down(true);
        let world = World::scripted(&script_config("", ""), [("app", script.clone())], []);
        tokio::task::spawn_local(probing::run(world.core.clone(), world.dialer()));
        pass(10.0).await;
        let findings = world.core.findings().all();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].says.contains("does not answer"));
        let refused = script.refused();
        pass(61.0).await;
        assert!(script.refused() > refused);
        script.down(false);
        pass(121.0).await;
        let findings = world.core.findings().all();
        let (level, says) = of(&findings, Kind::HeartbeatPage);
        assert_eq!(level, Level::Good, "{says}");
        assert_eq!(
            world.core.findings().place(findings[0].app, Kind::HeartbeatPage).as_deref(),
            Some("test.toml:8")
        );
    });
}

/// Whatever waits, the command ends when it is told to, with what is known.
#[test]
fn f5_an_interrupted_check_tells_what_it_knows() {
    run(async {
        let world = one("servlet", "session.timeout = \"20m\"");
        let mut lines = Vec::new();
        let told = (|line: &str| lines.push(line.to_owned()), tokio::time::sleep(Duration::from_secs(60)));
        let live = live::all(&world.core, world.dialer(), Depth::Full, told).await;
        assert!(live.interrupted);
        assert_eq!(of(&live.found, Kind::Token).0, Level::Good);
        assert!(!live.found.iter().any(|found| found.kind == Kind::Extends));
        assert_eq!(lines[0], "this takes 26m 40s at the most; Ctrl-C ends it with what is known by then");
        assert_eq!(
            lines[1],
            "appA: 26m 40s at the most until its heartbeat page is known to extend sessions"
        );
    });
}

/// The finding of `kind` in the only app, if any.
fn maybe(world: &World, kind: Kind) -> Option<Found> {
    world.core.findings().all().into_iter().find(|found| found.kind == kind)
}

/// F4: an app that breaks in the middle of a probe is not blamed for it.
#[test]
fn f4_an_app_that_breaks_at_the_touch_is_not_blamed() {
    for status in [503, 429, 302] {
        run(async {
            let start = tokio::time::Instant::now();
            let mut good = forgetting(25, 26);
            let script = Script::new(move |parts: &Parts| {
                // From the touch on.
                if start.elapsed() > Duration::from_secs(15) { Say::status(status) } else { good(parts) }
            });
            let config = script_config("heartbeat.canary = { header = \"x-began\" }", "");
            let world = World::scripted(&config.replace("servlet", "php"), [("app", script)], []);
            let found = probe(&world, Depth::Full).await;
            let (level, says) = of(&found, Kind::Extends);
            assert!(level == Level::Note && says.contains("cannot be told yet"), "{status}: {says}");
            assert!(!found.iter().any(|found| found.level == Level::Warning), "{status}: {found:?}");
        });
    }
}

/// F5: a warning goes within the hour once the app is mended, and a page that is not there yet is asked for again.
#[test]
fn f5_a_mended_app_loses_its_warning() {
    run(async {
        let script = Script::new(|_: &Parts| Say::status(404));
        let config = script_config("heartbeat.canary = { header = \"x-began\" }", "");
        let world = World::scripted(&config.replace("servlet", "php"), [("app", script.clone())], []);
        tokio::task::spawn_local(probing::run(world.core.clone(), world.dialer()));
        pass(10.0).await;
        assert_eq!(maybe(&world, Kind::HeartbeatPage).unwrap().level, Level::Warning);
        script.now(|_: &Parts| Say::status(302).with("location", "/app/login"));
        pass(70.0).await;
        let found = maybe(&world, Kind::HeartbeatPage).unwrap();
        assert!(found.level == Level::Warning && found.says.contains("asks for a sign-in"), "{}", found.says);
        script.now(forgetting(60, 61));
        pass(3_000.0).await;
        assert_eq!(maybe(&world, Kind::HeartbeatPage).unwrap().level, Level::Warning, "not yet");
        pass(700.0).await;
        assert_eq!(maybe(&world, Kind::HeartbeatPage).unwrap().level, Level::Good);
        let asked = script.asked().len();
        pass(8_000.0).await;
        assert_eq!(script.asked().len(), asked, "nothing is left to mend");
    });
}
