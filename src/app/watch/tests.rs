use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::config;
use crate::names::Names;

const CONFIG: &str = "listen = \"127.0.0.1:0\"\n[apps.a]\nupstreams = \"http://h:1\"\n";
/// So long nobody looks by himself: it is the system that tells.
const NEVER: Duration = Duration::from_secs(100_000);
const DEADLINE: Duration = Duration::from_secs(60);

fn sources(path: &Path) -> Sources {
    config::read(path, &mut Names::default()).1
}

/// Does `change` to what is read for the config at `path`, and waits until it is noticed.
async fn noticed(mut watch: Watch, path: &Path, change: impl FnOnce()) {
    let before = sources(path);
    watch.look_at(&before);
    change();
    loop {
        timeout(DEADLINE, watch.changed()).await.expect("nobody notices");
        if sources(path) != before {
            return;
        }
    }
}

/// Both ways of noticing.
fn ways() -> [Watch; 2] {
    [Watch::every(NEVER), Watch { watcher: None, ..Watch::every(Duration::from_millis(50)) }]
}

#[tokio::test]
async fn a_file_that_is_written_in_place_or_replaced_is_noticed() {
    for watch in ways() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("config.toml"), directory.path().join(".config.toml.swp"));
        fs::write(&path, CONFIG).unwrap();
        noticed(watch, &path, || fs::write(&path, CONFIG.replace("h:1", "h:2")).unwrap()).await;
        noticed(Watch::every(NEVER), &path, || {
            fs::write(&other, CONFIG.replace("h:1", "h:3")).unwrap();
            fs::rename(&other, &path).unwrap();
        })
        .await;
        noticed(Watch::every(NEVER), &path, || fs::remove_file(&path).unwrap()).await;
        noticed(Watch::every(NEVER), &path, || fs::write(&path, CONFIG).unwrap()).await;
    }
}

#[tokio::test]
async fn links_that_are_swapped_above_a_file_are_noticed() {
    for watch in ways() {
        // As Kubernetes mounts a ConfigMap.
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (folder, port) in [("..1", "h:1"), ("..2", "h:2")] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("config.toml"), CONFIG.replace("h:1", port)).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/config.toml", at("config.toml")).unwrap();
        noticed(watch, &at("config.toml"), || {
            symlink("..2", at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_file_behind_a_link_into_another_directory_is_noticed() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, real) = (here.path().join("config.toml"), there.path().join("real.toml"));
    fs::write(&real, CONFIG).unwrap();
    symlink(&real, &path).unwrap();
    noticed(Watch::every(NEVER), &path, || fs::write(&real, CONFIG.replace("h:1", "h:2")).unwrap()).await;
}

#[tokio::test]
async fn what_a_config_includes_and_names_as_a_secret_is_noticed_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let secret = at("token");
    fs::create_dir(at("apps")).unwrap();
    fs::write(&secret, "one\n").unwrap();
    let token = format!("admin.token = \"${{file:{}}}\"\n", secret.display());
    let text = format!("include = \"apps/*.toml\"\nlisten = \"127.0.0.1:0\"\n{token}");
    fs::write(at("config.toml"), text).unwrap();
    let app = "[apps.b]\nupstreams = \"http://h:1\"\n";
    noticed(Watch::every(NEVER), &at("config.toml"), || fs::write(at("apps/b.toml"), app).unwrap()).await;
    noticed(Watch::every(NEVER), &at("config.toml"), || fs::write(&secret, "two\n").unwrap()).await;
}

#[tokio::test]
async fn what_is_none_of_the_config_is_not_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, CONFIG).unwrap();
    let mut watch = Watch::every(NEVER);
    watch.look_at(&sources(&path));
    for n in 0..5 {
        fs::write(directory.path().join(format!("access-{n}.log")), "x").unwrap();
        // Reading is no change either.
        sources(&path);
    }
    assert!(timeout(Duration::from_secs(1), watch.changed()).await.is_err());
}
