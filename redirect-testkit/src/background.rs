// SPDX-License-Identifier: MIT OR Apache-2.0
//! Background threads that run while a test acts.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, anyhow};

/// Sets a stop flag when it is dropped, by a panic as well.
#[derive(Debug)]
pub struct StopOnDrop<'flag>(pub &'flag AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `act` while each of these runs in a thread of its own, and sets their stop flag when `act` returns.
///
/// Errors of the threads come before an error of `act`, because they are usually its cause.
pub fn with_background<T, P: Send>(
    parts: impl IntoIterator<Item = impl FnOnce(&AtomicBool) -> Result<P> + Send>,
    act: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<P>)> {
    let is_stopped = &AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .map(|part| scope.spawn(move || part(is_stopped)))
            .collect();
        let until = StopOnDrop(is_stopped);
        let acted = act();
        drop(until);
        let parts = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_panic| anyhow!("a background thread panicked"))?
            })
            .collect::<Result<_>>()?;
        Ok((acted?, parts))
    })
}
