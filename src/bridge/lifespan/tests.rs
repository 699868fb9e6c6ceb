use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000;
/// 20 minutes, a heartbeat each 400 s.
const TERMS: Terms = Terms {
    timeout: Duration::from_millis(20 * MINUTE),
    interval: Duration::from_millis(400_000),
    jitter_percent: 20,
};

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// People's sessions of one app, all unused but for heartbeats, told to a [`Lifespan`] as they happen.
struct Story {
    life: Lifespan,
    /// When the app was restarted.
    restarts: Vec<u64>,
    /// How long it really keeps a session.
    keeps: u64,
    /// When the heartbeats are sent, of whom.
    beats: BTreeMap<(u64, u64), u64>,
    looked: Timestamp,
    notices: Vec<(u64, Notice)>,
}

impl Story {
    fn new(keeps: u64, restarts: &[u64]) -> Self {
        Self {
            life: Lifespan::new(TERMS),
            restarts: restarts.to_vec(),
            keeps,
            beats: BTreeMap::new(),
            looked: Timestamp::ZERO,
            notices: Vec::new(),
        }
    }

    /// A session that begins at `begins` and is kept alive at these gaps.
    fn session(&mut self, begins: u64, gaps: &[u64]) {
        let session = self.beats.len() as u64;
        let mut last = begins;
        for gap in gaps {
            self.beats.insert((last + gap, session), last);
            last += gap;
        }
    }

    /// Everything, each answer `late` after its heartbeat was sent.
    fn tell(mut self, mut late: impl FnMut() -> u64) -> Vec<(u64, Notice)> {
        let mut dead = Vec::new();
        let mut answers = BTreeMap::new();
        for ((sent, session), last) in std::mem::take(&mut self.beats) {
            if dead.contains(&session) {
                continue;
            }
            let lost = self.restarts.iter().any(|restart| (last..sent).contains(restart));
            let outcome = if lost || sent - last >= self.keeps { Outcome::Dead } else { Outcome::Alive };
            if outcome == Outcome::Dead {
                dead.push(session);
            }
            answers.insert((sent + late(), session), heard(session, last, sent, outcome));
        }
        for ((now, _), heard) in answers {
            self.wait(now);
            self.looked = at(now);
            self.hear(now, &heard);
        }
        self.wait(u64::MAX / 2000);
        self.notices
    }

    fn wait(&mut self, until: u64) {
        while let Some(wake) = self.life.wake(self.looked).filter(|wake| *wake <= at(until)) {
            self.looked = wake;
            let notices = self.life.look(wake);
            self.notices.extend(notices.into_iter().map(|notice| (wake.millis(), notice)));
        }
    }

    fn hear(&mut self, now: u64, heard: &Heard) {
        if self.life.gate(at(now)).is_nothing_new(heard) {
            let mut other = self.life.clone();
            assert_eq!(other.heard(heard), []);
            assert_eq!(other.gate(at(now)), self.life.gate(at(now)));
            return;
        }
        let notices = self.life.heard(heard);
        self.notices.extend(notices.into_iter().map(|notice| (now, notice)));
    }
}

fn heard(session: u64, last: u64, sent: u64, outcome: Outcome) -> Heard {
    Heard {
        at: at(sent),
        session: Handle(session),
        server: 0,
        proven: at(last),
        renewed: at(last),
        used: at(last),
        missed: false,
        outcome,
    }
}

fn restarts(notices: &[(u64, Notice)], stage: Stage) -> Vec<Restart> {
    let all = notices.iter().filter_map(|(_, notice)| match notice {
        Notice::Restart(restart) if restart.stage == stage => Some(*restart),
        _ => None,
    });
    all.collect()
}

fn is_early(notice: &Notice) -> bool {
    matches!(notice, Notice::Early { .. })
}

/// The gaps that jitter makes of 400 s.
fn gaps() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(320_000..=480_000_u64, 8)
}

