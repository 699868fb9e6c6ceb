//! One heartbeat, from the session to the verdict: asked for by the scheduler, or by a person who wants more time.
//!
//! Invariants: at most one is in flight for a token; what its answer says is applied only to what it was sent with; it
//! moves no clock of the person.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, LOCATION, SET_COOKIE};

use crate::bridge::answer::{self, Judged};
use crate::bridge::app_session::{AppSession, Learned, Sent};
use crate::bridge::beat::{self, CanarySeen, Evidence, Verdict};
use crate::bridge::id::Handle;
use crate::bridge::lifespan::{self, Outcome};
use crate::bridge::rules::{AppIx, BeatRules};
use crate::bridge::session::Session;
use crate::bridge::share;
use crate::bridge::timeline::What;
use crate::clock::Clock;
use crate::lives::{self, Lives, Told};
use crate::net::client::{Answer, Client};
use crate::own::{self, Ask, Person, Prepared};
use crate::registry::{Registry, Slot};
use crate::route::Route;
use crate::setting::Setting;
use crate::telemetry::metrics::Shard;
use crate::time::Timestamp;

pub mod alarm;
mod old;
pub mod reading;
mod sets;

use alarm::Alarm;
use sets::Sets;

/// What sending heartbeats takes, on one thread.
#[derive(Clone, Debug)]
pub struct Pinger {
    /// Sends.
    pub client: Client,
    /// Hashes canaries.
    pub registry: Arc<Registry>,
    /// Tells the time.
    pub clock: Clock,
    /// Counts.
    pub shard: Rc<Shard>,
}

/// What became of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinged {
    /// What it proved.
    pub verdict: Verdict,
    /// False where it was not sent, because the server that the session is on is down: that says nothing about the app.
    pub sent: bool,
}

/// A heartbeat on its way.
struct Sending {
    prepared: Prepared,
    sent: Sent,
    canary: u64,
    /// When the app session began: one that came after it is another, whatever its revision.
    begun: Timestamp,
    /// What its verdict will be heard with; the outcome is open.
    heard: lifespan::Heard,
}

impl Sending {
    /// True where the app session is still the one that it was sent for.
    fn is_for(&self, app: Option<&AppSession>) -> bool {
        app.is_some_and(|app| app.created == self.begun)
    }

    /// True where the person has asked for something meanwhile: who came first at the app, nobody knows.
    fn is_crossed(&self, app: &AppSession) -> bool {
        app.last_request > self.heard.at
    }
}

impl Pinger {
    /// Sends one heartbeat in the name of the session in `slot` to the app of `route`, and records the verdict. `None`
    /// where there is nothing to keep alive, or one is on its way already.
    pub async fn ping(&self, setting: &Setting, app: AppIx, slot: &Arc<Slot>) -> Option<Verdict> {
        Some(self.ping_with(setting, app, slot, &mut Alarm::new()).await?.verdict)
    }

    /// As [`Pinger::ping`], for a caller that sends one after the other, with an `alarm` that it keeps.
    pub async fn ping_with(
        &self,
        setting: &Setting,
        app: AppIx,
        slot: &Arc<Slot>,
        alarm: &mut Alarm,
    ) -> Option<Pinged> {
        let route = setting.route(app)?;
        let rules = route.rules.beat.as_ref()?;
        let sending = slot.with(|session| self.prepare(setting, route, session))?;
        let mut landing = Landing { slot, route, landed: false };
        // Of several servers one that is down is not asked, and must not keep the others from being asked; the only one is tried
        // ever less anyway.
        let down = route.upstreams.len() > 1 && !sending.prepared.chosen.admits();
        let answer = if down {
            None
        } else {
            alarm.within(rules.timeout, self.exchange(rules, &sending.prepared)).await.flatten()
        };
        if answer.as_ref().is_some_and(Heard::may_set) {
            self.read_anew(slot).await;
        }
        let now = self.clock.now();
        let (verdict, outcome) = match answer {
            Some(heard) => self.judge((setting, route), slot, (&sending, &heard), now),
            None => Self::unreachable(route, slot, &sending, now),
        };
        landing.landed = true;
        self.registry.save(slot);
        if let Some(outcome) = outcome {
            self.told(&setting.lives, (app, slot), &lifespan::Heard { outcome, ..sending.heard }, now);
        }
        let label = crate::telemetry::labels::Verdict::from(verdict);
        self.shard.heartbeat(route.rules.app.index(), label, now.since(sending.heard.at));
        Some(Pinged { verdict, sent: !down })
    }

