use super::*;
use crate::bridge::testing;

fn presets() -> Vec<Preset> {
    // Of Lucee the pair, which stands behind the container's id.
    let tokens = |engine| testing::session_rules(engine).tokens.into_iter().rev().take(1).collect();
    let preset = |engine, name| Preset { engine, name, tokens: tokens(engine) };
    vec![
        preset(Engine::Lucee, "lucee"),
        preset(Engine::Servlet, "servlet"),
        preset(Engine::Php, "php"),
        preset(Engine::Custom, "custom"),
    ]
}

fn given(name: &str, value: &str, http_only: bool) -> Given {
    let presets = presets();
    let fits = presets.iter().enumerate().filter_map(|(at, preset)| {
        let own = preset.part(name.as_bytes())?;
        own.shape.fits(value.as_bytes()).then_some((at, own.role))
    });
    Given { name: name.to_owned(), for_session: true, http_only, length: value.len(), fits: fits.collect() }
}

fn say(engine: Engine, state: (bool, bool), cookies: &[Given]) -> (Level, String) {
    let presets = presets();
    let name = presets.iter().find(|own| own.engine == engine).unwrap().name;
    let state = State { holds: state.0, shaped: state.1, names: vec!["PHPSESSID".to_owned()] };
    verdict(&testing::session_rules(engine), (name, &presets), &state, cookies)
}

const PHP_ID: &str = "0123456789abcdefghijklmnop";
const SERVLET_ID: &str = "0123456789ABCDEF0123456789ABCDEF";

#[test]
fn the_engines_own_token_is_good() {
    let (level, says) = say(Engine::Php, (true, true), &[given("PHPSESSID", PHP_ID, false)]);
    assert_eq!(
        (level, says.as_str()),
        (Level::Good, "it sets PHPSESSID; its session hangs on PHPSESSID, as engine php does it")
    );
}

#[test]
fn another_engines_token_is_named() {
    let (level, says) = say(Engine::Php, (false, true), &[given("JSESSIONID", SERVLET_ID, true)]);
    assert_eq!(level, Level::Warning);
    assert!(says.contains("token of servlet, not of php"), "{says}");
    let (level, says) = say(Engine::Php, (true, false), &[given("JSESSIONID", SERVLET_ID, true)]);
    assert!(level == Level::Warning && says.contains("that of servlet"), "{says}");
}

#[test]
fn a_cookie_that_looks_like_a_session_is_named_and_others_are_not() {
    let odd = given("SHOP_SID", "0123456789abcdef0123", true);
    let (level, says) = say(Engine::Php, (false, true), std::slice::from_ref(&odd));
    assert!(level == Level::Warning && says.contains("if SHOP_SID is its session"), "{says}");
    let (level, says) = say(Engine::Php, (true, true), &[given("PHPSESSID", PHP_ID, false), odd]);
    assert!(level == Level::Note && says.contains("SHOP_SID"), "{says}");
    for harmless in
        [given("csrftoken", PHP_ID, true), given("lang", "de", true), given("theme", PHP_ID, false)]
    {
        let (level, says) = say(Engine::Php, (true, true), &[given("PHPSESSID", PHP_ID, false), harmless]);
        assert_eq!(level, Level::Good, "{says}");
    }
}

#[test]
fn no_token_at_all_is_a_note() {
    let (level, says) = say(Engine::Php, (false, true), &[]);
    assert!(level == Level::Note && says.contains("it sets no cookies"), "{says}");
}
