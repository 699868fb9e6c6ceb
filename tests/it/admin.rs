use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::Value;
use sessionbridge::net::{Drainer, memory};
use sessionbridge::telemetry::health::Readiness;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::said::Said;
use super::support::{Answer, Browser, World, pair_apps, pair_config, pass, run};

const SESSIONS: &str = "/api/v1/sessions";
/// Nobody is held up for coming with many.
const CROWD: &str =
    "[server.limits]\nnew_sessions = { rate = \"1000/s\", burst = 5000, per = \"client-ip\" }";

/// An operator at the admin listener of `world`. Dropping the drainer stops that.
pub(super) fn operator(world: &World) -> (Browser, Drainer) {
    let (listener, dialer) = memory();
    let (drainer, drain) = Drainer::new();
    let (admin, to_apps) = (world.core.admin().clone(), world.dialer());
    tokio::task::spawn_local(async move { admin.serve_over(to_apps, listener, drain).await });
    let mut operator = Browser::new(dialer, "127.0.0.1:9190");
    operator.keeps_cookies = false;
    (operator, drainer)
}

/// Two apps, in whose traffic a sign-out is seen.
fn detecting(more: &str) -> World {
    let request = "sign_out.request = \"GET /AppA/";
    let detect = format!("sign_out.detect = [\"GET /AppA/logout*\"]\n{request}");
    World::new(&pair_config("servlet", more).replace(request, &detect), pair_apps("servlet"))
}

/// A person who has been to both apps twice, so that the cookie has come back.
async fn person(world: &World) -> Browser {
    let mut browser = world.browser();
    for page in ["/AppA/index.jsp", "/AppB/index.jsp", "/AppA/index.jsp"] {
        assert_eq!(browser.get(page).await.status, 200);
    }
    browser
}

async fn json(operator: &mut Browser, target: &str) -> Value {
    let answer = operator.get(target).await;
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

async fn delete(operator: &mut Browser, id: &str) -> Answer {
    operator.send(Method::DELETE, &format!("{SESSIONS}/{id}"), &[], Bytes::new()).await
}

fn ids(list: &Value) -> Vec<String> {
    let sessions = list["sessions"].as_array().unwrap();
    sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

/// The words of a session's events, of one app or of the bridge session itself.
fn events(session: &Value, app: Option<&str>) -> Vec<String> {
    let timeline = session["timeline"].as_array().unwrap().iter();
    timeline
        .filter(|event| event["app"].as_str() == app)
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn probes_tell_one_word() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        let mut told = Vec::new();
        for step in [None, Some(Readiness::Ready), Some(Readiness::Draining)] {
            step.map(|step| world.core.health().advance(step));
            let answer = operator.get("/readyz").await;
            told.push((answer.status.as_u16(), answer.text()));
        }
        assert_eq!(told, [(503, "starting\n".into()), (200, "ready\n".into()), (503, "draining\n".into())]);
        assert_eq!(operator.get("/healthz").await.status, 200);
        world.core.health().fail();
        assert_eq!(operator.get("/healthz").await.status, 503);
    });
}

#[test]
fn metrics_are_open_metrics() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        person(&world).await;
        let answer = operator.get("/metrics").await;
        assert_eq!(
            answer.header("content-type"),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        assert!(answer.text().ends_with("# EOF\n"));
        let gauge = "sessionbridge_app_sessions{app=\"appA\",state=\"live\"} 1";
        assert!(answer.text().contains(gauge), "{}", answer.text());
    });
}

