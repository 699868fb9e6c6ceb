//! Putting untrusted text into a line of a log.
//!
//! Invariant: what is put in cannot end the string or the line, move a terminal's cursor or reorder what
//! stands beside it: controls (C0, DEL, C1), quotes, backslashes, line separators and bidirectional controls
//! are escaped as in JSON.

/// Appends `text`, escaped, without quotes around it; at most `limit` bytes of it, and `…` where that cuts
/// it. What is not UTF-8 becomes U+FFFD.
pub(super) fn push(out: &mut Vec<u8>, text: &[u8], limit: usize) {
    let kept = text.get(..limit).unwrap_or(text);
    // Counted rather than searched: that is done many octets at a time.
    if kept.iter().filter(|octet| !is_plain(**octet)).count() == 0 {
        out.extend_from_slice(kept);
    } else {
        push_odd(out, kept, kept.len() < text.len());
    }
    if kept.len() < text.len() {
        out.extend_from_slice("…".as_bytes());
    }
}

/// True for an octet that is copied as it is.
const fn is_plain(octet: u8) -> bool {
    (octet >= b' ') & (octet < 0x7f) & (octet != b'"') & (octet != b'\\')
}

/// Text that is not all plain. `cut`: a character may be cut in two at its end.
#[cold]
fn push_odd(out: &mut Vec<u8>, text: &[u8], cut: bool) {
    let mut chunks = text.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        chunk.valid().chars().for_each(|one| push_char(out, one));
        let halved = cut && chunks.peek().is_none();
        if !chunk.invalid().is_empty() && !halved {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn push_char(out: &mut Vec<u8>, one: char) {
    match one {
        '"' | '\\' => out.extend_from_slice(&[b'\\', if one == '"' { b'"' } else { b'\\' }]),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ if is_dangerous(one) => {
            out.extend_from_slice(b"\\u");
            let number = u64::from(u32::from(one));
            out.extend([12, 8, 4, 0].map(|shift| super::request_id::hex_digit(number >> shift)));
        }
        _ => out.extend_from_slice(one.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// All of these lie below U+10000, so four digits are enough.
const fn is_dangerous(one: char) -> bool {
    matches!(
        one,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &[u8], limit: usize) -> String {
        let mut out = Vec::new();
        push(&mut out, text, limit);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_could_deceive_is_escaped() {
        assert_eq!(
            escaped("a\"b\\c\r\n\t\x1b[2J\x7f\u{9b}".as_bytes(), 99),
            r#"a\"b\\c\r\n\t\u001b[2J\u007f\u009b"#
        );
        assert_eq!(escaped("é\u{202e}x\u{2066}\u{2028}".as_bytes(), 99), r"é\u202ex\u2066\u2028");
        assert_eq!(escaped(b"a\xffb", 99), "a\u{fffd}b");
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        assert_eq!(escaped(b"abcdef", 4), "abcd…");
        assert_eq!(escaped("abcéf".as_bytes(), 4), "abc…");
        assert_eq!(escaped(b"abcd", 4), "abcd");
    }

    proptest! {
        #[test]
        fn a_json_parser_reads_back_what_was_put_in(text in any::<String>()) {
            let json = format!("\"{}\"", escaped(text.as_bytes(), usize::MAX));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn no_bytes_break_the_line(text in prop::collection::vec(any::<u8>(), 0..50), limit in 0..60_usize) {
            let out = escaped(&text, limit);
            prop_assert!(!out.chars().any(|one| one.is_control() || is_dangerous(one)));
            let json = format!("\"{out}\"");
            prop_assert!(serde_json::from_str::<String>(&json).is_ok());
        }
    }
}
