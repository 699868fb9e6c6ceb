//! Looking at an app: its pages, then the likely heartbeat pages once more by somebody else and by the first visitor.
//!
//! Invariant: bounded in pages, depth and time; what looks as if it might do something is not followed, nor are forms sent.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::choose;
use super::exits;
use super::facts::{Seen, SignOut, Visit};
use super::links::{Kind, halves, is_plain, kind, public, without_ids};
use super::place::{Place, Trouble};
use super::visitor::{Visitor, Way, location};
use crate::wire::page::{Form, Link, Page};
use crate::wire::path;

/// Requests while pages are looked at: redirects and those without an answer count as well.
const MOST_PAGES: usize = 30;
/// Links of one page that are read.
const MOST_LINKS: usize = 500;
/// Forms of one page that are read.
const MOST_FORMS: usize = 100;
/// Clicks from the first page.
const MOST_CLICKS: usize = 2;
/// The second visitor comes so long after the first: times of day in whole seconds then differ.
const LATER: Duration = Duration::from_millis(1_100);
/// Spent looking at one app.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Part of it that is left for asking again.
const FOR_ASKING_AGAIN: Duration = Duration::from_secs(4);

/// A link to follow.
struct Ahead {
    target: String,
    text: String,
    depth: usize,
}

/// What is being found out.
struct Crawl<'a> {
    place: &'a Place,
    /// Paths of other apps inside this one's.
    foreign: &'a [String],
    /// When looking at pages ends.
    until: Instant,
    seen: Seen,
    known: HashSet<String>,
    ahead: VecDeque<Ahead>,
}

/// Looks at the app. `foreign` are mounts of other apps that are to be left to them.
///
/// # Errors
/// Where its first page does not come, or is none.
pub(super) async fn look(way: Way<'_>, foreign: &[String]) -> Result<Seen, Trouble> {
    let began = Instant::now();
    let mut visitor = Visitor::new(way);
    let first = visitor.look(&way.place.entry).await?;
    check(&first, way.place)?;
    let (known, ahead) = (HashSet::new(), VecDeque::new());
    let until = way.deadline - FOR_ASKING_AGAIN;
    let mut crawl = Crawl { place: way.place, foreign, until, seen: Seen::default(), known, ahead };
    crawl.known.insert(public(&way.place.entry, way.place));
    crawl.read(first);
    crawl.follow(&mut visitor).await;
    let mut seen = crawl.seen;
    exits::settle(&mut seen, way.place);
    sleep_until(began + LATER).await;
    ask_again(&mut seen, way, visitor).await;
    Ok(seen)
}

/// The first page must be one, if only one that wants a sign-in.
fn check(first: &Visit, place: &Place) -> Result<(), Trouble> {
    let path = place.mount.clone();
    let Some(last) = first.last() else { return Err(Trouble::Url) };
    if (400..600).contains(&last.status) && !matches!(last.status, 401 | 403) {
        return Err(Trouble::Failing { path, status: last.status });
    }
    let kind = last.kind();
    let is_page =
        last.is_html() || matches!(kind.as_str(), "text/plain" | "application/json") || kind.ends_with("xml");
    if is_page || (300..400).contains(&last.status) { Ok(()) } else { Err(Trouble::NoPage { path, kind }) }
}

/// Asks the likely pages by a stranger each, then by the first visitor once more.
async fn ask_again(seen: &mut Seen, way: Way<'_>, mut visitor: Visitor<'_>) {
    let list = choose::candidates(seen, way.place);
    let targets: Vec<String> =
        list.iter().filter_map(|at| seen.pages.get(*at)).map(|visit| visit.public.clone()).collect();
    // Where nothing is worth asking, a second visitor still tells which cookies differ.
    let entry = [way.place.entry.clone()];
    let strangers = if targets.is_empty() { &entry[..] } else { &targets[..] };
    for target in strangers {
        let Ok(visit) = Visitor::new(way).look(target).await else { break };
        seen.others.push(visit);
    }
    // Cookieless servers know the first visitor by the path that he was sent to.
    for at in list {
        let Some(first) = seen.pages.get(at).and_then(Visit::last).map(|hop| hop.target.clone()) else {
            continue;
        };
        let Ok(visit) = visitor.look(&first).await else { break };
        seen.again.push(visit);
    }
    if seen.again.len() < targets.len() {
        seen.cut_short = Some("it was slow: not every page could be asked twice");
    }
}

