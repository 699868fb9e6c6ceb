use proptest::prelude::*;

use super::*;
use crate::bridge::app_session::Edit;
use crate::bridge::rules::AppIx;
use crate::bridge::testing::{at, beat_rules, pair, sent};

const TIMEOUT: Duration = Duration::from_secs(1200);

/// One that got its pair at 0 and has not been asked since.
fn live() -> AppSession {
    let mut app = AppSession::new(AppIx(0), at(0));
    app.learn(sent(0, 0, false), &pair("1", "a"), at(0));
    app.activity = at(0);
    app
}

fn next(rules: &BeatRules, app: &AppSession, now: u64) -> Next {
    Pace { rules, timeout: TIMEOUT, seed: 7 }.next(app, at(now))
}

#[test]
fn it_is_due_a_third_of_the_timeout_after_the_apps_own_last_request() {
    let (rules, mut app) = (beat_rules(), live());
    assert_eq!(next(&rules, &app, 1), Next::Later(at(400)));
    assert_eq!(next(&rules, &app, 400), Next::Now);
    app.request_began(at(300));
    app.request_ended(at(302));
    assert_eq!(next(&rules, &app, 303), Next::Later(at(702)));
    let rules = BeatRules { every: Some(Duration::from_secs(60)), ..rules };
    assert_eq!(next(&rules, &app, 303), Next::Later(at(362)));
}

#[test]
fn traffic_that_renews_nothing_postpones_it_to_two_thirds_at_most() {
    let (rules, mut app) = (beat_rules(), live());
    for now in (0..790).step_by(10) {
        app.request_began(at(now));
        app.request_ended(at(now));
        assert_eq!(next(&rules, &app, now), Next::Later(at((now + 400).min(800))));
    }
    assert_eq!(next(&rules, &app, 800), Next::Now);
    // The app set the same token again: proven renewed.
    app.learn(app.sent(at(790), false), &pair("1", "a"), at(790));
    assert_eq!(next(&rules, &app, 800), Next::Later(at(1180)));
}

#[test]
fn jitter_moves_it_within_its_range_and_asking_twice_does_not() {
    let rules = BeatRules { jitter_percent: 20, ..beat_rules() };
    let mut dues = Vec::new();
    for count in 0..500 {
        let mut app = live();
        app.beat.count = count;
        let Next::Later(due) = next(&rules, &app, 1) else { panic!("not due yet") };
        assert_eq!(next(&rules, &app, 2), Next::Later(due));
        assert!(due >= at(320) && due <= at(480), "{due:?}");
        dues.push(due);
    }
    dues.sort();
    assert!(dues[0] < at(335) && dues[499] > at(465), "the whole range is used");
    assert!((at(390)..at(410)).contains(&dues[250]), "evenly");
}

#[test]
fn a_request_in_flight_holds_it_back_for_half_the_timeout_and_no_longer() {
    let (rules, mut app) = (beat_rules(), live());
    app.request_began(at(100));
    for now in [400, 500, 699] {
        assert!(
            matches!(next(&rules, &app, now), Next::Later(then) if then > at(now) && then <= at(now + 5))
        );
    }
    assert_eq!(next(&rules, &app, 700), Next::Now);
    app.request_ended(at(700));
    assert_eq!(next(&rules, &app, 700), Next::Later(at(800)), "two thirds since it was last proven");
}

#[test]
fn its_limit_counts_from_the_last_activity_in_the_app_itself() {
    let rules = BeatRules { limit: Some(Duration::from_secs(3600)), ..beat_rules() };
    let mut app = live();
    (app.last_request, app.renewed) = (at(3500), at(3500));
    assert_eq!(next(&rules, &app, 3599), Next::Later(at(3900)));
    assert_eq!(next(&rules, &app, 3600), Next::Stop);
    app.activity = at(3600);
    assert_eq!(next(&rules, &app, 3900), Next::Now);
}

#[test]
fn one_in_flight_at_most_and_none_for_what_is_dead() {
    let (rules, mut app) = (beat_rules(), live());
    app.beat.in_flight = true;
    assert_eq!(next(&rules, &app, 400), Next::Later(at(405)));
    app.beat.in_flight = false;
    app.beat.stopped = true;
    assert_eq!(next(&rules, &app, 400), Next::Stop);
    app.beat.stopped = false;
    app.drop_token();
    assert_eq!(next(&rules, &app, 400), Next::Stop);
}

#[test]
fn what_proves_nothing_backs_off_up_to_the_interval() {
    let (rules, mut app) = (beat_rules(), live());
    app.beat.at = at(2000);
    for (failures, distance) in [(0, 100), (1, 200), (2, 400), (3, 400), (200, 400)] {
        app.beat.failures = failures;
        assert_eq!(next(&rules, &app, 2001), Next::Later(at(2000 + distance)), "{failures}");
    }
}

fn evidence(status: u16) -> Evidence {
    let learned = Learned::default();
    Evidence { status: Some(status), redirects: false, contains: true, learned, canary: CanarySeen::Unknown }
}

fn verdict(evidence: &Evidence) -> Verdict {
    judge(&beat_rules(), evidence)
}

