//! What every source must do, and what those that there are do besides.
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
