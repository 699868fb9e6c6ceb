//! A value in a page that is the same as long as the session is: found by asking twice in one session and, in between, once
//! in another.
//!
//! Invariant: what is found holds for the three answers by the very code that heartbeats use, is no session id, and is never
//! shown itself: a rule says where it stands.

use std::collections::HashMap;

use http::HeaderName;
use regex::bytes::Regex;
use serde_json::Value;

use super::facts::Hop;
use super::links::{holds, spoken};
use crate::bridge::rules::Canary;
use crate::ping::reading;

/// Where a canary stands, as the config says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// `canary = { header = ".." }`.
    Header(String),
    /// `canary = { json = ".." }`.
    Json(String),
    /// `canary = { regex = ".." }`.
    Regex(String),
}

/// One page three times: by somebody, then by somebody else, then by the first again. In this order neither a clock nor a
/// counter can look like a canary.
#[derive(Clone, Copy)]
pub(super) struct Three<'a> {
    pub(super) first: &'a Hop,
    pub(super) other: &'a Hop,
    pub(super) again: &'a Hop,
}

/// Names that tell when a session began.
const GOOD: [&str; 9] =
    ["started", "start", "created", "creation", "since", "began", "begin", "begun", "born"];
/// Names of what changes while the session lives (at a sign-in), or is nobody's business.
const BAD: [&str; 15] = [
    "csrf",
    "xsrf",
    "token",
    "csrfmiddlewaretoken",
    "nonce",
    "viewstate",
    "verification",
    "sessionid",
    "session id",
    "jsessionid",
    "cfid",
    "cftoken",
    "urltoken",
    "phpsessid",
    "ticket",
];
/// Headers that say nothing of a session.
const HEADERS: [&str; 9] = [
    "date",
    "etag",
    "set-cookie",
    "content-length",
    "age",
    "last-modified",
    "expires",
    "location",
    "x-request-id",
];
/// A shorter value is no witness.
const SHORTEST: usize = 6;
/// A longer one is content.
const LONGEST: usize = 64;
/// Bytes before a value by which it is found again.
const CONTEXT: usize = 40;

/// The best canary of a page; `secrets` are values of cookies, of which it may neither be nor hold any.
pub(super) fn find(three: &Three<'_>, secrets: &[Vec<u8>]) -> Option<Spot> {
    let mut spots = [headers(three), json(three), texts(three)].concat();
    spots.retain(|(_, name)| !BAD.iter().any(|bad| holds(name, bad)));
    // A name that says so first; otherwise headers and JSON, which have no looks, before text.
    spots.sort_by_key(|(spot, name)| {
        (!GOOD.iter().any(|good| holds(name, good)), matches!(spot, Spot::Regex(_)))
    });
    spots.into_iter().map(|(spot, _)| spot).find(|spot| proves(spot, three, secrets))
}

/// True where heartbeats would see one value in the first and the last answer, and another one in between.
fn proves(spot: &Spot, three: &Three<'_>, secrets: &[Vec<u8>]) -> bool {
    let Some(rule) = spot.rule() else { return false };
    let see =
        |hop: &Hop| reading::canary(&rule, &hop.headers, hop.text.get(..reading::LIMIT).unwrap_or(&hop.text));
    let (Some(first), Some(other), Some(again)) = (see(three.first), see(three.other), see(three.again))
    else {
        return false;
    };
    let within = |one: &[u8], two: &[u8]| !one.is_empty() && memchr::memmem::find(two, one).is_some();
    let is_secret = secrets.iter().any(|secret| within(secret, &first) || within(&first, secret));
    first == again && first != other && (SHORTEST..=LONGEST).contains(&first.len()) && !is_secret
}

impl Spot {
    /// As heartbeats use it; `None` where it is none.
    fn rule(&self) -> Option<Canary> {
        Some(match self {
            Self::Header(name) => Canary::Header(name.parse::<HeaderName>().ok()?),
            Self::Json(path) => Canary::Json(path.as_str().into()),
            Self::Regex(regex) => Canary::Regex(Regex::new(regex).ok()?),
        })
    }
}

/// Each spot with the words of its name.
type Spots = Vec<(Spot, String)>;

fn headers(three: &Three<'_>) -> Spots {
    let names = three.first.headers.keys().map(HeaderName::as_str);
    let fit = names.filter(|name| !HEADERS.contains(name) && !name.starts_with("cf-"));
    fit.map(|name| (Spot::Header(name.to_owned()), spoken(name))).collect()
}

fn json(three: &Three<'_>) -> Spots {
    // ColdFusion puts `//` before JSON where `secureJSON` is on.
    let text = three.first.text.trim_ascii();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = text.strip_prefix(b"//").unwrap_or(text);
    let mut spots = Vec::new();
    if let Ok(Value::Object(members)) = serde_json::from_slice(text) {
        for (name, value) in &members {
            leaves(name, value, &mut spots);
        }
    }
    spots
}

/// The numbers and strings in `value`, by their path with dots. Names that such a path cannot spell are left out.
fn leaves(path: &str, value: &Value, spots: &mut Spots) {
    if !path.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet)) || path.len() > 200
    {
        return;
    }
    match value {
        Value::Number(_) | Value::String(_) => spots.push((Spot::Json(path.to_owned()), spoken(path))),
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| !name.contains('.')) {
                leaves(&format!("{path}.{name}"), value, spots);
            }
        }
        _ => {}
    }
}

