//! Tests of bodies: what passes, what ends them, and that each end is told once.

use std::collections::VecDeque;

use http_body_util::BodyExt as _;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::net::testing::{Ends, data, script, secs};

async fn collect(body: Body) -> Result<Vec<u8>, BodyError> {
    body.collect().await.map(|all| all.to_bytes().to_vec())
}

#[tokio::test]
async fn simple_bodies_know_their_size() {
    assert!(Body::empty().is_end_stream());
    assert!(Body::full("").is_end_stream());
    let body = Body::full("abc");
    assert_eq!(body.size_hint().exact(), Some(3));
    assert_eq!(collect(body).await.unwrap(), b"abc");
    let body =
        Body::prefixed([Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")], Body::full("de"));
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(collect(body).await.unwrap(), b"abcde");
}

#[tokio::test]
async fn the_end_is_told_once_whatever_it_is() {
    let ends = Ends::default();
    let mut body = Body::full("abc").on_end(ends.hook());
    body.frame().await.unwrap().unwrap();
    assert_eq!(ends.seen(), ["Complete 3"], "told with the last frame, since hyper asks no more");
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(ends.seen().len(), 1);

    let ends = Ends::default();
    let (say, body) = script();
    let mut body = body.on_end(ends.hook());
    say.send(data("abcd")).unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(ends.seen(), ["Aborted 4"]);

    let ends = Ends::default();
    drop(Body::empty().on_end(ends.hook()));
    assert_eq!(ends.seen(), ["Complete 0"]);
}

#[tokio::test]
async fn a_body_over_its_limit_fails_and_one_at_it_does_not() {
    let ends = Ends::default();
    let (say, body) = script();
    say.send(data("abc")).unwrap();
    say.send(data("de")).unwrap();
    let mut body = body.limited(4).on_end(ends.hook());
    body.frame().await.unwrap().unwrap();
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, BodyError::TooLarge { limit: 4 }));
    assert!(body.frame().await.is_none(), "nothing follows an error");
    drop(body);
    assert_eq!(ends.seen(), ["Failed(TooLarge { limit: 4 }) 3"]);

    let (say, body) = script();
    say.send(data("abcd")).unwrap();
    drop(say);
    assert_eq!(collect(body.limited(4)).await.unwrap(), b"abcd");
}

#[tokio::test(start_paused = true)]
async fn a_body_without_progress_stalls_and_a_slow_one_does_not() {
    let (say, body) = script();
    let mut body = body.stalling_after(secs(30));
    let feed = async {
        for _ in 0..5 {
            tokio::time::sleep(secs(29)).await;
            say.send(data("x")).unwrap();
        }
    };
    let read = async {
        for _ in 0..5 {
            body.frame().await.unwrap().unwrap();
        }
    };
    tokio::join!(feed, read);
    // Time in which nobody reads is no stall.
    tokio::time::sleep(secs(100)).await;
    let start = Instant::now();
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, BodyError::Stalled { .. }));
    assert_eq!(start.elapsed(), secs(30));
}

#[tokio::test]
async fn trailers_pass_and_end_the_body() {
    let ends = Ends::default();
    let (say, body) = script();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    say.send(data("a")).unwrap();
    say.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
    let body = body.filtered(HoldBack::new(3)).on_end(ends.hook());
    let all = body.collect().await.unwrap();
    assert_eq!(all.trailers(), Some(&trailers));
    assert_eq!(all.to_bytes(), "a");
    assert_eq!(ends.seen(), ["Complete 1"]);
}

#[tokio::test]
async fn a_filter_that_changes_the_length_is_found_out() {
    for filter in [|_: Bytes| Bytes::from_static(b"longer"), |_: Bytes| Bytes::new()] {
        let (say, body) = script();
        say.send(data("abc")).unwrap();
        drop(say);
        assert!(matches!(collect(body.filtered(filter)).await, Err(BodyError::Filter)));
    }
}

#[tokio::test]
async fn chunks_put_back_pass_no_filter_twice_and_count_once() {
    let ends = Ends::default();
    let (say, body) = script();
    say.send(data("ab")).unwrap();
    say.send(data("cd")).unwrap();
    drop(say);
    let upper = |chunk: Bytes| chunk.to_ascii_uppercase().into();
    let mut body = body.filtered(upper).limited(4).on_end(ends.hook());
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "AB");
    assert_eq!(collect(Body::prefixed([Bytes::from_static(b"xy")], body)).await.unwrap(), b"xyCD");
    assert_eq!(ends.seen(), ["Complete 4"]);
}

/// Keeps the last bytes back, as a filter does that looks for a name across chunks.
struct HoldBack {
    keep: usize,
    held: VecDeque<u8>,
}

impl HoldBack {
    fn new(keep: usize) -> Self {
        Self { keep, held: VecDeque::new() }
    }
}

impl Filter for HoldBack {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self.held.extend(chunk);
        let out = self.held.len().saturating_sub(self.keep);
        self.held.drain(..out).collect()
    }

    fn finish(&mut self) -> Bytes {
        self.held.drain(..).collect()
    }
}

proptest! {
    #[test]
    fn a_filter_that_holds_back_loses_nothing(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9),
        keep in 0_usize..12,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (say, body) = script();
        for chunk in &chunks {
            say.send(Ok(Frame::data(Bytes::from(chunk.clone())))).unwrap();
        }
        drop(say);
        let ends = Ends::default();
        let body = body.filtered(HoldBack::new(keep)).on_end(ends.hook());
        let all = runtime.block_on(collect(body)).unwrap();
        prop_assert_eq!(&all, &chunks.concat());
        prop_assert_eq!(ends.seen(), [format!("Complete {}", all.len())]);
    }
}
