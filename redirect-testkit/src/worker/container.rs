// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kit in a container: a worker that a container runtime has started, and a pod's pause process.

use std::{os::unix::net::UnixStream, path::PathBuf, thread};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::session;
use crate::dial::{self, Dial};

/// What a worker in a container does before it listens to commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerStart {
    /// The first thing that it does, and that its container does.
    pub(crate) first: Option<Dial>,
    /// Where the test process listens.
    pub(crate) socket: PathBuf,
}

/// Dials, if it shall, and only then reports for work, with what came of that.
pub(crate) fn run(start: &ContainerStart) -> Result<()> {
    let dialled = start.first.as_ref().map(dial::dial).transpose();
    let shown = || format!("connecting to {}", start.socket.display());
    let stream = UnixStream::connect(&start.socket).with_context(shown)?;
    rustix::stdio::dup2_stdin(&stream).with_context(shown)?;
    rustix::stdio::dup2_stdout(&stream).with_context(shown)?;
    drop(stream);
    session::serve(dialled.map_err(Into::into), None)
}

/// Keeps a pod's namespaces until it is killed.
pub(crate) fn pause() -> ! {
    loop {
        thread::park();
    }
}
