//! Probe sessions: sessions of the proxy's own, opened to find out whether an app is as the config says.
//!
//! Invariants: a probe is in no table and never a person's; no token, and no value that an app sent, gets into what is
//! said; nothing is sent but the heartbeat's own request, GETs inside the app, and the app's own sign-out.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

use crate::bridge::rules::{AppIx, BeatRules, Engine, SessionRules};
use crate::clock::Clock;
use crate::findings::{Found, Kind, Level};
use crate::net::client::Client;
use crate::ping::reading;
use crate::route::Route;
use crate::setting::Setting;
use crate::sign_out::SignOut;

mod bracket;
mod canary;
mod extends;
mod page;
mod sign_out;
mod timeout;
mod token;
mod visitor;
mod way;

pub use token::Preset;
use visitor::Visitor;

/// Why something cannot be told.
const BLIND: &str =
    "nothing in its answers tells a dead session from a living one: give it a `heartbeat.canary`";

/// What probing takes, on one thread.
#[derive(Clone, Debug)]
pub struct Prober {
    /// Sends.
    pub client: Client,
    /// The apps and their servers.
    pub setting: Arc<Setting>,
    /// Tells the time.
    pub clock: Clock,
    /// What the engines' tokens look like.
    pub presets: Arc<[Preset]>,
    /// True where browsers surely come by `https`.
    pub https: bool,
    /// Carries out sign-outs.
    pub sign_out: SignOut,
    /// Whose turn it is: as many requests as it has permits are under way at once.
    pub turns: Arc<Semaphore>,
}

/// What is to be found out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sessions of apps with a longer timeout than this are not waited for; zero: nothing is waited for.
    pub longest: Duration,
    /// Learn the app's own timeout, too.
    pub measure: bool,
}

/// What a probe says while it works.
#[derive(Clone, Debug)]
pub enum Said {
    /// Something was found.
    Found(Found),
    /// What comes next takes so long at the most.
    Waits {
        /// In which app.
        app: AppIx,
        /// How long.
        at_most: Duration,
        /// Until what.
        until: &'static str,
    },
}

/// How probing an app went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All that was asked is known, as far as it can be.
    Done,
    /// The app has no session or no heartbeat: there is nothing to find out.
    Nothing,
    /// The app does not answer its first page, or not as it will: worth another try later.
    Unreachable,
    /// The app failed to answer in the middle of things: worth another try, but not for ever.
    Lost,
}

impl Prober {
    /// Finds out about `app`, and tells `to` what it finds as soon as it is known.
    pub async fn app(&self, app: AppIx, options: Options, to: &UnboundedSender<Said>) -> Ending {
        let Some(case) = Case::new(self, app, options, to) else { return Ending::Nothing };
        case.run().await
    }

    /// How long probing `app` takes at the most, but for the answers themselves. Zero for one that has nothing to wait for.
    #[must_use]
    pub fn takes(&self, app: AppIx, options: Options) -> Duration {
        let rules = self.setting.route(app).map(|route| &route.rules);
        let session = rules.filter(|rules| rules.beat.is_some()).and_then(|rules| rules.session.as_ref());
        let Some(timeout) = session.map(|session| session.timeout).filter(|own| *own <= options.longest)
        else {
            return Duration::ZERO;
        };
        let late = self.late(app);
        if options.measure {
            // What is measured may be twice what the config says, and the heartbeat page is then watched once more.
            timeout::at_most(timeout).max(late) + extends::takes(timeout * 2, late)
        } else {
            extends::takes(timeout, late)
        }
    }
}

impl Prober {
    /// How late a dead session of `app` may show, before any is seen.
    fn late(&self, app: AppIx) -> Duration {
        let rules = self.setting.route(app).map(|route| &route.rules);
        let lucee = |rules: &&crate::bridge::rules::AppRules| {
            let engine = rules.session.as_ref().map(|session| session.engine);
            engine == Some(Engine::Lucee) && rules.beat.as_ref().is_some_and(|beat| beat.canary.is_none())
        };
        if rules.filter(lucee).is_some() { way::Witness::Url.late() } else { Duration::ZERO }
    }
}

/// One app that is being probed.
struct Case<'a> {
    prober: &'a Prober,
    route: &'a Route,
    session: &'a SessionRules,
    beat: &'a BeatRules,
    options: Options,
    to: &'a UnboundedSender<Said>,
    /// True once the app has failed to answer when it was asked in the middle of things.
    lost: Cell<bool>,
}

