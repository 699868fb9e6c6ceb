//! What becomes of people who are signed in when the proxy is put before their apps.

use super::{Config, units};
use crate::bridge::rules::{CookieMode, Mode};

/// What the first start, when nobody has a session here yet, has to say; nothing where it changes nothing for anybody.
#[must_use]
pub fn newcomers(config: &Config) -> Option<String> {
    let bridge = &config.routes.bridge;
    let taken = config.routes.routes().iter().filter(|route| {
        route.rules.session.as_ref().is_some_and(|session| session.cookies != CookieMode::Pass)
    });
    let names: Vec<&str> = taken.map(|route| &*route.rules.name).collect();
    if names.is_empty() || bridge.mode == Mode::Release {
        return None;
    }
    let names = names.join(", ");
    Some(match bridge.adopt_cookies {
        Some(window) => format!(
            "nobody has a session here yet: who is signed in at {names} stays so; for {} after the first request to an app \
             browsers may bring its cookies",
            units::shown(window)
        ),
        None => format!(
            "nobody has a session here yet: who is signed in at {names} now has to sign in once more, for the cookies that \
             browsers have already are dropped; bridge.adopt_cookies = \"12h\" would take them over for that long"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;
    use crate::names::Names;

    fn says(more: &str) -> Option<String> {
        let toml = format!(
            "listen = \"127.0.0.1:0\"\n{more}\n[apps.a]\nupstreams = [\"http://127.0.0.1:1\"]\nsession.engine = \"php\"\n"
        );
        let (config, _) = load_str("a.toml", &toml, &mut Names::default()).unwrap();
        newcomers(&config)
    }

    #[test]
    fn the_first_start_says_who_has_to_sign_in_again() {
        assert!(says("").is_some_and(|text| text.contains("signed in at a now has to sign in once more")));
        assert!(says("bridge.adopt_cookies = \"2h\"").is_some_and(|text| text.contains("stays so; for 2h ")));
        assert_eq!(says("bridge.mode = \"release\""), None);
    }

    #[test]
    fn it_says_nothing_where_no_cookie_is_taken_from_anybody() {
        let toml = "listen = \"127.0.0.1:0\"\n[apps.a]\nupstreams = [\"http://127.0.0.1:1\"]\nsession.engine = \"php\"\n\
                    session.cookies = \"pass\"\n";
        let (config, _) = load_str("a.toml", toml, &mut Names::default()).unwrap();
        assert_eq!(newcomers(&config), None);
    }
}
