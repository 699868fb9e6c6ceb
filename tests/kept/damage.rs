//! A record that nobody can read any more: found behind the start, it ends the process in plain words; what the others hold is not
//! lost.

use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use crate::app::App;
use crate::browser::Browser;
use crate::process::{Process, config};

/// Turns one bit round in the middle of a record, of whichever session, or back again.
fn turn_a_bit(folder: &Path) {
    let database = Database::builder(folder.join("store/db")).open().unwrap();
    let sessions = database.keyspace("sessions", KeyspaceCreateOptions::default).unwrap();
    let (name, record) = sessions.first_key_value().unwrap().into_inner().unwrap();
    let mut record = record.to_vec();
    let middle = record.len() / 2;
    record[middle] ^= 1;
    sessions.insert(name, record).unwrap();
    database.persist(PersistMode::SyncAll).unwrap();
}

#[test]
fn a_record_that_does_not_open_ends_the_process_in_plain_words_and_loses_nothing() {
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let config = config(folder.path(), &app);
    let process = Process::start(folder.path(), &config);
    let mut people: Vec<(Browser, u64)> = (0..20)
        .map(|_| {
            let mut browser = Browser::default();
            let number = browser.sign_in(&process.address).unwrap();
            (browser, number)
        })
        .collect();
    assert_eq!(process.stop(), 0);

    turn_a_bit(folder.path());
    let mut refused = Process::spawn(folder.path(), &config, "exec \"$0\" \"$@\"");
    assert_eq!(refused.ended(), 1);
    let said = refused.seen.join("\n");
    assert!(said.contains("is damaged: a record does not open"), "{said}");
    assert!(said.contains("Restore it from a backup, or move it away"), "{said}");

    turn_a_bit(folder.path());
    let process = Process::start(folder.path(), &config);
    for (browser, number) in &mut people {
        assert_eq!(browser.get(&process.address, "/a/page"), Some(number.to_string()));
    }
}
