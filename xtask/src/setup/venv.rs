//! A Python package with its dependencies, in a folder of its own that all users can enter.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::debian::{self, is_debian};
use crate::{cache, command, workspace::is_root};

/// A package of `PyPI` with a fixed version, installed from wheels only.
pub(crate) struct Venv {
    /// The name in messages, and in the name of the folder.
    pub(crate) name: &'static str,
    /// The name on `PyPI`.
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    /// A link in the folder `bin`. It is made last, so that it exists only in a complete folder.
    pub(crate) link: &'static str,
}

impl Venv {
    /// The path of the link.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder().join("bin").join(self.link)
    }

    /// A few words about the installed package.
    pub(crate) fn describe(&self) -> String {
        format!("{}: {}", self.version, self.program().display())
    }

    fn folder(&self) -> PathBuf {
        Path::new(cache::SHARED).join(format!("{}-{}", self.name.to_lowercase(), self.version))
    }

    /// The output of a Python program in the folder.
    pub(crate) fn ask(&self, program: &str) -> Result<String> {
        command::output(Command::new(self.folder().join("bin/python")).args(["-c", program]))
    }

    /// Installs the package. `complete` checks it, and returns the target of the link.
    pub(crate) fn install(&self, complete: impl FnOnce(&Self) -> Result<PathBuf>) -> Result<()> {
        let name = self.name;
        if !is_root() {
            bail!(
                "install {name}: {} is for all users, which needs root: type:\n    sudo cargo xtask setup --for test",
                cache::SHARED
            );
        }
        if is_debian() {
            debian::install(&["python3-venv"])?;
        }
        let _lock = cache::lock(&name.to_lowercase())?;
        // Another set-up may have installed it while this one waited.
        if self.program().exists() {
            return Ok(());
        }
        self.make()?;
        let target = complete(self)?;
        let program = self.program();
        symlink(target, &program).with_context(|| format!("link {}", program.display()))
    }

    fn make(&self) -> Result<()> {
        let folder = self.folder();
        // A finished venv cannot be moved, so it is made in its place. First, the rest of a broken run is removed.
        match fs::remove_dir_all(&folder) {
            Err(err) if err.kind() != ErrorKind::NotFound => {
                return Err(err).with_context(|| format!("remove {}", folder.display()));
            }
            Ok(()) | Err(_) => {}
        }
        // Debian's Python is named by its path: the first one in PATH may be below a home folder.
        command::install(
            Command::new("/usr/bin/python3")
                .args(["-m", "venv"])
                .arg(&folder),
        )?;
        let wheel = format!("{}=={}", self.package, self.version);
        command::install(Command::new(folder.join("bin/pip")).args([
            "install",
            "--only-binary",
            ":all:",
            &wheel,
        ]))?;
        command::output(Command::new("chmod").args(["-R", "a+rX"]).arg(&folder))?;
        Ok(())
    }
}