#[test]
fn a_session_is_shown_with_its_apps_and_its_story() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        let mut browser = world.browser();
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0";
        browser.headers.insert("user-agent", HeaderValue::from_static(agent));
        browser.get("/AppA/index.jsp").await;
        let pending = json(&mut operator, &format!("{SESSIONS}?state=pending")).await;
        assert_eq!((ids(&pending).len(), &pending["sessions"][0]["state"]), (1, &Value::from("pending")));
        browser.get("/AppA/index.jsp").await;
        // Long enough for heartbeats of AppA, whose sessions die after 10 s.
        pass(8.0).await;
        let list = json(&mut operator, &format!("{SESSIONS}?state=bound")).await;
        let session = &list["sessions"][0];
        assert_eq!(list["now"], "2026-01-01T00:00:08.000Z");
        assert_eq!((&session["created"], &session["hits"]), (&"2026-01-01T00:00:00.000Z".into(), &2.into()));
        assert_eq!(session["expires_at"], "2026-01-01T00:30:00.000Z");
        assert_eq!(session["hard_end"], "2026-01-01T12:00:00.000Z");
        assert_eq!((&session["present"], &session["user_agent"]), (&false.into(), &"Firefox".into()));
        assert_eq!(session["timeline"], Value::Null, "the list has no stories");
        let app = &session["apps"]["appA"];
        assert_eq!((&app["state"], &app["hits"]), (&"live".into(), &2.into()));
        assert_eq!(app["heartbeats"]["count"].as_u64().unwrap(), world.beats("AppA").len() as u64);
        assert!(app["heartbeats"]["count"].as_u64().unwrap() >= 2, "{app}");
        assert_eq!(
            (&app["heartbeats"]["verdict"], &app["heartbeats"]["stopped"]),
            (&"alive".into(), &false.into())
        );
        assert!(app["last_request"].as_str() > app["last_activity"].as_str(), "{app}");
        assert!(app["expires_at"].as_str() > list["now"].as_str(), "{app}");
        let id = session["id"].as_str().unwrap();
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let one = json(&mut operator, &format!("{SESSIONS}/{id}")).await;
        assert_eq!(events(&one, None), ["created", "bound"]);
        assert_eq!(events(&one, Some("appA")), ["token_learned", "heartbeat"], "told when a verdict changes");
    });
}

#[test]
fn a_person_who_is_there_is_said_to_be() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        let browser = person(&world).await;
        let stream = web_socket(&browser, "/AppA/ws.jsp").await;
        let list = json(&mut operator, SESSIONS).await;
        assert_eq!(list["sessions"][0]["present"], true);
        drop(stream);
    });
}

#[test]
fn pages_of_250_sessions_together_hold_each_once() {
    run(async {
        let world = World::pair("servlet", CROWD);
        let (mut operator, _drainer) = operator(&world);
        for n in 0..250 {
            let mut browser = world.browser();
            browser.get("/AppA/index.jsp").await;
            if n % 2 == 0 {
                browser.get("/AppB/index.jsp").await;
            }
        }
        for (query, expected) in [
            ("limit=7", 250),
            ("limit=250", 250),
            ("", 250),
            ("limit=9&app=appB", 125),
            ("limit=11&state=pending", 125),
            ("limit=60&state=bound&app=appA", 125),
            ("state=ended", 0),
        ] {
            let (mut all, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = json(&mut operator, &format!("{SESSIONS}?{query}{cursor}")).await;
                all.extend(ids(&page));
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = format!("{}cursor={next}", if query.is_empty() { "" } else { "&" });
            }
            let distinct: BTreeSet<&String> = all.iter().collect();
            assert_eq!((all.len(), distinct.len()), (expected, expected), "{query}");
        }
    });
}

