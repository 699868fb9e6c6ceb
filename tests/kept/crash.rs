//! R1 of the fault list: the process is killed at random moments under people who sign in, get new tokens and sign out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::app::App;
use crate::browser::Browser;
use crate::process::{Process, config};
use crate::shortened;

const CLIENTS: u64 = 64;

/// What all clients share.
struct Scene {
    /// Of the process that runs, and how many have run.
    address: Mutex<(String, u32)>,
    restarted: Condvar,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Scene {
    fn address(&self) -> String {
        self.address.lock().unwrap().0.clone()
    }

    fn moves_to(&self, address: &str) {
        let mut now = self.address.lock().unwrap();
        *now = (address.to_owned(), now.1 + 1);
        self.restarted.notify_all();
    }

    /// How many processes have run; the next one is waited for where there are only `so_many`.
    fn after(&self, so_many: u32) -> u32 {
        let waits = |now: &mut (String, u32)| now.1 <= so_many && !self.stop.load(Ordering::Relaxed);
        self.restarted.wait_while(self.address.lock().unwrap(), waits).unwrap().1
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

/// One person: what she was told last, and what must not come back.
struct Person {
    browser: Browser,
    /// The session that the last answer acknowledged.
    signed_in: Option<u64>,
    /// Cookies of sessions whose end was acknowledged.
    ended: Vec<String>,
    random: u64,
}

impl Person {
    fn new(number: u64) -> Self {
        Self {
            browser: Browser::default(),
            signed_in: None,
            ended: Vec::new(),
            random: number * 0x9e37_79b9 + 1,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// One step. `None`: no whole answer came, so what she knows is void.
    fn step(&mut self, scene: &Scene) -> Option<()> {
        let address = scene.address();
        let Some(number) = self.signed_in else {
            self.signed_in = Some(self.browser.sign_in(&address)?);
            return Some(());
        };
        match self.draw(10) {
            0..6 => {
                let says = self.browser.get(&address, "/a/page")?;
                if says != number.to_string() {
                    scene.wrong(format!("session {number} was acknowledged, and is {says}"));
                    self.signed_in = None;
                }
            }
            6..8 => {
                let answer = self.browser.ask(&address, "POST", "/a/rotate")?;
                match answer.body.parse() {
                    Ok(next) => self.signed_in = Some(next),
                    Err(_) => scene.wrong(format!(
                        "session {number} was acknowledged, and at its renewal is {}",
                        answer.body
                    )),
                }
            }
            8 => {
                let cookie = self.browser.cookie.clone()?;
                let answer = self.browser.ask(&address, "GET", "/a/logout")?;
                if answer.status == 200 {
                    self.ended.push(cookie);
                    self.signed_in = None;
                }
            }
            _ => self.look_back(scene, &address)?,
        }
        Some(())
    }

    /// A cookie of a session that has ended opens nothing.
    fn look_back(&mut self, scene: &Scene, address: &str) -> Option<()> {
        let cookie = match self.ended.len() as u64 {
            0 => return Some(()),
            many => {
                let at = self.draw(many) as usize;
                self.ended[at].clone()
            }
        };
        let mut thief = Browser::with(Some(cookie));
        let says = thief.get(address, "/a/page")?;
        if says != "none" {
            scene.wrong(format!("a session that was signed out is {says} again"));
        }
        Some(())
    }

    /// Has something acknowledged, of each kind in its turn.
    fn be_told(&mut self, scene: &Scene, turn: u32) {
        let address = scene.address();
        if self.signed_in.is_none() || turn.is_multiple_of(3) {
            self.browser.cookie = None;
            self.signed_in = Some(self.browser.sign_in(&address).unwrap());
        } else if turn % 3 == 1 {
            let answer = self.browser.ask(&address, "POST", "/a/rotate").unwrap();
            self.signed_in = Some(answer.body.parse().unwrap());
        } else {
            self.ended.extend(self.browser.cookie.clone());
            assert_eq!(self.browser.get(&address, "/a/logout").as_deref(), Some("out"));
            self.signed_in = None;
        }
    }

    /// What was acknowledged is so.
    fn check(&mut self, scene: &Scene) {
        let address = scene.address();
        if let Some(number) = self.signed_in {
            let says = self.browser.get(&address, "/a/page");
            if says != Some(number.to_string()) {
                scene.wrong(format!("session {number} was acknowledged a moment before, and is {says:?}"));
            }
        }
        if let Some(last) = self.ended.last().cloned() {
            let says = Browser::with(Some(last)).get(&address, "/a/page");
            if says.as_deref() != Some("none") {
                scene.wrong(format!("a session that was signed out a moment before is {says:?}"));
            }
        }
    }

    /// After an answer that never came: whatever is, is.
    fn resume(&mut self, scene: &Scene) {
        self.signed_in = self.browser.get(&scene.address(), "/a/page").and_then(|says| says.parse().ok());
    }
}

fn live(number: u64, scene: &Scene) {
    let mut person = Person::new(number);
    let mut processes = scene.after(0);
    while !scene.stop.load(Ordering::Relaxed) {
        match person.step(scene) {
            Some(()) => drop(scene.acknowledged.fetch_add(1, Ordering::Relaxed)),
            None => {
                processes = scene.after(processes);
                person.resume(scene);
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_crash_and_nothing_signed_out_comes_back() {
    let (kills, app, folder) = (shortened(200, 12), App::start(), tempfile::tempdir().unwrap());
    let config = config(folder.path(), &app);
    let mut process = Process::start(folder.path(), &config);
    let scene = Arc::new(Scene {
        address: Mutex::new((process.address.clone(), 1)),
        restarted: Condvar::new(),
        stop: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
        wrong: Mutex::default(),
    });
    let people: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let scene = Arc::clone(&scene);
            thread::spawn(move || live(number + 1, &scene))
        })
        .collect();
    let mut sniper = Person::new(4_711);
    for kill in 0..kills {
        // Not before something was acknowledged; then at any moment, or as soon as the killer was told something herself.
        let before = scene.acknowledged.load(Ordering::Relaxed);
        while scene.acknowledged.load(Ordering::Relaxed) < before + 200 {
            thread::sleep(Duration::from_millis(1));
        }
        match kill % 2 {
            0 => thread::sleep(Duration::from_micros(sniper.draw(100_000))),
            _ => sniper.be_told(&scene, kill),
        }
        process.kill();
        process = Process::start(folder.path(), &config);
        scene.moves_to(&process.address);
        sniper.check(&scene);
        assert!(scene.wrong.lock().unwrap().is_empty(), "{:#?}", scene.wrong.lock().unwrap());
    }
    scene.stop.store(true, Ordering::Relaxed);
    scene.moves_to(&process.address);
    people.into_iter().for_each(|person| person.join().unwrap());
    assert!(scene.wrong.lock().unwrap().is_empty(), "{:#?}", scene.wrong.lock().unwrap());
    assert!(app.mixed().is_empty(), "{:?}", app.mixed());
    eprintln!("{kills} kills, {} answers acknowledged", scene.acknowledged.load(Ordering::Relaxed));
}
