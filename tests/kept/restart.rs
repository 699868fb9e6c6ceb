//! What people have is there after a restart: their sessions, under the same ids and names, watched as before.

use std::time::Duration;

use tokio::time::Instant;

use crate::app::App;
use crate::browser::Browser;
use crate::process::{Process, config};

fn handles(process: &Process) -> Vec<String> {
    let listed = process.api("/api/v1/sessions");
    let mut handles: Vec<String> = listed["sessions"]
        .as_array()
        .unwrap_or_else(|| panic!("{listed}"))
        .iter()
        .map(|session| session["id"].as_str().unwrap().to_owned())
        .collect();
    handles.sort();
    handles
}

#[test]
fn a_restart_signs_nobody_out_and_names_sessions_as_before() {
    let (app, other, folder) = (App::start(), App::start(), tempfile::tempdir().unwrap());
    let second = format!(
        "[apps.b]\npath = \"/b/\"\nupstreams = [\"http://{}\"]\nsession.engine = \"coldfusion\"\nsession.type = \"cf\"\n\
         heartbeat.path = \"/b/ping\"\n",
        other.address
    );
    let config = config(folder.path(), &app) + &second;
    let process = Process::start(folder.path(), &config);
    let mut people: Vec<(Browser, u64)> = (0..5)
        .map(|_| {
            let mut browser = Browser::default();
            let number = browser.sign_in(&process.address).unwrap();
            assert_eq!(browser.get(&process.address, "/a/page"), Some(number.to_string()), "bound");
            assert!(browser.get(&process.address, "/b/in").is_some(), "in the other app, too");
            (browser, number)
        })
        .collect();
    let in_b: Vec<_> =
        people.iter_mut().map(|(browser, _)| browser.get(&process.address, "/b/page")).collect();
    assert!(in_b.iter().flatten().all(|says| says != "none"), "{in_b:?}");
    // One whose cookie has not come back yet.
    let mut pending = Browser::default();
    let waits = pending.sign_in(&process.address).unwrap();
    let before = handles(&process);
    assert_eq!(process.stop(), 0);

    let mut process = Process::start(folder.path(), &config);
    process.wait_for("sessions of before are kept alive again");
    assert_eq!(handles(&process), before);
    for ((browser, number), in_b) in people.iter_mut().zip(in_b) {
        assert_eq!(browser.get(&process.address, "/a/page"), Some(number.to_string()));
        assert_eq!(browser.get(&process.address, "/b/page"), in_b);
    }
    assert_eq!(pending.get(&process.address, "/a/page"), Some(waits.to_string()));
    let (mut leaver, number) = people.pop().unwrap();
    let old = leaver.cookie.clone();
    assert_eq!(leaver.ask(&process.address, "POST", "/.bridge/logout").unwrap().status, 303);
    process.kill();

    let process = Process::start(folder.path(), &config);
    let mut thief = Browser::with(old);
    assert_eq!(thief.get(&process.address, "/a/page").as_deref(), Some("none"), "signed out is signed out");
    assert!(app.lives(number), "the app has no sign-out request here: its own session is its own");
}

#[test]
fn sessions_are_kept_alive_after_a_restart_with_nobody_there() {
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let config = config(folder.path(), &app) + "heartbeat.every = \"1s\"\nheartbeat.jitter = \"0%\"\n";
    let process = Process::start(folder.path(), &config);
    let mut browser = Browser::default();
    let number = browser.sign_in(&process.address).unwrap();
    assert_eq!(browser.get(&process.address, "/a/page"), Some(number.to_string()));
    process.kill();
    let before = app.beats();
    let _process = Process::start(folder.path(), &config);
    let until = Instant::now() + Duration::from_secs(60);
    while app.beats() < before + 2 {
        assert!(Instant::now() < until, "no heartbeat came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_second_process_waits_for_its_turn_and_a_wrong_key_is_refused_in_plain_words() {
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let config = config(folder.path(), &app);
    let first = Process::start(folder.path(), &config);
    let mut browser = Browser::default();
    let number = browser.sign_in(&first.address).unwrap();
    let mut second = Process::spawn(folder.path(), &config, "exec \"$0\" \"$@\"");
    second.wait_for("another process still has the store");
    assert_eq!(first.stop(), 0);
    let line = second.wait_for("\"listening\"");
    let address = line.split_once("\"address\":\"").unwrap().1.split('"').next().unwrap().to_owned();
    assert_eq!(browser.get(&address, "/a/page"), Some(number.to_string()));
    second.stop();

    let keys = folder.path().join("store/keys");
    std::fs::write(&keys, "k2 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let mut refused = Process::spawn(folder.path(), &config, "exec \"$0\" \"$@\"");
    assert_eq!(refused.ended(), 1);
    let said = refused.seen.join("\n");
    assert!(said.contains("was sealed with the key k1, which is not in"), "{said}");
}
