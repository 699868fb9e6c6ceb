//! Three proxies, a store between them that loses, repeats and reorders, and what must hold all the same.
//!
//! After every step: no token is sent a second after its session has ended in the store, nor after the session's longest life;
//! the parts of a token are of one generation, wherever it is kept; one proxy sends a session's heartbeats, and those of one that
//! is gone are taken over within an interval; the apps are signed out of once. In the end: what an answer has acknowledged is
//! there, and what has ended is nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use sessionbridge::bridge::app_session::{Edit, Sent};
use sessionbridge::bridge::id::BridgeId;
use sessionbridge::bridge::rules::{AppIx, Clocks};
use sessionbridge::bridge::session::{End, Session};
use sessionbridge::bridge::timeline::What;
use sessionbridge::bridge::vault::{Carrier, Reach, Role};
use sessionbridge::registry::options::Options;
use sessionbridge::registry::{Opened, Registry, Slot, Visitor, Walk};
use sessionbridge::store::{Head, Key, News, Record};
use sessionbridge::time::Timestamp;

use super::random::{Random, pick};
use super::shelf::{Fate, Name, Shelf};

const PROXIES: usize = 3;
const BROWSERS: usize = 3;
const APPS: u16 = 2;
/// Between two requests with a token, heartbeats included.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a proxy's lease is good.
const LEASE: Duration = Duration::from_secs(5);
/// By so much the clocks in the store may be behind.
const LAG: Duration = Duration::from_secs(6);
/// So old is the last write that a proxy asserts again.
const ASSERTED: Duration = Duration::from_secs(60);

const CLOCKS: Clocks = Clocks {
    idle_timeout: Duration::from_secs(600),
    presence_limit: None,
    presence_ttl: Duration::from_secs(90),
    max_lifetime: Duration::from_secs(3000),
};

/// A rule that is broken on purpose: what the invariants must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// None is.
    Nothing,
    /// The store writes whatever the writer knew.
    Tags,
    /// The store writes over tombstones.
    Tombstones,
    /// Who meets another's write writes over it.
    Merges,
    /// Nobody hears of what the others change, and thinks that he does.
    News,
    /// After a failover nobody says again what was lost.
    Assertions,
    /// Everybody sends heartbeats.
    Owners,
    /// Nobody takes over from one that is gone.
    Takeovers,
    /// Everybody who ends a session signs the apps out.
    Farewells,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Pass(u64),
    Ask(u64, u64),
    Apply(u64),
    Begin(u64),
    Land(u64),
    Settle,
    Leave(u64, u64),
    Alone(u64, u64),
    Kill(u64),
    Deaf(u64),
    Hear(u64),
    Failover(u64),
    Rest(u64),
}

impl Op {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let (a, b) = (random.next(), random.next());
        match random.next() % 100 {
            0..12 => Self::Pass(a),
            12..38 => Self::Ask(a, b),
            38..58 => Self::Apply(a),
            58..70 => Self::Begin(a),
            70..84 => Self::Land(a),
            84..88 => Self::Settle,
            88..90 => Self::Leave(a, b),
            90 => Self::Alone(a, b),
            91 => Self::Kill(a),
            92 | 93 => Self::Deaf(a),
            94 | 95 => Self::Hear(a),
            96 | 97 => Self::Failover(a),
            _ => Self::Rest(a),
        }
    }
}

struct Write {
    record: Arc<dyn Record>,
    head: Head,
    bytes: Vec<u8>,
    tag: u64,
    /// When it was read.
    at: Timestamp,
}

struct Proxy {
    me: u64,
    registry: Registry,
    hears: bool,
    news: Vec<(Timestamp, News)>,
    puts: Arc<Mutex<Vec<Arc<dyn Record>>>>,
    waits: BTreeMap<Name, Arc<dyn Record>>,
    under_way: BTreeMap<Name, Write>,
    /// Sessions that it has ended, whose apps it is to sign out of.
    farewells: BTreeSet<Name>,
    wrote: BTreeMap<Name, Timestamp>,
    walk: Walk,
}

/// A request on its way to an app.
struct Flight {
    proxy: u64,
    slot: Arc<Slot>,
    app: AppIx,
    sent: Sent,
    created: Option<Timestamp>,
}

/// An answer that is told once what it says is in the store.
struct Reply {
    proxy: u64,
    name: Name,
    says: Says,
}

