//! A lock on a folder, shared for reading and exclusive for writing. It ends with the process that
//! holds it. Waiting for it ends with an error that names the holder.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{FlockOperation, flock, major, minor},
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

/// The pause before the next attempt to take a lock.
const POLL: Duration = Duration::from_millis(2);

impl DirLock {
    /// The longest time to wait for a lock, if no other is given. Each holder needs less than a second for
    /// each pod that it changes.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// Waits until no process holds the lock for writing. `None` if the folder is gone, even if it
    /// is removed while waiting.
    pub fn shared(folder: &Path, patience: Duration) -> Result<Option<Self>> {
        Self::wait(folder, FlockOperation::NonBlockingLockShared, patience)
    }

    /// Waits until no other process holds the lock. `None` if the folder is gone, even if it is
    /// removed while waiting.
    pub fn exclusive(folder: &Path, patience: Duration) -> Result<Option<Self>> {
        Self::wait(folder, FlockOperation::NonBlockingLockExclusive, patience)
    }

    /// Whether a process holds the lock for writing now.
    pub fn is_held(folder: &Path) -> Result<bool> {
        let taken = Self::take(folder, FlockOperation::NonBlockingLockShared)?;
        Ok(matches!(taken, Locked::Busy))
    }

    /// Takes the lock like [`Self::exclusive`], but does not wait.
    pub fn try_exclusive(folder: &Path) -> Result<Locked> {
        Self::take(folder, FlockOperation::NonBlockingLockExclusive)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a waiting flock(2) has no deadline"
    )]
    fn wait(folder: &Path, operation: FlockOperation, patience: Duration) -> Result<Option<Self>> {
        let begun = Instant::now();
        loop {
            match Self::take(folder, operation)? {
                Locked::Held(lock) => return Ok(Some(lock)),
                Locked::Gone => return Ok(None),
                Locked::Busy if begun.elapsed() < patience => thread::sleep(POLL),
                Locked::Busy => bail!(
                    "lock \"{}\": {} holds it for more than {} s: wait for its end, or end it",
                    folder.display(),
                    holder(folder),
                    patience.as_secs()
                ),
            }
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

/// The process that holds the lock of a folder, by its id and its command's name.
fn holder(folder: &Path) -> String {
    let unknown = "a process that is not visible here".to_owned();
    let Ok(metadata) = fs::metadata(folder) else {
        return unknown;
    };
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let Some(pid) = pid_of_lock(&table, &lock_id(&metadata)) else {
        return unknown;
    };
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} (\"{}\")", command.trim_end())
}

/// The device and inode of a folder, as `/proc/locks` shows them.
fn lock_id(metadata: &Metadata) -> String {
    let (device, inode) = (metadata.dev(), metadata.ino());
    format!("{:02x}:{:02x}:{inode}", major(device), minor(device))
}

/// The first process that holds the lock with this device and inode. A line of a process that waits has an
/// arrow.
fn pid_of_lock(table: &str, id: &str) -> Option<u32> {
    // "1: FLOCK  ADVISORY  WRITE 4711 00:1c:42 0 EOF"
    table.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, found, ..] if *found == id => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_and_those_who_wait_are_not() {
        let table = "1: POSIX  ADVISORY  WRITE 7 00:1c:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 00:1c:43 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 00:1c:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 4711 00:1c:42 0 EOF\n";
        assert_eq!(pid_of_lock(table, "00:1c:42"), Some(4711));
        assert_eq!(pid_of_lock(table, "00:1c:44"), None);
    }
}
