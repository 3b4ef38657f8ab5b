// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cgroup v2 folders: finding the mount, entering a folder, removing it.
//!
//! This module never touches the root cgroup: every folder that is made or removed lies at least one level below
//! the mount.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_until;

/// The time that processes may take to die, and a folder to become empty.
const EMPTYING: Duration = Duration::from_secs(10);

/// Finds the cgroup v2 mount in `/proc/self/mountinfo`: on hybrid hosts it is not `/sys/fs/cgroup`.
pub fn unified_mount() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    mount_in(&text).ok_or_else(|| anyhow!("find cgroup v2: no cgroup2 file system is mounted"))
}

/// Fields of a line: id, parent, device, root and mount point before the ` - `, the type after it.
fn mount_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let is_unified = filesystem.split(' ').next() == Some("cgroup2");
        let point = mount.split(' ').nth(4)?;
        is_unified.then(|| PathBuf::from(point))
    })
}

/// Moves the calling process into the folder. The process must have one thread only.
pub(crate) fn enter(folder: &Path) -> Result<()> {
    fs::write(folder.join("cgroup.procs"), "0")
        .with_context(|| format!("enter the cgroup {}", folder.display()))
}

/// Kills the processes in the folder and removes it with its children; a missing folder is no error.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let emptied = wait_until(EMPTYING, || {
        kill_all(folder);
        !is_populated(folder)
    });
    if !emptied {
        bail!("remove {}: its processes do not die", folder.display());
    }
    let mut last = None;
    let removed = wait_until(EMPTYING, || match remove_tree(folder) {
        Ok(()) => true,
        Err(error) => {
            last = Some(error);
            false
        }
    });
    match last {
        Some(error) if !removed => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Kills by `cgroup.kill`, which exists since Linux 5.14, or else one by one.
fn kill_all(folder: &Path) {
    if fs::write(folder.join("cgroup.kill"), "1").is_err() {
        kill_each(folder);
    }
}

fn kill_each(folder: &Path) {
    for child in children(folder) {
        kill_each(&child);
    }
    let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in procs
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter_map(Pid::from_raw)
    {
        // An error means that the process has died since; the caller looks again anyway.
        kill_process(pid, Signal::KILL).unwrap_or_default();
    }
}

fn is_populated(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.events"))
        .is_ok_and(|events| events.contains("populated 1"))
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Removes children first. The files inside a cgroup vanish with it.
fn remove_tree(folder: &Path) -> io::Result<()> {
    for child in children(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_has_its_unified_mount_found() {
        let text = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(
            mount_in(text),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
    }

    #[test]
    fn a_host_without_cgroup2_has_no_mount() {
        assert_eq!(
            mount_in("40 31 0:37 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"),
            None
        );
    }
}
