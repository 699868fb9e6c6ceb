//! The one source of randomness: the system's CSPRNG. What needs random bytes gets them as an argument.

/// `N` bytes that nobody can guess.
///
/// Where the system has no randomness to give, ids would be guessable and nothing may be served: the process ends.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        std::process::abort();
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_draws_differ() {
        assert_ne!(super::bytes::<16>(), super::bytes::<16>());
    }
}
