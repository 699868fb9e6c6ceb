//! What `packaging` holds for several proxies: it parses, it fits together, and the config in it loads.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// The config of the proxies, with the secrets that compose would give them in `folder`.
fn config(folder: &Path) -> PathBuf {
    fs::write(folder.join("valkey"), "0123/+=@:%\n").unwrap();
    fs::write(folder.join("admin-token"), "0123456789abcdef\n").unwrap();
    fs::write(folder.join("keys"), "k1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let text = fs::read_to_string(packaging().join("compose/config.toml")).unwrap();
    assert!(text.contains("/run/secrets/"));
    let file = folder.join("config.toml");
    fs::write(&file, text.replace("/run/secrets", folder.to_str().unwrap())).unwrap();
    file
}

fn check(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sessionbridge"))
        .arg("check")
        .arg(file)
        .env("APP_A", "http://10.0.0.11:8500")
        .env("APP_B", "http://10.0.0.12:8500")
        .output()
        .unwrap()
}

#[test]
fn the_config_of_the_composed_proxies_has_nothing_to_complain_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path());
    let output = check(&file);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("0 errors\n"), "{said}");
    fs::remove_file(folder.path().join("valkey")).unwrap();
    let said = check(&file);
    assert_eq!(said.status.code(), Some(78), "a secret that is not there is no empty one");
}

#[test]
#[ignore = "needs python3: tests/run"]
fn the_guided_build_learns_from_loads_that_there_are() {
    let script = fs::read_to_string(packaging().join("guided")).unwrap();
    let loads = script.lines().rfind(|line| line.contains("benches/peers/run --alone")).unwrap();
    let loads: Vec<&str> = loads.split("--alone ").nth(1).unwrap().split(' ').collect();
    assert!(loads.len() > 5 && loads.contains(&"keeping"), "{loads:?}");
    let root = packaging().parent().unwrap().to_owned();
    let output = Command::new(root.join("benches/peers/run"))
        .args(["--help"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && help.contains("--alone"), "{help}");
    let known =
        help.split_whitespace().map(|word| word.trim_matches([',', ':', ';', '.'])).collect::<Vec<_>>();
    assert!(loads.iter().all(|load| known.contains(load)), "{loads:?} {help}");
    let syntax = Command::new("bash").arg("-n").arg(packaging().join("guided")).status().unwrap();
    assert!(syntax.success());
}

/// `compose.yaml`, by a reader of YAML that is not ours.
fn compose() -> Value {
    let program = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let output =
        Command::new("python3").args(["-c", program]).arg(packaging().join("compose.yaml")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
#[ignore = "needs python3-yaml: tests/run"]
fn the_composition_fits_together() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let (config, balancer) = (
        fs::read_to_string(packaging().join("compose/config.toml")).unwrap(),
        fs::read_to_string(packaging().join("compose/haproxy.cfg")).unwrap(),
    );
    let proxies: Vec<&String> = services.keys().filter(|name| name.starts_with("proxy-")).collect();
    assert!(proxies.len() >= 2, "{proxies:?}");
    for name in &proxies {
        assert!(balancer.contains(&format!("server {name} {name}:8080")), "{name} gets no requests");
        for variable in ["APP_A", "APP_B"] {
            assert!(config.contains(&format!("${{{variable}}}")));
            assert!(services[*name]["environment"][variable].is_string(), "{name} {variable}");
        }
    }
    for (name, service) in services {
        for volume in texts(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            let is_there = match source.strip_prefix("./") {
                Some(file) => packaging().join(file).exists(),
                None => compose["volumes"].get(source).is_some(),
            };
            assert!(is_there, "{name}: {volume}");
        }
        for secret in texts(&service["secrets"]) {
            let file = compose["secrets"][secret]["file"].as_str().unwrap();
            assert_eq!(file, format!("./secrets/{secret}"), "as the head of the file makes them");
        }
        for needed in service["depends_on"].as_object().into_iter().flat_map(|needed| needed.keys()) {
            assert!(services.contains_key(needed), "{name} needs {needed}");
        }
    }
    for secret in compose["secrets"].as_object().unwrap().keys() {
        assert!(config.contains(&format!("/run/secrets/{secret}")), "{secret} is for nobody");
    }
    let store = config.split('@').nth(1).unwrap().split(':').next().unwrap();
    assert!(services.contains_key(store), "the config names the store {store}");
    let subnet = compose["networks"]["inside"]["ipam"]["config"][0]["subnet"].as_str().unwrap();
    assert!(config.contains(subnet), "the balancer is not trusted");
    let kept = fs::read_to_string(packaging().join("compose/valkey.conf")).unwrap();
    assert!(kept.contains("maxmemory-policy noeviction\n") && kept.contains("appendonly yes\n"));
}
