//! The presets of `session.engine`: names and shapes of the token, the app's usual timeout, cookies that
//! pass.
//!
//! Data only; each preset names where its facts come from. A shape says what an engine may issue, never who
//! sent it.

use std::time::Duration;

use crate::bridge::rules::{Disposition, Engine, PartRule, Shape, TokenRule};
use crate::probe::Preset;

/// The words of `session.engine`.
pub const NAMES: [(&str, Engine); 12] = [
    ("coldfusion", Engine::ColdFusion),
    ("lucee", Engine::Lucee),
    ("openbd", Engine::OpenBd),
    ("boxlang", Engine::BoxLang),
    ("servlet", Engine::Servlet),
    ("php", Engine::Php),
    ("aspnet", Engine::AspNet),
    ("aspnetcore", Engine::AspNetCore),
    ("django", Engine::Django),
    ("express", Engine::Express),
    ("rails", Engine::Rails),
    ("custom", Engine::Custom),
];

/// The word of `engine`.
#[must_use]
pub fn name(engine: Engine) -> &'static str {
    NAMES.iter().find(|(_, own)| *own == engine).map_or("custom", |(name, _)| name)
}

/// `session.type`: which token the session of a CFML engine hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionType {
    /// JSESSIONID as soon as the app sets one, else the pair.
    Auto,
    /// The pair CFID and CFTOKEN.
    Cf,
    /// JSESSIONID; the pair travels along.
    J2ee,
}

/// True for engines that have a `session.type`.
pub(super) const fn has_types(engine: Engine) -> bool {
    matches!(engine, Engine::ColdFusion | Engine::Lucee)
}

/// How long sessions of `engine` live where nobody says otherwise; `None` where the app always decides
/// itself.
#[must_use]
pub const fn timeout(engine: Engine) -> Option<Duration> {
    let minutes = match engine {
        // Adobe's server default; OpenBD took it over; ASP.NET's `sessionState timeout` and ASP.NET Core's
        // `IdleTimeout`.
        Engine::ColdFusion | Engine::OpenBd | Engine::AspNet | Engine::AspNetCore => 20,
        // Lucee's `0,0,30,0`; the Servlet containers' `session-timeout`.
        Engine::Lucee | Engine::BoxLang | Engine::Servlet => 30,
        // php.ini `session.gc_maxlifetime` = 1440 s.
        Engine::Php => 24,
        // Django's SESSION_COOKIE_AGE: two weeks.
        Engine::Django => 14 * 24 * 60,
        Engine::Express | Engine::Rails | Engine::Custom => return None,
    };
    Some(Duration::from_secs(minutes * 60))
}

/// Cookies of `engine` that are treated by name, after the app's own exceptions.
pub(super) const fn exceptions(engine: Engine) -> &'static [(&'static str, Disposition)] {
    match engine {
        // Scripts read it to fill the X-CSRFToken header (Django's documentation, "How to use CSRF
        // protection").
        Engine::Django => &[("csrftoken", Disposition::Pass)],
        _ => &[],
    }
}

/// What the tokens of all engines look like; of the CFML engines by their own sessions. A preset that cannot be read is
/// left out: a test proves that there is none.
#[must_use]
pub fn presets() -> Vec<Preset> {
    let preset = |&(name, engine): &(&'static str, Engine)| {
        tokens(engine, SessionType::Cf).ok().map(|tokens| Preset { engine, name, tokens })
    };
    NAMES.iter().filter_map(preset).collect()
}

/// One part of a token, as data.
#[derive(Clone, Copy)]
struct Part {
    name: &'static str,
    query: Option<&'static str>,
    path_param: Option<&'static str>,
    segment: bool,
    shape: &'static str,
}

impl Part {
    /// A part that rides in the cookie `name` only.
    const fn cookie(name: &'static str, shape: &'static str) -> Self {
        Self { name, query: None, path_param: None, segment: false, shape }
    }

    /// A part that rides in a cookie and a query parameter of one name.
    const fn both(name: &'static str, shape: &'static str) -> Self {
        Self { query: Some(name), ..Self::cookie(name, shape) }
    }

    fn rule(&self) -> Result<PartRule, regex::Error> {
        Ok(PartRule {
            name: self.name.into(),
            cookie: Some(self.name.into()),
            query: self.query.map(Into::into),
            path_param: self.path_param.map(Into::into),
            segment: self.segment,
            shape: Shape::new(self.shape)?,
        })
    }
}

/// One token, as data.
struct Token {
    parts: &'static [Part],
    rolling: bool,
}

impl Token {
    const fn of(parts: &'static [Part]) -> Self {
        Self { parts, rolling: false }
    }

    const fn rolling(parts: &'static [Part]) -> Self {
        Self { parts, rolling: true }
    }

    fn rule(&self) -> Result<TokenRule, regex::Error> {
        let parts = self.parts.iter().map(Part::rule).collect::<Result<_, _>>()?;
        Ok(TokenRule { parts, rolling: self.rolling })
    }
}

/// Octets of a cookie value that is opaque to us (RFC 6265 4.1.1 `cookie-octet`).
pub(super) const OPAQUE: &str = r"[!\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+";