    /// Where several proxies share the session: what another one has learned meanwhile, or that it is another one's to keep alive,
    /// is known before an answer is applied to it.
    async fn read_anew(&self, slot: &Arc<Slot>) {
        if self.registry.is_shared() {
            // Where the store says nothing, this is what is known.
            let _ = self.registry.refresh_slot(slot, self.clock.now()).await;
        }
    }

    /// Makes the request, under the session's lock: what it is sent with is what it will be compared with.
    fn prepare(&self, setting: &Setting, route: &Route, session: &mut Session) -> Option<Sending> {
        let rules = route.rules.beat.as_ref()?;
        let now = self.clock.now();
        if session.has_ended() || self.registry.is_over(session, now) {
            return None;
        }
        let at = route.rules.app;
        let app = session.app(at).filter(|app| app.has_token() && !app.beat.in_flight)?;
        let (traits, passed) = (session.traits.as_deref(), session.passed.sent(at));
        let person = Person { traits, address: session.address, passed, app };
        let ask = Ask { method: &rules.method, target: &rules.path, heartbeat: true };
        let prepared = own::prepare(route, &setting.balancer, &person, &ask, now)?;
        let server = if lives::sticks(route) { prepared.chosen.number() } else { 0 };
        let heard = heard(app, session.handle, server, now);
        let app = session.app_mut(at)?;
        app.beat.in_flight = true;
        app.beat.at = now;
        let (sent, canary, begun) = (app.sent(now, false), app.beat.canary, app.created);
        Some(Sending { prepared, sent, canary, begun, heard })
    }

    /// Sends it and reads what is needed of the answer; the rest is left.
    async fn exchange(&self, rules: &BeatRules, prepared: &Prepared) -> Option<Heard> {
        let answer = own::ask(&self.client, prepared, rules.timeout).await.ok()?;
        let Answer { parts, body, .. } = answer;
        let wanted = !rules.alive.contains.is_empty() || reads_body(rules);
        let text = if wanted {
            reading::read(body, parts.headers.get(CONTENT_ENCODING), reading::LIMIT).await.text
        } else {
            drain(body).await;
            Vec::new()
        };
        Some(Heard { parts, text })
    }

    /// Judges an answer, applies its cookies under the fence, and records the verdict.
    fn judge(
        &self,
        (setting, route): (&Setting, &Route),
        slot: &Slot,
        (sending, heard): (&Sending, &Heard),
        now: Timestamp,
    ) -> (Verdict, Option<Outcome>) {
        let Some(rules) = &route.rules.beat else { return (Verdict::Unreachable, None) };
        let sets = Sets::of(setting, route, &heard.parts.headers);
        let said = self.evidence(route, rules, sending.canary, heard);
        slot.with(|session| {
            let app = session.app_mut(route.rules.app).filter(|app| sending.is_for(Some(app)));
            let Some(app) = app else { return (Verdict::Alive, None) };
            let crossed = sending.is_crossed(app);
            let (learned, relayed) = sets.learn(route, &sending.prepared, app, (sending.sent, now));
            share::follow(session, &route.rules, now);
            if learned.stale {
                // The session has changed meanwhile: this answer is about a token that is no longer held.
                answer::overtaken(session, &route.rules);
                return (Verdict::Alive, None);
            }
            for field in relayed {
                session.passed.wait(route.rules.app, field);
            }
            let verdict = beat::judge(rules, &Evidence { learned, ..said });
            let first = if let CanarySeen::First(hash) = said.canary { Some(hash) } else { None };
            answer::beat(session, &route.rules, &Judged { verdict, canary: first, now });
            let proof = proof(route, rules, heard, &Evidence { learned, ..said });
            (verdict, outcome(verdict, proof).filter(|_| !crossed))
        })
    }

