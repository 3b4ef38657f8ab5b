// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several things that go on while something is done.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, anyhow};

/// Dropped, also by a panic, it is over for those who wait for that.
#[derive(Debug)]
pub struct StopOnDrop<'flag>(pub &'flag AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Acts while each of these goes on in a thread of its own, until it is told that it is over. What becomes of
/// them is looked at first: a failure of theirs is why the act has failed, rather than the reverse.
pub fn with_background<T, P: Send>(
    parts: impl IntoIterator<Item = impl FnOnce(&AtomicBool) -> Result<P> + Send>,
    act: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<P>)> {
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .map(|part| scope.spawn(move || part(is_over)))
            .collect();
        let until = StopOnDrop(is_over);
        let acted = act();
        drop(until);
        let parts = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_panic| anyhow!("a panic"))?)
            .collect::<Result<_>>()?;
        Ok((acted?, parts))
    })
}
