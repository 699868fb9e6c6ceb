//! To the app and back: once more where the first answer was overtaken, met a dead session, or led in a circle; and what
//! follows where it was a sign-out.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::response::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt as _;

use super::Proxy;
use super::back::Returned;
use super::error::Error;
use super::exchange::{Departed, Exchange};
use super::note::Note;
use super::visit::Visit;
use crate::bridge::app_session::AppSession;
use crate::bridge::rules::{AppIx, Scope};
use crate::bridge::session::{End, Farewell};
use crate::bridge::share;
use crate::bridge::timeline::What;
use crate::net::body::Body;
use crate::net::client::{Answer, AppStream};
use crate::registry::Slot;
use crate::setting::Setting;
use crate::sign_out::{self, Told};

/// An answer that may be released.
pub(super) struct Answered {
    pub(super) response: Response<Body>,
    pub(super) departed: Box<Departed>,
    /// The app's side of an upgraded connection.
    pub(super) app_side: Option<Box<AppStream>>,
}

impl Proxy {
    /// Sends a request to its app and reads what returns.
    pub(super) async fn exchange(
        self: &Rc<Self>,
        exchange: &Exchange<'_>,
        visit: &mut Visit,
        body: Body,
        note: &mut Note,
    ) -> Result<Answered, Error> {
        let mut departed = exchange.depart(self, visit, note)?;
        if departed.adopting && self.shared.registry.is_shared() {
            Box::pin(self.ask_whose(exchange.route.rules.app, &departed)).await?;
            departed = exchange.check_shown(self, visit.slot.as_ref(), departed)?;
        }
        let repeatable = matches!(*exchange.inbound.method, Method::GET | Method::HEAD)
            && http_body::Body::is_end_stream(&body);
        let (mut body, mut again) = (Some(body), repeatable);
        loop {
            let answer = self
                .send_timed(exchange, visit, &mut departed, body.take().unwrap_or_default(), note)
                .await?;
            let Answer { mut parts, body: said, upgraded } = answer;
            let (said, dead) = if again && may_be_dead(&departed, &parts) {
                peek(said.stalling_after(exchange.map.options.timeouts.body_stall)).await?
            } else {
                (said, false)
            };
            if dead {
                note.events.push("dead_session_dropped");
                if let Some(slot) = &visit.slot {
                    slot.with(|session| {
                        let app = session.app_mut(exchange.route.rules.app);
                        let same = |app: &&mut AppSession| {
                            app.sent(exchange.inbound.now, false).generation == departed.sent.generation
                        };
                        if let Some(app) = app.filter(same) {
                            app.drop_token();
                            share::follow(session, &exchange.route.rules, self.now());
                        }
                    });
                }
            }
            if !dead {
                self.read_anew(visit, &parts).await;
                let mut returned = exchange.back(self, visit, &departed, &mut parts)?;
                let circles = returned.effect.learned.changed && returns_to_itself(exchange, &parts);
                if !(again && (returned.effect.learned.stale || circles)) {
                    if let Some(scope) = returned.effect.signed_out {
                        note.events.push("sign_out");
                        Box::pin(self.signed_out(exchange, visit, &mut returned, scope)).await?;
                    }
                    exchange.finish(visit, &mut parts.headers, returned);
                    return Ok(Answered {
                        response: Response::from_parts(parts, said),
                        departed,
                        app_side: upgraded,
                    });
                }
                note.events.push(if circles { "followed" } else { "sent_again" });
            }
            again = false;
            departed = exchange.again(visit, departed, note)?;
        }
    }

    async fn send_timed(
        &self,
        exchange: &Exchange<'_>,
        visit: &Visit,
        departed: &mut Box<Departed>,
        body: Body,
        note: &mut Note,
    ) -> Result<Answer, Error> {
        let began = self.now();
        let answer = exchange.send(self, visit, departed, body, note).await?;
        let took = self.now().since(began);
        note.upstream_took = Some(took);
        self.shard.upstream(exchange.route.rules.app.index(), took);
        Ok(answer)
    }

