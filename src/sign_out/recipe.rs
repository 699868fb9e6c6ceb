//! How an app is asked to sign a session out: by one request, or by what a page of its own offers for it.
//!
//! Invariants: whatever the answers set goes along with the next request and stays nowhere else: the session that is
//! signed out of is not changed; no request leaves the app's own part of the public URL space.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, ORIGIN, REFERER, SET_COOKIE};
use http::{HeaderValue, Method};

use super::{DEADLINE, SignOut};
use crate::bridge::app_session::AppSession;
use crate::bridge::own::passed_after;
use crate::bridge::rules::Recipe;
use crate::bridge::to_client::{self, SetCookies, ToClient};
use crate::bridge::url;
use crate::net::body::Body;
use crate::net::client::{Answer, SendError};
use crate::own::{self, Ask, Person, Prepared};
use crate::ping::{leads_to_login, reading};
use crate::route::{Route, RouteMap};
use crate::wire::page::{Form, Page};
use crate::wire::path;
use crate::wire::pattern::Glob;
use crate::wire::target::split_authority;

/// As much of a page is read: forms for signing out stand in the navigation.
const PAGE_LIMIT: usize = 256 * 1024;

/// What a browser asks for when it follows a link.
const PAGES: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// What came of asking an app to sign a session out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered below 400.
    Done,
    /// In place of the page came a redirect to a sign-in page: nobody was signed in any more.
    WasOut,
    /// Answered with this status, 400 or above: 403 is how apps refuse a form without their token.
    Refused(u16),
    /// The page was answered with this status, which is none of a page.
    NoPage(u16),
    /// The page has no such form or link within the app.
    NothingThere,
    /// No answer in time.
    Late,
    /// No answer.
    Unreachable,
}

impl Outcome {
    /// True where the app says that the person is signed out.
    #[must_use]
    pub const fn is_confirmed(self) -> bool {
        matches!(self, Self::Done | Self::WasOut)
    }
}

/// A recipe that was carried out.
#[derive(Debug)]
pub struct Ran {
    /// What came of it.
    pub outcome: Outcome,
    /// Set-Cookie fields of all its answers that are for the browser, in their order.
    pub relayed: Vec<HeaderValue>,
}

impl SignOut {
    /// Carries out the recipe of `route` in the name of `person`. `None` where the app has none. Takes twice the deadline
    /// of one request at the most.
    pub async fn run(&self, routes: &RouteMap, route: &Route, person: &Person<'_>) -> Option<Ran> {
        let recipe = route.rules.sign_out.recipe.as_ref()?;
        let mut errand =
            Errand { by: self, routes, route, person: *person, app: person.app.clone(), relayed: Vec::new() };
        let outcome = match recipe {
            Recipe::Request { method, target } => errand.last(method, target, None).await,
            Recipe::Form { page, action } => errand.form(page, action).await,
            Recipe::Link { page, href } => errand.link(page, href).await,
        };
        let outcome = outcome.unwrap_or_else(|instead| instead);
        Some(Ran { outcome, relayed: errand.relayed })
    }
}

/// A recipe while it is carried out.
struct Errand<'a> {
    by: &'a SignOut,
    routes: &'a RouteMap,
    route: &'a Route,
    person: Person<'a>,
    /// The person's session with the app as it goes on from answer to answer.
    app: AppSession,
    relayed: Vec<HeaderValue>,
}

/// A form on its way.
struct Filled<'a> {
    /// The public path of the page that it was on.
    page: &'a str,
    /// Its content.
    body: String,
}

