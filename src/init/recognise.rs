//! Which engine an app runs on, by what it sets and says.
//!
//! Invariant: pure, and every answer comes with its reasons, in words without a value in them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::facts::{CookieFact, Hop, Seen};
use super::links::extension;
use super::place::Place;
use crate::bridge::rules::{Engine, Shape};
use crate::config::engines;
use crate::wire::path;

/// The engine of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recognised {
    /// Its word in the config.
    pub(super) engine: Engine,
    /// `session.type`, where it must be said.
    pub(super) kind: Option<&'static str>,
    /// Cookies that `session.tokens` has to name.
    pub(super) tokens: Vec<String>,
    /// Why.
    pub(super) reasons: Vec<String>,
    /// The cookies that carry its token, in the app's spelling.
    pub(super) cookies: Vec<String>,
    /// How long its token's cookie lives, where that says how long the session does.
    pub(super) timeout: Option<Duration>,
}

/// An expiry above this says nothing about a session's idle time.
const LONGEST_TIMEOUT_S: i64 = 24 * 3600;
/// A cookie's value of fewer bytes is no id.
const SHORTEST_ID: usize = 16;

/// What recognition looks at.
struct Traces<'a> {
    cookies: Vec<CookieFact>,
    /// Cookies that the second visitor got.
    others: Vec<CookieFact>,
    hops: Vec<&'a Hop>,
    extensions: BTreeSet<String>,
    segment: bool,
    path_param: bool,
}

/// The engine, where anything tells it.
pub(super) fn recognise(place: &Place, seen: &Seen) -> Option<Recognised> {
    let traces = Traces::of(place, seen);
    let by_cookie = [cfml, servlet, php, aspnet, aspnetcore, django, express, rails];
    let found = by_cookie
        .iter()
        .find_map(|ask| ask(&traces))
        .or_else(|| custom(&traces))
        .or_else(|| hearsay(&traces));
    found.map(|found| found.with_timeout(&traces))
}

impl<'a> Traces<'a> {
    fn of(place: &Place, seen: &'a Seen) -> Self {
        let hops: Vec<&Hop> = seen.hops().collect();
        let paths = || hops.iter().map(|hop| hop.target.split('?').next().unwrap_or_default());
        let locations = || hops.iter().map(|hop| hop.header("location"));
        let own = |url: &str| {
            url.find(&place.mount).and_then(|at| url.get(at..)).is_some_and(|path| {
                path::session_segment(path.split('?').next().unwrap_or_default(), place.mount.len()).is_some()
            })
        };
        let printed = |hop: &Hop| memchr::memmem::find(&hop.text, b";jsessionid=").is_some();
        Self {
            cookies: seen.cookies(),
            others: seen.others.iter().flat_map(super::facts::Visit::cookies).collect(),
            extensions: paths().filter_map(extension).map(str::to_ascii_lowercase).collect(),
            segment: locations().any(own) || paths().any(own),
            path_param: hops.iter().any(|hop| printed(hop))
                || locations().any(|to| to.contains(";jsessionid=")),
            hops,
        }
    }

    /// The cookie of that name, letter case ignored.
    fn cookie(&self, name: &str) -> Option<&CookieFact> {
        self.cookies.iter().find(|fact| fact.name.eq_ignore_ascii_case(name))
    }

    /// Some header has this name and holds that word.
    fn says(&self, name: &str, word: &str) -> bool {
        self.hops.iter().any(|hop| hop.header(name).to_ascii_lowercase().contains(word))
    }

    fn has(&self, extension: &str) -> bool {
        self.extensions.contains(extension)
    }

    /// How one of the extra cookies is spelt: all names that begin so.
    fn starting(&self, head: &str) -> impl Iterator<Item = &CookieFact> {
        self.cookies.iter().filter(move |fact| fact.name.starts_with(head))
    }
}

impl Recognised {
    fn new(engine: Engine, reason: impl Into<String>) -> Self {
        Self {
            engine,
            kind: None,
            tokens: Vec::new(),
            reasons: vec![reason.into()],
            cookies: Vec::new(),
            timeout: None,
        }
    }

    fn because(mut self, is_so: bool, reason: &str) -> Self {
        if is_so {
            self.reasons.push(reason.to_owned());
        }
        self
    }

    fn by<'a>(mut self, facts: impl IntoIterator<Item = &'a CookieFact>) -> Self {
        self.cookies.extend(facts.into_iter().map(|fact| fact.name.clone()));
        self
    }

    /// A cookie that lives for minutes says how long the session does. The pair of a CFML engine lives for decades.
    fn with_timeout(mut self, traces: &Traces<'_>) -> Self {
        let lives = self.cookies.iter().filter_map(|name| traces.cookie(name)?.seconds);
        let short = lives.filter(|seconds| (1..=LONGEST_TIMEOUT_S).contains(seconds)).min();
        self.timeout = short.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        self
    }
}

