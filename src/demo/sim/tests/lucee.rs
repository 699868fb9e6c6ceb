//! Lucee, with CF sessions and with J2EE sessions.

use super::*;

const FOREIGN: &str = "0123abcd-0000-4000-8000-0123456789ab";

#[test]
fn cookies() {
    let set = Browser::new().get(&mut sim(Profile::Lucee), "index").set;
    let [cfid, cftoken] = &set[..] else { panic!("{set:?}") };
    assert!(cfid.starts_with("cfid=") && cfid.contains(";Path=/;Expires="));
    assert!(cfid.ends_with(";HttpOnly;SameSite=Lax") && !cfid.contains("; "));
    assert!(cftoken.starts_with("cftoken=0;Path=/"));
    assert!(ids::is_guid(cfid[5..].split(';').next().unwrap()));
    // T0 and 946,626,690 s.
    assert!(cfid.contains("Expires=Thu, 13-Nov-2053 06:04:50 UTC;"), "{cfid}");
    // 5.4 on Jetty knows no SameSite, and deletes in the way of its container.
    let options = SimOptions { jetty: true, ..SimOptions::new(Profile::Lucee, "AppA") };
    let mut ann = Browser::new();
    ann.plant("cfid", "123");
    ann.plant("cftoken", "45678901");
    let set = ann.get(&mut Sim::new(options), "index").set;
    assert_eq!(set[0], "cfid=; Path=/; Expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=0");
    assert!(set[2].ends_with(" UTC;HttpOnly"), "{set:?}");
}

#[test]
fn an_unknown_guid_is_adopted_with_any_token_and_no_cookie() {
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    ann.plant("CFID", FOREIGN);
    ann.plant("CFTOKEN", "anything");
    let got = ann.get(&mut app, "index");
    assert!(got.set.is_empty() && app.knows(FOREIGN));
    ann.plant("CFTOKEN", "777");
    assert_eq!(ann.get(&mut app, "index").json()["session"], got.json()["session"]);
    let reborn = ann.later(10).get(&mut app, "index");
    assert!(reborn.set.is_empty() && reborn.json()["fresh"] == true);
}

#[test]
fn half_a_pair_is_no_token() {
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    ann.plant("cfid", FOREIGN);
    assert_eq!(ann.get(&mut app, "index").set.len(), 2);
    assert!(!app.knows(FOREIGN));
}

#[test]
fn an_id_in_the_url_is_taken_only_if_it_lives_and_then_comes_as_cookies() {
    let (mut app, mut ann, mut eve) = (sim(Profile::Lucee), Browser::new(), Browser::new());
    let label = ann.get(&mut app, "index").json()["session"].clone();
    let url = format!("index?CFID={}&CFTOKEN=0", ann.cookie("cfid").unwrap());
    eve.get(&mut app, "index");
    let got = eve.get(&mut app, &url);
    assert_eq!(got.json()["session"], label);
    assert_eq!(eve.cookie("cfid"), ann.cookie("cfid"));
    let unknown = format!("index?CFID={FOREIGN}&CFTOKEN=0");
    let got = Browser::new().get(&mut app, &unknown);
    assert!(got.set.len() == 2 && !app.knows(FOREIGN));
    // With a cookie of one's own, an unknown id in the URL means nothing.
    assert!(eve.get(&mut app, &unknown).set.is_empty());
}

#[test]
fn ids_in_a_body_are_ignored() {
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    ann.get(&mut app, "index");
    let body = format!("cfid={}&cftoken=0", ann.cookie("cfid").unwrap());
    assert_eq!(Browser::new().post(&mut app, "index", &body).json()["fresh"], true);
}

