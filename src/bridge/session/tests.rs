use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::bridge::app_session::AppSession;
use crate::bridge::testing::{at, pair, sent};

const MINUTE: u64 = 60;

fn clocks() -> Clocks {
    Clocks {
        idle_timeout: Duration::from_secs(30 * MINUTE),
        presence_limit: Some(Duration::from_secs(240 * MINUTE)),
        presence_ttl: Duration::from_secs(90),
        max_lifetime: Duration::from_secs(720 * MINUTE),
    }
}

fn session() -> Session {
    let mut session = Session::new(Handle(1), at(0));
    session.bind(at(0));
    session
}

fn with_app(app: u16) -> Session {
    let mut session = session();
    session.app_or_new(AppIx(app), at(0)).unwrap().learn(sent(0, 0, false), &pair("1", "a"), at(0));
    session
}

#[test]
fn without_presence_it_ends_idle_timeout_after_the_last_activity_to_the_microsecond() {
    let (clocks, mut session) = (clocks(), session());
    session.touch(AppIx(0), true, at(100));
    let end = at(100 + 30 * MINUTE);
    assert_eq!(session.ends_at(&clocks), end);
    assert_eq!(session.expired(&clocks, end.minus(Duration::from_micros(1))), None);
    assert_eq!(session.expired(&clocks, end), Some(End::Idle));
}

#[test]
fn presence_carries_it_to_the_presence_limit_after_the_last_activity() {
    let (clocks, mut session) = (clocks(), session());
    session.stream_opened();
    assert_eq!(session.ends_at(&clocks), at(240 * MINUTE), "however long the stream lasts");
    session.stream_closed(&clocks, at(10));
    assert_eq!(session.ends_at(&clocks), at(30 * MINUTE), "presence that was short takes nothing away");
    session.seen(&clocks, at(29 * MINUTE));
    assert_eq!(session.ends_at(&clocks), at(29 * MINUTE + 90));
    assert!(
        session.is_present(&clocks, at(29 * MINUTE + 89))
            && !session.is_present(&clocks, at(29 * MINUTE + 90))
    );
}

#[test]
fn presence_that_stops_after_the_idle_timeout_ends_it_one_ttl_later() {
    let clocks = clocks();
    for by_stream in [true, false] {
        let mut session = session();
        session.stream_opened();
        let stop = at(100 * MINUTE);
        if by_stream {
            session.stream_closed(&clocks, stop);
        } else {
            session.seen(&clocks, stop);
            session.stream_closed(&clocks, at(1));
        }
        assert_eq!(session.ends_at(&clocks), stop.plus(Duration::from_secs(90)));
    }
}

#[test]
fn one_of_two_streams_is_enough() {
    let (clocks, mut session) = (clocks(), session());
    session.stream_opened();
    session.stream_opened();
    session.stream_closed(&clocks, at(60));
    assert_eq!(session.ends_at(&clocks), at(240 * MINUTE));
    session.stream_closed(&clocks, at(61));
    session.stream_closed(&clocks, at(62));
    assert_eq!((session.streams, session.ends_at(&clocks)), (0, at(30 * MINUTE)));
}

#[test]
fn presence_limit_off_means_that_presence_counts_for_nothing() {
    let (clocks, mut session) = (Clocks { presence_limit: None, ..clocks() }, session());
    session.stream_opened();
    session.seen(&clocks, at(29 * MINUTE));
    assert_eq!(session.ends_at(&clocks), at(30 * MINUTE));
}

#[test]
fn the_hard_end_is_hard() {
    let (clocks, mut session) = (clocks(), session());
    session.stream_opened();
    session.touch(AppIx(0), true, at(719 * MINUTE));
    let end = at(720 * MINUTE);
    assert_eq!((session.ends_at(&clocks), session.hard_end(&clocks)), (end, end));
    assert_eq!(session.expired(&clocks, end), Some(End::MaxLifetime));
}

#[test]
fn presence_does_not_bring_back_what_is_over_by_the_clocks() {
    let (clocks, mut session) = (clocks(), session());
    session.seen(&clocks, at(30 * MINUTE));
    assert_eq!(session.expired(&clocks, at(30 * MINUTE)), Some(End::Idle));
}

#[test]
fn only_activity_moves_the_clock_and_only_that_of_its_own_app() {
    let mut session = with_app(0);
    session.app_or_new(AppIx(1), at(0));
    session.touch(AppIx(0), false, at(50));
    assert_eq!((session.last_activity, session.hits, session.app(AppIx(0)).unwrap().hits), (at(0), 1, 1));
    session.touch(AppIx(0), true, at(60));
    session.touch(AppIx(0), true, at(55));
    assert_eq!((session.last_activity, session.app(AppIx(0)).unwrap().activity), (at(60), at(60)));
    assert!(session.app(AppIx(1)).unwrap().activity.is_zero());
    session.extend(at(70));
    assert_eq!((session.last_activity, session.app(AppIx(1)).unwrap().activity), (at(70), at(70)));
}

