// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cgroup that limits the memory of the programs in it.

use std::{fs, path::PathBuf, process};

use anyhow::{Context as _, Result, ensure};

use crate::{cgroup::unified_mount, guard::Guard};

/// The memory controller of cgroup v1, on machines whose cgroup v2 does not have it.
const VERSION_1: &str = "/sys/fs/cgroup/memory";
/// The files with the limit in bytes, of cgroup v1 and v2.
const LIMITS: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];

/// Finds a cgroup whose children can limit memory.
fn parent() -> Result<PathBuf> {
    let version_1 = PathBuf::from(VERSION_1);
    if version_1.is_dir() {
        return Ok(version_1);
    }
    let root = unified_mount()?;
    let control = root.join("cgroup.subtree_control");
    let controllers =
        fs::read_to_string(&control).with_context(|| format!("read {}", control.display()))?;
    ensure!(
        controllers.split_whitespace().any(|name| name == "memory"),
        "needs a memory controller: {} has {controllers:?}",
        control.display()
    );
    Ok(root)
}

/// A cgroup, v1 or v2, that limits memory. Dropping it kills the processes in the cgroup and removes it.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
    limit: PathBuf,
    _guard: Guard,
}

impl MemoryLimit {
    /// The reason why this machine cannot limit memory, if it cannot.
    pub fn missing() -> Option<String> {
        parent().err().map(|error| format!("{error:#}"))
    }

    /// Makes a cgroup without a limit yet. `name` must be unique among the tests.
    pub fn new(name: &str) -> Result<Self> {
        let folder = parent()?.join(format!("redirect-limited-{}-{name}", process::id()));
        let guard = Guard::start(&[&folder], &[])?;
        fs::create_dir(&folder).with_context(|| format!("make the cgroup {}", folder.display()))?;
        let mut files = LIMITS.iter().map(|name| folder.join(name));
        let limit = files.find(|file| file.exists());
        Ok(Self {
            limit: limit.with_context(|| {
                format!("limit memory: {} has no file for it", folder.display())
            })?,
            folder,
            _guard: guard,
        })
    }

    /// Sets the limit in bytes.
    pub fn set(&self, bytes: u64) -> Result<()> {
        fs::write(&self.limit, bytes.to_string())
            .with_context(|| format!("write {}", self.limit.display()))
    }

    /// The beginning of a command line that enters the cgroup and then executes the rest.
    pub fn wrapper(&self) -> [String; 4] {
        let procs = self.folder.join("cgroup.procs");
        let enter = format!("echo $$ > {} && exec \"$@\"", procs.display());
        ["sh", "-c", &enter, "sh"].map(str::to_owned)
    }
}
