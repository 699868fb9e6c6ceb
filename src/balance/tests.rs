use std::io;
use std::time::Duration;

use super::circuit::{FAILURES, FIRST_PAUSE, Stand};
use super::*;
use crate::balance::checks::Votes;
use crate::bridge::rules::Engine;
use crate::bridge::testing;
use crate::net::upstream;
use crate::route::{HostHeader, UpstreamIx};
use crate::telemetry::labels::Reason;

const VOTES: Votes = Votes { fall: 1, rise: 1 };

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
        health: None,
    }
}

fn map(route: &Route) -> RouteMap {
    RouteMap::new(vec![route.clone()], Vec::new(), testing::bridge())
}

/// The balancer of one app at `servers`, and its route.
fn balancer(servers: &[u16], balance: Balance) -> (Balancer, Route) {
    let route = route(servers, balance);
    let clock = Clock::at(Timestamp::from_secs(1_000_000));
    (Balancer::new(&map(&route), &upstreams(servers), clock), route)
}

fn refused() -> SendError {
    SendError::Connect(io::ErrorKind::ConnectionRefused.into())
}

/// The numbers that so many new requests go to.
fn spread(balancer: &Balancer, route: &Route, many: usize) -> Vec<u16> {
    (0..many).map(|_| balancer.choose(route, None, &[]).unwrap().number()).collect()
}

