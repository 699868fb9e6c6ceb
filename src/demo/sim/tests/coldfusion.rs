//! Adobe's engines and OpenBD.

use super::*;

fn pair(browser: &Browser) -> String {
    format!("CFID={}&CFTOKEN={}", browser.cookie("CFID").unwrap(), browser.cookie("CFTOKEN").unwrap())
}

#[test]
fn cookies_of_each() {
    let issued = |profile| Browser::new().get(&mut sim(profile), "index").set;
    let legacy = issued(Profile::AcfLegacy);
    assert!(
        legacy[0].starts_with("CFID=") && legacy[0].ends_with(";path=/") && legacy[0].contains(";expires=")
    );
    assert!(!legacy[0].contains("HttpOnly"));
    let token = legacy[1].strip_prefix("CFTOKEN=").unwrap().split(';').next().unwrap();
    assert!((10_000_000..=99_999_999).contains(&token.parse::<u64>().unwrap()));
    let strict = issued(Profile::AcfStrict);
    assert!(strict[1].ends_with("; Path=/; HttpOnly") && !strict[1].contains("Secure"));
    // T0 is November 2023, and Adobe's cookies live for 30 years.
    assert!(strict[0].contains("-2053 "), "{}", strict[0]);
    let token = strict[1].strip_prefix("CFTOKEN=").unwrap().split(';').next().unwrap();
    assert_eq!(token.split('-').map(str::len).collect::<Vec<_>>(), [16, 8, 4, 4, 16]);
    let openbd = issued(Profile::OpenBd);
    assert!(openbd[0].ends_with("; Max-Age=283824000; Path=/"));
    let j2ee = issued(Profile::AcfJ2ee);
    assert!(j2ee[0].starts_with("JSESSIONID=") && j2ee[0].ends_with(".cfusion; Path=/; HttpOnly"));
    assert!(!j2ee[0].contains("xpires"));
    assert_eq!(j2ee.len(), 3);
}

/// The fight for one pair at `Path=/` since 2011, and none before.
#[test]
fn without_a_bridge_strict_loses_a_and_legacy_does_not() {
    assert!(!survives_a_visit_to_b(Profile::AcfStrict));
    assert!(!survives_a_visit_to_b(Profile::AcfJ2ee));
    assert!(survives_a_visit_to_b(Profile::AcfLegacy));
    assert!(survives_a_visit_to_b(Profile::OpenBd));
    assert!(survives_a_visit_to_b(Profile::Lucee));
}

#[test]
fn legacy_and_openbd_adopt_an_unknown_pair_in_silence() {
    for profile in [Profile::AcfLegacy, Profile::OpenBd] {
        let (mut app, mut ann) = (sim(profile), Browser::new());
        ann.plant("CFID", "7");
        ann.plant("CFTOKEN", "12345678");
        let got = ann.get(&mut app, "index");
        assert!(got.set.is_empty() && got.json()["fresh"] == true);
        assert!(app.knows("CFID=7&CFTOKEN=12345678"));
        // Dead and back under the same pair: only the start time shows it.
        let again = ann.later(11).get(&mut app, "index");
        assert!(again.set.is_empty());
        assert_eq!(again.started(), ann.now);
    }
}

#[test]
fn strict_issues_another_pair_for_an_unknown_or_expired_one() {
    let (mut app, mut ann) = (sim(Profile::AcfStrict), Browser::new());
    ann.get(&mut app, "index");
    let old = pair(&ann);
    assert!(app.knows(&old));
    let got = ann.later(10).get(&mut app, "index");
    assert_eq!(got.set.len(), 2);
    assert_ne!(pair(&ann), old);
    assert!(!app.knows(&old) && app.knows(&pair(&ann)));
}

#[test]
fn url_wins_over_form_and_form_over_cookie() {
    for profile in [Profile::AcfLegacy, Profile::AcfStrict, Profile::OpenBd] {
        let mut app = sim(profile);
        let mut browsers = [(); 3].map(|()| Browser::new());
        let labels = [0, 1, 2].map(|at| browsers[at].get(&mut app, "index").json()["session"].clone());
        let pairs =
            [0, 1, 2].map(|at| pair(&browsers[at]).replace("CFID", "cfid").replace("CFTOKEN", "cfToken"));
        let [ann, ..] = &mut browsers;
        let both = ann.post(&mut app, &format!("index?{}", pairs[1]), &pairs[2]);
        assert_eq!(both.json()["session"], labels[1], "{profile}");
        assert_eq!(ann.post(&mut app, "index", &pairs[2]).json()["session"], labels[2]);
        assert_eq!(ann.post(&mut app, "index", "").json()["session"], labels[0]);
        assert!(both.set.is_empty());
    }
}

#[test]
fn half_a_pair_is_none() {
    for profile in [Profile::AcfLegacy, Profile::AcfStrict, Profile::OpenBd] {
        let (mut app, mut ann) = (sim(profile), Browser::new());
        ann.plant("CFID", "7");
        assert_eq!(ann.get(&mut app, "index?CFTOKEN=12345678").set.len(), 2, "{profile}");
    }
}

#[test]
fn openbd_cuts_a_list_at_its_first_comma() {
    let (mut app, mut ann) = (sim(Profile::OpenBd), Browser::new());
    ann.get(&mut app, "index?CFID=1,2&CFTOKEN=11111111,3");
    assert!(app.knows("1_11111111"));
}

