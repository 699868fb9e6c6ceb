//! Once a second: this proxy's lease, who else is alive, and whether the store is still the one that it was.
//!
//! Invariants: nothing is asked of a connection, and nothing written, before it has been looked at; where the store has lost
//! something, tombstones are there again before anything else is.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::News;
use super::core::{Core, count, locked};
use super::link::{Broken, Link, Refusal, bytes, text};
use super::ring::SPAN;
use super::scripts::{KEEP, RENEW};
use super::{commands, takeover};

/// How often it beats.
const BEAT: Duration = Duration::from_secs(1);
/// How often a connection is tried.
const AGAIN: Duration = Duration::from_millis(250);
/// For how long a lease is good.
pub(super) const LEASE: Duration = Duration::from_secs(5);
/// Marks in a cluster: so many that each server has some.
const MARKS: usize = 64;
/// Beats without an answer after which a cluster is looked for anew.
const MISSED: u32 = 5;
/// Milliseconds of this proxy's renewals that a lagging replica may have missed, and what was written in the last minute is
/// all that it lost.
const LAG: u64 = 50_000;

/// Beats for which a lease has to have run out before its proxy counts as dead: where the store was away everybody's has.
const SURE: u32 = 3;

/// What the last look found.
#[derive(Default)]
pub(super) struct Pulse {
    /// Each server that is written to: which process it is, and whose history it has.
    servers: BTreeMap<String, (String, String)>,
    /// When this proxy's lease was renewed last, by the store's clock, in milliseconds.
    renewed: u64,
    missed: u32,
    tries: u32,
    /// Whose lease has run out, and for how many beats.
    suspects: HashMap<u64, u32>,
}

/// What a look finds.
struct Look {
    now: u64,
    before: u64,
    /// `None`: no lease could be renewed.
    members: Option<Vec<(u64, u64)>>,
    marks: Vec<Option<Vec<u8>>>,
    servers: BTreeMap<String, (String, String)>,
    /// What it throws away where there is no room, if it does; and how old it is.
    evicts: Option<String>,
    version: Option<String>,
}

/// What the store may have lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Nothing,
    /// What was written a moment ago.
    Lately,
    Everything,
}

/// Beats for as long as the thread runs.
pub(super) async fn run(core: Arc<Core>, mut pulse: Pulse) {
    loop {
        let pause = if core.hub.is_up() {
            pulse.beat(&core).await;
            BEAT
        } else {
            match pulse.connect(&core).await {
                Ok(()) => continue,
                Err(error) => pulse.failed(&error),
            }
            AGAIN
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = core.hub.lost.notified() => {}
            () = core.hurry.notified(), if core.hub.is_up() => {}
        }
    }
}

impl Pulse {
    fn failed(&mut self, error: &Broken) {
        if self.tries.is_multiple_of(120) {
            tracing::error!(why = error.0, "the shared store cannot be reached");
        }
        self.tries += 1;
    }

    /// Makes a connection, and looks where it leads before anybody uses it.
    pub(super) async fn connect(&mut self, core: &Arc<Core>) -> Result<(), Broken> {
        let (link, at) = core.dial.link().await?;
        let began = Instant::now();
        let look = look(core, &link).await?;
        let first = self.servers.is_empty();
        if first {
            about(core, &look)?;
            ask_whether_emptied(core, &link).await?;
        }
        let lost = self.lost(core, &look);
        reassert(core, &link, lost).await?;
        core.hub.put(link, at);
        core.queue.heal();
        if !first {
            tracing::warn!(tries = self.tries, ?lost, "the shared store can be reached again");
        }
        (self.tries, self.missed) = (0, 0);
        tell_lost(core, lost);
        self.seen(core, look, began);
        Ok(())
    }

    /// Looks at the connection that there is.
    async fn beat(&mut self, core: &Arc<Core>) {
        let Some(linked) = core.hub.linked() else { return };
        let began = Instant::now();
        let looked = match look(core, &linked.link).await {
            Ok(look) => {
                let lost = self.lost(core, &look);
                reassert(core, &linked.link, lost).await.map(|()| (look, lost))
            }
            Err(error) => Err(error),
        };
        match looked {
            Ok((look, lost)) => {
                self.missed = 0;
                tell_lost(core, lost);
                self.seen(core, look, began);
            }
            // Of a cluster one server may be away while the others serve.
            Err(error) => {
                self.missed += 1;
                if !core.dial.is_cluster() || self.missed >= MISSED {
                    core.lose(linked.number, &error.0);
                }
            }
        }
    }

