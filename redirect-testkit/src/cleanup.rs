// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clean-up that a guard process does: it waits for the end of the test, then removes everything on its list.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{cgroup, command, netns};

/// The things that a guard removes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CleanupList {
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) mounts: Vec<PathBuf>,
}

/// Runs a guard process: waits for the end of standard input, then removes everything on the list.
pub(crate) fn run(list: &CleanupList) -> Result<()> {
    rustix::process::setsid().context("leave the terminal's session")?;
    // An error, too, means that the test process has ended.
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
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Unmounts the file system at the folder, and removes the folder; a missing one is no error.
fn unmount(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let shown = folder.display().to_string();
    // Fails if the mount was never made. Lazy, because processes may use the mount a little longer.
    drop(command::output("umount", &["-l", &shown], ""));
    fs::remove_dir(folder).with_context(|| format!("remove {shown}"))
}

pub(crate) fn complain(message: &str) {
    // If standard error is closed, the message is lost.
    drop(writeln!(io::stderr(), "redirect-testkit: {message}"));
}
