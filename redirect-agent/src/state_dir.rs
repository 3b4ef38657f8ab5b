//! The state directory of the agent on the BPF file system, and the lock that admits one agent to it.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use redirect_user::{
    bpf::Pins,
    sys::{
        bpffs,
        dir_lock::{DirLock, Locked},
    },
};
use thiserror::Error;

/// The default state directory. `redirectctl` uses another one, whose attachments are not the agent's.
pub const DEFAULT: &str = Pins::AGENT_STATE_DIR;

/// Suffix of the lock's directory. The state directory itself is locked for each change, by `redirectctl` as
/// well.
const LOCK_SUFFIX: &str = "-lock";

/// The error of a second agent with the same state directory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("use \"{}\": another redirect-agent is running with it; stop that one, or choose another directory with --bpffs", .0.display())]
pub struct AlreadyRunning(pub PathBuf);

/// The right to change the attachments of a state directory. The kernel releases it when the process ends.
#[derive(Debug)]
pub struct AgentLock {
    lock_dir: PathBuf,
    _lock: DirLock,
}

impl AgentLock {
    /// Acquires the lock of a state directory. The error's cause is [`AlreadyRunning`] if another agent holds
    /// it.
    pub fn acquire(state_dir: &Path) -> Result<Self> {
        let lock_dir = lock_dir(state_dir)?;
        let lock = loop {
            bpffs::ensure(&lock_dir).with_context(|| format!("use \"{}\"", state_dir.display()))?;
            match DirLock::try_exclusive(&lock_dir)? {
                Locked::Held(lock) => break lock,
                // The directory was removed by the agent that held its lock.
                Locked::Gone => {}
                Locked::Busy => bail!(AlreadyRunning(state_dir.to_owned())),
            }
        };
        Ok(Self {
            lock_dir,
            _lock: lock,
        })
    }

    /// Releases the lock, and removes its directory.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir(&self.lock_dir)
            .with_context(|| format!("remove \"{}\"", self.lock_dir.display()))
    }
}

fn lock_dir(state_dir: &Path) -> Result<PathBuf> {
    let name = state_dir.file_name().with_context(|| {
        format!(
            "use \"{}\": it is not the path of a directory",
            state_dir.display()
        )
    })?;
    let mut lock = OsString::from(name);
    lock.push(LOCK_SUFFIX);
    Ok(state_dir.with_file_name(lock))
}
