//! The owner folder that is the agent's, and the lock that makes it one agent's.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use redirect_user::sys::{
    bpffs,
    dir_lock::{DirLock, Locked},
};
use thiserror::Error;

/// The owner folder unless another is asked for: not that of `redirectctl`, whose attachments are
/// not the agent's.
pub const DEFAULT: &str = "/sys/fs/bpf/redirect-agent";

/// What the name of the lock's folder ends in. The owner folder itself is locked for each change, by
/// `redirectctl` as well.
const LOCK_SUFFIX: &str = "-lock";

/// Another agent has the owner folder.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("use \"{}\": another redirect-agent is running with it: stop that one, or choose another folder with --bpffs", .0.display())]
pub struct AlreadyRunning(pub PathBuf);

/// The right to change what is attached in an owner folder; gone with the process that has it.
#[derive(Debug)]
pub struct AgentLock {
    lock_dir: PathBuf,
    _lock: DirLock,
}

impl AgentLock {
    /// Takes an owner folder; an error with [`AlreadyRunning`] as its cause if another agent has it.
    pub fn acquire(state_dir: &Path) -> Result<Self> {
        let lock_dir = lock_dir(state_dir)?;
        let lock = loop {
            bpffs::ensure(&lock_dir).with_context(|| format!("use \"{}\"", state_dir.display()))?;
            match DirLock::try_exclusive(&lock_dir)? {
                Locked::Held(lock) => break lock,
                // The last agent has removed the folder.
                Locked::Gone => {}
                Locked::Busy => bail!(AlreadyRunning(state_dir.to_owned())),
            }
        };
        Ok(Self {
            lock_dir,
            _lock: lock,
        })
    }

    /// Gives it up and leaves no trace.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir(&self.lock_dir)
            .with_context(|| format!("remove \"{}\"", self.lock_dir.display()))
    }
}

fn lock_dir(state_dir: &Path) -> Result<PathBuf> {
    let name = state_dir.file_name().with_context(|| {
        format!(
            "use \"{}\": it is not the path of a folder",
            state_dir.display()
        )
    })?;
    let mut lock = OsString::from(name);
    lock.push(LOCK_SUFFIX);
    Ok(state_dir.with_file_name(lock))
}
