//! Copies of one session on three proxies, and whatever a store may do to what they write.

use std::net::IpAddr;

use http::Method;
use proptest::prelude::*;

use super::*;
use crate::bridge::answer::{self, Answer, Judged};
use crate::bridge::app_session::Edit;
use crate::bridge::beat::Verdict;
use crate::bridge::id::Handle;
use crate::bridge::packing::alone;
use crate::bridge::passed::HttpOnlyCookie;
use crate::bridge::rules::AppRules;
use crate::bridge::session::End;
use crate::bridge::share;
use crate::bridge::sign_out::Asked;
use crate::bridge::testing::{at, held, pair, plain, sharing, token};
use crate::bridge::timeline::What;
use crate::bridge::vault::Role;

#[derive(Clone, Debug)]
enum Step {
    /// An app gives a token that nobody has seen before.
    Learn(u16),
    /// An answer sets a cookie that is no token.
    Plain(u16),
    Alone(u16),
    Touch(u16),
    Beat(u16, usize),
    Came(u8),
    Passes(u8),
    Bind,
    End(usize),
    Put,
    /// One of all that was ever put comes from the store.
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u16).prop_map(Step::Learn),
        2 => (0..3_u16).prop_map(Step::Plain),
        1 => (0..3_u16).prop_map(Step::Alone),
        2 => (0..3_u16).prop_map(Step::Touch),
        2 => (0..3_u16, 0..5_usize).prop_map(|(app, verdict)| Step::Beat(app, verdict)),
        1 => any::<u8>().prop_map(Step::Came),
        1 => (0..4_u8).prop_map(Step::Passes),
        1 => Just(Step::Bind),
        5 => Just(Step::Put),
        6 => any::<usize>().prop_map(Step::Take),
    ]
}

/// Who does what, and how long after the one before.
fn story() -> impl Strategy<Value = Vec<(usize, Step, u64)>> {
    let rarely = prop_oneof![40 => step(), 1 => (0..8_usize).prop_map(Step::End)];
    prop::collection::vec((0..3_usize, rarely, 0..3_000_000_u64), 1..60)
}

/// What was put: of each part since when it is so, and the token that it had.
type Told = Vec<(AppIx, Timestamp, Vec<String>)>;

struct World {
    rules: [AppRules; 3],
    now: Timestamp,
    copies: Vec<Session>,
    puts: Vec<Vec<u8>>,
    told: Told,
    numbers: u32,
}

fn pack(session: &Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    alone::write(&mut bytes, |out| session.pack(out));
    bytes
}

fn unpack(bytes: &[u8]) -> Session {
    alone::read(bytes, Session::unpack).unwrap()
}

/// All that a session says to others, as text.
fn text(session: &Session) -> String {
    let mut session = unpack(&pack(session));
    session.arrived();
    if session.has_ended() {
        // Of one that is over nothing else is ever asked.
        return format!("{:?} {:?} {:?}", session.phase, session.last_activity, session.timeline);
    }
    session.apps.sort_by_key(|app| app.app);
    for app in &mut session.apps {
        // What merely grows is taken over where two states of one app session meet, which depends on the order.
        (app.hits, app.activity, app.last_request) = (0, Timestamp::ZERO, Timestamp::ZERO);
    }
    session.shared().gone.sort_unstable();
    let vaults: Vec<_> = session.apps.iter().map(|app| (app.app, app.vault().clone())).collect();
    let bytes = vaults.iter().map(|(app, vault)| {
        let cookies = vault.iter().map(|cookie| (cookie.value.to_vec(), cookie.started, cookie.expires));
        format!("{app:?} {:?}", cookies.collect::<Vec<_>>())
    });
    let bytes: Vec<String> = bytes.collect();
    format!("{session:?} {bytes:?} {:x} {:x}", session.rest(), session.passed.stamp())
}

fn merge(into: &Session, theirs: &Session) -> Session {
    let mut merged = unpack(&pack(into));
    merged.merge(unpack(&pack(theirs)));
    merged
}

impl World {
    fn new() -> Self {
        let mut first = Session::new(Handle(7), at(0));
        first.revise(at(0));
        let first = pack(&first);
        let copies = (0..3).map(|_| unpack(&first)).collect();
        Self { rules: sharing(), now: at(1), copies, puts: vec![first], told: Vec::new(), numbers: 0 }
    }

