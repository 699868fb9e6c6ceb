//! What the other proxies change is heard here, within the second, or it is known that it is not.
//!
//! Invariant: from the moment on at which nothing could be heard until it can be again this proxy counts as deaf. That a connection
//! is there says little: what this proxy itself tells with every beat has to come back over it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::News;
use super::core::{Core, count, locked};
use super::link::Broken;
use crate::time::Timestamp;

/// How often the connection is tried.
const PING: Duration = Duration::from_millis(300);
/// How long ago the last echo of what this proxy told may be, while it tells.
const ECHO: Duration = Duration::from_secs(3);
/// How long a connection is waited for that does not come.
const AGAIN: Duration = Duration::from_millis(200);

/// Listens for as long as the thread runs.
pub(super) async fn run(core: Arc<Core>) {
    for turn in 0_usize.. {
        let number = core.hub.number();
        if let Some(linked) = core.hub.linked() {
            let (tell, mut told) = mpsc::unbounded_channel();
            if let Ok(mut connection) = core.dial.listen(linked.at.as_ref(), turn, tell).await
                && connection.subscribe(core.names.channel()).await.is_ok()
            {
                core.heard.store(core.clock.now().micros().max(1), Ordering::Release);
                core.tell(News::Hears);
                let _lost = listen(&core, number, &mut connection, &mut told).await;
                core.heard.store(0, Ordering::Release);
                count(&core.facts.deaf, 1);
                core.tell(News::Deaf);
                continue;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = core.hub.news.notified() => {}
        }
    }
}

/// Hears what is told over one connection, until that is lost or leads to a server that is none any more.
async fn listen(
    core: &Core,
    number: u64,
    connection: &mut MultiplexedConnection,
    told: &mut mpsc::UnboundedReceiver<PushInfo>,
) -> Result<(), Broken> {
    let mut ping = Instant::now() + PING;
    let mut echo = Instant::now();
    loop {
        tokio::select! {
            biased;
            push = told.recv() => match push {
                Some(PushInfo { kind: PushKind::Message, data }) => {
                    if hear(core, &data) == Heard::Own {
                        echo = Instant::now();
                    }
                }
                Some(PushInfo { kind: PushKind::Disconnection, .. }) | None => {
                    return Err(Broken("the connection is lost".to_owned()));
                }
                Some(_) => {}
            },
            () = core.again.notified() => return Ok(()),
            () = core.hub.news.notified() => {
                if core.hub.number() != number {
                    return Ok(());
                }
            }
            () = tokio::time::sleep_until(ping) => {
                let answered = super::link::Link::Single(connection.clone()).send(vec![redis::cmd("PING")]).await?;
                if answered.iter().any(Result::is_err) {
                    return Err(Broken("the server does not answer".to_owned()));
                }
                if !core.hub.is_up() {
                    // Nothing is told meanwhile.
                    echo = Instant::now();
                } else if echo.elapsed() > ECHO {
                    return Err(Broken("what is told does not come here".to_owned()));
                }
                ping = Instant::now() + PING;
            }
        }
    }
}

/// Whose news they were.
#[derive(PartialEq, Eq)]
enum Heard {
    Own,
    Others,
}

/// One piece of news.
fn hear(core: &Core, data: &[Value]) -> Heard {
    let [_, Value::BulkString(told)] = data else { return Heard::Others };
    let Some((who, [kind, what @ ..])) = told.split_first_chunk::<8>() else { return Heard::Others };
    if u64::from_be_bytes(*who) == core.me {
        return Heard::Own;
    }
    match (kind, what.split_first_chunk::<8>()) {
        (b'C', Some((name, _))) => core.tell(News::Changed(*name)),
        (b'E', Some((name, until))) => {
            let until = until.first_chunk().map_or(0, |until| u64::from_be_bytes(*until));
            let end = (0, u64::from_be_bytes(*who), Timestamp::from_millis(until));
            locked(&core.ring).ended(*name, end, false);
            core.tell(News::Ended(*name));
        }
        (b'N', _) => {
            if let Ok(name) = std::str::from_utf8(what) {
                core.tell(News::Noted(name.to_owned()));
            }
        }
        (b'G', _) => core.hurry.notify_one(),
        // Somebody found the store emptied: also who has only just started does not believe what is not there.
        (b'L', _) => core.doubt(),
        // A newer version tells more.
        _ => {}
    }
    Heard::Others
}
