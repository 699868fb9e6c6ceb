//! A chunked body, decoded as it comes (RFC 9112, 7.1).
//!
//! Invariant: strict where a lenient reader and a strict one would part: a line ends with CRLF, a size has 1 to 16 hex
//! digits, data has exactly the size that was said. What is read as the end is the end.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::trailers::may_trail;

/// Bytes of extensions in one body, and of its trailers, at most: they carry nothing that anybody reads.
const MAX_EXTRA: usize = 16 * 1024;
/// Fields of trailers, at most.
const MAX_TRAILERS: usize = 64;

/// How far a body has been read.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: State,
    /// Bytes of extensions so far.
    extra: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        value: u64,
        digits: u8,
    },
    /// Behind the size: padding, as old servers write it.
    Padding {
        value: u64,
    },
    Extension {
        value: u64,
    },
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataEnd {
        cr: bool,
    },
    Trailers,
    Over,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes of the body.
    Data(Bytes),
    /// Its trailers; the end follows.
    Trailers(HeaderMap),
    /// Its end.
    End,
    /// More has to be read first.
    More,
}

/// Why a chunked body is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    /// A chunk's size is no number, or too large.
    #[error("a chunk's size is malformed")]
    Size,
    /// A line or a chunk does not end where it must.
    #[error("a chunk does not end where it must")]
    End,
    /// Too many extensions.
    #[error("too many bytes of chunk extensions")]
    Extensions,
    /// Trailers that are none, or too many.
    #[error("the trailers are malformed")]
    Trailers,
}

