//! Two proxies and what a store that they share does, step by step.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::super::options::Options;
use super::super::{Opened, Visitor, Walk};
use super::*;
use crate::bridge::app_session::Edit;
use crate::bridge::id::BridgeId;
use crate::bridge::rules::AppIx;
use crate::bridge::session::Session;
use crate::bridge::testing::{at, plain};
use crate::store::Key;
use crate::store::{Index, News};

const APP: AppIx = AppIx(3);

/// What is in the store: of what has ended, nothing but the head.
#[derive(Default)]
struct Shelf {
    all: BTreeMap<[u8; 8], (Head, Vec<u8>)>,
    tags: u64,
}

impl Shelf {
    /// Writes a session as the store's writer does, and tells how often it had to.
    fn write(&mut self, slot: &Slot) -> usize {
        for tries in 1.. {
            let mut record = Vec::new();
            let Some(mut head) = slot.write(&mut record) else { return 0 };
            match self.all.get(&slot.name()) {
                Some((there, _)) if there.ended => return tries,
                Some((there, theirs)) if !head.ended && there.tag != head.tag => {
                    slot.merge(theirs, there).unwrap();
                    continue;
                }
                _ => {}
            }
            self.tags += 1;
            head.tag = self.tags;
            self.all.insert(slot.name(), (head, record));
            slot.written(self.tags, slot.with(|session| session.last_activity));
            return tries;
        }
        0
    }

    fn fetch(&self, into: &Registry, of: &Slot, now: Timestamp) -> Result<Arc<Slot>, NotTaken> {
        let (head, record) = self.all.get(&of.name()).unwrap();
        into.take_in(head, (record, None), now)
    }

    fn index(&self, of: &Slot) -> usize {
        self.all.get(&of.name()).unwrap().0.index.len()
    }
}

fn proxies() -> [Registry; 2] {
    let clocks = Clocks {
        idle_timeout: Duration::from_secs(3600),
        presence_limit: None,
        presence_ttl: Duration::from_secs(90),
        max_lifetime: Duration::from_secs(12 * 3600),
    };
    let proxy = |me| {
        let registry = Registry::new(Options { max_sessions: 1000 }, clocks, &[7; 32]).shared_by(me, drop);
        registry.hears(Some(at(0)));
        registry
    };
    [proxy(1), proxy(2)]
}

fn by(id: &BridgeId) -> Key {
    Key::Id(*id.key().as_bytes())
}

fn visitor() -> Visitor {
    Visitor { address: Ipv4Addr::LOCALHOST.into(), agent: 1 }
}

fn opens(registry: &Registry, id: &BridgeId, now: u64) -> Option<Arc<Slot>> {
    match registry.open(id, visitor(), at(now)) {
        Opened::Session { slot, .. } => Some(slot),
        _ => None,
    }
}

/// A session that the first has made and written, whose cookie has come back there.
fn made(first: &Registry, shelf: &mut Shelf) -> (Arc<Slot>, BridgeId) {
    let (slot, id) = first.create([1; 16], at(0)).unwrap();
    opens(first, &id, 1).unwrap();
    first.save(&slot);
    shelf.write(&slot);
    (slot, id)
}

/// The same, and the second proxy's copy of it.
fn two() -> ([Registry; 2], Shelf, [Arc<Slot>; 2], BridgeId) {
    let (proxies, mut shelf) = (proxies(), Shelf::default());
    let (slot, id) = made(&proxies[0], &mut shelf);
    let copy = shelf.fetch(&proxies[1], &slot, at(2)).unwrap();
    (proxies, shelf, [slot, copy], id)
}

fn learns(slot: &Slot, app: AppIx, name: &str, now: u64) {
    slot.with(|session| {
        let app = session.app_or_new(app, at(now)).unwrap();
        let sent = app.sent(at(now), true);
        app.learn(sent, &[Edit { ..plain(name, Some("1")) }], at(now));
        app.request_ended(at(now));
    });
}

fn holds(slot: &Slot, app: AppIx) -> Vec<String> {
    slot.with(|session| session.app(app).map(crate::bridge::testing::held).unwrap_or_default())
}

fn rest(registry: &Registry, now: u64) {
    rounds(registry, 3, now);
}

fn rounds(registry: &Registry, rounds: usize, now: u64) {
    let mut walk = Walk::default();
    for _ in 0..rounds * registry.pieces() {
        registry.rest(&mut walk, at(now));
    }
}