    /// A sign-out was seen in the app: it ends there, or everywhere. What the answer set anew begins a fresh session.
    async fn signed_out(
        self: &Rc<Self>,
        exchange: &Exchange<'_>,
        visit: &mut Visit,
        returned: &mut Returned,
        scope: Scope,
    ) -> Result<(), Error> {
        let Some(slot) = visit.slot.clone() else { return Ok(()) };
        let (app, now) = (exchange.route.rules.app, self.now());
        let fresh = returned.fresh.take();
        slot.with(|session| session.timeline.note(now, Some(app), What::SignOut));
        if scope == Scope::Alone {
            let left = slot.with(|session| {
                let left = session.take_app(app).map(|app| session.farewell_alone(app));
                fresh.map(|fresh| session.give_app(fresh));
                share::follow(session, &exchange.route.rules, now);
                left
            });
            if let Some(left) = &left {
                self.entomb(exchange.map, left, &slot);
            }
            self.own_tokens(exchange.map, app, &slot);
            self.arm(&slot, exchange.map);
            if let Some(left) = left {
                self.prove_behind(exchange.map, slot, left, app);
            }
            return Ok(());
        }
        if let Some(farewell) = self.shared.registry.end(&slot, End::AppLogout, now) {
            self.count_end(End::AppLogout);
            returned.fields.extend(self.sign_out_before(exchange, farewell).await);
            returned.ours = true;
        }
        visit.slot = None;
        visit.gives = None;
        visit.stale = true;
        if let Some(fresh) = fresh {
            let slot = self.found(exchange.inbound, visit)?;
            self.take_in(exchange.map, &slot, fresh, now);
        }
        Ok(())
    }

    /// Asks the apps to sign out before the person is answered, and goes on behind where they take their time.
    async fn sign_out_before(&self, exchange: &Exchange<'_>, farewell: Farewell) -> Vec<HeaderValue> {
        let app = exchange.route.rules.app;
        let told = self.sign_out.in_time(exchange.map, farewell, Some(app)).await;
        let here = told.into_iter().filter(|told| told.is_at(&exchange.inbound.authority));
        here.flat_map(|told| told.deletions).collect()
    }

    /// Sees behind the person's back whether her sign-out from one app has ended her session there.
    fn prove_behind(&self, map: &Rc<Setting>, slot: Arc<Slot>, left: Farewell, app: AppIx) {
        let (by, map) = (self.sign_out.clone(), Rc::clone(map));
        tokio::task::spawn_local(async move {
            let what = by.of_one(&map, &left, app).await.and_then(sign_out::event);
            if let Some(what) = what {
                let now = by.pinger.clock.now();
                slot.with(|session| session.timeline.note(now, Some(app), what));
            }
        });
    }

    /// Signs out everywhere at the person's own wish; tells how each app took it, as far as they answered in time.
    pub(super) async fn sign_out_all(self: &Rc<Self>, map: &Rc<Setting>, slot: &Arc<Slot>) -> Vec<Told> {
        let Some(farewell) = self.shared.registry.end(slot, End::UserLogout, self.now()) else {
            return Vec::new();
        };
        self.count_end(End::UserLogout);
        self.sign_out.in_time(map, farewell, None).await
    }
}

/// A server error to a request that carried a token: the session may have been invalidated behind it.
fn may_be_dead(departed: &Departed, parts: &Parts) -> bool {
    parts.status.is_server_error() && departed.sent.generation != 0
}

/// As much of an error page is read to see whether it says that the session is invalid.
const PEEKED: usize = 16 * 1024;

/// What servers say of a session that was invalidated: CFMX, Tomcat and Jetty, WebSphere.
const DEAD: [&[u8]; 4] = [
    b"session is invalid",
    b"session already invalidated",
    b"session has been invalidated",
    b"session object has been invalidated",
];

/// Reads the beginning of a body; the body that is returned has it still.
async fn peek(mut body: Body) -> Result<(Body, bool), Error> {
    let (mut chunks, mut length) = (Vec::<Bytes>::new(), 0);
    while length < PEEKED {
        match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    length += data.len();
                    chunks.push(data);
                }
                Err(_) => break,
            },
            Some(Err(_)) => return Err(Error::BrokenAnswer),
            None => break,
        }
    }
    let text = chunks.concat().to_ascii_lowercase();
    let dead = DEAD.iter().any(|word| memchr::memmem::find(&text, word).is_some());
    Ok((Body::prefixed(chunks, body), dead))
}

/// True for a redirect that, now that its token is cut, leads to the URL that was just asked for: cookieless ASP.NET sends
/// `/app/x` to `/app/(S(id))/x`. A client whose cookie is not back yet would go in circles.
fn returns_to_itself(exchange: &Exchange<'_>, parts: &Parts) -> bool {
    if !matches!(
        parts.status,
        StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::MOVED_PERMANENTLY
    ) {
        return false;
    }
    let location =
        parts.headers.get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
    let asked = exchange.clean.to_text();
    location == asked || location == exchange.inbound.absolute(&asked)
}
