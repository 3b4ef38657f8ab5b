//! Tests of the sources: the contract that all keep, and the behaviour of each.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod contract;
mod file;
mod kube;