#[test]
fn sessions_that_ended_are_paged_too_and_forgotten_after_a_day() {
    run(async {
        let world = World::pair("servlet", &format!("{CROWD}\n[bridge]\nidle_timeout = \"5m\""));
        let (mut operator, _drainer) = operator(&world);
        for n in 0..30 {
            let mut browser = world.browser();
            browser.get("/AppA/index.jsp").await;
            browser.get(if n < 10 { "/AppB/index.jsp" } else { "/AppA/index.jsp" }).await;
            pass(1.0).await;
        }
        pass(600.0).await;
        assert_eq!(ids(&json(&mut operator, SESSIONS).await).len(), 0);
        let mut all = Vec::new();
        let mut target = format!("{SESSIONS}?state=ended&limit=8");
        loop {
            let page = json(&mut operator, &target).await;
            all.extend(page["sessions"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            target = format!("{SESSIONS}?state=ended&limit=8&cursor={next}");
        }
        assert_eq!(all.len(), 30);
        assert!(
            all.is_sorted_by(|later, earlier| later["ended_at"].as_str() >= earlier["ended_at"].as_str())
        );
        assert!(all.iter().all(|session| session["reason"] == "idle"));
        let in_b = json(&mut operator, &format!("{SESSIONS}?state=ended&app=appB")).await;
        assert_eq!(ids(&in_b).len(), 10);
        let one = format!("{SESSIONS}/{}", all[0]["id"].as_str().unwrap());
        assert_eq!(events(&json(&mut operator, &one).await, None).last().unwrap(), "ended");
        tokio::time::advance(Duration::from_secs(24 * 3600)).await;
        assert_eq!(operator.get(&one).await.status, 404);
        assert_eq!(ids(&json(&mut operator, &format!("{SESSIONS}?state=ended")).await).len(), 0);
    });
}

#[test]
fn s4_8_counts_are_the_apps_own() {
    run(async {
        let world = detecting(CROWD);
        let (mut operator, _drainer) = operator(&world);
        let mut people = Vec::new();
        for n in 0..14 {
            let mut browser = world.browser();
            browser.get("/AppA/index.jsp").await;
            browser.get("/AppA/index.jsp").await;
            if n % 3 == 0 {
                browser.get("/AppB/index.jsp").await;
            }
            people.push(browser);
        }
        // One never brings its cookie back: no heartbeats, so its session in AppA dies after 10 s.
        world.browser().get("/AppA/index.jsp").await;
        assert_eq!(counted(&mut operator, &world).await, [(15, 15), (5, 5)]);
        pass(30.0).await;
        assert_eq!(counted(&mut operator, &world).await, [(14, 14), (5, 5)]);
        people[0].get("/AppA/logout.jsp").await;
        let list = json(&mut operator, &format!("{SESSIONS}?app=appB")).await;
        assert_eq!(delete(&mut operator, &ids(&list)[0]).await.status, 200);
        // Whether the old sessions are gone was asked of each app twice: Tomcat begins an empty one for whoever asks, which
        // nobody uses.
        assert_eq!(counted(&mut operator, &world).await, [(12, 12 + 2), (3, 3 + 2)]);
        pass(330.0).await;
        assert_eq!(counted(&mut operator, &world).await, [(12, 12), (3, 3)]);
    });
}

/// Live sessions of AppA and AppB: as the API says, as the apps know.
async fn counted(operator: &mut Browser, world: &World) -> [(u64, u64); 2] {
    let apps = json(operator, "/api/v1/apps").await;
    ["appA", "appB"].map(|name| {
        let app = apps["apps"].as_array().unwrap().iter().find(|app| app["name"] == name).unwrap();
        let sim = world.app(name);
        let now = sim.now();
        let live = sim.with(|sim| sim.live_sessions(now));
        (app["sessions"]["live"].as_u64().unwrap(), live as u64)
    })
}

#[test]
fn apps_are_shown_as_configured() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        let apps = json(&mut operator, "/api/v1/apps").await;
        let app = &apps["apps"][0];
        assert_eq!((&app["name"], &app["mount"]), (&"appA".into(), &"/AppA/".into()));
        assert_eq!((&app["engine"], &app["timeout"]), (&"servlet".into(), &10.0.into()));
        let upstream = &app["upstreams"][0];
        assert_eq!((&upstream["state"], &upstream["circuit"]), (&"up".into(), &"closed".into()));
        assert_eq!((&upstream["in_flight"], &upstream["last_error"]), (&0.into(), &Value::Null));
        assert!(app["heartbeat"].as_str().unwrap().starts_with("/AppA/ping"), "{app}");
        assert_eq!(app["hosts"], serde_json::json!([]));
        assert_eq!(app["sessions"].as_object().unwrap().len(), 5, "each state has a number");
    });
}

#[test]
fn s4_10_starts_and_ends_are_the_apps_own() {
    run(async {
        let world = detecting("");
        let (mut operator, _drainer) = operator(&world);
        let mut people = Vec::new();
        for _ in 0..4 {
            people.push(person(&world).await);
        }
        people[0].get("/AppA/logout.jsp").await;
        people[1].own_post("/.bridge/logout").await;
        let id = ids(&json(&mut operator, SESSIONS).await).remove(0);
        assert_eq!(delete(&mut operator, &id).await.status, 200);
        let mut all = Vec::new();
        for target in [SESSIONS.to_owned(), format!("{SESSIONS}?state=ended")] {
            for id in ids(&json(&mut operator, &target).await) {
                all.push(json(&mut operator, &format!("{SESSIONS}/{id}")).await);
            }
        }
        assert_eq!(all.len(), 4);
        let mut reasons: Vec<&str> = all.iter().filter_map(|session| session["reason"].as_str()).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, ["app_logout", "operator", "user_logout"]);
        for (app, sim) in [("appA", "AppA"), ("appB", "AppB")] {
            let of = |word: &str| {
                all.iter()
                    .flat_map(|session| events(session, Some(app)))
                    .filter(|event| event == word)
                    .count()
            };
            let counts = world.app(sim).with(|sim| sim.counts());
            // Asked for the proof of a sign-out, Tomcat begins an empty session, which is nobody's.
            let proofs = world.seen(sim).into_iter().filter(|seen| {
                seen.fresh && seen.headers.get("x-session-heartbeat").is_some_and(|value| value == "proof")
            });
            let proofs = proofs.count();
            assert_eq!((of("sign_out_proven"), proofs), (3, 3), "{app}: every sign-out is proven");
            assert_eq!((of("token_learned") + proofs) as u64, counts.starts, "{app} starts");
            assert_eq!(of("token_rotated") as u64, counts.rotations, "{app} rotations");
            let ended = all.iter().filter(|session| events(session, None).contains(&"ended".to_owned()));
            let ended =
                ended.filter(|session| events(session, Some(app)).contains(&"token_learned".to_owned()));
            assert_eq!(ended.count() as u64, counts.logouts, "{app} ends");
        }
    });
}

