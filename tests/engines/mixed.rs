//! One person in four engines through one bridge: Lucee, Tomcat, PHP and ASP.NET, an app of each, mounted below a prefix
//! that the engine does not see (`strip_path`).
//!
//! All cookies are at one host; an app that is not visited for longer than its timeout is what the bridge is for.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Answer, Bridge, Browser, Engine, events, pause, wait_until};
use crate::walks::{App, Person, Site, Way, borrowed, hidden_fields, straight_to};
use crate::{aspnet, lucee, php, tomcat};

/// One app of the group: AppA of its engine.
#[derive(Clone, Copy)]
struct Member<'a> {
    /// Name in the config, and the public prefix.
    name: &'static str,
    site: &'static Site,
    engine: &'a Engine,
}

fn php_on(engine: &Engine) -> Member<'_> {
    Member { name: "php", site: &php::SITE, engine }
}

/// The four, started at once: most of that is waiting.
fn members() -> [Member<'static>; 4] {
    thread::scope(|scope| {
        let lucee = scope.spawn(|| &*lucee::TOMCAT);
        let tomcat = scope.spawn(|| &*tomcat::TOMCAT);
        let php = scope.spawn(|| &*php::PHP);
        let aspnet = scope.spawn(|| &*aspnet::MONO);
        [
            Member { name: "lucee", site: &lucee::CF_ON_TOMCAT, engine: lucee.join().unwrap() },
            Member { name: "tomcat", site: &tomcat::SITE, engine: tomcat.join().unwrap() },
            php_on(php.join().unwrap()),
            Member { name: "aspnet", site: &aspnet::SITE, engine: aspnet.join().unwrap() },
        ]
    })
}

impl Member<'_> {
    /// Public path of a page.
    fn path(&self, page: &str) -> String {
        format!("/{}{}", self.name, self.site.page(App::A, page))
    }

    /// Its table in the config.
    fn table(&self) -> String {
        let (name, logout) = (self.name, self.path("logout"));
        format!(
            "[apps.{name}]\npath = \"/{name}/\"\nstrip_path = true\nupstreams = [\"{}\"]\nsession.engine = \"{}\"\n\
             session.timeout = \"{}s\"\nheartbeat.path = \"{}\"\nheartbeat.canary = {{ json = \"started\" }}\n\
             sign_out.request = \"GET {logout}\"\nsign_out.detect = [\"GET {logout}*\"]\nsign_out.login = [\"{}*\"]\n{}\n",
            self.engine.origin(App::A),
            self.site.engine,
            self.site.timeouts[0],
            self.path("ping"),
            self.path("login"),
            self.site.config,
        )
    }

    /// What the engine says of whoever has this Cookie header.
    fn user_of(&self, token: &str) -> Value {
        straight_to(self.site, self.engine, App::A, "state", token).json()["user"].clone()
    }
}

/// In front of all of them.
fn bridge(members: &[Member<'_>], more: &str) -> Bridge {
    let tables: String = members.iter().map(Member::table).collect();
    Bridge::run(&format!("{more}\n{tables}"))
}

/// A person in all of them.
struct Visitor<'a> {
    browser: Browser,
    bridge: &'a Bridge,
}

impl<'a> Visitor<'a> {
    /// Signed in everywhere.
    fn signed_in(bridge: &'a Bridge, members: &[Member<'_>]) -> Self {
        let visitor = Self { browser: Browser::new(), bridge };
        for member in members {
            let page = visitor.visit(member, "login");
            let mut form = hidden_fields(&page.body);
            form.extend([
                ("user".to_owned(), "ann".to_owned()),
                ("password".to_owned(), "secret".to_owned()),
            ]);
            let index = visitor.browser.submit(&page.url, &borrowed(&form));
            assert_eq!(
                (index.output("user"), index.url),
                ("ann".to_owned(), bridge.at(&member.path("index")))
            );
        }
        visitor
    }

    fn visit(&self, member: &Member<'_>, page: &str) -> Answer {
        let answer = self.browser.visit(&self.bridge.at(&member.path(page)));
        assert_eq!(answer.status, 200, "{} {}", answer.url, answer.body);
        answer
    }

    fn state(&self, member: &Member<'_>) -> Value {
        self.visit(member, "state").json()
    }

    /// The Cookie header with which the engine knows this person now.
    fn token(&self, member: &Member<'_>) -> String {
        let answer = self.browser.twin().get(&self.bridge.at(&member.path("id")));
        answer.json()["cookie"].as_str().unwrap().to_owned()
    }
}

