//! Health checks: each server of an app that has them is asked for a page in turn, and is down or up by what it answers.
//!
//! Invariants: a check carries no cookie and is nobody's; it goes out on a connection of its own, so that it finds out
//! whether one can be had; no server is asked twice at once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use tokio::task::JoinSet;

use crate::balance::checks::Votes;
use crate::balance::fault::Fault;
use crate::balance::server::Server;
use crate::clock::Clock;
use crate::net::body::Body;
use crate::net::client::{Client, ClientOptions, Deadlines};
use crate::net::upstream::Dialer;
use crate::own;
use crate::random;
use crate::route::{HealthRules, Route};
use crate::setting::Setting;
use crate::telemetry::labels::Reason;
use crate::time::Timestamp;
use crate::wire::request::Head;

/// A page that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the config says now is looked at so often, at the least.
const LOOK: Duration = Duration::from_secs(1);
/// How the proxy introduces itself.
const AGENT: HeaderValue = HeaderValue::from_static("sessionbridge (health check)");

/// Checks the servers of all apps as `present` has them, for ever. Must run in a `LocalSet`; dropping it ends what is under way.
pub async fn run(present: Rc<dyn Fn() -> Rc<Setting>>, dialer: Dialer, clock: Clock) {
    let client = Client::new(dialer, ClientOptions { max_idle: 0, ..ClientOptions::default() });
    let mut checks = JoinSet::new();
    loop {
        let setting = present();
        let now = clock.now();
        let mut wake = now.plus(LOOK);
        for route in setting.routes() {
            let Some(rules) = &route.health else {
                setting.balancer.servers(route).iter().for_each(|server| server.unchecked());
                continue;
            };
            for due in due(rules, setting.balancer.servers(route), now) {
                let Due::Now(server) = due else { continue };
                let (client, setting, app) = (client.clone(), Rc::clone(&setting), route.rules.app);
                checks.spawn_local(async move {
                    let Some(route) = setting.route(app) else { return };
                    let Some(rules) = &route.health else { return };
                    let outcome = check(&client, route, rules, &server).await;
                    server.checked(outcome, Votes { fall: rules.fall, rise: rules.rise });
                });
            }
            let next = setting.balancer.servers(route).iter().filter_map(|server| server.check_at()).min();
            wake = wake.min(next.unwrap_or(wake));
        }
        while checks.try_join_next().is_some() {}
        tokio::time::sleep_until(clock.instant(wake)).await;
    }
}

/// What is to be done about a server.
enum Due {
    Now(Arc<Server>),
    Later,
}

/// Which of `servers` are to be checked at `now`; when each is next is settled here. The first checks of an app are spread over
/// its interval.
fn due<'a>(
    rules: &'a HealthRules,
    servers: &'a [Arc<Server>],
    now: Timestamp,
) -> impl Iterator<Item = Due> + 'a {
    let many = u32::try_from(servers.len()).unwrap_or(u32::MAX).max(1);
    (0_u32..).zip(servers).map(move |(place, server)| match server.check_at() {
        None => {
            server.check_then(now.plus(rules.every / many * place).plus(jitter(rules.every) / 2));
            Due::Later
        }
        Some(at) if at > now => Due::Later,
        Some(_) => {
            server.check_then(now.plus(rules.every * 9 / 10).plus(jitter(rules.every)));
            Due::Now(Arc::clone(server))
        }
    })
}

/// Up to a fifth of `every`, drawn anew.
fn jitter(every: Duration) -> Duration {
    let [draw] = random::bytes::<1>();
    every / 5 * u32::from(draw) / u32::from(u8::MAX)
}

/// Asks `server` once.
async fn check(client: &Client, route: &Route, rules: &HealthRules, server: &Server) -> Result<(), Fault> {
    let patience = PATIENCE.min(rules.every);
    let deadlines = Deadlines { connect: patience, first_byte: patience };
    let head = head(route, rules, server);
    let sent = client.send(&server.upstream, &head, Body::empty(), &deadlines);
    match tokio::time::timeout(patience, sent).await {
        Ok(Ok(answer)) => match answer.parts.status.as_u16() {
            200..400 => Ok(()),
            status => Err(Fault::Status(status)),
        },
        Ok(Err(error)) => Err(Fault::of(&error).unwrap_or(Fault::Silent(Reason::UpstreamReset))),
        Err(_) => Err(Fault::Silent(Reason::FirstByteTimeout)),
    }
}

fn head(route: &Route, rules: &HealthRules, server: &Server) -> Head {
    let (path, query) = match rules.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*rules.path, None),
    };
    let mut target = route.rules.mount.to_app(path).into_owned();
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    let authority = route.hosts.first().map_or(&*server.upstream.authority, |host| &**host);
    let host = own::host_header(route, &server.upstream, authority);
    let mut head = Head::new(Method::GET, &target, 128);
    head.put_with("host", |out| out.extend_from_slice(host.as_bytes()));
    head.put("user-agent", &AGENT);
    head.put("accept", &HeaderValue::from_static("*/*"));
    head.put("connection", &HeaderValue::from_static("close"));
    head
}
