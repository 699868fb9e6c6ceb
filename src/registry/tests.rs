//! Sessions that sleep are found, seen and ended like those that are awake.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::agenda::{Entry, Watch};
use super::*;
use crate::bridge::testing::{self, at};

const APP: AppIx = AppIx(3);

fn registry() -> Registry {
    let clocks = Clocks {
        idle_timeout: Duration::from_secs(3600),
        presence_limit: None,
        presence_ttl: Duration::from_secs(90),
        max_lifetime: Duration::from_secs(12 * 3600),
    };
    Registry::new(Options { max_sessions: 1000 }, clocks, &[7; 32])
}

fn visitor() -> Visitor {
    Visitor { address: Ipv4Addr::LOCALHOST.into(), agent: 1 }
}

/// A session whose cookie has come back, and its id.
fn bound(registry: &Registry, n: u8) -> (Arc<Slot>, BridgeId) {
    let (slot, id) = registry.create([n; 16], at(0)).unwrap();
    assert!(matches!(registry.open(&id, visitor(), at(1)), Opened::Session { bound: true, .. }));
    (slot, id)
}

/// Time passes in which nobody does anything.
fn rest(registry: &Registry) {
    let mut walk = Walk::default();
    for _ in 0..3 * registry.pieces() {
        registry.rest(&mut walk, at(0));
    }
}

/// How many sessions are awake, and how many sleep.
fn awake_and_asleep(registry: &Registry) -> (usize, usize) {
    let (mut walk, mut counts) = (Walk::default(), (0, 0));
    while let Some(seen) = registry.table.look(&mut walk) {
        let awake = seen.iter().filter(|seen| matches!(seen, Seen::Awake(_))).count();
        counts = (counts.0 + awake, counts.1 + seen.len() - awake);
    }
    counts
}

#[test]
fn whoever_finds_a_session_that_sleeps_wakes_it() {
    let registry = registry();
    let (slot, id) = bound(&registry, 1);
    registry.own_token(APP, [&b"token"[..]].into_iter(), &slot);
    slot.with(|session| session.touch(APP, true, at(7)));
    let second = registry.second_id(&slot, [2; 16]).unwrap();
    let third = registry.renew(&slot, [3; 16], (visitor(), 0), at(8)).unwrap();
    let (handle, ticket) = (slot.handle, slot.ticket);
    let waiting = Entry { slot, watch: Watch::Beat(APP) }.waiting();
    let ways: [&dyn Fn() -> Option<Arc<Slot>>; 7] = [
        &|| opened(registry.open(&id, visitor(), at(9))),
        &|| opened(registry.open(&second, visitor(), at(9))),
        &|| opened(registry.open(&third, visitor(), at(9))),
        &|| registry.find(handle),
        &|| registry.slot(ticket),
        &|| registry.owner(APP, [&b"token"[..]].into_iter()),
        &|| registry.entry(waiting).filter(|entry| entry.watch == Watch::Beat(APP)).map(|entry| entry.slot),
    ];
    for (at_way, way) in ways.into_iter().enumerate() {
        rest(&registry);
        assert_eq!(awake_and_asleep(&registry), (0, 1), "way {at_way}");
        // The first id was replaced, and is over once the third has come back.
        let Some(slot) = way() else { panic!("way {at_way}") };
        assert_eq!(awake_and_asleep(&registry), (1, 0), "way {at_way}");
        assert_eq!(slot.with(|session| (session.handle, session.last_activity)), (handle, at(7)));
    }
    rest(&registry);
    assert!(opened(registry.open(&id, visitor(), at(10))).is_none(), "what was over is over after sleep");
}

fn opened(opened: Opened) -> Option<Arc<Slot>> {
    match opened {
        Opened::Session { slot, .. } => Some(slot),
        _ => None,
    }
}

#[test]
fn a_session_that_somebody_has_to_do_with_stays_awake() {
    let registry = registry();
    let (slot, _) = bound(&registry, 1);
    rest(&registry);
    assert_eq!(awake_and_asleep(&registry), (1, 0), "it is held");
    assert_eq!(slot.depart(APP, APP, at(2)), Flight::Go { first: true });
    let ticket = slot.ticket;
    drop(slot);
    rest(&registry);
    assert_eq!(awake_and_asleep(&registry), (1, 0), "a first request is on its way");
    registry.slot(ticket).unwrap().land(APP);
    rest(&registry);
    assert_eq!(awake_and_asleep(&registry), (0, 1));
}

