//! A lock on a folder: shared to read, exclusive to write. Gone with the process that holds it.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

/// A lock that is held until dropped.
#[derive(Debug)]
pub struct DirLock {
    _folder: File,
}

impl DirLock {
    /// Waits until nobody writes.
    pub fn shared(folder: &Path) -> Result<Self> {
        Self::take(folder, FlockOperation::LockShared)
    }

    /// Waits until nobody else reads or writes.
    pub fn exclusive(folder: &Path) -> Result<Self> {
        Self::take(folder, FlockOperation::LockExclusive)
    }

    fn take(folder: &Path, operation: FlockOperation) -> Result<Self> {
        let lock = || format!("lock \"{}\"", folder.display());
        loop {
            let file = File::open(folder).with_context(lock)?;
            flock(&file, operation).with_context(lock)?;
            // Whoever held the lock may have removed the folder, and somebody made it anew.
            let locked = file.metadata().with_context(lock)?.ino();
            if fs::metadata(folder).with_context(lock)?.ino() == locked {
                return Ok(Self { _folder: file });
            }
        }
    }
}
