use super::support::{World, extension, pass, run};

/// AppA times out after 10 s; 24 s are spent in AppB; back in AppA the start time is unchanged and the current time is
/// 24 s later. Links carry no ids.
async fn the_walk(profile: &str) {
    let world = World::pair(profile, "");
    let page = extension(profile);
    let mut browser = world.browser();
    let first = browser.get(&format!("/AppA/index.{page}")).await;
    let other = browser.get(&format!("/AppB/index.{page}")).await;
    for _ in 0..6 {
        pass(4.0).await;
        let again = browser.get(&format!("/AppB/index.{page}")).await;
        assert_eq!(again.started(), other.started(), "{profile}: AppB's own session");
    }
    let back = browser.get(&format!("/AppA/index.{page}")).await;
    assert_eq!(back.started(), first.started(), "{profile}: the session of before");
    assert!(back.json()["now"].as_u64().unwrap() >= first.json()["now"].as_u64().unwrap() + 24_000);
    assert_eq!(world.starts("AppA"), 1, "{profile}");
}

#[test]
fn s3_1_the_demo_of_the_article_on_every_engine() {
    for profile in [
        "acf-strict",
        "acf-legacy",
        "acf-j2ee",
        "lucee",
        "lucee-j2ee",
        "openbd",
        "servlet",
        "php-lock",
        "aspnet",
        "express",
        "django",
        "rails",
    ] {
        run(the_walk(profile));
    }
}