#[test]
fn an_end_by_an_operator_signs_out_of_the_apps_and_closes_what_is_open() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        let mut browser = person(&world).await;
        let mut bystander = person(&world).await;
        let first = bystander.get("/AppA/index.jsp").await.started();
        let mut stream = web_socket(&browser, "/AppA/ws.jsp").await;
        let list = json(&mut operator, SESSIONS).await;
        let own =
            list["sessions"].as_array().unwrap().iter().find(|session| session["present"] == true).unwrap();
        let id = own["id"].as_str().unwrap().to_owned();
        let answer = delete(&mut operator, &id).await;
        let confirmed = serde_json::json!({"result": "confirmed", "proof": "dead"});
        assert_eq!(
            answer.json(),
            serde_json::json!({"id": &id, "state": "ended", "apps": {"appA": &confirmed, "appB": &confirmed}})
        );
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "what was open is closed");
        assert_eq!(rest.get(2..4), Some(&1008_u16.to_be_bytes()[..]), "policy violation: {rest:?}");
        for app in ["AppA", "AppB"] {
            assert_eq!(world.app(app).with(|sim| sim.counts()).logouts, 1, "{app}");
        }
        assert_eq!(delete(&mut operator, &id).await.status, 404, "it has ended");
        assert_eq!(json(&mut operator, &format!("{SESSIONS}/{id}")).await["reason"], "operator");
        browser.get("/AppA/index.jsp").await;
        assert_eq!(world.starts("AppA"), 4, "the person begins anew, and the proof began one that is empty");
        assert_eq!(bystander.get("/AppA/index.jsp").await.started(), first, "the other one does not");
        assert!(world.metrics().contains("sessionbridge_session_ends_total{reason=\"operator\"} 1"));
    });
}

#[test]
fn an_end_is_answered_when_an_app_does_not_answer() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        person(&world).await;
        world.app("AppA").with(|sim| sim.set_fault("logout", sessionbridge::demo::sim::Fault::Hang));
        let id = ids(&json(&mut operator, SESSIONS).await).remove(0);
        let answer = delete(&mut operator, &id).await.json();
        assert_eq!(answer["apps"]["appA"]["result"], "unconfirmed");
        assert_eq!(answer["apps"]["appB"]["result"], "confirmed");
    });
}

#[test]
fn what_is_asked_wrongly_is_refused_in_json() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        for (method, target, status, word) in [
            (Method::GET, "/api/v1/nothing", 404, "not_found"),
            (Method::GET, "/api/v1/sessions/", 404, "not_found"),
            (Method::GET, "/%3Cscript%3E", 404, "not_found"),
            (Method::POST, "/api/v1/sessions", 405, "method_not_allowed"),
            (Method::DELETE, "/healthz", 405, "method_not_allowed"),
            (Method::GET, "/api/v1/sessions/0000000000000000", 404, "not_found"),
            (Method::GET, "/api/v1/sessions/%22%0a", 404, "not_found"),
            (Method::DELETE, "/api/v1/sessions/0000000000000000", 404, "not_found"),
            (Method::GET, "/api/v1/sessions?limit=0", 400, "bad_request"),
            (Method::GET, "/api/v1/sessions?limit=1001", 400, "bad_request"),
            (Method::GET, "/api/v1/sessions?limit=many", 400, "bad_request"),
            (Method::GET, "/api/v1/sessions?cursor=x", 400, "bad_request"),
            (Method::GET, "/api/v1/sessions?state=odd", 400, "bad_request"),
            (Method::GET, "/api/v1/sessions?sate=bound", 400, "bad_request"),
            (Method::GET, "/api/v1/sessions?app=nobody", 400, "unknown_app"),
        ] {
            let answer = operator.send(method, target, &[], Bytes::new()).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (status, &word.into()), "{target}");
            assert!(answer.json()["message"].as_str().unwrap().len() > 10);
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert!(!answer.text().contains("script"));
            if status == 405 {
                assert!(answer.header("allow").unwrap().contains("GET"), "{target}");
            }
        }
    });
}

