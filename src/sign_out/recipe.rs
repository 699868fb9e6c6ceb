//! How an app is asked to sign a session out: by one request, or by what a page of its own offers for it.
//!
//! Invariants: whatever the answers set goes along with the next request and stays nowhere else: the session that is
//! signed out of is not changed; no request leaves the app's own part of the public URL space, where another app may stand
//! deeper; where a page offers several things that could be meant, none of them is done.

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
use crate::own::{self, Ask, OwnError, Person, Prepared};
use crate::ping::{leads_to_login, reading};
use crate::route::Route;
use crate::setting::Setting;
use crate::wire::page::{Base, Form, Page};
use crate::wire::path;
use crate::wire::pattern::Pattern;
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
    /// The page has no such form or link within the app, or several that lead to different places, or one that cannot be
    /// asked for.
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
    pub async fn run(&self, setting: &Setting, route: &Route, person: &Person<'_>) -> Option<Ran> {
        let recipe = route.rules.sign_out.recipe.as_ref()?;
        let mut errand = Errand {
            by: self,
            setting,
            route,
            person: *person,
            app: person.app.clone(),
            relayed: Vec::new(),
        };
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
    setting: &'a Setting,
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

/// A page that was fetched.
struct Shown<'a> {
    page: Page,
    /// Its public path and query.
    at: &'a str,
    /// The same as the app sees it.
    inner: String,
    /// The public host, by which a path belongs to an app.
    host: String,
    /// The authorities by which the app may call itself: the public one, and that of the server.
    authorities: [String; 2],
}

impl Shown<'_> {
    /// Where its references lead from, by each of the authorities.
    fn bases(&self) -> [Base<'_>; 2] {
        self.authorities.each_ref().map(|own| self.page.from(own, &self.inner))
    }
}

impl Errand<'_> {
    async fn form(&mut self, at: &str, action: &Pattern) -> Result<Outcome, Outcome> {
        let shown = self.page(at).await?;
        let bases = shown.bases();
        let leads = |form: &Form| {
            let to = bases.iter().find_map(|base| base.action(form.leads_to()))?;
            self.target(&shown.host, &to, action)
        };
        let found = shown.page.forms.iter().filter_map(|form| Some((form, leads(form)?)));
        let (form, target) =
            only(found, |(one, to), (other, other_to)| one.is_post == other.is_post && to == other_to)?;
        let rules = &self.route.rules;
        // The vault knows the token; one that was written into the page may be another.
        let wanted = |name: &str| !rules.session.as_ref().is_some_and(|session| url::is_raw(session, name));
        let content = form.encoded(wanted);
        if form.is_post {
            let filled = Filled { page: shown.at, body: content };
            return self.last(&Method::POST, &target, Some(filled)).await;
        }
        // A form that is sent with GET puts its content in the place of the query.
        let clean = url::clean(rules, split(&target).0, Some(&content), |_| None);
        let (clean, _) = clean.map_err(|_| Outcome::NothingThere)?;
        self.last(&Method::GET, &clean.to_text(), None).await
    }

    async fn link(&mut self, at: &str, href: &Pattern) -> Result<Outcome, Outcome> {
        let shown = self.page(at).await?;
        let bases = shown.bases();
        let found = shown.page.links.iter().filter_map(|link| {
            let to = bases.iter().find_map(|base| base.link(&link.href))?;
            self.target(&shown.host, &to, href)
        });
        let target = only(found, |one, other| one == other)?;
        self.last(&Method::GET, &target, None).await
    }

    /// Fetches the page at the public `target`.
    async fn page<'p>(&mut self, target: &'p str) -> Result<Shown<'p>, Outcome> {
        let ask = Ask { method: &Method::GET, target, heartbeat: false };
        let mut prepared = self.prepare(&ask)?;
        // The browser may have asked for data last.
        prepared.head.set(&ACCEPT, &HeaderValue::from_static(PAGES));
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
        let (path, query) = split(target);
        let inner = with_query(&self.route.rules.mount.to_app(path), query);
        let host = split_authority(&prepared.authority).map_or("", |(host, _)| host).to_ascii_lowercase();
        let authorities = [prepared.authority, prepared.chosen.upstream.authority.to_string()];
        Ok(Shown { page: Page::read(&text), at: target, inner, host, authorities })
    }

    /// The public path and query of `shown`, which a page names, without tokens; `None` where it leaves the app or is not
    /// what is looked for. Apps that do not see their prefix show paths without it, or, where they were told of it, with it.
    fn target(&self, host: &str, shown: &str, wanted: &Pattern) -> Option<String> {
        let rules = &self.route.rules;
        let (path, query) = split(shown);
        [Cow::Borrowed(path), rules.mount.to_public(path)].into_iter().find_map(|path| {
            let (clean, _) = url::clean(rules, &path, query, |_| None).ok()?;
            let normal = path::normal(&clean.path).ok()?;
            // Another app may stand below this one's path.
            let is_own = self.setting.find(host, &normal).is_some_and(|route| route.rules.app == rules.app);
            let is_wanted = wanted.matches_link(&normal, clean.query.as_deref());
            (is_own && is_wanted).then(|| clean.to_text())
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
        own::prepare(self.route, &self.setting.balancer, &person, ask, pinger.clock.now())
            .ok_or(Outcome::Unreachable)
    }

    /// What a browser says of where a form was: Django checks the one or the other.
    fn put_origin(&self, prepared: &mut Prepared, page: &str) {
        let scheme = if self.is_https() { "https" } else { "http" };
        let origin = format!("{scheme}://{}", prepared.authority);
        let head = &mut prepared.head;
        head.set(&CONTENT_TYPE, &HeaderValue::from_static("application/x-www-form-urlencoded"));
        for (name, value) in [(REFERER, format!("{origin}{page}")), (ORIGIN, origin)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                head.set(&name, &value);
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
        to_client::drop_own(&self.route.rules, &mut fields, self.setting.own_cookies());
        let upstream = prepared.chosen.upstream.authority.to_string();
        let vault = self.app.vault().clone();
        let public = self.app.public.clone();
        let public_authority = public.as_ref().map_or("", |public| &*public.authority);
        let context = ToClient {
            rules: &self.route.rules,
            vault: Some(&vault),
            app_path: prepared.head.path(),
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

/// The one thing that was found, once or more often. Whoever writes on the page can offer another: which of two is meant,
/// nobody can tell.
fn only<T>(mut found: impl Iterator<Item = T>, is_same: impl Fn(&T, &T) -> bool) -> Result<T, Outcome> {
    let first = found.next().ok_or(Outcome::NothingThere)?;
    if found.all(|other| is_same(&first, &other)) { Ok(first) } else { Err(Outcome::NothingThere) }
}

const fn outcome_of(error: &OwnError) -> Outcome {
    match error {
        OwnError::Target => Outcome::NothingThere,
        OwnError::Send(SendError::FirstByteTimeout) => Outcome::Late,
        OwnError::Send(_) => Outcome::Unreachable,
    }
}

fn split(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

fn with_query(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}
