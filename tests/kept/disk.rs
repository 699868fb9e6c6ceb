//! R3 of the fault list: the disk is full. Who was signed in goes on, nobody new is let in, and it heals by itself.

use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use crate::app::App;
use crate::browser::Browser;
use crate::process::{Process, config};

/// Bytes that a file of the process may have.
fn limit(process: &Process, bytes: &str) {
    let status = Command::new("prlimit")
        .args(["--pid", &process.id().to_string(), &format!("--fsize={bytes}")])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_full_disk_ends_nobodys_session_and_refuses_new_ones_until_there_is_room() {
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let config = config(folder.path(), &app);
    // A file that grows over its limit is an error, not the end of the process.
    let mut process = Process::start_as(folder.path(), &config, "trap '' XFSZ; exec \"$0\" \"$@\"");
    let mut signed_in = Browser::default();
    let number = signed_in.sign_in(&process.address).unwrap();
    assert_eq!(signed_in.get(&process.address, "/a/page"), Some(number.to_string()));
    limit(&process, "16:unlimited");
    let refused = Browser::default().ask(&process.address, "GET", "/a/in").unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.head.to_ascii_lowercase().contains("x-bridge-error: store_outage"), "{}", refused.head);
    assert!(!refused.head.contains("bridge="), "no id that a restart would forget");
    process.wait_for("the store cannot be written");
    let metrics = process.admin_text("/metrics");
    assert!(metrics.contains("sessionbridge_store_failing 1"), "{metrics}");
    assert_eq!(signed_in.get(&process.address, "/a/page"), Some(number.to_string()), "goes on");
    let next: u64 = signed_in.ask(&process.address, "POST", "/a/rotate").unwrap().body.parse().unwrap();
    assert_eq!(signed_in.get(&process.address, "/a/page"), Some(next.to_string()), "with new tokens, too");
    limit(&process, "unlimited");
    let until = Instant::now() + Duration::from_secs(60);
    let mut late = Browser::default();
    let new = loop {
        if let Some(number) = late.sign_in(&process.address) {
            break number;
        }
        assert!(Instant::now() < until, "it never healed");
        std::thread::sleep(Duration::from_millis(5));
    };
    process.wait_for("the store can be written again");
    assert!(process.admin_text("/metrics").contains("sessionbridge_store_failing 0"));
    process.kill();
    let process = Process::start(folder.path(), &config);
    assert_eq!(signed_in.get(&process.address, "/a/page"), Some(next.to_string()), "what waited was written");
    assert_eq!(late.get(&process.address, "/a/page"), Some(new.to_string()));
}
