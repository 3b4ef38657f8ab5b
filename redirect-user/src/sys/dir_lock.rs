//! A lock on a folder: shared to read, exclusive to write. Gone with the process that holds it.

use std::{
    fs::{self, File},
    io,
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
    /// Waits until nobody writes; `None` if the folder is gone, perhaps by then.
    pub fn shared(folder: &Path) -> Result<Option<Self>> {
        Self::take(folder, FlockOperation::LockShared)
    }

    /// Waits until nobody else reads or writes; `None` if the folder is gone, perhaps by then.
    pub fn exclusive(folder: &Path) -> Result<Option<Self>> {
        Self::take(folder, FlockOperation::LockExclusive)
    }

    /// Like [`Self::exclusive`], but does not wait: the error of a lock that somebody else holds has
    /// an [`io::Error`] of the kind [`io::ErrorKind::WouldBlock`] as its cause.
    pub fn exclusive_at_once(folder: &Path) -> Result<Option<Self>> {
        Self::take(folder, FlockOperation::NonBlockingLockExclusive)
    }

    fn take(folder: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        let lock = || format!("lock \"{}\"", folder.display());
        loop {
            let Some(file) = existing(File::open(folder)).with_context(lock)? else {
                return Ok(None);
            };
            flock(&file, operation)
                .map_err(io::Error::from)
                .with_context(lock)?;
            // Whoever held the lock may have removed the folder, and somebody made it anew.
            let locked = file.metadata().with_context(lock)?.ino();
            match existing(fs::metadata(folder)).with_context(lock)? {
                Some(now) if now.ino() == locked => return Ok(Some(Self { _folder: file })),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

/// `NotFound` is an answer, not an error.
fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
