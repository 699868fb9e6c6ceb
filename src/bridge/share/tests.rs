use http::Method;
use smallvec::smallvec;

use super::*;
use crate::bridge::answer::{self, Answer};
use crate::bridge::app_session::{Edit, Sent};
use crate::bridge::id::Handle;
use crate::bridge::rules::Engine;
use crate::bridge::session::End;
use crate::bridge::sign_out::Asked;
use crate::bridge::testing::{app, at, held, pair, sent, token};

/// CFML at /AppA/ (its tokens: JSESSIONID, the pair) and JSP at /AppB/ (JSESSIONID) share; PHP at /AppC/ does not.
fn group() -> [AppRules; 3] {
    let mut rules = [
        app(Engine::Lucee, "appA", "/AppA/"),
        app(Engine::Servlet, "appB", "/AppB/"),
        app(Engine::Php, "appC", "/AppC/"),
    ];
    let share = |with, path: &str| Share {
        with: AppIx(with),
        tokens: smallvec![(0, 0)],
        path: path.into(),
        same_servers: true,
    };
    rules[0].session.as_mut().unwrap().shares.push(share(1, "/AppB/"));
    rules[1].session.as_mut().unwrap().shares.push(share(0, "/AppA/"));
    rules
}

fn session() -> Session {
    let mut session = Session::new(Handle(1), at(0));
    session.bind(at(0));
    session
}

fn said(session: &mut Session, rules: &AppRules, sent: Sent, edits: &[Edit<'_>]) -> answer::Effect {
    let method = if sent.unsafe_method { Method::POST } else { Method::GET };
    let asked = Asked { method: &method, path: "/x", query: None };
    answer::apply(session, rules, &Answer { sent, status: 200, edits, asked, form: false, now: at(9) })
}

/// The token that the apps share.
fn id(value: Option<&str>) -> Edit<'_> {
    Edit { name: b"JSESSIONID", ..token(0, 0, 1, value) }
}

fn of(session: &Session, app: u16) -> Vec<String> {
    session.app(AppIx(app)).map(held).unwrap_or_default()
}

#[test]
fn one_app_is_given_a_token_and_the_group_holds_it() {
    let [cfml, jsp, _] = group();
    let mut session = session();
    let mut edits = vec![id(Some("J1"))];
    edits.extend(pair("1", "a").map(|edit| Edit { role: second(edit.role), ..edit }));
    said(&mut session, &cfml, sent(0, 1, false), &edits);
    assert_eq!(of(&session, 0), ["JSESSIONID=J1", "CFID=1", "CFTOKEN=a"]);
    assert_eq!(of(&session, 1), ["JSESSIONID=J1"], "what both have, and nothing else");
    assert!(of(&session, 2).is_empty(), "the third is apart");
    assert_eq!(session.apps().count(), 1, "a lent token is no session of the person's");
    let lent = session.app_mut(jsp.app).unwrap();
    assert!(!answer::should_arm(lent), "nobody keeps alive what nobody uses");
    let now = lent.sent(at(10), false);
    let effect = said(&mut session, &jsp, now, &[]);
    assert!(effect.arm, "from the first visit on it has heartbeats of its own");
    assert_eq!(session.apps().count(), 2);
}

fn second(role: crate::bridge::vault::Role) -> crate::bridge::vault::Role {
    use crate::bridge::vault::Role;
    match role {
        Role::Token { part, .. } => Role::Token { token: 1, part },
        Role::Plain => Role::Plain,
    }
}

#[test]
fn an_answer_that_another_apps_answer_has_overtaken_is_stale() {
    let [cfml, jsp, _] = group();
    let mut session = session();
    said(&mut session, &cfml, sent(0, 1, false), &[id(Some("J1"))]);
    let at_jsp = session.app(jsp.app).unwrap().sent(at(2), false);
    let sign_in = session.app(cfml.app).unwrap().sent(at(3), true);
    said(&mut session, &cfml, sign_in, &[id(Some("J2"))]);
    let late = said(&mut session, &jsp, at_jsp, &[id(Some("J3"))]);
    assert!(late.learned.stale, "a page that was sent with J1 does not replace the sign-in's J2");
    assert_eq!(
        (of(&session, 0), of(&session, 1)),
        (vec!["JSESSIONID=J2".to_owned()], vec!["JSESSIONID=J2".to_owned()])
    );
}

#[test]
fn of_two_first_visits_at_once_the_later_one_wins_in_either_order() {
    for turned in [false, true] {
        let [cfml, jsp, _] = group();
        let mut session = session();
        let mut answers = [(&cfml, sent(0, 1, false), "J1"), (&jsp, sent(0, 2, false), "J2")];
        if turned {
            answers.reverse();
        }
        for (rules, sent, value) in answers {
            said(&mut session, rules, sent, &[id(Some(value))]);
        }
        assert_eq!(
            (of(&session, 0), of(&session, 1)),
            (vec!["JSESSIONID=J2".to_owned()], vec!["JSESSIONID=J2".to_owned()])
        );
    }
}

#[test]
fn a_token_that_is_gone_is_gone_for_the_group() {
    let [cfml, jsp, _] = group();
    let mut session = session();
    said(&mut session, &cfml, sent(0, 1, false), &[id(Some("J1"))]);
    let now = session.app(jsp.app).unwrap().sent(at(2), false);
    said(&mut session, &jsp, now, &[id(None)]);
    assert!(of(&session, 0).is_empty() && of(&session, 1).is_empty());
}

#[test]
fn one_that_is_taken_out_alone_takes_the_token_along() {
    let [cfml, ..] = group();
    let mut session = session();
    said(&mut session, &cfml, sent(0, 1, false), &[id(Some("J1"))]);
    session.take_app(cfml.app);
    follow(&mut session, &cfml, at(3));
    assert!(of(&session, 1).is_empty());
}

#[test]
fn an_app_that_was_only_lent_a_token_is_not_signed_out_of() {
    let [cfml, ..] = group();
    let mut session = session();
    said(&mut session, &cfml, sent(0, 1, false), &[id(Some("J1"))]);
    let apps: Vec<AppIx> =
        session.end(End::UserLogout, at(5)).unwrap().apps.iter().map(|app| app.app).collect();
    assert_eq!(apps, [cfml.app]);
}

#[test]
fn a_cookie_of_another_context_is_widened_to_where_it_is_needed() {
    let [cfml, jsp, _] = group();
    let mut session = session();
    said(&mut session, &cfml, sent(0, 1, false), &[Edit { path: b"/AppA", ..id(Some("J1")) }]);
    let paths = |app: &AppRules| -> Vec<Vec<u8>> {
        session.app(app.app).unwrap().vault().iter().map(|cookie| cookie.path.to_vec()).collect()
    };
    assert_eq!((paths(&cfml), paths(&jsp)), (vec![b"/AppA".to_vec()], vec![b"/AppB/".to_vec()]));
}