    /// What an answer says but for its cookies.
    fn evidence(&self, route: &Route, rules: &BeatRules, known: u64, heard: &Heard) -> Evidence {
        let Heard { parts, text } = heard;
        let status = parts.status.as_u16();
        let allowed = reading::alive_status(&rules.alive, status);
        Evidence {
            status: Some(status),
            redirects: parts.status.is_redirection() && (!allowed || leads_to_login(route, &parts.headers)),
            contains: reading::contains(&rules.alive.contains, text),
            learned: Learned::default(),
            canary: self.canary(rules, known, &parts.headers, text),
        }
    }

    fn canary(&self, rules: &BeatRules, known: u64, headers: &HeaderMap, text: &[u8]) -> CanarySeen {
        let Some(rule) = &rules.canary else { return CanarySeen::Unknown };
        // 0 stands for "none seen yet".
        let seen = reading::canary(rule, headers, text)
            .map(|value| self.registry.keyed().hash(&[b"canary", &value]) | 1);
        match (known, seen) {
            (0, None) => CanarySeen::Unknown,
            (0, Some(hash)) => CanarySeen::First(hash),
            (known, Some(hash)) if known == hash => CanarySeen::Same,
            _ => CanarySeen::Other,
        }
    }

    /// Records that there was no answer.
    fn unreachable(
        route: &Route,
        slot: &Slot,
        sending: &Sending,
        now: Timestamp,
    ) -> (Verdict, Option<Outcome>) {
        let judged = Judged { verdict: Verdict::Unreachable, canary: None, now };
        let outcome = slot.with(|session| {
            sending.is_for(session.app(route.rules.app)).then(|| {
                answer::beat(session, &route.rules, &judged);
                Outcome::Unreachable
            })
        });
        (Verdict::Unreachable, outcome)
    }

    /// Hands a verdict on to what makes out what it says about the app.
    fn told(&self, lives: &Arc<Lives>, (app, slot): (AppIx, &Slot), heard: &lifespan::Heard, now: Timestamp) {
        let told = lives.heard(app, heard, now);
        if told.restarted {
            slot.with(|session| session.timeline.note(now, Some(app), What::AppRestarted));
        }
        self.count(app, &told);
        let Some(mut wake) = told.wake else { return };
        let (this, lives) = (self.clone(), Arc::clone(lives));
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep_until(this.clock.instant(wake)).await;
                let told = lives.look(app, this.clock.now());
                this.count(app, &told);
                let Some(next) = told.wake else { return };
                wake = next;
            }
        });
    }

    fn count(&self, app: AppIx, told: &Told) {
        if told.restarts + told.lost > 0 {
            self.shard.app_restarted(app.index(), told.restarts, told.lost);
        }
    }
}

/// What the verdict on a heartbeat that is sent now will be heard with.
fn heard(app: &AppSession, session: Handle, server: u16, now: Timestamp) -> lifespan::Heard {
    lifespan::Heard {
        at: now,
        session,
        server,
        proven: app.created.max(app.beat.proven),
        renewed: app.renewed,
        used: app.last_request,
        missed: app.beat.failures > 0,
        outcome: Outcome::Unreachable,
    }
}

/// How much stands behind a verdict.
#[derive(Clone, Copy, Debug)]
struct Proof {
    /// The canary is the one of before, or none is asked for.
    alive: bool,
    /// The page shows a canary, and another one.
    reborn: bool,
    /// The app deleted the token, or leads to a sign-in page that the config names. A firewall's 403 and a page for
    /// maintenance look like a sign-out, too, and to everybody at once.
    signed_out: bool,
}

