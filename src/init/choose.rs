//! Which page is asked by heartbeats: one that touches the session, answers at once and does nothing else.
//!
//! Invariant: pure. A page that gives an anonymous visitor no session is never chosen, nor a sign-in form, a redirect or a page
//! with a query; what is left out is told with its reason.

use super::canary::{self, Spot, Three};
use super::facts::{Hop, Seen, Visit};
use super::links::{extension, halves, holds, is_plain, spoken};
use super::place::Place;
use super::recognise::Recognised;
use crate::bridge::rules::Engine;
use crate::ping::reading;
use crate::wire::page::Page;
use crate::wire::path;

/// So many pages are asked again.
const MOST_CANDIDATES: usize = 6;
/// Names that heartbeat pages have.
const NAMES: [&str; 12] = [
    "ping",
    "keepalive",
    "keep alive",
    "heartbeat",
    "alive",
    "stayalive",
    "stay alive",
    "status",
    "renew",
    "refresh",
    "touch",
    "session",
];

/// The page to ask, and why not the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// The page, if any will do.
    pub(super) chosen: Option<Chosen>,
    /// Public paths of other pages, each with why it was not chosen.
    pub(super) others: Vec<(String, &'static str)>,
}

/// The page that heartbeats ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Its public path.
    pub(super) path: String,
    /// How sure it is that it touches the session.
    pub(super) touch: Touch,
    /// What tells a session from an empty one under its id.
    pub(super) canary: Option<Spot>,
}

/// Whether a page keeps the session alive, as far as asking it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    /// It gives an anonymous visitor no session.
    No,
    /// Nothing tells: every page of this engine sets its cookies.
    Unknown,
    /// It begins a session for who has none.
    Begins,
    /// It sets the session's cookie again.
    Renews,
    /// It shows something of the session.
    Shows,
}

/// Why this page cannot be asked by heartbeats at all; `None` where it can.
pub(super) fn unfit(visit: &Visit, place: &Place) -> Option<&'static str> {
    let Some(last) = visit.last() else { return Some("it was not answered") };
    let (path, query) = halves(&visit.public);
    if !(200..300).contains(&last.status) {
        return Some("it does not answer with success");
    }
    if !query.is_empty() {
        return Some("it has a query: what it does may depend on it");
    }
    if !is_plain(path) || !place.contains(path) {
        return Some("its path cannot be asked as it is");
    }
    if redirects(visit, place) {
        return Some("it redirects, and heartbeats follow no redirect");
    }
    if last.is_html() && Page::read(&last.text).forms.iter().any(crate::wire::page::Form::asks_for_password) {
        return Some("it shows a sign-in form");
    }
    if !last.was_read {
        return Some("it is no text");
    }
    (!last.complete || last.text.len() > reading::LIMIT).then_some("it is too large, or does not end")
}

/// True where the page led elsewhere. Cookieless servers send everybody to the same page with an id in it.
fn redirects(visit: &Visit, place: &Place) -> bool {
    visit.hops.first().is_some_and(|first| super::links::public(&first.target, place) != visit.public)
}

/// The pages worth asking again, the best first: places in the list of pages.
pub(super) fn candidates(seen: &Seen, place: &Place) -> Vec<usize> {
    let mut fit: Vec<usize> = Vec::new();
    for (at, visit) in seen.pages.iter().enumerate() {
        let is_new =
            !fit.iter().filter_map(|at| seen.pages.get(*at)).any(|other| other.public == visit.public);
        if is_new && unfit(visit, place).is_none() {
            fit.push(at);
        }
    }
    fit.sort_by_key(|at| seen.pages.get(*at).map(|visit| -looks(visit)));
    fit.truncate(MOST_CANDIDATES);
    fit
}

/// How much a page looks like one for heartbeats, before it was asked again.
fn looks(visit: &Visit) -> i32 {
    let Some(last) = visit.last() else { return i32::MIN };
    let path = spoken(halves(&visit.public).0.rsplit('/').next().unwrap_or_default());
    let said = spoken(&visit.text);
    let named = NAMES.iter().any(|name| holds(&path, name) || holds(&said, name));
    let small = match last.text.len() {
        0..2048 => 15,
        2048..16_384 => 8,
        _ => 0,
    };
    let quiet = if last.is_html() { 0 } else { 10 };
    let slow = if last.was_slow { 20 } else { 0 };
    i32::from(named) * 30 + small + quiet - slow - i32::try_from(visit.depth).unwrap_or(9) * 2
}

