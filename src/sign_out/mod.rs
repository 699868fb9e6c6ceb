//! The apps' own sign-outs: asked in parallel, each with a result, after the session itself has ended.
//!
//! Invariant: the fence comes first. By the time a sign-out request goes out, nobody finds the session any more.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::header::SET_COOKIE;
use http::{HeaderValue, Method};
use tokio::time::Instant;

use crate::balance::Balancer;
use crate::bridge::app_session::{AppSession, Public};
use crate::bridge::rules::AppIx;
use crate::bridge::session::Farewell;
use crate::bridge::to_client::{self, SetCookies, ToClient};
use crate::clock::Clock;
use crate::net::client::Client;
use crate::own::{self, Ask, Person};
use crate::route::{Route, RouteMap};
use crate::telemetry::labels::SignOutResult;
use crate::telemetry::metrics::Shard;
use crate::wire::set_cookie::{Lifetime, SetCookie};

/// How long an app may take over its sign-out.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long the person's own answer waits for the apps.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What signing out takes, on one thread.
#[derive(Clone, Debug)]
pub struct SignOut {
    /// Sends.
    pub client: Client,
    /// Chooses servers.
    pub balancer: Arc<Balancer>,
    /// Tells the time.
    pub clock: Clock,
    /// Counts.
    pub shard: Rc<Shard>,
}

/// How one app took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub app: AppIx,
    /// True where it answered below 500.
    pub confirmed: bool,
    /// False where the config names no sign-out request for it.
    pub asked: bool,
    /// The public origin under which the person used it.
    pub public: Option<Arc<Public>>,
    /// Set-Cookie fields for the browser: deletions of cookies that had passed, and what the app deleted itself.
    pub deletions: Vec<HeaderValue>,
}

impl Told {
    /// True where its cookies are those of the public host `authority`: deletions reach only the host that they are sent by.
    #[must_use]
    pub fn is_at(&self, authority: &str) -> bool {
        self.public.as_ref().is_none_or(|public| *public.authority == *authority)
    }
}

impl SignOut {
    /// Signs out of every app of `farewell` but `but` (where the sign-out was seen). Never longer than the deadline.
    pub async fn all(&self, routes: &RouteMap, farewell: &Farewell, but: Option<AppIx>) -> Vec<Told> {
        let told = farewell.apps.iter().map(|app| self.app(routes, farewell, app, but));
        join_all(told).await.into_iter().flatten().collect()
    }

    /// As [`SignOut::all`], for somebody who waits for it: an app that takes longer than [`PATIENCE`] is signed out of
    /// behind, and counts as one that has not answered. Must run in a `LocalSet`.
    pub async fn in_time(&self, routes: &Rc<RouteMap>, farewell: Farewell, but: Option<AppIx>) -> Vec<Told> {
        let (until, farewell) = (Instant::now() + PATIENCE, Rc::new(farewell));
        let asked: Vec<_> = (0..farewell.apps.len())
            .map(|at| {
                let (this, routes, farewell) = (self.clone(), Rc::clone(routes), Rc::clone(&farewell));
                tokio::task::spawn_local(async move {
                    this.app(&routes, &farewell, farewell.apps.get(at)?, but).await
                })
            })
            .collect();
        let mut told = Vec::with_capacity(asked.len());
        for (app, asked) in farewell.apps.iter().zip(asked) {
            match tokio::time::timeout_at(until, asked).await {
                Ok(answered) => told.extend(answered.ok().flatten()),
                Err(_) => told.push(Told {
                    app: app.app,
                    confirmed: false,
                    asked: true,
                    public: app.public.clone(),
                    deletions: forget(&farewell, app).collect(),
                }),
            }
        }
        told
    }