#[test]
fn adobes_decimal_ids_are_deleted_and_then_replaced() {
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    ann.plant("cfid", "123");
    ann.plant("cftoken", "45678901");
    let set = ann.get(&mut app, "index").set;
    assert_eq!(set.len(), 4);
    assert_eq!(set[0], "cfid=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:10 GMT; Path=/");
    assert!(
        set[1].starts_with("cftoken=; Max-Age=0;")
            && set[2].starts_with("cfid=")
            && set[3].starts_with("cftoken=0")
    );
    assert!(ids::is_guid(ann.cookie("cfid").unwrap()));
    // The last of a name counts.
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    ann.plant("CFID", "123");
    ann.plant("cfid", FOREIGN);
    ann.plant("cftoken", "0");
    assert!(ann.get(&mut app, "index").set.is_empty() && app.knows(FOREIGN));
    // If that is none, all are deleted and the last good one is set anew.
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    ann.plant("cfid", FOREIGN);
    ann.plant("CFID", "123");
    ann.plant("cftoken", "0");
    let set = ann.get(&mut app, "index").set;
    let names: Vec<&str> = set.iter().map(|line| line.split(['=', ';']).next().unwrap()).collect();
    assert_eq!(names, ["cfid", "CFID", "cftoken", "cfid", "cftoken"]);
    assert!(app.knows(FOREIGN) && set[3].starts_with(&format!("cfid={FOREIGN};")));
}

#[test]
fn links_and_relocations() {
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    assert!(ann.get(&mut app, "links").body.contains("?CFID="));
    assert!(!ann.get(&mut app, "links").body.contains("CFID="));
    assert!(ann.get(&mut app, "relocate").header("location").ends_with("&CFTOKEN=0"));
    // Any cookie will do.
    let mut bob = Browser::new();
    bob.plant("cookies", "on");
    assert!(!bob.get(&mut app, "links").body.contains("CFID="));
}

#[test]
fn a_rotation_in_a_throws_the_person_out_of_b() {
    let options = SimOptions { rotate_on_login: true, ..SimOptions::new(Profile::Lucee, "AppA") };
    let (mut a, mut b, mut ann) = (Sim::new(options), second(Profile::Lucee), Browser::new());
    ann.get(&mut a, "set?k=v");
    ann.sign_in(&mut b);
    assert_eq!(ann.get(&mut b, "index").user().as_deref(), Some("ann"));
    assert_eq!(ann.sign_in(&mut a).set.len(), 2);
    assert_eq!(ann.get(&mut a, "index").json()["data"]["k"], "v");
    assert_eq!(ann.get(&mut b, "index").user(), None);
}

#[test]
fn invalidate_issues_at_once_and_the_old_id_is_adopted_again() {
    let (mut app, mut ann) = (sim(Profile::Lucee), Browser::new());
    ann.get(&mut app, "set?k=v");
    let old = ann.cookie("cfid").unwrap().to_owned();
    assert_eq!(ann.get(&mut app, "invalidate").set.len(), 2);
    assert!(!app.knows(&old) && app.knows(ann.cookie("cfid").unwrap()));
    ann.plant("cfid", &old);
    let again = ann.get(&mut app, "index");
    assert!(again.set.is_empty() && again.json()["data"] == serde_json::json!({}));
}

#[test]
fn jee_sets_jsessionid_and_a_pair() {
    let (mut app, mut ann) = (sim(Profile::LuceeJ2ee), Browser::new());
    let set = ann.get(&mut app, "index").set;
    assert!(set.len() == 3 && set[0].starts_with("JSESSIONID=") && set[1].starts_with("cfid="));
    // Unknown JSESSIONID: another one.
    ann.plant("JSESSIONID", "0123456789ABCDEF0123456789ABCDEF");
    let next = ann.get(&mut app, "index");
    assert!(next.set.len() == 1 && next.json()["fresh"] == true);
}

