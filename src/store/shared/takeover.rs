//! What a proxy that has died was the owner of goes to those who live, a set of sessions at a time.
//!
//! Invariants: a session changes hands in one step, from the owner that has died and to one other; whoever takes it lists it
//! before, so that it is found again where the taker dies too.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::News;
use super::commands::new_tag;
use super::core::{Core, count};
use super::names::{BUCKETS, bucket_of, listed};
use super::scripts::TAKE;
use crate::store::queue::Outage;

/// Sets that are claimed at once.
const CLAIMED: usize = 32;
/// Sets that are counted at once.
const COUNTED: usize = 256;
/// Sessions in one round trip.
const BATCH: usize = 128;
/// How long a claim of a set holds, where its taker dies.
const CLAIM: Duration = Duration::from_secs(10);

/// Begins to take over what the `dead` owned, unless that is under way.
pub(super) fn begin(core: &Arc<Core>, dead: Vec<u64>) {
    if dead.is_empty() {
        return;
    }
    let Ok(permit) = Arc::clone(&core.taking).try_acquire_owned() else { return };
    let core = Arc::clone(core);
    tokio::spawn(async move {
        for owner in dead {
            // What is left is seen at the next beat.
            if let Ok(taken @ 1..) = take_over(&core, owner).await {
                tracing::info!(sessions = taken, "sessions of a proxy that is gone were taken over");
            }
        }
        drop(permit);
    });
}

/// Takes over what nobody else takes over of what `owner` had. How many sessions.
async fn take_over(core: &Core, owner: u64) -> Result<u64, Outage> {
    let sets = filled(core, owner).await?;
    if sets.is_empty() {
        let mut forget = redis::cmd("ZREM");
        forget.arg(core.names.members()).arg(&owner.to_be_bytes()[..]);
        core.send(vec![forget]).await?;
        return Ok(0);
    }
    let mut taken = 0;
    for sets in sets.chunks(CLAIMED) {
        // Who has lost his own lease takes nothing.
        if !core.has_lease() {
            return Ok(taken);
        }
        let sets = claim(core, owner, sets).await?;
        for set in sets {
            taken += take_set(core, owner, set).await?;
        }
    }
    Ok(taken)
}

/// Which of its sets hold something, beginning anywhere, so that several takers begin apart.
async fn filled(core: &Core, owner: u64) -> Result<Vec<u16>, Outage> {
    let start = u16::from_be_bytes(crate::random::bytes()) % BUCKETS;
    let all: Vec<u16> = (0..BUCKETS).map(|bucket| (bucket + start) % BUCKETS).collect();
    let mut filled = Vec::new();
    for buckets in all.chunks(COUNTED) {
        let counts = buckets.iter().map(|bucket| {
            let mut size = redis::cmd("SCARD");
            size.arg(core.names.bucket(owner, *bucket));
            size
        });
        let counts = core.send(counts.collect()).await?;
        for (bucket, size) in buckets.iter().zip(counts) {
            match size {
                Ok(Value::Int(0)) => {}
                Ok(Value::Int(_)) => filled.push(*bucket),
                Ok(_) | Err(super::link::Refusal::Type) => count(&core.facts.refused, 1),
                Err(_) => return Err(Outage),
            }
        }
    }
    Ok(filled)
}

/// Those of the sets that this proxy takes over, and nobody else.
async fn claim(core: &Core, owner: u64, sets: &[u16]) -> Result<Vec<u16>, Outage> {
    let claims = sets.iter().map(|set| {
        let mut claim = redis::cmd("SET");
        claim.arg(core.names.taking(owner, *set)).arg(&core.me.to_be_bytes()[..]);
        claim.arg("NX").arg("PX").arg(CLAIM.as_millis() as u64);
        claim
    });
    let claimed = core.send(claims.collect()).await?;
    let own = sets.iter().zip(claimed).filter(|(_, claimed)| matches!(claimed, Ok(Value::Okay)));
    Ok(own.map(|(set, _)| *set).collect())
}

async fn take_set(core: &Core, owner: u64, set: u16) -> Result<u64, Outage> {
    let key = core.names.bucket(owner, set);
    let mut all = redis::cmd("SMEMBERS");
    all.arg(&key);
    let Ok(Value::Array(all) | Value::Set(all)) = core.send_one(all).await? else { return Ok(0) };
    let names = all.iter().filter_map(|name| {
        let text = super::link::text(name)?;
        text.parse::<i64>().ok().map(i64::to_be_bytes)
    });
    let names: Vec<[u8; 8]> = names.collect();
    let mut taken = 0;
    for names in names.chunks(BATCH) {
        taken += take(core, owner, &key, names).await?;
    }
    let mut done = redis::cmd("DEL");
    done.arg(core.names.taking(owner, set));
    core.send(vec![done]).await?;
    Ok(taken)
}

/// Takes over sessions of one set.
async fn take(core: &Core, owner: u64, from: &[u8], names: &[[u8; 8]]) -> Result<u64, Outage> {
    let list = |how: &str, key: &[u8]| {
        let mut list = redis::cmd(how);
        list.arg(key);
        for name in names {
            list.arg(listed(*name));
        }
        list
    };
    let Some(set) = names.first().map(|name| bucket_of(*name)) else { return Ok(0) };
    core.send_one(list("SADD", &core.names.bucket(core.me, set))).await?.map_err(|_| Outage)?;
    let takes = names.iter().map(|name| {
        let mut take = TAKE.on(&core.names.session(*name));
        take.arg(&owner.to_be_bytes()[..]).arg(&core.me.to_be_bytes()[..]);
        take.arg(&new_tag().to_be_bytes()[..]).arg(core.names.channel()).arg(core.says(b'C', name));
        take
    });
    let answers = core.send(takes.collect()).await?;
    let (mut taken, mut failed) = (0, false);
    for (name, answer) in names.iter().zip(answers) {
        match answer {
            Ok(Value::Int(1)) => {
                taken += 1;
                core.tell(News::Mine { name: *name });
            }
            Ok(_) | Err(super::link::Refusal::Type) => {}
            Err(_) => failed = true,
        }
    }
    count(&core.facts.takeovers, taken);
    if failed {
        // All stay in the set, and are tried again: who has been taken is told once more.
        return Err(Outage);
    }
    core.send(vec![list("SREM", from)]).await?;
    Ok(taken)
}