/// A decimal counter (Adobe up to 9, OpenBD), or a GUID.
const CFID: &str = "[1-9][0-9]{0,18}|[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}";

/// A number, or Adobe's UUID form, 16 hex digits, `-` and 8-4-4-16 (on by default from ColdFusion 10), or a
/// GUID.
const CFTOKEN: &str = "[1-9][0-9]{0,18}|[0-9A-Fa-f]{16}-[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){2}[0-9A-Fa-f]{16}|\
                       [0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}";

/// Lucee looks at length and dashes only, and with `lucee.identify.client` the last twelve characters are `x`
/// and a hash that is not hex.
const LUCEE_CFID: &str = "[0-9A-Za-z]{8}-(?:[0-9A-Za-z]{4}-){3}[0-9A-Za-z]{12}";

/// Tomcat: 32 hex digits or more; Jetty: `node0...`; WebLogic and route suffixes after `.` or `!`.
const JSESSIONID: &str = r"[0-9A-Za-z_+-]{16,128}(?:[.!][0-9A-Za-z_.!:+-]+)?";

/// JSESSIONID of a CFML engine, which also prints it into queries (`URLToken`, `cflocation`).
const CFML_JSESSIONID: Part = Part {
    name: "JSESSIONID",
    query: Some("jsessionid"),
    path_param: Some("jsessionid"),
    segment: false,
    shape: JSESSIONID,
};

const ADOBE_PAIR: &[Part] = &[Part::both("CFID", CFID), Part::both("CFTOKEN", CFTOKEN)];
const LUCEE_PAIR: &[Part] = &[Part::both("CFID", LUCEE_CFID), Part::both("CFTOKEN", "[0-9A-Za-z-]{1,64}")];

/// The tokens of `engine`, whatever its sessions are kept by, the deciding one first; none for `custom`.
#[must_use]
pub fn preset(engine: Engine) -> Vec<TokenRule> {
    tokens(engine, SessionType::Auto).unwrap_or_default()
}

/// The tokens of `engine`, the deciding one first.
///
/// # Errors
/// Where a shape is no regular expression; a test proves that none is.
pub(super) fn tokens(engine: Engine, of: SessionType) -> Result<Vec<TokenRule>, regex::Error> {
    let list = match engine {
        // Adobe: developers' guide, "Configuring and using session variables"; APSB11-04.
        Engine::ColdFusion => cfml(ADOBE_PAIR, of),
        // lucee.runtime.PageContextImpl and a live 5.4 and 6.2: with J2EE sessions the pair changes while the
        // session lives.
        Engine::Lucee => cfml(LUCEE_PAIR, of),
        // OpenBD's cfSession: URL, then FORM, then cookie; always the pair.
        Engine::OpenBd => cfml(ADOBE_PAIR, SessionType::Cf),
        other => plain(other),
    };
    list.iter().map(Token::rule).collect()
}

/// The tokens of a CFML engine with this `pair`.
fn cfml(pair: &'static [Part], of: SessionType) -> Vec<Token> {
    match of {
        SessionType::Auto => vec![Token::of(&[CFML_JSESSIONID]), Token::of(pair)],
        SessionType::Cf => vec![Token::of(pair)],
        SessionType::J2ee => vec![Token::of(&[CFML_JSESSIONID]), Token::of(pair)],
    }
}

