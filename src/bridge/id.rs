//! Names of a bridge session: the secret one that its browser holds, the one it is kept under, the one that may be shown.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroize;

use crate::secret::digest16;

/// What the browser's cookie says: 16 random bytes, 22 characters of base64url. Whoever has it is the person.
#[derive(Clone, PartialEq, Eq)]
pub struct BridgeId([u8; 16]);

impl BridgeId {
    /// Characters of the cookie's value.
    pub const LENGTH: usize = 22;

    /// From 16 bytes of the system's CSPRNG.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// From a cookie's value; `None` where it is not one of ours.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() != Self::LENGTH {
            return None;
        }
        let mut bytes = [0; 16];
        // Only the canonical spelling: the decoder refuses trailing bits, so that no second value opens the same session.
        (URL_SAFE_NO_PAD.decode_slice(value, &mut bytes) == Ok(16)).then_some(Self(bytes))
    }

    /// The cookie's value.
    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What it is kept and looked up under.
    #[must_use]
    pub fn key(&self) -> Key {
        Key(digest16(&self.0))
    }
}

impl fmt::Debug for BridgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BridgeId(..)")
    }
}

impl Drop for BridgeId {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What a bridge id is kept under: the head of its SHA-256. Useless to whoever reads it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// From its bytes, as a store kept them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A hash of it, for a table: it is uniform already.
    #[must_use]
    pub fn hash(&self) -> u64 {
        u64::from_le_bytes(self.0.first_chunk().copied().unwrap_or_default())
    }

    /// Its bytes, for a store and for the keyed hash that is shown.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A session's name in logs, in the admin API and on pages: a keyed hash, 16 hex digits, of which pages show 8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub u64);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({self})")
    }
}

impl std::str::FromStr for Handle {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_but_the_canonical_spelling_is_an_id() {
        let id = BridgeId::new([0xff; 16]).encode();
        assert_eq!(id.len(), BridgeId::LENGTH);
        let mut other = id.clone().into_bytes();
        let last = other.len() - 1;
        other[last] = if other[last] == b'w' { b'x' } else { other[last] + 1 };
        assert_eq!(BridgeId::parse(&other), None, "trailing bits");
        assert_eq!(BridgeId::parse(b""), None);
        assert_eq!(BridgeId::parse(&[b'A'; 23]), None);
        assert_eq!(BridgeId::parse(b"AAAAAAAAAAAAAAAAAAAA=="), None);
    }

    #[test]
    fn no_id_is_printed() {
        assert_eq!(
            format!("{:?} {:?}", BridgeId::new([1; 16]), BridgeId::new([1; 16]).key()),
            "BridgeId(..) Key(..)"
        );
    }

    proptest! {
        #[test]
        fn an_id_survives_its_cookie(bytes: [u8; 16]) {
            let id = BridgeId::new(bytes);
            prop_assert_eq!(BridgeId::parse(id.encode().as_bytes()), Some(id));
        }
    }
}
