//! Sign-outs and sign-ins as they are seen in an app's traffic.

use http::Method;

use super::app_session::Learned;
use super::rules::SignOutRules;
use crate::wire::pattern::Pattern;

/// A request as far as sign-outs and sign-ins go: its method and public URL.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The public path.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
}

/// Words that say "sign me out" where they stand as a whole.
const WORDS: [&str; 12] = [
    "logout", "logoff", "signout", "signoff", "log-out", "log_out", "log-off", "log_off", "sign-out",
    "sign_out", "sign-off", "sign_off",
];

impl Asked<'_> {
    /// True where one of `patterns` matches.
    #[must_use]
    pub fn is_one_of(&self, patterns: &[Pattern]) -> bool {
        patterns.iter().any(|pattern| pattern.matches(self.method, self.path, self.query))
    }

    /// True where the request alone could be a sign-out.
    #[must_use]
    pub fn may_sign_out(&self, rules: &SignOutRules) -> bool {
        if !rules.detect.is_empty() {
            return self.is_one_of(&rules.detect);
        }
        says_so(self.path) || self.query.is_some_and(says_so)
    }

    /// True where the answer (its status, what it did to the token) makes this a sign-out of the app.
    #[must_use]
    pub fn signed_out(&self, rules: &SignOutRules, status: u16, learned: Learned) -> bool {
        if status >= 400 {
            return false;
        }
        self.may_sign_out(rules)
            && (!rules.detect.is_empty()
                || (learned.changed || learned.gone || learned.other_changed) && !learned.first)
    }

    /// True for a form posted to one of the app's sign-in pages.
    #[must_use]
    pub fn signs_in(&self, rules: &SignOutRules) -> bool {
        self.method == Method::POST
            && rules.login.iter().any(|login| login.matches(self.method, self.path, self.query))
    }
}

/// True where `text` has one of [`WORDS`] as a whole word, whatever its case.
fn says_so(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_word = |at: Option<&u8>| at.is_some_and(u8::is_ascii_alphanumeric);
    WORDS.iter().any(|word| {
        bytes.windows(word.len()).enumerate().any(|(at, window)| {
            window.eq_ignore_ascii_case(word.as_bytes())
                && !is_word(at.checked_sub(1).and_then(|before| bytes.get(before)))
                && !is_word(bytes.get(at + word.len()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(detect: &[&str]) -> SignOutRules {
        SignOutRules {
            scope: super::super::rules::Scope::Together,
            detect: detect.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
            recipe: None,
            login: vec![Pattern::parse("/AppA/login.cfm*").unwrap()],
        }
    }

    const DELETED: Learned = Learned {
        first: false,
        changed: true,
        gone: true,
        other_changed: false,
        renewed: false,
        stale: false,
        rolled: false,
    };

    #[test]
    fn without_detect_a_word_and_a_lost_token_together_are_a_sign_out() {
        let seen = |path, query, learned| {
            Asked { method: &Method::GET, path, query }.signed_out(&rules(&[]), 302, learned)
        };
        assert!(seen("/AppA/logout.cfm", None, DELETED));
        assert!(seen("/AppA/index.cfm", Some("action=Log_Out&x=1"), DELETED));
        let other = Learned { other_changed: true, rolled: true, ..Learned::default() };
        assert!(
            seen("/AppA/logout.cfm", None, other),
            "with J2EE sessions an invalidated session changes CFID alone"
        );
        assert!(!seen("/AppA/logout.cfm", None, Learned::default()), "nothing happened");
        assert!(!seen("/AppA/catalogoutput.cfm", None, DELETED), "no whole word");
        assert!(!seen("/AppA/index.cfm", None, DELETED), "an app that lost its table takes nobody along");
        assert!(
            !seen("/AppA/logout.cfm", None, Learned { first: true, ..DELETED }),
            "a first token ends nothing"
        );
    }

    #[test]
    fn with_detect_its_patterns_alone_decide_and_an_error_does_not_count() {
        let detect = rules(&["GET /AppA/bye.cfm*"]);
        let asked = Asked { method: &Method::GET, path: "/AppA/bye.cfm", query: None };
        assert!(asked.signed_out(&detect, 200, Learned::default()));
        assert!(!asked.signed_out(&detect, 403, DELETED));
        let other = Asked { method: &Method::GET, path: "/AppA/logout.cfm", query: None };
        assert!(!other.signed_out(&detect, 200, DELETED));
    }

    #[test]
    fn only_a_posted_form_is_a_sign_in() {
        let sign_in =
            |method| Asked { method: &method, path: "/AppA/login.cfm", query: None }.signs_in(&rules(&[]));
        assert!(sign_in(Method::POST));
        assert!(!sign_in(Method::GET));
    }
}
