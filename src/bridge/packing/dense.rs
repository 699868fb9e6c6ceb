//! Values of cookies in fewer bits than eight a character: nearly every token is a row of digits of one alphabet.
//!
//! Invariant: what is read is what was written, octet by octet.

/// Digits of which a value may be made, and how many bits one of them takes.
struct Alphabet {
    digits: &'static [u8],
    bits: u32,
    /// For each octet its place in `digits`.
    places: [u8; 256],
}

/// The place of an octet that is no digit.
const NONE: u8 = u8::MAX;

/// Those that tokens are made of, the narrowest first.
static ALPHABETS: [Alphabet; 5] = [
    // Tomcat's and Jetty's JSESSIONID, CFTOKEN without its UUID; numbers.
    Alphabet::new(b"0123456789ABCDEF", 4),
    Alphabet::new(b"0123456789abcdef", 4),
    // PHP, with session.sid_bits_per_character = 5.
    Alphabet::new(b"0123456789abcdefghijklmnopqrstuv", 5),
    // ASP.NET_SessionId.
    Alphabet::new(b"abcdefghijklmnopqrstuvwxyz012345", 5),
    // Lucee's UUIDs, a Tomcat's with the name of its node behind it, words.
    Alphabet::new(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-.", 6),
];
/// Room for the number of an alphabet, counted from 1; 0: as it is.
const KINDS: u64 = 8;

/// A value as it lies in a packed session.
#[derive(Clone, Copy, Default)]
pub(in crate::bridge) struct Value<'a> {
    packed: &'a [u8],
    alphabet: Option<&'static Alphabet>,
    length: usize,
}

/// How `value` is to be written: what the reader has to know.
pub(super) fn head(value: &[u8]) -> u64 {
    let fits = |alphabet: &Alphabet| value.iter().all(|octet| alphabet.place(*octet) != NONE);
    let kind = ALPHABETS.iter().position(fits).map_or(0, |at| at as u64 + 1);
    value.len() as u64 * KINDS + kind
}

/// Appends `value` as its `head` says.
pub(super) fn write(head: u64, value: &[u8], out: &mut Vec<u8>) {
    match alphabet(head) {
        Some(alphabet) => alphabet.pack(value, out),
        None => out.extend_from_slice(value),
    }
}

fn alphabet(head: u64) -> Option<&'static Alphabet> {
    ALPHABETS.get(usize::try_from((head % KINDS).checked_sub(1)?).ok()?)
}

/// Takes the value that was written by `head` off the front of `bytes`; an empty one where that is nonsense.
pub(super) fn read<'a>(head: u64, bytes: &mut &'a [u8]) -> Value<'a> {
    let length = usize::try_from(head / KINDS).unwrap_or(usize::MAX);
    let alphabet = alphabet(head);
    let taken = alphabet.map_or(Some(length), |alphabet| alphabet.bytes(length));
    let Some((packed, rest)) = taken.and_then(|taken| bytes.split_at_checked(taken)) else {
        return Value::default();
    };
    *bytes = rest;
    Value { packed, alphabet, length }
}

impl<'a> Value<'a> {
    /// One that was written as it is.
    pub(super) const fn plain(value: &'a [u8]) -> Self {
        Self { packed: value, alphabet: None, length: value.len() }
    }

    /// How many octets it has.
    pub(in crate::bridge) const fn len(&self) -> usize {
        self.length
    }

    /// Appends its octets.
    pub(in crate::bridge) fn unpack(&self, out: &mut Vec<u8>) {
        match self.alphabet {
            Some(alphabet) => alphabet.unpack(self.packed, self.length, out),
            None => out.extend_from_slice(self.packed),
        }
    }
}

impl Alphabet {
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would say so")]
    const fn new(digits: &'static [u8], bits: u32) -> Self {
        assert!(digits.len() == 1 << bits);
        let (mut places, mut at) = ([NONE; 256], 0);
        while at < digits.len() {
            places[digits[at] as usize] = at as u8;
            at += 1;
        }
        Self { digits, bits, places }
    }

    fn place(&self, octet: u8) -> u8 {
        self.places.get(usize::from(octet)).copied().unwrap_or(NONE)
    }

    /// How many bytes `length` digits take.
    fn bytes(&self, length: usize) -> Option<usize> {
        Some(length.checked_mul(self.bits as usize)?.div_ceil(8))
    }

    fn pack(&self, value: &[u8], out: &mut Vec<u8>) {
        let (mut held, mut bits) = (0_u32, 0);
        for octet in value {
            held |= u32::from(self.place(*octet)) << bits;
            bits += self.bits;
            if bits >= 8 {
                out.push(held as u8);
                (held, bits) = (held >> 8, bits - 8);
            }
        }
        if bits > 0 {
            out.push(held as u8);
        }
    }

    fn unpack(&self, packed: &[u8], length: usize, out: &mut Vec<u8>) {
        let (mut held, mut bits, mut from) = (0_u32, 0, packed.iter());
        for _ in 0..length {
            if bits < self.bits {
                held |= u32::from(from.next().copied().unwrap_or(0)) << bits;
                bits += 8;
            }
            let place = held & ((1 << self.bits) - 1);
            out.push(self.digits.get(place as usize).copied().unwrap_or(0));
            (held, bits) = (held >> self.bits, bits - self.bits);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(value: &[u8]) -> Vec<u8> {
        let (head, mut out) = (head(value), Vec::new());
        write(head, value, &mut out);
        let mut all = &[&out[..], b"behind"].concat()[..];
        let read = read(head, &mut all);
        let mut unpacked = Vec::new();
        read.unpack(&mut unpacked);
        assert_eq!((&unpacked[..], read.len(), all), (value, value.len(), &b"behind"[..]));
        out
    }

    #[test]
    fn tokens_of_the_engines_take_less_room() {
        for (token, bytes) in [
            ("3F2B9A7C1D4E5F60718293A4B5C6D7E8", 16),
            ("0a1b2c3d4e5f60718293a4b5c6d7e8f9", 16),
            ("12345678", 4),
            ("0", 1),
            ("qk5d0v3c1b7n2m9a8s4f6g0h1j", 17),
            ("zx5d0r3c1b4n2m0a5s4f0yhq", 15),
            ("6f9619ff-8b86-d011-b42d-00cf4fc964ff", 27),
            ("3F2B9A7C1D4E5F60718293A4B5C6D7E8.node1", 29),
            ("", 0),
            ("a b", 3),
        ] {
            assert_eq!(packed(token.as_bytes()).len(), bytes, "{token}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            value in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "[0-9A-F]{0,70}".prop_map(String::into_bytes),
                "[0-9a-v]{0,70}".prop_map(String::into_bytes),
                "[a-z0-5]{0,70}".prop_map(String::into_bytes),
                "[0-9a-zA-Z.-]{0,70}".prop_map(String::into_bytes),
            ]
        ) {
            packed(&value);
        }

        #[test]
        fn nonsense_is_read_without_a_panic(head: u64, bytes: Vec<u8>) {
            let value = read(head, &mut &bytes[..]);
            prop_assume!(value.len() < 4096);
            value.unpack(&mut Vec::new());
        }
    }
}