    /// What the store may have lost since the last look.
    fn lost(&self, core: &Core, look: &Look) -> Lost {
        let known = locked(&core.marks);
        let other = |(was, is): (&Vec<u8>, &Option<Vec<u8>>)| is.as_ref().is_some_and(|is| is != was);
        if known.iter().zip(&look.marks).any(other) {
            return Lost::Everything;
        }
        drop(known);
        let new = |server: &(String, String)| !self.servers.values().any(|known| known == server);
        if self.servers.is_empty() || !look.servers.values().any(new) {
            return Lost::Nothing;
        }
        let lag = self.renewed.saturating_sub(look.before);
        if self.renewed > 0 && lag > LAG { Lost::Everything } else { Lost::Lately }
    }

    /// Remembers a look, and sees to those who have died.
    fn seen(&mut self, core: &Arc<Core>, look: Look, began: Instant) {
        if !look.servers.is_empty() {
            self.servers = look.servers;
        }
        for (known, is) in locked(&core.marks).iter_mut().zip(look.marks) {
            if let Some(is) = is {
                *known = is;
            }
        }
        let evicts = look.evicts.is_some();
        core.facts.evicts.store(evicts, Ordering::Relaxed);
        locked(&core.ring).prune(core.clock.now());
        if let Some(all) = look.members {
            self.members(core, look.now, &all, began);
        }
    }

    /// Who is alive, and who is not any more.
    fn members(&mut self, core: &Arc<Core>, now: u64, all: &[(u64, u64)], began: Instant) {
        let serves = core.serves.load(Ordering::Acquire);
        let alive = |renewed: u64| renewed + LEASE.as_millis() as u64 > now;
        let stale = all.iter().filter(|(who, at)| *who != core.me && !alive(*at));
        // Who stopped in order gave its lease up: its time is 0.
        let beats = |(who, at): &(u64, u64)| {
            let beats = self.suspects.get(who).copied().unwrap_or(0).saturating_add(1);
            (*who, if *at == 0 { SURE } else { beats })
        };
        self.suspects = stale.map(beats).collect();
        let dead: Vec<u64> =
            self.suspects.iter().filter(|(_, beats)| **beats >= SURE).map(|(who, _)| *who).collect();
        let mut members = core.members.write().unwrap_or_else(PoisonError::into_inner);
        let lapsed = members.leased.is_some_and(|until| until < began);
        members.leased = serves.then(|| began + LEASE);
        // Where the store lost its list, who was alive a moment ago still is.
        members.alive.retain(|who, seen| !dead.contains(who) && began.duration_since(*seen) < LEASE);
        let living = all.iter().filter(|(who, _)| !dead.contains(who));
        members.alive.extend(living.map(|(who, _)| (*who, began)));
        drop(members);
        if serves {
            self.renewed = now;
        }
        if lapsed {
            tracing::warn!("this proxy's lease had run out: others may have taken its sessions over");
            core.again.notify_one();
        }
        if serves && !core.is_unsure() {
            takeover::begin(core, dead);
        }
    }
}

/// Looks, and renews the lease while it is there.
async fn look(core: &Core, link: &Link) -> Result<Look, Broken> {
    let mut renew = RENEW.on(&core.names.members());
    let serves = core.serves.load(Ordering::Acquire);
    renew.arg(&core.me.to_be_bytes()[..]).arg(if serves { "1" } else { "0" });
    let mut echo = redis::cmd("PUBLISH");
    echo.arg(core.names.channel()).arg(core.says(b'P', &[]));
    let mut commands = vec![renew, echo];
    let marks = if core.dial.is_cluster() { MARKS } else { 1 };
    // Whoever finds no mark puts one: from then on everybody sees that it is another.
    let mark = crate::random::bytes::<8>();
    for number in 0..marks {
        let mut keep = KEEP.on(&core.names.mark(number));
        keep.arg(&mark[..]);
        commands.push(keep);
    }
    let mut answers = link.send(commands).await?.into_iter();
    let members = match answers.next() {
        Some(Ok(Value::Array(members))) => Some(members),
        Some(Err(Refusal::Other(why))) => return Err(Broken(why)),
        Some(Err(why)) => {
            tracing::warn!(?why, "this proxy's lease cannot be renewed");
            None
        }
        _ => None,
    };
    // How many hear the echo is nothing to this proxy.
    let _heard = answers.next();
    let known = members.is_some();
    let members = members.unwrap_or_default();
    let mut members = members.iter().map(text_or_bytes);
    let number = |text: Option<&[u8]>| {
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        text.and_then(|text| text.parse::<f64>().ok()).map_or(0, |number| number as u64)
    };
    let (now, before) = (number(members.next().flatten()), number(members.next().flatten()));
    let mut all = Vec::new();
    while let (Some(who), Some(at)) = (members.next(), members.next()) {
        if let Some(who) = who.and_then(|who| who.try_into().ok()) {
            all.push((u64::from_be_bytes(who), number(at)));
        }
    }
    let marks = answers.map(|answer| answer.ok().and_then(bytes)).collect();
    let mut look = Look { now, before, members: known.then_some(all), marks, ..servers(link).await? };
    if look.servers.values().any(|(_, history)| history.is_empty()) {
        look.servers.clear();
    }
    Ok(look)
}

