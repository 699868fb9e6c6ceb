use proptest::prelude::*;

use super::*;
use crate::bridge::testing::{at, held, pair, plain, sent, token};

fn session() -> AppSession {
    AppSession::new(AppIx(0), at(0))
}

/// One that holds the pair 1/a by generation 1.
fn signed_in() -> AppSession {
    let mut session = session();
    assert!(session.learn(sent(0, 1, false), &pair("1", "a"), at(1)).first);
    session
}

fn value(session: &AppSession) -> String {
    held(session).join("; ")
}

#[test]
fn the_current_generation_applies_and_a_renewal_bumps_no_revision() {
    let mut session = signed_in();
    let before = (session.revision(), session.sent(at(2), false).generation);
    let learned = session.learn(session.sent(at(2), false), &pair("1", "a"), at(3));
    assert_eq!(learned, Learned { renewed: true, ..Learned::default() });
    assert_eq!((session.revision(), session.sent(at(2), false).generation), before);
    assert_eq!(session.renewed, at(3));
    let learned = session.learn(session.sent(at(4), false), &pair("2", "b"), at(5));
    assert!(learned.changed && !learned.first && !learned.gone);
    assert_eq!(value(&session), "CFID=2; CFTOKEN=b");
    assert_eq!(session.revision(), before.0 + 1);
}

#[test]
fn a_sign_in_by_post_beats_a_page_that_started_later() {
    let mut session = signed_in();
    session.learn(sent(1, 9, false), &pair("2", "b"), at(10));
    assert!(session.learn(sent(1, 5, true), &pair("3", "c"), at(11)).changed);
    assert!(session.learn(sent(1, 20, false), &pair("4", "d"), at(21)).stale);
    assert_eq!(value(&session), "CFID=3; CFTOKEN=c");
}

#[test]
fn what_was_sent_two_generations_ago_is_stale_even_by_post() {
    let mut session = signed_in();
    session.learn(sent(1, 2, false), &pair("2", "b"), at(3));
    session.learn(sent(2, 4, false), &pair("3", "c"), at(5));
    let revision = session.revision();
    assert_eq!(
        session.learn(sent(1, 99, true), &pair("9", "z"), at(99)),
        Learned { stale: true, ..Learned::default() }
    );
    assert_eq!((value(&session).as_str(), session.revision()), ("CFID=3; CFTOKEN=c", revision));
}

#[test]
fn an_old_value_set_again_by_an_overtaken_answer_does_not_come_back() {
    let mut session = signed_in();
    session.learn(sent(1, 5, false), &pair("2", "b"), at(6));
    assert!(session.learn(sent(1, 4, false), &pair("1", "a"), at(7)).stale);
    assert_eq!(value(&session), "CFID=2; CFTOKEN=b");
}

#[test]
fn a_deletion_takes_the_whole_token_and_is_ranked_like_any_other_answer() {
    let mut session = signed_in();
    let learned = session.learn(sent(1, 2, false), &[token(0, 0, 2, None)], at(3));
    assert!(learned.gone && learned.changed);
    assert!(!session.has_token());
    assert!(session.learn(sent(1, 1, false), &pair("9", "z"), at(4)).stale, "a page that started earlier");
    assert!(session.learn(sent(1, 1, true), &pair("8", "y"), at(5)).first, "a sign-in");
    let mut session = signed_in();
    let learned = session.learn(session.sent(at(2), false), &[plain("x", None), token(0, 1, 2, None)], at(3));
    assert!(learned.gone && !session.has_token());
    assert_eq!(session.learn(session.sent(at(4), false), &[token(0, 0, 2, None)], at(4)), Learned::default());
}

#[test]
fn half_a_pair_is_none_at_first_and_never_a_rival() {
    let mut session = session();
    assert_eq!(session.learn(sent(0, 1, true), &[token(0, 0, 2, Some("1"))], at(2)), Learned::default());
    assert!(!session.has_token() && session.vault().is_empty());
    let mut session = signed_in();
    session.learn(sent(1, 2, false), &pair("2", "b"), at(3));
    assert!(session.learn(sent(1, 9, true), &[token(0, 0, 2, Some("7"))], at(9)).stale);
    assert_eq!(value(&session), "CFID=2; CFTOKEN=b");
    // To the current one an app may name the part that it changes: the other is what it was sent.
    assert!(session.learn(session.sent(at(10), false), &[token(0, 0, 2, Some("3"))], at(11)).changed);
    assert_eq!(value(&session), "CFID=3; CFTOKEN=b");
    assert!(
        session.learn(sent(2, 1, false), &pair("4", "d"), at(12)).changed,
        "a whole rival goes before it"
    );
    assert_eq!(value(&session), "CFID=4; CFTOKEN=d");
}

