//! Sentinels that promote a replica by themselves, and a store of several servers.

use std::time::Duration;

use crate::app::App;
use crate::proxy::Proxy;
use crate::server::{Options, Server};
use crate::stage::{Person, Setting, write_config};
use crate::{DEADLINE, for_all_of, shortened, until, within};

/// Proxies before two apps; what is behind them differs.
struct Scene {
    proxies: Vec<Proxy>,
    a: App,
    _b: App,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// Two proxies with `more` in `[store.valkey]`; `first` is a server that they are told of.
    fn of(more: &str, first: &Server) -> Self {
        let (a, b, folder) = (App::start(), App::start(), tempfile::tempdir().unwrap());
        let store = format!("[store.valkey]\nurls = \"valkey://${{STORE}}\"\n{more}\n");
        write_config(folder.path(), &store, (&Setting::default(), &a, &b));
        let proxies = (0..2).map(|_| Proxy::start(folder.path(), first.address)).collect();
        Self { proxies, a, _b: b, _folder: folder }
    }

    fn at(&self, number: usize) -> &str {
        &self.proxies[number].address
    }

    fn people(&self, many: usize) -> Vec<Person> {
        let mut people: Vec<Person> = (0..many).map(|number| Person::arrive(self.at(number % 2))).collect();
        // On a busy machine a server may have been silent for longer than a proxy waits: those who came then are known to
        // that proxy alone until it has told the store.
        within(DEADLINE, "the store to know them", || {
            self.proxies.iter().all(|proxy| proxy.metric("sessionbridge_store_failing") == 0.0)
        });
        people.iter_mut().for_each(|person| {
            person.goes_on(self.at(0));
            person.goes_on(self.at(1));
        });
        people
    }
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn sentinels_promote_a_replica_and_the_proxies_follow() {
    let plain = Options::default();
    let (mut master, replica) = (Server::start_as(plain), Server::start_as(plain));
    replica.follow(master.address);
    let sentinels: Vec<Server> =
        (0..3).map(|_| Server::start_as(Options { sentinel: true, ..plain })).collect();
    for sentinel in &sentinels {
        let port = master.address.port().to_string();
        sentinel.ask(&["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &port, "2"]);
        sentinel.ask(&["SENTINEL", "SET", "mymaster", "down-after-milliseconds", "1000"]);
        sentinel.ask(&["SENTINEL", "SET", "mymaster", "failover-timeout", "5000"]);
    }
    until("sentinels that know of each other and of the replica", || {
        sentinels.iter().all(|sentinel| {
            let knows = |what: &str| sentinel.ask(&["SENTINEL", what, "mymaster"]).list().len();
            knows("SENTINELS") == 2 && knows("REPLICAS") == 1
        })
    });
    let scene = Scene::of("topology = \"sentinel\"\nmaster = \"mymaster\"", &sentinels[0]);
    let mut people = scene.people(6);
    people.iter_mut().take(2).for_each(|person| person.sign_out(scene.at(0)));
    master.kill();
    // Known sessions go on while nobody can be written to, and a sign-out is taken.
    people[2].sign_out(scene.at(1));
    for_all_of(Duration::from_secs(1), "known sessions go on", || {
        people
            .iter_mut()
            .skip(3)
            .all(|person| person.is_signed_in(scene.at(0)) && person.is_signed_in(scene.at(1)))
    });
    until("the replica to be promoted", || replica.says(&["INFO", "replication"], "role:master"));
    within(DEADLINE, "the proxies to follow", || {
        scene.proxies.iter().all(|proxy| proxy.metric("sessionbridge_store_failing") == 0.0)
    });
    let mut new = scene.people(2);
    for at in [0, 1] {
        for person in people.iter_mut().skip(3).chain(&mut new) {
            person.is_known("all that was acknowledged", scene.at(at));
        }
        for person in people.iter().take(3) {
            within(crate::stage::HEALED, "signed out", || {
                person.browser.clone().state(scene.at(at)) == "none"
            });
        }
    }
    assert!(scene.a.mixed().is_empty());
}

/// Three servers that share the keys, and `replicas` more.
fn cluster(replicas: usize) -> Vec<Server> {
    let node = || Server::start_as(Options { cluster: true, ..Options::default() });
    let nodes: Vec<Server> = (0..3 + replicas).map(|_| node()).collect();
    for (number, node) in nodes.iter().enumerate() {
        for other in &nodes {
            let (port, bus) = (other.address.port(), other.address.port() + 10_000);
            node.ask(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus.to_string()]);
        }
        if number < 3 {
            let (first, last) = (number * 16_384 / 3, (number + 1) * 16_384 / 3 - 1);
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
    }
    let info = |node: &Server| node.ask(&["CLUSTER", "INFO"]).text().to_owned();
    let all = format!("cluster_known_nodes:{}\r", nodes.len());
    until("a whole cluster", || {
        nodes.iter().all(|node| info(node).contains("cluster_state:ok") && info(node).contains(&all))
    });
    for (replica, master) in nodes.iter().skip(3).zip(&nodes) {
        let id = master.ask(&["CLUSTER", "MYID"]).text().to_owned();
        until("a replica", || replica.ask(&["CLUSTER", "REPLICATE", &id]).text() == "OK");
        until("a replica that has everything", || {
            replica.ask(&["INFO", "replication"]).text().contains("master_link_status:up")
        });
    }
    nodes
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn a_cluster_of_three_keeps_sessions_on_all_of_them() {
    let nodes = cluster(0);
    let scene = Scene::of("topology = \"cluster\"", &nodes[0]);
    let mut people = scene.people(shortened(300, 30));
    let spread: Vec<usize> = nodes.iter().map(|node| node.keys("sb:s:*").len()).collect();
    assert!(spread.iter().all(|many| *many > 0), "{spread:?}");
    for (number, person) in people.iter_mut().enumerate() {
        person.browser.ask(scene.at(number % 2), "POST", "/a/rotate").unwrap();
        person.goes_on(scene.at(1 - number % 2));
    }
    for (number, person) in people.iter_mut().enumerate().take(10) {
        person.sign_out(scene.at(number % 2));
        within(crate::stage::NEWS, "signed out on the other", || {
            person.browser.clone().state(scene.at(1 - number % 2)) == "none"
        });
    }
    assert!(scene.a.mixed().is_empty());
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn a_node_of_a_cluster_dies_and_its_replica_takes_its_place() {
    let mut nodes = cluster(3);
    let scene = Scene::of("topology = \"cluster\"", &nodes[0]);
    let mut people = scene.people(12);
    nodes[1].kill();
    for_all_of(Duration::from_secs(1), "known sessions go on", || {
        people.iter_mut().all(|person| person.is_signed_in(scene.at(0)) && person.is_signed_in(scene.at(1)))
    });
    until("the replica to take its place", || {
        nodes[4].says(&["INFO", "replication"], "role:master")
            && nodes[0].says(&["CLUSTER", "INFO"], "cluster_state:ok")
    });
    within(DEADLINE, "the proxies to follow", || {
        scene.proxies.iter().all(|proxy| proxy.metric("sessionbridge_store_failing") == 0.0)
    });
    people.iter_mut().for_each(|person| {
        person.browser.ask(scene.at(0), "POST", "/a/rotate").unwrap();
        person.goes_on(scene.at(1));
    });
    let mut new = scene.people(12);
    new.iter_mut().for_each(|person| person.goes_on(scene.at(0)));
    assert!(scene.a.mixed().is_empty());
}
