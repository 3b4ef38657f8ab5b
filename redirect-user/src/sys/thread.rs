//! Work in a new thread, whose namespaces and signals no other thread shares.

use std::thread;

use anyhow::{Context as _, Result, anyhow};

/// Calls `act` in a new thread, and waits for it.
///
/// # Errors
///
/// Fails if the kernel starts no thread, or with the error of `act`.
pub fn run_in_new_thread<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .spawn_scoped(scope, act)
            .context("start a thread")?
            .join()
            .map_err(|_panic| anyhow!("the thread panicked"))?
    })
}
