// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pod's cgroup folder, with one child per container.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{cgroup::unified_mount, guard::Guard};

/// A cgroup folder with the children `app` and `istio-proxy`. Dropping it removes the folder with everything in
/// it, unless the pod's guard does.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    _guard: Option<Guard>,
}

impl Cgroup {
    /// Makes the folder `name` below the cgroup v2 mount, with a guard of its own.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let path = unified_mount()?.join(name);
        let guard = Guard::start(&[&path], &[])?;
        Self::guarded(path, Some(guard))
    }

    /// Makes the folder. Without a guard here, the caller's guard removes it.
    pub(crate) fn guarded(path: PathBuf, guard: Option<Guard>) -> Result<Self> {
        let cgroup = Self {
            path,
            _guard: guard,
        };
        for folder in [cgroup.path.clone(), cgroup.app(), cgroup.proxy()] {
            fs::create_dir(&folder)
                .with_context(|| format!("make the cgroup {}", folder.display()))?;
        }
        Ok(cgroup)
    }

    /// The pod's folder, to which programs are attached. Its id is the key of the pod's policy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The application container's folder.
    pub fn app(&self) -> PathBuf {
        self.path.join("app")
    }

    /// The sidecar container's folder.
    pub fn proxy(&self) -> PathBuf {
        self.path.join("istio-proxy")
    }

    /// Makes another child folder, which is removed with this one.
    pub fn child(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(name);
        fs::create_dir(&folder).with_context(|| format!("make the cgroup {}", folder.display()))?;
        Ok(folder)
    }
}
