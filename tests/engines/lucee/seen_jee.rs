//! What Lucee does with J2EE sessions (`this.sessionType = "jee"`), seen on the live engine: as `seen_cf`.

use std::thread;
use std::time::Duration;

use super::{Lucee, guid, started};
use crate::support::{Answer, pause};

/// A J2EE session: the container's id as the cookie has it, and the pair that travels along.
struct Jee {
    id: String,
    pair: String,
}

impl Jee {
    fn begin(lucee: &Lucee) -> Self {
        Self::of(&lucee.ask("AppAJ/ping.cfm", ""))
    }

    fn of(answer: &Answer) -> Self {
        Self { id: answer.value_set("JSESSIONID"), pair: super::pair(&answer.value_set("cfid")) }
    }

    fn cookies(&self) -> String {
        format!("JSESSIONID={}; {}", self.id, self.pair)
    }

    /// The id without the name of the node.
    fn bare(&self) -> &str {
        self.id.split('.').next().unwrap()
    }
}

/// True where these cookies reach the session that knows `note`.
fn knows(lucee: &Lucee, cookies: &str) -> bool {
    lucee.ask("AppAJ/state.cfm", cookies).json()["data"]["note"] == "kept"
}

fn store(lucee: &Lucee, session: &Jee) {
    lucee.ask("AppAJ/data.cfm?key=note&value=kept", &session.cookies());
    assert!(knows(lucee, &session.cookies()));
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_10_jsessionid_decides_and_the_pair_travels_along() {
    Lucee::each(|lucee| {
        let first = lucee.ask("AppAJ/ping.cfm", "");
        assert_eq!(first.names_set(), ["JSESSIONID", "cfid", "cftoken"]);
        let session = Jee::of(&first);
        store(lucee, &session);
        assert!(
            knows(lucee, &format!("JSESSIONID={}; {}", session.id, super::pair(&guid()))),
            "any cfid will do"
        );
        let alone = lucee.ask("AppAJ/state.cfm", &format!("JSESSIONID={}", session.id));
        assert_eq!(alone.names_set(), ["cfid", "cftoken"], "a new pair");
        assert_eq!(alone.json()["data"]["note"], "kept", "of the same session");
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_11_an_app_can_die_inside_a_living_container_session() {
    Lucee::each(|lucee| {
        let stranger = format!("JSESSIONID=0123456789ABCDEF0123456789ABCDEF; {}", super::pair(&guid()));
        let unknown = lucee.ask("AppAJ/ping.cfm", &stranger);
        assert_eq!(unknown.names_set(), ["JSESSIONID"], "an unknown id is replaced, an unknown pair adopted");

        let session = Jee::begin(lucee);
        let before = lucee.started("AppAJ", &session.cookies());
        // The real timeout is the point: AppA's 10 s pass while AppB is busy.
        for _ in 0..4 {
            pause(Duration::from_secs(3));
            let b = lucee.ask("AppBJ/ping.cfm", &session.cookies());
            assert!(b.names_set().is_empty(), "the container's session lives");
        }
        let after = lucee.ask("AppAJ/ping.cfm", &session.cookies());
        assert!(after.names_set().is_empty(), "the same id, and nothing is set");
        assert_ne!(started(&after), before, "only the canary shows it");
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_12_neither_rotate_nor_invalidate_ends_it() {
    Lucee::each(|lucee| {
        for page in ["AppAJ/rotate.cfm", "AppAJ/invalidate.cfm"] {
            let session = Jee::begin(lucee);
            store(lucee, &session);
            let signed_in = lucee.post("AppAJ/login.cfm", &session.cookies(), "user=ann");
            assert_eq!(signed_in.status, 302);
            let answer = lucee.ask(page, &session.cookies());
            assert_eq!(answer.names_set(), ["cfid", "cftoken"], "{page}");
            for state in [answer, lucee.ask("AppAJ/state.cfm", &session.cookies())] {
                assert_eq!(state.json()["data"]["note"], "kept", "{page}");
                assert_eq!(state.json()["user"], "ann", "{page}");
            }
        }
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_13_the_id_in_the_path_resumes_the_session() {
    Lucee::each(|lucee| {
        let begun = lucee.ask("AppAJ/links.cfm", "");
        let session = Jee::of(&begun);
        let http_only = begun.set_cookies()[0].to_ascii_lowercase().contains("httponly");
        assert_eq!(http_only, lucee.is_6, "{:?}", begun.set_cookies());
        assert_eq!(session.id.ends_with(".node0"), !lucee.is_6);
        let printed = format!("href=\"state.cfm;jsessionid={}\">State<", session.bare());
        assert!(
            begun.body.contains(&printed),
            "URLSessionFormat: the path, without the node: {}",
            begun.body
        );

        store(lucee, &session);
        for spelling in [&*session.id, session.bare()] {
            let by_path = lucee.ask(&format!("AppAJ/state.cfm;jsessionid={spelling}"), "");
            assert_eq!(by_path.json()["data"]["note"], "kept", "{spelling}");
            let set = by_path.names_set();
            assert!(set.ends_with(&["cfid".to_owned(), "cftoken".to_owned()]), "a new pair: {set:?}");
        }
        let stranger = format!("JSESSIONID=0123456789ABCDEF0123456789ABCDEF; {}", session.pair);
        let hidden = lucee.ask(&format!("AppAJ/state.cfm;jsessionid={}", session.id), &stranger);
        assert!(hidden.json()["data"]["note"].is_null(), "a cookie hides the path, even one that is unknown");
        let shown = lucee.ask("AppAJ/id.cfm", &session.cookies()).json();
        assert_eq!(shown["id"], session.bare());
        let to =
            lucee.ask("AppAJ/relocate.cfm?addtoken=true", &session.cookies()).header("location").unwrap();
        assert_eq!(to, format!("state.cfm?{}&jsessionid={}", token(&session), session.bare()));
    });
}

/// The pair as a query has it.
fn token(session: &Jee) -> String {
    session.pair.replace("cfid", "CFID").replace("; cftoken", "&CFTOKEN")
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_14_a_page_that_fails_sends_its_first_half_and_500() {
    Lucee::each(|lucee| {
        for app in ["AppA", "AppAJ"] {
            let answer = lucee.ask(&format!("{app}/fail.cfm"), "");
            assert_eq!(answer.status, 500);
            assert!(answer.body.contains("<p>half 1</p>"), "{}", answer.body);
            assert!(!answer.body.contains("<p>half 2</p>"), "{}", answer.body);
        }
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_15_jetty_knows_an_id_by_what_stands_before_the_dot() {
    Lucee::each(|lucee| {
        let session = Jee::begin(lucee);
        store(lucee, &session);
        let other_node = format!("JSESSIONID={}.node7; {}", session.bare(), session.pair);
        if lucee.is_6 {
            // Tomcat without a jvmRoute: all of it is the id.
            assert!(!knows(lucee, &other_node));
            return;
        }
        let bare = format!("JSESSIONID={}; {}", session.bare(), session.pair);
        for cookies in [bare, other_node] {
            let answer = lucee.ask("AppAJ/state.cfm", &cookies);
            assert_eq!(answer.json()["data"]["note"], "kept", "the same session");
            assert_eq!(answer.names_set(), ["JSESSIONID"]);
            assert_eq!(answer.value_set("JSESSIONID"), session.id, "and the long form is set");
        }
    });
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_16_a_sign_in_without_cookies() {
    Lucee::each(|lucee| {
        // The tag: 5.4 puts the id into the path and the query, 6.2 into the query alone.
        let answer = lucee.ask("AppAJ/relocate.cfm?addtoken=true&user=ann", "");
        let to = answer.header("location").unwrap();
        assert!(to.contains("&jsessionid="), "{to}");
        assert_eq!(to.contains(";jsessionid="), !lucee.is_6, "{to}");
        let user = |to: &str| lucee.ask(&format!("AppAJ/{to}"), "").json()["user"].clone();
        if lucee.is_6 {
            assert!(user(&to).is_null(), "in the query it means nothing: signed out at once");
        } else {
            assert_eq!(user(&to), "ann", "there it holds");
        }
        let by_hand = format!("state.cfm?jsessionid={}", Jee::of(&answer).bare());
        assert!(user(&by_hand).is_null(), "a link with the query alone: {by_hand}");
        // The function `location()` of a script: both, on both.
        let answer = lucee.post("AppAJ/login.cfm?addtoken=true", "", "user=ann");
        let to = answer.header("location").unwrap();
        assert!(to.starts_with("index.cfm;jsessionid=") && to.contains("&jsessionid="), "{to}");
        assert_eq!(lucee.ask(&format!("AppAJ/{to}"), "").output("user"), "ann");
        both_apps_have_their_own_time(lucee);
    });
}

/// Apps in one context share the container's session, each with a timeout of its own: a heartbeat to one is none to the other.
fn both_apps_have_their_own_time(lucee: &Lucee) {
    let session = Jee::begin(lucee);
    let cookies = session.cookies();
    let (a, b) = (lucee.started("AppAJ", &cookies), lucee.started("AppBJ", &cookies));
    let idle = thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let session = Jee::begin(lucee);
            let before = lucee.started("AppAJ", &session.cookies());
            for _ in 0..4 {
                pause(Duration::from_secs(3));
                lucee.started("AppAJ", &session.cookies());
            }
            lucee.started("AppAJ", &session.cookies()) == before
        });
        pause(Duration::from_secs(12));
        busy.join().unwrap()
    });
    assert!(idle, "asked every 3 s AppA lives");
    assert_ne!(lucee.started("AppAJ", &cookies), a);
    assert_eq!(lucee.started("AppBJ", &cookies), b);
}

#[test]
#[ignore = "needs Lucee: tests/run"]
fn seen_17_struct_clear_keeps_the_form_token() {
    Lucee::each(|lucee| {
        let session = Jee::begin(lucee);
        store(lucee, &session);
        let token = || lucee.ask("AppAJ/csrf.cfm", &session.cookies()).json()["csrf"].clone();
        let before = token();
        let cleared = lucee.ask("AppAJ/clear.cfm", &session.cookies());
        assert!(cleared.json()["data"]["note"].is_null());
        assert_eq!(token(), before);
    });
}

/// S4-16: a CFML page and a JSP page of one web application see the same servlet session.
#[test]
#[ignore = "needs Lucee: tests/run"]
fn cfml_and_jsp_share_the_servlet_session() {
    Lucee::each(|lucee| {
        let session = Jee::begin(lucee);
        let ask = |page: &str| lucee.ask(page, &session.cookies()).json();
        ask("AppAJ/shared.cfm?value=by_cfml");
        let seen = ask("AppS/shared.jsp");
        assert_eq!((&seen["id"], &seen["shared"]), (&session.bare().into(), &"by_cfml".into()));
        ask("AppS/shared.jsp?value=by_jsp");
        assert_eq!(ask("AppAJ/shared.cfm")["shared"], "by_jsp");
    });
}
