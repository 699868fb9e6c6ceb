//! Browsers, apps, and what happens between them, step by step.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sessionbridge::bridge::app_session::Sent;
use sessionbridge::bridge::id::BridgeId;
use sessionbridge::bridge::rules::{AppIx, AppRules};
use sessionbridge::bridge::session::{End, Farewell, Session};
use sessionbridge::bridge::to_app::Seen;
use sessionbridge::config;
use sessionbridge::names::Names;
use sessionbridge::registry::options::Options;
use sessionbridge::registry::restoring::Laid;
use sessionbridge::registry::{Registry, Slot, Visitor, Walk};
use sessionbridge::route::RouteMap;
use sessionbridge::store::Record as _;
use sessionbridge::time::Timestamp;

use super::oracle::{Oracle, Token, generation, state_of};
use super::random::{Random, pick};
use super::server::{Ask, Form, Said, Server};

/// Four apps: a pair of ids; two that share one; one with a ticket, that is signed out of alone.
const CONFIG: &str = r#"
listen = "127.0.0.1:0"
[bridge]
idle_timeout = "30m"
presence_limit = "off"
max_lifetime = "50m"
adopt_cookies = "12h"
[apps.alpha]
path = "/alpha/"
upstreams = ["http://127.0.0.1:1"]
session.engine = "coldfusion"
session.type = "cf"
session.timeout = "20m"
heartbeat.path = "/alpha/ping"
[apps.beta]
path = "/beta/"
upstreams = ["http://127.0.0.1:2"]
session.engine = "servlet"
session.share = "both"
session.timeout = "20m"
heartbeat.path = "/beta/ping"
[apps.gamma]
path = "/gamma/"
upstreams = ["http://127.0.0.1:2"]
session.engine = "servlet"
session.share = "both"
session.timeout = "20m"
heartbeat.path = "/gamma/ping"
[apps.delta]
path = "/delta/"
upstreams = ["http://127.0.0.1:3"]
session.engine = "custom"
session.tokens = [{ name = "SID", cookie = "SID", pattern = "[0-9]+" }, { name = "ticket", cookie = "ticket", rolling = true }]
session.timeout = "20m"
heartbeat.path = "/delta/ping"
sign_out.mode = "alone"
"#;

static MAP: OnceLock<Arc<RouteMap>> = OnceLock::new();

fn map() -> Arc<RouteMap> {
    let read = config::load_str("sim.toml", CONFIG, &mut Names::default());
    Arc::new(read.unwrap_or_else(|report| panic!("{report}")).0.routes)
}

/// Apps, by the server that they are on.
const SERVER: [usize; 4] = [0, 1, 1, 2];
const BROWSERS: usize = 4;

/// What happens next; the numbers say to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Pass(u64),
    Ask(u64, u64),
    Beat(u64),
    Answer(u64),
    Apply(u64),
    Commit,
    Flush,
    Deliver(u64),
    Settle(u64),
    Expire,
    Leave(u64),
    Kill(u64),
    Orphan(u64),
    Take(u64, u64),
    Rest,
    Crash,
}

impl Op {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let (a, b) = (random.next(), random.next());
        match random.next() % 100 {
            0..8 => Self::Pass(a),
            8..28 => Self::Ask(a, b),
            28..37 => Self::Beat(a),
            37..52 => Self::Answer(a),
            52..67 => Self::Apply(a),
            67..75 => Self::Commit,
            75 => Self::Flush,
            76..84 => Self::Deliver(a),
            84..90 => Self::Settle(a),
            90 => Self::Expire,
            91 => Self::Leave(a),
            92 => Self::Kill(a),
            93 | 94 => Self::Orphan(a),
            95 | 96 => Self::Take(a, b),
            97 => Self::Rest,
            _ => Self::Crash,
        }
    }
}

/// One browser.
#[derive(Clone, Debug, Default)]
pub(crate) struct Browser {
    pub(crate) bridge: Option<(BridgeId, u64)>,
    /// By server: tokens of the time before the proxy.
    pub(crate) own: BTreeMap<usize, u64>,
}

/// A request on its way to an app, or its answer on the way back.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) number: u64,
    pub(crate) browser: usize,
    pub(crate) app: usize,
    pub(crate) ask: (Ask, bool),
    pub(crate) cookies: String,
    pub(crate) slot: Option<(Arc<Slot>, u64)>,
    pub(crate) sent: Sent,
    pub(crate) begun: Option<Timestamp>,
    pub(crate) seen: Seen,
    pub(crate) adopting: bool,
    pub(crate) visitor: Visitor,
    pub(crate) line: u8,
    pub(crate) first: Option<AppIx>,
    pub(crate) own: Own,
    pub(crate) said: Option<Said>,
    /// What it showed has been adopted elsewhere meanwhile.
    pub(crate) overtaken: bool,
    /// It has been applied: this is its twin.
    pub(crate) twin: bool,
}

