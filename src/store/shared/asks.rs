//! What is asked of the store at once: a session that is not here, a claim, something that is taken out once.
//!
//! Whoever asks is on any thread, and makes and reads what the store's thread sends and gets: that one only carries.
//!
//! Invariants: nobody waits for a store that is away; what is claimed or taken out is one asker's, however many ask; what is
//! not there is said not to be only where the store has not just lost everything.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::commands::noting;
use super::core::{Core, count, locked};
use super::link::{Answer, Refusal, bytes};
use super::scripts::{CLAIM, UNCLAIM};
use super::{Fetched, Key, Shared, names};
use crate::store::queue::Outage;
use crate::store::seal;

/// What the store's thread is to do.
pub(super) enum Order {
    /// Send commands, and give back the answers.
    Ask(Vec<Cmd>, Reply),
    /// Begin to serve: hear news, have a lease.
    Start,
    /// Bring what waits into the store and give everything up that is owned; true: all was written.
    Close(Box<dyn FnOnce(bool) + Send>),
}

type Reply = Box<dyn FnOnce(Result<Vec<Answer>, Outage>) + Send>;

/// Orders that are taken at once.
const MOST: usize = 64;
/// How long it may take to write what waits at the end.
const CLOSING: Duration = Duration::from_secs(2);

/// Does what is ordered until there is nobody left who could order anything.
pub(super) async fn serve(core: &Arc<Core>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut taken = Vec::new();
    while orders.recv_many(&mut taken, MOST).await > 0 {
        let (mut commands, mut replies) = (Vec::new(), Vec::new());
        for order in taken.drain(..) {
            match order {
                Order::Ask(asked, reply) => {
                    replies.push((asked.len(), reply));
                    commands.extend(asked);
                }
                Order::Start => {
                    tokio::spawn(super::news::run(Arc::clone(core)));
                    core.hurry.notify_one();
                }
                Order::Close(reply) => drop(tokio::spawn(close(Arc::clone(core), reply))),
            }
        }
        if !commands.is_empty() {
            let core = Arc::clone(core);
            tokio::spawn(async move {
                let mut answers = core.send(commands).await.map(Vec::into_iter);
                for (many, reply) in replies {
                    reply(match &mut answers {
                        Ok(answers) => Ok(answers.by_ref().take(many).collect()),
                        Err(outage) => Err(*outage),
                    });
                }
            });
        }
    }
}

/// Gives up what this proxy owns, with all that waits written before.
async fn close(core: Arc<Core>, reply: Box<dyn FnOnce(bool) + Send>) {
    let written = tokio::time::timeout(CLOSING, core.queue.committed(core.queue.last())).await;
    let mut give_up = redis::cmd("ZADD");
    give_up.arg(core.names.members()).arg(0).arg(&core.me.to_be_bytes()[..]);
    let mut tell = redis::cmd("PUBLISH");
    tell.arg(core.names.channel()).arg(core.says(b'G', &[]));
    // Where the store is away the lease runs out by itself.
    let _ = core.send(vec![give_up, tell]).await;
    reply(matches!(written, Ok(Ok(()))));
}

impl Shared {
    /// Has the store's thread send commands.
    async fn ask(&self, commands: Vec<Cmd>) -> Result<Vec<Answer>, Outage> {
        if !self.core.hub.is_up() {
            return Err(Outage);
        }
        let (tell, told) = oneshot::channel();
        let reply = Box::new(move |answers| drop(tell.send(answers)));
        self.orders.send(Order::Ask(commands, reply)).map_err(|_| Outage)?;
        told.await.map_err(|_| Outage)?
    }

    async fn ask_one(&self, command: Cmd) -> Result<Value, Outage> {
        read(&self.core, self.ask(vec![command]).await?.into_iter().next())
    }