/// The tokens of engines that have one way only.
fn plain(engine: Engine) -> Vec<Token> {
    match engine {
        // BoxLang's web runtimes: `jsessionID` and nothing else; names are compared without case.
        Engine::BoxLang => vec![Token::of(
            const { &[Part { path_param: Some("jsessionid"), ..Part::cookie("jsessionID", JSESSIONID) }] },
        )],
        // Jakarta Servlet 7.1: the cookie JSESSIONID, the path parameter jsessionid.
        Engine::Servlet => vec![Token::of(
            const { &[Part { path_param: Some("jsessionid"), ..Part::cookie("JSESSIONID", JSESSIONID) }] },
        )],
        // php.ini: session.name, session.sid_length; `?PHPSESSID=` where use_only_cookies is off.
        Engine::Php => vec![Token::of(const { &[Part::both("PHPSESSID", "[a-zA-Z0-9,-]{22,256}")] })],
        // System.Web.SessionState.SessionId: 24 of a-z and 0-5, cookieless `/(S(id))/`; Mono: 24 upper-case
        // hex digits. The sign-in is a cookie of its own, renewed in the second half of its life.
        Engine::AspNet => vec![
            Token::of(
                const {
                    &[Part {
                        segment: true,
                        ..Part::cookie("ASP.NET_SessionId", "[a-z0-5]{24}|[0-9A-F]{24}")
                    }]
                },
            ),
            Token::rolling(const { &[Part::cookie(".ASPXAUTH", OPAQUE)] }),
            Token::rolling(const { &[Part::cookie(".MONOAUTH", OPAQUE)] }),
        ],
        // Microsoft.AspNetCore.Session: a protected payload; the sign-in cookie slides.
        Engine::AspNetCore => vec![
            Token::of(const { &[Part::cookie(".AspNetCore.Session", OPAQUE)] }),
            Token::rolling(const { &[Part::cookie(".AspNetCore.Cookies", OPAQUE)] }),
        ],
        // django.contrib.sessions: 32 of a-z and 0-9; longer, with `:`, where signed cookies keep the session
        // itself.
        Engine::Django => vec![Token::of(const { &[Part::cookie("sessionid", "[0-9A-Za-z:_.-]{32,}")] })],
        // express-session: `s:` (encoded or not), the id, `.`, a signature in base64.
        Engine::Express => vec![Token::of(
            const { &[Part::cookie("connect.sid", r"s(?:%3[Aa]|:)[0-9A-Za-z_-]+\.[0-9A-Za-z+/%=_-]{20,}")] },
        )],
        // ActionDispatch's CookieStore: the cookie is the session, written anew with every answer.
        Engine::Rails => vec![Token::rolling(const { &[Part::cookie("_app_session", OPAQUE)] })],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(engine: Engine, part: &str) -> Shape {
        let tokens = tokens(engine, SessionType::Auto).unwrap();
        let found = tokens.iter().flat_map(|token| &token.parts).find(|own| &*own.name == part);
        found.unwrap().shape.clone()
    }

    #[test]
    fn every_engine_but_custom_has_tokens_with_good_shapes() {
        for (name, engine) in NAMES {
            for of in [SessionType::Auto, SessionType::Cf, SessionType::J2ee] {
                let tokens = tokens(engine, of).unwrap();
                assert_eq!(tokens.is_empty(), engine == Engine::Custom, "{name}");
                assert!(tokens.iter().all(|token| !token.parts.is_empty()), "{name}");
            }
            assert_eq!(super::name(engine), name);
        }
    }

    #[test]
    fn the_type_says_which_token_decides() {
        let kinds = |of| {
            let tokens = tokens(Engine::Lucee, of).unwrap();
            tokens.iter().map(|token| (token.parts[0].name.to_string(), token.rolling)).collect::<Vec<_>>()
        };
        assert_eq!(kinds(SessionType::Auto), [("JSESSIONID".into(), false), ("CFID".into(), false)]);
        assert_eq!(kinds(SessionType::Cf), [("CFID".into(), false)]);
        assert_eq!(kinds(SessionType::J2ee), [("JSESSIONID".into(), false), ("CFID".into(), false)]);
    }

    #[test]
    fn shapes_take_what_the_engines_issue_and_nothing_longer() {
        let cases: [(Engine, &str, &[&str], &[&str]); 9] = [
            (
                Engine::ColdFusion,
                "CFID",
                &["1", "4711", "5278BEA6-1030-C351-3E33-390F2EAD02B9"],
                &["", "0", "01", "-1", "12345678901234567890", "1,2", "1 "],
            ),
            (
                Engine::ColdFusion,
                "CFTOKEN",
                &["10000000", "3ee6c307a7278c7b-5278BEA6-1030-C351-3E33390F2EAD02B9"],
                &["0", "3ee6c307a7278c7b", "x"],
            ),
            (
                Engine::Lucee,
                "CFID",
                &["5278bea6-1030-c351-3e33-390f2ead02b9", "5278bea6-1030-c351-3e33-xzzzzzzzzzz9"],
                &["4711", "5278bea6-1030-c351-3e33-390f2ead02b", "5278bea6-1030-c351-3e33_390f2ead02b9"],
            ),
            (Engine::Lucee, "CFTOKEN", &["0", "777"], &["", "a b"]),
            (
                Engine::Servlet,
                "JSESSIONID",
                &[
                    "0123456789ABCDEF0123456789ABCDEF",
                    "0123456789ABCDEF0123456789ABCDEF.node1",
                    "node01abcdefghijklmn.node0",
                ],
                &["short", "0123456789ABCDEF0123456789ABCDEF.", "0123456789ABCDEF;x"],
            ),
            (Engine::Php, "PHPSESSID", &["abcdefghijklmnopqrstuv,-"], &["abc", "abcdefghijklmnopqrstuv."]),
            (
                Engine::AspNet,
                "ASP.NET_SessionId",
                &["abcdefghijklmnopqrst0123", "0123456789ABCDEF01234567"],
                &["abcdefghijklmnopqrst6789", "ABCDEFGHIJKLMNOPQRSTUVWX"],
            ),
            (Engine::Django, "sessionid", &["abcdefghijklmnopqrstuvwxyz012345"], &["abc"]),
            (
                Engine::Express,
                "connect.sid",
                &["s%3Aabc_DEF-1.abcdefghijklmnopqrstuvwxyz%2B0", "s:abc.abcdefghijklmnopqrstuvwxyz+0"],
                &["abc", "s%3Aabc"],
            ),
        ];
        for (engine, part, good, bad) in cases {
            let shape = shape(engine, part);
            for value in good {
                assert!(shape.fits(value.as_bytes()), "{engine:?} {part} refuses {value}");
            }
            for value in bad {
                assert!(!shape.fits(value.as_bytes()), "{engine:?} {part} takes {value}");
            }
        }
    }
}
