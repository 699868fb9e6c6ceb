//! Apps that have one app session.

use super::support::scripted::{Say, Script};
use super::support::{World, pass, run};

#[test]
fn f17_two_routes_share_one_app_session_and_a_third_on_the_host_does_not() {
    run(async {
        let app = |id: char| {
            Script::new(move |parts| {
                let known = parts
                    .headers
                    .get("cookie")
                    .is_some_and(|line| line.to_str().unwrap().contains("JSESSIONID="));
                let set = format!("JSESSIONID={}; Path=/; HttpOnly", String::from(id).repeat(32));
                if known { Say::body("known") } else { Say::body("new").with("set-cookie", set) }
            })
        };
        let (cfml, jsp, apart) = (app('A'), app('B'), app('C'));
        let route = |name: &str, share: &str| {
            format!(
                "[apps.{name}]\npath = \"/{name}/\"\nupstreams = [\"http://{name}\"]\nsession.engine = \"servlet\"\nsession.timeout = \"30s\"\n\
                 {share}\nheartbeat.path = \"/{name}/ping\"\nheartbeat.jitter = \"0%\"\n"
            )
        };
        let config = [
            route("cfml", "session.share = \"context\""),
            route("jsp", "session.share = \"context\""),
            route("apart", ""),
        ];
        let scripts = [("cfml", cfml.clone()), ("jsp", jsp.clone()), ("apart", apart.clone())];
        let world = World::scripted(&config.concat(), scripts, []);
        let mut browser = world.browser();
        assert_eq!(browser.get("/cfml/").await.text(), "new");
        browser.get("/cfml/").await;
        pass(60.0).await;
        assert!(jsp.asked().is_empty(), "nobody has been there: it is not kept alive");
        assert_eq!(browser.get("/jsp/").await.text(), "known", "the session of the group");
        assert_eq!(browser.get("/apart/").await.text(), "new", "the third is apart");
        let shown = |script: &Script| script.asked().last().unwrap().header("cookie").to_owned();
        assert!(shown(&jsp).contains("AAAA") && shown(&cfml).contains("AAAA"));
        pass(25.0).await;
        assert!(!jsp.beats().is_empty() && !apart.beats().is_empty(), "each has heartbeats of its own");
        let beat = |script: &Script| script.beats().last().unwrap().header("cookie").to_owned();
        assert_eq!(beat(&jsp), beat(&cfml));
        assert!(beat(&apart).contains("CCCC") && !beat(&apart).contains("AAAA"));
    });
}
