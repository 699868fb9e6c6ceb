//! Sealing what is kept: AES-256-GCM, each record under a key of its own.
//!
//! Random nonces are safe for 2^32 seals under one key, and a store seals that many in days. So each record's key is
//! derived from the key file's by HKDF with the record's name, and no record is sealed that often. The name and
//! how the record is written are authenticated with it: a record put in another's place does not open.
//!
//! A sealed record: one byte that says how it is written, four that say with which key, the nonce, the text, the tag. What is
//! kept in clear elsewhere, its front, is authenticated with it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::keys::{Key, Keys, Print};

/// How sealed records are written. A higher one is a newer version's.
const WRITTEN: u8 = 1;
/// Bytes before the text.
const HEAD: usize = 1 + size_of::<Print>() + NONCE_LEN;

/// Why a record does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// It was written by a newer version.
    #[error("it was written by a newer version of sessionbridge")]
    Newer,
    /// None of the key file's keys sealed it.
    #[error("the key that sealed it is not in the key file")]
    Key(Print),
    /// It was changed, or put in another's place.
    #[error("it is damaged")]
    Damaged,
}

/// Seals, in place, the text that was written behind [`room`].
///
/// # Errors
/// Where the system has no randomness to give, or there is no key.
pub(super) fn seal(keys: &Keys, name: &[u8], record: Vec<u8>) -> Result<Vec<u8>, SealError> {
    seal_with(&[], keys, name, record)
}

/// The same, with a `front` that is kept elsewhere, in clear: it opens only with the same one.
///
/// # Errors
/// As [`seal`].
pub(super) fn seal_with(
    front: &[u8],
    keys: &Keys,
    name: &[u8],
    mut record: Vec<u8>,
) -> Result<Vec<u8>, SealError> {
    let key = keys.first().ok_or(SealError::Damaged)?;
    let own = own_key(key, name).ok_or(SealError::Damaged)?;
    let (head, text) = record.split_at_mut_checked(HEAD).ok_or(SealError::Damaged)?;
    let (nonce, tag) = own
        .seal_in_place_separate_tag(Aad::from(aad(key.print, name, front)), text)
        .map_err(|_| SealError::Damaged)?;
    let written = [WRITTEN].into_iter().chain(key.print).chain(nonce.as_ref().iter().copied());
    head.iter_mut().zip(written).for_each(|(to, from)| *to = from);
    record.extend_from_slice(tag.as_ref());
    Ok(record)
}

/// What is authenticated with a text. A name's length is that of all names of its kind.
fn aad(print: Print, name: &[u8], front: &[u8]) -> SmallVec<[u8; 96]> {
    let mut aad = SmallVec::new();
    for part in [&[WRITTEN], &print[..], name, front] {
        aad.extend_from_slice(part);
    }
    aad
}

/// Bytes that say whose clocks they are.
const SIGN: usize = 8;

/// `clocks`, which are no secret, of the session `name`, behind what shows that whoever has the key file wrote them.
pub(super) fn sign(keys: &Keys, name: &[u8; 8], clocks: &[u8]) -> Option<SmallVec<[u8; 72]>> {
    let mut signed = SmallVec::from_slice(&signature(keys.first()?, name, clocks));
    signed.extend_from_slice(clocks);
    Some(signed)
}

/// Clocks that [`sign`] wrote. Nothing where somebody else did.
pub(super) fn signed<'a>(keys: &Keys, name: &[u8; 8], signed: &'a [u8]) -> Option<&'a [u8]> {
    let (sign, clocks) = signed.split_first_chunk::<SIGN>()?;
    keys.all().any(|key| signature(key, name, clocks) == *sign).then_some(clocks)
}

fn signature(key: &Key, name: &[u8; 8], clocks: &[u8]) -> [u8; SIGN] {
    let mut context = hmac::Context::with_key(&key.key);
    for part in [b"sessionbridge clocks", &name[..], clocks] {
        context.update(part);
    }
    context.sign().as_ref().first_chunk().copied().unwrap_or_default()
}

/// A buffer for a text that will be sealed.
pub(super) fn room() -> Vec<u8> {
    let mut room = Vec::with_capacity(1024);
    room.resize(HEAD, 0);
    room
}

/// Opens what [`seal`] sealed under the same name. The text is erased when it is dropped. True beside it: it was not sealed
/// with the key that seals now.
///
/// # Errors
/// See [`SealError`].
pub(super) fn open(keys: &Keys, name: &[u8], sealed: &[u8]) -> Result<(Zeroizing<Vec<u8>>, bool), SealError> {
    open_with(&[], keys, name, sealed)
}

