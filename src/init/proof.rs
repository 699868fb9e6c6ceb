//! The draft read once more before anybody sees it: no secret in it, and a word at its top where it is no good config.
//!
//! Invariant: pure; no line that comes out holds a value of a cookie, but for what the command line itself says.

use std::fmt::Write as _;

use crate::config;

/// What stands for a line that is left out.
const BLANK: &str = "# A line was left out here: it held the value of a cookie.";
/// A word of fewer letters and nothing else is no secret: `default`, `english`.
const LONGEST_WORD: usize = 11;

/// The text without lines that hold any of `secrets`; what is in `typed`, the command line's URLs, is none.
pub(super) fn without(text: &str, secrets: &[Vec<u8>], typed: &[String]) -> String {
    let within = |one: &[u8], two: &str| memchr::memmem::find(two.as_bytes(), one).is_some();
    let is_word = |secret: &[u8]| secret.len() <= LONGEST_WORD && secret.iter().all(u8::is_ascii_alphabetic);
    let raw = secrets.iter().map(|secret| std::borrow::Cow::Borrowed(&secret[..]));
    let decoded = secrets.iter().map(|secret| percent_encoding::percent_decode(secret).into());
    let secrets: Vec<std::borrow::Cow<'_, [u8]>> = raw
        .chain(decoded)
        .filter(|secret| secret.len() >= 6 && !is_word(secret))
        .filter(|secret| !typed.iter().any(|url| within(secret, url.split('?').next().unwrap_or_default())))
        .collect();
    let lines = text.split('\n').map(|line| {
        // Regular expressions and strings put backslashes before what they escape.
        let bare = line.replace('\\', "");
        let holds = secrets.iter().any(|secret| within(secret, line) || within(secret, &bare));
        if holds { BLANK } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The draft, and its mistakes if it is no good config: then a comment at its top says so.
pub(super) fn tried(text: &str, colors: bool) -> (String, Option<String>) {
    let Err(report) = config::load_str("the draft", text, &mut crate::names::Names::default()) else {
        return (text.to_owned(), None);
    };
    let mut out =
        String::from("# NOT a good config as it stands. `sessionbridge check FILE` says what to mend:\n");
    for line in report.render(false).lines() {
        let _ = writeln!(out, "# {}", line.replace(char::is_control, " "));
    }
    out.push_str(text);
    (out, Some(report.render(colors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_the_value_of_a_cookie_is_left_out() {
        let text = "a = 1\nb = \"0123-4567\"\nc = \"0123\\\\-4567\"\nd = \"x y z w\"\npath = \"/shop42/\"\n# default\n";
        let secrets =
            ["0123-4567", "x%20y%20z%20w", "shop42", "default"].map(|secret| secret.as_bytes().to_vec());
        let typed = ["http://a/shop42/?x=0123-4567".to_owned()];
        let expected = format!("a = 1\n{BLANK}\n{BLANK}\n{BLANK}\npath = \"/shop42/\"\n# default\n");
        assert_eq!(without(text, &secrets, &typed), expected);
    }

    #[test]
    fn a_bad_draft_is_kept_with_a_word_at_its_top() {
        let bad = "listen = \"127.0.0.1:8080\"\n[apps.a]\npath = 7\n";
        let (text, mistakes) = tried(bad, false);
        assert!(text.starts_with("# NOT a good config") && text.ends_with(bad), "{text}");
        assert!(text.strip_suffix(bad).unwrap().lines().all(|line| line.starts_with('#')), "{text}");
        assert!(mistakes.is_some());
        let good =
            "listen = \"127.0.0.1:8080\"\n[apps.a]\npath = \"/a/\"\nupstreams = [\"http://127.0.0.1:1\"]\n";
        assert_eq!(tried(good, false), (good.to_owned(), None));
    }
}
