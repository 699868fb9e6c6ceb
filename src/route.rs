//! The route map: which app a host and path belong to. Longest path wins; at equal length an app that names the host wins
//! over one for any host.
//!
//! Total: [`RouteMap::find`] answers every host and path, and never looks at anything else of a request.

use std::time::Duration;

use crate::bridge::answer;
use crate::bridge::rules::{Adopt, AppIx, AppRules, BridgeRules, Mode, RequestRule};
use crate::bridge::session::Session;

/// One upstream server, by the number that its origin has for ever; see [`crate::names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamIx(pub u16);

/// How a request chooses among an app's upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// By app session: where its first request went, as long as that one is up.
    Sticky,
    /// In turn.
    RoundRobin,
    /// Where the fewest requests are in flight.
    LeastRequests,
}

/// Which `Host` an app sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The browser's.
    Keep,
    /// The upstream's own authority.
    Upstream,
    /// This name.
    Name(Box<str>),
}

/// One app and where it is.
#[derive(Clone, Debug)]
pub struct Route {
    /// What the core knows of it.
    pub rules: AppRules,
    /// Its public hosts, lower case, without port; empty: any.
    pub hosts: Vec<Box<str>>,
    /// Its servers, at least one.
    pub upstreams: Vec<UpstreamIx>,
    /// How one is chosen.
    pub balance: Balance,
    /// Which `Host` they see.
    pub host_header: HostHeader,
    /// How they are found to be well or not; `None`: by what requests meet alone.
    pub health: Option<HealthRules>,
}

/// `[apps.NAME.health]`: how each server of an app is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRules {
    /// The public path, and query, that is asked for; it lies inside the app.
    pub path: Box<str>,
    /// How often.
    pub every: Duration,
    /// As many failures in a row and a server is down.
    pub fall: u32,
    /// As many passes in a row and it is up again.
    pub rise: u32,
}

/// All apps, the rules for requests, and the bridge they share.
#[derive(Clone, Debug)]
pub struct RouteMap {
    routes: Vec<Route>,
    /// By the number of an app: its place in `routes`, [`NOWHERE`] for one that is not here.
    places: Vec<u16>,
    /// Apps whose tokens may be taken over from a URL or a browser's own cookie.
    taken_over: Vec<bool>,
    /// Names of the proxy's own cookies, and the apps' names with a dot, under which renamed cookies are kept.
    own_cookies: Vec<Box<str>>,
    /// Indices into `routes`, longest mount first, those that name hosts before those that do not.
    order: Vec<usize>,
    /// `[[rules]]`, first match wins.
    pub rules: Vec<RequestRule>,
    /// What lives and dies together.
    pub bridge: BridgeRules,
}

impl RouteMap {
    /// Of `routes`, each with a number of its own.
    #[must_use]
    pub fn new(mut routes: Vec<Route>, rules: Vec<RequestRule>, bridge: BridgeRules) -> Self {
        let mut order: Vec<usize> = (0..routes.len()).collect();
        order.sort_by_key(|&at| {
            let route = routes.get(at);
            (
                std::cmp::Reverse(route.map_or(0, |route| route.rules.mount.prefix().len())),
                route.is_some_and(|route| route.hosts.is_empty()),
            )
        });
        let places = places(&routes);
        let mut taken_over = vec![bridge.adopt_cookies.is_some(); routes.len()];
        for session in routes.iter().filter_map(|route| route.rules.session.as_ref()) {
            for url_token in session.url_tokens.iter().filter(|_| session.adopt != Adopt::Never) {
                let place = place(&places, url_token.app);
                if let Some(flag) = place.and_then(|place| taken_over.get_mut(place)) {
                    *flag = true;
                }
            }
        }
        for route in &mut routes {
            route.rules.releases = bridge.mode == Mode::Release;
        }
        let own_cookies = own_cookies(&routes, &bridge);
        Self { routes, places, taken_over, own_cookies, order, rules, bridge }
    }

    /// The app for `host` (lower case, without port) and the normalised public `path`.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<&Route> {
        self.order.iter().filter_map(|&at| self.routes.get(at)).find(|route| {
            (route.hosts.is_empty() || route.hosts.iter().any(|own| &**own == host))
                && route.rules.mount.contains(path)
        })
    }

    /// The app with the key `app`.
    #[must_use]
    pub fn route(&self, app: AppIx) -> Option<&Route> {
        self.routes.get(self.place(app)?)
    }

    /// Where the app with the key `app` stands among [`RouteMap::routes`].
    #[must_use]
    pub fn place(&self, app: AppIx) -> Option<usize> {
        place(&self.places, app)
    }

    /// The app with the name `name`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Route> {
        self.routes.iter().find(|route| &*route.rules.name == name)
    }

    /// Names of cookies that no app may see or set but its own: see [`crate::bridge::to_app::ToApp::own_cookies`].
    #[must_use]
    pub fn own_cookies(&self) -> &[Box<str>] {
        &self.own_cookies
    }

    /// True where tokens of `app` may be taken over, so that it must be known whose they are.
    #[must_use]
    pub fn takes_over(&self, app: AppIx) -> bool {
        self.place(app).and_then(|place| self.taken_over.get(place)).copied().unwrap_or(false)
    }

    /// The public paths of all heartbeats, queries included.
    pub fn heartbeats(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().filter_map(|route| route.rules.beat.as_ref()).map(|beat| &*beat.path)
    }

    /// The apps of `session` whose heartbeats want an entry with the scheduler; they are marked as having one.
    #[must_use]
    pub fn to_beat(&self, session: &mut Session) -> Vec<AppIx> {
        let apps: Vec<_> = session.apps().map(|app| app.app).collect();
        apps.into_iter()
            .filter(|app| self.route(*app).is_some_and(|route| route.rules.beat.is_some()))
            .filter(|app| session.app_mut(*app).is_some_and(answer::should_arm))
            .collect()
    }

    /// All apps, in the order of the config.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

/// Stands for an app that is not in the map.
const NOWHERE: u16 = u16::MAX;

fn places(routes: &[Route]) -> Vec<u16> {
    let most = routes.iter().map(|route| route.rules.app.index() + 1).max().unwrap_or(0);
    let mut places = vec![NOWHERE; most];
    for (number, route) in (0..NOWHERE).zip(routes) {
        if let Some(place) = places.get_mut(route.rules.app.index()) {
            *place = number;
        }
    }
    places
}

fn place(places: &[u16], app: AppIx) -> Option<usize> {
    places.get(app.index()).filter(|place| **place != NOWHERE).map(|place| usize::from(*place))
}

/// The nonce cookie of a round trip between hosts, beside the bridge cookie `name`.
#[must_use]
pub fn nonce_cookie(name: &str) -> String {
    format!("{name}-join")
}

fn own_cookies(routes: &[Route], bridge: &BridgeRules) -> Vec<Box<str>> {
    let (plain, tls) = (bridge.cookie_name(false), bridge.cookie_name(true));
    let mut names: Vec<Box<str>> = vec![plain.into(), nonce_cookie(plain).into()];
    if tls != plain {
        names.extend([tls.into(), nonce_cookie(tls).into()]);
    }
    names.extend(routes.iter().map(|route| format!("{}.", route.rules.name).into()));
    names
}
