//! Which of an app's servers a request goes to, and how they are.
//!
//! Invariants: a sticky app session goes where it went before, as long as that server is there; the proxy's own requests never
//! go to another one in its name. What an app's own answers say never keeps requests from it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Clock;
use crate::net::client::SendError;
use crate::net::upstream::Upstream;
use crate::route::{Balance, Route, RouteMap};
use crate::time::Timestamp;

pub mod checks;
pub mod circuit;
pub mod fault;
pub mod server;

use fault::Fault;
use server::{Server, Shut};

/// All servers of all apps.
#[derive(Debug)]
pub struct Balancer {
    /// By the app's number, in the order of its route.
    apps: Vec<Vec<Arc<Server>>>,
    turn: AtomicUsize,
    clock: Clock,
}

/// A server that was chosen. Dropping it says that the request is over.
#[derive(Debug)]
pub struct Chosen {
    /// Its place among the app's own servers.
    pub place: u16,
    /// It.
    pub upstream: Upstream,
    /// True where the app session was on another server until now.
    pub moved: bool,
    server: Arc<Server>,
}

impl Drop for Chosen {
    fn drop(&mut self) {
        self.server.ends();
    }
}

impl Chosen {
    fn new(server: &Arc<Server>, place: usize) -> Self {
        server.begins();
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        Self { place, upstream: server.upstream.clone(), moved: false, server: Arc::clone(server) }
    }

    /// Its number, which is what an app session sticks to.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.upstream.ix.0
    }

    /// The server has answered, with whatever status.
    pub fn answered(&self) {
        self.server.answered();
    }

    /// It has not, and this is why.
    pub fn failed(&self, error: &SendError) {
        if let Some(fault) = Fault::of(error) {
            self.server.failed(fault);
        }
    }

    /// Asks whether it may be asked now: see [`Server::admit`].
    #[must_use]
    pub fn admits(&self) -> bool {
        self.server.admit().is_ok()
    }
}

/// Why there is no server for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoServer {
    /// None is up.
    Down,
    /// Those that are there have failed too often of late; the first may be tried after so many seconds.
    Circuit(u32),
}

impl Balancer {
    /// The servers of the apps of `routes`, which are at `upstreams`. `clock` tells when one may be tried again.
    #[must_use]
    pub fn new(routes: &RouteMap, upstreams: &[Upstream], clock: Clock) -> Self {
        Self { apps: Vec::new(), turn: AtomicUsize::new(0), clock }.with(routes, upstreams)
    }

    /// The balancer for `routes` at `upstreams`, with what this one knows of those that it has.
    #[must_use]
    pub fn with(&self, routes: &RouteMap, upstreams: &[Upstream]) -> Self {
        let places: HashMap<u16, &Upstream> = upstreams.iter().map(|own| (own.ix.0, own)).collect();
        let mut apps = Vec::new();
        for route in routes.routes() {
            let server = |upstream: &Upstream| {
                let known = self.servers(route).iter().find(|own| own.upstream.origin == upstream.origin);
                let fresh =
                    || Arc::new(Server::new(upstream.clone(), Arc::clone(&route.rules.name), self.clock));
                known.map_or_else(fresh, Arc::clone)
            };
            let at = route.rules.app.index();
            if apps.len() <= at {
                apps.resize_with(at + 1, Vec::new);
            }
            if let Some(servers) = apps.get_mut(at) {
                *servers = route.upstreams.iter().filter_map(|ix| Some(server(places.get(&ix.0)?))).collect();
            }
        }
        Self { apps, turn: AtomicUsize::new(self.turn.load(Ordering::Relaxed)), clock: self.clock }
    }

    /// The servers of the app of `route`, in its own order.
    #[must_use]
    pub fn servers(&self, route: &Route) -> &[Arc<Server>] {
        self.apps.get(route.rules.app.index()).map_or(&[], Vec::as_slice)
    }

    /// Chooses a server for a person's request to the app of `route`. `sticky`: the number of the one where its app session is;
    /// `not`: the numbers of those that have failed this request already.
    ///
    /// # Errors
    /// Where there is none.
    pub fn choose(&self, route: &Route, sticky: Option<u16>, not: &[u16]) -> Result<Chosen, NoServer> {
        let servers = self.servers(route);
        let mut why = None;
        let mut ask = |place: usize| {
            let server = servers.get(place).filter(|server| !not.contains(&server.upstream.ix.0))?;
            match server.admit() {
                Ok(()) => Some(Chosen::new(server, place)),
                Err(shut) => {
                    why = Some(sooner(why, shut));
                    None
                }
            }
        };
        if servers.len() == 1 {
            return ask(0).ok_or_else(|| self.none(why));
        }
        let bound = sticky.filter(|_| route.balance == Balance::Sticky);
        let home = bound.and_then(|number| place_of(servers, number));
        if let Some(chosen) = home.and_then(&mut ask) {
            return Ok(chosen);
        }
        let start = self.first(route.balance, servers);
        let places = (0..servers.len()).map(|offset| (start + offset) % servers.len());
        let found = places.filter(|place| Some(*place) != home).find_map(ask);
        let mut chosen = found.ok_or_else(|| self.none(why))?;
        chosen.moved = bound.is_some();
        Ok(chosen)
    }

    /// Chooses a server for a request of the proxy's own in the name of an app session: its own one, whether it is up or not. On
    /// another one such a request would begin an empty session. `None` where the app has that server no more.
    #[must_use]
    pub fn stay(&self, route: &Route, sticky: Option<u16>) -> Option<Chosen> {
        let servers = self.servers(route);
        let bound = sticky.filter(|_| route.balance == Balance::Sticky && servers.len() > 1);
        let place = match bound {
            Some(number) => place_of(servers, number)?,
            None => match self.choose(route, None, &[]) {
                Ok(chosen) => return Some(chosen),
                Err(_) => 0,
            },
        };
        Some(Chosen::new(servers.get(place)?, place))
    }

    fn none(&self, why: Option<Shut>) -> NoServer {
        match why {
            Some(Shut::Circuit(until)) => {
                let millis = until.since(self.clock.now()).as_millis();
                NoServer::Circuit(u32::try_from(millis.div_ceil(1000)).unwrap_or(u32::MAX).max(1))
            }
            Some(Shut::Down) | None => NoServer::Down,
        }
    }

    /// The place to look at first.
    fn first(&self, balance: Balance, servers: &[Arc<Server>]) -> usize {
        let many = servers.len().max(1);
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % many;
        if balance != Balance::LeastRequests {
            return start;
        }
        let load = |place: &usize| servers.get(*place).map_or(u64::MAX, |server| server.in_flight());
        (0..many).map(|offset| (start + offset) % many).min_by_key(load).unwrap_or(start)
    }
}

fn place_of(servers: &[Arc<Server>], number: u16) -> Option<usize> {
    servers.iter().position(|server| server.upstream.ix.0 == number)
}

/// Of two reasons the one that is over first.
fn sooner(one: Option<Shut>, other: Shut) -> Shut {
    let until = |shut: &Shut| match shut {
        Shut::Circuit(until) => *until,
        Shut::Down => Timestamp::FAR,
    };
    one.filter(|one| until(one) <= until(&other)).unwrap_or(other)
}

#[cfg(test)]
mod tests;