/// Numbers, times and ids in a page, each by the text before it, in the order in which they stand there.
fn texts(three: &Three<'_>) -> Spots {
    let [other, again] = [three.other, three.again].map(|hop| values(&hop.text).collect::<HashMap<_, _>>());
    let is_kept = |context: &str, value: &str| {
        again.get(context).is_some_and(|kept| *kept == value)
            && other.get(context).is_some_and(|changed| *changed != value)
    };
    let kept = values(&three.first.text).filter(|(context, value)| is_kept(context, value));
    kept.map(|(context, _)| {
        let regex = format!("{}([0-9A-Za-z][0-9A-Za-z:.-]*)", regex::escape(context));
        (Spot::Regex(regex), spoken(context))
    })
    .collect()
}

/// Runs of letters, digits and `:.-` with at least four digits, each with the text before it on its line.
fn values(text: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.lines().flat_map(|line| {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, ':' | '.' | '-');
        line.split(move |letter| !is_part(letter)).filter_map(move |value| {
            let digits = value.bytes().filter(u8::is_ascii_digit).count();
            let at = (value.as_ptr() as usize).checked_sub(line.as_ptr() as usize)?;
            let context = context(line.get(..at)?)?;
            (digits >= 4 && (SHORTEST..=LONGEST).contains(&value.len())).then_some((context, value))
        })
    })
}

/// The end of `before`, from the last tag or word on that makes it long enough to be found again; `None` where no letter is
/// in it.
fn context(before: &str) -> Option<&str> {
    let from = before.char_indices().rev().map(|(at, _)| at).take(CONTEXT).last()?;
    let tail = before.get(from..)?;
    let start =
        |mark: char| tail.char_indices().rfind(|(at, letter)| *letter == mark && tail.len() - at >= 12);
    let start = start('<').or_else(|| start(' '));
    let context = start.and_then(|(at, _)| tail.get(at..)).unwrap_or(tail).trim_start();
    context.bytes().any(|octet| octet.is_ascii_alphabetic()).then_some(context)
}

#[cfg(test)]
mod tests {
    use super::super::facts::testing::hop;
    use super::*;

    fn spot(kind: &str, bodies: [&str; 3]) -> Option<Spot> {
        spot_with(bodies.map(|body| hop("/", 200, &[("content-type", kind)], body)), &[])
    }

    fn spot_with([first, other, again]: [Hop; 3], secrets: &[Vec<u8>]) -> Option<Spot> {
        find(&Three { first: &first, other: &other, again: &again }, secrets)
    }

    #[test]
    fn a_field_that_stays_in_a_session_and_differs_between_two_is_the_canary() {
        let ping = |started: u64, now: u64| format!("{{\"now\":{now},\"started\":{started},\"user\":null}}");
        let (a, b, c) = (ping(1_000_000, 1_000_001), ping(1_000_007, 1_000_007), ping(1_000_000, 1_000_009));
        assert_eq!(spot("application/json", [&a, &b, &c]), Some(Spot::Json("started".into())));
        let deep = |started: u64| format!("//{{\"session\":{{\"begun\":\"{started}\"}}}}");
        let (a, b) = (deep(1_000_000), deep(1_000_001));
        assert_eq!(spot("application/json", [&a, &b, &a]), Some(Spot::Json("session.begun".into())));
    }

    #[test]
    fn a_page_shows_it_by_the_text_before_it() {
        let page = |started: u64, now: u64| {
            format!(
                "<p>Now <b>{now}</b>\n<p>Session since <output id=\"started\">{started}</output>, hits 1000000"
            )
        };
        let (a, b, c) =
            (page(1_767_225_600, 5_000_000), page(1_767_225_700, 5_000_001), page(1_767_225_600, 5_000_002));
        let Some(Spot::Regex(regex)) = spot("text/html", [&a, &b, &c]) else { panic!() };
        assert_eq!(regex, "<output id=\"started\">([0-9A-Za-z][0-9A-Za-z:.-]*)");
    }

    #[test]
    fn a_header_is_the_canary_too() {
        let ask = |value: &str| hop("/", 200, &[("x-session-started", value), ("etag", value)], "ok");
        let three = [ask("1767225600000"), ask("1767225600999"), ask("1767225600000")];
        assert_eq!(spot_with(three, &[]), Some(Spot::Header("x-session-started".into())));
    }

    #[test]
    fn clocks_counters_tokens_and_ids_are_none() {
        let of = |name: &str, values: [&str; 3]| {
            let bodies = values.map(|value| format!("{{\"{name}\":\"{value}\"}}"));
            spot("application/json", bodies.each_ref().map(String::as_str))
        };
        assert_eq!(of("x", ["1000001", "1000002", "1000003"]), None, "a clock or a counter");
        assert_eq!(of("x", ["1000001", "1000002", "1000002"]), None, "a slow clock");
        assert_eq!(of("x", ["1000001", "1000001", "1000001"]), None, "a constant");
        assert_eq!(of("x", ["10001", "10002", "10001"]), None, "too short");
        for bad in ["csrfToken", "cfid", "session-id-token", "__VIEWSTATE"] {
            assert_eq!(of(bad, ["1000001", "1000002", "1000001"]), None, "{bad}");
        }
        assert!(of("x", ["1000001", "1000002", "1000001"]).is_some());
        let ask = |id: &str| hop("/", 200, &[], &format!("{{\"x\":\"app_{id}\"}}"));
        let three = || [ask("abcdef123"), ask("abcdef456"), ask("abcdef123")];
        assert!(spot_with(three(), &[]).is_some());
        assert_eq!(spot_with(three(), &[b"abcdef123".to_vec()]), None, "the session's id is in it");
    }

    proptest::proptest! {
        #[test]
        fn whatever_pages_say_a_spot_holds_for_them(a in ".{0,200}", b in ".{0,200}") {
            let [first, other, again] = [&a, &b, &a].map(|text| hop("/", 200, &[], text));
            let three = Three { first: &first, other: &other, again: &again };
            if let Some(spot) = find(&three, &[]) {
                proptest::prop_assert!(proves(&spot, &three, &[]));
            }
        }
    }
}
