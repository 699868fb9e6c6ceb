//! The draft: a small config with comments that say why, from what was found out about each app.
//!
//! Invariant: whatever was found, the text is a config without mistakes, and no value of a cookie is in it.

mod ways;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::canary::Spot;
use super::choose::{Choice, Chosen, Touch};
use super::facts::{CookieFact, SignOut};
use super::place::Place;
use super::recognise::Recognised;
use crate::bridge::rules::Engine;
use crate::config::engines;
use crate::wire::jar::path_match;

/// An app as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct App {
    /// Its name in the config.
    pub(super) name: String,
    pub(super) place: Place,
    /// Its engine, where anything tells it.
    pub(super) engine: Option<Recognised>,
    pub(super) choice: Choice,
    /// Public targets of all that was looked at: first what was asked for first, then where that led, then the rest.
    pub(super) pages: Vec<String>,
    pub(super) sign_in: Vec<String>,
    pub(super) sign_out: Vec<SignOut>,
    /// The cookies that it sets.
    pub(super) cookies: Vec<CookieFact>,
    /// `.cfm` and the like; empty where its pages have none.
    pub(super) extension: String,
    /// True where the server takes `/appa/` for `/AppA/`.
    pub(super) is_iis: bool,
    /// What else is worth saying.
    pub(super) notes: Vec<String>,
}

/// What the command line says about the draft.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Where browsers will connect.
    pub(super) listen: SocketAddr,
    /// The timeout of all apps, where it is known.
    pub(super) timeout: Option<Duration>,
}

/// Pages of the list of those that were not chosen.
const MOST_OTHERS: usize = 8;
/// Columns of a comment.
const WIDTH: usize = 110;

/// Writes the config.
pub(super) fn draft(apps: &[App], wanted: Wanted) -> String {
    let mut out = Text::default();
    out.say(
        "Drafted by `sessionbridge init` from what an anonymous visitor sees of these apps. Read it, then:",
    );
    out.say("`sessionbridge check FILE` and `sessionbridge run --config FILE`. config.toml.example explains every key.");
    out.key("listen", &quoted(&wanted.listen.to_string()));
    let collisions = collisions(apps);
    if !collisions.is_empty() {
        out.blank();
        collisions.iter().for_each(|text| out.say(text));
    }
    for app in apps {
        out.blank();
        table(&mut out, app, apps, wanted);
    }
    out.0
}

fn table(out: &mut Text, app: &App, apps: &[App], wanted: Wanted) {
    let _ = writeln!(out.0, "[apps.{}]", app.name);
    hosts(out, app, apps);
    out.key("path", &quoted(&app.place.mount));
    if app.is_iis {
        out.key("case_insensitive", "true");
        out.say("Its server is IIS, which takes /appa/ for /AppA/.");
    }
    out.key("upstreams", &format!("[{}]", quoted(&app.place.upstream)));
    if app.place.host.parse::<std::net::IpAddr>().is_err()
        && app.place.host != "localhost"
        && !is_v6(&app.place)
    {
        out.say("Where it answers to its own name only: host_header = \"upstream\"");
    }
    session(out, app, wanted);
    heartbeat(out, app);
    if app.engine.is_some() {
        ways::sign_out(out, app);
    }
    app.notes.iter().for_each(|note| out.say(note));
}

fn is_v6(place: &Place) -> bool {
    place.host.contains(':')
}

/// Apps of one path need hosts of their own.
fn hosts(out: &mut Text, app: &App, apps: &[App]) {
    let same =
        |other: &&App| other.place.mount.eq_ignore_ascii_case(&app.place.mount) && other.name != app.name;
    let others: Vec<&App> = apps.iter().filter(same).collect();
    if others.is_empty() {
        return;
    }
    let is_name =
        |place: &Place| place.host.bytes().any(|octet| octet.is_ascii_alphabetic()) && !is_v6(place);
    let differ = others.iter().all(|other| other.place.host != app.place.host && is_name(&other.place));
    let host = if differ && is_name(&app.place) {
        app.place.host.trim_end_matches('.').to_owned()
    } else {
        format!("{}.localhost", app.name.to_ascii_lowercase())
    };
    out.key("hosts", &format!("[{}]", quoted(&host)));
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    out.say(&format!(
        "The same path as {}: a host of its own tells them apart. Put its public name here.",
        listed(&names)
    ));
}

fn session(out: &mut Text, app: &App, wanted: Wanted) {
    let Some(found) = &app.engine else {
        out.say("No page began a session: it is proxied plainly. If it has one after all, name its engine:");
        out.say("session.engine = \"..\"");
        return;
    };
    out.key("session.engine", &quoted(engines::name(found.engine)));
    out.say(&sentence(&found.reasons));
    if let Some(kind) = found.kind {
        out.key("session.type", &quoted(kind));
    }
    if !found.tokens.is_empty() {
        let token = |name: &String| format!("{{ name = {0}, cookie = {0} }}", quoted(name));
        let list: Vec<String> = found.tokens.iter().map(token).collect();
        out.key("session.tokens", &format!("[{}]", list.join(", ")));
    }
    timeout(out, found, wanted);
}

