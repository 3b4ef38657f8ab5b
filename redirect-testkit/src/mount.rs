// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file system of a test's own, which may be full or read-only without harm to others.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

use crate::{command, guard::Guard};

/// A file system, mounted at a folder of its own. Dropping it unmounts it; so does the end of this
/// process, however it comes.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    _guard: Guard,
}

impl Mount {
    /// Mounts one of this type, with options of `mount -o`; `name` is unique among the tests.
    pub fn new(name: &str, kind: &str, options: &str) -> Result<Self> {
        let name = format!("redirect-mount-{}-{name}", process::id());
        let path = std::env::temp_dir().join(name);
        let guard = Guard::start_for_mount(&path)?;
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        let shown = path.display().to_string();
        command::output("mount", &["-t", kind, "-o", options, kind, &shown], "")?;
        Ok(Self {
            path,
            _guard: guard,
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts it anew with other options: `ro`, `rw`.
    pub fn remount(&self, options: &str) -> Result<()> {
        let shown = self.path.display().to_string();
        let options = format!("remount,{options}");
        command::output("mount", &["-o", &options, &shown], "").map(drop)
    }
}
