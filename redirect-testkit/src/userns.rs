// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user namespace of a pod, as `hostUsers: false` makes it, and the process that keeps it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::command;

/// The id outside that is id 0 inside the namespace.
pub(crate) const FIRST_ID: u32 = 100_000;
/// The number of ids in the namespace.
const IDS: u32 = 65_536;

/// A user namespace with a network namespace that it owns. A process that only waits keeps both, as a pod's pause
/// container does. The process ends when this is dropped, and when the test process ends.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl UserNamespace {
    /// Makes both namespaces, and starts the process in a cgroup.
    pub(crate) fn new(cgroup: &Path) -> Result<Self> {
        let procs = cgroup.join("cgroup.procs");
        // The script prints a line when it is inside the namespaces.
        let script = format!(
            "echo 0 > {} && exec unshare --user --net sh -c 'echo inside; exec cat'",
            procs.display()
        );
        let mut child = command::program("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a pause process")?;
        let lifeline = child.stdin.take();
        let stdout = child.stdout.take();
        let namespace = Self { child, lifeline };
        let mut line = String::new();
        BufReader::new(
            stdout.ok_or_else(|| anyhow!("start a pause process: it has no standard output"))?,
        )
        .read_line(&mut line)
        .context("read from a pause process")?;
        ensure!(
            line == "inside\n",
            "start a pause process: it has no user namespace"
        );
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{map}", namespace.pid());
            fs::write(&path, format!("0 {FIRST_ID} {IDS}\n"))
                .with_context(|| format!("write {path}"))?;
        }
        Ok(namespace)
    }

    /// The process that keeps the namespaces.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file of the user namespace.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/user", self.pid()))
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The process ends when it reads the end of its input, so waiting cannot block.
        drop(self.child.wait());
    }
}
