//! Tests of joined connections, over pairs in memory.

use std::future::pending;
use std::rc::Rc;

use tokio::io::DuplexStream;
use tokio::task::{JoinHandle, spawn_local};

use super::*;
use crate::net::testing::{local, read_rest, read_until, secs};

/// Frames of these tests end with a full stop.
fn close(bytes: &'static str) -> CloseFrame {
    CloseFrame { bytes: Bytes::from_static(bytes.as_bytes()), watch: Box::new(|bytes| bytes.ends_with(b".")) }
}

struct Joined {
    client: DuplexStream,
    app: DuplexStream,
    end: Rc<Notify>,
    task: JoinHandle<Spliced>,
}

fn start() -> Joined {
    let (client, client_far) = tokio::io::duplex(1024);
    let (app, app_far) = tokio::io::duplex(1024);
    let end = Rc::new(Notify::new());
    let ended = Rc::clone(&end);
    let options = Splice {
        stream_idle: secs(3600),
        ended: async move { ended.notified().await },
        to_client: Some(close("bye client.")),
        to_app: Some(close("bye app.")),
    };
    Joined { client, app, end, task: spawn_local(join(client_far, app_far, options)) }
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_and_a_half_close_leaves_the_other_half() {
    local(async {
        let mut t = start();
        t.client.write_all(b"up.").await.unwrap();
        assert_eq!(read_until(&mut t.app, "up.").await, "up.");
        t.client.shutdown().await.unwrap();
        assert_eq!(read_rest(&mut t.app).await, "");
        t.app.write_all(b"still here").await.unwrap();
        assert_eq!(read_until(&mut t.client, "here").await, "still here");
        drop(t.app);
        let spliced = t.task.await.unwrap();
        assert_eq!(spliced, Spliced { reason: SpliceEnd::Closed, to_client: 10, to_app: 3 });
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silence_of_both_ends_it_and_a_word_of_one_does_not() {
    local(async {
        let mut t = start();
        let begun = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(secs(3599)).await;
            t.app.write_all(b".").await.unwrap();
        }
        let spliced = t.task.await.unwrap();
        assert_eq!(spliced.reason, SpliceEnd::Idle);
        assert_eq!(begun.elapsed(), secs(3 * 3599 + 3600));
        assert_eq!(read_rest(&mut t.client).await, "...");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_between_frames_says_goodbye_to_both() {
    local(async {
        let mut t = start();
        t.app.write_all(b"one.").await.unwrap();
        assert_eq!(read_until(&mut t.client, ".").await, "one.");
        t.end.notify_one();
        assert_eq!(read_rest(&mut t.client).await, "bye client.");
        assert_eq!(read_rest(&mut t.app).await, "bye app.");
        assert_eq!(t.task.await.unwrap().reason, SpliceEnd::Ended);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_inside_a_frame_waits_for_its_rest() {
    local(async {
        let mut t = start();
        t.app.write_all(b"on").await.unwrap();
        assert_eq!(read_until(&mut t.client, "on").await, "on");
        t.end.notify_one();
        assert_eq!(read_until(&mut t.app, "bye app.").await, "bye app.");
        t.app.write_all(b"e.").await.unwrap();
        assert_eq!(read_rest(&mut t.client).await, "e.bye client.");
        t.task.await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_end_is_cut_after_a_second_without_goodbye() {
    local(async {
        let mut t = start();
        t.app.write_all(b"on").await.unwrap();
        assert_eq!(read_until(&mut t.client, "on").await, "on");
        let begun = Instant::now();
        t.end.notify_one();
        assert_eq!(read_rest(&mut t.client).await, "");
        assert_eq!(begun.elapsed(), FAREWELL);
        assert_eq!(t.task.await.unwrap().reason, SpliceEnd::Ended);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_side_that_breaks_ends_the_other() {
    local(async {
        let t = start();
        drop(t.client);
        let mut app = t.app;
        // The client is gone for good: what the app says finds nobody.
        let _ = app.write_all(b"hello?").await;
        assert_eq!(t.task.await.unwrap().reason, SpliceEnd::Broken);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_close_frame_an_end_just_closes() {
    local(async {
        let (mut client, client_far) = tokio::io::duplex(1024);
        let (_app, app_far) = tokio::io::duplex(1024);
        let options = Splice { stream_idle: secs(60), ended: async {}, to_client: None, to_app: None };
        let task = spawn_local(join(client_far, app_far, options));
        assert_eq!(read_rest(&mut client).await, "");
        assert_eq!(task.await.unwrap().reason, SpliceEnd::Ended);
        let idle = Splice { stream_idle: secs(60), ended: pending(), to_client: None, to_app: None };
        let (a, _keep_a) = tokio::io::duplex(8);
        let (b, _keep_b) = tokio::io::duplex(8);
        assert_eq!(join(a, b, idle).await.reason, SpliceEnd::Idle);
    })
    .await;
}
