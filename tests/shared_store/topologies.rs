//! A cluster, and a server that sentinels watch over.

use std::process::{Command, Stdio};
use std::time::Duration;

use sessionbridge::store::shared::Topology;
use sessionbridge::store::{Fetched, Index, Key, Mark, News};

use crate::proxy::{Proxy, options, until};
use crate::server::{Server, free_port};

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn in_a_cluster_all_of_it_works_on_keys_of_every_server() {
    let mut servers: Vec<Server> = (0..3)
        .map(|_| {
            let bus = free_port().to_string();
            Server::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "2000",
            ])
        })
        .collect();
    let addresses = servers.iter().map(|server| format!("127.0.0.1:{}", server.port));
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(addresses)
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    until("the cluster", || {
        servers.iter().all(|server| server.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    })
    .await;
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let options = options(&urls, Topology::Cluster);
    let (one, two) = (Proxy::with(&options), Proxy::with(&options));
    one.is_ready().await;
    two.is_ready().await;
    for name in 0..60_u64 {
        let toy = one.session(name);
        toy.add(1);
        toy.index(&[Index::Token(name)]);
        one.save(&toy).await;
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
    // One of the servers loses all that it has.
    servers[1].ask::<()>(&["FLUSHALL"]);
    two.hears(News::All).await;
    two.store.settled().await.unwrap();
    for name in 0..60 {
        assert!(matches!(two.fetch(name).await, Fetched::Record { .. }), "{name}");
    }
    // One dies: what is with the others goes on, and what is with it waits.
    let mut toys = Vec::new();
    for name in 0..60 {
        toys.push(two.copy(name).await);
    }
    servers[2].kill();
    let mut mark = Mark::default();
    for toy in &toys {
        toy.add(9);
        mark = two.put(toy);
    }
    let first = |name: u64| two.store.fetch(Key::Name(name.to_be_bytes()));
    let mut served = 0;
    for name in 0..60 {
        served += usize::from(first(name).await.is_ok());
    }
    assert!(served < 60, "one server is away");
    assert!(!two.store.is_committed(mark));
    servers[2].restart();
    two.committed(mark).await;
    for name in 0..60 {
        until("its return", || !two.store.fails()).await;
        assert!(two.stored(name).await.contains(&9), "{name}");
    }
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
