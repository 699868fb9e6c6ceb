//! The store is away, hangs, refuses, or has something else where a session should be.

use std::time::Duration;

use sessionbridge::secret::Secret;
use sessionbridge::store::shared::{self, SharedOptions, Topology};
use sessionbridge::store::{Fetched, Key, News, Outage};
use tokio::time::Instant;

use crate::proxy::{Proxy, keys, options, until};
use crate::server::{Server, free_port};

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_killed_store_stops_nobody_and_what_waited_is_written_when_it_is_back() {
    let mut server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    let toys: Vec<_> = (0..10).map(|name| one.session(name)).collect();
    for toy in &toys {
        one.save(toy).await;
    }
    server.kill();
    until("an outage", || one.store.fails()).await;
    // Who changes something is told at once, and so is who asks.
    for round in 0..100_u32 {
        for toy in &toys {
            toy.add(round);
            let mark = one.put(toy);
            let began = Instant::now();
            assert_eq!(one.store.committed(mark).await, Err(Outage));
            assert!(began.elapsed() < Duration::from_millis(100));
        }
    }
    assert_eq!(one.store.fetch(Key::Name([0; 8])).await, Err(Outage));
    assert_eq!(one.store.claim(b"x", Duration::from_secs(1)).await, Err(Outage));
    assert!(one.store.facts().waiting <= 20, "each session waits once, however often it changed");
    toys[0].end();
    let mark = one.put(&toys[0]);
    one.hears(News::Deaf).await;
    assert_eq!(one.store.news_heard_since(), None);
    server.restart();
    one.committed(mark).await;
    one.hears(News::First(0_u64.to_be_bytes())).await;
    until("health", || !one.store.fails()).await;
    assert_eq!(one.stored(9).await, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_store_that_hangs_costs_one_command_its_patience_and_nobody_else_anything() {
    let server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    let toy = one.session(1);
    one.save(&toy).await;
    server.hang();
    let began = Instant::now();
    assert_eq!(one.store.fetch(Key::Name([0; 8])).await, Err(Outage));
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert!(one.store.fails());
    let began = Instant::now();
    for _ in 0..1000 {
        assert_eq!(one.store.fetch(Key::Name([0; 8])).await, Err(Outage));
    }
    assert!(began.elapsed() < Duration::from_millis(200), "the breaker is open");
    assert!(one.hears(News::Deaf).await < Duration::from_secs(1), "also without a word it is noticed");
    toy.add(3);
    let mark = one.put(&toy);
    assert_eq!(one.store.committed(mark).await, Err(Outage));
    server.go_on();
    one.committed(mark).await;
    assert_eq!(one.stored(1).await, [3]);
    until("news", || one.store.news_heard_since().is_some()).await;
    assert_eq!(one.count(&News::All), 0, "nothing was lost");
    assert_eq!(one.count(&News::Again(1_u64.to_be_bytes())), 0);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_store_without_memory_takes_nothing_and_is_read_all_the_same() {
    let server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    let toy = one.session(1);
    toy.add(1);
    one.save(&toy).await;
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    toy.add(2);
    let mark = one.put(&toy);
    assert_eq!(one.store.committed(mark).await, Err(Outage));
    assert!(one.store.fails());
    assert_eq!(one.stored(1).await, [1], "it can be read");
    let ended = one.session(2);
    ended.end();
    let end = one.put(&ended);
    assert_eq!(one.store.committed(end).await, Err(Outage));
    assert!(one.store.facts().failures > 0);
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    one.committed(end).await;
    assert_eq!(one.stored(1).await, [1, 2]);
    assert!(!one.store.fails());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn what_nobody_can_read_is_written_over_and_ends_no_session() {
    let server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    let key = "sb:s:0000000000000001";
    server.ask::<()>(&["LPUSH", key, "foreign"]);
    let (bad, good) = (one.session(1), one.session(2));
    let marks = (one.put(&bad), one.put(&good));
    one.committed(marks.0).await;
    one.committed(marks.1).await;
    assert!(!bad.has_ended() && !good.has_ended());
    assert_eq!(server.ask::<String>(&["TYPE", key]), "string");
    assert!(matches!(one.store.fetch(Key::Name(1_u64.to_be_bytes())).await, Ok(Fetched::Record { .. })));
    // A string that is none of ours, and an index that leads nowhere.
    server.ask::<()>(&["SET", "sb:s:0000000000000003", "what is this, and why is it here?"]);
    assert_eq!(one.store.fetch(Key::Name(3_u64.to_be_bytes())).await, Err(Outage));
    let third = one.session(3);
    one.save(&third).await;
    assert!(matches!(one.store.fetch(Key::Name(3_u64.to_be_bytes())).await, Ok(Fetched::Record { .. })));
    server.ask::<()>(&["SET", "sb:t:0000000000000005", "short"]);
    assert_eq!(one.store.fetch(Key::Token(5)).await, Err(Outage));
    assert!(one.store.facts().shared.unwrap().refused >= 4);
    assert!(!one.store.fails(), "the store itself is well");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_record_that_was_tampered_with_is_not_believed() {
    let server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    for name in [1, 2] {
        one.save(&one.session(name)).await;
    }
    let first: Vec<u8> = server.ask(&["GET", "sb:s:0000000000000001"]);
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("SET").arg("sb:s:0000000000000002").arg(first).exec(&mut connection).unwrap();
    assert_eq!(one.store.fetch(Key::Name(2_u64.to_be_bytes())).await, Err(Outage));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn scripts_that_the_server_forgot_are_brought_again() {
    let server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    server.ask::<()>(&["SCRIPT", "FLUSH"]);
    let toy = one.session(1);
    toy.add(8);
    let mark = one.put(&toy);
    assert_eq!(one.store.committed(mark).await, Ok(()));
    assert_eq!(one.stored(1).await, [8]);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_server_that_becomes_a_replica_is_left() {
    let (server, other) = (Server::start(&[]), Server::start(&[]));
    let urls = [server.url(), other.url()];
    let one = Proxy::with(&options(&urls, Topology::Single));
    one.is_ready().await;
    let toy = one.session(1);
    toy.add(1);
    one.save(&toy).await;
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
    toy.add(2);
    let mark = one.put(&toy);
    one.committed(mark).await;
    until("the other", || !other.keys("sb:s:").is_empty()).await;
    assert_eq!(one.stored(1).await, [1, 2]);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn no_password_is_in_an_error_or_in_what_debug_shows() {
    let server = Server::start(&["--requirepass", "ratatosk-the-right-one"]);
    let keys = keys();
    let file = keys.path().join("keys");
    let port = server.port;
    let none = free_port();
    let urls = [
        format!("redis://:fenrir-the-wrong-one@127.0.0.1:{port}"),
        format!("redis://user:fenrir-the-wrong-one@127.0.0.1:{none}"),
        "http://user:fenrir-the-wrong-one@host".to_owned(),
        "redis://user:fenrir-the-wrong-one@host:port".to_owned(),
    ];
    for url in urls {
        let options = SharedOptions { urls: vec![Secret::new(url.as_bytes())], ..SharedOptions::default() };
        let error = shared::open(&options, &file, [1; 64]).unwrap_err();
        let mut said = format!("{error} {error:?} {options:?}");
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = cause {
            said.push_str(&error.to_string());
            cause = error.source();
        }
        assert!(!said.contains("fenrir") && !said.contains("user"), "{said}");
    }
    let right = format!("redis://:ratatosk-the-right-one@127.0.0.1:{port}");
    let one = Proxy::ready(&right).await;
    one.save(&one.session(1)).await;
    assert!(!format!("{:?}", one.store).contains("ratatosk"));
    let missing = shared::open(&options(&[right], Topology::Single), &keys.path().join("none"), [1; 64]);
    assert!(missing.unwrap_err().to_string().contains("give it to each of them"));
    assert!(!keys.path().join("none").exists(), "no key is made here");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn another_key_opens_nothing_and_a_store_that_evicts_is_told_of() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let one = Proxy::ready(&server.url()).await;
    assert!(one.store.facts().shared.unwrap().evicts);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "k2 BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let error = shared::open(&options(&[server.url()], Topology::Single), &file, [1; 64]).unwrap_err();
    assert!(error.to_string().contains("sealed with a key that is not in"), "{error}");
    server.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    until("no eviction", || !one.store.facts().shared.unwrap().evicts).await;
}