/// `number` takes no connection so often that its circuit opens.
fn breaks(balancer: &Balancer, route: &Route, number: u16) {
    for _ in 0..FAILURES {
        balancer.choose(route, Some(number), &[]).unwrap().failed(&refused());
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_sticks_to_its_server_wherever_that_stands_in_the_list() {
    for servers in [[7, 300, 2], [2, 7, 300]] {
        let (balancer, route) = balancer(&servers, Balance::Sticky);
        for _ in 0..3 {
            let chosen = balancer.choose(&route, Some(300), &[]).unwrap();
            assert_eq!((chosen.number(), chosen.moved), (300, false));
        }
    }
    let (balancer, route) = balancer(&[7, 2], Balance::Sticky);
    let chosen: Vec<_> = (0..4).map(|_| balancer.choose(&route, Some(300), &[]).unwrap()).collect();
    assert!(chosen.iter().any(|own| own.number() == 7) && chosen.iter().any(|own| own.number() == 2));
    assert!(chosen.iter().all(|own| own.moved), "its server is no longer in the config");
    assert!(balancer.stay(&route, Some(300)).is_none(), "and no heartbeat begins an empty session elsewhere");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_stays_known_when_the_servers_change() {
    let (old, both) = balancer(&[1, 2], Balance::LeastRequests);
    let busy = old.choose(&both, None, &[]).unwrap();
    let three = route(&[3, 2, 1], Balance::LeastRequests);
    let new = old.with(&map(&three), &upstreams(&[1, 2, 3]));
    let counts = |of: &Balancer| -> Vec<_> {
        of.servers(&three).iter().map(|own| (own.upstream.ix.0, own.standing().in_flight)).collect()
    };
    let expected: Vec<_> = [3, 2, 1].map(|number| (number, u64::from(number == busy.number()))).into();
    assert_eq!(counts(&new), expected);
    assert!(spread(&new, &three, 6).iter().all(|number| *number != busy.number()));
    drop(busy);
    assert_eq!(counts(&new), [(3, 0), (2, 0), (1, 0)], "counted off as well");
    new.servers(&three)[2].checked(Err(Fault::Status(500)), VOTES);
    let newer = new.with(&map(&three), &upstreams(&[1, 2, 3]));
    assert!(!newer.servers(&three)[2].standing().up);
}

#[tokio::test(start_paused = true)]
async fn a_sticky_session_moves_on_when_its_server_is_gone_and_those_that_did_not_come_meanwhile_are_there_still()
 {
    let (balancer, route) = balancer(&[1, 2], Balance::Sticky);
    breaks(&balancer, &route, 1);
    for _ in 0..3 {
        let chosen = balancer.choose(&route, Some(1), &[]).unwrap();
        assert_eq!((chosen.number(), chosen.moved), (2, true));
    }
    assert_eq!(balancer.choose(&route, Some(2), &[]).unwrap().number(), 2);
    assert_eq!(spread(&balancer, &route, 3), [2, 2, 2]);
    assert_eq!(balancer.stay(&route, Some(1)).unwrap().number(), 1, "heartbeats never move");
    assert!(!balancer.stay(&route, Some(1)).unwrap().admits(), "but are not sent");
    tokio::time::advance(FIRST_PAUSE).await;
    let tries = balancer.choose(&route, Some(1), &[]).unwrap();
    assert_eq!((tries.number(), tries.moved), (1, false), "one tries");
    assert_eq!(balancer.choose(&route, Some(1), &[]).unwrap().number(), 2, "and only one");
    tries.answered();
    for _ in 0..3 {
        assert_eq!(balancer.choose(&route, Some(1), &[]).unwrap().number(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn each_server_is_asked_once_for_one_request() {
    let (balancer, route) = balancer(&[1, 2, 3], Balance::Sticky);
    let first = balancer.choose(&route, Some(2), &[]).unwrap().number();
    let second = balancer.choose(&route, Some(2), &[first]).unwrap();
    let third = balancer.choose(&route, Some(2), &[first, second.number()]).unwrap();
    let mut all = [first, second.number(), third.number()];
    all.sort_unstable();
    assert_eq!((all, first, second.moved), ([1, 2, 3], 2, true));
    assert_eq!(balancer.choose(&route, Some(2), &all).unwrap_err(), NoServer::Down);
}

#[tokio::test(start_paused = true)]
async fn the_only_server_of_an_app_has_a_circuit_as_well() {
    let (balancer, route) = balancer(&[5], Balance::Sticky);
    breaks(&balancer, &route, 5);
    assert_eq!(balancer.choose(&route, None, &[]).unwrap_err(), NoServer::Circuit(1));
    assert_eq!(balancer.servers(&route)[0].standing().circuit, Stand::Open);
    assert!(balancer.stay(&route, Some(9)).is_some(), "the proxy's own requests go to what there is");
    tokio::time::advance(FIRST_PAUSE).await;
    balancer.choose(&route, None, &[]).unwrap().failed(&refused());
    assert_eq!(balancer.choose(&route, None, &[]).unwrap_err(), NoServer::Circuit(2), "twice as long");
    let standing = balancer.servers(&route)[0].standing();
    let why = Fault::Silent(Reason::ConnectRefused);
    assert_eq!((standing.up, standing.last_fault.map(|(_, fault)| fault)), (false, Some(why)));
    assert_eq!(standing.in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_of_the_server_opens_nothing() {
    let (balancer, route) = balancer(&[5], Balance::Sticky);
    let silent: [fn() -> SendError; 3] = [
        || SendError::Reset { reused: true, source: io::ErrorKind::ConnectionReset.into() },
        || SendError::AmbiguousLength,
        || SendError::Unasked,
    ];
    for error in silent {
        for _ in 0..FAILURES * 3 {
            balancer.choose(&route, None, &[]).unwrap().failed(&error());
        }
    }
    assert!(balancer.servers(&route)[0].standing().up);
    let reset = || SendError::Reset { reused: false, source: io::ErrorKind::ConnectionReset.into() };
    for error in [reset(), SendError::FirstByteTimeout, SendError::ConnectTimeout, reset(), refused()] {
        balancer.choose(&route, None, &[]).unwrap().failed(&error);
    }
    assert!(!balancer.servers(&route)[0].standing().up, "these do");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_its_checks_gets_nothing_and_when_all_do_nobody_is_left() {
    let (balancer, route) = balancer(&[1, 2], Balance::RoundRobin);
    let [one, two] = balancer.servers(&route) else { panic!("two servers") };
    one.checked(Err(Fault::Status(503)), VOTES);
    assert_eq!(spread(&balancer, &route, 4), [2; 4]);
    two.checked(Err(Fault::Status(503)), VOTES);
    assert_eq!(balancer.choose(&route, None, &[]).unwrap_err(), NoServer::Down);
    assert!(balancer.stay(&route, None).is_some());
    one.checked(Ok(()), VOTES);
    assert_eq!(spread(&balancer, &route, 4), [1; 4]);
    two.unchecked();
    assert!(spread(&balancer, &route, 4).contains(&2), "no longer checked, it is asked again");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_passes_ends_a_broken_circuit_but_not_that_of_an_app_that_hangs() {
    let (balancer, route) = balancer(&[1], Balance::Sticky);
    let server = &balancer.servers(&route)[0];
    breaks(&balancer, &route, 1);
    server.checked(Ok(()), VOTES);
    assert!(server.standing().up);
    for _ in 0..FAILURES {
        balancer.choose(&route, None, &[]).unwrap().failed(&SendError::FirstByteTimeout);
    }
    server.checked(Ok(()), VOTES);
    assert!(!server.standing().up, "its page for checks is not the app");
    tokio::time::advance(Duration::from_secs(2)).await;
    balancer.choose(&route, None, &[]).unwrap().answered();
    assert!(server.standing().up);
}
