use http::Method;

use super::*;
use crate::bridge::beat::Verdict;
use crate::bridge::id::Handle;
use crate::bridge::rules::Engine;
use crate::bridge::testing::{app, at, held, pair, plain, token};
use crate::wire::pattern::Pattern;

const POST: Method = Method::POST;
const GET: Method = Method::GET;

/// A bound session that holds the pair 1/a of an app that is kept alive.
fn signed_in(rules: &AppRules) -> Session {
    let mut session = Session::new(Handle(1), at(0));
    session.bind(at(0));
    ask(&mut session, rules, (&GET, "/AppA/x"), 200, &pair("1", "a"));
    session
}

fn ask(
    session: &mut Session,
    rules: &AppRules,
    asked: (&Method, &str),
    status: u16,
    edits: &[Edit<'_>],
) -> Effect {
    let (method, path) = asked;
    let sent = match session.app(rules.app) {
        Some(app) => app.sent(at(1), *method == POST),
        None => AppSession::new(rules.app, at(1)).sent(at(1), *method == POST),
    };
    let asked = Asked { method, path, query: None };
    apply(session, rules, &Answer { sent, status, edits, asked, form: *method == POST, now: at(2) })
}

fn judge(session: &mut Session, rules: &AppRules, verdict: Verdict) {
    beat(session, rules, &Judged { verdict, canary: None, now: at(50) });
}

fn openbd() -> AppRules {
    app(Engine::OpenBd, "appA", "/AppA/")
}

#[test]
fn the_first_token_makes_an_app_session_and_arms_its_heartbeats_once() {
    let rules = openbd();
    let mut session = Session::new(Handle(1), at(0));
    session.bind(at(0));
    assert!(!ask(&mut session, &rules, (&GET, "/AppA/x"), 200, &[plain("x", None)]).arm);
    assert!(session.apps().next().is_none(), "nothing was set, nothing is kept");
    let effect = ask(&mut session, &rules, (&GET, "/AppA/x"), 200, &pair("1", "a"));
    assert!(effect.learned.first && effect.arm && !effect.renew);
    assert!(!ask(&mut session, &rules, (&GET, "/AppA/x"), 200, &[]).arm);
}

#[test]
fn a_pending_session_gets_no_heartbeats_and_an_ended_one_learns_nothing() {
    let rules = openbd();
    let mut session = Session::new(Handle(1), at(0));
    assert!(!ask(&mut session, &rules, (&GET, "/AppA/x"), 200, &pair("1", "a")).arm);
    session.end(crate::bridge::session::End::Operator, at(1));
    let effect = ask(&mut session, &rules, (&GET, "/AppA/x"), 200, &pair("2", "b"));
    assert!(effect.learned == Learned::default() && session.apps().next().is_none());
}

#[test]
fn a_dead_token_waits_for_the_persons_answer_below_500() {
    let rules = openbd();
    for verdict in [Verdict::Reborn, Verdict::Replaced, Verdict::SignedOut] {
        let mut session = signed_in(&rules);
        session.app_mut(rules.app).unwrap().beat.canary = 7;
        judge(&mut session, &rules, verdict);
        let app = session.app_mut(rules.app).unwrap();
        assert!(app.beat.stopped && app.last_request == at(2));
        app.beat.armed = false;
        assert!(!ask(&mut session, &rules, (&GET, "/AppA/x"), 500, &[]).arm);
        assert!(session.app(rules.app).unwrap().beat.stopped);
        assert!(ask(&mut session, &rules, (&GET, "/AppA/x"), 404, &[]).arm);
        let beat = session.app(rules.app).unwrap().beat;
        assert!(!beat.stopped && beat.canary == 0 && beat.verdict.is_none(), "the canary is learned anew");
    }
}

#[test]
fn a_verdict_moves_no_clock_of_the_person() {
    let rules = openbd();
    let mut session = signed_in(&rules);
    let before = (session.last_activity, session.app(rules.app).unwrap().activity);
    for verdict in Verdict::ALL {
        judge(&mut session, &rules, verdict);
        assert_eq!((session.last_activity, session.app(rules.app).unwrap().activity), before);
    }
    let failures = |session: &Session| session.app(rules.app).unwrap().beat.failures;
    judge(&mut session, &rules, Verdict::Unreachable);
    assert_eq!(failures(&session), 2, "the last of them all, and this one");
}

#[test]
fn an_alive_verdict_is_proof() {
    let rules = openbd();
    let mut session = signed_in(&rules);
    judge(&mut session, &rules, Verdict::Unreachable);
    assert_eq!(session.app(rules.app).unwrap().renewed, at(2));
    judge(&mut session, &rules, Verdict::Alive);
    let app = session.app(rules.app).unwrap();
    assert_eq!((app.renewed, app.last_request, app.beat.failures), (at(50), at(50), 0));
}

#[test]
fn a_sign_out_leaves_the_old_cookies_for_the_apps_own_request() {
    let mut rules = openbd();
    let delete = [token(0, 0, 2, None), token(0, 1, 2, None)];
    for (path, status, seen) in
        [("/AppA/logout.cfm", 302, true), ("/AppA/logout.cfm", 500, false), ("/AppA/index.cfm", 302, false)]
    {
        let mut session = signed_in(&rules);
        let effect = ask(&mut session, &rules, (&GET, path), status, &delete);
        assert_eq!(effect.signed_out.is_some(), seen, "{path} {status}");
        assert_eq!(held(session.app(rules.app).unwrap()).is_empty(), !seen);
    }
    rules.sign_out.detect = vec![Pattern::parse("GET /AppA/bye.cfm").unwrap()];
    rules.sign_out.scope = Scope::Alone;
    let mut session = signed_in(&rules);
    assert_eq!(ask(&mut session, &rules, (&GET, "/AppA/bye.cfm"), 200, &[]).signed_out, Some(Scope::Alone));
}

#[test]
fn of_a_sign_outs_own_cookies_only_new_values_begin_a_session() {
    let rules = openbd();
    let session = signed_in(&rules);
    let old = session.app(rules.app).unwrap().vault();
    let edits =
        [token(0, 0, 2, Some("1")), token(0, 1, 2, Some("z")), plain("x", None), plain("y", Some(""))];
    let values: Vec<_> = fresh(&edits, old).map(|edit| edit.value).collect();
    assert_eq!(
        values,
        [Some(&b"1"[..]), Some(b"z")],
        "a token is new where a part is: Lucee's CFTOKEN is always 0"
    );
    assert_eq!(fresh(&pair("1", "a"), old).count(), 0);
}

#[test]
fn the_bridge_cookie_is_renewed_at_a_sign_in() {
    let mut rules = openbd();
    let mut session = signed_in(&rules);
    assert!(
        !ask(&mut session, &rules, (&GET, "/AppA/x"), 200, &pair("2", "b")).renew,
        "a page changed the token"
    );
    assert!(!ask(&mut session, &rules, (&POST, "/AppA/x"), 500, &[]).renew, "an error is no sign-in");
    assert!(ask(&mut session, &rules, (&POST, "/AppA/x"), 200, &pair("3", "c")).renew);
    assert!(!ask(&mut session, &rules, (&POST, "/AppA/x"), 200, &[]).renew, "the second form");
    let mut session = signed_in(&rules);
    assert!(!ask(&mut session, &rules, (&POST, "/AppA/x"), 503, &[]).renew);
    assert!(
        ask(&mut session, &rules, (&POST, "/AppA/x"), 302, &[]).renew,
        "the first form that was answered"
    );
    rules.sign_out.login = vec![Pattern::parse("/AppA/login.cfm").unwrap()];
    let mut session = signed_in(&rules);
    assert!(!ask(&mut session, &rules, (&POST, "/AppA/x"), 302, &[]).renew);
    assert!(ask(&mut session, &rules, (&POST, "/AppA/login.cfm"), 302, &[]).renew);
}