/// True where a preset's part of that name takes this value.
fn fits(engine: Engine, fact: &CookieFact) -> bool {
    let tokens = engines::preset(engine);
    let mut parts = tokens.iter().flat_map(|token| &token.parts);
    parts.any(|part| {
        part.cookie.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(&fact.name))
            && part.shape.fits(&fact.value)
    })
}

fn cfml(traces: &Traces<'_>) -> Option<Recognised> {
    let (id, token) = (traces.cookie("CFID")?, traces.cookie("CFTOKEN")?);
    let servlet = traces.cookie("JSESSIONID");
    let is_guid = fits(Engine::Lucee, id);
    let is_small = id.name == "cfid" && token.name == "cftoken";
    let mut found = if is_guid && (token.value == b"0" || is_small) {
        Recognised::new(Engine::Lucee, "sets cfid, a GUID, and cftoken")
            .because(token.value == b"0", "cftoken is 0, as Lucee issues it")
            .because(is_small, "the names are in lower case, as Lucee writes them")
    } else if is_openbd(traces) {
        Recognised::new(
            Engine::OpenBd,
            "sets CFID and CFTOKEN, readable by scripts, with a Max-Age of nine years",
        )
    } else {
        Recognised::new(Engine::ColdFusion, "sets CFID and CFTOKEN")
            .because(token.value.len() > 20, "CFTOKEN is a UUID, the default from ColdFusion 10 on")
    };
    found = found.by([id, token]);
    if let Some(servlet) = servlet.filter(|_| found.engine != Engine::OpenBd) {
        found.kind = Some("j2ee");
        found.reasons.push("sets JSESSIONID as well: its sessions are J2EE sessions".to_owned());
        found = found.by([servlet]);
    }
    Some(found)
}

/// OpenBD's `Max-Age`: nine years of 365 days.
const OPENBD_AGE_S: i64 = 9 * 365 * 86_400;

/// OpenBD's cookies name their age and are open to scripts. A lifetime is cut to 400 days by whoever reads it, so the
/// header itself is looked at.
fn is_openbd(traces: &Traces<'_>) -> bool {
    let age = format!("max-age={OPENBD_AGE_S}");
    traces.hops.iter().flat_map(|hop| hop.headers.get_all("set-cookie")).any(|line| {
        let line = String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase();
        line.starts_with("cftoken=") && line.contains(&age) && !line.contains("httponly")
    })
}

fn servlet(traces: &Traces<'_>) -> Option<Recognised> {
    let fact = traces.cookie("JSESSIONID");
    if fact.is_none() && !traces.path_param {
        return None;
    }
    let cfml = ["cfm", "cfc"].iter().any(|extension| traces.has(extension));
    let mut found = match fact {
        Some(fact) if fact.name == "jsessionID" || traces.has("bxm") => {
            Recognised::new(Engine::BoxLang, "sets jsessionID, in BoxLang's spelling")
        }
        _ if cfml => {
            let mut found = Recognised::new(Engine::ColdFusion, "sets JSESSIONID for pages of CFML (.cfm)");
            found.kind = Some("j2ee");
            found
        }
        Some(_) => Recognised::new(Engine::Servlet, "sets JSESSIONID"),
        None => Recognised::new(Engine::Servlet, "its links carry ;jsessionid=, and no cookie was set"),
    };
    found = found
        .because(fact.is_some() && traces.path_param, "links of its first page carry ;jsessionid=")
        .because(traces.has("jsp"), "its pages end in .jsp");
    Some(found.by(fact))
}

fn php(traces: &Traces<'_>) -> Option<Recognised> {
    let fact = traces.cookie("PHPSESSID").filter(|fact| fits(Engine::Php, fact))?;
    Some(said_of(Recognised::new(Engine::Php, "sets PHPSESSID"), traces).by([fact]))
}

fn aspnet(traces: &Traces<'_>) -> Option<Recognised> {
    let fact = traces.cookie("ASP.NET_SessionId");
    let found = match fact {
        Some(_) => Recognised::new(Engine::AspNet, "sets ASP.NET_SessionId"),
        None if traces.segment => Recognised::new(
            Engine::AspNet,
            "sends clients to a path with the session's id in it, /(S(..))/: cookieless",
        ),
        None => return None,
    };
    Some(said_of(found, traces).by(fact))
}

fn aspnetcore(traces: &Traces<'_>) -> Option<Recognised> {
    let fact = traces.starting(".AspNetCore.").find(|fact| fits(Engine::AspNetCore, fact))?;
    Some(Recognised::new(Engine::AspNetCore, format!("sets {}", fact.name)).by([fact]))
}

fn django(traces: &Traces<'_>) -> Option<Recognised> {
    let fact = traces.cookie("sessionid").filter(|fact| fits(Engine::Django, fact))?;
    let is_id = fact.value.len() == 32
        && fact.value.iter().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit());
    let csrf = traces.cookie("csrftoken").is_some();
    (is_id || csrf).then(|| {
        let reason = "sets csrftoken beside it";
        Recognised::new(Engine::Django, "sets sessionid").because(csrf, reason).by([fact])
    })
}

