//! People who sign in, get new tokens, change proxies and sign out, while proxies are killed and the store fails, one after the other.
//!
//! Everybody stays on one proxy while the store is away: what another has is not promised then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;

use tokio::time::Instant;

use crate::browser::{Answer, Browser};
use crate::shortened;
use crate::stage::{HEALED, NEWS, Stage};

const PEOPLE: u64 = 24;

/// What all share.
struct Scene {
    /// Where the proxies are; whoever reads it may change proxies, and whoever writes begins an outage, or ends it.
    well: RwLock<bool>,
    addresses: Mutex<Vec<String>>,
    over: AtomicBool,
    acknowledged: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Scene {
    fn address(&self, number: usize) -> String {
        self.addresses.lock().unwrap()[number].clone()
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

/// One person: what she was told last, and what must not come back.
struct Somebody {
    browser: Browser,
    home: usize,
    /// The session that the last answer acknowledged.
    session: Option<u64>,
    /// Cookies of sessions whose end was acknowledged, and when.
    ended: Vec<(String, Instant)>,
    random: u64,
}

impl Somebody {
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Asks where she is at home; elsewhere from then on, where that one is gone.
    fn ask(&mut self, scene: &Scene, method: &str, target: &str) -> Option<Answer> {
        let answer = self.browser.ask(&scene.address(self.home), method, target);
        match &answer {
            None => self.home = 1 - self.home,
            Some(answer) if answer.status >= 500 => scene.wrong(format!("{method} {target}: {answer:?}")),
            Some(_) => drop(scene.acknowledged.fetch_add(1, Ordering::Relaxed)),
        }
        answer.filter(|answer| answer.status < 500)
    }

    fn step(&mut self, scene: &Scene) {
        let Some(session) = self.session else {
            self.session = self.ask(scene, "GET", "/a/in").and_then(|answer| answer.body.parse().ok());
            return;
        };
        match self.draw(12) {
            0..6 => self.looks(scene, session),
            6..8 => {
                // Whether it was done, where no answer came, nobody knows; the session is the same.
                let _ = self.ask(scene, "POST", "/a/rotate");
            }
            8 => {
                let cookie = self.browser.bridge().cloned();
                let answer = self.ask(scene, "GET", "/a/logout");
                self.session = None;
                if answer.is_some_and(|answer| answer.status == 200) {
                    self.ended.extend(cookie.map(|cookie| (cookie, Instant::now())));
                } else {
                    // She leaves what she cannot know anything of.
                    self.browser = Browser::default();
                }
            }
            9..11 => {
                let well = scene.well.read().unwrap();
                if *well {
                    self.home = 1 - self.home;
                    self.looks(scene, session);
                }
            }
            _ => self.looks_back(scene),
        }
    }

    fn looks(&mut self, scene: &Scene, session: u64) {
        if let Some(answer) = self.ask(scene, "GET", "/a/page").filter(|own| own.body != session.to_string())
        {
            scene.wrong(format!("session {session} was acknowledged, and is {}", answer.body));
            self.session = None;
        }
    }

    /// A cookie of a session that has ended opens nothing.
    fn looks_back(&mut self, scene: &Scene) {
        let well = scene.well.read().unwrap();
        let many = self.ended.len() as u64;
        if many == 0 || !*well {
            return;
        }
        let which = self.draw(many) as usize;
        let (cookie, at) = self.ended[which].clone();
        if at.elapsed() < NEWS {
            return;
        }
        let number = self.draw(2) as usize;
        let mut thief = Browser::with_bridge(&cookie);
        if let Some(says) = thief.get(&scene.address(number), "/a/page").filter(|says| says != "none") {
            scene.wrong(format!("a session that was signed out {:?} ago is {says} again", at.elapsed()));
        }
    }
}

/// Lets so many answers be acknowledged.
fn some_answers(scene: &Scene, many: u64) {
    let before = scene.acknowledged.load(Ordering::Relaxed);
    crate::until("people are served", || {
        scene.acknowledged.load(Ordering::Relaxed) >= before + many || !scene.wrong.lock().unwrap().is_empty()
    });
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn nothing_acknowledged_is_lost_and_nobody_is_back_whatever_fails_next() {
    let mut stage = Stage::new();
    let scene = Scene {
        well: RwLock::new(true),
        addresses: Mutex::new(vec![stage.at(0).to_owned(), stage.at(1).to_owned()]),
        over: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
        wrong: Mutex::default(),
    };
    let rounds = shortened(100, 4);
    thread::scope(|scope| {
        for number in 0..PEOPLE {
            let scene = &scene;
            scope.spawn(move || {
                let random = (number + 1) * 0x9e37_79b9 + 1;
                let home = number as usize % 2;
                let mut somebody =
                    Somebody { browser: Browser::default(), home, session: None, ended: Vec::new(), random };
                while !scene.over.load(Ordering::Relaxed) {
                    somebody.step(scene);
                }
            });
        }
        for round in 0..rounds {
            some_answers(&scene, 300);
            if !scene.wrong.lock().unwrap().is_empty() {
                break;
            }
            if round % 2 == 0 {
                let number = round / 2 % 2;
                stage.proxies[number].kill();
                some_answers(&scene, 100);
                stage.replace(number);
                scene.addresses.lock().unwrap()[number] = stage.at(number).to_owned();
                continue;
            }
            *scene.well.write().unwrap() = false;
            match round / 2 % 4 {
                0 => stage.server.kill(),
                1 => stage.server.stop(),
                2 => stage.links[0].cut(),
                _ => drop(stage.server.ask(&["FLUSHALL"])),
            }
            some_answers(&scene, 200);
            match round / 2 % 4 {
                0 => stage.server.restart(),
                1 => stage.server.go_on(),
                2 => stage.links[0].open(),
                _ => {}
            }
            // From then on everything holds everywhere.
            let back = Instant::now();
            crate::until("the promised time is over", || back.elapsed() > HEALED);
            *scene.well.write().unwrap() = true;
        }
        scene.over.store(true, Ordering::Relaxed);
    });
    assert!(scene.wrong.lock().unwrap().is_empty(), "{:#?}", scene.wrong.lock().unwrap());
    stage.nothing_was_mixed();
    eprintln!("{rounds} failures, {} answers acknowledged", scene.acknowledged.load(Ordering::Relaxed));
}
