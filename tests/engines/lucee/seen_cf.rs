//! What Lucee does with CF sessions, seen on the live engine. Each test is one observation that the preset, the verdicts and the
//! simulator rest on; where the generations differ it says so.

use std::thread;
use std::time::Duration;

use super::{CF_ON_JETTY, CF_ON_TOMCAT, Lucee, guid, pair, started};
use crate::support::pause;
use crate::walks::{App, Person, Way};

/// AppA's sessions live 10 s: what is dead for certain, and what is not yet.
const DEAD: Duration = Duration::from_secs(12);
const ALIVE: Duration = Duration::from_secs(6);

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_01_unknown_and_expired_ids_are_adopted_silently() {
    Lucee::each(|lucee| {
        let id = guid();
        let first = lucee.ask("AppA/id.cfm", &pair(&id));
        assert!(first.names_set().is_empty(), "{:?}", first.set_cookies());
        assert_eq!(first.json()["id"], format!("AppA_{id}_0"));
        let before = lucee.started("AppA", &pair(&id));
        let renewed = guid();
        let began = lucee.started("AppA", &pair(&renewed));
        // The real timeout is the point.
        pause(ALIVE);
        assert_eq!(lucee.started("AppA", &pair(&renewed)), began, "alive at 6 s of 10");
        pause(DEAD - ALIVE);
        let after = lucee.ask("AppA/ping.cfm", &pair(&id));
        assert!(after.names_set().is_empty(), "{:?}", after.set_cookies());
        assert_ne!(started(&after), before, "dead, and only the canary shows it");
        assert_eq!(lucee.started("AppA", &pair(&renewed)), began, "a request begins the time anew");
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_02_the_session_is_found_by_cfid_alone() {
    Lucee::each(|lucee| {
        let id = guid();
        let before = lucee.started("AppA", &pair(&id));
        let other = format!("cfid={id}; cftoken=777");
        assert_eq!(lucee.started("AppA", &other), before);
        assert_eq!(lucee.ask("AppA/id.cfm", &other).json()["cftoken"], "777");
        let half = lucee.ask("AppA/ping.cfm", &format!("cfid={id}"));
        assert_eq!(half.names_set(), ["cfid", "cftoken"]);
        assert_ne!(half.value_set("cfid"), id);
        assert_ne!(started(&half), before, "half a pair is none");
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_03_an_id_in_the_url_is_taken_only_if_it_lives() {
    Lucee::each(|lucee| {
        let (id, mine) = (guid(), guid());
        let link = format!("AppA/ping.cfm?CFID={id}&CFTOKEN=0");
        let unknown = lucee.ask(&link, "");
        assert_eq!(unknown.names_set(), ["cfid", "cftoken"]);
        assert_ne!(unknown.value_set("cfid"), id, "an unknown one is not");
        let before = lucee.started("AppA", &pair(&id));
        lucee.started("AppA", &pair(&mine));
        for cookies in [String::new(), pair(&mine)] {
            let followed = lucee.ask(&link, &cookies);
            assert_eq!(started(&followed), before, "whoever follows a leaked link is in");
            assert_eq!(followed.value_set("cfid"), id, "and gets the pair as cookies");
            assert!(followed.set_cookies().iter().all(|line| line.contains(";Path=/;")));
        }
        let elsewhere = lucee.ask(&link.replace("AppA", "AppB"), "");
        assert_ne!(elsewhere.value_set("cfid"), id, "another app does not know it");
        let body = lucee.post("AppA/ping.cfm", "", &format!("CFID={id}&CFTOKEN=0"));
        assert_ne!(started(&body), before, "ids in a body are ignored");
        assert_ne!(body.value_set("cfid"), id);
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_04_decimal_ids_are_deleted_and_set_in_one_answer() {
    Lucee::each(|lucee| {
        let answer = lucee.ask("AppA/ping.cfm", "cfid=4711; cftoken=81726354");
        assert_eq!(answer.names_set(), ["-cfid", "-cftoken", "cfid", "cftoken"]);
        assert_eq!(answer.value_set("cfid").len(), 36, "the last of a name wins");
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_05_where_tokens_are_printed() {
    Lucee::each(|lucee| {
        let bare = lucee.ask("AppA/links.cfm", "");
        let token = format!("CFID={}&CFTOKEN=0", bare.value_set("cfid"));
        assert!(bare.body.contains(&format!("href=\"state.cfm?{token}\">State<")), "{}", bare.body);
        let with_any = lucee.ask("AppA/links.cfm", "cookies=on");
        assert!(with_any.body.contains("href=\"state.cfm\">State<"), "{}", with_any.body);

        let id = guid();
        for cookies in [String::new(), pair(&id)] {
            let answer = lucee.ask("AppA/relocate.cfm?addtoken=true", &cookies);
            let id = if cookies.is_empty() { answer.value_set("cfid") } else { id.clone() };
            assert_eq!(answer.header("location").unwrap(), format!("state.cfm?CFID={id}&CFTOKEN=0"));
            let clean = lucee.ask("AppA/relocate.cfm?addtoken=false", &cookies);
            assert_eq!(clean.header("location").unwrap(), "state.cfm");
        }
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_06_a_rotation_in_one_app_throws_the_person_out_of_the_other() {
    Lucee::each(|lucee| {
        let id = guid();
        lucee.ask("AppA/data.cfm?key=note&value=kept", &pair(&id));
        let rotated = lucee.ask("AppA/rotate.cfm", &pair(&id));
        assert_eq!(rotated.names_set(), ["cfid", "cftoken"]);
        assert_ne!(rotated.value_set("cfid"), id);
        assert_eq!(rotated.json()["data"]["note"], "kept");
        let old = lucee.ask("AppA/state.cfm", &pair(&id));
        assert!(old.json()["data"]["note"].is_null(), "the old id is an empty session");

        // Two apps, one jar: both hang on one pair.
        let site = if lucee.is_6 { &CF_ON_TOMCAT } else { &CF_ON_JETTY };
        let person = Person::new(site, Way::Plain(lucee.engine));
        person.store(App::A, "note", "of_a");
        person.store(App::B, "note", "of_b");
        person.sign_in(App::A, "ann");
        assert!(person.finds(App::A, "note", "of_a"));
        assert!(!person.finds(App::B, "note", "of_b"), "AppB's key was the same pair");
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_07_invalidate_issues_a_new_pair_at_once() {
    Lucee::each(|lucee| {
        let id = guid();
        let before = lucee.started("AppA", &pair(&id));
        let answer = lucee.ask("AppA/invalidate.cfm", &pair(&id));
        assert_eq!(answer.names_set(), ["cfid", "cftoken"]);
        assert_ne!(answer.value_set("cfid"), id);
        assert_ne!(started(&answer), before, "the session of the same request is new");
        let again = lucee.ask("AppA/ping.cfm", &pair(&id));
        assert!(again.names_set().is_empty(), "the old id is adopted");
        assert_ne!(started(&again), before, "as an empty session");
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_08_a_page_that_never_mentions_the_session_keeps_nobody_alive() {
    Lucee::each(|lucee| {
        let survives = |app: &str, page: &str| {
            let first = lucee.ask(&format!("{app}/ping.cfm"), "");
            let cookies: Vec<String> =
                first.names_set().iter().map(|name| format!("{name}={}", first.value_set(name))).collect();
            // The real timeout is the point.
            for _ in 0..4 {
                pause(DEAD / 4);
                assert_eq!(lucee.ask(&format!("{app}/{page}.cfm"), &cookies.join("; ")).status, 200);
            }
            lucee.started(app, &cookies.join("; ")) == started(&first)
        };
        thread::scope(|scope| {
            let all = [("AppA", "ping"), ("AppA", "quiet"), ("AppAJ", "ping"), ("AppAJ", "quiet")];
            let walks = all.map(|(app, page)| (app, page, scope.spawn(move || survives(app, page))));
            for (app, page, walk) in walks {
                // On J2EE sessions the container's own lives on, the application's does not.
                assert_eq!(walk.join().unwrap(), page == "ping", "{app} {page}");
            }
        });
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_09_how_cookies_are_written() {
    Lucee::each(|lucee| {
        let fresh = lucee.ask("AppA/ping.cfm", "").set_cookies();
        let shape = |line: &str| {
            let (pair, rest) = line.split_once(";Path=/;Expires=").unwrap();
            let (date, rest) = rest.split_once(';').unwrap();
            (pair.split('=').next().unwrap().to_owned(), date.to_owned(), rest.to_owned())
        };
        let (name, date, rest) = shape(&fresh[0]);
        assert_eq!(name, "cfid");
        assert_eq!(rest, if lucee.is_6 { "HttpOnly;SameSite=Lax" } else { "HttpOnly" });
        // `Tue, 21-Nov-2056 04:34:05 UTC`: about 30 years.
        let year = date.rsplit('-').next().unwrap().split(' ').next().unwrap();
        let this = jiff::Timestamp::now().to_string()[..4].parse::<u32>().unwrap();
        assert!((29..=31).contains(&(year.parse::<u32>().unwrap() - this)), "{date}");
        assert!(date.ends_with(" UTC"), "{date}");

        let deleting = lucee.ask("AppA/ping.cfm", "cfid=4711; cftoken=81726354");
        let expected = if lucee.is_6 {
            "cfid=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:10 GMT; Path=/"
        } else {
            "cfid=; Path=/; Expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=0"
        };
        assert_eq!(deleting.set_cookies()[0], expected);
        // Jetty adds a header to what the container itself sets; Lucee writes its own lines by hand.
        let expires = deleting.header("expires");
        assert_eq!(expires.as_deref(), (!lucee.is_6).then_some("Thu, 01 Jan 1970 00:00:00 GMT"));
    });
}