#[test]
#[ignore = "needs Lucee, Tomcat, PHP, ASP.NET: tests/run"]
fn a_long_stay_in_one_of_four() {
    let members = members();
    let bridge = bridge(&members, "");
    let visitor = Visitor::signed_in(&bridge, &members);
    let [lucee, tomcat, php, aspnet] = &members;
    let away = [lucee, tomcat, aspnet];
    let alone = away.map(|member| {
        let person = Person::new(member.site, Way::Plain(member.engine));
        person.sign_in(App::A, "ann");
        person
    });
    let before = members.each_ref().map(|member| visitor.state(member));
    // Real time: past the 10 s of Lucee and Tomcat, and past the minute of an ASP.NET ticket.
    for _ in 0..75 {
        assert_eq!(visitor.state(php)["user"], "ann");
        pause(Duration::from_secs(1));
    }
    for (member, before) in members.iter().zip(&before) {
        let after = visitor.state(member);
        assert_eq!(
            (&after["started"], &after["user"]),
            (&before["started"], &Value::from("ann")),
            "{}: {:#?}",
            member.name,
            bridge.timeline()
        );
    }
    for (person, member) in alone.iter().zip(away) {
        assert_eq!(person.state(App::A)["user"], Value::Null, "{} without the bridge", member.name);
    }
    let cookies = visitor.browser.cookies(&bridge.at("/"));
    assert_eq!(cookies.split("; ").count(), 1, "one cookie, the bridge's own: {cookies}");
}

#[test]
#[ignore = "needs Lucee, Tomcat, PHP, ASP.NET: tests/run"]
fn a_sign_out_of_any_ends_all() {
    let members = members();
    let bridge = bridge(&members, "");
    for leaver in &members {
        let visitor = Visitor::signed_in(&bridge, &members);
        let tokens = members.each_ref().map(|member| visitor.token(member));
        for (member, token) in members.iter().zip(&tokens) {
            assert_eq!(member.user_of(token), "ann", "the token of {} is good", member.name);
            let secret = token.rsplit('=').next().unwrap();
            assert!(
                secret.len() < 8 || !visitor.browser.has_seen(secret),
                "{} has shown its token",
                member.name
            );
        }
        let old = visitor.browser.twin();
        visitor.browser.visit(&bridge.at(&leaver.path("logout")));
        for (member, token) in members.iter().zip(&tokens) {
            wait_until(&format!("the old token of {} to be dead after {}", member.name, leaver.name), || {
                member.user_of(token).is_null()
            });
        }
        assert_eq!(bridge.status(&old)["state"], "none", "the old bridge cookie opens nothing");
        // What each app said of its sign-out comes behind the end, in the order of their answers.
        let others = || members.iter().filter(|member| member.name != leaver.name);
        wait_until("all apps' words", || {
            let story = events(&bridge.ended_session());
            others().all(|member| story.contains(&format!("{} sign_out_confirmed", member.name)))
        });
        let story = events(&bridge.ended_session());
        let end = story.iter().position(|event| event == "- ended app_logout").unwrap();
        assert_eq!(story[end - 1], format!("{} sign_out", leaver.name), "{story:#?}");
        assert!(story[end + 1..].iter().all(|event| event.contains(" sign_out_")), "{story:#?}");
        assert!(!story.iter().any(|event| event.ends_with("still_alive")), "{story:#?}");
    }
}

#[test]
#[ignore = "needs Lucee, Tomcat, PHP, ASP.NET: tests/run"]
fn an_engine_that_falls_takes_no_other_with_it() {
    let [lucee, tomcat, _, aspnet] = members();
    let mut fallen = Engine::start(&php::SITE);
    let all = [lucee, tomcat, php_on(&fallen), aspnet];
    let bridge = bridge(&all, "heartbeat.every = \"1s\"");
    let visitor = Visitor::signed_in(&bridge, &all);
    let others = [lucee, tomcat, aspnet];
    let before = others.each_ref().map(|member| visitor.state(member)["started"].clone());
    let says = |verdict: &str| {
        wait_until(&format!("php to be {verdict}"), || bridge.state(&visitor.browser, "php") == verdict);
    };
    // The canary is known from the first heartbeat on.
    wait_until("a heartbeat", || bridge.timeline().contains(&"php heartbeat alive".to_owned()));
    fallen.stop();
    says("unreachable");
    fallen.restart();
    // It adopts ids: only the canary shows that the session is another one.
    says("reborn");
    for (member, before) in others.iter().zip(&before) {
        let after = visitor.state(member);
        assert_eq!((&after["started"], &after["user"]), (before, &Value::from("ann")), "{}", member.name);
        assert_eq!(bridge.state(&visitor.browser, member.name), "live");
    }
    assert_eq!(visitor.state(&php_on(&fallen))["user"], Value::Null, "there a new session has begun");
}