proptest! {
    #[test]
    fn a_restart_is_told_once_with_all_that_it_cost(
        sessions in prop::collection::vec((0..480_000_u64, gaps()), 3..40),
        // Whoever begins between the restart and the first death may be taken for a survivor of it.
        later in prop::collection::vec((480_000..2_000_000_u64, gaps()), 0..20),
        restart in 1_500_000..1_900_000_u64,
        late in 0..2_000_u64,
    ) {
        let mut story = Story::new(20 * MINUTE, &[restart]);
        // Somebody has outlived the longest wait there is.
        story.session(0, &[480_000, 480_000, 480_000, 480_000, 480_000, 480_000]);
        for (begins, gaps) in &sessions {
            story.session(*begins, gaps);
        }
        for (after, gaps) in &later {
            story.session(restart + after, gaps);
        }
        let mut turn = 0;
        let notices = story.tell(|| { turn += 1; turn * 7919 % (late + 1) });
        let (began, over) = (restarts(&notices, Stage::Began), restarts(&notices, Stage::Over));
        prop_assert_eq!((began.len(), over.len()), (1, 1), "{:?}", notices);
        prop_assert_eq!(over[0].lost as usize, sessions.len() + 1);
        prop_assert!(over[0].after <= at(restart) && at(restart) <= over[0].before);
        let told: u32 = notices.iter().map(|(_, notice)| match notice {
            Notice::Restart(restart) => restart.new,
            _ => 0,
        }).sum();
        prop_assert_eq!(told, over[0].lost);
        let (when, last) = notices.last().unwrap();
        prop_assert_eq!(*last, Notice::NoRestart { mistaken: false }, "yesterday's news");
        prop_assert!((restart..restart + 500_000).contains(&(when - 24 * 60 * MINUTE)));
        prop_assert!(!notices.iter().any(|(_, notice)| is_early(notice)));
    }

    #[test]
    fn a_short_life_is_no_restart_and_its_figure_is_right(
        // Four, since jitter might explain fewer whose gap is less than half as long again as one that was survived.
        sessions in prop::collection::vec((0..480_000_u64, gaps()), 4..40),
        keeps in 60_000..320_000_u64,
        asked in 1_000..300_000_u64,
    ) {
        let mut story = Story::new(keeps, &[]);
        // Somebody asks for more time now and then, sooner than a heartbeat would come.
        story.session(0, &[asked; 8]);
        for (begins, gaps) in &sessions {
            story.session(*begins, gaps);
        }
        let notices = story.tell(|| 5);
        prop_assert_eq!(restarts(&notices, Stage::Began), []);
        let last = notices.iter().rev().find(|(_, notice)| is_early(notice));
        let Some((_, Notice::Early { dead, alive, .. })) = last else { panic!("{notices:?}") };
        let real = Duration::from_millis(keeps);
        prop_assert!(*alive < real && real <= *dead && *dead <= Duration::from_millis(480_000));
        prop_assert_eq!(alive.is_zero(), asked >= keeps);
        let new = notices.iter().filter(|(_, notice)| matches!(notice, Notice::Early { new: true, .. }));
        prop_assert_eq!(new.count(), 1);
    }

    #[test]
    fn single_deaths_among_the_living_are_nothing(
        deaths in prop::collection::vec((0..600_u64, 1..4_u64), 0..30),
    ) {
        let mut life = Lifespan::new(TERMS);
        life.heard(&heard(0, 0, 480_000, Outcome::Alive));
        let (mut now, mut session) = (480_000, 1_000);
        for (seconds, living) in deaths {
            now += 1_000 * seconds;
            session += 1;
            let notices = life.heard(&heard(session, now - 400_000, now, Outcome::Dead));
            prop_assert_eq!(notices, []);
            for other in 0..living {
                now += 500;
                let notices = life.heard(&heard(other, now - 400_000, now, Outcome::Alive));
                prop_assert_eq!(notices, []);
                prop_assert_eq!(life.look(at(now)), []);
            }
        }
    }

    #[test]
    fn nothing_that_may_be_heard_breaks_it(
        all in prop::collection::vec((0..8_u64, 0..3_000_u64, 0..900_u64, 0..900_u64, 0..4_u8, any::<bool>()), 0..300),
    ) {
        let mut life = Lifespan::new(TERMS);
        for (session, sent, gap, used, outcome, missed) in all {
            let sent = sent * 1_000;
            let outcome = [Outcome::Alive, Outcome::Dead, Outcome::Dead, Outcome::Unreachable][usize::from(outcome)];
            let one = Heard {
                server: u16::try_from(session % 3).unwrap() * 40,
                used: at(sent.saturating_sub(used * 1_000)),
                missed,
                ..heard(session, sent.saturating_sub(gap * 1_000), sent, outcome)
            };
            let new = !life.gate(at(sent)).is_nothing_new(&one);
            let notices = life.heard(&one);
            prop_assert!(new || notices.is_empty());
            for notice in notices {
                if let Notice::Restart(restart) = notice {
                    prop_assert!(restart.after <= restart.before && restart.new <= restart.lost);
                }
            }
            prop_assert!(life.wake(at(sent)).is_none_or(|wake| wake > at(sent)));
        }
    }
}

/// One session of several at each time of `alive`, then dead ones.
fn known(sent: u64) -> Lifespan {
    let mut life = Lifespan::new(TERMS);
    life.heard(&heard(99, sent - 480_000, sent, Outcome::Alive));
    life
}

