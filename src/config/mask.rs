//! Hides the secrets of a config in its own text, so that lines of it may be printed.
//!
//! The masked text is byte for byte as long as the real one and breaks its lines at the same places: spans
//! fit both. Where a file does not parse, rather too much is hidden than too little.

use std::sync::LazyLock;

use regex::Regex;
use toml::de::{DeTable, DeValue};

/// A key whose value is a secret, up to its value, in a text that may not parse.
static SECRET_KEY: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?:^|[\s{.,"'])(?i:to?ke?n|key\w*|urls)["']?[ \t]*=[ \t]*"#).ok());

/// User and password of a URL.
static USERINFO: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"://([^/?#"'\s]*)@"#).ok());

/// `text` with the content of secret strings as asterisks: values of keys `token`, `key*`, `urls` and the
/// like, and user and password of any URL.
pub(super) fn mask(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let (tree, errors) = DeTable::parse_recoverable(text);
    mask_table(tree.get_ref(), &mut bytes);
    if !errors.is_empty() {
        mask_lines(text, &mut bytes);
    }
    let userinfo = USERINFO.iter().flat_map(|regex| regex.captures_iter(text));
    for found in userinfo.filter_map(|captures| captures.get(1)) {
        hide(&mut bytes, found.start(), found.end());
    }
    // A span always covers whole characters, so what is left is text; if it is not, nothing is shown.
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len()))
}

/// True where the value of `key` is a secret, or would be but for a slip in the key.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let named = key == "urls" || key.starts_with("key") || key.contains("secret") || key.contains("passw");
    named || (key != "tokens" && strsim::jaro_winkler(&key, "token") > 0.84)
}

fn mask_table(table: &DeTable<'_>, bytes: &mut [u8]) {
    for (key, value) in table.iter() {
        let span = value.span();
        match value.get_ref() {
            DeValue::Table(inner) => mask_table(inner, bytes),
            DeValue::Array(items) => {
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(inner) => mask_table(inner, bytes),
                        _ if is_secret(key.get_ref()) => {
                            hide_value(bytes, item.span().start, item.span().end)
                        }
                        _ => {}
                    }
                }
            }
            _ if is_secret(key.get_ref()) => hide_value(bytes, span.start, span.end),
            _ => {}
        }
    }
}

/// From each secret key to the end of its line, or to the end of the text where its value may go on.
fn mask_lines(text: &str, bytes: &mut [u8]) {
    for found in SECRET_KEY.iter().flat_map(|regex| regex.find_iter(text)) {
        let rest = text.get(found.end()..).unwrap_or_default();
        let goes_on = ["\"\"\"", "'''", "["].iter().any(|open| rest.starts_with(open));
        let length = if goes_on { rest.len() } else { rest.find('\n').unwrap_or(rest.len()) };
        hide(bytes, found.end(), found.end() + length);
    }
}

/// Hides what stands between the quotes of the value in `start..end`; a reference such as `${VAR}` is no
/// secret and is what a message is about, so a value that is nothing else stays.
fn hide_value(bytes: &mut [u8], start: usize, end: usize) {
    let quotes = bytes.get(start..end).map_or(0, |value| {
        if value.starts_with(b"\"\"\"") || value.starts_with(b"'''") {
            3
        } else {
            usize::from(value.starts_with(b"\"") || value.starts_with(b"'"))
        }
    });
    let (start, end) = (start + quotes, end.saturating_sub(quotes));
    let is_reference = bytes.get(start..end).is_some_and(|value| {
        value.starts_with(b"${")
            && value.iter().position(|&octet| octet == b'}') == Some(value.len() - 1)
            && !value.windows(2).any(|pair| pair == b":-")
    });
    if !is_reference {
        hide(bytes, start, end);
    }
}

/// Asterisks over all of `start..end` but line breaks.
fn hide(bytes: &mut [u8], start: usize, end: usize) {
    for octet in bytes.get_mut(start..end).unwrap_or_default() {
        if !matches!(octet, b'\n' | b'\r') {
            *octet = b'*';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_values_are_hidden_and_nothing_moves() {
        let text = "a = 1\n[admin]\ntoken = \"pass\u{e4}\" #\nurls = ['x://u:p@h', \"two\"]\nkeys_file = \"k\"\n";
        let masked = mask(text);
        assert_eq!(masked.len(), text.len());
        assert_eq!(
            masked,
            "a = 1\n[admin]\ntoken = \"******\" #\nurls = ['*********', \"***\"]\nkeys_file = \"*\"\n"
        );
    }

    #[test]
    fn a_slip_in_the_key_hides_the_value_all_the_same() {
        assert_eq!(mask("tokn = \"abc\""), "tokn = \"***\"");
        assert_eq!(mask("Token = \"abc\""), "Token = \"***\"");
        assert_eq!(mask("tokens = [\"abc\"]\npath = \"/x\""), "tokens = [\"abc\"]\npath = \"/x\"");
    }

    #[test]
    fn a_reference_stays_and_its_default_does_not() {
        assert_eq!(mask("token = \"${file:/x}\""), "token = \"${file:/x}\"");
        assert_eq!(mask("token = \"${X:-abc}\""), "token = \"*********\"");
        assert_eq!(mask("token = \"${X}abc\""), "token = \"*******\"");
    }

    #[test]
    fn a_file_that_does_not_parse_hides_more() {
        assert_eq!(mask("token = \"abc\nx = 1"), "token = ****\nx = 1");
        assert_eq!(mask("t = { key = 'abc', \nx = "), "t = { key = *******\nx = ");
        assert_eq!(mask("token = \"\"\"abc\nsecret"), "token = ******\n******");
    }

    #[test]
    fn the_user_of_a_url_is_hidden_everywhere() {
        assert_eq!(mask("u = \"http://me:pw@h/x\""), "u = \"http://*****@h/x\"");
    }

    proptest::proptest! {
        #[test]
        fn any_text_keeps_its_length_and_its_lines(
            text in "[a-z\"'=\\[\\]{}. \n\u{e4}$:@/]{0,80}|(token = [\"']?.{0,20}\n?){0,3}",
        ) {
            let masked = mask(&text);
            proptest::prop_assert_eq!(masked.len(), text.len());
            proptest::prop_assert_eq!(masked.matches('\n').count(), text.matches('\n').count());
        }
    }
}
