// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder that does not outlive the test.
//!
//! A test removes its folder itself; the guard is for a test that is interrupted or killed before it can. On a
//! BPF file system, removing the pins frees the pinned objects, so nothing else needs undoing.

use std::path::Path;

use anyhow::Result;

use crate::guard::Guard;

/// The guard of a folder. Dropping it removes the folder with everything in it; so does the end of this process,
/// by SIGKILL as well.
#[derive(Debug)]
pub struct GuardedFolder {
    _guard: Guard,
}

impl GuardedFolder {
    /// Guards a folder, which need not exist yet. Call this before anything is put there.
    pub fn guard(folder: &Path) -> Result<Self> {
        Ok(Self {
            _guard: Guard::start_for_folder(folder)?,
        })
    }
}