impl Crawl<'_> {
    /// Follows what is ahead, to the bounds.
    async fn follow(&mut self, visitor: &mut Visitor<'_>) {
        while let Some(ahead) = self.ahead.pop_front() {
            if visitor.asked() >= MOST_PAGES {
                self.seen.cut_short = Some("30 requests were made, there are more pages");
                return;
            }
            if Instant::now() >= self.until {
                self.seen.cut_short = Some("it was slow: not every page was looked at");
                return;
            }
            // A page that breaks off says nothing about the others.
            let Ok(mut visit) = visitor.look(&ahead.target).await else { continue };
            (visit.text, visit.depth) = (ahead.text, ahead.depth);
            self.read(visit);
        }
    }

    /// Takes in a page and what it offers.
    fn read(&mut self, visit: Visit) {
        self.known.insert(visit.public.clone());
        for to in visit.hops.iter().filter_map(|hop| location(hop, self.place)) {
            self.lead(&public(&to, self.place));
        }
        if let Some(last) = visit.last() {
            let (target, html) = (last.target.clone(), last.is_html() && last.status < 500);
            if html {
                let page = Page::read(&last.text);
                for (at, link) in page.links.iter().enumerate() {
                    if at >= MOST_LINKS || Instant::now() >= self.until {
                        self.seen.cut_short = Some("not every link of a large page was read");
                        break;
                    }
                    self.link(&page, &target, link, &visit);
                }
                for form in page.forms.iter().take(MOST_FORMS) {
                    self.form(&page, &target, form, &visit);
                }
            }
        }
        self.seen.pages.push(visit);
    }

    /// Where a redirect led, followed or not.
    fn lead(&mut self, to: &str) {
        let path = halves(to).0.to_owned();
        if kind(to, "") == Kind::SignIn {
            self.sign_in(&path);
        }
        if !self.place.contains(&path) && is_plain(&path) && !self.seen.left_for.contains(&path) {
            self.seen.left_for.push(path);
        }
    }

    fn link(&mut self, page: &Page, from: &str, link: &Link, visit: &Visit) {
        let Some(target) = page.resolve(&self.place.authority, from, &link.href) else { return };
        let target = without_ids(&target);
        let own = public(&target, self.place);
        match kind(&own, &link.text) {
            Kind::SignIn => self.sign_in(halves(&own).0),
            Kind::SignOut => self.sign_out(exits::link(&own, &visit.public, self.is_ours(halves(&own).0))),
            Kind::Action | Kind::File => {}
            Kind::Page => {
                let (path, depth) = (halves(&own).0, visit.depth + 1);
                if self.is_ours(path)
                    && depth <= MOST_CLICKS
                    && self.known.len() < 500
                    && self.known.insert(own)
                {
                    self.ahead.push_back(Ahead { target, text: link.text.clone(), depth });
                }
            }
        }
    }

    fn form(&mut self, page: &Page, from: &str, form: &Form, visit: &Visit) {
        let action =
            page.resolve(&self.place.authority, from, &form.action).unwrap_or_else(|| from.to_owned());
        let action = public(&action, self.place);
        let path = halves(&action).0;
        if form.asks_for_password() {
            self.sign_in(halves(&visit.public).0);
            self.sign_in(path);
        } else {
            self.sign_out(exits::form(&action, &visit.public, form, self.is_ours(path)));
        }
    }

    /// True for a path of this app and of none inside it.
    fn is_ours(&self, path: &str) -> bool {
        let is_foreign = |other: &String| {
            let normal = path::normal(path).unwrap_or_default().to_ascii_lowercase();
            normal.starts_with(&other.to_ascii_lowercase())
        };
        self.place.contains(path) && !self.foreign.iter().any(is_foreign)
    }

    /// The first page is none that a redirect to means a sign-out.
    fn sign_in(&mut self, path: &str) {
        let first = self.seen.pages.first().map(|visit| halves(&visit.public).0);
        let is_first = path == self.place.mount || path == halves(&self.place.entry).0 || first == Some(path);
        if !is_first && is_plain(path) && !self.seen.sign_in.iter().any(|own| own == path) {
            self.seen.sign_in.push(path.to_owned());
        }
    }

    fn sign_out(&mut self, found: Option<SignOut>) {
        if let Some(found) = found.filter(|found| !self.seen.sign_out.contains(found)) {
            self.seen.sign_out.push(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::testing::{hop, visit};
    use super::*;

    fn read(body: &str) -> (Seen, Vec<String>) {
        let place = Place::parse("http://127.0.0.1:8501/AppA/").unwrap();
        let foreign = ["/AppA/other/".to_owned()];
        let mut crawl = Crawl {
            place: &place,
            foreign: &foreign,
            until: Instant::now() + PATIENCE,
            seen: Seen::default(),
            known: HashSet::new(),
            ahead: VecDeque::new(),
        };
        crawl.read(visit("/AppA/", &[("content-type", "text/html")], body));
        (crawl.seen, crawl.ahead.into_iter().map(|ahead| ahead.target).collect())
    }

    #[test]
    fn only_pages_of_the_app_are_followed_and_the_rest_is_noted() {
        let (seen, ahead) = read(
            "<a href=ping.jsp;jsessionid=0123456789ABCDEF>Ping</a><a href=/AppB/index.jsp>AppB</a>
             <a href=other/x>other</a><a href=http://elsewhere.example/AppA/x>x</a><a href=delete.jsp?id=1>x</a>
             <a href=list.jsp?page=2>2</a><a href=list.jsp?page=2#end>2</a><a href=photo.png>x</a>
             <a href=login.jsp>Sign in</a><a href=logout.jsp>Sign out</a><a href=/sso/logout>Sign out of all</a>",
        );
        assert_eq!(ahead, ["/AppA/ping.jsp", "/AppA/list.jsp?page=2"]);
        assert_eq!(seen.sign_in, ["/AppA/login.jsp"]);
        let out = [SignOut::Link("/AppA/logout.jsp".into()), SignOut::Elsewhere("/sso/logout".into())];
        assert_eq!(seen.sign_out, out);
    }

    #[test]
    fn forms_are_noted_and_never_sent() {
        let (seen, ahead) = read(
            "<form method=post action=logout/><input type=hidden name=csrf value=x><button>Go</button></form>
             <form method=post action=enter><input type=password name=p></form>
             <form action=search><input name=q></form>",
        );
        assert!(ahead.is_empty());
        let form = SignOut::Form { page: "/AppA/".into(), action: "/AppA/logout/".into(), is_post: true };
        assert_eq!((seen.sign_out, seen.sign_in), (vec![form], vec!["/AppA/enter".to_owned()]));
    }

    #[test]
    fn a_token_in_a_sign_out_link_is_neither_kept_nor_shown() {
        let (seen, _) = read(
            "<a href='doku.php?do=logout&amp;sectok=0123456789abcdef0123'>Log Out</a><a href='?do=logout'>x</a>",
        );
        let changing =
            SignOut::Changing { page: "/AppA/".into(), pattern: "/AppA/doku.php?*do=logout*".into() };
        assert_eq!(seen.sign_out, [changing, SignOut::Link("/AppA/?do=logout".into())]);
    }

    #[test]
    fn so_many_links_of_a_page_are_read_and_no_more() {
        let body: String =
            (0..600).map(|n| format!("<a href='logout?x=a1b{n}'>x</a><a href=p{n}>p</a>")).collect();
        let (seen, ahead) = read(&body);
        assert_eq!(ahead.len(), MOST_LINKS / 2);
        assert!(seen.cut_short.is_some());
    }

    #[test]
    fn links_that_leave_the_app_in_disguise_are_not_followed() {
        let (_, ahead) = read(
            "<a href='%2e%2e/x'>x</a><a href='..;/x'>x</a><a href='..%2fx'>x</a><a href='y%5cx'>x</a><a href='..\\\\x'>x</a>
             <a href='%6fther/x'>x</a><a href='good'>x</a>",
        );
        assert_eq!(ahead, ["/AppA/good"]);
    }

    #[test]
    fn a_first_page_that_is_none_is_refused() {
        let place = Place::parse("http://127.0.0.1:8501/AppA/").unwrap();
        let of = |status, kind: &str| {
            let hops = vec![hop("/AppA/", status, &[("content-type", kind)], "")];
            check(&Visit { hops, ..Visit::default() }, &place)
        };
        assert!(matches!(of(404, "text/html"), Err(Trouble::Failing { status: 404, .. })));
        assert!(matches!(of(200, "image/png"), Err(Trouble::NoPage { .. })));
        for (status, kind) in
            [(200, "text/html; charset=utf-8"), (403, "text/html"), (302, ""), (200, "application/json")]
        {
            assert!(of(status, kind).is_ok(), "{status} {kind}");
        }
    }
}
