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
const LOCK: &str = "-lock";

/// Another agent has the owner folder.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("use \"{}\": another redirect-agent is running with it: stop that one, or choose another folder with --bpffs", .0.display())]
pub struct Taken(pub PathBuf);

/// The right to change what is attached in an owner folder; gone with the process that has it.
#[derive(Debug)]
pub struct Ownership {
    folder: PathBuf,
    _lock: DirLock,
}

impl Ownership {
    /// Takes an owner folder; an error with [`Taken`] as its cause if another agent has it.
    pub fn take(owner: &Path) -> Result<Self> {
        let folder = lock_folder(owner)?;
        let lock = loop {
            bpffs::ensure(&folder).with_context(|| format!("use \"{}\"", owner.display()))?;
            match DirLock::try_exclusive(&folder)? {
                Locked::Held(lock) => break lock,
                // The agent that had it has removed it.
                Locked::Gone => {}
                Locked::Busy => bail!(Taken(owner.to_owned())),
            }
        };
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Gives it up and leaves no trace.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir(&self.folder)
            .with_context(|| format!("remove \"{}\"", self.folder.display()))
    }
}

fn lock_folder(owner: &Path) -> Result<PathBuf> {
    let name = owner.file_name().with_context(|| {
        format!(
            "use \"{}\": it is not the path of a folder",
            owner.display()
        )
    })?;
    let mut lock = OsString::from(name);
    lock.push(LOCK);
    Ok(owner.with_file_name(lock))
}