#[test]
fn a_token_opens_everything_but_the_probes_which_are_open() {
    run(async {
        let world = World::pair("servlet", "[admin]\ntoken = \"correct-horse\"");
        let (mut operator, _drainer) = operator(&world);
        "ops.example.org".clone_into(&mut operator.host);
        for target in
            ["/", "/metrics", SESSIONS, "/api/v1/apps", "/api/v1/sessions/0000000000000000", "/nothing"]
        {
            let answer = operator.get(target).await;
            assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, Some("Bearer")));
            let wrong = [("authorization", "Bearer correct-hors")];
            let answer = operator.send(Method::GET, target, &wrong, Bytes::new()).await;
            assert_eq!(answer.status, 401, "{target}");
        }
        assert_eq!(operator.get("/healthz").await.status, 200);
        operator.headers.insert("authorization", HeaderValue::from_static("Bearer correct-horse"));
        for target in ["/", "/metrics", SESSIONS, "/api/v1/apps"] {
            assert_eq!(operator.get(target).await.status, 200, "{target}");
        }
    });
}

#[test]
fn pages_of_other_sites_reach_nothing() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        person(&world).await;
        let id = ids(&json(&mut operator, SESSIONS).await).remove(0);
        let target = format!("{SESSIONS}/{id}");
        let rebound = [("host", "rebound.example:9190"), ("origin", "http://rebound.example:9190")];
        for (method, headers) in [
            (Method::GET, &rebound[..]),
            (Method::DELETE, &rebound[..1]),
            (Method::DELETE, &[("origin", "https://evil.example")]),
            (Method::DELETE, &[("origin", "null")]),
            (Method::DELETE, &[("sec-fetch-site", "cross-site")]),
            (Method::DELETE, &[("sec-fetch-site", "same-site")]),
            (
                Method::OPTIONS,
                &[("origin", "https://evil.example"), ("access-control-request-method", "DELETE")],
            ),
        ] {
            let answer = operator.send(method, &target, headers, Bytes::new()).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (403, &"forbidden".into()));
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
        assert_eq!(ids(&json(&mut operator, SESSIONS).await), [id.as_str()], "it lives");
        let own = [("origin", "http://127.0.0.1:9190"), ("sec-fetch-site", "same-origin")];
        assert_eq!(operator.send(Method::DELETE, &target, &own, Bytes::new()).await.status, 200);
    });
}

#[test]
fn s4_9_nothing_that_is_told_opens_a_session() {
    run(async {
        for profile in ["servlet", "acf-strict", "aspnet", "django"] {
            let world = World::pair(profile, "");
            let (mut operator, _drainer) = operator(&world);
            let page = super::support::extension(profile);
            let mut browsers = Vec::new();
            for user in ["alice", "bob"] {
                let mut browser = world.browser();
                for app in ["AppA", "AppB", "AppA"] {
                    browser.get(&format!("/{app}/index.{page}")).await;
                    browser
                        .post(&format!("/{app}/login.{page}"), &format!("user={user}&password=secret"))
                        .await;
                }
                browsers.push(browser);
            }
            pass(20.0).await;
            let mut secrets = secrets(&world, &browsers);
            assert!(secrets.len() >= 6, "{profile}: {}", secrets.len());
            let mut told = everything(&mut operator).await;
            secrets.extend(self::secrets(&world, &browsers));
            let ended = ids(&json(&mut operator, SESSIONS).await).remove(0);
            told += &delete(&mut operator, &ended).await.text();
            told += &everything(&mut operator).await;
            for secret in &secrets {
                assert!(!told.contains(secret.as_str()), "{profile}: a secret was told");
            }
            for id in ids(&json(&mut operator, SESSIONS).await) {
                let mut thief = world.browser();
                thief.plant("bridge", &id, "/");
                thief.plant("bridge", &format!("{id}000000"), "/");
                let status = thief.get("/.bridge/status").await;
                assert_eq!(status.json()["state"], "none", "{profile}");
            }
        }
    });
}