#[test]
fn a_part_has_one_place_whatever_path_or_spelling_it_comes_in() {
    let mut session = signed_in();
    let mut other = pair("2", "b");
    (other[0].name, other[0].path) = (b"cfid", b"/AppA");
    session.learn(session.sent(at(2), false), &other, at(3));
    assert_eq!(session.vault().count(), 2);
    assert_eq!(session.vault().part(0, 0).unwrap().name, b"cfid");
}

#[test]
fn with_two_tokens_the_first_decides_and_the_other_travels_along() {
    let mut session = session();
    let both = |id, pair| [token(1, 0, 1, Some(id)), token(2, 0, 1, Some(pair))];
    assert!(session.learn(sent(0, 1, false), &both("j", "p"), at(1)).first);
    let learned = session.learn(session.sent(at(2), false), &[token(2, 0, 1, Some("q"))], at(3));
    assert!(learned.rolled && !learned.changed, "a new CFID is no sign that the session died");
    let learned = session.learn(session.sent(at(4), false), &[token(2, 0, 1, None)], at(5));
    assert!(learned.rolled && !learned.gone);
    session.learn(session.sent(at(6), false), &[token(2, 0, 1, Some("r"))], at(7));
    let learned = session.learn(session.sent(at(8), false), &[token(1, 0, 1, None)], at(9));
    assert!(learned.gone && learned.changed, "the one that decides is gone, whatever else is there");
}

#[test]
fn answers_that_set_different_tokens_do_not_overtake_each_other() {
    for order in [[0, 1], [1, 0]] {
        let mut session = session();
        session.learn(sent(0, 1, false), &[token(1, 0, 1, Some("j")), token(2, 0, 1, Some("p"))], at(1));
        let sent = sent(1, 2, false);
        let edits = [[token(1, 0, 1, Some("k"))], [token(2, 0, 1, Some("q"))]];
        for at_ in order {
            session.learn(sent, &edits[at_], at(3));
        }
        assert_eq!(value(&session), "T1=k; T2=q");
    }
}

#[test]
fn a_heartbeats_answer_counts_only_where_nothing_has_changed() {
    let mut session = signed_in();
    let sent = session.sent(at(2), false);
    session.learn(session.sent(at(3), false), &[plain("x", Some("1"))], at(3));
    assert!(session.learn_from_beat(sent, &pair("9", "z"), at(4)).stale);
    assert_eq!(value(&session), "CFID=1; CFTOKEN=a; x=1");
    let sent = session.sent(at(5), false);
    session.learn(session.sent(at(5), false), &pair("1", "a"), at(6));
    assert!(session.learn_from_beat(sent, &pair("9", "z"), at(7)).changed, "a renewal is no change");
}

#[test]
fn adoption_replaces_the_token_and_leaves_no_part_of_the_old_one() {
    let mut session = signed_in();
    session.learn(session.sent(at(2), false), &[plain("x", Some("1"))], at(2));
    let mut other = self::session();
    let mut edits = pair("5", "e");
    edits[0].name = b"cfid";
    other.learn(sent(0, 1, false), &edits, at(1));
    let revision = session.revision();
    session.adopt(other.vault().iter(), at(10));
    assert_eq!(value(&session), "x=1; cfid=5; CFTOKEN=e");
    assert_eq!(session.revision(), revision + 1);
    assert!(session.learn(sent(1, 9, false), &pair("9", "z"), at(11)).stale, "sent before the adoption");
    assert!(session.learn(session.sent(at(12), false), &pair("6", "f"), at(13)).changed);
}

#[test]
fn a_dropped_token_lets_the_next_one_in_and_no_older_one() {
    let mut session = signed_in();
    session.learn(session.sent(at(2), false), &[plain("x", Some("1"))], at(2));
    let old = session.sent(at(3), true);
    session.drop_token();
    assert_eq!(value(&session), "x=1");
    assert!(session.learn(old, &pair("9", "z"), at(4)).stale);
    assert!(session.learn(session.sent(at(5), false), &pair("2", "b"), at(5)).first);
}

fn rolling(value: Option<&str>) -> Edit<'_> {
    Edit { rolling: true, ..token(1, 0, 1, value) }
}

