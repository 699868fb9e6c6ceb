//! The store has lost something: what was acknowledged comes back, and who signed out does not.

use sessionbridge::store::shared::Topology;
use sessionbridge::store::{Fetched, Key, News, Outage};

use crate::proxy::{Proxy, options, until};
use crate::server::Server;

/// Two proxies with sessions of their own, one that both have, and one that ended.
async fn filled(urls: &[String]) -> (Proxy, Proxy) {
    let options = options(urls, Topology::Single);
    let (one, two) = (Proxy::with(&options), Proxy::with(&options));
    one.is_ready().await;
    two.is_ready().await;
    for name in 0..50 {
        let toy = one.session(name);
        toy.add(1);
        one.save(&toy).await;
        let toy = two.session(100 + name);
        toy.add(2);
        two.save(&toy).await;
    }
    let both = two.copy(0).await;
    both.add(7);
    two.save(&both).await;
    let gone = two.copy(1).await;
    gone.end();
    two.save(&gone).await;
    one.hears(News::Ended(1_u64.to_be_bytes())).await;
    (one, two)
}

/// All is there that was, and nothing that was not.
async fn is_whole(one: &Proxy, two: &Proxy, server: &Server) {
    until("all of them", || server.keys("sb:s:").len() == 100).await;
    one.store.settled().await.unwrap();
    two.store.settled().await.unwrap();
    for name in 2..50 {
        assert_eq!(one.stored(name).await, [1]);
        assert_eq!(one.stored(100 + name).await, [2]);
    }
    assert_eq!(one.stored(0).await, [1, 7]);
    assert_eq!(one.fetch(1).await, Fetched::Ended);
    assert_eq!(one.count(&News::First(1_u64.to_be_bytes())), 0);
    assert_eq!(two.count(&News::First(1_u64.to_be_bytes())), 1, "its apps are told once");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn an_emptied_store_is_filled_again_and_nobody_is_told_that_a_session_is_not_there() {
    let server = Server::start(&[]);
    let (one, two) = filled(&[server.url()]).await;
    let notes = one.store.renote("names", None, b"noted").await.unwrap();
    assert_eq!(notes, Ok(()));
    server.ask::<()>(&["FLUSHALL"]);
    // From the first moment on.
    let asked = two.store.fetch(Key::Name(5_u64.to_be_bytes())).await;
    assert!(asked == Err(Outage) || matches!(asked, Ok(Fetched::Record { .. })), "{asked:?}");
    one.hears(News::All).await;
    two.hears(News::All).await;
    is_whole(&one, &two, &server).await;
    let three = Proxy::ready(&server.url()).await;
    assert_eq!(three.secret, one.secret, "the secret is there again");
    assert_eq!(three.store.noted("names").await.unwrap().unwrap(), b"noted");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_store_that_comes_back_empty_is_filled_again() {
    let mut server = Server::start(&[]);
    let (one, two) = filled(&[server.url()]).await;
    server.kill();
    until("an outage", || one.store.fails() && two.store.fails()).await;
    server.restart();
    one.hears(News::All).await;
    two.hears(News::All).await;
    is_whole(&one, &two, &server).await;
    let facts = one.store.facts().shared.unwrap();
    assert_eq!(facts.reassertions, 1);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_replica_that_lags_and_is_promoted_gets_what_it_missed() {
    let mut master = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    until("the replica", || {
        replica.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    let (one, two) = {
        let urls = [master.url(), replica.url()];
        let options = options(&urls, Topology::Single);
        (Proxy::with(&options), Proxy::with(&options))
    };
    one.is_ready().await;
    two.is_ready().await;
    let toys: Vec<_> = (0..20).map(|name| one.session(name)).collect();
    for toy in &toys {
        one.save(toy).await;
    }
    until("the replica's", || replica.keys("sb:s:").len() == 20).await;
    // From here on it hears nothing more, as one that lags; what is acknowledged now it does not have.
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    for toy in &toys[..10] {
        toy.add(5);
        one.save(toy).await;
    }
    let ended = two.copy(15).await;
    ended.end();
    two.save(&ended).await;
    let new = two.session(40);
    two.save(&new).await;
    master.kill();
    one.hears(News::Again(0_u64.to_be_bytes())).await;
    until("the lost ones", || {
        replica.keys("sb:s:").len() == 21 && one.store.facts().waiting == 0 && !one.store.fails()
    })
    .await;
    one.store.settled().await.unwrap();
    two.store.settled().await.unwrap();
    for name in 0..10 {
        assert_eq!(one.stored(name).await, [5]);
    }
    assert_eq!(one.fetch(15).await, Fetched::Ended, "who signed out is not back");
    assert!(matches!(one.fetch(40).await, Fetched::Record { .. }));
    assert_eq!(one.count(&News::All), 0, "the rest was not lost");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_tombstone_is_back_before_a_proxy_that_missed_it_can_write() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    let toy = one.session(1);
    one.save(&toy).await;
    let copy = two.copy(1).await;
    toy.end();
    one.save(&toy).await;
    two.hears(News::Ended(1_u64.to_be_bytes())).await;
    drop(one);
    // The only one that wrote it is gone; who heard of it puts it back.
    server.ask::<()>(&["FLUSHALL"]);
    two.hears(News::All).await;
    two.store.settled().await.unwrap();
    assert!(copy.has_ended());
    let three = Proxy::ready(&server.url()).await;
    assert_eq!(three.fetch(1).await, Fetched::Ended);
    let late = three.session(1);
    late.add(1);
    three.save(&late).await;
    assert!(late.has_ended());
}