impl Errand<'_> {
    async fn form(&mut self, at: &str, action: &Glob) -> Result<Outcome, Outcome> {
        let (page, authorities) = self.page(at).await?;
        let leads = |form: &Form| self.target(&page, (&authorities, at), &form.action, action);
        let found = page.forms.iter().find_map(|form| Some((form, leads(form)?)));
        let (form, target) = found.ok_or(Outcome::NothingThere)?;
        let filled = Filled { page: at, body: form.encoded() };
        if form.is_post {
            return self.last(&Method::POST, &target, Some(filled)).await;
        }
        // A form that is sent with GET puts its content in the place of the query.
        let path = target.split('?').next().unwrap_or("/");
        self.last(&Method::GET, &format!("{path}?{}", filled.body), None).await
    }

    async fn link(&mut self, at: &str, href: &Glob) -> Result<Outcome, Outcome> {
        let (page, authorities) = self.page(at).await?;
        let mut links = page.links.iter();
        let target = links.find_map(|link| self.target(&page, (&authorities, at), &link.href, href));
        self.last(&Method::GET, &target.ok_or(Outcome::NothingThere)?, None).await
    }

    /// Fetches the page at the public `target`. With it come the authorities by which the app may call itself.
    async fn page(&mut self, target: &str) -> Result<(Page, [String; 2]), Outcome> {
        let ask = Ask { method: &Method::GET, target, heartbeat: false };
        let mut prepared = self.prepare(&ask)?;
        // The browser may have asked for data last.
        prepared.head.headers.insert(ACCEPT, HeaderValue::from_static(PAGES));
        let fetched = tokio::time::timeout(DEADLINE, async {
            let answer = own::send(&self.by.pinger.client, &prepared, DEADLINE).await?;
            let Answer { parts, body, .. } = answer;
            let read = reading::read(body, parts.headers.get(CONTENT_ENCODING), PAGE_LIMIT).await;
            Ok((parts, read.text))
        });
        let (parts, text) = fetched.await.map_err(|_| Outcome::Late)?.map_err(|error| outcome_of(&error))?;
        self.take_cookies(&prepared, &parts.headers);
        if parts.status.is_redirection() && leads_to_login(self.route, &parts.headers) {
            return Err(Outcome::WasOut);
        }
        if !parts.status.is_success() {
            return Err(Outcome::NoPage(parts.status.as_u16()));
        }
        let upstream = own::authority_of(&prepared.chosen.upstream);
        Ok((Page::read(&text), [prepared.authority, upstream]))
    }

    /// The public path and query that `reference` on the page at the public path `at` leads to, without tokens; `None` where
    /// it leaves the app or is not what is looked for. Apps that do not see their prefix show paths without it, or, where
    /// they were told of it, with it.
    fn target(
        &self,
        page: &Page,
        (authorities, at): (&[String; 2], &str),
        reference: &str,
        wanted: &Glob,
    ) -> Option<String> {
        let rules = &self.route.rules;
        let (path, query) = split(at);
        let inner = with_query(&rules.mount.to_app(path), query);
        let resolved = |own: &String| page.resolve(own, &inner, reference);
        // Nothing at all is the page itself.
        let shown =
            if reference.is_empty() { inner.clone() } else { authorities.iter().find_map(resolved)? };
        let (path, query) = split(&shown);
        [Cow::Borrowed(path), rules.mount.to_public(path)].into_iter().find_map(|path| {
            let (clean, _) = url::clean(rules, &path, query, |_| None).ok()?;
            let normal = path::normal(&clean.path).ok()?;
            let target = clean.to_text();
            let is_wanted = wanted.matches(&target) || wanted.matches(&normal);
            (rules.mount.contains(&normal) && is_wanted).then_some(target)
        })
    }

    /// The request that signs out.
    async fn last(
        &mut self,
        method: &Method,
        target: &str,
        filled: Option<Filled<'_>>,
    ) -> Result<Outcome, Outcome> {
        let mut prepared = self.prepare(&Ask { method, target, heartbeat: false })?;
        let body = filled.map_or_else(Body::empty, |filled| {
            self.put_origin(&mut prepared, filled.page);
            Body::full(Bytes::from(filled.body))
        });
        let answer = own::send_with(&self.by.pinger.client, &prepared, body, DEADLINE).await;
        let answer = answer.map_err(|error| outcome_of(&error))?;
        self.take_cookies(&prepared, &answer.parts.headers);
        let status = answer.parts.status.as_u16();
        Ok(if status < 400 { Outcome::Done } else { Outcome::Refused(status) })
    }

    fn prepare(&self, ask: &Ask<'_>) -> Result<Prepared, Outcome> {
        let pinger = &self.by.pinger;
        let path = split(ask.target).0;
        let passed =
            passed_after(&self.route.rules, (self.person.passed, &self.relayed), path, pinger.clock.now());
        let person = Person { passed: &passed, app: &self.app, ..self.person };
        own::prepare(self.route, &pinger.balancer, &person, ask, pinger.clock.now())
            .ok_or(Outcome::Unreachable)
    }

    /// What a browser says of where a form was: Django checks the one or the other.
    fn put_origin(&self, prepared: &mut Prepared, page: &str) {
        let scheme = if self.is_https() { "https" } else { "http" };
        let origin = format!("{scheme}://{}", prepared.authority);
        let headers = &mut prepared.head.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        for (name, value) in [(REFERER, format!("{origin}{page}")), (ORIGIN, origin)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }

    fn is_https(&self) -> bool {
        self.app.public.as_ref().is_some_and(|public| public.https)
    }

    /// What an answer sets and deletes: in the copy of the vault, and among the cookies that pass.
    fn take_cookies(&mut self, prepared: &Prepared, headers: &http::HeaderMap) {
        let now = self.by.pinger.clock.now();
        let mut fields: SetCookies = headers.get_all(SET_COOKIE).iter().cloned().collect();
        to_client::drop_own(&self.route.rules, &mut fields, self.routes.own_cookies());
        let upstream = own::authority_of(&prepared.chosen.upstream);
        let vault = self.app.vault().clone();
        let public = self.app.public.clone();
        let public_authority = public.as_ref().map_or("", |public| &*public.authority);
        let context = ToClient {
            rules: &self.route.rules,
            vault: Some(&vault),
            app_path: split(&prepared.head.target).0,
            app_host: split_authority(public_authority).map_or(public_authority, |(host, _)| host),
            app_authority: &upstream,
            public_authority,
            https: self.is_https(),
            now,
        };
        let from_app = to_client::read(&context, &fields, &[]);
        self.app.learn(self.app.sent(now, false), &from_app.edits, now);
        self.relayed.extend(from_app.relayed);
    }
}

fn outcome_of(error: &SendError) -> Outcome {
    if matches!(error, SendError::FirstByteTimeout) { Outcome::Late } else { Outcome::Unreachable }
}

fn split(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

fn with_query(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}