#[test]
fn rotate_keeps_the_content_under_a_new_pair_from_cf10_on() {
    let (mut app, mut ann) = (sim(Profile::AcfStrict), Browser::new());
    ann.get(&mut app, "set?k=v");
    let old = pair(&ann);
    assert_eq!(ann.later(1).get(&mut app, "rotate").set.len(), 2);
    assert!(!app.knows(&old));
    let index = ann.get(&mut app, "index");
    assert_eq!((index.started(), index.json()["data"]["k"].as_str()), (T0, Some("v")));
    assert_eq!((app.counts().starts, app.counts().rotations), (1, 1));
    for profile in [Profile::AcfLegacy, Profile::OpenBd] {
        assert_eq!(Browser::new().get(&mut sim(profile), "rotate").json()["rotated"], false);
    }
}

#[test]
fn invalidate_gives_new_ids_with_the_next_request() {
    for profile in [Profile::AcfStrict, Profile::AcfJ2ee] {
        let (mut app, mut ann) = (sim(profile), Browser::new());
        ann.get(&mut app, "index");
        assert!(ann.get(&mut app, "invalidate").set.is_empty());
        let next = ann.get(&mut app, "index");
        assert!(!next.set.is_empty() && next.json()["fresh"] == true, "{profile}");
    }
}

#[test]
fn links_carry_ids_only_without_cookies_and_cflocation_always() {
    for profile in [Profile::AcfLegacy, Profile::AcfStrict, Profile::OpenBd] {
        let (mut app, mut ann) = (sim(profile), Browser::new());
        assert!(ann.get(&mut app, "links").body.contains("/AppA/index.cfm?CFID="));
        assert!(!ann.get(&mut app, "links").body.contains("CFID"));
        let location = ann.get(&mut app, "relocate").header("location").to_owned();
        assert_eq!(location, format!("/AppA/index.cfm?{}", pair(&ann)));
    }
    let (mut app, mut ann) = (sim(Profile::AcfJ2ee), Browser::new());
    let body = ann.get(&mut app, "links").body;
    assert!(body.contains("/AppA/index.cfm;jsessionid=") && body.contains("&jsessionid="), "{body}");
}

#[test]
fn links_to_the_other_application() {
    let options =
        SimOptions { link_to: Some("/AppB/".to_owned()), ..SimOptions::new(Profile::AcfLegacy, "AppA") };
    let (mut app, mut ann) = (Sim::new(options), Browser::new());
    ann.get(&mut app, "index");
    let named = format!("/AppB/index.cfm?{}", pair(&ann).replace("CFID", "AID").replace("CFTOKEN", "ATOKEN"));
    let body = ann.get(&mut app, "links").body;
    assert!(body.contains(&named) && body.contains(&format!("/AppB/index.cfm?{}", pair(&ann))), "{body}");
}

#[test]
fn builder_names_stand_for_the_cookies() {
    for profile in [Profile::AcfLegacy, Profile::AcfStrict, Profile::OpenBd, Profile::Lucee] {
        let (mut app, mut builder, mut panel) = (sim(profile), Browser::new(), Browser::new());
        let xml = builder.post(&mut app, "builder.xml", "<event/>").body;
        let at = xml.find("<![CDATA[<html>").unwrap();
        let url = xml[at..].split("0;url=").nth(1).unwrap().split('"').next().unwrap();
        let url = url.strip_prefix("http://apps.test").unwrap();
        assert!(url.starts_with("/AppA/index.cfm?builderCFID=") && url.contains("&builderCFTOKEN="), "{url}");
        panel.get(&mut app, url);
        assert_eq!(app.counts().starts, 1, "{profile}");
        let half = url.split('&').next().unwrap();
        Browser::new().get(&mut app, half);
        assert_eq!(app.counts().starts, 2, "{profile}");
    }
}

#[test]
fn the_idiom_against_bots_gives_two_seconds_without_a_cfid_cookie() {
    let options = SimOptions { bot_idiom: true, ..SimOptions::new(Profile::AcfStrict, "AppA") };
    let (mut app, mut ann) = (Sim::new(options), Browser::new());
    ann.get(&mut app, "index");
    assert_eq!(app.live_sessions(T0 + 1999), 1);
    assert_eq!(app.live_sessions(T0 + 2000), 0);
    ann.later(3).get(&mut app, "index");
    let now = ann.later(1).now;
    ann.get(&mut app, "index");
    assert_eq!(app.live_sessions(now + 60_000), 1);
}

#[test]
fn j2ee_hangs_on_jsessionid_and_not_on_the_pair() {
    let (mut app, mut ann) = (sim(Profile::AcfJ2ee), Browser::new());
    let label = ann.get(&mut app, "index").json()["session"].clone();
    let old = ann.cookie("JSESSIONID").unwrap().to_owned();
    ann.plant("CFID", "1");
    ann.plant("CFTOKEN", "2");
    assert_eq!(ann.get(&mut app, "index").json()["session"], label);
    ann.get(&mut app, "rotate");
    assert_eq!(ann.cookie("JSESSIONID"), Some(old.as_str()));
    assert_ne!(ann.cookie("CFID"), Some("1"));
    // Unknown or expired: the container issues another.
    ann.later(10).get(&mut app, "index");
    assert_ne!(ann.cookie("JSESSIONID"), Some(old.as_str()));
}
