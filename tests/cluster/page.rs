//! `docs/cluster.md` does what it says: its configs load, its commands run in the order in which they stand, and what they have set up
//! serves.

use std::fs;
use std::path::Path;
use std::process::Command;

use sessionbridge::config;
use sessionbridge::names::Names;

use crate::app::App;
use crate::proxy::Proxy;
use crate::server::{Options, Reply, Server};
use crate::stage::{NEWS, Person};
use crate::within;

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cluster.md")).unwrap()
}

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    page().split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_config_of_the_page_loads() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("keys", "k1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"), ("valkey", "a/b\n")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let configs = blocks("toml");
    assert!(configs.len() >= 2);
    for text in configs {
        let text = text.replace("/etc/sessionbridge", folder.path().to_str().unwrap());
        if let Err(report) = config::load_str("cluster.md", &text, &mut Names::default()) {
            panic!("{report}");
        }
    }
}

/// What the page calls one thing, and the test another.
struct Elsewhere<'a> {
    folder: &'a str,
    store: &'a Server,
    apps: [&'a App; 2],
}

impl Elsewhere<'_> {
    fn command(&self, text: &str) -> String {
        text.replace("redis-cli -h 10.0.0.20", &format!("redis-cli -p {}", self.store.address.port()))
            .replace("/etc/sessionbridge", self.folder)
            .replace("sessionbridge check", &format!("{} check", env!("CARGO_BIN_EXE_sessionbridge")))
    }

    fn config(&self, text: &str) -> String {
        let text = text
            .replace("/etc/sessionbridge", self.folder)
            .replace("0.0.0.0:8080", "127.0.0.1:0")
            .replace("10.0.0.20:6379", &self.store.address.to_string())
            .replace("10.0.0.11:8500", &self.apps[0].address.to_string())
            .replace("10.0.0.12:8500", &self.apps[1].address.to_string())
            .replace("AppA", "a")
            .replace("AppB", "b");
        // Not a word of it is of the store.
        format!("admin.listen = \"127.0.0.1:0\"\nlog = {{ access = \"off\", format = \"json\" }}\n{text}")
    }
}

/// Runs commands as the page has them; what they say.
fn run(script: &str, folder: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
#[ignore = "needs redis-server: tests/run"]
fn the_commands_of_the_page_set_up_two_proxies_on_one_store() {
    let store = Server::start_as(Options::default());
    let (a, b, folder) = (App::start(), App::start(), tempfile::tempdir().unwrap());
    let (path, here) = (folder.path().to_str().unwrap(), tempfile::tempdir().unwrap());
    let here = here.path().to_str().unwrap();
    let elsewhere = Elsewhere { folder: path, store: &store, apps: [&a, &b] };
    fs::write(folder.path().join("config.toml"), elsewhere.config(&blocks("toml")[0])).unwrap();
    let mut proxies = Vec::new();
    for block in blocks("sh") {
        for line in block.lines() {
            if line.starts_with("sessionbridge run") {
                proxies.extend((0..2).map(|_| Proxy::start(folder.path(), store.address)));
            } else if let Some(rest) = line.strip_prefix("curl -s http://127.0.0.1:9190") {
                let said = run(&format!("curl -s http://{}{rest}", proxies[0].admin_address()), here);
                assert!(said.contains("sessionbridge_store_failing 0"), "{said}");
            } else {
                // A mistake of the store's is not one of its client's.
                let said = run(&elsewhere.command(line), here);
                assert!(!said.contains("ERR"), "{line}: {said}");
            }
        }
    }
    assert_eq!(proxies.len(), 2, "the page starts them");
    let mut person = Person::arrive(&proxies[0].address);
    person.goes_on(&proxies[1].address);
    let mut other = Person::arrive(&proxies[1].address);
    other.sign_out(&proxies[1].address);
    within(NEWS, "signed out on the other", || other.browser.clone().state(&proxies[0].address) == "none");
    proxies[0].kill();
    person.goes_on(&proxies[1].address);
    assert_eq!(store.ask(&["ACL", "LOG"]), Reply::List(Vec::new()), "the user may do too little");
    // What is to be watched is there.
    let metrics = proxies[1].admin("/metrics");
    let text = page();
    let names = text.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_'));
    let names: Vec<&str> = names.filter(|word| word.starts_with("sessionbridge_")).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names.into_iter().filter(|name| *name != "sessionbridge_store") {
        assert!(metrics.contains(&format!("\n{name} ")), "{name} is not in {metrics}");
    }
}