#[test]
fn jee_the_application_dies_inside_a_live_container_session() {
    let container = Container::default();
    let with = |name: &str, timeout| {
        let options = SimOptions::new(Profile::LuceeJ2ee, name).timeout_ms(timeout);
        Sim::new(SimOptions { container: Some(container.clone()), ..options })
    };
    let (mut a, mut b, mut ann) = (with("AppA", 10_000), with("AppB", 300_000), Browser::new());
    ann.get(&mut a, "index");
    let id = ann.cookie("JSESSIONID").unwrap().to_owned();
    for _ in 0..12 {
        ann.later(10).get(&mut b, "index");
    }
    let reborn = ann.get(&mut a, "index");
    assert!(reborn.set.is_empty() && reborn.json()["fresh"] == true);
    assert_eq!(ann.cookie("JSESSIONID"), Some(id.as_str()));
    // Alone, the container's session lasts a minute longer than the application's.
    let (mut alone, mut bob) = (sim(Profile::LuceeJ2ee), Browser::new());
    bob.get(&mut alone, "index");
    assert!(bob.later(69).get(&mut alone, "index").set.is_empty());
    assert!(!bob.later(70).get(&mut alone, "index").set.is_empty());
}

#[test]
fn jee_rotate_and_invalidate_change_cfid_only() {
    for page in ["rotate", "invalidate", "logout"] {
        let (mut app, mut ann) = (sim(Profile::LuceeJ2ee), Browser::new());
        ann.sign_in(&mut app);
        let (id, cfid) =
            (ann.cookie("JSESSIONID").unwrap().to_owned(), ann.cookie("cfid").unwrap().to_owned());
        ann.get(&mut app, page);
        assert_eq!(ann.cookie("JSESSIONID"), Some(id.as_str()));
        assert_ne!(ann.cookie("cfid"), Some(cfid.as_str()));
        assert_eq!(ann.get(&mut app, "index").user().as_deref(), Some("ann"), "{page}");
    }
}

#[test]
fn jee_path_ids_links_and_relocations() {
    let (mut app, mut ann) = (sim(Profile::LuceeJ2ee), Browser::new());
    let body = ann.get(&mut app, "links?json").json()["links"][0].as_str().unwrap().to_owned();
    let id = ann.cookie("JSESSIONID").unwrap().to_owned();
    assert_eq!(body, format!("/AppA/index.cfm;jsessionid={id}"));
    let resumed = Browser::new().get(&mut app, &body);
    assert_eq!(resumed.json()["fresh"], false);
    assert!(resumed.set[0].starts_with("cfid="), "{:?}", resumed.set);
    let location = ann.get(&mut app, "relocate").header("location").to_owned();
    assert!(
        location.starts_with("/AppA/index.cfm?CFID=") && location.ends_with(&format!("&jsessionid={id}"))
    );
}

#[test]
fn jee_on_jetty_a_relocation_without_cookies_has_the_id_in_the_path_too() {
    let with = |jetty| Sim::new(SimOptions { jetty, ..SimOptions::new(Profile::LuceeJ2ee, "AppA") });
    let mut jetty = with(true);
    let location = Browser::new().get(&mut jetty, "relocate").header("location").to_owned();
    assert!(location.starts_with("/AppA/index.cfm;jsessionid=node0"), "{location}");
    assert!(location.contains(".node0?CFID=") && location.contains("&jsessionid=node0"), "{location}");
    assert_eq!(Browser::new().get(&mut jetty, &location).json()["fresh"], false);
    let location = Browser::new().get(&mut with(false), "relocate").header("location").to_owned();
    assert!(location.starts_with("/AppA/index.cfm?CFID="), "{location}");
}

#[test]
fn jee_a_page_that_wants_no_session_keeps_the_container_alive_and_not_the_application() {
    let (mut app, mut ann) = (sim(Profile::LuceeJ2ee), Browser::new());
    ann.get(&mut app, "index");
    for _ in 0..10 {
        ann.later(9).get(&mut app, "notouch");
    }
    let reborn = ann.get(&mut app, "index");
    assert!(reborn.set.is_empty() && reborn.json()["fresh"] == true);
}