    /// Signs out of one app of `farewell`, where it is to be asked. `None` for an app that is not configured any more.
    async fn app(
        &self,
        routes: &RouteMap,
        farewell: &Farewell,
        app: &AppSession,
        but: Option<AppIx>,
    ) -> Option<Told> {
        let route = routes.route(app.app)?;
        let person = Person {
            traits: farewell.traits.as_deref(),
            address: farewell.address,
            passed: farewell.passed.sent(app.app),
            app,
        };
        let seen_here = Some(app.app) == but;
        let mut told = match (&route.rules.sign_out.request, seen_here) {
            (Some((method, target)), false) if app.has_token() || !person.passed.is_empty() => {
                self.one((routes, route), &person, method, target).await
            }
            _ => Told {
                app: app.app,
                confirmed: seen_here,
                asked: false,
                public: app.public.clone(),
                deletions: Vec::new(),
            },
        };
        if !told.confirmed {
            told.deletions.extend(forget(farewell, app));
        }
        Some(told)
    }

    /// Signs out of one app.
    async fn one(
        &self,
        (routes, route): (&RouteMap, &Route),
        person: &Person<'_>,
        method: &Method,
        target: &str,
    ) -> Told {
        let public = person.app.public.clone();
        let mut told =
            Told { app: route.rules.app, confirmed: false, asked: true, public, deletions: Vec::new() };
        let ask = Ask { method, target, heartbeat: false };
        let Some(prepared) = own::prepare(route, &self.balancer, person, &ask, self.clock.now()) else {
            return told;
        };
        let answer = own::send(&self.client, &prepared, DEADLINE).await;
        if let Ok(answer) = &answer {
            told.confirmed = answer.parts.status.as_u16() < 500;
            told.deletions = {
                let headers = (&answer.parts.headers, routes.own_cookies());
                relayed(route, person.app, &prepared, headers, &self.clock)
            };
        }
        let result = match &answer {
            Ok(_) if told.confirmed => SignOutResult::Ok,
            Err(crate::net::client::SendError::FirstByteTimeout) => SignOutResult::Timeout,
            _ => SignOutResult::Failed,
        };
        self.shard.sign_out_request(route.rules.app.index(), result);
        told
    }
}

/// The deletions in an app's answer that are for the browser.
fn relayed(
    route: &Route,
    app: &AppSession,
    prepared: &own::Prepared,
    (headers, own): (&http::HeaderMap, &[Box<str>]),
    clock: &Clock,
) -> Vec<HeaderValue> {
    let mut fields: SetCookies = headers.get_all(SET_COOKIE).iter().cloned().collect();
    to_client::drop_own(&route.rules, &mut fields, own);
    let authority = own::authority_of(&prepared.chosen.upstream);
    let public = app.public.as_deref().map_or("", |public| &public.authority);
    let context = ToClient {
        rules: &route.rules,
        vault: Some(app.vault()),
        app_path: prepared.head.target.split('?').next().unwrap_or("/"),
        app_host: host_of(public),
        app_authority: &authority,
        public_authority: public,
        https: app.public.as_ref().is_some_and(|public| public.https),
        now: clock.now(),
    };
    let relayed = to_client::read(&context, &fields, &[]).relayed;
    let now_s = i64::try_from(clock.now().secs()).unwrap_or(i64::MAX);
    let deletes = |field: &HeaderValue| {
        SetCookie::parse(field.as_bytes()).is_some_and(|set| set.lifetime(now_s) == Lifetime::Delete)
    };
    relayed.into_iter().filter(deletes).collect()
}

/// Deletes what the app made `HttpOnly` and did not delete itself: a remembered sign-in would come back by itself. `Secure`
/// where it may be: without it no browser deletes a cookie whose name begins with `__Secure-` or `__Host-`.
fn forget(farewell: &Farewell, app: &AppSession) -> impl Iterator<Item = HeaderValue> {
    let secure = app.public.as_ref().is_some_and(|public| public.https);
    let flags = crate::wire::set_cookie::Flags { secure, http_only: true, ..Default::default() };
    farewell.passed.http_only_of(app.app).filter_map(move |cookie| {
        HeaderValue::from_bytes(&crate::wire::set_cookie::deletion(&cookie.name, &cookie.path, None, flags))
            .ok()
    })
}

fn host_of(authority: &str) -> &str {
    crate::wire::target::split_authority(authority).map_or(authority, |(host, _)| host)
}
