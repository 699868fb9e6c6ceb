//! Who is alive, who owns what, and who takes it over.

use std::collections::HashMap;
use std::time::Duration;

use sessionbridge::store::{Fetched, News};

use crate::proxy::{Proxy, until};
use crate::server::Server;

/// When each proxy's lease was renewed last, in the order of their names.
const RENEWED: &str = "local names = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(names)
local all = {}
for _, who in ipairs(names) do table.insert(all, redis.call('ZSCORE', KEYS[1], who)) end
return all";

fn taken(proxy: &Proxy) -> Vec<u64> {
    let mine = proxy.news().into_iter().filter_map(|news| match news {
        News::Mine { name } => Some(u64::from_be_bytes(name)),
        _ => None,
    });
    mine.collect()
}

/// Each of `all` was taken over by one of the proxies, once, and is listed with it.
async fn each_once(proxies: &[&Proxy], all: &[u64], server: &Server) {
    until("all of them", || proxies.iter().map(|proxy| taken(proxy).len()).sum::<usize>() >= all.len()).await;
    let mut owners = HashMap::new();
    for proxy in proxies {
        for name in taken(proxy) {
            assert!(owners.insert(name, proxy.store.me()).is_none(), "{name} was taken twice");
        }
    }
    for name in all {
        let owner = owners[name];
        let Fetched::Record { head, .. } = proxies[0].fetch(*name).await else { panic!("{name} is gone") };
        assert_eq!((head.owner, head.epoch), (owner, 1));
        let set = format!("sb:o:{owner:016x}:{}", name & 0xfff);
        assert_eq!(server.ask::<i64>(&["SISMEMBER", &set, &name.to_string()]), 1);
    }
    assert_eq!(owners.len(), all.len());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn what_a_dead_proxy_owned_is_taken_over_by_the_others_each_session_once() {
    let server = Server::start(&[]);
    let dead = Proxy::ready(&server.url()).await;
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    let all: Vec<u64> = (0..3000_u64).map(|name| name.wrapping_mul(0x9e37_79b9) & 0x7fff_ffff).collect();
    let mut mark = sessionbridge::store::Mark::default();
    for name in &all {
        mark = dead.put(&dead.session(*name));
    }
    dead.committed(mark).await;
    // One has expired, and one was ended by another.
    server.ask::<()>(&["DEL", &format!("sb:s:{:016x}", all[0])]);
    let ended = one.copy(all[1]).await;
    ended.end();
    one.save(&ended).await;
    let own = one.session(77);
    one.save(&own).await;
    let me = dead.store.me();
    until("three", || one.store.facts().shared.unwrap().members == 3).await;
    assert!(one.store.is_alive(me));
    // It dies: nothing is given up.
    drop(dead);
    let took = until("its death", || !one.store.is_alive(me)).await;
    assert!(took > Duration::from_secs(2), "a lease holds for a while: {took:?}");
    each_once(&[&one, &two], &all[2..], &server).await;
    assert!(!taken(&one).is_empty() && !taken(&two).is_empty(), "both do their share");
    until("nothing left", || server.keys(&format!("sb:o:{me:016x}")).is_empty()).await;
    until("to be forgotten", || server.ask::<i64>(&["ZCARD", "sb:m"]) == 2).await;
    assert_eq!(own.head().owner, one.store.me(), "the living keep theirs");
    let takeovers = |proxy: &Proxy| proxy.store.facts().shared.unwrap().takeovers;
    assert_eq!(takeovers(&one) + takeovers(&two), 2998);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn who_stops_in_order_gives_up_at_once_and_writes_on() {
    let server = Server::start(&[]);
    let (old, new) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    let all: Vec<u64> = (1000..1100).collect();
    let toys: Vec<_> = all.iter().map(|name| old.session(*name)).collect();
    for toy in &toys {
        old.put(toy);
    }
    let close = std::thread::scope(|scope| scope.spawn(|| old.store.close()).join().unwrap());
    assert_eq!(close, Ok(()), "what waited is written");
    assert!(old.store.is_closed() && !old.store.has_lease());
    let began = tokio::time::Instant::now();
    each_once(&[&new], &all, &server).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // A request that was under way.
    toys[0].add(6);
    let mark = old.put(&toys[0]);
    old.committed(mark).await;
    assert_eq!(new.stored(1000).await, [6]);
    let head = toys[0].head();
    assert_eq!((head.owner, head.epoch), (new.store.me(), 1), "the old owner has learnt it");
    old.store.retake().unwrap();
    until("a lease", || old.store.has_lease()).await;
    assert!(taken(&old).is_empty());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_store_that_was_away_for_longer_than_a_lease_makes_nobody_an_heir() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    let (first, second) = (one.session(1), two.session(2));
    one.save(&first).await;
    two.save(&second).await;
    server.hang();
    until("no lease", || !one.store.has_lease() && !two.store.has_lease()).await;
    server.go_on();
    one.is_ready().await;
    two.is_ready().await;
    // Some beats later nothing has been taken.
    let renewed = || server.ask::<Vec<f64>>(&["EVAL", RENEWED, "1", "sb:m"]);
    for _ in 0..5 {
        let last = renewed();
        until("a beat of both", || renewed().iter().zip(&last).all(|(now, last)| now > last)).await;
    }
    assert_eq!(one.store.facts().shared.unwrap().members, 2);
    assert!(taken(&one).is_empty() && taken(&two).is_empty());
    assert!(one.count(&News::Deaf) > 0, "who had no lease looks at everything anew");
}