#[test]
fn two_of_two_are_believed_when_everybody_else_would_have_been_heard() {
    let mut life = known(1_000_000);
    for (session, sent) in [(1, 1_100_000), (2, 1_200_000)] {
        assert_eq!(life.heard(&heard(session, sent - 400_000, sent, Outcome::Dead)), []);
    }
    let (mut now, mut told) = (at(1_200_000), Vec::new());
    while let Some(wake) = life.wake(now).filter(|_| told.is_empty()) {
        now = wake;
        told = life.look(now);
    }
    assert!(now <= at(1_100_000 + 900_000), "{now:?}");
    assert!(
        matches!(told[..], [Notice::Restart(Restart { lost: 2, new: 2, stage: Stage::Began, .. })]),
        "{told:?}"
    );
}

#[test]
fn one_alone_says_nothing_and_one_that_lives_speaks_against_two() {
    for (dead, alive) in [(1, 0), (2, 1)] {
        let mut life = known(1_000_000);
        for session in 1..=dead {
            life.heard(&heard(session, 700_000 + session, 1_100_000 + session, Outcome::Dead));
        }
        for session in 0..alive {
            life.heard(&heard(50 + session, 900_000, 1_300_000, Outcome::Alive));
        }
        let mut now = at(1_300_000);
        while let Some(wake) = life.wake(now) {
            now = wake;
            assert_eq!(life.look(now), [], "{dead} {alive}");
        }
    }
}

#[test]
fn the_same_session_dying_again_and_again_is_one() {
    let mut life = known(1_000_000);
    for turn in 0..20 {
        let sent = 1_100_000 + turn * 20_000;
        assert_eq!(life.heard(&heard(1, sent - 10_000, sent, Outcome::Dead)), []);
        assert_eq!(life.look(at(sent)), []);
    }
}

#[test]
fn where_nobody_answered_for_a_while_it_was_then() {
    let mut life = known(1_000_000);
    let mut told = Vec::new();
    life.heard(&heard(7, 700_000, 1_150_000, Outcome::Unreachable));
    for session in 1..=12 {
        // Later than any heartbeat has been outlived, because the one before it found nobody.
        let late = Heard { missed: true, ..heard(session, 600_000, 1_200_000 + session, Outcome::Dead) };
        told.extend(life.heard(&late));
    }
    let [Notice::Restart(restart)] = told[..] else { panic!("{told:?}") };
    assert_eq!((restart.after, restart.before, restart.lost), (at(600_000), at(1_150_000), 12));
}

#[test]
fn a_restart_that_others_live_through_is_taken_back() {
    let mut life = known(1_000_000);
    let mut told = Vec::new();
    for session in 1..=12 {
        told.extend(life.heard(&heard(session, 800_000, 1_200_000 + session, Outcome::Dead)));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    for session in 20..33 {
        told.extend(life.heard(&heard(session, 900_000, 1_300_000 + session, Outcome::Alive)));
    }
    assert_eq!(told[1..], [Notice::NoRestart { mistaken: true }]);
}

#[test]
fn servers_are_told_apart() {
    let mut life = known(1_000_000);
    let mut told = Vec::new();
    for session in 1..=30 {
        let server = u16::from(session % 3 == 0);
        let outcome = if server == 1 { Outcome::Alive } else { Outcome::Dead };
        let one = Heard { server, ..heard(session, 800_000, 1_200_000 + session, outcome) };
        told.extend(life.heard(&one));
    }
    assert!(matches!(told[0], Notice::Restart(Restart { server: 0, lost: 12, .. })), "{told:?}");
    assert_eq!(restarts(&told.iter().map(|notice| (0, *notice)).collect::<Vec<_>>(), Stage::Grew).len(), 8);
}

#[test]
fn an_early_death_is_taken_back_when_one_outlives_it() {
    let mut life = known(1_000_000);
    let mut told = Vec::new();
    for session in 1..=2 {
        told.extend(life.heard(&heard(session, 1_000_000, 1_800_000 + session, Outcome::Dead)));
    }
    let (dead, alive) = (Duration::from_millis(800_001), Duration::from_millis(480_000));
    assert_eq!(told, [Notice::Early { dead, alive, new: true }]);
    let longer = heard(3, 1_000_000, 1_850_000, Outcome::Alive);
    assert!(!life.gate(at(1_850_000)).is_nothing_new(&longer));
    assert_eq!(life.heard(&longer)[0], Notice::NotEarly);
}

#[test]
fn who_was_there_a_moment_ago_and_who_nobody_could_reach_died_of_something_else() {
    let mut life = known(1_000_000);
    for session in 1..=8 {
        let long = heard(session, 1_000_000, 1_800_000, Outcome::Dead);
        let used = Heard { used: at(1_790_000), ..long };
        assert!(!life.heard(&used).iter().any(is_early));
        // Dead after its full time: as it should be.
        assert!(!life.heard(&heard(session, 600_000, 1_800_000, Outcome::Dead)).iter().any(is_early));
    }
}
