//! Servlet containers, and the engine that complains once.

use super::*;

#[test]
fn the_cookie_of_tomcat_and_of_jetty() {
    let mut app = sim(Profile::Servlet);
    let mut ann = Browser::new();
    let set = ann.get(&mut app, "index").set;
    assert!(set.len() == 1 && set[0].ends_with("; Path=/AppA; HttpOnly"));
    assert_eq!(ann.cookie("JSESSIONID").unwrap().len(), 32);
    let mut app = Sim::new(SimOptions { jetty: true, ..SimOptions::new(Profile::Servlet, "AppA") });
    let got = Browser::new().get(&mut app, "index");
    assert!(
        got.set[0].starts_with("JSESSIONID=node0") && got.set[0].ends_with(".node0; Path=/AppA"),
        "{:?}",
        got.set
    );
    assert_eq!(got.header("expires"), "Thu, 01 Jan 1970 00:00:00 GMT");
}

#[test]
fn jetty_takes_an_id_without_its_suffix_and_answers_with_the_long_form() {
    let mut app = Sim::new(SimOptions { jetty: true, ..SimOptions::new(Profile::LuceeJ2ee, "AppA") });
    let mut ann = Browser::new();
    ann.get(&mut app, "index");
    let long = ann.cookie("JSESSIONID").unwrap().to_owned();
    ann.plant("JSESSIONID", long.strip_suffix(".node0").unwrap());
    let got = ann.get(&mut app, "index");
    assert_eq!((got.set.len(), got.json()["fresh"].as_bool()), (1, Some(false)));
    assert_eq!(ann.cookie("JSESSIONID"), Some(long.as_str()));
    // Tomcat compares the whole id.
    let mut app =
        Sim::new(SimOptions { route: Some("n1".to_owned()), ..SimOptions::new(Profile::Servlet, "AppA") });
    let mut ann = Browser::new();
    ann.get(&mut app, "index");
    let id = ann.cookie("JSESSIONID").unwrap().strip_suffix(".n1").unwrap().to_owned();
    let mut bob = Browser::new();
    bob.plant("JSESSIONID", &id);
    assert_eq!(bob.get(&mut app, "index").json()["fresh"], true);
}

#[test]
fn the_first_page_prints_ids_and_they_resume() {
    let (mut app, mut ann) = (sim(Profile::Servlet), Browser::new());
    let first = ann.get(&mut app, "links").json()["links"][0].as_str().unwrap().to_owned();
    assert_eq!(first, format!("/AppA/index.jsp;jsessionid={}", ann.cookie("JSESSIONID").unwrap()));
    assert_eq!(ann.get(&mut app, "links").json()["links"][0], "/AppA/index.jsp");
    let resumed = Browser::new().get(&mut app, &first);
    assert!(resumed.json()["fresh"] == false, "{}", resumed.body);
}

#[test]
fn a_cookie_hides_the_path_even_if_it_is_unknown() {
    let (mut app, mut ann, mut bob) = (sim(Profile::Servlet), Browser::new(), Browser::new());
    ann.get(&mut app, "index");
    let url = format!("index.jsp;jsessionid={}", ann.cookie("JSESSIONID").unwrap());
    bob.plant("JSESSIONID", "0123456789ABCDEF0123456789ABCDEF");
    assert_eq!(bob.get(&mut app, &url).json()["fresh"], true);
    assert_eq!(Browser::new().get(&mut app, &url).json()["fresh"], false);
}

#[test]
fn every_request_keeps_a_session_alive() {
    let (mut app, mut ann) = (sim(Profile::Servlet), Browser::new());
    ann.get(&mut app, "index");
    for page in ["notouch", "static.css", "notouch", "nowhere"] {
        ann.later(9).get(&mut app, page);
    }
    assert_eq!(ann.get(&mut app, "index").json()["fresh"], false);
    assert_eq!(ann.later(10).get(&mut app, "index").json()["fresh"], true);
}

#[test]
fn an_unknown_id_is_replaced() {
    let (mut app, mut ann) = (sim(Profile::Servlet), Browser::new());
    ann.plant("JSESSIONID", "0123456789ABCDEF0123456789ABCDEF");
    assert_eq!(ann.get(&mut app, "index").set.len(), 1);
    assert!(!app.knows("0123456789ABCDEF0123456789ABCDEF"));
}

#[test]
fn another_webapps_id_is_adopted_when_the_cookie_path_is_root() {
    let container = Container::default();
    let with = |name: &str, path: Option<&str>| {
        let cookie_path = path.map(ToOwned::to_owned);
        Sim::new(SimOptions {
            cookie_path,
            container: Some(container.clone()),
            ..SimOptions::new(Profile::Servlet, name)
        })
    };
    let (mut a, mut b, mut ann) = (with("AppA", Some("/")), with("AppB", Some("/")), Browser::new());
    ann.get(&mut a, "index");
    let id = ann.cookie("JSESSIONID").unwrap().to_owned();
    assert_eq!(ann.get(&mut b, "index").json()["fresh"], true);
    assert_eq!(ann.cookie("JSESSIONID"), Some(id.as_str()));
    assert!(a.knows(&id) && b.knows(&id));
    let mut c = with("AppC", None);
    ann.get(&mut c, "index");
    assert!(!c.knows(&id));
}

#[test]
fn own_paths_keep_two_webapps_apart() {
    assert!(survives_a_visit_to_b(Profile::Servlet));
}

#[test]
fn a_sign_in_changes_the_id_and_keeps_the_content() {
    let (mut app, mut ann) = (sim(Profile::Servlet), Browser::new());
    ann.get(&mut app, "set?k=v");
    let old = ann.cookie("JSESSIONID").unwrap().to_owned();
    ann.sign_in(&mut app);
    assert!(!app.knows(&old));
    let index = ann.get(&mut app, "index");
    assert_eq!((index.started(), index.json()["data"]["k"].as_str()), (T0, Some("v")));
}

#[test]
fn form_login_answers_200_renews_the_id_and_goes_where_she_wanted() {
    let (mut app, mut ann) = (sim(Profile::Servlet), Browser::new());
    ann.get(&mut app, "index");
    let old = ann.cookie("JSESSIONID").unwrap().to_owned();
    let got = ann.get(&mut app, "private");
    assert!(got.status == 200 && got.body.contains("type=\"password\""));
    assert!(!app.knows(&old) && got.set.len() == 1);
    assert_eq!(ann.sign_in(&mut app).header("location"), "/AppA/private.jsp");
    // Every other engine redirects.
    assert_eq!(Browser::new().get(&mut sim(Profile::AcfStrict), "private").status, 302);
}

#[test]
fn an_invalidated_session_is_complained_of_once() {
    for profile in [Profile::InvalidSession, Profile::Servlet] {
        let (mut app, mut ann) = (sim(profile), Browser::new());
        ann.get(&mut app, "index");
        let old = ann.cookie("JSESSIONID").unwrap().to_owned();
        ann.get(&mut app, "invalidate");
        assert_eq!(ann.get(&mut app, "notouch").status, 200);
        if profile == Profile::InvalidSession {
            let got = ann.get(&mut app, "index");
            assert!(got.status == 500 && got.body.contains("session is invalid") && got.set.is_empty());
        }
        assert_eq!(ann.get(&mut app, "index").status, 200);
        assert_ne!(ann.cookie("JSESSIONID"), Some(old.as_str()));
    }
}