impl<'a> Case<'a> {
    fn new(prober: &'a Prober, app: AppIx, options: Options, to: &'a UnboundedSender<Said>) -> Option<Self> {
        let route = prober.setting.route(app)?;
        let (session, beat) = (route.rules.session.as_ref()?, route.rules.beat.as_ref()?);
        Some(Self { prober, route, session, beat, options, to, lost: Cell::new(false) })
    }

    /// The app's front page.
    fn root(&self) -> &'a str {
        self.route.rules.mount.prefix()
    }

    fn visitor(&self) -> Visitor<'a> {
        Visitor::new(self.prober, self.route)
    }

    fn found(&self, kind: Kind, (level, says): (Level, String)) {
        let found = Found { at: self.prober.clock.now(), app: self.route.rules.app, kind, level, says };
        // Whoever listened may have heard enough.
        let _ = self.to.send(Said::Found(found));
    }

    fn waits(&self, at_most: Duration, until: &'static str) {
        let _ = self.to.send(Said::Waits { app: self.route.rules.app, at_most, until });
    }

    async fn run(&self) -> Ending {
        let mut first = self.visitor();
        let (target, method) = (&*self.beat.path, &self.beat.method);
        let Ok(heard) = first.open(target).await else { return self.unreachable() };
        // A page that is not there may belong to an app that is still being started.
        let absent = heard.status == 404 && !reading::alive_status(&self.beat.alive, 404);
        if heard.is_down() || absent {
            self.found(Kind::HeartbeatPage, page::judge(self.beat, &heard));
            return Ending::Unreachable;
        }
        let heard = if *method == http::Method::GET { heard } else { heard.without_body() };
        self.found(Kind::HeartbeatPage, page::judge(self.beat, &heard));
        if !first.has_token() && first.open(self.root()).await.is_err() {
            return self.unreachable();
        }
        self.found(Kind::Token, token::judge(self.session, &first, &self.prober.presets));
        if !first.has_token() {
            self.cannot_be_told(
                "neither its heartbeat page nor its front page gives an anonymous visitor a session",
            );
            return Ending::Done;
        }
        let (way, canary) = self.way().await;
        if self.lost.get() {
            if !self.options.longest.is_zero() {
                self.cannot_be_told("the app did not answer");
            }
            return Ending::Lost;
        }
        self.found(Kind::Canary, canary);
        let Some(way) = way else {
            self.cannot_be_told(BLIND);
            return Ending::Done;
        };
        join(self.sign_out(&way), self.lifetimes(&way)).await;
        if self.lost.get() { Ending::Lost } else { Ending::Done }
    }

    /// All that waits for sessions to die.
    async fn lifetimes(&self, way: &way::Way) {
        if self.session.timeout > self.options.longest {
            if !self.options.longest.is_zero() {
                let says = format!(
                    "whether the heartbeat page extends a session is not known: it takes too long to wait for \
                     sessions of {}",
                    shown(self.session.timeout)
                );
                self.found(Kind::Extends, (Level::Note, says));
            }
            return;
        }
        if self.options.measure && !way.witness.late().is_zero() {
            self.found(
                Kind::Timeout,
                (Level::Note, format!("the app's own timeout cannot be told: {BLIND}")),
            );
        } else if self.options.measure {
            self.measured(way).await;
            return;
        }
        self.extends(way, self.session.timeout).await;
    }

    async fn measured(&self, way: &way::Way) {
        let (extends, measured) = join(self.extends(way, self.session.timeout), self.measure(way)).await;
        // What the config says has turned out to be wrong: once more, with what is right.
        if let (extends::Known::NotYet, Some(timeout)) = (extends, measured) {
            self.extends(way, timeout).await;
        }
    }

    fn unreachable(&self) -> Ending {
        let says =
            "the app does not answer its heartbeat page: see `upstreams`, and whether it runs".to_owned();
        self.found(Kind::HeartbeatPage, (Level::Warning, says));
        Ending::Unreachable
    }

    /// What would need a session that can be watched.
    fn cannot_be_told(&self, why: &str) {
        let note = |what: &str| (Level::Note, format!("{what} cannot be told: {why}"));
        self.found(Kind::Extends, note("whether the heartbeat page extends a session"));
        if self.route.rules.sign_out.recipe.is_some() {
            self.found(Kind::SignOut, note("whether the sign-out ends a session"));
        }
        if self.options.measure {
            self.found(Kind::Timeout, note("the app's own timeout"));
        }
    }
}

/// A span as people say it: whole seconds from ten on.
fn shown(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let rounded = if millis >= 10_000 { (millis + 500) / 1000 * 1000 } else { (millis + 50) / 100 * 100 };
    humantime::format_duration(Duration::from_millis(rounded)).to_string()
}
