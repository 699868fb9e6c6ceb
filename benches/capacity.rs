//! How far it goes: so many sessions, their clicks and their heartbeats, simulated second by second; how many proxies and servers of the
//! store they need, and what a proxy leaves behind that dies.
//!
//! `cargo bench --bench capacity` for a table from ten thousand sessions to a hundred million; `-- 5000000` for one number; `name=value` behind
//! it for other people, machines and costs than the usual ones, each by the name of its field in [`People`], [`Machines`] and [`Costs`].
//!
//! What things cost is measured elsewhere: by the commands that stand beside the figures in [`Costs`].

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

/// Fields that can be told on the command line.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $field:ident = $usual:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        struct $name { $($(#[$about])* $field: f64,)* }

        impl $name {
            const USUAL: Self = Self { $($field: $usual,)* };

            /// Takes `name=value`; false where there is no such field.
            fn set(&mut self, name: &str, value: f64) -> bool {
                match name {
                    $(stringify!($field) => self.$field = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

table! {
    /// What people do; in seconds.
    People {
        /// Between two clicks of somebody who works, on average.
        pause = 60.0,
        /// How long somebody works, on average.
        stay = 1800.0,
        /// From the last click to the end of the session (`bridge.idle_timeout`).
        idle = 1800.0,
        /// Apps of a session.
        apps = 2.0,
        /// Between two heartbeats of an app: a third of 20 minutes.
        every = 400.0,
        /// Part of it by which a heartbeat is early or late at the most.
        jitter = 0.2,
    }
}

table! {
    /// What they run on.
    Machines {
        /// Cores of a proxy.
        cores = 4.0,
        /// Bytes of memory that a proxy may have.
        proxy_memory = 16e9,
        /// Bytes of memory that a server of the store may have. It has one core.
        server_memory = 32e9,
        /// How much of a machine is used at the most in the busiest second; the rest is for what nobody foresaw.
        full = 0.6,
        /// Proxies that may fail at once, without the others being too full.
        spare = 1.0,
    }
}

table! {
    /// What things cost, in microseconds of CPU and in bytes; docs/capacity.md says on which machine.
    Costs {
        /// A proxy's CPU for a request of a person (`benches/peers/run`: bridging).
        proxy_click = 62.0,
        /// For a heartbeat, sent and judged (`benches/heartbeats/run capacity`).
        proxy_beat = 19.9,
        /// For a piece of news of another proxy (`benches/cluster/run news`).
        proxy_news = 4.8,
        /// A session in a proxy's memory, with its places on the wheel (`cargo bench --bench sessions_mimalloc`).
        proxy_session = 494.0,
        /// The store's CPU to find a session by its cookie, in batches as under load (`benches/cluster/run memory`).
        store_read = 7.1,
        /// To write one, with all that leads to it the first time (the same); a later write is less.
        store_write = 41.7,
        /// To write its clocks alone (`benches/peers/run keeping`: the server's CPU for a request).
        store_clocks = 10.1,
        /// For a piece of news, for each proxy that hears it (`benches/cluster/run news`).
        store_news = 0.29,
        /// For a piece of news that another server of the cluster was told (the same).
        store_bus = 3.1,
        /// Pieces of news in a session's life: that it began, an app's first token, that it ended (`benches/cluster/run work`, `publish`).
        /// Clicks and heartbeats are none.
        tells = 4.0,
        /// A session in the store (`benches/cluster/run memory`).
        store_session = 1357.0,
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of mean `mean`, as of things that do not know of each other.
    fn wait(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.part()).ln()
    }
}

/// What happens in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    clicks: f64,
    beats: f64,
    begins: f64,
}

/// What comes due.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Click,
    End,
    Beat(usize),
}

/// Seconds that lie ahead at the most; what is later is looked at again.
const AHEAD: usize = 4096;
/// Apps of a session at the most.
const APPS: usize = 4;

/// The sessions that are simulated.
struct World {
    people: People,
    random: Random,
    now: usize,
    /// When each person leaves.
    leaves: Vec<u32>,
    /// When each session was used last.
    used: Vec<u32>,
    /// When each app's heartbeat is due.
    beats: Vec<[u32; APPS]>,
    /// What comes due in each second: session and what, as one number.
    wheel: Vec<Vec<u64>>,
}

impl World {
    /// `many` people who come one after the other, until there are as many as are there at any time.
    fn new(many: usize, people: People) -> Self {
        let mut world = Self {
            people,
            random: Random(4711),
            now: 0,
            leaves: vec![0; many],
            used: vec![0; many],
            beats: vec![[0; APPS]; many],
            wheel: vec![Vec::new(); AHEAD],
        };
        let spread = (people.stay + people.idle).min(AHEAD as f64 - 1.0);
        for session in 0..many {
            let comes = (world.random.part() * spread) as usize;
            world.put(session, Due::End, comes);
        }
        world
    }

    fn put(&mut self, session: usize, due: Due, at: usize) {
        let what = match due {
            Due::Click => 0,
            Due::End => 1,
            Due::Beat(app) => 2 + app as u64,
        };
        let at = at.clamp(self.now + 1, self.now + AHEAD - 1);
        self.wheel[at % AHEAD].push((session as u64) << 3 | what);
    }

    /// Somebody new, in the place of somebody whose session is over.
    fn begin(&mut self, session: usize) {
        let stays = self.random.wait(self.people.stay);
        self.leaves[session] = self.now as u32 + stays as u32;
        for app in 0..self.apps() {
            self.beats[session][app] = self.now as u32;
            self.put(session, Due::Beat(app), self.now + 1);
        }
        self.click(session);
        self.put(session, Due::End, self.now + self.people.idle as usize);
    }

    fn apps(&self) -> usize {
        (self.people.apps as usize).clamp(1, APPS)
    }

    fn click(&mut self, session: usize) {
        self.used[session] = self.now as u32;
        let app = self.random.next() as usize % self.apps();
        let off = 1.0 + self.people.jitter * (2.0 * self.random.part() - 1.0);
        self.beats[session][app] = self.now as u32 + (self.people.every * off) as u32;
        let next = self.now + self.random.wait(self.people.pause) as usize + 1;
        if next < self.leaves[session] as usize {
            self.put(session, Due::Click, next);
        }
    }

    /// The next second.
    fn step(&mut self) -> Second {
        self.now += 1;
        let mut second = Second::default();
        for entry in std::mem::take(&mut self.wheel[self.now % AHEAD]) {
            let session = (entry >> 3) as usize;
            match entry & 7 {
                0 => {
                    second.clicks += 1.0;
                    self.click(session);
                }
                1 => {
                    let over = self.used[session] as usize + self.people.idle as usize;
                    // Nobody has been here before the first time.
                    if self.leaves[session] == 0 || over <= self.now {
                        second.begins += 1.0;
                        self.begin(session);
                    } else {
                        self.put(session, Due::End, over);
                    }
                }
                app => second.beats += f64::from(u8::from(self.beat(session, app as usize - 2))),
            }
        }
        second
    }

    /// A place on the wheel has come due. True: so has the heartbeat, which no click has put off.
    fn beat(&mut self, session: usize, app: usize) -> bool {
        if self.used[session] as usize + (self.people.idle as usize) <= self.now {
            return false;
        }
        let due = self.beats[session][app] as usize;
        let is_due = due <= self.now;
        if is_due {
            let off = 1.0 + self.people.jitter * (2.0 * self.random.part() - 1.0);
            self.beats[session][app] = self.now as u32 + (self.people.every * off) as u32;
        }
        self.put(session, Due::Beat(app), self.beats[session][app] as usize);
        is_due
    }
}

/// Seconds that are looked at.
const SECONDS: f64 = 600.0;

/// The sum and the busiest of ten minutes' seconds, for `many` sessions.
fn simulated(many: f64, people: People) -> (Second, Second) {
    let mut world = World::new(many as usize, people);
    // Until those who were there first are as mixed as any.
    for _ in 0..(2.0 * (people.stay + people.idle)) as usize {
        world.step();
    }
    let (mut all, mut most) = (Second::default(), Second::default());
    for _ in 0..SECONDS as usize {
        let second = world.step();
        all.clicks += second.clicks;
        all.beats += second.beats;
        all.begins += second.begins;
        most.clicks = most.clicks.max(second.clicks);
        most.beats = most.beats.max(second.beats);
        most.begins = most.begins.max(second.begins);
    }
    (all, most)
}

/// The mean and the busiest second for `times` as many sessions as were simulated.
fn load((all, most): (Second, Second), times: f64) -> (Second, Second) {
    let mean = |sum: f64| sum / SECONDS * times;
    // Of more people the busiest second is closer to the mean: by the root of how many there are.
    let peak = |most: f64, sum: f64| mean(sum) + (most - sum / SECONDS).max(0.0) * times.sqrt();
    (
        Second { clicks: mean(all.clicks), beats: mean(all.beats), begins: mean(all.begins) },
        Second {
            clicks: peak(most.clicks, all.clicks),
            beats: peak(most.beats, all.beats),
            begins: peak(most.begins, all.begins),
        },
    )
}

/// What carries a load.
struct Plan {
    proxies: f64,
    /// Of one proxy, in cores; and of it what the news of the others need.
    proxy_cpu: f64,
    proxy_news: f64,
    proxy_memory: f64,
    servers: f64,
    server_cpu: f64,
    server_news: f64,
    server_memory: f64,
    /// Seconds of the store's time to hand over what a dead proxy had.
    takeover: f64,
}

impl Plan {
    /// The fewest that are not too full.
    fn of(sessions: f64, peak: Second, machines: Machines, costs: Costs) -> Option<Self> {
        let (mut proxies, mut servers) = (1.0 + machines.spare, 1.0);
        for _ in 0..10_000 {
            let plan = Self::with((proxies, servers), sessions, peak, machines, costs);
            let more_proxies = plan.proxy_cpu > machines.full * machines.cores
                || plan.proxy_memory > machines.full * machines.proxy_memory;
            let more_servers = plan.server_cpu > machines.full
                || plan.server_memory > machines.full * machines.server_memory;
            if !more_proxies && !more_servers {
                return Some(plan);
            }
            // What more of them do not make less, no number of them carries.
            if plan.proxy_news > machines.full * machines.cores || plan.server_news > machines.full {
                return None;
            }
            proxies += f64::from(u8::from(more_proxies)) * (proxies / 50.0).max(1.0).floor();
            servers += f64::from(u8::from(more_servers)) * (servers / 50.0).max(1.0).floor();
        }
        None
    }

    fn with(
        (proxies, servers): (f64, f64),
        sessions: f64,
        peak: Second,
        machines: Machines,
        costs: Costs,
    ) -> Self {
        const MICRO: f64 = 1e-6;
        let left = proxies - machines.spare;
        let news = peak.begins * costs.tells;
        let proxy_news = news * costs.proxy_news * MICRO;
        let of_proxies = (peak.clicks * costs.proxy_click + peak.beats * costs.proxy_beat) * MICRO;
        // In a cluster each server hears all news, and passes them to the proxies that listen at it.
        let bus = if servers > 1.0 { costs.store_bus } else { 0.0 };
        let heard = news * (costs.store_news * proxies / servers + bus);
        // A click after a pause writes the clocks of its session; a heartbeat looks whether it is due; what is told was written.
        let of_servers =
            peak.clicks * costs.store_clocks + peak.beats * costs.store_read / 2.0 + news * costs.store_write;
        Self {
            proxies,
            proxy_cpu: of_proxies / left + proxy_news,
            proxy_news,
            proxy_memory: sessions / left * costs.proxy_session,
            servers,
            server_cpu: (of_servers / servers + heard) * MICRO,
            server_news: news * bus * MICRO,
            server_memory: sessions / servers * costs.store_session,
            takeover: sessions / proxies * (costs.store_read + costs.store_write) * MICRO / servers,
        }
    }
}

fn show(sessions: f64, (mean, peak): (Second, Second), machines: Machines, costs: Costs) {
    print!(
        "| {} | {} | {} ({}) ",
        grouped(sessions),
        grouped(mean.clicks),
        grouped(mean.beats),
        grouped(peak.beats)
    );
    match Plan::of(sessions, peak, machines, costs) {
        None => println!("| all news are too many for any one | | | | | |"),
        Some(plan) => println!(
            "| {} | {:.2} ({:.2}) | {:.1} GB | {} | {:.0} % ({:.0} %) | {:.1} GB | {:.1} s |",
            grouped(plan.proxies),
            plan.proxy_cpu,
            plan.proxy_news,
            plan.proxy_memory / 1e9,
            grouped(plan.servers),
            plan.server_cpu * 100.0,
            plan.server_news * 100.0,
            plan.server_memory / 1e9,
            plan.takeover,
        ),
    }
}

fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn main() {
    let (mut people, mut machines, mut costs) = (People::USUAL, Machines::USUAL, Costs::USUAL);
    let (mut sampled, mut counts) = (200_000.0_f64, Vec::new());
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
        match argument.split_once('=') {
            None => counts.push(argument.parse().unwrap()),
            Some(("sampled", value)) => sampled = value.parse().unwrap(),
            Some((name, value)) => {
                let value = value.parse().unwrap();
                let known = people.set(name, value) || machines.set(name, value) || costs.set(name, value);
                assert!(known, "there is no `{name}`");
            }
        }
    }
    if counts.is_empty() {
        // `cargo test` only wants to see that it runs.
        counts = if is_bench { vec![1e4, 1e5, 1e6, 3e6, 1e7, 3e7, 1e8] } else { vec![1e3] };
    }
    println!("{people:?}\n{machines:?}\n{costs:?}\n");
    println!(
        "| sessions | clicks/s | heartbeats/s (busiest) | proxies | cores of each (for news) | memory | servers | CPU of each (for news) | memory | takeover |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    let mut known = None::<(f64, (Second, Second))>;
    for count in counts {
        let many = sampled.min(count);
        known = known.filter(|(own, _)| *own == many);
        let (_, seconds) = *known.get_or_insert_with(|| (many, simulated(many, people)));
        show(count, load(seconds, count / many), machines, costs);
    }
}