#[test]
fn a_session_that_one_proxy_made_opens_on_another_and_is_read_again_when_it_may_have_changed() {
    let (proxies, mut shelf) = (proxies(), Shelf::default());
    let (slot, id) = made(&proxies[0], &mut shelf);
    assert!(proxies[1].known(by(&id)).is_none());
    let copy = shelf.fetch(&proxies[1], &slot, at(2)).unwrap();
    assert!(Arc::ptr_eq(&opens(&proxies[1], &id, 2).unwrap(), &copy));
    assert_eq!(proxies[1].counts(), proxies[0].counts());
    let fresh = |now| proxies[1].fresh(by(&id), at(now)).is_some();
    assert!(fresh(3) && fresh(30) && !fresh(40), "it is trusted for a while");
    let over = slot.with(|session| session.ends_at(&proxies[1].clocks()));
    shelf.fetch(&proxies[1], &slot, over.minus(Duration::from_secs(9))).unwrap();
    let fresh_at = |moment| proxies[1].fresh(by(&id), moment).is_some();
    assert!(fresh_at(over.minus(Duration::from_secs(1))) && !fresh_at(over), "by its clocks it is over");
    shelf.fetch(&proxies[1], &slot, over).unwrap();
    assert!(fresh_at(over), "and they are what is known");
    proxies[1].leave(&copy);
    let copy = shelf.fetch(&proxies[1], &slot, at(2)).unwrap();
    shelf.fetch(&proxies[1], &slot, at(5)).unwrap();
    proxies[1].doubt(slot.name(), at(6));
    assert!(!fresh(6) && proxies[1].is_doubted(&copy), "there was news of it");
    shelf.fetch(&proxies[1], &slot, at(6)).unwrap();
    assert!(!fresh(6), "it was asked for before the news, for all that anybody knows");
    shelf.fetch(&proxies[1], &slot, at(7)).unwrap();
    assert!(fresh(7) && !proxies[1].is_doubted(&copy));
    proxies[1].hears(None);
    assert!(!fresh(7), "nobody hears what the others change");
    proxies[1].hears(Some(at(8)));
    assert!(!fresh(8), "nobody heard what the others changed meanwhile");
    shelf.fetch(&proxies[1], &slot, at(9)).unwrap();
    assert!(fresh(9));
}

#[test]
fn both_proxies_change_a_session_and_both_changes_stay() {
    let (proxies, mut shelf, [slot, copy], _) = two();
    learns(&slot, APP, "first", 3);
    learns(&copy, AppIx(4), "second", 3);
    proxies[0].save(&slot);
    proxies[1].save(&copy);
    assert_eq!((shelf.write(&slot), shelf.write(&copy)), (1, 2), "the second one takes in what is there");
    assert!(!shelf.all.get(&slot.name()).unwrap().0.quiet, "and that is news");
    proxies[0].doubt(slot.name(), at(4));
    shelf.fetch(&proxies[0], &slot, at(5)).unwrap();
    for slot in [&slot, &copy] {
        assert_eq!((holds(slot, APP).len(), holds(slot, AppIx(4)).len()), (1, 1));
    }
    assert_eq!(shelf.write(&slot), 1);
}

#[test]
fn what_was_not_put_yet_is_still_to_be_put_after_another_copy_was_taken_in() {
    let (proxies, mut shelf, [slot, copy], _) = two();
    learns(&slot, APP, "first", 3);
    proxies[0].save(&slot);
    shelf.write(&slot);
    learns(&copy, AppIx(4), "second", 4);
    let (head, record) = shelf.all.get(&slot.name()).unwrap();
    copy.merge(record, head).unwrap();
    copy.with_kept(|kept| assert_ne!(kept.stamp, kept.stamped(), "who waits for it waits for a write"));
    shelf.fetch(&proxies[1], &slot, at(5)).unwrap();
    copy.with_kept(|kept| {
        assert_eq!(kept.stamp, kept.stamped(), "or whoever took another copy in has put it")
    });
    assert_eq!(shelf.write(&copy), 1);
    shelf.fetch(&proxies[0], &slot, at(6)).unwrap();
    assert_eq!(holds(&slot, AppIx(4)).len(), 1);
}