#[test]
fn what_waits_for_a_session_that_has_ended_finds_nobody_in_its_place() {
    let registry = registry();
    let (slot, _) = bound(&registry, 1);
    let waiting = Entry { slot: Arc::clone(&slot), watch: Watch::End }.waiting();
    assert_eq!(waiting.watch(), Watch::End);
    assert!(registry.end(&slot, End::Operator, at(3)).is_some());
    let ended = Arc::downgrade(&slot);
    drop(slot);
    assert!(ended.upgrade().is_none(), "nothing is left of it");
    // The same head of the id's hash, so the same part of the table, whose only free cell is taken.
    let (slot, id) = bound(&registry, 1);
    assert_eq!(slot.ticket.place, waiting.ticket().place);
    assert!(registry.entry(waiting).is_none());
    drop(slot);
    rest(&registry);
    assert!(registry.entry(waiting).is_none(), "nor asleep");
    assert!(opened(registry.open(&id, visitor(), at(4))).is_some());
}

#[test]
fn one_walk_sees_each_session_once() {
    let registry = registry();
    let slots: Vec<_> = (0..200).map(|n| bound(&registry, n).0).collect();
    let awake: Vec<_> = slots.iter().step_by(3).map(Arc::clone).collect();
    let _ = registry.second_id(&awake[0], [255; 16]);
    let mut handles: Vec<_> = slots.iter().map(|slot| slot.handle).collect();
    drop(slots);
    rest(&registry);
    assert_eq!(awake_and_asleep(&registry), (awake.len(), 200 - awake.len()));
    let mut seen = Vec::new();
    registry.each(|session, ticket| {
        seen.push((session.handle, ticket));
        true
    });
    assert!(
        seen.iter().all(|(handle, ticket)| registry.slot(*ticket).is_some_and(|slot| slot.handle == *handle))
    );
    let mut seen: Vec<_> = seen.into_iter().map(|(handle, _)| handle).collect();
    seen.sort_unstable();
    handles.sort_unstable();
    assert_eq!(seen, handles);
}

#[test]
fn a_session_is_found_by_its_last_tokens_and_a_token_leads_to_whom_it_was_given_last() {
    let registry = registry();
    let ((first, _), (second, _)) = (bound(&registry, 1), bound(&registry, 2));
    let token = |n: u8| [n; 4];
    let owner = |n| registry.owner(APP, [&token(n)[..]].into_iter()).map(|slot| slot.handle);
    let own = |n, slot| registry.own_token(APP, [&token(n)[..]].into_iter(), slot);
    // The first one is what the app still has, under whatever others have brought meanwhile.
    let still = [testing::token(0, 0, 1, Some("0000"))];
    first.with(|session| {
        let app = session.app_or_new(APP, at(1)).unwrap();
        app.learn(app.sent(at(1), false), &still, at(1))
    });
    registry.own_token(APP, [&b"0000"[..]].into_iter(), &first);
    (1..11).for_each(|n| own(n, &first));
    assert_eq!(registry.owner(APP, [&b"0000"[..]].into_iter()).map(|slot| slot.handle), Some(first.handle));
    assert_eq!((owner(1), owner(3)), (None, None), "long replaced");
    assert_eq!(owner(4), Some(first.handle));
    own(9, &second);
    assert_eq!(owner(9), Some(second.handle));
    own(9, &first);
    assert_eq!(owner(9), Some(first.handle));
    assert!(registry.end(&first, End::UserLogout, at(5)).is_some());
    assert_eq!((owner(9), owner(8)), (None, None));
    own(4, &first);
    assert_eq!(owner(4), None, "an ended session is given nothing");
}

#[tokio::test]
async fn nobody_waits_for_clocks_to_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let place = crate::store::Place { folder: folder.path().join("store"), keys: folder.path().join("keys") };
    let opened = crate::store::open(&place, [1; 64]).unwrap();
    let (store, clocks) = (opened.store(), registry().clocks());
    opened.read(1, || |_, _: &[u8]| Ok(())).unwrap().start().unwrap();
    let registry = Registry::kept_in(store.clone(), Options { max_sessions: 1000 }, clocks, &[7; 32]);
    let (slot, _) = bound(&registry, 1);
    assert_eq!(registry.saved(&slot).await, Ok(()));
    store.close().unwrap();
    slot.with(|session| session.touch(APP, true, at(7)));
    registry.put(&slot);
    assert_eq!(registry.saved(&slot).await, Ok(()), "only its clocks wait for the store to come back");
    slot.with(|session| session.app_or_new(APP, at(8)).is_some());
    assert!(registry.saved(&slot).await.is_err(), "this would be news");
}

/// What is in a store, taken in, sealed.
struct TakenIn {
    registry: Registry,
    laid: restoring::Laid,
    opener: crate::store::Opener,
}

impl TakenIn {
    fn from(place: &crate::store::Place) -> Self {
        let opened = crate::store::open(place, [1; 64]).unwrap();
        let (store, opener, secret) = (opened.store(), opened.opener(), *opened.secret());
        let registry = Registry::kept_in(store, Options { max_sessions: 1000 }, registry().clocks(), &secret);
        registry.expect(opened.count().unwrap(), &opener, at(100));
        let laid = restoring::Laid::default();
        let read = opened.read(2, || {
            let mut restoring = registry.restoring(&laid, at(100));
            move |name, front: &[u8]| {
                restoring.lay(name, front).unwrap();
                Ok(())
            }
        });
        registry.restored();
        read.unwrap().start().unwrap();
        Self { registry, laid, opener }
    }

