//! HTTP syntax, lossless.