#[test]
fn every_status_has_its_verdict() {
    for (statuses, expected) in [
        (&[200, 204, 299][..], Verdict::Alive),
        (&[401, 403], Verdict::SignedOut),
        (&[404, 405, 408, 410, 425, 429, 500, 502, 503, 504, 599, 400, 409, 451], Verdict::Unreachable),
    ] {
        for &status in statuses {
            assert_eq!(verdict(&evidence(status)), expected, "{status}");
        }
    }
    for status in [301, 302, 303, 307, 308] {
        assert_eq!(verdict(&Evidence { redirects: true, ..evidence(status) }), Verdict::SignedOut);
    }
    assert_eq!(verdict(&Evidence { status: None, ..evidence(0) }), Verdict::Unreachable);
}

#[test]
fn a_status_that_the_config_allows_is_alive_whatever_it_is() {
    let mut rules = beat_rules();
    rules.alive.status = vec![(200, 299), (302, 302), (403, 404), (503, 503)];
    for status in [302, 403, 404, 503] {
        assert_eq!(judge(&rules, &evidence(status)), Verdict::Alive, "{status}");
    }
    assert_eq!(judge(&rules, &evidence(401)), Verdict::SignedOut);
    assert_eq!(
        judge(&rules, &Evidence { redirects: true, ..evidence(302) }),
        Verdict::SignedOut,
        "to a sign-in page"
    );
}

#[test]
fn what_the_cookies_did_goes_before_what_the_page_says() {
    let gone = Learned { gone: true, changed: true, ..Learned::default() };
    let changed = Learned { changed: true, ..Learned::default() };
    let page = Evidence { redirects: true, contains: false, canary: CanarySeen::Other, ..evidence(200) };
    assert_eq!(verdict(&Evidence { learned: gone, ..page }), Verdict::SignedOut);
    assert_eq!(verdict(&Evidence { learned: changed, ..page }), Verdict::Replaced);
    for learned in
        [Learned { renewed: true, ..Learned::default() }, Learned { rolled: true, ..Learned::default() }]
    {
        assert_eq!(verdict(&Evidence { learned, ..evidence(200) }), Verdict::Alive);
    }
    assert_eq!(
        verdict(&Evidence { learned: changed, ..evidence(500) }),
        Verdict::Unreachable,
        "an error proves nothing"
    );
}

#[test]
fn a_missing_text_is_signed_out_and_another_canary_is_reborn() {
    assert_eq!(verdict(&Evidence { contains: false, ..evidence(200) }), Verdict::SignedOut);
    assert_eq!(verdict(&Evidence { contains: false, ..evidence(404) }), Verdict::Unreachable);
    for (canary, expected) in [
        (CanarySeen::Other, Verdict::Reborn),
        (CanarySeen::Same, Verdict::Alive),
        (CanarySeen::First(9), Verdict::Alive),
        (CanarySeen::Unknown, Verdict::Alive),
    ] {
        assert_eq!(verdict(&Evidence { canary, ..evidence(200) }), expected);
    }
    assert_eq!(verdict(&Evidence { canary: CanarySeen::Other, ..evidence(500) }), Verdict::Unreachable);
}

#[test]
fn only_proof_of_death_stops_the_heartbeats() {
    let stopping: Vec<_> = Verdict::ALL.into_iter().filter(|verdict| verdict.stops()).collect();
    assert_eq!(stopping, [Verdict::Reborn, Verdict::Replaced, Verdict::SignedOut]);
}

proptest! {
    #[test]
    fn nothing_is_asked_of_a_token_that_is_stopped_or_absent(
        stopped: bool, deleted: bool, in_flight: bool, requests in 0u16..3, last in 0u64..5000, now in 0u64..10_000,
    ) {
        let mut app = live();
        if deleted {
            let edits: Vec<Edit<'_>> = pair("", "").into_iter().map(|edit| Edit { value: None, ..edit }).collect();
            app.learn(app.sent(at(1), false), &edits, at(1));
        }
        (app.beat.stopped, app.beat.in_flight, app.last_request) = (stopped, in_flight, at(last));
        (0..requests).for_each(|_| app.request_began(at(last)));
        let next = next(&beat_rules(), &app, now);
        prop_assert_eq!(next == Next::Stop, stopped || deleted);
        prop_assert!(next != Next::Now || !in_flight);
        if let Next::Later(then) = next {
            prop_assert!(then > at(now));
        }
    }

    /// However the person comes and goes, the app is never left alone for longer than two thirds of its timeout.
    #[test]
    fn an_app_hears_of_its_session_in_time(gaps in prop::collection::vec(1u64..300, 1..40), jitter in 0u8..=50) {
        let rules = BeatRules { jitter_percent: jitter, ..beat_rules() };
        let mut app = live();
        let mut now = 0;
        for gap in gaps {
            now += gap;
            if next(&rules, &app, now) == Next::Now {
                (app.beat.at, app.renewed, app.last_request) = (at(now), at(now), at(now));
                app.beat.count += 1;
            } else {
                prop_assert!(at(now) < app.renewed.plus(TIMEOUT * 2 / 3));
                app.request_began(at(now));
                app.request_ended(at(now));
            }
        }
    }
}