#[tokio::test]
async fn an_end_reaches_all_and_nothing_brings_the_session_back() {
    let (proxies, mut shelf, [slot, copy], id) = two();
    let before = shelf.all.get(&slot.name()).unwrap().clone();
    assert!(proxies[0].end(&slot, End::UserLogout, at(3)).is_some());
    shelf.write(&slot);
    let tomb = shelf.all.get(&slot.name()).unwrap();
    assert!(tomb.0.ended && tomb.1.is_empty());
    assert!(tomb.0.expires >= at(12 * 3600), "for as long as a copy of it may be anywhere");
    learns(&copy, APP, "late", 3);
    proxies[1].save(&copy);
    assert!(proxies[1].end_elsewhere(slot.name(), at(4)).is_some());
    copy.ended().await;
    assert!(copy.write(&mut Vec::new()).is_none(), "what waits to be written is no tombstone of ours");
    for proxy in &proxies {
        assert!(opens(proxy, &id, 5).is_none() && proxy.find(slot.handle).is_none());
        assert_eq!(proxy.counts().bound, 0);
        assert_eq!(proxy.take_in(&before.0, (&before.1, None), at(5)).unwrap_err(), NotTaken::Ended);
    }
    assert!(proxies[1].end_elsewhere(slot.name(), at(6)).is_none());
}

#[test]
fn a_session_of_which_nobody_has_heard_leaves_no_tombstone() {
    let [first, _] = proxies();
    let (slot, _) = first.create([1; 16], at(0)).unwrap();
    assert!(first.end(&slot, End::Evicted, at(1)).is_some());
    assert!(slot.write(&mut Vec::new()).is_none());
}

#[test]
fn an_id_that_was_replaced_on_one_proxy_opens_nothing_on_another_even_after_it_was_forgotten() {
    let (proxies, mut shelf, [slot, copy], id) = two();
    let second = proxies[0].renew(&slot, [2; 16], (visitor(), 0), at(10)).unwrap();
    proxies[0].save(&slot);
    shelf.write(&slot);
    shelf.fetch(&proxies[1], &slot, at(11)).unwrap();
    assert!(opens(&proxies[1], &second, 12).is_some());
    assert!(opens(&proxies[1], &id, 12).is_none(), "its successor has been shown");
    proxies[1].save(&copy);
    shelf.write(&copy);
    shelf.fetch(&proxies[0], &slot, at(13)).unwrap();
    assert!(opens(&proxies[0], &id, 13).is_none(), "there as well");
    // Long after, the first forgets it. A third has had nothing but the beginning.
    let third = Registry::new(Options { max_sessions: 9 }, proxies[0].clocks(), &[7; 32]).shared_by(3, drop);
    let (old, mut other) = (made(&proxies_one(), &mut Shelf::default()), Shelf::default());
    other.write(&old.0);
    let lags = other.fetch(&third, &old.0, at(14)).unwrap();
    assert!(opens(&third, &id, 15).is_some());
    let last = proxies[0].renew(&slot, [3; 16], (visitor(), 0), at(200)).unwrap();
    slot.with_kept(|kept| assert!(!kept.ids.iter().any(|held| held.key == id.key())));
    proxies[0].save(&slot);
    shelf.write(&slot);
    learns(&lags, APP, "late", 210);
    third.save(&lags);
    shelf.write(&lags);
    shelf.fetch(&proxies[0], &slot, at(211)).unwrap();
    for proxy in [&proxies[0], &third] {
        assert!(opens(proxy, &id, 212).is_none());
    }
    shelf.fetch(&third, &slot, at(213)).unwrap();
    assert!(opens(&third, &last, 214).is_some());
}

fn proxies_one() -> Registry {
    let [first, _] = proxies();
    first
}

#[test]
fn what_leads_to_a_session_is_entered_once_and_all_of_it_where_the_store_has_lost_it() {
    let (proxies, mut shelf, [slot, _], _) = two();
    let (head, _) = shelf.all.get(&slot.name()).unwrap();
    assert!(matches!(head.index[..], [Index::Id(_)]));
    proxies[0].own_token(APP, [&b"token"[..]].into_iter(), &slot);
    shelf.write(&slot);
    assert_eq!(shelf.index(&slot), 1, "the token, the id is there");
    shelf.write(&slot);
    assert_eq!(shelf.index(&slot), 0);
    proxies[0].hear(&News::All, at(4));
    rounds(&proxies[0], 1, 4);
    shelf.write(&slot);
    assert_eq!(shelf.index(&slot), 2);
    proxies[0].put_again(slot.name());
    shelf.write(&slot);
    assert_eq!(shelf.index(&slot), 2);
    let copy = shelf.fetch(&proxies[1], &slot, at(5)).unwrap();
    let token = proxies[1].token_hash(APP, [&b"token"[..]].into_iter());
    let found = proxies[1].fresh(Key::Token(token), at(6));
    assert!(found.is_some_and(|slot| Arc::ptr_eq(&slot, &copy)));
}

