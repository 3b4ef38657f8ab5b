// SPDX-License-Identifier: MIT OR Apache-2.0
//! A helper process that removes a pod's cgroup and namespaces when the test is over.
//!
//! It is this binary again, in a session of its own so that Ctrl-C does not reach it, waiting for
//! its standard input to close. That happens when the [`Guard`] is dropped and just as well when
//! the test process exits, is interrupted or is killed with SIGKILL: one way of cleaning up, taken
//! every time, and no signal handler.
//!
//! Standard error stays shared, so that a pipeline reading it ends only after the clean-up.

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

/// Longer than the guard's own deadlines together.
const PATIENCE: Duration = Duration::from_secs(30);

/// Dropping it removes its list; so does the end of this process, however it comes.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Guard {
    /// Starts a guard *before* its list is made, so that nothing is ever unguarded.
    pub(crate) fn start(cgroups: &[&Path], namespaces: &[&str]) -> Result<Self> {
        let list = CleanupList {
            cgroups: cgroups.iter().map(|path| path.to_path_buf()).collect(),
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            folders: Vec::new(),
            mounts: Vec::new(),
        };
        Self::over(&list)
    }

    /// As [`Self::start`], for a folder with everything in it.
    pub(crate) fn start_for_folder(folder: &Path) -> Result<Self> {
        Self::over(&CleanupList {
            cgroups: Vec::new(),
            namespaces: Vec::new(),
            folders: vec![folder.to_path_buf()],
            mounts: Vec::new(),
        })
    }

    /// As [`Self::start`], for a folder with a file system mounted at it.
    pub(crate) fn start_for_mount(folder: &Path) -> Result<Self> {
        Self::over(&CleanupList {
            cgroups: Vec::new(),
            namespaces: Vec::new(),
            folders: Vec::new(),
            mounts: vec![folder.to_path_buf()],
        })
    }

    /// As [`Self::start`], for a node: the folder goes when nobody is left who might write there.
    #[cfg_attr(not(feature = "node"), expect(dead_code, reason = "for nodes"))]
    pub(crate) fn start_for_node(
        cgroup: &Path,
        namespaces: [&str; 2],
        folder: &Path,
    ) -> Result<Self> {
        Self::over(&CleanupList {
            cgroups: vec![cgroup.to_path_buf()],
            namespaces: namespaces.map(str::to_owned).to_vec(),
            folders: vec![folder.to_path_buf()],
            mounts: Vec::new(),
        })
    }

    fn over(list: &CleanupList) -> Result<Self> {
        let mut child = command::helper("guard", &serde_json::to_string(list)?)?
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("starting a guard")?;
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let child = &mut self.child;
        let gone = wait_until(PATIENCE, || !matches!(child.try_wait(), Ok(None)));
        if !gone {
            complain("a clean-up takes too long and goes on in the background");
        }
    }
}