    fn step(&mut self, who: usize, step: &Step, later: u64) {
        self.now = self.now.plus(Duration::from_micros(later + 1));
        self.numbers += 1;
        let (now, rules) = (self.now, &self.rules);
        if matches!(step, Step::Put | Step::Take(_)) {
            return self.meets_the_store(who, step);
        }
        let session = &mut self.copies[who];
        match step {
            Step::Put | Step::Take(_) => {}
            Step::Bind => drop(session.bind(now)),
            Step::End(end) => drop(session.end(End::ALL[*end], now)),
            _ if session.has_ended() => {}
            Step::Learn(app) => learn(session, &rules[usize::from(*app)], Some(self.numbers), now),
            Step::Plain(app) => learn(session, &rules[usize::from(*app)], None, now),
            Step::Alone(app) => {
                session.timeline.note(now, None, What::SignOut);
                session.take_app(AppIx(*app));
                share::follow(session, &rules[usize::from(*app)], now);
            }
            Step::Touch(app) => {
                session.touch(AppIx(*app), true, now);
                session.presence = now;
                session.cadence.observe(u32::from(*app), now);
                if let Some(app) = session.app_mut(AppIx(*app)) {
                    app.request_began(now);
                    app.request_ended(now);
                }
            }
            Step::Beat(app, verdict) => {
                if let Some(app) = session.app_mut(AppIx(*app)) {
                    app.beat.at = now;
                }
                let judged = Judged { verdict: Verdict::ALL[*verdict], canary: Some(1), now };
                answer::beat(session, &rules[usize::from(*app)], &judged);
            }
            Step::Came(from) => session.address = Some(IpAddr::from([192, 0, 2, *from])),
            Step::Passes(name) => {
                let cookie =
                    HttpOnlyCookie { app: AppIx(0), name: [*name].into(), path: b"/".as_slice().into() };
                session.passed.http_only(cookie, false);
                session.passed.browser_sent(AppIx(0), &[*name]);
            }
        }
    }

    fn meets_the_store(&mut self, who: usize, step: &Step) {
        match step {
            Step::Take(which) => self.take(who, which % self.puts.len()),
            _ => self.put(who),
        }
    }

    fn put(&mut self, who: usize) {
        let session = &mut self.copies[who];
        session.revise(session.moment());
        for group in session.groups(session) {
            self.told.push((group, session.since(group), tokens(session, group)));
        }
        self.puts.push(pack(session));
    }

    fn take(&mut self, who: usize, which: usize) {
        let theirs = unpack(&self.puts[which]);
        let session = &mut self.copies[who];
        let (before, phase) = ((session.last_activity, session.presence, session.hits), session.phase());
        session.revise(session.moment());
        let ahead = session.merge(theirs);
        let after = (session.last_activity, session.presence, session.hits);
        assert!(after.0 >= before.0 && after.1 >= before.1 && after.2 >= before.2, "a clock has gone back");
        assert!(!matches!(phase, Phase::Ended(_)) || session.has_ended(), "an ended one is back");
        assert!(phase == Phase::Pending || session.phase() != Phase::Pending, "its cookie had come back");
        assert!(!session.has_ended() || session.apps.is_empty());
        let again = session.merge(unpack(&self.puts[which]));
        assert_eq!(again, Merged { learned: false, ..ahead }, "what is known is no news");
        self.is_whole(who);
    }

    /// Parts of a token are of one generation, and those that share a token hold the same.
    fn is_whole(&self, who: usize) {
        let session = &self.copies[who];
        let ids =
            |app| -> Option<Vec<u8>> { Some(session.app(AppIx(app))?.vault().part(0, 0)?.value.to_vec()) };
        if session.app(AppIx(0)).is_some() && session.app(AppIx(1)).is_some() {
            assert_eq!(ids(0), ids(1), "copy {who} is torn: {session:?}");
        }
        for app in session.apps() {
            let parts =
                app.vault().iter().filter(|cookie| matches!(cookie.role, Role::Token { token: 1, .. }));
            let parts: Vec<_> = parts.map(|cookie| cookie.value.to_vec()).collect();
            assert!(parts.is_empty() || parts.len() == 2 && parts[0] == parts[1], "mixed: {:?}", held(app));
        }
    }
}

/// What the apps of `group` hold.
fn tokens(session: &Session, group: AppIx) -> Vec<String> {
    let mut all: Vec<String> = session.members(group).flat_map(held).collect();
    all.sort();
    all
}