/// All values of eight characters and more that open something: in vaults and in browsers.
fn secrets(world: &World, browsers: &[Browser]) -> Vec<String> {
    let mut secrets = Vec::new();
    world.core.registry().each(|session, _| {
        for cookie in session.apps().flat_map(|app| app.vault().iter()) {
            secrets.push(String::from_utf8_lossy(cookie.value).into_owned());
        }
        true
    });
    secrets.extend(browsers.iter().flat_map(|browser| &browser.jar).map(|cookie| cookie.value.clone()));
    secrets.retain(|secret| secret.len() >= 8);
    secrets
}

/// All that the listener tells.
async fn everything(operator: &mut Browser) -> String {
    let mut targets: Vec<String> =
        ["/", "/metrics", "/healthz", "/readyz", "/api/v1/apps", "/nothing"].map(str::to_owned).into();
    for list in [SESSIONS.to_owned(), format!("{SESSIONS}?state=ended")] {
        let found = ids(&json(operator, &list).await);
        targets.extend(found.into_iter().map(|id| format!("{SESSIONS}/{id}")));
        targets.push(list);
    }
    let mut told = String::new();
    for target in targets {
        let answer = operator.get(&target).await;
        told += &format!("{:?} {}", answer.headers, answer.text());
    }
    told
}

#[test]
fn the_page_shows_everybody_and_runs_nothing() {
    run(async {
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        let mut browser = world.browser();
        let agent = "<script>alert(1)</script>\" onload=x Firefox";
        browser.headers.insert("user-agent", HeaderValue::from_static(agent));
        browser.get("/AppA/index.jsp?x=%3Cscript%3E").await;
        browser.get("/AppA/index.jsp").await;
        let id = ids(&json(&mut operator, SESSIONS).await).remove(0);
        let answer = operator.get("/").await;
        let page = answer.text();
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(page.contains(&id[..8]) && !page.contains(&id), "eight digits are enough");
        assert!(page.contains("appA") && page.contains("1 live") && page.contains("Firefox"));
        assert!(!page.to_lowercase().contains("script") && !page.contains("onload"));
        assert!(page.contains("http-equiv=refresh content=5") && page.contains("prefers-color-scheme:dark"));
    });
}

#[test]
fn a_look_at_one_session_and_its_end_leave_a_line_each() {
    run(async {
        let said = Said::listen();
        let world = World::pair("servlet", "");
        let (mut operator, _drainer) = operator(&world);
        person(&world).await;
        let id = ids(&json(&mut operator, SESSIONS).await).remove(0);
        json(&mut operator, &format!("{SESSIONS}/{id}")).await;
        operator.get(&format!("{SESSIONS}/%0a%e2%80%aeforged")).await;
        delete(&mut operator, &id).await;
        let text = said.text();
        let audit: Vec<&str> = text.lines().filter(|line| line.contains("audit")).collect();
        assert_eq!(audit.len(), 2, "{text}");
        assert!(audit[0].contains("session read") && audit[1].contains("ended by an operator"));
        assert!(audit.iter().all(|line| line.contains(&id) && line.contains("operator=local")));
        assert!(!text.contains("forged") && !text.contains('\u{202e}'));
    });
}

#[test]
fn a_drain_ends_the_listener() {
    run(async {
        let world = World::pair("servlet", "");
        let (listener, dialer) = memory();
        let (drainer, drain) = Drainer::new();
        let admin = world.core.admin().clone();
        let serving = tokio::task::spawn_local(async move { admin.serve(listener, drain).await });
        let mut operator = Browser::new(dialer.clone(), "localhost");
        assert_eq!(operator.get("/healthz").await.status, 200);
        let idle = dialer.connect().unwrap();
        pass(1.0).await;
        drainer.drain();
        serving.await.unwrap();
        assert!(dialer.connect().is_err());
        drop(idle);
    });
}

/// A WebSocket to an app; its head has come.
async fn web_socket(browser: &Browser, target: &str) -> tokio::io::DuplexStream {
    let mut stream = browser.connect();
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        browser.host,
        browser.cookies(target).unwrap(),
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}