fn express(traces: &Traces<'_>) -> Option<Recognised> {
    let fact = traces.cookie("connect.sid").filter(|fact| fits(Engine::Express, fact))?;
    Some(said_of(Recognised::new(Engine::Express, "sets connect.sid"), traces).by([fact]))
}

/// Rails names its cookie after the app: `_shop_session`, sealed, with `--` before its signature.
fn rails(traces: &Traces<'_>) -> Option<Recognised> {
    let sealed = |value: &[u8]| memchr::memmem::find(value, b"--").is_some() && value.len() >= 40;
    let mut own = traces.starting("_").filter(|fact| fact.name.ends_with("_session"));
    let fact = own.find(|fact| sealed(&fact.value) && is_plain_name(&fact.name))?;
    let mut found =
        Recognised::new(Engine::Rails, format!("sets {}, sealed: the session itself", fact.name)).by([fact]);
    if fact.name != "_app_session" {
        found.tokens.push(fact.name.clone());
    }
    Some(found)
}

/// Cookies of an unknown engine that look like a session: hidden from scripts, gone with the browser, long, another value for
/// each visitor.
fn custom(traces: &Traces<'_>) -> Option<Recognised> {
    let like = |fact: &&CookieFact| {
        let differs = traces.others.iter().any(|other| other.name == fact.name && other.value != fact.value);
        differs
            && fact.http_only
            && fact.seconds.is_none_or(|seconds| seconds <= LONGEST_TIMEOUT_S)
            && fact.value.len() >= SHORTEST_ID
            && is_plain_name(&fact.name)
            && is_opaque(&fact.value)
    };
    // To the bridge, names that differ in letter case only are one.
    let mut facts: Vec<&CookieFact> = Vec::new();
    for fact in traces.cookies.iter().filter(like) {
        if !facts.iter().any(|own| own.name.eq_ignore_ascii_case(&fact.name)) {
            facts.push(fact);
        }
    }
    let first = facts.first()?;
    let names: Vec<&str> = facts.iter().map(|fact| fact.name.as_str()).collect();
    let reason = format!(
        "sets {}: hidden from scripts, gone with the browser, long, and another one for each visitor",
        names.join(" and ")
    );
    let mut found = said_of(Recognised::new(Engine::Custom, reason), traces).by([*first]);
    found.tokens = names.iter().map(|name| (*name).to_owned()).collect();
    found.cookies.clone_from(&found.tokens);
    Some(found)
}

/// No session was begun, but the app's pages say what they are made with.
fn hearsay(traces: &Traces<'_>) -> Option<Recognised> {
    let table: [(&[&str], Engine); 5] = [
        (&["cfm", "cfc"], Engine::ColdFusion),
        (&["jsp", "jsf", "do", "action"], Engine::Servlet),
        (&["php"], Engine::Php),
        (&["aspx", "ashx"], Engine::AspNet),
        (&["bxm"], Engine::BoxLang),
    ];
    let named = table.iter().find_map(|(list, engine)| {
        let extension = list.iter().find(|extension| traces.has(extension))?;
        let guess = if *engine == Engine::ColdFusion { " (Lucee's do too)" } else { "" };
        Some(Recognised::new(
            *engine,
            format!("its pages end in .{extension}{guess}; no page began a session"),
        ))
    });
    let powered = || {
        let words = [
            ("php", Engine::Php),
            ("express", Engine::Express),
            ("servlet", Engine::Servlet),
            ("jsp", Engine::Servlet),
        ];
        let (word, engine) = words.into_iter().find(|(word, _)| traces.says("x-powered-by", word))?;
        Some(Recognised::new(engine, format!("X-Powered-By says {word}; no page began a session")))
    };
    let aspnet = || {
        let is_so = traces.says("x-powered-by", "asp.net") || traces.says("x-aspnet-version", "");
        let has = traces.hops.iter().any(|hop| hop.headers.contains_key("x-aspnet-version"));
        (is_so && has)
            .then(|| Recognised::new(Engine::AspNet, "X-AspNet-Version is there; no page began a session"))
    };
    named.or_else(aspnet).or_else(powered)
}

/// What headers and names of pages add.
fn said_of(found: Recognised, traces: &Traces<'_>) -> Recognised {
    let powered = ["php", "asp.net", "express"].into_iter().find(|word| traces.says("x-powered-by", word));
    let version = traces.hops.iter().any(|hop| hop.headers.contains_key("x-aspnet-version"));
    let found = match powered {
        Some(word) => found.because(true, &format!("X-Powered-By says {word}")),
        None => found,
    };
    let ends = ["php", "aspx"].into_iter().find(|extension| traces.has(extension));
    let found = match ends {
        Some(extension) => found.because(true, &format!("its pages end in .{extension}")),
        None => found,
    };
    found.because(version, "X-AspNet-Version is there")
}

/// A cookie's name that a config and a comment take as it is.
fn is_plain_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet))
}

fn is_opaque(value: &[u8]) -> bool {
    Shape::new(r"[!\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+").is_ok_and(|shape| shape.fits(value))
}

#[cfg(test)]
mod tests;
