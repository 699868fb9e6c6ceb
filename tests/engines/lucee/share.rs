//! S4-16, F17: CFML and JSP pages of one web application live on one JSESSIONID. As two apps of the bridge they share it, while
//! a third app of the same container stays apart.

use std::time::Duration;

use super::Lucee;
use crate::support::{Bridge, Browser, pause};
use crate::walks::App;

/// A table of the config; the pages of all three are the suite's own.
fn route(origin: &str, folder: &str, extension: &str, more: &str) -> String {
    format!(
        "[apps.{folder}]\npath = \"/{folder}/\"\nupstreams = [\"{origin}\"]\n{more}\n\
         heartbeat.path = \"/{folder}/ping.{extension}\"\nheartbeat.canary = {{ json = \"started\" }}\n"
    )
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn s4_16_cfml_and_jsp_share_one_session_and_a_third_app_does_not() {
    Lucee::each(|lucee| {
        let origin = lucee.engine.origin(App::A);
        let cfml = "session = { engine = \"lucee\", type = \"j2ee\", timeout = \"10s\"";
        let config = [
            route(&origin, "AppAJ", "cfm", &format!("{cfml}, share = \"context\" }}")),
            route(
                &origin,
                "AppS",
                "jsp",
                "session = { engine = \"servlet\", timeout = \"1m\", share = \"context\" }",
            ),
            route(&origin, "AppBJ", "cfm", &format!("{cfml} }}")),
        ];
        let bridge = Bridge::run(&config.concat());
        let person = Browser::new();
        let visit = |page: &str| person.visit(&bridge.at(&format!("/{page}")));
        let ask = |page: &str| visit(page).json();

        let cfml_started = visit("AppAJ/index.cfm").output("started");
        ask("AppAJ/shared.cfm?value=by_cfml");
        let seen = ask("AppS/shared.jsp");
        assert_eq!(seen["shared"], "by_cfml", "the JSP page finds what the CFML page has stored");
        let id = seen["id"].clone();
        ask("AppS/shared.jsp?value=by_jsp");
        let seen = ask("AppAJ/shared.cfm");
        assert_eq!((&seen["shared"], &seen["id"]), (&"by_jsp".into(), &id));
        let jsp_started = ask("AppS/state.jsp")["started"].clone();
        let apart = ask("AppBJ/shared.cfm");
        assert!(
            apart["id"] != id && apart["shared"].is_null(),
            "the third has a session of its own: {apart}"
        );

        // The real timeout is the point: the CFML application's 10 s pass twice while the person is in the third app.
        for _ in 0..22 {
            pause(Duration::from_secs(1));
            assert_eq!(ask("AppBJ/shared.cfm")["id"], apart["id"]);
        }
        assert_eq!(visit("AppAJ/index.cfm").output("started"), cfml_started, "{:#?}", bridge.timeline());
        assert_eq!(ask("AppS/state.jsp")["started"], jsp_started);
        assert_eq!(ask("AppAJ/shared.cfm")["shared"], "by_jsp");
    });
}