#[test]
fn copies_go_when_nobody_uses_them_and_what_is_owned_sleeps() {
    let (proxies, mut shelf, [slot, copy], id) = two();
    let handle = slot.handle;
    learns(&copy, APP, "late", 3);
    copy.with(|session| session.touch(APP, true, at(4)));
    drop((slot, copy));
    rounds(&proxies[1], 1, 10);
    let copy = proxies[1].find(handle).unwrap();
    assert_eq!(copy.with_kept(|kept| kept.copied.as_ref().unwrap().put.0), at(4), "first it is put");
    shelf.write(&copy);
    drop(copy);
    rest(&proxies[1], 500);
    assert!(proxies[1].find(handle).is_some(), "for an outage of the store");
    rest(&proxies[1], 1000);
    assert!(proxies[1].find(handle).is_none());
    assert_eq!((proxies[1].counts().bound, proxies[0].counts().bound), (0, 1));
    assert!(proxies[1].known(by(&id)).is_none());
    rest(&proxies[0], 20);
    // While it sleeps there is news of it.
    proxies[0].doubt(handle.0.to_be_bytes(), at(20));
    let slot = proxies[0].find(handle).unwrap();
    assert!(proxies[0].is_mine(&slot) && proxies[0].is_doubted(&slot));
    shelf.fetch(&proxies[0], &slot, at(21)).unwrap();
    assert_eq!(holds(&slot, APP).len(), 1);
    drop(slot);
    rest(&proxies[0], 30);
    let slot = proxies[0].find(handle).unwrap();
    assert!(!proxies[0].is_doubted(&slot), "what was known of it before it slept is known");
    let copy = shelf.fetch(&proxies[1], &slot, at(31)).unwrap();
    assert_eq!(proxies[1].owner_of(&copy), Some(1), "it may come again");
}

#[test]
fn a_session_of_a_proxy_that_is_gone_is_taken_over_and_stays_so() {
    let (proxies, mut shelf, [slot, copy], _) = two();
    assert!(!proxies[1].take_over(&copy, |owner| owner == 1));
    assert!(proxies[1].take_over(&copy, |_| false));
    shelf.write(&copy);
    assert!(proxies[1].is_mine(&copy) && proxies[0].is_mine(&slot), "nobody has told the first one");
    learns(&slot, APP, "late", 9);
    proxies[0].save(&slot);
    assert_eq!(shelf.write(&slot), 2);
    assert!(!proxies[0].is_mine(&slot), "whoever writes learns whose it is");
    shelf.fetch(&proxies[1], &slot, at(10)).unwrap();
    assert!(proxies[1].is_mine(&copy));
    assert!(matches!(proxies[0].open(&BridgeId::new([1; 16]), visitor(), at(4000)), Opened::Nothing));
    assert!(!slot.with(|session| session.has_ended()), "who does not own it does not end it by the clock");
    assert!(matches!(proxies[1].open(&BridgeId::new([1; 16]), visitor(), at(4000)), Opened::Over(..)));
}

#[test]
fn others_hear_of_clocks_that_have_moved_far_and_of_streams_that_stay_open() {
    let (proxies, mut shelf, [slot, _], _) = two();
    let put = || slot.with_kept(|kept| kept.copied.as_ref().unwrap().put);
    let before = put();
    slot.with(|session| session.touch(APP, true, at(5)));
    proxies[0].save(&slot);
    assert_eq!(put(), before);
    slot.with(|session| session.touch(APP, true, at(7)));
    proxies[0].save(&slot);
    assert_eq!(put().0, at(7));
    shelf.write(&slot);
    assert!(shelf.all.get(&slot.name()).unwrap().0.quiet, "that is no news");
    slot.with(Session::stream_opened);
    rest(&proxies[0], 100);
    assert_eq!(put().1, at(100), "others see that a page is open");
}

#[test]
fn a_cookie_that_comes_back_on_another_proxy_is_counted_once_on_each() {
    let (proxies, mut shelf) = (proxies(), Shelf::default());
    let (slot, id) = proxies[0].create([1; 16], at(0)).unwrap();
    proxies[0].save(&slot);
    shelf.write(&slot);
    let copy = shelf.fetch(&proxies[1], &slot, at(1)).unwrap();
    assert!(matches!(proxies[1].open(&id, visitor(), at(2)), Opened::Session { bound: true, .. }));
    proxies[1].save(&copy);
    shelf.write(&copy);
    learns(&slot, APP, "x", 3);
    // The writer takes it in, which no request has a part in.
    shelf.write(&slot);
    for proxy in &proxies {
        assert_eq!((proxy.counts().bound, proxy.counts().pending), (1, 0));
    }
    assert!(matches!(proxies[0].open(&id, visitor(), at(4)), Opened::Session { bound: false, .. }));
}
