//! Clocks that are written apart from records, and what is seen between two writes.

use std::time::Duration;

use sessionbridge::store::{Clocks, Fetched, Index, Key, News};
use sessionbridge::time::Timestamp;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::proxy::{Proxy, until};
use crate::server::Server;

fn clocks(name: u64, byte: u8) -> Clocks {
    Clocks { name: name.to_be_bytes(), bytes: SmallVec::from_slice(&[byte]), expires: Timestamp::FAR }
}

async fn stand(proxy: &Proxy, name: u64) -> Option<Vec<u8>> {
    match proxy.fetch(name).await {
        Fetched::Record { clocks, .. } => clocks,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn clocks_come_to_the_others_and_go_with_the_session() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    let session = one.session(1);
    one.save(&session).await;
    assert_eq!(stand(&two, 1).await, None);
    let began = Instant::now();
    one.store.put_clocks([clocks(1, 7)]);
    // Some, in several round trips, of which each is to come.
    one.store.put_clocks((2..3_000).map(|name| clocks(name, 1)));
    until("the clocks", || server.ask::<bool>(&["EXISTS", "sb:l:0000000000000001"])).await;
    assert!(began.elapsed() > Duration::from_millis(40), "they gather");
    one.store.settled().await.unwrap();
    assert_eq!((one.store.facts().clocks, server.keys("sb:l:").len()), (2_999, 2_999));
    assert_eq!(stand(&two, 1).await, Some(vec![7]));
    // What nobody with the key file has signed is not taken.
    server.ask::<()>(&["SET", "sb:l:0000000000000001", "12345678x"]);
    assert_eq!(stand(&two, 1).await, None);
    session.end();
    one.save(&session).await;
    assert!(!server.ask::<bool>(&["EXISTS", "sb:l:0000000000000001"]));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn clocks_that_the_store_did_not_get_are_sent_again_and_the_latest_count() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    one.save(&one.session(1)).await;
    server.hang();
    one.store.put_clocks([clocks(1, 7)]);
    until("an outage", || one.store.fails()).await;
    one.store.put_clocks([clocks(1, 8)]);
    server.go_on();
    one.is_ready().await;
    two.is_ready().await;
    until("a commit", || one.store.facts().clocks > 0).await;
    one.store.settled().await.unwrap();
    assert_eq!(stand(&two, 1).await, Some(vec![8]));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn what_leads_to_a_session_that_is_not_there_is_not_called_nothing() {
    let server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    let session = one.session(1);
    session.index(&[Index::Id([3; 16])]);
    one.save(&session).await;
    server.ask::<()>(&["DEL", "sb:s:0000000000000001"]);
    assert_eq!(one.store.fetch(Key::Id([3; 16])).await, Ok(Fetched::Dangling));
    assert_eq!(one.store.fetch(Key::Id([4; 16])).await, Ok(Fetched::Nothing));
    // Whoever writes it next is told that it was lost, and writes it as one that never was.
    session.add(4);
    one.save(&session).await;
    assert_eq!(one.stored(1).await, [4]);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_proxy_that_does_not_hear_what_it_tells_itself_is_deaf() {
    let server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    assert_eq!(one.count(&News::Deaf), 0);
    server.ask::<()>(&["ACL", "SETUSER", "default", "-publish"]);
    one.hears(News::Deaf).await;
    assert!(one.store.has_lease(), "the store itself is well");
    server.ask::<()>(&["ACL", "SETUSER", "default", "+publish"]);
    one.is_ready().await;
}