/// Chooses among all pages, of which some were asked again.
pub(super) fn choose(place: &Place, seen: &Seen, engine: Option<&Recognised>) -> Choice {
    let mut ranked: Vec<(i32, Chosen)> = Vec::new();
    let mut others: Vec<(String, &'static str)> = Vec::new();
    let secrets = seen.secrets();
    for visit in &seen.pages {
        let path = halves(&visit.public).0.to_owned();
        let is_known = |list: &[(String, &str)]| list.iter().any(|(other, _)| *other == path);
        if is_known(&others) || ranked.iter().any(|(_, own)| own.path == path) {
            continue;
        }
        match (unfit(visit, place), Asked::find(seen, visit)) {
            (Some(why), _) => others.push((path, why)),
            (None, None) => others.push((path, "others look more like it")),
            (None, Some(asked)) => {
                let canary = canary::find(&asked.three(), &secrets);
                let touch = asked.touch(place, engine, canary.is_some());
                match touch {
                    Touch::No => {
                        others.push((path, "it gives a new visitor no session: it does not touch it"))
                    }
                    touch => ranked.push((worth(touch) + looks(visit), Chosen { path, touch, canary })),
                }
            }
        }
    }
    ranked.sort_by_key(|(score, _)| -score);
    let mut ranked = ranked.into_iter().map(|(_, chosen)| chosen);
    let chosen = ranked.next();
    others.splice(0..0, ranked.map(|own| (own.path, own.touch.second())));
    others.retain(|(path, _)| is_plain(path));
    Choice { chosen, others }
}

const fn worth(touch: Touch) -> i32 {
    match touch {
        Touch::No => i32::MIN / 2,
        Touch::Unknown => 0,
        Touch::Begins => 60,
        Touch::Renews => 80,
        Touch::Shows => 100,
    }
}

impl Touch {
    /// What is said of a page that would do, where another one does better.
    const fn second(self) -> &'static str {
        match self {
            Self::No => "it does not touch the session",
            Self::Unknown => "nothing tells whether it touches the session",
            Self::Begins | Self::Renews | Self::Shows => "it would do as well",
        }
    }
}

/// A page and what it answered when it was asked again.
struct Asked<'a> {
    first: &'a Hop,
    other: &'a Visit,
    again: &'a Visit,
}

impl<'a> Asked<'a> {
    fn find(seen: &'a Seen, visit: &'a Visit) -> Option<Self> {
        let of = |list: &'a [Visit]| list.iter().find(|other| other.public == visit.public);
        let asked = Self { first: visit.last()?, other: of(&seen.others)?, again: of(&seen.again)? };
        (asked.other.last().is_some() && asked.again.last().is_some()).then_some(asked)
    }

    fn three(&self) -> Three<'a> {
        let of = |visit: &'a Visit| visit.last().unwrap_or(self.first);
        Three { first: self.first, other: of(self.other), again: of(self.again) }
    }

    /// What the session's cookies tell, and whether the page `shows` something of the session.
    fn touch(&self, place: &Place, engine: Option<&Recognised>, shows: bool) -> Touch {
        let Some(engine) = engine else { return Touch::No };
        let sets = |visit: &Visit| visit.cookies().iter().any(|fact| engine.cookies.contains(&fact.name));
        let segment = |hop: &Hop| {
            let to = hop.header("location");
            let at = to.find(&place.mount).and_then(|at| to.get(at..)).unwrap_or_default();
            path::session_segment(halves(at).0, place.mount.len()).is_some()
        };
        let begins = sets(self.other) || self.other.hops.iter().any(segment);
        match engine.engine {
            // Django extends what it saves, and says so by the cookie; what it only reads runs out.
            Engine::Django if begins && !sets(self.again) => Touch::Unknown,
            _ if shows => Touch::Shows,
            _ if !begins => Touch::No,
            _ if sets(self.again) => Touch::Renews,
            // Every page of Lucee sets cfid.
            Engine::Lucee | Engine::BoxLang => Touch::Unknown,
            _ => Touch::Begins,
        }
    }
}

/// The extension that the app's pages have, for what is said about them.
pub(super) fn page_extension(seen: &Seen) -> String {
    let known = ["cfm", "jsp", "php", "aspx", "bxm"];
    let mut all = seen.pages.iter().filter_map(|visit| extension(halves(&visit.public).0));
    all.find(|own| known.contains(own)).map_or_else(String::new, |own| format!(".{own}"))
}

#[cfg(test)]
mod tests {
    use super::super::facts::testing::{hop, visit};
    use super::*;

    const SID: &str = "PHPSESSID=0123456789abcdefghijklmnop; path=/";
    const OTHER: &str = "PHPSESSID=zzzzzz6789abcdefghijklmnop; path=/";

    fn place() -> Place {
        Place::parse("http://127.0.0.1:8501/AppA/").unwrap()
    }

    fn engine(engine: Engine) -> Recognised {
        Recognised {
            engine,
            kind: None,
            tokens: Vec::new(),
            reasons: Vec::new(),
            cookies: vec!["PHPSESSID".to_owned()],
            timeout: None,
        }
    }