/// In whose behalf a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Person,
    /// A client that keeps no cookies.
    Client,
    Beat,
}

/// An answer that is ready for its browser once its session is kept.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) browser: usize,
    pub(crate) session: Option<(u64, usize)>,
    pub(crate) gives: Option<BridgeId>,
    pub(crate) deletes: bool,
    /// The server whose own cookies it expires.
    pub(crate) expires: Option<usize>,
    pub(crate) kept: bool,
}

/// A token that was given to a client without cookies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orphan {
    pub(crate) app: usize,
    pub(crate) token: u64,
    pub(crate) issued: Timestamp,
    pub(crate) client: usize,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now: Timestamp,
    pub(crate) map: Arc<RouteMap>,
    pub(crate) registry: Registry,
    walk: Walk,
    pub(crate) oracle: Oracle,
    pub(crate) servers: Vec<Server>,
    pub(crate) browsers: Vec<Browser>,
    pub(crate) flights: Vec<Flight>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) orphans: Vec<Orphan>,
    /// What the store has, and what has changed since.
    disk: BTreeMap<u64, Vec<u8>>,
    dirty: BTreeMap<u64, Arc<Slot>>,
    stamps: BTreeMap<u64, u64>,
    /// Sessions whose apps are signed out once their end is kept.
    farewells: Vec<(u64, Farewell)>,
    /// The last id of each session: in memory, and as it is kept.
    pub(crate) ids: BTreeMap<u64, BridgeId>,
    kept_ids: BTreeMap<u64, BridgeId>,
    pub(crate) numbers: u64,
    /// Who asked last, and which app.
    pub(crate) last: Option<(usize, usize)>,
    /// What was seen to be wrong in the middle of a step.
    pub(crate) wrong: Option<String>,
    told: Vec<String>,
}