#[test]
fn of_rolling_values_the_request_that_started_later_wins() {
    for order in [[0, 1], [1, 0]] {
        let mut session = session();
        let sents = [sent(0, 5, false), sent(0, 6, false)];
        let edits = [[rolling(Some("five"))], [rolling(Some("six"))]];
        for n in order {
            session.learn(sents[n], &edits[n], at(10));
        }
        assert_eq!(value(&session), "T1=six");
    }
}

#[test]
fn a_deletion_or_an_unsafe_answer_makes_all_that_was_sent_before_it_stale() {
    // The safe answers began at 3 and 7; the one that opens a generation began at 2 and came at 8.
    for (opens, expected) in [(None, ""), (Some("new"), "T1=new")] {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
            let mut session = session();
            session.learn(sent(0, 0, false), &[rolling(Some("old"))], at(1));
            let sents = [sent(1, 3, false), sent(1, 2, opens.is_some()), sent(1, 7, false)];
            let edits = [[rolling(Some("three"))], [rolling(opens)], [rolling(Some("seven"))]];
            for (n, &which) in order.iter().enumerate() {
                session.learn(sents[which], &edits[which], at(8 + n as u64));
            }
            assert_eq!(value(&session), expected, "{order:?}");
            session.learn(sent(1, 20, false), &[rolling(Some("later"))], at(21));
            assert_eq!(value(&session), "T1=later", "sent after it");
        }
    }
}

#[test]
fn one_unsafe_answer_may_set_several_rolling_and_plain_cookies() {
    let mut session = session();
    let edits = [rolling(Some("t")), plain("a", Some("1")), plain("b", Some("2"))];
    session.learn(sent(0, 1, true), &edits, at(9));
    assert_eq!(value(&session), "T1=t; a=1; b=2");
    session.learn(sent(0, 2, false), &[plain("c", Some("3"))], at(10));
    assert_eq!(value(&session), "T1=t; a=1; b=2; c=3", "another cookie is not overtaken by them");
}

#[test]
fn a_rolling_token_that_is_deleted_is_gone_and_one_that_rolls_has_not_changed() {
    let mut session = signed_in();
    session.learn(session.sent(at(2), false), &[rolling(Some("t"))], at(2));
    let learned = session.learn(session.sent(at(3), false), &[rolling(Some("u"))], at(3));
    assert!(learned.rolled && learned.renewed && !learned.changed && !learned.gone);
    assert!(session.learn(session.sent(at(4), false), &[rolling(None)], at(4)).gone);
    assert!(!session.learn(session.sent(at(5), false), &[rolling(None)], at(5)).gone, "there is none left");
}

