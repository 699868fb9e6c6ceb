//! WebSocket frames (RFC 6455 5.2): where one ends, and the close frame that ends a tunnel properly.
//!
//! Invariant: a frame of our own goes out only at a boundary; payloads are counted, never looked at or kept.

/// Follows the frame boundaries of one direction of a tunnel.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    header: [u8; 14],
    have: usize,
    payload: u64,
}

impl Frames {
    /// At the start of the stream, behind the 101.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream, cut anywhere.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&octet, behind)) = bytes.split_first() {
            if self.payload > 0 {
                let used = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= used as u64;
                bytes = bytes.get(used..).unwrap_or_default();
                continue;
            }
            bytes = behind;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = octet;
            }
            self.have += 1;
            if self.have == self.header_length() {
                self.payload = self.payload_length();
                self.have = 0;
            }
        }
    }

    /// Whether all bytes so far are whole frames.
    pub fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Length of this frame's header in bytes, as far as it is known: 2 until its second byte has come.
    fn header_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let [_, second, ..] = self.header;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if second & 0x80 == 0 { 0 } else { 4 }
    }

    fn payload_length(&self) -> u64 {
        let [_, second, a, b, c, d, e, f, g, h, ..] = self.header;
        match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            length => u64::from(length),
        }
    }
}

/// A close frame as a server sends it, unmasked. A reason over 123 bytes is cut at a character.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let payload = close_payload(code, reason);
    let mut frame = Vec::with_capacity(2 + payload.len());
    frame.extend([0x88, short_length(&payload)]);
    frame.extend(payload);
    frame
}

/// A close frame as a client sends it, to the app's side: masked with `key`, which the caller draws at
/// random.
pub fn masked_close_frame(code: u16, reason: &str, key: [u8; 4]) -> Vec<u8> {
    let payload = close_payload(code, reason);
    let mut frame = Vec::with_capacity(6 + payload.len());
    frame.extend([0x88, 0x80 | short_length(&payload)]);
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(octet, mask)| octet ^ mask));
    frame
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let end = reason.floor_char_boundary(123);
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    payload
}

/// A control frame's payload is at most 125 bytes (RFC 6455 5.5).
fn short_length(payload: &[u8]) -> u8 {
    u8::try_from(payload.len()).unwrap_or(125)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut out = vec![0x82];
        match length {
            0..=125 => out.push(bit | length as u8),
            126..=0xffff => {
                out.push(bit | 126);
                out.extend((length as u16).to_be_bytes());
            }
            _ => {
                out.push(bit | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        out.resize(out.len() + length + if masked { 4 } else { 0 }, 0xff);
        out
    }

    #[test]
    fn boundaries() {
        let mut frames = Frames::new();
        assert!(frames.at_boundary());
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            for masked in [false, true] {
                let bytes = frame(length, masked);
                frames.feed(&bytes[..bytes.len() - 1]);
                assert!(!frames.at_boundary(), "{length} {masked}");
                frames.feed(&bytes[bytes.len() - 1..]);
                assert!(frames.at_boundary(), "{length} {masked}");
            }
        }
        frames.feed(&[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
        assert!(!frames.at_boundary());
    }

    #[test]
    fn close_frames() {
        assert_eq!(close_frame(1001, "bye"), b"\x88\x05\x03\xe9bye");
        let masked = masked_close_frame(1001, "bye", [1, 2, 3, 4]);
        assert_eq!(masked, b"\x88\x85\x01\x02\x03\x04\x02\xeba}\x64");
        let long = close_frame(1008, &"é".repeat(100));
        assert_eq!((long[1], long.len()), (124, 126));
        assert!(std::str::from_utf8(&long[4..]).is_ok());
        let mut frames = Frames::new();
        frames.feed(&long);
        frames.feed(&masked);
        assert!(frames.at_boundary());
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            lengths in prop::collection::vec(
                (prop_oneof![0_usize..130, 65_530_usize..65_540], any::<bool>()), 1..4),
            step in 1_usize..5000,
        ) {
            let stream: Vec<u8> =
                lengths.iter().flat_map(|(length, masked)| frame(*length, *masked)).collect();
            let mut frames = Frames::new();
            stream.chunks(step).for_each(|chunk| frames.feed(chunk));
            prop_assert!(frames.at_boundary());
            let mut cut = Frames::new();
            cut.feed(&stream[..stream.len() - 1]);
            prop_assert!(!cut.at_boundary());
        }
    }
}
