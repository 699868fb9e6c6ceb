//! Ids in URLs, through the bridge: what the observations 3, 5, 13 and 16 come to for a person, and for a stranger.

use super::{CF_ON_JETTY, CF_ON_TOMCAT, JEE_ON_JETTY, JEE_ON_TOMCAT, JETTY, TOMCAT};
use crate::support::{Bridge, Browser, Engine};
use crate::walks::{App, Person, Site, Way};

/// On both generations, with both kinds of session.
fn each(look: impl Fn(&'static Site, &Engine)) {
    for (site, engine) in [
        (&CF_ON_TOMCAT, &*TOMCAT),
        (&JEE_ON_TOMCAT, &*TOMCAT),
        (&CF_ON_JETTY, &*JETTY),
        (&JEE_ON_JETTY, &*JETTY),
    ] {
        // Shown by the test runner where the test fails.
        eprintln!("{}", site.name);
        look(site, engine);
    }
}

/// The id on which the session of this person hangs, as a URL carries it.
fn id(site: &Site, person: &Person<'_>, app: App) -> String {
    let cookies = person.token(app);
    let deciding = format!("{}=", site.tokens[0]);
    let value = cookies.split("; ").find_map(|pair| pair.strip_prefix(&*deciding));
    let value = value.unwrap_or_else(|| panic!("no {deciding} in {cookies}"));
    value.split('.').next().unwrap().to_owned()
}

/// A page's address with the id of a session in it.
fn with_id(site: &Site, url: &str, id: &str) -> String {
    if site.tokens[0] == "JSESSIONID" {
        format!("{url};jsessionid={id}")
    } else {
        format!("{url}?CFID={id}&CFTOKEN=0")
    }
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn relocations_and_links_through_the_bridge_carry_no_ids() {
    each(|site, engine| {
        let bridge = Bridge::start(site, engine, "");
        let person = Person::new(site, Way::Bridge(&bridge));
        // The very first request: the engine has seen no cookie of this person.
        let first = person.visit(App::A, "relocate?addtoken=true&user=ann");
        assert_eq!(first.url, person.url(App::A, "state"));
        assert_eq!(first.json()["user"], "ann", "signed in all the same");
        assert!(person.visit(App::A, "links").body.contains("href=\"state.cfm\""));
        let other = Person::new(site, Way::Bridge(&bridge));
        assert!(other.visit(App::A, "links").body.contains("href=\"state.cfm\""), "on the first page too");
        let id = id(site, &person, App::A);
        assert!(!person.browser.has_seen(&id) && !bridge.log().contains(&id));
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn a_link_with_the_urltoken_leads_on_and_takes_no_id_along() {
    each(|site, engine| {
        let bridge = Bridge::start(site, engine, "");
        let person = Person::new(site, Way::Bridge(&bridge));
        person.store(App::A, "note", "of_a");
        let page = person.visit(App::A, "handoff").body;
        let links: Vec<&str> =
            page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        let [own, other] = links[..] else { panic!("{page}") };
        assert!(other.contains("CFID="), "the app writes its ids by itself: {other}");
        let own = person.browser.visit(&person.url(App::A, "state").replace("state.cfm", own));
        assert_eq!(
            (own.url.contains('?'), &own.json()["data"]["note"]),
            (false, &"of_a".into()),
            "{}",
            own.url
        );
        let there = person.browser.visit(&bridge.at(other));
        assert!(!there.url.contains('?'), "{}", there.url);
        assert!(there.json()["data"]["note"].is_null());
        assert_ne!(id(site, &person, App::A), id(site, &person, App::B), "AppB has an id of its own");
        assert!(person.finds(App::A, "note", "of_a"));
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn an_id_in_a_link_opens_nothing_to_a_stranger() {
    each(|site, engine| {
        let bridge = Bridge::start(site, engine, "");
        let person = Person::new(site, Way::Bridge(&bridge));
        person.store(App::A, "note", "of_a");
        let id = id(site, &person, App::A);
        // Straight to the engine whoever has the link is in.
        let straight = with_id(site, &(engine.origin(App::A) + &site.page(App::A, "state")), &id);
        assert_eq!(Browser::bare(&straight, "", "").json()["data"]["note"], "of_a");
        let stranger = Browser::new().visit(&with_id(site, &person.url(App::A, "state"), &id));
        assert!(stranger.json()["data"]["note"].is_null(), "{}", stranger.body);
        assert_eq!(stranger.url, person.url(App::A, "state"), "and the address bar is clean");
        assert!(!bridge.log().contains(&id));
    });
}
