//! Claims, one-time things and notes: one of those who ask gets them, however many ask at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::proxy::{Proxy, until};
use crate::server::Server;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn of_many_who_claim_one_has_it_until_he_gives_it_up_or_it_runs_out() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    for round in 0..50_u32 {
        let what = round.to_be_bytes();
        let claims = (0..10).map(|at| if at % 2 == 0 { &one } else { &two }.store.claim(&what, MINUTE));
        let got = join_all(claims).await.into_iter().filter(|claimed| claimed == &Ok(true)).count();
        assert_eq!(got, 1, "in round {round}");
    }
    assert!(one.store.claim(b"once", MINUTE).await.unwrap());
    two.store.unclaim(b"once").await;
    assert!(!two.store.claim(b"once", MINUTE).await.unwrap(), "it was not his to give up");
    one.store.unclaim(b"once").await;
    assert!(two.store.claim(b"once", Duration::from_millis(50)).await.unwrap());
    until("its end", || server.keys("sb:c:").len() == 50).await;
    assert!(one.store.claim(b"once", MINUTE).await.unwrap());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn what_is_deposited_is_withdrawn_once() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    for round in 0..50_u8 {
        let under = [round; 16];
        one.store.deposit(&under, b"value", MINUTE).await.unwrap();
        assert_eq!(two.store.peek(&under).await.unwrap().unwrap()[..], b"value"[..]);
        let all = (0..10).map(|at| if at % 2 == 0 { &one } else { &two }.store.withdraw(&under));
        let got: Vec<_> = join_all(all).await.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(got.len(), 1, "in round {round}");
        assert_eq!(got[0][..], b"value"[..]);
    }
    assert!(one.store.peek(&[0; 16]).await.unwrap().is_none());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_note_is_changed_only_by_who_knows_it() {
    let server = Server::start(&[]);
    let (one, two) = (Proxy::ready(&server.url()).await, Proxy::ready(&server.url()).await);
    let name = "names";
    assert_eq!(one.store.noted(name).await.unwrap(), None);
    let firsts = tokio::join!(one.store.renote(name, None, b"one"), two.store.renote(name, None, b"two"));
    let (first, second) = (firsts.0.unwrap(), firsts.1.unwrap());
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let is = one.store.noted(name).await.unwrap().unwrap();
    assert_eq!(two.store.renote(name, Some(b"another"), b"x").await.unwrap(), Err(Some(is.clone())));
    assert_eq!(two.store.renote(name, Some(&is), b"three").await.unwrap(), Ok(()));
    // By the queue: what is compared with is what was seen last, and who has seen less is told.
    one.store.note(name, b"four".to_vec());
    one.hears(sessionbridge::store::News::Noted(name.to_owned())).await;
    one.store.settled().await.unwrap();
    assert_eq!(two.store.noted(name).await.unwrap().unwrap(), b"three");
    for value in 0..100_u8 {
        one.store.note(name, vec![value]);
    }
    one.store.settled().await.unwrap();
    assert_eq!(two.store.noted(name).await.unwrap().unwrap(), [99]);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_thousand_askers_at_once_are_all_answered() {
    let server = Server::start(&[]);
    let one = Arc::new(Proxy::ready(&server.url()).await);
    let toy = one.session(1);
    toy.add(4);
    one.save(&toy).await;
    let all = join_all((0..1000).map(|_| one.stored(1))).await;
    assert!(all.iter().all(|values| values == &[4]));
}
