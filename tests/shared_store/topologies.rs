//! A cluster, and a server that sentinels watch over.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sessionbridge::store::shared::Topology;
use sessionbridge::store::{Fetched, Index, Key, Mark, News};

use crate::proxy::{Proxy, Toy, options, until};
use crate::server::{Server, cluster, free_port};

async fn are_one(servers: &[Server]) {
    until("the cluster", || {
        servers.iter().all(|server| server.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    })
    .await;
}

async fn two_proxies(servers: &[Server]) -> (Proxy, Proxy) {
    are_one(servers).await;
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let options = options(&urls, Topology::Cluster);
    let (one, two) = (Proxy::with(&options), Proxy::with(&options));
    one.is_ready().await;
    two.is_ready().await;
    (one, two)
}

async fn sessions(proxy: &Proxy) -> Vec<Arc<Toy>> {
    let mut toys = Vec::new();
    for name in 0..60 {
        let toy = proxy.session(name);
        toy.add(1);
        toy.index(&[Index::Token(name)]);
        proxy.save(&toy).await;
        toys.push(toy);
    }
    toys
}

/// Adds to all of them; written when this returns.
async fn add(proxy: &Proxy, toys: &[Arc<Toy>], value: u32) {
    let mut mark = Mark::default();
    for toy in toys {
        toy.add(value);
        mark = proxy.put(toy);
    }
    proxy.committed(mark).await;
}

/// Each session is there, with that in it.
async fn all_have(proxy: &Proxy, value: u32) {
    for name in 0..60_u64 {
        let stored = async {
            loop {
                if let Ok(stored) = proxy.store.fetch(Key::Name(name.to_be_bytes())).await {
                    return stored;
                }
                tokio::task::yield_now().await;
            }
        };
        let stored = tokio::time::timeout(Duration::from_secs(20), stored).await.unwrap();
        assert!(matches!(stored, Fetched::Record { .. }), "{name} is gone: {stored:?}");
        assert!(proxy.stored(name).await.contains(&value), "{name}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn in_a_cluster_all_of_it_works_on_keys_of_every_server() {
    let servers = cluster(0);
    let (one, two) = two_proxies(&servers).await;
    for (name, toy) in (0_u64..).zip(sessions(&one).await) {
        let copy = two.copy(name).await;
        copy.add(2);
        toy.add(3);
        let marks = (one.put(&toy), two.put(&copy));
        tokio::join!(one.committed(marks.0), two.committed(marks.1));
        assert!(matches!(two.store.fetch(Key::Token(name)).await.unwrap(), Fetched::Record { .. }));
        assert_eq!(two.stored(name).await, [1, 2, 3]);
        two.hears(News::Changed(name.to_be_bytes())).await;
    }
    for server in &servers {
        assert!(server.keys("sb:s:").len() > 5, "each server has its part");
    }
    assert!(one.store.claim(b"x", Duration::from_secs(9)).await.unwrap());
    assert!(!two.store.claim(b"x", Duration::from_secs(9)).await.unwrap());
    let me = one.store.me();
    drop(one);
    until("takeover", || two.news().iter().filter(|news| matches!(news, News::Mine { .. })).count() == 60)
        .await;
    assert!(!two.store.is_alive(me));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_server_of_a_cluster_that_is_emptied_or_away_is_filled_again_while_the_others_serve() {
    let mut servers = cluster(0);
    let (one, _two) = two_proxies(&servers).await;
    let toys = sessions(&one).await;
    servers[1].ask::<()>(&["FLUSHALL"]);
    one.hears(News::All).await;
    one.store.settled().await.unwrap();
    all_have(&one, 1).await;
    servers[2].kill();
    let mut mark = Mark::default();
    for toy in &toys {
        toy.add(9);
        mark = one.put(toy);
    }
    let mut served = 0;
    for name in 0..60_u64 {
        served += usize::from(one.store.fetch(Key::Name(name.to_be_bytes())).await.is_ok());
    }
    assert!(served < 60, "one server is away");
    assert!(!one.store.is_committed(mark));
    servers[2].restart();
    one.committed(mark).await;
    all_have(&one, 9).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn keys_that_move_between_servers_are_found_and_a_replica_of_a_cluster_is_as_good_as_its_master() {
    let mut servers = cluster(1);
    let (one, _two) = two_proxies(&servers).await;
    let toys = sessions(&one).await;
    let id = |server: &Server| server.ask::<String>(&["CLUSTER", "MYID"]);
    let moving = Command::new("redis-cli")
        .args(["--cluster", "reshard", &format!("127.0.0.1:{}", servers[0].port)])
        .args(["--cluster-from", &id(&servers[0]), "--cluster-to", &id(&servers[1])])
        .args(["--cluster-slots", "1500", "--cluster-yes"])
        .stdout(Stdio::null())
        .spawn();
    let mut moving = moving.unwrap();
    let mut round = 2;
    while moving.try_wait().unwrap().is_none() {
        add(&one, &toys, round).await;
        round += 1;
    }
    assert!(moving.wait().unwrap().success());
    add(&one, &toys, 1000).await;
    all_have(&one, 1000).await;
    servers[2].kill();
    add(&one, &toys, 1001).await;
    all_have(&one, 1001).await;
    assert!(
        servers[3..]
            .iter()
            .any(|server| server.ask::<String>(&["INFO", "replication"]).contains("role:master"))
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn sentinels_tell_where_to_write_after_a_failover_too() {
    let mut master = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let link =
        |server: &Server| server.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up");
    until("the replica", || link(&replica)).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sentinel.conf");
    let text = format!(
        "sentinel monitor people 127.0.0.1 {} 1\nsentinel down-after-milliseconds people 1000\n\
         sentinel failover-timeout people 3000\n",
        master.port
    );
    std::fs::write(&config, text).unwrap();
    let sentinel = Server::start(&[config.to_str().unwrap()]);
    until("the replica to be known", || {
        let known: Vec<Vec<String>> = sentinel.ask(&["SENTINEL", "REPLICAS", "people"]);
        known.iter().flatten().any(|field| field.contains(&replica.port.to_string()))
    })
    .await;
    let urls = [format!("redis://127.0.0.1:{}", free_port()), sentinel.url()];
    let one = Proxy::with(&options(&urls, Topology::Sentinel { master: "people".to_owned() }));
    one.is_ready().await;
    let toy = one.session(1);
    toy.add(1);
    one.save(&toy).await;
    assert_eq!(master.keys("sb:s:").len(), 1);
    until("the replica's", || replica.keys("sb:s:").len() == 1).await;
    master.kill();
    until("an outage", || one.store.fails()).await;
    toy.add(2);
    let mark = one.put(&toy);
    one.committed(mark).await;
    assert_eq!(one.stored(1).await, [1, 2]);
    one.hears(News::Again(1_u64.to_be_bytes())).await;
    assert!(replica.ask::<String>(&["INFO", "replication"]).contains("role:master"));
}

/// Where this test runs itself once more, with the certificate that its server has as one of the system's own.
const TLS_URL: &str = "SESSIONBRIDGE_TEST_TLS_URL";

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn over_tls_a_server_is_believed_only_with_a_certificate_of_a_known_authority() {
    if let Ok(url) = std::env::var(TLS_URL) {
        let one = Proxy::ready(&url).await;
        let toy = one.session(1);
        toy.add(4);
        one.save(&toy).await;
        assert_eq!(one.stored(1).await, [4]);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let (cert, key, port) = (cert.to_str().unwrap(), key.to_str().unwrap(), free_port());
    let tls = ["--tls-port", &port.to_string(), "--tls-cert-file", cert, "--tls-key-file", key];
    let server =
        Server::start(&[&tls[..], &["--tls-ca-cert-file", cert, "--tls-auth-clients", "no"]].concat());
    let run = |known: bool| {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--ignored", "--exact"]);
        again.arg("topologies::over_tls_a_server_is_believed_only_with_a_certificate_of_a_known_authority");
        again.env(TLS_URL, format!("valkeys://localhost:{port}")).stdout(Stdio::null()).stderr(Stdio::null());
        if known {
            again.env("SSL_CERT_FILE", cert);
        }
        again.status().unwrap().success()
    };
    assert!(!run(false), "nobody vouches for it");
    assert!(run(true), "its authority is known");
    assert_eq!(server.keys("sb:s:").len(), 1);
}