/// Opens what [`seal_with`] sealed.
///
/// # Errors
/// See [`SealError`].
pub(super) fn open_with(
    front: &[u8],
    keys: &Keys,
    name: &[u8],
    sealed: &[u8],
) -> Result<(Zeroizing<Vec<u8>>, bool), SealError> {
    let (written, rest) = sealed.split_first().ok_or(SealError::Damaged)?;
    if *written != WRITTEN {
        return Err(if *written > WRITTEN { SealError::Newer } else { SealError::Damaged });
    }
    let (print, rest) = rest.split_first_chunk::<4>().ok_or(SealError::Damaged)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Damaged)?;
    let key = keys.of(*print).ok_or(SealError::Key(*print))?;
    let own = own_key(key, name).ok_or(SealError::Damaged)?;
    let mut text = Zeroizing::new(rest.to_vec());
    let opened = own.open_in_place(Nonce::from(nonce), Aad::from(aad(*print, name, front)), &mut text);
    let length = opened.map_err(|_| SealError::Damaged)?.len();
    text.truncate(length);
    Ok((text, keys.is_old(*print)))
}

/// The record's own key: HKDF-Expand (RFC 5869) of the file's key, which is as random as what HKDF-Extract would make of it.
fn own_key(key: &Key, name: &[u8]) -> Option<RandomizedNonceKey> {
    let mut expand = hmac::Context::with_key(&key.key);
    for part in [b"sessionbridge record", name, &[1]] {
        expand.update(part);
    }
    RandomizedNonceKey::new(&AES_256_GCM, expand.sign().as_ref()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(lines: &[u8]) -> Keys {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let text: String = lines
            .iter()
            .map(|byte| {
                use base64::Engine as _;
                format!("k{byte} {}\n", base64::engine::general_purpose::STANDARD.encode([*byte; 32]))
            })
            .collect();
        std::fs::write(&path, text).unwrap();
        Keys::load(&path, None).unwrap()
    }

    fn sealed(keys: &Keys, name: &[u8], text: &[u8]) -> Vec<u8> {
        let mut room = room();
        room.extend_from_slice(text);
        seal(keys, name, room).unwrap()
    }

    #[test]
    fn an_old_key_opens_and_is_seen_to_be_old() {
        let record = sealed(&keys(&[1]), b"a", b"CFTOKEN");
        let (text, old) = open(&keys(&[2, 1]), b"a", &record).unwrap();
        assert_eq!((&text[..], old), (&b"CFTOKEN"[..], true));
        assert!(!open(&keys(&[1]), b"a", &record).unwrap().1);
        assert!(matches!(open(&keys(&[2]), b"a", &record), Err(SealError::Key(_))));
    }

    #[test]
    fn clocks_are_of_one_session_and_of_whoever_has_a_key() {
        let written = sign(&keys(&[1]), b"12345678", b"noon").unwrap();
        assert_eq!(signed(&keys(&[2, 1]), b"12345678", &written), Some(&b"noon"[..]));
        assert_eq!(signed(&keys(&[1]), b"12345679", &written), None);
        assert_eq!(signed(&keys(&[2]), b"12345678", &written), None);
        for at in 0..written.len() {
            let mut other = written.clone();
            other[at] ^= 1;
            assert_eq!(signed(&keys(&[1]), b"12345678", &other), None);
            assert_eq!(signed(&keys(&[1]), b"12345678", &written[..at]), None);
        }
    }

    #[test]
    fn nothing_is_in_clear_and_nothing_opens_in_anothers_place() {
        let keys = keys(&[1]);
        let record = sealed(&keys, b"a", b"CFTOKEN=12345678");
        assert!(!record.windows(7).any(|part| part == b"CFTOKEN"));
        assert_ne!(record, sealed(&keys, b"a", b"CFTOKEN=12345678"), "the nonce is random");
        assert_eq!(open(&keys, b"b", &record), Err(SealError::Damaged));
        let mut newer = record;
        newer[0] = WRITTEN + 1;
        assert_eq!(open(&keys, b"a", &newer), Err(SealError::Newer));
    }

    #[test]
    fn it_opens_with_its_own_front_alone() {
        let (keys, mut text) = (keys(&[1]), room());
        text.extend_from_slice(b"CFTOKEN");
        let record = seal_with(b"front", &keys, b"a", text).unwrap();
        assert_eq!(&open_with(b"front", &keys, b"a", &record).unwrap().0[..], b"CFTOKEN");
        for other in [&b""[..], b"frown", b"front ", b"fron"] {
            assert_eq!(open_with(other, &keys, b"a", &record), Err(SealError::Damaged));
        }
    }

    proptest! {
        #[test]
        fn one_flipped_bit_anywhere_is_seen(text: Vec<u8>, at: prop::sample::Index, bit in 0_u8..8) {
            let keys = keys(&[1]);
            let mut record = sealed(&keys, b"a", &text);
            prop_assert_eq!(&open(&keys, b"a", &record).unwrap().0[..], &text[..]);
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            prop_assert!(open(&keys, b"a", &record).is_err());
        }
    }
}