#[derive(Clone, Copy)]
enum Says {
    Token(AppIx, u64),
    Gone(AppIx, Timestamp),
    Over,
}

/// What an answer has said of an app, when that was so, and which proxy said it.
type Told = BTreeMap<(Name, AppIx), (Timestamp, u64)>;

pub(crate) struct Cluster {
    random: Random,
    now: Timestamp,
    broken: Broken,
    shelf: Shelf,
    proxies: Vec<Proxy>,
    /// When the lease of each proxy that ever was runs out.
    leases: BTreeMap<u64, Timestamp>,
    numbers: u64,
    browsers: Vec<Option<(BridgeId, Name)>>,
    flights: Vec<Flight>,
    replies: Vec<Reply>,
    told: Told,
    /// When each token was given, or an app was signed out of (0).
    given: BTreeMap<(Name, AppIx, u64), Timestamp>,
    /// When the store had its tombstone, and whose it is; true: an answer has said so.
    ended: BTreeMap<Name, (Timestamp, u64, bool)>,
    /// Whose apps were signed out of.
    signed_out: BTreeMap<Name, usize>,
    created: BTreeMap<Name, Timestamp>,
    /// What a failover has lost, and nobody has written again.
    lost: BTreeSet<Name>,
    /// Sessions of whose end the store knows nothing any more, nor whoever ended them.
    vanished: BTreeSet<Name>,
    /// Proxies that heard nothing for a while: they may not know of an app that has come into a session elsewhere.
    deaf: BTreeSet<u64>,
    /// The last request with a token, whose heartbeat it was, if it was one.
    contact: BTreeMap<(Name, AppIx), (Timestamp, Option<u64>)>,
    story: Vec<String>,
}

fn visitor() -> Visitor {
    Visitor { address: IpAddr::from([192, 0, 2, 1]), agent: 1 }
}

/// The generation of a session's token; an error where its parts are of two.
fn token(session: &Session, app: AppIx) -> Result<Option<u64>, String> {
    let Some(app) = session.app(app) else { return Ok(None) };
    let part = |part| {
        app.vault().part(0, part).map(|cookie| String::from_utf8_lossy(cookie.value).parse::<u64>().unwrap())
    };
    match (part(0), part(1)) {
        (one, other) if one == other => Ok(one),
        parts => Err(format!("parts of two tokens: {parts:?}")),
    }
}

fn learn(session: &mut Session, app: AppIx, sent: Sent, number: u64, now: Timestamp) -> bool {
    let value = number.to_string();
    let edit = |part: u8| Edit {
        name: [&b"CFID"[..], b"CFTOKEN"][usize::from(part)],
        value: Some(value.as_bytes()),
        path: b"/",
        host: b"",
        subdomains: false,
        expires: 0,
        role: Role::Token { token: 0, part },
        parts: 2,
        rolling: false,
        carrier: Carrier::Cookie,
        secure: false,
        reach: Reach::default(),
    };
    let Some(app) = session.app_or_new(app, now) else { return false };
    app.request_ended(now);
    app.learn(sent, &[edit(0), edit(1)], now).changed
        || app.vault().part(0, 0).is_some_and(|held| held.value == value.as_bytes())
}

impl Cluster {
    pub(crate) fn new(seed: u64, broken: Broken) -> Self {
        let mut shelf = Shelf::default();
        shelf.ignores_tags = broken == Broken::Tags;
        shelf.ignores_tombstones = broken == Broken::Tombstones;
        let mut cluster = Self {
            random: Random::new(!seed),
            now: Timestamp::from_secs(1_700_000_000),
            broken,
            shelf,
            proxies: Vec::new(),
            leases: BTreeMap::new(),
            numbers: 0,
            browsers: vec![None; BROWSERS],
            flights: Vec::new(),
            replies: Vec::new(),
            told: BTreeMap::new(),
            given: BTreeMap::new(),
            ended: BTreeMap::new(),
            signed_out: BTreeMap::new(),
            created: BTreeMap::new(),
            lost: BTreeSet::new(),
            vanished: BTreeSet::new(),
            deaf: BTreeSet::new(),
            contact: BTreeMap::new(),
            story: Vec::new(),
        };
        for _ in 0..PROXIES {
            let proxy = cluster.proxy();
            cluster.proxies.push(proxy);
        }
        cluster
    }

