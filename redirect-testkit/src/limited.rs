// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cgroup that limits the memory of what is started in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

use crate::{cgroup::unified_mount, guard::Guard};

/// Where version 1 limits memory, on machines that do not leave that to version 2.
const VERSION_1: &str = "/sys/fs/cgroup/memory";
/// The limit, in bytes, of version 1 and version 2.
const LIMITS: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];

/// A cgroup that limits memory, of either version. Dropping it kills what still runs in it and removes
/// it.
#[derive(Debug)]
pub struct Limited {
    folder: PathBuf,
    limit: PathBuf,
    _guard: Guard,
}

impl Limited {
    /// Makes one without a limit; none where this machine limits no memory. `name` is unique among the
    /// tests.
    pub fn new(name: &str) -> Result<Option<Self>> {
        let name = format!("redirect-limited-{}-{name}", process::id());
        let version_1 = Path::new(VERSION_1);
        let folder = if version_1.is_dir() {
            version_1.join(name)
        } else {
            unified_mount()?.join(name)
        };
        let guard = Guard::start(&[&folder], &[])?;
        fs::create_dir(&folder)
            .with_context(|| format!("making the cgroup {}", folder.display()))?;
        let mut files = LIMITS.iter().map(|name| folder.join(name));
        let limit = files.find(|file| file.exists());
        Ok(limit.map(|limit| Self {
            folder,
            limit,
            _guard: guard,
        }))
    }

    /// Limits it to so many bytes from now on.
    pub fn limit(&self, bytes: u64) -> Result<()> {
        fs::write(&self.limit, bytes.to_string())
            .with_context(|| format!("writing {}", self.limit.display()))
    }

    /// A command line that becomes its arguments, inside.
    pub fn inside(&self) -> [String; 4] {
        let procs = self.folder.join("cgroup.procs");
        let enter = format!("echo $$ > {} && exec \"$@\"", procs.display());
        ["sh", "-c", &enter, "sh"].map(str::to_owned)
    }
}
