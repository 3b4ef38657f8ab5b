//! A lock on a folder, shared for reading and exclusive for writing. It ends with the process that
//! holds it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// A lock on a folder that is held until the value is dropped.
#[derive(Debug)]
pub struct DirLock {
    _folder: File,
}

/// The outcome of an attempt to lock a folder without waiting.
#[derive(Debug)]
pub enum Locked {
    /// The lock is held now.
    Held(DirLock),
    /// Another process holds the lock.
    Busy,
    /// The folder is gone; it may have been removed during the attempt.
    Gone,
}

impl DirLock {
    /// Waits until no process holds the lock for writing. `None` if the folder is gone, even if it
    /// is removed while waiting.
    pub fn shared(folder: &Path) -> Result<Option<Self>> {
        Self::wait(folder, FlockOperation::LockShared)
    }

    /// Waits until no other process holds the lock. `None` if the folder is gone, even if it is
    /// removed while waiting.
    pub fn exclusive(folder: &Path) -> Result<Option<Self>> {
        Self::wait(folder, FlockOperation::LockExclusive)
    }

    /// Takes the lock like [`Self::exclusive`], but does not wait.
    pub fn try_exclusive(folder: &Path) -> Result<Locked> {
        Self::take(folder, FlockOperation::NonBlockingLockExclusive)
    }

    fn wait(folder: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        match Self::take(folder, operation)? {
            Locked::Held(lock) => Ok(Some(lock)),
            // A waiting call never returns that the lock is busy.
            Locked::Busy | Locked::Gone => Ok(None),
        }
    }

    fn take(folder: &Path, operation: FlockOperation) -> Result<Locked> {
        let lock = || format!("lock \"{}\"", folder.display());
        loop {
            let Some(file) = existing(File::open(folder)).with_context(lock)? else {
                return Ok(Locked::Gone);
            };
            match flock(&file, operation) {
                Err(Errno::WOULDBLOCK) => return Ok(Locked::Busy),
                other => other.map_err(io::Error::from).with_context(lock)?,
            }
            // The last holder may have removed the folder, and another process created it anew.
            let locked = file.metadata().with_context(lock)?.ino();
            match existing(fs::metadata(folder)).with_context(lock)? {
                Some(now) if now.ino() == locked => {
                    return Ok(Locked::Held(Self { _folder: file }));
                }
                Some(_) => {}
                None => return Ok(Locked::Gone),
            }
        }
    }
}

/// Turns the error `NotFound` into `None`.
fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