    pub(crate) fn story(self) -> Vec<String> {
        self.story
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn proxy(&mut self) -> Proxy {
        let (me, puts) = (self.number(), Arc::new(Mutex::new(Vec::new())));
        let registry = Registry::new(Options { max_sessions: 1000 }, CLOCKS, &[7; 32]);
        let outbox = Arc::clone(&puts);
        let registry = registry.shared_by(me, move |record| outbox.lock().unwrap().push(record));
        registry.hear(&News::Hears, self.now);
        self.leases.insert(me, self.now.plus(LEASE));
        Proxy {
            me,
            registry,
            hears: true,
            news: Vec::new(),
            puts,
            waits: BTreeMap::new(),
            under_way: BTreeMap::new(),
            farewells: BTreeSet::new(),
            wrote: BTreeMap::new(),
            walk: Walk::default(),
        }
    }

    fn tell(&mut self, what: impl Into<String>) {
        let at = self.now.millis() % 100_000_000;
        self.story.push(format!("  {at:>8} {}", what.into()));
    }

    pub(crate) fn step(&mut self, op: Op) -> Result<(), String> {
        self.now = self.now.plus(Duration::from_micros(100));
        match op {
            Op::Pass(draw) => self.passes(draw),
            Op::Ask(who, what) => self.asks(pick(who, BROWSERS), what),
            Op::Apply(which) => self.applies(which),
            Op::Begin(which) => {
                self.begins(pick(which, PROXIES));
                Ok(())
            }
            Op::Land(which) => self.lands(pick(which, PROXIES), which >> 8),
            Op::Settle => self.settles(),
            Op::Leave(who, at) => self.leaves(pick(who, BROWSERS), pick(at, PROXIES)),
            Op::Alone(who, what) => self.alone(pick(who, BROWSERS), what),
            Op::Kill(which) => {
                self.kills(pick(which, PROXIES));
                Ok(())
            }
            Op::Deaf(which) => {
                self.deafens(pick(which, PROXIES));
                Ok(())
            }
            Op::Hear(which) => {
                self.hears(pick(which, PROXIES));
                Ok(())
            }
            Op::Failover(draw) => {
                self.fails_over(Duration::from_millis(draw % 1000));
                Ok(())
            }
            Op::Rest(which) => {
                self.rests(pick(which, PROXIES));
                Ok(())
            }
        }?;
        self.replies_are_told();
        self.holds()
    }

    /// Time goes by, second after second, with all that happens by the clock.
    fn passes(&mut self, draw: u64) -> Result<(), String> {
        let most = [300, 2_000, 20_000, 150_000, 700_000][pick(draw >> 32, 5)];
        let mut left = Duration::from_millis(1 + draw % most);
        while !left.is_zero() {
            let step = left.min(Duration::from_millis(if most > 20_000 { 2_000 } else { 500 }));
            left -= step;
            self.now = self.now.plus(step);
            for at in 0..PROXIES {
                self.leases.insert(self.proxies[at].me, self.now.plus(LEASE));
                self.delivers_news(at);
                self.watches(at)?;
            }
            self.takes_over();
            if most > 2_000 {
                self.settles()?;
            }
            self.are_kept_alive()?;
        }
        Ok(())
    }

    fn delivers_news(&mut self, at: usize) {
        let (now, proxy) = (self.now, &mut self.proxies[at]);
        let due = |(when, _): &mut (Timestamp, News)| *when <= now;
        let mut own = Vec::new();
        for (_, news) in proxy.news.extract_if(.., due).collect::<Vec<_>>() {
            proxy.registry.hear(&news, now);
            own.extend(match news {
                News::Changed(name) if proxy.registry.is_mine_by_name(name) => Some(name),
                _ => None,
            });
        }
        // Whose it is reads it: an app may have come into it.
        own.into_iter().for_each(|name| drop(self.reads(at, Key::Name(name))));
    }

    /// Everybody but one hears, a moment later.
    fn spreads(&mut self, from: u64, news: &News) {
        if self.broken == Broken::News {
            return;
        }
        for at in 0..PROXIES {
            let due = self.now.plus(Duration::from_millis(self.random.next() % 400));
            if self.proxies[at].me != from && self.proxies[at].hears {
                self.proxies[at].news.push((due, news.clone()));
            }
        }
    }

    /// The session that `by` leads to, as a proxy has it when it asks the store where it must.
    fn refresh(&mut self, at: usize, by: Key) -> Option<Arc<Slot>> {
        self.delivers_news(at);
        self.reads(at, by)
    }

    fn reads(&self, at: usize, by: Key) -> Option<Arc<Slot>> {
        let (now, registry) = (self.now, &self.proxies[at].registry);
        if let Some(slot) = registry.fresh(by, now) {
            return Some(slot);
        }
        let name = match by {
            Key::Id(id) => self.shelf.index.get(&id).copied(),
            Key::Name(name) => Some(name),
            Key::Token(_) => None,
        };
        match name.and_then(|name| Some((name, self.shelf.all.get(&name)?))) {
            Some((name, (head, _))) if head.ended => {
                registry.hear(&News::Ended(name), now);
                None
            }
            Some((_, (head, record))) => registry.take_in(head, (record, None), now).ok(),
            // Its own store, which is none, has nothing either.
            None => registry.refresh(by, now).now_or_never().unwrap().unwrap(),
        }
    }

    /// A token goes out.
    fn sends(&mut self, at: usize, slot: &Slot, app: AppIx, beat: bool) -> Result<(), String> {
        let (name, me) = (slot.name(), self.proxies[at].me);
        if self.now >= self.created[&name].plus(CLOCKS.max_lifetime) {
            return Err(format!("{name:x?} outlives its longest life"));
        }
        let late = |(at, ..): &(Timestamp, u64, bool)| self.now.since(*at) > Duration::from_secs(1);
        if self.ended.get(&name).is_some_and(late) && !self.is_being_written(name) {
            return Err(format!("proxy {me} sends for {name:x?}, which has ended"));
        }
        let before = self.contact.insert((name, app), (self.now, beat.then_some(me)));
        if let Some((when, Some(other))) = before
            && beat
            && other != me
            && self.at(other).is_some()
            && self.now.since(when) < INTERVAL / 2
        {
            return Err(format!("proxies {other} and {me} both send heartbeats for {name:x?}"));
        }
        Ok(())
    }

    fn is_being_written(&self, name: Name) -> bool {
        let waits = |proxy: &Proxy| proxy.waits.contains_key(&name) || proxy.under_way.contains_key(&name);
        self.proxies.iter().any(|proxy| {
            waits(proxy) || proxy.puts.lock().unwrap().iter().any(|record| record.name() == name)
        })
    }

    fn opens(&mut self, at: usize, browser: usize) -> Option<Arc<Slot>> {
        let (id, _) = self.browsers[browser].clone()?;
        self.refresh(at, Key::Id(*id.key().as_bytes()));
        match self.proxies[at].registry.open(&id, visitor(), self.now) {
            Opened::Session { slot, .. } => Some(slot),
            Opened::Over(slot, _) => {
                self.proxies[at].farewells.insert(slot.name());
                None
            }
            _ => None,
        }
    }

    /// A browser asks an app, through any of the proxies.
    fn asks(&mut self, browser: usize, what: u64) -> Result<(), String> {
        let (at, app) = (pick(what >> 8, PROXIES), AppIx((what >> 20) as u16 % APPS));
        let slot = match self.opens(at, browser) {
            Some(slot) => slot,
            None => self.founds(at, browser),
        };
        let now = self.now;
        let (sent, created) = slot.with(|session| {
            session.touch(app, true, now);
            let none = Sent { generation: 0, revision: 0, started: now, unsafe_method: false };
            session.app_mut(app).map_or((none, None), |app| {
                app.request_began(now);
                (app.sent(now, false), Some(app.created))
            })
        });
        self.proxies[at].registry.save(&slot);
        if created.is_some() {
            self.sends(at, &slot, app, false)?;
        }
        let proxy = self.proxies[at].me;
        self.tell(format!("browser {browser} asks {app:?} through {proxy} for {}", slot.handle));
        self.flights.push(Flight { proxy, slot, app, sent, created });
        Ok(())
    }

    fn founds(&mut self, at: usize, browser: usize) -> Arc<Slot> {
        let random = self.random.bytes();
        let (slot, id) = self.proxies[at].registry.create(random, self.now).unwrap();
        // Its cookie comes back at once.
        let _ = self.proxies[at].registry.open(&id, visitor(), self.now);
        self.created.insert(slot.name(), self.now);
        self.browsers[browser] = Some((id, slot.name()));
        slot
    }

    fn at(&self, me: u64) -> Option<usize> {
        self.proxies.iter().position(|proxy| proxy.me == me)
    }

    /// The app answers with another token.
    fn applies(&mut self, which: u64) -> Result<(), String> {
        if self.flights.is_empty() {
            return Ok(());
        }
        let flight = self.flights.remove(pick(which, self.flights.len()));
        let Some(at) = self.at(flight.proxy) else { return Ok(()) };
        let (number, now) = (self.number(), self.now);
        let learned = flight.slot.with(|session| {
            let created = session.app(flight.app).map(|app| app.created);
            if session.has_ended() || flight.created.is_some() && flight.created != created {
                return false;
            }
            learn(session, flight.app, flight.sent, number, now)
        });
        self.proxies[at].registry.save(&flight.slot);
        let name = flight.slot.name();
        if let Some(contact) = self.contact.get_mut(&(name, flight.app)) {
            *contact = (now, None);
        }
        if learned {
            self.given.insert((name, flight.app, number), now);
            self.contact.insert((name, flight.app), (now, None));
            self.tell(format!(
                "{} has token {number} of {:?} through {}",
                flight.slot.handle, flight.app, flight.proxy
            ));
            self.replies.push(Reply { proxy: flight.proxy, name, says: Says::Token(flight.app, number) });
        }
        Ok(())
    }

    fn leaves(&mut self, browser: usize, at: usize) -> Result<(), String> {
        let Some(slot) = self.opens(at, browser) else { return Ok(()) };
        self.ends(at, &slot, End::UserLogout);
        let (proxy, name) = (self.proxies[at].me, slot.name());
        self.replies.push(Reply { proxy, name, says: Says::Over });
        Ok(())
    }

    fn ends(&mut self, at: usize, slot: &Arc<Slot>, end: End) {
        let proxy = &mut self.proxies[at];
        if proxy.registry.end(slot, end, self.now).is_some() {
            proxy.farewells.insert(slot.name());
            let me = proxy.me;
            self.tell(format!("{} ends at {me}: {}", slot.handle, end.as_str()));
        }
    }

    fn alone(&mut self, browser: usize, what: u64) -> Result<(), String> {
        let (at, app) = (pick(what, PROXIES), AppIx((what >> 8) as u16 % APPS));
        let Some(slot) = self.opens(at, browser) else { return Ok(()) };
        let (now, name, proxy) = (self.now, slot.name(), self.proxies[at].me);
        let taken = slot.with(|session| {
            session.timeline.note(now, Some(app), What::SignOut);
            session.take_app(app).is_some()
        });
        self.proxies[at].registry.save(&slot);
        if taken {
            self.tell(format!("{} leaves {app:?} alone at {proxy}", slot.handle));
            self.given.insert((name, app, 0), now);
            self.contact.remove(&(name, app));
            self.replies.push(Reply { proxy, name, says: Says::Gone(app, now) });
        }
        Ok(())
    }

    /// What a proxy has put goes on its way.
    fn begins(&mut self, at: usize) {
        let (tags, now) = (&mut self.shelf, self.now);
        let proxy = &mut self.proxies[at];
        for record in std::mem::take(&mut *proxy.puts.lock().unwrap()) {
            proxy.waits.insert(record.name(), record);
        }
        for (name, record) in std::mem::take(&mut proxy.waits) {
            if proxy.under_way.contains_key(&name) {
                proxy.waits.insert(name, record);
                continue;
            }
            let mut bytes = Vec::new();
            if let Some(head) = record.write(&mut bytes) {
                proxy.under_way.insert(name, Write { record, head, bytes, tag: tags.tag(), at: now });
            }
        }
    }

    /// One of the writes of a proxy comes to the store; now and then its answer is lost, and it is sent once more.
    fn lands(&mut self, at: usize, draw: u64) -> Result<(), String> {
        let names: Vec<Name> = self.proxies[at].under_way.keys().copied().collect();
        let Some(name) = names.get(pick(draw, names.len())) else { return Ok(()) };
        let Some(write) = self.proxies[at].under_way.remove(name) else { return Ok(()) };
        let (name, me, now) = (*name, self.proxies[at].me, self.now);
        match self.shelf.write(name, (&write.head, &write.bytes), write.tag, now) {
            Fate::Written(tag) => {
                self.lost.remove(&name);
                self.proxies[at].wrote.insert(name, now);
                if !write.head.quiet {
                    self.spreads(me, &News::Changed(name));
                }
                if draw >> 16 & 7 == 0 {
                    self.tell(format!("the answer to a write of {me} is lost"));
                    self.proxies[at].waits.entry(name).or_insert(write.record);
                } else {
                    write.record.written(tag, write.at);
                }
            }
            Fate::Lost => {
                self.tell(format!("{me} finds nothing where something was"));
                write.record.lost();
                self.proxies[at].waits.entry(name).or_insert(write.record);
            }
            Fate::Conflict(head, theirs) => {
                self.tell(format!("{me} meets another's write"));
                if self.broken == Broken::Merges {
                    write.record.written(head.tag, write.at);
                } else {
                    write.record.merge(&theirs, &head)?;
                }
                self.proxies[at].waits.entry(name).or_insert(write.record);
            }
            Fate::Ended(first) if write.head.ended => {
                self.lost.remove(&name);
                self.proxies[at].wrote.insert(name, now);
                write.record.written(write.tag, write.at);
                self.ended.entry(name).or_insert((now, me, false));
                self.spreads(me, &News::Ended(name));
                let farewell = self.proxies[at].farewells.remove(&name);
                if farewell && (first || self.broken == Broken::Farewells) {
                    *self.signed_out.entry(name).or_default() += 1;
                }
            }
            Fate::Ended(_) => self.proxies[at].registry.hear(&News::Ended(name), now),
        }
        Ok(())
    }

    /// Everything that is to be written is.
    fn settles(&mut self) -> Result<(), String> {
        for _ in 0..50 {
            for at in 0..PROXIES {
                self.begins(at);
                while !self.proxies[at].under_way.is_empty() {
                    let draw = self.random.next();
                    self.lands(at, draw)?;
                }
            }
            let idle = |proxy: &Proxy| proxy.waits.is_empty() && proxy.puts.lock().unwrap().is_empty();
            if self.proxies.iter().all(idle) {
                return Ok(());
            }
        }
        Err("the proxies write for ever".to_owned())
    }

    /// Answers whose sessions are in the store reach their browsers.
    fn replies_are_told(&mut self) {
        let replies = std::mem::take(&mut self.replies);
        for reply in replies {
            let Some(at) = self.at(reply.proxy) else { continue };
            let waits = {
                let proxy = &self.proxies[at];
                let put = proxy.puts.lock().unwrap().iter().any(|record| record.name() == reply.name);
                put || proxy.waits.contains_key(&reply.name) || proxy.under_way.contains_key(&reply.name)
            };
            if waits {
                self.replies.push(reply);
                continue;
            }
            match reply.says {
                Says::Token(app, number) => {
                    self.is_told((reply.name, app), self.given[&(reply.name, app, number)], reply.proxy)
                }
                Says::Gone(app, when) => self.is_told((reply.name, app), when, reply.proxy),
                Says::Over => {
                    if let Some(ended) = self.ended.get_mut(&reply.name) {
                        ended.2 = true;
                    }
                }
            }
        }
    }

    fn is_told(&mut self, what: (Name, AppIx), when: Timestamp, proxy: u64) {
        let known = self.told.entry(what).or_insert((when, proxy));
        if known.0 <= when {
            *known = (when, proxy);
        }
    }

    fn kills(&mut self, at: usize) {
        let me = self.proxies[at].me;
        self.tell(format!("proxy {me} is gone"));
        self.proxies[at] = self.proxy();
        // What it had put and not written nobody knows.
        self.flights.retain(|flight| flight.proxy != me);
        self.replies.retain(|reply| reply.proxy != me);
        self.forgets_what_nobody_knows();
    }

    fn deafens(&mut self, at: usize) {
        self.tell(format!("proxy {} is deaf", self.proxies[at].me));
        let proxy = &mut self.proxies[at];
        self.deaf.insert(proxy.me);
        (proxy.hears, proxy.news) = (false, Vec::new());
        proxy.registry.hear(&News::Deaf, self.now);
    }

    fn hears(&mut self, at: usize) {
        if !self.proxies[at].hears {
            self.tell(format!("proxy {} hears again", self.proxies[at].me));
            self.proxies[at].hears = true;
            self.proxies[at].registry.hear(&News::Hears, self.now);
            self.names(at).into_iter().for_each(|name| drop(self.reads(at, Key::Name(name))));
        }
    }

    /// The sessions that a proxy has.
    fn names(&self, at: usize) -> Vec<Name> {
        let mut names = Vec::new();
        self.proxies[at].registry.each(|session, _| {
            names.push(session.handle.0.to_be_bytes());
            true
        });
        names.sort_unstable();
        names
    }

    /// A server takes the store's place that lags behind. Every proxy says again what it wrote.
    fn fails_over(&mut self, lost: Duration) {
        let names = self.shelf.fails_over(lost, self.now);
        self.tell(format!("failover: {} writes are lost", names.len()));
        for name in names {
            self.lost.insert(name);
            // Whoever ends it as well signs its apps out once more: nobody can tell him that it was done.
            self.signed_out.remove(&name);
        }
        self.forgets_what_nobody_knows();
        if self.broken == Broken::Assertions {
            return;
        }
        for proxy in &self.proxies {
            for (name, when) in &proxy.wrote {
                if self.now.since(*when) < ASSERTED {
                    proxy.registry.hear(&News::Again(*name), self.now);
                }
            }
        }
    }

    /// What only a proxy knew that is gone, and the store has lost, nobody can say again.
    fn forgets_what_nobody_knows(&mut self) {
        let living: BTreeSet<u64> = self.proxies.iter().map(|proxy| proxy.me).collect();
        for name in &self.lost {
            if self.ended.get(name).is_some_and(|(_, proxy, _)| !living.contains(proxy)) {
                self.ended.remove(name);
                // Whoever has heard of its end does not bring it back either.
                self.vanished.insert(*name);
            }
            self.told.retain(|(of, _), (_, proxy)| of != name || living.contains(proxy));
        }
    }

    /// The sessions of proxies whose lease has run out get another owner each.
    fn takes_over(&mut self) {
        let owners: Vec<(Name, u64)> =
            self.shelf.all.iter().map(|(name, (head, _))| (*name, head.owner)).collect();
        for (name, owner) in owners {
            if self.leases[&owner] > self.now || self.broken == Broken::Takeovers {
                continue;
            }
            let at = pick(self.random.next(), PROXIES);
            let me = self.proxies[at].me;
            if self.shelf.takes_over(name, (owner, me), self.now) {
                self.proxies[at].wrote.insert(name, self.now);
                self.proxies[at].registry.hear(&News::Mine { name }, self.now);
                self.refresh(at, Key::Name(name));
                self.spreads(me, &News::Changed(name));
                if self.deaf.contains(&owner) {
                    let of = self.contact.iter_mut().filter(|((of, _), _)| *of == name);
                    of.for_each(|(_, contact)| *contact = (self.now, None));
                }
                self.tell(format!("{me} takes over from {owner}"));
            }
        }
    }

    /// A proxy looks after what it owns: it ends what is over, and sends heartbeats.
    fn watches(&mut self, at: usize) -> Result<(), String> {
        for name in self.names(at) {
            let Some(slot) =
                self.proxies[at].registry.find(sessionbridge::bridge::id::Handle(u64::from_be_bytes(name)))
            else {
                continue;
            };
            if !self.is_mine(at, &slot) || !self.is_due(&slot) {
                continue;
            }
            let Some(slot) = self.refresh(at, Key::Name(name)).filter(|slot| self.is_mine(at, slot)) else {
                continue;
            };
            let now = self.now;
            let over =
                slot.with(|session| session.ends_at(&CLOCKS).plus(LAG).min(session.hard_end(&CLOCKS)) <= now);
            if over {
                self.ends(at, &slot, End::Idle);
                continue;
            }
            for app in (0..APPS).map(AppIx) {
                let due = slot.with(|session| {
                    let held = session.app_mut(app).filter(|app| app.has_token());
                    held.filter(|app| now.since(app.last_request) >= INTERVAL).is_some_and(|app| {
                        (app.last_request, app.renewed, app.beat.at) = (now, now, now);
                        true
                    })
                });
                if due {
                    self.sends(at, &slot, app, true)?;
                }
            }
        }
        Ok(())
    }

    fn is_mine(&self, at: usize, slot: &Slot) -> bool {
        self.broken == Broken::Owners || self.proxies[at].registry.is_mine(slot)
    }

    fn is_due(&self, slot: &Slot) -> bool {
        slot.with(|session| {
            let ends = session.ends_at(&CLOCKS).plus(LAG).min(session.hard_end(&CLOCKS)) <= self.now;
            ends || session.apps().any(|app| app.has_token() && self.now.since(app.last_request) >= INTERVAL)
        })
    }

    fn rests(&mut self, at: usize) {
        let now = self.now;
        let proxy = &mut self.proxies[at];
        for _ in 0..2 * proxy.registry.pieces() {
            proxy.registry.rest(&mut proxy.walk, now);
        }
    }

    /// What the store has, as somebody would read it who has nothing else.
    fn view<T>(&self, name: Name, look: impl FnOnce(&Session) -> T) -> Option<T> {
        let (head, record) = self.shelf.all.get(&name).filter(|(head, _)| !head.ended)?;
        let registry = Registry::new(Options { max_sessions: 9 }, CLOCKS, &[7; 32]).shared_by(u64::MAX, drop);
        let slot = registry.take_in(head, (record, None), self.now).unwrap();
        Some(slot.with(|session| look(session)))
    }

    /// Sessions in the store have their heartbeats, whatever becomes of proxies.
    fn are_kept_alive(&self) -> Result<(), String> {
        for ((name, app), (last, _)) in &self.contact {
            if self.now.since(*last) <= INTERVAL + 2 * LEASE + LAG {
                continue;
            }
            let owner = self.shelf.all.get(name).and_then(|(head, _)| self.at(head.owner));
            // Who hears nothing does not hear of an app that has come into the session elsewhere.
            let deaf = owner.is_none_or(|at| !self.proxies[at].hears) && self.broken != Broken::Takeovers;
            let over = self.ended.contains_key(name) || self.vanished.contains(name);
            let dead = deaf || over || self.is_being_written(*name);
            let lives = || {
                self.view(*name, |session| {
                    let ends = session.ends_at(&CLOCKS) > self.now;
                    ends && session.app(*app).is_some_and(|app| app.has_token())
                })
            };
            if !dead && lives() == Some(true) {
                return Err(format!(
                    "nobody keeps {app:?} of {name:x?} alive since {:?}",
                    self.now.since(*last)
                ));
            }
        }
        Ok(())
    }

    fn holds(&self) -> Result<(), String> {
        for proxy in &self.proxies {
            let mut whole = Ok(());
            proxy.registry.each(|session, _| {
                for app in (0..APPS).map(AppIx) {
                    whole =
                        std::mem::replace(&mut whole, Ok(())).and_then(|()| token(session, app).map(drop));
                }
                true
            });
            whole?;
        }
        match self.signed_out.iter().find(|(_, times)| **times > 1) {
            Some((name, times)) => Err(format!("the apps of {name:x?} were signed out of {times} times")),
            None => Ok(()),
        }
    }

    /// All comes to rest; what was said is so.
    pub(crate) fn ends_well(&mut self) -> Result<(), String> {
        for _ in 0..4 {
            (0..PROXIES).for_each(|at| self.hears(at));
            self.now = self.now.plus(Duration::from_secs(3));
            self.takes_over();
            let names: Vec<Name> =
                self.shelf.all.keys().copied().chain(self.created.keys().copied()).collect();
            for at in 0..PROXIES {
                self.delivers_news(at);
                for name in &names {
                    self.refresh(at, Key::Name(*name));
                }
            }
            self.settles()?;
            self.replies_are_told();
        }
        for ((name, app), (when, proxy)) in &self.told {
            if self.ended.contains_key(name) || self.vanished.contains(name) {
                continue;
            }
            let held = self.view(*name, |session| token(session, *app)).transpose()?;
            let Some(held) = held else {
                return Err(format!("{name:x?} was acknowledged by {proxy} and is lost"));
            };
            let since = self.given.get(&(*name, *app, held.unwrap_or(0)));
            if since.is_none_or(|since| since < when) {
                return Err(format!(
                    "{app:?} of {name:x?} has {held:?}, which is older than what {proxy} said"
                ));
            }
        }
        for (name, _) in self.ended.iter().filter(|(_, (.., said))| *said) {
            if self.view(*name, |_| ()).is_some() {
                return Err(format!("{name:x?} had ended and is back"));
            }
            let knows = |proxy: &&Proxy| proxy.registry.knows(Key::Name(*name));
            if let Some(proxy) = self.proxies.iter().find(knows) {
                return Err(format!("{name:x?} has ended, and proxy {} has it", proxy.me));
            }
        }
        self.holds()
    }
}
