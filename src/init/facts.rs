//! What is known of an app after it was looked at: answers, cookies, links; data without behaviour.
//!
//! Invariant: no Debug text here shows a cookie's value, a header or a body.

use std::fmt;

use http::HeaderMap;

use crate::wire::set_cookie::{Lifetime, SetCookie};

/// One answer of the app.
#[derive(Clone, Default)]
pub(super) struct Hop {
    /// Path and query as it was asked for.
    pub(super) target: String,
    /// Its status.
    pub(super) status: u16,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body, decoded; as much as was read.
    pub(super) text: Vec<u8>,
    /// True where its body is text and was read.
    pub(super) was_read: bool,
    /// True where that is all of it.
    pub(super) complete: bool,
    /// Unix seconds when it came.
    pub(super) at_s: i64,
    /// True where it took longer than a second.
    pub(super) was_slow: bool,
}

/// A page that was looked at: all answers that led to it, redirects first, and never none.
#[derive(Clone, Debug, Default)]
pub(super) struct Visit {
    /// How browsers will ask for what was answered last.
    pub(super) public: String,
    /// The text of the link that led here.
    pub(super) text: String,
    /// Clicks from the first page.
    pub(super) depth: usize,
    /// The answers.
    pub(super) hops: Vec<Hop>,
}

/// A cookie that was set.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CookieFact {
    /// Its name in the app's spelling.
    pub(super) name: String,
    /// Its value: never shown.
    pub(super) value: Vec<u8>,
    /// Its path, where it names one.
    pub(super) path: Option<String>,
    /// Hidden from scripts.
    pub(super) http_only: bool,
    /// How long it lives, seconds; `None`: until the browser closes.
    pub(super) seconds: Option<i64>,
}

/// A way to sign out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SignOut {
    /// A plain link, by its public path and query.
    Link(String),
    /// A link on `page` whose query changes from session to session; `pattern` says what stays of it.
    Changing {
        /// The public path of the page.
        page: String,
        /// A glob for the link.
        pattern: String,
    },
    /// A form on `page`.
    Form {
        /// The public path of the page.
        page: String,
        /// Where the form goes: a public path.
        action: String,
        /// True for POST.
        is_post: bool,
    },
    /// It leads out of the app's own path: a glob, whose end may be left open.
    Elsewhere(String),
    /// Something on `page` that cannot be told from what is no sign-out: only said, never drafted.
    Unclear {
        /// The public path of the page.
        page: String,
        /// Why not.
        why: &'static str,
    },
}

/// All that was seen of one app.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Pages in the order in which they were seen; the first page first.
    pub(super) pages: Vec<Visit>,
    /// Public paths of sign-in pages, the app's own first page never among them.
    pub(super) sign_in: Vec<String>,
    /// Ways to sign out.
    pub(super) sign_out: Vec<SignOut>,
    /// Where redirects led that left the app.
    pub(super) left_for: Vec<String>,
    /// Why looking stopped before everything was seen.
    pub(super) cut_short: Option<&'static str>,
    /// Answers to a second, anonymous visitor.
    pub(super) others: Vec<Visit>,
    /// Answers to the first visitor who came again.
    pub(super) again: Vec<Visit>,
}

impl Hop {
    /// The value of a header as text; empty where it has none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The media type, in lower case, without parameters.
    pub(super) fn kind(&self) -> String {
        self.header("content-type").split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// True for HTML.
    pub(super) fn is_html(&self) -> bool {
        matches!(self.kind().as_str(), "text/html" | "application/xhtml+xml" | "")
    }

    /// The cookies that it sets; not those that it deletes.
    pub(super) fn cookies(&self) -> impl Iterator<Item = CookieFact> + '_ {
        let lines = self.headers.get_all(http::header::SET_COOKIE).iter();
        lines.filter_map(|line| {
            let cookie = SetCookie::parse(line.as_bytes())?;
            let seconds = match cookie.lifetime(self.at_s) {
                Lifetime::Delete => return None,
                Lifetime::Session => None,
                Lifetime::Until(at) => Some(at - self.at_s),
            };
            Some(CookieFact {
                name: String::from_utf8_lossy(cookie.name()).into_owned(),
                value: cookie.value().to_vec(),
                path: cookie.path().map(|path| String::from_utf8_lossy(path).into_owned()),
                http_only: cookie.http_only(),
                seconds,
            })
        })
    }
}

impl Visit {
    /// The answer that was no redirect any more.
    pub(super) fn last(&self) -> Option<&Hop> {
        self.hops.last()
    }

    /// All cookies that were set on the way; of each name the last.
    pub(super) fn cookies(&self) -> Vec<CookieFact> {
        let mut list: Vec<CookieFact> = Vec::new();
        for fact in self.hops.iter().flat_map(Hop::cookies) {
            list.retain(|other| other.name != fact.name);
            list.push(fact);
        }
        list
    }
}

impl Seen {
    /// Every answer.
    pub(super) fn hops(&self) -> impl Iterator<Item = &Hop> {
        self.pages.iter().chain(&self.others).chain(&self.again).flat_map(|visit| &visit.hops)
    }

    /// The cookies of the first visitor, each once, as they were set first.
    pub(super) fn cookies(&self) -> Vec<CookieFact> {
        let mut list: Vec<CookieFact> = Vec::new();
        for fact in self.pages.iter().flat_map(Visit::cookies) {
            if !list.iter().any(|other| other.name == fact.name) {
                list.push(fact);
            }
        }
        list
    }

    /// Every value of a cookie, of whomever, that is long enough to be a secret.
    pub(super) fn secrets(&self) -> Vec<Vec<u8>> {
        let mut list: Vec<Vec<u8>> = self
            .hops()
            .flat_map(Hop::cookies)
            .map(|fact| fact.value)
            .filter(|value| value.len() >= 6)
            .collect();
        list.sort();
        list.dedup();
        list
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} bytes", self.status, self.text.len())
    }
}

impl fmt::Debug for CookieFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// An answer with these lines of a head and this body.
    pub(crate) fn hop(target: &str, status: u16, head: &[(&'static str, &str)], text: &str) -> Hop {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            headers.append(*name, value.parse().unwrap());
        }
        Hop {
            target: target.to_owned(),
            status,
            headers,
            text: text.as_bytes().to_vec(),
            was_read: true,
            complete: true,
            at_s: 1_767_225_600,
            was_slow: false,
        }
    }

    /// A page that answered at once.
    pub(crate) fn visit(target: &str, head: &[(&'static str, &str)], text: &str) -> Visit {
        Visit { public: target.to_owned(), hops: vec![hop(target, 200, head, text)], ..Visit::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::visit;

    #[test]
    fn cookies_are_read_with_their_lives_and_never_shown() {
        let page = visit(
            "/",
            &[
                ("set-cookie", "sid=topsecret; Max-Age=600; HttpOnly; Path=/AppA"),
                ("set-cookie", "gone=; Max-Age=0"),
                ("set-cookie", "plain=1"),
            ],
            "",
        );
        let cookies = page.cookies();
        assert_eq!(cookies.len(), 2);
        assert_eq!((cookies[0].seconds, cookies[0].http_only), (Some(600), true));
        assert_eq!(cookies[0].path.as_deref(), Some("/AppA"));
        assert!(!format!("{page:?} {cookies:?}").contains("topsecret"));
    }
}
