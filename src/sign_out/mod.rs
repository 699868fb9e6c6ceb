//! The apps' own sign-outs: asked in parallel, each with a result, after the session itself has ended; and what was left of
//! the apps' sessions.
//!
//! Invariant: the fence comes first. By the time a sign-out request goes out, nobody finds the session any more.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::HeaderValue;
use tokio::time::Instant;

use crate::bridge::app_session::{AppSession, Public};
use crate::bridge::passed::HttpOnlyCookie;
use crate::bridge::rules::AppIx;
use crate::bridge::session::{End, Farewell};
use crate::bridge::timeline::{Event, What};
use crate::findings::Findings;
use crate::own::Person;
use crate::ping::Pinger;
use crate::route::Route;
use crate::setting::Setting;
use crate::telemetry::labels::SignOutResult;
use crate::wire::set_cookie::{Flags, Lifetime, SetCookie, deletion};

mod proof;
mod recipe;

pub use crate::telemetry::labels::SignOutProof as Proof;
pub use recipe::{Outcome, Ran};

/// How long an app may take over each request of its sign-out.
const DEADLINE: Duration = Duration::from_secs(3);
/// For as long no other proxy asks the same app to end the same session.
const ONCE: Duration = Duration::from_secs(3600);
/// How long the person's own answer waits for the apps.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What signing out takes, on one thread.
#[derive(Clone, Debug)]
pub struct SignOut {
    /// Sends, counts, tells the time, and asks heartbeat pages.
    pub pinger: Pinger,
    /// Where is said which app's sign-out ends nothing.
    pub findings: Findings,
}

/// How one app took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub app: AppIx,
    /// True where it answered below 400.
    pub confirmed: bool,
    /// False where the config names no sign-out request for it.
    pub asked: bool,
    /// What was left of its session; `None` where that was not asked: the app has no heartbeat page, was not signed out of,
    /// or a clock ended the session.
    pub proof: Option<Proof>,
    /// The public origin under which the person used it.
    pub public: Option<Arc<Public>>,
    /// Set-Cookie fields for the browser: deletions of cookies that had passed, and what the app deleted itself.
    pub deletions: Vec<HeaderValue>,
}

impl Told {
    /// Of an app that was not asked yet; `confirmed`: its own sign-out was seen.
    fn of(app: &AppSession, confirmed: bool) -> Self {
        Self {
            app: app.app,
            confirmed,
            asked: false,
            proof: None,
            public: app.public.clone(),
            deletions: Vec::new(),
        }
    }

    /// True where its cookies are those of the public host `authority`: deletions reach only the host that they are sent by.
    #[must_use]
    pub fn is_at(&self, authority: &str) -> bool {
        self.public.as_ref().is_none_or(|public| *public.authority == *authority)
    }

    /// True where the app was asked, or its sign-out was seen.
    const fn is_out(&self) -> bool {
        self.asked || self.confirmed
    }
}

/// What is known so far of how an app takes it; `None` for one that is not configured any more.
type Telling = RefCell<Option<Told>>;

impl SignOut {
    /// Signs out of every app of `farewell` but `but` (where the sign-out was seen). Takes three times the deadline of one
    /// request at the most.
    pub async fn all(&self, setting: &Setting, farewell: &Farewell, but: Option<AppIx>) -> Vec<Told> {
        self.fenced().await;
        let told = farewell.apps.iter().map(|app| async move {
            let telling = Telling::default();
            self.app(setting, farewell, (app, but), &telling).await;
            telling.into_inner()
        });
        join_all(told).await.into_iter().flatten().collect()
    }

    /// As [`SignOut::all`], for somebody who waits for it: an app that takes longer than [`PATIENCE`] is signed out of
    /// behind, and counts as one that has not answered, or not proven anything. Must run in a `LocalSet`.
    pub async fn in_time(&self, setting: &Rc<Setting>, farewell: Farewell, but: Option<AppIx>) -> Vec<Told> {
        let (until, farewell) = (Instant::now() + PATIENCE, Rc::new(farewell));
        let asked: Vec<_> = (0..farewell.apps.len())
            .map(|at| {
                let telling = Rc::new(Telling::default());
                let (this, setting, farewell) = (self.clone(), Rc::clone(setting), Rc::clone(&farewell));
                let into = Rc::clone(&telling);
                let task = tokio::task::spawn_local(async move {
                    // Here, and not before: who waits may go away, and the apps are to be told all the same.
                    this.fenced().await;
                    if let Some(app) = farewell.apps.get(at) {
                        this.app(&setting, &farewell, (app, but), &into).await;
                    }
                });
                (telling, task)
            })
            .collect();
        self.fenced().await;
        let mut told = Vec::with_capacity(asked.len());
        for (app, (telling, task)) in farewell.apps.iter().zip(asked) {
            let late = tokio::time::timeout_at(until, task).await.is_err();
            let known = telling.borrow_mut().take();
            told.extend(known.or_else(|| {
                late.then(|| Told {
                    asked: true,
                    deletions: forget(&farewell, app).collect(),
                    ..Told::of(app, false)
                })
            }));
        }
        told
    }

    /// Resolves when no restart can bring back what has ended by now. Where the store cannot be written just now, that comes
    /// later: nobody stays signed in to an app for it.
    async fn fenced(&self) {
        let _ = self.pinger.registry.store().settled().await;
    }