/// What stands behind the verdict on `heard`.
fn proof(route: &Route, rules: &BeatRules, heard: &Heard, said: &Evidence) -> Proof {
    let Heard { parts, text } = heard;
    let login = parts.status.is_redirection() && leads_to_login(route, &parts.headers);
    let shows =
        || rules.canary.as_ref().is_some_and(|rule| reading::canary(rule, &parts.headers, text).is_some());
    Proof {
        alive: rules.canary.is_none() || said.canary == CanarySeen::Same,
        reborn: said.canary == CanarySeen::Other && shows(),
        signed_out: said.learned.gone || login,
    }
}

/// What a verdict proves; `None`: nothing that is worth counting.
const fn outcome(verdict: Verdict, proof: Proof) -> Option<Outcome> {
    match verdict {
        Verdict::Alive if proof.alive => Some(Outcome::Alive),
        Verdict::Replaced => Some(Outcome::Dead),
        Verdict::Reborn if proof.reborn => Some(Outcome::Dead),
        Verdict::SignedOut if proof.signed_out => Some(Outcome::Dead),
        Verdict::Alive | Verdict::Reborn | Verdict::SignedOut => None,
        Verdict::Unreachable => Some(Outcome::Unreachable),
    }
}

/// What of an answer was read.
struct Heard {
    parts: http::response::Parts,
    text: Vec<u8>,
}

impl Heard {
    /// True where it may change what is kept of the app's session.
    fn may_set(&self) -> bool {
        self.parts.headers.contains_key(SET_COOKIE) || self.parts.headers.contains_key(LOCATION)
    }
}

/// A heartbeat that is dropped half-way (the proxy stops) is no longer in flight.
struct Landing<'a> {
    slot: &'a Slot,
    route: &'a Route,
    landed: bool,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        self.slot.with(|session| {
            if let Some(app) = session.app_mut(self.route.rules.app) {
                app.beat.in_flight = false;
            }
        });
    }
}

/// True where the body is needed for the canary.
const fn reads_body(rules: &BeatRules) -> bool {
    use crate::bridge::rules::Canary;
    matches!(rules.canary, Some(Canary::Json(_) | Canary::Regex(_)))
}

/// True where `Location` names one of the app's sign-in pages.
#[must_use]
pub fn leads_to_login(route: &Route, headers: &HeaderMap) -> bool {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parts = crate::wire::location::split(location);
    let rest = parts.map_or("", |parts| parts.rest);
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let path = route.rules.mount.to_public(path);
    route.rules.sign_out.login.iter().any(|login| login.matches(&http::Method::GET, &path, query))
}

/// Reads a small body to its end, so that the connection can be used again; a large one is dropped with its connection.
async fn drain(body: crate::net::body::Body) {
    use http_body_util::BodyExt as _;
    let mut left = SMALL;
    let mut body = body;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}

/// More of a body than this is not worth a connection.
const SMALL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_app_itself_said_of_a_session_counts_as_its_death() {
        let proof = |alive, reborn, signed_out| Proof { alive, reborn, signed_out };
        let weak = proof(false, false, false);
        for (verdict, strong) in
            [(Verdict::Reborn, proof(false, true, false)), (Verdict::SignedOut, proof(false, false, true))]
        {
            assert_eq!(outcome(verdict, strong), Some(Outcome::Dead));
            assert_eq!(outcome(verdict, weak), None, "{verdict:?}");
        }
        assert_eq!(outcome(Verdict::SignedOut, proof(true, true, false)), None, "a 403 in another's name");
        assert_eq!(outcome(Verdict::Replaced, weak), Some(Outcome::Dead));
        assert_eq!(outcome(Verdict::Alive, proof(true, false, false)), Some(Outcome::Alive));
        assert_eq!(outcome(Verdict::Alive, weak), None);
        assert_eq!(outcome(Verdict::Unreachable, weak), Some(Outcome::Unreachable));
    }
}