    /// Opens all that is left, and lets go of the store's records.
    fn open(self, mut look: impl FnMut(&mut Session, Ticket)) -> Registry {
        while !self.registry.open_next(&self.laid, &self.opener, &mut look).unwrap() {}
        self.registry.all_open();
        self.registry
    }
}

async fn close(registry: &Registry) {
    registry.store().settled().await.unwrap();
    registry.store().close().unwrap();
}

#[tokio::test]
async fn what_an_earlier_process_kept_is_found_before_it_is_opened_and_is_opened_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = crate::store::Place { folder: folder.path().join("store"), keys: folder.path().join("keys") };
    let before = TakenIn::from(&place).open(|_, _| {});
    let token = |n: u8| [[n; 9]];
    let own = |registry: &Registry, n: u8, slot: &Arc<Slot>| {
        registry.own_token(APP, token(n).iter().map(|part| &part[..]), slot);
    };
    let bound: Vec<_> = (1..=4).map(|n| bound(&before, n)).collect();
    for ((slot, _), n) in bound.iter().zip(1..) {
        own(&before, n, slot);
        slot.with(|session| session.app_or_new(APP, at(3)).is_some());
        before.save(slot);
    }
    let pending: Vec<_> =
        [(8, 7), (9, 6)].map(|(n, made)| before.create([n; 16], at(made)).unwrap()).into_iter().collect();
    pending.iter().for_each(|(slot, _)| before.save(slot));
    close(&before).await;

    let handle = |at: usize| bound[at].0.handle;
    let taken = TakenIn::from(&place);
    let now = &taken.registry;
    assert_eq!(now.counts(), Counts { bound: 4, pending: 2 });
    let waits: Vec<_> = now.pending().iter().map(|ticket| now.slot(*ticket).unwrap().handle).collect();
    assert_eq!(waits, [pending[1].0.handle, pending[0].0.handle], "the oldest would make room first");
    assert!(matches!(now.open(&bound[0].1, visitor(), at(101)), Opened::Session { bound: false, .. }));
    let owner = now.owner(APP, token(2).iter().map(|part| &part[..])).unwrap();
    assert_eq!(owner.handle, handle(1));
    let third = now.find(handle(2)).unwrap();
    assert!(now.end(&third, End::UserLogout, at(102)).is_some());
    let all = |registry: &Registry| {
        let mut all = Vec::new();
        registry.each(|session, ticket| {
            all.push((session.handle, ticket));
            true
        });
        all.sort_unstable();
        all
    };
    let mut wanted = vec![handle(0), handle(1), pending[0].0.handle, pending[1].0.handle];
    wanted.sort_unstable();
    let handles = |all: Vec<(Handle, Ticket)>| all.into_iter().map(|(handle, _)| handle).collect::<Vec<_>>();
    assert_eq!(handles(all(now)), wanted, "those who were asked for");
    wanted.push(handle(3));
    wanted.sort_unstable();

    let mut shown = Vec::new();
    let mut show = |session: &mut Session, ticket| {
        session.watched = at(500);
        shown.push((session.handle, ticket));
    };
    // One that was asked for sleeps again by then.
    rest(now);
    let now = taken.open(&mut show);
    shown.sort_unstable();
    assert_eq!(shown, all(&now), "each once, those who were asked for before as well");
    assert_eq!(handles(shown.clone()), wanted);
    for (handle, ticket) in shown {
        let slot = now.slot(ticket).unwrap();
        assert_eq!((slot.handle, slot.with(|session| session.watched)), (handle, at(500)));
    }
    assert!(matches!(now.open(&bound[2].1, visitor(), at(103)), Opened::Nothing), "over is over");
    close(&now).await;
}

#[tokio::test]
async fn what_another_key_has_sealed_is_sealed_anew_whoever_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = crate::store::Place { folder: folder.path().join("store"), keys: folder.path().join("keys") };
    let before = TakenIn::from(&place).open(|_, _| {});
    let people: Vec<_> = (1..=3).map(|n| bound(&before, n)).collect();
    people.iter().for_each(|(slot, _)| before.save(slot));
    close(&before).await;
    let old = std::fs::read_to_string(&place.keys).unwrap();
    let line = "k2 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    std::fs::write(&place.keys, line.to_owned() + &old).unwrap();
    let now = TakenIn::from(&place);
    assert!(matches!(now.registry.open(&people[0].1, visitor(), at(101)), Opened::Session { .. }));
    rest(&now.registry);
    close(&now.open(|_, _| {})).await;
    std::fs::write(&place.keys, line).unwrap();
    let now = TakenIn::from(&place).open(|_, _| {});
    for (_, id) in &people {
        assert!(matches!(now.open(id, visitor(), at(201)), Opened::Session { .. }));
    }
    close(&now).await;
}
