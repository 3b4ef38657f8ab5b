//! An index of Debian packages in a folder of its own: packages of other suites, without a change to the system's
//! sources and lists.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An index of packages in a folder.
pub(crate) struct AptIndex(PathBuf);

impl AptIndex {
    /// Makes an index of these lines of a `sources.list`: the kind of packages, `deb` or `deb-src`, and the suite.
    pub(crate) fn make(folder: &Path, lines: &[(&str, &str)]) -> Result<Self> {
        for part in ["lists/partial", "archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
        }
        let archive = archive()?;
        let line = |(kind, suite): &(&str, &str)| {
            format!("{kind} [signed-by={KEYRING}] {archive} {suite} main\n")
        };
        let lines: Vec<_> = lines.iter().map(line).collect();
        let list = folder.join("sources.list");
        fs::write(&list, lines.concat()).with_context(|| format!("write {}", list.display()))?;
        let index = Self(folder.to_owned());
        command::install(index.apt("apt-get").args(["update", "--quiet"]))?;
        Ok(index)
    }

    /// A program of apt, with all of its files in the folder, which is also its current folder.
    pub(crate) fn apt(&self, program: &str) -> Command {
        let place = |key: &str, path: &str| format!("{key}={}", self.0.join(path).display());
        let mut apt = Command::new(program);
        apt.current_dir(&self.0);
        for option in [
            place("Dir::Etc::sourcelist", "sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            place("Dir::State::lists", "lists"),
            place("Dir::Cache", ""),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            apt.args(["-o", &option]);
        }
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    }
}

/// The archive of this system's own packages, which may be a mirror. It has every suite.
fn archive() -> Result<String> {
    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--format", "$(REPO_URI)"]).args([
        "Identifier: Packages",
        "Label: Debian",
        "Component: main",
    ]);
    let archives = command::output(&mut ask)?;
    let archive = archives.lines().next();
    Ok(archive
        .context("find Debian's archive: apt knows none: run `apt-get update`, or use Debian")?
        .to_owned())
}
