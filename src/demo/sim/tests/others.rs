//! PHP, ASP.NET, express, Rails, Django.

use super::*;

#[test]
fn php_adopts_well_shaped_ids_in_silence_and_no_others() {
    let (mut app, mut ann) = (sim(Profile::PhpLock), Browser::new());
    let set = ann.get(&mut app, "index").set;
    assert!(set[0].starts_with("PHPSESSID=") && set[0].ends_with("; path=/"));
    ann.plant("PHPSESSID", "made-up-by-somebody-else");
    assert!(ann.get(&mut app, "index").set.is_empty() && app.knows("made-up-by-somebody-else"));
    for bad in ["short", "has_an_underscore_in_its_id"] {
        ann.plant("PHPSESSID", bad);
        assert_eq!(ann.get(&mut app, "index").set.len(), 1, "{bad}");
    }
}

#[test]
fn php_lets_a_dead_session_answer_once_more_alone_and_not_with_company() {
    let (mut app, mut ann) = (sim(Profile::PhpLock), Browser::new());
    ann.get(&mut app, "index");
    assert_eq!(ann.later(60).get(&mut app, "index").started(), T0, "a read ignores age");
    let reborn = ann.get(&mut app, "index");
    assert!(reborn.started() == ann.now && reborn.set.is_empty(), "the sweep came after it");
    ann.later(60);
    Browser::new().at(ann.now).get(&mut app, "index");
    let reborn = ann.get(&mut app, "index");
    assert!(reborn.started() == ann.now && reborn.set.is_empty());
    // Whoever signs in with the last breath of a session has another, with what was in it.
    ann.later(60).sign_in(&mut app);
    assert_eq!(ann.get(&mut app, "index").user().as_deref(), Some("ann"));
}

#[test]
fn php_ids_in_urls_only_where_asked_for() {
    let on = SimOptions { url_ids: true, ..SimOptions::new(Profile::PhpLock, "AppA") };
    let (mut app, mut ann) = (Sim::new(on), Browser::new());
    let link = ann.get(&mut app, "links").json()["links"][0].as_str().unwrap().to_owned();
    assert!(link.contains("?PHPSESSID="));
    assert_eq!(Browser::new().get(&mut app, &link).json()["fresh"], false);
    let (mut app, mut ann) = (sim(Profile::PhpLock), Browser::new());
    ann.get(&mut app, "index");
    let url = format!("index?PHPSESSID={}", ann.cookie("PHPSESSID").unwrap());
    assert_eq!(Browser::new().get(&mut app, &url).json()["fresh"], true);
}

#[test]
fn php_regenerates_at_sign_in_and_deletes_its_cookie_at_sign_out() {
    let (mut app, mut ann) = (sim(Profile::PhpLock), Browser::new());
    ann.get(&mut app, "index");
    let old = ann.cookie("PHPSESSID").unwrap().to_owned();
    ann.sign_in(&mut app);
    assert!(!app.knows(&old));
    ann.get(&mut app, "logout");
    assert_eq!(ann.cookie("PHPSESSID"), None);
    assert_eq!(app.counts().logouts, 1);
}

#[test]
fn php_a_renewal_before_half_time_extends_nothing_as_on_mediawiki() {
    let late = SimOptions { renew_late: true, ..SimOptions::new(Profile::PhpLock, "AppA").timeout_ms(8000) };
    let (mut app, mut ann) = (Sim::new(late), Browser::new());
    ann.get(&mut app, "index");
    ann.later(3).get(&mut app, "ping");
    assert_eq!(app.sessions()[0].expires, T0 + 8000);
    ann.later(1).get(&mut app, "ping");
    assert_eq!(app.sessions()[0].expires, T0 + 12_000);
}

#[test]
fn php_a_bound_sign_in_wants_the_same_client_as_on_dokuwiki() {
    let bound = SimOptions { bind_client: true, ..SimOptions::new(Profile::PhpLock, "AppA") };
    for header in ["user-agent", "accept-language", "accept-encoding"] {
        let (mut app, mut ann) = (Sim::new(bound.clone()), Browser::new());
        ann.sign_in(&mut app);
        assert_eq!(ann.get(&mut app, "index").user().as_deref(), Some("ann"));
        ann.headers.push((header, "another"));
        assert_eq!(ann.get(&mut app, "index").user(), None, "{header}");
    }
}