    /// As [`Shared::ask`] for one command, by whoever may sleep.
    pub(super) fn ask_now(&self, command: Cmd) -> Result<Value, Outage> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let reply = Box::new(move |answers: Result<Vec<Answer>, Outage>| drop(tell.send(answers)));
        self.orders.send(Order::Ask(vec![command], reply)).map_err(|_| Outage)?;
        let answers = told.recv().map_err(|_| Outage)??;
        read(&self.core, answers.into_iter().next())
    }

    /// Reads a session.
    pub(in crate::store) async fn fetch(&self, by: Key) -> Result<Fetched, Outage> {
        let core = &self.core;
        count(&core.facts.fetches, 1);
        let get = |key: Vec<u8>| {
            let mut get = redis::cmd("GET");
            get.arg(key);
            get
        };
        let index = match by {
            Key::Name(name) => Ok(name),
            Key::Id(id) => Err(core.names.id(id)),
            Key::Token(token) => Err(core.names.token(token)),
        };
        let name = match index {
            Ok(name) => name,
            Err(index) => match self.ask_one(get(index)).await? {
                Value::Nil => return self.missing().await,
                name => bytes(name)
                    .and_then(|name| name.try_into().ok())
                    .ok_or_else(|| strange(core, "what leads to a session leads nowhere"))?,
            },
        };
        let both = vec![get(core.names.session(name)), get(core.names.clocks(name))];
        let mut answers = self.ask(both).await?.into_iter();
        let stored = read(core, answers.next())?;
        let clocks = answers.next().and_then(Result::ok).and_then(bytes);
        match (stored, by) {
            (Value::Nil, Key::Name(_)) => self.missing().await,
            (Value::Nil, _) => self.missing().await.map(|_| Fetched::Dangling),
            (stored, _) => opened(core, name, &bytes(stored).unwrap_or_default(), clocks),
        }
    }

    /// What is not there may only be missing: where the store was emptied, and the others have not put it back yet.
    async fn missing(&self) -> Result<Fetched, Outage> {
        if self.core.is_unsure() {
            return Err(Outage);
        }
        // In a cluster each server has marks of its own; there the pulse alone looks.
        if !self.core.dial.is_cluster() {
            let mut get = redis::cmd("GET");
            get.arg(self.core.names.mark(0));
            let mark = bytes(self.ask_one(get).await?);
            if mark.as_ref() != locked(&self.core.marks).first() {
                self.core.hurry.notify_one();
                return Err(Outage);
            }
        }
        Ok(Fetched::Nothing)
    }

    /// Claims something for a while. True: it is the caller's.
    pub(in crate::store) async fn claim(&self, what: &[u8], span: Duration) -> Result<bool, Outage> {
        let core = &self.core;
        let mut claim = CLAIM.on(&core.names.claim(core.hash(b'c', what)));
        claim.arg([core.me.to_be_bytes(), crate::random::bytes()].concat()).arg(millis(span));
        Ok(self.ask_one(claim).await? == Value::Int(1))
    }

    /// Gives up a claim of this proxy.
    pub(in crate::store) async fn unclaim(&self, what: &[u8]) {
        let core = &self.core;
        let mut unclaim = UNCLAIM.on(&core.names.claim(core.hash(b'c', what)));
        unclaim.arg(&core.me.to_be_bytes()[..]);
        // Where it cannot be given up it runs out.
        let _ = self.ask_one(unclaim).await;
    }

    /// Puts something in that is taken out once.
    pub(in crate::store) async fn deposit(
        &self,
        under: &[u8; 16],
        value: &[u8],
        span: Duration,
    ) -> Result<(), Outage> {
        let mut text = seal::room();
        text.extend_from_slice(value);
        let sealed = seal::seal(&self.core.keys, &sealed_as(under), text).map_err(|_| Outage)?;
        let mut set = redis::cmd("SET");
        set.arg(self.once(under)).arg(sealed).arg("PX").arg(millis(span));
        self.ask_one(set).await.map(drop)
    }

    /// Takes it out, or only looks at it.
    pub(in crate::store) async fn withdraw(
        &self,
        under: &[u8; 16],
        keep: bool,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Outage> {
        let mut take = redis::cmd(if keep { "GET" } else { "GETDEL" });
        take.arg(self.once(under));
        let Some(sealed) = bytes(self.ask_one(take).await?) else { return Ok(None) };
        match seal::open(&self.core.keys, &sealed_as(under), &sealed) {
            Ok((value, _)) => Ok(Some(value)),
            Err(error) => Err(strange(&self.core, &error.to_string())),
        }
    }

    fn once(&self, under: &[u8; 16]) -> Vec<u8> {
        self.core.names.once(self.core.hash(b'k', under))
    }

    /// What is noted under `name`.
    pub(in crate::store) async fn noted(&self, name: &str) -> Result<Option<Vec<u8>>, Outage> {
        let value = bytes(self.ask_one(self.get_note(name)).await?);
        locked(&self.core.notes).insert(name.to_owned(), value.clone());
        Ok(value)
    }

    pub(super) fn get_note(&self, name: &str) -> Cmd {
        let mut get = redis::cmd("GET");
        get.arg(self.core.names.note(name));
        get
    }

    /// Notes `value`, where what is noted is `was`. `Err` within: what is noted.
    pub(in crate::store) async fn renote(
        &self,
        name: &str,
        was: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Result<(), Option<Vec<u8>>>, Outage> {
        let answer = self.ask_one(self.set_note(name, was, value)).await?;
        Ok(self.was_set(name, value, answer))
    }

    pub(super) fn set_note(&self, name: &str, was: Option<&[u8]>, value: &[u8]) -> Cmd {
        noting(&self.core, name, was, value)
    }

    pub(super) fn was_set(&self, name: &str, value: &[u8], answer: Value) -> Result<(), Option<Vec<u8>>> {
        let (is, result) = match answer {
            Value::Int(1) => (Some(value.to_vec()), Ok(())),
            theirs => {
                let theirs = bytes(theirs);
                (theirs.clone(), Err(theirs))
            }
        };
        locked(&self.core.notes).insert(name.to_owned(), is);
        result
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX >> 16).max(1)
}

fn sealed_as(under: &[u8; 16]) -> Vec<u8> {
    [b"k", &under[..]].concat()
}

/// One answer, or why there is none.
fn read(core: &Core, answer: Option<Answer>) -> Result<Value, Outage> {
    match answer {
        Some(Ok(value)) => Ok(value),
        Some(Err(Refusal::Type)) => Err(strange(core, "it is of another type")),
        _ => Err(Outage),
    }
}

/// Something that is nothing of ours is under a key of ours: nothing is made of it.
fn strange(core: &Core, why: &str) -> Outage {
    count(&core.facts.refused, 1);
    tracing::error!(why, "something in the shared store cannot be read, and nothing is made of it");
    Outage
}

/// What is stored of a session, read.
fn opened(core: &Core, name: [u8; 8], stored: &[u8], clocks: Option<Vec<u8>>) -> Result<Fetched, Outage> {
    let (head, sealed) = names::stored(stored).ok_or_else(|| strange(core, "it is nothing of ours"))?;
    if head.ended {
        return Ok(Fetched::Ended);
    }
    let record = seal::open(&core.keys, &name, sealed).map_err(|error| strange(core, &error.to_string()))?;
    // Clocks that nobody with a key of ours has signed are as good as none.
    let clocks = clocks.and_then(|clocks| seal::signed(&core.keys, &name, &clocks).map(<[u8]>::to_vec));
    Ok(Fetched::Record { head, record: record.0, clocks })
}
