// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file system for one test, which may become full or read-only without harm to others.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

use crate::{command, guard::Guard};

/// A mounted file system. Dropping it unmounts the file system; so does the end of this process, by SIGKILL as well.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    _guard: Guard,
}

impl Mount {
    /// Mounts a file system of type `kind` with these `mount -o` options. `name` must be unique among the tests.
    pub fn new(name: &str, kind: &str, options: &str) -> Result<Self> {
        let name = format!("redirect-mount-{}-{name}", process::id());
        let path = std::env::temp_dir().join(name);
        let guard = Guard::start_for_mount(&path)?;
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        let shown = path.display().to_string();
        command::output("mount", &["-t", kind, "-o", options, kind, &shown], "")?;
        Ok(Self {
            path,
            _guard: guard,
        })
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Remounts the file system with other options, for example `ro`.
    pub fn remount(&self, options: &str) -> Result<()> {
        let shown = self.path.display().to_string();
        let options = format!("remount,{options}");
        command::output("mount", &["-o", &options, &shown], "").map(drop)
    }
}
