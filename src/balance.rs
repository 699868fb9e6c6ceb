//! Which of an app's servers a request goes to.
//!
//! Invariant: a sticky app session goes where it went before. Counters that threads share are written only where the
//! balance asks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::net::upstream::Upstream;
use crate::route::{Balance, Route};

/// All servers of all apps, and how busy they are.
#[derive(Debug)]
pub struct Balancer {
    upstreams: Vec<Upstream>,
    in_flight: Vec<AtomicUsize>,
    turn: AtomicUsize,
}

/// A server that was chosen. Dropping it says that the request is over.
#[derive(Debug)]
pub struct Chosen {
    /// Its place among the app's own servers.
    pub place: u16,
    /// It.
    pub upstream: Upstream,
    counted: Option<(Arc<Balancer>, usize)>,
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if let Some((balancer, at)) = &self.counted
            && let Some(count) = balancer.in_flight.get(*at)
        {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Balancer {
    /// Over `upstreams`, in the order of the routes' indices.
    #[must_use]
    pub fn new(upstreams: Vec<Upstream>) -> Self {
        let in_flight = upstreams.iter().map(|_| AtomicUsize::new(0)).collect();
        Self { upstreams, in_flight, turn: AtomicUsize::new(0) }
    }

    /// Where the servers of `route` are, in its own order.
    #[must_use]
    pub fn origins(&self, route: &Route) -> Vec<String> {
        let origin = |at: usize| self.upstreams.get(at).map(|upstream| upstream.origin.to_string());
        route.upstreams.iter().filter_map(|ix| origin(ix.0)).collect()
    }

    /// Chooses a server for a request to `route`. `sticky`: where its app session went before. `None` only for a route
    /// without servers, which the config does not let pass.
    #[must_use]
    pub fn choose(self: &Arc<Self>, route: &Route, sticky: Option<u16>) -> Option<Chosen> {
        let servers = &route.upstreams;
        let place = match (servers.len(), route.balance) {
            (0, _) => return None,
            (1, _) => 0,
            (many, Balance::Sticky) => {
                sticky.map(usize::from).filter(|place| *place < many).unwrap_or_else(|| self.next(many))
            }
            (many, Balance::RoundRobin) => self.next(many),
            (many, Balance::LeastRequests) => self.least(route, many),
        };
        let at = servers.get(place)?.0;
        let upstream = self.upstreams.get(at)?.clone();
        let counted = (route.balance == Balance::LeastRequests && servers.len() > 1).then(|| {
            if let Some(count) = self.in_flight.get(at) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            (Arc::clone(self), at)
        });
        Some(Chosen { place: u16::try_from(place).unwrap_or(0), upstream, counted })
    }

    fn next(&self, many: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % many
    }

    fn least(&self, route: &Route, many: usize) -> usize {
        let start = self.next(many);
        let load = |place: usize| {
            let at = route.upstreams.get(place).map_or(usize::MAX, |ix| ix.0);
            self.in_flight.get(at).map_or(usize::MAX, |count| count.load(Ordering::Relaxed))
        };
        (0..many).map(|offset| (start + offset) % many).min_by_key(|place| load(*place)).unwrap_or(0)
    }
}
