use std::{sync::Arc, time::Duration};
use sessionbridge::demo::sim::{SimOptions, Profile, server};
#[test]
#[ignore]
fn sims() {
    let clock: server::Clock = Arc::new(|| std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64);
    let p: Profile = std::env::var("P").unwrap_or("acf-strict".into()).parse().unwrap();
    let (a, _ra) = server::spawn_thread(SimOptions::new(p, "AppA").timeout_ms(10_000), clock.clone()).unwrap();
    let (b, _rb) = server::spawn_thread(SimOptions::new(p, "AppB").timeout_ms(300_000), clock).unwrap();
    let ping = format!("ping.{}", p.extension());
    std::fs::write("/tmp/smoke/config.toml", format!(r#"listen = "127.0.0.1:8099"

[apps.appA]
path = "/AppA/"
upstreams = ["http://{a}"]
session.engine = "coldfusion"
session.timeout = "10s"
heartbeat.path = "/AppA/{ping}"
sign_out.request = "GET /AppA/logout.cfm"

[apps.appB]
path = "/AppB/"
upstreams = ["http://{b}"]
session.engine = "coldfusion"
session.url_tokens = {{ AID = "appA.CFID", ATOKEN = "appA.CFTOKEN" }}
heartbeat.path = "/AppB/{ping}"
"#)).unwrap();
    std::thread::sleep(Duration::from_secs(120));
}