    /// A page as its first visitor, another one, and the first again saw it.
    fn page(seen: &mut Seen, path: &str, bodies: [&str; 3], begins: bool) {
        let head: &[(&'static str, &str)] = if begins {
            &[("set-cookie", OTHER), ("content-type", "text/plain")]
        } else {
            &[("content-type", "text/plain")]
        };
        let plain = [("content-type", "text/plain")];
        seen.pages.push(visit(path, &plain, bodies[0]));
        seen.others.push(visit(path, head, bodies[1]));
        seen.again.push(visit(path, &plain, bodies[2]));
    }

    #[test]
    fn the_page_that_shows_the_session_wins_over_one_that_only_begins_it() {
        let mut seen = Seen::default();
        page(&mut seen, "/AppA/index.php", ["index", "index", "index"], true);
        let [a, b] = ["{\"started\":1000001}", "{\"started\":1000002}"];
        page(&mut seen, "/AppA/show.php", [a, b, a], true);
        page(&mut seen, "/AppA/ping.php", [a, b, a], true);
        page(&mut seen, "/AppA/quiet.php", ["quiet", "quiet", "quiet"], false);
        let choice = choose(&place(), &seen, Some(&engine(Engine::Php)));
        let chosen = choice.chosen.unwrap();
        assert_eq!((chosen.path.as_str(), chosen.touch), ("/AppA/ping.php", Touch::Shows));
        assert_eq!(chosen.canary, Some(Spot::Json("started".into())));
        let of = |path: &str| choice.others.iter().find(|(own, _)| own == path).unwrap().1;
        assert!(of("/AppA/quiet.php").contains("does not touch"));
        assert_eq!(of("/AppA/show.php"), "it would do as well");
    }

    #[test]
    fn a_page_that_never_touches_the_session_is_never_chosen() {
        let mut seen = Seen::default();
        page(&mut seen, "/AppA/ping.php", ["ok", "ok", "ok"], false);
        for of in [Engine::Php, Engine::Lucee, Engine::Servlet, Engine::Custom] {
            let choice = choose(&place(), &seen, Some(&engine(of)));
            assert_eq!(choice.chosen, None, "{of:?}");
        }
        assert_eq!(choose(&place(), &seen, None).chosen, None, "no session at all");
    }

    #[test]
    fn on_lucee_and_django_beginning_a_session_proves_nothing() {
        let mut seen = Seen::default();
        page(&mut seen, "/AppA/a.cfm", ["a", "a", "a"], true);
        let touch = |seen: &Seen, of| choose(&place(), seen, Some(&engine(of))).chosen.unwrap().touch;
        assert_eq!(touch(&seen, Engine::Lucee), Touch::Unknown);
        assert_eq!(touch(&seen, Engine::Django), Touch::Unknown);
        assert_eq!(touch(&seen, Engine::ColdFusion), Touch::Begins);
        seen.again = vec![visit("/AppA/a.cfm", &[("set-cookie", SID)], "a")];
        assert_eq!(touch(&seen, Engine::Django), Touch::Renews);
        let [a, b] = ["{\"started\":1000001}", "{\"started\":1000002}"];
        let mut seen = Seen::default();
        page(&mut seen, "/AppA/ping", [a, b, a], true);
        assert_eq!(touch(&seen, Engine::Lucee), Touch::Shows);
        assert_eq!(touch(&seen, Engine::Django), Touch::Unknown, "a session that is only read runs out");
    }

    #[test]
    fn what_cannot_be_asked_is_left_out_with_the_reason() {
        let (place, html) = (place(), [("content-type", "text/html")]);
        let why = |visit: &Visit| unfit(visit, &place).unwrap_or_default();
        assert_eq!(why(&visit("/AppA/x", &html, "<form><input name=note></form>")), "");
        assert!(why(&visit("/AppA/x", &html, "<form><input type=password></form>")).contains("sign-in"));
        assert!(why(&visit("/AppA/x?a=1", &html, "")).contains("query"));
        assert!(why(&visit("/other/x", &html, "")).contains("path"));
        assert!(why(&visit("/AppA/x", &html, &"x".repeat(70_000))).contains("large"));
        let failed = Visit {
            public: "/AppA/x".into(),
            hops: vec![hop("/AppA/x", 404, &html, "")],
            ..Visit::default()
        };
        assert!(why(&failed).contains("success"));
        let mut moved = visit("/AppA/y", &html, "");
        moved.hops.insert(0, hop("/AppA/x", 302, &[("location", "/AppA/y")], ""));
        assert!(why(&moved).contains("redirects"));
        let mut cookieless = visit("/AppA/y.aspx", &html, "");
        cookieless.hops[0].target = "/AppA/(S(abcdefghijklmnopqrst0123))/y.aspx".to_owned();
        cookieless.hops.insert(0, hop("/AppA/y.aspx", 302, &[], ""));
        assert_eq!(why(&cookieless), "");
    }

    #[test]
    fn candidates_are_few_and_the_likely_ones_first() {
        let html = [("content-type", "text/html")];
        let mut pages: Vec<Visit> = (0..20).map(|at| visit(&format!("/AppA/{at}"), &html, "x")).collect();
        pages.push(visit("/AppA/keepalive.jsp", &html, "ok"));
        let seen = Seen { pages, ..Seen::default() };
        let list = candidates(&seen, &place());
        assert_eq!((list.len(), list[0]), (MOST_CANDIDATES, 20));
    }
}
