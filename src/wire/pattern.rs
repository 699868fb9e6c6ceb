//! The globs of the config: `GET /AppA/logout.cfm*`, `legacy_*`.
//!
//! Invariant: matching takes time linear in text times one pass, whatever the pattern: each piece between
//! stars is looked for once, from where the last one ended, and never given back.

use std::borrow::Cow;
use std::str::FromStr;

use http::Method;
use memchr::memmem;

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is there.
    #[error("the pattern is empty")]
    Empty,
    /// What stands before the path is no method.
    #[error("`{0}` is not a method")]
    Method(String),
    /// The path begins neither with `/` nor with `*`.
    #[error("a path begins with `/` or `*`, unlike `{0}`")]
    Path(String),
    /// More than a method and a path.
    #[error("a pattern is a method and a path, without other spaces")]
    Spaces,
}

/// A text with `*` for any characters, `/` included, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    head: Box<str>,
    /// What lies between the first star and the last.
    middle: Box<[Box<str>]>,
    /// Behind the last star; `None` where there is no star.
    tail: Option<Box<str>>,
    fold: bool,
}

impl Glob {
    /// Every text is a glob. It matches case by case; `ignore_case` changes that.
    pub fn new(text: &str) -> Self {
        let mut pieces = text.split('*').map(Box::<str>::from);
        let head = pieces.next().unwrap_or_default();
        let mut middle: Vec<Box<str>> = pieces.collect();
        let tail = middle.pop();
        middle.retain(|piece| !piece.is_empty());
        Self { head, middle: middle.into(), tail, fold: false }
    }

    /// The same glob, for which ASCII letters are equal in both cases.
    #[must_use]
    pub fn ignore_case(mut self) -> Self {
        self.fold = true;
        self.head.make_ascii_lowercase();
        self.middle.iter_mut().for_each(|piece| piece.make_ascii_lowercase());
        self.tail.iter_mut().for_each(|piece| piece.make_ascii_lowercase());
        self
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let text = if self.fold && text.bytes().any(|octet| octet.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        };
        let Some(rest) = text.strip_prefix(&*self.head) else { return false };
        let Some(tail) = &self.tail else { return rest.is_empty() };
        let Some(mut rest) = rest.strip_suffix(&**tail).map(str::as_bytes) else { return false };
        self.middle.iter().all(|piece| match memmem::find(rest, piece.as_bytes()) {
            Some(at) => {
                rest = rest.get(at + piece.len()..).unwrap_or_default();
                true
            }
            None => false,
        })
    }
}

/// A method, a path glob and perhaps a query glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    method: Option<Method>,
    path: Glob,
    query: Option<Glob>,
}