fn timeout(out: &mut Text, found: &Recognised, wanted: Wanted) {
    let shown = |span: Duration| quoted(&humantime::format_duration(span).to_string().replace(' ', ""));
    const MEASURE: &str = "`sessionbridge check --live --measure-timeout` measures it.";
    if let Some(known) = wanted.timeout {
        out.key("session.timeout", &shown(known));
    } else if let Some(seen) = found.timeout {
        out.key("session.timeout", &shown(seen));
        out.say(&format!("As long as its cookie lives. {MEASURE}"));
    } else if let Some(usual) = engines::timeout(found.engine) {
        out.key("session.timeout", &shown(usual));
        out.say(&format!("The engine's usual; the app may have its own. {MEASURE}"));
    } else {
        out.key("session.timeout", &shown(Duration::from_secs(20 * 60)));
        out.say(&format!("A guess: apps of this engine choose their own. {MEASURE}"));
    }
}

fn heartbeat(out: &mut Text, app: &App) {
    let Some(engine) = &app.engine else { return };
    match &app.choice.chosen {
        Some(chosen) => chosen_page(out, chosen, engine),
        None => {
            out.say("No page was found that heartbeats could ask. It must touch the session, answer at once with success and");
            out.say("do nothing else; see README, \"Choose a heartbeat page\". Until then this app is not kept alive:");
            out.say(&format!(
                "heartbeat.path = {}",
                quoted(&format!("{}ping{}", app.place.mount, app.extension))
            ));
        }
    }
    let others: Vec<_> = app.choice.others.iter().filter(|(path, _)| super::links::is_plain(path)).collect();
    for (path, why) in others.iter().take(MOST_OTHERS) {
        out.say(&format!("Not {path}: {why}."));
    }
    if others.len() > MOST_OTHERS {
        out.say(&format!("Nor {} more.", others.len() - MOST_OTHERS));
    }
}

fn chosen_page(out: &mut Text, chosen: &Chosen, engine: &Recognised) {
    out.key("heartbeat.path", &quoted(&chosen.path));
    out.say(match chosen.touch {
        Touch::Shows => "It touches the session: what it shows belongs to one session.",
        Touch::Renews => "It touches the session: it sets its cookie again.",
        Touch::Begins => "It begins a session for who has none, so it should keep one alive.",
        Touch::No | Touch::Unknown if engine.engine == Engine::Django => {
            "UNSURE: its answer does not renew the cookie. Django extends a session only when it is saved: let the page change \
             something in it, or set SESSION_SAVE_EVERY_REQUEST."
        }
        Touch::No | Touch::Unknown => {
            "UNSURE: nothing tells whether it touches the session. `sessionbridge check --live` finds out."
        }
    });
    match &chosen.canary {
        Some(spot) => {
            let (key, text) = match spot {
                Spot::Header(name) => ("header", name),
                Spot::Json(path) => ("json", path),
                Spot::Regex(regex) => ("regex", regex),
            };
            out.key("heartbeat.canary", &format!("{{ {key} = {} }}", quoted(text)));
            out.say("The same in one session, another one in another: so a dead session is told from a living one.");
        }
        None if engine.engine.adopts_unknown_ids() => {
            out.say("This engine may take up a dead session's id with an empty session, and nothing shows it: let the page show");
            out.say("when the session began, and name that as heartbeat.canary.");
        }
        None => {}
    }
}

/// What apps of one host do to each other's cookies.
fn collisions(apps: &[App]) -> Vec<String> {
    let mut said = Vec::new();
    for (at, one) in apps.iter().enumerate() {
        for two in apps.iter().skip(at + 1).filter(|two| two.place.host == one.place.host) {
            let names: BTreeSet<&str> = one
                .cookies
                .iter()
                .filter(|fact| two.cookies.iter().any(|other| collide((one, fact), (two, other))))
                .map(|fact| fact.name.as_str())
                .filter(|name| name.bytes().all(|octet| octet.is_ascii_graphic()))
                .collect();
            if !names.is_empty() {
                let names: Vec<&str> = names.into_iter().collect();
                said.push(format!(
                    "{} and {} both set {} on {}: without the bridge each overwrites the other's. Behind it each keeps its own.",
                    one.name,
                    two.name,
                    listed(&names),
                    one.place.host,
                ));
            }
        }
    }
    said
}

/// True where a browser would send one app's cookie to the other too, in the place of its own. Ports tell no cookies apart.
fn collide((one, first): (&App, &CookieFact), (two, second): (&App, &CookieFact)) -> bool {
    let reaches = |fact: &CookieFact, own: &Place, other: &Place| {
        let path = fact.path.as_deref().unwrap_or(&own.mount);
        path_match(path.as_bytes(), other.mount.as_bytes())
    };
    let names = first.name.eq_ignore_ascii_case(&second.name);
    names && (reaches(first, &one.place, &two.place) || reaches(second, &two.place, &one.place))
}

/// `a, b and c`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [list @ .., last] => format!("{} and {last}", list.join(", ")),
    }
}

/// Reasons as one sentence.
fn sentence(reasons: &[String]) -> String {
    let text = reasons.join("; ");
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// A string of TOML in which nothing is a variable.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.replace("${", "$${").chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The text of a config.
#[derive(Default)]
struct Text(String);

impl Text {
    fn key(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn blank(&mut self) {
        self.0.push('\n');
    }

    /// A comment, folded.
    fn say(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in text.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH && line.len() > 1 {
                let _ = writeln!(self.0, "{line}");
                "#".clone_into(&mut line);
            }
            line.push(' ');
            line.extend(word.chars().filter(|letter| !letter.is_control()));
        }
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests;
