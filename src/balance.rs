//! Which of an app's servers a request goes to.
//!
//! Invariant: a sticky app session goes where it went before, as long as the app has that server. Counters that threads share
//! are written only where the balance asks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::net::upstream::Upstream;
use crate::route::{Balance, Route, UpstreamIx};

/// All servers of all apps, and how busy they are.
#[derive(Debug)]
pub struct Balancer {
    /// By number; `None`: no app of the config has it.
    servers: Vec<Option<Arc<Server>>>,
    turn: AtomicUsize,
}

/// What is known of one server, for as long as it is in the config.
#[derive(Debug)]
struct Server {
    upstream: Upstream,
    in_flight: AtomicUsize,
}

/// A server that was chosen. Dropping it says that the request is over.
#[derive(Debug)]
pub struct Chosen {
    /// Its place among the app's own servers.
    pub place: u16,
    /// It.
    pub upstream: Upstream,
    counted: Option<Arc<Server>>,
}

impl Chosen {
    /// Its number, which is what an app session sticks to.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.upstream.ix.0
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if let Some(server) = &self.counted {
            server.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Balancer {
    /// Over `upstreams`, each at its number.
    #[must_use]
    pub fn new(upstreams: Vec<Upstream>) -> Self {
        Self { servers: Vec::new(), turn: AtomicUsize::new(0) }.with(upstreams)
    }

    /// The balancer over `upstreams`, with what this one knows of those that it has.
    #[must_use]
    pub fn with(&self, upstreams: Vec<Upstream>) -> Self {
        let most = upstreams.iter().map(|upstream| usize::from(upstream.ix.0) + 1).max().unwrap_or(0);
        let mut servers = vec![None; most];
        for upstream in upstreams {
            let ix = UpstreamIx(upstream.ix.0);
            let known = self.server(ix).filter(|server| server.upstream.origin == upstream.origin);
            let server = known.map_or_else(|| Arc::new(Server::new(upstream)), Arc::clone);
            if let Some(place) = servers.get_mut(usize::from(ix.0)) {
                *place = Some(server);
            }
        }
        Self { servers, turn: AtomicUsize::new(self.turn.load(Ordering::Relaxed)) }
    }

    /// Where the server `number` is.
    #[must_use]
    pub fn origin(&self, number: UpstreamIx) -> Option<String> {
        self.server(number).map(|server| server.upstream.origin.to_string())
    }

    /// Chooses a server for a request to `route`. `sticky`: the number of the one where its app session went before. `None` only
    /// for a route without servers, which the config does not let pass.
    #[must_use]
    pub fn choose(&self, route: &Route, sticky: Option<u16>) -> Option<Chosen> {
        let servers = &route.upstreams;
        let place = match (servers.len(), route.balance) {
            (0, _) => return None,
            (1, _) => 0,
            (many, Balance::Sticky) => {
                let known = sticky.and_then(|number| servers.iter().position(|own| own.0 == number));
                known.unwrap_or_else(|| self.next(many))
            }
            (many, Balance::RoundRobin) => self.next(many),
            (many, Balance::LeastRequests) => self.least(route, many),
        };
        let server = self.server(*servers.get(place)?)?;
        let counted = (route.balance == Balance::LeastRequests && servers.len() > 1).then(|| {
            server.in_flight.fetch_add(1, Ordering::Relaxed);
            Arc::clone(server)
        });
        Some(Chosen {
            place: u16::try_from(place).unwrap_or(u16::MAX),
            upstream: server.upstream.clone(),
            counted,
        })
    }

    fn server(&self, number: UpstreamIx) -> Option<&Arc<Server>> {
        self.servers.get(usize::from(number.0))?.as_ref()
    }

    fn next(&self, many: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % many
    }

    fn least(&self, route: &Route, many: usize) -> usize {
        let start = self.next(many);
        let load = |place: usize| {
            let server = route.upstreams.get(place).and_then(|number| self.server(*number));
            server.map_or(usize::MAX, |server| server.in_flight.load(Ordering::Relaxed))
        };
        (0..many).map(|offset| (start + offset) % many).min_by_key(|place| load(*place)).unwrap_or(0)
    }
}

impl Server {
    const fn new(upstream: Upstream) -> Self {
        Self { upstream, in_flight: AtomicUsize::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::rules::Engine;
    use crate::bridge::testing;
    use crate::net::upstream;
    use crate::route::HostHeader;

    fn upstreams(numbers: &[u16]) -> Vec<Upstream> {
        let at = |number: &u16| {
            Upstream::new(upstream::UpstreamIx(*number), format!("http://h:{}", number + 1).parse().unwrap())
        };
        numbers.iter().map(at).collect()
    }

    fn route(servers: &[u16], balance: Balance) -> Route {
        Route {
            rules: testing::app(Engine::Lucee, "appA", "/AppA/"),
            hosts: Vec::new(),
            upstreams: servers.iter().copied().map(UpstreamIx).collect(),
            balance,
            host_header: HostHeader::Keep,
        }
    }

    #[test]
    fn a_session_sticks_to_its_server_wherever_that_stands_in_the_list() {
        let balancer = Balancer::new(upstreams(&[7, 300, 2]));
        for servers in [[7, 300, 2], [2, 7, 300]] {
            let route = route(&servers, Balance::Sticky);
            for _ in 0..3 {
                assert_eq!(balancer.choose(&route, Some(300)).unwrap().number(), 300);
            }
        }
        let fewer = route(&[7, 2], Balance::Sticky);
        let chosen: Vec<u16> = (0..4).map(|_| balancer.choose(&fewer, Some(300)).unwrap().number()).collect();
        assert!(chosen.contains(&7) && chosen.contains(&2), "another is chosen: {chosen:?}");
    }

    #[test]
    fn what_is_in_flight_stays_counted_when_the_servers_change() {
        let old = Balancer::new(upstreams(&[1, 2]));
        let busy = old.choose(&route(&[1, 2], Balance::LeastRequests), None).unwrap();
        let new = old.with(upstreams(&[1, 2, 3]));
        let both = route(&[1, 2], Balance::LeastRequests);
        for _ in 0..4 {
            assert_ne!(new.choose(&both, None).unwrap().number(), busy.number());
        }
        let number = busy.number();
        drop(busy);
        assert!((0..4).any(|_| new.choose(&both, None).unwrap().number() == number), "and counted off");
        assert_eq!(new.with(upstreams(&[3])).origin(UpstreamIx(1)), None);
    }
}