impl Chunked {
    /// At the beginning of a body.
    pub(crate) const fn new() -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, extra: 0 }
    }

    /// Takes what comes next off the front of `buffer`.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, ChunkError> {
        loop {
            match self.state {
                State::Over => return Ok(Piece::End),
                State::Trailers => return self.trailers(buffer),
                State::Data { left } if left > 0 => {
                    if buffer.is_empty() {
                        return Ok(Piece::More);
                    }
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let left = left - here as u64;
                    self.state = if left == 0 { State::DataEnd { cr: false } } else { State::Data { left } };
                    return Ok(Piece::Data(buffer.split_to(here).freeze()));
                }
                _ => {}
            }
            let Some(&byte) = buffer.first() else { return Ok(Piece::More) };
            buffer.advance(1);
            self.state = self.step(byte)?;
        }
    }

    /// One byte of what is not data.
    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        Ok(match (self.state, byte) {
            (State::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                State::Size { value: value << 4 | digit, digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(ChunkError::Size),
            (State::Size { value, .. } | State::Padding { value } | State::Extension { value }, b'\r') => {
                State::SizeEnd { value }
            }
            (State::Size { value, .. } | State::Padding { value }, b' ' | b'\t') => {
                self.count()?;
                State::Padding { value }
            }
            (State::Size { value, .. } | State::Padding { value }, b';') => State::Extension { value },
            (State::Extension { value }, b'\t' | b' '..=0x7e | 0x80..) => {
                self.count()?;
                State::Extension { value }
            }
            (State::Extension { .. }, _) => return Err(ChunkError::End),
            (State::SizeEnd { value: 0 }, b'\n') => State::Trailers,
            (State::SizeEnd { value }, b'\n') => State::Data { left: value },
            (State::DataEnd { cr: false }, b'\r') => State::DataEnd { cr: true },
            (State::DataEnd { cr: true }, b'\n') => State::Size { value: 0, digits: 0 },
            (State::SizeEnd { .. } | State::DataEnd { .. }, _) => return Err(ChunkError::End),
            _ => return Err(ChunkError::Size),
        })
    }

    const fn count(&mut self) -> Result<(), ChunkError> {
        self.extra += 1;
        if self.extra > MAX_EXTRA { Err(ChunkError::Extensions) } else { Ok(()) }
    }

    /// What stands between the last chunk and the end. Fields that frame, or that set cookies, mean nothing here.
    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Piece, ChunkError> {
        match buffer.as_ref() {
            [] | [b'\r'] => return Ok(Piece::More),
            [b'\r', b'\n', ..] => {
                buffer.advance(2);
                self.state = State::Over;
                return Ok(Piece::End);
            }
            [b'\n', ..] => return Err(ChunkError::End),
            _ => {}
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        let (length, fields) = match httparse::parse_headers(buffer, &mut fields) {
            Ok(httparse::Status::Complete(complete)) => complete,
            Ok(httparse::Status::Partial) if buffer.len() < MAX_EXTRA => return Ok(Piece::More),
            _ => return Err(ChunkError::Trailers),
        };
        let lines = buffer.get(..length).unwrap_or_default().split(|byte| *byte == b'\n');
        if lines.clone().count() > lines.filter(|line| line.ends_with(b"\r")).count() + 1 {
            return Err(ChunkError::End);
        }
        let mut trailers = HeaderMap::new();
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| ChunkError::Trailers)?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| ChunkError::Trailers)?;
            if may_trail(&name) {
                trailers.append(name, value);
            }
        }
        buffer.advance(length);
        self.state = State::Over;
        Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of `coded` read in pieces of `step` bytes, and what is left behind it.
    fn decode(coded: &[u8], step: usize) -> Result<(Vec<u8>, Option<HeaderMap>, usize), String> {
        let (mut chunked, mut buffer) = (Chunked::new(), BytesMut::new());
        let (mut body, mut trailers, mut at) = (Vec::new(), None, 0);
        loop {
            match chunked.next(&mut buffer).map_err(|error| error.to_string())? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::Trailers(fields) => trailers = Some(fields),
                Piece::End => return Ok((body, trailers, buffer.len() + coded.len() - at)),
                Piece::More if at == coded.len() => return Err("cut".to_owned()),
                Piece::More => {
                    let to = (at + step).min(coded.len());
                    buffer.extend_from_slice(&coded[at..to]);
                    at = to;
                }
            }
        }
    }

    #[test]
    fn bodies_are_decoded_in_pieces_of_any_size() {
        let coded = b"4\r\nWiki\r\n005 ;a=b;c=\"d e\"\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\n\r\nnext";
        for step in 1..coded.len() + 1 {
            let (body, trailers, left) = decode(coded, step).unwrap();
            assert_eq!(
                (body.as_slice(), trailers, left),
                (&b"Wikipedia in\r\n\r\nchunks."[..], None, 4),
                "{step}"
            );
        }
    }

    #[test]
    fn trailers_come_without_what_frames_or_sets_cookies() {
        let coded =
            b"0\r\nX-Sum: 1\r\nContent-Length: 4\r\nSet-Cookie: a=b\r\nTransfer-Encoding: chunked\r\n\r\n";
        for step in 1..coded.len() + 1 {
            let (_, trailers, left) = decode(coded, step).unwrap();
            let trailers = trailers.unwrap();
            assert_eq!((trailers.len(), trailers.get("x-sum").unwrap().as_bytes(), left), (1, &b"1"[..], 0));
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "y".repeat(MAX_EXTRA + 1));
        for coded in [
            "4\nWiki\r\n0\r\n\r\n",
            "4\r\nWiki\n0\r\n\r\n",
            "4\r\nWikix\r\n0\r\n\r\n",
            "4\r\rWiki\r\n0\r\n\r\n",
            "\r\n0\r\n\r\n",
            "0x4\r\nWiki\r\n0\r\n\r\n",
            "+4\r\nWiki\r\n0\r\n\r\n",
            "-1\r\n\r\n",
            " 4\r\nWiki\r\n0\r\n\r\n",
            "4 4\r\nWiki\r\n0\r\n\r\n",
            "10000000000000000\r\nx",
            "4;a\nb\r\nWiki\r\n0\r\n\r\n",
            "4;\0\r\nWiki\r\n0\r\n\r\n",
            "0\r\nbad trailer\r\n\r\n",
            "0\r\n folded: x\r\n\r\n",
            "0\r\n\n",
            "0\r\nX: a\n\n",
            "0\r\nX: a\r\n\n",
            &long,
        ] {
            let refused = decode(coded.as_bytes(), 3);
            assert!(refused.as_ref().is_err_and(|error| error != "cut"), "{coded:?}: {refused:?}");
        }
    }

    #[test]
    fn a_body_that_breaks_off_is_not_over() {
        let coded = b"4\r\nWiki\r\n0\r\n\r\n";
        for at in 0..coded.len() {
            assert_eq!(decode(&coded[..at], 2), Err("cut".to_owned()), "{at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_coded_is_decoded(chunks: Vec<Vec<u8>>, step in 1usize..40) {
            let mut coded = Vec::new();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                coded.extend_from_slice(chunk);
                coded.extend_from_slice(b"\r\n");
            }
            coded.extend_from_slice(b"0\r\n\r\n");
            let (body, _, left) = decode(&coded, step).unwrap();
            proptest::prop_assert_eq!((body, left), (chunks.concat(), 0));
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(coded: Vec<u8>, step in 1usize..40) {
            let _ = decode(&coded, step);
        }
    }
}