impl Pattern {
    /// Reads `[METHOD ]PATH[?QUERY]`: METHOD may be `*`, which is what it is when absent. The first `?` is
    /// where the query begins; without one, the pattern matches whatever the query is.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut words = text.split_ascii_whitespace();
        let first = words.next().ok_or(PatternError::Empty)?;
        let (method, target) = match words.next() {
            Some(target) => (method(first)?, target),
            None => (None, first),
        };
        if words.next().is_some() {
            return Err(PatternError::Spaces);
        }
        if !target.starts_with(['/', '*']) {
            return Err(PatternError::Path(target.to_owned()));
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(Glob::new(query))),
            None => (target, None),
        };
        Ok(Self { method, path: Glob::new(path), query })
    }

    /// The same pattern, for which ASCII letters of path and query are equal in both cases.
    #[must_use]
    pub fn ignore_case(self) -> Self {
        Self { method: self.method, path: self.path.ignore_case(), query: self.query.map(Glob::ignore_case) }
    }

    /// Whether a request matches. `path` is the normal form (`path::normal`), `query` raw and without its
    /// `?`. A pattern with a query matches no request without one.
    pub fn matches(&self, method: &Method, path: &str, query: Option<&str>) -> bool {
        self.method.as_ref().is_none_or(|own| own == method)
            && self.path.matches(path)
            && self.query.as_ref().is_none_or(|glob| query.is_some_and(|query| glob.matches(query)))
    }

    /// Whether a link to `path` and `query` matches: as [`Pattern::matches`]; one that names neither path nor query,
    /// `*do=logout*`, is also matched with both as one text.
    pub fn matches_link(&self, path: &str, query: Option<&str>) -> bool {
        self.matches(&Method::GET, path, query)
            || self.query.is_none()
                && self.path.head.is_empty()
                && query.is_some_and(|query| self.path.matches(&format!("{path}?{query}")))
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

fn method(word: &str) -> Result<Option<Method>, PatternError> {
    if word == "*" {
        return Ok(None);
    }
    let is_upper = word.bytes().all(|octet| octet.is_ascii_uppercase() || octet == b'-');
    match Method::from_bytes(word.as_bytes()) {
        Ok(method) if is_upper => Ok(Some(method)),
        _ => Err(PatternError::Method(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn globs() {
        for (glob, text, matched) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "a/b", true),
            ("a*", "a", true),
            ("*a", "ba", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("*ab*ab*", "xabab", true),
            ("*ab*ab*", "xabb", false),
            ("legacy_*", "legacy_x", true),
            ("legacy_*", "Legacy_x", false),
            ("*é*", "xéx", true),
        ] {
            assert_eq!(Glob::new(glob).matches(text), matched, "{glob} {text}");
        }
        assert!(Glob::new("Legacy_*X").ignore_case().matches("lEGACY_ax"));
    }

    #[test]
    fn patterns() {
        let matches = |pattern: &str, method: Method, path: &str, query: Option<&str>| {
            Pattern::parse(pattern).unwrap().matches(&method, path, query)
        };
        assert!(matches("GET /AppA/logout.cfm*", Method::GET, "/AppA/logout.cfm", None));
        assert!(matches("GET /AppA/logout.cfm*", Method::GET, "/AppA/logout.cfm/x", Some("a=1")));
        assert!(!matches("GET /AppA/logout.cfm*", Method::POST, "/AppA/logout.cfm", None));
        assert!(matches("/AppA/login.cfm*", Method::POST, "/AppA/login.cfm", None));
        assert!(matches("* /static/*", Method::PUT, "/static/a/b", None));
        let action = "POST /AppA/*?*action=logout*";
        assert!(matches(action, Method::POST, "/AppA/", Some("x=1&action=logout&y")));
        assert!(!matches(action, Method::POST, "/AppA/action=logout", None));
        assert!(!matches(action, Method::POST, "/AppA/", Some("action=log")));
        assert!(matches("/x?", Method::GET, "/x", Some("")) && !matches("/x?", Method::GET, "/x", None));
        assert!(!matches("/appa/*", Method::GET, "/AppA/x", None));
        let folded = Pattern::parse("/AppA/*?Do=Logout").unwrap().ignore_case();
        assert!(folded.matches(&Method::GET, "/APPA/x", Some("do=logout")));
    }

    #[test]
    fn mistakes() {
        assert_eq!(Pattern::parse(" "), Err(PatternError::Empty));
        assert_eq!(Pattern::parse("get /x"), Err(PatternError::Method("get".into())));
        assert_eq!(Pattern::parse("logout"), Err(PatternError::Path("logout".into())));
        assert_eq!(Pattern::parse("GET /x y"), Err(PatternError::Spaces));
        assert_eq!(Pattern::parse("G(T /x"), Err(PatternError::Method("G(T".into())));
    }

    #[test]
    fn many_stars_stay_cheap() {
        let glob = Glob::new(&"*a".repeat(2000));
        assert!(!glob.matches(&format!("{}b", "a".repeat(60_000))));
        assert!(glob.matches(&"a".repeat(60_000)));
    }

    /// The plain definition, exponential.
    fn by_definition(glob: &[u8], text: &[u8]) -> bool {
        match glob.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|from| by_definition(rest, &text[from..])),
            Some((octet, rest)) => text.first() == Some(octet) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(glob in "[ab*]{0,7}", text in "[ab]{0,8}") {
            prop_assert_eq!(Glob::new(&glob).matches(&text), by_definition(glob.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn a_text_matches_itself_with_stars(text in "[a-c/]{0,10}", stars in any::<prop::sample::Index>()) {
            let at = stars.index(text.len() + 1);
            let glob = Glob::new(&format!("{}*{}", &text[..at], &text[at..]));
            prop_assert!(glob.matches(&text));
        }
    }

    #[test]
    fn a_link_without_a_query_in_its_pattern_is_matched_as_one_text_too() {
        let links = |pattern: &str, path, query| Pattern::parse(pattern).unwrap().matches_link(path, query);
        assert!(links("*do=logout*", "/wiki/doku.php", Some("id=start&do=logout&sectok=1")));
        assert!(links("/out", "/out", Some("t=1")), "whatever the query is");
        assert!(!links("/wiki/*/out", "/wiki/delete", Some("x=/out")), "its path is no query");
        assert!(!links("*do=logout*", "/wiki/doku.php", Some("do=login")));
        assert!(
            !links("/wiki/*?*do=logout*", "/wiki/do=logout", None),
            "a query that is named must be there"
        );
    }
}