#[test]
fn aspnet_cookies_and_adoption() {
    let (mut app, mut ann) = (sim(Profile::AspNet), Browser::new());
    let set = ann.get(&mut app, "index").set;
    assert!(set[0].starts_with("ASP.NET_SessionId=") && set[0].contains("; HttpOnly"));
    ann.plant("ASP.NET_SessionId", "abcdefghijklmnopqrst0123");
    assert!(ann.get(&mut app, "index").set.is_empty() && app.knows("abcdefghijklmnopqrst0123"));
    ann.plant("ASP.NET_SessionId", "abcdefghijklmnopqrst6789");
    assert_eq!(ann.get(&mut app, "index").set.len(), 1);
    ann.sign_in(&mut app);
    let id = ann.cookie("ASP.NET_SessionId").unwrap().to_owned();
    ann.get(&mut app, "invalidate");
    let after = ann.get(&mut app, "index");
    assert!(after.set.is_empty() && after.json()["fresh"] == true && app.knows(&id));
    assert_eq!(after.user().as_deref(), Some("ann"), "the ticket is no part of the session");
}

#[test]
fn aspnet_the_ticket_renews_in_the_second_half_of_its_life_only() {
    for (profile, name) in [(Profile::AspNet, ".ASPXAUTH"), (Profile::AspNetMono, ".MONOAUTH")] {
        let (mut app, mut ann) = (sim(profile), Browser::new());
        ann.sign_in(&mut app);
        let first = ann.cookie(name).unwrap().to_owned();
        assert!(ann.later(4).get(&mut app, "ping").set.is_empty());
        assert_eq!(ann.later(1).get(&mut app, "ping").set.len(), 1, "{profile}");
        assert_ne!(ann.cookie(name), Some(first.as_str()));
        ann.later(9).get(&mut app, "ping");
        assert_eq!(ann.get(&mut app, "index").user().as_deref(), Some("ann"));
        ann.plant(name, &first);
        assert_eq!(ann.get(&mut app, "index").user(), None, "an old ticket ends on its own time");
        ann.plant(name, &first.replace('A', "B"));
        assert_eq!(ann.get(&mut app, "index").user(), None);
    }
}

#[test]
fn aspnet_a_challenge_comes_back_to_the_page() {
    let (mut app, mut ann) = (sim(Profile::AspNet), Browser::new());
    let location = ann.get(&mut app, "private").header("location").to_owned();
    assert_eq!(location, "/AppA/login.aspx?ReturnUrl=%2FAppA%2Fprivate%2Easpx");
    let back = ann.post(&mut app, &location, "user=ann&password=x");
    assert_eq!(back.header("location"), "/AppA/private.aspx");
}

#[test]
fn aspnet_cookieless_lives_in_the_path() {
    let (mut app, mut ann) = (sim(Profile::AspNetCookieless), Browser::new());
    let first = ann.get(&mut app, "set.aspx?k=v");
    let location = first.header("location").to_owned();
    assert!(location.starts_with("/AppA/(S(") && location.ends_with("))/set.aspx?k=v"), "{location}");
    assert!(first.status == 302 && first.set.is_empty());
    assert_eq!(ann.get(&mut app, &location).json()["data"]["k"], "v");
    let root = location.split("set").next().unwrap();
    assert!(ann.get(&mut app, &format!("{root}relocate.aspx")).header("location").starts_with(root));
    // An expired id is not taken up again.
    let late = ann.later(10).get(&mut app, &format!("{root}index.aspx"));
    assert!(late.status == 302 && !late.header("location").starts_with(root));
    assert!(late.header("location").ends_with("))/index.aspx"));
}

#[test]
fn mono_spells_it_its_own_way_and_is_late() {
    let (mut app, mut ann) = (sim(Profile::AspNetMono), Browser::new());
    let set = ann.get(&mut app, "index").set;
    assert!(set[0].ends_with("; path=/AppA"), "{set:?}");
    let id = ann.cookie("ASP.NET_SessionId").unwrap();
    assert!(id.len() == 24 && id.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)));
    assert!(ann.sign_in(&mut app).set[0].ends_with("; path=/AppA"));
    for _ in 0..40 {
        Browser::new().get(&mut app, "index");
    }
    let late = app.live_sessions(T0 + 10_000);
    assert!(late > 0 && late < 41 && app.live_sessions(T0 + 40_000) == 0, "{late}");
    let options = SimOptions { cookieless: true, ..SimOptions::new(Profile::AspNetMono, "AppA") };
    let location = Browser::new().get(&mut Sim::new(options), "index.aspx").header("location").to_owned();
    assert!(
        location.starts_with("/AppA/(")
            && location.as_bytes()[7] != b'S'
            && location.ends_with(")/index.aspx")
    );
}

