// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pod's own user namespace, as `hostUsers: false` gives it one, and the process that keeps it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::command;

/// Id 0 of the namespace, outside.
pub(crate) const FIRST_ID: u32 = 100_000;
/// How many ids it has.
const IDS: u32 = 65_536;

/// A user namespace with a network namespace that it owns, kept by a process that does nothing, as
/// a pod's pause container is. It ends when dropped, and when the test process ends.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl UserNamespace {
    /// Makes both; the process lives in a cgroup.
    pub(crate) fn new(cgroup: &Path) -> Result<Self> {
        let procs = cgroup.join("cgroup.procs");
        // Its line says that it is inside.
        let script = format!(
            "echo 0 > {} && exec unshare --user --net sh -c 'echo inside; exec cat'",
            procs.display()
        );
        let mut child = command::program("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a pause process")?;
        let lifeline = child.stdin.take();
        let stdout = child.stdout.take();
        let namespace = Self { child, lifeline };
        let mut line = String::new();
        BufReader::new(stdout.ok_or_else(|| anyhow!("no standard output"))?)
            .read_line(&mut line)
            .context("listening to a pause process")?;
        ensure!(line == "inside\n", "a pause process has no user namespace");
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{map}", namespace.pid());
            fs::write(&path, format!("0 {FIRST_ID} {IDS}\n"))
                .with_context(|| format!("writing {path}"))?;
        }
        Ok(namespace)
    }

    /// The process that keeps it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that stands for it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/user", self.pid()))
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // It reads the end of its input; it cannot fail to end.
        drop(self.child.wait());
    }
}
