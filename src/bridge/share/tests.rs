use http::Method;

use super::*;
use crate::bridge::answer::{self, Answer};
use crate::bridge::app_session::{Edit, Sent};
use crate::bridge::id::Handle;
use crate::bridge::session::End;
use crate::bridge::sign_out::Asked;
use crate::bridge::testing::{at, held, pair, sent, sharing as group, token};

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

/// Both apps hold J1; then the person signs out of CFML alone, whose answer begins a session of its own with `fresh`.
fn signed_out_alone(session: &mut Session, fresh: &[Edit<'_>]) {
    session.take_app(AppIx(0));
    let mut begun = AppSession::new(AppIx(0), at(6));
    begun.learn(sent(0, 5, true), fresh, at(6));
    if begun.has_token() {
        assert!(session.give_app(begun));
    }
    follow(session, &group()[0], at(6));
}

#[test]
fn a_late_answer_brings_nothing_back_after_a_sign_out_alone() {
    let cases: [(&[Edit<'_>], &[&str]); 2] = [(&[], &[]), (&[id(Some("NEW"))], &["JSESSIONID=NEW"])];
    for (fresh, after) in cases {
        let [cfml, jsp, _] = group();
        let mut session = session();
        // Any number of rotations before: the fresh session counts from its own first one.
        for (value, began) in [("J0", 1), ("J1", 2)] {
            let now =
                session.app(cfml.app).map_or_else(|| sent(0, began, false), |app| app.sent(at(began), false));
            said(&mut session, &cfml, now, &[id(Some(value))]);
        }
        let late = session.app(jsp.app).unwrap().sent(at(4), true);
        signed_out_alone(&mut session, fresh);
        assert_eq!(of(&session, 1), after, "the group follows");
        assert!(said(&mut session, &jsp, late, &[id(Some("OLD"))]).learned.stale);
        assert_eq!(
            (of(&session, 0), of(&session, 1)),
            (of(&session, 1), after.iter().map(|&s| s.into()).collect())
        );
        let next = session.app(jsp.app).unwrap().sent(at(7), false);
        said(&mut session, &jsp, next, &[id(Some("J9"))]);
        assert_eq!(
            (of(&session, 0), of(&session, 1)),
            (vec!["JSESSIONID=J9".into()], vec!["JSESSIONID=J9".into()])
        );
    }
}

#[test]
fn one_that_is_taken_over_is_replaced_by_nothing_older() {
    let [cfml, jsp, _] = group();
    for (other, own) in [(1, 4), (4, 1)] {
        let mut session = session();
        for turn in 0..own {
            session.app_or_new(jsp.app, at(0)).unwrap().learn(
                sent(turn, 1, false),
                &[id(Some(&format!("B{turn}")))],
                at(1),
            );
            follow(&mut session, &jsp, at(1));
        }
        let late = session.app(jsp.app).unwrap().sent(at(4), true);
        let mut found = AppSession::new(cfml.app, at(2));
        for turn in 0..other {
            found.learn(sent(turn, 3, false), &[id(Some(&format!("A{turn}")))], at(3));
        }
        let value = format!("JSESSIONID=A{}", other - 1);
        found.adopted = true;
        assert!(session.give_app(found), "one that is lent is no live one");
        follow(&mut session, &cfml, at(5));
        assert_eq!(of(&session, 1), [value.as_str()]);
        assert!(session.app(jsp.app).unwrap().adopted, "a sign-in there is sent without it, too");
        assert!(said(&mut session, &jsp, late, &[id(Some("OLD"))]).learned.stale);
        assert_eq!((of(&session, 0), of(&session, 1)), (vec![value.clone()], vec![value]));
        session.app_mut(jsp.app).unwrap().drop_token();
        follow(&mut session, &jsp, at(8));
        assert!(session.apps().all(|app| !app.adopted && !app.has_token()));
    }
}

/// As [`group`], where the shared token is one that rolls.
fn rolling_group() -> [AppRules; 3] {
    let mut rules = group();
    for app in &mut rules[..2] {
        app.session.as_mut().unwrap().tokens[0].rolling = true;
    }
    rules
}

fn ticket(value: Option<&str>) -> Edit<'_> {
    Edit { rolling: true, ..id(value) }
}

#[test]
fn a_ticket_that_one_app_took_away_does_not_come_back_in_another() {
    let [cfml, jsp, _] = rolling_group();
    let mut session = session();
    said(&mut session, &cfml, sent(0, 1, false), &[ticket(Some("T1"))]);
    assert_eq!(of(&session, 1), ["JSESSIONID=T1"]);
    let late = session.app(jsp.app).unwrap().sent(at(2), false);
    let sign_out = session.app(cfml.app).unwrap().sent(at(3), true);
    said(&mut session, &cfml, sign_out, &[ticket(None)]);
    said(&mut session, &jsp, late, &[ticket(Some("T2"))]);
    assert!(of(&session, 0).is_empty() && of(&session, 1).is_empty());
    let next = session.app(jsp.app).unwrap().sent(at(10), false);
    said(&mut session, &jsp, next, &[ticket(Some("T3"))]);
    assert_eq!(of(&session, 0), ["JSESSIONID=T3"]);
}

#[test]
fn a_ticket_is_settled_by_a_sign_out_alone() {
    for fresh in [None, Some("NEW")] {
        let [cfml, jsp, _] = rolling_group();
        let mut session = session();
        said(&mut session, &cfml, sent(0, 1, false), &[ticket(Some("T1"))]);
        session.take_app(cfml.app);
        if fresh.is_some() {
            let mut begun = AppSession::new(cfml.app, at(12));
            begun.learn(sent(0, 10, false), &[ticket(fresh)], at(12));
            session.give_app(begun);
        }
        follow(&mut session, &cfml, at(12));
        let after = of(&session, 1);
        assert_eq!(after.len(), usize::from(fresh.is_some()));
        said(&mut session, &jsp, sent(1, 11, false), &[ticket(Some("OLD"))]);
        assert_eq!((&of(&session, 0), &of(&session, 1)), (&after, &after));
    }
}

#[test]
fn the_group_goes_to_the_server_where_the_token_was_given() {
    let [cfml, jsp, _] = group();
    let mut session = session();
    session.app_or_new(jsp.app, at(0)).unwrap().upstream = Some(2);
    session.app_or_new(cfml.app, at(0)).unwrap().upstream = Some(1);
    follow(&mut session, &cfml, at(0));
    assert_eq!(session.app(jsp.app).unwrap().upstream, Some(2), "nothing is shared yet");
    said(&mut session, &cfml, sent(0, 1, false), &[id(Some("J1"))]);
    assert_eq!(session.app(jsp.app).unwrap().upstream, Some(1));
}

#[test]
fn the_first_app_stands_for_its_group() {
    assert_eq!(group().map(|rules| super::group(&rules)), [AppIx(0), AppIx(0), AppIx(2)]);
}
