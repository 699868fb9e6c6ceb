//! Ids in the shapes of the engines, and what signs them.
//!
//! Invariant: everything follows from the seed and the number of ids taken, so that a run repeats.

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};

/// A source of ids.
pub(super) struct Ids {
    state: u64,
    counter: u64,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed, counter: 100 + seed % 400 }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `len` characters of `alphabet` (ASCII).
    pub(super) fn text(&mut self, len: usize, alphabet: &str) -> String {
        let letters = alphabet.len().max(1) as u64;
        let pick = |n: u64| alphabet.chars().nth(usize::try_from(n % letters).unwrap_or(0));
        (0..len).filter_map(|_| pick(self.next() >> 16)).collect()
    }

    pub(super) fn hex(&mut self, len: usize) -> String {
        self.text(len, "0123456789abcdef")
    }

    pub(super) fn upper_hex(&mut self, len: usize) -> String {
        self.text(len, "0123456789ABCDEF")
    }

    /// The CFID of Adobe and OpenBD: a decimal counter.
    pub(super) fn cfid(&mut self) -> String {
        self.counter += 1;
        self.counter.to_string()
    }

    /// The old CFTOKEN: 10,000,000 to 99,999,999.
    pub(super) fn eight_digits(&mut self) -> String {
        (10_000_000 + self.next() % 90_000_000).to_string()
    }

    /// The CFTOKEN of ColdFusion 10 and later: 16 hex, `-`, 8-4-4-16 upper-case hex.
    pub(super) fn uuid_token(&mut self) -> String {
        let head = self.hex(16);
        let parts = [self.upper_hex(8), self.upper_hex(4), self.upper_hex(4), self.upper_hex(16)];
        format!("{head}-{}", parts.join("-"))
    }

    /// The CFID of Lucee.
    pub(super) fn guid(&mut self) -> String {
        [8, 4, 4, 4, 12].map(|len| self.hex(len)).join("-")
    }
}

/// Whether Lucee takes `text` for one of its ids: 36 characters with dashes in their places, nothing else.
pub(super) fn is_guid(text: &str) -> bool {
    text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes().get(at) == Some(&b'-'))
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of `text` in hex of either case.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok())
        .collect()
}

/// HMAC-SHA256 under an application's secret.
pub(super) fn sign(secret: &str, text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// SHA-256 in lower-case hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The SHA-1 that RFC 6455 asks for.
pub(super) fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

/// `ms` (unix) as an HTTP date; `separator` stands between day, month and year (a blank, or the dash of
/// Netscape's cookies).
pub(super) fn date(ms: u64, separator: char) -> String {
    let stamp =
        i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    stamp.strftime(&format!("%a, %d{separator}%b{separator}%Y %H:%M:%S GMT")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let mut ids = Ids::new(7);
        assert!(is_guid(&ids.guid()));
        let token = ids.uuid_token();
        let lengths: Vec<usize> = token.split('-').map(str::len).collect();
        assert_eq!(lengths, [16, 8, 4, 4, 16]);
        for _ in 0..1000 {
            assert!((10_000_000..=99_999_999).contains(&ids.eight_digits().parse::<u64>().unwrap()));
        }
        assert_eq!(ids.cfid().parse::<u64>().unwrap() + 1, ids.cfid().parse::<u64>().unwrap());
        assert_eq!(Ids::new(3).hex(40), Ids::new(3).hex(40));
        assert_ne!(Ids::new(3).hex(40), Ids::new(4).hex(40));
    }

    #[test]
    fn hex_reads_back() {
        assert_eq!(unhex(&hex(b"\x00\xffa")).unwrap(), b"\x00\xffa");
        assert!(unhex("abc").is_none() && unhex("zz").is_none());
    }

    #[test]
    fn dates() {
        assert_eq!(date(784_111_777_000, ' '), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(784_111_777_000, '-'), "Sun, 06-Nov-1994 08:49:37 GMT");
    }
}
