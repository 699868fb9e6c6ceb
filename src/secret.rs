//! Values that must never be seen: redacted when printed, erased when dropped, compared in constant time.
//!
//! A [`Secret`] has no `Display` and no `Serialize`; its bytes are reached only by naming [`Secret::expose`].

use std::fmt;

use aws_lc_rs::{digest, hmac};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Bytes that must not appear in a log, a metric, an error or an admin answer.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes `bytes` into custody.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves. Every caller is a place to review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Overwrites `bytes` with zeros, a block at a time: `zeroize` goes byte by byte, which for a session that falls asleep
/// was a third of all. What is handed to [`std::hint::black_box`] the compiler takes to be read, so it leaves no store out.
#[inline]
pub fn erase(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

/// The first 16 bytes of SHA-256 of `bytes`: what a bridge id is kept and looked up as.
#[must_use]
pub fn digest16(bytes: &[u8]) -> [u8; 16] {
    first(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// A keyed hash whose results may be shown or kept where the hashed value may not.
pub struct Keyed(hmac::Key);

impl Keyed {
    /// With a key of 32 random bytes, made once per process (or kept with the store's keys).
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// 64 bits of HMAC-SHA-256 over `parts`, each preceded by its length, so that no two lists collide by concatenation.
    #[must_use]
    pub fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        u64::from_be_bytes(first(context.sign().as_ref()))
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed(..)")
    }
}

/// The first `N` bytes of `bytes`, padded with zeros where there are fewer (never the case for a SHA-256).
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new(*b"CFTOKEN")), "Secret(..)");
    }

    #[test]
    fn a_keyed_hash_depends_on_key_and_on_where_parts_end() {
        let (one, two) = (Keyed::new(&[1; 32]), Keyed::new(&[2; 32]));
        assert_eq!(one.hash(&[b"ab", b"c"]), one.hash(&[b"ab", b"c"]));
        assert_ne!(one.hash(&[b"ab", b"c"]), one.hash(&[b"a", b"bc"]));
        assert_ne!(one.hash(&[b"ab"]), two.hash(&[b"ab"]));
    }

    #[test]
    fn the_digest_is_the_head_of_sha256() {
        assert_eq!(digest16(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
