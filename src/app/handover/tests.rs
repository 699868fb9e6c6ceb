//! Tests of handing over, with successors that fail: `tests/handover.rs` has those that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::net::listener::Bound;

/// A shell as the successor.
fn shell(script: &str) -> Program {
    Program { path: "/bin/sh".into(), name: "sh".into(), arguments: vec!["-c".into(), script.into()] }
}

/// A hand-over to a shell that runs `script`, and how often the store was let go of and taken again.
fn handover(script: &str) -> (Handover, Drainer, [Arc<AtomicUsize>; 2]) {
    let counts = [Arc::default(), Arc::default()];
    let hook = |count: &Arc<AtomicUsize>| -> Hook {
        let count = Arc::clone(count);
        Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    };
    let hooks = Hooks { release: hook(&counts[0]), retake: hook(&counts[1]) };
    let sockets = Bound::bind(&"127.0.0.1:0".parse().unwrap(), 2).unwrap().take_sockets();
    let (drainer, _) = Drainer::new();
    (Handover::new(shell(script), sockets, drainer.clone(), hooks), drainer, counts)
}

async fn fails(script: &str) -> (String, [usize; 2]) {
    let (mut handover, drainer, counts) = handover(script);
    let error = handover.run(&Notify::new()).await.unwrap_err();
    assert!(!drainer.is_requested() && !drainer.is_held(), "this process serves on");
    assert_eq!(handover.sockets.len(), 2, "they are kept for another try");
    (error.to_string(), counts.map(|count| count.load(Ordering::Relaxed)))
}

#[tokio::test]
async fn a_successor_that_fails_changes_nothing() {
    let (error, counts) = fails("exit 78").await;
    assert_eq!(error, "the new process ended before it was ready to take over: exit status: 78");
    assert_eq!(counts, [0, 0]);
    // 3 and 4 are the sockets, 5 is the channel.
    let (error, counts) = fails("printf t >&5; dd bs=1 count=1 <&5 2>&-; exit 5").await;
    assert_eq!(error, "the new process ended before it was serving: exit status: 5");
    assert_eq!(counts, [1, 1], "the store was let go of, and taken again");
    let (error, _) = fails("printf x >&5; exec sleep 600").await;
    assert!(
        error.starts_with("the new process ended before it was ready to take over: signal: 9"),
        "{error}"
    );
}

#[tokio::test]
async fn a_successor_that_closes_its_channel_and_lives_on_is_ended() {
    let (error, _) = fails("exec sleep 600 5>&-").await;
    assert!(error.contains("signal: 9"), "{error}");
}

#[tokio::test]
async fn a_binary_that_is_not_there_is_told_with_its_name() {
    let (mut handover, ..) = handover("");
    handover.program.path = "/nowhere/sessionbridge".into();
    let error = handover.run(&Notify::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/sessionbridge cannot be started");
}

#[tokio::test(start_paused = true)]
async fn a_successor_that_says_nothing_is_ended_in_time() {
    let begun = Instant::now();
    // Time is paused: it leaps to the next timer whenever nothing else is to be done.
    let (error, counts) = fails("exec sleep 600").await;
    assert_eq!(error, "within 30s the new process was not ready to take over, and was ended");
    assert_eq!((begun.elapsed(), counts), (PATIENCE, [0, 0]));
}

#[tokio::test]
async fn who_is_to_stop_ends_its_successor() {
    let (mut handover, ..) = handover("exec sleep 600");
    let stop = Notify::new();
    stop.notify_one();
    let error = handover.run(&stop).await.unwrap_err();
    assert!(matches!(error, HandoverError::Stopped), "{error}");
}

#[tokio::test]
async fn a_successor_that_serves_has_the_sockets() {
    let (mut handover, drainer, counts) =
        handover("printf t >&5; dd bs=1 count=1 <&5 2>&- | grep -q r && printf s >&5; cat <&5");
    let pid = handover.run(&Notify::new()).await.unwrap();
    assert!(pid > 0 && drainer.is_requested() && handover.sockets.is_empty());
    assert_eq!(counts.map(|count| count.load(Ordering::Relaxed)), [1, 0]);
}

#[test]
fn a_name_without_a_folder_is_looked_for_where_the_shell_looks() {
    let shell = locate(Path::new("sh")).unwrap();
    assert!(shell.is_absolute() && shell.ends_with("sh"), "{}", shell.display());
    assert_eq!(locate(Path::new("no-such-program-anywhere")), None);
    let here = std::env::current_dir().unwrap();
    assert_eq!(locate(Path::new("./x/y")).unwrap(), here.join("x/y"));
    assert_eq!(locate(Path::new("/x/y")).unwrap(), Path::new("/x/y"));
}
