// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guard: a helper process that removes everything a test has made when the test is over.
//!
//! The process is this binary again, in a session of its own so that Ctrl-C does not reach it. It waits for
//! its standard input to close. The pipe closes when the [`Guard`] is dropped, and also when the test process
//! exits, is interrupted or is killed with SIGKILL: one way of cleaning up, taken every time, and no signal
//! handler.
//!
//! Standard error stays shared, so that a pipeline that reads it ends only after the clean-up.

use std::{
    path::Path,
    process::{Child, ChildStdin, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    cleanup::{CleanupList, complain},
    command,
    wait::wait_until,
};

/// The time that a clean-up may take: longer than its own deadlines together.
const CLEANUP_LIMIT: Duration = Duration::from_secs(30);

/// A running guard. Dropping it removes everything on its list; so does the end of this process, by SIGKILL as
/// well.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Guard {
    /// Starts a guard of cgroups and named network namespaces. Call this *before* they are made, so that nothing
    /// is ever unguarded.
    pub(crate) fn start(cgroups: &[&Path], namespaces: &[&str]) -> Result<Self> {
        let list = CleanupList {
            cgroups: cgroups.iter().map(|path| path.to_path_buf()).collect(),
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            folders: Vec::new(),
            mounts: Vec::new(),
        };
        Self::spawn(&list)
    }

    /// Starts a guard of a folder with everything in it.
    pub(crate) fn start_for_folder(folder: &Path) -> Result<Self> {
        Self::spawn(&CleanupList {
            cgroups: Vec::new(),
            namespaces: Vec::new(),
            folders: vec![folder.to_path_buf()],
            mounts: Vec::new(),
        })
    }

    /// Starts a guard of a folder at which a file system is mounted.
    pub(crate) fn start_for_mount(folder: &Path) -> Result<Self> {
        Self::spawn(&CleanupList {
            cgroups: Vec::new(),
            namespaces: Vec::new(),
            folders: Vec::new(),
            mounts: vec![folder.to_path_buf()],
        })
    }

    /// Starts a guard of a node. The folder is removed last, when no process is left that might write there.
    #[cfg_attr(not(feature = "node"), expect(dead_code, reason = "for nodes"))]
    pub(crate) fn start_for_node(
        cgroup: &Path,
        namespaces: [&str; 2],
        folder: &Path,
    ) -> Result<Self> {
        Self::spawn(&CleanupList {
            cgroups: vec![cgroup.to_path_buf()],
            namespaces: namespaces.map(str::to_owned).to_vec(),
            folders: vec![folder.to_path_buf()],
            mounts: Vec::new(),
        })
    }

    fn spawn(list: &CleanupList) -> Result<Self> {
        let mut child = command::helper("guard", &serde_json::to_string(list)?)?
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("start a guard")?;
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let child = &mut self.child;
        let has_ended = wait_until(CLEANUP_LIMIT, || !matches!(child.try_wait(), Ok(None)));
        if !has_ended {
            complain("clean up: it takes longer than 30 s, and goes on in the background");
        }
    }
}