    /// Where several proxies share the sessions, one of them asks an app. Where the store says nothing: better twice than never.
    async fn is_first(&self, farewell: &Farewell, app: AppIx) -> bool {
        let store = self.pinger.registry.store();
        if !store.is_shared() {
            return true;
        }
        let what = [b"out", &farewell.handle.0.to_be_bytes()[..], &app.0.to_be_bytes()].concat();
        store.claim(&what, ONCE).await.unwrap_or(true)
    }

    /// Asks what is left of the session in an app that the person has signed out of by itself. `None` where that cannot be
    /// asked.
    pub async fn of_one(&self, setting: &Setting, farewell: &Farewell, app: AppIx) -> Option<Proof> {
        let (app, route) = (farewell.apps.iter().find(|own| own.app == app)?, setting.route(app)?);
        self.prove(setting, route, (farewell, app), &[]).await
    }

    /// Signs out of one app of `farewell`, where it is to be asked, and sees what is left; says in `telling` what is known.
    async fn app(
        &self,
        setting: &Setting,
        farewell: &Farewell,
        (app, but): (&AppSession, Option<AppIx>),
        telling: &Telling,
    ) {
        let Some(route) = setting.route(app.app) else { return };
        let person = person(farewell, app);
        let seen_here = Some(app.app) == but;
        let mut told = Told::of(app, seen_here);
        let mut relayed = Vec::new();
        let wanted = !seen_here && (app.has_token() || !person.passed.is_empty());
        if wanted
            && self.is_first(farewell, app.app).await
            && let Some(ran) = self.run(setting, route, &person).await
        {
            told.asked = true;
            told.confirmed = ran.outcome.is_confirmed();
            told.deletions = self.deletions(&ran.relayed);
            relayed = ran.relayed;
            self.count(route, farewell, ran.outcome);
        }
        if !told.confirmed {
            told.deletions.extend(forget(farewell, app));
        }
        let is_out = told.is_out() && asks_for_proof(farewell.end);
        // Whoever stops waiting finds this.
        if is_out && is_provable(route, app) {
            told.proof = Some(Proof::Unproven);
        }
        telling.replace(Some(told));
        if is_out && let Some(proof) = self.prove(setting, route, (farewell, app), &relayed).await {
            if let Some(what) = event(proof) {
                self.note(farewell, app.app, what);
            }
            if let Some(told) = telling.borrow_mut().as_mut() {
                told.proof = Some(proof);
            }
        }
    }

    /// Counts a sign-out that was asked for, and adds it to the session's story.
    fn count(&self, route: &Route, farewell: &Farewell, outcome: Outcome) {
        let (result, what) = match outcome {
            _ if outcome.is_confirmed() => (SignOutResult::Ok, What::SignOutConfirmed),
            Outcome::Late => (SignOutResult::Timeout, What::SignOutUnconfirmed),
            _ => (SignOutResult::Failed, What::SignOutUnconfirmed),
        };
        self.pinger.shard.sign_out_request(route.rules.app.index(), result);
        self.note(farewell, route.rules.app, what);
    }

    fn note(&self, farewell: &Farewell, app: AppIx, what: What) {
        let event = Event { at: self.pinger.clock.now(), app: Some(app), what };
        self.pinger.registry.note_ended(farewell.handle, event);
    }

    /// The deletions among Set-Cookie fields.
    fn deletions(&self, relayed: &[HeaderValue]) -> Vec<HeaderValue> {
        let now_s = i64::try_from(self.pinger.clock.now().secs()).unwrap_or(i64::MAX);
        let deletes = |field: &&HeaderValue| {
            SetCookie::parse(field.as_bytes()).is_some_and(|set| set.lifetime(now_s) == Lifetime::Delete)
        };
        relayed.iter().filter(deletes).cloned().collect()
    }
}

/// What a proof adds to the story of a session.
#[must_use]
pub const fn event(proof: Proof) -> Option<What> {
    match proof {
        Proof::Dead => Some(What::SignOutProven),
        Proof::StillAlive => Some(What::SignOutStillAlive),
        Proof::Unproven => None,
    }
}

/// Whose session `app` of `farewell` was.
fn person<'a>(farewell: &'a Farewell, app: &'a AppSession) -> Person<'a> {
    Person {
        traits: farewell.traits.as_deref(),
        address: farewell.address,
        passed: farewell.passed.sent(app.app),
        app,
    }
}

/// True where somebody wanted the end. Where a clock brought it nobody waits for a proof, and a wave of a hundred thousand
/// ends at closing time must not become two.
const fn asks_for_proof(end: End) -> bool {
    matches!(end, End::UserLogout | End::AppLogout | End::Operator)
}

/// True where there is a page to ask, and something to ask it with.
fn is_provable(route: &Route, app: &AppSession) -> bool {
    route.rules.beat.is_some() && app.has_token()
}

/// Deletes what the app made `HttpOnly` and did not delete itself: a remembered sign-in would come back by itself. `Secure`
/// where it may be: without it no browser deletes a cookie whose name begins with `__Secure-` or `__Host-`.
fn forget(farewell: &Farewell, app: &AppSession) -> impl Iterator<Item = HeaderValue> {
    let secure = app.public.as_ref().is_some_and(|public| public.https);
    let flags = Flags { secure, http_only: true, ..Default::default() };
    let delete = move |cookie: &HttpOnlyCookie| deletion(&cookie.name, &cookie.path, None, flags);
    let cookies = farewell.passed.http_only_of(app.app);
    cookies.filter_map(move |cookie| HeaderValue::from_bytes(&delete(cookie)).ok())
}