fn learn(session: &mut Session, rules: &AppRules, number: Option<u32>, now: Timestamp) {
    let value = number.map(|number| number.to_string());
    let id = Edit { name: b"JSESSIONID", ..token(0, 0, 1, value.as_deref()) };
    let mut edits = vec![plain("x", Some("1"))];
    if let Some(value) = &value {
        edits = vec![id];
        if rules.app == AppIx(0) {
            edits.extend(pair(value, value).map(|edit| match edit.role {
                Role::Token { part, .. } => Edit { role: Role::Token { token: 1, part }, ..edit },
                Role::Plain => edit,
            }));
        }
    }
    let fresh = AppSession::new(rules.app, now);
    let sent = session.app(rules.app).unwrap_or(&fresh).sent(now, false);
    let asked = Asked { method: &Method::GET, path: "/x", query: None };
    answer::apply(session, rules, &Answer { sent, status: 200, edits: &edits, asked, form: false, now });
    session.app_mut(rules.app).unwrap().request_ended(now);
}

fn told(story: &[(usize, Step, u64)]) -> World {
    let mut world = World::new();
    story.iter().for_each(|(who, step, later)| world.step(*who, step, *later));
    (0..3).for_each(|who| world.put(who));
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        story in story(),
        picks in prop::array::uniform3(any::<prop::sample::Index>()),
    ) {
        let world = told(&story);
        let [a, b, c] = picks.map(|pick| unpack(pick.get::<Vec<u8>>(&world.puts)));
        prop_assert_eq!(text(&merge(&a, &b)), text(&merge(&b, &a)));
        prop_assert_eq!(text(&merge(&merge(&a, &b), &c)), text(&merge(&a, &merge(&b, &c))));
        let both = merge(&a, &b);
        prop_assert_eq!(text(&merge(&both, &b)), text(&both));
        prop_assert_eq!(text(&merge(&both, &a)), text(&both));
        prop_assert_eq!(text(&merge(&both, &both)), text(&both));
    }

    #[test]
    fn what_was_told_is_there_in_whatever_order_it_comes(
        story in story(),
        orders in prop::array::uniform3(prop::collection::vec(any::<prop::sample::Index>(), 0..30)),
        rotated in prop::array::uniform3(0..40_usize),
    ) {
        let mut world = told(&story);
        for (who, (order, rotated)) in orders.iter().zip(rotated).enumerate() {
            // Some come first, and twice, in any order; then all.
            let count = world.puts.len();
            let first: Vec<usize> = order.iter().map(|pick| pick.index(count)).collect();
            let all = (0..count).map(|at| (at + rotated) % count);
            first.into_iter().chain(all).for_each(|which| world.take(who, which));
        }
        let texts: Vec<String> = world.copies.iter().map(text).collect();
        prop_assert_eq!(&texts[0], &texts[1]);
        prop_assert_eq!(&texts[0], &texts[2]);
        let last = &world.copies[0];
        let groups: std::collections::BTreeSet<AppIx> = world.told.iter().map(|(group, ..)| *group).collect();
        for group in groups.into_iter().filter(|_| !last.has_ended()) {
            let said = world.told.iter().filter(|(of, ..)| *of == group);
            let since = said.clone().map(|(_, since, _)| *since).max();
            let mut latest = said.filter(|(_, at, _)| Some(*at) == since).map(|(.., tokens)| tokens);
            // Two of one moment are told apart by what they hold.
            prop_assert!(latest.any(|tokens| *tokens == tokens_of(last, group)), "{group:?} of {last:?}");
        }
    }
}

fn tokens_of(session: &Session, group: AppIx) -> Vec<String> {
    tokens(session, group)
}

/// Two copies of a session with a token of each app.
fn two() -> (World, [AppRules; 3]) {
    let mut world = World::new();
    for app in 0..3 {
        world.step(0, &Step::Learn(app), 0);
    }
    world.put(0);
    world.take(1, world.puts.len() - 1);
    (world, sharing())
}

#[test]
fn what_changes_after_a_merge_is_later_whatever_the_clocks_say() {
    let (mut world, _) = two();
    world.now = at(5_000);
    world.step(0, &Step::Learn(2), 0);
    world.put(0);
    world.take(1, world.puts.len() - 1);
    // The second proxy's clock is more than an hour behind.
    world.now = at(20);
    world.step(1, &Step::Learn(2), 0);
    let held = tokens(&world.copies[1], AppIx(2));
    world.put(1);
    world.take(0, world.puts.len() - 1);
    assert_eq!(tokens(&world.copies[0], AppIx(2)), held);
}

#[test]
fn what_has_changed_here_and_was_not_put_outlives_what_is_older_and_yields_to_what_is_newer() {
    for (theirs, ours, stays) in [(10, 20, true), (20, 10, false)] {
        let (mut world, _) = two();
        world.now = at(theirs);
        world.step(0, &Step::Learn(2), 0);
        world.put(0);
        world.now = at(ours);
        world.step(1, &Step::Learn(2), 0);
        let held = tokens(&world.copies[1], AppIx(2));
        world.take(1, world.puts.len() - 1);
        assert_eq!(tokens(&world.copies[1], AppIx(2)) == held, stays, "theirs at {theirs}, ours at {ours}");
    }
}

