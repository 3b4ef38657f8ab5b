//! Work in a thread of its own, whose namespaces and signals are nobody else's.

use std::thread;

use anyhow::{Context as _, Result, anyhow};

/// Does something in a new thread, and waits for it.
///
/// # Errors
///
/// If the kernel starts no thread, or what `act` says.
pub fn apart<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .spawn_scoped(scope, act)
            .context("start a thread")?
            .join()
            .map_err(|_panic| anyhow!("the thread panicked"))?
    })
}