pub(crate) fn address(browser: usize) -> IpAddr {
    // Browsers live two to a house.
    IpAddr::from([192, 0, 2, u8::try_from(browser / 2).unwrap()])
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let map = Arc::clone(MAP.get_or_init(map));
        let mut world = Self {
            random: Random::new(!seed),
            now: Timestamp::from_secs(1_700_000_000),
            registry: Self::registry(&map),
            map,
            walk: Walk::default(),
            oracle: Oracle::default(),
            servers: [Form::Pair, Form::One, Form::Rolling].map(Server::new).into(),
            browsers: vec![Browser::default(); BROWSERS],
            flights: Vec::new(),
            replies: Vec::new(),
            orphans: Vec::new(),
            disk: BTreeMap::new(),
            dirty: BTreeMap::new(),
            stamps: BTreeMap::new(),
            farewells: Vec::new(),
            ids: BTreeMap::new(),
            kept_ids: BTreeMap::new(),
            numbers: 0,
            last: None,
            wrong: None,
            told: Vec::new(),
        };
        // Two people were signed in before there was a proxy.
        for (browser, server) in [(0, 0), (1, 2), (1, 1)] {
            let token = world.servers[server].before(world.now);
            world.oracle.issued((server, token), browser);
            world.browsers[browser].own.insert(server, token);
        }
        world
    }

    fn registry(map: &RouteMap) -> Registry {
        Registry::new(Options { max_sessions: 10_000 }, map.bridge.clocks, &[7; 32])
    }

    pub(crate) fn told(self) -> Vec<String> {
        self.told
    }

    pub(crate) fn tell(&mut self, what: impl Into<String>) {
        let at = self.now.millis() % 1_000_000_000;
        self.told.push(format!("  {at:>9} {}", what.into()));
    }

    pub(crate) fn rules(&self, app: usize) -> &AppRules {
        &self.map.routes()[app].rules
    }

    pub(crate) fn all_rules(map: &RouteMap) -> Vec<&AppRules> {
        map.routes().iter().map(|route| &route.rules).collect()
    }

    pub(crate) fn server_of(app: usize) -> usize {
        SERVER[app]
    }

    /// One step, and whether all holds afterwards.
    pub(crate) fn step(&mut self, op: Op) -> Result<(), String> {
        self.ticks();
        match op {
            Op::Pass(draw) => self.pass(draw),
            Op::Ask(who, what) => {
                self.asks(pick(who, BROWSERS), what, Own::Person)?;
                if who >> 32 & 1 == 0 {
                    // A page, and what belongs to it.
                    self.asks(pick(who, BROWSERS), what.rotate_right(17), Own::Person)?;
                }
            }
            Op::Beat(which) => self.beats(which)?,
            Op::Answer(which) => self.answers(which)?,
            Op::Apply(which) => self.applies(which)?,
            Op::Commit => self.commits()?,
            Op::Flush => self.flushes(),
            Op::Deliver(which) => (0..3).for_each(|turn| self.delivers(which.rotate_right(turn * 9))),
            Op::Settle(draw) => self.settles(draw)?,
            Op::Expire => self.expires(),
            Op::Leave(who) => self.leaves(pick(who, BROWSERS)),
            Op::Kill(which) => self.kills(which),
            Op::Orphan(who) => self.asks(pick(who, BROWSERS), 0, Own::Client)?,
            Op::Take(who, which) => self.takes(pick(who, BROWSERS), which)?,
            Op::Rest => self.rests(),
            Op::Crash => self.crashes()?,
        }
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        // These change no session.
        let idle =
            matches!(op, Op::Pass(_) | Op::Answer(_) | Op::Commit | Op::Flush | Op::Deliver(_) | Op::Rest);
        if idle { Ok(()) } else { self.holds() }
    }

    /// No two things happen at the same moment.
    fn ticks(&mut self) {
        self.now = self.now.plus(Duration::from_micros(100));
    }

    fn pass(&mut self, draw: u64) {
        if draw >> 62 == 0 {
            self.last = None;
        }
        let most = [50, 5_000, 300_000, 1_200_000, 2_400_000][pick(draw >> 32, 5)];
        self.now = self.now.plus(Duration::from_millis(1 + draw % most));
    }

    /// Live sessions, by their names.
    pub(crate) fn live(&self) -> Vec<u64> {
        let mut all = Vec::new();
        self.registry.each(|session, _| {
            all.push(session.handle.0);
            true
        });
        all.sort_unstable();
        all
    }

    pub(crate) fn slot(&self, handle: u64) -> Option<Arc<Slot>> {
        self.registry.find(sessionbridge::bridge::id::Handle(handle))
    }

    /// Something of a session may have changed that an answer acknowledges: the store writes it if it sees a change.
    pub(crate) fn changed(&mut self, slot: &Arc<Slot>, surely: bool) {
        let handle = slot.handle.0;
        let stamp = slot.with(|session| session.stamp());
        if self.stamps.insert(handle, stamp) != Some(stamp) || surely {
            self.dirty.insert(handle, Arc::clone(slot));
        }
    }

    pub(crate) fn is_dirty(&self, handle: u64) -> bool {
        self.dirty.contains_key(&handle)
    }

    /// The state of a session, for what an answer acknowledges.
    pub(crate) fn state(&mut self, slot: &Slot) -> usize {
        let rules = Self::all_rules(&self.map);
        slot.with(|session| self.oracle.sees(slot.handle.0, session, &rules))
    }

    /// What is left of a session, or of its part for one app: its tokens are dead from here on.
    pub(crate) fn farewell(&mut self, slot: &Arc<Slot>, left: Farewell, whole: bool) {
        let handle = slot.handle.0;
        let tokens: Vec<Token> = left
            .apps
            .iter()
            .filter_map(|app| Some((Self::server_of(self.place(app.app)?), dead(app)?)))
            .collect();
        if left.end != End::Joined {
            self.oracle.entombs(handle, tokens.into_iter(), whole);
        } else if whole {
            self.oracle.entombs(handle, std::iter::empty(), true);
        }
        self.changed(slot, true);
        self.farewells.push((handle, left));
    }

    fn place(&self, app: AppIx) -> Option<usize> {
        self.map.routes().iter().position(|route| route.rules.app == app)
    }

    pub(crate) fn ends(&mut self, slot: &Arc<Slot>, end: End) {
        let rules = Self::all_rules(&self.map);
        slot.with(|session| self.oracle.sees(slot.handle.0, session, &rules));
        if let Some(left) = self.registry.end(slot, end, self.now) {
            self.farewell(slot, left, true);
        }
    }

    fn commits(&mut self) -> Result<(), String> {
        for (handle, slot) in std::mem::take(&mut self.dirty) {
            let mut record = Vec::new();
            let there = slot.write(&mut record).is_some();
            if there {
                self.disk.insert(handle, record);
                self.kept_ids.extend(self.ids.get(&handle).map(|id| (handle, id.clone())));
            } else {
                self.disk.remove(&handle);
            }
            self.oracle.kept(handle, there)?;
        }
        self.replies.iter_mut().for_each(|reply| reply.kept = true);
        for (_, left) in std::mem::take(&mut self.farewells) {
            for app in left.apps.iter().filter(|_| left.end.signs_apps_out()) {
                let server = self.place(app.app).map(Self::server_of);
                if let Some((server, token)) = server.zip(dead(app)) {
                    self.servers[server].sign_out(token);
                }
            }
        }
        Ok(())
    }

    /// The store also writes what only the clocks have moved, now and then.
    fn flushes(&mut self) {
        for handle in self.live() {
            if let Some(slot) = self.slot(handle) {
                self.changed(&slot, true);
            }
        }
    }

    fn delivers(&mut self, which: u64) {
        let ready: Vec<usize> = (0..self.replies.len()).filter(|at| self.replies[*at].kept).collect();
        let Some(at) = ready.get(pick(which, ready.len())) else { return };
        let reply = self.replies.remove(*at);
        if let Some((handle, state)) = reply.session {
            self.oracle.acknowledges(handle, state);
        }
        let browser = &mut self.browsers[reply.browser];
        if let Some(server) = reply.expires {
            browser.own.remove(&server);
        }
        match (reply.gives, reply.session) {
            (Some(id), Some((handle, _))) => browser.bridge = Some((id, handle)),
            _ if reply.deletes => browser.bridge = None,
            _ => {}
        }
    }

    /// Whatever is on its way arrives.
    fn settles(&mut self, draw: u64) -> Result<(), String> {
        while self.flights.iter().any(|flight| flight.said.is_none()) {
            self.ticks();
            self.answers(draw)?;
        }
        while !self.flights.is_empty() {
            self.ticks();
            self.applies(draw)?;
        }
        self.commits()?;
        while !self.replies.is_empty() {
            self.delivers(draw);
        }
        Ok(())
    }

    fn expires(&mut self) {
        for handle in self.live() {
            let Some(slot) = self.slot(handle) else { continue };
            let clocks = self.registry.clocks();
            if let Some(end) = slot.with(|session| session.expired(&clocks, self.now)) {
                self.tell(format!("session {handle:x} has expired: {}", end.as_str()));
                self.ends(&slot, end);
            }
        }
    }

    fn kills(&mut self, which: u64) {
        let live = self.live();
        let Some(slot) = live.get(pick(which, live.len())).and_then(|handle| self.slot(*handle)) else {
            return;
        };
        self.tell(format!("session {:x} is killed", slot.handle.0));
        self.ends(&slot, End::Operator);
    }

    fn rests(&mut self) {
        let before = self.live().len();
        for _ in 0..2 * self.registry.pieces() {
            self.registry.rest(&mut self.walk, self.now);
        }
        self.tell(format!("who is idle rests; {before} sessions"));
    }

    fn crashes(&mut self) -> Result<(), String> {
        self.tell(format!(
            "crash, with {} answers on their way and {} changes to keep",
            self.flights.len(),
            self.dirty.len()
        ));
        (self.flights, self.replies) = (Vec::new(), Vec::new());
        (self.dirty, self.farewells, self.stamps) = Default::default();
        self.orphans.clear();
        self.ids = self.kept_ids.clone();
        self.walk = Walk::default();
        self.registry = Self::registry(&self.map);
        self.oracle.crashes();
        let laid = Laid::default();
        let mut restoring = self.registry.restoring(&laid, Timestamp::ZERO);
        for record in self.disk.values() {
            restoring.restore(record).map_err(|error| error.to_string())?;
        }
        drop(restoring);
        self.registry.restored();
        let (mut found, rules) = (BTreeMap::new(), Self::all_rules(&self.map));
        self.registry.each(|session, _| {
            let what = (session.created, session.last_activity, state_of(session, &rules));
            found.insert(session.handle.0, what);
            true
        });
        let sessions = found.len();
        self.oracle.recovers(&found, Duration::ZERO)?;
        self.tell(format!("recovered {sessions} sessions"));
        Ok(())
    }

    fn holds(&mut self) -> Result<(), String> {
        let rules = Self::all_rules(&self.map);
        let (mut all, mut whole): (Vec<(u64, Vec<Token>)>, _) = (Vec::new(), Ok(()));
        let oracle = &mut self.oracle;
        self.registry.each(|session: &Session, _| {
            if whole.is_ok() {
                whole = oracle.is_whole(session, &rules);
            }
            oracle.sees(session.handle.0, session, &rules);
            let tokens = rules
                .iter()
                .zip(SERVER)
                .filter_map(|(rules, server)| Some((server, generation(session, rules.app)?)));
            all.push((session.handle.0, tokens.collect()));
            true
        });
        whole?;
        self.oracle.are_apart(all.iter().map(|(handle, tokens)| (*handle, &tokens[..])))
    }
}

/// The token of an app session that is over.
pub(crate) fn dead(app: &sessionbridge::bridge::app_session::AppSession) -> Option<u64> {
    let part = app.vault().part(0, 0)?;
    String::from_utf8_lossy(part.value).trim_start_matches('J').parse().ok()
}
