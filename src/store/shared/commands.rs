//! What is sent to write a session, a tombstone or a note, and what becomes of a note.
//!
//! Invariant: what is sent says until when it is kept, so that a store that nobody uses any more empties itself.

use std::time::Duration;

use redis::{Cmd, Value};

use super::News;
use super::core::{Core, count, locked};
use super::link::{Answer, Refusal, bytes};
use super::names::{self, listed};
use super::scripts::{BURY, NOTE, WRITE};
use crate::store::queue::{Head, Note};
use crate::time::Timestamp;

/// A record is kept for so long, whatever its clock says.
const LEAST: Duration = Duration::from_secs(1);
/// The same of a tombstone.
const LEAST_END: Duration = Duration::from_secs(60);
/// Nothing is kept for longer.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Until when the store keeps it.
pub(super) fn expires(now: Timestamp, head: &Head) -> Timestamp {
    let least = now.plus(if head.ended { LEAST_END } else { LEAST });
    head.expires.max(least).min(now.plus(LONGEST))
}

/// A tag that nobody had; 0 is none.
pub(super) fn new_tag() -> u64 {
    u64::from_be_bytes(crate::random::bytes()).max(1)
}

pub(super) fn listing(how: &str, bucket: &[u8], name: [u8; 8]) -> Cmd {
    let mut list = redis::cmd(how);
    list.arg(bucket).arg(listed(name));
    list
}

pub(super) fn writing(
    core: &Core,
    name: [u8; 8],
    head: &Head,
    (tag, until): (u64, u64),
    value: Vec<u8>,
) -> Cmd {
    let (script, based) = if head.ended { (&BURY, tag) } else { (&WRITE, head.tag) };
    let mut write = script.on(&core.names.session(name));
    write.arg(&based.to_be_bytes()[..]).arg(value).arg(until).arg(core.names.channel());
    let mut what = name.to_vec();
    if head.ended {
        what.extend_from_slice(&until.to_be_bytes());
    }
    match (head.ended, head.quiet) {
        (true, _) => write.arg(core.says(b'E', &what)),
        (false, false) => write.arg(core.says(b'C', &what)),
        (false, true) => write.arg(""),
    };
    write
}

/// Puts a tombstone that was put before.
pub(super) fn burying(core: &Core, name: [u8; 8], end: &super::ring::End) -> Cmd {
    let head = Head { owner: end.owner, ended: true, expires: end.expires, ..Head::default() };
    let expires = expires(core.clock.now(), &head);
    let value = names::head(&Head { expires, ..head.clone() }, end.tag).to_vec();
    writing(core, name, &head, (end.tag, expires.millis()), value)
}

/// Notes something, where what is noted is what `was`.
pub(super) fn noting(core: &Core, name: &str, was: Option<&[u8]>, value: &[u8]) -> Cmd {
    let mut note = NOTE.on(&core.names.note(name));
    note.arg(if was.is_some() { "1" } else { "0" }).arg(was.unwrap_or_default()).arg(value);
    note.arg(core.names.channel()).arg(core.says(b'N', name.as_bytes()));
    note
}

/// What became of a note. One that somebody else has changed stays as it is, and is told of.
pub(super) fn was_noted(core: &Core, (name, value): &Note, answer: Answer) -> Result<(), String> {
    match answer {
        Ok(Value::Int(1)) => {
            locked(&core.notes).insert(name.clone(), Some(value.clone()));
            Ok(())
        }
        Ok(theirs) => {
            locked(&core.notes).insert(name.clone(), bytes(theirs));
            core.tell(News::Noted(name.clone()));
            Ok(())
        }
        Err(Refusal::Type) => {
            tracing::error!(name, "something else lies under the key of a note in the shared store");
            count(&core.facts.refused, 1);
            Ok(())
        }
        Err(Refusal::Now(why) | Refusal::Other(why)) => Err(why),
        Err(Refusal::Script) => Err("NOSCRIPT".to_owned()),
    }
}
