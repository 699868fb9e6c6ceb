//! A table by number that grows while many threads read it.
//!
//! Invariant: what is in it stays where it is, and reading takes no lock.

use std::sync::OnceLock;

/// Numbers of one piece.
const PIECE: usize = 256;

/// One `T` for each number of 16 bits, made when it is first asked for.
#[derive(Debug)]
pub struct Numbered<T> {
    pieces: Box<[OnceLock<Piece<T>>]>,
}

type Piece<T> = Box<[OnceLock<Box<T>>]>;

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { pieces: (0..PIECE).map(|_| OnceLock::new()).collect() }
    }
}

impl<T> Numbered<T> {
    /// What is at `number`, if it was ever made.
    #[must_use]
    pub fn find(&self, number: usize) -> Option<&T> {
        self.pieces.get(number / PIECE)?.get()?.get(number % PIECE)?.get().map(AsRef::as_ref)
    }
}

impl<T: Default> Numbered<T> {
    /// What is at `number`. `None`: it has more than 16 bits.
    pub fn at(&self, number: usize) -> Option<&T> {
        let piece = self.pieces.get(number / PIECE)?;
        let piece = piece.get_or_init(|| (0..PIECE).map(|_| OnceLock::new()).collect());
        Some(piece.get(number % PIECE)?.get_or_init(Box::default))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_number_has_its_own_and_keeps_it() {
        let table: Numbered<AtomicUsize> = Numbered::default();
        for number in [0, 1, 255, 256, 65_535] {
            assert!(table.find(number).is_none());
            table.at(number).unwrap().store(number + 1, Ordering::Relaxed);
        }
        for number in [0, 1, 255, 256, 65_535] {
            assert_eq!(table.find(number).unwrap().load(Ordering::Relaxed), number + 1);
        }
        assert!(table.at(65_536).is_none() && table.find(65_536).is_none() && table.find(2).is_none());
    }
}