#[test]
fn mono_replaces_ids_that_it_does_not_know() {
    let (mut app, mut ann) = (sim(Profile::AspNetMono), Browser::new());
    for unknown in ["0123456789ABCDEF01234567", "abc"] {
        ann.plant("ASP.NET_SessionId", unknown);
        assert_eq!(ann.get(&mut app, "index").set.len(), 1);
        assert!(!app.knows(unknown));
    }
    let mut ann = Browser::new();
    ann.sign_in(&mut app);
    let ticket = ann.cookie(".MONOAUTH").unwrap().to_owned();
    ann.get(&mut app, "invalidate");
    let after = ann.get(&mut app, "index");
    assert!(after.set.len() == 1 && after.json()["fresh"] == true);
    assert_eq!(after.user().as_deref(), Some("ann"), "the ticket is no part of the session");
    let gone = ".MONOAUTH=; path=/AppA; expires=Tue, 12 Oct 1999 00:00:00 GMT";
    assert_eq!(ann.get(&mut app, "logout").set, [gone]);
    ann.plant(".MONOAUTH", &ticket);
    assert_eq!(ann.get(&mut app, "index").user().as_deref(), Some("ann"), "nor can it be taken back");
}

#[test]
fn mono_writes_the_new_id_behind_a_dead_one() {
    let options = SimOptions { cookieless: true, ..SimOptions::new(Profile::AspNetMono, "AppA") };
    let (mut app, mut ann) = (Sim::new(options), Browser::new());
    let dead = "/AppA/(0123456789ABCDEF01234567)/";
    let lost = ann.get(&mut app, &format!("{dead}index.aspx?k=v")).header("location").to_owned();
    let (_, new) = lost.split_once(dead).unwrap();
    assert!(new.starts_with('(') && new.ends_with(")/index.aspx?k=v"), "{lost}");
    assert_eq!(ann.get(&mut app, &lost).status, 404);
    assert_eq!(ann.get(&mut app, &format!("/AppA/{new}")).status, 200);
}

#[test]
fn express_signs_and_rolls() {
    let (mut app, mut ann) = (sim(Profile::Express), Browser::new());
    let set = ann.get(&mut app, "index").set;
    assert!(
        set[0].starts_with("connect.sid=s%3A")
            && set[0].contains("; Path=/; Expires=")
            && set[0].ends_with("; HttpOnly")
    );
    let good = ann.cookie("connect.sid").unwrap().to_owned();
    assert!(app.knows(&good));
    assert_ne!(ann.later(1).get(&mut app, "index").set, set, "rolling: another expiry");
    let (id, signature) = good.rsplit_once('.').unwrap();
    ann.plant("connect.sid", &format!("{id}.{}", signature.replace(|c: char| c.is_ascii_lowercase(), "x")));
    assert_eq!(ann.get(&mut app, "index").json()["fresh"], true);
    let still = SimOptions { rolling: false, ..SimOptions::new(Profile::Express, "AppA") };
    let (mut app, mut ann) = (Sim::new(still), Browser::new());
    ann.get(&mut app, "index");
    assert!(ann.get(&mut app, "index").set.is_empty());
    // A good signature on an id that is gone: another id.
    app.restart();
    assert_eq!(ann.get(&mut app, "index").set.len(), 1);
}

#[test]
fn express_regenerates_at_sign_in_and_destroys_without_a_cookie() {
    let (mut app, mut ann) = (sim(Profile::Express), Browser::new());
    ann.get(&mut app, "index");
    let old = ann.cookie("connect.sid").unwrap().to_owned();
    ann.sign_in(&mut app);
    assert!(!app.knows(&old));
    assert!(ann.get(&mut app, "logout").set.is_empty());
}

#[test]
fn express_renews_on_pages_that_never_look_at_the_session() {
    let (mut app, mut ann) = (sim(Profile::Express), Browser::new());
    assert!(ann.get(&mut app, "notouch").set.is_empty(), "nothing to tell yet");
    ann.get(&mut app, "index");
    let before = app.sessions()[0].expires;
    assert_eq!(ann.later(1).get(&mut app, "notouch").set.len(), 1);
    assert_eq!(app.sessions()[0].expires, before + 1000);
    app.restart();
    assert!(ann.get(&mut app, "notouch").set.is_empty(), "a dead id is left alone");
}

