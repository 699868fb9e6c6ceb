//! Small applications to stand behind a bridge: for the `demo` command and for tests.
//!
//! Invariant: a leaf. Nothing of the product imports it, and it imports nothing of the product.

pub mod sim;
