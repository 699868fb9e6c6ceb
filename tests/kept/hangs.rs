//! An app that takes connections and never says anything, as the whole process bears it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::app::App;
use crate::browser::Browser;
use crate::process::{Process, config};

/// People who ask at once.
const PEOPLE: usize = 100;
/// How often each asks.
const TIMES: usize = 20;
/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// The status of an answer to a request for `/hangs/` on a connection of its own.
fn asks(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /hangs/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Open files of a process, and kibibytes of its memory.
fn held(process: &Process) -> (usize, usize) {
    let files = std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    (files, line.split_whitespace().nth(1).unwrap().parse().unwrap())
}

#[test]
fn r9_an_app_that_hangs_takes_no_more_files_and_memory_than_who_asks_for_it_and_gives_all_back() {
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = silent.local_addr().unwrap();
    // Whoever connects is kept, and hears nothing.
    thread::spawn(move || silent.incoming().map(Result::unwrap).collect::<Vec<_>>());
    let config = format!("server.timeouts.first_byte = \"1s\"\n{}", config(folder.path(), &app))
        + &format!("[apps.hangs]\npath = \"/hangs/\"\nupstreams = [\"http://{hangs}\"]\n");
    let process = Process::start(folder.path(), &config);
    let mut browser = Browser::default();
    let number = browser.sign_in(&process.address).unwrap();
    assert_eq!(asks(&process.address), "504", "it is asked");
    let (files, memory) = held(&process);

    let people: Vec<_> = (0..PEOPLE)
        .map(|_| {
            let address = process.address.clone();
            thread::spawn(move || (0..TIMES).map(|_| asks(&address)).collect::<Vec<_>>())
        })
        .collect();
    let (mut most_files, mut most_memory, mut pages) = (0, 0, 0);
    while people.iter().any(|person| !person.is_finished()) {
        let (files, memory) = held(&process);
        (most_files, most_memory) = (most_files.max(files), most_memory.max(memory));
        assert_eq!(browser.get(&process.address, "/a/page"), Some(number.to_string()), "others go on");
        pages += 1;
    }
    let heard: Vec<String> = people.into_iter().flat_map(|person| person.join().unwrap()).collect();
    let count = |status: &str| heard.iter().filter(|heard| *heard == status).count();
    let (late, left_alone) = (count("504"), count("503"));
    assert_eq!(late + left_alone, PEOPLE * TIMES, "{heard:?}");
    assert!(left_alone > PEOPLE, "the circuit opens: {late} waited in vain");
    // Each has a connection here and one there at the most.
    assert!(most_files <= files + 2 * PEOPLE + 20, "{most_files} files, {files} before");
    assert!(most_memory <= memory + 64 * 1024, "{most_memory} KiB, {memory} before");
    assert!(pages > 0);
    let until = Instant::now() + DEADLINE;
    while held(&process).0 > files + 5 {
        assert!(Instant::now() < until, "{} files, {files} before", held(&process).0);
        thread::sleep(Duration::from_millis(20));
    }
}
