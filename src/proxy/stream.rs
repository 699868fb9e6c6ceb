//! What goes on after the head: requests in flight, event streams, upgraded connections.
//!
//! Invariants: what counts as in flight is counted off however it ends; an open stream is presence as long as it is open,
//! and is closed when its session ends.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Response};
use hyper::upgrade::OnUpgrade;

use super::Proxy;
use crate::bridge::rules::{AppIx, Clocks};
use crate::bridge::session::Session;
use crate::clock::Clock;
use crate::net::body::Body;
use crate::net::client::AppStream;
use crate::net::upgrade::{self, CloseFrame, Splice};
use crate::random;
use crate::registry::Slot;
use crate::registry::agenda::{Agenda, Watch};
use crate::setting::Setting;
use crate::telemetry::labels::StreamKind;
use crate::telemetry::metrics::Shard;
use crate::wire::ws::{self, Frames};

/// An ordinary request of a person that is in flight at an app. Dropping it counts it off.
#[derive(Debug)]
pub(super) struct InFlight {
    slot: Arc<Slot>,
    app: AppIx,
    clock: Clock,
}

impl InFlight {
    /// One that was counted under the session's lock just now.
    #[must_use]
    pub(super) const fn new(slot: Arc<Slot>, app: AppIx, clock: Clock) -> Self {
        Self { slot, app, clock }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = self.clock.now();
        self.slot.with(|session| {
            if let Some(app) = session.app_mut(self.app) {
                app.request_ended(now);
            }
        });
    }
}

/// A stream that is open. Dropping it ends the presence that it was.
#[derive(Debug)]
pub(super) struct Open {
    slot: Option<Arc<Slot>>,
    agenda: Agenda,
    clock: Clock,
    clocks: Clocks,
    /// By so much the clocks may be behind.
    lag: Duration,
    shard: Rc<Shard>,
    app: AppIx,
    kind: StreamKind,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shard.stream_closed(self.app.index(), self.kind);
        let Some(slot) = &self.slot else { return };
        let now = self.clock.now();
        let sooner = slot.with(|session| {
            session.stream_closed(&self.clocks, now);
            session.ends_sooner(&self.clocks, self.lag)
        });
        if sooner {
            self.agenda.put(slot, Watch::End);
        }
    }
}

/// True for an answer that is a stream of events.
#[must_use]
pub(super) fn is_events(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().get(..17).is_some_and(|head| head.eq_ignore_ascii_case(b"text/event-stream"))
    })
}

impl Proxy {
    /// Counts a stream as open.
    pub(super) fn open_stream(&self, slot: Option<&Arc<Slot>>, app: AppIx, kind: StreamKind) -> Open {
        self.shard.stream_opened(app.index(), kind);
        if let Some(slot) = slot {
            slot.with(Session::stream_opened);
        }
        Open {
            slot: slot.map(Arc::clone),
            agenda: self.agenda.clone(),
            clock: self.shared.clock,
            clocks: self.shared.registry.clocks(),
            lag: self.shared.registry.lag(),
            shard: Rc::clone(&self.shard),
            app,
            kind,
        }
    }

    /// An event stream to the browser: presence while it lasts, over when the session is.
    pub(super) fn events(&self, map: &Setting, body: Body, slot: Option<&Arc<Slot>>, app: AppIx) -> Body {
        let open = self.open_stream(slot, app, StreamKind::EventStream);
        let body = body.stalling_after(map.options.timeouts.stream_idle).on_end(move |_| drop(open));
        match slot {
            Some(slot) => {
                let slot = Arc::clone(slot);
                body.until(async move { slot.ended().await })
            }
            None => body,
        }
    }

    /// Joins browser and app after the app's 101.
    pub(super) fn tunnel(
        self: &Rc<Self>,
        (response, map): (&Response<Body>, &Setting),
        (client, app_side): (OnUpgrade, Box<AppStream>),
        slot: Option<&Arc<Slot>>,
        app: AppIx,
    ) {
        let websocket = response.headers().get(UPGRADE).is_some_and(is_websocket);
        let open =
            self.open_stream(slot, app, if websocket { StreamKind::WebSocket } else { StreamKind::Other });
        let slot = slot.map(Arc::clone);
        let options = Splice {
            stream_idle: map.options.timeouts.stream_idle,
            ended: async move {
                match slot {
                    Some(slot) => slot.ended().await,
                    None => std::future::pending().await,
                }
            },
            to_client: websocket.then(|| closing(ws::close_frame(POLICY, REASON))),
            to_app: websocket.then(|| closing(ws::masked_close_frame(POLICY, REASON, random::bytes()))),
        };
        tokio::task::spawn_local(async move {
            if let Ok(client) = client.await {
                upgrade::splice(client, app_side, options).await;
            }
            drop(open);
        });
    }
}

/// "Policy violation" is what a WebSocket is closed with whose session is over (RFC 6455 7.4.1).
const POLICY: u16 = 1008;
const REASON: &str = "session ended";

fn is_websocket(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"websocket")
}

fn closing(frame: Vec<u8>) -> CloseFrame {
    let mut frames = Frames::new();
    CloseFrame {
        bytes: Bytes::from(frame),
        watch: Box::new(move |bytes| {
            frames.feed(bytes);
            frames.at_boundary()
        }),
    }
}
