//! What is written, read, told and shut away.

use std::time::Duration;

use sessionbridge::store::{Fetched, Index, Key, News};

use crate::proxy::{Proxy, TOKEN};
use crate::server::Server;

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_session_is_found_by_name_id_and_token_on_another_proxy() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    assert_eq!(one.secret, two.secret, "the installation's, not the process's");
    let toy = one.session(7);
    toy.add(1);
    toy.index(&[Index::Id([9; 16]), Index::Token(5)]);
    one.save(&toy).await;
    assert_eq!(two.stored(7).await, [1]);
    let wanted = two.fetch(7).await;
    for key in [Key::Id([9; 16]), Key::Token(5)] {
        assert_eq!(two.store.fetch(key).await.unwrap(), wanted);
    }
    assert_eq!(two.store.fetch(Key::Id([8; 16])).await.unwrap(), Fetched::Nothing);
    let Fetched::Record { head, .. } = wanted else { panic!() };
    assert_eq!((head.owner, head.tag), (one.store.me(), toy.head().tag));
    let listed: Vec<String> = server.ask(&["SMEMBERS", &format!("sb:o:{:016x}:7", one.store.me())]);
    assert_eq!(listed, ["7"]);
    let left: i64 = server.ask(&["PTTL", "sb:s:0000000000000007"]);
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn many_sessions_from_two_writers_lose_nothing() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    let mut pairs = Vec::new();
    for name in 0..20 {
        let first = one.session(name);
        one.save(&first).await;
        pairs.push((first, two.copy(name).await));
    }
    // Both change all of them, again and again, and neither waits for the other.
    for round in 0..50 {
        let mut last = None;
        for (first, second) in &pairs {
            first.add(2 * round);
            second.add(2 * round + 1);
            last = Some((one.put(first), two.put(second)));
        }
        if round % 10 == 9 {
            let (first, second) = last.unwrap();
            tokio::join!(one.committed(first), two.committed(second));
        }
    }
    let wanted: Vec<u32> = (0..100).collect();
    for name in 0..20 {
        assert_eq!(one.stored(name).await, wanted);
    }
    let conflicts = |proxy: &Proxy| proxy.store.facts().shared.unwrap().conflicts;
    let merges: u32 = pairs.iter().map(|(first, second)| first.merges() + second.merges()).sum();
    assert!(conflicts(&one) + conflicts(&two) > 0, "they never met");
    assert_eq!(conflicts(&one) + conflicts(&two), u64::from(merges) - 20, "20 were copied at first");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_group_of_many_thousands_is_settled_as_a_whole() {
    let server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    let toys: Vec<_> = (0..5000).map(|name| one.session(name)).collect();
    let mut last = sessionbridge::store::Mark::default();
    for toy in &toys {
        last = one.put(toy);
    }
    one.committed(last).await;
    assert_eq!(server.keys("sb:s:").len(), 5000);
    assert!(toys.iter().all(|toy| toy.head().tag != 0));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_tombstone_beats_what_is_written_later_and_its_first_writer_is_told_once() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    let name = 3_u64.to_be_bytes();
    let first = one.session(3);
    first.index(&[Index::Id([3; 16])]);
    one.save(&first).await;
    let second = two.copy(3).await;
    let third = two.session(4);
    two.save(&third).await;
    let copy = one.copy(4).await;
    // Both end it at once: one of them was first.
    first.end();
    second.end();
    let marks = (one.put(&first), two.put(&second));
    tokio::join!(one.committed(marks.0), two.committed(marks.1));
    let count = |news: &News| one.count(news) + two.count(news);
    assert_eq!((count(&News::First(name)), count(&News::Second(name))), (1, 1));
    assert_eq!(two.store.fetch(Key::Id([3; 16])).await.unwrap(), Fetched::Ended);
    // Put once more it is told to nobody.
    one.save(&first).await;
    two.save(&second).await;
    assert_eq!((count(&News::First(name)), count(&News::Second(name))), (1, 1));
    let listed: Vec<String> = server.ask(&["SMEMBERS", &format!("sb:o:{:016x}:3", one.store.me())]);
    assert!(listed.is_empty(), "it is nobody's any more");
    // Who does not know of it yet writes, and learns it.
    third.end();
    two.save(&third).await;
    copy.add(9);
    one.save(&copy).await;
    assert_eq!(one.fetch(4).await, Fetched::Ended);
    assert!(copy.has_ended());
    assert!(
        server.ask::<i64>(&["PTTL", "sb:s:0000000000000004"]) > 3_500_000,
        "as long as the session would have"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn changes_and_ends_are_heard_within_a_second_and_ones_own_are_not() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    let (toy, name) = (one.session(5), 5_u64.to_be_bytes());
    one.save(&toy).await;
    assert!(two.hears(News::Changed(name)).await < Duration::from_secs(1));
    toy.end();
    one.save(&toy).await;
    assert!(two.hears(News::Ended(name)).await < Duration::from_secs(1));
    assert_eq!(two.store.renote("names", None, b"{}").await.unwrap(), Ok(()));
    one.hears(News::Noted("names".to_owned())).await;
    // A write that only moves clocks is told to nobody.
    let other = one.session(8);
    other.quiet();
    one.save(&other).await;
    one.store.renote("names", Some(b"{}"), b"{1}").await.unwrap().unwrap();
    two.hears(News::Noted("names".to_owned())).await;
    assert_eq!(two.count(&News::Changed(8_u64.to_be_bytes())), 0);
    // The note came after its own: had they been told it would have heard them.
    assert_eq!(one.count(&News::Changed(name)) + one.count(&News::Ended(name)), 0);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn nothing_is_in_the_store_in_clear() {
    let server = Server::start(&[]);
    let one = Proxy::ready(&server.url()).await;
    let toy = one.session(6);
    toy.index(&[Index::Id([6; 16]), Index::Token(6)]);
    one.save(&toy).await;
    let minute = Duration::from_secs(60);
    one.store.deposit(b"ticket-of-ticket", TOKEN, minute).await.unwrap();
    assert!(one.store.claim(TOKEN, minute).await.unwrap());
    let keys = server.keys("");
    let kinds = ["s:", "i:", "t:", "o:", "c:", "k:", "m", "secret", "alive"];
    for kind in kinds {
        assert!(keys.iter().any(|key| key.starts_with(&format!("sb:{kind}"))), "no {kind} in {keys:?}");
    }
    let secrets = [TOKEN, &one.secret[..], b"ticket-of-ticket", b"59127733"];
    let mut all = 0;
    for key in &keys {
        let value: Vec<u8> = server.try_ask(&["DUMP", key]).unwrap();
        all += 1;
        for secret in secrets {
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            let shows = |text: &[u8]| {
                text.windows(secret.len()).any(|part| part == secret)
                    || text.windows(hex.len()).any(|part| part == hex.as_bytes())
            };
            assert!(!shows(key.as_bytes()) && !shows(&value), "{key} shows it");
        }
    }
    assert!(all >= kinds.len());
}
