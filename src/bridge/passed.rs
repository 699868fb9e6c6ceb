//! What is known of the cookies that pass to the browser: what it last sent, what a sign-out must delete, what waits.
//!
//! Kept beside the session's record, and only for the apps that have such cookies.

use std::hash::{BuildHasher as _, Hash as _, Hasher};

use foldhash::fast::FixedState;
use http::HeaderValue;

use super::packing::{Packer, Unpacker};
use super::rules::AppIx;

/// Bytes of passed cookies that are remembered per app.
const REMEMBERED: usize = 4 * 1024;
/// Names of `HttpOnly` cookies that are remembered per session.
const NAMES: usize = 64;
/// Set-Cookie fields of heartbeats that wait for the person's next answer, per app.
const WAITING: usize = 16;

/// A cookie that passed and that the app made `HttpOnly`: a sign-out deletes it where the app itself did not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpOnlyCookie {
    /// Whose.
    pub app: AppIx,
    /// As the browser knows it.
    pub name: Box<[u8]>,
    /// As the browser knows it.
    pub path: Box<[u8]>,
}

/// What is known of the cookies that the browser holds.
#[derive(Clone, Default)]
pub struct Passed(Option<Box<Inner>>);

#[derive(Clone, Default)]
struct Inner {
    sent: Vec<(AppIx, Box<[u8]>)>,
    http_only: Vec<HttpOnlyCookie>,
    waiting: Vec<(AppIx, HeaderValue)>,
}

impl std::fmt::Debug for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passed(..)")
    }
}

impl Passed {
    /// The cookies that the browser last sent to `app`, as a Cookie field's value.
    #[must_use]
    pub fn sent(&self, app: AppIx) -> &[u8] {
        let sent = self.0.as_ref().and_then(|inner| inner.sent.iter().find(|(of, _)| *of == app));
        sent.map_or(&[], |(_, line)| line)
    }

    /// The browser has just sent these to `app`. Beyond 4 KiB nothing is remembered: half a cookie is worse than none.
    pub fn browser_sent(&mut self, app: AppIx, line: &[u8]) {
        let line = if line.len() > REMEMBERED { &[] } else { line };
        if self.sent(app) == line {
            return;
        }
        let inner = self.0.get_or_insert_default();
        inner.sent.retain(|(of, _)| *of != app);
        if !line.is_empty() {
            inner.sent.push((app, line.into()));
        }
    }

    /// An `HttpOnly` cookie has passed to the browser, or has been deleted there.
    pub fn http_only(&mut self, cookie: HttpOnlyCookie, deleted: bool) {
        if deleted && self.0.is_none() {
            return;
        }
        let inner = self.0.get_or_insert_default();
        inner.http_only.retain(|kept| kept.name != cookie.name || kept.path != cookie.path);
        if !deleted && inner.http_only.len() < NAMES {
            inner.http_only.push(cookie);
        }
    }

    /// The `HttpOnly` cookies of `app` that have passed.
    pub fn http_only_of(&self, app: AppIx) -> impl Iterator<Item = &HttpOnlyCookie> {
        self.0.iter().flat_map(|inner| &inner.http_only).filter(move |cookie| cookie.app == app)
    }

    /// A Set-Cookie field of a heartbeat's answer waits for the person's next answer from `app`.
    pub fn wait(&mut self, app: AppIx, field: HeaderValue) {
        let inner = self.0.get_or_insert_default();
        if inner.waiting.iter().filter(|(of, _)| *of == app).count() < WAITING {
            inner.waiting.push((app, field));
        }
    }

    /// Takes what waits for an answer from `app`.
    pub fn take_waiting(&mut self, app: AppIx) -> Vec<HeaderValue> {
        let Some(inner) = self.0.as_mut().filter(|inner| !inner.waiting.is_empty()) else {
            return Vec::new();
        };
        let (taken, kept) = std::mem::take(&mut inner.waiting).into_iter().partition(|(of, _)| *of == app);
        inner.waiting = kept;
        let taken: Vec<(AppIx, HeaderValue)> = taken;
        taken.into_iter().map(|(_, field)| field).collect()
    }

    /// A number that is another one as soon as something has changed that a sign-out on another proxy must know, or that waits
    /// for an answer.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        let Some(inner) = &self.0 else { return 0 };
        FixedState::default().hash_one((&inner.http_only, &inner.waiting))
    }

    /// Takes what the later one of two proxies' words decides into a hash.
    pub(super) fn hash_rest(&self, hasher: &mut impl Hasher) {
        if let Some(inner) =
            self.0.as_ref().filter(|inner| !inner.sent.is_empty() || !inner.waiting.is_empty())
        {
            (&inner.sent, &inner.waiting).hash(hasher);
        }
    }

    /// Takes in what `theirs` knows beyond this; `later`: what the browser last sent, and what waits for it, is as they say. A
    /// name that was deleted may come back: then it is deleted once more, which does no harm.
    pub(super) fn merge(&mut self, mut theirs: Self, later: bool) {
        if self.0.is_none() && theirs.0.is_none() {
            return;
        }
        let (mut ours, mut other) = (self.0.take().unwrap_or_default(), theirs.0.take().unwrap_or_default());
        ours.http_only.append(&mut other.http_only);
        ours.http_only.sort();
        ours.http_only.dedup();
        ours.http_only.truncate(NAMES);
        if later {
            (ours.sent, ours.waiting) = (other.sent, other.waiting);
        }
        self.0 = Some(ours);
    }

    /// Writes it.
    pub(super) fn pack(&self, out: &mut Packer<'_>) {
        let Some(inner) = &self.0 else { return out.count(0) };
        out.count(inner.sent.len() + 1);
        for (app, line) in &inner.sent {
            out.number(app.0);
            out.run(line);
        }
        out.count(inner.http_only.len());
        for cookie in &inner.http_only {
            out.number(cookie.app.0);
            out.run(&cookie.name);
            out.run(&cookie.path);
        }
        out.count(inner.waiting.len());
        for (app, field) in &inner.waiting {
            out.number(app.0);
            out.byte(u8::from(field.is_sensitive()));
            out.run(field.as_bytes());
        }
    }

    /// Reads what [`Passed::pack`] wrote.
    pub(super) fn unpack(from: &mut Unpacker<'_>) -> Self {
        let Some(sent) = from.count().checked_sub(1) else { return Self::default() };
        let sent = (0..sent).map(|_| (AppIx(from.narrow()), from.run().into())).collect();
        let http_only = (0..from.count()).map(|_| HttpOnlyCookie {
            app: AppIx(from.narrow()),
            name: from.run().into(),
            path: from.run().into(),
        });
        let http_only = http_only.collect();
        let waiting = (0..from.count()).filter_map(|_| {
            let (app, sensitive) = (AppIx(from.narrow()), from.byte() != 0);
            let mut field = HeaderValue::from_bytes(from.run()).ok()?;
            field.set_sensitive(sensitive);
            Some((app, field))
        });
        let waiting = waiting.collect();
        Self(Some(Box::new(Inner { sent, http_only, waiting })))
    }
}
