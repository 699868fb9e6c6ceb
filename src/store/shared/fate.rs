//! What became of a session's write, by what the server answered.
//!
//! Invariant: whoever waits for a write is never told of one that was not made, but where another proxy is of a version that this one
//! cannot read.

use std::sync::Arc;

use redis::Value;
use tokio::time::Instant;

use super::News;
use super::core::{Core, count, locked};
use super::link::{Answer, Refusal};
use super::names;
use crate::store::queue::Record;
use crate::store::seal::{self, SealError};
use crate::time::Timestamp;

/// A session in a round trip.
pub(super) struct Sent {
    pub(super) name: [u8; 8],
    pub(super) record: Arc<dyn Record>,
    pub(super) tag: u64,
    /// When it was read.
    pub(super) at: Timestamp,
    pub(super) owner: u64,
    pub(super) expires: Timestamp,
    pub(super) ended: bool,
    /// Its commands, and which of them writes it.
    pub(super) commands: std::ops::Range<usize>,
    pub(super) script: usize,
}

/// What became of a write.
pub(super) enum Fate {
    Done,
    /// What is in the store has been taken in, or that it has nothing: once more.
    Again,
    /// What is in its place is nothing that anybody can read: it goes, and this is written. These are its bytes; none where it is
    /// not even of the right type.
    Clear(Vec<u8>),
    Later(String),
}

/// What the answers say of one session.
pub(super) fn of(core: &Core, sent: &Sent, own: &[Answer], script: Option<&Answer>) -> Fate {
    for answer in own {
        match answer {
            Err(Refusal::Now(why) | Refusal::Other(why)) => return Fate::Later(why.clone()),
            Err(Refusal::Script) => return Fate::Later("NOSCRIPT".to_owned()),
            Err(Refusal::Type) => {
                tracing::error!(
                    "something that is no session lies under a session's key in the shared store"
                );
                count(&core.facts.refused, 1);
            }
            Ok(_) => {}
        }
    }
    match script {
        Some(Ok(Value::Int(first))) if sent.ended => {
            let end = (sent.tag, sent.owner, sent.expires);
            let untold = locked(&core.ring).ended(sent.name, end, true);
            sent.record.written(sent.tag, sent.at);
            if untold {
                let first = *first == 1;
                core.tell(if first { News::First(sent.name) } else { News::Second(sent.name) });
            }
            Fate::Done
        }
        Some(Ok(Value::Int(2))) => {
            sent.record.lost();
            Fate::Again
        }
        Some(Ok(Value::Int(_))) => {
            locked(&core.ring).wrote(sent.name, Instant::now());
            sent.record.written(sent.tag, sent.at);
            Fate::Done
        }
        Some(Ok(Value::BulkString(theirs))) => merge(core, sent, theirs),
        Some(Err(Refusal::Type)) => Fate::Clear(Vec::new()),
        _ => Fate::Later("an answer that makes no sense".to_owned()),
    }
}

/// The store has something else than what the session was based on.
fn merge(core: &Core, sent: &Sent, theirs: &[u8]) -> Fate {
    let spoiled = |why: &str| {
        tracing::error!(why, "a session in the shared store cannot be read; it is written anew");
        count(&core.facts.refused, 1);
        Fate::Clear(theirs.to_vec())
    };
    let Some((head, sealed)) = names::stored(theirs) else { return spoiled("it is nothing of ours") };
    if head.ended {
        locked(&core.ring).ended(sent.name, (head.tag, head.owner, head.expires), false);
        core.tell(News::Ended(sent.name));
        return Fate::Done;
    }
    count(&core.facts.conflicts, 1);
    let record = match seal::open(&core.keys, &sent.name, sealed) {
        Ok((record, _)) => record,
        Err(SealError::Damaged) => return spoiled("it is damaged"),
        Err(error) => return ahead(core, sent, &error.to_string()),
    };
    match sent.record.merge(&record, &head) {
        Ok(()) => Fate::Again,
        Err(why) => ahead(core, sent, &why),
    }
}

/// A proxy of a newer version, or with a newer key file, has written it: that is not to be overwritten, and the session goes on
/// here as it is known here.
fn ahead(core: &Core, sent: &Sent, why: &str) -> Fate {
    tracing::error!(why, "another proxy has written a session in a way that this one cannot read");
    count(&core.facts.refused, 1);
    core.tell(News::Changed(sent.name));
    Fate::Done
}
