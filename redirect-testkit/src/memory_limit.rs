// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cgroup that limits the memory of what is started in it.

use std::{fs, path::PathBuf, process};

use anyhow::{Context as _, Result, ensure};

use crate::{cgroup::unified_mount, guard::Guard};

/// Where version 1 limits memory, on machines that do not leave that to version 2.
const VERSION_1: &str = "/sys/fs/cgroup/memory";
/// The limit, in bytes, of version 1 and version 2.
const LIMITS: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];

/// The cgroup whose children limit memory.
fn parent() -> Result<PathBuf> {
    let version_1 = PathBuf::from(VERSION_1);
    if version_1.is_dir() {
        return Ok(version_1);
    }
    let root = unified_mount()?;
    let control = root.join("cgroup.subtree_control");
    let controllers =
        fs::read_to_string(&control).with_context(|| format!("reading {}", control.display()))?;
    ensure!(
        controllers.split_whitespace().any(|name| name == "memory"),
        "needs a memory controller: {} has {controllers:?}",
        control.display()
    );
    Ok(root)
}

/// A cgroup that limits memory, of either version. Dropping it kills what still runs in it and removes
/// it.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
    limit: PathBuf,
    _guard: Guard,
}

impl MemoryLimit {
    /// Why there can be none here; none if there can.
    pub fn missing() -> Option<String> {
        parent().err().map(|error| format!("{error:#}"))
    }

    /// Makes one without a limit. `name` is unique among the tests.
    pub fn new(name: &str) -> Result<Self> {
        let folder = parent()?.join(format!("redirect-limited-{}-{name}", process::id()));
        let guard = Guard::start(&[&folder], &[])?;
        fs::create_dir(&folder)
            .with_context(|| format!("making the cgroup {}", folder.display()))?;
        let mut files = LIMITS.iter().map(|name| folder.join(name));
        let limit = files.find(|file| file.exists());
        Ok(Self {
            limit: limit.with_context(|| format!("{} limits no memory", folder.display()))?,
            folder,
            _guard: guard,
        })
    }

    /// Limits it to so many bytes from now on.
    pub fn set(&self, bytes: u64) -> Result<()> {
        fs::write(&self.limit, bytes.to_string())
            .with_context(|| format!("writing {}", self.limit.display()))
    }

    /// A command line that becomes its arguments, inside.
    pub fn wrapper(&self) -> [String; 4] {
        let procs = self.folder.join("cgroup.procs");
        let enter = format!("echo $$ > {} && exec \"$@\"", procs.display());
        ["sh", "-c", &enter, "sh"].map(str::to_owned)
    }
}