#[test]
fn its_cookie_comes_back_once() {
    let mut session = Session::new(Handle(1), at(0));
    assert_eq!(session.phase(), Phase::Pending);
    assert!(session.bind(at(1)));
    assert!(!session.bind(at(2)));
    session.end(End::Operator, at(3));
    assert!(!session.bind(at(4)));
    assert_eq!(session.phase(), Phase::Ended(End::Operator));
}

#[test]
fn nothing_revives_an_ended_session() {
    let (clocks, mut session) = (clocks(), with_app(0));
    let farewell = session.end(End::UserLogout, at(10)).unwrap();
    assert_eq!((farewell.apps.len(), farewell.end), (1, End::UserLogout));
    assert!(session.apps().next().is_none());
    session.touch(AppIx(0), true, at(20));
    session.extend(at(20));
    session.seen(&clocks, at(20));
    assert_eq!((session.last_activity, session.presence), (at(0), Timestamp::ZERO));
    assert!(session.app_or_new(AppIx(0), at(20)).is_none());
    assert!(!session.give_app(farewell.apps.into_iter().next().unwrap()));
    assert!(session.end(End::Idle, at(20)).is_none());
    assert_eq!(session.phase(), Phase::Ended(End::UserLogout));
    assert_eq!(session.expired(&clocks, Timestamp::FAR), None, "it ends once");
}

#[test]
fn an_app_session_is_given_where_there_is_no_live_one() {
    let (mut one, mut other) = (with_app(0), session());
    other.app_or_new(AppIx(0), at(5));
    assert!(other.give_app(one.take_app(AppIx(0)).unwrap()), "one without a token is none");
    assert_eq!((one.apps().count(), other.apps().count()), (0, 1));
    assert!(other.app(AppIx(0)).unwrap().has_token());
    assert!(!other.give_app(with_app(0).take_app(AppIx(0)).unwrap()), "never over a live one");
    assert!(other.give_app(AppSession::new(AppIx(1), at(0))));
}

#[test]
fn which_ends_sign_the_apps_out() {
    let quiet: Vec<_> = End::ALL.into_iter().filter(|end| !end.signs_apps_out()).collect();
    assert_eq!(quiet, [End::Evicted, End::Joined, End::Released]);
}

#[test]
fn a_record_is_small() {
    // What a million people cost is this, twice the app session, and what their vaults hold.
    assert!(size_of::<Session>() <= 200, "{}", size_of::<Session>());
    assert!(size_of::<AppSession>() <= 200, "{}", size_of::<AppSession>());
}

#[derive(Clone, Debug)]
enum Step {
    Background,
    Heartbeat,
    Seen,
    Opened,
    Closed,
}

proptest! {
    #[test]
    fn neither_heartbeats_nor_background_nor_presence_move_the_activity_or_pass_the_hard_end(
        steps in prop::collection::vec((0u64..3000, prop_oneof![
            Just(Step::Background), Just(Step::Heartbeat), Just(Step::Seen), Just(Step::Opened), Just(Step::Closed)]), 0..60),
    ) {
        let (clocks, mut session, mut now) = (clocks(), with_app(0), 0);
        for (gap, step) in steps {
            now += gap;
            let ends = session.ends_at(&clocks);
            match step {
                Step::Background => session.touch(AppIx(0), false, at(now)),
                Step::Heartbeat => {
                    let app = session.app_mut(AppIx(0)).unwrap();
                    let sent = app.sent(at(now), false);
                    app.learn_from_beat(sent, &pair("1", "a"), at(now));
                }
                Step::Seen => session.seen(&clocks, at(now)),
                Step::Opened => session.stream_opened(),
                Step::Closed => session.stream_closed(&clocks, at(now)),
            }
            prop_assert_eq!(session.last_activity, at(0));
            prop_assert!(session.ends_at(&clocks) <= at(240 * MINUTE), "activity and presence_limit");
            prop_assert!(session.ends_at(&clocks) <= session.hard_end(&clocks));
            if ends <= at(now) && !matches!(step, Step::Opened) {
                prop_assert!(session.expired(&clocks, at(now)).is_some(), "over is over");
            }
        }
    }

    #[test]
    fn it_ends_by_the_formula(activity in 0u64..50_000, presence in prop::option::of(0u64..50_000), streams in 0u32..2) {
        let (clocks, mut session) = (clocks(), session());
        session.touch(AppIx(0), true, at(activity));
        (session.presence, session.streams) = (presence.map_or(Timestamp::ZERO, at), streams);
        // min(created + max_lifetime, last activity + (present ? presence_limit : idle_timeout)), looked at second by second
        // around its own answer.
        let end = session.ends_at(&clocks);
        let by_formula = |now: Timestamp| {
            let span = if session.is_present(&clocks, now) { 240 * MINUTE } else { 30 * MINUTE };
            at(720 * MINUTE).min(at(activity + span))
        };
        let before = end.minus(Duration::from_secs(1));
        prop_assert!(by_formula(end) <= end, "over at its end");
        prop_assert!(before < by_formula(before), "not before");
    }
}