#[test]
fn of_two_changes_within_one_microsecond_one_counts_and_whoever_has_it_knows_that_the_other_has_not() {
    let (mut world, _) = two();
    for who in [0, 1] {
        world.now = at(10);
        world.step(who, &Step::Learn(2), 0);
        world.put(who);
    }
    let [first, second] = [0, 1].map(|who| unpack(&world.puts[world.puts.len() - 2 + who]));
    assert_eq!(first.since(AppIx(2)), second.since(AppIx(2)));
    let met = |ours: &Session, theirs: &Session| unpack(&pack(ours)).merge(unpack(&pack(theirs)));
    let (one, other) = (met(&first, &second), met(&second, &first));
    assert!(one.ahead != other.ahead && one.learned == other.ahead, "{one:?} {other:?}");
}

#[test]
fn who_was_signed_out_of_one_app_stays_so_and_may_come_again() {
    let (mut world, _) = two();
    let before = world.puts.len() - 1;
    world.step(1, &Step::Alone(2), 1);
    world.put(1);
    let after = world.puts.len() - 1;
    for order in [[before, after, before], [after, before, after]] {
        order.iter().for_each(|which| world.take(2, *which));
        assert!(world.copies[2].app(AppIx(2)).is_none());
        assert!(world.copies[2].app(AppIx(0)).is_some());
    }
    world.step(2, &Step::Learn(2), 1);
    world.put(2);
    world.take(1, world.puts.len() - 1);
    world.take(1, after);
    assert!(world.copies[1].app(AppIx(2)).is_some(), "a new session with it is none of the old");
}

#[test]
fn an_answer_from_before_another_proxys_token_mixes_no_parts_and_a_heartbeat_none_at_all() {
    let (mut world, rules) = two();
    world.now = at(30);
    let sent = world.copies[1].app(AppIx(0)).unwrap().sent(world.now, true);
    world.step(0, &Step::Learn(0), 1);
    world.put(0);
    world.take(1, world.puts.len() - 1);
    let app = world.copies[1].app_mut(AppIx(0)).unwrap();
    let before = held(app);
    let half = [pair("9", "9")[1]].map(|edit| Edit { role: Role::Token { token: 1, part: 1 }, ..edit });
    let whole = pair("9", "9").map(|edit| match edit.role {
        Role::Token { part, .. } => Edit { role: Role::Token { token: 1, part }, ..edit },
        Role::Plain => edit,
    });
    assert!(app.learn_from_beat(sent, &whole, at(40)).stale);
    app.learn(sent, &half, at(40));
    assert_eq!(held(app), before, "half a token that belongs to the one before");
    app.learn(sent, &whole, at(40));
    assert_ne!(held(app), before, "a form's answer, whole, outranks a page's");
    let _ = rules;
}

#[test]
fn what_a_proxy_has_under_way_is_its_own() {
    let (mut world, _) = two();
    let session = &mut world.copies[0];
    session.stream_opened();
    let app = session.app_mut(AppIx(2)).unwrap();
    app.request_began(at(50));
    (app.beat.armed, app.beat.in_flight) = (true, true);
    world.put(0);
    world.take(1, world.puts.len() - 1);
    let session = &world.copies[1];
    let app = session.app(AppIx(2)).unwrap();
    assert_eq!((session.streams, app.in_flight, app.beat.armed, app.beat.in_flight), (0, 0, false, false));
    world.step(1, &Step::Learn(2), 0);
    world.put(1);
    world.take(0, world.puts.len() - 1);
    let session = &world.copies[0];
    let app = session.app(AppIx(2)).unwrap();
    assert_eq!((session.streams, app.in_flight, app.beat.armed, app.beat.in_flight), (1, 1, true, true));
    assert_eq!(tokens(session, AppIx(2)), tokens(&world.copies[1], AppIx(2)));
}

#[test]
fn where_there_is_one_proxy_nothing_of_this_is_written() {
    let mut session = Session::new(Handle(7), at(0));
    learn(&mut session, &sharing()[0], Some(1), at(1));
    let alone = pack(&session).len();
    session.revise(at(2));
    assert!(pack(&session).len() > alone + 5);
    let mut before = Session::new(Handle(7), at(0));
    learn(&mut before, &sharing()[0], Some(1), at(1));
    let mut bytes = pack(&before);
    bytes[0] = 1;
    let read = unpack(&bytes);
    assert!(!read.is_revised() && read.app(AppIx(0)).is_some(), "and what the version before wrote is read");
    assert_eq!(bytes.len(), alone);
}