#[test]
fn a_vault_holds_64_cookies_and_the_oldest_plain_one_makes_room() {
    let mut session = signed_in();
    let names: Vec<String> = (0..10_000).map(|n| format!("c{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        session.learn(sent(1, n as u64, false), &[plain(name, Some("v"))], at(n as u64));
    }
    assert_eq!(session.vault().count(), 64);
    assert!(session.vault().part(0, 0).is_some() && session.vault().part(0, 1).is_some());
    assert_eq!(session.vault().iter().last().unwrap().name, b"c9999");
    assert_eq!(session.vault().iter().nth(2).unwrap().name, b"c9938");
    session.learn(sent(1, 20_000, false), &[plain("c9999", Some("w"))], at(20_000));
    assert_eq!(session.vault().iter().nth(2).unwrap().name, b"c9938", "what is there needs no room");
}

#[test]
fn one_answer_with_too_many_cookies_loses_only_as_many() {
    let mut session = session();
    let names: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
    let edits: Vec<Edit<'_>> = names.iter().map(|name| plain(name, Some("v"))).collect();
    session.learn(sent(0, 1, false), &edits, at(1));
    assert_eq!(session.vault().count(), 64);
}

#[test]
fn a_vault_holds_32_kib() {
    let mut session = signed_in();
    let (long, names): (String, Vec<String>) = ("x".repeat(4000), (0..20).map(|n| format!("c{n}")).collect());
    for (n, name) in names.iter().enumerate() {
        session.learn(sent(1, n as u64, false), &[plain(name, Some(&long))], at(n as u64));
        assert!(session.vault().size() <= 32 * 1024);
    }
    assert!(session.vault().count() > 7 && session.has_token());
}

#[test]
fn a_session_is_busy_for_so_long_since_the_first_of_its_requests_began() {
    let (mut session, half) = (session(), Duration::from_secs(600));
    session.request_began(at(10));
    session.request_began(at(500));
    session.request_ended(at(501));
    assert!(session.is_busy(at(609), half) && !session.is_busy(at(610), half));
    session.request_ended(at(620));
    assert!(!session.is_busy(at(620), half));
    session.request_began(at(700));
    assert!(session.is_busy(at(701), half));
    assert_eq!(session.last_request, at(700));
}

/// An answer: the pair that it sets, when its request started and whether its method was unsafe.
type Rival = (u8, u64, bool);

fn play(rivals: &[Rival], order: &[usize]) -> (AppSession, usize) {
    let (mut session, mut stale) = (signed_in(), 0);
    for (n, &which) in order.iter().enumerate() {
        let (pair_, started, unsafe_method) = rivals[which];
        let text = pair_.to_string();
        let learned = session.learn(sent(1, started, unsafe_method), &pair(&text, &text), at(100 + n as u64));
        stale += usize::from(learned.stale);
    }
    (session, stale)
}

proptest! {
    #[test]
    fn rivals_leave_the_same_token_in_any_order(
        rivals in prop::collection::vec((any::<bool>(), any::<bool>()), 1..7),
        starts in Just((10u64..17).collect::<Vec<_>>()).prop_shuffle(),
        order in Just((0..7).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let rivals: Vec<Rival> = rivals.iter().zip(&starts).enumerate()
            .map(|(n, ((unsafe_method, _), started))| (10 + n as u8, *started, *unsafe_method)).collect();
        let order: Vec<usize> = order.into_iter().filter(|at| *at < rivals.len()).collect();
        let best = rivals.iter().max_by_key(|(_, started, unsafe_method)| (*unsafe_method, *started)).unwrap();
        let (session, _) = play(&rivals, &order);
        prop_assert_eq!(value(&session), format!("CFID={0}; CFTOKEN={0}", best.0));
    }

    /// Requests are sent and answered in any order, each answer with a fresh pair, a deletion, a renewal or half a pair.
    #[test]
    fn a_pair_is_never_mixed(steps in prop::collection::vec((0u8..6, 0usize..6, any::<bool>()), 1..80)) {
        let mut session = session();
        let mut flying: Vec<Sent> = Vec::new();
        let mut issued = vec![String::new()];
        for (n, (kind, which, unsafe_method)) in steps.into_iter().enumerate() {
            let now = at(n as u64 + 1);
            if kind < 2 || flying.is_empty() {
                flying.push(session.sent(now, unsafe_method));
                continue;
            }
            let sent = flying.remove(which % flying.len());
            let text = n.to_string();
            match kind {
                2 | 3 => {
                    issued.push(format!("CFID={text}; CFTOKEN={text}"));
                    session.learn(sent, &pair(&text, &text), now);
                }
                4 => { session.learn(sent, &[token(0, 0, 2, None)], now); }
                _ => { session.learn(sent, &[token(0, 1, 2, None)], now); }
            }
            prop_assert!(issued.contains(&value(&session)), "{}", value(&session));
        }
    }

    /// Of rolling values in answers to requests that are all in flight at once the same one stays: a later start, or the
    /// one unsafe answer.
    #[test]
    fn rolling_values_end_the_same_in_any_order(
        starts in Just((10u64..16).collect::<Vec<_>>()).prop_shuffle(),
        order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
        unsafe_one in prop::option::of(0usize..6),
    ) {
        let mut session = session();
        session.learn(sent(0, 1, false), &[rolling(Some("old"))], at(2));
        for (n, &which) in order.iter().enumerate() {
            let text = which.to_string();
            let sent = sent(0, starts[which], unsafe_one == Some(which));
            session.learn(sent, &[rolling(Some(&text))], at(100 + n as u64));
        }
        let last = (0..6).max_by_key(|&which| starts[which]).unwrap();
        prop_assert_eq!(value(&session), format!("T1={}", unsafe_one.unwrap_or(last)));
    }

    #[test]
    fn only_what_changes_a_cookie_bumps_the_revision(values in prop::collection::vec((0u8..3, 0u8..3), 1..20)) {
        let mut session = session();
        for (n, (id, extra)) in values.into_iter().enumerate() {
            let before = (session.revision(), held(&session));
            let (id, extra) = (id.to_string(), extra.to_string());
            let [one, two] = pair(&id, &id);
            session.learn(session.sent(at(n as u64), false), &[one, two, plain("x", Some(&extra))], at(n as u64));
            let mut now = held(&session);
            let mut then = before.1;
            now.sort();
            then.sort();
            prop_assert_eq!(session.revision() != before.0, now != then);
        }
    }
}
