// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder that does not outlive the test.
//!
//! Whoever fills it removes it in the usual way; this is for a process that is interrupted or killed before it
//! can. On a BPF file system, what is pinned there is freed with its pin, so nothing else needs undoing.

use std::path::Path;

use anyhow::Result;

use crate::guard::Guard;

/// Dropping it removes the folder with everything in it, if it is still there; so does the end of
/// this process, however it comes.
#[derive(Debug)]
pub struct GuardedFolder {
    _guard: Guard,
}

impl GuardedFolder {
    /// Guards a folder that need not exist yet: best before anything is put there.
    pub fn guard(folder: &Path) -> Result<Self> {
        Ok(Self {
            _guard: Guard::start_for_folder(folder)?,
        })
    }
}