fn text_or_bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// Who the servers are.
async fn servers(link: &Link) -> Result<Look, Broken> {
    let mut look = Look {
        now: 0,
        before: 0,
        members: None,
        marks: Vec::new(),
        servers: BTreeMap::new(),
        evicts: None,
        version: None,
    };
    for section in ["server", "replication", "memory"] {
        let mut info = redis::cmd("INFO");
        info.arg(section);
        for (address, value) in link.everywhere(info).await? {
            let Some(said) = text(&value) else { continue };
            let field = |name: &str| {
                let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.map(|value| value.trim().to_owned())
            };
            if field("role").is_some_and(|role| role != "master") {
                return Err(Broken("the server is a replica now".to_owned()));
            }
            let server = look.servers.entry(address).or_default();
            if let Some(run) = field("run_id") {
                server.0 = run;
            }
            if let Some(history) = field("master_replid") {
                server.1 = history;
            }
            look.version = look.version.or_else(|| field("redis_version"));
            let bounded = field("maxmemory").is_some_and(|most| most != "0");
            if let Some(policy) = field("maxmemory_policy").filter(|policy| bounded && policy != "noeviction")
            {
                look.evicts = Some(policy);
            }
        }
    }
    Ok(look)
}

/// Says what the first look found that people should know.
fn about(core: &Core, look: &Look) -> Result<(), Broken> {
    *locked(&core.marks) = look.marks.iter().map(|mark| mark.clone().unwrap_or_default()).collect();
    if let Some(policy) = &look.evicts {
        tracing::warn!(
            policy,
            "the shared store throws keys away where memory is short, and people are signed out by it; set maxmemory-policy to \
             noeviction"
        );
    }
    let mut version = look.version.iter().flat_map(|version| version.split('.')).map(str::parse::<u32>);
    if let (Some(Ok(major)), Some(Ok(minor))) = (version.next(), version.next())
        && (major, minor) < (6, 2)
    {
        return Err(Broken(format!(
            "the server is of version {major}.{minor}, and 6.2 is the oldest that does"
        )));
    }
    Ok(())
}

/// Who starts just after the store was found emptied has not heard of it, and does not believe either what is not there.
async fn ask_whether_emptied(core: &Core, link: &Link) -> Result<(), Broken> {
    let mut exists = redis::cmd("EXISTS");
    exists.arg(core.names.emptied());
    if matches!(link.send(vec![exists]).await?.first(), Some(Ok(Value::Int(1)))) {
        core.doubt();
    }
    Ok(())
}

/// Has the store know again what it must not have forgotten, before anybody uses it.
async fn reassert(core: &Core, link: &Link, lost: Lost) -> Result<(), Broken> {
    let span = match lost {
        Lost::Nothing => return Ok(()),
        Lost::Lately => Some(SPAN),
        Lost::Everything => None,
    };
    // What the others had in it comes back as they notice.
    core.doubt();
    if lost == Lost::Everything {
        let (mut tell, mut note) = (redis::cmd("PUBLISH"), redis::cmd("SET"));
        tell.arg(core.names.channel()).arg(core.says(b'L', &[]));
        note.arg(core.names.emptied()).arg("1").arg("PX").arg(LEASE.as_millis() as u64);
        link.send(vec![note, tell]).await?;
    }
    count(&core.facts.reassertions, 1);
    tracing::warn!(?lost, "the shared store has lost something: what this proxy knows is written again");
    if let Some((plain, sealed)) = core.secret.get() {
        let mut keep = KEEP.on(&core.names.secret());
        keep.arg(&sealed[..]);
        let kept = link.send(vec![keep]).await?.into_iter().next().and_then(Result::ok).and_then(bytes);
        let kept = kept.and_then(|kept| crate::store::seal::open(&core.keys, b"secret", &kept).ok());
        if kept.is_some_and(|(kept, _)| kept[..] != plain[..]) {
            tracing::error!("the shared store is another installation's by now: start this proxy again");
        }
    }
    let notes = locked(&core.notes).clone();
    for (name, value) in notes.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let mut keep = KEEP.on(&core.names.note(&name));
        keep.arg(value);
        link.send(vec![keep]).await?;
    }
    let ends = locked(&core.ring).ends(span);
    for chunk in ends.chunks(128) {
        let bury: Vec<_> = chunk.iter().map(|(name, end)| commands::burying(core, *name, end)).collect();
        link.send(bury).await?;
    }
    Ok(())
}

/// Asks for what was lost.
fn tell_lost(core: &Core, lost: Lost) {
    match lost {
        Lost::Nothing => {}
        Lost::Lately => {
            let writes = locked(&core.ring).writes();
            writes.into_iter().for_each(|name| core.tell(News::Again(name)));
        }
        Lost::Everything => core.tell(News::All),
    }
}
