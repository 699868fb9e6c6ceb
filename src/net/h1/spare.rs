//! What connections read into and write from, passed on between those of one thread.
//!
//! Invariant: a buffer that lies here holds nothing that is still to be read or written.

use std::cell::Cell;
use std::fmt;

use bytes::BytesMut;

/// What is read at once, unless a body has more.
pub(super) const READ: usize = 16 * 1024;
/// What is read at once of a large body.
pub(super) const READ_MOST: usize = 64 * 1024;

/// The buffers that the last connection has left: whoever is next finds them in the processor's cache, where one for each
/// connection would have been pushed out of it by all the others. Connections that wait hold none.
#[derive(Default)]
pub(crate) struct Spare {
    input: Cell<BytesMut>,
    output: Cell<Vec<u8>>,
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}

impl Spare {
    /// What to read into; from its front again, where nobody holds what was read before.
    pub(super) fn take_input(&self) -> BytesMut {
        let mut input = self.input.take();
        // One of either size begins anew only where as much is asked for as it has.
        let _ = input.try_reclaim(READ_MOST) || input.try_reclaim(READ);
        input
    }

    /// Keeps what nothing is left in.
    pub(super) fn leave_input(&self, input: BytesMut) {
        if input.is_empty() {
            self.input.set(input);
        }
    }

    /// What to write from.
    pub(super) fn take_output(&self) -> Vec<u8> {
        self.output.take()
    }

    /// Keeps it, emptied.
    pub(super) fn leave_output(&self, mut output: Vec<u8>) {
        if output.capacity() <= READ_MOST {
            output.clear();
            self.output.set(output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_anew_once_nobody_holds_what_was_read() {
        let spare = Spare::default();
        for size in [READ, READ_MOST] {
            let mut input = BytesMut::with_capacity(size);
            let front = input.as_ptr();
            input.extend_from_slice(b"an answer");
            let held = input.split().freeze();
            spare.leave_input(input);
            let input = spare.take_input();
            assert!(input.as_ptr() != front, "somebody holds it");
            assert_eq!(held, "an answer");
            spare.leave_input(input);
            drop(held);
            let input = spare.take_input();
            assert_eq!((input.as_ptr(), input.len()), (front, 0));
            assert!(input.capacity() >= size);
        }
    }

    #[test]
    fn what_is_not_read_is_not_left_to_others() {
        let spare = Spare::default();
        spare.leave_input(BytesMut::from("somebody's"));
        spare.leave_output(b"somebody's".to_vec());
        assert!(spare.take_input().is_empty() && spare.take_output().is_empty());
    }
}