#[test]
fn rails_is_its_cookie() {
    let (mut app, mut ann) = (sim(Profile::Rails), Browser::new());
    let set = ann.get(&mut app, "set?k=1").set;
    assert!(set[0].starts_with("_app_session=") && set[0].ends_with("; path=/; HttpOnly; SameSite=Lax"));
    let old = ann.cookie("_app_session").unwrap().to_owned();
    ann.get(&mut app, "set?k=2");
    assert_ne!(ann.cookie("_app_session"), Some(old.as_str()));
    let now = ann.cookie("_app_session").unwrap().to_owned();
    ann.get(&mut app, "get");
    assert_ne!(ann.cookie("_app_session"), Some(now.as_str()), "every answer writes it anew");
    ann.plant("_app_session", &old);
    assert_eq!(ann.get(&mut app, "get").json()["data"]["k"], "1", "an older cookie is an older session");
    app.restart();
    assert_eq!(ann.get(&mut app, "get").json()["data"]["k"], "1", "nothing is kept in the process");
    assert!(!app.kill_session("s1"));
    ann.plant("_app_session", &old.replace('e', "f"));
    assert_eq!(ann.get(&mut app, "get").json()["fresh"], true);
}

fn token(browser: &Browser) -> String {
    format!("csrfmiddlewaretoken={}", browser.cookie("csrftoken").unwrap())
}

#[test]
fn django_wants_its_token_and_its_host() {
    let (mut app, mut ann) = (sim(Profile::Django), Browser::new());
    assert_eq!(ann.sign_in(&mut app).status, 403);
    let form = ann.get(&mut app, "login?x");
    let line = form.set.iter().find(|line| line.starts_with("csrftoken=")).unwrap();
    assert!(
        !line.contains("HttpOnly")
            && form.body.contains(&format!("value=\"{}\"", ann.cookie("csrftoken").unwrap()))
    );
    let fields = format!("user=ann&password=x&{}", token(&ann));
    ann.headers.push(("origin", "https://elsewhere.test"));
    assert_eq!(ann.post(&mut app, "login", &fields).status, 403);
    ann.headers.pop();
    ann.headers.push(("origin", "https://apps.test"));
    assert_eq!(ann.post(&mut app, "login", &fields).status, 302);
    assert_eq!(ann.post(&mut app, "set", &fields).status, 403, "the sign-in changed the token");
}

#[test]
fn django_rotates_at_sign_in_and_signs_out_by_post_only() {
    let (mut app, mut ann) = (sim(Profile::Django), Browser::new());
    let set = ann.get(&mut app, "login").set;
    let line = set.iter().find(|line| line.starts_with("sessionid=")).unwrap();
    assert!(line.contains("; HttpOnly; Max-Age=10; Path=/; SameSite=Lax"), "{line}");
    let old = ann.cookie("sessionid").unwrap().to_owned();
    let fields = format!("user=ann&password=x&{}", token(&ann));
    ann.post(&mut app, "login", &fields);
    assert!(!app.knows(&old) && app.knows(ann.cookie("sessionid").unwrap()));
    assert_eq!(ann.get(&mut app, "logout").status, 405);
    assert_eq!(ann.get(&mut app, "index").user().as_deref(), Some("ann"));
    let fields = token(&ann);
    let out = ann.post(&mut app, "logout", &fields);
    assert!(out.status == 302 && ann.cookie("sessionid").is_none());
    assert_eq!(app.counts().logouts, 1);
}

#[test]
fn django_slides_only_when_saved() {
    let still = SimOptions { rolling: false, ..SimOptions::new(Profile::Django, "AppA").timeout_ms(10_000) };
    let (mut app, mut ann) = (Sim::new(still), Browser::new());
    ann.get(&mut app, "ping");
    assert!(ann.later(5).get(&mut app, "ping").set.is_empty());
    assert_eq!(app.sessions()[0].expires, T0 + 10_000);
    assert_eq!(ann.get(&mut app, "set?k=v").set.len(), 1);
    assert_eq!(app.sessions()[0].expires, T0 + 15_000);
    ann.later(10);
    let old = ann.cookie("sessionid").unwrap().to_owned();
    assert_eq!(ann.get(&mut app, "get").json()["fresh"], true);
    assert_ne!(ann.cookie("sessionid"), Some(old.as_str()));
}

#[test]
fn django_saves_after_every_page_where_it_is_told_to() {
    for (rolling, sets) in [(true, 1), (false, 0)] {
        let options = SimOptions { rolling, ..SimOptions::new(Profile::Django, "AppA").timeout_ms(10_000) };
        let (mut app, mut ann) = (Sim::new(options), Browser::new());
        assert!(ann.get(&mut app, "notouch").set.is_empty(), "nothing to save yet");
        ann.get(&mut app, "ping");
        assert_eq!(ann.later(5).get(&mut app, "notouch").set.len(), sets);
        app.restart();
        assert_eq!(ann.get(&mut app, "notouch").set.len(), sets, "another id");
    }
}
