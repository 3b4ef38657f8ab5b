// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guard process: it waits until the test is over, and then removes what the test has made.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{cgroup, command, netns};

/// What a guard removes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CleanupList {
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) mounts: Vec<PathBuf>,
}

/// The guard's own main: waits for the end of standard input, then removes the list.
pub(crate) fn run(list: &CleanupList) -> Result<()> {
    rustix::process::setsid().context("leaving the terminal's session")?;
    // Any outcome means that the test process is done.
    drop(io::stdin().read_to_end(&mut Vec::new()));
    for error in list
        .cgroups
        .iter()
        .map(|folder| cgroup::remove(folder))
        .chain(list.namespaces.iter().map(|name| netns::remove(name)))
        .chain(list.folders.iter().map(|folder| remove_folder(folder)))
        .chain(list.mounts.iter().map(|folder| unmount(folder)))
        .filter_map(Result::err)
    {
        complain(&format!("{error:#}"));
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Unmounts what is mounted at the folder, and removes it; a missing one is fine.
fn unmount(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let shown = folder.display().to_string();
    // It fails if the mount has not come about. Lazily: what still uses it ends later.
    drop(command::output("umount", &["-l", &shown], ""));
    fs::remove_dir(folder).with_context(|| format!("removing {shown}"))
}

pub(crate) fn complain(message: &str) {
    // Nobody is left to tell if even standard error is closed.
    drop(writeln!(io::stderr(), "redirect-testkit: {message}"));
}
